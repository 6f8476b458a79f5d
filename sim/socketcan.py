"""The simulated car on a SocketCAN interface (vcan, or a real one in loop-back), where the kernel has it."""

import errno
import socket
import struct
from collections.abc import Callable
from typing import Final

import numpy as np

from agent.blocks import ERROR, EXTENDED, FD, REMOTE, Frames
from agent.errors import DriverError
from sim.slcan import Hear

FRAME: Final = struct.Struct("=IB3x8s")  # linux/can.h: struct can_frame
EFF_FLAG: Final = 0x80000000
RTR_FLAG: Final = 0x40000000
_FULL: Final = (errno.ENOBUFS, errno.EAGAIN)


def open_raw(interface: str) -> socket.socket:
    """Open a raw CAN socket on `interface`; raise DriverError with what to do when there is none."""
    try:
        made = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
    except OSError as error:
        raise DriverError(f"{interface}: this kernel has no CAN ({error.strerror}); leave --socketcan out") from None
    try:
        made.bind((interface,))
    except OSError as error:
        made.close()
        raise DriverError(
            f"{interface}: cannot bind: {error.strerror}; make it with: ip link add {interface} type vcan;"
            f" ip link set {interface} up"
        ) from None
    return made


class SocketCanBus:
    """The car's bus on an interface; `hear` answers what others send on it."""

    def __init__(
        self, interface: str, hear: Hear | None = None, make: Callable[[str], socket.socket] = open_raw
    ) -> None:
        self.interface = interface
        self.sent = 0
        self.lost = 0  # frames for which the interface's queue had no room
        self._hear = hear
        self._off = False
        self._socket = make(interface)
        self._socket.setblocking(False)

    def put(self, frames: Frames, t_ns: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        """Send classic frames; the kernel stamps them itself, so `t_ns` is not used by this wire."""
        if self._off:
            return
        for i in np.flatnonzero(frames.flags & (ERROR | FD) == 0).tolist():
            flags = int(frames.flags[i])
            kind = (EFF_FLAG if flags & EXTENDED else 0) | (RTR_FLAG if flags & REMOTE else 0)
            self._send(int(frames.id[i]) | kind, int(frames.len[i]), frames.data[i, :8].tobytes())

    def flush(self) -> None:
        """Answer what others have asked."""
        while True:
            try:
                identifier, length, data = FRAME.unpack(self._socket.recv(FRAME.size))
            except (BlockingIOError, ConnectionError, struct.error):
                return
            if self._hear is None or self._off or identifier & RTR_FLAG:
                continue
            for answer, said in self._hear(identifier & 0x1FFFFFFF, data[:length]):
                self._send(answer | (EFF_FLAG if answer > 0x7FF else 0), len(said), said)

    def bus_off(self, off: bool) -> None:
        """Send nothing, as a controller that is bus-off, or go on."""
        self._off = off

    def stop(self) -> None:
        """Release the interface."""
        self._socket.close()

    def _send(self, identifier: int, length: int, data: bytes) -> None:
        try:
            self._socket.send(FRAME.pack(identifier, length, data))
            self.sent += 1
        except OSError as error:
            if error.errno not in _FULL:
                raise DriverError(f"{self.interface}: cannot send: {error.strerror}; is the interface up?") from None
            self.lost += 1
