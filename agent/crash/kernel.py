"""The kernel of collisions: every sample of one boot in, notes out; it keeps the rings that a record is made from.

Accelerations are filtered as SAE J211 CFC 60 (causal, one pass; where the rate allows), freed of gravity, which is
followed by gyroscopes and by the last quiet second, and integrated by the trapezoid rule. A velocity change of 8 km/h
in 150 ms, horizontally and in any direction, is told at once. Inputs are rounded as the store rounds them, so that
what is found again after a power cut is what was found before it.
"""

from math import tan
from typing import Any, Final

import numba as nb
import numpy as np

from agent.blocks import BLOCK
from agent.crash import stream as on

_KERNEL: Final[dict[str, Any]] = {"cache": True, "nogil": True, "error_model": "numpy"}
_PART: Final[dict[str, Any]] = {"nogil": True, "error_model": "numpy"}  # compiled into the kernel, loaded with it


@nb.njit(**_PART)
def tell(notes: Any, n: Any, kind: Any, index: Any, t: Any, from_t: Any, to_t: Any, before: Any, after: Any) -> Any:
    """Write one note; return the number written."""
    note = notes[n]
    note.kind, note.index, note.t, note.from_t, note.to_t = kind, index, t, from_t, to_t
    note.before, note.after = before, after
    return n + 1


@nb.njit(**_PART)
def tune(s: Any) -> Any:
    """Work out the filter for the rate: J211-1 appendix C, or none where the rate is too low."""
    s.filter_period = s.period
    if s.period * on.FILTER_FROM_HZ > 1.0:
        s.b[0], s.b[1], s.b[2], s.a[0], s.a[1] = 1.0, 0.0, 0.0, 0.0, 0.0
        return
    w = tan(np.pi * on.DESIGN_HZ * s.period)
    c = 1.0 + np.sqrt(2.0) * w + w * w
    s.b[0] = w * w / c
    s.b[1] = 2.0 * s.b[0]
    s.b[2] = s.b[0]
    s.a[0] = -2.0 * (w * w - 1.0) / c
    s.a[1] = (-1.0 + np.sqrt(2.0) * w - w * w) / c


@nb.njit(**_PART)
def size_of(a: Any) -> Any:
    """Return the length of a vector."""
    return np.sqrt(a[0] * a[0] + a[1] * a[1] + a[2] * a[2])


@nb.njit(**_PART)
def level(x: Any, y: Any, z: Any, gravity: Any) -> Any:
    """Return the size of the part of a vector that is square to gravity."""
    g2 = gravity[0] * gravity[0] + gravity[1] * gravity[1] + gravity[2] * gravity[2]
    up = x * gravity[0] + y * gravity[1] + z * gravity[2]
    return np.sqrt(max(x * x + y * y + z * z - up * up / g2, 0.0))


@nb.njit(**_PART)
def restart(s: Any, t: Any) -> Any:
    """Begin anew after a gap: what was measured before it says nothing of now, but where up is."""
    for i in range(3):
        s.x1[i] = s.x2[i] = s.y1[i] = s.y2[i] = s.low[i] = s.axis[i]
        s.past[i] = s.v[i] = s.part_sum[i] = s.part_square[i] = s.part_turn[i] = 0.0
        s.same[i] = 0
    s.run = s.head = s.tail = s.quarters_n = s.open = s.over_told = s.pulse_railed = 0
    s.part_n = s.tilting = 0.0
    s.part_t = s.floor_t = t
    s.active_t = s.fall_from = s.pulse_t = s.leaning_from = s.over_from = on.NEVER_NS
    s.over_least = 1.0


@nb.njit(**_PART)
def at_rail(s: Any) -> Any:
    """Say whether an axis is at the end of its range: the driver says so, or the same value there again and again."""
    railed = s.clipped
    for i in range(3):
        size = abs(s.axis[i])
        share = size / on.G
        near = False
        for rail in on.RAILS_G:
            near |= abs(share - rail) <= on.RAIL_SHARE * rail
        s.same[i] = s.same[i] + 1 if near and s.axis[i] == s.x0[i] else (1 if near else 0)
        s.x0[i] = s.axis[i]
        if s.same[i] >= on.RAIL_SAMPLES:
            railed = 1
    return railed


