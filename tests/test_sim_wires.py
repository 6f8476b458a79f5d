"""The virtual car on real wires, read by python-can and by our own drivers."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import can
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import ERROR, EXTENDED, FD, REMOTE, empty_frames, join_blocks
from agent.channels import number
from agent.clock import NS_PER_S, monotonic_ns
from agent.config import config_dir
from agent.errors import ConfigError, DriverError
from drivers.can.slcan import Slcan
from drivers.can.wire import CanSettings
from drivers.decode.profile import load_profile
from drivers.elm327 import Elm327, Elm327Settings
from drivers.gps import Gps
from drivers.imu import Imu
from sim.car import play, speed_of
from sim.drive import BUS, Drive, simulate
from sim.elm327 import Latency
from sim.elm_car import VIN
from sim.record import write_drive
from sim.slcan import SlcanAdapter
from sim.socketcan import SocketCanBus, open_raw
from sim.tape import Tape, drive_tape, recorded_tape
from sim.wire_faults import FAULTS, plan
from sim.wires import Wires, known_protocol
from tests.can_peers import Datagrams, can_frame

BOX_IDS = range(0x600, 0x612)  # the box's own sensors, bridged in recordings only
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def drive() -> Drive:
    return simulate("calm-city", 3, 2.0)


@pytest.fixture
def tape(drive):
    made = drive_tape(drive, config_dir(), load_profile("simcar", config_dir()))
    yield made
    made.close()


class Running:
    """The car playing in a thread; `go` lets it start."""

    def __init__(self, tape: Tape, wires: Wires, **how) -> None:
        self.stop, self.result = threading.Event(), {}
        self._thread = threading.Thread(target=lambda: self.result.update(play(tape, wires, self.stop, **how)))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        self.stop.set()
        self._thread.join()


@pytest.fixture
def wires(tape, tmp_path):
    with Wires(tmp_path, tape, latency=Latency()) as made:
        yield made


def slcan_to(wires, **settings_):
    return Slcan(CanSettings("slcan", str(wires.can[BUS].path), **{"bit_rate": 500_000, **settings_}))


def open_files():
    """Return what this process has open; garbage of an earlier test may go meanwhile: more is a leak, less is not."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the listing's own
            found.add((name, os.readlink(f"/proc/self/fd/{name}")))
    return found


def until(found, step):
    """Call `step` until `found` says that it is enough."""
    deadline_ns = monotonic_ns() + round(PATIENCE_S * NS_PER_S)
    while not found():
        assert monotonic_ns() < deadline_ns, "nothing came"
        step()


def car_frames(drive):
    keep = ~np.isin(drive.frames.id, list(BOX_IDS))
    f = drive.frames
    return [
        (i, d[:n].tobytes()) for i, n, d in zip(f.id[keep].tolist(), f.len[keep].tolist(), f.data[keep], strict=True)
    ]


def test_python_can_reads_the_frames_of_the_drive_from_the_pty(drive, tape, wires):
    with can.Bus(str(wires.can[BUS].path), interface="slcan", bitrate=500_000, sleep_after_open=0.0) as bus:
        assert wires.can[BUS].on_bus.wait(PATIENCE_S)
        got = []
        with Running(tape, wires, speed=2.0, most_s=3.0) as running:
            until(lambda: len(got) >= 1500, lambda: got.append(bus.recv(PATIENCE_S)))
        assert [(m.arbitration_id, bytes(m.data)) for m in got] == car_frames(drive)[:1500]
        assert running.result["frames_lost"] == 0


def test_our_driver_reads_them_at_the_pace_of_the_drive(drive, tape, wires):
    wire = slcan_to(wires)
    wire.open([])
    times, frames = [], []

    def read():
        f = wire.read(0.1)
        times.extend(f.t.tolist())
        frames.extend((i, d[:n].tobytes()) for i, n, d in zip(f.id.tolist(), f.len.tolist(), f.data, strict=True))

    with Running(tape, wires, speed=10.0):
        until(lambda: len(frames) > 7000, read)
    wire.close()
    assert frames == car_frames(drive)[: len(frames)]
    keep = ~np.isin(drive.frames.id, list(BOX_IDS))
    true_ns = drive.frames.t[keep][: len(frames)] / 10.0
    late_ms = ((np.array(times) - times[0]) - (true_ns - true_ns[0])) / 1e6
    assert abs(np.median(late_ms[-500:]) - np.median(late_ms[:500])) < 40.0  # bounded, whatever the load; no drift


