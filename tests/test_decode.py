"""The decode kernels against cantools, against themselves in plain Python, and where rules of their own apply."""

import itertools
import math
import struct
from collections.abc import Sequence
from pathlib import Path

import cantools
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.blocks import ERROR, EXTENDED, FD, REMOTE, Block, Frames, empty_frames
from drivers.decode import kernel
from drivers.decode.dbc import Database, Message, Signal, load_dbc
from drivers.decode.plan import Entry, Take, Valid
from drivers.decode.tables import Decoder, Tables, compile_all, compile_entries
from tests.dbc_making import Made, made

Raw = tuple[int, bool, bytes]


def frames_of(rows: Sequence[Raw], bus: int = 0, width: int = 0) -> Frames:
    """Make frames 1 ms apart of (identifier, extended, data)."""
    width = width or (8 if all(len(d) <= 8 for _, _, d in rows) else 64)
    frames = empty_frames(len(rows), width)
    for i, (number, extended, data) in enumerate(rows):
        frames.t[i] = i * 1_000_000
        frames.bus[i] = bus
        frames.id[i] = number
        frames.flags[i] = (EXTENDED if extended else 0) | (FD if len(data) > 8 else 0)
        frames.len[i] = len(data)
        frames.data[i, : len(data)] = np.frombuffer(data, np.uint8)
    return frames


def message(*signals: Signal, number: int = 1, extended: bool = False, j1939: bool = False, length: int = 8) -> Message:
    return Message("M", number, extended, length, j1939, signals)


def decoder_of(*messages: Message) -> Decoder:
    return Decoder(compile_all(Database(Path("x.dbc"), messages)))


def values(decoder: Decoder, *rows: Raw) -> list[tuple[str, float]]:
    block = decoder.decode(frames_of(rows), ["can0"])
    return [(decoder.tables.signal_names[c], v) for _, c, v in block.tolist()]


def database_of(folder: Path, text: str) -> tuple[Database, cantools.database.Database]:
    path = folder / "made.dbc"
    path.write_text(text)
    return load_dbc(path), cantools.database.load_string(text, "dbc", strict=True)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(case=made())
