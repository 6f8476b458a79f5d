"""What the virtual car sends is what it means: frames decode back by cantools, logs read back, seeds repeat."""

import json
from functools import cache
from pathlib import Path

import can
import cantools
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from agent.blocks import Frames, join_blocks
from agent.channels import number
from agent.errors import ConfigError, RecordingError
from drivers.decode.dbc import Message, load_dbc
from sim.carbus import ANSWER, REQUEST, Units, obd_answers
from sim.cli import app
from sim.drive import Drive, dbc_path, simulate
from sim.encode import LINE_MAX, candump_lines, candump_text, encode, payloads
from sim.record import write_drive
from sim.sensors import Box, Fault, Messages, imu, mounts, random_mount

DATABASE = load_dbc(dbc_path())
ORACLE = cantools.database.load_file(dbc_path())
# Hz: the bus database's own comments
RATES = {
    "ENGINE": 100,
    "BRAKE": 50,
    "STEERING": 100,
    "GEAR": 10,
    "KINEMATICS": 50,
    "WHEELS_FRONT": 100,
    "WHEELS_REAR": 100,
    "SPEED": 20,
    "BODY": 1,
    "DIAG": 1,
    "GNSS_TIME": 1,
    "GNSS_ALTITUDE": 1,
}


@cache
def driven(name: str = "commute", seed: int = 5, minutes: float = 6.0) -> Drive:
    """Simulate once for all tests of this file."""
    return simulate(name, seed, minutes)


def values(drive: Drive, message: str, signal: str) -> tuple[np.ndarray, np.ndarray]:
    """Times in s and cantools' values of one signal in a drive."""
    chosen = drive.frames.id == ORACLE.get_message_by_name(message).frame_id
    length = ORACLE.get_message_by_name(message).length
    decoded = [ORACLE.decode_message(message, bytes(d[:length]))[signal] for d in drive.frames.data[chosen]]
    return drive.frames.t[chosen] / 1e9, np.array(decoded, float)


@pytest.mark.parametrize("message", [m for m in DATABASE.messages if m.name != "DIAG"], ids=lambda m: m.name)
def test_every_signal_decodes_back_by_cantools(message: Message) -> None:
    @settings(max_examples=20, deadline=None)
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        wanted = {}
        for signal in message.signals:
            if signal.name in ("Counter", "Checksum"):
                continue
            low = -(1 << (signal.length - 1)) if signal.signed else 0
            high = (1 << (signal.length - signal.signed)) - 1
            wanted[signal.name] = data.draw(st.integers(low, high)) * signal.scale + signal.offset
        sent = payloads(message, {k: np.array([v]) for k, v in wanted.items()}, 1)
        got = ORACLE.decode_message(message.name, bytes(sent[0, : message.length]), decode_choices=False)
        for name, value in wanted.items():
            assert got[name] == pytest.approx(value, rel=1e-9, abs=1e-9)
        assert not sent[0, message.length :].any()

    check()


def test_values_beyond_a_signals_range_are_held_at_its_end() -> None:
    message = next(m for m in DATABASE.messages if m.name == "KINEMATICS")
    sent = payloads(message, {"LongAccel": np.array([1e6, -1e6])}, 2)
    got = [ORACLE.decode_message("KINEMATICS", bytes(row[:6]))["LongAccel"] for row in sent]
    assert got == [65.534, -65.536]


def test_an_unknown_signal_or_message_names_near_ones() -> None:
    message = next(m for m in DATABASE.messages if m.name == "BODY")
    with pytest.raises(ConfigError, match="Voltage"):
        payloads(message, {"Voltages": np.zeros(1)}, 1)
    with pytest.raises(ConfigError, match="ENGINE"):
        encode(DATABASE, [Messages("ENGINES", np.zeros(1), {})])


def test_counters_count_and_checksums_add_up() -> None:
    engine = driven().frames.data[driven().frames.id == 0x0C9]
    np.testing.assert_array_equal(engine[:40, 6] & 15, np.arange(40) % 16)
    np.testing.assert_array_equal(engine[:, :7].sum(axis=1, dtype=int) & 255, engine[:, 7])


