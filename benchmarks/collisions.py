"""Simulated collisions and rough roads through the product's spine against their truth, two processes.

Every kind of collision with every seed, mounts at random, accelerometers of ±8 and ±16 g at 100 to 400 Hz; and drives
with holes, kerbs, slammed doors and knocks against a loose box, in which nothing collides. The simulator's authors
wrote the detector too: recordings that nobody here made are the judge (tests/test_crash_recordings.py).
"""

from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from math import hypot
from multiprocessing import get_context
from statistics import median
from typing import Any

from agent.clock import NS_PER_S
from agent.records import Crash, Event
from sim.crash import KINDS
from sim.drive import Drive, simulate

SEEDS = 20
ROUGH_SEEDS, ROUGH_MINUTES = 40, 60.0
WORKERS = 2
NEAR_S = 1.0
TRIGGER_MPS = 8 / 3.6  # below it there is nothing to find


@dataclass(slots=True)
class Outcome:
    """What the product made of one drive."""

    scenario: str
    seed: int
    km: float
    due: int = 0
    found: list[dict[str, Any]] = field(default_factory=list)  # of each that was found: its errors
    missed: list[dict[str, Any]] = field(default_factory=list)
    false: list[dict[str, Any]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)


def run(name: str, seed: int, minutes: float | None) -> Outcome:
    """Drive once, feed the frames to the product, compare."""
    drive = simulate(name, seed, minutes)
    crashes, events = product(drive)
    true = [c for c in drive.truth()["crashes"] if c["kind"] != "parked_hit"]
    outcome = Outcome(name, seed, float(drive.motion.distance[-1]) / 1000, events=[e.kind for e in events])
    zero = drive.first_frame_s
    ended = [c for c in crashes if c.complete]
    left = list(ended)
    for hit in true:
        sure = hit["delta_v_mps"] >= 1.1 * TRIGGER_MPS or hit["kind"] == "rollover"
        outcome.due += sure
        near = [c for c in left if abs(c.t_ns / NS_PER_S - zero - hit["t_s"]) <= NEAR_S + 3.0 * (c.kind == "rollover")]
        if not near:
            if sure:
                outcome.missed.append(hit)
            continue
        best = near[0]
        left = [c for c in left if c not in near]
        early = next((c for c in crashes if c.id == best.id), best)
        outcome.found.append(
            {
                "kind": best.kind,
                "zero_ms": (best.t_ns / NS_PER_S - zero - hit["t_s"]) * 1e3,
                "known_ms": (early.known_ns / NS_PER_S - zero - hit["t_s"]) * 1e3,
                "change": (best.delta_v_mps or 0.0) / hit["delta_v_mps"],
                "clipped": best.clipped,
                "hours": _hours(best.direction_clock, hit["direction_clock"]),
                "speed": (best.speed_before_mps or 0.0) - hit["speed_before_mps"],
                "size": hypot(hit["delta_v_longitudinal_mps"], hit["delta_v_lateral_mps"]),
            }
        )
    outcome.false = [{"t_s": c.t_ns / NS_PER_S, "kind": c.kind, "delta_v": c.delta_v_mps} for c in left]
    return outcome


def product(drive: Drive) -> tuple[list[Crash], list[Event]]:
    """Run fusion, crash detection, detection and trips; return what they found."""
    from agent.detect.settings import DetectionSettings
    from agent.fuse.settings import FusionSettings
    from agent.spine import Spine
    from agent.trips import TripSettings

    spine = Spine(FusionSettings(), DetectionSettings(), TripSettings(), boot="benchmark")
    outputs = [spine.step(block) for block in drive.blocks()] + [spine.finish()]
    return [c for o in outputs for c in o.crashes], [e for o in outputs for e in o.events]


def _hours(said: int | None, true: int) -> int | None:
    return None if said is None else min((said - true) % 12, (true - said) % 12)


def run_all(names: Iterable[str], seeds: Iterable[int], minutes: float | None = None) -> list[Outcome]:
    """Run every scenario with every seed."""
    jobs = [(name, seed, minutes) for name in names for seed in seeds]
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        return list(pool.map(run, *zip(*jobs, strict=True)))


def main() -> None:
    """Print recall and errors by kind, then false alarms on rough roads."""
    hit = run_all(KINDS, range(1, SEEDS + 1))
    print(f"{len(hit)} drives that end in a collision")
    print(
        f"{'kind':<15} {'due':>4} {'found':>6} {'false':>6}  {'zero, ms':>14} {'known':>7}"
        f" {'change of velocity':>20} {'clock':>6}"
    )
    for name in KINDS:
        mine = [o for o in hit if o.scenario == name]
        found = [f for o in mine for f in o.found]
        whole = [f["change"] for f in found if not f["clipped"] and f["kind"] == "impact"]
        hours = [f["hours"] for f in found if f["hours"] is not None and f["kind"] == "impact"]
        print(
            f"{name:<15} {sum(o.due for o in mine):>4} {len(found):>6} {sum(len(o.false) for o in mine):>6}"
            f"  {_spread([f['zero_ms'] for f in found]):>14} {_middle([f['known_ms'] for f in found]):>7}"
            f" {_spread([100 * (c - 1) for c in whole]):>17} % {sum(h <= 1 for h in hours):>3}/{len(hours)}"
        )
        for o in mine:
            for what, those in (("missed", o.missed), ("false", o.false)):
                for one in those:
                    print(f"    seed {o.seed} {what}: {one}")
    parked = [o for o in hit if o.scenario == "parked-hit"]
    print(f"parked car hit: told in {sum('parked_impact' in o.events for o in parked)} of {len(parked)}")
    rough = run_all(["rough-road"], range(1, ROUGH_SEEDS + 1), ROUGH_MINUTES)
    km = sum(o.km for o in rough)
    bumps = sum(o.events.count("bump") for o in rough)
    print(f"{len(rough)} rough drives, {km:,.0f} km: {sum(len(o.false) for o in rough)} crashes, {bumps} bumps")
    for o in rough:
        for one in o.false:
            print(f"    seed {o.seed} false: {one}")


def _middle(values: list[float]) -> str:
    return f"{median(values):.0f}" if values else "-"


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    return f"{median(values):+.0f} ({min(values):+.0f} … {max(values):+.0f})"
