"""The kernel that understands: `MEASURED` rows in, `STATE` rows out; it chooses the speed and learns the mount.

Gravity is the long mean of the accelerometer on rows without manoeuvres. Forward is the direction in which the box
feels the speed's slope while going straight, helped by the direction in which it feels speed × yaw rate in turns; both
sides are high-pass filtered alike, so that road slope and bias fall out. Rows on which the box is being handled, or
does not sit as learned, give nothing in box axes.
"""

from typing import Any, Final

import numba as nb
import numpy as np

from agent.fuse import belief as by
from agent.fuse.measured import FROZEN, GNSS_I, HANDLED, MEASURED, MOVED, OBD_I, SPEED_SOURCES, STUCK
from agent.fuse.parameters import PARAMETERS
from agent.state import STATE

# Kernels pass records, not arrays of one: a record is a bare pointer, an array is counted at every call.
_P, _V = nb.from_dtype(PARAMETERS), nb.from_dtype(by.VEHICLE)
_M, _O, _T = nb.from_dtype(MEASURED)[::1], nb.from_dtype(STATE)[::1], nb.from_dtype(by.NOTE)[::1]
_N = nb.int64[::1]
_A = nb.types.Array(nb.float64, 1, "A")  # vectors inside records are not plain contiguous arrays to numba
_KERNEL: Final[dict[str, Any]] = {"cache": True, "nogil": True, "error_model": "numpy"}
_PART: Final[dict[str, Any]] = {"nogil": True, "error_model": "numpy"}  # compiled into the kernel, loaded with it


