"""Where an ELM327 adapter is and how it is used; light, so that configuration can be read without the driver."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Elm327Settings:
    """Where the adapter is and how it is used."""

    port: str = "/dev/ttyUSB0"  # a device, or socket://address:port of a Wi-Fi adapter
    baud: int = 0  # 0: find it
    speed_hz: float = 5.0  # how often speed is asked for, where the adapter can
    cache: Path | None = None  # file in which the PIDs of each car are remembered
    usb_reset: bool = False  # reset the adapter's USB device where opening anew does not help; needs its permission
