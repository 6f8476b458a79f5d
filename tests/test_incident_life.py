"""From the spine to the disk and back: packages are written at once, survive restarts, never come twice or get lost."""

import errno
import json
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from agent.blocks import Block
from agent.boottime import BootTime
from agent.daemon import Daemon, Place
from agent.errors import StoreError
from agent.incident import writer as writer_module
from agent.incident.folder import PACKAGES, SIGNATURE, acknowledge, incidents, look, read_record, write_files
from agent.incident.recorder import Draft, Recorder
from agent.incident.recovery import take_up
from agent.incident.retention import prune
from agent.incident.same import SAME_NS, Same
from agent.incident.settings import IncidentSettings
from agent.incident.writer import IncidentWriter
from agent.patience import PatientStore
from agent.pipeline import Pipeline
from agent.records import Crash, Health, Package, Trip
from agent.recovery import finish_boot, resumed
from agent.settings import AgentConfig
from agent.spine import Spine
from agent.store import Store
from tests.crashing import BOOT, MS, S, StubDetector, collision, crash_at, pieces

SETTINGS = AgentConfig()
TABLES = ("before.csv", "imu.csv", "track.csv")
LATER = "c" * 32


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.spine.CrashDetector", StubDetector)


class Life:
    """One life of the agent's inner part on a folder: it begins as the daemon does, and is cut by leaving it."""

    def __init__(self, folder: Path, boot: str = BOOT) -> None:
        self.folder = folder
        self.store = Store.open(folder, SETTINGS.store)
        self.told: list[Health] = []
        packages = folder / PACKAGES
        recorder = Recorder(SETTINGS.incident, boot)
        self.incidents = IncidentWriter(packages, recorder, self.told.append)
        before = self.store.last_boot()
        if before is not None and before != boot:
            finish_boot(self.store, before, SETTINGS, lambda: None)
        self.store.begin_boot(boot)
        spine, missing = resumed(self.store, boot, SETTINGS, BootTime(), lambda: None, recorder)
        found = [r for _, r in missing if isinstance(r, Crash)]
        self.incidents.write(take_up(self.store, packages, recorder, found, SETTINGS, lambda: None))
        self.store.append(missing)
        self.pipeline = Pipeline(spine, self.store, incidents=self.incidents)

    def drive(self, block: Block, cuts: int = 0) -> None:
        for part in pieces(block, range(0, len(block), max(1, len(block) // cuts) if cuts else 37)):
            self.pipeline.step(part)

    def kill(self) -> None:
        """Leave the files as a kill does: nothing is flushed, nothing is closed in order."""
        self.store._database.close()

    @property
    def crashes(self) -> list[Crash]:
        return [s.record for s in self.store.records(Crash)]


def part(block: Block, start_s: float, end_s: float) -> Block:
    return block[(block["t"] >= start_s * S) & (block["t"] < end_s * S)]


DRIVE = part(collision(imu_hz=100), 40.0, 90.0)


def test_a_crash_is_in_the_store_and_on_disk_before_the_next_block(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.drive(part(DRIVE, 0, 70.2))
    (crash,) = life.crashes
    assert not crash.complete
    (found,) = incidents(tmp_path / PACKAGES)
    assert found.id == crash.id
    assert not found.record_final
    assert set(found.files) == {*TABLES, "crash.json"}
    span = life.store.span(BOOT)
    assert span is not None
    assert span[1] >= crash.t_ns + 40 * MS  # flushed, although no second of wall time has passed
    life.drive(part(DRIVE, 70.2, 90))
    assert [c.complete for c in life.crashes] == [False, True]
    (found,) = incidents(tmp_path / PACKAGES)
    assert (found.record_final, found.record_complete) == (True, True)
    assert found.video.from_ns == crash.t_ns - 15 * S
    assert found.video.to_ns == crash.t_ns + 10 * S
    life.kill()


def test_a_crash_counts_in_no_trip(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.drive(DRIVE)
    life.pipeline.finish()
    trips = [s.record for s in life.store.records(Trip)]
    assert len(trips) == 1
    assert not [kind for kind in trips[0].event_counts if kind.startswith(("impact", "crash", "bump"))]
    assert {c.trip_t_ns for c in life.crashes} == {trips[0].start_ns}
    life.kill()


@pytest.mark.parametrize("again", [False, True], ids=["same boot", "new boot"])
@pytest.mark.parametrize("after_s", [0.03, 0.1, 0.3, 0.9, 1.5, 4.0, 9.9, 10.3])
def test_whenever_power_goes_the_crash_is_told_once_and_its_package_is_made(
    tmp_path: Path, after_s: float, again: bool
) -> None:
    life = Life(tmp_path)
    life.drive(part(DRIVE, 0, 70.02 + after_s))
    life.store.flush()
    life.kill()
    restarted = Life(tmp_path, LATER if again else BOOT)
    if not again:
        restarted.drive(part(DRIVE, 70.02 + after_s, 90))
    told = restarted.crashes
    known = not again or after_s > 0.06  # 30 ms after the hit nobody could know yet
    assert [c.complete for c in told] in ([[False, True], [True]] if known else [[]])
    assert len({c.id for c in told}) == int(known)
    found = incidents(tmp_path / PACKAGES)
    assert [i.id for i in found] == list({c.id for c in told})
    for incident in found:
        assert incident.record_final
        assert incident.record_complete == (not again or after_s > 10)
        record = read_record(incident.folder)
        (imu,) = [t for t in record.tables if t.file == "imu.csv"]
        assert imu.rows == pytest.approx(100 * (5 + (min(5, after_s) if again else 5)), abs=5)
    restarted.kill()
    third = Life(tmp_path, LATER if again else BOOT)
    assert third.crashes == told
    assert third.incidents.waiting == 0
    assert [i.id for i in incidents(tmp_path / PACKAGES)] == [i.id for i in found]
    third.kill()


def test_torn_files_and_a_damaged_head_are_mended_from_the_store(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.drive(part(DRIVE, 0, 75))
    life.store.flush()
    life.kill()
    (folder,) = [i.folder for i in incidents(tmp_path / PACKAGES)]
    (folder / "crash.json").write_bytes(b'{"torn')
    (folder / "imu.csv.part").write_bytes(b"1,2")
    restarted = Life(tmp_path, LATER)
    (found,) = incidents(tmp_path / PACKAGES)
    assert found.record_final
    assert not (folder / "imu.csv.part").exists()
    assert len(restarted.crashes) == 2
    restarted.kill()


def test_what_stands_on_disk_with_more_in_it_stays(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.drive(part(DRIVE, 0, 75))
    life.kill()
    with Store.open(tmp_path) as store:
        store._database.connection.execute("DELETE FROM block")  # as if the disk had refused samples
    (before,) = incidents(tmp_path / PACKAGES)
    texts = {name: (before.folder / name).read_bytes() for name in TABLES}
    reached_s = read_record(before.folder).reached_s
    restarted = Life(tmp_path, LATER)
    (found,) = incidents(tmp_path / PACKAGES)
    assert found.record_final
    assert not found.record_complete
    assert {name: (found.folder / name).read_bytes() for name in TABLES} == texts
    assert read_record(found.folder).reached_s == reached_s
    restarted.kill()


def test_a_package_that_was_finished_and_removed_is_not_made_again(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.drive(DRIVE)
    (found,) = incidents(tmp_path / PACKAGES)
    life.store.append([(1, Package(incident=found.id, t_ns=found.t0_ns, complete=True, files=[]))])
    acknowledge(tmp_path / PACKAGES, found.id)
    assert prune(tmp_path / PACKAGES, IncidentSettings(acknowledged_bytes=0), None).packages == 1
    life.kill()
    restarted = Life(tmp_path, LATER)
    assert incidents(tmp_path / PACKAGES) == []
    restarted.kill()


def test_after_a_restart_a_storm_is_judged_as_before(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.begin_boot(BOOT)
        told = [crash_at(i * 60 * S, complete=True) for i in range(1, 31)]
        store.append([(c.known_ns, c) for c in told])
        store.append_block(collision((), until_s=1810.0, imu_hz=1))
    restarted = Life(tmp_path, LATER)
    made = {i.id for i in incidents(tmp_path / PACKAGES)}
    assert made == {c.id for c in told[: SETTINGS.incident.per_hour]}
    restarted.kill()
    again = Life(tmp_path)
    assert again.incidents.recorder.counts == {"packages": 10, "only_record": 20}
    assert len(again.crashes) == 30
    again.kill()


def test_of_a_crash_whose_samples_are_gone_only_the_record_stays(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.begin_boot(BOOT)
        store.append([(70 * S, crash_at(70 * S, complete=True))])
    restarted = Life(tmp_path, LATER)
    assert incidents(tmp_path / PACKAGES) == []
    restarted.kill()


def test_samples_that_a_disk_refuses_at_a_crash_are_told_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_path) as store:
        store.begin_boot(BOOT)
        keeper = PatientStore(store, lambda: 0)
        keeper.append_block(DRIVE)
        with monkeypatch.context() as patch:
            patch.setattr(store, "flush", lambda: (_ for _ in ()).throw(StoreError("disk full")))
            keeper.flush()
        assert keeper.waiting == 1  # the sentence about it
        keeper.flush()
        assert store.span(BOOT) is not None
        keeper.last()
        (told,) = store.records(Health)
        assert (told.record.source, told.record.state) == ("store", "lost")


def test_two_near_crashes_found_again_are_two_and_not_more() -> None:
    kept = [crash_at(70 * S), crash_at(70 * S, complete=True), crash_at(70 * S + 300 * MS)]
    same = Same(kept)
    assert same.admit(crash_at(70 * S + 2 * MS)) is None
    assert same.admit(crash_at(70 * S + 2 * MS, complete=True)) is None
    assert same.admit(crash_at(70 * S + 299 * MS)) is None
    known = same.admit(crash_at(70 * S + 299 * MS, complete=True))
    assert known is not None
    assert (known.id, known.t_ns, known.complete) == (kept[2].id, kept[2].t_ns, True)
    third = crash_at(70 * S + 600 * MS)
    assert same.admit(third) == third
    assert same.admit(third) is None
    assert Same(kept).admit(crash_at(70 * S + 300 * MS + SAME_NS + 1)) is not None


def drafts() -> list[Draft]:
    recorder = Recorder(IncidentSettings(), BOOT)
    return recorder.step(DRIVE, [], [crash_at(70 * S, complete=True)])


def test_a_full_disk_is_told_once_and_the_record_is_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ns, room, real = [0], [False], os.fsync
    monkeypatch.setattr(writer_module, "monotonic_ns", lambda: now_ns[0])

    def fsync(descriptor: int) -> None:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    told: list[Health] = []
    writer = IncidentWriter(tmp_path / PACKAGES, Recorder(IncidentSettings(), BOOT), told.append)
    writer.write(drafts())
    for _ in range(30):
        now_ns[0] += S
        writer.tend()
    assert writer.waiting == 1
    assert incidents(tmp_path / PACKAGES) == []
    assert [(h.source, h.state) for h in told] == [("packages", "lost")]
    assert "No space left on device" in told[0].detail
    room[0] = True
    writer.tend()
    assert writer.waiting == 1  # not before it is time again
    now_ns[0] += 5 * S
    writer.tend()
    assert writer.waiting == 0
    assert [h.state for h in told] == ["lost", "ok"]
    (found,) = incidents(tmp_path / PACKAGES)
    assert found.record_final


def test_a_storm_is_told_once(tmp_path: Path) -> None:
    told: list[Health] = []
    life = Life(tmp_path)
    life.incidents = IncidentWriter(tmp_path / PACKAGES, Recorder(IncidentSettings(per_hour=1), BOOT), told.append)
    spine = Spine(SETTINGS.fusion, SETTINGS.detection, SETTINGS.trips, boot=BOOT)
    pipeline = Pipeline(spine, life.store, incidents=life.incidents)
    for piece in pieces(collision((70.0, 73.0, 76.0), imu_hz=100), range(0, 50_000, 200)):
        pipeline.step(piece)
    assert len(incidents(tmp_path / PACKAGES)) == 1
    assert [(h.state, h.counts) for h in told] == [("degraded", {"only_record": 1})]
    assert len({c.id for c in life.crashes}) == 3
    life.kill()


def test_retention_takes_only_what_the_receiver_holds_oldest_first(tmp_path: Path) -> None:
    packages = tmp_path / PACKAGES
    ids = []
    for i in range(4):
        recorder = Recorder(IncidentSettings(), BOOT)
        (draft,) = recorder.step(DRIVE, [], [crash_at(70 * S + i * S, complete=True)]) or recorder.finish()
        write_files(packages / draft.id, draft.files | {SIGNATURE: bytes(1000)})
        ids.append(draft.id)
    day_ns = 86_400 * S
    for i, of in enumerate(ids[:3]):
        acknowledge(packages, of)
        os.utime(packages / f"{of}.acknowledged", ns=(i * day_ns, i * day_ns))
    keep = IncidentSettings()
    assert prune(packages, keep, None).packages == 0
    assert prune(packages, keep, 50 * day_ns).packages == 0
    removed = prune(packages, keep, 90 * day_ns + 1)
    assert removed.packages == 1
    assert removed.bytes > 1000
    assert look(packages / ids[0]) is None
    assert not (packages / f"{ids[0]}.acknowledged").exists()
    assert prune(packages, IncidentSettings(acknowledged_bytes=0), None).packages == 2
    assert [i.id for i in incidents(packages)] == ids[3:]


def test_packages_make_room_also_where_the_full_disk_lets_the_store_remove_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(AgentConfig(), incident=IncidentSettings(acknowledged_bytes=0))
    daemon = Daemon(settings, Place(tmp_path, boot=BOOT), make=[lambda: pytest.fail("no device is opened for that")])
    (draft,) = drafts()
    write_files(tmp_path / PACKAGES / draft.id, draft.files)
    acknowledge(tmp_path / PACKAGES, draft.id)

    def full(now_utc_ns: int | None) -> Any:
        raise StoreError("database or disk is full")

    with Store.open(tmp_path) as store:
        monkeypatch.setattr(store, "prune", full)
        daemon._prune(store, None)
    assert incidents(tmp_path / PACKAGES) == []


def test_a_removal_that_was_cut_is_ended_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = tmp_path / PACKAGES
    (draft,) = drafts()
    write_files(packages / draft.id, draft.files)
    acknowledge(packages, draft.id)
    real, left = Path.unlink, [2]

    def unlink(self: Path, missing_ok: bool = False) -> None:
        if not left[0]:
            raise OSError(errno.EROFS, "Read-only file system")
        left[0] -= 1
        real(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    everything = IncidentSettings(acknowledged_bytes=0)
    assert prune(packages, everything, None).packages == 0
    monkeypatch.undo()
    assert prune(packages, everything, None).packages == 1
    assert list(packages.iterdir()) == []


class Killed(BaseException):
    """The power went."""


def test_a_removal_that_is_killed_at_any_step_leaves_no_part_of_a_package_and_is_ended_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (draft,) = drafts()
    everything = IncidentSettings(acknowledged_bytes=len(draft.files["imu.csv"]) // 2)  # half a package would fit
    real = {name: getattr(Path, name) for name in ("unlink", "rmdir", "rename")}
    killed = 0
    for step in range(100):
        packages = tmp_path / str(step) / PACKAGES
        write_files(packages / draft.id, draft.files | {SIGNATURE: b"x"})
        acknowledge(packages, draft.id)
        whole = look(packages / draft.id)
        left = [step]

        def cut(name: str, left: list[int] = left) -> Any:
            def change(*given: Any, **more: Any) -> Any:
                if not left[0]:
                    raise Killed
                left[0] -= 1
                return real[name](*given, **more)

            return change

        with monkeypatch.context() as patched:
            for name in real:
                patched.setattr(Path, name, cut(name))
            try:
                prune(packages, everything, None)
            except Killed:
                killed += 1
        assert incidents(packages) in ([whole], [])
        prune(packages, everything, None)
        assert list(packages.iterdir()) == []
        if left[0]:
            break
    assert killed == len(draft.files) + 4  # each file, the signature, the folder's new name and end, the marker


def test_the_head_is_readable_json_with_the_crash_in_it(tmp_path: Path) -> None:
    (draft,) = drafts()
    head = json.loads(draft.files["crash.json"])
    assert head["crash"] == json.loads(msgspec.json.encode(crash_at(70 * S, complete=True)))
    assert [t["file"] for t in head["tables"]] == list(TABLES)
    assert all(
        len(row.split(b",")) == len(t["units"]) for t in head["tables"] for row in draft.files[t["file"]].splitlines()
    )


@pytest.mark.parametrize("seed", range(12))
def test_killed_at_random_again_and_again_the_record_is_whole_in_the_end(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    at = sorted(chance.uniform(69.5, 81.0) for _ in range(chance.randint(1, 4)))
    start = 0.0
    for end in [*at, 90.0]:
        life = Life(tmp_path)
        life.drive(part(DRIVE, start, end), cuts=chance.randint(5, 300))
        if chance.random() < 0.5 and end < 90:
            life.store.flush()
        else:
            life.store.append_block(np.empty(0, DRIVE.dtype), last=True)  # a second has passed
        life.kill()
        start = end
    last = Life(tmp_path)
    assert len({c.id for c in last.crashes}) == 1
    assert [c.complete for c in last.crashes] in ([False, True], [True])
    (found,) = incidents(tmp_path / PACKAGES)
    assert (found.record_final, found.record_complete) == (True, True)
    whole = Recorder(SETTINGS.incident, BOOT)
    (expected,) = whole.step(DRIVE, [], [crash_at(found.t0_ns, complete=True)])

    def counted(text: bytes) -> Any:
        return [line.count(b",") for line in text.splitlines()]

    assert counted((found.folder / "imu.csv").read_bytes()) == counted(expected.files["imu.csv"])
    assert (found.folder / "track.csv").read_bytes() == expected.files["track.csv"]
    last.kill()
