"""The live CAN driver: profiles named and found, filters, counts, wires of python-can, and what settings refuse."""

import itertools
import subprocess
import sys
import threading
from pathlib import Path

import can
import numpy as np
import pytest

from agent.blocks import EXTENDED, FD, REMOTE, empty_frames
from agent.channels import number
from agent.clock import NS_PER_S, monotonic_ns
from agent.config import build
from agent.errors import ConfigError, DriverError
from drivers import canbus
from drivers.can.outgoing import Service, request
from drivers.can.pythoncan import PythonCan
from drivers.can.socketcan import SocketCan
from drivers.can.wire import CanSettings, make_wire
from drivers.canbus import OBD_ANSWERS, CanBus
from drivers.decode.dbc import load_dbc
from drivers.decode.profile import load_profile
from tests.can_peers import Adapter, Datagrams, can_frame

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "config"
MESSAGES = {m.name: m for m in load_dbc(CONFIG / "dbc" / "simcar.dbc").messages}
CHANNEL = (f"canbus{i}" for i in itertools.count())


class Wire:
    """A wire that gives prepared batches, one a read, and remembers its filters."""

    name, bit_rate = "prepared", 500_000

    def __init__(self, batches) -> None:
        self.batches, self.filters, self.notes, self.counts = list(batches), [], [], {"lost": 2}

    def open(self, filters) -> None:
        self.filters.append(filters)

    def filter(self, filters) -> None:
        self.filters.append(filters)

    def read(self, timeout_s):
        return self.batches.pop(0) if self.batches else empty_frames(0)

    def send(self, frame) -> int:
        raise AssertionError("only listening")

    def close(self) -> None:
        pass


def batch(at_s, *identifiers):
    frames = empty_frames(len(identifiers))
    frames.t[:] = round(at_s * NS_PER_S) + np.arange(len(identifiers))
    frames.id[:], frames.len[:] = identifiers, 8
    return frames


def simcar_ids():
    return [e.message.id for e in load_profile("simcar", CONFIG).entries if e.takes]


def test_a_named_profile_filters_from_the_start_and_decodes():
    wire = Wire([batch(1, MESSAGES["ENGINE"].id)])
    driver = CanBus(CanSettings(profile="simcar"), CONFIG, lambda settings: wire)
    driver.open()
    assert wire.filters == [[*load_profile("simcar", CONFIG).id_filters("can0"), *OBD_ANSWERS]]
    block = driver.read(0.1)
    assert number("Vehicle.Powertrain.CombustionEngine.Speed") in block["channel"]
    assert (driver.frames, driver.last_frame_ns) == (1, NS_PER_S)
    assert driver.counts["lost"] == 2
    assert driver.bit_rate == 500_000


