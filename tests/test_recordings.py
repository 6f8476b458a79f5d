"""Recordings of the other formats, and what every format does with a damaged file."""

import random
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import can
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import ERROR, EXTENDED, FD, REMOTE, Frames, empty_frames
from agent.errors import RecordingError
from drivers.recording import Recording, open_recording
from drivers.recording.batch import join, widen

DATA = Path(__file__).parents[1].parent / "shared" / "data" / "can"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/can is absent")
START = 1_700_000_000.25
READERS = {"asc": can.ASCReader, "blf": can.BLFReader, "trc": can.TRCReader, "csv": can.CSVReader}


def read(path: Path) -> tuple[Recording, Frames]:
    recording = open_recording(path)
    batches = [b for b in recording.batches() if isinstance(b, Frames)]
    recording.close()
    return recording, join([widen(b, 64) for b in batches]) if batches else empty_frames(0, 64)


def messages(n: int = 500) -> list[can.Message]:
    """Return classic, FD, remote and error frames with 11- and 29-bit ids on two buses."""
    chance = random.Random(n)
    made = []
    for k in range(n):
        extended = k % 3 == 0
        kind = k % 20
        made.append(
            can.Message(
                timestamp=START + k * 0.001,
                arbitration_id=0 if kind == 7 else chance.randrange(0x20000000 if extended else 0x800),
                is_extended_id=extended and kind != 7,
                is_remote_frame=kind == 5,
                is_error_frame=kind == 7,
                is_fd=kind == 9,
                bitrate_switch=kind == 9,
                channel=k % 2,
                data=b"" if kind in (5, 7) else chance.randbytes(48 if kind == 9 else k % 9),
            )
        )
    return made


def write(path: Path, made: list[can.Message]) -> Path:
    with can.Logger(str(path)) as logger:
        for message in made:
            logger.on_message_received(message)
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("suffix", READERS)
def test_equal_to_python_can(tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    made = [m for m in messages() if suffix != "csv" or not m.is_fd]
    path = write(tmp_path / f"drive.{suffix}", made)
    expected = list(READERS[suffix](str(path)))
    assert len(expected) >= 400
    recording, frames = read(path)
    assert len(frames.t) == recording.counts.frames == len(expected)
    flags = [
        ERROR if m.is_error_frame else EXTENDED * m.is_extended_id | FD * m.is_fd | REMOTE * m.is_remote_frame
        for m in expected
    ]
    assert (frames.flags & (ERROR | EXTENDED | FD | REMOTE)).tolist() == flags
    assert frames.id.tolist() == [m.arbitration_id for m in expected]
    assert [bytes(frames.data[k, : frames.len[k]]) for k in range(len(expected))] == [bytes(m.data) for m in expected]
    assert np.allclose(frames.t / 1e9, [m.timestamp - expected[0].timestamp for m in expected], rtol=0, atol=2e-6)
    assert set(recording.buses) == ({"can0"} if suffix == "csv" else {"can0", "can1"})
    assert recording.counts.bad_lines == 0
    assert recording.counts.error_frames == sum(m.is_error_frame for m in expected)
    assert recording.start_utc_ns == pytest.approx(int(START * 1e9), abs=2_000_000)


@pytest.mark.parametrize("suffix", ["asc", "trc", "csv"])
def test_a_bad_line_costs_one_line(tmp_path: Path, suffix: str) -> None:
    made = [m for m in messages(200) if not (m.is_fd or m.is_error_frame or m.is_remote_frame)]
    path = write(tmp_path / f"drive.{suffix}", made)
    lines = path.read_bytes().split(b"\n")
    whole = len(read(path)[1].t)
    middle = len(lines) - 60
    damaged = {
        "asc": b" 0.100 1  zz             Rx   d 8 QQ 11",
        "trc": b" 77 1.0 DT 1 ZZZZ Rx - 8 00 zz",
        "csv": b"a,b,c",
    }
    lines[middle:middle] = [damaged[suffix], b"\xff\xfe\0\0", damaged[suffix]]
    path.write_bytes(b"\n".join(lines))
    recording, frames = read(path)
    assert len(frames.t) == whole
    assert recording.counts.bad_lines >= 2
    assert any(problem.startswith(f"line {middle + 1}: not a") for problem in recording.problems)


@pytest.mark.parametrize("suffix", ["asc", "blf", "trc", "csv", "log"])
def test_a_truncated_or_corrupt_file_ends_with_what_could_be_read(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"drive.{suffix}", [m for m in messages(6000) if not m.is_fd])
    content = path.read_bytes()
    whole = len(read(path)[1].t)
    chance = random.Random(1)
    for k in range(12):
        if k % 2:
            damaged = content[: chance.randrange(400, len(content))]
        else:
            damaged = bytearray(content)
            for _ in range(30):
                damaged[chance.randrange(400, len(content))] = chance.randrange(256)
        path.write_bytes(damaged)
        recording, frames = read(path)
        counts = recording.counts
        assert len(frames.t) <= whole
        assert np.all(np.diff(frames.t) >= 0)
        assert len(frames.t) == whole or counts.bad_lines or counts.truncated or k % 2, "a loss must be told"


@settings(max_examples=60, deadline=None)
@given(suffix=st.sampled_from(["asc", "trc", "csv", "blf"]), tail=st.binary(max_size=400), cut=st.integers(0, 300))
def test_random_bytes_after_a_header_never_raise(
    suffix: str, tail: bytes, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("garbage")
    content = write(folder / f"drive.{suffix}", messages(40)[:4]).read_bytes()
    path = folder / f"damaged.{suffix}"
    path.write_bytes(content[: len(content) - cut] + tail)
    with suppress(RecordingError):  # when the cut took the header too
        recording, frames = read(path)
        assert recording.counts.frames == len(frames.t)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (random.Random(3).randbytes(5000), "known are candump"),
        (b"\xfd7zXZ\x00 not xz at all", "xz"),
        (b"MDF     4.11    garbage" * 20, "MF4"),
        (b"hello\nworld\n", "not a recording"),
    ],
)
def test_what_cannot_be_read_at_all_is_one_sentence_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, says: str
) -> None:
    path = tmp_path / "drive.log"
    path.write_bytes(content)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with pytest.raises(RecordingError, match=says) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(scratch.iterdir())


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="No such file"):
        open_recording(tmp_path / "absent.log")
    with pytest.raises(RecordingError, match="folder"):
        open_recording(tmp_path)


