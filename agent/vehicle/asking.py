"""A vehicle that can be asked, over an adapter or on a CAN bus: the same questions, and the facts about the wire."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from agent.channels import number
from agent.errors import DriverError
from agent.vehicle.devices import Device
from drivers.can.asking import CanAsking
from drivers.can.wire import CanSettings, make_wire
from drivers.diagnosis import Asking, supported
from drivers.elm.settings import Elm327Settings

T = TypeVar("T")

VOLTAGE: Final = number("Power.Voltage")
VOLTAGE_S: Final = 3.0  # the adapter is asked for it within two seconds of polling
_PROTOCOLS: Final = {
    "1": "SAE J1850 PWM",
    "2": "SAE J1850 VPW",
    "3": "ISO 9141-2",
    "4": "ISO 14230-4 KWP (5 baud)",
    "5": "ISO 14230-4 KWP (fast)",
    "6": "ISO 15765-4 CAN (11 bit, 500 kbit/s)",
    "7": "ISO 15765-4 CAN (29 bit, 500 kbit/s)",
    "8": "ISO 15765-4 CAN (11 bit, 250 kbit/s)",
    "9": "ISO 15765-4 CAN (29 bit, 250 kbit/s)",
}


@dataclass(frozen=True, slots=True)
class Spoken:
    """How a vehicle was found to speak: an adapter's rate, protocol digit and headers; 29-bit identifiers on CAN."""

    baud: int = 0
    protocol: str = "6"
    headers: bool = True
    extended: bool = False


class VehicleWire(Protocol):
    """A wire to a vehicle. `units` are the control units that answered, with the PIDs of service 01 that they have."""

    units: dict[str, tuple[int, ...]]

    def open(self) -> None:
        """Open the wire and find the vehicle; DriverError when nobody answers."""

    def ask(self, asking: Asking[T]) -> T:
        """Ask one question of drivers.diagnosis."""

    def close(self) -> None:
        """Release the wire; may be called twice."""

    @property
    def protocol(self) -> str:
        """How the vehicle speaks, for people."""

    @property
    def facts(self) -> dict[str, str]:
        """What a technician should know about adapter or bus, by name."""

    @property
    def notes(self) -> list[str]:
        """What is odd about it, a sentence each."""

    @property
    def spoken(self) -> Spoken:
        """How the vehicle was found to speak."""

    def volts(self) -> float | None:
        """Measure the supply; None where the wire cannot."""


class AdapterWire:
    """An ELM327."""

    def __init__(self, settings: Elm327Settings) -> None:
        from drivers.elm327 import Elm327

        self._driver = Elm327(settings)
        self.units: dict[str, tuple[int, ...]] = {}

    def open(self) -> None:
        self._driver.open()
        self.units = self._driver.ask(supported)

    def ask(self, asking: Asking[T]) -> T:
        return self._driver.ask(asking)

    def close(self) -> None:
        self._driver.close()

    @property
    def protocol(self) -> str:
        car = self._driver.vehicle
        return _PROTOCOLS.get(car.protocol, car.protocol) if car else ""

    @property
    def facts(self) -> dict[str, str]:
        return {"adapter": self._driver.adapter.describe()}

    @property
    def notes(self) -> list[str]:
        told = ["engine load and calibration ids are not asked over an adapter (decision 0110)"]
        told += [self._driver.memory_trouble] if self._driver.memory_trouble else []
        if self._driver.adapter.clone:
            told.append("the adapter is a clone: some answers may be missing; a second try may show more")
        return told

    @property
    def spoken(self) -> Spoken:
        adapter, car = self._driver.adapter, self._driver.vehicle
        return Spoken(baud=adapter.baud, protocol=car.protocol if car else "6", headers=adapter.headers)

    def volts(self) -> float | None:
        self._driver.pause()
        try:
            block = self._driver.read(VOLTAGE_S)
        finally:
            self._driver.resume()
        found = block["value"][block["channel"] == VOLTAGE]
        return float(found[-1]) if len(found) else None


class BusWire:
    """A CAN bus on which control units are asked."""

    def __init__(self, settings: CanSettings) -> None:
        self._asking = CanAsking(make_wire(settings))
        self.units: dict[str, tuple[int, ...]] = {}

    def open(self) -> None:
        self._asking.find()
        self.units = self._asking.pids = self._asking.ask(supported)

    def ask(self, asking: Asking[T]) -> T:
        return self._asking.ask(asking)

    def close(self) -> None:
        self._asking.close()

    @property
    def protocol(self) -> str:
        rate = self._asking.wire.bit_rate
        bits = "29 bit" if self._asking.extended else "11 bit"
        return f"ISO 15765-4 CAN ({bits}{f', {rate // 1000} kbit/s' if rate else ''})"

    @property
    def facts(self) -> dict[str, str]:
        return {"bus": self._asking.wire.name}

    @property
    def notes(self) -> list[str]:
        refused = [f"{n} answers to {name} were refusals" for name, n in self._asking.refused.items()]
        return [*self._asking.wire.notes, *refused]

    @property
    def spoken(self) -> Spoken:
        return Spoken(extended=self._asking.extended)

    def volts(self) -> float | None:
        return None


class Borrowed:
    """A wire that must still be ours at each question: `check` raises where the daemon took it back."""

    def __init__(self, wire: VehicleWire, check: Callable[[], None]) -> None:
        self.wire = wire
        self._check = check

    def ask(self, asking: Asking[T]) -> T:
        """Ask one question of drivers.diagnosis."""
        self._check()
        return self.wire.ask(asking)


def wire_to(device: Device) -> VehicleWire:
    """Return the wire of `device`, not yet opened; DriverError where a bus may not be asked on."""
    if isinstance(device.settings, Elm327Settings):
        return AdapterWire(device.settings)
    if not device.settings.transmit:
        raise DriverError(
            f"{device.name}: this bus only listens; set transmit = true in [{device.table}], or name it here with"
            f" --channel {device.wire}"
        )
    return BusWire(device.settings)
