"""The crash detector on real recordings: a barrier test, a shaken box, and drives in which nothing happened."""

import csv
import lzma
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from crash_signals import KMH, G, Ride, block_of, crashes, detect, mount_of, random_mount
from fusing import merged, samples
from test_fusion_recordings import DATA, PROFILES, decoded, table
from test_profile_recordings import RAV4, TRIP

from agent.blocks import Block, join_blocks
from drivers.decode.profile import load_profile
from drivers.replay import Replay

pytestmark = pytest.mark.data
LEAD_S, TEST_S = 3.0, 0.05  # rest before the test; contact in the recording


def present(path: Path) -> Path:
    if not path.exists():
        pytest.skip("../shared/data is absent")
    return path


def barrier(hz: float, channel: int = 93) -> Ride:
    """NHTSA 10146, 57 km/h into a rigid wall, as a sensor of that rate samples it: means over its period."""
    raw = np.loadtxt(present(DATA / "crash" / "nhtsa10146" / "raw" / f"v10146.{channel:03d}"))
    each = round(10_000 / hz)
    felt = (raw[: len(raw) // each * each, 1] * G).reshape(-1, each).mean(axis=1)
    before = round(LEAD_S * hz)
    n = before + len(felt) + round(8 * hz)
    rng = np.random.default_rng(channel)
    push = rng.normal(0, 0.05, (n, 3))
    push[before : before + len(felt), 0] += felt
    return Ride((np.arange(n) + 0.5) / hz, push, rng.normal(0, 0.1, (n, 3)))


@pytest.mark.parametrize("hz", [100.0, 400.0, 1000.0])
@pytest.mark.parametrize("channel", [93, 94])
@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("speed", [True, False])
def test_the_camry_barrier_test_is_a_frontal_crash_of_66_kmh(
    hz: float, channel: int, learned: bool, speed: bool
) -> None:
    of = barrier(hz, channel)
    if speed:
        of.says("Gnss.Speed", lambda t: np.where(t < LEAD_S + TEST_S, 57.1 * KMH, 0.0))
    turned = random_mount(np.random.default_rng(int(hz) + channel))
    (crash,) = crashes(detect(block_of(of, turned), mount_of(turned) if learned else None)[0])
    assert crash.delta_v_mps == pytest.approx(66.0 * KMH, rel=0.1)
    assert crash.locked
    assert not crash.clipped
    assert abs(crash.t_ns / 1e9 - LEAD_S - TEST_S) < 0.010
    assert crash.confirmed_by == (["speed_collapse", "standstill"] if speed else [])
    if learned:
        assert crash.direction_clock == 12
        assert crash.delta_v_longitudinal_mps == pytest.approx(-66.0 * KMH, rel=0.1)
        assert min(crash.curve_longitudinal_cmps) == pytest.approx(-66.0 * KMH * 100, rel=0.1)


@pytest.mark.parametrize("hz", [100.0, 400.0, 1000.0])
@pytest.mark.parametrize("learned", [True, False])
def test_through_16_g_it_is_clipped(hz: float, learned: bool) -> None:
    rng = np.random.default_rng(int(hz))
    for turned in (np.eye(3), random_mount(rng), random_mount(rng)):
        block = block_of(barrier(hz), turned, 16)
        (crash,) = crashes(detect(block, mount_of(turned) if learned else None)[0])
        assert crash.clipped
        assert crash.locked
        assert crash.direction_clock == (12 if learned else None)
        assert crash.delta_v_mps is not None
        assert 25 * KMH < crash.delta_v_mps < 66 * KMH
        assert abs(crash.t_ns / 1e9 - LEAD_S - TEST_S) < 0.010


@pytest.mark.parametrize("hz", [100.0, 400.0, 1000.0])
def test_the_recording_alone_without_rest_before_or_after_is_enough(hz: float) -> None:
    of = barrier(hz)
    inside = (of.t > LEAD_S) & (of.t < LEAD_S + 0.35)
    assert of.turn is not None
    (crash,) = crashes(detect(block_of(Ride(of.t[inside], of.push[inside], of.turn[inside])))[0])
    assert crash.delta_v_mps == pytest.approx(66.0 * KMH, rel=0.1)
    assert abs(crash.t_ns / 1e9 - LEAD_S - TEST_S) < 0.010


def no_crash(block: Block) -> None:
    assert crashes(detect(block)[0]) == []


def test_a_box_shaken_by_hand_in_an_idling_truck_is_no_crash() -> None:
    log = present(DATA / "can" / "misc" / "j1939_idle_plus_canmodgps_11111111.MF4")
    decoder = load_profile("canmod", PROFILES).decoder()
    replay = Replay([log], lambda frames, buses: decoder.decode(frames, buses).copy())
    replay.open()
    blocks = []
    while (block := replay.read(1.0)) is not None:
        blocks.append(block)
    replay.close()
    whole = join_blocks(blocks)
    no_crash(whole)
    force = whole[(whole["channel"] >= 60) & (whole["channel"] <= 62)]
    no_crash(force)  # neither gyroscopes nor speed
    force["value"] *= 1.5
    no_crash(force)


def test_real_drives_hold_no_crash() -> None:
    no_crash(decoded(present(TRIP), "canmod"))
    no_crash(decoded(present(RAV4), "toyota-rav4"))


def test_the_rav4_with_its_phone_holds_no_crash() -> None:
    folder = DATA / "can" / "rav4"
    parts = []
    for name, what, scale in (("imu_accel_mps2", "Acceleration", 1.0), ("imu_gyro_rps", "AngularVelocity", 57.29578)):
        data = table(folder / f"{name}.csv")
        t = data["t_boot_s"] - data["t_boot_s"][0]
        parts += [
            samples(t, f"Imu.{what}.{axis}", data[column] * scale)
            for axis, column in zip("XYZ", ("forward", "right", "down"), strict=True)
        ]
    no_crash(merged(*parts))


@pytest.mark.parametrize("file", sorted((DATA / "obd" / "carobd").glob("*.csv.xz")), ids=lambda p: p.stem)
def test_slow_repeated_obd_speed_holds_no_crash(file: Path) -> None:
    with lzma.open(file, "rt") as lines:
        rows = list(csv.reader(lines))
    column = next(i for i, title in enumerate(rows[0]) if "VEHICLE_SPEED" in title)
    speed = np.array([float(row[column]) for row in rows[1:] if len(row) > column]) / 3.6
    no_crash(samples(np.arange(len(speed)) * 0.5, "Obd.Speed", speed))


def test_the_black_box_drives_hold_no_crash() -> None:
    with lzma.open(present(DATA / "events" / "blackbox" / "nds_data_dev.csv.xz"), "rt") as lines:
        rows = list(csv.DictReader(lines))
    drives: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        drives.setdefault(row["drive"], []).append(row)
    for drive in drives.values():
        t = np.array([datetime.fromisoformat(row["time_utc"]).timestamp() for row in drive])
        good = np.concatenate([[True], np.diff(t) > 0])
        parts = []
        for channel, column, scale in (
            ("Gnss.Speed", "speed_mph", 0.44704),
            *((f"Imu.Acceleration.{axis.upper()}", f"accel_{axis}", G) for axis in "xyz"),
        ):
            values = np.array([_number(row[column]) for row in drive]) * scale
            known = good & ~np.isnan(values)
            parts.append(samples(t[known] - t[0], channel, values[known]))
        no_crash(merged(*parts))


@pytest.mark.parametrize("trip", ["17", "20"])
def test_aggressive_driving_holds_no_crash(trip: str) -> None:
    parts = []
    start = None
    for name, what, scale in (
        ("acelerometro_terra", "Acceleration", 1.0),
        ("giroscopio_terra", "AngularVelocity", 57.29578),
    ):
        with lzma.open(present(DATA / "events" / "driverbehaviour" / trip / f"{name}.csv.xz"), "rt") as lines:
            rows = list(csv.DictReader(lines))
        t = np.array([int(row["uptimeNanos"]) for row in rows]) / 1e9
        start = t.min() if start is None else start
        order = np.argsort(t, kind="stable")
        for axis in "xyz":
            values = np.array([float(row[axis]) for row in rows])[order] * scale
            parts.append(samples(t[order] - start, f"Imu.{what}.{axis.upper()}", values))
    block = merged(*parts)
    no_crash(block[block["t"] >= 0])


def _number(text: str) -> float:
    return float(text) if text else float("nan")
