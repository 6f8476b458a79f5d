"""candump text: both forms, every kind of frame, and anything else that a file may hold."""

import bz2
import gzip
import lzma
from pathlib import Path
from unittest.mock import patch

import can
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import BIT_RATE_SWITCH, ERROR, ERROR_STATE, EXTENDED, FD, REMOTE, Frames, empty_frames
from agent.errors import RecordingError
from drivers.recording import Recording, open_recording
from drivers.recording import candump as reader
from drivers.recording import candump_kernel as kernel
from drivers.recording.batch import join, widen

DATA = Path(__file__).parents[1].parent / "shared" / "data" / "can"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/can is absent")


def written(tmp_path: Path, text: bytes | str, name: str = "drive.log") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def read(path: Path) -> tuple[Recording, Frames]:
    recording = open_recording(path)
    batches = [b for b in recording.batches() if isinstance(b, Frames)]
    return recording, join([widen(b, 64) for b in batches]) if batches else empty_frames(0, 64)


def payload(frames: Frames, k: int) -> bytes:
    return bytes(frames.data[k, : frames.len[k]])


def test_log_form_gives_every_kind_of_frame(tmp_path: Path) -> None:
    text = (
        "(1627274455.012500) can0 7E8#03412F8C00000000\n"
        "(1627274455.023950) can1 17F00010#20ff\r\n"
        "(1627274455.023951) can0 123##3AABBCCDDEEFF00112233\n"
        "(1627274455.023952) can0 124#R\n"
        "(1627274455.023953) can0 00000125#R8\n"
        "(1627274455.023954) can0 20000080#0000000000000000\n"
        "(1627274455.023955) can0 126# T\n"
        "(1627274455.023956) can0 127#11.22.33 R\n"
        "(1627274455.023957) can0 128#1122334455667788_E\n"
    )
    recording, frames = read(written(tmp_path, text))
    assert recording.buses == ["can0", "can1"]
    assert recording.start_utc_ns == 1_627_274_455_012_500_000
    assert frames.t.tolist()[:3] == [0, 11_450_000, 11_451_000]
    assert frames.bus.tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert frames.id.tolist() == [0x7E8, 0x17F00010, 0x123, 0x124, 0x125, 0x80, 0x126, 0x127, 0x128]
    assert frames.flags.tolist() == [
        0, EXTENDED, FD | BIT_RATE_SWITCH | ERROR_STATE, REMOTE, REMOTE | EXTENDED, ERROR, 0, 0, 0
    ]  # fmt: skip
    assert [payload(frames, k).hex() for k in range(9)] == [
        "03412f8c00000000", "20ff", "aabbccddeeff00112233", "", "", "0000000000000000", "", "112233", "1122334455667788"
    ]  # fmt: skip
    counts = recording.counts
    assert (counts.frames, counts.error_frames, counts.remote_frames, counts.bad_lines) == (9, 1, 2, 0)
    assert recording.problems == []


def test_console_form_with_delta_times_adds_them_up(tmp_path: Path) -> None:
    text = (
        " (000.000000)  can0  7E8   [8]  03 41 2F 8C 00 00 00 00\n"
        " (000.000230)  can0  123   [0] \n"
        " (000.000100)  can0  12345678   [2]  AA bb\n"
        " (000.000100)  can0  123  [12]  00 11 22 33 44 55 66 77 88 99 AA BB\n"
        " (000.500000)  can0  124   [0]  remote request\n"
        " (000.000001)  can0  20000004   [8]  00 01 00 00 00 00 00 00   ERRORFRAME\n"
        " (000.000001)  can0  TX B E  125  [02]  01 02   '..'\n"
    )
    recording, frames = read(written(tmp_path, text))
    assert frames.t.tolist() == [0, 230_000, 330_000, 430_000, 500_430_000, 500_431_000, 500_432_000]
    assert frames.flags.tolist() == [0, 0, EXTENDED, FD, REMOTE, ERROR, FD | BIT_RATE_SWITCH | ERROR_STATE]
    assert payload(frames, 3).hex() == "00112233445566778899aabb"
    assert payload(frames, 6).hex() == "0102"
    assert recording.start_utc_ns is None
    assert recording.counts.bad_lines == 0


