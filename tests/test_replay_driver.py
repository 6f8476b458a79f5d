"""The replay driver: recordings as a device."""

import lzma
import threading
from pathlib import Path

import numpy as np
import pytest

from agent.blocks import BLOCK, Block, Frames, empty_block
from agent.channels import number
from agent.errors import RecordingError
from drivers import driver_class, replay
from drivers.recording import candump
from drivers.replay import Replay

S = 1_000_000_000
SPEED = number("Vehicle.Speed")


def decode(frames: Frames, buses: list[str]) -> Block:
    """Give one sample a frame: its bus as the channel, its id as the value."""
    block = np.empty(len(frames.t), BLOCK)
    block["t"], block["channel"], block["value"] = frames.t, frames.bus, frames.id
    return block


def log(path: Path, start_s: float, n: int, bus: str = "can0", ident: int = 0x100, step_s: float = 0.01) -> Path:
    lines = (f"({start_s + k * step_s:.6f}) {bus} {ident:03X}#{k & 255:02X}\n" for k in range(n))
    path.write_text("".join(lines), encoding="ascii")
    return path


def read_all(driver: Replay) -> Block:
    driver.open()
    blocks = [empty_block()]
    while (block := driver.read(0.05)) is not None:
        blocks.append(block)
    driver.close()
    block = np.concatenate(blocks)
    assert np.all(np.diff(block["t"]) >= 0)
    return block


def test_it_is_a_driver(tmp_path: Path) -> None:
    driver = driver_class("replay")([log(tmp_path / "a.log", 1.7e9, 50_000)], decode)
    assert driver.name == "replay:a.log"
    block = read_all(driver)
    assert len(block) == 50_000
    summary = driver.recording
    assert (summary.frames, summary.bad_lines, summary.buses) == (50_000, 0, ["can0"])
    assert summary.duration_s == pytest.approx(499.99)
    assert summary.start_utc_ns == 1_700_000_000 * S
    driver.close()


def test_overlapping_absolute_files_run_side_by_side(tmp_path: Path) -> None:
    first = log(tmp_path / "a.log", 1.7e9, 1000, "can0", 0x100)
    second = log(tmp_path / "b.log", 1.7e9 + 5.005, 1000, "can1", 0x200)
    driver = Replay([second, first], decode)
    block = read_all(driver)
    assert len(block) == 2000
    names = [driver.recording.buses[k] for k in block["channel"]]
    assert {(n, v) for n, v in zip(names, block["value"].tolist(), strict=True)} == {("can0", 256.0), ("can1", 512.0)}
    assert int(block["t"][block["value"] == 512][0]) == 5_005_000_000
    assert driver.recording.start_utc_ns == 1_700_000_000 * S


def test_absolute_files_that_do_not_overlap_keep_their_distance(tmp_path: Path) -> None:
    first = log(tmp_path / "a.log", 1.7e9, 10)
    second = log(tmp_path / "b.log", 1.7e9 + 3600, 10)
    block = read_all(Replay([second, first], decode))
    assert block["t"].tolist() == [k * S // 100 for k in range(10)] + [3600 * S + k * S // 100 for k in range(10)]


def test_relative_files_all_start_at_zero(tmp_path: Path) -> None:
    samples = tmp_path / "s.csv"
    samples.write_text("t_s,channel,value\n100,Vehicle.Speed,1\n100.05,Vehicle.Speed,2\n", encoding="ascii")
    block = read_all(Replay([log(tmp_path / "a.log", 46_000.0, 10), samples], decode))
    assert block["t"][block["channel"] == SPEED].tolist() == [0, S // 20]
    assert block["t"].tolist()[:3] == [0, 0, S // 100]


def test_samples_alone_need_no_decoder(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("t_s,channel,value\n100,Vehicle.Speed,1\n", encoding="ascii")
    driver = Replay([path], decode)
    assert read_all(driver).tolist() == [(0, SPEED, 1.0)]
    assert driver.recording.samples == 1


def test_a_recording_with_nothing_known_in_it_still_ends(tmp_path: Path) -> None:
    driver = Replay([log(tmp_path / "a.log", 0.0, 100)], lambda frames, buses: empty_block())
    assert len(read_all(driver)) == 0
    assert driver.recording.frames == 100
    assert driver.recording.duration_s == pytest.approx(0.99)


def test_pace_gives_samples_when_they_are_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0]

    def waited(event: threading.Event, seconds: float) -> bool:
        now[0] += round(seconds * S)
        return event.is_set()

    monkeypatch.setattr(replay, "monotonic_ns", lambda: now[0])
    monkeypatch.setattr(replay, "wait", waited)
    driver = Replay([log(tmp_path / "a.log", 0.0, 100, step_s=0.1)], decode, pace=2.0)
    driver.open()
    seen: list[tuple[int, int]] = []
    while (block := driver.read(0.12)) is not None:
        seen.extend((now[0], int(t)) for t in block["t"])
    driver.close()
    assert len(seen) == 100
    assert all(at * 2.0 >= t - 2 for at, t in seen)  # never early
    assert all(at * 2.0 <= t + 0.24 * S for at, t in seen)  # never later than one read


def test_close_ends_a_paced_read_and_the_reading_thread(tmp_path: Path) -> None:
    driver = Replay([log(tmp_path / "a.log", 0.0, 300_000, step_s=10.0)], decode, pace=1.0)
    driver.open()
    first = driver.read(5.0)
    assert first is not None
    assert len(first) == 1
    assert any(thread.name == driver.name for thread in threading.enumerate())
    closing = threading.Timer(0.05, driver.close)
    closing.start()
    block = driver.read(60.0)
    assert block is not None
    assert len(block) == 0
    closing.join()
    assert not any(thread.name == driver.name for thread in threading.enumerate())


def test_a_bug_in_the_reading_thread_surfaces_in_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> int:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(candump.kernel, "parse", broken)
    driver = Replay([log(tmp_path / "a.log", 0.0, 10)], decode)
    driver.open()
    with pytest.raises(ZeroDivisionError, match="a bug"):
        driver.read(1.0)
    driver.close()


def test_a_bug_in_the_decoder_leaves_close_working(tmp_path: Path) -> None:
    def broken(frames: Frames, buses: list[str]) -> Block:
        raise ZeroDivisionError("a bug")

    driver = Replay([log(tmp_path / "a.log", 0.0, 300_000)], broken)
    driver.open()
    with pytest.raises(ZeroDivisionError):
        driver.read(1.0)
    driver.close()
    assert not any(thread.name == driver.name for thread in threading.enumerate())


def test_a_file_that_cannot_be_read_is_said_on_open(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"absent\.log"):
        Replay([tmp_path / "absent.log"], decode).open()


def test_opened_again_it_reads_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "a.log.xz"
    path.write_bytes(lzma.compress(log(tmp_path / "a.log", 0.0, 1000).read_bytes()))
    driver = Replay([path], decode)
    first = read_all(driver)
    assert np.array_equal(first, read_all(driver))
    assert driver.recording.frames == 1000
