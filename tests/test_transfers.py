"""The receiver's side of uploads: hostile chunks, quotas, full disks, several receivers, other stores."""

import hashlib
import resource
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from agent import filemessages, messages
from agent.errors import ConfigError
from agent.filemessages import Files, Init
from agent.records import Package, PackageFile
from receiver import db, devices, packages
from receiver.filestore import FileStore
from receiver.ingest import NO_FILES, Ingest
from receiver.settings import FileSettings
from tests.syncing import ListSource, postgresql
from tests.uploading import INCIDENT, contents, file_store, package

DATA = contents(7, 200_000)
FILE = hashlib.sha256(DATA).hexdigest()


class Desk:
    """One enrolled device and the receiver's ingest."""

    def __init__(self, folder: Path, url: str = "", files: FileStore | None = None, **settings: Any) -> None:
        self.folder = folder
        self.engine = db.open_database(url or f"sqlite:///{folder / 'r.db'}")
        self.files = files or file_store(folder / "files", **settings)
        self.ingest = Ingest(self.engine, self.files)
        self.source = ListSource()
        self.device = self.source.device
        devices.enrol(self.engine, self.source.public_key.hex())

    def announce(self, record: Package, source: ListSource | None = None) -> Files | None:
        """Send a Package record; return what the receiver says of its files."""
        source = source or self.source
        entry = source.append([(1, record)])[0]
        return self.send(messages.topic(source.device, "up", "clip"), messages.encode_batch([entry]))

    def send(self, topic: str, payload: bytes) -> Files | None:
        told = [o for o in self.ingest.take(topic, payload, 1) if o.topic.endswith("/files")]
        return filemessages.decode_files(told[0].payload) if told else None

    def chunk(self, offset: int, data: bytes, file: str = FILE, device: str = "") -> Files | None:
        return self.send(filemessages.chunk_topic(device or self.device, file, offset, data), data)

    def init(self, file: str = FILE, size: int = len(DATA)) -> Files | None:
        payload = filemessages.encode_init(Init(name="imu.csv", size=size, checksum=file))
        return self.send(filemessages.init_topic(self.device, file), payload)

    def fin(self, file: str = FILE, size: int = len(DATA)) -> Files | None:
        return self.send(filemessages.fin_topic(self.device, file, size), b"")

    def give(self, data: bytes = DATA, start: int = 0) -> Files | None:
        file = hashlib.sha256(data).hexdigest()
        for at in range(start, len(data), 65_536):
            self.chunk(at, data[at : at + 65_536], file)
        return self.fin(file, len(data))

    def refused(self) -> dict[str, int]:
        return self.ingest.counts.refused

    def partials(self) -> list[Path]:
        return list((self.folder / "files" / ".partial").iterdir())

    def kept(self, name: str = "imu.csv", incident: str = INCIDENT) -> bytes:
        with self.files.open(self.device, incident, name) as file:
            return bytes(file.read())


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.engine.dispose()


def missing(answer: Files | None, file: str = FILE) -> list[tuple[int, int]]:
    assert answer is not None
    return answer.open[file].missing


def test_a_record_says_what_to_expect_and_its_files_become_a_folder(desk: Desk) -> None:
    told = desk.announce(package(INCIDENT, {"imu.csv": DATA, "empty.csv": b""}))
    assert missing(told) == [(0, len(DATA))]
    assert missing(desk.chunk(65_536, DATA[65_536:131_072])) == [(0, 65_536), (131_072, 200_000)]
    assert missing(desk.fin()) == [(0, 65_536), (131_072, 200_000)], "fin before the end only tells what is missing"
    told = desk.give()
    assert told is not None
    assert told.done == [FILE]
    assert told.packages == {}
    assert packages.untold(desk.engine) == []
    empty = hashlib.sha256(b"").hexdigest()
    assert missing(desk.init(empty, 0), empty) == []
    told = desk.fin(empty, 0)
    assert told is not None
    assert list(told.packages) == [INCIDENT]
    assert desk.kept() == DATA
    assert desk.kept("empty.csv") == b""
    assert desk.partials() == []
    (arrival,) = packages.untold(desk.engine)
    assert (arrival.device, arrival.incident, arrival.complete) == (desk.device, INCIDENT, True)
    packages.told(desk.engine, arrival)
    assert packages.untold(desk.engine) == []
    (shown,) = packages.progress(desk.engine, desk.device, INCIDENT)
    assert shown.whole
    assert shown.received == shown.size == len(DATA)