@pytest.mark.parametrize("seconds", ["1627274455.{:06d}", "{:03d}.000000"])
def test_console_form_with_absolute_or_zero_based_times_keeps_them(tmp_path: Path, seconds: str) -> None:
    text = "".join(f" ({seconds.format(k)})  can0  7E8   [1]  0{k}\n" for k in range(5))
    recording, frames = read(written(tmp_path, text))
    step = 1000 if seconds.startswith("16") else 1_000_000_000
    assert frames.t.tolist() == [k * step for k in range(5)]
    assert (recording.start_utc_ns is None) == (step > 1000)


def test_lines_without_times_say_how_to_record_them(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="candump -L"):
        open_recording(written(tmp_path, "  can0  7E8   [3]  03 41 2F\n"))


def test_bad_lines_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    good = "(1.000000) can0 123#00\n"
    bad = [
        "garbage", "(1.0 can0 123#00", "() can0 123#00", "(1.0)can0 123#00", "(1.0) can0", "(1.0) can0 123",
        "(1.0) can0 123#0", "(1.0) can0 123#001122334455667788", "(1.0) can0 FFF#00", "(1.0) can0 123456789#00",
        "(1.0) can0 123#00 x", "(1.0) can0 123##", "(1.0) can0 123##0" + "00" * 65, "(99999999999.0) can0 123#00",
        "(1.0) can0 123 [9] 00", "(1.0) can0 123 [2] 00", "(1.0) " + "x" * 33 + " 123#00", "\u00fc\u4e2d",
        "(1.0) can0 123#\x00",
    ]  # fmt: skip
    path = written(tmp_path, good + "\n".join(bad) + "\n\n  \n" + good)
    recording, frames = read(path)
    assert len(frames.t) == 2
    assert recording.counts.bad_lines == len(bad)
    assert recording.problems == [f"line 2: not a candump line ({len(bad) - 1} more)"]
    assert not recording.counts.truncated


def test_a_line_that_is_too_long_is_one_bad_line(tmp_path: Path) -> None:
    good = b"(1.000000) can0 123#00\n"
    recording, frames = read(written(tmp_path, good + b"x" * 3_000_000 + b"\n" + good + b" " * 5000 + b"\n" + good))
    assert len(frames.t) == 3
    assert recording.counts.bad_lines == 2


def test_zero_bytes_of_a_power_cut_do_not_hide_the_lines_after_them(tmp_path: Path) -> None:
    good = b"(1.000000) can0 123#00\n"
    recording, frames = read(written(tmp_path, good + b"\0" * 70_000 + good))
    assert len(frames.t) == 2
    assert "70000 zero bytes" in recording.problems[0]


def test_a_last_line_that_is_cut_off_is_truncation(tmp_path: Path) -> None:
    recording, frames = read(written(tmp_path, "(1.000000) can0 123#00\n(1.000001) can0 12"))
    assert len(frames.t) == 1
    assert recording.counts.truncated


def test_a_last_line_without_newline_is_read(tmp_path: Path) -> None:
    recording, frames = read(written(tmp_path, "(1.000000) can0 123#00\n(1.000001) can0 124#01"))
    assert frames.id.tolist() == [0x123, 0x124]
    assert not recording.counts.truncated


