"""Uploads in virtual time: what goes first, how much at once, what a budget stops, what is heard of the receiver."""

import json
import logging
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from agent import filemessages, messages
from agent.clock import NS_PER_S
from agent.errors import ConfigError
from agent.filemessages import Files, OpenFile
from agent.incident.folder import PACKAGES, marker
from agent.link import Arrived, Down, Up
from agent.records import Clock, Health, Package
from agent.settings import load_agent
from agent.store import Store, StoreSettings
from agent.sync import Sync
from agent.tcp import Road
from agent.upload.budget import DAY_NS, ENVELOPE, LEASE, Budget
from agent.upload.pace import LEAST, Pace
from agent.upload.settings import Allowance, BudgetSettings, UploadSettings
from agent.upload.uploads import Uploads
from receiver import db, devices
from receiver.ingest import Ingest
from tests.sample_records import crash, event
from tests.test_sync import FakeUplink
from tests.uploading import INCIDENT, add_package, contents, file_store, package, some_files


class Bench:
    """A device with a real store, a real receiver's ingest, and an uplink between them that the test drives."""

    def __init__(self, folder: Path, budget: BudgetSettings | None = None, **settings: float) -> None:
        self.folder = folder
        self.now_ns = 0
        self.utc_ns: int | None = 1000 * DAY_NS
        self.health: list[Health] = []
        self.settings = UploadSettings(**settings)  # type: ignore[arg-type]
        self.budget_settings = budget or BudgetSettings()
        self.engine = db.open_database(f"sqlite:///{folder / 'r.db'}")
        self.ingest = Ingest(self.engine, file_store(folder / "files"))
        self.log: list[str] = []  # every topic sent, in order
        self.open()
        devices.enrol(self.engine, self.store.public_key.hex())

    def open(self) -> None:
        self.store = Store.open(self.folder / "agent")
        self.store.begin_boot("boot-1")
        self.uplink = FakeUplink()
        self.budget = Budget(self.budget_settings, self.store.uploads, lambda _: self.utc_ns)
        packages = self.store.folder / PACKAGES
        self.uploads = Uploads(
            self.store.device, packages, self.store.uploads, self.settings, self.budget, self.health.append
        )
        self.sync = Sync(
            self.store,
            self.uplink,
            boot="boot-1",
            uploads=self.uploads,
            budget=self.budget,
            on_health=self.health.append,
        )
        self.sync.step(self.now_ns)
        self.uplink.happened.append(Up("5"))

    def send(self, seconds: float = 0.01) -> list[tuple[str, bytes]]:
        """Let the device send; return what it sent."""
        self.now_ns += round(seconds * NS_PER_S)
        due_ns = self.sync.step(self.now_ns)
        assert due_ns > self.now_ns, "a step that wants to come back at once would spin"
        sent = [(topic, payload) for topic, payload, _ in self.uplink.published]
        self.uplink.published = []
        self.log += [topic for topic, _ in sent]
        return sent

    def receive(self, sent: list[tuple[str, bytes]]) -> None:
        for topic, payload in sent:
            for out in self.ingest.take(topic, payload, 1):
                self.uplink.happened.append(Arrived(out.topic, out.payload))

    def run(self, until: Callable[[], bool], most: int = 2000) -> None:
        for _ in range(most):
            if until():
                return
            self.receive(self.send())
        pytest.fail(f"in vain: {self.sync.status}")

    def acknowledged(self) -> bool:
        return bool(self.store.uploads.packages()) and all(p.acknowledged for p in self.store.uploads.packages())

    def chunks(self) -> int:
        return sum(1 for t in self.log if _what(t) == "chunk")

    def close(self) -> None:
        self.sync.close()
        self.store.close()
        self.engine.dispose()


def _what(topic: str) -> str:
    where = messages.address(topic)
    return filemessages.file_address(where.lane).step if where.what == "file" else where.what


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def test_the_record_goes_first_then_small_files_then_video(bench: Bench) -> None:
    record = add_package(bench.store, INCIDENT, some_files(1))
    video = next(f.sha256 for f in record.files if f.name.endswith(".mp4"))
    bench.run(bench.acknowledged)
    first_file = next(i for i, t in enumerate(bench.log) if messages.address(t).what == "file")
    assert any("/up/clip" in t for t in bench.log[:first_file])
    chunks = [t for t in bench.log if _what(t) == "chunk"]
    first_video = next(i for i, t in enumerate(chunks) if video in t)
    assert all(video in t for t in chunks[first_video:])
    assert first_video >= 4
    assert marker(bench.store.folder / PACKAGES / INCIDENT).exists()


