"""A wall clock that steps by decades in mid-drive, a boot in 1970, one that never learns the time: the whole daemon.

Recovery: a boot is dated, all of it, three fixes after the first (AGREE_S); a step needs none, for nothing moves.
"""

from pathlib import Path
from typing import Any

import pytest

from agent.boottime import UNCERTAINTY_NS
from agent.channels import number
from agent.records import Clock, Health, Trip
from agent.store import Store
from agent.timekeeping import SAVED_FILE
from tests.virtual import DEVICES, START_NS, WALL_NS, Fault, S, VirtualTime, World, check_nothing_lost, drive

BOOT = "b" * 32
GPS = "gps:127.0.0.1:2947"
TIME, ACCURACY = number("Gnss.Time"), number("Gnss.TimeAccuracy")
TRUE_NS = WALL_NS  # UTC at monotonic 0
AGREE_S = 4.0


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the receiver tell the time, stamped 0.18 s late as NMEA without a pulse is."""
    rate_hz, gives = DEVICES[GPS]
    timed = gives | {TIME: lambda t: (START_NS + TRUE_NS) / S + t - 0.18}
    monkeypatch.setitem(DEVICES, GPS, (rate_hz, timed))


def stored(folder: Path, kind: Any) -> list[Any]:
    with Store.open(folder, read_only=True) as store:
        return store.records(kind, BOOT)


@pytest.mark.usefixtures("receiver")
@pytest.mark.parametrize("years", [-20, 20])
def test_a_wall_clock_that_steps_in_mid_drive_moves_no_record(
    years: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for step in (False, True):
        with monkeypatch.context() as patch:
            folder = tmp_path / str(step)
            faults = [Fault("clock", str(years), 30.0, 60.0)] if step else []
            world = World(VirtualTime(patch), faults)
            daemon = drive(world, folder, patch, 90.0)
            told = check_nothing_lost(world, daemon, folder)
            trips = [(kept.record, kept.utc) for kept in stored(folder, Trip)]
            seen.append((told, trips, [kept.record for kept in stored(folder, Clock)]))
            assert int((folder / SAVED_FILE).read_text()) - (TRUE_NS + world.time.now_ns) <= 0
    assert seen[0] == seen[1]
    ((_, utc),) = seen[1][1]
    assert utc is not None
    assert utc.quality == "gnss"


@pytest.mark.usefixtures("receiver")
def test_a_boot_in_1970_is_dated_as_a_whole_soon_after_a_fix_at_90_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(VirtualTime(monkeypatch), [Fault(GPS, "silent", 0.0, 90.0)])
    world.wall_ns = 30 * S - START_NS  # it booted half a minute ago, by a clock that begins in 1970
    daemon = drive(world, tmp_path, monkeypatch, 120.0)
    told = check_nothing_lost(world, daemon, tmp_path)
    clocks = [kept.record for kept in stored(tmp_path, Clock)]
    assert [c.quality for c in clocks] == ["gnss"] * len(clocks)
    assert (clocks[0].t_ns - START_NS) / S <= 90.0 + AGREE_S
    for kept in [*stored(tmp_path, Trip), *stored(tmp_path, Health)]:  # also what was told before the fix
        assert kept.utc is not None
        assert kept.utc.quality == "gnss"
        at_ns = kept.record.start_ns if isinstance(kept.record, Trip) else kept.record.t_ns
        assert abs(kept.utc.utc_ns - (at_ns + TRUE_NS)) <= kept.utc.uncertainty_ns == UNCERTAINTY_NS
    assert told[0].t_ns < START_NS + 5 * S


def test_records_of_a_boot_that_never_learned_the_time_are_in_order_marked_and_to_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(VirtualTime(monkeypatch), [Fault("imu:first", "unplugged", 20.0, 40.0)])
    world.wall_ns = 30 * S - START_NS
    daemon = drive(world, tmp_path, monkeypatch, 60.0)
    told = check_nothing_lost(world, daemon, tmp_path)
    assert stored(tmp_path, Clock) == []
    (trip,) = stored(tmp_path, Trip)
    assert (trip.utc, trip.record.quality.time) == (None, "none")
    assert [h.t_ns for h in told] == sorted(h.t_ns for h in told)
    with Store.open(tmp_path, read_only=True) as store:
        for lane, head in store.heads().items():
            entries = store.pending(lane, 0, 1 << 30)
            assert [e.seq for e in entries] == list(range(1, head + 1))  # all of it goes to the receiver
        assert store.heads()["trip"] == 1