COMPRESSORS = {
    "xz": lzma.compress,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "zst": zstandard.ZstdCompressor().compress,
}
MANY = b"".join(b"(%d.%06d) can%d %03X#%016X\n" % (k // 1000, k % 1000, k % 2, k % 2048, k * 77) for k in range(60_000))


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_compressed_text_is_read_whole_and_in_parts(tmp_path: Path, suffix: str) -> None:
    packed = COMPRESSORS[suffix](MANY)
    recording, whole = read(written(tmp_path, packed, f"whole.log.{suffix}"))
    assert len(whole.t) == 60_000
    assert recording.problems == []
    _, twice = read(written(tmp_path, packed + packed, f"twice.log.{suffix}"))
    assert len(twice.t) == 120_000
    recording, part = read(written(tmp_path, packed[: len(packed) * 2 // 3], f"part.log.{suffix}"))
    assert recording.counts.truncated
    assert "what was read before it is used" in recording.problems[-1] or "cut off" in recording.problems[-1]
    assert 0 < len(part.t) < 60_000
    assert np.array_equal(part.data, whole.data[: len(part.t)])


def test_more_buses_than_the_table_holds_are_bad_lines(tmp_path: Path) -> None:
    recording, frames = read(written(tmp_path, "".join(f"(1.0) can{k} 123#00\n" for k in range(300))))
    assert len(recording.buses) == 250
    assert len(frames.t) + recording.counts.bad_lines == 300


CLASSIC = st.builds(
    lambda t, ext, ident, data, remote, channel: can.Message(
        timestamp=t / 1e6, is_extended_id=ext, arbitration_id=ident if ext else ident & 0x7FF, channel=channel,
        data=b"" if remote else data, is_remote_frame=remote,
    ),
    st.integers(0, 4_000_000_000_000_000), st.booleans(), st.integers(0, 0x1FFFFFFF), st.binary(max_size=8),
    st.booleans(), st.sampled_from(["can0", "can1", "vcan7"]),
)  # fmt: skip
FAST = st.builds(
    lambda t, ident, data, brs, esi: can.Message(
        timestamp=t / 1e6, is_extended_id=ident > 0x7FF, arbitration_id=ident, channel="can0", is_fd=True,
        data=data, bitrate_switch=brs, error_state_indicator=esi,
    ),
    st.integers(0, 4_000_000_000_000_000), st.integers(0, 0x1FFFFFFF),
    st.sampled_from([0, 1, 8, 12, 16, 20, 24, 32, 48, 64]).flatmap(lambda n: st.binary(min_size=n, max_size=n)),
    st.booleans(), st.booleans(),
)  # fmt: skip


def kernel_frames(text: bytes, cuts: list[int], capacity: int = 64) -> tuple[Frames, list[int], list[bytes]]:
    """Parse `text` as it comes in pieces, as the reader does; return frames, state and bus names."""
    state = np.zeros(kernel.STATE, np.int64)
    names = np.zeros((250, kernel.NAME), np.uint8)
    lengths = np.zeros(250, np.uint8)
    parts = []
    bounds = [0, *sorted(min(c, len(text)) for c in cuts), len(text), len(text)]
    begin, width = 0, 8
    for k, stop in enumerate(bounds[1:]):
        last = k == len(bounds) - 2
        buffer = np.frombuffer(text[begin:stop] + b"\n" * kernel.GUARD, np.uint8).copy()
        at = 0
        while True:
            batch = empty_frames(capacity, width)
            at = kernel.parse(buffer, at, stop - begin, last, state, names, lengths, *batch)
            n = int(state[kernel.FRAMES])
            parts.append(widen(Frames(*[column[:n] for column in batch]), 64))
            if state[kernel.WIDE]:
                width = 64
            elif n < capacity:
                break
        begin += at
    return join(parts), state.tolist(), [bytes(names[k, : lengths[k]]) for k in range(int(state[kernel.N_BUSES]))]


def same(a: Frames, b: Frames) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


LINES = st.lists(
    st.one_of(
        st.sampled_from(MANY.split(b"\n")[:50]),
        st.sampled_from([b"", b"\0\0", b"(1.5) can0 123##1" + b"AB" * 64, b"\r", b"y" * 5000]),
        st.just(b" (0.1)  can0  123   [3]  01 02 03"),
        st.binary(max_size=60),
        st.text("()0123456789ABCDEFabcdefRT#.[] \t\r_can'", max_size=50).map(str.encode),
    ),
    max_size=30,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(lines=LINES, cuts=st.lists(st.integers(0, 3000), max_size=8))
def test_any_split_of_any_bytes_gives_the_same_frames(lines: list[bytes], cuts: list[int]) -> None:
    text = b"\n".join(lines)
    whole, state, names = kernel_frames(text, [])
    parts, part_state, part_names = kernel_frames(text, cuts, capacity=3)
    assert same(whole, parts)
    assert names == part_names
    assert state[: kernel.NULS + 1] == part_state[: kernel.NULS + 1]
    assert np.all(whole.data[np.arange(64)[None, :] >= whole.len[:, None]] == 0)


@settings(max_examples=60, deadline=None)
@given(lines=LINES)
def test_the_kernel_equals_its_python_self(lines: list[bytes]) -> None:
    text = np.frombuffer(b"\n".join(lines) + b"\n" * kernel.GUARD, np.uint8)
    results = []
    for function, given_text in ((kernel.parse, text.copy()), (kernel.parse.py_func, text.astype(np.int64))):
        state = np.zeros(kernel.STATE, np.int64)
        names, lengths = np.zeros((250, kernel.NAME), np.uint8), np.zeros(250, np.uint8)
        batch = empty_frames(64, 64)
        at = function(given_text, 0, len(text) - kernel.GUARD, True, state, names, lengths, *batch)
        results.append((at, state.tolist(), names.tobytes(), [column.tobytes() for column in batch]))
    assert results[0] == results[1]


@settings(max_examples=40, deadline=None)
@given(messages=st.lists(st.one_of(CLASSIC, FAST), min_size=1, max_size=30))
def test_equal_to_python_can_on_what_python_can_writes(
    messages: list[can.Message], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("log") / "x.log"
    messages.sort(key=lambda m: m.timestamp)
    with can.CanutilsLogWriter(str(path)) as writer:
        for message in messages:
            writer.on_message_received(message)
    expected = list(can.CanutilsLogReader(str(path)))
    with patch.object(reader, "_is_delta", return_value=False):
        raw = open_recording(path)
        source = reader.Source(path)
        frames = join([widen(b, 64) for b in raw._raw(source)])
        source.close()
    assert [raw.buses[k] for k in frames.bus] == [m.channel for m in expected]
    assert frames.id.tolist() == [m.arbitration_id for m in expected]
    assert [payload(frames, k) for k in range(len(expected))] == [bytes(m.data) for m in expected]
    assert [(bool(f & EXTENDED), bool(f & FD), bool(f & REMOTE)) for f in frames.flags] == [
        (m.is_extended_id, m.is_fd, m.is_remote_frame) for m in expected
    ]
    assert np.allclose(frames.t / 1e9, [m.timestamp for m in expected], rtol=0, atol=1e-6)


@pytest.mark.data
@needs_data
@pytest.mark.parametrize(("name", "count"), [("trip164/trip164", 292_097), ("rav4/rav4_60s", 98_800)])
def test_equal_to_python_can_on_real_recordings(name: str, count: int) -> None:
    path = DATA / f"{name}.candump.log.xz"
    recording, frames = read(path)
    assert len(frames.t) == count == recording.counts.frames
    with lzma.open(path, "rt") as text:
        expected = list(can.CanutilsLogReader(text))
    assert frames.id.tolist() == [m.arbitration_id for m in expected]
    assert [recording.buses[k] for k in frames.bus] == [m.channel for m in expected]
    assert b"".join(payload(frames, k) for k in range(count)) == b"".join(bytes(m.data) for m in expected)
    origin = expected[0].timestamp
    assert np.allclose(frames.t / 1e9, [m.timestamp - origin for m in expected], rtol=0, atol=1e-6)
    assert recording.problems == []
