"""Ranges and the messages about files: what is made comes back, what is wrong is refused."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import filemessages, messages, ranges
from agent.filemessages import Files, Init, OpenFile
from agent.messages import MessageError

DEVICE = "rw-0123456789abcdef"
SIZE = 40
PIECES = st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), max_size=20)


def bytes_of(held: ranges.Ranges) -> set[int]:
    return {x for low, high in held for x in range(low, high)}


@settings(max_examples=300, deadline=None)
@given(PIECES, PIECES)
def test_ranges_are_sets_of_bytes(added: list[tuple[int, int]], removed: list[tuple[int, int]]) -> None:
    held: ranges.Ranges = []
    expected: set[int] = set()
    for a, b in added:
        held = ranges.add(held, a, b)
        expected |= set(range(a, b))
    for a, b in removed:
        held = ranges.remove(held, a, max(a, b))
        expected -= set(range(a, b))
        assert ranges.overlap(held, a, b) == bool(expected & set(range(a, b)))
    assert bytes_of(held) == expected
    assert ranges.total(held) == len(expected)
    assert bytes_of(ranges.missing(held, SIZE)) == set(range(SIZE)) - expected
    ends = [x for pair in held for x in pair]
    assert ends == sorted(ends)
    assert all(low < high for low, high in held)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**53 - 1), st.binary(max_size=64))
def test_topics_of_files_are_made_and_taken_apart(offset: int, chunk: bytes) -> None:
    file = hashlib.sha256(chunk).hexdigest()
    for topic, expected in [
        (filemessages.init_topic(DEVICE, file), (file, "init", 0, "")),
        (filemessages.chunk_topic(DEVICE, file, offset, chunk), (file, "chunk", offset, file)),
        (filemessages.fin_topic(DEVICE, file, offset), (file, "fin", offset, file)),
    ]:
        where = messages.address(topic)
        assert (where.device, where.what) == (DEVICE, "file")
        assert filemessages.file_address(where.lane) == expected


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789abcdef/inft", max_size=200))
def test_other_topics_are_refused_and_nothing_else_is_raised(rest: str) -> None:
    try:
        found = filemessages.file_address(rest)
    except MessageError:
        return
    assert rest.startswith(found.file)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_garbage_is_refused_and_nothing_else_is_raised(payload: bytes) -> None:
    for decode in (filemessages.decode_files, filemessages.decode_init):
        with pytest.raises(MessageError):
            decode(payload)


def test_answers_come_back_and_impossible_ones_are_refused() -> None:
    answer = Files(
        device=DEVICE,
        session="s",
        open={"ab" * 32: OpenFile(3, [(0, 5), (7, 9)])},
        done=["cd" * 32],
        refused={"ef" * 32: "why"},
        packages={"0" * 16: "12" * 32},
    )
    assert filemessages.decode_files(filemessages.encode_files(answer)) == answer
    for missing in ([(5, 5)], [(5, 3)], [(0, 5), (3, 9)], [(7, 9), (0, 5)], [(-1, 4)], [(0, 1)] * 66):
        bad = Files(device=DEVICE, session="s", open={"ab" * 32: OpenFile(3, missing)})
        with pytest.raises(MessageError):
            filemessages.decode_files(filemessages.encode_files(bad))
    with pytest.raises(MessageError, match="too large"):
        filemessages.decode_files(b" " * (filemessages.MAX_ANSWER + 1))
    init = Init(name="imu.csv", size=5, checksum="ab" * 32)
    assert filemessages.decode_init(filemessages.encode_init(init)) == init


@pytest.mark.parametrize("name", ["../x", ".x", "a/b", "a\\b", "", "x" * 101, "a\n", "a\0", "Ω", "-a"])
def test_names_that_are_not_safe_everywhere_are_refused(name: str) -> None:
    assert not filemessages.safe_name(name)
    with pytest.raises(MessageError):
        filemessages.decode_init(filemessages.encode_init(Init(name=name, size=5, checksum="ab" * 32)))


@pytest.mark.parametrize("name", ["crash.json", "clip-front.mp4", "manifest.sig", "x" * 100, "0"])
def test_names_of_our_files_are_safe(name: str) -> None:
    assert filemessages.safe_name(name)
