"""What the store survives: kill -9, a full disk, a damaged file, files of other versions."""

import errno
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from agent.errors import StoreError
from agent.store import Store, StoreSettings, samples
from agent.store.database import STORE_FILE, SUSPECT_FILE
from agent.store.schema import MIGRATIONS, migrate
from tests.store_inputs import S, drive, event, health
from tests.store_writer import STEP_S

ROOT = Path(__file__).parents[1]
KILLS = 20


def integrity(directory: Path) -> str:
    with closing(sqlite3.connect(directory / STORE_FILE)) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def test_kill_9_at_any_moment_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    moments = random.Random(7)
    heads = 0
    for turn in range(KILLS):
        boot = f"boot-{turn}"
        with subprocess.Popen(
            [sys.executable, "-m", "tests.store_writer", str(tmp_path), boot],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        ) as writer:
            assert writer.stdout is not None
            for _ in range(moments.randrange(1, 25)):
                line = writer.stdout.readline()
            with suppress(subprocess.TimeoutExpired):  # some way into the next step
                writer.wait(moments.uniform(0, 0.02))
            writer.kill()
            said = line + writer.stdout.read()
        whole_lines = [each for each in said.splitlines(keepends=True) if each.endswith("\n")]
        (sample_count, head), heads_before = map(int, whole_lines[-1].split()), heads
        assert head > heads_before
        assert integrity(tmp_path) == "ok"
        with Store.open(tmp_path) as store:
            assert store.moved_aside is None
            report = store.verify()
            assert report.ok
            assert report.blocks > 0
            heads = store.heads()["event"]
            assert heads >= head
            assert (
                len(store.pending("event", store.positions()["event"], 1 << 30)) == heads - store.positions()["event"]
            )
            steps = sample_count // 40 // STEP_S
            whole = np.concatenate([drive(STEP_S, start_ns=i * STEP_S * S, seed=i) for i in range(steps)])
            assert np.array_equal(store.read_block(0, steps * STEP_S * S, boot), whole)


# a full disk


def append_until_refused(store: Store, count: int) -> tuple[int, str]:
    """Append events and health records in pairs; return how many events were accepted, and the refusal."""
    for n in range(count, 10_000):
        try:
            store.append([(n, event(n)), (n, health(n))])
        except StoreError as e:
            return n, str(e)
    pytest.fail("the disk never got full")


def test_a_full_store_is_one_line_and_works_again_with_room(tmp_path: Path) -> None:
    with Store.open(tmp_path, StoreSettings(max_bytes=200_000, block_bytes=100_000)) as store:
        store.begin_boot("boot-1")
        accepted, refusal = append_until_refused(store, 0)
        assert "store.db: writing failed: disk or store is full; free space" in refusal
        assert store.heads()["event"] == store.heads()["health"] == accepted
        assert store.verify().ok
    with Store.open(tmp_path, StoreSettings(max_bytes=400_000, block_bytes=100_000)) as store:
        store.begin_boot("boot-1")
        store.append([(accepted, event(accepted))])
        assert len(store.events()) == accepted + 1
        assert store.verify().ok


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("a small tmpfs can be mounted by root only")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(tmp_path)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write_for_ever(file)


def write_for_ever(file: IO[bytes]) -> None:
    while True:
        file.write(bytes(4096))


def test_a_full_disk_stops_writing_and_samples_wait_until_it_is_freed(small_disk: Path) -> None:
    now = [0]
    with Store.open(small_disk, StoreSettings(), monotonic_ns=lambda: now[0]) as store:
        store.begin_boot("boot-1")
        store.append([(1, event(1))])
        ballast = small_disk / "ballast"
        fill(ballast)
        accepted, refusal = append_until_refused(store, 1)
        assert "disk or store is full" in refusal
        now[0] += 2 * S
        with pytest.raises(StoreError, match="disk or store is full"):
            store.append_block(drive(120))
        store.append_block(drive(10, start_ns=120 * S))  # not tried again within the second
        assert store.verify().ok
        ballast.unlink()
        now[0] += 2 * S
        store.append([(accepted + 1, event(accepted + 1))])
        store.append_block(drive(10, start_ns=130 * S), last=True)
        expected = np.concatenate([drive(120), drive(10, start_ns=120 * S), drive(10, start_ns=130 * S)])
        assert np.array_equal(store.read_block(0, 200 * S, "boot-1"), expected)
        assert store.dropped() == {}
        assert store.heads()["event"] == accepted + 1
        assert [row.record.t_ns for row in store.events()] == list(range(1, accepted + 2))
        assert store.verify().ok
    assert integrity(small_disk) == "ok"


