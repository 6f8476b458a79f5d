"""Fusion on real recordings, decoded by the product's own profiles."""

import csv
import lzma
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from fusing import error_deg, fused, merged, samples
from test_profile_recordings import RAV4, TRIP, recording

from agent.blocks import Block, join_blocks
from agent.fuse.fusion import Fusion
from agent.state import CAN as BUS
from agent.state import GNSS, OBD, WHEEL, State
from drivers.decode.obd import ObdDecoder
from drivers.decode.profile import load_profile
from drivers.replay import Replay

pytestmark = pytest.mark.data
DATA = Path(__file__).parents[1].parent / "shared" / "data"
PROFILES = Path(__file__).parents[1] / "config"


@cache
def decoded(log: Path, profile: str) -> Block:
    frames, buses, _ = recording(log)
    signals = load_profile(profile, PROFILES).decoder().decode(frames, buses).copy()
    return join_blocks([signals, ObdDecoder().decode(frames).copy()])


@cache
def trip164() -> tuple[State, Fusion]:
    return fused(decoded(TRIP, "canmod"))


def table(path: Path) -> np.ndarray:
    if not path.exists():
        pytest.skip("../shared/data is absent")
    return np.genfromtxt(path, delimiter=",", names=True)


def test_trip164_gravity_is_plus_x_and_forward_minus_y() -> None:
    _, fusion = trip164()
    mount = fusion.mount
    assert mount is not None
    assert error_deg(mount.gravity, np.array([1.0, 0, 0])) < 10
    assert error_deg(mount.forward, np.array([0, -1.0, 0])) < 10
    assert mount.confidence > 0.9
    assert fusion.take_moved() == []


def test_trip164_box_agrees_with_speed_and_turning() -> None:
    rows, _ = trip164()
    for box, other in (
        ("lon_imu", "lon_obd"),
        ("lon_imu", "lon_gnss"),
        ("lat_imu", "lat_yaw"),
        ("lat_gnss", "lat_yaw"),
    ):
        known = ~np.isnan(rows[box] + rows[other])
        assert known.mean() > 0.7
        assert np.corrcoef(rows[box][known], rows[other][known])[0, 1] > 0.88, (box, other)
        assert np.sqrt(np.mean((rows[box] - rows[other])[known] ** 2)) < 0.22, (box, other)
    assert np.nanmin(rows["lon_imu"]) > -4.4  # no severe braking
    assert np.nanmin(rows["lon_obd"]) > -3.0


def test_trip164_speed_is_known_throughout_and_gaps_are_not_motion() -> None:
    rows, _ = trip164()
    assert np.isnan(rows["speed"]).mean() < 0.001
    assert ((rows["sources"] & OBD) > 0).mean() > 0.99
    assert ((rows["sources"] & GNSS) > 0).mean() > 0.9
    both = ~np.isnan(rows["speed_gnss"])
    # satellites alone: 40.59 km from the first fix on (WGS-84 path); before it the car made 0.83 km by OBD
    assert np.sum(rows["speed"][both]) * 0.1 == pytest.approx(40_590, rel=0.01)
    assert np.sqrt(np.mean((rows["speed"] - rows["speed_gnss"])[both] ** 2)) < 0.3


@cache
def rav4() -> tuple[State, float]:
    first = recording(RAV4)[2]
    folder = DATA / "can" / "rav4"
    force, rate, fix = (table(folder / f"{n}.csv") for n in ("imu_accel_mps2", "imu_gyro_rps", "gnss_ublox_10hz"))
    axes = ("forward", "right", "down")
    box = [
        samples(data["t_boot_s"] - first, f"Imu.{what}.{axis}", data[column] * scale)
        for what, data, scale in (("Acceleration", force, 1.0), ("AngularVelocity", rate, np.degrees(1.0)))
        for axis, column in zip("XYZ", axes, strict=True)
    ]
    place = [
        samples(fix["t_boot_s"] - first, f"Gnss.{name}", fix[column])
        for name, column in (
            ("Latitude", "lat"),
            ("Longitude", "lon"),
            ("Heading", "bearing_deg"),
            ("Speed", "speed_mps"),
        )
    ]
    block = merged(decoded(RAV4, "toyota-rav4"), *box, *place)
    rows, _ = fused(block[block["t"] >= 0])
    return rows, first


