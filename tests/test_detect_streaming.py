"""Any split of the rows gives the same events, trips and tracks; each kernel equals its own Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.detect import harsh, sustained
from agent.detect.detector import Detector, harsh_rules, sustained_limits
from agent.detect.found import FOUND
from agent.detect.settings import DetectionSettings
from agent.records import Event, Track, Trip
from agent.state import STATE, STEP_NS, State, empty_state
from agent.trips import Trips, TripSettings
from tests.state_rows import HOME, profile, rows_of, split


def wild(seed: int, n: int = 3000) -> State:
    """Return rows of eventful driving with holes, jumps, sources that come and go, and absurd values."""
    rng = np.random.default_rng(seed)
    speed = profile(
        *[(float(rng.uniform(1, 12)), float(rng.choice([0, 0, 1.2, -1.3, 3.3, -3.4, -5.0, 2.7]))) for _ in range(60)],
        start_kmh=float(rng.uniform(0, 90)),
    )[:n]
    speed = np.minimum(speed, 60.0)
    n = len(speed)
    lateral = np.where(rng.random(n) < 0.02, 1.0, 0.0)
    lateral = np.convolve(lateral, np.ones(15), "same") * rng.choice([-4.5, 3.5, 6.0])
    rows = rows_of(speed, sources=("wheel", "obd", "gnss", "imu"), lateral=lateral)
    for name in rows.dtype.names or ():
        if rows.dtype[name].kind == "f" and rng.random() < 0.5:
            for _ in range(4):
                a = int(rng.integers(0, n))
                rows[name][a : a + int(rng.integers(1, 400))] = np.nan
    rows["lon_obd"][rng.integers(0, n, 20)] = -15.0
    rows["rpm"][rng.integers(0, n)] = 6000.0
    rows["rpm"][: int(rng.integers(0, 400))] = 6400.0
    rows["brake"] = (rows["lon_wheel"] < -2).astype(float)
    rows["ignition"] = rng.choice([-1, 0, 1], n) if rng.random() < 0.2 else int(rng.choice([-1, 1]))
    rows["limit"] = 15.0 if rng.random() < 0.5 else np.nan
    for _ in range(3):
        rows["t"][int(rng.integers(0, n)) :] += int(rng.choice([1, 30, 130, 700])) * 1_000_000_000
    return rows


def run(rows: State, cuts: list[int]) -> tuple[list[Event], list[tuple[Trip, list[Track]]]]:
    detector, trips = Detector(DetectionSettings()), Trips(TripSettings())
    trips.set_clock(1_700_000_000_000_000_000, "gnss")
    events, done = [], []
    for part in split(rows, cuts):
        new = detector.step(part)
        events += new
        done += trips.step(part, new)
    last = detector.finish()
    return events + last, done + trips.finish(last)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 3000), max_size=12))
def test_any_split_of_the_rows_gives_the_same_events_trips_and_tracks(seed: int, cuts: list[int]) -> None:
    rows = wild(seed)
    assert run(rows, cuts) == run(rows, [])


def test_row_by_row_gives_the_same_events_trips_and_tracks() -> None:
    rows = wild(3)
    whole = run(rows, [])
    assert whole[0]
    assert whole[1]
    assert run(rows, list(range(1, len(rows)))) == whole


def test_read_only_rows_are_taken() -> None:
    rows = wild(3)
    rows.setflags(write=False)
    assert run(rows, [100])[0] == run(wild(3), [])[0]


def recarray(array: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """Give a structured array the attribute access that numba gives it."""
    return array.view(np.recarray)


def same(a: np.ndarray, b: np.ndarray) -> None:  # type: ignore[type-arg]
    assert a.dtype == b.dtype
    for name in a.dtype.names or ():
        np.testing.assert_array_equal(a[name], b[name], name)
    if not a.dtype.names:
        np.testing.assert_array_equal(a, b)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_harsh_kernel_equals_its_python(seed: int) -> None:
    rows = wild(seed, 700)

    def fresh() -> list[np.ndarray]:  # type: ignore[type-arg]
        machines = np.zeros(harsh.MACHINES, harsh.MACHINE)
        machines["quiet_until"] = np.iinfo(np.int64).min
        return [
            harsh_rules(DetectionSettings()),
            machines,
            np.zeros((4, harsh.GROUPS)),
            np.zeros((4, harsh.GROUPS), np.int64),
            np.full((harsh.RING, harsh.COLUMNS), np.nan),
            np.zeros(3, np.int64),
            np.full((len(rows), 2), np.nan),
            np.zeros(256, FOUND),
        ]

    compiled, plain = fresh(), fresh()
    got = harsh.harsh(rows, 0, 1, *compiled)
    helpers = harsh.recent, harsh.judge
    harsh.recent, harsh.judge = (h.py_func for h in helpers)
    try:
        views = [recarray(a) if a.dtype.names else a for a in plain]
        assert harsh.harsh.py_func(recarray(rows), 0, 1, *views) == got
    finally:
        harsh.recent, harsh.judge = helpers
    for a, b in zip(compiled, plain, strict=True):
        same(a, b)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_sustained_kernel_equals_its_python(seed: int) -> None:
    rows = wild(seed, 700)
    limits = sustained_limits(DetectionSettings())
    limits["idle_minor"] = limits["speed_hold"] = 2_000_000_000
    limits["drive"] = limits["rest"] = 20_000_000_000

    def fresh() -> list[np.ndarray]:  # type: ignore[type-arg]
        kept = np.zeros(sustained.RULES, sustained.KEPT)
        kept["start"] = kept["rest"] = -1
        return [limits.copy(), kept, np.zeros((4, 5), np.int64), np.zeros(4, np.int64), np.zeros(256, FOUND)]

    compiled, plain = fresh(), fresh()
    got = sustained.sustained(rows, 0, 1, *compiled)
    helpers = sustained.tell, sustained.begin, sustained.end
    sustained.tell, sustained.begin, sustained.end = (h.py_func for h in helpers)
    try:
        views = [recarray(a) if a.dtype.names else a for a in plain]
        assert sustained.sustained.py_func(recarray(rows), 0, 1, *views) == got
    finally:
        sustained.tell, sustained.begin, sustained.end = helpers
    for a, b in zip(compiled, plain, strict=True):
        same(a, b)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_trip_kernel_equals_its_python(seed: int) -> None:
    from agent import trip_kernel as k

    rows = wild(seed, 900)
    rules = Trips(TripSettings())._rules

    def fresh() -> list[np.ndarray]:  # type: ignore[type-arg]
        trip = np.zeros(1, k.TRIP)
        for name in ("known", "off", "stop", "resume", "place_t", "chord_t"):
            trip[name] = -1
        sums, minutes = np.zeros((2, k.SUMS)), np.zeros(k.MINUTES)
        return [rules.copy(), trip, sums, minutes, np.full((4, 2), -1.0), np.zeros(len(rows), np.uint8)]

    compiled, plain = fresh(), fresh()
    got = k.drive(rows, 0, *compiled)
    helpers = k.apart, k.leading, k.engine_of
    k.apart, k.leading, k.engine_of = (h.py_func for h in helpers)
    try:
        views = [recarray(a) if a.dtype.names else a for a in plain]
        assert k.drive.py_func(recarray(rows), 0, *views) == got
    finally:
        k.apart, k.leading, k.engine_of = helpers
    for a, b in zip(compiled, plain, strict=True):
        for name in a.dtype.names or ("",):
            left, right = (a[name], b[name]) if name else (a, b)
            np.testing.assert_allclose(left, right, rtol=1e-12, atol=1e-9, err_msg=name)


@settings(max_examples=25, deadline=None)
@given(st.binary(min_size=0, max_size=40 * STATE.itemsize), st.integers(0, 99))
def test_garbage_in_the_rows_raises_nothing(noise: bytes, seed: int) -> None:
    n = len(noise) // STATE.itemsize
    rows = empty_state(n + 20)
    rows[:n] = np.frombuffer(noise, STATE, n)
    rng = np.random.default_rng(seed)
    rows["t"] = np.cumsum(rng.integers(1, 40, len(rows))) * STEP_NS
    rows["quiet_ns"] = np.abs(rows["quiet_ns"] // 4)
    with np.errstate(all="ignore"):
        run(rows, [])


@pytest.mark.parametrize("backwards_s", [5, 500])
def test_time_that_steps_back_ends_what_was_open(backwards_s: int) -> None:
    rows = rows_of(np.full(6000, 15.0))
    rows["t"][3000:] -= backwards_s * 1_000_000_000
    events, trips = run(rows, [])
    assert events == []
    assert [trip.start_latitude for trip, _ in trips] == [pytest.approx(HOME[0]), pytest.approx(36.680, abs=1e-2)]
    assert all(trip.end_ns >= trip.start_ns for trip, _ in trips)
