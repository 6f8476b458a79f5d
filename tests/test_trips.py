import numpy as np
import pytest
from msgspec.structs import replace

from agent.detect.detector import Detector
from agent.detect.settings import DetectionSettings
from agent.records import Event, Track, Trip
from agent.state import STEP_NS, State, empty_state
from agent.track import decode
from agent.trips import Trips, TripSettings
from tests.state_rows import HOME, KMH, profile, rows_of

S = 1_000_000_000
Done = list[tuple[Trip, list[Track]]]


def found(rows: State, events: list[Event] | None = None) -> Done:
    trips = Trips(TripSettings())
    return trips.step(rows, events or []) + trips.finish()


def one(rows: State, events: list[Event] | None = None) -> Trip:
    ((trip, _),) = found(rows, events)
    return trip


def leg(minutes: float = 5.0, kmh: float = 50.0) -> tuple[tuple[float, float], ...]:
    """Return segments: set off, drive, come to stand."""
    speed = kmh * KMH
    return (speed / 1.5, 1.5), (60 * minutes, 0), (speed / 1.5 + 0.1, -1.5)


def after(rows: State, more: State, gap_s: float) -> State:
    """Return `rows`, nothing for `gap_s`, and `more`."""
    more = more.copy()
    more["t"] += rows["t"][-1] + STEP_NS + round(gap_s * S) - more["t"][0]
    return np.concatenate([rows, more])


def moved_on(rows: State, north_m: float) -> State:
    rows = rows.copy()
    rows["latitude"] += north_m / 111_195
    return rows


def still(seconds: float, **more: object) -> State:
    return rows_of(np.zeros(round(seconds * 10)), **more)  # type: ignore[arg-type]


def test_trip_is_engine_on_to_engine_off() -> None:
    rows = rows_of(profile((60, 0), *leg(), (300, 0)))
    rows["rpm"][:100] = np.nan
    rows["rpm"][100 + 5000 :] = np.nan
    trip = one(rows)
    assert trip.start_ns == 10 * S
    assert trip.end_ns == pytest.approx(510 * S, abs=S)
    assert (trip.stops, trip.distance_m) == (1, pytest.approx(np.nansum(rows["speed"]) / 10, rel=1e-3))


def test_trip_by_gnss_alone_is_first_motion_to_last_motion() -> None:
    rows = rows_of(profile((60, 0), *leg(), (400, 0)), sources=("gnss",), rpm=np.nan)
    trip = one(rows)
    moving = np.flatnonzero(rows["speed"] > 1.0)
    assert trip.start_ns == pytest.approx(moving[0] * STEP_NS, abs=2 * STEP_NS)
    assert trip.end_ns == pytest.approx(moving[-1] * STEP_NS, abs=S)
    assert trip.stops == 1  # the arrival
    assert trip.start_latitude == pytest.approx(HOME[0], abs=1e-5)


def test_recording_that_begins_and_ends_in_motion_is_a_trip() -> None:
    trip = one(rows_of(np.full(3000, 15.0), rpm=np.nan))
    assert (trip.start_ns, trip.end_ns, trip.stops) == (0, 2999 * STEP_NS, 0)
    assert trip.distance_m == pytest.approx(2999 * 1.5, rel=2e-3)


def test_parked_car_that_idles_or_is_moved_a_little_is_no_trip() -> None:
    assert found(still(3600)) == []
    assert found(rows_of(profile((60, 0), (3, 1.0), (3, -1.0), (60, 0)))) == []


def test_gnss_drift_while_parked_is_no_trip() -> None:
    rng = np.random.default_rng(3)
    n = 6 * 36_000
    rows = rows_of(np.abs(np.convolve(rng.normal(0, 0.7, n), np.ones(20) / 4, "same")), sources=("gnss",), rpm=np.nan)
    metres = 25 * np.sin(np.arange(n) / 900) + np.cumsum(rng.normal(0, 0.05, n))
    rows["latitude"], rows["longitude"] = HOME[0] + metres / 111_195, HOME[1]
    assert rows["speed"].max() > 1.5
    assert found(rows) == []