def test_rav4_speed_equals_the_reference() -> None:
    rows, first = rav4()
    reference = table(DATA / "can" / "rav4" / "ref_speed_mps.csv")
    true = np.interp(rows["t"] / 1e9, reference["t_boot_s"] - first, reference["speed_mps"])
    known = ~np.isnan(rows["speed_wheel"])
    assert known.mean() > 0.99
    assert np.sqrt(np.mean((rows["speed_wheel"] - true)[known] ** 2)) < 0.03
    assert np.sqrt(np.nanmean((rows["speed"] - true) ** 2)) < 0.25  # the satellites say that the wheels read 0.7 % low
    assert np.all(rows["sources"][5:-5] & (WHEEL | BUS | GNSS) == WHEEL | BUS | GNSS)


def test_rav4_spike_of_the_accelerometer_vanishes() -> None:
    rows, _ = rav4()
    raw = decoded(RAV4, "toyota-rav4")
    spike = raw[(raw["channel"] == 2) & (raw["t"] > 38.2e9) & (raw["t"] < 38.5e9)]
    assert np.abs(spike["value"]).max() > 3.8
    near = np.abs(rows["t"] / 1e9 - 38.37) < 1
    assert np.nanmax(np.abs((rows["lon_vehicle"] - rows["lon_wheel"])[near])) < 0.6
    late = rows["t"] > 5e9
    assert np.corrcoef(rows["lon_vehicle"][late], rows["lon_wheel"][late])[0, 1] > 0.85


def test_a_box_shaken_by_hand_in_an_idling_truck_gives_no_mount_and_no_motion() -> None:
    pytest.importorskip("asammdf")
    log = DATA / "can" / "misc" / "j1939_idle_plus_canmodgps_11111111.MF4"
    if not log.exists():
        pytest.skip("../shared/data is absent")
    decoder = load_profile("canmod", PROFILES).decoder()
    replay = Replay([log], lambda frames, buses: decoder.decode(frames, buses).copy())
    replay.open()
    blocks = []
    while (block := replay.read(1.0)) is not None:
        blocks.append(block)
    replay.close()
    rows, fusion = fused(join_blocks(blocks))
    assert np.nanmax(rows["vertical"]) > 10
    assert fusion.mount is None
    assert fusion.take_mounts() == []
    assert np.nanmax(rows["speed"]) < 1.0
    assert np.nansum(rows["speed"]) * 0.1 < 20
    assert np.nanmax(np.abs(rows["lon_gnss"])) < 1.0
    assert fusion.counts["handled_rows"] > 50


@pytest.mark.parametrize("name", ["drive1", "drive3", "live2", "live16", "long1", "ufpe8", "idle29"])
def test_slow_repeated_obd_speed_shows_no_false_braking(name: str) -> None:
    log = DATA / "obd" / "carobd" / f"{name}.csv.xz"
    if not log.exists():
        pytest.skip("../shared/data is absent")
    with lzma.open(log, "rt") as lines:
        rows = list(csv.reader(lines))
    column = next(i for i, title in enumerate(rows[0]) if "VEHICLE_SPEED" in title)
    speed = np.array([float(row[column]) for row in rows[1:] if len(row) > column]) / 3.6
    state, _ = fused(samples(np.arange(len(speed)) * 0.5, "Obd.Speed", speed))
    naive = np.min(np.diff(speed)) / 0.5
    assert np.nanmin(state["lon_obd"]) > -3.0
    if "idle" not in name:
        assert naive < -4.0
        assert np.isnan(state["lon_obd"]).mean() < 0.6
