"""Time in recordings: disorder, gaps, clock steps and damaged stamps."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import BLOCK, Block, Frames, empty_frames
from drivers.recording import timeline
from drivers.recording.base import RecordingBase
from drivers.recording.batch import join
from drivers.recording.merge import Stream, merge, timed
from drivers.recording.timeline import Timeline

S = 1_000_000_000
DAY = 86_400 * S
TODAY = 1_700_000_000 * S


def straighten(stamps_ns: list[int], cuts: list[int] | None = None) -> tuple[Frames, RecordingBase]:
    """Send frames with these stamps through a time line; their ids are their positions in the file."""
    recording = RecordingBase(Path("x.log"))
    line: Timeline[Frames] = Timeline(recording)
    frames = empty_frames(len(stamps_ns))
    frames.t[:] = stamps_ns
    frames.id[:] = np.arange(len(stamps_ns))
    bounds = sorted({0, len(stamps_ns), *(c for c in cuts or [] if c < len(stamps_ns))})
    given_out = [line.push(Frames(*[column[a:b].copy() for column in frames])) for a, b in pairwise(bounds)]
    return join([f for f in [*given_out, line.finish()] if f is not None] or [empty_frames(0)]), recording


def test_small_disorder_between_buses_is_sorted() -> None:
    frames, recording = straighten([10 * S, 11 * S, 11 * S - 400_000_000, 12 * S])
    assert frames.id.tolist() == [0, 2, 1, 3]
    assert frames.t.tolist() == [0, 600_000_000, S, 2 * S]
    assert recording.counts.time_steps == 0


def test_a_first_frame_that_is_late_does_not_make_time_negative() -> None:
    frames, recording = straighten([TODAY + S, TODAY + S - 500_000_000, TODAY + 2 * S])
    assert frames.t.tolist() == [0, 500_000_000, 1_500_000_000]
    assert recording.start_utc_ns == TODAY + 500_000_000


def test_a_clock_set_back_does_not_become_motion() -> None:
    frames, recording = straighten([TODAY + k * S for k in range(5)] + [TODAY - 3600 * S + k * S for k in range(5)])
    assert frames.t.tolist() == [k * S for k in (0, 1, 2, 3, 4, 4, 5, 6, 7, 8)]
    assert recording.counts.time_steps == 1
    assert recording.problems == ["frame 6: the recorder's clock was set back by 3604.000 s; it is left out"]


def test_a_gap_of_hours_stays_a_gap() -> None:
    frames, recording = straighten([TODAY, TODAY + S, TODAY + 7200 * S, TODAY + 7201 * S])
    assert frames.t.tolist() == [0, S, 7200 * S, 7201 * S]
    assert recording.counts.time_steps == 0


def test_a_clock_that_jumps_from_1970_to_today_is_a_step_and_tells_the_start() -> None:
    frames, recording = straighten([5 * S, 6 * S, TODAY, TODAY + S])
    assert frames.t.tolist() == [0, S, S, 2 * S]
    assert recording.start_utc_ns == TODAY - S
    assert "forward" in recording.problems[0]


def test_stamps_before_2000_are_not_absolute() -> None:
    assert straighten([46_408 * S, 46_409 * S])[1].start_utc_ns is None


@pytest.mark.parametrize("off", [500 * S, -500 * S, 700 * DAY, -700 * DAY])
def test_one_damaged_stamp_takes_the_time_of_the_frame_before(off: int) -> None:
    stamps = [TODAY + k * S // 10 for k in range(10)]
    stamps[5] += off
    frames, recording = straighten(stamps)
    assert frames.t.tolist() == [k * S // 10 for k in (0, 1, 2, 3, 4, 4, 6, 7, 8, 9)]
    assert (recording.counts.bad_times, recording.counts.time_steps) == (1, 0)


def test_many_frames_of_one_time_are_given_out_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "MOST_HELD", 100)
    line: Timeline[Frames] = Timeline(RecordingBase(Path("x.log")))
    for _ in range(10):
        line.push(empty_frames(50))
        assert line._held is None or len(line._held.t) <= 101


STAMPS = st.lists(
    st.one_of(
        st.integers(0, 3 * S), st.integers(-2 * S, 2 * S),
        st.sampled_from([0, 1, S, -S, 500 * S, -500 * S, 31 * DAY, TODAY]),
    ),
    max_size=40,
).map(lambda steps: np.abs(np.cumsum([0, *steps], dtype=np.int64)).tolist())  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(stamps=STAMPS, cuts=st.lists(st.integers(0, 40), max_size=10))
def test_any_split_gives_the_same_frames_in_order_and_none_is_lost(stamps: list[int], cuts: list[int]) -> None:
    whole, recording = straighten(stamps)
    parts, part_recording = straighten(stamps, cuts)
    assert whole.t.tolist() == parts.t.tolist()
    assert whole.id.tolist() == parts.id.tolist()
    assert recording.counts == part_recording.counts
    assert recording.start_utc_ns == part_recording.start_utc_ns
    assert sorted(whole.id.tolist()) == list(range(len(stamps)))
    assert np.all(np.diff(whole.t) >= 0)
    assert whole.t[0] == 0


@settings(max_examples=150, deadline=None)
@given(stamps=STAMPS)
def test_the_kernel_equals_its_python_self(stamps: list[int]) -> None:
    results = []
    for function in (timeline.place, timeline.place.py_func):
        t = np.array(stamps, np.int64)
        state, steps = np.array([0, 0, 0, -1, 0, 0, 0], np.int64), np.zeros((4, 2), np.int64)
        ordered = function(t, 0, len(t), state, steps)
        results.append((bool(ordered), t.tolist(), state.tolist(), steps.tolist()))
    assert results[0] == results[1]


def samples(times: list[int], channel: int) -> Block:
    block = np.zeros(len(times), BLOCK)
    block["t"], block["channel"] = times, channel
    return block


@settings(max_examples=100, deadline=None)
@given(
    streams=st.lists(st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=5), max_size=6), min_size=1, max_size=4)
)
def test_merged_streams_are_in_order_and_complete(streams: list[list[list[int]]]) -> None:
    made = []
    for number, batches in enumerate(streams):
        flat = sorted(t for batch in batches for t in batch)
        blocks, at = [], 0
        for batch in batches:
            blocks.append(samples(flat[at : at + len(batch)], number))
            at += len(batch)
        made.append(Stream(timed(iter(blocks)), flat[0] if flat else 0))
    merged = [*merge(made)]
    t = [int(x) for block in merged for x in block["t"]]
    assert t == sorted(x for batches in streams for batch in batches for x in batch)


def test_a_stream_is_not_read_before_its_start() -> None:
    opened = []

    def late() -> "list[Block]":
        opened.append(True)
        return [samples([100], 2)]

    def lazily() -> "object":
        yield from timed(iter(late()))

    merged = merge([Stream(timed(iter([samples([1], 1), samples([2], 1)])), 0), Stream(lazily(), 100)])  # type: ignore[arg-type]
    assert next(merged)["t"].tolist() == [1]
    assert opened == []
    assert [b["t"].tolist() for b in merged] == [[2], [100]]
