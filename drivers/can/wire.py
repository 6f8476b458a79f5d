"""What a live CAN wire is: frames out in batches, and the settings that choose and open one."""

from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final, Protocol

from agent.blocks import Frames, empty_frames
from agent.errors import ConfigError
from drivers.can.outgoing import Outgoing
from drivers.decode.profile import IdFilter

ROOM: Final = 4096  # frames handed over at once: half a second of a bus at 8,000 frames/s
MOST_WINDOW_S: Final = 0.1  # longer would make the state on the page and the crash trigger late


@dataclass(frozen=True, slots=True)
class CanSettings:
    """One CAN bus: how it is reached, what it is called, and whether we may send."""

    interface: str = "socketcan"  # socketcan, slcan, or any name that python-can knows
    channel: str = "can0"  # can0, /dev/serial/by-id/…, or what python-can calls the channel
    bus: str = ""  # the name that profiles match; "" is the channel for socketcan, else can0
    profile: str = ""  # vehicle profile; "" listens and chooses the one that fits
    bit_rate: int = 0  # bit/s, slcan and python-can; 0 finds it by listening (slcan) or leaves it (python-can)
    serial_baud: int = 115_200  # slcan on a real serial line; USB adapters ignore it
    window_s: float = 0.020  # frames are collected for so long; each window costs the same, however full it is
    transmit: bool = False  # false: listen-only, nothing is ever sent, not even an acknowledge bit by slcan
    options: dict[str, str | int | float | bool] = field(default_factory=dict)  # further arguments for python-can

    def __post_init__(self) -> None:
        if not self.channel:
            raise ValueError("channel is empty; name the interface or the serial line, e.g. can0")
        if not 0.0 <= self.window_s <= MOST_WINDOW_S:
            raise ValueError(f"window_s = {self.window_s:g} is not within 0..{MOST_WINDOW_S:g}")
        if self.bit_rate < 0 or self.serial_baud <= 0:
            raise ValueError("bit_rate and serial_baud are bits per second above 0")

    @property
    def bus_name(self) -> str:
        """The bus as profiles know it."""
        return self.bus or (self.channel if self.interface == "socketcan" else "can0")


class Wire(Protocol):
    """A CAN bus that gives its frames in batches; nothing happens before `open`, `close` may be called twice."""

    name: str  # for messages, e.g. "socketcan:can0"
    notes: list[str]  # what a technician should know about how it was opened
    bit_rate: int | None  # bit/s as configured or found; None when nobody knows

    def open(self, filters: list[IdFilter]) -> None:
        """Open and let pass only what `filters` name (all when empty); raise DriverError when that fails."""

    def filter(self, filters: list[IdFilter]) -> None:
        """Change what passes; wires without filters let all pass."""

    def read(self, timeout_s: float) -> Frames:
        """Return data and remote frames that have come, at the latest after `timeout_s`; bus 0, t monotonic ns.

        t never falls, over all calls. The arrays are the wire's own and are overwritten by the next call.
        Raises DriverError when the device is in trouble.
        """

    def send(self, frame: Outgoing) -> int:
        """Send and return the monotonic time in ns at which it was handed over; ConfigError unless allowed to."""

    def close(self) -> None:
        """Release the device."""

    @property
    def counts(self) -> dict[str, int]:
        """What was lost or odd since the wire was made, by kind."""


class Pause:
    """Timed waits that `end` cuts short for good, until `begin`; cheaper than an Event, and waited in each window."""

    def __init__(self) -> None:
        self._running = Lock()

    def begin(self) -> None:
        """Let `wait` wait."""
        self._running.acquire(blocking=False)

    def wait(self, seconds: float) -> bool:
        """Wait so long; say whether `end` came."""
        if seconds > 0 and self._running.acquire(timeout=seconds):
            self._running.release()
            return True
        return False

    def end(self) -> None:
        """End all waits."""
        if self._running.locked():
            self._running.release()


def forbid_unless(transmit: bool, name: str) -> None:
    """Raise ConfigError when the configuration does not allow sending."""
    if not transmit:
        raise ConfigError(f"{name}: sending is not allowed; set transmit = true for this bus to ask control units")


def views(frames: Frames, n: int) -> Frames:
    """Return the first `n` frames without copying."""
    return Frames(frames.t[:n], frames.bus[:n], frames.id[:n], frames.flags[:n], frames.len[:n], frames.data[:n])


def room(width: int) -> Frames:
    """Return the arrays that a wire fills again and again."""
    return empty_frames(ROOM, width)


def no_frames() -> Frames:
    """Return no frames."""
    return empty_frames(0)


def make_wire(settings: CanSettings) -> Wire:
    """Return the wire for `settings`, not yet opened."""
    from importlib import import_module

    module, attribute = _WIRES.get(settings.interface, _ANY).split(":")
    wire: Any = getattr(import_module(module), attribute)
    made: Wire = wire(settings)
    return made


_WIRES: Final = {
    "socketcan": "drivers.can.socketcan:SocketCan",
    "slcan": "drivers.can.slcan:Slcan",
}
_ANY: Final = "drivers.can.pythoncan:PythonCan"
