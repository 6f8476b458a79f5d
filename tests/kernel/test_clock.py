"""A board without a clock: it starts in 1970, satellites tell the time later, somebody sets the wall clock while
it drives. What was recorded has the right UTC in the end, in the right order, and nothing of it is lost.

Truth is the guest's monotonic clock, and what the satellites' clock showed at one moment of it. Guest time counts
instructions, so that a busy host does not make the car drive in jerks.
"""

import json
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from tests.kernel.cache import HERE
from tests.kernel.can import with_vcan
from tests.kernel.channel import Process
from tests.kernel.conftest import Figure
from tests.kernel.guest import Guest

MACHINE: Final = {"rtc": "1970-01-01T00:00:30", "icount": 1}
TRUE: Final = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC).timestamp()  # what satellites say when the receiver begins
CAN: Final = '[drivers.canbus.can0]\nprofile = "toyota-rav4"\n\n[consent]\nsheet = "of the bench"\n'
STORE: Final = "--store /root/store"
LIMIT_S: Final = 900.0
LATE_S: Final = 0.3  # a fix arrives that late at most; DESIGN's bound for receivers without a pulse
FELT_S: Final = 0.5  # a braking is dated by its deceleration, a mean of half a second, and not by the pedal
PROGRAMS: Final = ("nmea.py", "drive_can.py", "stored.py")


def stored(guest: Guest, kind: str) -> list[dict[str, Any]]:
    said = guest.run(f"roadwitness {kind} {STORE} --json", check=False, limit_s=LIMIT_S)
    return json.loads(said.out) if said.code == 0 else []


def agent(guest: Guest, config: str) -> Process:
    """Start the agent; return it when it reads the bus."""
    guest.put("/root/agent.toml", config)
    started = guest.start(f"exec roadwitness agent --config /root/agent.toml {STORE}")
    started.until_says("reads canbus:can0", LIMIT_S)
    guest.until("grep -q 0aa /proc/net/can/rcvlist_sff", LIMIT_S)
    return started


def ended(process: Process) -> None:
    process.kill(signal.SIGTERM)
    assert process.wait(LIMIT_S).code == 0, process.said[-3000:]


class Drive:
    """One drive on can0, and when it truly was."""

    def __init__(self, guest: Guest) -> None:
        self._process = guest.start("exec python3 /root/drive_can.py /root/speed")
        self._process.until_says("begin", LIMIT_S)

    def until_it_brakes(self) -> None:
        self._process.until_says("brake", LIMIT_S)

    def over(self) -> dict[str, float]:
        """Wait for its end; return the monotonic times `begin`, `brake`, `end`, and `sent` frames."""
        lines = self._process.wait(LIMIT_S).out.splitlines()
        return {name: value for line in lines for name, value in json.loads(line).items()}


@pytest.fixture(scope="module", autouse=True)
def _bus(guest: Guest) -> None:
    for name in PROGRAMS:
        guest.put(f"/root/{name}", (HERE / "programs" / name).read_bytes())
    guest.put("/root/speed", "0")
    with_vcan(guest)


@pytest.fixture
def receiver(guest: Guest) -> Iterator[Process]:
    started = guest.start(f"exec python3 /root/nmea.py {TRUE:.0f} /root/speed")
    started.until_says("gpsd runs", LIMIT_S)
    yield started
    started.kill()


def in_utc(guest: Guest, drives: list[dict[str, float]], zero: float, off_s: float, figure: Figure) -> None:
    """Look at all that the newest boot stored; `zero` is UTC when the monotonic clock was 0."""
    boot = stored(guest, "trips")[-1]["boot"]
    events, trips = ([r for r in stored(guest, kind) if r["boot"] == boot] for kind in ("events", "trips"))
    braked = [e for e in events if e["kind"] == "harsh_braking"]
    assert len(braked) == len(drives), events
    for event, drive in zip(braked, drives, strict=True):
        late = datetime.fromisoformat(event["utc"]).timestamp() - (zero + drive["brake"])
        figure("a braking's UTC is off by", late, "s")
        assert abs(late) <= off_s + FELT_S
        assert event["peak"] == pytest.approx(-6.0, abs=1.5)
    begin, end = zero + drives[0]["begin"], zero + drives[-1]["end"]
    for record in (*events, *trips):
        assert begin - off_s <= datetime.fromisoformat(record["utc"]).timestamp() <= end + off_s, record
    told = json.loads(guest.run(f"python3 /root/stored.py /root/store {boot}", limit_s=LIMIT_S).out)
    assert told["falls"] == 0
    assert {told["time_quality"], *(r["time_quality"] for r in (*events, *trips))} == {told["time_quality"]}
    frames, first, last = told["channels"]["Vehicle.Speed"]
    assert frames == sum(drive["sent"] for drive in drives)
    figure("UTC of the first and the last sample is off by", max(abs(first - begin), abs(last - end)), "s")
    assert abs(first - begin) <= off_s
    assert abs(last - end) <= off_s


def test_what_was_driven_before_anybody_knew_the_time_ends_with_the_right_utc(
    guest: Guest, receiver: Process, figure: Figure
) -> None:
    figure("the board's clock at 1970 becomes, by systemd's own floor", guest.run("date -u +%F").out.strip(), "")
    zero = TRUE - json.loads(receiver.out.splitlines()[0])["monotonic"]
    running = agent(guest, "[drivers.gps.main]\n\n" + CAN)
    first = Drive(guest).over()
    guest.until(f"roadwitness events {STORE} --json | grep -q harsh_braking", LIMIT_S)
    assert [(e["time_quality"], e["utc"]) for e in stored(guest, "events")] == [("none", None)]
    receiver.write(b"fix\n")
    guest.until(f"roadwitness events {STORE} --json | grep -q gnss", LIMIT_S)
    driving = Drive(guest)
    guest.run("date -u -s '2031-05-05 05:05:05'")  # forwards, and wrong
    driving.until_it_brakes()
    guest.run("date -u -s '1999-09-09 09:09:09'")  # backwards, while it brakes
    second = driving.over()
    ended(running)
    in_utc(guest, [first, second], zero, LATE_S, figure)
    assert {e["time_quality"] for e in stored(guest, "events")} == {"gnss"}