@nb.njit(**_PART)
def quarter(s: Any, t: Any) -> Any:
    """Close a quarter second; four quiet ones in a row say where gravity is and what the gyroscopes read at rest."""
    quiet = s.part_n >= 8.0
    k = s.quarters_n % 4
    for i in range(3):
        mean = s.part_sum[i] / s.part_n
        if s.part_square[i] / s.part_n - mean * mean > on.QUIET_MPS2 * on.QUIET_MPS2:
            quiet = False
        s.quarters[k, i] = mean
        s.quarters[k, 3 + i] = s.part_turn[i] / s.part_n
        s.part_sum[i] = s.part_square[i] = s.part_turn[i] = 0.0
    s.part_t = t
    s.part_n = 0.0
    s.quarters_n = s.quarters_n + 1 if quiet else 0
    if s.quarters_n < 4:
        return
    mean = np.zeros(3)
    turn = np.zeros(3)
    for i in range(3):
        for q in range(4):
            mean[i] += 0.25 * s.quarters[q, i]
            turn[i] += 0.25 * s.quarters[q, 3 + i]
        for q in range(4):
            if abs(s.quarters[q, i] - mean[i]) > on.QUIET_MPS2 or abs(s.quarters[q, 3 + i] - turn[i]) > on.QUIET_RADPS:
                return
    if abs(size_of(mean) - on.G) > on.GRAVITY_ROOM or size_of(turn) > 0.2:
        return
    s.quiet_t = t
    up = size_of(mean)
    s.home_s = min(s.home_s + 0.25, on.HOME_TAU)
    for i in range(3):
        s.gravity[i] = mean[i]
        s.turn_bias[i] = turn[i]
        s.home[i] += (mean[i] / up - s.home[i]) * 0.25 / s.home_s
    size = size_of(s.home)
    if size > 0.0:
        for i in range(3):
            s.home[i] /= size


@nb.njit(**_PART)
def follow_gravity(s: Any, t: Any, dt: Any, busy: Any) -> Any:
    """Turn gravity with the box, and draw it to the low-passed reading while nothing pushes."""
    g = s.gravity
    s.gravity_n += 1.0
    if s.gravity_n == 1.0:
        g[:] = s.axis
        s.low[:] = s.axis
        return
    for i in range(3):
        s.low[i] += (s.axis[i] - s.low[i]) * min(dt / on.LOW_TAU, 1.0)
    rate = 0.0
    if t - s.turn_t <= on.TURN_FRESH_NS:
        wx, wy, wz = s.turn[0] - s.turn_bias[0], s.turn[1] - s.turn_bias[1], s.turn[2] - s.turn_bias[2]
        before = size_of(g)
        x = (g[1] * wz - g[2] * wy) * dt
        y = (g[2] * wx - g[0] * wz) * dt
        z = (g[0] * wy - g[1] * wx) * dt
        rate = np.sqrt(x * x + y * y + z * z) / (before * dt) if before > 0.0 else 0.0
        g[0], g[1], g[2] = g[0] + x, g[1] + y, g[2] + z
        after = size_of(g)
        for i in range(3):
            g[i] *= before / after if after > 0.0 else 1.0
    s.tilting += (rate - s.tilting) * min(dt / on.TILT_TAU, 1.0)
    if busy:
        return
    if s.gravity_n * dt < 1.0 and s.quiet_t == on.NEVER_NS:  # the first second: the plain mean
        if abs(size_of(s.axis) - on.G) < on.G * 0.5:
            for i in range(3):
                g[i] += (s.axis[i] - g[i]) / s.gravity_n
    elif abs(size_of(s.low) - on.G) < on.GRAVITY_ROOM:
        for i in range(3):
            g[i] += (s.low[i] - g[i]) * min(dt / on.GRAVITY_TAU, 1.0)