def test_diagnostic_pages_take_turns() -> None:
    frames = driven().frames
    pages = [ORACLE.decode_message("DIAG", bytes(d[:4])) for d in frames.data[frames.id == 0x5D0][:20]]
    assert [p["Page"] for p in pages[:4]] == [0, 1, 0, 1]
    assert all(("OilTemperature" in p) != ("OdometerKm" in p) for p in pages)


def test_decoded_speeds_follow_the_true_speed() -> None:
    drive = driven()
    t, kmh = values(drive, "SPEED", "VehicleSpeed")
    true = np.interp(t, drive.motion.t, drive.motion.speed)
    steady = (np.abs(np.interp(t, drive.motion.t, drive.motion.longitudinal)) < 0.5) & (true > 2.0)
    np.testing.assert_allclose(kmh[steady] / 3.6, true[steady], rtol=0.025, atol=0.15)


def test_messages_come_at_the_rates_of_the_database() -> None:
    drive = driven("calm-city", 2, 4.0)
    awake_s = float(drive.motion.ignition.sum() * 0.005) + 3.0
    for name, rate in RATES.items():
        message = next(m for m in DATABASE.messages if m.name == name)
        count = int((drive.frames.id == message.id).sum())
        span = drive.duration_s if name.startswith("GNSS") else awake_s
        assert count / span == pytest.approx(rate, rel=0.02, abs=2 / span), name
    assert (np.diff(drive.frames.t) >= 0).all()


def test_the_bus_sleeps_when_the_ignition_is_off_and_the_box_does_not() -> None:
    drive = driven("commute", 8, 32.0)
    off = np.flatnonzero(drive.motion.ignition < 0.5) * 0.005
    errand = off[off < drive.duration_s - 60.0]
    assert len(errand)
    inside = (drive.frames.t > (errand[0] + 4.0) * 1e9) & (drive.frames.t < errand[-1] * 1e9)
    assert set(np.unique(drive.frames.id[inside]).tolist()) == {0x600, 0x601, 0x602, 0x603, 0x610, 0x611}


def test_the_box_at_rest_reads_gravity_along_its_mount() -> None:
    drive = driven()
    still = drive.motion.speed[np.minimum((drive.frames.t / 5e6).astype(int), len(drive.motion.speed) - 1)] == 0.0
    rows = drive.frames.data[(drive.frames.id == 0x610) & still]
    mean = np.mean([[ORACLE.decode_message("IMU_ACCEL", bytes(r[:6]))[a] for a in "XYZ"] for r in rows[:2000]], axis=0)
    angle = np.degrees(np.arccos(mean @ drive.mounts[0][1][:, 2] / np.linalg.norm(mean)))
    assert angle < 5.0  # bias of 0.1 m/s² and a crossfall of 2 % are the rest
    assert np.linalg.norm(mean) == pytest.approx(9.81, abs=0.5)


def test_a_box_that_is_moved_turns_by_the_angle_and_stays_so() -> None:
    rng = np.random.default_rng(2)
    box = Box(mount=random_mount(rng))
    faults = [Fault("box_moved", 10.0, 11.0, 30.0), Fault("gnss_gap", 12.0, 13.0), Fault("box_moved", 40.0, 42.0, 20.0)]
    held = mounts(box, faults, rng)
    assert [since for since, _ in held] == [0.0, 11.0, 42.0]
    for (_, old), (_, new), degrees in zip(held, held[1:], (30.0, 20.0), strict=False):
        assert np.degrees(np.arccos(old[:, 2] @ new[:, 2])) == pytest.approx(degrees)
    motion = simulate("night", 1, 1.0).motion
    accel, gyro = imu(motion, box, held, [], faults, 20.0, rng)
    read = np.stack([accel.signals[axis] for axis in "XYZ"])
    rest = read[:, accel.t < 5.0].mean(axis=1)
    assert np.degrees(np.arccos(rest @ held[0][1][:, 2] / np.linalg.norm(rest))) < 4.0
    # integrating the gyroscope while the hand turns the box gives the angle
    during = (gyro.t > 10.0) & (gyro.t < 11.0)
    turned = np.linalg.norm(np.stack([gyro.signals[axis][during] for axis in "XYZ"]).sum(axis=1) / 100.0)
    assert turned == pytest.approx(30.0, abs=3.0)