def test_hostile_messages_are_counted_and_change_nothing(desk: Desk) -> None:
    desk.announce(package(INCIDENT, {"imu.csv": DATA}))
    desk.chunk(0, DATA[:65_536])
    before = missing(desk.init())
    good = DATA[65_536:70_000]
    root = f"rw/v1/{desk.device}/file/{FILE}"
    hostile = [
        (f"{root}/65536/{'0' * 64}", good),  # another checksum
        (filemessages.chunk_topic(desk.device, FILE, 199_999, b"ab"), b"ab"),  # beyond the end
        (filemessages.chunk_topic(desk.device, FILE, 2**53 - 1, b"ab"), b"ab"),
        (f"{root}/9999999999999999/{hashlib.sha256(good).hexdigest()}", good),
        (filemessages.chunk_topic(desk.device, FILE, 65_536, DATA[:65_537]), DATA[:65_537]),  # too large
        (filemessages.chunk_topic(desk.device, FILE, 65_536, b""), b""),  # empty
        (f"{root}/-1/{'0' * 64}", good),
        (f"{root}/../../etc/passwd", good),
        (f"{root}/65536", good),  # without a checksum
        (f"rw/v1/{desk.device}/file/../{FILE}/init", b"{}"),
        (f"{root}/init", b"not json"),
        (f"{root}/init", b'{"name":"../x","size":1,"checksum":"' + FILE.encode() + b'"}'),
        (f"{root}/init", filemessages.encode_init(Init(name="x", size=1, checksum=FILE))),
        (f"{root}/fin/200000/{'0' * 64}", b""),
        (f"{root}/fin/1/{FILE}", b""),
        (f"{root}/init", b" " * 2000),
    ]
    for topic, payload in hostile:
        desk.send(topic, payload)
    assert sum(desk.refused().values()) == len(hostile)
    assert missing(desk.init()) == before
    told = desk.chunk(0, b"x", "ab" * 32)
    assert told is not None
    assert told.refused == {"ab" * 32: "no package names this file"}
    told = desk.give()
    assert told is not None
    assert told.done == [FILE]
    assert desk.kept() == DATA


def test_a_device_cannot_touch_another_devices_files(desk: Desk) -> None:
    other = ListSource(2)
    devices.enrol(desk.engine, other.public_key.hex())
    desk.announce(package(INCIDENT, {"imu.csv": DATA}))
    told = desk.chunk(0, DATA[:1000], device=other.device)
    assert told is not None
    assert list(told.refused) == [FILE]
    stranger = ListSource(3)
    assert desk.chunk(0, DATA[:1000], device=stranger.device) is None
    devices.block(desk.engine, other.device)
    assert desk.chunk(0, DATA[:1000], device=other.device) is None
    assert missing(desk.init()) == [(0, len(DATA))]
    with desk.engine.connect() as connection:
        counted = {tuple(row) for row in connection.execute(select(db.refused.c.device, db.refused.c.reason))}
    assert ("", "device is not enrolled") in counted
    assert (other.device, "device is blocked") in counted


def test_duplicates_and_overlaps_never_write_over_what_is_held(desk: Desk) -> None:
    desk.announce(package(INCIDENT, {"imu.csv": DATA}))
    desk.chunk(0, DATA[:60_000])
    for _ in range(3):
        desk.chunk(0, DATA[:60_000])
    desk.chunk(30_000, b"\0" * 40_000)  # a lie that overlaps: only its new bytes count
    (partial,) = desk.partials()
    assert partial.read_bytes()[:60_000] == DATA[:60_000]
    assert missing(desk.init()) == [(70_000, len(DATA))]
    told = desk.give(DATA, 70_000)
    assert told is not None
    assert told.refused == {FILE: "contents are not what the package names"}
    told = desk.give()
    assert told is not None
    assert told.done == [FILE], "it may try again from the beginning"
    assert desk.kept() == DATA


def test_holes_are_bounded(desk: Desk) -> None:
    desk.announce(package(INCIDENT, {"imu.csv": DATA}))
    for at in range(0, 400, 2):
        desk.chunk(at, DATA[at : at + 1])
    answer = desk.init()
    assert answer is not None
    assert len(answer.open[FILE].missing) <= filemessages.MAX_RANGES + 1
    assert desk.refused()["file has too many holes"] == 200 - filemessages.MAX_RANGES
    told = desk.give()
    assert told is not None
    assert told.done == [FILE]


