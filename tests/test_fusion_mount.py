"""How the box sits: found in any orientation, kept, dropped when the box is moved, never believed without reason."""

import numpy as np
import pytest
from fusing import G, Path, error_deg, fused, gnss, imu, merged, obd, samples, town, turned, wheels
from hypothesis import given, settings
from hypothesis import strategies as st

UP, FORWARD = np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0])
BOX = turned(137, -20, 35)  # T-CAL-1


@pytest.mark.parametrize("source", [obd, gnss, wheels])
def test_a_box_in_any_orientation_is_known_to_5_degrees_within_15_minutes(source) -> None:
    # T-CAL-1
    path = town(3, 15)
    rows, fusion = fused(merged(imu(path, BOX), source(path)))
    assert fusion.mount is not None
    assert error_deg(fusion.mount.gravity, BOX @ UP) < 5
    assert error_deg(fusion.mount.forward, BOX @ FORWARD) < 5
    assert fusion.mount.confidence > 0.8
    assert np.all(rows["mount"][-3000:] > 0.5)
    assert fusion.take_moved() == []
    assert fusion.take_mounts()[0].t_ns < 600e9
    known = ~np.isnan(rows["lon_imu"])
    true = np.interp(rows["t"] / 1e9, path.t, path.accel)
    assert np.sqrt(np.mean((rows["lon_imu"] - true)[known] ** 2)) < 0.3
    lateral = np.interp(rows["t"] / 1e9, path.t, path.speed * np.radians(path.yaw))
    assert np.sqrt(np.mean((rows["lat_imu"] - lateral)[known] ** 2)) < 0.3


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 1000), st.floats(-180, 180), st.floats(-90, 90), st.floats(-180, 180))
def test_any_mount_on_any_hilly_drive_is_found(seed: int, yaw: float, pitch: float, roll: float) -> None:
    path = town(seed, 8)
    box = turned(yaw, pitch, roll)
    _, fusion = fused(merged(imu(path, box, seed, quantum=0.125), obd(path, 2)))
    assert fusion.mount is not None
    assert error_deg(fusion.mount.gravity, box @ UP) < 5
    assert error_deg(fusion.mount.forward, box @ FORWARD) < 6


def test_a_drive_without_a_stop_is_learned_from_the_mean() -> None:
    path = town(5, 12, stops=False)
    fusion = fused(merged(imu(path, BOX), wheels(path)))[1]
    assert fusion.mount is not None
    assert error_deg(fusion.mount.gravity, BOX @ UP) < 5
    assert error_deg(fusion.mount.forward, BOX @ FORWARD) < 5


def test_a_box_moved_in_mid_drive_is_noticed_and_its_step_is_no_event() -> None:
    # T-CAL-2
    path = town(7, 16, steepest=0.05)
    moved_at = 8 * 60 * 100
    mounts = np.repeat(BOX[None], len(path.speed), axis=0)
    mounts[moved_at:] = turned(0, 30, 0) @ BOX  # T-CAL-2
    rows, fusion = fused(merged(imu(path, mounts), obd(path, 5)))
    moved = fusion.take_moved()
    assert len(moved) == 1
    assert 480e9 < moved[0][0] < 780e9
    assert moved[0][1] == pytest.approx(30, abs=8)
    t = rows["t"] / 1e9
    around = (t > 478) & (t < moved[0][0] / 1e9 + 60)
    true = np.interp(t, path.t, np.hypot(path.accel, path.speed * np.radians(path.yaw)))
    for name in ("lon_imu", "lat_imu", "horizontal"):
        wrong = np.abs(rows[name][around]) - true[around]
        assert np.nanmax(wrong, initial=0.0) < 2.4, name  # below the lowest threshold, 2.5 m/s²
    assert fusion.mount is not None
    assert error_deg(fusion.mount.gravity, mounts[-1] @ UP) < 5
    assert error_deg(fusion.mount.forward, mounts[-1] @ FORWARD) < 5
    assert fusion.counts["box_moved"] == 1


def test_a_mount_learned_earlier_is_used_from_the_first_seconds_and_refuted_when_false() -> None:
    path = town(9, 8)
    block = merged(imu(path, BOX), obd(path))
    learned = fused(block)[1].mount
    assert learned is not None
    rows, fusion = fused(block, learned)
    assert not np.isnan(rows["lon_imu"][30])
    assert fusion.take_moved() == []
    other = turned(0, 0, 90) @ BOX
    rows, fusion = fused(merged(imu(path, other), obd(path)), learned)
    assert len(fusion.take_moved()) == 1
    assert np.all(np.isnan(rows["lon_imu"][20:500]))
    assert fusion.mount is not None
    assert error_deg(fusion.mount.forward, other @ FORWARD) < 6


def test_without_any_speed_the_vertical_axis_is_known_but_no_forward() -> None:
    path = town(11, 5)
    rows, fusion = fused(imu(path, BOX))
    assert fusion.mount is None
    assert np.all(np.isnan(rows["lon_imu"]) & np.isnan(rows["lat_imu"]))
    t = rows["t"] / 1e9
    late = t > 30
    assert not np.isnan(rows["yaw_rate"][late]).any()
    assert np.corrcoef(rows["yaw_rate"][late], np.interp(t, path.t, path.yaw)[late])[0, 1] > 0.95
    true = np.hypot(path.accel, path.speed * np.radians(path.yaw))
    assert np.corrcoef(rows["horizontal"][late], np.interp(t, path.t, true)[late])[0, 1] > 0.6
    assert np.median(rows["vertical"][late]) < 1.0


