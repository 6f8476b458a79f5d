"""The last stage of recovery: reset the USB device behind a serial port, as pulling its plug would, where allowed.

It needs write access to the device's node below /dev/bus/usb (docs/wiring-a-car.md); other ports have no such device.
"""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

USBDEVFS_RESET: Final = 0x5514  # _IO('U', 20), linux/usbdevice_fs.h
FIRST: Final = 2  # failures in a row before the first reset: opening anew has been tried and did not help


class Stubborn:
    """Count failures in a row and say when the device deserves a reset: at the 2nd, 4th, 8th … of them. Pure."""

    def __init__(self) -> None:
        self._failures = 0

    def failed(self) -> None:
        """Note an opening or a conversation that ended in trouble."""
        self._failures += 1

    def good(self) -> None:
        """Note that the adapter gave something."""
        self._failures = 0

    @property
    def due(self) -> bool:
        """Say whether the next attempt should begin with a reset; rarer and rarer, for it costs the adapter's time."""
        return self._failures >= FIRST and self._failures & (self._failures - 1) == 0


def node_of(port: str, sysfs: Path = Path("/sys"), dev: Path = Path("/dev")) -> Path | None:
    """Return the node of the USB device that a serial port belongs to; None where there is none, or no such port."""
    try:
        at = (sysfs / "class" / "tty" / Path(port).resolve().name / "device").resolve(strict=True)
        while at not in (at.parent, sysfs):
            if (at / "busnum").exists() and (at / "devnum").exists():
                bus, device = (int((at / name).read_text()) for name in ("busnum", "devnum"))
                return dev / "bus" / "usb" / f"{bus:03d}" / f"{device:03d}"
            at = at.parent
    except (OSError, ValueError):
        return None
    return None


def reset(
    port: str,
    sysfs: Path = Path("/sys"),
    dev: Path = Path("/dev"),
    ioctl: Callable[[int, int, int], object] = fcntl.ioctl,
) -> bool | None:
    """Reset the USB device behind `port`: True when done, False when refused, None where there is none to reset."""
    node = node_of(port, sysfs, dev)
    if node is None:
        return None
    try:
        descriptor = os.open(node, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        ioctl(descriptor, USBDEVFS_RESET, 0)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
