"""The tables of a record, cut from the rings: pure functions of the samples around time zero.

Only samples inside the windows count, so that the tables do not depend on when they are cut, once all is there.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from agent.blocks import Block
from agent.channels import BY_NUMBER
from agent.clock import NS_PER_S
from agent.incident.fields import BEFORE, FLAGS, FUSED, IMU, TRACK, Column
from agent.incident.folder import Part
from agent.incident.rings import Rings

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]

STEP_NS: Final = NS_PER_S // 10  # 49 CFR 563 as amended 2024: 20 s at 10 Hz
BEFORE_STEPS: Final = 200
IMU_NS: Final = 5 * NS_PER_S  # both sides: UN R160 records -1…+5 s for a rollover
TRACK_BEFORE_S: Final = 60  # docs/sources.md C8: Digital Matter uploads 60 s before and 10 s after
TRACK_AFTER_S: Final = 10
AFTER_NS: Final = TRACK_AFTER_S * NS_PER_S  # end of the longest window
BACK_NS: Final = (TRACK_BEFORE_S + 5) * NS_PER_S  # what lies further back is in no table

# How long a value holds, by who says it: fusion's own limits (config/agent.toml, [fusion] *_fresh_s)
_FRESH_S: Final = {"Vehicle": 1.0, "Wheel": 1.0, "Obd": 4.0, "Gnss": 3.2, "Power": 4.0}
_FIX_NS: Final = NS_PER_S  # what belongs to a fix comes with it or within its second


class Table(NamedTuple):
    """One file's text, and what `crash.json` says of it."""

    data: bytes
    part: Part


class Cut(NamedTuple):
    """All that the rings hold of one crash."""

    tables: list[Table]
    reached_ns: int | None  # last sample in them
    gaps_s: list[tuple[float, float]]
    flags_s: dict[str, float | None]


def cut(rings: Rings, t0_ns: int, next_ns: int | None = None) -> Cut:
    """Return what lies around time zero as far as samples are there.

    `next_ns` is the first sample after those that the rings have taken, where it is known.
    """
    return Cut(
        tables=[before(rings, t0_ns), imu(rings, t0_ns), track(rings, t0_ns)],
        reached_ns=None if rings.newest_ns is None else min(rings.newest_ns, t0_ns + AFTER_NS),
        gaps_s=gaps_s(rings, t0_ns, next_ns),
        flags_s=flags_s(rings, t0_ns),
    )


def flags_s(rings: Rings, t0_ns: int) -> dict[str, float | None]:
    """Return when each flag of the car was first seen set, seconds from time zero; None where it was not."""
    near = rings.car.between(t0_ns - NS_PER_S, t0_ns + AFTER_NS)
    found: dict[str, float | None] = {}
    for flag in FLAGS:
        set_at = near["t"][np.isin(near["channel"], flag.numbers) & (near["value"] >= 0.5)]
        found[flag.name] = round(float(set_at[0] - t0_ns) / NS_PER_S, flag.digits) if len(set_at) else None
    return found


def gaps_s(rings: Rings, t0_ns: int, next_ns: int | None) -> list[tuple[float, float]]:
    """Return the silences of all channels that touch the windows, seconds from time zero."""
    start_ns, end_ns = t0_ns - TRACK_BEFORE_S * NS_PER_S, t0_ns + AFTER_NS
    last = [] if next_ns is None else rings.silence_until(next_ns)
    touching = [gap for gap in [*rings.gaps, *last] if gap[1] > start_ns and gap[0] < end_ns]
    return [(round((a - t0_ns) / NS_PER_S, 3), round((b - t0_ns) / NS_PER_S, 3)) for a, b in touching]


def before(rings: Rings, t0_ns: int) -> Table:
    """Return before.csv: 201 rows, the newest value of every element at each tenth of a second."""
    grid = t0_ns + np.arange(-BEFORE_STEPS, 1) * STEP_NS
    start_ns = int(grid[0]) - round(max(_FRESH_S.values()) * NS_PER_S)
    # a ring is long and this is looked at once for each column: what lies outside the window goes first
    near = {id(ring): ring.between(start_ns, t0_ns) for ring in (rings.car, rings.place)}
    columns: list[Floats] = []
    sources: list[str] = []
    for column in BEFORE:
        fused = column.channels == (FUSED,)
        values, source = (_fused(rings, grid), FUSED) if fused else _newest(rings, near, column, grid)
        columns.append(values)
        sources.append(source if np.isfinite(values).any() else "")
    return _table("before.csv", BEFORE, np.arange(-BEFORE_STEPS, 1) / 10.0, 1, columns, sources)


def imu(rings: Rings, t0_ns: int) -> Table:
    """Return imu.csv: one row for every time at which the inertial sensor spoke."""
    found = rings.imu.between(t0_ns - IMU_NS, t0_ns + IMU_NS)
    (said,) = IMU[-1].numbers
    times, row = np.unique(found["t"][found["channel"] != said], return_inverse=True)
    columns: list[Floats] = []
    sources: list[str] = []
    axes = found[found["channel"] != said]
    for column in IMU[:-1]:
        values = np.full(len(times), np.nan)
        chosen = axes["channel"] == column.numbers[0]
        values[row[chosen]] = axes["value"][chosen]
        columns.append(values)
        sources.append(column.channels[0] if chosen.any() else "")
    columns.append(_clipped(found[found["channel"] == said], times))
    sources.append(IMU[-1].channels[0] if (found["channel"] == said).any() else "")
    return _table("imu.csv", IMU, (times - t0_ns) / NS_PER_S, 4, columns, sources)


