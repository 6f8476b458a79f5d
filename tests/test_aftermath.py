"""What a collision does to the car costs nobody points; what the driver did before it stays."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from agent.aftermath import WAIT_NS, Aftermath
from agent.blocks import Block, join_blocks
from agent.records import Crash, Event, Trip
from agent.settings import AgentConfig
from agent.spine import Spine
from sim.drive import simulate
from tests.crashing import BOOT, S, crash_at, pieces

HARSH = ("harsh_braking", "harsh_acceleration", "harsh_cornering")


@cache
def samples(name: str, seed: int) -> tuple[Block, float]:
    drive = simulate(name, seed, 5.0)
    return join_blocks(list(drive.blocks())), drive.collisions[0].t_s


def walked(blocks: list[Block]) -> tuple[list[Event], list[Crash], list[Trip]]:
    s = AgentConfig()
    spine = Spine(s.fusion, s.detection, s.trips, crash=s.crash, boot=BOOT)
    outputs = [*map(spine.step, blocks), spine.finish()]
    events = [e for o in outputs for e in o.events if e.kind in HARSH]
    return events, [c for o in outputs for c in o.crashes], [t for o in outputs for t in o.trips]


@pytest.mark.parametrize(("name", "seed"), [("crash", 6), ("crash-rear", 6), ("crash-right", 2), ("crash-pair", 2)])
def test_harsh_events_of_the_collision_are_told_and_weigh_nothing(name: str, seed: int) -> None:
    block, zero_s = samples(name, seed)
    events, crashes, trips = walked([block])
    near = [e for e in events if -0.6 <= e.t_ns / S - zero_s <= 3.0]
    assert near
    ids = {c.id for c in crashes}
    for event in near:
        assert not event.confirmed
        assert event.detail.startswith("part of the collision ")
        assert event.detail.rsplit(" ", 1)[1] in ids
    others = [e for e in events if e not in near and abs(e.t_ns / S - zero_s) > 6]
    assert not any(e.detail for e in others)
    counted = sum(n for trip in trips for what, n in trip.event_counts.items() if what.startswith("harsh"))
    assert counted == len(events)
    unconfirmed = sum(n for t in trips for what, n in t.event_counts.items() if what.startswith("harsh_braking.un"))
    assert unconfirmed == sum(e.kind == "harsh_braking" and not e.confirmed for e in events)


def test_who_brakes_hard_before_the_collision_braked_hard() -> None:
    block, zero_s = samples("crash-oblique", 1)
    events, crashes, _ = walked([block])
    (braking,) = [e for e in events if e.kind == "harsh_braking" and -6 < e.t_ns / S - zero_s < 3]
    assert crashes
    assert braking.t_ns / S < zero_s - 0.6
    assert braking.confirmed
    assert not braking.detail


@pytest.mark.parametrize("step_s", [0.1, 1.7, 9.0])
def test_any_split_of_the_samples_gives_the_same_events_and_trips(step_s: float) -> None:
    block, zero_s = samples("crash-pair", 2)
    block = block[np.abs(block["t"] / S - zero_s) < 60]
    cuts = np.searchsorted(block["t"], np.arange(block["t"][0], block["t"][-1], round(step_s * S)))
    assert walked(pieces(block, cuts.tolist())) == walked([block])


def harsh(t_ns: int, **given: Any) -> Event:
    values: dict[str, Any] = {
        "kind": "harsh_braking",
        "severity": "severe",
        "confirmed": True,
        "t_ns": t_ns,
        "duration_ns": S,
        "peak": -8.0,
        "unit": "m/s2",
        "speed_before_mps": 10.0,
        "rule": "harsh_braking/1",
        "sources": ["imu"],
    }
    return Event(**(values | given))


@pytest.mark.parametrize(
    ("off_s", "made"), [(-0.61, False), (-0.6, True), (0.0, True), (3.0, True), (3.01, False), (8.0, False)]
)
def test_an_event_belongs_to_a_collision_from_0_6_s_before_to_3_s_after(off_s: float, made: bool) -> None:
    aftermath = Aftermath()
    event = harsh(100 * S + round(off_s * S))
    assert aftermath.step([event], event.t_ns + 2 * S) == []
    aftermath.crashed(crash_at(100 * S))  # it becomes known after the event was found
    (told,) = aftermath.step([], event.t_ns + WAIT_NS)
    detail = f"part of the collision {crash_at(100 * S).id}"
    assert told == (replace(event, confirmed=False, detail=detail) if made else event)


def test_what_a_collision_cannot_make_does_not_wait() -> None:
    idling = harsh(5 * S, kind="idling")
    assert Aftermath().step([idling], 5 * S) == [idling]


def test_the_end_of_a_drive_waits_for_nothing() -> None:
    aftermath = Aftermath()
    assert aftermath.step([harsh(5 * S)], 6 * S) == []
    assert aftermath.step([harsh(7 * S)], None) == [harsh(5 * S), harsh(7 * S)]


def test_what_an_earlier_life_told_counts_in_the_trip_and_is_not_told_again() -> None:
    block, _ = samples("crash-rear", 6)
    events, _, trips = walked([block])
    s = AgentConfig()
    spine = Spine(s.fusion, s.detection, s.trips, crash=s.crash, boot=BOOT, events=events[:-1])
    outputs = [spine.step(block), spine.finish()]
    assert [e for o in outputs for e in o.events if e.kind in HARSH] == events[-1:]
    assert [t.event_counts for o in outputs for t in o.trips] == [t.event_counts for t in trips]