@nb.njit(**_PART)
def roll_over(p: Any, s: Any, t: Any, notes: Any, n: Any) -> Any:
    """Watch the angle between gravity and where it usually is."""
    if s.home_s < 1.0:
        return n
    g = s.gravity
    size = size_of(g)
    upright = (g[0] * s.home[0] + g[1] * s.home[1] + g[2] * s.home[2]) / size if size > 0.0 else 1.0
    if upright > p.tilt_cos:
        s.leaning_from = s.over_from = on.NEVER_NS
        s.over_least = 1.0
        s.over_told = 0
        return n
    if s.leaning_from == on.NEVER_NS:
        s.leaning_from = t
    s.over_least = min(s.over_least, upright)
    if upright > p.rollover_cos:
        s.over_from = on.NEVER_NS
    elif s.over_from == on.NEVER_NS:
        s.over_from = t
    elif s.over_told == 0 and t - s.over_from >= p.rollover_ns:
        s.over_told = 1
        return tell(notes, n, on.ROLL, 0, t, s.leaning_from, t, 0.0, 0.0)
    return n


@nb.njit(**_PART)
def largest_change(p: Any, s: Any, ring: Any, times: Any) -> Any:
    """Return the largest horizontal velocity change up to now within the trigger's time, m/s, and its first sample."""
    last = s.head - 1
    k = last % on.RING
    most, first = 0.0, last
    j = last - 1
    while j >= 0 and j > last - on.RING:
        i = j % on.RING
        if times[i] < times[k] - p.trigger_ns or times[i] < s.floor_t:
            break
        change = level(ring[k, 0] - ring[i, 0], ring[k, 1] - ring[i, 1], ring[k, 2] - ring[i, 2], s.gravity)
        if change > most:
            most, first = change, j
        j -= 1
    return most, first


@nb.njit(**_PART)
def impact(p: Any, s: Any, ring: Any, times: Any, t: Any, railed: Any, notes: Any, n: Any) -> Any:
    """Judge the newest sample of the ring: an active pulse, the trigger, its end; bumps."""
    k = (s.head - 1) % on.RING
    limit = t - p.onset_ns - 500_000
    while s.tail < s.head - 2 and times[s.tail % on.RING] < limit:
        s.tail += 1
    b = s.tail % on.RING
    x, y, z = ring[k, 0] - ring[b, 0], ring[k, 1] - ring[b, 1], ring[k, 2] - ring[b, 2]
    whole = np.sqrt(x * x + y * y + z * z)
    active = level(x, y, z, s.gravity) > p.onset
    if active:
        if s.pulse_t == on.NEVER_NS:
            s.pulse_t = times[b]
        s.active_t = t
    if s.pulse_t != on.NEVER_NS and railed:
        s.pulse_railed = 1
    if t - s.active_t <= p.trigger_ns and not s.open:
        most, first = largest_change(p, s, ring, times)
        if most >= p.trigger:
            s.open = 1
            s.bump_crash = 1
            n = tell(notes, n, on.TRIGGER, 0, t, times[first % on.RING], t, most, 0.0)
    over = s.pulse_t != on.NEVER_NS and t - s.active_t >= on.QUIET_ENDS_NS
    if over or (s.open and t - s.pulse_t >= on.EVENT_NS and not active):
        if not s.open and s.pulse_railed:
            n = tell(notes, n, on.PULSE, 0, t, s.pulse_t, s.active_t, 0.0, 0.0)
        if s.open:
            s.floor_t = t
        s.open = 0
        s.pulse_t = on.NEVER_NS
        s.pulse_railed = 0

    # a bump: any direction; what follows within the merge time belongs to it. A parked car feels softer ones
    alive_t = max(s.ran_t, s.moved_t)  # where nobody tells of the ignition: the engine, or the car
    stood = t - s.held_t[on.REVS] <= on.PARKED_FRESH_NS and t - alive_t > on.PARKED_NS
    off = s.held[on.IGNITION] < 0.5 or (np.isnan(s.held[on.IGNITION]) and stood)
    if whole >= (p.bump_parked if off else p.bump):
        if s.bump_from == on.NEVER_NS:
            s.bump_from = times[b]
            s.bump_peak = s.bump_mean = 0.0
            s.bump_crash = s.open
        s.bump_to = t
        s.bump_mean = max(s.bump_mean, whole)
    if s.bump_from != on.NEVER_NS:
        a = np.sqrt(ring[k, 3] * ring[k, 3] + ring[k, 4] * ring[k, 4] + ring[k, 5] * ring[k, 5])
        if t - s.bump_to <= p.onset_ns:
            s.bump_peak = max(s.bump_peak, a)
        if s.open:
            s.bump_crash = 1
        if t - s.bump_to >= p.bump_merge_ns or t - s.bump_from >= 4 * p.bump_merge_ns:
            if not s.bump_crash:
                n = tell(notes, n, on.BUMP, 0, t, s.bump_from, s.bump_to, s.bump_mean, s.bump_peak)
            s.bump_from = on.NEVER_NS
            s.bump_crash = 0
    return n