def test_fixes_lie_near_the_true_track_and_gaps_say_nothing() -> None:
    drive = driven("sensor-trouble", 3, 20.0)
    t, latitude = values(drive, "GNSS_POSITION", "Latitude")
    valid = np.abs(latitude) <= 90.0
    gaps = [f for f in drive.faults if f.kind == "gnss_gap" and f.end_s < drive.duration_s]
    jumps = [f for f in drive.faults if f.kind == "gnss_jump"]
    assert gaps
    for gap in gaps:
        assert not valid[(t > gap.start_s + 1.5) & (t < gap.end_s - 0.5)].any()
    calm = valid & ~np.any([(t > f.start_s - 1) & (t < f.end_s + 2) for f in jumps], axis=0)
    north_m = (latitude - np.interp(t, drive.motion.t, drive.latitude)) * 111_000.0
    assert np.abs(north_m[calm]).max() < 30.0
    for jump in jumps:
        hit = valid & (t > jump.start_s + 0.5) & (t < jump.end_s)
        if hit.any():
            assert np.abs(north_m[hit]).max() < 1.5 * jump.size + 30.0


def test_obd_answers_are_whole_kilometres_per_hour_after_their_request() -> None:
    drive = driven()
    frames = drive.frames
    asked = frames.t[frames.id == REQUEST]
    answered = frames.t[frames.id == ANSWER]
    assert len(asked) == len(answered)
    delay = (answered - asked) / 1e9
    assert delay.min() > 0.005
    assert delay.max() < 0.15
    speed = (frames.id == ANSWER) & (frames.data[:, 2] == 0x0D)
    kmh = frames.data[speed, 3].astype(float)
    true = np.interp(frames.t[speed] / 1e9 - 0.1, drive.motion.t, drive.motion.speed) * 3.6
    gentle = np.abs(np.interp(frames.t[speed] / 1e9, drive.motion.t, drive.motion.longitudinal)) < 1.0
    assert np.abs(kmh - true * 1.005)[gentle].max() < 3.5


def test_blocks_hold_what_the_product_decodes_from_the_log() -> None:
    drive = simulate("calm-city", 3, 1.0)
    block = join_blocks(list(drive.blocks(1000)))
    whole = join_blocks(list(drive.blocks(10**9)))
    assert sorted(block.tolist()) == sorted(whole.tolist())
    t, kmh = values(drive, "SPEED", "VehicleSpeed")
    speed = block[block["channel"] == number("Vehicle.Speed")]
    np.testing.assert_allclose(speed["value"], kmh / 3.6, atol=1e-6)
    np.testing.assert_allclose(speed["t"] / 1e9, t)
    assert (block["channel"] == number("Obd.Speed")).sum() > 100
    assert (block["channel"] == number("Imu.Acceleration.X")).sum() > 2500


def test_a_stalled_adapter_repeats_itself_and_then_jumps() -> None:
    motion = driven().motion
    fault = Fault("obd_stall", 60.0, 66.0)
    _, frames = obd_answers(motion, Units(), [fault], 20.0, np.random.default_rng(1))
    t, _ = obd_answers(motion, Units(), [fault], 20.0, np.random.default_rng(1))
    speed = (frames.id == ANSWER) & (frames.data[:, 2] == 0x0D)
    inside = speed & (t > 60.1) & (t < 65.9)
    assert inside.sum() > 15
    assert len(np.unique(frames.data[inside, 3])) == 1


