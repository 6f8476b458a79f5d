"""slcan: text of adapters in any pieces becomes the same frames; the set-up dialogue; finding the bit rate."""

import os
import pty
import select
import threading
import tty
from itertools import pairwise

import can
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import BIT_RATE_SWITCH, EXTENDED, FD, REMOTE
from agent.clock import NS_PER_S, monotonic_ns
from agent.errors import ConfigError, DriverError
from drivers.can import slcan as slcan_module
from drivers.can import slcan_kernel as kernel
from drivers.can.outgoing import Service, request
from drivers.can.slcan import Slcan
from drivers.can.wire import CanSettings
from tests.can_peers import Adapter

MS = 1_000_000
ROOM = 64


class Parser:
    """The kernel with its state and outputs, as the wire uses it."""

    def __init__(self, run=kernel.parse) -> None:
        self.run = run
        self.line, self.state = np.zeros(kernel.LONGEST, np.uint8), np.zeros(8, np.int64)
        self.out = (np.zeros(ROOM, np.int64), np.zeros(ROOM, np.int64), np.zeros(ROOM, np.uint32))
        self.out += (np.zeros(ROOM, np.uint8), np.zeros(ROOM, np.uint8), np.zeros((ROOM, 64), np.uint8))

    def feed(self, text: bytes) -> list[tuple[int, int, bytes, int]]:
        """Return (id, flags, data, tick) of each frame."""
        raw, at, rows = np.frombuffer(text, np.uint8).copy(), 0, []
        while at < len(raw):
            at = self.run(raw, at, len(raw), self.line, self.state, *self.out)
            _, ticks, ident, flags, length, data = self.out
            for k in range(int(self.state[kernel.FRAMES])):
                assert not data[k, length[k] :].any()
                rows.append((int(ident[k]), int(flags[k]), data[k, : length[k]].tobytes(), int(ticks[k])))
        return rows


@pytest.mark.parametrize(
    ("line", "frame"),
    [
        (b"t1232AbCd\r", (0x123, 0, b"\xab\xcd", -1)),
        (b"t0000\r", (0, 0, b"", -1)),
        (b"T18DAF1108" + b"00FF" * 4 + b"\r", (0x18DAF110, EXTENDED, b"\x00\xff" * 4, -1)),
        (b"r7FF8\r", (0x7FF, REMOTE, b"", -1)),
        (b"R1FFFFFFF0\r", (0x1FFFFFFF, REMOTE | EXTENDED, b"", -1)),
        (b"d1009" + b"0102" * 6 + b"\r", (0x100, FD, b"\x01\x02" * 6, -1)),
        (b"B00000100F" + b"11" * 64 + b"\r", (0x100, FD | BIT_RATE_SWITCH | EXTENDED, b"\x11" * 64, -1)),
        (b"t123101EA5F\r", (0x123, 0, b"\x01", 59_999)),
        (b"r123803E8\r", (0x123, REMOTE, b"", 1000)),
    ],
)
def test_each_kind_of_line_is_a_frame(line, frame):
    parser = Parser()
    assert parser.feed(line) == [frame]
    assert parser.state[kernel.GARBAGE] == 0


@pytest.mark.parametrize(
    "line",
    [b"t8001FF\r", b"t1239" + b"00" * 9 + b"\r", b"t1232AB\r", b"t1232ABCDE\r", b"t12G0\r", b"tZZ\r", b"t123101EA60\r",
     b"T200000000\r", b"hello\r", b"FZZ\r", b"t1232AB\a", b"t" * 300 + b"\r", b"\x00\xff\r"],
)  # fmt: skip
def test_what_is_no_line_is_counted_and_the_next_frame_is_read(line):
    parser = Parser()
    assert parser.feed(line + b"t1230\r") == [(0x123, 0, b"", -1)]
    assert parser.state[kernel.GARBAGE] == 1


def test_replies_are_told_from_frames():
    parser = Parser()
    assert parser.feed(b"\rz\rZ\r\aF04\rV1013\rNA123\r\n\r") == []
    state = parser.state
    assert (state[kernel.TAKEN], state[kernel.REFUSED], state[kernel.STATUS], state[kernel.GARBAGE]) == (4, 1, 4, 0)


