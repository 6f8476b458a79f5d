"""The decoder and the profiles on real recordings: equal to cantools everywhere, and to comma's own reference."""

import lzma
import math
from functools import cache
from pathlib import Path

import cantools
import numpy as np
import numpy.typing as npt
import pytest

from agent.blocks import EXTENDED, Block, Frames, empty_frames
from agent.channels import number
from drivers.decode.dbc import load_dbc
from drivers.decode.profile import identify, load_profile
from drivers.decode.tables import Decoder, compile_all

pytestmark = pytest.mark.data
CONFIG = Path(__file__).parents[1] / "config"
CAN = Path(__file__).parents[1].parent / "shared" / "data" / "can"
RAV4 = CAN / "rav4" / "rav4_60s.candump.log.xz"
TRIP = CAN / "trip164" / "trip164.candump.log.xz"


@cache
def recording(path: Path) -> tuple[Frames, list[str], float]:
    """Read a candump log by the plainest means; return the frames, the buses and the first frame's time in s."""
    if not path.exists():
        pytest.skip("../shared/data is absent")
    with lzma.open(path, "rt") as lines:
        rows = [line.split() for line in lines]
    buses = sorted({bus for _, bus, _ in rows})
    frames = empty_frames(len(rows))
    first = float(rows[0][0][1:-1])
    for i, (stamp, bus, text) in enumerate(rows):
        identifier, _, data = text.partition("#")
        frames.t[i] = round((float(stamp[1:-1]) - first) * 1e6) * 1000
        frames.bus[i], frames.id[i], frames.len[i] = buses.index(bus), int(identifier, 16), len(data) // 2
        frames.flags[i] = EXTENDED if len(identifier) == 8 else 0
        frames.data[i, : len(data) // 2] = np.frombuffer(bytes.fromhex(data), np.uint8)
    return frames, buses, first


@pytest.mark.parametrize(
    ("log", "dbc"),
    [
        (RAV4, "rav4/toyota_new_mc_pt_generated.dbc"),
        (RAV4, "rav4/toyota_adas.dbc"),
        (TRIP, "trip164/canmod-gps.dbc"),
    ],
)
def test_every_signal_of_every_frame_equals_cantools(log: Path, dbc: str) -> None:
    frames, buses, _ = recording(log)
    tables = compile_all(load_dbc(CAN / dbc))
    decoder = Decoder(tables)
    block = decoder.decode(frames, buses)
    oracle = {
        (m.frame_id, m.is_extended_frame): m for m in cantools.database.load_file(CAN / dbc, strict=False).messages
    }
    numbers = {name: i for i, name in enumerate(tables.signal_names)}
    expected: list[tuple[int, int, float]] = []
    known = 0
    for t, identifier, flags, length, data in zip(
        *(a.tolist() for a in (frames.t, frames.id, frames.flags, frames.len)), frames.data, strict=True
    ):
        message = oracle.get((identifier, bool(flags & EXTENDED)))
        if message is None:
            continue
        known += 1
        said = message.decode(data[:length].tobytes(), decode_choices=False, allow_truncated=True)
        found = {numbers[f"{message.name}.{name}"]: float(value) for name, value in said.items()}
        assert all(math.isfinite(v) for v in found.values())
        expected.extend((t, channel, found[channel]) for channel in sorted(found))
    assert known == decoder.decoded > 30_000
    assert decoder.out_of_range == decoder.not_available == decoder.invalid == 0
    theirs = np.array(expected, block.dtype)
    assert len(block) == len(theirs) > 50_000
    assert np.array_equal(block, theirs)
    assert sum(decoder.unknown_ids.values()) == len(frames.t) - known


def test_our_own_dbc_files_say_the_same_as_the_makers() -> None:
    makers = {"toyota-rav4": "rav4/toyota_new_mc_pt_generated.dbc", "canmod": "trip164/canmod-gps.dbc"}
    for name, log in (("toyota-rav4", RAV4), ("canmod", TRIP)):
        frames, buses, _ = recording(log)
        ours = load_profile(name, CONFIG).decoder().decode(frames, buses)
        theirs = load_profile(name, CONFIG, CAN / makers[name]).decoder().decode(frames, buses)
        assert np.array_equal(ours, theirs)


def channel(block: Block, name: str) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = block["value"][block["channel"] == number(name)]
    return values


def test_rav4_speed_steering_and_wheels_equal_commas_reference() -> None:
    frames, buses, first = recording(RAV4)
    block = load_profile("toyota-rav4", CONFIG).decoder().decode(frames, buses)
    axle = "Vehicle.Chassis.Axle."
    references = {
        "Vehicle.Speed": ("ref_speed_mps", "speed_mps"),
        "Vehicle.Chassis.SteeringWheel.Angle": ("ref_steering_deg", "steer_deg"),
        axle + "Row1.Wheel.Left.Speed": ("ref_wheel_speed_mps", "fl"),
        axle + "Row1.Wheel.Right.Speed": ("ref_wheel_speed_mps", "fr"),
        axle + "Row2.Wheel.Left.Speed": ("ref_wheel_speed_mps", "rl"),
        axle + "Row2.Wheel.Right.Speed": ("ref_wheel_speed_mps", "rr"),
    }
    for name, (file, column) in references.items():
        reference = np.genfromtxt(CAN / "rav4" / f"{file}.csv", delimiter=",", names=True)
        values = channel(block, name)
        assert len(values) == len(reference) == 4974
        t = block["t"][block["channel"] == number(name)] / 1e9 + first
        assert np.abs(t - reference["t_boot_s"]).max() < 2e-6
        rms = float(np.sqrt(np.mean((values - reference[column]) ** 2)))
        print(f"{name}: RMS {rms:.2e}")  # the reference has nine digits
        assert rms < 1e-7, name


def _smooth(values: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    return np.convolve(values, np.ones(width) / width, "valid")


def test_rav4_signs_are_those_of_iso_8855() -> None:
    frames, buses, _ = recording(RAV4)
    block = load_profile("toyota-rav4", CONFIG).decoder().decode(frames, buses)
    speed = channel(block, "Vehicle.Speed")
    seconds = block["t"][block["channel"] == number("Vehicle.Speed")] / 1e9
    longitudinal = channel(block, "Vehicle.Acceleration.Longitudinal")
    lateral = channel(block, "Vehicle.Acceleration.Lateral")
    yaw = channel(block, "Vehicle.AngularVelocity.Yaw")
    steering = channel(block, "Vehicle.Chassis.SteeringWheel.Angle")
    n, half = len(speed), 42  # 83 Hz: half a second
    slope = np.gradient(_smooth(speed, half), _smooth(seconds, half))
    assert np.corrcoef(slope, _smooth(longitudinal[:n], half))[0, 1] > 0.8
    assert np.corrcoef(_smooth(steering[:n], half), _smooth(yaw[:n], half))[0, 1] > 0.85
    centripetal = _smooth(speed * np.deg2rad(yaw[:n]), half)
    assert np.corrcoef(centripetal, _smooth(lateral[:n], half))[0, 1] > 0.75
    # the same bits on the radar bus mean other things
    only_radar = Frames(*(a[frames.bus == buses.index("can1")] for a in frames))
    assert len(load_profile("toyota-rav4", CONFIG).decoder().decode(only_radar, buses)) == 0


def test_trip164_invalid_imu_frames_and_satellite_gaps_are_dropped_and_counted() -> None:
    frames, buses, _ = recording(TRIP)
    decoder = load_profile("canmod", CONFIG).decoder()
    block = decoder.decode(frames, buses)
    assert decoder.frames == 292_097
    assert [len(channel(block, f"Imu.Acceleration.{a}")) for a in "XYZ"] == [240_208] * 3
    assert channel(block, "Imu.Acceleration.Y").min() == -3.0  # not -64, as the three invalid frames say
    assert len(channel(block, "Gnss.Speed")) == 2272 - 106
    assert decoder.invalid == 3 * 6 + 106 * 2 + 111 * 5
    assert set(decoder.unknown_ids) == {("can0", 6), ("can0", 8), ("can0", 0x7E8), ("can0", 0x17F00010)}


def test_the_right_profile_is_found_from_the_identifiers() -> None:
    for log, name in ((RAV4, "toyota-rav4"), (TRIP, "canmod")):
        frames, buses, _ = recording(log)
        seen = {(buses[b], int(i)) for b, i in set(zip(frames.bus.tolist(), frames.id.tolist(), strict=True))}
        best, share = identify(seen, CONFIG)[0]
        assert (best.name, share) == (name, 1.0)
