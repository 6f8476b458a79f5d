"""The kernel that measures: samples in, one `MEASURED` row per 100 ms out, with centred windows per sensor.

Speeds are kept in rings of updates at least 40 ms apart and read by interpolation and least squares; accelerations and
turning rates pass a median of three and are summed in 50 ms bins. Rows wait for `LOOK_NS` of later samples, because a
1 Hz fix has a neighbour on both sides only then.
"""

from typing import Any, Final

import numba as nb
import numpy as np

from agent.blocks import BLOCK
from agent.fuse import measured as of
from agent.fuse import stream as on
from agent.fuse.parameters import PARAMETERS
from agent.state import STEP_NS

# Kernels pass records, not arrays of one: a record is a bare pointer, an array is counted at every call.
_P = nb.from_dtype(PARAMETERS)
_S = nb.from_dtype(on.STREAM)
_M = nb.from_dtype(of.MEASURED)
_PS, _SS, _MS, _B = _P[::1], _S[::1], _M[::1], nb.from_dtype(BLOCK)[::1]
_U = nb.from_dtype(on.USE)[::1]
_N = nb.int64[::1]
_PAIR: Any = nb.types.UniTuple(nb.int64, 2)  # type: ignore[no-untyped-call]
_KERNEL: Final[dict[str, Any]] = {"cache": True, "nogil": True, "error_model": "numpy"}
_PART: Final[dict[str, Any]] = {"nogil": True, "error_model": "numpy"}  # compiled into the kernel, loaded with it


@nb.njit(**_PART)
def push(p: Any, s: Any, tally: Any, source: Any, t: Any, value: Any) -> Any:
    """Add one value to a ring unless it is a jump or a repeat of a value that was not refreshed."""
    head = s.head[source]
    if head and value != s.raw[source]:
        if source == of.OBD_I:
            step = abs(value - s.raw[source])
            run = (t - s.changed[source]) * 1e-9
            if step > 1.5 * on.MPS_PER_COUNT and s.step > 1.5 * on.MPS_PER_COUNT and run <= p.slope_limit_s:
                faster = s.periods == 0 or run < s.period
                s.period = run if faster else s.period + 0.1 * (run - s.period)
                s.periods += 1
            s.step = step
        s.changed[source] = t
    elif not head:
        s.changed[source] = t
    repeated = head > 0 and value == s.raw[source]
    s.raw[source], s.seen[source] = value, t
    if head:
        newest = (head - 1) % on.RING
        if source != of.COURSE_I:
            margin = p.jump_margin_mps
            allowed = p.jump_mps2 * min((t - s.ring_t[source, newest]) * 1e-9, p.slope_limit_s) + margin
            if abs(value - s.ring[source, newest]) > allowed:
                tally[of.JUMPS + source] += 1
                near = p.jump_mps2 * min((t - s.doubt_t[source]) * 1e-9, p.slope_limit_s) + margin
                if s.doubts[source] and abs(value - s.doubt[source]) <= near:
                    s.doubts[source] += 1
                else:
                    s.doubts[source] = 1
                    s.doubt_since[source] = t
                s.doubt[source], s.doubt_t[source] = value, t
                if s.doubts[source] < 3 or (t - s.doubt_since[source]) * 1e-9 < p.jump_accept_s:
                    return
                head = 0
        s.doubts[source] = 0
        stale = source == of.OBD_I and head and repeated and s.periods >= 3
        if stale and (t - s.ring_t[source, newest]) * 1e-9 < 0.95 * s.period:
            tally[of.REPEATS] += 1
            return
        if head and t - s.first[source] < on.MERGE_NS:
            n = s.merged[source] + 1
            s.merged[source] = n
            s.ring_t[source, newest] += (t - s.ring_t[source, newest]) // n
            s.ring[source, newest] += (value - s.ring[source, newest]) / n
            return
    s.ring_t[source, head % on.RING] = t
    s.ring[source, head % on.RING] = value
    s.first[source], s.merged[source], s.head[source] = t, 1, head + 1


