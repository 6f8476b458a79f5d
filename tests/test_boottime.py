"""What UTC a boot shows: satellites teach it, delay never makes it later, old rollovers are repaired."""

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import Block, make_block
from agent.boottime import AGREEING, GPS_WEEKS_1024_NS, UNCERTAINTY_NS, BootTime
from agent.channels import number
from agent.clock import NS_PER_S

UTC_2026_NS = 1_780_000_000 * NS_PER_S
TIME = number("Gnss.Time")


def fixes(utc_at_zero_ns: int, delays_ms: list[int], *, start_s: int = 0) -> Block:
    return make_block(
        ((start_s + i) * NS_PER_S + d * 1_000_000, TIME, (utc_at_zero_ns + (start_s + i) * NS_PER_S) / NS_PER_S)
        for i, d in enumerate(delays_ms)
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 250), min_size=AGREEING, max_size=40))
def test_offset_is_within_the_stated_uncertainty_for_any_delay(delays_ms: list[int]) -> None:
    boot = BootTime()
    records = boot.learn(fixes(UTC_2026_NS, delays_ms))
    assert records
    assert boot.quality == "gnss"
    assert boot.offset_ns is not None
    assert 0 <= UTC_2026_NS - boot.offset_ns <= UNCERTAINTY_NS
    # milliseconds of the sample and its float representation round to the nearest
    assert abs(UTC_2026_NS - boot.offset_ns - min(delays_ms) * 1_000_000) <= 1_000_000


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 250), min_size=6, max_size=20), st.integers(1, 5))
def test_any_split_teaches_the_same(delays_ms: list[int], cut: int) -> None:
    block = fixes(UTC_2026_NS, delays_ms)
    whole, parts = BootTime(), BootTime()
    said = parts.learn(block[:cut]) + parts.learn(block[cut:])
    assert whole.learn(block) == said
    assert whole.offset_ns == parts.offset_ns


def test_a_single_wrong_time_is_not_believed() -> None:
    boot = BootTime()
    boot.learn(fixes(UTC_2026_NS, [10, 10, 10]))
    before = boot.offset_ns
    assert boot.learn(fixes(UTC_2026_NS + 3600 * NS_PER_S, [10], start_s=10)) == []
    assert boot.offset_ns == before
    boot.learn(fixes(UTC_2026_NS, [5], start_s=11))
    assert boot.offset_ns is not None
    assert abs(boot.offset_ns - UTC_2026_NS) < 10_000_000


def test_time_that_moved_for_good_is_followed_and_counted() -> None:
    boot = BootTime()
    boot.learn(fixes(UTC_2026_NS, [10] * 5))
    records = boot.learn(fixes(UTC_2026_NS + 3600 * NS_PER_S, [10] * 5, start_s=20))
    assert len(records) == 1
    assert boot.steps == 1


def test_week_rollover_is_repaired_on_a_live_boot_but_not_in_an_old_recording() -> None:
    rolled = UTC_2026_NS - GPS_WEEKS_1024_NS
    live = BootTime()
    live.learn(fixes(rolled, [0] * 4))
    assert live.rollovers > 0
    assert live.offset_ns is not None
    assert abs(live.offset_ns - UTC_2026_NS) <= 1_000_000
    old = BootTime(recorded=True)
    old.learn(fixes(rolled, [0] * 4))
    assert old.rollovers == 0
    assert old.offset_ns is not None
    assert abs(old.offset_ns - rolled) <= 1_000_000


def test_a_counter_from_1970_teaches_nothing() -> None:
    boot = BootTime(recorded=True)
    assert boot.learn(fixes(5 * NS_PER_S, [0] * 5)) == []
    assert boot.quality == "none"


def test_satellites_replace_a_restored_time() -> None:
    boot = BootTime()
    assert boot.restore(0, UTC_2026_NS - 900 * NS_PER_S).quality == "restored"
    boot.learn(fixes(UTC_2026_NS, [0] * 3))
    assert boot.quality == "gnss"
    assert boot.steps == 0