@pytest.mark.parametrize(
    "names",
    [
        ["../evil"],
        [".hidden"],
        ["a/b"],
        ["a\\b"],
        ["a\n"],
        ["x" * 101],
        [""],
        ["A.csv", "a.csv"],
        [f"f{i}" for i in range(101)],
        [],
    ],
)
def test_packages_with_names_that_cannot_be_kept_are_not_expected(desk: Desk, names: list[str]) -> None:
    files = [PackageFile(name=n, size=len(DATA), sha256=FILE) for n in names]
    assert desk.announce(Package(incident=INCIDENT, t_ns=1, complete=True, files=files)) is None
    assert desk.refused() == {packages.UNUSABLE: 1}
    assert packages.progress(desk.engine) == []
    told = desk.chunk(0, DATA[:100])
    assert told is not None
    assert list(told.refused) == [FILE]


@pytest.mark.parametrize(("size", "sha256"), [(-1, FILE), (2**60, FILE), (5, "zz" * 32), (5, "ab")])
def test_packages_with_impossible_files_are_not_expected(desk: Desk, size: int, sha256: str) -> None:
    record = Package(incident=INCIDENT, t_ns=1, complete=True, files=[PackageFile(name="a", size=size, sha256=sha256)])
    assert desk.announce(record) is None
    assert packages.progress(desk.engine) == []


def test_one_hash_cannot_have_two_sizes(desk: Desk) -> None:
    desk.announce(package(INCIDENT, {"imu.csv": DATA}))
    lie = Package(incident="f" * 16, t_ns=1, complete=True, files=[PackageFile(name="a", size=3, sha256=FILE)])
    assert desk.announce(lie) is None
    assert desk.refused() == {packages.UNUSABLE: 1}


def test_quotas_are_kept_and_told(tmp_path: Path) -> None:
    two = contents(8, 150_000)
    other = hashlib.sha256(two).hexdigest()
    desk = Desk(tmp_path, max_file_bytes=210_000, max_device_bytes=300_000, max_total_bytes=300_000)
    big = Package(incident="e" * 16, t_ns=1, complete=True, files=[PackageFile(name="a", size=10**9, sha256="ab" * 32)])
    desk.announce(big)
    desk.announce(package(INCIDENT, {"imu.csv": DATA, "second.csv": two}))
    told = desk.init("ab" * 32, 10**9)
    assert told is not None
    assert told.refused["ab" * 32] == "file is larger than this receiver takes"
    desk.give()
    told = desk.init(other, len(two))
    assert told is not None
    assert told.refused == {other: "the device's share of this receiver's store is used up"}
    packages.remove(desk.engine, desk.files, desk.device, INCIDENT)
    assert not (tmp_path / "files" / desk.device / INCIDENT).exists()
    assert packages.progress(desk.engine, incident=INCIDENT) == []
    told = desk.init()
    assert told is not None
    assert list(told.refused) == [FILE], "what was deleted is not taken again"
    desk.engine.dispose()


def test_a_file_of_two_packages_is_sent_once(desk: Desk) -> None:
    desk.announce(package(INCIDENT, {"imu.csv": DATA}))
    desk.give()
    told = desk.announce(package("f" * 16, {"same.csv": DATA}))
    assert missing(told) == []
    told = desk.fin()
    assert told is not None
    assert set(told.packages) == {INCIDENT, "f" * 16}
    assert desk.kept("same.csv", "f" * 16) == DATA
    packages.remove(desk.engine, desk.files, desk.device, INCIDENT)
    assert desk.kept("same.csv", "f" * 16) == DATA


def test_a_whole_file_that_vanished_is_asked_for_again_when_it_is_needed(desk: Desk) -> None:
    desk.announce(package(INCIDENT, {"imu.csv": DATA}))
    desk.give()
    desk.files.remove(desk.device, INCIDENT)
    desk.announce(package("f" * 16, {"same.csv": DATA}))
    assert missing(desk.fin()) == [(0, len(DATA))]
    told = desk.give()
    assert told is not None
    assert set(told.packages) == {INCIDENT, "f" * 16}
    assert desk.kept() == DATA


