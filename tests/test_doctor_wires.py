"""The doctor at wires that it opens itself, no daemon being there: one car that is well, and one in which all is ill.

All faults are examined at once, as devices are; each must be named where it is and nowhere else.
"""

import socket
import termios
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from agent import clock
from agent.blocks import Frames, empty_frames
from agent.clock import NS_PER_S, monotonic_ns, wall_ns
from agent.config import config_dir
from agent.doctor import Context, Finding, adapter, examine, next_step, worst
from drivers.decode.profile import load_profile
from sim.car import play
from sim.drive import simulate
from sim.elm327 import FakeElm, Latency, PtyElm
from sim.elm_car import CODES, Car, Unit
from sim.gpsd import FakeGpsd, Report
from sim.iio import FakeIio
from sim.slcan import SlcanAdapter
from sim.tape import drive_tape
from sim.wires import Wires
from sim.wiring import agent_toml
from tests.doctoring import Box

PIDS = (0x01, 0x04, 0x05, 0x0C, 0x0D, 0x11)
OTHER_VIN = "11111111111111111"
STEP_S = 0.05
# device -> state, finding, advice; what fails besides is listed in FAILS
CAN = {
    "silent": ("fail", "can_silent", "ignition on"),
    "slow": ("fail", "can_bit_rate_wrong", "bit_rate = 250000"),
    "gone": ("fail", "can_adapter_missing", "/dev/serial/by-id"),
    "rav4": ("fail", "can_profile_wrong", "profile suggest"),
    "strange": ("warn", "can_no_profile", "profile suggest"),
}
ELM = {
    "silent": ("fail", "adapter_silent", "pin 16"),
    "no_data": ("fail", "adapter_no_car", "ignition on"),
    "can_error": ("fail", "adapter_bus_trouble", "contacts"),
    "version_1_5": ("warn", "adapter_clone", "OBDLink"),
    "stopped": ("warn", "adapter_unsteady", "replace the adapter"),
    "rate": ("fail", "adapter_wrong_rate", "baud = 9600"),
    "gone": ("fail", "adapter_missing", "/dev/serial/by-id"),
}
GPS = {
    "antenna": ("fail", "gps_no_signal", "antenna"),
    "open": ("fail", "gps_antenna_open", "until it is tight"),
    "jammed": ("warn", "gps_weak", "uncoated"),
    "no_fix": ("warn", "gps_no_fix", "open sky"),
    "wrong_week": ("warn", "gps_wrong_date", "firmware"),
    "stall": ("fail", "gps_silent", "gpspipe"),
    "empty": ("fail", "gps_no_receiver", "DEVICES"),
    "gone": ("fail", "gpsd_unreachable", "restart gpsd"),
}
IMU = {
    "stuck": ("fail", "imu_stuck", "off and on"),
    "clipped": ("fail", "imu_clipped", "range"),
    "silent": ("fail", "imu_silent", "trigger"),
    "half": ("fail", "imu_gravity", "in_mount_matrix"),
    "gone": ("fail", "imu_missing", "i2cdetect"),
}
CAMERAS = {
    "dark": ("fail", "camera_blind", "lens"),
    "gone": ("fail", "camera_missing", "v4l2-ctl"),
}
FAILS = {"agent_not_running", "dashcam_not_running", "vin_other"}  # true of this car besides


class Listening(FakeElm):
    """An adapter that hears at which rate the host speaks."""

    pty: PtyElm | None = None

    def receive(self, data: bytes, now_ns: int) -> None:
        if self.pty is not None:
            speeds = {termios.B9600: 9600, termios.B38400: 38400}
            self.host_baud = speeds.get(termios.tcgetattr(self.pty._theirs)[5], 0)
        super().receive(data, now_ns)


