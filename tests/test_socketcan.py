"""SocketCAN's receive path on loopback datagrams: the same bytes, stamps and drop counts as a CAN socket gives."""

import errno
import re
import socket
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import BIT_RATE_SWITCH, EXTENDED, FD, REMOTE
from agent.clock import NS_PER_S, monotonic_ns
from agent.errors import ConfigError, DriverError
from drivers.can import socket_kernel as kernel
from drivers.can.link import link_of, parse_link
from drivers.can.outgoing import Service, request
from drivers.can.socketcan import SocketCan, can_socket, packed_filter
from drivers.can.stamps import NO_STAMP, WallStamps, settle
from drivers.can.wire import CanSettings
from drivers.decode.profile import IdFilter
from tests.can_peers import CAN_FRAME, Datagrams, can_frame, canfd_frame

MS = 1_000_000
ERROR_FLAG = 0x20000000


@pytest.fixture
def datagrams():
    made = Datagrams()
    yield made
    made.close()


@pytest.fixture
def wire(datagrams):
    made = SocketCan(CanSettings(window_s=0.001), lambda name, filters: datagrams.inner.dup())
    made.open([])
    yield made
    made.close()


def all_frames(wire, enough):
    rows, deadline_ns = [], monotonic_ns() + 5 * NS_PER_S
    while len(rows) < enough and monotonic_ns() < deadline_ns:
        f = wire.read(0.05)
        rows += [
            (t, i, g, d[:n].tobytes())
            for t, i, g, n, d in zip(f.t.tolist(), f.id.tolist(), f.flags.tolist(), f.len.tolist(), f.data, strict=True)
        ]
        assert not any(d[n:].any() for n, d in zip(f.len.tolist(), f.data, strict=True))
    return rows


def test_frames_of_every_kind_come_out_as_they_went_in(wire, datagrams):
    long = bytes(range(64))
    before_ns = monotonic_ns()
    datagrams.put(
        can_frame(0x123, b"\x01\x02\x03"),
        can_frame(0x18DAF110, bytes(8)),
        can_frame(0x7FF, b"", 0x40000000),
        canfd_frame(0x100, long, 1),
        can_frame(0x5, b"\xff" * 8),
    )
    rows = all_frames(wire, 5)
    assert [r[1:] for r in rows] == [
        (0x123, 0, b"\x01\x02\x03"),
        (0x18DAF110, EXTENDED, bytes(8)),
        (0x7FF, REMOTE, b""),
        (0x100, FD | BIT_RATE_SWITCH, long),
        (0x5, 0, b"\xff" * 8),
    ]
    times = [r[0] for r in rows]
    assert times == sorted(times)
    assert before_ns - MS <= times[0] <= times[-1] <= monotonic_ns()


def test_error_frames_are_counted_by_kind_and_not_given_out(wire, datagrams):
    datagrams.put(
        CAN_FRAME.pack(ERROR_FLAG | 0x04, 8, b"\0\x11\0\0\0\0\0\0"),  # controller: receive overflow, receive passive
        CAN_FRAME.pack(ERROR_FLAG | 0x88, 8, bytes(8)),
        can_frame(0x10, b"\x01"),
    )
    assert [r[1] for r in all_frames(wire, 1)] == [0x10]
    counted = {k: v for k, v in wire.counts.items() if v}
    assert counted == {
        "error_controller": 1,
        "error_fifo_overflow": 1,
        "error_rx_passive": 1,
        "error_protocol": 1,
        "error_bus_error": 1,
    }


def test_bus_off_hands_over_what_came_before_and_then_says_what_to_do(wire, datagrams):
    datagrams.put(can_frame(0x10, b"\x01"), CAN_FRAME.pack(ERROR_FLAG | 0x40, 8, bytes(8)))
    assert [r[1] for r in all_frames(wire, 1)] == [0x10]
    with pytest.raises(DriverError, match=r"bus-off.*restart-ms"):
        wire.read(0.05)
    wire.open([])
    datagrams.put(CAN_FRAME.pack(ERROR_FLAG | 0x140, 8, bytes(8)), can_frame(0x11, b""))
    assert [r[1] for r in all_frames(wire, 1)] == [0x11]  # bus-off and restarted: the controller came back by itself
    assert wire.counts["error_bus_off"] == 2


