# ruff: noqa: PLR1730 - max() of a NaN differs between numba and Python; a comparison does not
"""The kernel of trips: one state machine over the rows, and the sums of the trip that is going on.

A trip is a *candidate* from engine-on or first motion, and *open* once the vehicle has really driven. Its end is the
last row that showed it going on (engine running, or motion): the *commit*. What comes after the commit is summed apart,
and joins the trip only if it does go on.
"""

from typing import Final

import numba as nb
import numpy as np

from agent.clock import NS_PER_S
from agent.state import CAN, OBD, STATE, WHEEL
from agent.track import M_PER_DEG

PARKED, CANDIDATE, OPEN = 0, 1, 2
DONE, CLOSED, DROPPED = 0, 1, 2

# Columns of the sums
DISTANCE, WHEEL_M, CAN_M, OBD_M, GNSS_M, POSITION_M, MOVING, STILL, GAP = 0, 1, 2, 3, 4, 5, 6, 7, 8
SHARE, PLACED, MOUNTED, SQUARES, SQUARED, BAND, BANDS = 9, 14, 15, 16, 17, 18, 21
SUMS: Final = BAND + BANDS
MINUTES: Final = 2 * 24 * 60  # of a trip for which the hour of day is kept; later ones count into the last

QUIET_NS: Final = 2 * NS_PER_S  # without a sample of any kind for longer: a data gap
MEAN_NS: Final = 10 * NS_PER_S  # speed unknown for up to this long: its mean is driven on
CANDIDATE_NS: Final = 60 * NS_PER_S  # motion that stops again for this long before it became a trip was none
FASTEST_MPS: Final = 60.0  # 216 km/h: a straight line that needs more is a jump of the fix
CHORD_M: Final = 10.0  # positions are summed over chords of this length, so that noise does not drive
RESUME_M: Final = 10.0  # creeping less than this far does not end a stop
COARSE_M: Final = 30.0  # fixes worse than this do not measure distance
BRIDGE_M: Final = 100.0  # moved this far during a gap: it was driven through

TRIP: Final = np.dtype(
    [
        ("phase", "<i8"),
        ("start", "<i8"),
        ("end", "<i8"),  # the commit
        ("seen", "<i8"),  # 1 once a row was seen
        ("last", "<i8"),  # time of the last row
        ("known", "<i8"),  # time of the last known speed, -1 none
        ("moving", "<i8"),  # 1, 0; as last known
        ("had_rpm", "<i8"),
        ("off", "<i8"),  # engine off since, -1 not off
        ("tail", "<i8"),  # 1: sums[1] hold something
        ("stop", "<i8"),  # standing since, -1 not
        ("resume", "<i8"),
        ("moved", "<i8"),  # 1 once it has driven 10 m
        ("stops", "<i8"),
        ("wheels", "<i8"),  # 1 once another speed than GNSS was seen
        ("fed", "<i8"),  # 1 once the track has a fix
        ("fast", "<i8"),  # rows of GNSS speed above 10 km/h in a row
        ("gap", "<i8"),  # ns of the data gap that is going on
        ("longest", "<i8"),
        ("longest_tail", "<i8"),
        ("speed", "<f8"),  # last known
        ("speed_1", "<f8"),  # of the last rows
        ("speed_2", "<f8"),
        ("run", "<f8"),  # m since the vehicle last stood
        ("top", "<f8"),
        ("place_t", "<i8"),
        ("latitude", "<f8"),  # last known place
        ("longitude", "<f8"),
        ("start_latitude", "<f8"),
        ("start_longitude", "<f8"),
        ("end_latitude", "<f8"),
        ("end_longitude", "<f8"),
        ("chord_t", "<i8"),
        ("chord_latitude", "<f8"),
        ("chord_longitude", "<f8"),
        ("stand_latitude", "<f8"),  # where it came to stand
        ("stand_longitude", "<f8"),
    ]
)
RULES: Final = np.dtype(
    [
        ("still", "<f8"),
        ("moving", "<f8"),
        ("start_m", "<f8"),
        ("start_slow_m", "<f8"),
        ("start_mps", "<f8"),
        ("drift_m", "<f8"),
        ("engine_off", "<i8"),  # ns
        ("standing", "<i8"),
        ("gap_off", "<i8"),
        ("bridge", "<i8"),
        ("stop", "<i8"),
    ]
)

