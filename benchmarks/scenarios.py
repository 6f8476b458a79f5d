"""Simulated drives through the product's spine against their truth: 20 seeds of each scenario, two processes.

Recall and precision are of confirmed moderate and severe events (docs/sources.md D5, ±1 s); the goal is 0.95 each. The
simulator's truth is the limit: an event whose peak lies within 8 % of a threshold may be called either way.
"""

import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from math import isnan
from multiprocessing import get_context
from statistics import median

import numpy as np

from agent.clock import NS_PER_S
from sim.drive import Drive, simulate
from sim.scenario import SCENARIOS
from sim.score import Said, Score, score

SEEDS = 20
WORKERS = 2
HARSH = ("harsh_braking", "harsh_acceleration", "harsh_cornering")
NOT_DRIVING = ("device_moved", "bump", "parked_impact")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the product made of one drive."""

    scenario: str
    seed: int
    scores: dict[str, Score]
    km: float
    distance_error: float  # share of the true distance
    trips: tuple[int, int]  # true, said
    gravity_deg: float  # nan: no mount was learned
    forward_deg: float
    box_moved: tuple[int, int]  # true, said


def run(name: str, seed: int) -> Outcome:
    """Drive once, feed the frames to the product, compare."""
    drive = simulate(name, seed)
    said, trips, mount = product(drive)
    scores = score(drive.events, [s for s in said if s.kind not in NOT_DRIVING])
    true_m = float(drive.motion.distance[-1])
    true_mount = drive.mounts[-1][1]
    return Outcome(
        scenario=name,
        seed=seed,
        scores=scores,
        km=true_m / 1000.0,
        distance_error=sum(t[2] for t in trips) / true_m - 1.0,
        trips=(len(drive.truth()["trips"]), len(trips)),
        gravity_deg=_angle(mount[0], true_mount[:, 2]) if mount else float("nan"),
        forward_deg=_angle(mount[1], true_mount[:, 0]) if mount else float("nan"),
        box_moved=(len(drive.mounts) - 1, sum(s.kind == "device_moved" for s in said)),
    )


def product(
    drive: Drive,
) -> tuple[list[Said], list[tuple[float, float, float]], tuple[tuple[float, ...], tuple[float, ...]] | None]:
    """Run fusion, detection and trips: events, trips (start s, end s, m), and the mount's gravity and forward."""
    from agent.detect.settings import DetectionSettings
    from agent.fuse.settings import FusionSettings
    from agent.spine import Spine
    from agent.trips import TripSettings

    spine = Spine(FusionSettings(), DetectionSettings(), TripSettings())
    events, trips = [], []
    for block in drive.blocks():
        output = spine.step(block)
        events += output.events
        trips += output.trips
    output = spine.finish()
    events += output.events
    trips += output.trips
    said = [Said(e.kind, e.severity, e.confirmed, e.t_ns / NS_PER_S, e.duration_ns / NS_PER_S, e.peak) for e in events]
    mount = (spine.mount.gravity, spine.mount.forward) if spine.mount else None
    return said, [(t.start_ns / NS_PER_S, t.end_ns / NS_PER_S, t.distance_m) for t in trips], mount


def _angle(one: Iterable[float], two: Iterable[float]) -> float:
    a, b = np.array(list(one)), np.array(list(two))
    return float(np.degrees(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1.0, 1.0))))


def run_all(names: Iterable[str], seeds: Iterable[int]) -> list[Outcome]:
    """Run every scenario with every seed."""
    jobs = [(name, seed) for name in names for seed in seeds]
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        return list(pool.map(run, *zip(*jobs, strict=True)))


def _sum(scores: Iterable[Score]) -> Score:
    total = Score()
    for one in scores:
        total.add(one)
    return total


def _share(value: float) -> str:
    return f"{value:6.3f}" if not isnan(value) else "     -"


def report(outcomes: list[Outcome]) -> None:
    """Print what was found, by scenario and by kind."""
    print(f"{len(outcomes)} drives, {sum(o.km for o in outcomes):,.0f} km; moderate and severe, confirmed")
    print(f"{'scenario':<15} {'due':>5} {'recall':>6} {'said':>5} {'precis':>6}   distance error   mount error, deg")
    print(f"{'':<42}   median    worst   gravity forward  none")
    for name in dict.fromkeys(o.scenario for o in outcomes):
        mine = [o for o in outcomes if o.scenario == name]
        total = _sum(s for o in mine for k, s in o.scores.items())
        errors = [o.distance_error for o in mine]
        gravity = [o.gravity_deg for o in mine if not isnan(o.gravity_deg)]
        forward = [o.forward_deg for o in mine if not isnan(o.forward_deg)]
        print(
            f"{name:<15} {total.due:>5} {_share(total.recall)} {total.claimed:>5} {_share(total.precision)}  "
            f"{100 * median(errors):>+7.2f}% {100 * max(errors, key=abs):>+7.2f}%  "
            f"{median(gravity or [float('nan')]):>7.1f} {median(forward or [float('nan')]):>7.1f} "
            f"{len(mine) - len(gravity):>5}"
        )
    km = sum(o.km for o in outcomes)
    print(
        f"\n{'kind':<19} {'due':>5} {'recall':>6} {'said':>5} {'precis':>6} {'sever.':>6} {'peak':>6} {'start':>6}",
        end="",
    )
    print("   false per 1,000 km: moderate+  minor  unconfirmed")
    for kind in sorted({k for o in outcomes for k in o.scores}, key=lambda k: (k not in HARSH, k)):
        s = _sum(o.scores[kind] for o in outcomes if kind in o.scores)
        pairs = max(s.pairs, 1)
        print(
            f"{kind:<19} {s.due:>5} {_share(s.recall)} {s.claimed:>5} {_share(s.precision)} "
            f"{_share(s.severity_right / s.pairs if s.pairs else float('nan'))} "
            f"{s.peak_error / pairs:>6.2f} {s.time_error_s / pairs:>5.2f}s   "
            f"{'':<19} {1000 * (s.claimed - s.right) / km:>8.1f} {1000 * s.minor_false / km:>6.1f} "
            f"{1000 * s.unconfirmed_false / km:>12.1f}"
        )
    wrong_trips = [o for o in outcomes if o.trips[0] != o.trips[1]]
    moved = [o for o in outcomes if o.box_moved[0]]
    print(f"\ntrips counted wrong in {len(wrong_trips)} of {len(outcomes)} drives", end="; ")
    print(f"box moved: said in {sum(o.box_moved[1] > 0 for o in moved)} of {len(moved)} drives, ", end="")
    print(f"and in {sum(o.box_moved[1] > 0 for o in outcomes if not o.box_moved[0])} where it was not")


def main() -> None:
    """Run all scenarios and print the tables."""
    report(run_all(SCENARIOS, range(1, SEEDS + 1)))
    sys.stdout.flush()