def test_fixes_come_from_gpsd_in_step_and_not_from_can(drive, tape, wires):
    gps = Gps(port=wires.gpsd.address[1])
    gps.open()
    assert wires.gpsd.watched.wait(PATIENCE_S)
    blocks = []
    latitude, speed = number("Gnss.Latitude"), number("Gnss.Speed")

    def positions():
        return [v for b in blocks for c, v in zip(b["channel"], b["value"], strict=True) if c == latitude]

    with Running(tape, wires, speed=20.0):
        until(lambda: len(positions()) > 20, lambda: blocks.append(gps.read(0.2)))
    gps.close()
    true = join_blocks(list(drive.blocks()))
    said = true["value"][true["channel"] == latitude]
    assert positions() == pytest.approx(said[: len(positions())].tolist(), abs=1e-9)
    speeds = [v for b in blocks for c, v in zip(b["channel"], b["value"], strict=True) if c == speed]
    assert speeds == pytest.approx(true["value"][true["channel"] == speed][: len(speeds)].tolist(), abs=0.002)


def test_the_inertial_sensor_gives_what_the_drive_felt_at_the_rate_asked_for(drive, tape, wires):
    imu = Imu(rate_hz=100.0, sysfs=wires.iio.sysfs, dev=wires.iio.dev)
    imu.open()
    blocks = []
    with Running(tape, wires):
        until(lambda: sum(map(len, blocks)) > 600, lambda: blocks.append(imu.read(0.3)))
    imu.close()
    block = join_blocks(blocks)
    t = block["t"][block["channel"] == number("Imu.Acceleration.Z")]
    assert np.median(np.diff(t)) == NS_PER_S / 100
    true = join_blocks(list(drive.blocks()))
    for axis in "XYZ":
        channel = number(f"Imu.Acceleration.{axis}")
        felt = block["value"][block["channel"] == channel].mean()
        first = true[(true["channel"] == channel) & (true["t"] < 2 * NS_PER_S)]["value"]
        assert felt == pytest.approx(first.mean(), abs=0.05)


def test_the_elm327_answers_with_the_cars_own_values(drive, tape, wires):
    elm = Elm327(Elm327Settings(port=str(wires.elm.path), baud=38400, speed_hz=20.0))
    blocks = []
    rpm = number("Obd.EngineSpeed")
    with Running(tape, wires, speed=5.0):
        until(lambda: wires._latest, lambda: wires.can[BUS].on_bus.wait(0.02))
        elm.open()
        until(lambda: any((b["channel"] == rpm).any() for b in blocks), lambda: blocks.append(elm.read(0.5)))
        elm.close()
    said = [float(v) for b in blocks for v in b["value"][b["channel"] == rpm]]
    true = join_blocks(list(drive.blocks()))
    engine = true["value"][true["channel"] == number("Vehicle.Powertrain.CombustionEngine.Speed")]
    assert engine.min() <= said[0] <= engine.max()
    assert 0x0D in elm.polled
    assert 0x10 not in elm.polled  # the simulated car measures no air flow: nothing is made up


def test_a_tester_asks_on_can_and_gets_iso_tp(tape, wires):
    wire = slcan_to(wires, transmit=True)
    wire.open([])
    with Running(tape, wires):
        until(lambda: wires._latest, lambda: wire.read(0.05))
    answers = []

    def answered(identifier, data):
        heard = wires.can[BUS]._hear(identifier, data)
        answers.extend(d for _, d in heard)
        return heard

    assert answered(0x7DF, bytes.fromhex("0201000000000000"))[0][0] == 0x7E8
    answered(0x7DF, bytes.fromhex("0209020000000000"))
    answered(0x7E0, bytes.fromhex("3000000000000000"))
    assert answers[1][0] >> 4 == 1
    assert (answers[1][2:] + answers[2][1:] + answers[3][1:])[3:20].decode() == VIN
    assert answered(0x7E1, bytes.fromhex("0201000000000000")) == []
    assert answered(0x123, b"\x02\x01\x00") == []
    wire.close()


def test_a_recording_plays_like_the_drive_that_it_recorded(drive, tmp_path):
    log = write_drive(drive, tmp_path / "drive")[0]
    recorded = recorded_tape([log], config_dir(), None)
    try:
        assert recorded.profile is not None
        assert recorded.profile.name == "simcar"
        assert recorded.start_buses == [BUS]
        assert number("Gnss.Latitude") in recorded.channels
        frames, block = recorded.take(20 * NS_PER_S)
        sent = [recorded.of_the_car(BUS, f) for f in frames]
        n = sum(len(f.t) for f in sent)
        assert [(i, d[:k].tobytes()) for f in sent for i, k, d in zip(f.id, f.len, f.data, strict=True)] == car_frames(
            drive
        )[:n]
        assert block["t"][-1] <= 20 * NS_PER_S
    finally:
        recorded.close()


