"""The store: lanes, chain, positions, samples, time, retention."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import empty_block
from agent.chain import START, linked, public_bytes, signed_by
from agent.errors import ConfigError, StoreError
from agent.identity import KEY_FILE
from agent.records import LANES, Event, Health
from agent.store import Store, StoreSettings, Utc
from tests.store_inputs import DAY_NS, UTC_2026, S, clock, drive, event, health, track, trip

ROOT = Path(__file__).parents[1]


class HandClock:
    """A monotonic clock that moves when told."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path) as opened:
        opened.begin_boot("boot-1")
        yield opened


def sql(directory: Path, statement: str, *parameters: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(directory / "store.db")) as connection, connection:
        return connection.execute(statement, parameters).fetchall()


# lanes


def test_entries_are_chained_signed_and_given_back_in_order(store: Store) -> None:
    first = store.append([(5, health(5)), (6, event(6)), (7, health(7))])
    second = store.append([(8, event(8))])
    assert [(e.lane, e.seq) for e in first + second] == [("health", 1), ("event", 1), ("health", 2), ("event", 2)]
    assert store.heads() == {lane: {"health": 2, "event": 2}.get(lane, 0) for lane in LANES}
    for lane in ("health", "event"):
        previous = START
        entries = store.pending(lane, 0, 1_000_000)
        assert entries == [e for e in first + second if e.lane == lane]
        for entry in entries:
            assert linked(store.device, previous, entry)
            assert signed_by(store.public_key, entry)
            previous = entry.hash


def test_the_chain_goes_on_after_reopening(tmp_path: Path) -> None:
    for turn in range(3):
        with Store.open(tmp_path) as store:
            assert store.begin_boot(f"boot-{turn}") == turn + 1
            store.append([(1, event(1))])
    with Store.open(tmp_path, read_only=True) as store:
        assert store.heads()["event"] == 3
        assert store.verify().ok
        assert [row.boot for row in store.events()] == ["boot-0", "boot-1", "boot-2"]


def test_the_same_boot_again_keeps_its_number(store: Store) -> None:
    assert [store.begin_boot(b) for b in ("boot-1", "boot-2", "boot-1", "boot-3")] == [1, 2, 1, 3]


def test_pending_stays_within_its_bytes_but_always_moves(store: Store) -> None:
    entries = store.append([(t, event(t)) for t in range(10)])
    one = len(entries[0].body) + 200
    assert store.pending("event", 0, 1) == entries[:1]
    assert store.pending("event", 3, 3 * one) == entries[3:6]
    assert store.pending("event", 10, 1000) == []
    assert store.pending("crash", 0, 1000) == []


def test_positions_only_move_forward(store: Store) -> None:
    store.append([(t, event(t)) for t in range(5)])
    store.acknowledge({"event": 3, "no such lane": 7})
    store.acknowledge({"event": 2})
    assert store.positions()["event"] == 3
    assert store.lineage == store.pending("event", 3, 1)[0].lineage


