"""Uploads over real brokers and between real processes: killed, restarted, moved to another broker, cut off."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from agent.incident.folder import PACKAGES
from agent.link import BrokerSettings
from agent.sending import Sending
from agent.store import Store
from agent.sync import SyncSettings
from agent.upload.settings import UploadSettings
from receiver import db, devices, packages
from receiver.mqtt import Reception
from receiver.packages import Arrival
from tests.cutting import Cutter
from tests.syncing import mosquitto, until
from tests.uploading import INCIDENT, add_package, contents, file_store, kept, some_files

QUICK = SyncSettings(answer_s=2.0, retry_s=0.05, retry_cap_s=0.4, refused_s=0.3)
UPLOAD = UploadSettings(answer_s=1.0, refused_s=2.0, busy_s=0.5)
SLOW = UploadSettings(answer_s=1.0, refused_s=2.0, busy_s=0.5, max_bytes_per_s=4_000_000)
# A receiver writes what it holds once a second, so a kill costs what came in that second.
STEADY = 1_000_000
CLIP = {"crash.json": contents(1, 5000), "clip-front.mp4": contents(2, 6_000_000)}


class Bed:
    """A receiver's database and files, and a device's store, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder / 'receiver.db'}"
        self.engine: Engine = db.open_database(self.url)
        self.arrivals: list[Arrival] = []
        self.store = Store.open(folder / "agent")
        self.store.begin_boot("boot-1")
        self.device = self.store.device
        devices.enrol(self.engine, self.store.public_key.hex())

    def received(self) -> int:
        return sum(p.received for p in packages.progress(self.engine))

    def whole(self) -> bool:
        return bool(self.store.uploads.packages()) and all(p.acknowledged for p in self.store.uploads.packages())

    def same(self, files: dict[str, bytes]) -> bool:
        return kept(self.folder / "files", self.device, INCIDENT) == files

    @contextmanager
    def receiver(self, broker: str) -> Iterator[Reception]:
        reception = Reception(
            self.engine,
            BrokerSettings(url=broker),
            files=file_store(self.folder / "files"),
            on_package=self.arrivals.append,
        )
        reception.start()
        try:
            yield reception
        finally:
            reception.stop()
            assert not reception.is_alive()

    @contextmanager
    def sending(self, broker: str, upload: UploadSettings = UPLOAD) -> Iterator[Sending]:
        sending = Sending(self.store, BrokerSettings(url=broker), QUICK, "boot-1", upload=upload)
        try:
            yield sending
        finally:
            sending.stop()

    def close(self) -> None:
        self.store.close()
        self.engine.dispose()


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    bed = Bed(tmp_path)
    yield bed
    bed.close()


def test_a_package_arrives_whole_and_is_handed_over(broker: str, bed: Bed) -> None:
    add_package(bed.store, INCIDENT, some_files(1, 2_000_000))
    with bed.receiver(broker), bed.sending(broker) as sending:
        done = sending.finish(30.0)
    assert done["packages_left"] == 0
    assert done["file_bytes"] == sum(map(len, some_files(1, 2_000_000).values()))
    assert bed.same(some_files(1, 2_000_000))
    assert [a.incident for a in bed.arrivals] == [INCIDENT]


def test_an_arrival_that_cannot_be_dealt_with_is_given_again(tmp_path: Path, bed: Bed) -> None:
    calls = []

    def refuse_once(arrival: Arrival) -> None:
        calls.append(arrival)
        if len(calls) == 1:
            raise OSError("no verifier today")

    add_package(bed.store, INCIDENT, some_files(1))
    with mosquitto(tmp_path) as broker:
        reception = Reception(
            bed.engine, BrokerSettings(url=broker.url), files=file_store(tmp_path / "files"), on_package=refuse_once
        )
        reception.start()
        with bed.sending(broker.url):
            until(lambda: len(calls) == 2, "the package is handed over again")
        reception.stop()
    assert packages.untold(bed.engine) == []


def test_another_broker_in_the_middle_of_a_file_goes_on_where_it_was(tmp_path: Path, bed: Bed) -> None:
    add_package(bed.store, INCIDENT, CLIP)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with mosquitto(tmp_path / "a") as first, bed.receiver(first.url), bed.sending(first.url, SLOW):
        until(lambda: bed.received() > 1_000_000, "some of the clip is there")
    before = bed.received()
    assert not bed.whole()
    with mosquitto(tmp_path / "b") as second, bed.receiver(second.url), bed.sending(second.url) as sending:
        done = sending.finish(30.0)
    assert bed.same(CLIP)
    assert done["file_bytes"] <= sum(map(len, CLIP.values())) - before + 12 * 65_536