@nb.njit(**_PART)
def dot(a: Any, b: Any) -> Any:
    """Multiply two vectors."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@nb.njit(**_PART)
def make_unit(a: Any) -> Any:
    """Scale a vector to length one in place and return the length it had."""
    size = np.sqrt(dot(a, a))
    if size > 0.0:
        for i in range(3):
            a[i] /= size
    return size


@nb.njit(**_PART)
def cross(a: Any, b: Any, out: Any) -> Any:
    """Write a × b."""
    out[0] = a[1] * b[2] - a[2] * b[1]
    out[1] = a[2] * b[0] - a[0] * b[2]
    out[2] = a[0] * b[1] - a[1] * b[0]


@nb.njit(**_PART)
def settle(bias: Any, value: Any, n: Any, tau_s: Any) -> Any:
    """Move a bias towards a value: quickly while new (`n` rows old), then with `tau_s`; outliers pull little."""
    step = min(max(value - bias, -1.5), 1.5) if n > 10.0 else value - bias
    return bias + step * max(by.DT / tau_s, 1.0 / (n + 1.0))


@nb.njit(**_PART)
def choose_speed(p: Any, tally: Any, speed: Any, slope: Any, same_s: Any) -> Any:
    """Return the speed source to believe, -1 without any: the preferred one that is neither frozen nor outvoted."""
    for i in range(SPEED_SOURCES):
        if np.isnan(speed[i]) or same_s[i] < p.frozen_s:
            continue
        backed, gone = False, False
        for j in range(SPEED_SOURCES):
            backed |= j != i and abs(speed[j] - speed[i]) <= max(p.agree_mps, p.agree_share * speed[i])
            gone |= same_s[j] < p.frozen_s and abs(speed[j] - speed[i]) > max(p.frozen_mps, 0.2 * speed[j])
        if gone and not backed:
            tally[FROZEN] += 1
            speed[i], slope[i] = np.nan, np.nan
    first = -1
    for i in range(SPEED_SOURCES):
        if np.isnan(speed[i]):
            continue
        if first < 0:
            first = i
        against, best = 0, -1
        for j in range(SPEED_SOURCES):
            room = 2.0 * max(p.agree_mps, p.agree_share * speed[i])
            if abs(speed[j] - speed[i]) > room:
                against += 1
                best = j if best < 0 else best
        if against < 2 or i > first:
            return i
        for j in range(best + 1, SPEED_SOURCES):
            room = max(p.agree_mps, p.agree_share * speed[best])
            if abs(speed[j] - speed[best]) <= room:
                return best
        return i
    return first


@nb.njit(**_PART)
def find_forward(p: Any, v: Any, which: Any, out: Any) -> Any:
    """Write the forward direction that the evidence shows and return the confidence in it."""
    e = v.evidence[which]
    up = v.up
    lengthwise = e.xs - up * dot(e.xs, up)
    cross(e.xc, up, out)
    crosswise = out.copy()
    out[:] = lengthwise
    if e.ss * by.DT < p.evidence_m2ps3 or e.n < 1.0:
        return 0.0
    a = make_unit(lengthwise)
    c = make_unit(crosswise)
    energy = e.ss
    trust = 1.0
    if e.cc * by.DT > p.evidence_m2ps3 and c > 0.4 * e.cc:
        # The two directions are found independently; they must agree.
        if dot(lengthwise, crosswise) > 0.766:
            out[:] = a * lengthwise + min(c, e.cc) * crosswise
            energy += e.cc
        elif e.cc > e.ss:
            trust = 0.5
    make_unit(out)
    scale = a / e.ss
    if scale < 0.5 or scale > 1.6:
        trust *= 0.3
    # Residual about the regression, shared by both horizontal directions.
    noise = max(e.aa - a * a / e.ss, 0.0) / (2.0 * e.n)
    error_deg = np.degrees(np.sqrt(noise * by.CORRELATED_ROWS / energy))
    return trust / (1.0 + (error_deg / p.error_deg) ** 2)


@nb.njit(**_PART)
def fade(e: Any, keep: Any) -> Any:
    """Keep a share of the evidence."""
    e.ss, e.aa, e.n, e.cc = e.ss * keep, e.aa * keep, e.n * keep, e.cc * keep
    for i in range(3):
        e.xs[i] *= keep
        e.xc[i] *= keep


@nb.njit(**_PART)
def forget(v: Any, t: Any, angle: Any, notes: Any, n_notes: Any) -> Any:
    """Drop the mount because the box was moved by `angle` degrees; tell it only if it had been learned."""
    if v.confidence > 0.0 and v.noted > 0.0:
        note = notes[n_notes[0]]
        note.kind, note.t, note.angle = by.NOTE_MOVED, t, angle
        n_notes[0] += 1
    v.confidence, v.noted = 0.0, 0.0
    v.tilted_rows, v.suspect_rows, v.average_n = 0, 0, 0.0
    for k in range(2):
        v.residual[k] = 0.0
        fade(v.evidence[k], 0.0)
    v.level[:] = 0.0
    v.road_n[0], v.roll_n[0] = 0.0, 0.0


@nb.njit(**_PART)
def check_mount(p: Any, v: Any, t: Any, notes: Any, n_notes: Any) -> Any:
    """Work out forward from the evidence, and note what is new."""
    forward = np.zeros(3)
    recent = np.zeros(3)
    confidence = find_forward(p, v, 0, forward)
    second = find_forward(p, v, 1, recent)
    if confidence >= p.use_confidence and second >= 0.8 and dot(forward, recent) < by.TURNED_COS:
        angle = np.degrees(np.arccos(max(-1.0, dot(forward, recent))))
        forget(v, t, angle, notes, n_notes)
        return
    v.confidence = confidence
    if confidence < p.use_confidence:
        return
    v.forward[:] = forward
    turned = dot(forward, v.noted_forward) < 0.9962 or dot(v.up, v.noted_up) < 0.9962  # 5°
    surer = (v.noted < 0.7 <= confidence) or (v.noted < 0.9 <= confidence)
    if v.noted == 0.0 or turned or surer:
        v.noted = confidence
        v.noted_forward[:] = forward
        v.noted_up[:] = v.up
        note = notes[n_notes[0]]
        note.kind, note.t, note.confidence = by.NOTE_MOUNT, t, confidence
        note.up[:] = v.up
        note.forward[:] = forward
        n_notes[0] += 1


@nb.njit(**_PART)
def sits_well(p: Any, v: Any, tally: Any, accel: Any, size: Any, turning: Any, standing: Any, driven: Any) -> Any:
    """Say whether the box sits as learned; a turn of it shows as gravity that leaks sideways without growing."""
    upward = dot(accel, v.up)
    sideways = np.sqrt(max(size * size - upward * upward, 0.0))
    missing = v.g - upward
    leak = v.g - np.sqrt(max(v.g * v.g - sideways * sideways, 0.0))
    spin_up = dot(turning, v.up)
    spin = np.sqrt(max(dot(turning, turning) - spin_up * spin_up, 0.0))
    odd = (
        (sideways >= 1.8 and sideways - driven >= 1.5 and missing > max(0.4, 0.6 * leak))
        or (standing and sideways > v.g * np.sin(np.radians(p.moved_deg)))
        or spin > p.handled_degps
        or abs(v.residual[0]) > 2.5
        or abs(v.residual[1]) > 2.5
    )
    if odd:
        v.suspect_rows = np.int64(p.suspect_s / by.DT)
    elif v.suspect_rows > 0:
        v.suspect_rows -= 1
    if v.suspect_rows > 0:
        tally[HANDLED] += 1
    return v.suspect_rows == 0


@nb.njit(**_PART)
def learn_gravity(p: Any, v: Any, accel: Any, size: Any, standing: Any, turning: Any) -> Any:
    """Find the first gravity, then follow it slowly over rows without manoeuvres."""
    if v.up_s == 0.0:
        if not (0.8 * by.STANDARD_G < size < 1.2 * by.STANDARD_G) or dot(turning, turning) > 100.0:
            v.first[:] = 0.0
            v.first_s = 0.0
            return
        weight = p.gravity_blind_s / p.gravity_first_s if standing else 1.0
        v.first_s += weight * by.DT
        for i in range(3):
            v.first[i] += weight * by.DT * accel[i]
        if v.first_s >= p.gravity_blind_s:
            v.up[:] = v.first
            v.g = make_unit(v.up) / v.first_s
            v.up_s = p.gravity_first_s if standing else p.gravity_blind_s
        return
    v.up_s = min(v.up_s + by.DT, p.gravity_tau_s)
    part = by.DT / v.up_s
    v.g += part * (min(max(size, 0.97 * by.STANDARD_G), 1.03 * by.STANDARD_G) - v.g)
    for i in range(3):
        v.up[i] += part * (accel[i] / size - v.up[i])
    make_unit(v.up)


@nb.njit(**_PART)
def gather(p: Any, v: Any, accel: Any, slope: Any, sideways: Any, speed: Any, straight: Any) -> Any:
    """Add one row to the evidence for forward: box acceleration against what speed and turning say."""
    v.average_n = min(v.average_n + 1.0, 10.0 / by.DT)
    lateral = 0.0 if np.isnan(sideways) else sideways
    for i in range(3):
        v.average[i] += (accel[i] - v.average[i]) / v.average_n
    v.average[3] += (slope - v.average[3]) / v.average_n
    v.average[4] += (lateral - v.average[4]) / v.average_n
    if v.average_n < by.STILL_ROWS:
        return
    x = np.empty(3)
    for i in range(3):
        x[i] = accel[i] - v.average[i]
    upward = dot(x, v.up)
    for i in range(3):
        x[i] -= upward * v.up[i]
    size2 = dot(x, x)
    if size2 > by.LEARN_LIMIT * by.LEARN_LIMIT:
        return
    ds, dc = slope - v.average[3], lateral - v.average[4]
    for k in range(2):
        e = v.evidence[k]
        fade(e, 1.0 - by.DT / (p.memory_s if k == 0 else by.RECENT_S))
        if straight:
            e.ss += ds * ds
            e.aa += size2
            e.n += 1.0
            for i in range(3):
                e.xs[i] += x[i] * ds
        if speed > 3.0 and abs(ds) < 1.0:
            e.cc += dc * dc
            for i in range(3):
                e.xc[i] += x[i] * dc


@nb.njit(**_PART)
def restart(v: Any) -> Any:
    """Forget what a data gap makes untrue; gravity, forward and their evidence stay."""
    v.slow_s = 0.0
    v.tilted_rows = 0
    v.suspect_rows = 0
    v.residual[:] = 0.0
    v.average_n = 0.0
    v.level[:] = 0.0
    v.road_n[:] = 0.0
    v.roll_n[:] = 0.0
    v.unsure_s = 0.0
    v.still_rows = 0


@nb.njit(nb.void(_M, _P[::1], _V[::1], _N, _O, _T, _N), **_KERNEL)
def understand(measured: Any, parameters: Any, vehicle: Any, tally: Any, out: Any, notes: Any, n_notes: Any) -> Any:
    """Turn `MEASURED` rows into as many `STATE` rows; append what is learned about the mount to `notes`."""
    p, v = parameters[0], vehicle[0]
    speeds, slopes, forward, left = np.empty(SPEED_SOURCES), np.empty(SPEED_SOURCES), np.empty(3), np.empty(3)
    turning, flat, accel = np.empty(3), np.empty(3), np.empty(3)
    for row in range(len(measured)):
        m, o = measured[row], out[row]
        if m.restart:
            restart(v)
        v.rows += 1
        # ---- speed
        speeds[:] = m.speed
        slopes[:] = m.slope
        noise = (
            p.gnss_still_mps if np.isnan(m.gnss_accuracy) else min(max(p.gnss_still_mps, 2.0 * m.gnss_accuracy), 1.0)
        )
        if speeds[GNSS_I] < noise:
            speeds[GNSS_I] = 0.0
            if abs(slopes[GNSS_I]) < 2.0 * noise:
                slopes[GNSS_I] = 0.0
        chosen = choose_speed(p, tally, speeds, slopes, m.same_s)
        speed, slope, sources = np.nan, np.nan, 0
        if chosen >= 0:
            slope = slopes[chosen]
            steady = speeds[GNSS_I] > by.SCALE_MPS and abs(slopes[GNSS_I]) < 0.3 and abs(slope) < 0.3
            for i in range(GNSS_I):
                ratio = speeds[GNSS_I] / speeds[i] if steady else np.nan
                if abs(ratio - 1.0) < by.SCALE_LIMIT:
                    v.scale[i] = settle(v.scale[i], ratio - 1.0, v.scale_n[i], by.SCALE_S)
                    v.scale_n[i] += 1.0
            speed = speeds[chosen] * (1.0 + v.scale[chosen] * min(v.scale_n[chosen] / by.SCALE_ROWS, 1.0))
            room = max(p.agree_mps, p.agree_share * speed)
            for i in range(SPEED_SOURCES):
                if abs(speeds[i] - speed) <= room:
                    sources |= 1 << i
                    if np.isnan(slope):
                        slope = slopes[i]
        v.still_rows = v.still_rows + 1 if speed < p.still_mps else 0
        standing = v.still_rows >= by.STILL_ROWS
        # ---- box
        stuck = m.imu_same_s > by.STUCK_S and not standing
        if stuck and not np.isnan(m.accel_1s[0]):
            tally[STUCK] += 1
        boxed = not stuck and not np.isnan(m.accel_1s[0])
        spun = not stuck and not np.isnan(m.gyro_1s[0])
        for i in range(3):
            turning[i] = m.gyro_1s[i] - v.gyro_bias[i] if spun else 0.0
        accel[:] = m.accel_1s
        size = np.sqrt(dot(accel, accel))
        known = v.up_s > 0.0 and boxed
        sound = False
        if known:
            # What speed and turning explain of a sideways force; NaN (not known) explains nothing.
            across = abs(speed * np.radians(dot(turning, v.up) - v.yaw_bias))
            along = abs(slope)
            driven = (along if along > 0.0 else 0.0) + (across if across > 0.0 else 0.0)
            sound = sits_well(p, v, tally, accel, size, turning, standing, driven)
        if boxed:
            v.slow_s = min(v.slow_s + by.DT, 10.0)
            for i in range(3):
                v.slow[i] += (accel[i] - v.slow[i]) * by.DT / v.slow_s
            if known and v.slow_s >= 5.0:
                lean = dot(v.slow, v.up) / np.sqrt(dot(v.slow, v.slow))
                v.tilted_rows = (
                    v.tilted_rows + 1 if lean < np.cos(np.radians(p.moved_deg)) else max(v.tilted_rows - 2, 0)
                )
                if v.tilted_rows * by.DT > p.moved_s:
                    tally[MOVED] += 1
                    forget(v, m.t, np.degrees(np.arccos(max(lean, -1.0))), notes, n_notes)
                    v.up[:] = v.slow
                    v.g = make_unit(v.up)
                    v.up_s = p.moved_s
                    sound = False
        # ---- turning
        rate, rate_1s = np.nan, np.nan
        if spun and v.up_s > 0.0 and sound:
            rate_1s = dot(turning, v.up)
            if standing and abs(rate_1s) < 5.0:
                for i in range(3):
                    v.gyro_bias[i] = settle(v.gyro_bias[i], m.gyro_1s[i], v.gyro_n, 10.0)
                v.gyro_n += 1.0
                v.yaw_bias *= 0.98
            elif speed > 8.0 and abs(m.course_rate) < 3.0:
                v.yaw_bias = settle(v.yaw_bias, rate_1s + m.course_rate, 1000.0, 60.0)
            rate_1s -= v.yaw_bias
            rate = dot(m.gyro_half, v.up) - dot(v.gyro_bias, v.up) - v.yaw_bias
        if not np.isnan(m.car_yaw):
            if standing:
                v.car_yaw_bias = settle(v.car_yaw_bias, m.car_yaw, 1000.0, 2.0)
            elif speed > 8.0 and abs(m.course_rate) < 3.0:
                v.car_yaw_bias = settle(v.car_yaw_bias, m.car_yaw + m.course_rate, 1000.0, 60.0)
            if np.isnan(rate):
                rate = m.car_yaw - v.car_yaw_bias
                rate_1s = rate
        sideways = speed * np.radians(rate_1s)
        # ---- mount
        if boxed and v.up_s == 0.0:
            learn_gravity(p, v, accel, size, standing, turning)
        elif sound and v.tilted_rows == 0:
            if speed > by.LEARN_MPS and not np.isnan(slope):
                straight = np.isnan(rate_1s) or abs(rate_1s) < p.straight_degps
                gather(p, v, accel, slope, sideways, speed, straight)
            calm = abs(size - v.g) < 1.0
            if standing:
                calm = calm and v.still_rows < by.STILL_ROWS + 50  # one stop is one slope, however long
            elif not np.isnan(slope):
                calm = calm and abs(slope) < 0.7 and not abs(sideways) > 0.7
            if calm:
                learn_gravity(p, v, accel, size, standing, turning)
        if v.rows % by.ROWS_PER_CHECK == 0 and v.up_s > 0.0:
            check_mount(p, v, m.t, notes, n_notes)
        mounted = v.confidence >= p.use_confidence
        # ---- acceleration by source
        lon, lat, horizontal = np.nan, np.nan, np.nan
        if sound and mounted:
            lean = dot(v.forward, v.up)
            for i in range(3):
                forward[i] = v.forward[i] - lean * v.up[i]
            make_unit(forward)
            cross(v.up, forward, left)
            lon = dot(accel, forward)
            lat = dot(m.accel_half, left)
            if not np.isnan(slope):
                v.unsure_s = 0.0
                v.road[0] = settle(v.road[0], lon - slope, v.road_n[0], p.road_tau_s)
                v.road_n[0] += 1.0
                v.residual[0] += (lon - v.road[0] - slope - v.residual[0]) * by.DT / 3.0
            else:
                v.unsure_s += by.DT
                if v.unsure_s > 10.0:
                    v.road[0] = settle(v.road[0], lon, 1000.0, 20.0)
            if abs(sideways) < 0.5:
                v.roll[0] = settle(v.roll[0], lat - sideways, v.roll_n[0], p.roll_tau_s)
                v.roll_n[0] += 1.0
            if not np.isnan(sideways):
                v.residual[1] += (lat - v.roll[0] - sideways - v.residual[1]) * by.DT / 3.0
            lon -= v.road[0]
            lat -= v.roll[0]
        elif known:
            v.residual[:] *= 0.97
        if sound:
            upward = dot(m.accel_half, v.up)
            for i in range(3):
                flat[i] = m.accel_half[i] - upward * v.up[i]
                v.level[i] = settle(v.level[i], flat[i], 1000.0, p.level_tau_s)
                flat[i] -= v.level[i]
            horizontal = np.sqrt(dot(flat, flat))
        car_lon, car_lat = m.car_lon, m.car_lat
        if not np.isnan(car_lon + slope):
            v.road[1] = settle(v.road[1], car_lon - slope, v.road_n[1], p.road_tau_s)
            v.road_n[1] += 1.0
        if not np.isnan(car_lat) and abs(sideways) < 0.5:
            v.roll[1] = settle(v.roll[1], car_lat - sideways, v.roll_n[1], p.roll_tau_s)
            v.roll_n[1] += 1.0
        # ---- row
        o.t, o.quiet_ns = m.t, m.quiet_ns
        o.speed, o.sources = speed, sources
        o.speed_wheel, o.speed_can, o.speed_obd, o.speed_gnss = speeds[0], speeds[1], speeds[OBD_I], speeds[GNSS_I]
        o.lon_wheel, o.lon_can, o.lon_obd, o.lon_gnss = slopes[0], slopes[1], slopes[OBD_I], slopes[GNSS_I]
        o.lon_imu, o.lat_imu, o.horizontal = lon, lat, horizontal
        o.lon_vehicle = car_lon - (v.road[1] if v.road_n[1] > 0.0 else 0.0)
        o.lat_vehicle = car_lat - (v.roll[1] if v.roll_n[1] > 0.0 else 0.0)
        o.lat_yaw = speed * np.radians(rate)
        o.lat_gnss = -speed * np.radians(m.course_rate) if speed >= 5.0 else np.nan
        o.vertical = np.nan if stuck else m.vertical
        o.yaw_rate, o.limit = rate, m.limit
        o.mount = v.confidence if mounted else 0.0
        o.rpm, o.throttle, o.brake, o.steering = m.rpm, m.throttle, m.brake, m.steering
        o.latitude, o.longitude, o.accuracy, o.heading = m.latitude, m.longitude, m.accuracy, m.heading
        o.ignition = -1 if np.isnan(m.ignition) else (1 if m.ignition >= 0.5 else 0)