@nb.njit(**_PART)
def accelerate(p: Any, s: Any, ring: Any, times: Any, tally: Any, t: Any, notes: Any, n: Any) -> Any:
    """Take one whole sample of the accelerometer."""
    since = t - s.t
    if s.t != on.NEVER_NS and since <= 0:
        tally[0] += 1
        return n
    dt = since * 1e-9
    if s.t == on.NEVER_NS or since > on.GAP_NS or (s.run > 10 and dt > max(on.GAP_PERIODS * s.period, on.SHORT_GAP_S)):
        if s.t != on.NEVER_NS:
            tally[2] += 1
        restart(s, t)
        dt = 0.0
    s.t = t
    s.run += 1
    if s.run == 2:
        s.period = dt
        tune(s)
    elif s.run > 2 and 0.5 * s.period < dt < 1.5 * s.period:
        s.period += 0.05 * (dt - s.period)
        if abs(s.period / s.filter_period - 1.0) > 0.05:
            tune(s)
    railed = at_rail(s)
    if railed:
        s.railed_t = t
    busy = s.pulse_t != on.NEVER_NS
    follow_gravity(s, t, dt, busy)

    size = size_of(s.axis)
    if size < on.FALL_MPS2:
        if s.fall_from == on.NEVER_NS:
            s.fall_from = t
        if t - s.fall_from >= p.fall_ns:
            s.fell_t = t
    else:
        s.fall_from = on.NEVER_NS
    if s.tilting > p.handled:
        if t - s.handled_t > on.EPISODE_NS:
            s.handled_from = t
        s.handled_t = t
    if s.tilting > on.GENTLE_RADPS:
        s.stirred_t = t

    s.part_n += 1.0
    h = s.head % on.RING
    for i in range(3):
        raw = s.axis[i]
        if s.run < 2:
            filtered = raw
        else:
            filtered = s.b[0] * raw + s.b[1] * s.x1[i] + s.b[2] * s.x2[i] + s.a[0] * s.y1[i] + s.a[1] * s.y2[i]
        s.x2[i], s.x1[i] = s.x1[i], raw
        s.y2[i], s.y1[i] = s.y1[i], filtered
        push = filtered - s.gravity[i]
        s.v[i] += 0.5 * (s.past[i] + push) * dt
        s.past[i] = push
        ring[h, i] = s.v[i]
        ring[h, 3 + i] = push
        s.part_sum[i] += raw
        s.part_square[i] += raw * raw
        s.part_turn[i] += s.turn[i] if t - s.turn_t <= on.TURN_FRESH_NS else 0.0
    ring[h, on.RAILED] = 1.0 if railed else 0.0
    times[h] = t
    s.head += 1
    if s.run >= 3:
        n = impact(p, s, ring, times, t, railed, notes, n)
    if t - s.part_t >= on.QUARTER_NS:
        quarter(s, t)
    return roll_over(p, s, t, notes, n)


