"""The GPS driver against a gpsd that speaks the wire: fixes, time, faults, and everything that is not gpsd."""

import json
import socket
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import Block, join_blocks
from agent.boottime import BootTime
from agent.channels import BY_NUMBER
from agent.clock import NS_PER_S, monotonic_ns, wall_minus_monotonic_ns
from agent.errors import DriverError
from drivers.facts import Facts
from drivers.gnss.judge import Judge
from drivers.gnss.messages import Pulse, Sky, fix_of, parse, pulse_of, sky_of, utc_ns_of
from drivers.gnss.timing import Timing
from drivers.gps import HELD_NS, LONGEST_LINE, Gps
from sim.gpsd import FakeGpsd, Report

UTC = 1_795_000_000 * NS_PER_S  # in November 2026
WAIT_S = 30.0


@pytest.fixture
def gpsd() -> Iterator[FakeGpsd]:
    with FakeGpsd() as fake:
        yield fake


@pytest.fixture
def gps(gpsd: FakeGpsd) -> Iterator[Gps]:
    driver = Gps(*gpsd.address)
    driver.open()
    assert gpsd.watched.wait(WAIT_S)
    yield driver
    driver.close()


def report(age_s: float = 0.0, utc_ns: int = UTC, **more: object) -> Report:
    return Report(monotonic_ns() - round(age_s * NS_PER_S), utc_ns, 55.5, 12.25, **more)  # type: ignore[arg-type]


def read_until(gps: Gps, enough: Callable[[], bool]) -> Block:
    """Read until `enough`, at the latest until a deadline."""
    blocks, end = [], monotonic_ns() + round(WAIT_S * NS_PER_S)
    while not enough():
        assert monotonic_ns() < end, gps.counts
        block = gps.read(0.05)
        blocks.append(block)
    return join_blocks(blocks)


def values(block: Block) -> dict[str, float]:
    return {
        BY_NUMBER[int(c)].name.removeprefix("Gnss."): float(v)
        for c, v in zip(block["channel"], block["value"], strict=True)
    }


def states(gps: Gps) -> dict[str, str]:
    return {fact.source.removeprefix(gps.name).removeprefix(":"): fact.state for fact in gps.health()}


def next_fix(gps: Gps) -> Block:
    """Read until one more report has come and return its samples."""
    before = gps.counts["reports"]
    return read_until(gps, lambda: gps.counts["reports"] > before)


def test_a_fix_becomes_samples_of_one_time(gpsd: FakeGpsd, gps: Gps) -> None:
    sent = report(speed_mps=13.9, track_deg=271.25, altitude_m=88.0)
    gpsd.report(sent)
    block = next_fix(gps)
    assert values(block) == {
        "FixType": 3, "Satellites": 8, "Latitude": 55.5, "Longitude": 12.25, "HorizontalAccuracy": 4.0,
        "Altitude": 88.0, "Speed": 13.9, "SpeedAccuracy": 0.3, "Heading": 271.25,
        "Time": UTC / NS_PER_S, "TimeAccuracy": 0.001,
    }  # fmt: skip
    assert len(set(block["t"].tolist())) == 1
    assert abs(int(block["t"][0]) - sent.t_ns) < 2_000_000  # the pulse's second, not the arrival
    assert states(gps) == {"": "ok", "fix": "ok", "time": "ok", "signal": "ok"}


def test_two_dimensions_have_no_altitude_and_no_fix_has_no_position(gpsd: FakeGpsd, gps: Gps) -> None:
    gpsd.report(report(mode=2))
    flat = values(next_fix(gps))
    assert flat["FixType"] == 2
    assert "Altitude" not in flat
    assert states(gps)["fix"] == "degraded"
    gpsd.fault("no_fix")
    gpsd.report(report(utc_ns=UTC + NS_PER_S))
    assert values(next_fix(gps)) == {"FixType": 0, "Satellites": 8}
    assert states(gps)["fix"] == "lost"
    gpsd.fault("no_fix", on=False)
    gpsd.report(report(utc_ns=UTC + 2 * NS_PER_S))
    next_fix(gps)
    assert states(gps)["fix"] == "ok"


