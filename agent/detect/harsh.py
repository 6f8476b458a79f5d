# ruff: noqa: PLR1730 - max() of a NaN differs between numba and Python; a comparison does not
"""The kernel of harsh braking, acceleration and cornering: force, duration, speed gate, hysteresis, second source.

Four machines walk the rows: braking, acceleration, cornering, and `free`, which knows only how hard the box was pushed
sideways (no speed, no orientation). A machine opens when the force passes the minor threshold behind its speed gate,
follows it with hysteresis, waits for a second pulse (merge), and then judges the whole: held peak, speed change, second
source. A ring of the last rows gives the speed before and what the other sources saw just before.
"""

from typing import Final

import numba as nb
import numpy as np

from agent.detect.found import ACCELERATION, BRAKE, BRAKING, CORNERING, FOUND, VEHICLE, YAW
from agent.state import CAN, GNSS, IMU, OBD, STATE, STEP_NS, WHEEL

FREE: Final = 3
MACHINES: Final = 4

RING: Final = 64  # rows, 6.4 s
# Independent instruments ("groups"), and the columns of the ring that hold what each says.
WHEELS, SATELLITES, BOX, CAR, PEDAL, GYRO, GROUPS = 0, 1, 2, 3, 4, 5, 6
LON, LAT, LEAD_LON, LEAD_LAT, HORIZONTAL, VERTICAL, TURN, SPEED, COLUMNS = 0, 6, 12, 13, 14, 15, 16, 17, 18

IDLE: Final = 0
ABOVE: Final = 1
CLOSING: Final = 2

LOOK_ROWS: Final = (
    10  # 1 s: how far apart two sources may see the same pulse (GNSS lags by up to 0.5 s, OBD by its turn)
)
DV_AFTER_NS: Final = 1_500_000_000  # the speed may show the end of a pulse this much later
NAN_ROWS: Final = 5  # a source may be silent for 0.5 s within a pulse
LONGEST_NS: Final = 30_000_000_000  # longer is a slope or a bias, judged as it stands
JUMP_NS: Final = 1_000_000_000  # rows missing for longer: the past says nothing any more
PEDAL_PRESSED: Final = 0.05
BEFORE_ROWS: Final = 10  # the speed before is that of 1 s earlier: a centred 1 s slope starts 0.5 s early
BEFORE_LIMIT: Final = 30  # or older by up to 3 s where it was not known

MACHINE: Final = np.dtype(
    [
        ("state", "<i8"),
        ("start", "<i8"),
        ("end", "<i8"),  # last row above the release level
        ("quiet_until", "<i8"),  # refractory
        ("run", "<i8"),  # rows since the start
        ("silent", "<i8"),  # rows without a value
        ("lead", "<i8"),  # group that gave the held peak
        ("lead_bit", "<i8"),
        ("peak", "<f8"),  # held
        ("sign", "<f8"),
        ("before", "<f8"),
        ("lowest", "<f8"),
        ("highest", "<f8"),
        ("impulse", "<f8"),  # m/s, the speed change that the force implies
        ("vertical", "<f8"),
        ("horizontal", "<f8"),
        ("turn", "<f8"),  # deg/s, sum
        ("turn_peak", "<f8"),
        ("turn_rows", "<i8"),
        ("latitude", "<f8"),
        ("longitude", "<f8"),
    ]
)
RULES: Final = np.dtype(
    [
        ("minor", "<f8"),
        ("moderate", "<f8"),
        ("severe", "<f8"),
        ("release", "<f8"),
        ("hold", "<i8"),  # rows
        ("gate", "<f8"),  # m/s
        ("gate_lag", "<i8"),  # rows
        ("merge", "<i8"),  # ns
        ("refractory", "<i8"),  # ns
        ("agree", "<f8"),
        ("contradict", "<f8"),
        ("contradict_mps", "<f8"),
        ("plausible", "<f8"),
        ("vertical_ratio", "<f8"),
        ("free_corner_mps", "<f8"),
        ("handled_degps", "<f8"),
    ]
)

_rows_t = nb.typeof(np.empty(0, STATE))  # type: ignore[no-untyped-call]
_machines_t = nb.typeof(np.empty(0, MACHINE))  # type: ignore[no-untyped-call]
_rules_t = nb.typeof(np.empty(0, RULES))  # type: ignore[no-untyped-call]
_found_t = nb.typeof(np.empty(0, FOUND))  # type: ignore[no-untyped-call]
_f1, _f2, _i1, _i2 = nb.float64[::1], nb.float64[:, ::1], nb.int64[::1], nb.int64[:, ::1]


