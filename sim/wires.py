"""The virtual car's wires: CAN, ELM327, gpsd and an inertial sensor, fed in step from one tape and one clock."""

from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from agent.blocks import Block, Frames
from agent.channels import number
from agent.clock import NS_PER_S, monotonic_ns, wall_minus_monotonic_ns
from agent.errors import ConfigError
from sim.disk import Disk
from sim.elm327 import REAL, Latency, PtyElm
from sim.elm_car import Car, Unit
from sim.elm_wire import ElmInCar
from sim.gpsd import FakeGpsd, Report
from sim.iio import FakeIio
from sim.sensed import ACCEL, FIX_TYPE, LATITUDE, LONGITUDE, Fixes, Inertia, obd_values, pids_of
from sim.slcan import SlcanAdapter
from sim.socketcan import SocketCanBus
from sim.tape import Tape, by_bus, repeated
from sim.units_on_can import UnitsOnCan

IMU_NS: Final = 50_000_000  # how often the sensor's buffer is filled; drivers fetch batches of some 100 ms
AWAKE_NS: Final = 2 * NS_PER_S  # control units answer until the bus has been silent for so long
BIT_RATE: Final = 500_000
RESTING_V: Final = 12.5
PROTOCOLS: Final = {
    "1": "J1850 PWM",
    "2": "J1850 VPW",
    "3": "ISO 9141-2",
    "4": "KWP 5 baud",
    "5": "KWP fast",
    "6": "CAN 11/500",
    "7": "CAN 29/500",
    "8": "CAN 11/250",
    "9": "CAN 29/250",
}
SPEED_PID, STATUS_PID = 0x0D, 0x01
_MODES: Final = {0: 1, 1: 1, 2: 2, 3: 3, 4: 3, 5: 1}  # Gnss.FixType -> gpsd's mode
_SPEED, _COURSE = number("Gnss.Speed"), number("Gnss.Heading")
_ALTITUDE, _ACCURACY = number("Gnss.Altitude"), number("Gnss.HorizontalAccuracy")


def known_protocol(digit: str) -> None:
    """Raise ConfigError for a protocol that the fake adapter does not speak."""
    if digit not in PROTOCOLS:
        told = ", ".join(f"{d} ({name})" for d, name in PROTOCOLS.items())
        raise ConfigError(f"--protocol {digit}: is none of {told}")


