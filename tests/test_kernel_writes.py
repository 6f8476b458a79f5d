"""The reader of recorded writes: what was flushed is there in every image, what was not may be, in parts."""

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.writes import DISCARD, FLUSH, FUA, Disk, Log

SECTOR = 512
SIZE = 8 * SECTOR


def record(path: Path, *requests: tuple[int, int, bytes]) -> Path:
    """Write a log of (flags, sector, data)."""
    with path.open("wb") as file:
        file.write(struct.pack("<QQQI", 0x6A736677736872, 1, len(requests), SECTOR).ljust(SECTOR, b"\0"))
        for flags, sector, data in requests:
            file.write(struct.pack("<QQQQ", sector, len(data) // SECTOR, flags, 0).ljust(SECTOR, b"\0"))
            file.write(b"" if flags & DISCARD else data)
    return path


def sector(letter: bytes, count: int = 1) -> bytes:
    return letter * SECTOR * count


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    found = Log(
        record(
            tmp_path / "log",
            (0, 0, sector(b"a")),
            (0, 1, sector(b"b")),
            (FLUSH, 0, b""),
            (0, 0, sector(b"c", 4)),
            (FUA, 5, sector(b"f")),
            (0, 6, sector(b"d")),
        )
    )
    yield found
    found.close()


def told(image: bytearray) -> str:
    return "".join(chr(image[at]) if image[at] else "." for at in range(0, SIZE, SECTOR))


def test_before_a_flush_anything_may_be_lost_and_after_it_nothing_is(log: Log) -> None:
    disk = Disk(log, bytearray(SIZE))
    disk.advance(2)
    assert told(disk.cut(random.Random(1), "none")) == "........"
    assert told(disk.cut(random.Random(1), "all")) == "ab......"
    disk.advance(3)
    assert told(disk.cut(random.Random(1), "none")) == "ab......"
    disk.advance(6)
    assert told(disk.cut(random.Random(1), "none")) == "ab...f.."
    assert told(disk.cut(random.Random(1), "all")) == "cccc.fd."


def test_some_and_torn_writes_come_in_every_way_and_never_what_was_not_written(log: Log) -> None:
    disk = Disk(log, bytearray(SIZE))
    disk.advance(6)
    seen = {told(disk.cut(random.Random(seed), how)) for seed in range(200) for how in ("some", "torn")}
    assert {s[:4] for s in seen} == {"ab..", "cb..", "cc..", "ccc.", "cccc"}
    assert {s[4:] for s in seen} == {".f..", ".fd."}


def test_a_card_that_lies_about_flushes_may_lose_what_it_called_safe(log: Log) -> None:
    disk = Disk(log, bytearray(SIZE), lies=1)
    disk.advance(6)
    assert told(disk.cut(random.Random(1), "none")) == "........"
    assert told(disk.cut(random.Random(1), "all")) == "cccc.fd."


def test_a_discard_leaves_zeros_and_a_log_that_ends_in_the_middle_is_read_to_there(tmp_path: Path) -> None:
    path = record(tmp_path / "log", (0, 0, sector(b"a", 2)), (DISCARD, 0, sector(b"x")), (0, 3, sector(b"z")))
    path.write_bytes(path.read_bytes()[:-1])
    log = Log(path)
    disk = Disk(log, bytearray(SIZE))
    disk.advance(len(log.writes))
    assert len(log.writes) == 2
    assert told(disk.cut(random.Random(1), "all")) == ".a......"
    log.close()


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(bytes(1024))
    with pytest.raises(ValueError, match="no log of writes"):
        Log(tmp_path / "log")
