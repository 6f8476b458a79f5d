"""A board without a clock: it starts in 1970, satellites or NTP tell the time later, somebody sets the wall clock while
it drives. What was recorded has the right UTC in the end, in the right order, and nothing of it is lost.

Truth is the guest's monotonic clock, and what the satellites' clock showed at one moment of it. Guest time counts
instructions, so that a busy host does not make the car drive in jerks.
"""

import json
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from tests.kernel.cache import HERE, built, call, digest
from tests.kernel.can import with_vcan
from tests.kernel.channel import Process
from tests.kernel.conftest import Figure
from tests.kernel.errors import CannotBeHadError
from tests.kernel.guest import Guest

MACHINE: Final = {"rtc": "1970-01-01T00:00:30", "icount": 1}
TRUE: Final = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC).timestamp()  # what satellites say when the receiver begins
HOUR: Final = 10  # of the day, in which all is driven
DRIVEN_M: Final = 233.0  # a drive: 100 m of pulling away, 100 m, and 33 m of braking
CAN: Final = '[drivers.canbus.can0]\nprofile = "toyota-rav4"\n\n[consent]\nsheet = "of the bench"\n'
STORE: Final = "--store /root/store"
LIMIT_S: Final = 900.0
NTP_S: Final = 0.1  # timesyncd against a server on the same slow machine
LATE_S: Final = 0.3  # a fix arrives that late at most; DESIGN's bound for receivers without a pulse
FELT_S: Final = 0.5  # a braking is dated by its deceleration, a mean of half a second, and not by the pedal
PROGRAMS: Final = ("nmea.py", "drive_can.py", "ntp_server.py", "stored.py")


def stored(guest: Guest, kind: str) -> list[dict[str, Any]]:
    said = guest.run(f"roadwitness {kind} {STORE} --json", check=False, limit_s=LIMIT_S)
    return json.loads(said.out) if said.code == 0 else []


def known(quality: str, times: int = 1) -> str:
    """Return a shell line that ends with 0 when the agent has learned the time so often."""
    count = f"SELECT count(*) >= {times} FROM clock WHERE quality = '{quality}'"
    return f'sqlite3 -readonly /root/store/store.db "{count}" | grep 1'


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


def in_utc(
    guest: Guest, drives: list[dict[str, float]], zero: float, off_s: float, quality: str, figure: Figure
) -> None:
    """Look at all that the newest boot stored; `zero` is UTC when the monotonic clock was 0."""
    trips = stored(guest, "trips")
    boot = trips[-1]["boot"]
    events, trips = ([r for r in records if r["boot"] == boot] for records in (stored(guest, "events"), trips))
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
    # no trip is torn, none of its metres are counted twice, and it was driven between ten and eleven
    assert sum(trip["distance_m"] for trip in trips) == pytest.approx(DRIVEN_M * len(drives), rel=0.05)
    assert len(trips) <= len(drives)
    assert {n for trip in trips for n, seconds in enumerate(trip["hour_of_day_s"]) if seconds} == {HOUR}
    told = json.loads(guest.run(f"python3 /root/stored.py /root/store {boot}", limit_s=LIMIT_S).out)
    assert told["falls"] == 0
    assert {told["time_quality"], *(r["time_quality"] for r in (*events, *trips))} == {quality}
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
    guest.until(known("gnss"), LIMIT_S)
    driving = Drive(guest)
    guest.run("date -u -s '2031-05-05 05:05:05'")  # forwards, and wrong
    driving.until_it_brakes()
    guest.run("date -u -s '1999-09-09 09:09:09'")  # backwards, while it brakes
    second = driving.over()
    ended(running)
    in_utc(guest, [first, second], zero, LATE_S, "gnss", figure)


def client(guest: Guest) -> None:
    """Install systemd's own NTP client of the guest's version, which the image lacks; it does not run yet."""
    version = guest.run("dpkg-query -W -f='${Version}' systemd").out

    def fetch(work: Path) -> None:
        call("apt-get", "-qq", "download", f"systemd-timesyncd={version}", cwd=work)

    try:
        fetched = built(f"timesyncd-{guest.arch}", digest([version]), fetch)
    except CannotBeHadError as trouble:
        pytest.skip(str(trouble))
    guest.put("/root/timesyncd.deb", next(fetched.glob("*.deb")).read_bytes())
    guest.run("dpkg --force-unsafe-io -i /root/timesyncd.deb", limit_s=LIMIT_S)
    guest.put("/etc/systemd/timesyncd.conf.d/bench.conf", "[Time]\nNTP=127.0.0.1\nFallbackNTP=\n")


def test_a_boot_without_satellites_is_dated_by_ntp_and_leaves_the_boot_before_alone(
    guest: Guest, figure: Figure
) -> None:
    before = stored(guest, "events"), stored(guest, "trips")
    client(guest)
    guest.off(LIMIT_S)
    guest.boot(LIMIT_S)
    with_vcan(guest)
    zero = TRUE + 86_400.0  # a day later
    running = agent(guest, CAN)
    driving = Drive(guest)
    driving.until_it_brakes()
    server = guest.start(f"exec python3 /root/ntp_server.py {zero - 7.0}")  # seconds off, first
    server.until_says("serves", LIMIT_S)
    guest.run("systemctl unmask systemd-timesyncd && systemctl start systemd-timesyncd", limit_s=LIMIT_S)
    first = driving.over()
    guest.until(known("ntp"), LIMIT_S)
    server.write(f"{zero}\n".encode())
    server.until_says("set", LIMIT_S)
    driving = Drive(guest)
    driving.until_it_brakes()
    guest.run("date -u -s '2031-05-05 05:05:05'")  # timesyncd asks again at once, and steps back by years
    guest.until(known("ntp", 2), LIMIT_S)
    second = driving.over()
    ended(running)
    in_utc(guest, [first, second], zero, NTP_S, "ntp", figure)
    after = stored(guest, "events"), stored(guest, "trips")
    assert [records[: len(old)] for old, records in zip(before, after, strict=True)] == list(before)