def test_samples_that_memory_cannot_hold_while_the_disk_is_full_are_counted(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "_WAITING_SAMPLES", 10_000)
    now = [0]
    with Store.open(small_disk, StoreSettings(), monotonic_ns=lambda: now[0]) as store:
        store.begin_boot("boot-1")
        ballast = small_disk / "ballast"
        fill(ballast)
        given = []
        for i in range(1000):
            now[0] += 2 * S
            given.append(drive(30, start_ns=i * 30 * S, seed=i))
            with suppress(StoreError):
                store.append_block(given[-1])
        ballast.unlink()
        now[0] += 2 * S
        store.append_block(drive(1, start_ns=50_000 * S), last=True)
        whole = np.concatenate([*given, drive(1, start_ns=50_000 * S)])
        kept = store.read_block(0, 60_000 * S, "boot-1")
        assert store.dropped() == {"disk full": len(whole) - len(kept)}
        assert len(kept) < len(whole)
        assert np.array_equal(kept[-5000:], whole[-5000:])  # the newest are kept


# damage


def filled(directory: Path, minutes: int = 20) -> None:
    with Store.open(directory) as store:
        store.begin_boot("boot-1")
        store.append([(t, event(t)) for t in range(200)])
        store.append_block(drive(60 * minutes), last=True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"not a database at all, but long enough to be looked at" * 100,
        lambda data: bytes(len(data)),
        lambda data: data[: len(data) // 3],
        lambda data: data[:4096] + bytes(random.Random(1).randbytes(40_000)) + data[44_096:],
        lambda data: data[:100] + b"\xff" * 3000 + data[3100:],
    ],
    ids=["text", "zeros", "cut short", "overwritten", "first page"],
)
def test_a_damaged_file_is_kept_aside_and_a_new_one_begun(tmp_path: Path, damage: "object") -> None:
    filled(tmp_path)
    path = tmp_path / STORE_FILE
    damaged = damage(path.read_bytes())  # type: ignore[operator]
    for turn in (1, 2):
        path.write_bytes(damaged)
        with Store.open(tmp_path) as store:
            assert store.moved_aside is not None
            assert "\n" not in store.moved_aside
            assert f"kept as store.db.damaged-{turn}" in store.moved_aside
            assert (tmp_path / f"store.db.damaged-{turn}").read_bytes() == damaged
            store.begin_boot("boot-2")
            store.append([(1, event(1))])
            assert store.verify().ok
    with Store.open(tmp_path) as store:
        assert store.moved_aside is None
        assert store.heads()["event"] == 1


def test_a_rebuilt_store_has_another_lineage_and_the_same_device(tmp_path: Path) -> None:
    filled(tmp_path)
    with Store.open(tmp_path, read_only=True) as store:
        before = (store.device, store.lineage)
    (tmp_path / STORE_FILE).write_bytes(b"x" * 10_000)
    with Store.open(tmp_path) as store:
        assert store.device == before[0]
        assert store.lineage != before[1]


def test_damage_among_the_samples_is_met_in_use_and_mended_at_the_next_start(tmp_path: Path) -> None:
    filled(tmp_path, minutes=200)
    path = tmp_path / STORE_FILE
    with closing(sqlite3.connect(path)) as connection:
        (page_of_root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'block'").fetchone()
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page_of_root - 1) * page_size)
        file.write(b"\xff" * page_size)
    with pytest.raises(StoreError, match="damaged; restart the agent"):
        Store.open(tmp_path)  # its checks leave the samples out, but their sizes are summed up
    assert (tmp_path / SUSPECT_FILE).exists()
    with Store.open(tmp_path) as store:
        assert store.moved_aside is not None
    assert not (tmp_path / SUSPECT_FILE).exists()


def test_a_false_suspicion_costs_only_a_full_check(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / SUSPECT_FILE).touch()
    with Store.open(tmp_path) as store:
        assert store.moved_aside is None
        assert store.heads()["event"] == 200
    assert not (tmp_path / SUSPECT_FILE).exists()


