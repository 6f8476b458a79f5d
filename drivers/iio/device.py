"""One IIO device in sysfs: found by number or name, its channels with scale, offset and mount matrix, its buffer.

Attribute names and units: Documentation/ABI/testing/sysfs-bus-iio. Acceleration is m/s² and angular velocity rad/s
after (raw + offset) × scale; temperature is milli-degrees Celsius.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.errors import DriverError
from drivers.iio.scan import Element, ScanLayout, parse_type
from drivers.sysfs import number_of, read_number, read_text, try_number, try_text, write

AXES: Final = ("x", "y", "z")
# quantity in sysfs -> channel in the table, factor to its unit
QUANTITIES: Final = {"accel": ("Imu.Acceleration", 1.0), "anglvel": ("Imu.AngularVelocity", math.degrees(1.0))}
TIMESTAMP: Final = "in_timestamp"
TEMPERATURE: Final = "in_temp"
MILLI: Final = 1e-3
STANDARD_G: Final = 9.80665
NOMINAL: Final = 0.2  # data sheets round: 16 g of a LIS3DH are 12 mg × 2047 = 24.6 g, 2 g of others 1.996
ROOM_S: Final = 4.0  # the buffer holds so much: a parked car's sensor is read once a second


@dataclass(frozen=True, slots=True)
class Triad:
    """Three axes of one quantity: factor × mount × ((raw + offset) × scale) is in the channel's unit."""

    quantity: str
    scale: npt.NDArray[np.float64]  # [3]
    offset: npt.NDArray[np.float64]  # [3]
    mount: npt.NDArray[np.float64]  # [3, 3]
    factor: float

    @property
    def names(self) -> list[str]:
        """The attribute stem of each axis."""
        return [f"in_{self.quantity}_{axis}" for axis in AXES]


