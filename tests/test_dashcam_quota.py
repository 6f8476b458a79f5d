"""The loop: the oldest go, kept ones never; keep requests may come, go and be torn at any time."""

import errno
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dashcam import segments
from agent.dashcam.quota import MOST_REFUSED, Quota

BOOT = "0123456789abcdef0123456789abcdef"
S = 1_000_000_000
SIZE = 1000


def add(folder: Path, camera: str, number: int, boot: str = BOOT) -> segments.Name:
    path = folder / camera / segments.file_name(boot, number, number * 2 * S, (number + 1) * 2 * S)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(SIZE))
    return segments.Name(path, boot, number, number * 2 * S, (number + 1) * 2 * S)


def left(folder: Path, camera: str = "front") -> list[int]:
    return [n.sequence for n in segments.names(folder, camera)]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)), max_size=3), st.integers(1, 12), st.integers(5, 40))
@settings(max_examples=60, deadline=None)
def test_the_newest_that_fit_and_all_that_is_kept_stand(tmp_path_factory, ranges, most, count) -> None:
    folder = tmp_path_factory.mktemp("video")
    for i, (start, length) in enumerate(ranges):
        segments.keep(folder, f"k{i}", BOOT, start * S, (start + length) * S)
    kept = {n for n in range(count) for a, b in ranges if n * 2 <= a + b and a < (n + 1) * 2}
    quota = Quota(folder, {"front": most * SIZE}, 0)
    quota.begin()
    for number in range(count):
        quota.add("front", add(folder, "front", number))
        quota.make_room()
    there = left(folder)
    assert kept <= set(there)
    assert quota.bytes_of("front") == len(there) * SIZE
    loose = [n for n in range(count) if n not in kept]
    room = max(0, most - len(kept))
    assert [n for n in there if n not in kept] == loose[len(loose) - min(room, len(loose)) :]
    assert quota.full == (len(kept) > most)


def test_free_space_is_taken_from_the_camera_that_holds_most(tmp_path: Path) -> None:
    free = [0]

    def disk(path: Path) -> int:
        there = sum(len(left(tmp_path, c)) for c in ("front", "rear"))
        return free[0] + (30 - there) * SIZE

    for number in range(20):
        add(tmp_path, "front", number)
        if number < 10:
            add(tmp_path, "rear", number)
    quota = Quota(tmp_path, {"front": 10**9, "rear": 10**9}, 6 * SIZE, free=disk)
    quota.begin()
    assert quota.make_room() == 6
    assert left(tmp_path) == list(range(6, 20))
    assert left(tmp_path, "rear") == list(range(10))
    free[0] = -100 * SIZE
    segments.keep(tmp_path, "all", BOOT, 0, 100 * S)
    assert quota.make_room() == 0
    assert quota.full
    segments.release(tmp_path, "all")
    quota.make_room()
    assert left(tmp_path) == left(tmp_path, "rear") == []


def test_only_segments_of_the_same_boot_are_kept(tmp_path: Path) -> None:
    quota = Quota(tmp_path, {"front": 2 * SIZE}, 0)
    for number in range(3):
        quota.add("front", add(tmp_path, "front", number, boot="f" * 32))
    segments.keep(tmp_path, "a", BOOT, 0, 2 * S)
    assert quota.make_room() == 1
    assert left(tmp_path) == [1, 2]


def test_a_torn_keep_file_is_counted_and_protects_nothing(tmp_path: Path) -> None:
    quota = Quota(tmp_path, {"front": SIZE}, 0)
    for number in range(3):
        quota.add("front", add(tmp_path, "front", number))
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep" / "a.json").write_text('{"boot": "0123')
    assert quota.make_room() == 2
    assert quota.bad_keeps == 1


def test_what_an_earlier_run_left_counts(tmp_path: Path) -> None:
    for number in range(5):
        add(tmp_path, "front", number)
    quota = Quota(tmp_path, {"front": 3 * SIZE}, 0)
    quota.begin()
    assert quota.bytes_of("front") == 5 * SIZE
    assert quota.make_room() == 2
    assert left(tmp_path) == [2, 3, 4]


def test_what_a_disk_refuses_to_delete_counts_is_told_and_goes_when_it_lets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: set[int] = set(range(100))
    tried: list[int] = []
    unlink = Path.unlink

    def disk(path: Path, missing_ok: bool = False) -> None:
        number = next(n.sequence for n in segments.names(tmp_path, "front") if n.path == path)
        tried.append(number)
        if number in refused:
            raise OSError(errno.EROFS, "Read-only file system")
        unlink(path, missing_ok)

    for number in range(60):
        add(tmp_path, "front", number)
    quota = Quota(tmp_path, {"front": 30 * SIZE}, 0)
    quota.begin()
    monkeypatch.setattr(Path, "unlink", disk)
    for _ in range(5):  # a disk that has become read-only
        tried.clear()
        assert quota.make_room() == 0
        assert quota.bytes_of("front") == 60 * SIZE
        assert 0 < len(tried) <= MOST_REFUSED  # not all that stand, every second
        assert "Read-only file system" in quota.refusal
        assert not quota.full  # it is not that all is kept
    refused = {0, 2}  # it is writable again, but for two names
    while quota.bytes_of("front") > 30 * SIZE:
        assert quota.make_room() > 0
    assert left(tmp_path) == [0, 2, *range(32, 60)]  # the oldest that could go went
    for number in range(60, 64):
        quota.add("front", add(tmp_path, "front", number))
        assert quota.make_room() == 1
    assert quota.refusal
    refused = set()
    for number in range(64, 67):
        quota.add("front", add(tmp_path, "front", number))
        assert quota.make_room() == 1
    assert quota.refusal == ""
    assert left(tmp_path) == list(range(37, 67))