def test_a_recording_of_samples_alone_plays_what_it_has(tmp_path):
    csv = tmp_path / "imu.csv"
    rows = "".join(
        f"{t / 100},Imu.Acceleration.{a},{v}\n"
        for t in range(300)
        for a, v in zip("XYZ", (0.0, 0.0, 9.81), strict=True)
    )
    csv.write_text("t_s,channel,value\n" + rows)
    tape = recorded_tape([csv], config_dir(), None)
    with Wires(tmp_path / "wires", tape) as wires:
        assert list(wires.described) == ["can", "imu"]
        assert wires.described["can"] == {}
        assert play(tape, wires, threading.Event(), speed=10.0)["ended"] == "all"
        with pytest.raises(ConfigError, match="no gpsd wire; there are imu"):
            play(tape, wires, threading.Event(), faults=plan(["gps-lost@1"]))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 25 * NS_PER_S), max_size=8))
def test_however_often_the_tape_is_asked_it_gives_the_same(times):
    profile = load_profile("simcar", config_dir())
    short = replace(_short(), frames=_short().frames)
    whole, cut = drive_tape(short, config_dir(), profile), drive_tape(short, config_dir(), profile)
    end = 10**15
    frames, block = whole.take(end)
    parts = [cut.take(t) for t in [*sorted(times), end]]
    assert np.array_equal(np.concatenate([f.id for f in frames]), np.concatenate([f.id for p, _ in parts for f in p]))
    assert np.array_equal(block, join_blocks([b for _, b in parts]))
    assert whole.ended
    assert cut.ended


_KEPT: list[Drive] = []


def _short() -> Drive:
    if not _KEPT:
        _KEPT.append(simulate("obd-only", 4, 1.0))
    return _KEPT[0]


# --- faults


def test_fault_names_are_checked_and_near_ones_are_named():
    assert [(p.name, p.start_s, p.end_s) for p in plan(["gps-lost@60", "bus-off@1.5+2"])] == [
        ("gps-lost", 60.0, 90.0),
        ("bus-off", 1.5, 3.5),
    ]
    with pytest.raises(ConfigError, match="near names: gps-lost"):
        plan(["gps-lots@3"])
    with pytest.raises(ConfigError, match="write NAME@T"):
        plan(["gps-lost"])
    with pytest.raises(ConfigError, match="up to 100x"):
        speed_of("fast")
    with pytest.raises(ConfigError, match="CAN 11/500"):
        known_protocol("X")


def test_every_fault_can_begin_and_end_and_leaves_a_car_that_drives(tape, wires):
    before = open_files()
    for fault in FAULTS.values():
        fault.switch(wires, True)
        fault.switch(wires, False)
    assert len(open_files()) <= len(before)  # gpsd listens anew and a line is another one: as many as before
    wire = slcan_to(wires)
    with Running(tape, wires):
        wire.open([])
        got = []
        until(lambda: len(got) > 50, lambda: got.extend(wire.read(0.1).id.tolist()))
    wire.close()
    assert len(FAULTS) >= 20


def test_bus_off_stops_frames_and_interface_down_breaks_the_line_until_it_is_back(tape, wires):
    wire = slcan_to(wires)
    wire.open([])
    adapter = wires.can[BUS]
    with Running(tape, wires, speed=2.0):
        got = []
        until(lambda: len(got) > 50, lambda: got.extend(wire.read(0.1).id.tolist()))
        FAULTS["bus-off"].switch(wires, True)
        until(lambda: len(wire.read(0.05).t) == 0, lambda: None)
        assert adapter._obey(b"F") == b"FA4\r"
        assert adapter._obey(b"t1230") == b"\a"
        FAULTS["bus-off"].switch(wires, False)
        until(lambda: len(wire.read(0.05).t) > 0, lambda: None)
        before = os.readlink(adapter.path)
        FAULTS["interface-down"].switch(wires, True)
        with pytest.raises(DriverError, match="unplugged"):
            until(lambda: False, lambda: wire.read(0.05))
        with pytest.raises(DriverError, match="cannot open"):
            wire.open([])
        held = os.open(os.devnull, os.O_RDONLY)
        FAULTS["interface-down"].switch(wires, False)
        os.close(held)
        wire.open([])
        until(lambda: len(wire.read(0.05).t) > 0, lambda: None)
        assert os.path.exists(before) or os.readlink(adapter.path) != before
    wire.close()