_rows_t = nb.typeof(np.empty(0, STATE))  # type: ignore[no-untyped-call]
_trip_t = nb.typeof(np.empty(0, TRIP))  # type: ignore[no-untyped-call]
_rules_t = nb.typeof(np.empty(0, RULES))  # type: ignore[no-untyped-call]
_f1, _f2, _u1 = nb.float64[::1], nb.float64[:, ::1], nb.uint8[::1]


@nb.njit(nb.float64(nb.float64, nb.float64, nb.float64, nb.float64), cache=True, nogil=True)
def apart(lat1, lon1, lat2, lon2):  # type: ignore[no-untyped-def]
    """Return the metres between two near places, NaN where one is unknown."""
    dlon = lon2 - lon1
    if dlon > 180.0:
        dlon -= 360.0
    elif dlon < -180.0:
        dlon += 360.0
    y = (lat2 - lat1) * M_PER_DEG
    x = dlon * M_PER_DEG * np.cos(np.radians((lat1 + lat2) / 2.0))
    return np.sqrt(x * x + y * y)


@nb.njit(nb.float64(_rows_t, nb.int64), cache=True, nogil=True)
def leading(rows, i):  # type: ignore[no-untyped-def]
    """Return the longitudinal acceleration of row `i` by the best source that speaks (order as in detection)."""
    row = rows[i]
    if not np.isnan(row.lon_wheel):
        return row.lon_wheel
    if not np.isnan(row.lon_can):
        return row.lon_can
    if not np.isnan(row.lon_vehicle):
        return row.lon_vehicle
    if not np.isnan(row.lon_imu):
        return row.lon_imu
    if not np.isnan(row.lon_obd):
        return row.lon_obd
    return row.lon_gnss


@nb.njit(nb.int64(_rows_t, nb.int64, _trip_t, nb.int64), cache=True, nogil=True)
def engine_of(rows, i, trips, quiet):  # type: ignore[no-untyped-def]
    """Return 1 where the engine is known to run (or the ignition to be on), 0 where it is off, -1 where neither."""
    row = rows[i]
    if row.rpm > 0.0 or row.ignition == 1:
        return 1
    if row.ignition == 0 or row.rpm == 0.0:
        return 0
    # The control unit that gave the engine speed has gone to sleep while other data still come.
    if trips[0].had_rpm == 1 and quiet == 0:
        return 0
    return -1