pieces = st.one_of(
    st.builds(lambda i, d: f"t{i:03X}{len(d)}{d.hex()}\r".encode(), st.integers(0, 0x7FF), st.binary(max_size=8)),
    st.builds(
        lambda i, d: f"T{i:08X}{len(d)}{d.hex()}1234\r".encode(), st.integers(0, 2**29 - 1), st.binary(max_size=8)
    ),
    st.sampled_from([b"\r", b"\a", b"z\r", b"r1238\r", b"d10F9\r", b"F00\r"]),
    st.binary(max_size=12),
    st.text("tTrRdDbBF0123456789\r\a", max_size=30).map(str.encode),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(pieces, max_size=12).map(b"".join), st.lists(st.integers(0, 300), max_size=4))
def test_any_split_of_the_text_gives_the_same_frames_and_counts(text, at):
    whole, split = Parser(), Parser()
    cuts = [0, *sorted(min(a, len(text)) for a in at), len(text)]
    rows = [row for a, b in pairwise(cuts) for row in split.feed(text[a:b])]
    assert rows == whole.feed(text)
    assert split.state[: kernel.FRAMES].tolist() == whole.state[: kernel.FRAMES].tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(pieces, max_size=8).map(b"".join))
def test_the_parsing_kernel_equals_its_python_self(text):
    fast, slow = Parser(), Parser(kernel.parse.py_func)
    assert fast.feed(text) == slow.feed(text)
    assert fast.state.tolist() == slow.state.tolist()


# --- time


def stamped(ends, ticks, size, since, now, state=None, run=kernel.stamp):
    t, state = np.array(ends, np.int64), np.zeros(5, np.int64) if state is None else state
    run(t, np.array(ticks, np.int64), size, since, now, state)
    return t.tolist(), state


def test_without_ticks_frames_are_spread_over_the_time_in_which_their_bytes_came():
    assert stamped([25, 50, 100], [-1] * 3, 100, 1000, 2000)[0] == [1250, 1500, 2000]


def test_the_adapters_ticks_give_the_distances_through_their_wrap_and_a_silence():
    t, state = stamped([10, 20, 30], [59_990, 59_995, 2], 30, 0, 1000 * MS)
    assert t == [988 * MS, 993 * MS, 1000 * MS]
    t, state = stamped([10, 20], [12, 22], 20, 1000 * MS, 1030 * MS, state)  # the line held these back by 10 ms
    assert [round(x / MS) for x in t] == [1010, 1020]
    silence = 200_000 * MS  # more than three wraps, which nobody saw
    t, state = stamped([10], [22], 10, silence, silence + 5 * MS, state)
    assert t == [silence + 5 * MS]


def test_an_adapter_whose_clock_begins_anew_is_followed():
    _, state = stamped([10], [20_000], 10, 0, 1000 * MS)
    t, state = stamped([10, 20], [3, 8], 20, 2000 * MS, 2010 * MS, state)
    assert t == [2005 * MS, 2010 * MS]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 100), st.integers(-1, 59_999)), max_size=10),
    st.integers(0, 10**12),
    st.integers(0, 10**9),
)
def test_the_stamping_kernel_equals_its_python_self_and_never_goes_back(frames, since, took):
    ends, ticks = sorted(e for e, _ in frames), [k for _, k in frames]
    results = []
    for run in (kernel.stamp, kernel.stamp.py_func):
        t, state = stamped(ends, ticks, 100, since, since + took, run=run)
        again, state = stamped(ends, ticks, 100, since + took, since + 2 * took, state, run=run)
        results.append((t, again, state.tolist()))
    assert results[0] == results[1]
    assert results[0][0] + results[0][1] == sorted(results[0][0] + results[0][1])
    assert all(x <= since + 2 * took for x in results[0][1])


# --- the wire


@pytest.fixture
def adapters():
    made = []

    def make(**how):
        made.append(Adapter(**how))
        return made[-1]

    yield make
    for adapter in made:
        adapter.close()


def wire_to(adapter, **settings_) -> Slcan:
    return Slcan(CanSettings("slcan", adapter.path, **{"bit_rate": 500_000, "window_s": 0.001, **settings_}))