class Wires:
    """What stands in `folder` and on 127.0.0.1 for the devices of one car; a wire that the tape cannot feed is absent.

    `socketcan` names an interface that takes the place of the first slcan adapter, `protocol` the digit of the
    vehicle's diagnostic protocol (6: CAN 11/500, 3: ISO 9141-2), `latency` says how slow the ELM327 is, and `disk` is a
    folder on a small file system that may be filled: the agent's store.
    """

    def __init__(
        self,
        folder: Path,
        tape: Tape,
        *,
        socketcan: str = "",
        gpsd_port: int = 0,
        protocol: str = "6",
        latency: Latency = REAL,
        disk: Path | None = None,
    ) -> None:
        self.disk = Disk(disk) if disk is not None else None
        self.times_sent = 1  # how often each frame is sent
        self.can: dict[str, SlcanAdapter | SocketCanBus] = {}
        self.elm: PtyElm | None = None
        self.adapter: ElmInCar | None = None
        self.gpsd: FakeGpsd | None = None
        self.iio: FakeIio | None = None
        self.plugged = True  # the inertial sensor is
        self.fixes = self.inertial_samples = 0
        self._tape = tape
        self._latest: dict[int, float] = {}
        pids = pids_of(tape.channels)
        self._car = Car(
            protocol=protocol,
            units=(Unit(0x10, (STATUS_PID, *pids)),),
            values=lambda t_ns: obd_values(self._latest),
            codes={0x03: (), 0x07: (), 0x0A: ()},
        )
        self._fixes, self._inertia = Fixes(), Inertia()
        self._last_frame_ns = 0
        self._imu_ns = 0
        self._rate_hz = 50.0
        self._wall_ns = wall_minus_monotonic_ns()  # a receiver does not follow this machine's clock when it steps
        self._open = ExitStack()
        with ExitStack() as opening:
            if self.disk is not None:
                opening.callback(self.disk.free)
            self._plug(folder, opening, socketcan, gpsd_port, pids, latency)
            self._open = opening.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Unplug everything and end all threads."""
        self._open.close()

    @property
    def described(self) -> dict[str, Any]:
        """Say where each wire is, as an agent is told."""
        told: dict[str, Any] = {"can": {}}
        for bus, wire in self.can.items():
            slcan = isinstance(wire, SlcanAdapter)
            told["can"][bus] = {
                "interface": "slcan" if slcan else "socketcan",
                "channel": str(wire.path) if isinstance(wire, SlcanAdapter) else wire.interface,
                **({"bit_rate": BIT_RATE} if slcan else {}),
            }
        if self.elm is not None:
            told["elm327"] = {"port": str(self.elm.path), "baud": 38400}
        if self.gpsd is not None:
            told["gpsd"] = {"host": self.gpsd.address[0], "port": self.gpsd.address[1]}
        if self.iio is not None:
            told["imu"] = {"sysfs": str(self.iio.sysfs), "dev": str(self.iio.dev)}
        return told

    @property
    def counts(self) -> dict[str, int]:
        """Count what was given to the wires, and what nobody fetched in time."""
        return {
            "frames_sent": sum(w.sent for w in self.can.values()),
            "frames_lost": sum(w.lost for w in self.can.values()),
            "fixes": self.fixes,
            "inertial_samples": self.inertial_samples,
            "obd_requests": self.adapter.requests if self.adapter is not None else 0,
        }

    def play(self, frames: list[Frames], block: Block, tape_ns: int, start_ns: int, speed: float) -> None:
        """Put on every wire what happened until `tape_ns`; the tape's t is the monotonic start_ns + t / speed."""
        self._latest |= dict(zip(block["channel"].tolist(), block["value"].tolist(), strict=True))
        for bus, mine in by_bus(frames, self._tape.buses).items():
            self._last_frame_ns = tape_ns
            if bus in self.can:
                sent = repeated(self._tape.of_the_car(bus, mine), self.times_sent)
                self.can[bus].put(sent, start_ns + (sent.t / speed).astype(np.int64))
        for wire in self.can.values():
            wire.flush()
        if self.adapter is not None and "asleep" not in self.adapter.faults:
            self._car.awake = not self.can or tape_ns - self._last_frame_ns < AWAKE_NS
        if self.gpsd is not None:
            for t, fix in self._fixes.gather(block, tape_ns):
                self.gpsd.report(self._report(fix, start_ns + round(t / speed)))
                self.fixes += 1
        if self.iio is not None:
            self._sample(self.iio, block, start_ns, speed)

    def _plug(
        self,
        folder: Path,
        opening: ExitStack,
        socketcan: str,
        gpsd_port: int,
        pids: tuple[int, ...],
        latency: Latency,
    ) -> None:
        units = UnitsOnCan(self._car)

        def hear(identifier: int, data: bytes) -> list[tuple[int, bytes]]:
            return units.hear(identifier, data, monotonic_ns())

        folder.mkdir(parents=True, exist_ok=True)
        for i, bus in enumerate(self._tape.start_buses):
            answering = hear if i == 0 else None
            self.can[bus] = (
                SocketCanBus(socketcan, answering)
                if socketcan and i == 0
                else SlcanAdapter(folder / f"tty-{bus.replace('/', '_')}", bit_rate=BIT_RATE, hear=answering)
            )
            opening.callback(self.can[bus].stop)
        if SPEED_PID in pids:
            self.adapter = ElmInCar(self._car, latency)
            self.adapter.volts = lambda t_ns: obd_values(self._latest).get("volts", RESTING_V)
            self.elm = PtyElm(self.adapter, folder / "tty-elm327")
            opening.callback(self.elm.stop)
        if {LATITUDE, LONGITUDE} <= self._tape.channels or FIX_TYPE in self._tape.channels:
            self.gpsd = FakeGpsd(gpsd_port)
            self.gpsd.start()
            opening.callback(self.gpsd.stop)
        if set(ACCEL) <= self._tape.channels:
            self.iio = FakeIio(folder / "iio")
            self.iio.plug()
            opening.callback(self.iio.unplug)

    def _report(self, fix: dict[int, float], t_ns: int) -> Report:
        return Report(
            t_ns=t_ns,
            utc_ns=t_ns + self._wall_ns,
            latitude=fix.get(LATITUDE, 0.0),
            longitude=fix.get(LONGITUDE, 0.0),
            altitude_m=fix.get(_ALTITUDE, 0.0),
            speed_mps=fix.get(_SPEED, 0.0),
            track_deg=fix.get(_COURSE, 0.0),
            accuracy_m=fix.get(_ACCURACY, 5.0),
            mode=_MODES.get(int(fix[FIX_TYPE]), 1),
        )

    def _sample(self, iio: FakeIio, block: Block, start_ns: int, speed: float) -> None:
        """Sample the motion at the rate that the reader has set, on a grid of this machine's monotonic clock."""
        self._inertia.feed(block)
        now_ns = monotonic_ns()
        if now_ns - self._imu_ns < IMU_NS or not self.plugged:
            return
        with suppress(ValueError):  # the reader is writing it
            self._rate_hz = iio.rate_hz
        period_ns = round(NS_PER_S / self._rate_hz)
        first = max(self._imu_ns, start_ns, now_ns - NS_PER_S) // period_ns + 1
        grid: npt.NDArray[np.int64] = np.arange(first, now_ns // period_ns + 1, dtype=np.int64) * period_ns
        self._imu_ns = now_ns
        fresh, accel, gyro = self._inertia.at(((grid - start_ns) * speed).astype(np.int64))
        iio.write(grid[fresh], accel[fresh], gyro[fresh])
        self.inertial_samples += int(fresh.sum())