def test_nothing_is_stored_before_a_boot(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        with pytest.raises(StoreError, match="begin_boot"):
            store.append([(1, event(1))])
        with pytest.raises(StoreError, match="begin_boot"):
            store.append_block(drive(1))


def test_an_older_copy_of_the_store_begins_a_new_lineage(store: Store) -> None:
    old = store.lineage
    store.append([(t, event(t)) for t in range(5)])
    store.acknowledge({"event": 2})
    store.acknowledge({"event": 9})  # the receiver holds 9: this file has forgotten some
    assert store.lineage != old
    entries = store.pending("event", 0, 1_000_000)
    assert [e.seq for e in entries] == [1, 2, 3]
    assert [e.t_ns for e in entries] == [2, 3, 4]
    assert store.positions()["event"] == 0
    assert [row.record.t_ns for row in store.events()] == [0, 1, 2, 3, 4]
    store.append([(9, event(9))])
    assert store.heads()["event"] == 4
    assert store.verify().ok


def test_another_hash_at_the_acknowledged_place_begins_a_new_lineage(store: Store) -> None:
    entries = store.append([(t, event(t)) for t in range(5)])
    old = store.lineage
    store.acknowledge({"event": 3}, {"event": entries[2].hash})
    assert (store.lineage, store.positions()["event"]) == (old, 3)
    store.acknowledge({"event": 4}, {"event": bytes(32)})
    assert store.lineage != old
    assert [e.t_ns for e in store.pending("event", 0, 1_000_000)] == [3, 4]
    assert store.verify().ok


def test_another_key_begins_a_new_lineage_and_signs_what_was_not_sent(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.begin_boot("boot-1")
        store.append([(1, event(1)), (2, event(2))])
        store.acknowledge({"event": 1})
        before = (store.device, store.lineage)
    (tmp_path / KEY_FILE).unlink()
    with Store.open(tmp_path) as store:
        assert store.device != before[0]
        assert store.lineage != before[1]
        (entry,) = store.pending("event", 0, 10_000)
        assert entry.t_ns == 2
        assert signed_by(store.public_key, entry)
        assert store.verify().ok


def test_a_record_that_cannot_be_stored_leaves_nothing_of_its_batch(store: Store) -> None:
    class Stranger(Health, frozen=True, kw_only=True):
        pass

    with pytest.raises(KeyError):
        store.append([(1, event(1)), (2, Stranger(t_ns=2, source="x", state="ok", detail=""))])
    assert store.heads()["event"] == 0
    store.append([(3, event(3))])
    assert [row.record.t_ns for row in store.events()] == [3]


# tampering


@pytest.mark.parametrize("column", ["body", "hash", "signature", "t_ns", "kind"])
def test_a_changed_byte_is_named(tmp_path: Path, column: str) -> None:
    with Store.open(tmp_path) as store:
        store.begin_boot("boot-1")
        store.append([(t, event(t)) for t in range(6)] + [(1, health(1))])
    other = f"CASE SUBSTR({column}, 10, 1) WHEN x'58' THEN x'59' ELSE x'58' END"
    change = {
        "t_ns": "t_ns + 1",
        "kind": "'health'",
    }.get(column, f"CAST(SUBSTR({column}, 1, 9) || {other} || SUBSTR({column}, 11) AS BLOB)")
    sql(tmp_path, f"UPDATE entry SET {column} = {change} WHERE lane = 'event' AND seq = 4")
    with Store.open(tmp_path, read_only=True) as store:
        (fault,) = store.verify().faults
        assert (fault.lineage, fault.lane, fault.seq) == (store.lineage, "event", 4)


@pytest.mark.parametrize(
    ("statement", "seq"),
    [
        ("DELETE FROM entry WHERE seq = 3", 3),
        ("DELETE FROM entry WHERE seq = 6", 6),
        ("DELETE FROM entry WHERE seq = 1", 1),
        ("UPDATE entry SET seq = CASE seq WHEN 2 THEN -1 WHEN 3 THEN -2 END WHERE seq IN (2, 3)", 2),
        ("UPDATE lane SET base = 2 WHERE lane = 'event'", 3),
        ("UPDATE lane SET head = 5 WHERE lane = 'event'", 6),
        ("UPDATE lane SET head_hash = zeroblob(32) WHERE lane = 'event'", 6),
    ],
)
def test_a_removed_or_moved_entry_is_named(tmp_path: Path, statement: str, seq: int) -> None:
    with Store.open(tmp_path) as store:
        store.begin_boot("boot-1")
        store.append([(t, event(t)) for t in range(6)])
    sql(tmp_path, statement)
    if "-1" in statement:
        sql(tmp_path, "UPDATE entry SET seq = seq + 4 WHERE seq < 0")  # 2 and 3 have changed places
    with Store.open(tmp_path, read_only=True) as store:
        assert [(f.lane, f.seq) for f in store.verify().faults] == [("event", seq)]


def test_entries_signed_by_another_key_are_named(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.begin_boot("boot-1")
        entries = store.append([(t, event(t)) for t in range(3)])
        trusted = store.public_key
    forger = Ed25519PrivateKey.generate()
    sql(tmp_path, "UPDATE entry SET signature = ? WHERE seq = 2", forger.sign(entries[1].hash))
    with Store.open(tmp_path, read_only=True) as store:
        (fault,) = store.verify().faults
        assert (fault.seq, fault.cause) == (2, "signature is not by the device's key")
        assert [f.seq for f in store.verify(public_bytes(forger)).faults] == [1]
        assert store.verify(trusted).faults == [fault]


def test_a_changed_block_is_named_and_left_out_of_what_is_read(tmp_path: Path) -> None:
    whole = drive(180)
    with Store.open(tmp_path) as store:
        store.begin_boot("boot-1")
        store.append_block(whole, last=True)
    sql(
        tmp_path,
        "UPDATE block SET data = CAST(SUBSTR(data, 1, 99) || x'00ff' || SUBSTR(data, 102) AS BLOB) WHERE id = 2",
    )
    with Store.open(tmp_path, read_only=True) as store:
        assert [(f.lane, f.seq) for f in store.verify().faults] == [("block", 2)]
        t = whole["t"]
        assert np.array_equal(store.read_block(0, 180 * S, "boot-1"), whole[(t < 60 * S) | (t >= 120 * S)])


# samples


def test_samples_come_back_exactly_by_time_and_channel(store: Store) -> None:
    whole = drive(150)
    store.append_block(whole[:1001])
    store.append_block(empty_block())
    store.append_block(whole[1001:])
    assert np.array_equal(store.read_block(0, 150 * S, "boot-1"), whole)
    t = whole["t"]
    part = whole[(t >= 59 * S) & (t < 61 * S) & (whole["channel"] == 60)]
    assert np.array_equal(store.read_block(59 * S, 61 * S, "boot-1", [60]), part)
    assert len(store.read_block(0, 150 * S, "boot-2")) == 0
    store.begin_boot("boot-2")
    store.append_block(drive(1, seed=2), last=True)
    assert np.array_equal(store.read_block(0, 150 * S, "boot-1"), whole)
    assert np.array_equal(store.read_block(0, 150 * S, "boot-2"), drive(1, seed=2))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 6000), max_size=12))