@nb.njit(**_PART)
def push_speed(p: Any, s: Any, source: Any, t: Any, value: Any, notes: Any, n: Any) -> Any:
    """Take one value of a source of speed; tell a loss of speed that no tyre gives."""
    count = s.speed_n[source]
    fresh = count > 0 and t - s.speed_t[source] <= 5 * on.FRESH_NS
    if not fresh:
        s.same_from[source] = t
    change = value - s.speed[source] if fresh else 0.0
    held = (t - s.same_from[source]) * 1e-9
    stale = s.hold[source]
    if stale < 0.0:
        stale = on.BLIND_OBD_S if source == on.OBD else 0.0
    lost = fresh and -change > on.MOST_MPS2 * (t - s.speed_t[source]) * 1e-9
    if (
        fresh
        and not lost
        and count > 1
        and change <= -0.25 * p.suspect_loss
        and t - s.told_t[source] > 10 * on.FRESH_NS
    ):
        j = count - 1
        while j >= 0 and j > count - on.SPEED_RING:
            i = j % on.SPEED_RING
            back = t - s.kept_t[source, i]
            if back > on.COLLAPSE_NS and j < count - 1:
                break
            loss = s.kept[source, i] - value
            seconds = back * 1e-9 + stale + (0.2 if source == on.SATELLITES else 0.0)
            if loss >= p.suspect_loss and loss - 0.3 >= p.suspect * seconds and value <= 0.5 * s.kept[source, i]:
                n = tell(notes, n, on.COLLAPSE, source, t, s.kept_t[source, i], t, s.kept[source, i], held)
                s.told_t[source] = t
                break
            j -= 1
    if change != 0.0:
        if abs(change) >= 0.5:  # a jump after a hold: the value had been stale for so long
            s.hold[source] = (
                max(held, (0.0 if s.hold[source] < 0.0 else s.hold[source]) * 0.9) if held <= 3.0 else stale
            )
        s.same_from[source] = t
    s.speed[source] = value
    if value > p.gate:
        s.moved_t = t
    if count == 0 or t - s.kept_t[source, (count - 1) % on.SPEED_RING] >= on.SPEED_NS or abs(change) >= 1.0:
        i = count % on.SPEED_RING
        s.kept[source, i] = value
        s.kept_t[source, i] = t
        s.speed_n[source] = count + 1
    s.speed_t[source] = t
    return n


@nb.njit(**_PART)
def push_wheels(p: Any, s: Any, t: Any, notes: Any, n: Any) -> Any:
    """Give the middle of the four wheels, so that one lost or locked wheel says nothing."""
    low, high, total, known = 1e9, -1e9, 0.0, 0
    for i in range(4):
        if t - s.wheel_t[i] <= 200_000_000 and not np.isnan(s.wheel[i]):
            low, high = min(low, s.wheel[i]), max(high, s.wheel[i])
            total += s.wheel[i]
            known += 1
    if known == 4:
        return push_speed(p, s, on.WHEELS, t, 0.5 * (total - low - high), notes, n)
    return n