@dataclass
class Ill:
    """A car in which every wire has a fault of its own."""

    folder: Path
    can: dict[str, SlcanAdapter] = field(default_factory=dict)
    elm: dict[str, PtyElm] = field(default_factory=dict)
    gps: dict[str, FakeGpsd] = field(default_factory=dict)
    imu: dict[str, FakeIio] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)

    def plug(self, stack: ExitStack) -> None:
        for name, rate in {"silent": 500_000, "slow": 250_000, "rav4": 500_000, "strange": 500_000}.items():
            self.can[name] = SlcanAdapter(self.folder / f"can-{name}", bit_rate=rate)
            stack.callback(self.can[name].stop)
        for name in [n for n in ELM if n != "gone"]:
            car = Car(protocol="6", units=(Unit(0x10, PIDS),), codes=dict(CODES))
            fake = Listening(car, Latency(unit_s=0.02))
            if name == "rate":
                fake.baud = 9600
            else:
                fake.inject(name)
            self.elm[name] = PtyElm(fake, self.folder / f"elm-{name}")
            fake.pty = self.elm[name]
            stack.callback(self.elm[name].stop)
        for name in [n for n in GPS if n != "gone"]:
            self.gps[name] = FakeGpsd(pps=False, toff=False)
            if name not in ("open", "empty"):
                self.gps[name].fault(name)  # type: ignore[arg-type]
            self.gps[name].start()
            stack.callback(self.gps[name].stop)
        for name in [n for n in IMU if n != "gone"]:
            self.imu[name] = FakeIio(self.folder / f"imu-{name}", name=name)
            if name != "half":
                self.imu[name].fault(name)  # type: ignore[arg-type]
            self.imu[name].plug()
            stack.callback(self.imu[name].unplug)
        thread = threading.Thread(target=self._feed)
        thread.start()
        stack.callback(thread.join)
        stack.callback(self.stopping.set)

    def toml(self, closed: int) -> str:
        """Return an agent.toml with all of it, and a device of each kind that is gone."""
        parts = [f'[vehicle]\nvin = "{OTHER_VIN}"\n[consent]\nsheet = "sheet 1"']
        for name in CAN:
            lines = [f'interface = "slcan"\nchannel = "{self.folder}/can-{name}"\nbus = "{name}"\nbit_rate = 500_000']
            lines += ['profile = "toyota-rav4"'] if name == "rav4" else []
            parts.append("\n".join([f"[drivers.canbus.{name}]", *lines]))
        parts += [f'[drivers.elm327.{n}]\nport = "{self.folder}/elm-{n}"\nbaud = 38_400' for n in ELM]
        ports = {name: self.gps[name].address[1] if name in self.gps else closed for name in GPS}
        parts += [f"[drivers.gps.{name}]\nport = {port}" for name, port in ports.items()]
        parts += [
            f'[drivers.imu.{n}]\ndevice = "{n}"\nsysfs = "{self.folder}/imu-{n}/sys"\ndev = "{self.folder}/imu-{n}/dev"'
            for n in IMU
        ]
        return "\n\n".join(parts) + "\n"

    def names(self, closed: int) -> dict[str, tuple[str, str, str]]:
        """Return what the doctor must say of each device, by its name."""
        ports = {name: self.gps[name].address[1] if name in self.gps else closed for name in GPS}
        return (
            {f"canbus:{name}": told for name, told in CAN.items()}
            | {f"elm327:{self.folder}/elm-{name}": told for name, told in ELM.items()}
            | {f"gps:127.0.0.1:{ports[name]}": told for name, told in GPS.items()}
            | {f"imu:{name}": told for name, told in IMU.items()}
            | {f"camera:{name}": told for name, told in CAMERAS.items()}
        )

    def _feed(self) -> None:
        """Let everything speak until it is unplugged."""
        chance = np.random.default_rng(5)
        last_ns = monotonic_ns()
        step = 0
        while not clock.wait(self.stopping, STEP_S):
            now_ns = monotonic_ns()
            times = np.arange(last_ns // 10_000_000 + 1, now_ns // 10_000_000 + 1, dtype=np.int64) * 10_000_000
            still = chance.normal(0.0, 0.02, (len(times), 3)) + np.array([0.1, 0.0, 9.81])
            for name, sensor in self.imu.items():
                sensor.write(times, still * (0.5 if name == "half" else 1.0), np.zeros((len(times), 3)))
            for name, wire in self.can.items():
                if name != "silent":
                    frames = strange(20)
                    wire.put(frames, np.linspace(last_ns, now_ns, 20).astype(np.int64))
                wire.flush()
            if step % 10 == 0:
                self._fixes(now_ns)
            step, last_ns = step + 1, now_ns

    def _fixes(self, now_ns: int) -> None:
        for name, gpsd in self.gps.items():
            if name == "empty":
                gpsd.say({"class": "DEVICES", "devices": []})
            elif name == "open":
                gpsd.say({"class": "TPV", "mode": 1, "ant": 2})
            else:
                gpsd.report(Report(t_ns=now_ns, utc_ns=wall_ns(), latitude=36.6, longitude=117.1))


def strange(n: int) -> Frames:
    """Return frames that no profile knows."""
    frames = empty_frames(n)
    frames.id[:] = 0x600 + np.arange(n) % 5
    frames.len[:] = 8
    return frames


def black(path: Path) -> None:
    """Write a film of a lens with its cap on."""
    with av.open(str(path), "w", format="avi") as film:
        stream: Any = film.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuvj420p"
        for _ in range(30):
            frame = av.VideoFrame(320, 240, "yuvj420p")
            for plane, level in zip(frame.planes, (16, 128, 128), strict=True):
                plane.update(bytes([level]) * plane.buffer_size)
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))


