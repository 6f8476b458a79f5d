# ruff: noqa: PLR1730 - max() of a NaN differs between numba and Python; a comparison does not
"""The kernel of the simplified track: see agent.track for the bound that it keeps."""

import numba as nb
import numpy as np

from agent.track import (
    AXIS,
    CONE,
    FARTHEST,
    LAST_LAT,
    LAST_LON,
    LAST_SPEED,
    LAT,
    LEFT,
    LON,
    LONGEST_M,
    M_PER_DEG,
    RIGHT,
    SPEED,
    STARTED,
)

_f1, _f2, _i1, _u1 = nb.float64[::1], nb.float64[:, ::1], nb.int64[::1], nb.uint8[::1]


@nb.njit(nb.int64(_i1, _f1, _f1, _f1, _u1, nb.float64, _f1, _i1, _i1, _f2), cache=True, nogil=True)
def simplify_fixes(t, lat, lon, speed, marks, error_m, state, times, out_t, out):  # type: ignore[no-untyped-def]
    """Walk the fixes; write those to keep into `out_t` and `out` [2 n, 3]; return how many.

    `marks` [n]: 0 pass over, 1 take the fix, 2 keep the fix before it for certain, 3 both. `state` (agent.track's
    indices) and `times` (kept fix, last fix, ns) go on from call to call. The first fix is written at once, the last
    one of all is the caller's to add.
    """
    n = 0
    across = 0.8 * error_m
    back = 0.6 * error_m
    for i in range(len(t)):
        if marks[i] & 2 and state[STARTED] == 1.0 and times[1] != times[0]:
            out_t[n] = times[1]
            out[n, 0], out[n, 1], out[n, 2] = state[LAST_LAT], state[LAST_LON], state[LAST_SPEED]
            n += 1
            times[0] = times[1]
            state[LAT], state[LON], state[SPEED] = state[LAST_LAT], state[LAST_LON], state[LAST_SPEED]
            state[FARTHEST] = 0.0
            state[CONE] = 0.0
        if not marks[i] & 1 or np.isnan(lat[i]) or np.isnan(lon[i]):
            continue
        if state[STARTED] == 0.0:
            out_t[n] = t[i]
            out[n, 0], out[n, 1], out[n, 2] = lat[i], lon[i], speed[i]
            n += 1
            state[STARTED] = 1.0
            state[LAT], state[LON], state[SPEED] = lat[i], lon[i], speed[i]
            state[LAST_LAT], state[LAST_LON], state[LAST_SPEED] = lat[i], lon[i], speed[i]
            state[FARTHEST] = 0.0
            state[CONE] = 0.0
            times[0] = t[i]
            times[1] = t[i]
            continue
        if lat[i] == state[LAST_LAT] and lon[i] == state[LAST_LON]:
            times[1] = t[i]
            state[LAST_SPEED] = speed[i]
            continue
        for attempt in range(2):
            scale = np.cos(np.radians(state[LAT]))
            dlon = lon[i] - state[LON]
            if dlon > 180.0:
                dlon -= 360.0
            elif dlon < -180.0:
                dlon += 360.0
            y = (lat[i] - state[LAT]) * M_PER_DEG
            x = dlon * M_PER_DEG * scale
            r = np.sqrt(x * x + y * y)
            fits = r >= state[FARTHEST] - back and r <= LONGEST_M
            # The cone is kept relative to the direction that opened it, so that angles do not wrap.
            angle = np.arctan2(y, x)
            if fits and state[CONE] == 1.0:
                turn = angle - state[AXIS]
                if turn > np.pi:
                    turn -= 2 * np.pi
                elif turn < -np.pi:
                    turn += 2 * np.pi
                fits = state[LEFT] >= turn >= state[RIGHT]
            if fits or attempt == 1:
                break
            # The last fix becomes a kept one and the cone opens again from there.
            out_t[n] = times[1]
            out[n, 0], out[n, 1], out[n, 2] = state[LAST_LAT], state[LAST_LON], state[LAST_SPEED]
            n += 1
            times[0] = times[1]
            state[LAT], state[LON], state[SPEED] = state[LAST_LAT], state[LAST_LON], state[LAST_SPEED]
            state[FARTHEST] = 0.0
            state[CONE] = 0.0
        if r > across:
            half = np.arcsin(across / r)
            if state[CONE] == 0.0:
                state[CONE] = 1.0
                state[AXIS] = angle
                state[LEFT] = half
                state[RIGHT] = -half
            else:
                turn = angle - state[AXIS]
                if turn > np.pi:
                    turn -= 2 * np.pi
                elif turn < -np.pi:
                    turn += 2 * np.pi
                if turn + half < state[LEFT]:
                    state[LEFT] = turn + half
                if turn - half > state[RIGHT]:
                    state[RIGHT] = turn - half
        if r > state[FARTHEST]:
            state[FARTHEST] = r
        times[1] = t[i]
        state[LAST_LAT], state[LAST_LON], state[LAST_SPEED] = lat[i], lon[i], speed[i]
    return n
