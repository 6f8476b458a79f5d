"""ISO-TP: payloads cut into frames come back whole, or not at all."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import ERROR, EXTENDED, REMOTE, Frames
from drivers.decode import isotp

MS = 1_000_000
Row = tuple[int, int, int, bytes]  # t ns, id, flags, data


def frames_of(rows: list[Row], width: int = 64) -> Frames:
    data = np.zeros((len(rows), width), np.uint8)
    for i, (_, _, _, payload) in enumerate(rows):
        data[i, : len(payload)] = np.frombuffer(payload, np.uint8)
    return Frames(
        np.array([r[0] for r in rows], np.int64),
        np.zeros(len(rows), np.uint8),
        np.array([r[1] for r in rows], np.uint32),
        np.array([r[2] for r in rows], np.uint8),
        np.array([len(r[3]) for r in rows], np.uint8),
        data,
    )


def cut(payload: bytes, width: int = 8, pad: int | None = 0xAA) -> list[bytes]:
    """Cut as ISO 15765-2 says; the sender's side, written apart from the receiver's."""
    if len(payload) <= 7:
        frames = [bytes([len(payload)]) + payload]
    elif width > 8 and len(payload) <= width - 2:
        frames = [bytes([0, len(payload)]) + payload]
    else:
        head = bytes([0x10 | len(payload) >> 8, len(payload) & 0xFF])
        frames = [head + payload[: width - 2]]
        rest = payload[width - 2 :]
        for i in range(0, len(rest), width - 1):
            frames.append(bytes([0x20 | (1 + i // (width - 1)) & 15]) + rest[i : i + width - 1])
    if pad is None:
        return frames
    return [f.ljust(8 if len(f) <= 8 else width, bytes([pad])) for f in frames]


def received(reassembler: isotp.Reassembler, frames: Frames) -> list[tuple[int, str, bytes]]:
    return [
        (int(t), isotp.unit_name(int(unit)), m.heap[s : s + n].tobytes())
        for m in reassembler.walk(frames)
        for t, unit, s, n in zip(m.t, m.unit, m.start, m.length, strict=True)
    ]


def payloads(rows: list[Row]) -> list[bytes]:
    return [p for _, _, p in received(isotp.Reassembler(), frames_of(rows))]


def split(frames: Frames, at: list[int]) -> list[Frames]:
    edges = [0, *sorted(min(a, len(frames.t)) for a in at), len(frames.t)]
    return [Frames(*(c[a:b] for c in frames)) for a, b in pairwise(edges)]


units = st.sampled_from([(0x7E8, 0), (0x7E9, 0), (0x7EF, 0), (0x18DAF110, EXTENDED), (0x18DAF1FF, EXTENDED)])
bodies = st.binary(min_size=1, max_size=300)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        units, st.lists(st.tuples(bodies, st.sampled_from([8, 64]), st.booleans()), max_size=4), min_size=1
    ),
    st.randoms(use_true_random=False),
    st.lists(st.integers(0, 200), max_size=4),
)
def test_payloads_cut_into_frames_and_interleaved_come_back_whole_in_any_batches(sent, random, at):
    queues = {
        unit: [frame for body, width, padded in messages for frame in cut(body, width, 0x55 if padded else None)]
        for unit, messages in sent.items()
    }
    rows: list[Row] = []
    while any(queues.values()):
        unit = random.choice([u for u, q in queues.items() if q])
        rows.append((len(rows) * MS, unit[0], unit[1] | 0, queues[unit].pop(0)))
        if random.random() < 0.3:  # other traffic on the bus
            rows.append((len(rows) * MS, 0x123, 0, b"\x21abcdefg"))
    frames = frames_of(rows)
    whole = received(isotp.Reassembler(), frames)
    for (can_id, _), messages in sent.items():
        name = f"{can_id:03X}"
        assert [p for _, unit, p in whole if unit == name] == [body for body, _, _ in messages]
    reassembler = isotp.Reassembler()
    assert [r for part in split(frames, at) for r in received(reassembler, part)] == whole


@settings(max_examples=200, deadline=None)
@given(st.lists(bodies, min_size=1, max_size=4), st.data())
def test_a_dropped_repeated_or_exchanged_frame_spoils_its_own_payload_and_is_counted(sent, data):
    rows: list[Row] = []
    t = 0
    at = data.draw(st.integers(0, len(sent) - 1))
    fault = data.draw(st.sampled_from(["drop", "repeat", "exchange"]))
    spoilt = False
    for i, body in enumerate(sent):
        parts = cut(body)
        if i == at and len(parts) > 2:
            k = data.draw(st.integers(1, len(parts) - 2))
            if fault == "drop":
                del parts[k]
            elif fault == "repeat":
                parts.insert(k, parts[k])
            else:
                parts[k], parts[k + 1] = parts[k + 1], parts[k]
            spoilt = True
        for part in parts:
            rows.append((t, 0x7E8, 0, part))
            t += MS
        t += 2 * isotp.N_CR_NS
    reassembler = isotp.Reassembler()
    got = [p for _, _, p in received(reassembler, frames_of(rows))]
    assert got == [body for i, body in enumerate(sent) if not (spoilt and i == at)]
    assert reassembler.counters["sequence_errors"] == int(spoilt)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-(10**10), 10**10),
            st.one_of(units, st.tuples(st.integers(0, 2**29 - 1), st.integers(0, 63))),
            st.one_of(
                st.binary(max_size=64),
                st.builds(lambda a, b: bytes([a]) + b, st.integers(0, 0x3F), st.binary(max_size=8)),
            ),
        ),
        max_size=40,
    )
)
def test_random_frames_never_raise_and_the_kernel_equals_plain_python(raw):
    frames = frames_of([(t, unit[0], unit[1], body) for t, unit, body in raw])
    results = []
    for kernel in (isotp.reassemble, isotp.reassemble.py_func):
        state = [np.zeros((isotp.SLOTS, 6), np.int64), np.zeros((isotp.SLOTS, isotp.MAX_PAYLOAD), np.uint8)]
        counters = np.zeros(len(isotp.COUNTERS), np.int64)
        out = [np.zeros(64, np.int64), np.zeros(64, np.int64), np.zeros(64, np.int32), np.zeros(64, np.int32)]
        heap, made = np.zeros(20_000, np.uint8), np.zeros(1, np.int64)
        end = kernel(*frames, 0, *state, counters, *out, heap, made)
        results.append((int(end), *(a.tobytes() for a in (*state, counters, *out, heap, made))))
    assert results[0] == results[1]


def test_a_gap_above_one_second_gives_the_reception_up():
    first, second, third = cut(bytes(range(20)))
    ok = [(0, 0x7E8, 0, first), (isotp.N_CR_NS, 0x7E8, 0, second), (2 * isotp.N_CR_NS, 0x7E8, 0, third)]
    assert payloads(ok) == [bytes(range(20))]
    late = [(0, 0x7E8, 0, first), (isotp.N_CR_NS + 1, 0x7E8, 0, second), (isotp.N_CR_NS + 2, 0x7E8, 0, third)]
    reassembler = isotp.Reassembler()
    assert received(reassembler, frames_of(late)) == []
    assert (reassembler.counters["timeouts"], reassembler.counters["stray"]) == (1, 1)


def test_a_new_message_ends_the_old_one():
    first, second, third = cut(bytes(range(20)))
    rows = [(0, 0x7E8, 0, first), (1, 0x7E8, 0, b"\x03\x41\x0d\x32"), (2, 0x7E8, 0, second), (3, 0x7E8, 0, third)]
    reassembler = isotp.Reassembler()
    assert [p for _, _, p in received(reassembler, frames_of(rows))] == [b"\x41\x0d\x32"]
    assert (reassembler.counters["interrupted"], reassembler.counters["stray"]) == (1, 2)


def test_can_fd_lengths_are_read_from_their_escapes():
    body = bytes(range(200))
    first = b"\x10\x00" + len(body).to_bytes(4, "big") + body[:58]
    rest = [bytes([0x21 + i]) + body[58 + 63 * i : 121 + 63 * i] for i in range(3)]
    assert payloads([(i, 0x7E8, 8, part) for i, part in enumerate([first, *rest])]) == [body]
    assert payloads([(0, 0x7E8, 8, b"\x00\x14" + body[:20])]) == [body[:20]]


def test_a_transfer_longer_than_any_emission_answer_is_counted_and_left():
    reassembler = isotp.Reassembler()
    assert received(reassembler, frames_of([(0, 0x7E8, 8, b"\x10\x00\x7f\xff\xff\xff" + bytes(58))])) == []
    assert reassembler.counters["oversized"] == 1


@pytest.mark.parametrize("flags", [REMOTE, ERROR, EXTENDED])
def test_frames_that_only_resemble_an_answer_are_left(flags):
    assert payloads([(0, 0x7E8, flags, b"\x03\x41\x0d\x32")]) == []


@pytest.mark.parametrize("can_id", [0x7DF, 0x7E0, 0x7E7, 0x7F0])
def test_requests_and_neighbours_are_left(can_id):
    assert payloads([(0, can_id, 0, b"\x03\x41\x0d\x32"), (0, 0x18DB33F1, EXTENDED, b"\x02\x01\x0d")]) == []


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\x05\x41\x0d", b"\x08\x41\x0d\x00\x00\x00\x00\x00", b"\x10\x05\x41", b"\x40\x01"]
)
def test_frames_that_break_the_transport_are_counted(data):
    reassembler = isotp.Reassembler()
    assert received(reassembler, frames_of([(0, 0x7E8, 0, data)])) == []
    assert reassembler.counters["malformed"] == 1


def test_more_receptions_than_room_lose_the_one_that_waited_longest():
    rows: list[Row] = []
    parts = {i: cut(bytes([i]) * 20) for i in range(isotp.SLOTS + 1)}
    for k in range(3):
        rows += [(len(rows) + i, 0x18DAF100 + i, EXTENDED, parts[i][k]) for i in parts]
    reassembler = isotp.Reassembler()
    got = {p[0] for _, _, p in received(reassembler, frames_of(rows))}
    assert got == set(range(1, isotp.SLOTS + 1))
    assert reassembler.counters["interrupted"] == 1


def test_many_payloads_in_one_batch_all_come_out():
    n = isotp.MAX_MESSAGES + 10
    rows = [(i, 0x7E8, 0, b"\x03\x41\x0d" + bytes([i % 255])) for i in range(n)]
    assert len(payloads(rows)) == n


def test_adapter_text_is_read_with_short_and_long_headers_and_other_lines_skipped():
    text = "SEARCHING...\r7EA 06 41 00 98 3A 80 13 \r18 DA F1 11 03 41 0D 32 \r\r>OK\r7E8\rNO DATA"
    assert isotp.payloads_of_text(text) == [
        ("7EA", bytes.fromhex("4100983A8013")),
        ("18DAF111", bytes.fromhex("410D32")),
    ]


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789ABCDEFabcdef \r\n>?.NOGé١", max_size=80))
def test_no_text_raises(text):
    isotp.payloads_of_text(text)