def test_a_crash_overtakes_a_clip_within_one_window(tmp_path: Path) -> None:
    bench = Bench(tmp_path, window=8)
    add_package(bench.store, INCIDENT, {"clip-front.mp4": contents(1, 50_000_000)})
    bench.run(lambda: bench.chunks() >= 100)
    under_way = bench.send()  # on the wire when the car crashes
    before = bench.chunks()
    bench.store.append([(2, crash(1))])
    overtaken = 0
    for _ in range(20):
        sent = bench.send()
        at = next((i for i, (t, _) in enumerate(sent) if "/up/crash" in t), None)
        if at is not None:
            assert at == 0, "nothing goes before it in the same breath"
            break
        overtaken += len(sent)
        bench.receive(under_way)
        under_way = sent
    else:
        pytest.fail("the crash never went")
    assert bench.chunks() - before <= 8
    assert len(under_way) <= 8
    assert bench.sync.status.files.bytes == 50_000_000, "the clip was far from its end"
    bench.close()


def test_only_the_answer_frees_a_package_and_not_that_to_an_older_record(bench: Bench) -> None:
    add_package(bench.store, INCIDENT, some_files(1))
    bench.run(lambda: bench.sync.status.files.files > 0 and bench.chunks() > 0)
    record = bench.store.uploads.packages()[0]
    answer = {"device": bench.store.device, "session": bench.sync._session}
    topic = messages.topic(bench.store.device, "files")

    def hear(**changes: object) -> None:
        said = Files(**{**answer, **changes})  # type: ignore[arg-type]
        bench.uplink.happened.append(Arrived(topic, filemessages.encode_files(said)))
        bench.send()

    hear(packages={INCIDENT: record.digest}, session="earlier")
    hear(packages={INCIDENT: "00" * 32})
    assert not bench.acknowledged()
    assert not marker(bench.store.folder / PACKAGES / INCIDENT).exists()
    hear(packages={INCIDENT: record.digest})
    assert bench.acknowledged()


def test_a_second_record_with_more_files_makes_the_package_wait_again(bench: Bench) -> None:
    files = some_files(1)
    late = files.pop("clip-front.mp4")
    add_package(bench.store, INCIDENT, files, complete=False)
    bench.run(bench.acknowledged)
    before = bench.sync.status.files.sent
    add_package(bench.store, INCIDENT, {**files, "clip-front.mp4": late, "manifest.json": b"second"})
    assert not bench.acknowledged()
    bench.run(lambda: bench.sync.status.files.packages == 1)
    assert not marker(bench.store.folder / PACKAGES / INCIDENT).exists(), "retention leaves it alone"
    bench.run(bench.acknowledged)
    assert bench.sync.status.files.sent - before == len(late) + len(b"second"), "only what is new"
    assert (bench.folder / "files" / bench.store.device / INCIDENT / "manifest.json").read_bytes() == b"second"


def test_a_receiver_that_lost_everything_gets_everything_again(bench: Bench) -> None:
    add_package(bench.store, INCIDENT, some_files(1))
    bench.run(bench.acknowledged)
    bench.engine.dispose()
    (bench.folder / "r.db").unlink()
    bench.engine = db.open_database(f"sqlite:///{bench.folder / 'r.db'}")
    bench.ingest = Ingest(bench.engine, file_store(bench.folder / "other"))
    devices.enrol(bench.engine, bench.store.public_key.hex())
    bench.uplink.happened.append(Down("gone"))
    bench.run(lambda: bench.uplink.connects >= 2)
    bench.uplink.happened.append(Up("5"))
    bench.run(lambda: not bench.acknowledged())
    assert not marker(bench.store.folder / PACKAGES / INCIDENT).exists()
    bench.run(bench.acknowledged)
    assert len(list((bench.folder / "other" / bench.store.device / INCIDENT).iterdir())) == 6