def test_what_is_no_frame_is_counted(wire, datagrams):
    datagrams.put(b"", b"x", bytes(15), bytes(200), CAN_FRAME.pack(1, 9, bytes(8)), can_frame(2, b"\x01"))
    assert [r[1] for r in all_frames(wire, 1)] == [2]
    assert wire.counts["garbage"] == 5


def test_what_the_kernels_queue_lost_is_counted_over_reopening(datagrams):
    wire = SocketCan(CanSettings(), lambda name, filters: datagrams.inner.dup())
    lost = []
    for _ in range(2):
        wire.open([])
        wire._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        datagrams.put(*[can_frame(1, bytes(8))] * 200)
        got = len(wire.read(0.05).t)
        datagrams.put(can_frame(2, b""))  # brings the count of what was lost before it
        got += len(wire.read(0.5).t)
        lost.append(wire.counts["lost_in_queue"])
        assert 0 < got < 201
        wire.close()
        assert wire.counts["lost_in_queue"] == lost[-1]
    assert 0 < lost[0] < lost[1]


def test_more_frames_than_one_call_takes_all_come_in_order(wire, datagrams):
    datagrams.put(*[can_frame(k % 0x800, struct.pack("<I", k)) for k in range(3000)])
    assert [struct.unpack("<I", r[3])[0] for r in all_frames(wire, 3000)] == list(range(3000))


def test_sending_needs_permission_and_puts_one_frame_on_the_bus(wire, datagrams):
    asking = request(Service.CURRENT, b"\x0d")
    with pytest.raises(ConfigError, match="transmit = true"):
        wire.send(asking)
    allowed = SocketCan(CanSettings(transmit=True), lambda name, filters: datagrams.inner.dup())
    allowed.open([])
    assert abs(monotonic_ns() - allowed.send(asking)) < 20 * NS_PER_S
    assert datagrams.outer.recv(72) == can_frame(0x7DF, b"\x02\x01\x0d\x55\x55\x55\x55\x55")
    allowed.close()


def test_closing_ends_a_wait_and_reading_a_closed_wire_is_an_error(wire):
    wire.close()
    wire.close()
    with pytest.raises(DriverError, match="is not open"):
        wire.read(0.01)


def test_a_missing_interface_is_one_sentence():
    wire = SocketCan(CanSettings(channel="nocan7"))
    with pytest.raises(DriverError, match=r"socketcan:nocan7: cannot open: .*(unplugged|modprobe)"):
        wire.open([])


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENETDOWN, "the interface is down; bring it up with `ip link set can7 up`"),
        (errno.ENODEV, "is the adapter unplugged"),
        (errno.ENOBUFS, "nobody on the bus acknowledges"),
    ],
)
def test_what_the_kernel_refuses_is_told_with_what_to_do(number, words):
    class Refusing(socket.socket):
        def __init__(self, *_):
            raise OSError(number, "x")

    wire = SocketCan(CanSettings(channel="can7"), Refusing)
    with pytest.raises(DriverError, match=re.escape(words)):
        wire.open([])


def test_filters_are_written_so_that_exact_ids_are_looked_up_in_a_table():
    assert packed_filter(IdFilter(0x123, 0x7FF, False)) == struct.pack("=II", 0x123, 0xC00007FF)
    assert packed_filter(IdFilter(0x18FEF100, 0x03FFFF00, True)) == struct.pack("=II", 0x80FEF100, 0xC3FFFF00)


def test_a_real_virtual_interface_filters_in_the_kernel():
    try:
        socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW).close()
    except OSError:
        pytest.skip("this kernel has no PF_CAN; the kernel bench runs this")
    if link_of("vcan0") is None:
        pytest.skip("no interface vcan0; create it with `ip link add vcan0 type vcan && ip link set vcan0 up`")
    wire = SocketCan(CanSettings(channel="vcan0", window_s=0.001))
    wire.open([IdFilter(0x100, 0x7FF, False)])
    with can_socket("vcan0", []) as other:
        other.send(can_frame(0x101, b"\x01"))
        other.send(can_frame(0x100, b"\x02"))
        assert [r[1] for r in all_frames(wire, 1)] == [0x100]
    wire.close()