def track(rings: Rings, t0_ns: int) -> Table:
    """Return track.csv: the newest fix of every second, at its own time."""
    start_ns, end_ns = t0_ns - TRACK_BEFORE_S * NS_PER_S, t0_ns + AFTER_NS
    found = rings.place.between(start_ns - _FIX_NS + 1, end_ns)
    which = next((i for i, n in enumerate(TRACK[0].numbers) if (found["channel"] == n).any()), 0)
    fixes = found["t"][found["channel"] == TRACK[0].numbers[which]]
    seconds = np.arange(-TRACK_BEFORE_S, TRACK_AFTER_S + 1) * NS_PER_S + t0_ns
    at = np.searchsorted(fixes, seconds, side="right") - 1
    fresh = (at >= 0) & (seconds - fixes[np.maximum(at, 0)] < NS_PER_S) if len(fixes) else np.zeros(len(at), bool)
    times = fixes[at[fresh]]
    columns: list[Floats] = []
    sources: list[str] = []
    for column in TRACK:
        name = column.channels[min(which, len(column.channels) - 1)]
        number = column.numbers[min(which, len(column.channels) - 1)]
        values = _held(found[found["channel"] == number], times, _FIX_NS)
        columns.append(values)
        sources.append(name if np.isfinite(values).any() else "")
    return _table("track.csv", TRACK, (times - t0_ns) / NS_PER_S, 3, columns, sources)


def _newest(rings: Rings, near: dict[int, Block], column: Column, grid: Times) -> tuple[Floats, str]:
    """Return a column's values by the first of its channels that says anything, and that channel."""
    values = np.full(len(grid), np.nan)
    for number in column.numbers:
        name = BY_NUMBER[number].name
        fresh_ns = round(_FRESH_S[name.split(".")[0]] * NS_PER_S)
        found = near[id(rings.ring_of(number))]
        values = _held(found[found["channel"] == number], grid, fresh_ns)
        if np.isfinite(values).any():
            return values, name
    return values, ""


def _held(samples: Block, times: Times, fresh_ns: int) -> Floats:
    """Return the newest value at each time, NaN where it is older than `fresh_ns`."""
    samples = samples[np.isfinite(samples["value"])]
    if not len(samples):
        return np.full(len(times), np.nan)
    at = np.searchsorted(samples["t"], times, side="right") - 1
    held = samples["value"][np.maximum(at, 0)]
    return np.where((at >= 0) & (times - samples["t"][np.maximum(at, 0)] <= fresh_ns), held, np.nan)


def _fused(rings: Rings, grid: Times) -> Floats:
    """Return the fused speed at each time, between its rows."""
    rows = rings.rows.between(int(grid[0]) - STEP_NS, int(grid[-1]) + STEP_NS)
    if len(rows) < 2:
        return np.full(len(grid), np.nan)
    at = np.clip(np.searchsorted(rows["t"], grid, side="right") - 1, 0, len(rows) - 2)
    before_t, after_t = rows["t"][at], rows["t"][at + 1]
    share = (grid - before_t) / np.maximum(after_t - before_t, 1)
    inside = (grid >= before_t) & (grid <= after_t) & (after_t - before_t <= STEP_NS)
    return np.where(inside, rows["speed"][at] * (1.0 - share) + rows["speed"][at + 1] * share, np.nan)


def _clipped(said: Block, times: Times) -> Floats:
    """Return how many axes were at their rails; it is said when it changes, and nothing was clipped before that."""
    if not len(said):
        return np.full(len(times), np.nan)
    at = np.searchsorted(said["t"], times, side="right") - 1
    return np.where(at >= 0, said["value"][np.maximum(at, 0)], 0.0)


def _table(
    file: str, table: tuple[Column, ...], t_s: Floats, t_digits: int, columns: list[Floats], sources: list[str]
) -> Table:
    rounded = [np.round(t_s, t_digits) + 0.0]  # + 0.0: no minus zero
    rounded += [np.round(values, c.digits) + 0.0 for c, values in zip(table, columns, strict=True)]
    line = ",".join([f"%.{t_digits}f", *(f"%.{c.digits}f" for c in table)])
    rows = zip(*(values.tolist() for values in rounded), strict=True)
    text = "\n".join([",".join(["t_s", *(c.name for c in table)]), *map(line.__mod__, rows), ""])
    part = Part(
        file=file,
        rows=len(t_s),
        first_s=float(rounded[0][0]) if len(t_s) else None,
        last_s=float(rounded[0][-1]) if len(t_s) else None,
        units={"t_s": "s", **{c.name: c.unit for c in table}},
        sources={c.name: source for c, source in zip(table, sources, strict=True)},
    )
    return Table(text.replace("nan", "").encode(), part)