def test_a_car_behind_a_gateway_shows_only_obd_and_the_box() -> None:
    ids = set(np.unique(driven("obd-only", 1, 3.0).frames.id).tolist())
    assert ids == {REQUEST, ANSWER, 0x600, 0x601, 0x602, 0x603, 0x610, 0x611}


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    logs = []
    for folder, seed in (("a", 7), ("b", 7), ("c", 8)):
        log, _, truth = write_drive(simulate("night", seed, 2.0), tmp_path / folder)
        logs.append((log.read_bytes(), truth.read_bytes()))
    assert logs[0] == logs[1]
    assert logs[0] != logs[2]


def test_the_log_reads_back_by_python_can_frame_for_frame(tmp_path: Path) -> None:
    drive = simulate("calm-city", 3, 1.0)
    log, dbc, truth = write_drive(drive, tmp_path / "drive.log")
    assert (log.name, dbc.name, truth.name) == ("drive.log", "simcar.dbc", "drive.truth.json")
    assert dbc.read_bytes() == dbc_path().read_bytes()
    with can.CanutilsLogReader(log) as reader:
        read = list(reader)
    assert len(read) == len(drive.frames.t) == json.loads(truth.read_text())["frames"]
    for i in range(0, len(read), 97):
        message = read[i]
        assert message.arbitration_id == drive.frames.id[i]
        assert bytes(message.data) == bytes(drive.frames.data[i, : drive.frames.len[i]])
        assert message.channel == "can0"
        assert message.timestamp == pytest.approx((drive.frames.t[i] + drive.utc_start_ns) / 1e9, abs=2e-6)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match="cannot write the simulated drive"):
        write_drive(driven("night", 1, 1.0), tmp_path / "file" / "below")


frame = st.tuples(st.integers(0, 2**61), st.integers(0, 0x7FF), st.binary(min_size=0, max_size=8))


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(frame, max_size=8), offset=st.integers(0, 2**61))
def test_candump_text_equals_plain_python_and_its_format(rows: list[tuple[int, int, bytes]], offset: int) -> None:
    n = len(rows)
    data = np.zeros((n, 8), np.uint8)
    for i, (_, _, payload) in enumerate(rows):
        data[i, : len(payload)] = list(payload)
    frames = Frames(
        np.array([r[0] for r in rows], np.int64),
        np.zeros(n, np.uint8),
        np.array([r[1] for r in rows], np.uint32),
        np.zeros(n, np.uint8),
        np.array([len(r[2]) for r in rows], np.uint8),
        data,
    )
    text = candump_text(frames, offset, "can0")
    expected = "".join(
        f"({(t + offset) // 1000 // 10**6}.{(t + offset) // 1000 % 10**6:06d}) can0 {i:03X}#{p.hex().upper()}\n"
        for t, i, p in rows
    )
    assert text.decode() == expected
    out = np.empty(n * (LINE_MAX + 4), np.uint8)
    bus = np.frombuffer(b"can0", np.uint8).copy()
    size = candump_lines.py_func(frames.t, frames.id, frames.len, frames.data, offset, bus, out)
    assert out[:size].tobytes() == text


def test_the_command_records_and_says_what_it_wrote(tmp_path: Path) -> None:
    arguments = ["record", str(tmp_path / "out"), "--scenario", "night", "--seed", "3", "--minutes", "1", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    said = json.loads(result.output)
    truth = json.loads(Path(said["truth"]).read_text())
    assert said["frames"] == truth["frames"] == Path(said["log"]).read_bytes().count(b"\n")
    assert len(truth["events"]) == said["events"]
    plain = CliRunner().invoke(app, [*arguments[:-1]])
    assert f"{said['frames']:,} frames" in plain.output


def test_the_command_lists_every_scenario_and_names_near_ones() -> None:
    listed = CliRunner().invoke(app, ["scenarios", "--json"])
    names = [s["name"] for s in json.loads(listed.output)["scenarios"]]
    assert {"calm-city", "commute", "motorway", "hills-rough", "night", "sensor-trouble"} <= set(names)
    assert all(name in CliRunner().invoke(app, ["scenarios"]).output for name in names)
    with pytest.raises(ConfigError, match="motorway"):
        simulate("motorways", 1)
