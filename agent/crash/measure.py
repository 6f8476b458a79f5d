"""What the rings say of one collision: time zero, velocity change, direction, shape; plain numpy, once per event."""

from dataclasses import dataclass
from math import acos, atan2, degrees, pi, sin
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agent.crash import stream as on
from agent.crash.settings import CrashSettings
from agent.crash.stream import KMH, G
from agent.records import Mount
from agent.vectors import Floats, along, dot, length, unit

CURVE_STEP_MS: Final = 10  # 49 CFR 563.7: 100 samples a second, for 250 ms
CURVE_MS: Final = 250
TAIL_NS: Final = 30_000_000  # the record ends 30 ms after the event
LEAST_MEAN_G: Final = 0.3  # less says nothing of where up is
ONE_WAY: Final = 0.6  # of a pulse's pushes add up in one direction, or it is none
QUIET_G: Final = 0.5  # horizontal acceleration below which contact has not begun
WALK_NS: Final = 40_000_000
BASE_NS: Final = 200_000_000  # what the brakes gave before: mean over so long
SLACK_NS: Final = 500_000
SEATED_COS: Final = float(
    np.cos(np.radians(20.0))
)  # gravity within so much of the learned mount: the box still sits so


@dataclass(frozen=True, slots=True)
class Trace:
    """The accelerometer around one collision in a level frame: two horizontal axes and the vertical.

    With a known mount the axes are forward and left (ISO 8855); else they are any two, and only sizes mean something.
    """

    t: npt.NDArray[np.int64]  # ns
    v: Floats  # [n, 2] m/s
    a: Floats  # [n, 2] m/s²
    up: Floats  # [n] m/s², without gravity
    railed: npt.NDArray[np.bool_]
    oriented: bool


@dataclass(frozen=True, slots=True)
class Measure:
    """Velocity change from time zero; None where the mount is not known."""

    longitudinal_mps: float | None
    lateral_mps: float | None
    resultant_mps: float
    max_ns: int
    direction_deg: float | None
    peak_mps2: float
    clipped: bool
    locked: bool
    longitudinal_cmps: list[int]
    lateral_cmps: list[int]


def trace(
    ring: Floats, times: npt.NDArray[np.int64], s: Any, gravity: Floats, mount: Mount | None, since_ns: int
) -> Trace:
    """Cut the ring from `since_ns` on and turn it level; `gravity` float64[3] as before the event."""
    head = int(s["head"])
    count = min(head, on.RING)
    order = np.arange(head - count, head) % on.RING
    order = order[times[order] >= since_ns]
    up = unit(gravity)
    oriented = mount is not None and dot(up, unit(mount.gravity)) >= SEATED_COS
    if oriented and mount is not None:
        ahead = np.asarray(mount.forward, np.float64)
    else:
        ahead = np.eye(3)[int(np.argmin(np.abs(up)))]
    ahead = unit(ahead - up * dot(ahead, up))
    left = np.cross(up, ahead)
    rows = ring[order]
    accel = rows[:, on.AX : on.AZ + 1]
    return Trace(
        times[order].copy(),
        along(rows[:, on.VX : on.VZ + 1], ahead, left),
        along(accel, ahead, left),
        along(accel, up),
        rows[:, on.RAILED] > 0.5,
        oriented,
    )


def time_zero(of: Trace, known_ns: int, floor_ns: int, settings: CrashSettings) -> int:
    """Find time zero of the collision whose threshold was reached at `known_ns`.

    0.8 km/h in 20 ms lengthwise or in 5 ms sideways (49 CFR 563.5), or in 20 ms horizontally, whichever comes first:
    a slow push from the side reaches neither of the first two near its beginning. From there it goes back to where the
    push began. A steady push before, the brakes', is taken off first.
    """
    onset = settings.onset_kmh * KMH
    wide_ns = round(settings.onset_longitudinal_ms * 1e6)
    start_ns = max(known_ns - round(settings.trigger_ms * 1e6) - wide_ns, floor_ns)
    first = int(np.searchsorted(of.t, start_ns))
    last = int(np.searchsorted(of.t, known_ns, "right"))
    t = of.t[first:last]
    if len(t) < 2:
        return known_ns
    base = _steady(of, first)
    seconds = (t - t[0]) * 1e-9
    v = of.v[first:last] - seconds[:, None] * base
    narrow_ns = max(round(settings.onset_lateral_ms * 1e6), int(np.median(np.diff(t))))
    ways = [(v, wide_ns)] + ([(v[:, :1], wide_ns), (v[:, 1:2], narrow_ns)] if of.oriented else [])
    fired = [at for part, window_ns in ways if (at := _reached(t, part, window_ns, onset)) is not None]
    j = min(fired, default=len(t) - 1)
    push = np.hypot(*(of.a[first:last] - base).T)
    oldest = t[j] - WALK_NS
    while j > 0 and t[j - 1] >= oldest and push[j] >= QUIET_G * G:
        j -= 1
    # Contact lies between this sample and the next: there where the rise that follows comes from zero.
    if j + 2 < len(t) and push[j + 2] > push[j + 1]:
        rise = (push[j + 2] - push[j + 1]) / float(t[j + 2] - t[j + 1])
        return int(min(max(t[j + 1] - push[j + 1] / rise, t[j]), t[j + 1]))
    return int(t[j])