def gnss_of(wires, tape, fault, channel, enough, tmp_seconds=20.0):
    gps = Gps(port=wires.gpsd.address[1])
    gps.open()
    assert wires.gpsd.watched.wait(PATIENCE_S)
    values = []

    def read():
        block = gps.read(0.2)
        values.extend(block["value"][block["channel"] == number(channel)].tolist())

    with Running(tape, wires, speed=tmp_seconds, faults=plan([f"{fault}@50+1000"])):
        until(lambda: enough(values), read)
    gps.close()
    return values


def test_gps_lost_takes_the_fix_away(tape, wires):
    values = gnss_of(wires, tape, "gps-lost", "Gnss.FixType", lambda v: 3.0 in v and v[-1] == 0.0)
    assert values[-1] == 0.0


def test_gps_jump_moves_the_place_by_kilometres(tape, wires):
    # our own driver would keep the jump out, so gpsd's words are read here
    import socket

    with socket.create_connection(wires.gpsd.address) as gpsd, gpsd.makefile("rb") as said:
        gpsd.settimeout(PATIENCE_S)
        gpsd.sendall(b'?WATCH={"enable":true,"json":true};\n')
        assert wires.gpsd.watched.wait(PATIENCE_S)
        seen: list[dict] = []
        with Running(tape, wires, speed=20.0, faults=plan(["gps-jump@50+5", "gps-wrong-week@60+1000"])):
            while not any(m["time"] < "2015" for m in seen):
                message = json.loads(said.readline())
                if message["class"] == "TPV" and message["mode"] > 1:
                    seen.append(message)
    latitudes = [m["lat"] for m in seen]
    assert max(np.diff(latitudes)) > 0.04
    assert min(np.diff(latitudes)) < -0.04


def test_the_inertial_sensor_gets_stuck_and_clips(tape, wires):
    imu = Imu(rate_hz=100.0, sysfs=wires.iio.sysfs, dev=wires.iio.dev)
    imu.open()
    values = []

    def read():
        block = imu.read(0.3)
        values.extend(block["value"][block["channel"] == number("Imu.Acceleration.X")].tolist())

    with Running(tape, wires, speed=4.0):
        until(lambda: len(values) > 50, read)
        FAULTS["imu-stuck"].switch(wires, True)
        until(lambda: len(set(values[-30:])) == 1, read)
        FAULTS["imu-stuck"].switch(wires, False)
        FAULTS["imu-clipped"].switch(wires, True)
        until(lambda: abs(values[-1]) > 12.0, read)
    imu.close()


def test_adapter_faults_reach_the_adapter_and_a_pulled_one_comes_back(tape, wires):
    with Running(tape, wires, faults=plan(["elm-silent@0.05+0.2", "elm-unplugged@0.4+0.3"])) as running:
        until(lambda: "silent" in wires.adapter.faults, lambda: running.stop.wait(0.01))
        until(lambda: "silent" not in wires.adapter.faults, lambda: running.stop.wait(0.01))
        until(lambda: not wires.elm.path.exists(), lambda: running.stop.wait(0.01))
        until(wires.elm.path.exists, lambda: running.stop.wait(0.01))
    assert running.result["faults"] == ["elm-silent", "elm-unplugged"]


# --- the adapter's dialogue


@pytest.fixture
def adapter(tmp_path):
    made = SlcanAdapter(tmp_path / "tty-can", hear=lambda identifier, data: [(identifier + 8, data[::-1])])
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("dialogue", "last"),
    [
        ([b""], b"\r"),
        ([b"C"], b"\a"),
        ([b"S6"], b"\r"),
        ([b"Sx"], b"\a"),
        ([b"S6", b"L"], b"\r"),
        ([b"S6", b"O", b"O"], b"\a"),
        ([b"S6", b"O", b"S5"], b"\a"),
        ([b"S6", b"O", b"Z1"], b"\a"),
        ([b"S6", b"O", b"C"], b"\r"),
        ([b"V"], b"V1013\r"),
        ([b"N"], b"NRW01\r"),
        ([b"F"], b"\a"),
        ([b"S6", b"O", b"F"], b"F00\r"),
        ([b"m00000000"], b"\r"),
        ([b"what"], b"\a"),
        ([b"S6", b"L", b"t12320102"], b"\a"),
        ([b"S6", b"O", b"t12320102"], b"z\rt12B20201\r"),
        ([b"S6", b"O", b"t1233010"], b"\a"),
        ([b"S5", b"O", b"t12320102"], b"\a"),
        ([b"S6", b"O", b"T18DAF11020102"], b"Z\rT18DAF11820201\r"),
        ([b"S6", b"O", b"r1230"], b"z\r"),
    ],
)
def test_the_adapter_obeys_the_data_sheet(adapter, dialogue, last):
    assert [adapter._obey(command) for command in dialogue][-1] == last


