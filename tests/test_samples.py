"""Samples in long CSV."""

import gzip
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import BLOCK, Block, empty_block
from agent.channels import CHANNELS, number
from drivers.recording import Recording, open_recording, samples
from drivers.recording import samples_kernel as kernel

S = 1_000_000_000
SPEED, RPM = number("Vehicle.Speed"), number("Obd.EngineSpeed")


def read(path: Path) -> tuple[Recording, Block]:
    recording = open_recording(path)
    assert recording.kind == "samples"
    return recording, np.concatenate([empty_block(), *recording.batches()])


def written(tmp_path: Path, text: str | bytes, name: str = "drive.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "t_s,channel,value\n10.5,Vehicle.Speed,1.25\n11,Obd.EngineSpeed,800\n",
        "value,t_s,channel\r\n1.25,10.5,Vehicle.Speed\r\n800,11,Obd.EngineSpeed",
        '\ufeff"t_s";"channel";"note";"value"\n10.5;"Vehicle.Speed";x;1.25\n 11 ;Obd.EngineSpeed;;8e2\n\n',
    ],
)
def test_columns_are_found_by_name(tmp_path: Path, text: str) -> None:
    recording, block = read(written(tmp_path, text))
    assert block.tolist() == [(0, SPEED, 1.25), (S // 2, RPM, 800.0)]
    assert recording.counts.samples == 2
    assert recording.problems == []
    assert recording.start_utc_ns is None


def test_absolute_times_are_kept_to_the_microsecond(tmp_path: Path) -> None:
    text = "t_s,channel,value\n1700000000.000001,Vehicle.Speed,1\n1700000000.5,Vehicle.Speed,2\n"
    recording, block = read(written(tmp_path, text))
    assert recording.start_utc_ns == 1_700_000_000_000_001_000
    assert block["t"].tolist() == [0, 499_999_000]


def test_what_cannot_be_a_sample_is_counted_and_named(tmp_path: Path) -> None:
    text = (
        "t_s,channel,value\n0,Vehicle.Speed,1\n0,Vehicle.Sped,2\n0,Vehicle.Sped,2\n1,Vehicle.Speed,500\n"
        "1,Vehicle.Speed,nan\n1,Vehicle.Speed,\n1,Vehicle.Speed,-inf\nx,Vehicle.Speed,1\n1,Vehicle.Speed,1x\n1\n2,Vehicle.Speed,3\n"
    )
    recording, block = read(written(tmp_path, text))
    assert block["value"].tolist() == [1.0, 3.0]
    assert recording.counts.unknown_channels == {"Vehicle.Sped": 2}
    assert (recording.counts.out_of_range, recording.counts.bad_lines) == (4, 3)
    assert "channel 'Vehicle.Sped' is not known (near names: Vehicle.Speed" in recording.problems[0]
    assert "line 9: not a sample (2 more)" in recording.problems
    assert any("plausible range" in problem for problem in recording.problems)


def test_many_unknown_names_are_counted_together(tmp_path: Path) -> None:
    text = "t_s,channel,value\n" + "".join(f"0,strange.{k},1\n" for k in range(100))
    counts = read(written(tmp_path, text))[0].counts
    assert sum(counts.unknown_channels.values()) == 100
    assert counts.unknown_channels["(others)"] == 36


def test_small_disorder_is_sorted_and_a_clock_step_is_left_out(tmp_path: Path) -> None:
    rows = [1.0, 1.2, 1.1, 2.0, 3.0, 4.0, -100.0, -99.0]
    recording, block = read(written(tmp_path, "t_s,channel,value\n" + "".join(f"{t},Vehicle.Speed,1\n" for t in rows)))
    assert block["t"].tolist() == [0, S // 10, S // 5, S, 2 * S, 3 * S, 3 * S, 4 * S]
    assert recording.counts.time_steps == 1


def test_channels_one_after_the_other_are_put_in_order_of_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "SORTED_AT_ONCE", 1000)
    names = [c.name for c in CHANNELS[:5]]
    text = "t_s,channel,value\n" + "".join(f"{k / 10},{name},1\n" for name in names for k in range(3000))
    recording, block = read(written(tmp_path, text))
    assert len(block) == 15_000
    assert recording.counts.samples == 15_000
    assert block["t"].tolist() == sorted(k * S // 10 for k in range(3000) for _ in names)
    assert set(block["channel"][:5].tolist()) == {1, 2, 3, 4, 5}
    assert recording.counts.time_steps == 0


def test_a_cut_compressed_file_gives_what_there_is(tmp_path: Path) -> None:
    chance = random.Random(1)
    text = "t_s,channel,value\n" + "".join(f"{k},Vehicle.Speed,{chance.random()}\n" for k in range(50_000))
    packed = gzip.compress(text.encode())
    recording, block = read(written(tmp_path, packed[: len(packed) // 2], "drive.csv.gz"))
    assert recording.counts.truncated
    assert 10_000 < len(block) < 40_000


def test_a_long_line_is_one_bad_line(tmp_path: Path) -> None:
    good = b"1,Vehicle.Speed,1\n"
    recording, block = read(written(tmp_path, b"t_s,channel,value\n" + good + b"9" * 3_000_000 + b"\n" + good))
    assert len(block) == 2
    assert recording.counts.bad_lines == 1


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.floats(allow_nan=False, allow_infinity=False).map(repr),
        st.from_regex(r"[+-]?[0-9]{0,25}\.?[0-9]{0,25}(e[+-]?[0-9]{1,3})?", fullmatch=True),
    )
)
def test_numbers_equal_pythons(text: str) -> None:
    encoded = np.frombuffer(text.encode() + b"\n", np.uint8).copy()
    ok, value = kernel.number(encoded, 0, len(text))
    try:
        expected = float(text)
    except ValueError:
        assert ok == 0.0 or (text == "" and np.isnan(value))
        return
    assert ok == 1.0
    assert value == pytest.approx(expected, rel=1e-14, abs=1e-300)
    digits = text.lower().split("e")[0].replace(".", "").lstrip("+-0")
    if len(digits) <= 15 and "e" not in text.lower() and len(text) < 20:
        assert value == expected


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=30), st.text("0123456789+-.eEnaif", max_size=20).map(str.encode)))
def test_the_number_kernel_equals_its_python_self(text: bytes) -> None:
    encoded = np.frombuffer(text + b"\n", np.uint8)
    compiled = kernel.number(encoded.copy(), 0, len(text))
    with np.errstate(all="ignore"):  # compiled, it follows IEEE 754 without warnings
        plain = kernel.number.py_func(encoded.astype(np.int64), 0, len(text))
    assert np.array_equal(compiled, plain, equal_nan=True)
    assert kernel.name_hash(encoded.copy(), 0, len(text)) == kernel.name_hash.py_func(
        encoded.astype(np.int64), 0, len(text)
    )


ROWS = st.lists(
    st.one_of(
        st.sampled_from([b"1,Vehicle.Speed,2", b"2.5,Obd.EngineSpeed,900", b"3,nope,1", b""]),
        st.sampled_from([b"4,Vehicle.Speed,1e9", b"z" * 5000]),
        st.binary(max_size=40),
        st.text("0123456789.,-eVehicle.Speed \r\"", max_size=40).map(str.encode),
    ),
    max_size=25,
)  # fmt: skip


def parse(text: bytes, cuts: list[int], capacity: int) -> tuple[list[object], list[int], list[int]]:
    state = np.zeros(kernel.STATE, np.int64)
    strange = (np.zeros((65, kernel.NAME), np.uint8), np.zeros(65, np.int64), np.zeros(65, np.int64))
    table = samples._channel_table()
    bounds = [*sorted(min(c, len(text)) for c in cuts), len(text), len(text)]
    begin, found = 0, []
    for k, stop in enumerate(bounds):
        buffer = np.frombuffer(text[begin:stop] + b"\n", np.uint8).copy()
        at, full = 0, True
        while full:
            out = np.empty(capacity, BLOCK)
            arguments = (buffer, at, stop - begin, k == len(bounds) - 1, 44, np.arange(3), state, *table, *strange, out)
            at = kernel.parse(*arguments)
            n = int(state[kernel.SAMPLES])
            full = n == capacity
            found += out[:n].tolist()
        begin += at
    return found, state[: kernel.SKIPPING].tolist(), strange[2].tolist()


@settings(max_examples=200, deadline=None)
@given(rows=ROWS, cuts=st.lists(st.integers(0, 600), max_size=6))
def test_any_split_of_any_bytes_gives_the_same_samples(rows: list[bytes], cuts: list[int]) -> None:
    text = b"\n".join(rows)
    assert parse(text, [], 1000) == parse(text, cuts, 2)


@settings(max_examples=30, deadline=None)
@given(rows=ROWS)
def test_the_parser_equals_its_python_self(rows: list[bytes]) -> None:
    text = np.frombuffer(b"\n".join(rows) + b"\n", np.uint8)
    results = []
    for function, given_text in ((kernel.parse, text.copy()), (kernel.parse.py_func, text.copy())):
        state = np.zeros(kernel.STATE, np.int64)
        strange = (np.zeros((65, kernel.NAME), np.uint8), np.zeros(65, np.int64), np.zeros(65, np.int64))
        out = np.zeros(64, BLOCK)
        arguments = (
            given_text,
            0,
            len(text) - 1,
            True,
            44,
            np.arange(3),
            state,
            *samples._channel_table(),
            *strange,
            out,
        )
        at = function(*arguments)
        results.append((at, state.tolist(), [s.tobytes() for s in strange], out.tobytes()))
    assert results[0] == results[1]