def test_every_signal_equals_cantools(case: Made, tmp_path_factory: pytest.TempPathFactory) -> None:
    database, oracle = database_of(tmp_path_factory.mktemp("dbc"), case.text)
    assert database.skipped == ()
    by_id = {(m.frame_id, m.is_extended_frame): m for m in oracle.messages}
    tables = compile_all(database)
    ours: dict[int, dict[str, float]] = {}
    for t, channel, value in Decoder(tables).decode(frames_of(case.frames), ["can0"]).tolist():
        ours.setdefault(t // 1_000_000, {})[tables.signal_names[channel]] = value
    for i, (number, extended, data) in enumerate(case.frames):
        described = by_id[number, extended]
        found = ours.get(i, {})
        try:
            said = described.decode(data, decode_choices=False, scaling=True, allow_truncated=True)
        except cantools.database.DecodeError:
            # a page that no signal is on: cantools refuses the frame, we give what is on every page
            on_every_page = {f"{described.name}.{s.name}" for s in described.signals if not s.multiplexer_signal}
            selectors = {f"{described.name}.{s.name}" for s in described.signals if s.is_multiplexer}
            assert set(found) <= on_every_page | selectors
            continue
        expected = {f"{described.name}.{k}": float(v) for k, v in said.items() if math.isfinite(v)}
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            # beyond 2^63 a whole number times a whole scale does not fit in the kernel's integers
            assert found[name] == value or (abs(value) > 2**53 and math.isclose(found[name], value, rel_tol=2**-52))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(case=made(), cuts=st.lists(st.integers(0, 60), max_size=4))
def test_any_split_into_batches_gives_the_same(
    case: Made, cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    database, _ = database_of(tmp_path_factory.mktemp("dbc"), case.text)
    unknown = [(0x7FF, False, b"\1"), (0x1FFFFFFF, True, b"\2")]
    frames = frames_of([*case.frames, *unknown])
    whole, parts = Decoder(compile_all(database)), Decoder(compile_all(database))
    expected = whole.decode(frames, ["can0"]).copy()
    edges = [0, *sorted(min(c, len(frames.t)) for c in cuts), len(frames.t)]
    got = [
        parts.decode(Frames(*(a[first:last] for a in frames)), ["can0"]).copy()
        for first, last in itertools.pairwise(edges)
    ]
    assert np.array_equal(np.concatenate(got), expected)
    assert _counts(parts) == _counts(whole)
    assert whole.unknown_ids == {("can0", 0x7FF): 1, ("can0", 0x1FFFFFFF): 1}


def _counts(d: Decoder) -> tuple[object, ...]:
    return d.frames, d.decoded, d.out_of_range, d.not_available, d.invalid, d.unknown_ids, d.unknown_uncounted


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(case=made())
def test_the_kernels_equal_their_plain_python_selves(case: Made, tmp_path_factory: pytest.TempPathFactory) -> None:
    database, _ = database_of(tmp_path_factory.mktemp("dbc"), case.text)
    frames = frames_of([*case.frames, (0x7FF, False, b""), (0x1FFFFFFF, True, b"")])
    frames.flags[::7] |= REMOTE
    tables = compile_all(database)
    compiled = Decoder(tables)
    block = compiled.decode(frames, ["can0"])
    plain = Decoder(_as_records(tables))
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        for name in ("swap_bytes", "place_of", "parameter_group", "take_bits", "raw_of", "value_of", "is_present"):
            patch.setattr(kernel, name, getattr(kernel, name).py_func)
        match, decode = kernel.match.py_func, kernel.decode.py_func
        patch.setattr(kernel, "match", match)
        patch.setattr(
            kernel, "decode", lambda *a: decode(*a[:8], a[8].view(np.recarray), a[9])
        )  # attributes of records
        expected = plain.decode(frames, ["can0"])
        counts = _counts(plain)
    assert np.array_equal(block, expected.view(np.ndarray))
    assert _counts(compiled) == counts


def _as_records(tables: Tables) -> Tables:
    arrays = (tables.messages, tables.signals, tables.conditions, tables.ranges)
    return Tables(tables.entries, *(a.view(np.recarray) for a in arrays), tables.signal_names)


@st.composite
def entries(draw: st.DrawFn) -> list[Entry]:
    """Draw a message of overlapping short signals, some valid only with others, some summed."""
    bits = st.tuples(st.integers(0, 63), st.integers(1, 30), st.booleans(), st.booleans())
    signals = []
    for k, (first, length, big, signed) in enumerate(draw(st.lists(bits, min_size=2, max_size=6))):
        start = 8 * (first // 8) + 7 - first % 8 if big else first
        signals.append(Signal(f"S{k}", start, min(length, 64 - first), big, signed, scale=0.5))
    one = st.sampled_from(signals)
    rules = st.lists(st.builds(Valid, one, st.integers(-2, 3)), max_size=2).map(tuple)
    extra = st.lists(one, max_size=2).map(tuple)
    rule = st.sampled_from(["none", "all_ones", "j1939"])
    takes = draw(
        st.lists(st.builds(Take, one, st.integers(1, 9), plus=extra, valid=rules, not_available=rule), max_size=5)
    )
    return [Entry(message(*signals), "*", tuple(takes))]


@settings(max_examples=300, deadline=None)
@given(chosen=entries(), data=st.lists(st.binary(max_size=8) | st.just(b"\1" * 8) | st.just(bytes(8)), max_size=20))
def test_the_fast_paths_equal_the_path_that_can_do_anything(chosen: list[Entry], data: list[bytes]) -> None:
    frames = frames_of([(1, False, d) for d in data], width=8)
    fast, slow = Decoder(compile_entries(chosen)), Decoder(compile_entries(chosen))
    slow.tables.messages["path"] = kernel.ANY
    assert np.array_equal(fast.decode(frames, ["can0"]), slow.decode(frames, ["can0"]))
    assert _counts(fast) == _counts(slow)


def test_a_signal_that_ends_beyond_a_short_frame_is_left_out() -> None:
    decoder = decoder_of(message(Signal("A", 0, 8), Signal("B", 7, 16, big_endian=True), Signal("C", 12, 8)))
    assert values(decoder, (1, False, b"\x01")) == [("M.A", 1.0)]
    assert values(decoder, (1, False, b"\x01\x02")) == [("M.A", 1.0), ("M.B", 258.0)]
    assert values(decoder, (1, False, b"")) == []


def test_remote_and_error_frames_are_never_decoded_nor_unknown() -> None:
    decoder = decoder_of(message(Signal("A", 0, 8)))
    frames = frames_of([(1, False, b"\1"), (1, False, b"\1"), (9, False, b"\1"), (1, False, b"\1")])
    frames.flags[:3] = [REMOTE, ERROR, ERROR | EXTENDED]
    assert len(decoder.decode(frames, ["can0"])) == 1
    assert (decoder.frames, decoder.decoded, decoder.unknown_ids) == (4, 1, {})


def test_standard_and_extended_identifiers_of_the_same_number_are_different() -> None:
    decoder = decoder_of(message(Signal("A", 0, 8)), message(Signal("B", 0, 8), extended=True))
    assert values(decoder, (1, False, b"\1"), (1, True, b"\2")) == [("M.A", 1.0), ("M.B", 2.0)]


def test_an_identifier_too_large_for_its_flag_is_unknown() -> None:
    decoder = decoder_of(message(Signal("A", 0, 8)))
    assert values(decoder, (0x801, False, b"\1")) == []
    assert decoder.unknown_ids == {("can0", 0x801): 1}


def test_j1939_ignores_priority_source_and_a_pdu1s_destination() -> None:
    engine = message(Signal("A", 0, 8), number=0x0CF004FE, extended=True, j1939=True)
    request = message(Signal("B", 0, 8), number=0x18EAFFFE, extended=True, j1939=True)
    decoder = decoder_of(engine, request)
    assert values(decoder, (0x0CF00400, True, b"\1"), (0x18F00421, True, b"\2")) == [("M.A", 1.0), ("M.A", 2.0)]
    assert values(decoder, (0x18EA0033, True, b"\3")) == [("M.B", 3.0)]
    assert values(decoder, (0x0CF00500, True, b"\4"), (0x0DF00400, True, b"\4")) == []
    assert decoder.unknown_ids == {("can0", 0x0CF00500): 1, ("can0", 0x0DF00400): 1}


@pytest.mark.parametrize(
    ("length", "raw", "kept"),
    [
        (1, 1, True),  # a single bit has no room for 'not available'
        (2, 1, True),
        (2, 2, False),
        (2, 3, False),
        (4, 13, True),
        (4, 14, False),
        (8, 0xFD, True),
        (8, 0xFE, False),
        (8, 0xFF, False),
        (10, 0x3F7, True),
        (10, 0x3F8, False),
        (16, 0xFDFF, True),
        (16, 0xFE00, False),
        (16, 0xFFFF, False),
        (32, 0xFDFFFFFF, True),
        (32, 0xFE000000, False),
        (64, 0xFE00000000000000, False),
    ],
)
def test_j1939_not_available_and_error_patterns_are_dropped_and_counted(length: int, raw: int, kept: bool) -> None:
    decoder = decoder_of(message(Signal("A", 0, length), number=0x0CF004FE, extended=True, j1939=True))
    assert len(values(decoder, (0x0CF00400, True, raw.to_bytes(8, "little")))) == kept
    assert decoder.not_available == (not kept)


def test_j1939_speed_vector_of_a_tachograph() -> None:
    # 0x0CFE6CEE TCO1, bytes 7-8 / 256 km/h: 0x3200 is 50 km/h (SAE J1939-71, PGN 65132)
    speed = Signal("TachographVehicleSpeed", 48, 16, scale=1 / 256)
    decoder = decoder_of(message(speed, number=0x0CFE6CFE, extended=True, j1939=True))
    assert values(decoder, (0x0CFE6CEE, True, bytes.fromhex("FFFFFFFFFFFF0032"))) == [("M." + speed.name, 50.0)]


def test_other_messages_may_say_that_all_ones_are_not_available() -> None:
    for length in (8, 64):
        signal = Signal("A", 0, length)
        entry = Entry(message(signal), "*", (Take(signal, 7, not_available="all_ones"),))
        decoder = Decoder(compile_entries([entry]))
        block = decoder.decode(frames_of([(1, False, b"\xff" * 8), (1, False, b"\xfe" * 8)]), ["can0"])
        assert len(block) == 1
        assert decoder.not_available == 1


def test_samples_out_of_range_or_not_finite_are_dropped_and_counted() -> None:
    single = Signal("F", 0, 32, is_float=True)
    entry = Entry(message(single), "*", (Take(single, 3, low=-1.0, high=1.0),))
    decoder = Decoder(compile_entries([entry]))
    rows = [(1, False, struct.pack("<f", v) + bytes(4)) for v in (0.5, 1.0, 1.5, math.nan, math.inf, -math.inf)]
    assert decoder.decode(frames_of(rows), ["can0"])["value"].tolist() == [0.5, 1.0]
    assert decoder.out_of_range == 4
    everything = decoder_of(message(single))
    assert values(everything, *rows[3:]) == []
    assert everything.out_of_range == 3


def test_a_validity_signal_that_says_no_drops_and_counts() -> None:
    valid, speed = Signal("Valid", 63, 1), Signal("Speed", 0, 16)
    entry = Entry(message(speed, valid), "*", (Take(speed, 5, valid=(Valid(valid, 1),)),))
    decoder = Decoder(compile_entries([entry]))
    rows = [(1, False, b"\1" + bytes(6) + b"\x80"), (1, False, b"\2" + bytes(7)), (1, False, b"\3\0")]
    assert decoder.decode(frames_of(rows), ["can0"])["value"].tolist() == [1.0]
    assert decoder.invalid == 2


def test_a_frame_too_short_for_its_validity_signal_is_not_valid_whatever_it_should_equal() -> None:
    fault, speed = Signal("Fault", 63, 1), Signal("Speed", 0, 16)
    entry = Entry(message(speed, fault), "*", (Take(speed, 5, valid=(Valid(fault, 0),)),))
    decoder = Decoder(compile_entries([entry]))
    rows = [(1, False, b"\1" + bytes(7)), (1, False, b"\2" + bytes(6))]
    assert decoder.decode(frames_of(rows), ["can0"])["value"].tolist() == [1.0]
    assert decoder.invalid == 1


def test_signals_are_added_before_scale_and_offset_and_only_when_all_are_there() -> None:
    coarse, fine = Signal("Coarse", 0, 8, signed=True, scale=1.5), Signal("Fine", 12, 4, signed=True, scale=0.1)
    finest = Signal("Finest", 16, 8, offset=1)
    entry = Entry(message(coarse, fine, finest), "*", (Take(coarse, 5, scale=2, offset=100, plus=(fine, finest)),))
    decoder = Decoder(compile_entries([entry]))
    block = decoder.decode(frames_of([(1, False, b"\xfe\xf0\x02"), (1, False, b"\xfe\xf0")]), ["can0"])
    assert block["value"].tolist() == pytest.approx([2 * (-3.0 - 0.1 + 3) + 100])


def test_a_message_is_decoded_only_on_its_buses_and_the_last_claim_wins() -> None:
    a, b = Signal("A", 0, 8), Signal("B", 0, 8)
    entries = [Entry(message(a), "can[01]", (Take(a, 1),)), Entry(message(b), "can1", (Take(b, 2),))]
    decoder = Decoder(compile_entries(entries))
    frames = frames_of([(1, False, b"\1")] * 3)
    frames.bus[:] = [0, 1, 2]
    assert decoder.decode(frames, ["can0", "can1", "radar"])["channel"].tolist() == [1, 2]
    assert decoder.unknown_ids == {("radar", 1): 1}


def test_counts_outlive_a_change_of_the_buses() -> None:
    decoder = decoder_of(message(Signal("A", 0, 8)))
    rows: list[Raw] = [(5, False, b"\1"), (0x12345678, True, b"\1")]
    decoder.decode(frames_of(rows), ["can0"])
    decoder.decode(frames_of(rows, bus=1), ["can0", "can1"])
    decoder.decode(frames_of(rows), ["can0", "can1"])
    assert decoder.unknown_ids == {
        ("can0", 5): 2,
        ("can0", 0x12345678): 2,
        ("can1", 5): 1,
        ("can1", 0x12345678): 1,
    }


def test_unknown_extended_identifiers_are_bounded_and_the_rest_is_counted() -> None:
    decoder = decoder_of(message(Signal("A", 0, 8)))
    decoder.decode(frames_of([(0x10000000 + i, True, b"") for i in range(5000)]), ["can0"])
    assert len(decoder.unknown_ids) == 4096
    assert decoder.unknown_uncounted == 904


def test_a_known_message_without_chosen_signals_is_not_unknown() -> None:
    decoder = Decoder(compile_entries([Entry(message(Signal("A", 0, 8)), "*", ())]))
    assert len(decoder.decode(frames_of([(1, False, b"\1")]), ["can0"])) == 0
    assert (decoder.decoded, decoder.unknown_ids) == (0, {})


def test_signals_that_no_frame_can_carry_are_said_and_left_out() -> None:
    long = message(Signal("A", 0, 8), Signal("Far", 512, 8), Signal("Text", 0, 72), length=100)
    decoder = decoder_of(long)
    assert [line.split(":")[0] for line in decoder.tables.left_out] == ["M.Far", "M.Text"]
    assert values(decoder, (1, False, b"\7" + bytes(7))) == [("M.A", 7.0)]


def test_fd_signals_cross_words_in_both_byte_orders() -> None:
    little, big = Signal("L", 60, 40), Signal("B", 35 * 8 + 3, 64, big_endian=True, signed=True)
    decoder = decoder_of(message(little, big, length=64))
    data = bytes(range(200, 256)) + bytes(8)
    expected_little = (int.from_bytes(data, "little") >> 60) & (1 << 40) - 1
    raw = (int.from_bytes(data, "big") >> (512 - (35 * 8 + 4) - 64)) & (1 << 64) - 1
    expected_big = raw - (1 << 64) if raw >> 63 else raw
    assert values(decoder, (1, False, data)) == [("M.L", float(expected_little)), ("M.B", float(expected_big))]


def test_whole_numbers_beyond_the_float_range_are_rounded_once() -> None:
    wide = Signal("W", 0, 60, scale=3, offset=-7)
    raw = (1 << 58) + 12345
    assert values(decoder_of(message(wide)), (1, False, raw.to_bytes(8, "little"))) == [("M.W", float(raw * 3 - 7))]
    unsigned = Signal("U", 0, 64)
    assert values(decoder_of(message(unsigned)), (1, False, b"\xff" * 8)) == [("M.U", float((1 << 64) - 1))]


def test_the_block_is_valid_until_the_next_call() -> None:
    decoder = decoder_of(message(Signal("A", 0, 8)))
    first = decoder.decode(frames_of([(1, False, b"\1")]), ["can0"])
    kept: Block = first.copy()
    decoder.decode(frames_of([(1, False, b"\2")]), ["can0"])
    assert kept["value"].tolist() == [1.0]
    assert len(decoder.decode(frames_of([]), ["can0"])) == 0


def test_a_bus_number_without_a_name_is_a_callers_bug() -> None:
    with pytest.raises(ValueError, match="bus number 3"):
        decoder_of(message(Signal("A", 0, 8))).decode(frames_of([(1, False, b"\1")], bus=3), ["can0"])


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 255), st.integers(0, 255), st.binary(max_size=64)),
        max_size=30,
    )
)
def test_any_frame_at_all_is_survived(rows: list[tuple[int, int, int, bytes]]) -> None:
    signals = [Signal("A", 0, 8), Signal("B", 505, 7), Signal("C", 7, 64, big_endian=True)]
    decoder = decoder_of(message(*signals), message(signals[0], number=0x18EAFFFE, extended=True, j1939=True))
    frames = frames_of([(0, False, data) for _, _, _, data in rows], width=64)
    for i, (number, flags, length, _) in enumerate(rows):
        frames.id[i], frames.flags[i], frames.len[i] = number, flags, length
    block = decoder.decode(frames, ["can0"])
    assert np.isfinite(block["value"]).all()
    assert decoder.frames == len(rows)
