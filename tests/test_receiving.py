"""What a receiver that has not fsynced yet may say, what a power cut then costs, and who waits for slow stores."""

import errno
import hashlib
import os
import threading
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from agent import filemessages
from agent.filemessages import Files, OpenFile
from agent.link import Arrived, BrokerSettings
from agent.upload.pace import Pace
from agent.upload.settings import UploadSettings
from receiver import db, packages
from receiver.errands import MOST_WAITING, Errands
from receiver.filestore import FileStore
from receiver.ingest import Ingest, Received
from receiver.mqtt import Reception
from receiver.packages import Arrival
from receiver.settling import MOST_UNSETTLED
from receiver.transfers import FileMessage
from tests.sample_records import crash
from tests.syncing import mosquitto, until
from tests.test_transfers import Desk, missing
from tests.test_upload_brokers import Bed
from tests.test_uploads import Bench
from tests.uploading import INCIDENT, add_package, contents, file_store, package, some_files

DATA = contents(7, 400_000)
FILE = hashlib.sha256(DATA).hexdigest()
PIECE = 50_000


class Lazy(Desk):
    """A desk whose receiver answers before it fsyncs, as a running one does."""

    def give_some(self, low: int, high: int) -> Files:
        group = []
        for at in range(low, high, PIECE):
            piece = DATA[at : at + PIECE]
            topic = filemessages.chunk_topic(self.device, FILE, at, piece)
            group.append(FileMessage(self.device, topic.split("/file/")[1], piece))
        return told(self.ingest.receive_files(group, 1))

    def settle(self) -> None:
        self.ingest.settle(1)

    def finish(self) -> Files:
        return filemessages.decode_files(self.ingest.finish_file((self.device, FILE), 1).payload)

    def row(self) -> tuple[str, int, int]:
        t = db.transfer
        with db.reading(self.engine) as connection:
            row = connection.execute(select(t.c.state, t.c.received, t.c.revision).where(t.c.file == FILE)).one()
        return row.state, row.received, row.revision

    def die(self) -> None:
        """Go on as another process."""
        self.ingest = Ingest(self.engine, self.files)


def told(received: Received) -> Files:
    (answer,) = received.outgoing
    return filemessages.decode_files(answer.payload)


@pytest.fixture
def desk(tmp_path: Path) -> Lazy:
    desk = Lazy(tmp_path)
    desk.announce(package(INCIDENT, {"imu.csv": DATA}))
    return desk


def test_what_is_told_received_is_in_no_row_before_it_is_durable(desk: Lazy) -> None:
    assert missing(desk.give_some(0, 200_000), FILE) == [(200_000, 400_000)]
    assert desk.row()[1] == 0
    desk.settle()
    assert desk.row()[1] == 200_000
    desk.give_some(200_000, 300_000)
    (partial,) = desk.partials()
    partial.write_bytes(DATA[:200_000] + b"\0" * 100_000)  # a power cut: the length came to the disk, the bytes did not
    desk.die()
    assert missing(desk.init(FILE, len(DATA)), FILE) == [(200_000, 400_000)]
    desk.give_some(200_000, 400_000)
    assert desk.finish().done == [FILE]
    assert desk.kept() == DATA
    desk.engine.dispose()


