"""SIGHUP: every section of the configuration either applies or is said to wait for a restart."""

from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import pytest

from agent.daemon import Daemon, Place
from agent.settings import AgentConfig


def unopened() -> Any:
    raise AssertionError("no device is opened for that")


@pytest.mark.parametrize("section", [f.name for f in fields(AgentConfig)])
def test_a_changed_section_applies_or_is_said_to_wait(
    section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    daemon = Daemon(AgentConfig(), Place(tmp_path, boot="ab" * 16), make=[unopened])
    changed = AgentConfig()
    object.__setattr__(changed, section, object())  # unlike any value; sections are checked against each other
    anew: list[AgentConfig] = []
    monkeypatch.setattr("agent.daemon.load_agent", lambda *_: changed)
    monkeypatch.setattr(daemon, "_send_anew", lambda store, pipeline, settings: anew.append(settings))
    with caplog.at_level("INFO"):
        daemon._reload(cast(Any, None), cast(Any, None))
    waits = f"; {section} wait for a restart" in caplog.text
    assert [anew == [changed], daemon._next_spine is changed, waits].count(True) == 1