def read_ids(wire, enough):
    found, deadline_ns = [], monotonic_ns() + 30 * NS_PER_S
    while len(found) < enough and monotonic_ns() < deadline_ns:
        found += wire.read(0.05).id.tolist()
    return found


def test_the_dialogue_sets_rate_and_stamps_and_only_listens(adapters):
    adapter = adapters()
    wire = wire_to(adapter)
    wire.open([])
    assert [c for c in adapter.said if c] == [b"C", b"S6", b"Z1", b"L"]
    adapter.frame(0x123, b"\x01\x02")
    adapter.frame(0x18DAF110, b"\x03")
    assert read_ids(wire, 2) == [0x123, 0x18DAF110]
    with pytest.raises(ConfigError, match="transmit = true"):
        wire.send(request(Service.CURRENT, b"\x0d"))
    wire.close()
    wire.close()
    assert not any(c[:1] in (b"O", b"t", b"T") for c in adapter.said if c)


def test_sending_opens_the_bus_and_writes_a_frame(adapters):
    heard = []
    adapter = adapters(hear=lambda i, d: heard.append((i, d)) or [(0x7E8, b"\x03\x41\x0d\x32")])
    wire = wire_to(adapter, transmit=True)
    wire.open([])
    assert b"O" in adapter.said
    wire.send(request(Service.CURRENT, b"\x0d"))
    assert read_ids(wire, 1) == [0x7E8]
    wire.send(request(Service.CURRENT, b"\x0d", extended=True))
    assert read_ids(wire, 1) == [0x7E8]
    assert [i for i, _ in heard] == [0x7DF, 0x18DB33F1]
    wire.close()


def test_an_adapter_that_cannot_only_listen_is_refused_rather_than_let_onto_the_bus(adapters):
    adapter = adapters(refuses=b"L")
    with pytest.raises(DriverError, match="cannot listen only"):
        wire_to(adapter).open([])
    assert b"O" not in adapter.said


def test_an_adapter_without_stamps_is_fine_and_one_without_the_rate_is_not(adapters):
    plain = wire_to(adapters(refuses=b"Z"))
    plain.open([])
    plain.close()
    with pytest.raises(DriverError, match="refuses 500000 bit/s"):
        wire_to(adapters(refuses=b"S")).open([])
    with pytest.raises(DriverError, match="none that slcan adapters know"):
        wire_to(adapters(), bit_rate=123).open([])


def test_a_late_refusal_of_what_silenced_it_is_not_taken_for_one_of_the_rate(adapters, monkeypatch):
    monkeypatch.setattr(slcan_module, "BOOT_S", 0.01)
    adapter, said = adapters(), []
    wire = wire_to(adapter)
    silence = wire._silence

    def late():
        silence()
        if not said:
            said.append(b"\a")
            adapter.put(b"\a")

    monkeypatch.setattr(wire, "_silence", late)
    wire.open([])
    wire.close()
    assert said


def test_an_adapter_that_answers_nothing_is_used_and_said_to_be_so(adapters, monkeypatch):
    monkeypatch.setattr(slcan_module, "BOOT_S", 0.01)
    monkeypatch.setattr(slcan_module, "REPLY_S", 0.02)
    adapter = adapters(mute=True)
    wire = wire_to(adapter)
    wire.open([])
    assert "answers no command" in wire.notes[0]
    adapter.frame(0x10, b"")
    assert read_ids(wire, 1) == [0x10]
    wire.close()


def test_the_bit_rate_is_found_by_listening_and_kept(adapters, monkeypatch):
    monkeypatch.setattr(slcan_module, "LISTEN_S", 0.05)
    adapter = adapters(bus_rate=125_000, chatter=b"t1230\r" * 5)
    wire = wire_to(adapter, bit_rate=0, transmit=True)
    wire.open([])
    assert wire.bit_rate == 125_000
    assert wire.notes == ["bit rate 125000 found by listening"]
    modes = [c for c in adapter.said if c in (b"L", b"O")]
    assert modes == [b"L", b"L", b"L", b"O"]  # never acknowledged at a wrong rate
    wire.close()
    tried = len(adapter.said)
    wire.open([])
    assert b"S6" not in adapter.said[tried:]
    wire.close()