def test_asc_with_times_from_line_to_line_is_refused_rather_than_misread(tmp_path: Path) -> None:
    path = tmp_path / "drive.asc"
    path.write_text("base hex  timestamps relative\n 0.1 1  123  Rx   d 1 00\n", encoding="ascii")
    with pytest.raises(RecordingError, match="absolute time stamps"):
        open_recording(path)


def test_a_damaged_blf_header_is_told(tmp_path: Path) -> None:
    path = tmp_path / "drive.blf"
    path.write_bytes(b"LOGG" + b"\xff" * 20)
    recording, frames = read(path)
    assert len(frames.t) == 0
    assert recording.counts.truncated
    assert "header" in recording.problems[0]


def test_importing_recordings_imports_neither_numba_nor_python_can() -> None:
    code = "import sys, drivers.recording; sys.exit(bool({'numba', 'can', 'asammdf'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.data
@needs_data
def test_mf4_equals_the_same_drive_in_candump() -> None:
    mf4, frames = read(DATA / "trip164" / "00000005-60FEB5A8.MF4")
    log, whole = read(DATA / "trip164" / "trip164.candump.log.xz")
    assert len(frames.t) == 5477
    assert mf4.start_utc_ns is not None
    assert log.start_utc_ns is not None
    first = int(np.searchsorted(whole.t + log.start_utc_ns, mf4.start_utc_ns - 500_000))
    n = len(whole.t) - first
    assert n > 5000
    assert frames.id[:n].tolist() == whole.id[first:].tolist()
    assert np.array_equal(frames.data[:n], whole.data[first:])
    assert np.all(np.abs(frames.t[:n] + mf4.start_utc_ns - whole.t[first:] - log.start_utc_ns) <= 100_000)


@pytest.mark.data
@needs_data
@pytest.mark.parametrize(
    ("name", "count", "ids"),
    [
        ("gnss_obd_2F6913DB_1", 4024, {0x11, 1960, 2020}),
        ("j1939_idle_plus_canmodgps_11111111", 57849, {0xCF00400, 0x18FEF200, 9}),
        ("uds_17BD1DB7", 2010, {0x7BB}),
    ],
)
def test_mf4_groups_of_both_shapes_are_read(name: str, count: int, ids: set[int]) -> None:
    recording, frames = read(DATA / "misc" / f"{name}.MF4")
    assert len(frames.t) == count
    assert ids <= set(frames.id.tolist())
    assert recording.problems == []
    assert np.all(np.diff(frames.t) >= 0)


@pytest.mark.data
@needs_data
def test_damaged_mf4_is_told(tmp_path: Path) -> None:
    content = (DATA / "trip164" / "00000005-60FEB5A8.MF4").read_bytes()
    chance = random.Random(2)
    path = tmp_path / "damaged.mf4"
    for _ in range(8):
        path.write_bytes(content[: chance.randrange(200, len(content))])
        try:
            recording, frames = read(path)
        except RecordingError as error:
            assert "MF4" in str(error)  # noqa: PT017
        else:
            assert len(frames.t) == 5477 or recording.counts.truncated or recording.problems
