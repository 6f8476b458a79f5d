"""Devices come and go in any order, with every fault at once: nothing accepted is lost, all come back in time.

Virtual time. Recovery: a device is read again at the latest retry_cap_s and one read after its fault is over, the store
takes records again RETRY_NS after its own.
"""

import itertools
import random
from pathlib import Path

import pytest

from agent.feed import FeedSettings
from agent.patience import RETRY_NS
from agent.records import Clock, Trip
from agent.settings import AgentConfig, DaemonSettings
from agent.store import Store
from tests.agreed import AGREED
from tests.virtual import DEVICES, START_NS, WALL_NS, Fault, S, VirtualTime, World, check_nothing_lost, drive

CAP_S = 8.0
READ_S = 1.1  # the slowest device speaks once a second
SETTINGS = AgentConfig(
    consent=AGREED, daemon=DaemonSettings(queue_samples=1000, feed=FeedSettings(retry_cap_s=CAP_S, steady_s=5.0))
)
NAMES = tuple(DEVICES)
KINDS = ("unplugged", "unplugged", "silent", "hangs", "flaps", "floods", "late")


def check_back(world: World, within_s: float = CAP_S + READ_S) -> None:
    """Assert that samples of every device came soon after its last fault."""
    for name in world.names:
        calm_s = world.calm_s(name)
        first_s = min((at for at in world.came_s[name] if at >= calm_s), default=float("inf"))
        assert first_s - calm_s <= within_s, (name, first_s - calm_s)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=lambda o: "".join(map(str, o)))
def test_all_devices_are_pulled_and_come_back_in_any_order(
    order: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(VirtualTime(monkeypatch))
    for i, device in enumerate(order):
        world.faults.append(Fault(NAMES[device], "unplugged", 3.0 + i, 12.0 + 2.0 * ((i * 3 + order[0]) % 4)))
    end_s = 18.0 + CAP_S + 2 * READ_S
    daemon = drive(world, tmp_path, monkeypatch, end_s, SETTINGS)
    told = check_nothing_lost(world, daemon, tmp_path)
    check_back(world)
    for name in NAMES:
        assert [h.state for h in told if h.source == name] == ["ok", "lost", "ok"]
    with Store.open(tmp_path, read_only=True) as store:
        (trip,) = [kept.record for kept in store.trips()]
    assert trip.start_ns <= START_NS + S
    assert trip.end_ns >= START_NS + int((end_s - 3) * S)  # one trip, through all of it


def schedule(seed: int) -> list[Fault]:
    """Return faults of all devices, the store and the clock, by chance, within 40 s."""
    chance = random.Random(seed)
    faults = []
    for name in NAMES:
        edges = sorted(chance.uniform(2.0, 40.0) for _ in range(2 * chance.randint(0, 3)))
        faults += [Fault(name, chance.choice(KINDS), a, b) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    if chance.random() < 0.5:
        begin_s = chance.uniform(5.0, 25.0)
        kind = chance.choice(("full", "read-only"))
        faults.append(Fault("store", kind, begin_s, begin_s + chance.uniform(1.0, 15.0)))
    if chance.random() < 0.3:
        faults.append(
            Fault("clock", chance.choice(("20", "-20")), chance.uniform(2.0, 20.0), chance.uniform(20.0, 40.0))
        )
    return faults


@pytest.mark.parametrize("seed", range(100))
def test_whatever_goes_wrong_at_once_it_recovers_and_nothing_accepted_is_lost(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(VirtualTime(monkeypatch, seed), schedule(seed))
    end_s = 40.0 + CAP_S + 2 * READ_S
    daemon = drive(world, tmp_path, monkeypatch, end_s, SETTINGS)
    told = check_nothing_lost(world, daemon, tmp_path)
    check_back(world)
    for source in {h.source for h in told}:
        states = [h.state for h in told if h.source == source]
        assert states[-1] == "ok", (source, states)
        assert all(a != b for a, b in itertools.pairwise(states)), (source, states)
    store_back_s = [(h.t_ns - START_NS) / S for h in told if h.source == "store" and h.state == "ok"]
    assert all(at_s - world.calm_s("store") <= RETRY_NS / S + 0.2 for at_s in store_back_s)
    with Store.open(tmp_path, read_only=True) as store:
        trips: list[Trip] = [kept.record for kept in store.trips()]
        clocks = [kept.record for kept in store.records(Clock)]
    assert len(trips) == 1
    assert trips[0].end_ns <= START_NS + int(end_s * S)
    assert {c.offset_ns for c in clocks} == {WALL_NS}  # whatever the wall clock did since


def test_the_same_schedule_gives_the_same_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for turn in ("a", "b"):
        with monkeypatch.context() as patch:
            world = World(VirtualTime(patch, 11), schedule(11))
            daemon = drive(world, tmp_path / turn, patch, 55.0, SETTINGS)
            seen.append((check_nothing_lost(world, daemon, tmp_path / turn), dict(world.accepted)))
    assert seen[0] == seen[1]