def test_a_box_shaken_in_a_parked_car_learns_no_mount() -> None:
    rng = np.random.default_rng(1)
    n = 12000
    still = Path(np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n))
    spin = np.cumsum(rng.normal(0, 3, n)) * np.where((np.arange(n) // 1500) % 2, 1.0, 0.0) * 0.3
    boxes = np.stack([turned(0.3 * s, s, -s) for s in spin])
    rows, fusion = fused(merged(imu(still, boxes), gnss(still)))
    assert fusion.mount is None
    assert fusion.take_mounts() == []
    assert np.nanmax(rows["speed"]) == 0.0


@pytest.mark.parametrize("fault", ["stuck", "clipped", "nan", "spikes"])
def test_a_faulty_sensor_does_not_poison_the_mount(fault: str) -> None:
    path = town(13, 10)
    block = imu(path, BOX)
    rng = np.random.default_rng(2)
    t = block["t"] / 1e9
    force = block["channel"] < 63
    if fault == "stuck":
        for channel in range(60, 63):
            where = (block["channel"] == channel) & (t > 300) & (t < 400)
            block["value"][where] = block["value"][where][0] + 2.0
    elif fault == "clipped":
        block["value"][force] = np.clip(block["value"][force], -9.0, 9.0)
    elif fault == "nan":
        block["value"][force & (rng.random(len(block)) < 0.02)] = np.nan
    else:
        block["value"][force & (rng.random(len(block)) < 0.003)] = -64.0
    rows, fusion = fused(merged(block, obd(path)))
    assert fusion.mount is not None
    assert error_deg(fusion.mount.gravity, BOX @ UP) < 6
    assert error_deg(fusion.mount.forward, BOX @ FORWARD) < 6
    if fault == "stuck":
        assert fusion.counts["imu_stuck_rows"] > 500
        assert np.isnan(rows["lon_imu"][(rows["t"] > 305e9) & (rows["t"] < 395e9)]).mean() > 0.5
    if fault == "nan":
        assert fusion.counts["not_finite"] > 1000


def test_a_hill_without_acceleration_and_a_pothole_are_not_acceleration() -> None:
    path = town(15, 8, steepest=0.04)
    n = 6000
    end = float(path.speed[-1])
    climb = np.concatenate([np.linspace(0, 0.1, 300), np.full(n - 300, 0.1)])
    accel = np.concatenate([np.full(1700, (14 - end) / 17), np.zeros(n)])
    path = Path(
        np.concatenate([path.speed, end + np.cumsum(accel) * 0.01]),
        np.concatenate([path.accel, accel]),
        np.concatenate([path.yaw, np.zeros(n + 1700)]),
        np.concatenate([path.slope, np.full(1700, path.slope[-1]), path.slope[-1] + climb]),
    )
    block = imu(path, BOX)
    hit = round(path.t[-1000] * 1e9)
    force = (block["t"] >= hit) & (block["t"] < hit + 30_000_000) & (block["channel"] < 63)
    shock = BOX @ np.array([0.5 * G, 0.0, 2.0 * G])  # T-EVT-3, 30 ms
    block["value"][force] += shock[block["channel"][force] - 60]
    rows = fused(merged(block, obd(path, 5)))[0]
    t = rows["t"] / 1e9
    climbing = t > path.t[-n]
    assert np.nanmax(np.abs(rows["lon_imu"][climbing])) < 1.3
    settled = t > path.t[-3500]
    quiet = settled & (np.abs(t - hit / 1e9) > 1)
    assert np.nanmax(np.abs(rows["lon_imu"][quiet])) < 0.3
    near = np.abs(t - hit / 1e9) < 1
    assert np.nanmax(np.abs(rows["lon_imu"][near])) < 0.6
    assert np.nanmax(np.abs(rows["lat_imu"][near])) < 0.6
    assert np.nanmax(rows["vertical"][near]) > 1.5 * G


def test_turning_is_measured_by_four_instruments_with_one_sign() -> None:
    # T-AXIS-1: the acceleration of a left turn is positive
    path = town(17, 8, steepest=0.02)
    heading = (-np.cumsum(path.yaw) * 0.01) % 360
    block = merged(
        imu(path, BOX),
        gnss(path),
        samples(path.t[::100], "Gnss.Heading", heading[::100]),
        samples(path.t[::2], "Vehicle.Acceleration.Lateral", path.speed[::2] * np.radians(path.yaw[::2]) + 0.4),
    )
    rows = fused(block)[0]
    true = np.interp(rows["t"] / 1e9, path.t, path.speed * np.radians(path.yaw))
    for name, least in (("lat_imu", 0.95), ("lat_yaw", 0.95), ("lat_gnss", 0.85), ("lat_vehicle", 0.95)):
        known = ~np.isnan(rows[name])
        assert known.mean() > 0.2, name
        assert np.corrcoef(rows[name][known], true[known])[0, 1] > least, name
    assert abs(np.nanmean(rows["lat_vehicle"][-1000:]) - np.mean(true[-1000:])) < 0.15