def test_a_silent_bus_has_no_bit_rate_and_says_what_to_do(adapters, monkeypatch):
    monkeypatch.setattr(slcan_module, "LISTEN_S", 0.01)
    monkeypatch.setattr(slcan_module, "LIKELY", (500_000, 250_000))
    with pytest.raises(DriverError, match="no frames at any of 500000, 250000 bit/s; switch the ignition on"):
        wire_to(adapters(bus_rate=1), bit_rate=0).open([])


def test_a_line_that_does_not_exist_is_one_sentence():
    with pytest.raises(DriverError, match="cannot open"):
        Slcan(CanSettings("slcan", "/dev/ttyNONE9", bit_rate=500_000)).open([])


def test_a_burst_larger_than_the_outputs_comes_in_several_reads(adapters):
    wire = wire_to(adapters())
    wire.open([])
    burst = b"t1230\r" * 6000
    wire._take = lambda: wire._text.__setitem__(slice(len(burst)), np.frombuffer(burst, np.uint8)) or len(burst)
    wire._since_ns = 0
    first = wire.read(0.05)
    assert len(first.t) == slcan_module.room(8).t.size
    last_ns = int(first.t[-1])
    rest = wire.read(0.05)
    assert len(rest.t) == 6000 - len(slcan_module.room(8).t)
    assert last_ns <= rest.t[0] <= rest.t[-1] <= monotonic_ns()
    del wire._take
    wire.close()


class Crossover:
    """Two serial lines joined back to back, each with a name to open."""

    def __init__(self) -> None:
        self._masters, self._slaves = zip(*(pty.openpty() for _ in range(2)), strict=True)
        for slave in self._slaves:
            tty.setraw(slave)
        self.ends = [os.ttyname(slave) for slave in self._slaves]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        a, b = self._masters
        while not self._stop.is_set():
            for ready in select.select([a, b], [], [], 0.05)[0]:
                os.write(b if ready == a else a, os.read(ready, 4096))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for fd in (*self._masters, *self._slaves):
            os.close(fd)


def test_python_can_and_we_understand_each_other_on_one_line(monkeypatch):
    monkeypatch.setattr(slcan_module, "BOOT_S", 0.01)
    monkeypatch.setattr(slcan_module, "REPLY_S", 0.02)
    line = Crossover()
    wire = Slcan(CanSettings("slcan", line.ends[0], bit_rate=500_000, window_s=0.001, transmit=True))
    wire.open([])
    bus = can.Bus(interface="slcan", channel=line.ends[1], sleep_after_open=0)
    sent = [
        can.Message(arbitration_id=0x123, is_extended_id=False, data=b"\x01\x02"),
        can.Message(arbitration_id=0x18FEF100, data=bytes(8)),
        can.Message(arbitration_id=0x7, is_extended_id=False, is_remote_frame=True, dlc=4),
        can.Message(arbitration_id=0x8, is_extended_id=False, is_fd=True, bitrate_switch=True, data=bytes(range(8))),
    ]
    for message in sent:
        bus.send(message)
    rows = []
    deadline_ns = monotonic_ns() + 5 * NS_PER_S
    while len(rows) < len(sent):
        # a read may give nothing: python-can's own set-up commands come over the line first
        assert monotonic_ns() < deadline_ns, "a frame did not come"
        f = wire.read(0.5)
        rows += [
            (i, g, d[:n].tobytes())
            for i, g, n, d in zip(f.id.tolist(), f.flags.tolist(), f.len.tolist(), f.data, strict=True)
        ]
    assert rows == [
        (0x123, 0, b"\x01\x02"),
        (0x18FEF100, EXTENDED, bytes(8)),
        (0x7, REMOTE, b""),
        (0x8, FD | BIT_RATE_SWITCH, bytes(range(8))),
    ]
    wire.send(request(Service.CURRENT, b"\x0d", unit=0x18DAF110))
    deadline_ns = monotonic_ns() + 5 * NS_PER_S
    while (answer := bus.recv(0.1)) is None:
        assert monotonic_ns() < deadline_ns
    assert (answer.arbitration_id, answer.is_extended_id, bytes(answer.data[:3])) == (0x18DA10F1, True, b"\x02\x01\x0d")
    bus.shutdown()
    wire.close()
    line.close()
