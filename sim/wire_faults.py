"""What goes wrong on the virtual car's wires, by name: one table, and how people write it (NAME@T, NAME@T+SECONDS)."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from agent.errors import ConfigError, near_names
from sim import gpsd, iio
from sim.elm_faults import FAULTS as ELM_FAULTS
from sim.slcan import SlcanAdapter
from sim.wires import Wires

Switch = Callable[[Wires, bool], None]


@dataclass(frozen=True, slots=True)
class WireFault:
    """One way to go wrong, on which wire, for how long unless told, and how it is switched on and off."""

    what: str
    wire: str  # can, slcan, elm327, gpsd, imu, or disk
    lasts_s: float
    switch: Switch


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault from `start_s` to `end_s`, seconds of the drive."""

    name: str
    start_s: float
    end_s: float


def _bus_off(wires: Wires, on: bool) -> None:
    for wire in wires.can.values():
        wire.bus_off(on)


def _interface_down(wires: Wires, on: bool) -> None:
    for wire in wires.can.values():
        if isinstance(wire, SlcanAdapter):
            (wire.unplug if on else wire.plug)()


def _elm(name: str) -> Switch:
    def switch(wires: Wires, on: bool) -> None:
        if wires.adapter is not None:
            (wires.adapter.begin if on else wires.adapter.end)(name)

    return switch


def _elm_unplugged(wires: Wires, on: bool) -> None:
    if wires.elm is not None:  # at once, not in the adapter's own time as the catalogue's row would
        (wires.elm.unplug if on else wires.elm.plug)()


def _gps(name: gpsd.Fault) -> Switch:
    def switch(wires: Wires, on: bool) -> None:
        if wires.gpsd is not None:
            wires.gpsd.fault(name, on)

    return switch


def _gps_unplugged(wires: Wires, on: bool) -> None:
    _gps("stall")(wires, on)
    if wires.gpsd is not None:
        wires.gpsd.plug(not on)


def _gpsd_down(wires: Wires, on: bool) -> None:
    if wires.gpsd is not None:
        (wires.gpsd.stop if on else wires.gpsd.start)()


def _imu(name: iio.Fault) -> Switch:
    def switch(wires: Wires, on: bool) -> None:
        if wires.iio is not None:
            wires.iio.fault(name, on)

    return switch


def _imu_unplugged(wires: Wires, on: bool) -> None:
    if wires.iio is not None:
        (wires.iio.unplug if on else wires.iio.plug)()
        wires.plugged = not on


def _flood(wires: Wires, on: bool) -> None:
    wires.times_sent = FLOOD if on else 1


def _disk_full(wires: Wires, on: bool) -> None:
    if wires.disk is not None:
        (wires.disk.fill if on else wires.disk.free)()


FLOOD: Final = 40  # 28,000 frames/s of the virtual car; 8,000 are a saturated bus of 1 Mbit/s

FAULTS: Final[dict[str, WireFault]] = {
    "bus-off": WireFault("the CAN controller is off the bus: no frames, none taken", "can", 5.0, _bus_off),
    "interface-down": WireFault("the CAN adapter is pulled and comes back elsewhere", "slcan", 5.0, _interface_down),
    **{
        f"elm-{name.replace('_', '-')}": WireFault(f"ELM327: {fault.what}", "elm327", 20.0, _elm(name))
        for name, fault in ELM_FAULTS.items()
        if name != "unplugged"
    },
    "elm-unplugged": WireFault("ELM327: it is pulled and comes back as another tty", "elm327", 10.0, _elm_unplugged),
    "gps-lost": WireFault("the receiver sees no satellites well enough for a fix", "gpsd", 30.0, _gps("no_fix")),
    "gps-jump": WireFault("positions are 5.6 km off", "gpsd", 10.0, _gps("jump")),
    "gps-wrong-week": WireFault("the receiver's week is 1,024 weeks ago", "gpsd", 60.0, _gps("wrong_week")),
    "gps-silent": WireFault("gpsd is there and the receiver says nothing", "gpsd", 30.0, _gps("stall")),
    "gps-garbage": WireFault("damaged JSON between the reports", "gpsd", 30.0, _gps("garbage")),
    "gps-jammed": WireFault("signals 22 dB weaker", "gpsd", 30.0, _gps("jammed")),
    "gps-antenna": WireFault("no signals at all: the antenna is off", "gpsd", 30.0, _gps("antenna")),
    "gps-unplugged": WireFault("the receiver is pulled, gpsd stays", "gpsd", 20.0, _gps_unplugged),
    "gpsd-down": WireFault("gpsd ends and starts again on the same port", "gpsd", 10.0, _gpsd_down),
    "clock-step": WireFault(
        "gpsd stamps by a wall clock that was set 20 years ahead", "gpsd", 30.0, _gps("clock_step")
    ),
    "queue-full": WireFault(
        f"each frame comes {FLOOD} times over, more than any bus carries: queues overflow", "can", 10.0, _flood
    ),
    "disk-full": WireFault("no byte is free where the store lies (--disk)", "disk", 30.0, _disk_full),
    "imu-stuck": WireFault("the sensor repeats its last sample", "imu", 30.0, _imu("stuck")),
    "imu-clipped": WireFault("forces 50 times too large: the sensor is at its rails", "imu", 5.0, _imu("clipped")),
    "imu-silent": WireFault("the sensor's buffer runs dry", "imu", 20.0, _imu("silent")),
    "imu-unplugged": WireFault("the sensor vanishes from sysfs and comes back", "imu", 10.0, _imu_unplugged),
}
_WRITTEN: Final = re.compile(r"([^@]+)@(\d+(?:\.\d+)?)(?:\+(\d+(?:\.\d+)?))?")


def plan(written: Iterable[str]) -> list[Planned]:
    """Read `NAME@T` and `NAME@T+SECONDS`; raise ConfigError for a name that is not in the table, with near names."""
    planned = []
    for text in written:
        parts = _WRITTEN.fullmatch(text)
        if parts is None:
            raise ConfigError(f"--fault {text}: write NAME@T or NAME@T+SECONDS, e.g. gps-lost@60 or gps-lost@60+15")
        name, start_s = parts[1], float(parts[2])
        if name not in FAULTS:
            near = near_names(name, FAULTS)
            raise ConfigError(f"--fault {text}: '{name}' is not known{near}; `roadwitness sim faults` lists all")
        planned.append(Planned(name, start_s, start_s + float(parts[3] or FAULTS[name].lasts_s)))
    return planned


def check(planned: Iterable[Planned], wires: Wires) -> None:
    """Raise ConfigError for a fault on a wire that is not there."""
    present = {"can"} if wires.can else set()
    present |= {"slcan"} if any(isinstance(w, SlcanAdapter) for w in wires.can.values()) else set()
    present |= {
        name for name, wire in (("elm327", wires.elm), ("gpsd", wires.gpsd), ("imu", wires.iio)) if wire is not None
    }
    for each in planned:
        wire = FAULTS[each.name].wire
        if wire == "disk" and wires.disk is None:
            raise ConfigError(f"--fault {each.name}: say with --disk where the agent's store lies")
        if wire not in present | {"disk"}:
            raise ConfigError(
                f"--fault {each.name}: this drive has no {wire} wire; there are {', '.join(sorted(present))}"
            )
