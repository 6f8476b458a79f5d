"""`roadwitness demo --once --scenario crash`: an accident in real time, from the wires to the claim, judged by it."""

import json
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConfigError
from sim.accident import check_names
from sim.cutlink import CutLink

# Figures of real time, which two accidents at once on a busy machine may miss by so much; all else must be right.
LATE = {"known_at_receiver_s": 8.0, "telemetry_lost_s": 3.0, "video_lost_s": 6.0}


def demo(folder: Path, *more: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "agent", "demo", "--once", "--scenario", "crash", "--json", "--dir", str(folder)]
    return subprocess.Popen([*command, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: "subprocess.Popen[str]") -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return what it said, and the checks of the one incident by name."""
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert out, err
    said: dict[str, Any] = json.loads(out)
    (incident,) = said["incidents"]
    checks = {check["name"]: check for check in incident["checks"]}
    wrong = [check for check in incident["checks"] if not check["ok"]]
    assert all(check["name"] in LATE and check["figure"] <= LATE[check["name"]] for check in wrong), wrong
    assert process.returncode == (0 if said["ok"] else 1)
    return said, checks


@pytest.mark.timeout(620)
def test_an_accident_becomes_a_claim_with_a_proved_package_also_through_a_power_cut(tmp_path: Path) -> None:
    with demo(tmp_path / "plain") as plain:
        cut = demo(tmp_path / "cut", "--fault", "power-cut", "--seed", "6", "--embedded-broker")
        with cut:
            try:
                _judge(*ended(plain))
            finally:
                _judge_cut(*ended(cut))


def _judge(said: dict[str, Any], checks: dict[str, dict[str, Any]]) -> None:
    assert said["fault"] is None
    assert said["crashes_found"]["figure"] == 1
    assert checks["claim"]["figure"] == "evidence"
    assert checks["clip_from_s"]["figure"] <= -15
    assert checks["clip_to_s"]["figure"] >= 10 - 1 / 30
    assert checks["clip_gap_s"]["figure"] <= 0.04
    assert checks["clip_missing"]["figure"] == checks["clip_unreadable"]["figure"] == 0
    assert abs(checks["delta_v_off"]["figure"]) <= 0.1


def _judge_cut(said: dict[str, Any], checks: dict[str, dict[str, Any]]) -> None:
    assert said["fault"]["name"] == "power-cut"
    assert 0 <= said["fault"]["from_s"] <= 12.5
    assert "the agent did not run" in checks["loss_said"]["figure"]


@pytest.mark.parametrize(
    ("scenario", "fault"), [("commute", ""), ("parked-hit", ""), ("", "power-cut"), ("crash", "cut")]
)
def test_what_the_demo_cannot_do_is_refused_with_what_it_can(scenario: str, fault: str) -> None:
    with pytest.raises(ConfigError, match="one of "):
        check_names(scenario, fault)


def heard(client: socket.socket) -> bytes:
    """Return what comes; nothing where the connection was reset."""
    with suppress(ConnectionError):
        return client.recv(4096)
    return b""


def test_a_link_is_cut_after_so_many_bytes_and_mended() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        got: list[bytes] = []

        def echo() -> None:
            while True:
                try:
                    one, _ = server.accept()
                except OSError:
                    return
                with one:
                    while data := one.recv(65_536):
                        got.append(data)
                        one.sendall(data)

        threading.Thread(target=echo, daemon=True).start()
        link = CutLink("127.0.0.1", server.getsockname()[1])
        try:
            with socket.create_connection(("127.0.0.1", link.port)) as client:
                client.sendall(b"hello")
                assert client.recv(16) == b"hello"
                link.cut_after(1000)
                client.sendall(bytes(2000))
                assert heard(client) == b""
                assert link.is_cut.is_set()
            with socket.create_connection(("127.0.0.1", link.port)) as client:
                assert heard(client) == b""
            link.mend()
            with socket.create_connection(("127.0.0.1", link.port)) as client:
                client.sendall(b"again")
                assert client.recv(16) == b"again"
        finally:
            link.close()
            server.close()
    assert b"".join(got) == b"helloagain"