def test_silence_is_asked_about_again_and_more_and_more_rarely(tmp_path: Path) -> None:
    bench = Bench(tmp_path, answer_s=10.0, refused_s=80.0)
    add_package(bench.store, INCIDENT, some_files(1))
    bench.run(lambda: bench.chunks() > 0)
    asked = []
    for _ in range(2000):
        sent = bench.send(0.2)
        bench.receive([m for m in sent if messages.address(m[0]).what != "file"])  # those about files are lost
        if any(t.endswith("/init") for t, _ in sent):
            asked.append(bench.now_ns / NS_PER_S)
    waits = [round(b - a, 1) for a, b in pairwise(asked)]
    assert waits == sorted(waits)
    assert waits[0] < 25
    assert 79 < waits[-1] < 82
    assert bench.sync.status.files.reason == "the receiver does not answer about files"
    bench.run(bench.acknowledged, 12_000)
    assert bench.sync.status.files.reason == ""
    bench.close()


def test_a_file_that_is_not_what_its_record_says_is_told_once_and_the_others_go(bench: Bench) -> None:
    add_package(bench.store, INCIDENT, some_files(1))
    (bench.store.folder / PACKAGES / INCIDENT / "imu.csv").unlink()
    (bench.store.folder / PACKAGES / INCIDENT / "crash.json").write_bytes(contents(99, 900))
    bench.run(lambda: bench.sync.status.files.files == 2)
    for _ in range(10):
        bench.receive(bench.send(700.0))
    said = [h.detail for h in bench.health if "cannot be sent" in h.detail]
    assert len(said) == 2
    assert any("imu.csv" in d and "No such file" in d for d in said)
    assert any("crash.json" in d and "not what its record says" in d for d in said)
    assert any("contents are not what the package names" in h.detail for h in bench.health)
    assert not bench.acknowledged()
    assert len(list((bench.folder / "files" / bench.store.device / INCIDENT).iterdir())) == 4


def test_a_receiver_without_room_is_left_alone_for_a_while(bench: Bench) -> None:
    add_package(bench.store, INCIDENT, some_files(1))
    bench.run(lambda: bench.chunks() > 0)
    full = Files(device=bench.store.device, session=bench.sync._session, trouble="no space")
    bench.uplink.happened.append(Arrived(messages.topic(bench.store.device, "files"), filemessages.encode_files(full)))
    assert bench.send() == []
    assert bench.sync.status.files.reason == "no space"
    assert bench.send(59.0) == []
    assert any(t.endswith("/init") for t, _ in bench.send(2.0))


def test_an_answer_overtaken_on_its_way_changes_nothing(bench: Bench) -> None:
    record = add_package(bench.store, INCIDENT, {"imu.csv": contents(1, 600_000)})
    file = record.files[0].sha256
    bench.run(lambda: bench.chunks() >= 8)
    bench.receive(bench.send())
    bench.receive(bench.send())
    stale = Files(device=bench.store.device, session=bench.sync._session, open={file: OpenFile(0, [(0, 600_000)])})
    bench.uplink.happened.append(Arrived(messages.topic(bench.store.device, "files"), filemessages.encode_files(stale)))
    bench.run(bench.acknowledged)
    assert bench.sync.status.files.again == 0


# how much at once


def test_a_record_that_the_card_has_damaged_keeps_no_other_package_waiting(tmp_path: Path) -> None:
    other = "b" * 16
    with Store.open(tmp_path / "agent") as store:
        store.begin_boot("boot")
        for incident in (INCIDENT, other):
            store.append([(1, Package(incident=incident, t_ns=1, complete=True, files=[]))])
    with sqlite3.connect(tmp_path / "agent" / "store.db") as connection:
        connection.execute(
            "UPDATE entry SET body = x'00' WHERE id = (SELECT entry FROM package WHERE incident = ?)", (INCIDENT,)
        )
    connection.close()
    with Store.open(tmp_path / "agent") as store:
        assert [stored.package.incident for stored in store.uploads.packages()] == [other]


