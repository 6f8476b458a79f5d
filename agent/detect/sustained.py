# ruff: noqa: PLR1730 - max() of a NaN differs between numba and Python; a comparison does not
"""The kernel of what lasts: speeding, idling, over-revving, driving without a rest."""

from typing import Final

import numba as nb
import numpy as np

from agent.clock import NS_PER_S
from agent.detect.found import ENGINE, FATIGUE, FOUND, IDLING, IGNITION, OVER_REV, SPEED_BITS, SPEEDING
from agent.state import CAN, GNSS, OBD, STATE, STEP_NS, WHEEL

SILENCE_NS: Final = 3 * NS_PER_S  # a quantity that is unknown for longer ends what it was showing
CHECKED_NS: Final = 60 * NS_PER_S  # wheel speed that agreed with the satellites this recently is still right: a tunnel
CREEP_FACTOR: Final = 2.0  # idling ends at twice the speed below which it begins: a queue creeps, a sensor flickers

KEPT: Final = np.dtype(
    [
        ("start", "<i8"),  # -1: not going on
        ("last", "<i8"),  # last row at which it was so
        ("level", "<i8"),  # reached, -1 none
        ("since_moderate", "<i8"),  # -1: not above
        ("since_severe", "<i8"),
        ("rest", "<i8"),  # fatigue: start of the pause, -1 none
        ("rows", "<i8"),
        ("both", "<i8"),  # rows in which two independent sources gave the speed, or idling and rpm known
        ("reported", "<i8"),  # fatigue: how often
        ("peak", "<f8"),
        ("limit", "<f8"),
        ("before", "<f8"),
        ("latitude", "<f8"),
        ("longitude", "<f8"),
    ]
)
LIMITS: Final = np.dtype(
    [
        ("speed_limit", "<f8"),  # m/s, NaN none
        ("speed_minor", "<f8"),
        ("speed_moderate", "<f8"),
        ("speed_severe", "<f8"),
        ("speed_release", "<f8"),
        ("speed_hold", "<i8"),  # ns
        ("speed_merge", "<i8"),
        ("idle_still", "<f8"),
        ("idle_minor", "<i8"),  # ns
        ("idle_moderate", "<i8"),
        ("idle_severe", "<i8"),
        ("rpm", "<f8"),
        ("rpm_moderate", "<f8"),
        ("rpm_severe", "<f8"),
        ("rpm_release", "<f8"),
        ("rpm_hold", "<i8"),
        ("rest_still", "<f8"),
        ("drive", "<i8"),
        ("rest", "<i8"),
        ("again", "<i8"),
    ]
)
RULES: Final = 4  # rows of `kept`: SPEEDING - 3 … FATIGUE - 3

_rows_t = nb.typeof(np.empty(0, STATE))  # type: ignore[no-untyped-call]
_kept_t = nb.typeof(np.empty(0, KEPT))  # type: ignore[no-untyped-call]
_limits_t = nb.typeof(np.empty(0, LIMITS))  # type: ignore[no-untyped-call]
_found_t = nb.typeof(np.empty(0, FOUND))  # type: ignore[no-untyped-call]
_i1, _i2 = nb.int64[::1], nb.int64[:, ::1]


@nb.njit(
    nb.int64(_kept_t, nb.int64, _i2, nb.int64, nb.int64, nb.int64, nb.float64, nb.int64, _found_t, nb.int64),
    cache=True,
    nogil=True,
)
def tell(kept, kind, counts, opening, level, end, peak, now, found, n):  # type: ignore[no-untyped-def]
    """Write what rule `kind` found into found[n]; return n + 1."""
    one = kept[kind - SPEEDING]
    out = found[n]
    out.kind = kind
    out.open = opening
    out.level = level
    # Two independent sources of what matters, for at least half of the time.
    out.confirmed = 1 if 2 * one.both >= one.rows else 0
    out.oriented = 1
    out.start = one.start
    out.end = end
    out.at = now
    out.peak = peak
    out.speed_before = one.before
    out.limit = one.limit
    out.latitude = one.latitude
    out.longitude = one.longitude
    sources = 0
    for b in range(len(SPEED_BITS)):
        if 2 * counts[kind - SPEEDING, b] >= one.rows:
            sources |= SPEED_BITS[b]
    if kind in (SPEEDING, FATIGUE) and out.confirmed == 1:
        sources |= GNSS
    elif kind == OVER_REV:
        sources = ENGINE
    elif kind == IDLING:
        sources |= ENGINE if 2 * one.both >= one.rows else IGNITION
    out.sources = sources
    return n + 1