def test_gnss_drift_after_parking_does_not_lengthen_the_trip() -> None:
    drive = rows_of(profile(*leg()), sources=("gnss",), rpm=np.nan)
    rng = np.random.default_rng(3)
    parked = rows_of(np.where(rng.random(12_000) < 0.01, 1.3, 0.0), sources=("gnss",), rpm=np.nan)
    parked["latitude"], parked["longitude"] = drive["latitude"][-1], drive["longitude"][-1]
    trip = one(after(drive, parked, 0))
    assert trip.end_ns == pytest.approx(int(drive["t"][-1]), abs=5 * S)


@pytest.mark.parametrize("rpm", [800.0, np.nan])
def test_red_lights_and_short_waits_do_not_split_a_trip(rpm: float) -> None:
    rows = rows_of(profile(*leg(), (120, 0), *leg(), (20, 0), *leg(), (1, 0)), rpm=rpm)
    trip = one(rows)
    assert trip.stops == 2
    assert trip.idle_s == pytest.approx(140, abs=5)


def test_engine_that_stops_at_a_light_does_not_split_a_trip() -> None:
    rows = rows_of(profile(*leg(), (90, 0), *leg()))
    rows["rpm"][rows["speed"] == 0] = 0.0
    assert one(rows).stops == 1


def test_engine_off_for_three_minutes_ends_a_trip_and_the_next_is_another() -> None:
    rows = rows_of(profile(*leg(), (240, 0), *leg()))
    rows["rpm"][rows["speed"] < 0.1] = 0.0
    first, second = (trip for trip, _ in found(rows))
    assert first.end_ns < second.start_ns
    assert second.start_ns == pytest.approx(int(rows["t"][rows["speed"] > 0.5][-1]) - 318 * S, abs=20 * S)


def test_hybrid_that_drives_with_its_engine_off_is_still_driving() -> None:
    rows = rows_of(profile(*leg(20)))
    rows["rpm"][2000:8000] = 0.0
    assert one(rows).distance_m == pytest.approx(rows["speed"].sum() / 10, rel=1e-3)


def test_data_gap_in_motion_is_bridged_by_the_straight_line() -> None:
    a = rows_of(np.full(3000, 20.0), rpm=np.nan)
    b = moved_on(rows_of(np.full(3000, 20.0), rpm=np.nan), 5000 + 4242.6)
    b["longitude"] += a["longitude"][-1] - b["longitude"][0]
    rows = after(a, moved_on(b, -5000.0), 300)
    trip = one(rows)
    assert trip.quality.gap_s == pytest.approx(300, abs=1)
    assert trip.quality.longest_gap_s == pytest.approx(300, abs=1)
    straight = np.hypot(rows["latitude"][3000] - rows["latitude"][2999], 0) * 111_195
    assert trip.distance_m == pytest.approx(12_000 + straight, rel=0.01)


def test_gap_in_motion_that_is_too_long_ends_the_trip_where_it_began() -> None:
    a = rows_of(np.full(3000, 8.0), rpm=np.nan)
    first, second = (trip for trip, _ in found(after(a, a, 11 * 3600)))
    assert first.end_ns == a["t"][-1]
    assert second.start_ns - first.end_ns > 10 * 3600 * S


def test_gap_of_rows_without_a_value_is_the_same_as_a_gap_without_rows() -> None:
    a = rows_of(np.full(3000, 8.0), rpm=np.nan)
    nothing = empty_state(7000)
    nothing["t"] = np.arange(7000) * STEP_NS
    nothing["quiet_ns"] = np.arange(7000) * STEP_NS
    assert next(t.end_ns for t, _ in found(after(after(a, nothing, 0), a, 0))) == a["t"][-1]


def test_power_that_is_lost_while_standing_ends_the_trip_early() -> None:
    drive = rows_of(profile(*leg(), (5, 0)))
    assert len(found(after(drive, drive, 150))) == 2
    assert len(found(after(drive, drive, 60))) == 1


