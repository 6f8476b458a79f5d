"""Samples and state rows become seconds: what a rule about box and car looks at, whatever the blocks were."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final, NamedTuple

import numpy as np

from agent.blocks import Block, empty_block
from agent.channels import number
from agent.clock import NS_PER_S
from agent.state import State, empty_state

VOLTS: Final = tuple(
    number(n) for n in ("Power.Voltage", "Obd.ControlModuleVoltage", "Vehicle.LowVoltageBattery.CurrentVoltage")
)  # the first counts that can be a car battery's
BOARD: Final = number("Power.BoardTemperature")
THROTTLED: Final = number("Power.Throttled")
SATELLITES: Final = number("Gnss.Satellites")
FIX: Final = number("Gnss.FixType")
ACCELERATION: Final = tuple(number(f"Imu.Acceleration.{axis}") for axis in "XYZ")
CAR_BATTERY_V: Final = 7.0  # less is a supply of the board, or none
CARRIED_NS: Final = 30 * NS_PER_S  # a slow value stays true for so long: adapters measure every 10 s at rest
TURNING_RPM: Final = 300.0  # no engine idles slower
G_MPS2: Final = (9.3, 10.3)  # a mean outside this is no gravity alone
FIXES: Final = (2.0, 3.0, 4.0)  # of Gnss.FixType: a place on Earth

_WANTED: Final = np.zeros(256, np.bool_)
_WANTED[[*VOLTS, BOARD, THROTTLED, SATELLITES, FIX, *ACCELERATION]] = True


class Place(NamedTuple):
    """A position in degrees, its accuracy in m."""

    latitude: float
    longitude: float
    accuracy_m: float


@dataclass(frozen=True, slots=True)
class Second:
    """One second of everything; None is not known. `in_use`: the engine runs or the ignition is on."""

    t_ns: int
    speed_mps: float | None = None
    in_use: bool | None = None
    volts: float | None = None  # of the car's battery, by whoever measures it
    supply_v: float | None = None  # of the box's own supply
    board_c: float | None = None
    throttled: bool | None = None
    satellites: int | None = None
    fix: bool = False
    place: Place | None = None
    gnss_mps: float | None = None
    gravity: tuple[float, float, float] | None = None


class Senses:
    """Cuts what flows into seconds; a second is given as soon as rows have reached the next."""

    def __init__(self) -> None:
        self._samples = empty_block()
        self._rows = empty_state()
        self._slow: dict[int, tuple[int, float]] = {}  # channel -> time and value that is carried on

    def step(self, block: Block, parts: Sequence[State]) -> list[Second]:
        """Return the seconds that are whole with these samples and rows, each in order of time."""
        if len(block):
            chosen = block[_WANTED[np.minimum(block["channel"], 255)]]
            if len(chosen):
                self._samples = np.concatenate((self._samples, chosen))
        self._rows = np.concatenate((self._rows, *parts)) if parts else self._rows
        if not len(self._rows):
            return []
        seconds = self._rows["t"] // NS_PER_S
        whole = int(np.searchsorted(seconds, seconds[-1], side="left"))
        if whole == 0:
            return []
        taken, self._rows = self._rows[:whole], self._rows[whole:]
        found = []
        numbers, starts = np.unique(seconds[:whole], return_index=True)
        ends = [*starts[1:].tolist(), whole]
        cuts = np.searchsorted(self._samples["t"], (numbers + 1) * NS_PER_S, side="left").tolist()
        at = 0
        for second, end, cut in zip(numbers.tolist(), ends, cuts, strict=True):
            found.append(self._second(second * NS_PER_S, taken[end - 1], self._samples[at:cut]))
            at = cut
        self._samples = self._samples[at:]
        return found

    def _second(self, t_ns: int, row: np.void, samples: Block) -> Second:
        """Reduce the samples up to the end of a second, and its last row."""
        by = {int(c): samples[samples["channel"] == c] for c in np.unique(samples["channel"])}
        for channel in (*VOLTS, BOARD, THROTTLED):
            if channel in by:
                self._slow[channel] = (int(by[channel]["t"][-1]), float(np.median(by[channel]["value"])))
        fixes = by[FIX]["value"] if FIX in by else ()
        throttled = self._carried(t_ns, THROTTLED)
        volts = [v for v in (self._carried(t_ns, channel) for channel in VOLTS) if v is not None]
        return Second(
            t_ns=t_ns,
            speed_mps=_known(row["speed"]),
            in_use=_in_use(float(row["rpm"]), int(row["ignition"])),
            volts=next((v for v in volts if v >= CAR_BATTERY_V), next(iter(volts), None)),
            supply_v=self._carried(t_ns, VOLTS[0]),
            board_c=self._carried(t_ns, BOARD),
            throttled=None if throttled is None else throttled > 0,
            satellites=int(by[SATELLITES]["value"][-1]) if SATELLITES in by else None,
            fix=any(value in FIXES for value in fixes),
            place=_place(row),
            gnss_mps=_known(row["speed_gnss"]),
            gravity=_gravity(by),
        )

    def _carried(self, t_ns: int, channel: int) -> float | None:
        at_ns, value = self._slow.get(channel, (-CARRIED_NS, 0.0))
        return value if channel in self._slow and t_ns - at_ns <= CARRIED_NS else None


def _known(value: float) -> float | None:
    return float(value) if isfinite(value) else None


def _in_use(rpm: float, ignition: int) -> bool | None:
    if rpm >= TURNING_RPM or ignition == 1:
        return True
    return False if ignition == 0 or isfinite(rpm) else None


def _place(row: np.void) -> Place | None:
    latitude, longitude, accuracy = float(row["latitude"]), float(row["longitude"]), float(row["accuracy"])
    if not (isfinite(latitude) and isfinite(longitude)):
        return None
    return Place(latitude, longitude, accuracy if isfinite(accuracy) else 0.0)


def _gravity(by: dict[int, Block]) -> tuple[float, float, float] | None:
    """Return the mean acceleration of a second where it can be gravity alone."""
    if any(channel not in by for channel in ACCELERATION):
        return None
    x, y, z = (float(np.mean(by[channel]["value"])) for channel in ACCELERATION)
    return (x, y, z) if G_MPS2[0] <= (x * x + y * y + z * z) ** 0.5 <= G_MPS2[1] else None