def test_lines_say_kinds_and_milliseconds_and_what_cannot_be_said_is_left_out(adapter):
    adapter._obey(b"S6")
    adapter._obey(b"Z1")
    adapter._obey(b"O")
    frames = empty_frames(4)
    frames.id[:] = (0x123, 0x18DAF110, 0x7DF, 1)
    frames.flags[:] = (0, EXTENDED, REMOTE, FD)
    frames.len[:] = (2, 1, 8, 8)
    frames.data[:2, 0] = 0xAB
    adapter.put(frames, np.array([60_001, 60_002, 119_999, 5]) * 1_000_000)
    assert adapter.sent == 3
    with open(adapter.path, "rb", buffering=0) as line:
        assert line.read(100) == b"t1232AB000001\rT18DAF1101AB0002\rr7DF8EA5F\r"
    frames.flags[:] = ERROR
    adapter.put(frames, np.zeros(4, np.int64))
    assert adapter.sent == 3


def test_an_adapter_that_nobody_reads_loses_frames_and_never_half_of_one(adapter):
    adapter._obey(b"S6")
    adapter._obey(b"O")
    frames = empty_frames(1000)
    frames.len[:] = 8
    for _ in range(20):
        adapter.put(frames, np.zeros(1000, np.int64))
    assert adapter.lost
    text = b""
    with open(adapter.path, "rb", buffering=0) as line:
        os.set_blocking(line.fileno(), False)
        while adapter.held or text.count(b"\r") < adapter.sent:
            text += line.read(65536) or b""
            adapter.flush()
    assert set(text.split(b"\r")[:-1]) == {b"t00080000000000000000"}
    assert adapter.sent + adapter.lost == 20_000


def test_a_socketcan_interface_gets_the_frames_and_answers_are_sent_on_it():
    wire = Datagrams()
    bus = SocketCanBus("vcan0", lambda i, d: [(i + 1, d)], lambda name: wire.inner)
    frames = empty_frames(2)
    frames.id[:] = (0x123, 0x18DAF110)
    frames.flags[:] = (0, EXTENDED)
    frames.len[:] = (1, 0)
    frames.data[0, 0] = 7
    try:
        wire.outer.settimeout(PATIENCE_S)
        bus.put(frames, np.zeros(2, np.int64))
        assert [wire.outer.recv(72), wire.outer.recv(72)] == [can_frame(0x123, b"\x07"), can_frame(0x18DAF110, b"")]
        wire.put(can_frame(0x7DF, b"\x02\x01\x00"))
        until(lambda: bus.sent == 3, bus.flush)
        assert wire.outer.recv(72) == can_frame(0x7E0, b"\x02\x01\x00")
        bus.bus_off(True)
        bus.put(frames, np.zeros(2, np.int64))
        assert bus.sent == 3
    finally:
        bus.stop()
        wire.close()
    with pytest.raises(DriverError, match=r"nocan9: (this kernel has no CAN|cannot bind)"):
        open_raw("nocan9")


# --- the end


def test_at_the_end_no_thread_and_no_file_is_left(drive, tmp_path):
    profile = load_profile("simcar", config_dir())
    files, threads = open_files(), set(threading.enumerate())
    tape = drive_tape(drive, config_dir(), profile)
    with Wires(tmp_path, tape) as wires:
        assert play(tape, wires, threading.Event(), speed=20.0, most_s=2.0)["ended"] == "long enough"
        for name in ("interface-down", "elm-unplugged", "gpsd-down", "imu-unplugged"):
            FAULTS[name].switch(wires, True)
    tape.close()
    assert not open_files() - files
    assert not set(threading.enumerate()) - threads
    assert not [p for p in tmp_path.rglob("*") if p.is_symlink() or p.is_fifo()]


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_where_the_wires_are_and_ends_cleanly(with_signal):
    command = [sys.executable, "-c", "from agent.cli import main; main()", "sim", "car", "--scenario", "calm-city"]
    process = subprocess.Popen(
        [*command, "--minutes", "1", "--json", "--fault", "imu-stuck@0"], stdout=subprocess.PIPE, text=True
    )
    try:
        ready = json.loads(process.stdout.readline())
        device = Path(ready["can"]["can0"]["channel"])
        assert device.exists()
        assert set(ready) == {"ready", "speed", "can", "elm327", "gpsd", "imu"}
        process.send_signal(with_signal)
        ended = json.loads(process.stdout.readline())
        assert process.wait(PATIENCE_S) == 0
        assert ended["ended"] == "stopped"
        assert not device.parent.exists()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
