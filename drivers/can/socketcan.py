"""SocketCAN: the kernel filters, stamps and queues; one recvmmsg takes what has come in a window.

Listen-only is a property of the interface, not of a socket: it is reported, and set with `ip link` or networkd.
"""

import ctypes
import errno
import os
import select
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import numpy as np

from agent.blocks import Frames
from agent.clock import NS_PER_S, monotonic_ns
from agent.errors import DriverError
from drivers.can.link import CANFD_MTU, Link, link_of
from drivers.can.outgoing import Outgoing
from drivers.can.socket_kernel import (
    BUS_OFF,
    CONTROL,
    CONTROL_WORDS,
    CONTROLLEN,
    DROPS,
    ERROR_NAMES,
    GARBAGE,
    IOV,
    IOVLEN,
    LONG,
    RESTARTED,
    unpack,
)
from drivers.can.stamps import WallStamps
from drivers.can.wire import ROOM, CanSettings, Pause, forbid_unless, room, views
from drivers.decode.dbc import MAX_STANDARD_ID
from drivers.decode.profile import IdFilter

AT_ONCE: Final = 512  # messages of one system call
BUFFER_BYTES: Final = 4 << 20  # a queued frame takes about 800 bytes: 5,000 frames, 0.6 s at 8,000 frames/s

# linux/can/raw.h, asm-generic/socket.h; Python's socket module lacks some of them or has them only with PF_CAN
_SOL_CAN_RAW, _FILTER, _ERR_FILTER, _FD_FRAMES = 101, 1, 2, 5
_SO_TIMESTAMPNS, _SO_RXQ_OVFL, _SO_RCVBUFFORCE = 35, 40, 33
_ALL_ERRORS: Final = 0x1FFFFFFF
_EFF, _RTR = 0x80000000, 0x40000000
_MOST_FILTERS: Final = 512  # CAN_RAW_FILTER_MAX
_FRAME: Final = struct.Struct("=IB3x8s")

_libc: Final = ctypes.CDLL(None, use_errno=True)
_recvmmsg: Final = _libc.recvmmsg
_recvmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p]
_recvmmsg.restype = ctypes.c_int

_TROUBLE: Final = {
    errno.ENETDOWN: "the interface is down; bring it up with `ip link set {0} up`",
    errno.ENODEV: "the interface is gone; is the adapter unplugged?",
    errno.ENXIO: "the interface is gone; is the adapter unplugged?",
    errno.EAFNOSUPPORT: "this kernel has no CAN; load it with `modprobe can_raw`",
    errno.ENOBUFS: "the send queue is full: nobody on the bus acknowledges; check wiring, bit rate and listen-only",
    errno.EPERM: "not permitted; add the user to the group that may use the network device",
}


def can_socket(name: str, filters: list[IdFilter]) -> socket.socket:
    """Open a raw CAN socket bound to `name` that passes `filters` (all when empty) and every error frame."""
    made = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
    try:
        set_filters(made, filters)
        made.setsockopt(_SOL_CAN_RAW, _ERR_FILTER, _ALL_ERRORS)
        link = link_of(name)
        if link is not None and link.mtu >= CANFD_MTU:
            made.setsockopt(_SOL_CAN_RAW, _FD_FRAMES, 1)
        made.bind((name,))
    except BaseException:
        made.close()
        raise
    return made


def set_filters(to: socket.socket, filters: list[IdFilter]) -> None:
    """Set the kernel's filters; more than it can hold let all pass."""
    if not filters or len(filters) > _MOST_FILTERS:
        filters = [IdFilter(0, 0, False), IdFilter(0, 0, True)]
    to.setsockopt(_SOL_CAN_RAW, _FILTER, b"".join(packed_filter(f) for f in filters))


def packed_filter(wanted: IdFilter) -> bytes:
    """Write a struct can_filter; exact masks with the length and remote bits are looked up by the kernel in a table."""
    kind = _EFF if wanted.extended else 0
    bits = MAX_STANDARD_ID if not wanted.extended else 0x1FFFFFFF
    return struct.pack("=II", wanted.id & wanted.mask | kind, wanted.mask & bits | _EFF | _RTR)