@contextmanager
def small_disk(limit: int) -> Iterator[None]:
    """Let no file of this process grow beyond `limit`: the kernel refuses the write as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_full_disk_is_told_and_costs_nothing_but_time(tmp_path: Path) -> None:
    data = contents(9, 3_000_000)
    file = hashlib.sha256(data).hexdigest()
    desk = Desk(tmp_path)
    desk.announce(package(INCIDENT, {"imu.csv": data}))
    with small_disk(2_000_000):
        assert missing(desk.chunk(0, data[:65_536], file), file) == [(65_536, len(data))]
        told = desk.chunk(2_500_000, data[2_500_000:2_560_000], file)
        assert told is not None
        assert "cannot store files" in told.trouble
        assert missing(told, file) == [(65_536, len(data))]
        told = desk.chunk(65_536, data[65_536:131_072], file)
        assert told is not None
        assert told.trouble == ""
    told = desk.give(data)
    assert told is not None
    assert told.done == [file]
    assert desk.kept() == data
    desk.engine.dispose()


def test_another_store_by_fsspec_keeps_the_same_folder(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}"
    files = FileStore(FileSettings(root=url, partials=str(tmp_path / "partial")), "sqlite:///")
    desk = Desk(tmp_path, files=files)
    desk.announce(package(INCIDENT, {"imu.csv": DATA}))
    desk.give()
    assert desk.kept() == DATA
    with files.folder(desk.device, INCIDENT) as folder:
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == {"imu.csv": DATA}
    desk.announce(package("f" * 16, {"same.csv": DATA}))
    desk.fin()
    assert desk.kept("same.csv", "f" * 16) == DATA
    packages.remove(desk.engine, files, desk.device, INCIDENT)
    with pytest.raises(FileNotFoundError):
        desk.kept()
    assert list((tmp_path / "partial").iterdir()) == []
    desk.engine.dispose()


def test_a_store_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"files\.root"):
        FileStore(FileSettings(root="nosuchprotocol://x"), "sqlite:///r.db")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"files\.partials"):
        FileStore(FileSettings(root=str(tmp_path / "file")), "sqlite:///r.db")
    with pytest.raises(ValueError, match="must be above 0"):
        FileSettings(max_file_bytes=0)
    with pytest.raises(ValueError, match="not a place"):
        file_store(tmp_path / "ok").path("..", INCIDENT)


def test_without_a_store_files_are_refused_and_records_kept(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.ingest = Ingest(desk.engine)
    assert desk.announce(package(INCIDENT, {"imu.csv": DATA})) is None
    assert desk.chunk(0, DATA[:10]) is None
    assert desk.refused() == {NO_FILES: 1}
    assert packages.progress(desk.engine)[0].received == 0
    desk.engine.dispose()


def test_what_a_crash_left_behind_is_cleared_away_after_a_day(desk: Desk) -> None:
    desk.announce(package(INCIDENT, {"imu.csv": DATA}))
    desk.chunk(0, DATA[:1000])
    orphan = desk.files.begin()
    newest_ns = max(p.stat().st_mtime_ns for p in desk.partials())
    desk.ingest.tend(newest_ns)
    assert len(desk.partials()) == 2
    desk.ingest.tend(newest_ns + 86_401 * 10**9)
    assert orphan not in [p.name for p in desk.partials()]
    assert missing(desk.init()) == [(1000, len(DATA))]


def test_two_receivers_on_one_postgresql_and_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    small = {f"part{i}.csv": contents(20 + i, 150_000) for i in range(4)}
    with postgresql() as url:
        one = Desk(tmp_path, url)
        two = Ingest(one.engine, file_store(tmp_path / "files"))
        one.announce(package(INCIDENT, {"imu.csv": DATA, **small}))
        work = []
        for data in (DATA, *small.values()):
            file = hashlib.sha256(data).hexdigest()
            for at in range(0, len(data), 10_000):
                piece = data[at : at + 10_000]
                work += [(filemessages.chunk_topic(one.device, file, at, piece), piece)] * 2
        with ThreadPoolExecutor(2) as pool:
            halves = [(one.ingest, work[::2]), (two, work[1::2][::-1])]
            list(pool.map(lambda half: [half[0].take(t, p, 1) for t, p in half[1]], halves))
            ends = [
                (filemessages.fin_topic(one.device, hashlib.sha256(d).hexdigest(), len(d)), b"")
                for d in (DATA, *small.values())
            ]
            halves = [(one.ingest, ends), (two, ends[::-1])]
            list(pool.map(lambda half: [half[0].take(t, p, 1) for t, p in half[1]], halves))
        (shown,) = packages.progress(one.engine)
        assert shown.whole
        assert one.kept() == DATA
        assert all(one.kept(name) == data for name, data in small.items())
        assert one.partials() == []
        assert len(packages.untold(one.engine)) == 1
        one.engine.dispose()