def test_a_receiver_killed_in_mid_file_costs_a_second_and_no_patience(tmp_path: Path, bed: Bed) -> None:
    add_package(bed.store, INCIDENT, CLIP)
    config = tmp_path / "receiver.toml"
    code = "from agent.cli import main; main()"
    patient = UploadSettings(answer_s=300.0, max_bytes_per_s=STEADY)  # it goes on because it is told, not by this
    with mosquitto(tmp_path) as broker:
        config.write_text(f'database = "{bed.url}"\n[broker]\nurl = "{broker.url}"\n')
        command = [sys.executable, "-c", code, "receiver", "serve", "--config", str(config), "--no-pages"]
        with bed.sending(broker.url, patient) as sending:
            for kills in range(3):
                process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
                if kills < 2:
                    at = bed.received()
                    until(lambda seen=at: bed.received() > seen + 400_000, "some of the clip is there")  # type: ignore[misc]
                    process.kill()
                    process.wait()
                    assert not bed.whole()
                    assert bed.received() >= at + 400_000, "what a row says is durable"
            until(bed.whole, "the package is whole", 60.0)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            sent = sending.finish(1.0)["file_bytes"]
    assert bed.same(CLIP)
    assert sent - sum(map(len, CLIP.values())) <= 2 * (3 * STEADY + 12 * 65_536)


DEVICE = """
import sys
from pathlib import Path
from agent.link import BrokerSettings
from agent.sending import Sending
from agent.store import Store
from agent.upload.settings import UploadSettings
from tests.test_upload_brokers import QUICK
store = Store.open(Path(sys.argv[1]))
store.begin_boot("boot-1")
upload = UploadSettings(answer_s=1.0, refused_s=2.0, max_bytes_per_s=int(sys.argv[3]))
sending = Sending(store, BrokerSettings(url=sys.argv[2]), QUICK, "boot-1", upload=upload)
sys.stdin.read()
sending.stop()
store.close()
"""


def test_a_device_killed_in_mid_file_goes_on_inside_it(tmp_path: Path, bed: Bed) -> None:
    add_package(bed.store, INCIDENT, CLIP)
    bed.store.close()
    root = str(Path(__file__).parents[1])
    with mosquitto(tmp_path) as broker, bed.receiver(broker.url):
        for kills in range(4):
            speed = 0 if kills == 3 else STEADY
            command = [sys.executable, "-c", DEVICE, str(tmp_path / "agent"), broker.url, str(speed)]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=root)
            at = bed.received()
            if kills < 3:
                until(lambda seen=at: bed.received() > seen + 400_000, "some of the clip is there")  # type: ignore[misc]
                process.kill()
            else:
                until(lambda: packages.progress(bed.engine)[0].whole, "the package is whole", 60.0)
            process.communicate()
            assert bed.received() >= at
    assert bed.same(CLIP)


def test_a_link_cut_again_and_again_in_mid_file_sends_little_twice(tmp_path: Path, bed: Bed) -> None:
    files = {"clip-front.mp4": contents(2, 12_000_000)}
    add_package(bed.store, INCIDENT, files)
    with mosquitto(tmp_path) as broker, bed.receiver(broker.url), ExitStack() as stack:
        cutter = stack.enter_context(Cutter(broker.port))
        sending = stack.enter_context(bed.sending(f"mqtt://127.0.0.1:{cutter.port}"))
        step = 2_000_000
        for cut in range(1, 6):
            until(lambda n=cut: bed.received() >= min(n * step, 12_000_000), "more of the clip is there", 40.0)  # type: ignore[misc]
            cutter.cut()
        done = sending.finish(40.0)
    assert cutter.cuts == 5
    assert bed.same(files)
    assert done["file_bytes"] - 12_000_000 <= 5 * 12 * 65_536, "a window for every cut at most"


def test_a_crash_is_known_while_a_clip_is_on_its_way(tmp_path: Path, bed: Bed) -> None:
    from tests.sample_records import crash

    add_package(bed.store, INCIDENT, {"clip-front.mp4": contents(2, 20_000_000)})
    upload = UploadSettings(answer_s=1.0, refused_s=2.0, max_bytes_per_s=STEADY)  # the clip takes 20 s
    with mosquitto(tmp_path) as broker, bed.receiver(broker.url), bed.sending(broker.url, upload) as sending:
        until(lambda: bed.received() > 500_000, "the clip is on its way")
        bed.store.append([(2, crash(1))])
        sending.wake()
        until(lambda: bed.store.positions()["crash"] == 1, "the crash is acknowledged")
        assert bed.received() < 10_000_000, "most of the clip comes after it"
        assert not bed.whole()
    assert (bed.store.folder / PACKAGES / INCIDENT).is_dir()