def test_tunnel_without_speed_is_driven_through() -> None:
    rows = rows_of(np.full(6000, 20.0), sources=("gnss",), rpm=np.nan)
    for name in ("speed", "speed_gnss", "latitude", "longitude", "lon_gnss"):
        rows[name][2000:4000] = np.nan
    rows["sources"][2000:4000] = 0
    trip = one(rows)
    assert trip.distance_m == pytest.approx(12_000, rel=0.01)
    assert trip.quality.gap_s == 0.0
    assert trip.quality.position_share == pytest.approx(2 / 3, abs=0.01)
    assert trip.quality.speed_share == {"gnss": pytest.approx(2 / 3, abs=0.01)}


def test_distances_by_source_are_each_sources_own() -> None:
    rows = rows_of(np.full(6000, 20.0), sources=("wheel", "gnss"))
    rows["speed_wheel"] = 20.4
    rows["speed_obd"][3000:] = 21.0
    by_source = one(rows).distance_by_source_m
    assert by_source["wheel"] == pytest.approx(0.1 * 5999 * 20.4, rel=1e-3)
    assert by_source["obd"] == pytest.approx(0.1 * 2999 * 21.0, rel=1e-3)
    assert by_source["position"] == pytest.approx(0.1 * 5999 * 20.0, rel=2e-3)


def test_a_kilometre_counts_when_car_and_satellites_both_tell_it() -> None:
    rows = rows_of(np.full(6000, 20.0), sources=("wheel", "gnss"))
    rows["speed"] = 20.5  # the car says more than the positions' path
    agreed = one(rows)
    assert agreed.distance_m == agreed.distance_by_source_m["position"] < agreed.distance_by_source_m["fused"]
    for name in ("latitude", "longitude"):
        rows[name][:1200] = np.nan  # no fix for a fifth of the way: the car's own count holds
    unseen = one(rows)
    assert unseen.distance_m == unseen.distance_by_source_m["fused"] > unseen.distance_by_source_m["position"]


def test_histogram_maximum_and_times_add_up() -> None:
    trip = one(rows_of(profile((30, 0), *leg(5, 54), (30, 0), *leg(5, 90), (30, 0))))
    assert trip.max_speed_mps == pytest.approx(25.0, abs=0.2)
    assert sum(trip.speed_histogram_s) == pytest.approx((trip.end_ns - trip.start_ns) / S, abs=1)
    assert trip.speed_histogram_s[5] == pytest.approx(300, abs=10)
    assert trip.moving_s + trip.idle_s == pytest.approx((trip.end_ns - trip.start_ns) / S, abs=2)
    assert trip.smoothness_mps2 == pytest.approx(0.4, abs=0.2)


def test_single_speed_spike_is_not_the_maximum_speed() -> None:
    rows = rows_of(np.full(3000, 20.0))
    rows["speed"][1500] = 45.0
    assert one(rows).max_speed_mps == 20.0


def clocked(local_solar_hour: float) -> Trip:
    trips = Trips(TripSettings())
    # 2026-11-01T00:00Z; local solar hour = UTC hour + longitude / 15
    utc_hour = local_solar_hour - HOME[1] / 15
    trips.set_clock(1_793_491_200 * S + round(utc_hour * 3600) * S, "gnss")
    ((trip, _),) = trips.step(rows_of(np.full(36_000, 15.0)), []) + trips.finish()
    return trip


def test_night_is_22_to_5_by_the_sun_at_the_place() -> None:
    assert clocked(12.0).night_s == 0.0
    assert clocked(23.0).night_s == pytest.approx(3600, abs=1)
    assert clocked(21.5).night_s == pytest.approx(1800, abs=61)
    assert clocked(4.5).night_s == pytest.approx(1800, abs=61)
    trip = clocked(12.0)
    assert trip.quality.time == "gnss"
    assert sum(trip.hour_of_day_s) == pytest.approx(3600, abs=1)
    assert np.flatnonzero(trip.hour_of_day_s).tolist() == [4, 5]


def test_hours_are_unknown_while_the_time_is() -> None:
    trip = one(rows_of(np.full(3000, 15.0)))
    assert (trip.night_s, trip.hour_of_day_s, trip.quality.time) == (0.0, [], "none")


