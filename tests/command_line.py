"""The command line in this process: what it prints and how it ends, without a start of Python for each try."""

import sys
from dataclasses import dataclass

import pytest

from agent.cli import main


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def ran(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Ended:
    """Run `roadwitness` with these arguments as its entry point does, and return how it ended."""
    monkeypatch.setattr(sys, "argv", ["roadwitness", *arguments])
    capsys.readouterr()
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1 if end.code else 0
    out, err = capsys.readouterr()
    return Ended(code, out, err)