@nb.njit(
    nb.types.UniTuple(nb.int64, 2)(  # type: ignore[no-untyped-call]
        _rows_t, nb.int64, _rules_t, _trip_t, _f2, _f1, _f2, _u1
    ),
    cache=True,
    nogil=True,
)
def drive(rows, first, rules, trips, sums, minutes, by_source, marks):  # type: ignore[no-untyped-def]
    """Walk `rows` from `first`; return (next row, DONE or CLOSED or DROPPED).

    CLOSED: the trip in `trips`[0] ended before the returned row, which is not yet taken: read its sums, clear all
    state and go on from that row. DROPPED: the candidate was none; clear and go on likewise. `sums` [2, SUMS]: of the
    trip up to its commit, and after it. `minutes` [MINUTES]: seconds moving by minute since the start. `by_source`
    [4, 2]: last known speed and its time (s) of wheel, CAN, OBD, GNSS. `marks` [n] tells the track: 0 pass over, 1 take
    the fix, 2 keep the fix before this row for certain, 3 both.
    """
    rule = rules[0]
    trip = trips[0]
    for i in range(first, len(rows)):
        row = rows[i]
        t = row.t
        marks[i] = 0
        if trip.seen == 1 and t <= trip.last:  # the boot's clock never steps back; a recording's may
            return i, CLOSED if trip.phase == OPEN else DROPPED
        dt = t - trip.last if trip.seen == 1 else 0
        quiet = 1 if row.quiet_ns > QUIET_NS or dt > QUIET_NS else 0
        known = not np.isnan(row.speed)
        placed = not np.isnan(row.latitude)
        wheels = (row.sources & (WHEEL | CAN | OBD)) != 0 or (known and row.sources == 0)
        engine = engine_of(rows, i, trips, quiet)
        moving = trip.moving
        if known:
            moving = 1 if row.speed >= (rule.still if trip.moving == 1 else rule.moving) else 0
            if moving == 1 and engine == 0:
                engine = -1  # coasting, electric or towed: motion decides

        # How long neither speed nor engine was known, and whether that time was driven through.
        unknown = t - trip.known if trip.known >= 0 else 0
        lost = max(row.quiet_ns, dt) if quiet == 1 else 0
        away = np.nan
        if placed and trip.place_t >= 0 and t - trip.place_t <= unknown + QUIET_NS:
            away = apart(trip.latitude, trip.longitude, row.latitude, row.longitude)
            if away > FASTEST_MPS * unknown / NS_PER_S:
                away = np.nan
        bridged = False
        if trip.phase != PARKED:
            if lost >= rule.gap_off and trip.moving == 0:
                return i, CLOSED if trip.phase == OPEN else DROPPED
            if unknown > rule.bridge and (engine != 1 or lost > rule.bridge):
                return i, CLOSED if trip.phase == OPEN else DROPPED
            if known and unknown > MEAN_NS and trip.moving == 1:
                bridged = moving == 1 or away >= BRIDGE_M
            # Speed unknown after motion may be a tunnel: it has until `bridge`, and comes first when it ends.
            in_dark = not known and trip.moving == 1
            if engine == 0 and trip.off >= 0 and t - trip.off >= rule.engine_off:
                return i, CLOSED if trip.phase == OPEN else DROPPED
            if engine != 1 and not bridged and not in_dark:
                patience = rule.standing if trip.phase == OPEN else CANDIDATE_NS
                if (moving == 0 or t - trip.end > rule.bridge) and t - trip.end >= patience:
                    return i, CLOSED if trip.phase == OPEN else DROPPED
        if engine == 0:
            if trip.off < 0:
                trip.off = t
        else:
            trip.off = -1

        if trip.phase == PARKED and (engine == 1 or (known and moving == 1)):
            trip.phase = CANDIDATE
            trip.start = t
            trip.end = t
            trip.start_latitude = row.latitude
            trip.start_longitude = row.longitude
            trip.stand_latitude = row.latitude
            trip.stand_longitude = row.longitude
            dt = 0
            unknown = 0
            trip.known = -1

        if trip.phase != PARKED:
            seconds = dt / NS_PER_S
            if np.isnan(trip.start_latitude) and placed:
                trip.start_latitude = row.latitude
                trip.start_longitude = row.longitude
            trip.wheels = 1 if wheels or trip.wheels == 1 else 0
            # GNSS alone drifts while parked: only a steady 10 km/h or leaving the place is motion then.
            firm = known and moving == 1
            if firm and not wheels and engine != 1:
                trip.fast = trip.fast + 1 if row.speed >= rule.start_mps else 0
                gone = apart(trip.stand_latitude, trip.stand_longitude, row.latitude, row.longitude)
                settled = t - trip.end <= QUIET_NS  # motion that goes on needs no new proof
                firm = settled or trip.fast >= 30 or gone >= rule.drift_m / 2.0
            else:
                trip.fast = 0
            commit = engine == 1 or firm or bridged
            if commit and trip.tail == 1:
                sums[0, :] += sums[1, :]
                sums[1, :] = 0.0
                trip.tail = 0
                if trip.longest_tail > trip.longest:
                    trip.longest = trip.longest_tail
                trip.longest_tail = 0
            to = 0 if commit else 1
            if not commit and trip.tail == 0:
                trip.tail = 1
                marks[i] |= 2

            # Distance: the fused speed over the trapezoid; a longer silence by the straight line between fixes.
            metres = 0.0
            driven = 0.0
            if known and trip.known >= 0:
                if unknown <= MEAN_NS:
                    metres = (trip.speed + row.speed) / 2.0 * unknown / NS_PER_S
                    driven = unknown / NS_PER_S if moving == 1 or trip.moving == 1 else 0.0
                elif away >= 0.0 and (bridged or engine == 1):
                    metres = away
                    driven = unknown / NS_PER_S if away >= BRIDGE_M else 0.0
            sums[to, DISTANCE] += metres
            sums[to, MOVING] += driven
            if driven > 0.0:
                minute = min((t - trip.start) // (60 * NS_PER_S), MINUTES - 1)
                minutes[minute] += driven
            elif known and moving == 0 and engine != 0:
                sums[to, STILL] += unknown / NS_PER_S if unknown <= MEAN_NS else seconds
            for s in range(4):
                speed = row.speed_wheel
                if s == 1:
                    speed = row.speed_can
                elif s == 2:
                    speed = row.speed_obd
                elif s == 3:
                    speed = row.speed_gnss
                if not np.isnan(speed):
                    since = t / NS_PER_S - by_source[s, 1]
                    if by_source[s, 1] >= 0.0 and since <= MEAN_NS / NS_PER_S:
                        sums[to, WHEEL_M + s] += (by_source[s, 0] + speed) / 2.0 * since
                    by_source[s, 0] = speed
                    by_source[s, 1] = t / NS_PER_S
            if placed and row.accuracy > COARSE_M:
                pass
            elif placed and trip.chord_t < 0:
                trip.chord_t = t
                trip.chord_latitude = row.latitude
                trip.chord_longitude = row.longitude
            elif placed and (moving == 1 or not known):
                chord = apart(trip.chord_latitude, trip.chord_longitude, row.latitude, row.longitude)
                if chord >= CHORD_M:
                    if chord <= FASTEST_MPS * (t - trip.chord_t) / NS_PER_S + CHORD_M:
                        sums[to, POSITION_M] += chord
                    trip.chord_t = t
                    trip.chord_latitude = row.latitude
                    trip.chord_longitude = row.longitude
            elif placed:
                trip.chord_t = t

            # Stops: having driven, it came to stand
            if known:
                if moving == 0:
                    if trip.stop < 0:
                        trip.stop = t
                    trip.run = 0.0
                    trip.resume = -1
                    if trip.moving == 1 and placed:
                        trip.stand_latitude = row.latitude
                        trip.stand_longitude = row.longitude
                else:
                    if trip.resume < 0:
                        trip.resume = t
                    trip.run += metres
                    if trip.run >= RESUME_M:
                        if trip.stop >= 0 and trip.moved == 1 and trip.resume - trip.stop >= rule.stop:
                            trip.stops += 1
                        trip.stop = -1
                        trip.moved = 1
                held = row.speed
                if trip.speed_1 < held:
                    held = trip.speed_1
                if trip.speed_2 < held:
                    held = trip.speed_2
                if held > trip.top:
                    trip.top = held
                band = int(row.speed * 0.36)
                sums[to, BAND + (band if band < BANDS else BANDS - 1)] += seconds
            trip.speed_2 = trip.speed_1
            trip.speed_1 = row.speed

            # Quality
            for b in range(5):
                if row.sources & (1 << b):
                    sums[to, SHARE + b] += seconds
            if placed:
                sums[to, PLACED] += seconds
            if row.mount > 0.0:
                sums[to, MOUNTED] += row.mount * seconds
            if quiet == 1:
                gap = max(row.quiet_ns, dt)
                sums[to, GAP] += (gap if trip.gap == 0 or dt > QUIET_NS else dt) / NS_PER_S
                trip.gap = gap
                if to == 0 and gap > trip.longest:
                    trip.longest = gap
                elif to == 1 and gap > trip.longest_tail:
                    trip.longest_tail = gap
            else:
                trip.gap = 0
            if known and moving == 1:
                a = leading(rows, i)
                if not np.isnan(a):
                    sums[to, SQUARES] += a * a * seconds
                    sums[to, SQUARED] += seconds

            if placed and ((known and moving == 1) or trip.fed == 0):
                marks[i] |= 1
                trip.fed = 1
            if commit:
                trip.end = t
                if placed:
                    trip.end_latitude = row.latitude
                    trip.end_longitude = row.longitude
            if trip.phase == CANDIDATE and commit and known and moving == 1:
                distance = sums[0, DISTANCE]
                if trip.wheels == 1 or engine == 1:
                    begun = distance >= rule.start_slow_m or (distance >= rule.start_m and trip.top >= rule.start_mps)
                else:
                    gone = apart(trip.start_latitude, trip.start_longitude, row.latitude, row.longitude)
                    accuracy = row.accuracy if row.accuracy > 0.0 else 0.0
                    begun = gone >= max(rule.drift_m, 3.0 * accuracy) and trip.top >= rule.start_mps
                if begun:
                    trip.phase = OPEN
        if known:
            trip.known = t
            trip.speed = row.speed
            trip.moving = moving
        if placed:
            trip.place_t = t
            trip.latitude = row.latitude
            trip.longitude = row.longitude
        if row.rpm > 0.0:
            trip.had_rpm = 1
        trip.seen = 1
        trip.last = t
    return len(rows), DONE