class IioDevice:
    """The device `wanted` (number, name, or None for the first accelerometer) below `sysfs`, for driver `name`."""

    def __init__(self, name: str, sysfs: Path, wanted: str | None) -> None:
        self._name = name
        self._sysfs = sysfs
        self.folder = _find(name, sysfs, wanted)
        self.triads = self._triads()
        if not self.triads:
            raise DriverError(f"{name}: {self.folder}: neither acceleration nor angular velocity on three axes")

    @property
    def has_buffer(self) -> bool:
        """Say whether the device can be read in batches."""
        return (self.folder / "scan_elements").is_dir() and (self.folder / "buffer" / "enable").exists()

    def reach(self, range_g: float) -> float | None:
        """Take the narrowest range of acceleration that reaches ±`range_g`, else the widest; return what it is, in g.

        Sensors start at their narrowest, ±2 g, where a collision is at the end of the range from its first moment.
        None where the device does not say what it offers, or how many bits it has.
        """
        offered = _offered(try_text(self.folder / "in_accel_scale_available"))
        kind = try_text(self.folder / "scan_elements" / "in_accel_x_type")
        if not offered or kind is None:
            return None
        try:
            counts = parse_type("in_accel_x", 0, kind).rails[1]
        except ValueError:
            return None  # told where the scan's layout is read
        ranges = {scale * counts / STANDARD_G: scale for scale in offered}
        enough = [at for at in ranges if at >= range_g * (1 - NOMINAL)]
        chosen = min(enough, default=max(ranges))
        scale = self._of_axis("accel", "x", "scale")
        if scale is None or not math.isclose(scale, ranges[chosen], rel_tol=NOMINAL):
            if self.has_buffer:
                self.stop_buffer()
            for stem in ("in_accel", *(f"in_accel_{axis}" for axis in AXES)):
                if (self.folder / f"{stem}_scale").exists():
                    write(self._name, self.folder / f"{stem}_scale", f"{ranges[chosen]:.9f}")
            self.triads = self._triads()
        return chosen

    def start_buffer(self, rate_hz: float, batch_s: float, trigger: str | None) -> tuple[ScanLayout, float, bool]:
        """Set the device up; return the scan's layout, the rate in Hz, and whether its times are monotonic."""
        self.stop_buffer()
        layout = self._choose_elements()
        rate_hz = self._set_rate(self.folder, rate_hz)
        if trigger is not None:
            rate_hz = self._set_trigger(trigger, rate_hz)
        monotonic = self._set_clock() and any(e.name == TIMESTAMP for e in layout.elements)
        watermark = max(1, round(rate_hz * batch_s))
        buffer = self.folder / "buffer"
        if (buffer / "length").exists():
            write(self._name, buffer / "length", str(max(2, 8 * watermark, round(ROOM_S * rate_hz))))  # for a late feed
        if (buffer / "watermark").exists():
            write(self._name, buffer / "watermark", str(watermark))
        return layout, rate_hz, monotonic

    def enable_buffer(self) -> None:
        """Let samples flow."""
        try:
            write(self._name, self.folder / "buffer" / "enable", "1")
        except DriverError as error:
            current = self.folder / "trigger" / "current_trigger"
            if current.exists() and not try_text(current):
                raise DriverError(f"{error}; the device needs a trigger: name one in the configuration") from None
            raise

    def stop_buffer(self) -> None:
        """Stop the flow, so that the device can be set up."""
        write(self._name, self.folder / "buffer" / "enable", "0")

    def read_raw(self, triad: Triad) -> npt.NDArray[np.int64]:
        """Read the three axes one by one, raw[1, 3]."""
        raw = [read_number(self._name, self.folder / f"{stem}_raw") for stem in triad.names]
        return np.array([raw], np.int64)

    def temperature(self, raw: float | None = None) -> float | None:
        """Return °C, of a raw value from the scan or read now; None where the device has or gives none."""
        if raw is None:
            processed = try_number(self.folder / f"{TEMPERATURE}_input")
            if processed is not None:
                return processed * MILLI
            raw = try_number(self.folder / f"{TEMPERATURE}_raw")
        scale = try_number(self.folder / f"{TEMPERATURE}_scale")
        if raw is None or scale is None:
            return None
        return (raw + (try_number(self.folder / f"{TEMPERATURE}_offset") or 0.0)) * scale * MILLI

    def _triads(self) -> list[Triad]:
        return [triad for quantity in QUANTITIES if (triad := self._triad(quantity)) is not None]

    def _triad(self, quantity: str) -> Triad | None:
        stems = [f"in_{quantity}_{axis}" for axis in AXES]
        if not all((self.folder / f"{stem}_raw").exists() for stem in stems):
            return None
        scale = [self._of_axis(quantity, axis, "scale") for axis in AXES]
        if None in scale:
            raise DriverError(f"{self._name}: {self.folder}: in_{quantity}_scale is missing or no number")
        offset = [self._of_axis(quantity, axis, "offset") or 0.0 for axis in AXES]
        return Triad(
            quantity,
            np.array(scale, np.float64),
            np.array(offset, np.float64),
            self._mount(quantity),
            QUANTITIES[quantity][1],
        )

    def _of_axis(self, quantity: str, axis: str, what: str) -> float | None:
        own = try_number(self.folder / f"in_{quantity}_{axis}_{what}")
        return own if own is not None else try_number(self.folder / f"in_{quantity}_{what}")

    def _mount(self, quantity: str) -> npt.NDArray[np.float64]:
        """Read how the sensor sits on its board: 'x, y, z; x, y, z; x, y, z', the identity where nothing is said."""
        for stem in (f"in_{quantity}_mount_matrix", "in_mount_matrix", "mount_matrix"):
            text = try_text(self.folder / stem)
            if text is None:
                continue
            numbers = [number_of(part) for row in text.split(";") for part in row.split(",")]
            if len(numbers) != 9 or None in numbers:
                raise DriverError(f"{self._name}: {self.folder / stem}: '{text[:60]}' is no 3 × 3 matrix")
            return np.array(numbers, np.float64).reshape(3, 3)
        return np.eye(3)

    def _choose_elements(self) -> ScanLayout:
        """Enable our axes, temperature and time in the scan, and nothing else."""
        scan = self.folder / "scan_elements"
        wanted = {stem for triad in self.triads for stem in triad.names} | {TEMPERATURE, TIMESTAMP}
        elements: list[Element] = []
        try:
            present = sorted(path.name.removesuffix("_en") for path in scan.glob("*_en"))
        except OSError as error:
            raise DriverError(f"{self._name}: list {scan}: {error.strerror}") from None
        for stem in present:
            write(self._name, scan / f"{stem}_en", "1" if stem in wanted else "0")
            if stem not in wanted:
                continue
            index = int(read_number(self._name, scan / f"{stem}_index"))
            try:
                elements.append(parse_type(stem, index, read_text(self._name, scan / f"{stem}_type")))
            except ValueError as error:
                raise DriverError(f"{self._name}: {scan / stem}_type: {error}") from None
        absent = sorted(wanted - set(present) - {TEMPERATURE, TIMESTAMP})
        if absent:
            raise DriverError(f"{self._name}: {scan} lacks {', '.join(absent)}")
        return ScanLayout(elements)

    def _set_rate(self, folder: Path, rate_hz: float) -> float:
        """Ask for the next rate that the device offers, at most its highest; return what it then says it does."""
        found = [p for p in (folder / f"{s}sampling_frequency" for s in ("", "in_accel_", "in_anglvel_")) if p.exists()]
        for path in found:
            offered = _offered(try_text(path.with_name(f"{path.name}_available")))
            chosen = min((r for r in offered if r >= rate_hz), default=max(offered, default=rate_hz))
            write(self._name, path, f"{chosen:g}")
        return (try_number(found[0]) or rate_hz) if found else rate_hz

    def _set_trigger(self, trigger: str, rate_hz: float) -> float:
        for folder in sorted(self._sysfs.glob("trigger*")):
            if try_text(folder / "name") == trigger:
                rate_hz = self._set_rate(folder, rate_hz)
                break
        else:
            raise DriverError(f"{self._name}: trigger '{trigger}' does not exist below {self._sysfs}")
        write(self._name, self.folder / "trigger" / "current_trigger", trigger)
        return rate_hz

    def _set_clock(self) -> bool:
        path = self.folder / "current_timestamp_clock"
        if not path.exists():
            return False
        write(self._name, path, "monotonic")
        return try_text(path) == "monotonic"


def _find(name: str, sysfs: Path, wanted: str | None) -> Path:
    folders = sorted(sysfs.glob("iio:device*"), key=lambda p: int(re.sub(r"\D", "", p.name) or 0))
    known = {folder: try_text(folder / "name") or "" for folder in folders}
    for folder, said in known.items():
        if wanted in (folder.name, said) or (wanted is None and (folder / "in_accel_x_raw").exists()):
            return folder
    seen = ", ".join(f"{folder.name} ({said})" for folder, said in known.items()) or "none"
    what = f"'{wanted}'" if wanted else "an accelerometer"
    raise DriverError(f"{name}: {what} is not below {sysfs}; devices there: {seen}; is its kernel module loaded?")


def _offered(text: str | None) -> list[float]:
    """Read a list '12.5 25 50'; a range '[least step most]' offers every rate, said as none."""
    if text is None or text.startswith("["):
        return []
    return [r for part in text.split() if (r := number_of(part)) is not None and r > 0]
