"""An inertial sensor as the kernel's Industrial I/O shows one: a sysfs tree in a folder, its buffer a named pipe.

Attributes, scan format and order are the kernel's (Documentation/ABI/testing/sysfs-bus-iio); a reader sets it up by
writing the same files. What the kernel would refuse cannot be refused by a plain file, and a full buffer drops the
newest scans, as the kernel's does.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

Fault = Literal["stuck", "clipped", "silent"]
FAULTS: Final[tuple[Fault, ...]] = ("stuck", "clipped", "silent")
STANDARD_G: Final = 9.80665
AXES: Final = ("x", "y", "z")
CHANNELS: Final = (*(f"in_accel_{a}" for a in AXES), *(f"in_anglvel_{a}" for a in AXES), "in_temp")
OVERDRIVE: Final = 50.0  # what "clipped" multiplies forces by
TEMP_SCALE: Final = 1000.0 / 326.8  # milli-degrees per count, InvenSense ICM-20600 data sheet
TEMP_OFFSET: Final = 25.0 * 326.8

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Format:
    """How a sensor lays its integers out; the default is an InvenSense part's."""

    order: Literal["be", "le"] = "be"
    bits: int = 16
    storage_bits: int = 16
    shift: int = 0
    accel_range_g: float = 16.0
    gyro_range_dps: float = 2000.0