def test_a_whole_file_is_made_durable_before_it_is_called_done(desk: Lazy, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    def note(name: str) -> None:
        real = getattr(FileStore, name)

        def noted(self: FileStore, *given: object) -> object:
            steps.append(f"{name} {desk.row()[0]}")
            return real(self, *given)

        monkeypatch.setattr(FileStore, name, noted)

    note("settle")
    note("put")
    answer = desk.give_some(0, len(DATA))
    assert answer.done == []
    assert answer.packages == {}
    assert steps == []
    answer = desk.finish()
    assert steps == ["settle open", "put open"]
    assert answer.done == [FILE]
    assert list(answer.packages) == [INCIDENT]
    desk.engine.dispose()


def test_bytes_that_the_disk_lost_are_asked_for_again_and_never_called_done(
    desk: Lazy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    desk.give_some(0, len(DATA))
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        answer = desk.finish()
    assert "Input/output error" in answer.trouble
    assert answer.done == []
    assert desk.row()[:2] == ("open", 0)
    assert missing(desk.init(FILE, len(DATA)), FILE) == [(0, len(DATA))], "the kernel may call lost pages clean"
    desk.give_some(0, len(DATA))
    assert desk.finish().done == [FILE]
    assert desk.kept() == DATA
    desk.engine.dispose()


def test_a_process_that_begins_tells_more_than_the_one_that_died(desk: Lazy) -> None:
    first = desk.give_some(0, 100_000)
    last = desk.give_some(100_000, 200_000)
    assert last.open[FILE].revision > first.open[FILE].revision
    desk.die()
    (outgoing,) = desk.ingest.resume(desk.device, 1)
    answer = filemessages.decode_files(outgoing.payload)
    assert answer.anew
    assert answer.open[FILE].missing == [(0, len(DATA))]
    assert answer.open[FILE].revision > last.open[FILE].revision
    assert desk.ingest.resume("rw-0000000000000000", 1) == []
    desk.engine.dispose()


def test_a_second_receiver_on_one_database_ends_the_waiting_with_fsync(desk: Lazy) -> None:
    other = Lazy.__new__(Lazy)
    other.__dict__.update(desk.__dict__)
    other.ingest = Ingest(desk.engine, file_store(desk.folder / "files"))
    desk.give_some(0, 100_000)
    other.give_some(200_000, 300_000)
    desk.settle()
    other.settle()
    assert desk.row()[1] == 200_000, "neither forgets what the other wrote"
    desk.give_some(100_000, 150_000)
    desk.settle()
    desk.give_some(150_000, 200_000)
    assert desk.row()[1] == 300_000, "with every group from now on"
    other.give_some(300_000, 400_000)
    desk.settle()
    other.settle()
    assert desk.finish().done == [FILE]
    assert desk.kept() == DATA
    desk.engine.dispose()


def test_what_is_not_durable_stays_bounded_when_nobody_settles(tmp_path: Path) -> None:
    data = contents(3, MOST_UNSETTLED + 3_000_000)
    file = hashlib.sha256(data).hexdigest()
    desk = Lazy(tmp_path)
    desk.announce(package(INCIDENT, {"clip.mp4": data}))
    full = []
    for at in range(0, len(data), 65_536):
        piece = data[at : at + 65_536]
        topic = filemessages.chunk_topic(desk.device, file, at, piece)
        received = desk.ingest.receive_files([FileMessage(desk.device, topic.split("/file/")[1], piece)], 1)
        full += received.full
    assert set(full) == {(desk.device, file)}
    with db.reading(desk.engine) as connection:
        assert connection.execute(select(db.transfer.c.received)).scalar_one() > MOST_UNSETTLED
    desk.engine.dispose()


# the device hears of a receiver that began


def test_a_receiver_that_begins_is_sent_at_once_what_was_under_way(tmp_path: Path) -> None:
    bench = Bench(tmp_path, answer_s=300.0, refused_s=300.0)
    record = add_package(bench.store, INCIDENT, {"clip-front.mp4": contents(1, 3_000_000)})
    file = record.files[0].sha256
    bench.run(lambda: bench.chunks() >= 20)
    bench.send()  # to a receiver that has just died
    assert bench.send() == []
    held = bench.uploads._files[file]
    answer = Files(
        device=bench.store.device,
        session=bench.sync._session,
        open={file: OpenFile(held.revision + 1000, held.missing or [])},
        anew=True,
    )
    topic = f"rw/v1/{bench.store.device}/files"
    bench.uplink.happened.append(Arrived(topic, filemessages.encode_files(answer)))
    sent = bench.send()
    assert [t for t, _ in sent if f"/file/{file}/" in t]
    bench.receive(sent)
    bench.run(bench.acknowledged)
    assert bench.sync.status.files.overdue == 0
    bench.close()


def test_at_one_megabit_a_crash_waits_less_than_a_second_also_where_the_link_was_fast() -> None:
    pace = Pace(UploadSettings())
    pace.begin(0)
    now = 0

    def carry(bytes_per_s: float, times: int) -> None:
        nonlocal now
        for _ in range(times):
            size, then = pace.chunk(), pace.acknowledged
            sent, now = now, now + round((0.05 + size / bytes_per_s) * 1e9)
            pace.arrived(size, sent, then, now)

    carry(125_000, 40)
    assert (pace.most() + pace.chunk()) / 125_000 <= 1.0
    carry(5_000_000, 40)
    assert (pace.most() + pace.chunk()) / 5_000_000 <= 1.0
    carry(125_000, 4)
    assert pace.most() <= 2 * 65_536, "what was fast is not trusted when it becomes slow"


# slow work


def test_a_slow_look_at_a_package_keeps_nobody_waiting(tmp_path: Path) -> None:
    bed = Bed(tmp_path)
    begun, go_on, seen = threading.Event(), threading.Event(), list[Arrival]()

    def look(arrival: Arrival) -> None:
        seen.append(arrival)
        begun.set()
        go_on.wait(20.0)

    add_package(bed.store, INCIDENT, some_files(1))
    with mosquitto(tmp_path) as broker:
        url = BrokerSettings(url=broker.url)
        reception = Reception(bed.engine, url, files=file_store(tmp_path / "files"), on_package=look)
        reception.start()
        with bed.sending(broker.url) as sending:
            until(begun.is_set, "the package is looked at")
            bed.store.append([(2, crash(1))])
            add_package(bed.store, "f" * 16, some_files(20))
            sending.wake()
            until(lambda: bed.store.positions()["crash"] == 1, "the crash is acknowledged meanwhile")
            until(bed.whole, "and another package is stored")
            assert len(seen) == 1
            go_on.set()
            until(lambda: not packages.untold(bed.engine), "both are dealt with")
        reception.stop()
    assert [a.incident for a in seen] == [INCIDENT, "f" * 16]
    bed.close()


def test_a_slow_store_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bed = Bed(tmp_path)
    begun, go_on, real = threading.Event(), threading.Event(), FileStore.put

    def slow(self: FileStore, partial: str, device: str, incident: str, name: str) -> None:
        begun.set()
        go_on.wait(20.0)
        real(self, partial, device, incident, name)

    monkeypatch.setattr(FileStore, "put", slow)
    add_package(bed.store, INCIDENT, some_files(1))
    with mosquitto(tmp_path) as broker, bed.receiver(broker.url), bed.sending(broker.url) as sending:
        until(begun.is_set, "a file is stored")
        bed.store.append([(2, crash(1))])
        sending.wake()
        until(lambda: bed.store.positions()["crash"] == 1, "the crash is acknowledged meanwhile")
        assert not bed.whole()
        go_on.set()
        until(bed.whole, "the package is whole")
    assert bed.same(some_files(1))
    bed.close()


def test_errands_are_done_in_order_once_and_wait_for_the_database() -> None:
    done: list[int] = []
    last = threading.Event()
    away = [True]

    def do(task: int) -> None:
        if task == 1 and away:
            away.pop()
            raise OperationalError("select", {}, Exception("away"))
        done.append(task)
        if task == MOST_WAITING:
            last.set()

    errands = Errands[int]("test", do, lambda: done.append(-1))
    for task in range(1, MOST_WAITING + 1):
        assert errands.give(task)
    assert errands.give(1), "it waits already"
    assert not errands.give(0), "there is no room"
    errands.start()
    assert last.wait(20.0)
    errands.stop()
    assert not errands.is_alive()
    assert done == [-1, *range(1, MOST_WAITING + 1), -1]


def test_a_task_that_meets_a_bug_is_given_up_and_told_and_the_next_is_done(caplog: pytest.LogCaptureFixture) -> None:
    last, done = threading.Event(), list[int]()

    def do(task: int) -> None:
        if task == 1:
            raise ValueError("nobody thought of this")
        done.append(task)
        last.set()

    errands = Errands[int]("test", do)
    for task in (1, 2):
        assert errands.give(task)
    errands.start()
    assert last.wait(20.0)
    errands.stop()
    assert done == [2]
    assert "test: something was given up" in caplog.text
    assert "nobody thought of this" in caplog.text