def test_a_cut_off_log_is_no_damage(tmp_path: Path) -> None:
    filled(tmp_path)
    store = Store.open(tmp_path)
    store.begin_boot("boot-2")
    store.append([(1, event(1))])
    whole = (tmp_path / STORE_FILE).read_bytes(), (tmp_path / "store.db-wal").read_bytes()
    store.close()
    for size in (0, 10, 32, len(whole[1]) - 1000):
        other = tmp_path / f"cut-{size}"
        other.mkdir()
        (other / STORE_FILE).write_bytes(whole[0])
        (other / "store.db-wal").write_bytes(whole[1][:size])
        with Store.open(other) as store:
            assert store.moved_aside is None
            assert store.verify().ok


# versions


@pytest.mark.parametrize(
    "loses",
    ["DELETE FROM _sqlite_migrations WHERE name = '0008_ahead'", "DROP TABLE ahead", "DROP INDEX crash_when"],
)
def test_a_store_whose_tables_contradict_its_migrations_is_moved_aside(tmp_path: Path, loses: str) -> None:
    """As a card leaves it that lied about the flushes of an update."""
    Store.open(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / STORE_FILE)) as connection:
        connection.execute(loses)
        connection.commit()
    with Store.open(tmp_path) as store:
        assert "applied" in str(store.moved_aside)
        store.begin_boot("later")
        assert store.append([(1, event(1))])
    with Store.open(tmp_path) as store:
        assert store.moved_aside is None


@pytest.mark.parametrize("stop_before", [name for name, _ in MIGRATIONS])
def test_a_store_of_any_earlier_version_is_brought_up_to_date(tmp_path: Path, stop_before: str) -> None:
    path = tmp_path / STORE_FILE
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, stop_before=stop_before)
        if stop_before != MIGRATIONS[0][0]:
            connection.execute("INSERT INTO boot (id, recorded) VALUES ('earlier', 0)")
    with pytest.raises(StoreError, match="older version; start the agent once"):
        Store.open(tmp_path, read_only=True)
    with Store.open(tmp_path) as store:
        assert store.begin_boot("later") == (1 if stop_before == MIGRATIONS[0][0] else 2)
        store.append([(1, event(1))])
        store.append_block(drive(10), last=True)
        assert store.verify().ok
    with Store.open(tmp_path, read_only=True) as store:
        assert len(store.events()) == 1


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path)
    broken = (*MIGRATIONS, ("0099_broken", "CREATE TABLE extra (x); DROP TABLE trip; INSERT INTO nowhere VALUES (1)"))
    monkeypatch.setattr("agent.store.schema.MIGRATIONS", broken)
    with pytest.raises(StoreError, match="opening failed: no such table: nowhere"):
        Store.open(tmp_path)
    monkeypatch.undo()
    with Store.open(tmp_path) as store:
        assert store.trips() == []
        assert store.verify().ok


def test_a_store_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    filled(tmp_path)
    with closing(sqlite3.connect(tmp_path / STORE_FILE)) as connection, connection:
        connection.execute("INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('roadwitness', '0999_future')")
    for read_only in (True, False):
        with pytest.raises(StoreError, match="newer version of roadwitness"):
            Store.open(tmp_path, read_only=read_only)
    assert not list(tmp_path.glob("*.damaged-*"))


@pytest.mark.parametrize("additive", [True, False])
def test_a_version_goes_on_with_what_a_newer_one_only_added_to(
    tmp_path: Path, additive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path)
    newer = (*MIGRATIONS, ("0098_more", "CREATE TABLE more (x); ALTER TABLE trip ADD COLUMN tyres TEXT"))
    monkeypatch.setattr("agent.store.schema.MIGRATIONS", newer)
    monkeypatch.setattr("agent.store.schema.ADDITIVE", frozenset({"0098_more"} if additive else ()))
    with Store.open(tmp_path) as store:
        store.begin_boot("newer")
        store.append([(2, event(2))])
        before = len(store.events())
    monkeypatch.undo()  # the box goes back
    if not additive:
        with pytest.raises(StoreError, match="newer version of roadwitness"):
            Store.open(tmp_path)
        return
    with Store.open(tmp_path) as store:
        store.begin_boot("older")
        store.append([(3, event(3))])
        assert len(store.events()) == before + 1
        assert store.verify().ok
    monkeypatch.setattr("agent.store.schema.MIGRATIONS", newer)
    with Store.open(tmp_path) as store:  # and forward again
        assert len(store.events()) == before + 1
