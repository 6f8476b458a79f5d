"""`roadwitness live`: what people read on a wide and on a phone-sized terminal, in a pipe, and without an agent."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from agent import clock
from agent.channels import CHANNELS, number
from agent.cli.live import app
from agent.local import client, messages
from agent.local.client import NoDaemonError
from agent.local.messages import Camera, Device, Fused, Lane, Line, Loan, Power, StoreState, Tick, Utc, Value
from agent.local.panels import Signals, Told, devices, happened, header, queue
from agent.local.plain import Plain
from agent.local.screen import Lines, Live
from agent.local.signals import label_of, lasting, shown, sparkline
from agent.local.words import line_of
from agent.records import Clock, Health, Record
from agent.uplink import SyncStatus
from tests import sample_records

S = 1_000_000_000
NOW_NS = 3600 * S
UTC = Utc(quality="gnss", offset_ns=1_795_300_000 * S, uncertainty_ns=1)
SPEED, BELT = number("Obd.Speed"), number("Vehicle.Cabin.Seat.Row1.DriverSide.IsBelted")


def device(name: str, **given: Any) -> Device:
    known: dict[str, Any] = {"kind": name.partition(":")[0], "state": "open", "since_ns": NOW_NS - 90 * S}
    return Device(name=name, **(known | given))


TICK = Tick(
    t_ns=NOW_NS,
    device="rw-0123456789abcdef",
    level="normal",
    utc=UTC,
    values=[
        Value(SPEED, 12.5, 0.3),
        Value(BELT, 1.0, 7.0),
        Value(number("Gnss.FixType"), 3.0, 0.1),
        Value(9999, 4.5, 0.1),
    ],
    fused=Fused(t_ns=NOW_NS, speed_mps=12.4, mount=0.93),
    happened=[
        Line(
            number=1, t_ns=NOW_NS - 5 * S, kind="event", severity="severe", text="harsh braking; -6.1 m/s2; seen by imu"
        ),
        Line(number=2, t_ns=NOW_NS - 4 * S, kind="health", severity="lost", text="gps:fake: unplugged"),
    ],
    devices=[
        device("elm327:/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A5XK3RJT-if00-port0", samples=100),
        device("gps:fake", state="lost", error="gps:fake: no such device; is it plugged in?"),
        device(
            "canbus:can0",
            state="lent",
            healths={"canbus:can0:load": "degraded"},
            facts={"canbus:can0:load": {"load": "91 %"}},
        ),
    ],
    cameras=[Camera(name="front", state="degraded", detail="the picture is frozen", width=1280, height=720, fps=30.0)],
    power=Power(state="driving", since_ns=0, volts_of_12=14.1, charging=True, taken_wh=0, running=True, moving=True),
    sync=SyncStatus(phase="waiting", trouble="offline", reason="broker far: no route to host"),
    lanes=[Lane(name="crash", head=0, acknowledged=0), Lane(name="event", head=9, acknowledged=2, oldest_s=240.0)],
    store=StoreState(path="/s", bytes=5_000_000, free_bytes=3_000_000_000, read_only=False, waiting=0),
    trip=True,
    loans=[Loan(device="canbus:can0", purpose="doctor", uid=1000, until_ns=NOW_NS + 30 * S)],
)


def joined(lines: list[Any]) -> str:
    return "\n".join(line.plain for line in lines)


# words


def test_every_channel_has_a_short_name_and_a_value_that_fits() -> None:
    for channel in CHANNELS:
        assert 2 <= len(label_of(channel.number)) <= 45, channel.name
        for value in (0.0, 1.0, max(channel.low, -1e9), min(channel.high, 1e9)):
            said, unit = shown(channel.number, value)
            assert said, channel.name
            assert len(unit) <= 5, channel.name
    assert shown(SPEED, 12.5) == ("45.0", "km/h")
    assert shown(number("Gnss.SpeedAccuracy"), 0.3) == ("0.30", "m/s")
    assert shown(BELT, 0.0) == ("no", "")
    assert shown(number("Gnss.Latitude"), 36.123456) == ("36.12346", "°")
    assert shown(number("Imu.Acceleration.X"), -0.001) == ("0.00", "m/s²")


def test_durations_and_sparklines_are_short() -> None:
    assert [lasting(s) for s in (3.0, 150.0, 9000.0, 4e5, 1e6)] == ["3 s", "2 min", "2 h", "5 d", "12 d"]
    assert sparkline([1.0, 2.0, 3.0], 8) == "▁▅█"
    assert sparkline([2.0, 2.0], 8) == ""


@pytest.mark.parametrize(
    ("within_s", "said"),
    [(0.05, "50 ms"), (7.4, "7.4 s"), (60.0, "a minute"), (3601.0, "2 hours"), (86_400.0, "a day")],
)
def test_how_well_the_time_is_known_is_told_in_words(within_s: float, said: str) -> None:
    made = Clock(t_ns=5, offset_ns=7, quality="restored", uncertainty_ns=round(within_s * S))
    line = line_of(7, 5, made)
    assert line is not None
    assert line.text == f"time learned: as it was saved, good to {said}"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (sample_records.event(), "harsh braking; -4.2 m/s2; from 50 km/h"),
        (sample_records.crash(), "CRASH: "),
        (sample_records.trip(), "trip over: "),
        (sample_records.health(), ": "),
        (sample_records.clock_record(), "time learned: from satellites, good to 300 ms"),
        (sample_records.mount(), "mount learned"),
        (sample_records.package(), "package "),
        (sample_records.reply(), "command clip of "),
        (sample_records.track(), None),
    ],
    ids=lambda given: type(given).__name__,
)
def test_every_record_that_people_read_has_a_line_of_one_line(made: Record, said: str | None) -> None:
    line = line_of(7, 5, made)
    if said is None:
        assert line is None
        return
    assert line is not None
    assert said in line.text
    assert (line.number, line.t_ns) == (7, 5)
    assert 5 < len(line.text) <= 300
    assert "\n" not in line.text


def test_devices_are_told_by_their_own_names_and_the_rules_memory_not_at_all() -> None:
    health = Health(t_ns=1, source="elm327:/dev/serial/by-id/usb-X:vin", state="lost", detail="no VIN")
    line = line_of(1, 1, health)
    assert line is not None
    assert (line.text, line.severity) == ("elm327:usb-X:vin: no VIN", "lost")
    assert line_of(1, 1, Health(t_ns=1, source="guard", state="ok", detail="what the rules remember")) is None


# panels


@pytest.mark.parametrize("width", [20, 45, 60, 120])
def test_no_line_is_wider_than_its_panel_and_nothing_is_said_by_colour_alone(width: int) -> None:
    signals = Signals()
    signals.take(TICK)
    told = [Told("12:00:00", line) for line in TICK.happened]
    every = [signals.lines(TICK, width), devices(TICK, {}, width), queue(TICK, width), happened(told, width)]
    for lines in [header(TICK, width), *(every if width >= 45 else every[1:])]:
        assert all(line.cell_len <= width for line in lines), joined(lines)
    if width >= 45:
        assert "LOST" in joined(devices(TICK, {}, width))
        assert joined(happened(told, width)).splitlines()[0].startswith("X ")


def test_what_is_wrong_stands_under_its_device_and_in_the_header() -> None:
    text = joined(devices(TICK, {"canbus:can0": 12}, 60))
    assert "is it plugged in?" in text
    assert "load: degraded (load 91 %)" in text
    assert "user 1000 has it for doctor, 30 s more" in text
    assert "camera front: the picture is frozen" in text
    assert "mount of the box: known to 93%" in text
    assert "gps LOST" in joined(header(TICK, 80))
    assert "CRASH IS RECORDED" in joined(header(replace(TICK, crash=True), 80))
    assert "time unknown" in joined(header(replace(TICK, utc=Utc(quality="none")), 80))


@pytest.mark.parametrize(
    ("sync", "store", "told"),
    [
        (
            SyncStatus(phase="waiting", trouble="refused", reason="not authorised"),
            {},
            "X sync waits to connect, refused",
        ),
        (None, {}, "sync rests"),
        (SyncStatus(phase="sending"), {"read_only": True}, "disk is READ-ONLY"),
        (SyncStatus(phase="sending"), {"waiting": 3}, "3 records wait for the disk"),
    ],
)
def test_the_queue_says_why_nothing_moves(sync: SyncStatus | None, store: dict[str, Any], told: str) -> None:
    assert TICK.store is not None
    text = joined(queue(replace(TICK, sync=sync, store=replace(TICK.store, **store)), 80))
    assert told in text
    assert "event         9      7 wait  oldest 4 min" in text


def test_packages_are_shown_with_their_share() -> None:
    files = replaced(SyncStatus().files, packages=2, bytes=4_000_000, held=1_000_000)
    assert "2 wait, 25 % of 4.0 MB" in joined(queue(replace(TICK, sync=SyncStatus(phase="sending", files=files)), 80))


# the screen


async def shown_at_last(pilot: Any, condition: Callable[[], bool]) -> None:
    for _ in range(1500):
        if condition():
            return
        await pilot.pause(0.02)
    raise AssertionError(screen_text(pilot.app))


def run(size: tuple[int, int], act: Any) -> None:
    """Show ticks on a screen of (columns, rows) and let `act(app, pilot)` look at it."""
    ended = threading.Event()

    def watch() -> Iterator[Tick]:
        yield TICK
        clock.wait(ended, 60.0)
        raise NoDaemonError("/s/agent.sock: the agent ended")

    async def main() -> None:
        view = Live(watch)
        async with view.run_test(size=size) as pilot:
            await shown_at_last(pilot, lambda: view.query_one("#signals", Lines).text() != "")
            await act(view, pilot, ended)
            ended.set()
            view._ended.set()

    asyncio.run(main())


def seen(view: Live) -> dict[str, str]:
    """Return the text of every panel that can be seen, by name."""
    return {str(p.id): p.text() for p in view.query(Lines) if p.display and p.size.width}


def screen_text(view: Live) -> str:
    return "\n".join("".join(s.text for s in strip) for strip in view.screen._compositor.render_strips())


def test_a_wide_terminal_shows_everything_side_by_side() -> None:
    async def act(view: Live, pilot: Any, ended: threading.Event) -> None:
        await pilot.pause()
        panels = seen(view)
        assert set(panels) == {"signals", "events", "devices", "queue"}
        assert "45.0 km/h" in panels["signals"]
        assert "harsh braking" in panels["events"]
        assert "no route to host" in " ".join(panels["queue"].split())
        text = screen_text(view)
        for part in (
            "rw-0123456789abcdef",
            "driving · 45 km/h · trip",
            "1 signals",
            "4 queue",
            "q end",
            "is it plugged in",
        ):
            assert part in text, text
        await pilot.press("3")
        assert view.focused is view.query_one("#devices")

    run((120, 40), act)


def test_a_phone_shows_one_panel_at_a_time_and_its_keys() -> None:
    async def act(view: Live, pilot: Any, ended: threading.Event) -> None:
        for key, name, part in (
            ("2", "events", "harsh braking"),
            ("3", "devices", "no such device"),
            ("4", "queue", "oldest 4 min"),
            ("1", "signals", "45.0 km/h"),
        ):
            await pilot.press(key)
            await pilot.pause()
            await shown_at_last(pilot, lambda part=part: part in screen_text(view))  # type: ignore[misc]
            assert set(seen(view)) == {name}
        assert "1 signals 2 events 3 devices 4 queue · q end" in screen_text(view)
        await pilot.resize_terminal(120, 40)
        await shown_at_last(pilot, lambda: len(seen(view)) == 4)

    run((45, 20), act)


def test_holding_keeps_the_screen_and_an_agent_that_ends_is_told() -> None:
    async def act(view: Live, pilot: Any, ended: threading.Event) -> None:
        await pilot.press("space")
        later = Line(number=3, t_ns=NOW_NS, kind="event", severity="minor", text="bump")
        view.take(replace(TICK, values=[Value(SPEED, 20.0, 0.1)], happened=[later]))
        assert "45.0 km/h" in seen(view)["signals"]
        await pilot.press("space")
        assert "72.0 km/h" in seen(view)["signals"]
        assert seen(view)["events"].splitlines()[0].endswith("bump")
        ended.set()
        await shown_at_last(pilot, lambda: "the agent ended" in screen_text(view))
        view.take(TICK)  # it is back
        await pilot.pause()
        assert "the agent ended" not in screen_text(view)

    run((100, 30), act)


# pipes


def test_a_pipe_gets_a_line_for_each_change_and_only_then() -> None:
    plain = Plain()
    first = list(plain.lines(TICK))
    assert any(line.endswith("event severe harsh braking; -6.1 m/s2; seen by imu") for line in first)
    assert any(line.endswith("gps:fake lost: gps:fake: no such device; is it plugged in?") for line in first)
    assert any(line.endswith("Obd.Speed 45.0 km/h") for line in first)
    assert list(plain.lines(replace(TICK, happened=[]))) == []
    moved = [Value(SPEED, 13.0, 0.1), *TICK.values[1:]]
    (line,) = plain.lines(replace(TICK, happened=[], values=moved))
    assert line.endswith("Obd.Speed 46.8 km/h")
    silent = [Value(SPEED, 13.0, 9.0), *TICK.values[1:]]
    assert [x.split(maxsplit=1)[1] for x in plain.lines(replace(TICK, happened=[], values=silent))] == [
        "Obd.Speed silent"
    ]


@pytest.mark.parametrize("given", [[], ["--plain"], ["--json"]])
def test_without_an_agent_there_is_one_line(tmp_path: Path, given: list[str]) -> None:
    result = CliRunner().invoke(app, ["--store", str(tmp_path), *given])
    assert isinstance(result.exception, NoDaemonError)
    assert "no agent runs here; start it with" in str(result.exception)


def test_json_is_a_tick_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "watch", lambda folder: iter([TICK, TICK]))
    result = CliRunner().invoke(app, ["--store", str(tmp_path), "--json"])
    lines = result.stdout.splitlines()
    assert [json.loads(line)["device"] for line in lines] == ["rw-0123456789abcdef"] * 2
    assert messages.decode_answer(lines[0].encode()) == TICK
    plain = CliRunner().invoke(app, ["--store", str(tmp_path)])  # no terminal
    assert "Obd.Speed 45.0 km/h" in plain.stdout