class FakeIio:
    """One IMU `name` below `folder`: `folder`/sys is for the reader's sysfs, `folder`/dev for its /dev.

    `mount` turns the sensor's axes into the board's: what is written is in board axes. Without `buffer` the device can
    only be polled.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "icm20600",
        form: Format | None = None,
        mount: tuple[tuple[float, ...], ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
        buffer: bool = True,
        number: int = 0,
    ) -> None:
        self.sysfs, self.dev = folder / "sys", folder / "dev"
        self.overruns = 0  # scans that found the buffer full
        self._name, self._form, self._mount = name, form or Format(), np.array(mount, np.float64)
        self._folder, self._node = self.sysfs / f"iio:device{number}", self.dev / f"iio:device{number}"
        self._buffer = buffer
        self._fd: int | None = None
        self._faults: set[Fault] = set()
        self._counts = np.zeros((1, 7), np.int64)
        top = 1 << (self._form.bits - 1)
        self._accel_scale = self._form.accel_range_g * STANDARD_G / top
        self._gyro_scale = np.radians(self._form.gyro_range_dps) / top

    @property
    def rate_hz(self) -> float:
        """The rate that the reader has set."""
        return float((self._folder / "sampling_frequency").read_text())

    def plug(self) -> None:
        """Make the device appear."""
        form = self._form
        text = {
            "name": self._name,
            "in_accel_scale": f"{self._accel_scale:.12f}",
            "in_accel_scale_available": f"{self._accel_scale:.12f}",
            "in_anglvel_scale": f"{self._gyro_scale:.12f}",
            "in_mount_matrix": "; ".join(", ".join(f"{v:g}" for v in row) for row in self._mount),
            "in_temp_scale": f"{TEMP_SCALE:.9f}",
            "in_temp_offset": f"{TEMP_OFFSET:.9f}",
            "sampling_frequency": "50",
            "sampling_frequency_available": "10 20 50 100 200 500 1000",
            "current_timestamp_clock": "realtime",
        } | {f"{stem}_raw": "0" for stem in CHANNELS}
        if self._buffer:
            kind = f"{form.order}:s{form.bits}/{form.storage_bits}>>{form.shift}"
            types = dict.fromkeys(CHANNELS, kind) | {"in_timestamp": "le:s64/64>>0"}
            for index, (stem, type_text) in enumerate(types.items()):
                text[f"scan_elements/{stem}_en"] = "0"
                text[f"scan_elements/{stem}_index"] = str(index)
                text[f"scan_elements/{stem}_type"] = type_text
            text |= {"buffer/enable": "0", "buffer/length": "2", "buffer/watermark": "1"}
            self.dev.mkdir(parents=True, exist_ok=True)
            os.mkfifo(self._node)
        for attribute, value in text.items():
            path = self._folder / attribute
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(value + "\n")

    def unplug(self) -> None:
        """Make the device disappear; a reader's next read ends."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._node.unlink(missing_ok=True)
        self._close()

    def fault(self, name: Fault, on: bool = True) -> None:
        """Switch a fault on or off: one of FAULTS."""
        if name not in FAULTS:
            raise ValueError(f"fault '{name}' is none of {', '.join(FAULTS)}")
        if on:
            self._faults.add(name)
        else:
            self._faults.discard(name)

    def write(self, t_ns: npt.NDArray[np.int64], accel_mps2: Floats, gyro_dps: Floats, degrees: float = 25.0) -> None:
        """Give samples of monotonic times `t_ns`[n] with accel[n, 3] and gyro[n, 3] in board axes."""
        if "silent" in self._faults or not len(t_ns):
            return
        counts = self._sensed(accel_mps2, gyro_dps, degrees)
        if "stuck" in self._faults:
            counts[:] = self._counts[-1]
        self._counts = counts
        for stem, value in zip(CHANNELS, counts[-1].tolist(), strict=True):
            (self._folder / f"{stem}_raw").write_text(f"{value}\n")
        if self._flowing():
            self._send(self._scans(t_ns, counts))

    def _sensed(self, accel_mps2: Floats, gyro_dps: Floats, degrees: float) -> npt.NDArray[np.int64]:
        """Turn quantities into the sensor's counts, int64[n, 7], limited to its range."""
        strength = OVERDRIVE if "clipped" in self._faults else 1.0
        accel = accel_mps2 @ self._mount * (strength / self._accel_scale)  # the transpose of a rotation undoes it
        gyro = np.radians(gyro_dps) @ self._mount / self._gyro_scale
        temperature = np.full((len(accel), 1), degrees * 1000.0 / TEMP_SCALE - TEMP_OFFSET)
        top = (1 << (self._form.bits - 1)) - 1
        counts: Floats = np.clip(np.rint(np.hstack([accel, gyro, temperature])), -top - 1, top)
        return counts.astype(np.int64)

    def _flowing(self) -> bool:
        """Open the pipe when a reader has enabled the buffer; close it when that is over."""
        enable = self._folder / "buffer" / "enable"
        if not self._buffer or not enable.exists() or enable.read_text().strip() != "1":
            self._close()
        elif self._fd is None:
            try:
                self._fd = os.open(self._node, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # nobody has it open
                return False
        return self._fd is not None

    def _scans(self, t_ns: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Lay the enabled elements out, each aligned to its size, the whole to the largest."""
        form, scan = self._form, self._folder / "scan_elements"
        size, mask = form.storage_bits // 8, (1 << form.bits) - 1
        kind = f"{'>' if form.order == 'be' else '<'}u{size}"
        fields: list[tuple[str, str, int, npt.NDArray[np.int64]]] = []
        at = 0
        for column, stem in enumerate(CHANNELS):
            if (scan / f"{stem}_en").read_text().strip() == "1":
                fields.append((stem, kind, at, (counts[:, column] & mask) << form.shift))
                at += size
        largest = size
        if (scan / "in_timestamp_en").read_text().strip() == "1":
            at = -(-at // 8) * 8
            fields.append(("in_timestamp", "<i8", at, t_ns))
            at, largest = at + 8, 8
        names, formats, offsets, columns = zip(*fields, strict=True)
        layout: Any = {"names": names, "formats": formats, "offsets": offsets, "itemsize": -(-at // largest) * largest}
        scans = np.zeros(len(t_ns), np.dtype(layout))
        for stem, column_values in zip(names, columns, strict=True):
            scans[stem] = column_values
        return scans

    def _send(self, scans: npt.NDArray[Any]) -> None:
        at_once = max(1, 4096 // scans.itemsize)  # a pipe takes up to 4,096 bytes whole or not at all
        for first in range(0, len(scans), at_once):
            part = scans[first : first + at_once]
            try:
                assert self._fd is not None
                os.write(self._fd, part.tobytes())
            except BlockingIOError:
                self.overruns += len(part)
            except BrokenPipeError:
                return self._close()
        return None

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