@nb.njit(**_PART)
def take(p: Any, s: Any, ring: Any, times: Any, tally: Any, use: Any, t: Any, value: Any, notes: Any) -> Any:
    """Give one sample to where it belongs; return the notes written."""
    kind, index = use.kind, use.index
    n = 0
    if kind == on.ACCEL:
        value = np.rint(value * 1000.0) / 1000.0
        if s.axis_set == 0 or s.axis_set >> index & 1 or t - s.axis_t > on.SET_NS:
            s.axis_set = 0
            s.axis_t = t
        s.axis[index] = value
        s.axis_set |= 1 << index
        if s.axis_set == 7:
            s.axis_set = 0
            n = accelerate(p, s, ring, times, tally, s.axis_t, notes, n)
    elif kind == on.GYRO:
        if s.turn_set == 0 or s.turn_set >> index & 1 or t - s.turn_axis_t > on.SET_NS:
            s.turn_set = 0
            s.turn_axis_t = t
        s.turn_axis[index] = np.rint(value * 100.0) / 100.0 * (np.pi / 180.0)
        s.turn_set |= 1 << index
        if s.turn_set == 7:
            s.turn_set = 0
            s.turn_t = t
            for i in range(3):
                s.turn[i] = s.turn_axis[i]
    elif kind == on.CLIP:
        s.clipped = 1 if value > 0.5 else 0
    elif kind == on.SPEED:
        value = np.rint(value * 1000.0) / 1000.0
        # four wheels say more than their mean
        if index != on.WHEELS or t - s.wheel_t[3] > on.FRESH_NS:
            n = push_speed(p, s, index, t, value, notes, n)
    elif kind == on.WHEEL:
        s.wheel[index] = np.rint(value * 1000.0) / 1000.0
        s.wheel_t[index] = t
        if index == 3:
            n = push_wheels(p, s, t, notes, n)
    elif kind == on.HELD or (kind == on.PRESSED and value > 0.5):
        s.held[index], s.held_t[index] = value, t
        if index == on.REVS and value >= on.REVS_RUNNING:
            s.ran_t = t
    elif kind == on.FLAG:
        # from 0 to 1 after at least a second of 0: a flag that always stood says nothing
        if value > 0.5 and s.flag_seen[index] != on.NEVER_NS and t - s.flag_seen[index] >= on.FRESH_NS:
            if s.flag[index] < 0.5:
                s.flag_t[index] = t
                n = tell(notes, n, on.FLAGGED, index, t, t, t, 0.0, value)
        elif value < 0.5 and (s.flag_seen[index] == on.NEVER_NS or s.flag[index] > 0.5):
            s.flag_seen[index] = t
        s.flag[index] = value
    return n


_S, _P = nb.from_dtype(on.STREAM)[::1], nb.from_dtype(on.PARAMETERS)[::1]
_U, _N = nb.from_dtype(on.USE)[::1], nb.from_dtype(on.NOTE)[::1]
_B = nb.typeof(np.empty(0, BLOCK))  # type: ignore[no-untyped-call]
_F2, _I1 = nb.float64[:, ::1], nb.int64[::1]
_PAIR = nb.types.UniTuple(nb.int64, 2)  # type: ignore[no-untyped-call]


@nb.njit(_PAIR(_B, nb.int64, _U, _P, _S, _F2, _I1, _I1, _N), **_KERNEL)
def collide(
    samples: Any, start: Any, table: Any, parameters: Any, stream: Any, ring: Any, times: Any, tally: Any, notes: Any
) -> Any:
    """Take samples from `start` on until a note is written; return the next sample's index and the notes.

    `ring` float64[RING, COLUMNS] and `times` int64[RING] keep the accelerometer, addressed by a count modulo RING.
    """
    p, s = parameters[0], stream[0]
    for i in range(start, len(samples)):
        channel = samples[i].channel
        if channel >= len(table) or table[channel].kind == on.IGNORED:
            continue
        t = samples[i].t
        t = (t * 2 + 100_000) // 200_000 * 100_000  # as the store rounds it: agent.columnar.round_time
        if t < s.now:
            tally[0] += 1
            continue
        if t >= s.wake:
            s.wake = on.ALWAYS_NS
            return i, tell(notes, 0, on.WAKE, 0, t, t, t, 0.0, 0.0)
        s.now = t
        value = samples[i].value
        if not np.isfinite(value):
            tally[1] += 1
            continue
        if value < table[channel].low or value > table[channel].high:
            tally[3] += 1
            continue
        n = take(p, s, ring, times, tally, table[channel], t, value, notes)
        if n > 0:
            return i + 1, n
    return len(samples), 0