# --- what the kernel says of an interface


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def newlink(can: bytes, *, flags: int = 1, kind: bytes = b"can\0", counted: bytes = b"") -> bytes:
    body = struct.pack("=BxHiII", 0, 280, 3, flags, 0) + attribute(3, b"can0\0") + attribute(4, struct.pack("=I", 16))
    body += attribute(18 | 0x8000, attribute(1, kind) + attribute(2, can) + attribute(3, counted))
    return struct.pack("=IHHII", 16 + len(body), 16, 0, 1, 0) + body


def test_bit_rate_listen_only_and_state_are_read_from_the_kernels_message():
    timing = attribute(1, struct.pack("=8I", 500_000, 875, 125, 6, 7, 2, 1, 4))
    listen = attribute(5, struct.pack("=II", 2, 2))
    link = parse_link(newlink(timing + listen + attribute(4, struct.pack("=I", 3)) + attribute(6, b"\x64\0\0\0")))
    assert link is not None
    assert (link.name, link.kind, link.up, link.mtu) == ("can0", "can", True, 16)
    assert (link.bit_rate, link.listen_only, link.state, link.restart_ms) == (500_000, True, "bus-off", 100)
    normal = parse_link(newlink(timing + attribute(5, struct.pack("=II", 2, 0)), flags=0))
    assert (normal.listen_only, normal.up, normal.restart_ms) == (False, False, 0)
    virtual = parse_link(newlink(b"", kind=b"vcan\0"))
    assert (virtual.kind, virtual.bit_rate, virtual.listen_only) == ("vcan", None, None)


def test_a_controllers_error_counters_are_read_where_it_has_them():
    counted = struct.pack("=6I", 41, 3, 2, 1, 7, 5)
    link = parse_link(newlink(attribute(8, struct.pack("=HH", 128, 96)), counted=counted))
    assert (link.sent_errors, link.received_errors) == (128, 96)
    assert (link.happened["bus_error"], link.happened["bus_off"], link.happened["restarts"]) == (41, 1, 5)
    silent = parse_link(newlink(b""))
    assert (silent.sent_errors, silent.happened) == (None, {})


def test_the_loopback_interface_is_no_can_and_a_missing_one_is_none():
    link = link_of("lo")
    assert link is not None
    assert (link.name, link.bit_rate, link.listen_only) == ("lo", None, None)
    assert link_of("nocan7") is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_damaged_messages_of_the_kernel_raise_nothing(noise):
    parse_link(noise)
    whole = newlink(attribute(4, b"\x01\0\0\0"))
    parse_link(whole[:32] + noise)
    parse_link(whole[: len(noise)])


def test_an_interface_that_acknowledges_or_has_no_bit_rate_is_reported(monkeypatch, datagrams):
    timing = attribute(1, struct.pack("=8I", 250_000, *[0] * 7))
    flags = {"unset": 0}  # the kernel lets no controller up without its bit rate
    states = {
        "normal": timing + attribute(5, struct.pack("=II", 2, 0)),
        "listening": timing + attribute(5, struct.pack("=II", 2, 2)),
        "unset": b"",
        "slcand": b"",  # sets the rate in the adapter, past the kernel (Linux 6.0 and later call it "can", too)
        "off": timing + attribute(4, struct.pack("=I", 3)),
    }
    monkeypatch.setattr(
        "drivers.can.socketcan.link_of", lambda name: parse_link(newlink(states[name], flags=flags.get(name, 1)))
    )

    def opened(name: str, transmit: bool = False) -> SocketCan:
        wire = SocketCan(CanSettings(channel=name, transmit=transmit), lambda *_: datagrams.inner.dup())
        wire.open([])
        wire.close()
        return wire

    assert "not listen-only" in opened("normal").notes[0]
    assert opened("normal").bit_rate == 250_000
    assert opened("listening").notes == []
    assert "cannot be sent" in opened("listening", transmit=True).notes[0]
    with pytest.raises(DriverError, match="no bit rate is set; try `ip link set unset up type can bitrate"):
        opened("unset")
    assert opened("slcand").bit_rate is None
    with pytest.raises(DriverError, match="bus-off"):
        opened("off")