@nb.njit(nb.void(_kept_t, nb.int64, _i2, _rows_t, nb.int64, nb.int64), cache=True, nogil=True)
def begin(kept, kind, counts, rows, i, start):  # type: ignore[no-untyped-def]
    """Open rule `kind` at time `start`, seen at row `i`."""
    one = kept[kind - SPEEDING]
    row = rows[i]
    one.start = start
    one.last = row.t
    one.level = -1
    one.since_moderate = -1
    one.since_severe = -1
    one.rest = -1
    one.rows = 0
    one.both = 0
    one.reported = 0
    one.peak = 0.0
    one.limit = np.nan
    one.before = row.speed
    one.latitude = row.latitude
    one.longitude = row.longitude
    counts[kind - SPEEDING, :] = 0


@nb.njit(
    nb.int64(_kept_t, nb.int64, _limits_t, _i2, nb.int64, _found_t, nb.int64),
    cache=True,
    nogil=True,
)
def end(kept, kind, limits, counts, now, found, n):  # type: ignore[no-untyped-def]
    """Close rule `kind`; write the event if the rule's minimum was reached; return the number found."""
    one = kept[kind - SPEEDING]
    limit = limits[0]
    last = one.last + STEP_NS
    if one.start >= 0 and kind != FATIGUE:
        peak = one.peak
        if kind == IDLING:
            lasted = last - one.start
            peak = lasted / NS_PER_S
            one.level = -1
            if lasted >= limit.idle_severe:
                one.level = 2
            elif lasted >= limit.idle_moderate:
                one.level = 1
            elif lasted >= limit.idle_minor:
                one.level = 0
        if one.level >= 0:
            n = tell(kept, kind, counts, 0, one.level, last, peak, now, found, n)
    one.start = -1
    return n