def test_any_split_of_the_samples_stores_the_same_blocks(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    whole = drive(150)
    stored = []
    for at in ([], sorted(cuts)):
        directory = tmp_path_factory.mktemp("split")
        with Store.open(directory) as store:
            store.begin_boot("boot-1")
            for part in np.split(whole, at):
                store.append_block(part)
        stored.append(sql(directory, "SELECT start_ns, end_ns, samples, bytes, data FROM block"))
    assert stored[0] == stored[1]
    assert len(stored[0]) == 3


def test_samples_of_a_recording_are_committed_by_the_wall_and_folded_once_a_minute(tmp_path: Path) -> None:
    hand = HandClock()
    with (
        Store.open(tmp_path, StoreSettings(piece_s=1.0), monotonic_ns=hand) as store,
        Store.open(tmp_path, read_only=True) as reader,
    ):
        store.begin_boot("boot-1")
        for second in range(60):
            for tenth in range(10):
                hand.ns += S // 10
                store.append_block(drive(0.1, start_ns=second * S + tenth * S // 10))
            assert len(reader.read_block(0, 100 * S, "boot-1")) == (second + 1) * 40
        assert sql(tmp_path, "SELECT COUNT(*) FROM piece") == [(60,)]
        store.append_block(drive(0.1, start_ns=60 * S))
        assert sql(tmp_path, "SELECT COUNT(*), SUM(samples) FROM block") == [(1, 2400)]
        assert sql(tmp_path, "SELECT COUNT(*) FROM piece") == [(0,)]


@pytest.mark.parametrize("lag_s", [0.1, 0.3, 0.6])
def test_live_samples_are_durable_within_a_second_however_late_they_come(tmp_path: Path, lag_s: float) -> None:
    hand = HandClock()
    start_ns = hand.ns
    with Store.open(tmp_path, monotonic_ns=hand) as store, Store.open(tmp_path, read_only=True) as reader:
        store.begin_boot("boot-1")
        for tenth in range(100):
            hand.ns += S // 10
            if tenth >= 20:
                kept = reader.read_block(0, hand.ns, "boot-1")
                assert hand.ns - int(kept["t"][-1]) <= 0.95 * S
            store.append_block(drive(0.1, start_ns=start_ns + tenth * S // 10 - round(lag_s * S)))
        (pieces,) = sql(tmp_path, "SELECT COUNT(*) FROM piece")[0]
        assert pieces <= 51


def test_a_caller_may_use_its_array_again(store: Store) -> None:
    block = drive(10)
    store.append_block(block)
    block["value"] = 0
    assert np.array_equal(store.read_block(0, 10 * S, "boot-1"), drive(10))


def test_samples_that_came_late_are_read_in_order(store: Store) -> None:
    whole = drive(30)
    store.append_block(whole[600:])
    store.append_block(whole[:600])
    store.append_block(drive(100, start_ns=30 * S), last=True)
    assert np.array_equal(store.read_block(0, 30 * S, "boot-1"), whole)


def test_the_oldest_blocks_go_first_and_are_counted(tmp_path: Path) -> None:
    with Store.open(tmp_path, StoreSettings(max_bytes=1 << 20, block_bytes=20_000)) as store:
        store.begin_boot("boot-1")
        whole = drive(1800)
        store.append_block(whole, last=True)
        kept = store.read_block(0, 1800 * S, "boot-1")
        assert np.array_equal(kept, whole[-len(kept) :])
        assert 0 < len(kept) < len(whole)
        assert store.dropped() == {"store.block_bytes": len(whole) - len(kept)}
        assert sql(tmp_path, "SELECT SUM(bytes) <= 20000 FROM block") == [(1,)]


# time


def test_utc_is_applied_backwards_by_the_best_fact_of_the_boot(store: Store) -> None:
    assert store.utc_of("boot-1", 0) is None
    store.append([(S, clock(S, 5, "none"))])
    assert store.utc_of("boot-1", 0) is None
    store.append([(S, clock(S, 999, "restored"))])
    assert store.utc_of("boot-1", S) == Utc(999, "restored", 1000)
    store.append([(2 * S, clock(2 * S, UTC_2026 + 2 * S, "ntp", 50_000_000))])
    store.append([(3 * S, clock(3 * S, UTC_2026 + 3 * S + 7, "gnss", 100))])
    assert store.utc_of("boot-1", 2 * S) == Utc(UTC_2026 + 2 * S + 7, "gnss", 100)
    store.append([(4 * S, clock(4 * S, UTC_2026 + 4 * S + 50, "gnss", 200)), (5 * S, clock(5 * S, 77, "ntp", 1))])
    assert store.utc_of("boot-1", 2 * S) == Utc(UTC_2026 + 2 * S + 7, "gnss", 100)
    store.append([(6 * S, clock(6 * S, UTC_2026 + 6 * S + 9, "gnss", 100))])  # of equals the later
    assert store.utc_of("boot-1", 2 * S) == Utc(UTC_2026 + 2 * S + 9, "gnss", 100)
    assert store.utc_of("boot-2", 0) is None
    store.append([(1, event(1)), (1, trip(1, 9 * S))])
    assert store.events()[0].utc == store.utc_of("boot-1", 1)
    assert store.trips()[0].utc == store.utc_of("boot-1", 1)


def test_trips_give_their_own_events_and_tracks(store: Store) -> None:
    store.append(
        [(0, event(0)), (60, trip(10, 60)), (60, track(10)), (99, event(60)), (99, event(20)), (99, track(11))]
    )
    store.begin_boot("boot-2", recorded=True)
    store.append([(15, event(15)), (90, trip(80, 90))])
    first, second = store.trips()
    assert [row.record.t_ns for row in store.events(first)] == [20, 60]
    assert [row.record.trip_start_ns for row in store.tracks(first)] == [10]
    assert store.events(second) == []
    assert [row.record.t_ns for row in store.events()] == [0, 20, 60, 15]
    assert [(row.boot_number, row.recorded) for row in (first, second)] == [(1, False), (2, True)]
    assert [row.seq for row in store.records(Event, "boot-2")] == [4]


# retention


def test_only_acknowledged_and_old_records_are_removed(tmp_path: Path) -> None:
    with Store.open(tmp_path, StoreSettings(acknowledged_days=10)) as store:
        store.begin_boot("boot-1")
        store.append([(0, clock(0, UTC_2026))])
        store.append([(t * DAY_NS, event(t * DAY_NS)) for t in range(20)])
        store.append([(0, trip(0, 1)), (0, health(0)), (0, track(0))])
        assert store.prune(UTC_2026 + 1000 * DAY_NS).entries == 0
        assert store.prune(None).entries == 0
        store.acknowledge({"event": 16})  # the clock and 15 events
        assert store.prune(UTC_2026 + 12 * DAY_NS).entries == 3  # the clock, and events of days 0 and 1
        assert [row.record.t_ns // DAY_NS for row in store.events()] == list(range(2, 20))
        assert store.prune(UTC_2026 + 1000 * DAY_NS).entries == 13
        assert [row.record.t_ns // DAY_NS for row in store.events()] == list(range(15, 20))
        assert (len(store.trips()), len(store.records(Health))) == (1, 1)
        assert store.utc_of("boot-1", 0) is not None  # still dates what is left
        assert store.verify().ok
        store.append([(99, event(99))])
    with Store.open(tmp_path) as store:
        assert store.heads()["event"] == 22
        assert store.verify().ok


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 4)),
            st.tuples(st.just("acknowledge"), st.integers(0, 30)),
            st.tuples(st.just("prune"), st.integers(0, 200)),
            st.tuples(st.just("reopen"), st.just(0)),
        ),
        max_size=25,
    )
)
def test_no_order_of_work_removes_an_unacknowledged_record(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    directory = tmp_path_factory.mktemp("retention")
    store = Store.open(directory)
    store.begin_boot("boot-1")
    store.append([(0, clock(0, UTC_2026))])
    given_times, acknowledged = [], 0  # times of events; how many of them the receiver holds
    try:
        for step, n in steps:
            if step == "append":
                times = [(len(given_times) + i + 1) * DAY_NS for i in range(n)]
                store.append([(t, event(t)) for t in times])
                given_times += times
            elif step == "acknowledge":
                n = min(n, store.heads()["event"])  # noqa: PLW2901
                store.acknowledge({"event": n})
                acknowledged = max(acknowledged, n - 1)
            elif step == "prune":
                store.prune(UTC_2026 + n * DAY_NS)
            else:
                store.close()
                store = Store.open(directory)
                store.begin_boot("boot-1")
            kept = [row.record.t_ns for row in store.events()]
            assert kept == given_times[len(given_times) - len(kept) :]
            assert len(kept) >= len(given_times) - acknowledged
        assert store.verify().ok
    finally:
        store.close()


def test_old_samples_go_by_date_and_undated_ones_by_the_next_dated_boot(tmp_path: Path) -> None:
    with Store.open(tmp_path, StoreSettings(block_days=30)) as store:
        for number, boot in enumerate(("undated", "dated", "recorded", "latest"), 1):
            store.begin_boot(boot, recorded=boot == "recorded")
            store.append_block(drive(60, seed=number), last=True)
            if boot == "dated":
                store.append([(0, clock(0, UTC_2026))])
            if boot == "recorded":
                store.append([(0, clock(0, UTC_2026 - 3000 * DAY_NS))])
        assert store.prune(UTC_2026 + 29 * DAY_NS).samples == 0
        report = store.prune(UTC_2026 + 31 * DAY_NS)
        assert (report.blocks, report.samples) == (2, 4800)
        assert store.dropped() == {"store.block_days": 4800}
        assert [len(store.read_block(0, 99 * S, b)) for b in ("undated", "dated", "recorded", "latest")] == [
            0,
            0,
            2400,
            2400,
        ]


def test_bounds_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="nine tenths"):
        StoreSettings(max_bytes=1000, block_bytes=950)
    with pytest.raises(ConfigError, match="more than 0"):
        StoreSettings(piece_s=0)


# processes


def test_a_second_writer_is_told_so(store: Store, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\nfrom agent.store import Store\nfrom agent.errors import StoreError\n"
        "try: Store.open(pathlib.Path(sys.argv[1]))\nexcept StoreError as e: print(e)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert "another roadwitness process writes to this store" in done.stdout
    with pytest.raises(StoreError, match="another roadwitness process"):
        Store.open(tmp_path)
    store.append([(1, event(1))])


def test_a_reader_sees_what_the_writer_appends_and_cannot_write(store: Store, tmp_path: Path) -> None:
    with Store.open(tmp_path, read_only=True) as reader:
        assert (reader.device, reader.lineage) == (store.device, store.lineage)
        for n in range(1, 4):
            store.append([(n, event(n))])
            assert reader.heads()["event"] == len(reader.events()) == n
        store.acknowledge({"event": 2})
        assert reader.positions()["event"] == 2
        for write in (lambda: reader.begin_boot("x"), lambda: reader.prune(5 * UTC_2026)):
            with pytest.raises(StoreError, match="reading only"):
                write()


def test_no_store_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store here"):
        Store.open(tmp_path / "nothing", read_only=True)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="store folder cannot be used"):
        Store.open(tmp_path / "file")


def test_closing_twice_is_fine_and_use_after_it_is_one_line(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.begin_boot("boot-1")
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.append([(1, event(1))])


def test_threads_of_the_writer_may_append_read_and_acknowledge_at_once(tmp_path: Path) -> None:
    appended = 150
    with Store.open(tmp_path) as store:
        store.begin_boot("boot-1")

        def send() -> list[int]:
            sent: list[int] = []
            while len(sent) < appended:
                for entry in store.pending("event", len(sent), 2000):
                    sent.append(entry.seq)
                store.acknowledge({"event": len(sent)})
            return sent

        with ThreadPoolExecutor() as pool:
            sending = pool.submit(send)
            for n in range(appended):
                store.append([(n, event(n))])
                store.append_block(drive(1, start_ns=n * S, seed=n))
            assert sending.result(timeout=60) == list(range(1, appended + 1))
        assert store.positions()["event"] == appended
        assert len(store.read_block(0, appended * S, "boot-1")) == appended * 40
        assert store.verify().ok


def test_an_acknowledgement_right_behind_the_commit_finds_the_new_head(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.begin_boot("boot")
    lineage = store.lineage
    commit = store._database.transaction
    acknowledged: list[Future[None]] = []

    @contextmanager
    def committed_and_seen() -> Iterator[sqlite3.Connection]:
        with commit() as connection:
            yield connection
        if not acknowledged:
            acknowledged.append(pool.submit(store.acknowledge, {"event": 1}))
            wait(acknowledged, timeout=0.3)

    with ThreadPoolExecutor() as pool:
        monkeypatch.setattr(store._database, "transaction", committed_and_seen)
        store.append([(1, event(1))])
        acknowledged[0].result(timeout=30)
    assert store.lineage == lineage
    assert store.positions()["event"] == 1


def test_reading_a_store_needs_neither_numba_nor_sqlite_utils(store: Store, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from agent.store import Store;"
        "Store.open(pathlib.Path(sys.argv[1]), read_only=True).close();"
        "print(sorted({'numba', 'sqlite_utils', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_a_record_that_could_never_be_sent_is_refused_before_it_is_kept(store: Store) -> None:
    store.begin_boot("boot")
    huge = Health(t_ns=1, source="test", state="ok", detail="x" * 200_000)
    with pytest.raises(ValueError, match="cannot be sent"):
        store.append([(1, huge)])
    assert store.heads()["health"] == 0