@nb.njit(nb.float64(_f2, nb.int64, nb.int64, nb.int64, nb.int64, nb.int64), cache=True, nogil=True)
def recent(ring, newest, known, column, lag, limit):  # type: ignore[no-untyped-def]
    """Return the value of `column` `lag` rows before row `newest`, or the next older one that is known, else NaN."""
    for back in range(lag, min(limit, known - 1) + 1):
        value = ring[(newest - back) % RING, column]
        if not np.isnan(value):
            return value
    return np.nan


@nb.njit(nb.int64(_machines_t, nb.int64, _rules_t, _f2, _i2, nb.int64, _found_t, nb.int64), cache=True, nogil=True)
def judge(machines, k, rules, best, bits, now, found, n):  # type: ignore[no-untyped-def]
    """Close machine `k` at time `now`: write its event into found[n] if it was one; return the number found."""
    m = machines[k]
    rule = rules[k]
    m.state = IDLE
    kind = k
    if k == FREE:
        # A turn shows in the yaw rate: v = a / ω must be a speed that a car can have. Otherwise the push was along the
        # car, and which way cannot be known: braking is the stronger, and what is too weak for it was acceleration.
        kind = BRAKING if m.peak >= rules[BRAKING].minor else ACCELERATION
        if m.turn_rows > 0:
            yaw = np.radians(m.turn / m.turn_rows)
            if yaw * rule.free_corner_mps >= m.peak:
                kind = CORNERING
                rule = rules[CORNERING]
    if m.peak < rule.minor:
        return n
    m.quiet_until = m.end + rule.refractory
    confirmed = False
    sources = m.lead_bit
    for g in range(GROUPS):
        if g == m.lead or k == FREE:
            continue
        if g == PEDAL:
            # The pedal says that the driver braked, not how hard: a slope of wheel speed that is there while the pedal
            # is down is no stalled bus and no sensor glitch.
            seen = k == BRAKING and best[k, g] >= PEDAL_PRESSED
        else:
            seen = best[k, g] >= rule.agree * m.peak
        if seen:
            confirmed = True
            sources |= bits[k, g]
    if k in (BRAKING, ACCELERATION) and m.lead in (BOX, CAR):
        # An accelerometer also feels the car dive and the road tilt (2° are 0.34 m/s²), which the speed does not:
        # where both saw it, the milder counts, and it is confirmed only if both passed the threshold.
        slope = max(best[k, WHEELS], best[k, SATELLITES])
        if slope >= rule.minor:
            m.peak = min(m.peak, slope)
        elif slope >= rule.agree * m.peak:
            confirmed = False
    if np.isnan(m.before):
        confirmed = False
    elif k in (BRAKING, ACCELERATION):
        change = m.before - m.lowest if k == BRAKING else m.highest - m.before
        if change < max(rule.contradict_mps, rule.contradict * m.impulse):
            return n
    turned = k == FREE and kind == CORNERING  # a pothole does not turn the car, however rough the road in the bend
    if not confirmed and not turned and m.vertical > rule.vertical_ratio * max(m.peak, m.horizontal):
        return n
    if k == FREE and (m.turn_peak > rule.handled_degps or m.horizontal > rule.plausible):
        return n
    out = found[n]
    out.kind = kind
    out.open = 0
    out.level = 2 if m.peak >= rule.severe else 1 if m.peak >= rule.moderate else 0
    out.confirmed = 1 if confirmed else 0
    out.oriented = 0 if k == FREE else 1
    out.start = m.start
    out.end = m.end + STEP_NS
    out.at = now
    out.peak = m.sign * m.peak
    out.speed_before = m.before
    out.limit = np.nan
    out.latitude = m.latitude
    out.longitude = m.longitude
    out.sources = sources
    return n + 1