@nb.njit(
    nb.types.UniTuple(nb.int64, 2)(  # type: ignore[no-untyped-call]
        _rows_t, nb.int64, nb.int64, _limits_t, _kept_t, _i2, _i1, _found_t
    ),
    cache=True,
    nogil=True,
)
def sustained(rows, first, ending, limits, kept, counts, memory, found):  # type: ignore[no-untyped-def]
    """Walk `rows` from `first`; return (next row, events written to `found`).

    Stops early when `found` might overflow. `ending` 1 closes every rule after the last row. `counts` [4, 5]: rows in
    which each speed source spoke during a rule's event; `memory` = 1 once a row was seen, time of the last row, of the
    last known speed, of the last row in which wheels and satellites agreed.
    """
    n = 0
    limit = limits[0]
    for i in range(first, len(rows)):
        if n + 16 > len(found):
            return i, n
        row = rows[i]
        t = row.t
        if memory[0] == 1 and (t - memory[1] > SILENCE_NS or t <= memory[1]):
            for kind in range(SPEEDING, FATIGUE):
                n = end(kept, kind, limits, counts, t, found, n)
            if kept[FATIGUE - SPEEDING].rest < 0:
                kept[FATIGUE - SPEEDING].rest = memory[1]
            if t <= memory[1]:
                kept[FATIGUE - SPEEDING].start = -1
        memory[0] = 1
        memory[1] = t
        known = not np.isnan(row.speed)
        if known:
            memory[2] = t
        speed_lost = t - memory[2] > SILENCE_NS
        wheels = (row.sources & (WHEEL | CAN | OBD)) != 0
        if wheels and (row.sources & GNSS) != 0:
            memory[3] = t
        both = wheels and t - memory[3] <= CHECKED_NS

        # Speeding. The start is where the limit was first passed by the minor share, if it was held from there.
        one = kept[SPEEDING - SPEEDING]
        allowed = row.limit if not np.isnan(row.limit) else limit.speed_limit
        if known and allowed > 0.0:
            share = row.speed / allowed
            if one.start < 0 and share >= limit.speed_minor:
                begin(kept, SPEEDING, counts, rows, i, t)
            if one.start >= 0 and share >= limit.speed_release:
                one.last = t
                one.rows += 1
                one.both += 1 if both else 0
                for b in range(len(SPEED_BITS)):
                    counts[0, b] += 1 if row.sources & SPEED_BITS[b] else 0
                if row.speed > one.peak:
                    one.peak = row.speed
                    one.limit = allowed
                if share < limit.speed_moderate:
                    one.since_moderate = -1
                elif one.since_moderate < 0:
                    one.since_moderate = t
                if share < limit.speed_severe:
                    one.since_severe = -1
                elif one.since_severe < 0:
                    one.since_severe = t
                if one.level < 0 and t - one.start >= limit.speed_hold:
                    one.level = 0
                    n = tell(kept, SPEEDING, counts, 1, 0, t, one.peak, t, found, n)
                if one.level >= 0 and one.since_moderate >= 0 and t - one.since_moderate >= limit.speed_hold:
                    one.level = max(one.level, 1)
                if one.level >= 0 and one.since_severe >= 0 and t - one.since_severe >= limit.speed_hold:
                    one.level = 2
            elif one.start >= 0 and (one.level < 0 or t - one.last >= limit.speed_merge):
                n = end(kept, SPEEDING, limits, counts, t, found, n)
        elif one.start >= 0 and (speed_lost or known):
            n = end(kept, SPEEDING, limits, counts, t, found, n)

        # Idling: the engine is known to run and the vehicle is known to stand.
        one = kept[IDLING - SPEEDING]
        running = row.rpm > 0.0 or (np.isnan(row.rpm) and row.ignition == 1)
        still = known and row.speed < (limit.idle_still if one.start < 0 else CREEP_FACTOR * limit.idle_still)
        if running and still:
            if one.start < 0:
                begin(kept, IDLING, counts, rows, i, t)
            one.last = t
            one.rows += 1
            one.both += 1 if row.rpm > 0.0 else 0
            for b in range(len(SPEED_BITS)):
                counts[1, b] += 1 if row.sources & SPEED_BITS[b] else 0
        elif one.start >= 0 and (known or t - one.last > SILENCE_NS):
            n = end(kept, IDLING, limits, counts, t, found, n)

        # Over-revving.
        one = kept[OVER_REV - SPEEDING]
        if row.rpm >= (limit.rpm if one.start < 0 else limit.rpm_release):
            if one.start < 0:
                begin(kept, OVER_REV, counts, rows, i, t)
            one.last = t
            one.rows += 1
            # Engine speed has one instrument; that the engine is driven or drives is the second sign.
            one.both += 1 if row.throttle >= 20.0 or row.speed >= 5.0 else 0
            if row.rpm > one.peak:
                one.peak = row.rpm
            if t - one.start >= limit.rpm_hold:
                if one.level < 0:
                    n = tell(kept, OVER_REV, counts, 1, 0, t, one.peak, t, found, n)
                level = 0
                if one.peak >= limit.rpm_severe:
                    level = 2
                elif one.peak >= limit.rpm_moderate:
                    level = 1
                one.level = level
        elif one.start >= 0 and (not np.isnan(row.rpm) or t - one.last > SILENCE_NS):
            n = end(kept, OVER_REV, limits, counts, t, found, n)

        # Fatigue: driving goes on until a pause of the legal length; what is unknown is taken for a pause.
        one = kept[FATIGUE - SPEEDING]
        if known and row.speed >= limit.rest_still:
            if one.start >= 0 and one.rest >= 0 and t - one.rest >= limit.rest:
                one.start = -1
            if one.start < 0:
                begin(kept, FATIGUE, counts, rows, i, t)
            one.rest = -1
            one.last = t
            one.rows += 1
            one.both += 1 if both else 0
            for b in range(len(SPEED_BITS)):
                counts[3, b] += 1 if row.sources & SPEED_BITS[b] else 0
            lasted = t - one.start
            if lasted >= limit.drive + one.reported * limit.again:
                level = min(one.reported, 2)
                one.reported += 1
                n = tell(kept, FATIGUE, counts, 0, level, t, lasted / NS_PER_S, t, found, n)
        elif one.rest < 0:
            one.rest = t
    if ending == 1 and memory[0] == 1 and n + RULES <= len(found):
        for kind in range(SPEEDING, FATIGUE):
            n = end(kept, kind, limits, counts, memory[1], found, n)
        kept[FATIGUE - SPEEDING].start = -1
        memory[0] = 0
    return len(rows), n
