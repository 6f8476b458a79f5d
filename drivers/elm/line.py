"""The wire to an adapter: a serial device, a Bluetooth serial device or a TCP socket, through pyserial.

Every call returns within the time it is given, and every trouble of the port is a DriverError.
"""

import select
from pathlib import Path
from typing import Any, Final, Protocol

from agent.errors import DriverError

WRITE_S: Final = 1.0  # a command has at most 20 characters; a port that takes longer is stuck
CHUNK: Final = 4096
SCHEMES: Final = ("socket://",)


class Line(Protocol):
    """What the driver needs of a port; the serial one below, or a simulated one with a clock of its own."""

    def open(self, baud: int) -> None:
        """Open the port, or set another rate on the open one."""

    def write(self, data: bytes) -> None:
        """Hand `data` to the port."""

    def read(self, timeout_s: float) -> bytes:
        """Return what has come, at the latest after `timeout_s`; b'' when nothing has."""

    def close(self) -> None:
        """Release the port; may be called twice."""


class SerialLine:
    """A port by its path (/dev/ttyUSB0, /dev/rfcomm0) or address (socket://192.168.0.10:35000)."""

    def __init__(self, port: str) -> None:
        self._port = port
        self._serial: Any = None

    def open(self, baud: int) -> None:
        """Open the port with `baud`, or change the rate of the open one; raise DriverError when it cannot."""
        import serial

        try:
            if self._serial is None:
                local = not self._port.startswith(SCHEMES)
                self._serial = serial.serial_for_url(
                    self._port, baudrate=baud, timeout=0, write_timeout=WRITE_S, exclusive=True if local else None
                )
            else:
                self._serial.baudrate = baud
        except (OSError, ValueError) as e:  # SerialException is an OSError
            self._serial = None
            raise DriverError(f"{self._port}: cannot open the adapter's port: {_cause(e)}; {self._advice()}") from e

    def write(self, data: bytes) -> None:
        """Send `data` within WRITE_S; raise DriverError when the port does not take it."""
        if self._serial is None:
            raise DriverError(f"{self._port}: cannot write: the port is closed; open it first")
        try:
            self._serial.write(data)
        except OSError as e:
            raise DriverError(f"{self._port}: cannot write to the adapter: {_cause(e)}; {self._advice()}") from e

    def read(self, timeout_s: float) -> bytes:
        """Wait for the first bytes, at the latest until `timeout_s`, and return all that are there."""
        if self._serial is None:
            raise DriverError(f"{self._port}: cannot read: the port is closed; open it first")
        try:
            ready, _, _ = select.select([self._serial.fileno()], [], [], max(timeout_s, 0.0))
            return bytes(self._serial.read(CHUNK)) if ready else b""
        except (OSError, ValueError, TypeError) as e:  # pyserial raises TypeError where another thread closed the port
            raise DriverError(f"{self._port}: the adapter is gone: {_cause(e)}; {self._advice()}") from e

    def close(self) -> None:
        """Release the port."""
        port, self._serial = self._serial, None
        if port is not None:
            try:
                port.close()
            except OSError:
                return  # the device is gone: there is nothing left to release

    def _advice(self) -> str:
        if self._port.startswith(SCHEMES):
            return "check the adapter's Wi-Fi and address"
        return "check its plug and cable" if not Path(self._port).exists() else "check permissions and other programs"


def _cause(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error).split("\n")[0] or type(error).__name__