@pytest.mark.parametrize(
    ("pps", "toff", "told_s", "accuracy_s", "wrong_s"),
    [
        (True, True, 0.0, 0.001, 0.002),
        (False, True, 0.08, 0.05, 0.002),
        (False, True, 0.0, 0.05, 0.1),
        (False, False, 0.0, 0.3, 0.6),
    ],
)
def test_time_is_as_good_as_what_gpsd_tells(
    pps: bool, toff: bool, told_s: float, accuracy_s: float, wrong_s: float
) -> None:
    boot = BootTime()
    with FakeGpsd(pps=pps, toff=toff, delay_s=0.08) as gpsd:
        gps = Gps(*gpsd.address, receiver_delay_s=told_s)
        gps.open()
        assert gpsd.watched.wait(WAIT_S)
        start_ns = monotonic_ns() - NS_PER_S // 5
        for _ in range(4):  # fixes that arrive 0.2 s after they were true
            since_ns = (monotonic_ns() - NS_PER_S // 5 - start_ns) // 1_000_000 * 1_000_000
            since_ns = since_ns if gps.counts["reports"] else 0  # the first on the second, where the pulse is
            gpsd.report(Report(start_ns + since_ns, UTC + since_ns, 55.5, 12.25))
            block = next_fix(gps)
            assert values(block)["TimeAccuracy"] == pytest.approx(accuracy_s)
            boot.learn(block)
        gps.close()
    assert boot.offset_ns is not None
    late_ns = UTC - start_ns - boot.offset_ns
    assert -1_500_000 <= late_ns <= wrong_s * NS_PER_S  # never early, but for the milliseconds of gpsd's time


def test_a_very_late_fix_is_stamped_no_earlier_than_the_daemon_waits(gpsd: FakeGpsd, gps: Gps) -> None:
    sent = report(age_s=0.5)
    gpsd.report(sent)
    block = next_fix(gps)
    t_ns = int(block["t"][0])
    assert sent.t_ns + 0.1 * NS_PER_S <= t_ns <= monotonic_ns() - HELD_NS
    assert round(values(block)["Time"] * NS_PER_S) - t_ns == pytest.approx(UTC - sent.t_ns, abs=2_000_000)


def test_a_rolled_over_week_is_passed_on_for_repair_and_said(gpsd: FakeGpsd, gps: Gps) -> None:
    gpsd.fault("wrong_week")
    boot = BootTime()
    for n in range(3):
        gpsd.report(report(utc_ns=UTC + n * NS_PER_S))
        boot.learn(next_fix(gps))
    assert boot.rollovers == 3
    assert boot.offset_ns is not None
    assert boot.offset_ns + monotonic_ns() == pytest.approx(UTC + 2 * NS_PER_S, abs=2 * NS_PER_S)
    assert states(gps)["time"] == "degraded"
    gpsd.fault("wrong_week", on=False)
    gpsd.report(report(utc_ns=UTC + 3 * NS_PER_S))
    next_fix(gps)
    assert states(gps)["time"] == "ok"


@pytest.mark.parametrize("utc_s", [315_964_800, 4_102_444_800], ids=["1980", "2100"])
def test_a_date_that_cannot_be_is_never_time(gpsd: FakeGpsd, gps: Gps, utc_s: int) -> None:
    gpsd.report(report(utc_ns=utc_s * NS_PER_S))
    seen = values(next_fix(gps))
    assert "Time" not in seen
    assert seen["Latitude"] == 55.5
    assert states(gps)["time"] == "lost"
    assert gps.counts["wrong_dates"] == 1


def test_a_jump_is_said_and_calm_ends_it() -> None:
    facts = Facts()
    judge = Judge(facts, "gps", 5 * NS_PER_S)
    for t_s, latitude in ((0, 50.0), (1, 50.0003), (2, 50.1), (3, 50.1003)):
        judge.fix(t_s * NS_PER_S, t_s * NS_PER_S, fix_of({"class": "TPV", "mode": 3, "lat": latitude, "lon": 8.0}))
    assert judge.jumps == 1
    assert facts.state("gps:position") == "degraded"
    judge.passing(13 * NS_PER_S)
    assert facts.state("gps:position") == "ok"


def test_the_date_line_and_a_tunnel_are_no_jumps() -> None:
    judge = Judge(Facts(), "gps", 5 * NS_PER_S)
    for t_s, longitude in ((0, 179.9999), (1, -179.9999), (121, -179.9)):
        judge.fix(t_s * NS_PER_S, t_s * NS_PER_S, fix_of({"class": "TPV", "mode": 3, "lat": 0.0, "lon": longitude}))
    assert judge.jumps == 0


def test_jamming_is_hinted_and_a_dead_antenna_is_lost() -> None:
    facts = Facts()
    judge = Judge(facts, "gps", 5 * NS_PER_S)
    for t_s in range(20):
        judge.sky(t_s * NS_PER_S, Sky(8, [46.0, 45.0, 43.0, 41.0, 30.0]))
    judge.sky(20 * NS_PER_S, Sky(7, [45.0, 40.0, 38.0, 33.0]))  # trees
    assert facts.state("gps:signal") == "ok"
    judge.sky(21 * NS_PER_S, Sky(3, [25.0, 24.0, 22.0, 20.0]))
    assert facts.state("gps:signal") == "degraded"
    judge.sky(22 * NS_PER_S, Sky(3, [24.0, 24.0, 22.0, 20.0]))
    (told,) = facts.standing({})
    assert (told.t_ns, told.facts) == (21 * NS_PER_S, {"weaker_db": "21"})  # one fact, however long it goes on
    judge.sky(22 * NS_PER_S, Sky(0, []))
    judge.sky(32 * NS_PER_S, Sky(0, []))
    assert facts.state("gps:signal") == "lost"
    judge.sky(33 * NS_PER_S, Sky(8, [46.0, 45.0, 43.0, 41.0]))
    assert facts.state("gps:signal") == "ok"


def test_a_cold_start_is_no_jamming() -> None:
    facts = Facts()
    judge = Judge(facts, "gps", 5 * NS_PER_S)
    for t_s, heard in enumerate(([], [20.0], [30.0, 22.0], [35.0, 30.0, 25.0, 20.0])):
        judge.sky(t_s * NS_PER_S, Sky(0, heard))
    assert facts.state("gps:signal") == "ok"


def test_jamming_reaches_health_through_the_wire(gpsd: FakeGpsd, gps: Gps) -> None:
    for n in range(12):
        gpsd.report(report(utc_ns=UTC + n))
        next_fix(gps)
    gpsd.fault("jammed")
    gpsd.report(report())
    next_fix(gps)
    assert states(gps)["signal"] == "degraded"


def test_a_stale_receiver_is_said_and_its_return_too(gpsd: FakeGpsd) -> None:
    gps = Gps(*gpsd.address, stale_s=0.05)
    gps.open()
    assert gpsd.watched.wait(WAIT_S)
    gpsd.report(report())
    next_fix(gps)
    gpsd.fault("stall")
    gpsd.report(report())
    read_until(gps, lambda: states(gps)[""] == "degraded")
    gpsd.fault("stall", on=False)
    gpsd.report(report())
    next_fix(gps)
    assert states(gps)[""] == "ok"
    gpsd.plug(False)
    read_until(gps, lambda: states(gps)[""] == "lost")
    gps.close()


def test_a_time_out_gives_an_empty_block(gps: Gps) -> None:
    assert len(gps.read(0.01)) == 0
    assert len(gps.read(0.0)) == 0


def test_a_gpsd_that_says_nothing_is_trouble() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        gps = Gps(*mute.getsockname(), silent_s=0.05)
        gps.open()
        with pytest.raises(DriverError, match=r"nothing sensible.*plugged in"):
            read_until(gps, lambda: False)
        gps.close()


def test_a_restarted_gpsd_is_trouble_then_works_again_on_reopening(gpsd: FakeGpsd, gps: Gps) -> None:
    gpsd.report(report())
    first = next_fix(gps)
    gpsd.stop()
    with pytest.raises(DriverError, match="restarted"):
        read_until(gps, lambda: False)
    with pytest.raises(DriverError, match="is gpsd running"):
        gps.open()
    gpsd.start()
    gps.open()
    assert gpsd.watched.wait(WAIT_S)
    gpsd.report(report())
    again = next_fix(gps)
    assert values(again)["Latitude"] == 55.5
    assert again["t"][0] >= first["t"][-1]


def test_closing_twice_is_fine_and_reading_closed_is_trouble(gps: Gps) -> None:
    gps.close()
    gps.close()
    with pytest.raises(DriverError, match="not open"):
        gps.read(0.01)


def test_an_old_gpsd_is_refused_with_a_word(gpsd: FakeGpsd, gps: Gps) -> None:
    gpsd.say({"class": "VERSION", "release": "9", "proto_major": 4, "proto_minor": 0})
    with pytest.raises(DriverError, match="protocol 4"):
        read_until(gps, lambda: False)


def test_one_receiver_of_several_can_be_chosen(gpsd: FakeGpsd) -> None:
    gps = Gps(*gpsd.address, device="/dev/ttyUSB7")
    gps.open()
    assert gpsd.watched.wait(WAIT_S)
    gpsd.report(report())
    gpsd.say({"class": "TPV", "device": "/dev/ttyUSB7", "mode": 2, "lat": 1.0, "lon": 2.0})
    assert values(next_fix(gps))["Latitude"] == 1.0
    assert gps.counts["reports"] == 1
    gps.close()


def test_garbage_is_counted_and_the_next_fix_still_comes(gpsd: FakeGpsd, gps: Gps) -> None:
    gpsd.fault("garbage")
    gpsd.report(report())
    assert values(next_fix(gps))["Latitude"] == 55.5
    assert gps.counts["bad_lines"] == 4
    gpsd.say({"class": "TPV", "mode": 3, "lat": 91.0, "lon": 8.0, "speed": -1.0, "time": "2026-13-01T00:00:00Z"})
    assert values(next_fix(gps)) == {"FixType": 3, "Longitude": 8.0}
    assert gps.counts["out_of_range"] == 2


def test_an_endless_line_costs_no_memory(gpsd: FakeGpsd, gps: Gps) -> None:
    sender = threading.Thread(
        target=gpsd.send, args=(b"x" * (5 * LONGEST_LINE) + b"\n" + b"y" * (LONGEST_LINE + 1) + b"\n",)
    )
    sender.start()
    read_until(gps, lambda: gps.counts["long_lines"] == 2)
    sender.join()
    gpsd.report(report())
    assert values(next_fix(gps))["Latitude"] == 55.5
    assert gps.counts["bad_lines"] == 0


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=12), st.binary(max_size=60))
def test_lines_may_be_split_anywhere(cuts: list[int], noise: bytes) -> None:
    tpv = b'{"class":"TPV","mode":3,"lat":50.5,"lon":8.25,"speed":3.5}\r\n'
    stream = b"".join([noise.replace(b"\n", b" "), b"\n", tpv, tpv, tpv])
    ours, theirs = socket.socketpair()
    with theirs:
        gps = Gps()
        gps._socket = ours
        gps._sensible_ns = monotonic_ns()
        at, blocks = 0, []
        for cut in cuts:
            theirs.sendall(stream[at : at + cut])
            at += cut
            blocks.append(gps.read(0.0))
        theirs.sendall(stream[at:] or b"\n")
        blocks.append(read_until(gps, lambda: gps.counts["reports"] == 3))
        gps.close()
    block = join_blocks(blocks)
    assert np.all(np.diff(block["t"]) >= 0)
    assert block["value"][block["channel"] == 40].tolist() == [3.5] * 3


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=6,
)
FIELDS = [
    *("mode", "status", "time", "lat", "lon", "altHAE", "speed", "track", "eph", "epx", "epy", "eps", "satellites"),
    *("uSat", "real_sec", "real_nsec", "clock_sec", "clock_nsec", "devices", "activated", "path", "message"),
]
SATELLITES = st.lists(st.fixed_dictionaries({"ss": JSON, "used": JSON}), max_size=5)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["TPV", "SKY", "TOFF", "PPS", "DEVICES", "DEVICE", "ERROR", "WATCH", "POLL"]),
    st.dictionaries(st.sampled_from(FIELDS), JSON | SATELLITES),
)
def test_no_message_raises_and_no_sample_is_out_of_range(kind: str, fields: dict[str, object]) -> None:
    gps = Gps()
    gps._line(json.dumps({"class": kind} | fields).encode(), monotonic_ns())
    for t_ns, channel, value in gps._samples:
        assert isinstance(t_ns, int)
        assert BY_NUMBER[channel].low <= value <= BY_NUMBER[channel].high
    gps.health()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_no_line_raises(line: bytes) -> None:
    message = parse(line)
    if message is not None:
        fix_of(message), sky_of(message), pulse_of(message)