@nb.njit(**_PART)
def push_wheels(p: Any, s: Any, tally: Any) -> Any:
    """Average the wheels at hand, without those that lock or spin, into the wheel speed."""
    most, second, n = -1.0, -1.0, 0
    for w in range(4):
        if s.wheel_set >> w & 1:
            n += 1
            if s.wheel[w] > most:
                second = most
                most = s.wheel[w]
            elif s.wheel[w] > second:
                second = s.wheel[w]
    if n >= 2:
        total, used = 0.0, 0
        for w in range(4):
            if s.wheel_set >> w & 1 and abs(s.wheel[w] - second) <= max(0.5, 0.15 * second):
                total += s.wheel[w]
                used += 1
        s.wheel_seen = s.wheel_t
        push(p, s, tally, of.WHEEL_I, s.wheel_t, total / used)
    s.wheel_set = 0


@nb.njit(**_PART)
def bin_at(s: Any, t: Any) -> Any:
    """Return the place of the bin that holds time `t`, emptied if it was an older one's; -1 if too old."""
    b = t // on.BIN_NS
    k = b % on.BINS
    if s.bin[k] > b:
        return -1
    if s.bin[k] < b:
        s.bin[k] = b
        s.sums[k] = 0.0
        s.counts[k] = 0.0
        s.shock[k] = -1.0
    return k


@nb.njit(**_PART)
def put(s: Any, group: Any, t: Any, x: Any, y: Any, z: Any) -> Any:
    """Sum the value before this one, after a median of three, into its bin."""
    past, past_t = s.past[group], s.past_t[group]
    n = s.past_n[group]
    if n:
        k = bin_at(s, past_t[0])
        if k >= 0:
            steady = n > 1 and t - past_t[0] <= on.MEDIAN_NS and past_t[0] - past_t[1] <= on.MEDIAN_NS
            s.counts[k, group] += 1.0
            for i in range(3 if group < 2 else 1):
                middle = past[0, i]
                if steady:
                    new = x if i == 0 else (y if i == 1 else z)
                    low, high = min(past[1, i], new), max(past[1, i], new)
                    middle = min(max(middle, low), high)
                s.sums[k, group, i] += middle
        past[1, 0], past[1, 1], past[1, 2] = past[0, 0], past[0, 1], past[0, 2]
        past_t[1] = past_t[0]
    past[0, 0], past[0, 1], past[0, 2] = x, y, z
    past_t[0] = t
    s.past_n[group] = min(n + 1, 2)


@nb.njit(**_PART)
def shake(s: Any, t: Any, x: Any, y: Any, z: Any) -> Any:
    """Keep the largest vertical deviation of a bin, raw, and the running direction of up that it needs."""
    past = s.past[0]
    if s.past_n[0] == 0 or x != past[0, 0] or y != past[0, 1] or z != past[0, 2]:
        s.same_since = t
    dt = min((t - s.past_t[0, 0]) * 1e-9, 1.0) if s.past_n[0] else 0.0
    s.up_s = min(s.up_s + dt, on.PROXY_S)
    part = dt / s.up_s if s.up_s > 0.0 else 1.0
    up = s.up
    up[0], up[1], up[2] = up[0] + part * (x - up[0]), up[1] + part * (y - up[1]), up[2] + part * (z - up[2])
    size = np.sqrt(up[0] * up[0] + up[1] * up[1] + up[2] * up[2])
    if s.up_s >= 1.0 and size > 5.0:
        k = bin_at(s, t)
        s.shock[k] = max(s.shock[k], abs((x * up[0] + y * up[1] + z * up[2]) / size - size))


