"""Stored blocks: exact after quantising, in order, small, and safe with any bytes."""

import contextlib
import struct
import zlib

import numpy as np
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.blocks import BLOCK, Block, empty_block, make_block
from agent.channels import BY_NUMBER, CHANNELS
from agent.columnar import HEAD, MAX_SAMPLES, TIME_UNIT_NS, decode, encode, quantum_code, round_time

UNKNOWN_CHANNEL = 65_000
assert UNKNOWN_CHANNEL not in BY_NUMBER

channels = st.sampled_from([1, 8, 14, 49, 60, 81, 98, UNKNOWN_CHANNEL])
values = st.one_of(
    st.floats(-1000, 1000, width=32),
    st.integers(-5, 5).map(lambda k: k * 0.125),
    st.floats(allow_nan=True, allow_infinity=True),
)
samples = st.tuples(st.integers(-(2**62), 2**62), channels, values)
near_samples = st.tuples(st.integers(0, 10**9), channels, values)
blocks = st.one_of(
    st.lists(samples, max_size=40),
    st.lists(near_samples, max_size=80),
    st.lists(near_samples, max_size=80).map(lambda rows: sorted(rows, key=lambda row: row[0])),
).map(make_block)


def as_stored(block: Block) -> Block:
    """What the store promises to give back, written down independently of the codec."""
    out = block.copy()
    for i, (t, number, _) in enumerate(block.tolist()):
        out["t"][i] = round_time(t)
        mine = block["channel"] == number
        per_unit = round(1 / BY_NUMBER[number].quantum) if number in BY_NUMBER else 0
        with np.errstate(over="ignore", invalid="ignore"):
            fits = (np.abs(np.rint(block["value"][mine] * per_unit)) < 2**52).all()  # float64 is exact to there
        if per_unit and fits:
            out["value"][i] = round(block["value"][i] * per_unit) / per_unit
    return out


@settings(max_examples=300, deadline=None)
@given(blocks)
@example(make_block([(0, 1, 0.0), (0, 14, 0.0), (0, 1, 0.0)]))
@example(make_block([(5, 1, 1e15), (3, 1, float("nan"))]))
@example(make_block([(0, 1, 1_000_000_000_000.0001)]))  # of 2^50 quanta
def test_a_block_comes_back_in_order_with_rounded_times_and_quantised_values(block: Block) -> None:
    back = decode(encode(block))
    expected = as_stored(block)
    assert back.dtype == BLOCK
    assert back["t"].tolist() == expected["t"].tolist()
    assert back["channel"].tolist() == expected["channel"].tolist()
    assert np.array_equal(back["value"], expected["value"], equal_nan=True)


@settings(max_examples=100, deadline=None)
@given(blocks)
def test_storing_what_was_stored_changes_nothing(block: Block) -> None:
    once = encode(decode(encode(block)))
    assert encode(decode(once)) == once


@settings(max_examples=100, deadline=None)
@given(st.lists(near_samples, max_size=50).map(make_block), st.integers(1000, 10**7))
def test_any_time_unit_is_kept_within_half_of_it(block: Block, unit: int) -> None:
    back = decode(encode(block, unit))
    assert np.all(np.abs(back["t"] - block["t"]) * 2 <= unit)


def test_a_finer_time_unit_than_a_microsecond_is_refused() -> None:
    with pytest.raises(ValueError, match="time unit"):
        encode(empty_block(), 999)


def test_every_channel_of_the_table_has_a_quantum_that_can_be_written() -> None:
    assert [c.name for c in CHANNELS if quantum_code(c.quantum) == 0] == []


def test_a_sensor_of_coarse_resolution_costs_less_than_its_quantum_suggests() -> None:
    rng = np.random.default_rng(3)
    steps = rng.integers(-3, 4, 6000)
    block = np.zeros(6000, BLOCK)
    block["t"] = np.arange(6000) * 10_000_000
    block["channel"] = 60
    block["value"] = steps * 0.125
    # seven equally likely values hold log2(7) = 2.81 bits; Huffman coding with whole bits needs 3 at most
    assert len(encode(block)) < 6000 * 3 / 8 + 100


def test_channels_sampled_together_share_their_times() -> None:
    rng = np.random.default_rng(4)
    t = np.cumsum(rng.integers(9_000_000, 11_000_000, 1000))
    one = np.zeros(1000, BLOCK)
    one["t"], one["channel"] = t, 60
    three = np.zeros(3000, BLOCK)
    three["t"], three["channel"] = np.repeat(t, 3), np.tile([60, 61, 62], 1000)
    assert len(encode(three)) < len(encode(one)) + 60


def test_more_samples_than_one_block_may_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="samples"):
        encode(np.zeros(MAX_SAMPLES + 1, BLOCK))


def sealed(samples: int, unit: int, inner: bytes, inner_size: int | None = None) -> bytes:
    """Bytes with a right checksum around any inside."""
    size = len(inner) if inner_size is None else inner_size
    body = HEAD.pack(b"RWB1", 0, samples, unit, 0, size)[8:] + zstandard.compress(inner)
    return b"RWB1" + struct.pack("<I", zlib.crc32(body)) + body


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_any_inside_with_a_right_checksum_ends_in_a_block_or_value_error(inner: bytes, count: int, unit: int) -> None:
    try:
        block = decode(sealed(count, unit, inner))
    except ValueError:
        return
    assert len(block) == count


@settings(max_examples=300, deadline=None)
@given(st.lists(near_samples, min_size=1, max_size=30).map(make_block), st.data())
def test_a_changed_inside_with_a_right_checksum_ends_in_a_block_or_value_error(
    block: Block, data: st.DataObject
) -> None:
    whole = encode(block)
    _, _, count, unit, _, _ = HEAD.unpack_from(whole)
    inner = bytearray(zstandard.ZstdDecompressor().decompress(whole[HEAD.size :]))
    at = data.draw(st.integers(0, len(inner) - 1))
    inner[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        assert len(decode(sealed(count, unit, bytes(inner)))) == count


@settings(max_examples=200, deadline=None)
@given(st.lists(near_samples, min_size=1, max_size=30).map(make_block), st.data())
def test_every_changed_or_missing_byte_is_noticed(block: Block, data: st.DataObject) -> None:
    whole = encode(block)
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[at] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(changed), whole[:at]):
        with pytest.raises(ValueError, match="block"):
            decode(damaged)


def test_a_decompression_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = bytes(200_000_000)
    with pytest.raises(ValueError, match="impossible sizes"):
        decode(sealed(10, TIME_UNIT_NS, bomb))
    with pytest.raises(ValueError, match="sizes disagree"):
        decode(sealed(10, TIME_UNIT_NS, bomb, inner_size=1000))


def number(value: int) -> bytes:
    """A variable-length integer as the table writes it."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def test_times_that_no_column_uses_are_refused_before_they_take_memory() -> None:
    # constant columns need no bytes: 298 unused groups of a million times would be 2.4 GB, out of a 4 kB table
    constant = bytes([1, 0, 1])
    counts = [1_000_000 - 299, 1] + [1_000_000] * 298
    table = number(300) + number(300) + b"".join(number(count) + constant for count in counts) + b"\0"
    for group in [0] + [1] * 299:
        table += number(60) + number(group) + number(1) + constant
    with pytest.raises(ValueError, match="column table"):
        decode(sealed(1_000_000, TIME_UNIT_NS, table))
    one_group = (
        number(1) + number(1) + number(1_000_000) + constant + b"\0" + number(60) + number(0) + number(2) + constant
    )
    assert len(decode(sealed(1_000_000, TIME_UNIT_NS, one_group))) == 1_000_000
