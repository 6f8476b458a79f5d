"""The doctor on a box that is well but for one thing: the table of fault, finding and advice."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.clock import monotonic_ns
from agent.doctor import Context, Finding, can, examine, services, table, worst
from agent.doctor import seen as seen_module
from agent.doctor.canwire import Heard
from agent.doctor.examine import CHECKS, Check
from agent.doctor.fix import repairs
from agent.doctor.seen import Seen
from agent.doctor.show import lines
from agent.doctor.watch import changes
from agent.doctor.write import page
from agent.store import Store
from drivers.can.link import Link
from tests.doctor_faults import ROWS, THROTTLED, damage
from tests.doctoring import BOX_GROUPS, Box, Row, S, check, daemon

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen_module, "BETWEEN_S", 0.0)
    monkeypatch.setattr(services, "LOOK_S", 0.05)
    monkeypatch.setattr(services, "BUSY", 1.1)  # this machine may well be


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault)
def test_the_doctor_names_the_fault_its_next_step_and_nothing_that_is_not_true(
    row: Row, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = row.hurt(box)
    how = how if isinstance(how, dict) else {}
    if "statvfs" in how:
        disk = how.pop("statvfs")
        monkeypatch.setattr("agent.doctor.storage.os.statvfs", lambda _: disk)
    if "link" in how:
        link = how.pop("link")
        monkeypatch.setattr("agent.doctor.can.link_of", lambda _: link)
    with daemon(box):
        findings = box.examined(*row.groups, **how)
    check(row, findings)


def test_a_box_that_is_well_passes_everything(box: Box) -> None:
    with daemon(box):
        findings = box.examined()
    assert [(f.check, f.found) for f in findings if f.state != "pass"] == []
    assert worst(findings) == "pass"
    assert {f.group for f in findings} == set(BOX_GROUPS)


def test_the_daemon_itself_opens_no_camera(box: Box) -> None:
    box.camera(t_ns=monotonic_ns() - 90 * S)
    (box.store / "film").touch()
    box.dashcam.write_text(f'[cameras.front]\nsource = "{box.store}/film"\n')
    with daemon(box):
        inside, outside = box.examined("camera", inside=True), box.examined("camera")
    assert [f.advice for f in inside] == ["dashcam_not_running"]
    assert [f.advice for f in outside] == ["dashcam_not_running", "camera_file"]


def test_an_agent_that_hangs_is_told_and_its_devices_are_unknown(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen_module, "ASK_S", 0.3)
    with daemon(box, answers=0):
        findings = box.examined()
    states = {f.check: (f.state, f.advice) for f in findings}
    assert states["services.agent"] == ("fail", "agent_hangs")
    assert states["can.bus"] == states["adapter.answers"] == states["imu.sensor"] == ("unknown", "agent_not_asked")


def test_a_store_that_is_locked_by_an_agent_without_a_socket_is_not_disturbed(box: Box) -> None:
    with Store.open(box.store):
        if f":{(box.store / 'store.lock').stat().st_ino} " not in Path("/proc/locks").read_text():
            pytest.skip("/proc/locks names other inodes than this file system")
        findings = box.examined("can", "services")
    states = {f.check: (f.state, f.advice) for f in findings}
    assert states["services.agent"] == ("fail", "agent_not_asked")
    assert states["can.bus"] == ("unknown", "agent_not_asked")


def test_a_box_without_a_store_and_a_device_is_told_so(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text("")
    context = Context(
        store=tmp_path / "none", config=config, groups=("storage", "config", "services"), systemctl="none"
    )
    told = {f.advice for f in examine(context) if f.state != "pass"}
    assert told == {"store_missing", "no_devices", "no_consent", "agent_not_running", "no_systemd"}


def test_a_voltage_is_measured_where_no_daemon_does(box: Box) -> None:
    box.put("class/hwmon/hwmon0/name", "ina219")
    box.put("class/hwmon/hwmon0/in1_input", "5650")
    box.config.write_text(
        f'[drivers.power.board]\nvoltage = "hwmon:ina219/in1"\nvoltage_factor = 2.0\nsysfs = "{box.sysfs}"\n'
    )
    told = {f.check: f for f in box.examined("power")}
    assert (told["power.supply"].state, told["power.supply"].advice) == ("fail", "battery_flat")
    assert told["power.supply"].found == "11.3 V"
    (box.sysfs / "class/hwmon/hwmon0/in1_input").unlink()
    assert {f.check: f.advice for f in box.examined("power")}["power.supply"] == "power_source"


def test_bit_rates_are_tried_on_a_silent_interface_only_when_asked_and_the_old_one_comes_back(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.config.write_text('[drivers.canbus.can0]\nchannel = "can0"\n')
    set_to: list[str] = []

    def ip(command: tuple[str, ...], **_: Any) -> Any:
        assert command[:4] == ("ip", "link", "set", "can0")
        if "bitrate" in command:
            assert command[-2:] == ("listen-only", "on")
            set_to.append(command[command.index("bitrate") + 1])
        return subprocess.CompletedProcess(command, 0)

    def listen(settings: Any, seen: Any, seconds: float = 0.0) -> Heard:
        return Heard(seconds=1.0, frames=50 if set_to[-1:] == ["125000"] else 0)

    monkeypatch.setattr(can.subprocess, "run", ip)
    monkeypatch.setattr(can.canwire, "listen", listen)
    monkeypatch.setattr(can, "link_of", lambda _: Link("can0", "can", True, 16, 500_000, True, "error-active"))
    told = {f.check: f for f in box.examined("can")}
    assert (told["can.bus"].advice, set_to) == ("can_silent", [])
    told = {f.check: f for f in box.examined("can", bit_rates=True)}
    assert told["can.bus"].advice == "can_bit_rate_wrong"
    assert told["can.bus"].facts["bit_rate"] == 125_000
    assert set_to == ["500000", "250000", "125000", "500000"]


# --- how it examines


def slow(seen: Seen) -> Iterator[Finding]:
    yield Finding(check="power.first", state="pass", found="before it hangs")
    seen.release.append(RELEASED.append_released)
    seen.context.store.joinpath("fifo").read_bytes()  # nobody ever writes into it


def broken(seen: Seen) -> Iterator[Finding]:
    raise ValueError("a bug")


class _Released:
    def __init__(self) -> None:
        self.times = 0

    def append_released(self) -> None:
        self.times += 1


RELEASED = _Released()


def test_a_check_that_hangs_or_fails_is_unknown_and_the_others_are_told(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(box.store / "fifo")
    monkeypatch.setitem(CHECKS, "power", Check("Power", f"{__name__}:slow", 0.3))
    monkeypatch.setitem(CHECKS, "clock", Check("Clock", f"{__name__}:broken", 0.3))
    begun_ns = monotonic_ns()
    with daemon(box):
        findings = box.examined("power", "clock", "config")
    assert monotonic_ns() - begun_ns < 20 * S
    told = {f.check: (f.state, f.advice) for f in findings}
    assert told["power.first"] == ("pass", "")
    assert told["power.check"] == ("unknown", "check_hangs")
    assert told["clock.check"] == ("unknown", "check_failed")
    assert told["config.file"] == ("pass", "")
    assert RELEASED.times == 1
    with (box.store / "fifo").open("wb"):
        pass  # lets the thread go


def test_each_code_in_the_program_has_a_row_and_each_row_is_used() -> None:
    text = "".join(p.read_text() for p in (ROOT / "agent" / "doctor").glob("*.py"))
    unused = [code for code in table() if f'"{code}"' not in text]
    assert unused == []
    for code, row in table().items():
        assert all(text.endswith(".") for text in (row.symptom, row.meaning, row.next)), code
        assert max(map(len, (row.symptom, row.meaning, row.next))) <= 220, code


def test_the_page_of_symptoms_is_the_tables() -> None:
    assert (ROOT / "docs" / "troubleshooting.md").read_text() == page()


# --- what people see


@pytest.mark.parametrize("width", [30, 45, 80, 200])
def test_the_report_fits_any_terminal_and_ends_with_what_to_do(box: Box, width: int) -> None:
    damage(box)
    box.put(THROTTLED, "10000")
    with daemon(box):
        findings = box.examined()
    text = [line for line, _ in lines(findings, width)]
    assert max(map(len, text)) <= min(width, 100)
    whole = " ".join(" ".join(text).split())
    assert whole.index("What to do") < whole.index("1. Storage, store") < whole.index("2. Power, board")
    assert "1 failed, 1 to look at" in whole


def test_watching_shows_what_changes_and_nothing_else(box: Box) -> None:
    with daemon(box):
        before = box.examined("power", "storage")
        box.put(THROTTLED, "1")
        after = box.examined("power", "storage")
    shown = [text for text, _ in changes(before, after, "12:00:00", 45)]
    whole = " ".join(" ".join(shown).split())
    assert whole.startswith("12:00:00 ok -> FAIL Power, board: under-voltage now Use a 5 V converter")
    assert max(map(len, shown)) <= 45
    assert list(changes(after, after, "12:00:05", 45)) == []


def test_repairs_are_named_and_do_what_they_say(box: Box, tmp_path: Path) -> None:
    (box.store / "device.key").chmod(0o640)
    box.units["roadwitness-dashcam"]["ActiveState"] = "failed"
    with daemon(box):
        findings = box.examined("storage", "services")
    key, start = repairs(findings, box.context)
    assert key.words == f"close {box.store / 'device.key'} to others (chmod 600)"
    assert key.act() == ""
    assert (box.store / "device.key").stat().st_mode & 0o777 == 0o600
    said = tmp_path / "said"
    Path(box.context.systemctl).write_text(f'#!/bin/sh\necho "$@" >> "{said}"\n')
    assert start.words == "start roadwitness-dashcam"
    assert start.act() == ""
    assert said.read_text().splitlines() == ["reset-failed roadwitness-dashcam", "start roadwitness-dashcam"]
    Path(box.context.systemctl).write_text('#!/bin/sh\necho "no such unit" >&2\nexit 5\n')
    assert "no such unit" in start.act()


def test_a_missing_folder_is_made_and_a_bus_is_brought_up_listening_only(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    missing = Finding(
        check="storage.folder", state="fail", found="", advice="store_missing", facts={"folder": str(folder)}
    )
    down = Finding(
        check="can.interface",
        state="fail",
        found="",
        advice="can_down",
        facts={"interface": "can0", "bit_rate": 250000},
    )
    make, up = repairs([missing, missing, down], Context())
    assert make.act() == ""
    assert folder.stat().st_mode & 0o777 == 0o700
    assert up.words == "bring can0 up at 250000 bit/s, listening only"


def test_the_command_prints_json_with_the_advice_and_exits_by_the_worst(
    box: Box, capsys: pytest.CaptureFixture[str]
) -> None:
    import typer
    from typer.testing import CliRunner

    from agent.cli.doctor import app

    run = CliRunner()
    asked = ["--store", str(box.store), "--config", str(box.config), "--dashcam", str(box.dashcam), "--json"]
    with daemon(box):
        good = run.invoke(app, [*asked, "--only", "config"])
        (box.store / "device.key").chmod(0o644)
        bad = run.invoke(app, [*asked, "--only", "storage", "--fix", "--yes"])
        wrong = run.invoke(app, [*asked, "--only", "gsp"])
    assert good.exit_code == 0, good.output
    told = json.loads(good.output)
    assert told["state"] == "pass"
    assert {f["check"] for f in told["findings"]} >= {"config.file", "config.consent"}
    repaired = json.loads(bad.output)
    assert repaired["repairs"][0]["done"] is True
    assert all(f["advice"] != "key_open" for f in repaired["findings"])
    assert "groups: power, clock" in str(wrong.exception)
    assert "near names: gps" in str(wrong.exception)
    assert isinstance(typer.main.get_command(app), object)
    assert replace(box.context, groups=("config",)).groups == ("config",)
    assert (
        msgspec.json.decode(msgspec.json.encode(Finding(check="a.b", state="pass", found="x")), type=Finding).group
        == "a"
    )