def _steady(of: Trace, first: int) -> Floats:
    """Return the mean push just before sample `first`, where it is one that tyres can give, else none."""
    if first < 2:
        return np.zeros(2)
    begin = int(np.searchsorted(of.t, of.t[first] - BASE_NS))
    span = (of.t[first] - of.t[begin]) * 1e-9
    if span < 0.5e-9 * BASE_NS:
        return np.zeros(2)
    base = (of.v[first] - of.v[begin]) / span
    return np.asarray(base if QUIET_G * G <= np.hypot(*base) <= 1.5 * G else np.zeros(2))


def _reached(t: npt.NDArray[np.int64], v: Floats, window_ns: int, onset: float) -> int | None:
    """Return the first sample at which `v` has changed by more than `onset` within `window_ns`."""
    for i in range(len(t) - 1):
        end = int(np.searchsorted(t, t[i] + window_ns + SLACK_NS, "right"))
        over = np.flatnonzero(
            np.hypot(*(v[i:end] - v[i]).T if v.shape[1] == 2 else (v[i:end, 0] - v[i, 0], 0.0)) > onset
        )
        if len(over):
            return i + int(over[0])
    return None


def measure(of: Trace, zero_ns: int, settings: CrashSettings) -> Measure:
    """Measure a collision from time zero to 300 ms, or to 30 ms after its end if that is sooner (49 CFR 563.7)."""
    first = _from(of, zero_ns)
    last = _ended(of, first, settings)
    t = np.maximum(of.t[first:last] - zero_ns, 0)
    change = of.v[first:last] - of.v[first]
    size = np.hypot(*change.T)
    most = int(np.argmax(size))
    n = int(min(CURVE_MS, t[-1] / 1e6) // CURVE_STEP_MS) + 1
    grid = np.arange(n) * CURVE_STEP_MS * 1_000_000
    direction = None
    if of.oriented:
        direction = degrees(atan2(float(change[most, 1]), -float(change[most, 0]))) % 360.0
    curves = [change[:, 0], change[:, 1]] if of.oriented else [size]
    listed = [np.rint(np.interp(grid, t, curve) * 100.0).astype(int).tolist() for curve in curves]
    return Measure(
        longitudinal_mps=_extreme(change[:, 0]) if of.oriented else None,
        lateral_mps=_extreme(change[:, 1]) if of.oriented else None,
        resultant_mps=float(size[most]),
        max_ns=int(t[most]),
        direction_deg=direction,
        peak_mps2=float(np.max(np.hypot(*of.a[first:last].T))),
        clipped=bool(of.railed[first:last].any()),
        locked=_fastest(t, change, round(settings.trigger_ms * 1e6)) >= settings.lock_kmh * KMH,
        longitudinal_cmps=listed[0],
        lateral_cmps=listed[1] if of.oriented else [],
    )


def _from(of: Trace, zero_ns: int) -> int:
    """Return the last sample at or before time zero."""
    return max(int(np.searchsorted(of.t, zero_ns, "right")) - 1, 0)


def _ended(of: Trace, first: int, settings: CrashSettings) -> int:
    """Return the sample behind the last one of the event that begins at `first`."""
    onset, wide_ns = settings.onset_kmh * KMH, round(settings.onset_longitudinal_ms * 1e6)
    limit = of.t[first] + round(settings.measure_ms * 1e6)
    last_active = of.t[first] + wide_ns
    for k in range(first + 1, len(of.t)):
        if of.t[k] > limit or of.t[k] > last_active + TAIL_NS:
            return max(k, first + 2)
        back = int(np.searchsorted(of.t, of.t[k] - wide_ns - SLACK_NS))
        if np.hypot(*(of.v[k] - of.v[min(back, k - 1)])) > onset:
            last_active = max(last_active, of.t[k])
    return len(of.t)


def _fastest(t: npt.NDArray[np.int64], change: Floats, window_ns: int) -> float:
    """Return the largest change of velocity between two samples no farther apart than `window_ns`."""
    most = 0.0
    for i in range(len(t)):
        end = int(np.searchsorted(t, t[i] + window_ns, "right"))
        most = max(most, float(np.hypot(*(change[i:end] - change[i]).T).max()))
    return most


def _extreme(values: Floats) -> float:
    return float(values[int(np.argmax(np.abs(values)))])


def early_share(of: Trace, zero_ns: int, early_ns: int) -> float:
    """Return which share of the velocity change so far had come `early_ns` after time zero: 1 for a knock."""
    first = _from(of, zero_ns)
    size = np.hypot(*(of.v[first:] - of.v[first]).T)
    until = int(np.searchsorted(of.t[first:], of.t[first] + early_ns, "right"))
    most = float(size.max())
    return float(size[:until].max()) / most if most > 0.0 else 1.0


def swung_back(of: Trace, zero_ns: int, settings: CrashSettings) -> bool:
    """Say whether the velocity came back soon, pushed harder than tyres push: what a hand does, not a road."""
    first = _from(of, zero_ns)
    change = of.v[first:] - of.v[first]
    size = np.hypot(*change.T)
    most = int(np.argmax(size))
    if size[most] == 0.0:
        return False
    way = change[most] / size[most]
    reached = change[:, 0] * way[0] + change[:, 1] * way[1]
    back = float(reached[most:].min())
    wide_ns = round(settings.onset_longitudinal_ms * 1e6)
    t = of.t[first:]
    hardest = 0.0
    for k in range(most + 1, len(t)):
        j = int(np.searchsorted(t, t[k] - wide_ns - SLACK_NS))
        if j >= most:
            hardest = max(hardest, float(reached[j] - reached[k]))
    return back <= 0.35 * float(size[most]) and hardest > settings.onset_kmh * KMH


def pushed(of: Trace, from_ns: int, to_ns: int, settings: CrashSettings) -> bool:
    """Say whether the box was pushed harder than tyres push between two times."""
    first, last = (int(np.searchsorted(of.t, x)) for x in (from_ns, to_ns))
    wide_ns = round(settings.onset_longitudinal_ms * 1e6)
    for k in range(first + 1, last):
        j = int(np.searchsorted(of.t, of.t[k] - wide_ns - SLACK_NS))
        if np.hypot(*(of.v[k] - of.v[min(j, k - 1)])) > settings.onset_kmh * KMH:
            return True
    return False


def full_pulse(of: Trace, begin_ns: int, end_ns: int) -> tuple[float, float]:
    """Estimate what a clipped pulse was, as a half-sine of its width and time at the rail: m/s, and its width in s."""
    first, last = (int(np.searchsorted(of.t, x)) for x in (begin_ns, end_ns))
    last = min(last + 1, len(of.t))
    if last - first < 3:
        return 0.0, 0.0
    push = np.hypot(*of.a[first:last].T)
    period = float(np.median(np.diff(of.t[first:last]))) * 1e-9
    if np.hypot(*(of.v[last - 1] - of.v[first])) < ONE_WAY * float(push.sum()) * period:
        return 0.0, 0.0  # to and fro: a rattle
    width = float((push >= QUIET_G * G).sum()) * period
    railed = of.railed[first:last]
    runs = int((np.diff(railed.astype(np.int8), prepend=0) > 0).sum())
    dwell = (float(railed.sum()) + (on.RAIL_SAMPLES - 1) * runs) * period  # the first of a run were not known for it
    rail = float(np.median(push[railed])) if runs else 0.0
    if width <= 0.0 or dwell <= 0.0:
        return 0.0, width
    peak = rail / max(sin(pi * max(width - dwell, 0.0) / (2.0 * width)), 0.2)
    return 2.0 * peak * width / pi, width


def reads_upright(mean: Floats, home: Floats, within_deg: float) -> bool:
    """Say whether the accelerometer's own mean float64[3] points where it usually does, a unit vector.

    Gyroscopes that are shaken hard lose the way; a car that lies on its side for a second shows gravity there.
    """
    size = length(mean)
    if size < LEAST_MEAN_G * G:
        return False
    return degrees(acos(min(1.0, max(-1.0, dot(mean, home) / size)))) < within_deg