@nb.njit(**_PART)
def hold(s: Any, index: Any, t: Any, value: Any) -> Any:
    """Keep a value for the row it belongs to."""
    row = -(-t // STEP_NS)
    s.cell[index, row % on.CELLS] = value
    s.cell_row[index, row % on.CELLS] = row
    s.latest[index], s.latest_t[index] = value, t


@nb.njit(**_PART)
def locate(p: Any, s: Any, tally: Any, index: Any, t: Any, value: Any) -> Any:
    """Hold a position once both halves are here, unless it lies where no car can have come."""
    s.fix[index], s.fix_t[index] = value, t
    pair = index // 2
    lat, lon = s.fix[2 * pair], s.fix[2 * pair + 1]
    if abs(s.fix_t[2 * pair] - s.fix_t[2 * pair + 1]) > on.SET_NS or np.isnan(lat + lon):
        return
    s.fix[2 * pair], s.fix[2 * pair + 1] = np.nan, np.nan
    a = on.GNSS_LATITUDE + 2 * pair
    if not np.isnan(s.latest[a]):
        north = (lat - s.latest[a]) * 111_195.0
        east = (lon - s.latest[a + 1]) * 111_195.0 * np.cos(np.radians(lat))
        room = s.latest[on.GNSS_ACCURACY if pair == 0 else on.CAR_ACCURACY]
        room = 50.0 if np.isnan(room) else 50.0 + 2.0 * room
        if np.hypot(north, east) > room + p.position_jump_mps * (t - s.latest_t[a]) * 1e-9:
            tally[of.POSITION_JUMPS] += 1
            s.fix_jumps[pair] += 1
            if s.fix_jumps[pair] < 4:
                return
    s.fix_jumps[pair] = 0
    hold(s, a, t, lat)
    hold(s, a + 1, t, lon)


@nb.njit(**_PART)
def take(p: Any, s: Any, tally: Any, kind: Any, index: Any, t: Any, value: Any) -> Any:
    """Give one sample to where it belongs."""
    if kind in (on.ACCEL, on.GYRO):
        group = kind - on.ACCEL
        bit = 1 << index
        if s.axis_set[group] == 0 or s.axis_set[group] & bit or t - s.axis_t[group] > on.SET_NS:
            s.axis_set[group] = 0
            s.axis_t[group] = t
        s.axis[group, index] = value
        s.axis_set[group] |= bit
        if s.axis_set[group] == 7:
            x, y, z = s.axis[group, 0], s.axis[group, 1], s.axis[group, 2]
            if group == 0:
                shake(s, t, x, y, z)
            put(s, group, t, x, y, z)
            s.axis_set[group] = 0
    elif kind == on.SERIES:
        put(s, index, t, value, 0.0, 0.0)
    elif kind == on.WHEEL:
        if s.wheel_set >> index & 1 or (s.wheel_set and t - s.wheel_t > on.SET_NS):
            push_wheels(p, s, tally)
        if s.wheel_set == 0:
            s.wheel_t = t
        s.wheel[index] = value
        s.wheel_set |= 1 << index
        if s.wheel_set == 15:
            push_wheels(p, s, tally)
    elif kind == on.SPEED:
        if index != of.WHEEL_I or s.wheel_seen == 0 or t - s.wheel_seen > on.SECOND:
            push(p, s, tally, index, t, value)
    elif kind == on.GNSS:
        poor = (
            t - s.latest_t[on.GNSS_SPEED_ACCURACY] < on.FIX_NS
            and s.latest[on.GNSS_SPEED_ACCURACY] > p.gnss_accuracy_mps
        )
        fix = s.latest[on.FIX_TYPE]
        if poor or (t - s.latest_t[on.FIX_TYPE] < on.FIX_NS and fix in (0.0, 5.0)):
            tally[of.INACCURATE] += 1
        else:
            push(p, s, tally, of.GNSS_I, t, value)
    elif kind == on.HELD:
        hold(s, index, t, value)
    elif kind == on.HEADING:
        hold(s, index, t, value)
        if s.head[of.GNSS_I] and t - s.seen[of.GNSS_I] < on.FIX_NS // 2 and s.raw[of.GNSS_I] >= 5.0:
            turn = 0.0
            if s.head[of.COURSE_I]:
                turn = s.ring[of.COURSE_I, (s.head[of.COURSE_I] - 1) % on.RING]
            push(p, s, tally, of.COURSE_I, t, turn + (value - turn + 180.0) % 360.0 - 180.0)
    elif kind == on.POSITION:
        locate(p, s, tally, index, t, value)


@nb.njit(**_PART)
def read_speed(p: Any, s: Any, m: Any, source: Any, t: Any) -> Any:
    """Interpolate one source's speed at `t` and fit its slope around it."""
    times, values, head = s.ring_t[source], s.ring[source], s.head[source]
    kept = min(head, on.RING)
    speed, slope = np.nan, np.nan
    fresh = p.gnss_fresh_s if source >= of.GNSS_I else (p.obd_fresh_s if source == of.OBD_I else p.bus_fresh_s)
    before = 1
    while before <= kept and times[(head - before) % on.RING] > t:
        before += 1
    if before <= kept:
        a = (head - before) % on.RING
        since = (t - times[a]) * 1e-9
        if before > 1 and (times[(a + 1) % on.RING] - times[a]) * 1e-9 <= fresh:
            b = (a + 1) % on.RING
            speed = values[a] + (values[b] - values[a]) * (t - times[a]) / (times[b] - times[a])
        elif since <= p.hold_s or (source == of.OBD_I and since <= fresh and s.seen[source] >= t):
            speed = values[a]
    if not np.isnan(speed):
        half = 0.5 * p.slope_s
        limit = p.slope_limit_s if source == of.OBD_I else min(p.slope_limit_s, 3.0)
        while half <= p.slope_limit_s - on.LOOK_NS * 1e-9:
            n, st, sv, stt, stv = 0, 0.0, 0.0, 0.0, 0.0
            newest, oldest, apart, last = -1e9, 1e9, 0.0, 0.0
            for k in range(1, kept + 1):
                j = (head - k) % on.RING
                x = (times[j] - t) * 1e-9
                if x < -half:
                    break
                if x > half:
                    continue
                v = values[j] - speed
                apart = max(apart, last - x) if n else 0.0
                last = x
                newest = max(newest, x)
                oldest = x
                n += 1
                st += x
                sv += v
                stt += x * x
                stv += x * v
            span = newest - oldest
            if n >= 3 and span >= 0.6 * p.slope_s and newest >= -half and span <= limit:
                if newest >= -0.5 * p.slope_s and (source < of.COURSE_I or apart <= 1.5):
                    slope = (n * stv - st * sv) / (n * stt - st * st)
                break
            half += 0.25
    if source == of.COURSE_I:
        m.course_rate = slope
    else:
        m.speed[source] = speed
        m.slope[source] = slope
        m.same_s[source] = (s.seen[source] - s.changed[source]) * 1e-9


@nb.njit(**_PART)
def read_bins(s: Any, m: Any, t: Any) -> Any:
    """Give the centred means of the inertial sensors: 1 s, and 0.5 s where there is a sample, else 1 s."""
    whole, half = np.zeros((on.GROUPS, 3)), np.zeros((on.GROUPS, 3))
    n_whole, n_half = np.zeros(on.GROUPS), np.zeros(on.GROUPS)
    shock = -1.0
    first = (t - on.SECOND // 2) // on.BIN_NS
    for b in range(first, first + 20):
        k = b % on.BINS
        if s.bin[k] != b:
            continue
        inner = first + 5 <= b < first + 15
        if b < first + 10:
            shock = max(shock, s.shock[k])
        for g in range(on.GROUPS):
            if s.counts[k, g] == 0.0:
                continue
            n_whole[g] += s.counts[k, g]
            n_half[g] += s.counts[k, g] if inner else 0.0
            for i in range(3 if g < 2 else 1):
                whole[g, i] += s.sums[k, g, i]
                half[g, i] += s.sums[k, g, i] if inner else 0.0
    for g in range(on.GROUPS):
        n = n_whole[g] if n_whole[g] else np.nan
        for i in range(3):
            whole[g, i] /= n
            half[g, i] = half[g, i] / n_half[g] if n_half[g] else whole[g, i]
    for i in range(3):
        m.accel_1s[i], m.accel_half[i] = whole[0, i], half[0, i]
        m.gyro_1s[i], m.gyro_half[i] = whole[1, i], half[1, i]
    m.car_lon, m.car_lat, m.car_yaw = whole[2, 0], half[3, 0], half[4, 0]
    m.vertical = shock if shock >= 0.0 else np.nan
    m.imu_same_s = (s.past_t[0, 0] - s.same_since) * 1e-9


@nb.njit(**_PART)
def held_at(s: Any, index: Any, t: Any, limit: Any) -> Any:
    """Return a held value that is at most `limit` ns old at `t`, else NaN."""
    return s.held[index] if s.held_t[index] >= t - limit else np.nan


@nb.njit(**_PART)
def either(a: Any, b: Any) -> Any:
    """Return the first of two values that is known."""
    return b if np.isnan(a) else a


@nb.njit(**_PART)
def measure(p: Any, s: Any, m: Any) -> Any:
    """Write the next row and move on."""
    t = s.row * STEP_NS
    cell = s.row % on.CELLS
    if s.heard_cell[cell, 0] == s.row:
        s.heard = s.heard_cell[cell, 1]
    m.t = t
    m.restart = s.restart
    m.quiet_ns = t - (s.before_gap if s.restart and s.before_gap >= 0 else s.heard)
    for index in range(on.HELD_COUNT):
        if s.cell_row[index, cell] == s.row:
            s.held[index] = s.cell[index, cell]
            s.held_t[index] = t
    for source in range(on.SOURCES):
        read_speed(p, s, m, source, t)
    read_bins(s, m, t)
    m.gnss_accuracy = held_at(s, on.GNSS_SPEED_ACCURACY, t, on.FIX_NS)
    m.rpm = either(held_at(s, on.RPM, t, on.HELD_NS), held_at(s, on.OBD_RPM, t, on.HELD_NS))
    pedal = either(held_at(s, on.PEDAL, t, on.HELD_NS), held_at(s, on.OBD_PEDAL, t, on.HELD_NS))
    m.throttle = either(pedal, held_at(s, on.OBD_THROTTLE, t, on.HELD_NS))
    pedal = held_at(s, on.BRAKE_PEDAL, t, on.HELD_NS) / 100.0
    pressed = held_at(s, on.BRAKE, t, on.HELD_NS)
    m.brake = max(pedal, pressed) if pedal >= 0.0 and pressed >= 0.0 else either(pedal, pressed)
    m.steering = held_at(s, on.STEERING, t, on.HELD_NS)
    m.limit = held_at(s, on.LIMIT, t, on.HELD_NS)
    m.ignition = s.held[on.IGNITION]
    satellite = s.held_t[on.GNSS_LATITUDE] >= t - on.FIX_NS and not np.isnan(s.held[on.GNSS_LATITUDE])
    m.latitude = held_at(s, on.GNSS_LATITUDE if satellite else on.CAR_LATITUDE, t, on.FIX_NS)
    m.longitude = held_at(s, on.GNSS_LONGITUDE if satellite else on.CAR_LONGITUDE, t, on.FIX_NS)
    m.accuracy = held_at(s, on.GNSS_ACCURACY if satellite else on.CAR_ACCURACY, t, on.FIX_NS)
    m.heading = either(held_at(s, on.GNSS_HEADING, t, on.FIX_NS), held_at(s, on.CAR_HEADING, t, on.FIX_NS))
    s.restart = 0
    s.row += 1


@nb.njit(**_PART)
def restart(s: Any, t: Any) -> Any:
    """Forget everything but the ignition and the sense of up; the next row follows `t`."""
    s.head[:], s.seen[:], s.doubts[:] = 0, 0, 0
    s.wheel_set, s.wheel_seen = 0, 0
    s.axis_set[:], s.past_n[:] = 0, 0
    for index in range(on.HELD_COUNT):
        s.latest[index] = np.nan
        if index != on.IGNITION:
            s.held[index] = np.nan
    s.fix[:] = np.nan
    s.before_gap = s.last if s.started else -1
    s.started = 1
    s.restart = 1
    s.row = -(-t // STEP_NS)


@nb.njit(_PAIR(_B, nb.int64, nb.boolean, _U, _PS, _SS, _N, _MS), **_KERNEL)
def collect(
    samples: Any, start: Any, ending: Any, uses: Any, parameters: Any, stream: Any, tally: Any, out: Any
) -> Any:
    """Take samples from `start` on, write rows until `out` is full; return the next sample's index and the rows."""
    p, s = parameters[0], stream[0]
    rows = 0
    gap_ns = np.int64(p.gap_s * 1e9)
    for i in range(start, len(samples)):
        t = samples[i].t
        if s.started:
            if t < s.last:
                tally[of.LATE] += 1
                continue
            gap = t - s.last > gap_ns
            due = s.last if gap else t - on.LOOK_NS - 1
            while s.row * STEP_NS <= due:
                if rows == len(out):
                    return i, rows
                measure(p, s, out[rows])
                rows += 1
            if gap:
                tally[of.GAPS] += 1
                restart(s, t)
        else:
            restart(s, t)
        if t != s.last or s.restart:
            row = -(-t // STEP_NS)
            s.heard_cell[row % on.CELLS, 0], s.heard_cell[row % on.CELLS, 1] = row, t
            s.last = t
        channel = samples[i].channel
        if channel >= len(uses) or uses[channel].kind == on.IGNORED:
            continue
        value = samples[i].value
        if not np.isfinite(value):
            tally[of.NOT_FINITE] += 1
        elif value < uses[channel].low or value > uses[channel].high:
            tally[of.OUT_OF_RANGE] += 1
        else:
            take(p, s, tally, uses[channel].kind, uses[channel].index, t, value)
    while ending and s.started and s.row * STEP_NS <= s.last:
        if rows == len(out):
            return len(samples), rows
        measure(p, s, out[rows])
        rows += 1
    return len(samples), rows
