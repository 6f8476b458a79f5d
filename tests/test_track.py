import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.track import M_PER_DEG, Points, Simplifier, decode, encode, simplify

Floats = npt.NDArray[np.float64]


def wander(seed: int, n: int, noise_m: float, latitude: float = 56.0) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """Return fixes of a drive that bends, stops and shakes by `noise_m`."""
    rng = np.random.default_rng(seed)
    course = np.cumsum(rng.normal(0, 0.05, n))
    step = np.where(rng.random(n) < 0.2, 0.0, rng.uniform(0, 25, n))
    x = np.cumsum(np.cos(course) * step) + rng.normal(0, noise_m, n)
    y = np.cumsum(np.sin(course) * step) + rng.normal(0, noise_m, n)
    lon = 10 + x / M_PER_DEG / math.cos(math.radians(latitude))
    return np.arange(n, dtype=np.int64) * 1_000_000_000, latitude + y / M_PER_DEG, lon


def farthest(lat: Floats, lon: Floats, kept_lat: Floats, kept_lon: Floats, of: npt.NDArray[np.int64]) -> float:
    """Return the largest distance (m) of any fix from the kept segment that stands for it; `of`: indices kept."""
    worst = 0.0
    for a, b, i, j in zip(range(len(of) - 1), range(1, len(of)), of[:-1], of[1:], strict=True):
        scale = M_PER_DEG * math.cos(math.radians(kept_lat[a]))
        bx, by = (kept_lon[b] - kept_lon[a]) * scale, (kept_lat[b] - kept_lat[a]) * M_PER_DEG
        px, py = (lon[i : j + 1] - kept_lon[a]) * scale, (lat[i : j + 1] - kept_lat[a]) * M_PER_DEG
        along = np.clip((px * bx + py * by) / max(bx * bx + by * by, 1e-12), 0, 1)
        worst = max(worst, float(np.hypot(px - along * bx, py - along * by).max()))
    return worst


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(2, 600),
    st.sampled_from([0.0, 0.3, 3.0, 12.0]),
    st.sampled_from([2.0, 5.0, 20.0]),
    st.sampled_from([0.0, 36.6, -33.0, 69.0]),
)
def test_no_removed_fix_is_farther_than_the_stated_error(
    seed: int, n: int, noise_m: float, error_m: float, latitude: float
) -> None:
    t, lat, lon = wander(seed, n, noise_m, latitude)
    kept = simplify(t, lat, lon, error_m)
    assert kept[0] == 0
    assert np.all(np.diff(kept) > 0)
    assert farthest(lat, lon, lat[kept], lon[kept], kept) <= error_m
    # and it still holds for what is stored: coordinates rounded to 1e-7 degrees
    points = decode(encode(Points(t[kept], lat[kept], lon[kept], np.full(len(kept), 3.0)), 0, error_m))
    assert farthest(lat, lon, points.lat, points.lon, kept) <= error_m


def test_straight_road_keeps_its_ends_and_a_corner_its_corner() -> None:
    t = np.arange(200, dtype=np.int64) * 1_000_000_000
    lat = 36.0 + np.arange(200) * 1e-4
    lon = np.full(200, 117.0)
    assert simplify(t, lat, lon, 5.0).tolist() == [0, 199]
    lat[100:], lon[100:] = lat[100], 117.0 + np.arange(100) * 1e-4
    assert simplify(t, lat, lon, 5.0).tolist() == [0, 100, 199]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 400), max_size=8))
def test_any_split_of_the_fixes_keeps_the_same_points(seed: int, cuts: list[int]) -> None:
    t, lat, lon = wander(seed, 400, 2.0)
    speed = np.arange(400.0)
    marks = np.random.default_rng(seed).integers(0, 4, 400).astype(np.uint8)
    whole, parts = Simplifier(5.0), Simplifier(5.0)
    whole.step(Points(t, lat, lon, speed), marks)
    edges = [0, *sorted(cuts), 400]
    for a, b in pairwise(edges):
        parts.step(Points(t[a:b], lat[a:b], lon[a:b], speed[a:b]), marks[a:b])
    for one, other in zip(whole.points(), parts.points(), strict=True):
        np.testing.assert_array_equal(one, other)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_kernel_equals_its_python(seed: int) -> None:
    from agent.track_kernel import simplify_fixes

    t, lat, lon = wander(seed, 300, 2.0)
    lat[np.random.default_rng(seed).integers(0, 300, 9)] = np.nan
    marks = np.random.default_rng(seed).integers(0, 4, 300).astype(np.uint8)

    def run(kernel: object) -> tuple[int, list[npt.NDArray[np.float64]]]:
        state, times, out_t, out = np.zeros(13), np.zeros(2, np.int64), np.zeros(600, np.int64), np.zeros((600, 3))
        n = kernel(t, lat, lon, np.ones(300), marks, 4.8, state, times, out_t, out)  # type: ignore[operator]
        return n, [out_t[:n], out[:n]]

    compiled, plain = run(simplify_fixes), run(simplify_fixes.py_func)
    assert compiled[0] == plain[0]
    for a, b in zip(compiled[1], plain[1], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("n", [0, 1, 2, 499, 500, 501, 1400])
def test_pieces_of_a_long_track_join_to_the_whole(n: int) -> None:
    rng = np.random.default_rng(n)
    points = Points(
        np.cumsum(rng.integers(1, 60_000, n)) * 1_000_000,
        36 + rng.normal(0, 1, n),
        117 + rng.normal(0, 1, n),
        np.where(rng.random(n) < 0.2, np.nan, rng.uniform(0, 40, n)),
    )
    pieces = encode(points, 5, 5.0)
    assert all(len(p.dt_ms) <= 500 and p.trip_start_ns == 5 and p.error_m == 5.0 for p in pieces)
    back = decode(pieces)
    np.testing.assert_array_equal(back.t, points.t)
    np.testing.assert_allclose(back.lat, points.lat, atol=6e-8)
    np.testing.assert_allclose(back.lon, points.lon, atol=6e-8)
    np.testing.assert_allclose(back.speed, points.speed, atol=0.0051)


def test_track_across_the_date_line_is_no_trip_around_the_world() -> None:
    t = np.arange(100, dtype=np.int64) * 1_000_000_000
    lon = (179.995 + np.arange(100) * 1e-4 + 180) % 360 - 180
    kept = simplify(t, np.full(100, -17.0), lon, 5.0)
    assert len(kept) == 2
