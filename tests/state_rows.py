"""Rows of vehicle state made by hand: a speed profile and what each source would say of it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agent.state import GNSS, OBD, STEP_NS, WHEEL, State, empty_state
from agent.track import M_PER_DEG

KMH = 1 / 3.6
HOME = (36.6512, 117.1201)

Floats = npt.NDArray[np.float64]


def profile(*segments: tuple[float, float], start_kmh: float = 0.0) -> Floats:
    """Return speeds at 10 Hz (m/s): each segment is (seconds, acceleration in m/s²); speed never falls below zero."""
    speed = start_kmh * KMH
    out = []
    for seconds, acceleration in segments:
        for _ in range(round(seconds * 10)):
            out.append(speed)
            speed = max(0.0, speed + acceleration / 10)
    return np.array(out)


def slope(t_s: Floats, speed: Floats, at_s: Floats, width_s: float = 1.0) -> Floats:
    """Return the least-squares slope of the samples within `width_s` centred on each time, NaN below three samples."""
    out = np.full(len(at_s), np.nan)
    for i, at in enumerate(at_s):
        near = np.abs(t_s - at) <= width_s / 2 + 1e-9
        if near.sum() >= 3:
            t, v = t_s[near] - t_s[near].mean(), speed[near]
            out[i] = (t * (v - v.mean())).sum() / (t * t).sum()
    return out


def rows_of(
    speed: Floats,
    *,
    sources: Sequence[str] = ("wheel", "gnss", "imu"),
    lateral: Floats | None = None,
    rpm: float = 1800.0,
    start_s: float = 0.0,
    bearing_deg: float = 45.0,
) -> State:
    """Return rows in which `sources` (wheel, obd, gnss, imu) report `speed` and `lateral` acceleration truly."""
    n = len(speed)
    rows = empty_state(n)
    rows["t"] = round(start_s * 10) * STEP_NS + np.arange(n) * STEP_NS
    # The same least-squares slope over the eleven rows of 1 s, as a sum over the whole profile
    weights = np.arange(-5, 6)
    padded = np.pad(speed, 5, mode="edge")
    lon = np.convolve(padded, weights[::-1], "valid") / (weights**2).sum() * 10
    lat = np.zeros(n) if lateral is None else lateral
    rows["speed"] = speed
    rows["rpm"] = rpm
    for name, bit in (("wheel", WHEEL), ("obd", OBD), ("gnss", GNSS)):
        if name in sources:
            rows["sources"] |= bit
            rows[f"lon_{name}"] = lon
            rows[f"speed_{name}"] = speed
    if "imu" in sources:
        rows["lon_imu"] = lon
        rows["lat_imu"] = lat
        rows["lat_yaw"] = lat
        rows["horizontal"] = np.hypot(np.nan_to_num(lon), lat)
        rows["vertical"] = 0.5
        rows["yaw_rate"] = np.degrees(lat / np.maximum(speed, 1.0))
        rows["mount"] = 0.9
    if "gnss" in sources:
        metres = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 20)])
        rows["latitude"] = HOME[0] + metres * np.cos(np.radians(bearing_deg)) / M_PER_DEG
        east = metres * np.sin(np.radians(bearing_deg))
        rows["longitude"] = HOME[1] + east / (M_PER_DEG * np.cos(np.radians(HOME[0])))
        rows["accuracy"] = 3.0
    return rows


def unoriented(horizontal: Floats, yaw_degps: Floats, vertical: float = 1.0) -> State:
    """Return rows of a box that knows neither speed nor its mount."""
    rows = empty_state(len(horizontal))
    rows["t"] = np.arange(len(horizontal)) * STEP_NS
    rows["horizontal"], rows["yaw_rate"], rows["vertical"] = horizontal, yaw_degps, vertical
    return rows


def split(rows: State, cuts: Sequence[int]) -> list[State]:
    """Cut rows at the given indices (any order, any repeats)."""
    return np.split(rows, sorted(min(c, len(rows)) for c in cuts))
