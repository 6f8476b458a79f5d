"""The queue between feeds and spine: merged by time, bounded, counted; records are never dropped."""

import threading

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import Block, make_block
from agent.intake import Intake
from agent.records import Health

S = 1_000_000_000
MS = 1_000_000


def block(*times: int, channel: int = 1) -> Block:
    return make_block([(t, channel, float(t)) for t in times])


def times(taken: tuple[Block, list[Health]]) -> list[int]:
    return taken[0]["t"].tolist()  # type: ignore[no-any-return]


def test_samples_wait_for_what_another_feed_may_still_bring() -> None:
    intake = Intake(1000, 500 * MS)
    intake.put("gps", block(5), now_ns=0)
    intake.put("imu", block(1, 4, 7, 9), now_ns=0)
    assert times(intake.take(0)) == [1, 4, 5]
    intake.put("gps", block(8), now_ns=1)
    assert times(intake.take(1)) == [7, 8]


def test_a_silent_feed_holds_the_others_no_longer_than_allowed() -> None:
    intake = Intake(1000, 500 * MS)
    intake.put("gps", block(5), now_ns=0)
    intake.put("imu", block(6, 7), now_ns=0)
    assert times(intake.take(499 * MS)) == [5]
    assert times(intake.take(500 * MS)) == [6, 7]


def test_a_feed_that_left_holds_nobody() -> None:
    intake = Intake(1000, 500 * MS)
    intake.put("gps", block(5), now_ns=0)
    intake.put("imu", block(6, 7), now_ns=0)
    intake.leave("gps")
    assert times(intake.take(1)) == [5, 6, 7]


def test_late_samples_are_counted_and_never_go_back_in_time() -> None:
    intake = Intake(1000, 500 * MS)
    intake.put("imu", block(10, 20), now_ns=0)
    assert times(intake.take(0)) == [10, 20]
    intake.put("gps", block(12, 15, 20, 25), now_ns=1)
    intake.put("imu", block(30), now_ns=1)
    assert times(intake.take(1)) == [20, 25]
    assert intake.counts("gps") == {"late": 2}
    assert intake.counts("imu") == {}


def test_a_full_queue_drops_the_oldest_counts_by_feed_and_says_so_when_it_begins_and_ends() -> None:
    intake = Intake(100, 500 * MS)
    for i in range(30):
        intake.put("can", block(*range(10 * i, 10 * i + 10)), now_ns=i)
        intake.put("gps", block(10 * i), now_ns=i)
        intake.tell(Health(t_ns=i, source="gps", state="ok", detail="kept"))
    taken, told = intake.take(S)
    assert len(taken) <= 100
    assert intake.high_water == 100
    dropped = intake.counts("can")["dropped"] + intake.counts("gps")["dropped"]
    assert len(taken) + dropped == 330
    assert taken["t"][-1] == 299  # the newest are there
    queue = [h for h in told if h.source == "queue"]
    assert [h.state for h in queue] == ["degraded", "ok"]
    assert queue[1].counts == {"can": intake.counts("can")["dropped"], "gps": intake.counts("gps")["dropped"]}
    assert sum(h.source == "gps" for h in told) == 30


def test_a_recording_waits_for_room_and_loses_nothing() -> None:
    intake = Intake(100, 500 * MS)

    def feed() -> None:
        for i in range(100):
            intake.put("replay", block(*range(20 * i, 20 * i + 20)), now_ns=0, patient=True)

    thread = threading.Thread(target=feed)
    thread.start()
    seen: list[int] = []
    while thread.is_alive() or not seen or seen[-1] < 1999:
        intake.woken.wait(0.1)
        intake.woken.clear()
        seen += times(intake.take(0))
    thread.join()
    assert seen == list(range(2000))
    assert intake.counts("replay") == {}


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.lists(st.integers(0, 300), min_size=1, max_size=8), st.integers(0, 40)),
        max_size=30,
    ),
    st.booleans(),
)
def test_whatever_comes_goes_on_once_in_order_or_is_counted(
    puts: list[tuple[str, list[int], int]], small: bool
) -> None:
    intake = Intake(25 if small else 10_000, 30)
    now_ns = given_count = 0
    reached = dict.fromkeys("abc", 0)
    out: list[np.ndarray] = []
    for name, ahead, passed in puts:
        own = sorted(reached[name] + a for a in ahead)
        reached[name] = own[-1]
        now_ns += passed
        intake.put(name, block(*own, channel=ord(name)), now_ns)
        given_count += len(own)
        out.append(intake.take(now_ns)[0])
    out.append(intake.take(now_ns, everything=True)[0])
    joined = np.concatenate(out)
    assert np.all(np.diff(joined["t"]) >= 0)
    lost = sum(sum(intake.counts(n).values()) for n in "abc")
    assert len(joined) + lost == given_count
    if not small:
        assert all("dropped" not in intake.counts(n) for n in "abc")