# --- time


def test_a_clock_step_moves_no_frame():
    for step_ns in (-20 * 365 * 86_400 * NS_PER_S, -3 * NS_PER_S, 3 * NS_PER_S, 20 * 365 * 86_400 * NS_PER_S):
        stamps, utc = WallStamps(), 1_700_000_000 * NS_PER_S
        true = np.arange(0, 30, dtype=np.int64) * MS
        first, second, third = true[:10] + utc, true[10:20] + utc, true[20:] + utc + step_ns
        second[5:] += step_ns  # the clock is set while a batch is collected
        stamps.settle_at(first, utc, 10 * MS)
        stamps.settle_at(second, utc + step_ns, 20 * MS)
        stamps.settle_at(third, utc + step_ns, 30 * MS)
        assert np.concatenate([first, second, third]).tolist() == true.tolist()
        assert (stamps.clock_steps, stamps.clamped) == (1, 0)


def test_a_frame_after_a_long_silence_keeps_its_time_though_the_clock_was_set_meanwhile():
    stamps, utc = WallStamps(), 1_700_000_000 * NS_PER_S
    early = np.array([utc], np.int64)
    stamps.settle_at(early, utc, MS)
    late = np.array([utc + 60 * NS_PER_S + 500 * MS], np.int64)
    stamps.settle_at(late, utc + 500 * MS, 60 * NS_PER_S + 10 * MS)
    assert late.tolist() == [60 * NS_PER_S]


def test_stamps_that_cannot_be_are_replaced_by_the_time_of_reading_and_counted():
    stamps = WallStamps()
    t = np.array([5 * MS, NO_STAMP, 900 * MS, 2 * MS], np.int64)
    stamps.settle_at(t, 0, 10 * MS)
    assert t.tolist() == [5 * MS, 10 * MS, 10 * MS, 10 * MS]
    assert stamps.clamped == 2


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(-1, 10**15), max_size=20), *[st.integers(0, 10**15)] * 3)
def test_the_stamping_kernel_equals_its_python_self_and_never_goes_back(walls, before, after, now):
    results = []
    for run in (settle, settle.py_func):
        t, state = np.array(walls, np.int64), np.array([1000, 0], np.int64)
        run(t, before, after, now, state)
        results.append((t.tolist(), state.tolist()))
    assert results[0] == results[1]
    assert results[0][0] == sorted(results[0][0])


# --- the kernel that unpacks


received = st.tuples(
    st.binary(min_size=72, max_size=72),
    st.sampled_from([0, 8, 16, 40, 72]),
    st.binary(min_size=64, max_size=64),
    st.integers(0, 64),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(received, max_size=12))
def test_the_unpacking_kernel_equals_its_python_self_on_any_memory(messages):
    results = []
    for run in (kernel.unpack, kernel.unpack.py_func):
        n = len(messages)
        headers, controls = np.zeros((n, 8), np.uint64), np.zeros((n, 8), np.uint64)
        buffers = np.zeros((n, 72), np.uint8)
        for i, (raw, size, control, used) in enumerate(messages):
            buffers[i] = np.frombuffer(raw, np.uint8)
            controls[i] = np.frombuffer(control, np.uint64)
            headers[i, kernel.MSG_LEN], headers[i, kernel.CONTROLLEN] = size, used
        out = (np.zeros(n, np.int64), np.zeros(n, np.uint32), np.zeros(n, np.uint8), np.zeros(n, np.uint8))
        data, state = np.zeros((n, 64), np.uint8), np.zeros(4, np.int64)
        errors = np.zeros(len(kernel.ERROR_NAMES), np.int64)
        with np.errstate(over="ignore"):
            got = run(headers, buffers, buffers.view(np.uint32), controls, n, 0, state, errors, *out, data)
        results.append((got, state.tolist(), errors.tolist(), *(a[:got].tobytes() for a in (*out, data))))
    assert results[0] == results[1]