class SocketCan:
    """One CAN interface of the kernel. `open_socket` is for tests: kernels without CAN have other datagrams."""

    def __init__(
        self, settings: CanSettings, open_socket: Callable[[str, list[IdFilter]], socket.socket] = can_socket
    ) -> None:
        self.name = f"socketcan:{settings.channel}"
        self.notes: list[str] = []
        self.bit_rate: int | None = None
        self._channel = settings.channel
        self._transmit = settings.transmit
        self._window_ns = round(settings.window_s * NS_PER_S)
        self._open_socket = open_socket
        self._socket: socket.socket | None = None
        self._poll = select.poll()
        self._pause = Pause()
        self._drained_ns = 0
        self._trouble: DriverError | None = None  # met behind frames that were still handed over
        self._stamps = WallStamps()
        self._state = np.zeros(4, np.int64)
        self._errors = np.zeros(len(ERROR_NAMES), np.int64)
        self._lost = 0  # of sockets that are closed: the kernel counts from 0 for each
        self._buffers = np.zeros((AT_ONCE, LONG), np.uint8)
        self._words = self._buffers.view(np.uint32)
        self._controls = np.zeros((AT_ONCE, CONTROL_WORDS), np.uint64)
        self._headers = np.zeros((AT_ONCE, 8), np.uint64)
        self._vectors = np.zeros((AT_ONCE, 2), np.uint64)  # struct iovec: base, length
        each = np.arange(AT_ONCE, dtype=np.uint64)
        self._vectors[:, 0] = self._buffers.ctypes.data + LONG * each
        self._vectors[:, 1] = LONG
        self._headers[:, IOV] = self._vectors.ctypes.data + 16 * each
        self._headers[:, IOVLEN] = 1
        self._headers[:, CONTROL] = self._controls.ctypes.data + 8 * CONTROL_WORDS * each
        self._headers[:, CONTROLLEN] = 8 * CONTROL_WORDS
        self._address = self._headers.ctypes.data
        self._frames = room(8)

    def open(self, filters: list[IdFilter]) -> None:
        """Open the interface; raise DriverError with what to do when it is missing, down or bus-off."""
        self.close()
        self._pause.begin()
        self._trouble = None
        link = self._describe()
        try:
            made = self._open_socket(self._channel, filters)
        except OSError as error:
            raise self._failed("open", error) from error
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        made.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
        try:
            made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER_BYTES)
        except PermissionError:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)  # as much as net.core.rmem_max allows
        width = 64 if link is None or link.mtu >= CANFD_MTU else 8
        if self._frames.data.shape[1] != width:
            self._frames = room(width)
        self._socket = made
        self._poll = select.poll()
        self._poll.register(made, select.POLLIN)
        self._drained_ns = monotonic_ns()

    def filter(self, filters: list[IdFilter]) -> None:
        """Change what the kernel lets pass."""
        if self._socket is None:
            raise DriverError(f"{self.name}: is not open")
        try:
            set_filters(self._socket, filters)
        except OSError as error:
            raise self._failed("set filters", error) from error

    def read(self, timeout_s: float) -> Frames:
        """Return what has come since the last call: at once after a busy window, else when something comes."""
        if self._socket is None:
            raise DriverError(f"{self.name}: is not open")
        if self._trouble is not None:
            raise self._trouble
        missing_ns = self._window_ns - (monotonic_ns() - self._drained_ns)
        if missing_ns > 0 and self._pause.wait(min(missing_ns / NS_PER_S, timeout_s)):
            return views(self._frames, 0)
        n = self._drain(self._socket)
        if n == 0:
            rest_s = timeout_s - max(missing_ns, 0) / NS_PER_S
            if rest_s > 0 and self._poll.poll(max(1, round(rest_s * 1000))):
                # the first frame after a pause: let its window fill, unless the caller wants an answer sooner
                self._pause.wait(min(self._window_ns / NS_PER_S, rest_s))
                n = self._drain(self._socket) if self._socket is not None else 0
        return views(self._frames, n)

    def send(self, frame: Outgoing) -> int:
        """Send one frame."""
        forbid_unless(self._transmit, self.name)
        if self._socket is None:
            raise DriverError(f"{self.name}: is not open")
        try:
            self._socket.send(_FRAME.pack(frame.id | (_EFF if frame.extended else 0), len(frame.data), frame.data))
        except OSError as error:
            raise self._failed("send", error) from error
        return monotonic_ns()

    def close(self) -> None:
        """Close the socket."""
        self._pause.end()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._lost += int(self._state[DROPS])
            self._state[DROPS] = 0

    @property
    def counts(self) -> dict[str, int]:
        """What was lost in the kernel's queue, what was no frame, error frames by kind, stamps not believed."""
        return {
            "lost_in_queue": self._lost + int(self._state[DROPS]),
            "garbage": int(self._state[GARBAGE]),
            "stamps_clamped": self._stamps.clamped,
            "clock_steps": self._stamps.clock_steps,
            **{f"error_{name}": int(n) for name, n in zip(ERROR_NAMES, self._errors, strict=True)},
        }

    def _drain(self, source: socket.socket) -> int:
        """Take all that waits, at most ROOM frames, and put it on monotonic time."""
        frames, n = self._frames, 0
        bus_off, restarted = int(self._state[BUS_OFF]), int(self._state[RESTARTED])
        while n + AT_ONCE <= ROOM:
            got = _recvmmsg(source.fileno(), self._address, AT_ONCE, socket.MSG_DONTWAIT, None)
            if got < 0:
                number = ctypes.get_errno()
                if number in (errno.EAGAIN, errno.EINTR):
                    break
                raise self._failed("read", OSError(number, os.strerror(number)))
            n = unpack(
                self._headers,
                self._buffers,
                self._words,
                self._controls,
                got,
                n,
                self._state,
                self._errors,
                frames.t,
                frames.id,
                frames.flags,
                frames.len,
                frames.data,
            )
            if got < AT_ONCE:
                break
        self._stamps.settle(frames.t[:n])
        self._drained_ns = monotonic_ns()
        if self._state[BUS_OFF] > bus_off and self._state[RESTARTED] == restarted and not self._restarts_itself():
            self._trouble = DriverError(
                f"{self.name}: bus-off, the controller has left the bus; check wiring and bit rate, then "
                f"`ip link set {self._channel} down` and up, or set restart-ms so that it comes back by itself"
            )
        return n

    def _restarts_itself(self) -> bool:
        link = self._look()
        return link is not None and link.restart_ms > 0

    def _look(self) -> Link | None:
        with suppress(OSError):
            return link_of(self._channel)
        return None

    def _describe(self) -> Link | None:
        """Note what a technician should know of the interface; raise DriverError when it has left the bus."""
        self.notes = []
        link = self._look()
        if link is None:
            return None
        self.bit_rate = link.bit_rate
        if link.listen_only is False and not self._transmit:
            self.notes.append(
                f"{self._channel} is not listen-only: it acknowledges frames on the bus; bring it up with "
                f"`ip link set {self._channel} type can listen-only on`"
            )
        if link.listen_only and self._transmit:
            self.notes.append(f"{self._channel} is listen-only: requests cannot be sent; switch listen-only off")
        if link.lacks_bit_rate:
            raise DriverError(
                f"{self.name}: no bit rate is set; try `ip link set {self._channel} up type can bitrate 500000"
                " listen-only on`"
            )
        if link.state == "bus-off" and not link.restart_ms:
            raise DriverError(
                f"{self.name}: bus-off, the controller has left the bus; check wiring and bit rate, then "
                f"`ip link set {self._channel} down` and up"
            )
        return link

    def _failed(self, step: str, error: OSError) -> DriverError:
        advice = _TROUBLE.get(error.errno or 0, f"{error.strerror or error}; check the interface")
        return DriverError(f"{self.name}: cannot {step}: {advice.format(self._channel)}")
