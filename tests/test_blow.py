"""What waits for its turn when a blow is felt is durable at once, comes back once, and changes nothing otherwise."""

import random
from pathlib import Path

import numpy as np
import pytest

from agent.blocks import Block, empty_block, join_blocks, make_block
from agent.blow import APART_NS, LASTS_NS, Blows, is_blow
from agent.boottime import BootTime
from agent.channels import number
from agent.intake import Intake
from agent.pipeline import Pipeline
from agent.records import Crash
from agent.recovery import resumed
from agent.settings import AgentConfig
from agent.spine import Spine
from agent.store import Store
from tests.crashing import BOOT, MS, S, collision

X, Y, SPEED = number("Imu.Acceleration.X"), number("Imu.Acceleration.Y"), number("Vehicle.Speed")
SETTINGS = AgentConfig()


def driven(*t_ms: int) -> Block:
    return make_block([(t * MS, SPEED, float(t)) for t in t_ms])


def kill(store: Store) -> None:
    """Leave the file as a kill does."""
    store._database.close()


def stored(folder: Path) -> list[float]:
    with Store.open(folder) as store:
        assert store.verify().ok
        return store.read_block(0, 1 << 60, BOOT)["value"].tolist()  # type: ignore[no-any-return]


def test_a_blow_is_a_violent_sample_of_an_accelerometer() -> None:
    assert is_blow(make_block([(1, X, 0.1), (1, Y, -20.0)]))
    assert not is_blow(make_block([(1, X, 19.0), (1, SPEED, 50.0)]))
    assert not is_blow(empty_block())


@pytest.mark.parametrize("taken", range(5))
@pytest.mark.parametrize("flushed", [False, True])
def test_however_much_of_it_was_taken_since_every_sample_comes_back_once(
    tmp_path: Path, taken: int, flushed: bool
) -> None:
    store = Store.open(tmp_path, monotonic_ns=lambda: 0)  # nothing is ever due
    store.begin_boot(BOOT)
    store.append_block(driven(1, 2))
    ahead = driven(3, 4, 5, 6)
    store.keep_ahead(ahead)
    if taken:
        store.append_block(ahead[:taken])
    if flushed:
        store.flush()
    kill(store)
    assert stored(tmp_path) == [1, 2, 3, 4, 5, 6]
    assert stored(tmp_path) == [1, 2, 3, 4, 5, 6]


def test_what_is_kept_ahead_replaces_what_was_and_goes_when_it_was_taken(tmp_path: Path) -> None:
    store = Store.open(tmp_path, monotonic_ns=lambda: 0)
    store.begin_boot(BOOT)
    store.keep_ahead(driven(1, 2))
    store.keep_ahead(driven(1, 2, 3))
    store.keep_ahead(empty_block())
    assert store._database.rows("SELECT samples FROM ahead") == [(3,)]
    store.append_block(driven(1, 2, 3, 4))
    store.flush()
    assert store._database.rows("SELECT samples FROM ahead") == []
    kill(store)
    assert stored(tmp_path) == [1, 2, 3, 4]


def test_samples_that_a_killed_boot_never_took_stay_that_boots(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.begin_boot(BOOT)
    store.keep_ahead(driven(7, 8))
    kill(store)
    with Store.open(tmp_path) as store:
        store.begin_boot("next boot")
        store.append_block(driven(1))
        assert store.span(BOOT) == (7 * MS, 8 * MS)
    assert stored(tmp_path) == [7, 8]


def test_a_blow_wakes_the_spine_and_is_written_a_few_times() -> None:
    written: list[int] = []

    class Keeper:
        def keep_ahead(self, block: Block) -> None:
            written.append(len(block))

    intake = Intake(1000, S, is_blow)
    blows = Blows(intake, Keeper())
    intake.put("car", driven(5), 0)
    intake.put("imu", make_block([(t * MS, X, 5.0) for t in range(10)]), 0)
    assert not intake.woken.is_set()
    blows.step(0)
    assert written == []
    intake.put("imu", make_block([(11 * MS, X, 40.0)]), 0)
    assert intake.woken.is_set()
    for now_ms in range(0, 2000, 10):
        blows.step(now_ms * MS)
    assert written == [12] * (LASTS_NS // APART_NS)
    assert len(intake.take(0)[0]) == 7  # all that wait still wait: nobody was overtaken


@pytest.mark.parametrize("kept", [True, False])
def test_a_collision_that_takes_the_power_with_it_is_known_afterwards(tmp_path: Path, kept: bool) -> None:
    """Its samples wait for a receiver that speaks once a second when the power goes, 0.25 s after time zero."""
    drive = collision(imu_hz=100)
    drive = drive[(drive["t"] >= 60 * S) & (drive["t"] < 70 * S + 250 * MS)]
    slow = np.isin(drive["channel"], [number(f"Gnss.{n}") for n in ("Latitude", "Longitude", "Speed")])
    now_ns = [60 * S]
    store = Store.open(tmp_path, monotonic_ns=lambda: now_ns[0])
    store.begin_boot(BOOT)
    intake = Intake(1 << 20, round(SETTINGS.daemon.hold_s * S), is_blow)
    spine = Spine(SETTINGS.fusion, SETTINGS.detection, SETTINGS.trips, boot=BOOT)
    pipeline, blows = Pipeline(spine, store), Blows(intake, store)
    while now_ns[0] < 70 * S + 250 * MS:
        now_ns[0] += 100 * MS
        batch = (drive["t"] < now_ns[0]) & (drive["t"] >= now_ns[0] - 100 * MS)
        fixes = batch & slow & (drive["t"] < 70 * S)  # the fix of 70.13 s comes 0.3 s later
        for name, chosen in (("gps", fixes), ("car", batch & ~slow)):
            if chosen.any():
                intake.put(name, drive[chosen], now_ns[0])
        pipeline.step(intake.take(now_ns[0])[0])
        if kept:
            blows.step(now_ns[0])
    assert store.records(Crash) == []
    kill(store)
    with Store.open(tmp_path) as store:
        _, missing = resumed(store, BOOT, SETTINGS, BootTime(), lambda: None)
        found = [r for _, r in missing if isinstance(r, Crash)]
        assert [abs(c.t_ns - 70 * S) < 10 * MS for c in found] == ([True] if kept else [])


def test_random_kills_lose_nothing_that_was_kept_and_double_nothing(tmp_path: Path) -> None:
    chance = random.Random(5)
    for number_ in range(20):
        folder = tmp_path / str(number_)
        store = Store.open(folder, monotonic_ns=lambda: 0)
        store.begin_boot(BOOT)
        came, taken, safe = 0, 0, 0
        waiting: list[Block] = []
        for _ in range(chance.randrange(1, 30)):
            step = chance.choice(["come", "take", "flush", "ahead"])
            if step == "come":
                waiting.append(driven(came + 1))
                came += 1
            elif step == "take" and waiting:
                store.append_block(waiting.pop(0))
                taken += 1
            elif step == "flush":
                store.flush()
                safe = max(safe, taken)
            elif step == "ahead":
                store.keep_ahead(join_blocks(waiting))
                safe = came
        kill(store)
        found = stored(folder)
        assert found == list(range(1, len(found) + 1))
        assert len(found) >= safe