def test_deeply_nested_json_is_refused() -> None:
    assert parse(b'{"class":' + b"[" * 60_000) is None


def test_surveyed_and_reckoned_fixes_have_their_own_type() -> None:
    types = [fix_of({"class": "TPV", "mode": 3, "status": status}).fix_type for status in (1, 2, 5, 6, 7)]
    assert types == [3, 3, 1, 4, 5]
    assert fix_of({"class": "TPV", "mode": 1, "status": 5}).fix_type == 0


def test_times_are_read_to_the_microsecond() -> None:
    assert utc_ns_of("2019-04-07T00:02:31.420Z") == 1_554_595_351_420_000_000
    assert utc_ns_of("2016-12-31T23:59:60.000Z") is None  # a leap second has no place in seconds since 1970
    assert utc_ns_of("2019-04-07T00:02:31") is None
    assert utc_ns_of(1554595351.42) is None


def test_a_wall_clock_that_steps_between_stamp_and_arrival_is_refused() -> None:
    timing = Timing()
    now_ns, shift_ns = 50 * NS_PER_S, wall_minus_monotonic_ns()
    timing.take("PPS", Pulse(UTC, now_ns + shift_ns + 3600 * NS_PER_S), now_ns, shift_ns)
    timing.take("PPS", Pulse(UTC, now_ns + shift_ns - 3600 * NS_PER_S), now_ns, shift_ns)
    assert timing.refused == 2
    assert timing.stamp(UTC, now_ns) == (now_ns, 0.3)


def test_a_pulse_that_names_the_wrong_second_is_not_believed() -> None:
    timing = Timing()
    now_ns = 50 * NS_PER_S
    timing.take("PPS", Pulse(UTC - NS_PER_S, now_ns), now_ns, 0)  # the edge of UTC, called a second earlier
    assert timing.stamp(UTC, now_ns + NS_PER_S // 10) == (now_ns + NS_PER_S // 10, 0.3)
    assert timing.uncorrected == 1


def test_a_pulse_grows_old() -> None:
    timing = Timing()
    now_ns = 50 * NS_PER_S
    timing.take("PPS", Pulse(UTC, now_ns - 1_000_000), now_ns, 0)
    assert timing.stamp(UTC + NS_PER_S, now_ns + NS_PER_S) == (now_ns - 1_000_000 + NS_PER_S, 0.001)
    assert timing.stamp(UTC + 40 * NS_PER_S, now_ns + 40 * NS_PER_S) == (now_ns + 40 * NS_PER_S, 0.3)