@pytest.mark.parametrize(("uncertainty_s", "told"), [(86_400, 0), (1, 600)])
def test_a_restored_time_that_may_be_a_day_off_tells_no_hours(uncertainty_s: int, told: int) -> None:
    """They would stay wrong in the record, and in a price, when satellites tell the boot's time later."""
    trips = Trips(TripSettings())
    trips.set_clock(1_793_491_200 * S + round((23 - HOME[1] / 15) * 3600) * S, "restored", uncertainty_s * S)
    trips.step(rows_of(np.full(6000, 15.0)), [])
    ((trip, _),) = trips.finish()
    assert (sum(trip.hour_of_day_s), trip.night_s) == pytest.approx((told, told), abs=1)
    assert trip.quality.time == "restored"


def test_clock_learned_late_holds_for_the_whole_trip() -> None:
    trips = Trips(TripSettings())
    rows = rows_of(np.full(6000, 15.0))
    trips.step(rows[:5000], [])
    trips.set_clock(1_793_491_200 * S, "ntp")
    trips.step(rows[5000:], [])
    ((trip, _),) = trips.finish()
    assert sum(trip.hour_of_day_s) == pytest.approx(600, abs=1)


def test_events_are_counted_in_the_trip_in_which_they_happened() -> None:
    detector, trips = Detector(DetectionSettings()), Trips(TripSettings())
    drive = rows_of(profile(*leg(), (3, 2.7), (60, 0), (3, -3.4), (60, 0)))
    rows = after(drive, rows_of(profile(*leg())), 7200)
    done, events = [], []
    for part in np.array_split(rows, 7):
        new = detector.step(part)
        events += [replace(e, trip_t_ns=trips.start_of(e.t_ns)) for e in new]
        done += trips.step(part, new)
    last = detector.finish()
    done += trips.finish(last)
    assert [trip.event_counts for trip, _ in done] == [
        {"harsh_acceleration.minor": 1, "harsh_braking.moderate": 1},
        {},
    ]
    assert trips.start_of(events[0].t_ns) == done[0][0].start_ns
    assert trips.start_of(int(drive["t"][-1]) + 3600 * S) is None


def test_unconfirmed_events_are_counted_as_such() -> None:
    rows = rows_of(profile(*leg(), (60, 0)), sources=("gnss",))
    detector = Detector(DetectionSettings())
    rows["lon_gnss"][1000:1020] = -3.2
    rows["speed"][1000:1020] -= np.arange(20) * 0.32
    rows["speed"][1020:1040] = rows["speed"][1019]
    events = detector.step(rows) + detector.finish()
    assert one(rows, events).event_counts == {"harsh_braking.unconfirmed": 1}


def test_track_follows_the_drive_within_its_error_and_ends_with_the_trip() -> None:
    rows = rows_of(profile((20, 0), *leg(10), (400, 0)), rpm=np.nan)
    ((trip, pieces),) = found(rows)
    points = decode(pieces)
    assert trip.track_points == len(points.t)
    assert trip.track_error_m == 5.0
    assert trip.start_ns <= points.t[0]
    assert points.t[-1] <= trip.end_ns
    assert points.lat[-1] == pytest.approx(trip.end_latitude, abs=1e-5)
    assert len(points.t) < 10  # a straight road


def test_running_trip_is_shown_once_it_has_begun() -> None:
    trips = Trips(TripSettings())
    rows = rows_of(profile((30, 0), *leg(3)))
    trips.step(rows[:300], [])
    assert trips.current is None
    trips.step(rows[300:1500], [])
    assert trips.current is not None
    assert trips.current.distance_m > 500
    trips.finish()
    assert trips.current is None


def test_mount_confidence_is_that_of_the_whole_trip() -> None:
    rows = rows_of(np.full(4000, 15.0))
    rows["mount"][:2000] = np.nan
    rows["mount"][2000:] = 0.8
    assert one(rows).quality.mount_confidence == pytest.approx(0.4, abs=0.01)