@nb.njit(
    nb.types.UniTuple(nb.int64, 2)(  # type: ignore[no-untyped-call]
        _rows_t, nb.int64, nb.int64, _rules_t, _machines_t, _f2, _i2, _f2, _i1, _f2, _found_t
    ),
    cache=True,
    nogil=True,
)
def harsh(rows, first, ending, rules, machines, best, bits, ring, memory, trace, found):  # type: ignore[no-untyped-def]
    """Walk `rows` from `first`; return (next row, events written to `found`).

    Stops early when `found` might overflow. `ending` 1 closes every machine after the last row. `best` [4, 6] and
    `bits` [4, 6] hold what each group showed in a machine's event; `ring` [RING, COLUMNS]; `memory` = rows ever seen,
    rows known without a jump, time of the last row; `trace` [n, 2] receives the leading longitudinal and lateral
    acceleration of every row (m/s²).
    """
    n = 0
    wide = rules[0].plausible
    for i in range(first, len(rows)):
        if n + 2 * MACHINES > len(found):
            return i, n
        row = rows[i]
        t = row.t
        if memory[1] > 0 and (t - memory[2] > JUMP_NS or t <= memory[2]):
            for k in range(MACHINES):
                if machines[k].state != IDLE:
                    n = judge(machines, k, rules, best, bits, t, found, n)
            memory[1] = 0
        newest = memory[0] % RING
        now = ring[newest]
        memory[0] += 1
        memory[1] = min(memory[1] + 1, RING)
        memory[2] = t
        known = memory[1]

        # What each instrument says; a value no tyre can give is not heard.
        wheel_bit = 0
        now[LON + WHEELS] = np.nan
        if abs(row.lon_obd) <= wide:
            now[LON + WHEELS] = row.lon_obd
            wheel_bit = OBD
        obd_only = wheel_bit == OBD
        if abs(row.lon_can) <= wide:
            now[LON + WHEELS] = row.lon_can
            wheel_bit = CAN
            obd_only = False
        if abs(row.lon_wheel) <= wide:
            now[LON + WHEELS] = row.lon_wheel
            wheel_bit = WHEEL
            obd_only = False
        now[LON + SATELLITES] = row.lon_gnss if abs(row.lon_gnss) <= wide else np.nan
        now[LON + BOX] = row.lon_imu if abs(row.lon_imu) <= wide else np.nan
        now[LON + CAR] = row.lon_vehicle if abs(row.lon_vehicle) <= wide else np.nan
        now[LON + PEDAL] = row.brake
        now[LON + GYRO] = np.nan
        now[LAT + WHEELS] = np.nan
        now[LAT + SATELLITES] = row.lat_gnss if abs(row.lat_gnss) <= wide else np.nan
        now[LAT + BOX] = row.lat_imu if abs(row.lat_imu) <= wide else np.nan
        now[LAT + CAR] = row.lat_vehicle if abs(row.lat_vehicle) <= wide else np.nan
        now[LAT + PEDAL] = np.nan
        now[LAT + GYRO] = row.lat_yaw if abs(row.lat_yaw) <= wide else np.nan
        now[HORIZONTAL] = row.horizontal
        now[VERTICAL] = row.vertical
        now[TURN] = abs(row.yaw_rate)
        now[SPEED] = row.speed

        # Who leads: the best instrument that speaks. Wheel speed on the bus is measured 10-100 times a second; the
        # accelerometers come before OBD and GNSS speed, which are coarse.
        lon_lead = -1
        if wheel_bit != 0 and not obd_only:
            lon_lead = WHEELS
        elif not np.isnan(now[LON + CAR]):
            lon_lead = CAR
        elif not np.isnan(now[LON + BOX]):
            lon_lead = BOX
        elif obd_only:
            lon_lead = WHEELS
        elif not np.isnan(now[LON + SATELLITES]):
            lon_lead = SATELLITES
        lat_lead = -1
        if not np.isnan(now[LAT + BOX]):
            lat_lead = BOX
        elif not np.isnan(now[LAT + CAR]):
            lat_lead = CAR
        elif not np.isnan(now[LAT + GYRO]):
            lat_lead = GYRO
        elif not np.isnan(now[LAT + SATELLITES]):
            lat_lead = SATELLITES
        now[LEAD_LON] = now[LON + lon_lead] if lon_lead >= 0 else np.nan
        now[LEAD_LAT] = now[LAT + lat_lead] if lat_lead >= 0 else np.nan
        trace[i, 0] = now[LEAD_LON]
        trace[i, 1] = now[LEAD_LAT]
        free = lon_lead < 0 and lat_lead < 0 and np.isnan(row.speed)
        # A parked car is not driven; a hybrid drives with its engine off, so engine speed counts only without speed.
        parked = row.ignition == 0 or (row.rpm == 0.0 and np.isnan(row.speed))

        for k in range(MACHINES):
            m = machines[k]
            rule = rules[k]
            if k == BRAKING:
                column, base, lead, sign = LEAD_LON, LON, lon_lead, -1.0
            elif k == ACCELERATION:
                column, base, lead, sign = LEAD_LON, LON, lon_lead, 1.0
            elif k == CORNERING:
                column, base, lead, sign = LEAD_LAT, LAT, lat_lead, 1.0 if now[LEAD_LAT] >= 0.0 else -1.0
            else:
                column, base, lead, sign = HORIZONTAL, LON, BOX, 1.0
            x = sign * now[column]
            if (k == FREE and not free) or parked:
                x = np.nan
            silent = np.isnan(x)
            opened = False
            if m.state == IDLE:
                if silent or x < rule.minor or t < m.quiet_until:
                    continue
                speed = np.nan if k == FREE else recent(ring, newest, known, SPEED, rule.gate_lag, BEFORE_LIMIT)
                if np.isnan(speed) and k != FREE:
                    speed = recent(ring, newest, known, SPEED, 0, rule.gate_lag)
                if speed < rule.gate:
                    continue
                opened = True
                m.state = ABOVE
                m.start = t
                m.run = 0
                m.silent = 0
                m.peak = 0.0
                m.impulse = 0.0
                m.turn = 0.0
                m.turn_peak = 0.0
                m.turn_rows = 0
                m.before = recent(ring, newest, known, SPEED, BEFORE_ROWS, BEFORE_LIMIT)
                if np.isnan(m.before):
                    m.before = recent(ring, newest, known, SPEED, 0, BEFORE_ROWS)
                m.lowest = m.before
                m.highest = m.before
                m.vertical = 0.0
                m.horizontal = 0.0
                m.latitude = row.latitude
                m.longitude = row.longitude
                for g in range(GROUPS):
                    best[k, g] = -np.inf
                    bits[k, g] = 0
            m.run += 1
            if silent:
                m.silent += 1
            else:
                m.silent = 0
            if not silent and x >= rule.release and (m.state == ABOVE or x >= rule.minor):
                m.state = ABOVE
                m.end = t
                m.impulse += x * 0.1
                if not np.isnan(now[TURN]):
                    m.turn += now[TURN]
                    m.turn_rows += 1
            elif m.state == ABOVE and (not silent or m.silent > NAN_ROWS):
                m.state = CLOSING
            if m.run >= rule.hold:
                held = np.inf
                for back in range(rule.hold):
                    value = ring[(newest - back) % RING, column]
                    held = min(held, abs(value) if k == CORNERING else sign * value)
                    if np.isnan(value):
                        held = -np.inf
                        break
                if held > m.peak and not silent:
                    m.peak = held
                    m.sign = sign
                    m.lead = lead
                    m.lead_bit = IMU
                    if k in (BRAKING, ACCELERATION):
                        if lead == WHEELS:
                            m.lead_bit = wheel_bit
                        elif lead == SATELLITES:
                            m.lead_bit = GNSS
                        elif lead == CAR:
                            m.lead_bit = VEHICLE
                    elif k == CORNERING:
                        if lead == GYRO:
                            m.lead_bit = YAW
                        elif lead == SATELLITES:
                            m.lead_bit = GNSS
                        elif lead == CAR:
                            m.lead_bit = VEHICLE
            looks = min(LOOK_ROWS, known - 1) if opened else 0
            if t - m.end <= LOOK_ROWS * STEP_NS:
                for back in range(looks + 1):
                    seen = ring[(newest - back) % RING]
                    for g in range(GROUPS):
                        value = seen[base + g]
                        if g != PEDAL:
                            value *= sign
                        if value > best[k, g]:
                            best[k, g] = value
                            if g == WHEELS:
                                bits[k, g] = wheel_bit
                            elif g == SATELLITES:
                                bits[k, g] = GNSS
                            elif g == BOX:
                                bits[k, g] = IMU
                            elif g == CAR:
                                bits[k, g] = VEHICLE
                            elif g == PEDAL:
                                bits[k, g] = BRAKE
                            else:
                                bits[k, g] = YAW
                    if seen[VERTICAL] > m.vertical:
                        m.vertical = seen[VERTICAL]
                    if seen[HORIZONTAL] > m.horizontal:
                        m.horizontal = seen[HORIZONTAL]
                    if seen[TURN] > m.turn_peak:
                        m.turn_peak = seen[TURN]
            if np.isnan(m.latitude) and not np.isnan(row.latitude):
                m.latitude = row.latitude
                m.longitude = row.longitude
            if t - m.end <= DV_AFTER_NS:
                if row.speed < m.lowest:
                    m.lowest = row.speed
                if row.speed > m.highest:
                    m.highest = row.speed
            if (m.state == CLOSING and t - m.end >= rule.merge) or t - m.start >= LONGEST_NS:
                n = judge(machines, k, rules, best, bits, t, found, n)
    if ending == 1 and memory[1] > 0 and n + MACHINES <= len(found):
        for k in range(MACHINES):
            if machines[k].state != IDLE:
                n = judge(machines, k, rules, best, bits, memory[2], found, n)
        memory[1] = 0
    return len(rows), n
