"""What the kernel says about a network interface that may be a CAN controller (rtnetlink, linux/can/netlink.h)."""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

_GETLINK, _NEWLINK, _REQUEST, _ERROR = 18, 16, 1, 2
_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr
_INFO: Final = struct.Struct("=BxHiII")  # ifinfomsg
_ATTRIBUTE: Final = struct.Struct("=HH")
_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO = 3, 4, 18
_INFO_KIND, _INFO_DATA, _INFO_STATISTICS = 1, 2, 3
_CAN_BITTIMING, _CAN_STATE, _CAN_CTRLMODE, _CAN_RESTART_MS, _CAN_ERRORS = 1, 4, 5, 6, 8
_NESTED_BITS: Final = 0x3FFF  # an attribute's type without the nested and byte-order flags
_UP: Final = 1
_LISTEN_ONLY: Final = 2
_STATES: Final = ("error-active", "error-warning", "error-passive", "bus-off", "stopped", "sleeping")
_LARGEST: Final = 65_536
# struct can_device_stats, in this order
_STATISTICS: Final = ("bus_error", "error_warning", "error_passive", "bus_off", "arbitration_lost", "restarts")

CANFD_MTU: Final = 72


@dataclass(frozen=True, slots=True)
class Link:
    """An interface as it is now; `listen_only` and `bit_rate` are None where the kernel does not say (vcan, slcan)."""

    name: str
    kind: str  # "can", "vcan", …, "" for what has no kind
    up: bool
    mtu: int
    bit_rate: int | None = None
    listen_only: bool | None = None
    state: str = ""
    restart_ms: int = 0  # 0: after bus-off the controller stays off until someone restarts it
    sent_errors: int | None = None  # the controller's own counters, 0 to 255, None where it does not tell them …
    received_errors: int | None = None  # … 96 is error-warning, 128 error-passive
    happened: dict[str, int] = field(default_factory=dict)  # since the interface was made: bus_error, bus_off …
    sample_point: float | None = None  # share of a bit's time; None where the kernel does not say

    @property
    def lacks_bit_rate(self) -> bool:
        """Whether nobody has set one: no controller comes up so, but slcand sets an adapter's past the kernel."""
        return self.kind == "can" and self.bit_rate is None and not self.up


def link_of(name: str) -> Link | None:
    """Ask the kernel about the interface `name`; None when there is none."""
    try:
        index = socket.if_nametoindex(name)
    except OSError:
        return None
    body = _INFO.pack(socket.AF_UNSPEC, 0, index, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        netlink.settimeout(1.0)
        netlink.send(_HEADER.pack(_HEADER.size + len(body), _GETLINK, _REQUEST, 1, 0) + body)
        return parse_link(netlink.recv(_LARGEST))


def parse_link(message: bytes) -> Link | None:
    """Read an RTM_NEWLINK message; None for any other or a damaged one."""
    if len(message) < _HEADER.size + _INFO.size:
        return None
    length, kind, _, _, _ = _HEADER.unpack_from(message)
    if kind != _NEWLINK or length > len(message):
        return None
    flags = _INFO.unpack_from(message, _HEADER.size)[3]
    found = dict(_attributes(message[_HEADER.size + _INFO.size : length]))
    info = dict(_attributes(found.get(_IFLA_LINKINFO, b"")))
    can = dict(_attributes(info.get(_INFO_DATA, b"")))
    link_kind = _text(info.get(_INFO_KIND, b""))
    rate = mode = None
    state = ""
    sent = received = None
    happened: dict[str, int] = {}
    if link_kind == "can":
        rate = _u32(can.get(_CAN_BITTIMING, b"")) or None
        controls = can.get(_CAN_CTRLMODE, b"")  # struct can_ctrlmode: mask, flags
        mode = bool(_u32(controls[4:]) & _LISTEN_ONLY) if len(controls) >= 8 else None
        number = _u32(can[_CAN_STATE]) if _CAN_STATE in can else len(_STATES)
        state = _STATES[number] if number < len(_STATES) else ""
        errors = can.get(_CAN_ERRORS, b"")  # struct can_berr_counter: txerr, rxerr
        if len(errors) >= 4:
            sent, received = int.from_bytes(errors[:2], "little"), int.from_bytes(errors[2:4], "little")
        counted = info.get(_INFO_STATISTICS, b"")
        if len(counted) >= 4 * len(_STATISTICS):
            happened = {name: _u32(counted[4 * i :]) for i, name in enumerate(_STATISTICS)}
    return Link(
        _text(found.get(_IFLA_IFNAME, b"")),
        link_kind,
        bool(flags & _UP),
        _u32(found.get(_IFLA_MTU, b"")),
        rate,
        mode,
        state,
        _u32(can.get(_CAN_RESTART_MS, b"")) if link_kind == "can" else 0,
        sent,
        received,
        happened,
        (_u32(can.get(_CAN_BITTIMING, b"")[4:]) / 1000 or None) if link_kind == "can" else None,  # tenths of per cent
    )


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _NESTED_BITS, data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


def _u32(data: bytes) -> int:
    return int.from_bytes(data[:4], "little") if len(data) >= 4 else 0


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("ascii", "replace")
