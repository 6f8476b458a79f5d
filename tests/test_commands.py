"""The command line: every row of the table, help, completion, warm kernels, the demo."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: str, timeout: float = 110) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "agent", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=timeout
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
    assert len(done.stdout) > 200


def test_help_lists_every_command_with_its_line() -> None:
    shown = " ".join(run("--help").stdout.split())
    for command in COMMANDS:
        assert f" {command} " in shown


def test_a_library_that_dies_in_c_says_where() -> None:
    dies = "import ctypes, agent.cli; agent.cli.app = lambda: ctypes.string_at(0); agent.cli.main()"
    done = subprocess.run([sys.executable, "-c", dies], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGSEGV
    assert "Segmentation fault" in done.stderr
    assert "in main" in done.stderr


def test_completion_can_be_shown() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agent", "--show-completion", "bash"], cwd=ROOT, capture_output=True, text=True
    )
    assert "complete" in done.stdout, done.stderr


def test_an_unknown_command_is_refused() -> None:
    done = run("replya")
    assert done.returncode == 2
    assert "replya" in done.stderr


def test_warm_loads_every_kernel_that_the_device_has() -> None:
    kernels = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in ("agent", "drivers")
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"^(from|import) numba", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    code = (
        "import sys; from importlib import import_module; from agent.cli.warm import KERNELS\n"
        "[import_module(k) for k in KERNELS]; print('\\n'.join(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert kernels
    assert kernels <= set(loaded.stdout.split())
    assert run("warm").returncode == 0


@pytest.mark.parametrize("broker", [[], ["--embedded-broker"]], ids=["mosquitto if installed", "embedded"])
def test_demo_ends_with_the_receiver_equal_to_the_agent(broker: list[str]) -> None:
    done = run("demo", "--once", "--json", "--drives", "2", *broker)
    assert done.returncode == 0, done.stdout + done.stderr
    held = json.loads(done.stdout)
    assert held["equal"]
    assert held["agent"] == held["receiver"]
    assert held["agent"]["trips"] == 2
    assert held["agent"]["events"] > 0