def test_as_much_is_on_the_road_as_the_link_holds() -> None:
    pace = Pace(UploadSettings())
    pace.begin(0)
    assert (pace.most(), pace.chunk()) == (16_384, 12_288)
    now = 0

    def carry(bytes_per_s: int, times: int) -> None:
        nonlocal now
        for _ in range(times):
            then = pace.acknowledged
            now += NS_PER_S // 10
            pace.arrived(bytes_per_s // 10, now - NS_PER_S // 10, then, now)

    carry(62_500, 10)  # 0.5 Mbit/s
    assert pace.rate == pytest.approx(62_500)
    assert 62_500 * 0.4 < pace.chunk() <= 62_500 * 0.5
    assert pace.most() == 62_500, "what it carries in a second"
    assert pace.look_again_ns(Road(pace.most() - 1, 0.1)) == 0
    full_ns = pace.look_again_ns(Road(pace.most() + 6250, 0.1))
    assert full_ns == NS_PER_S // 10, "as soon as there is room"
    assert pace.look_again_ns(Road(100_000, 0.8)) == 0
    assert pace.most() == 2.4 * 62_500, "three round trips"
    assert 62_500 * 0.7 < pace.chunk() <= 62_500 * 0.8, "a round trip"
    carry(12_500_000, 10)
    assert pace.chunk() == 65_536
    pace.begin(now)
    assert (pace.most(), pace.chunk()) == (16_384, 12_288)


@pytest.mark.parametrize("rate", [4_000, 16_000, 64_000])
def test_a_road_never_runs_empty_while_a_chunk_is_waited_for(rate: int) -> None:
    pace = Pace(UploadSettings())
    pace.begin(0)
    pace.arrived(rate, 0, 0, NS_PER_S)
    held = 0.0
    for _ in range(1000):
        while (wait_ns := pace.look_again_ns(Road(round(held), 0.1))) == 0:
            held += pace.chunk()
        assert held <= max(rate, LEAST) + max(0.5 * rate, 12_288)
        held -= rate * wait_ns / NS_PER_S
        assert held > 0


def test_while_the_road_is_full_chunks_wait_and_are_looked_after(bench: Bench) -> None:
    add_package(bench.store, INCIDENT, {"clip-front.mp4": contents(1, 5_000_000)})
    bench.run(lambda: bench.chunks() >= 20)
    bench.uplink.on_the_road = Road(50_000_000, 0.1)
    bench.receive(bench.send())
    for _ in range(5):
        assert not bench.send(0.3), "what TCP holds is not there yet"
        assert bench.sync.step(bench.now_ns) <= bench.now_ns + NS_PER_S // 4
    bench.uplink.on_the_road = Road(0, 0.1)
    assert bench.send(0.3)


def test_the_bandwidth_cap_holds(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_bytes_per_s=50_000)
    add_package(bench.store, INCIDENT, {"clip-front.mp4": contents(1, 3_000_000)})
    for _ in range(1000):
        bench.receive(bench.send(0.02))
    assert 900_000 < bench.sync.status.files.sent < 1_100_000  # 20 s
    bench.close()


# budgets


def budget(metered: bool = True, video: int = 0, event: int = 0, month: int = 0) -> BudgetSettings:
    return BudgetSettings(metered=metered, day=Allowance(video=video, event=event), month=Allowance(video=month))


def test_a_budget_stops_video_but_no_record_and_no_crash_and_survives_a_restart(tmp_path: Path) -> None:
    bench = Bench(tmp_path, budget(video=1_000_000))
    add_package(bench.store, INCIDENT, some_files(1, 3_000_000))
    for _ in range(300):
        bench.receive(bench.send())
    small = sum(len(d) for n, d in some_files(1).items() if not n.endswith(".mp4"))
    assert 900_000 < bench.sync.status.files.sent - small <= 1_000_000
    bench.store.append([(2, crash(1)), (3, event(1))])
    bench.run(lambda: bench.store.positions() == bench.store.heads())
    assert "budget of class video" in bench.sync.status.files.reason
    assert len([h for h in bench.health if "budget" in h.detail]) == 1
    bench.store.close()  # as kill -9 would: nothing is given back
    bench.open()
    for _ in range(300):
        bench.receive(bench.send())
    assert bench.sync.status.files.sent == 0
    bench.utc_ns = 1001 * DAY_NS
    for _ in range(300):
        bench.receive(bench.send(1.0))
    assert 900_000 < bench.sync.status.files.sent <= 1_000_000
    for day in (1002, 1003):  # three days carry 3 MB less the envelopes and the lease lost with the restart
        assert not bench.acknowledged()
        bench.utc_ns = day * DAY_NS
        for _ in range(300):
            bench.receive(bench.send(1.0))
    assert bench.acknowledged()
    bench.close()


def test_a_lane_beyond_its_budget_waits_for_the_next_day_and_the_crash_lane_never(tmp_path: Path) -> None:
    bench = Bench(tmp_path, budget(event=1))
    bench.store.append([(1, event(1)), (2, crash(1))])
    for _ in range(20):
        bench.receive(bench.send())
    assert bench.store.positions()["crash"] == 1
    assert bench.store.positions()["event"] == 0
    assert [h.detail for h in bench.health] == ["the byte budget of lane event is used up"]
    bench.close()


def test_an_unmetered_link_counts_and_stops_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, budget(metered=False, video=1))
    add_package(bench.store, INCIDENT, some_files(1))
    bench.run(bench.acknowledged)
    assert bench.budget.of_month("video") > 300_000
    bench.close()