@pytest.fixture(scope="module")
def ill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, tuple[str, str, str]], list[Finding]]]:
    folder = tmp_path_factory.mktemp("ill")
    box = Box(folder)
    black(folder / "black.avi")
    fps = "width = 320\nheight = 240\nfps = 10"
    box.dashcam.write_text(
        f'[cameras.dark]\nsource = "{folder / "black.avi"}"\n{fps}\n[cameras.gone]\nsource = "/dev/video97"\n'
    )
    groups = ("can", "adapter", "gps", "imu", "camera", "services", "config")
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapter, "FIND_S", 3.0)
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            closed = nobody.getsockname()[1]
        car = Ill(folder)
        car.plug(stack)
        box.config.write_text(car.toml(closed))
        yield car.names(closed), box.examined(*groups)


ALL = [(kind, name) for kind, table in {"CAN": CAN, "ELM": ELM, "GPS": GPS, "IMU": IMU}.items() for name in table]


@pytest.mark.parametrize(("kind", "name"), [*ALL, *(("camera", name) for name in CAMERAS)])
def test_each_fault_is_named_at_its_device_with_its_next_step(
    kind: str, name: str, ill: tuple[dict[str, tuple[str, str, str]], list[Finding]]
) -> None:
    expected, findings = ill
    ends = {"CAN": f"canbus:{name}", "ELM": f"/elm-{name}", "IMU": f"imu:{name}", "camera": f"camera:{name}"}
    if kind == "GPS":
        device = list(expected)[len(CAN) + len(ELM) + list(GPS).index(name)]
    else:
        device = next(d for d in expected if d.endswith(ends[kind]))
    state, code, advice = expected[device]
    mine = [f for f in findings if f.device == device]
    named = [f for f in mine if (f.state, f.advice) == (state, code)]
    assert named, [(f.check, f.state, f.advice, f.found, f.facts) for f in mine]
    assert advice in next_step(named[0])
    fails = {f.advice for f in mine if f.state == "fail"} - FAILS
    assert fails == ({code} if state == "fail" else set()), [(f.advice, f.found) for f in mine]


def test_nothing_else_fails_in_that_car_and_no_check_failed_or_hung(
    ill: tuple[dict[str, tuple[str, str, str]], list[Finding]],
) -> None:
    expected, findings = ill
    elsewhere = {f.advice for f in findings if f.state == "fail" and f.device not in expected}
    assert elsewhere <= FAILS
    assert {f.advice for f in findings} >= FAILS
    assert not {"check_hangs", "check_failed"} & {f.advice for f in findings}


def test_a_virtual_car_that_is_well_passes_at_every_wire(tmp_path: Path) -> None:
    tape = drive_tape(simulate("calm-city", 3, 3.0), config_dir(), load_profile("simcar", config_dir()), from_s=90.0)
    stop = threading.Event()
    with Wires(tmp_path / "car", tape, latency=Latency(unit_s=0.01)) as wires:
        config = tmp_path / "agent.toml"
        config.write_text(agent_toml(wires))
        playing = threading.Thread(target=play, args=(tape, wires, stop))
        playing.start()
        try:
            groups = ("can", "adapter", "gps", "imu", "config")
            findings = examine(Context(store=tmp_path / "store", config=config, groups=groups))
        finally:
            stop.set()
            playing.join()
    tape.close()
    told = {f.check: f for f in findings}
    assert [(f.check, f.advice, f.found) for f in findings if f.state == "fail"] == []
    for check in ("can.bus", "can.profile", "adapter.answers", "adapter.car", "gps.fix", "gps.signal", "imu.values"):
        assert told[check].state == "pass", told[check]
    assert "500000 bit/s" in told["can.bus"].found
    assert told["can.profile"].facts["profile"] == "simcar"
    assert told["adapter.car"].facts["protocol"] == "6"
    assert told["adapter.car"].facts["latency_ms"] >= 10.0  # the fake's control unit takes so long
    assert worst(findings) in ("pass", "warn")
    assert monotonic_ns() > NS_PER_S