def test_without_a_name_the_first_seconds_of_traffic_choose_the_profile():
    ids = simcar_ids()
    half, rest = ids[: len(ids) // 3], ids[len(ids) // 3 :]
    wire = Wire([batch(1, *half), batch(2, *rest), batch(1 + canbus.LISTEN_S, ids[0]), batch(9, *ids)])
    driver = CanBus(CanSettings(), CONFIG, lambda settings: wire)
    driver.open()
    for _ in range(2):
        assert len(driver.read(0.1)) == 0
        assert driver.profile is None
    driver.read(0.1)
    assert driver.profile.name == "simcar"
    assert wire.filters == [[], [*driver.profile.id_filters("can0"), *OBD_ANSWERS]]
    assert len(driver.read(0.1)) > 0
    driver.close()
    driver.open()
    assert wire.filters[2] == wire.filters[1]  # what was learned outlives reopening


def test_what_fits_no_profile_is_said_and_still_heard():
    wire = Wire([batch(1, 0x7, 0x8), batch(9, 0x7, 0x7E8)])
    driver = CanBus(CanSettings(), CONFIG, lambda settings: wire)
    driver.open()
    driver.read(0.1)
    assert not any(h.source.endswith(":profile") for h in driver.health())
    driver.read(0.1)
    assert {h.source: h.state for h in driver.health()} == {
        "canbus:can0": "ok",
        "canbus:can0:mode": "ok",
        "canbus:can0:profile": "degraded",
    }
    assert wire.filters == [[]]
    assert driver.last_frame_ns == 9 * NS_PER_S + 1


def test_health_tells_losses_and_errors_while_they_last_and_what_is_wrong_with_the_interface(monkeypatch):
    now = [100 * NS_PER_S]
    monkeypatch.setattr("drivers.canbus.monotonic_ns", lambda: now[0])
    wire = Wire([])
    wire.counts = {"lost_in_queue": 0, "error_bus_error": 0}
    wire.notes = ["can0 is not listen-only"]
    driver = CanBus(CanSettings(profile="simcar"), CONFIG, lambda settings: wire)
    driver.open()

    def states():
        now[0] += NS_PER_S
        return {h.source.removeprefix("canbus:can0").lstrip(":") or "": h.state for h in driver.health()}

    assert states() == {"": "ok", "mode": "degraded", "profile": "ok"}
    wire.counts = {"lost_in_queue": 3, "error_bus_error": 1}
    assert states()["losses"] == "degraded"
    for _ in range(8):
        assert states()["errors"] == "degraded"
    now[0] += canbus.CALM_NS
    assert states()["errors"] == states()["losses"] == "ok"
    wire.counts = {"lost_in_queue": 4, "error_bus_error": 1}
    assert (states()["errors"], states()["losses"]) == ("ok", "degraded")


def test_two_buses_are_two_drivers_with_names_that_profiles_match():
    assert CanSettings(channel="can1").bus_name == "can1"
    assert CanSettings("slcan", "/dev/ttyACM0").bus_name == "can0"
    assert CanSettings("slcan", "/dev/ttyACM0", bus="can3").bus_name == "can3"
    assert CanBus(CanSettings("slcan", "/dev/ttyACM0", bus="radar"), CONFIG).name == "canbus:radar"


def test_options_for_python_can_keep_their_types():
    table = {"interface": "gs_usb", "options": {"fd": True, "index": 0, "rate": 0.5, "app": "x"}}
    made = build(CanSettings, table, "agent.toml: can")
    assert [type(v) for v in made.options.values()] == [bool, int, float, str]
    with pytest.raises(ConfigError, match=r"options\.index"):
        build(CanSettings, {"options": {"index": [0]}}, "agent.toml: can")


def test_settings_refuse_what_cannot_be():
    with pytest.raises(ConfigError, match="window_s = 3 is not within"):
        build(CanSettings, {"window_s": 3.0}, "agent.toml: can")
    with pytest.raises(ConfigError, match="channel is empty"):
        build(CanSettings, {"channel": ""}, "agent.toml: can")
    with pytest.raises(ConfigError, match="above 0"):
        build(CanSettings, {"bit_rate": -1}, "agent.toml: can")
    with pytest.raises(ConfigError, match="profile 'simcra' is not known"):
        CanBus(CanSettings(profile="simcra"), CONFIG).open()


def test_importing_the_driver_loads_neither_numba_nor_can_nor_serial():
    code = (
        "import sys, drivers.canbus, drivers.obdcan; print([m for m in ('numba', 'can', 'serial') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout == "[]\n"


def test_full_and_quiet_windows_give_the_same_samples():
    rng = np.random.default_rng(4)
    packets = [can_frame(i, rng.bytes(8)) for i in rng.choice(simcar_ids(), 400).tolist()]
    results = []
    for size in (400, 7):
        wire = Datagrams()
        driver = CanBus(
            CanSettings(profile="simcar", window_s=0.0),
            CONFIG,
            lambda s, w=wire: SocketCan(s, lambda *_: w.inner.dup()),
        )
        driver.open()
        blocks, sent = [], 0
        while driver.frames < len(packets):
            wire.put(*packets[sent : sent + size])
            sent += size
            blocks.append(driver.read(0.5))
        driver.close()
        wire.close()
        samples = np.concatenate(blocks)
        results.append(list(zip(samples["channel"].tolist(), samples["value"].tolist(), strict=True)))
        assert np.all(np.diff(samples["t"]) >= 0)
    assert results[0] == results[1] != []


# --- python-can


@pytest.fixture
def virtual():
    channel = next(CHANNEL)
    far = can.Bus(interface="virtual", channel=channel)
    yield channel, far
    far.shutdown()


def read_rows(wire, enough):
    rows = []
    while len(rows) < enough:
        f = wire.read(1.0)
        assert len(f.t), "a frame did not come"
        rows += list(zip(f.t.tolist(), f.id.tolist(), f.flags.tolist(), f.len.tolist(), strict=True))
    return rows


def test_messages_of_any_interface_become_frames_on_monotonic_time(virtual):
    channel, far = virtual
    wire = make_wire(CanSettings("virtual", channel, window_s=0.005))
    assert isinstance(wire, PythonCan)
    before_ns = monotonic_ns() - 10_000_000
    wire.open([])
    far.send(can.Message(arbitration_id=0x123, is_extended_id=False, data=b"\x01\x02"))
    far.send(can.Message(arbitration_id=0x18FEF100, data=bytes(8)))
    far.send(can.Message(arbitration_id=1, is_extended_id=False, is_remote_frame=True, dlc=2))
    far.send(can.Message(arbitration_id=2, is_extended_id=False, is_fd=True, data=bytes(64)))
    far.send(can.Message(is_error_frame=True))
    rows = read_rows(wire, 4)
    assert [r[1:] for r in rows] == [(0x123, 0, 2), (0x18FEF100, EXTENDED, 8), (1, REMOTE, 0), (2, FD, 64)]
    assert before_ns <= rows[0][0] <= rows[-1][0] <= monotonic_ns()
    assert len(wire.read(0.02).t) == 0
    assert wire.counts["error_frames"] == 1
    wire.close()
    wire.close()


def test_a_python_can_bus_filters_and_sends_when_allowed(virtual):
    channel, far = virtual
    wire = make_wire(CanSettings("virtual", channel, window_s=0.001, transmit=True))
    wire.open(load_profile("simcar", CONFIG).id_filters("can0"))
    far.send(can.Message(arbitration_id=0x7, is_extended_id=False))
    far.send(can.Message(arbitration_id=MESSAGES["ENGINE"].id, is_extended_id=False, data=bytes(8)))
    assert [r[1] for r in read_rows(wire, 1)] == [MESSAGES["ENGINE"].id]
    wire.send(request(Service.CURRENT, b"\x0c", unit=0x7E8))
    asked = far.recv(1.0)
    assert (asked.arbitration_id, bytes(asked.data[:3])) == (0x7E0, b"\x02\x01\x0c")
    wire.close()
    silent = make_wire(CanSettings("virtual", channel))
    silent.open([])
    with pytest.raises(ConfigError, match="sending is not allowed"):
        silent.send(request(Service.CURRENT, b"\x0c"))
    silent.close()


def test_closing_from_another_thread_ends_a_read_with_nothing_worse_than_a_driver_error(virtual):
    datagrams, adapter = Datagrams(), Adapter()
    wires = [
        SocketCan(CanSettings(), lambda *_: datagrams.inner.dup()),
        make_wire(CanSettings("slcan", adapter.path, bit_rate=500_000)),
        make_wire(CanSettings("virtual", virtual[0])),
    ]
    for wire in wires:
        wire.open([])
        ended, reading = [], threading.Event()

        def read(wire=wire, ended=ended, reading=reading) -> None:
            try:
                while True:
                    wire.read(0.05)
                    reading.set()
            except DriverError as error:
                ended.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        assert reading.wait(30)
        wire.close()
        thread.join(30)
        assert len(ended) == 1, wire.name
    datagrams.close()
    adapter.close()


@pytest.mark.parametrize("interface", ["nosuchthing", "serial", "usb2can", "pcan", "kvaser"])
def test_interfaces_that_are_not_there_are_one_sentence(interface):
    with pytest.raises(DriverError, match=f"{interface}:nowhere: cannot open: .*; check interface"):
        make_wire(CanSettings(interface, "nowhere")).open([])
