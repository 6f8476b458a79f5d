"""Any other interface of python-can: virtual buses and vendors' adapters, one message at a time as it gives them.

python-can decides what an adapter can do; here its messages become arrays and its many exceptions DriverError.
"""

from contextlib import suppress
from typing import Any, Final

import numpy as np

from agent.blocks import BIT_RATE_SWITCH, ERROR_STATE, EXTENDED, FD, REMOTE, Frames
from agent.clock import NS_PER_S, monotonic_ns
from agent.errors import DriverError
from drivers.can.outgoing import Outgoing
from drivers.can.stamps import NO_STAMP, WallStamps
from drivers.can.wire import ROOM, CanSettings, Pause, forbid_unless, no_frames, room, views
from drivers.decode.profile import IdFilter

_OLDEST_WALL_S: Final = 946_684_800.0  # 2000-01-01: smaller stamps count from the adapter's own start
_WIDEST: Final = 64


class PythonCan:
    """A python-can bus; `settings.options` go to can.Bus."""

    def __init__(self, settings: CanSettings) -> None:
        self.name = f"{settings.interface}:{settings.channel}"
        self.notes: list[str] = []
        self.bit_rate: int | None = settings.bit_rate or None
        self._settings = settings
        self._window_s = settings.window_s
        self._bus: Any = None
        self._pause = Pause()
        self._stamps = WallStamps()
        self._frames = room(_WIDEST)
        self._drained_ns = 0
        self._errors = 0
        self._garbage = 0

    def open(self, filters: list[IdFilter]) -> None:
        """Open the bus; raise DriverError with python-can's own words when it cannot."""
        import can

        self.close()
        self._pause.begin()
        arguments: dict[str, Any] = dict(self._settings.options)
        if self._settings.bit_rate:
            arguments["bitrate"] = self._settings.bit_rate
        self.notes = []
        if not self._settings.transmit and "listen_only" not in arguments:
            self.notes.append("whether the adapter acknowledges frames is up to its driver; see options")
        try:
            self._bus = can.Bus(channel=self._settings.channel, interface=self._settings.interface, **arguments)
            self.filter(filters)
        except (can.CanError, OSError, ValueError, TypeError, LookupError, ImportError) as error:
            self.close()
            raise DriverError(
                f"{self.name}: cannot open: {_words(error)}; check interface, channel and options"
            ) from error
        self._drained_ns = monotonic_ns()

    def filter(self, filters: list[IdFilter]) -> None:
        """Let python-can or the adapter filter."""
        self._bus.set_filters(
            [{"can_id": f.id & f.mask, "can_mask": f.mask, "extended": f.extended} for f in filters] or None
        )

    def read(self, timeout_s: float) -> Frames:
        """Return what has come since the last call: at once after a busy window, else when something comes."""
        bus = self._bus  # `close` may come from another thread
        if bus is None:
            raise DriverError(f"{self.name}: is not open")
        missing_s = self._window_s - (monotonic_ns() - self._drained_ns) / NS_PER_S
        if missing_s > 0 and self._pause.wait(min(missing_s, timeout_s)):
            return no_frames()
        n = self._drain(bus, 0, 0.0)
        rest_s = timeout_s - max(missing_s, 0.0)
        if n == 0 and rest_s > 0:
            n = self._drain(bus, 0, rest_s)
            if n and not self._pause.wait(min(self._window_s, rest_s)):
                n = self._drain(bus, n, 0.0)
        self._stamps.settle(self._frames.t[:n])
        self._drained_ns = monotonic_ns()
        return views(self._frames, n)

    def send(self, frame: Outgoing) -> int:
        """Send one frame."""
        import can

        forbid_unless(self._settings.transmit, self.name)
        if self._bus is None:
            raise DriverError(f"{self.name}: is not open")
        message = can.Message(arbitration_id=frame.id, is_extended_id=frame.extended, data=frame.data)
        try:
            self._bus.send(message)
        except (can.CanError, OSError) as error:
            raise DriverError(f"{self.name}: cannot send: {_words(error)}; check the adapter and the wiring") from error
        return monotonic_ns()

    def close(self) -> None:
        """Shut the bus down."""
        import can

        self._pause.end()
        bus, self._bus = self._bus, None
        if bus is not None:
            with suppress(can.CanError, OSError, ValueError):  # an adapter that is gone cannot be told
                bus.shutdown()

    @property
    def counts(self) -> dict[str, int]:
        """Error frames, messages that cannot be frames, stamps not believed."""
        return {
            "error_frames": self._errors,
            "garbage": self._garbage,
            "stamps_clamped": self._stamps.clamped,
            "clock_steps": self._stamps.clock_steps,
        }

    def _drain(self, bus: Any, n: int, timeout_s: float) -> int:
        """Put messages behind the first `n` frames until none waits; wait `timeout_s` for the first."""
        import can

        f = self._frames
        try:
            while n < ROOM and (message := bus.recv(timeout_s)) is not None:
                timeout_s = 0.0
                n += self._put(f, n, message)
        except (can.CanError, OSError, ValueError, LookupError, UnicodeError) as error:
            raise DriverError(f"{self.name}: cannot read: {_words(error)}; is the adapter unplugged?") from error
        return n

    def _put(self, f: Frames, n: int, message: Any) -> int:
        if message.is_error_frame:
            self._errors += 1
            return 0
        data = b"" if message.is_remote_frame else bytes(message.data or b"")
        limit = 0x1FFFFFFF if message.is_extended_id else 0x7FF
        if not 0 <= message.arbitration_id <= limit or len(data) > _WIDEST:
            self._garbage += 1
            return 0
        stamp = message.timestamp
        f.t[n] = round(stamp * NS_PER_S) if stamp and stamp > _OLDEST_WALL_S else NO_STAMP
        f.id[n], f.len[n] = message.arbitration_id, len(data)
        f.flags[n] = (
            EXTENDED * message.is_extended_id
            | REMOTE * message.is_remote_frame
            | FD * message.is_fd
            | BIT_RATE_SWITCH * message.bitrate_switch
            | ERROR_STATE * message.error_state_indicator
        )
        f.data[n] = 0
        f.data[n, : len(data)] = np.frombuffer(data, np.uint8)
        return 1


def _words(error: BaseException) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__