def test_a_month_is_the_sum_of_its_days_and_an_unknown_date_renews_nothing(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        day = 19_000  # 2022-01-08
        utc: list[int | None] = [day * DAY_NS]
        meter = Budget(budget(month=1000), store.uploads, lambda _: utc[0])
        assert meter.allows("video", 900, 0)
        meter.spend("video", 600)
        utc[0] = (day + 1) * DAY_NS
        assert not meter.allows("video", 400, 120 * NS_PER_S)
        assert meter.allows("video", 100, 120 * NS_PER_S)
        meter.close()
        utc[0] = None
        again = Budget(budget(month=1000), store.uploads, lambda _: utc[0])
        assert again.of_month("video") == 600 + ENVELOPE
        assert not again.allows("video", 400, 0)
        utc[0] = (day + 31) * DAY_NS
        assert again.allows("video", 900, 240 * NS_PER_S)


def test_a_restart_counts_at_most_a_lease_too_much_and_never_too_little(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        spent = 0
        for _ in range(5):
            meter = Budget(BudgetSettings(), store.uploads, lambda _: DAY_NS)
            meter.allows("event", 1, 0)
            before = meter.of_month("event")
            assert spent <= before <= spent + LEASE
            meter.spend("event", 5000 - ENVELOPE)
            spent = before + 5000


# settings and command


def test_wrong_settings_are_told(tmp_path: Path) -> None:
    for text, told in [
        ("[upload]\nwindow = 99", "window must be"),
        ("[upload]\nchunk_bytes = 1", "chunk_bytes"),
        ("[upload]\nmax_bytes_per_s = 5", "max_bytes_per_s"),
        ("[upload]\nanswer_s = 0", "more than 0"),
        ("[budget.day]\nvideo = -1", "budgets"),
        ("[upload]\nwindow = 12\n[broker]\nin_flight = 14", "broker.in_flight"),
    ]:
        path = tmp_path / "agent.toml"
        path.write_text(text)
        with pytest.raises(ConfigError, match=told):
            load_agent(path)


def test_packages_are_listed_by_command(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    add_package(bench.store, INCIDENT, some_files(1))
    add_package(bench.store, "00000000000000ff", {"imu.csv": contents(9, 400_000)})
    bench.run(lambda: bench.store.uploads.packages()[0].acknowledged)
    bench.uploads.close()
    code = "from agent.cli import main; main()"
    command = [sys.executable, "-c", code, "store", "packages", "--store", str(bench.store.folder)]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    first, second = json.loads(done.stdout)
    assert first["acknowledged"]
    assert first["held"] == first["bytes"] == sum(map(len, some_files(1).values()))
    assert not second["acknowledged"] or second["held"] == 400_000
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert INCIDENT in shown
    assert "100 %" in shown


def test_what_is_remembered_of_uploads_does_not_grow_with_the_packages_that_ever_were(tmp_path: Path) -> None:
    def count(table: str) -> int:
        return int(store._database.rows(f"SELECT COUNT(*) FROM {table}")[0][0])

    most = {"uploaded_file": 0, "uploaded_package": 0}
    with Store.open(tmp_path, StoreSettings(acknowledged_days=10)) as store:
        store.begin_boot("boot-1")
        store.append([(0, Clock(t_ns=0, offset_ns=1000 * DAY_NS, quality="gnss", uncertainty_ns=1))])
        for day in range(40):
            made = package(f"{day:016x}", {name: contents(day, 50 + i) for i, name in enumerate(some_files(day, 0))})
            store.append([(day * DAY_NS, made)])
            store.acknowledge({"clip": store.heads()["clip"], "event": 1})
            store.uploads.keep_progress({file.sha256: file.size // 2 for file in made.files})
            if day < 39:  # the last is still being sent
                store.uploads.acknowledge(made.incident, store.uploads.packages()[-1].digest)
            store.prune((1000 + day) * DAY_NS)
            most = {table: max(rows, count(table)) for table, rows in most.items()}
        assert most["uploaded_file"] == 6
        assert most["uploaded_package"] <= 12
        (last,) = [p for p in store.uploads.packages() if not p.acknowledged]
        assert store.uploads.progress() == {file.sha256: file.size // 2 for file in last.package.files}
