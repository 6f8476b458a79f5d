"""One input line of a GPIO chip through the kernel's character device (linux/gpio.h, version 2 of its interface).

The kernel debounces, stamps every edge with the monotonic clock, and keeps edges that come while nobody reads. The
older sysfs interface is deprecated and gone from many kernels.
"""

import fcntl
import os
import re
import struct
from pathlib import Path
from typing import Final, NamedTuple

from agent.errors import DriverError

_NUMBERED: Final = re.compile(r"gpiochip\d+")
_CONSUMER: Final = b"roadwitness"
_ACTIVE_LOW, _INPUT, _RISING, _FALLING = 1 << 1, 1 << 2, 1 << 4, 1 << 5
_DEBOUNCE_ATTRIBUTE: Final = 3
# struct gpio_v2_line_request: offsets, consumer, config {flags, attributes used, 10 attributes {id, value, mask}},
# lines, event buffer, fd
REQUEST: Final = struct.Struct("=64I32sQI20x" + "I4xQQ" * 10 + "II20xi")
VALUES: Final = struct.Struct("=QQ")  # struct gpio_v2_line_values: bits, mask
EVENT: Final = struct.Struct("=QIIII24x")  # struct gpio_v2_line_event: time ns, edge, line, number, number of the line
RISING_EDGE: Final = 1


CHIP: Final = struct.Struct("=32s32sI")  # struct gpiochip_info: name, label, lines
_READS, _READS_AND_WRITES = 2, 3


def _ioctl(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | 0xB4 << 8 | number


GET_CHIP: Final = _ioctl(_READS, 0x01, CHIP.size)
GET_LINE: Final = _ioctl(_READS_AND_WRITES, 0x07, REQUEST.size)
GET_VALUES: Final = _ioctl(_READS_AND_WRITES, 0x0E, VALUES.size)


class Edge(NamedTuple):
    """The line became `active` at `t_ns`; `number` counts the edges of this request."""

    t_ns: int
    active: bool
    number: int


def chip_called(name: str, chip: str, dev: Path) -> Path:
    """Return the chip in `dev` that is called `chip`, by its device or by the label of its driver.

    A device's number is given in the order in which drivers come: the lines of a Raspberry Pi 5's header were
    gpiochip4, and are gpiochip0 since kernel 6.6.45 (raspberrypi/linux, pull request 6144); their label, pinctrl-rp1,
    stayed. Raises DriverError, with the labels that are there, unless one chip alone has that label.
    """
    if _NUMBERED.fullmatch(chip):
        return dev / chip
    chips = [path for path in sorted(dev.glob("gpiochip*")) if not path.is_symlink()]  # a second name of the same
    labels = {path: label for path in chips if (label := _label(path))}
    found = [path for path, label in labels.items() if label == chip]
    if len(found) != 1:
        seen = ", ".join(labels.values()) or "none"
        raise DriverError(
            f"{name}: {len(found)} chips are called '{chip}' (`gpiodetect` shows all); chips here: {seen}"
        )
    return found[0]


def _label(path: Path) -> str:
    """Return what the driver of a chip calls it; '' where it may not be asked."""
    told = bytearray(CHIP.size)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, GET_CHIP, told)
        finally:
            os.close(fd)
    except OSError:
        return ""
    return bytes(CHIP.unpack(told)[1]).split(b"\0")[0].decode(errors="replace")


class Line:
    """Input line `number` of `chip`, debounced by `debounce_ms`; `fd` becomes readable when edges wait."""

    def __init__(self, name: str, chip: Path, number: int, active_low: bool, debounce_ms: int) -> None:
        self._name = f"{name}: {chip} line {number}"
        flags = _INPUT | _RISING | _FALLING | (_ACTIVE_LOW if active_low else 0)
        attributes = [_DEBOUNCE_ATTRIBUTE, debounce_ms * 1000, 1] + [0, 0, 0] * 9
        request = bytearray(REQUEST.pack(number, *[0] * 63, _CONSUMER, flags, 1, *attributes, 1, 0, 0))
        try:
            chip_fd = os.open(chip, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(chip_fd, GET_LINE, request)
            finally:
                os.close(chip_fd)
            self.fd: int | None = REQUEST.unpack(request)[-1]
            assert self.fd is not None
            os.set_blocking(self.fd, False)
        except OSError as error:
            raise DriverError(f"{self._name}: request: {error.strerror}; `gpioinfo` shows who uses it") from None

    def active(self) -> bool:
        """Return the line's level now."""
        values = bytearray(VALUES.pack(0, 1))
        try:
            fcntl.ioctl(self.fd if self.fd is not None else -1, GET_VALUES, values)
        except (OSError, ValueError) as error:
            raise DriverError(f"{self._name}: read level: {error}") from None
        return bool(VALUES.unpack(values)[0] & 1)

    def edges(self) -> list[Edge]:
        """Return the edges that wait, oldest first."""
        try:
            data = os.read(self.fd if self.fd is not None else -1, 64 * EVENT.size)
        except BlockingIOError:
            return []
        except OSError as error:
            raise DriverError(f"{self._name}: read edges: {error.strerror}") from None
        return edges_of(data)

    def close(self) -> None:
        """Give the line back."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


def edges_of(data: bytes) -> list[Edge]:
    """Read the kernel's events; a part of one at the end is ignored, the kernel gives none."""
    whole = len(data) // EVENT.size * EVENT.size
    return [Edge(t_ns, edge == RISING_EDGE, number) for t_ns, edge, _, number, _ in EVENT.iter_unpack(data[:whole])]
