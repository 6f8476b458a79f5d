"""The packager: when a manifest is written, what it says, what is told to the receiver, and that it is told once."""

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agent.clerk import Clerk
from agent.clip.clipper import Clipper
from agent.clip.settings import ClipSettings
from agent.errors import StoreError
from agent.evidence import verify_package as verifier
from agent.evidence.contents import KINDS, what_is
from agent.evidence.manifest import Material, Missing
from agent.evidence.packager import PATIENCE_NS, Packager
from agent.evidence.settings import EvidenceSettings
from agent.evidence.software import PACKAGES as SOFTWARE
from agent.evidence.software import installed
from agent.evidence.timestamp import Stamper
from agent.incident.folder import PACKAGES, acknowledge, look, write_files
from agent.records import Package
from agent.store import Store, StoreSettings
from tests.packing import (
    BOOT,
    T0_NS,
    UTC_NS,
    S,
    add_video,
    asked,
    begin,
    clock,
    crash_at,
    packed,
    write_record,
)


def manifest(package: Path) -> dict[str, object]:
    table: dict[str, object] = json.loads((package / "manifest.json").read_bytes())
    return table


def gone(package: Path) -> dict[str, str]:
    return {row["what"]: row["why"] for row in manifest(package)["missing"]}  # type: ignore[attr-defined, index]


def test_the_manifest_says_what_when_by_what_and_what_is_missing(tmp_path: Path) -> None:
    material = Material(
        missing=[Missing("video of camera rear", "unplugged 4 s before time zero")],
        covers={"clip-front.mp4": (T0_NS - 15 * S, T0_NS + 10 * S)},
        instruments={"imu:box": {"range_mps2": 156.9, "rate_hz": 400.0}},
    )
    with Store.open(tmp_path) as store:
        package = packed(tmp_path, store, material=lambda _: material)
        table = manifest(package)
        assert table["device"] == {
            "id": store.device, "algorithm": "Ed25519", "public_key": store.public_key.hex()
        }  # fmt: skip
    files = {row["name"]: row for row in table["files"]}
    clip = files["clip-front.mp4"]
    assert (clip["what"], clip["media"], clip["size"]) == ("video", "video/mp4", 10240)
    assert clip["covers"]["from"]["utc"] == "2026-09-21T14:29:45.000000000Z"
    assert clip["covers"]["to"] == {
        "t_ns": str(T0_NS + 10 * S),
        "utc": "2026-09-21T14:30:10.000000000Z",
        "utc_ns": str(UTC_NS + T0_NS + 10 * S),
        "quality": "gnss",
        "uncertainty_ns": "300000000",
    }
    assert files["imu.csv"]["covers"]["from"]["t_ns"] == str(T0_NS - 5 * S)
    assert (table["time_zero"]["t_ns"], table["boot"], table["replayed"]) == (str(T0_NS), BOOT, False)
    assert gone(package) == {"video of camera rear": "unplugged 4 s before time zero"} or "SM3 hashes" in gone(package)
    assert table["software"]["sha256"] == installed().sha256
    assert table["calibration"]["mount"]["confidence"] == 0.97
    assert table["calibration"]["instruments"]["imu:box"]["range_mps2"] == 156.9
    health = {row["source"]: row["state"] for row in table["sensor_health"]}
    assert health == {"imu:box": "ok", "gps": "lost"}
    kinds = [(row["lane"], row["kind"]) for row in table["chain"]["entries"]]
    assert (
        kinds
        == [("crash", "crash")] * 2
        + [("event", "clock"), ("event", "event"), ("health", "mount")]
        + [("health", "health")] * 2
    )
    assert (table["complete"], table["record_complete"], table["edition"]) == (True, True, 1)
    assert any("kept in software" in limit for limit in table["limits"])


def test_sm3_stands_beside_sha256_where_openssl_has_it_and_its_lack_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = verifier.new_sm3()
    if digest is not None:
        digest.update(b"abc")  # GB/T 32905-2016, A.1
        assert digest.hexdigest() == "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
    monkeypatch.setattr(verifier, "new_sm3", lambda: None)
    with Store.open(tmp_path) as store:
        package = packed(tmp_path, store)
        assert not any("sm3" in row for row in manifest(package)["files"])  # type: ignore[attr-defined]
        assert "does not offer SM3" in gone(package)["SM3 hashes"]
        assert verifier.verify(str(package), store.device).exit_code == 0


def test_a_package_waits_for_its_record_and_its_video_but_not_for_ever(tmp_path: Path) -> None:
    crash = crash_at(T0_NS)
    waiting = ["the video is being cut"]
    with Store.open(tmp_path) as store:
        begin(store, crash)
        package = write_record(tmp_path, crash)
        record = json.loads((package / "crash.json").read_bytes())
        (package / "crash.json").write_text(json.dumps(record | {"final": False}))
        packager = Packager(store, tmp_path / PACKAGES, BOOT, lambda _: Material(waiting=waiting[0]))
        assert packager.tend(T0_NS) == []
        write_files(package, {"crash.json": json.dumps(record).encode()})
        now_ns = T0_NS + 20 * S
        assert packager.tend(now_ns) == []
        assert packager.tend(now_ns + PATIENCE_NS - 1) == []
        (early,) = packager.tend(now_ns + PATIENCE_NS)
        assert not early.complete
        assert gone(package)["the rest"] == "the video is being cut"
        assert "video" not in gone(package)
        # it came after all
        waiting[0] = ""
        add_video(package)
        (late,) = packager.tend(now_ns + 2 * PATIENCE_NS)
        assert late.complete
        assert {f.name for f in late.files} - {f.name for f in early.files} == {
            "clip-front.mp4", "poster-front.jpg", "track-front.vtt", "manifest-1.json", "manifest-1.sig"
        }  # fmt: skip
        assert verifier.verify(str(package), store.device).exit_code == 0
        assert packager.tend(now_ns + 3 * PATIENCE_NS) == []
        told = [stored.record for stored in store.records(Package)]
    assert told == [early, late]


def test_what_was_waited_for_and_given_up_makes_an_edition_that_says_so(tmp_path: Path) -> None:
    crash = crash_at(T0_NS)
    material = [Material(waiting="the video is being cut")]
    with Store.open(tmp_path) as store:
        begin(store, crash)
        package = write_record(tmp_path, crash)
        packager = Packager(store, tmp_path / PACKAGES, BOOT, lambda _: material[0])
        assert packager.tend(0) == []
        (early,) = packager.tend(PATIENCE_NS)
        assert packager.tend(3 * PATIENCE_NS) == []
        material[0] = Material(missing=[Missing("video", "the camera's last frame is from before the crash")])
        (late,) = packager.tend(4 * PATIENCE_NS)
        assert (early.complete, late.complete) == (False, True)
        assert gone(package)["video"] == "the camera's last frame is from before the crash"
        assert packager.tend(5 * PATIENCE_NS) == []


def test_a_package_without_a_camera_is_a_package_and_says_so(tmp_path: Path) -> None:
    crash = msgspec.structs.replace(crash_at(T0_NS), latitude=None, longitude=None)
    with Store.open(tmp_path) as store:
        begin(store, crash)
        package = write_record(tmp_path, crash, complete=False)
        (told,) = Packager(store, tmp_path / PACKAGES, BOOT).tend(T0_NS)
        assert verifier.verify(str(package), store.device).exit_code == 0
    assert told.complete
    missing = gone(package)
    assert "no camera" in missing["video"]
    assert "0.700 s after time zero" in missing["the end of the record"]
    assert "no satellite fix" in missing["place"]


def test_what_the_receiver_is_told_is_what_stands_there_and_it_is_told_once(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        package = packed(tmp_path, store)
        (told,) = [stored.record for stored in store.records(Package)]
        for file in told.files:
            size, sha256, _ = verifier.digests(verifier.Folder(str(package)), file.name)
            assert (file.size, file.sha256) == (size, sha256)
        assert {f.name for f in told.files} == {p.name for p in package.iterdir()}
        again = Packager(store, tmp_path / PACKAGES, BOOT)  # as after a restart
        assert again.tend(T0_NS + 90 * S) == []
        assert [s.record for s in store.records(Package)] == [told]


def test_after_a_restart_a_file_of_the_same_size_with_other_bytes_is_found_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Store.open(tmp_path) as store:
        package = packed(tmp_path, store)
        (told,) = [stored.record for stored in store.records(Package)]
        data = bytearray((package / "imu.csv").read_bytes())
        data[1000] ^= 1
        (package / "imu.csv").write_bytes(data)  # the card's doing: the folder's time is as before
        (late,) = Packager(store, tmp_path / PACKAGES, BOOT).tend(T0_NS + 90 * S)
        assert "imu.csv is not what was signed" in caplog.text
        sha256 = {file.name: file.sha256 for file in late.files}
        assert sha256["imu.csv"] == hashlib.sha256(data).hexdigest()
        assert {f.name: f.sha256 for f in told.files}["imu.csv"] != sha256["imu.csv"]
        report = verifier.verify(str(package), store.device)
        assert report.exit_code == 0
        assert any("since manifest-1.json: " in note and "imu.csv" in note for note in report.notes)


def test_resuming_reads_one_package_a_call_and_none_that_the_receiver_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashes = sorted((crash_at(T0_NS + i * 3600 * S) for i in range(4)), key=lambda crash: crash.id)
    read: list[str] = []
    chunks = verifier.Folder.chunks

    def counted(folder: verifier.Folder, name: str) -> Iterator[bytes]:
        if name == "imu.csv":
            read.append(Path(folder.path).name)
        yield from chunks(folder, name)

    monkeypatch.setattr(verifier.Folder, "chunks", counted)
    with Store.open(tmp_path) as store:
        begin(store, *crashes)
        for crash in crashes[:3]:
            write_record(tmp_path, crash)
        packager = Packager(store, tmp_path / PACKAGES, BOOT)
        for _ in range(6):
            packager.tend(T0_NS)
        assert read == [crash.id for crash in crashes[:3]]  # once each, to be signed
        read.clear()
        acknowledge(tmp_path / PACKAGES, crashes[0].id)
        write_record(tmp_path, crashes[3])
        again = Packager(store, tmp_path / PACKAGES, BOOT)
        assert [p.incident for p in again.tend(T0_NS)] == [crashes[3].id]  # waits for one to be read, not for two
        assert read == [crashes[1].id, crashes[3].id]
        for _ in range(6):
            assert again.tend(T0_NS) == []
        assert read == [crashes[1].id, crashes[3].id, crashes[2].id]


def test_what_the_receiver_holds_is_not_told_again_when_its_record_is_pruned(tmp_path: Path) -> None:
    day_ns = 86_400 * S
    with Store.open(tmp_path, StoreSettings(acknowledged_days=10)) as store:
        package = packed(tmp_path, store)
        acknowledge(tmp_path / PACKAGES, package.name)
        store.acknowledge(store.heads())
        store.prune(UTC_NS + 20 * day_ns)
        assert store.records(Package) == []
        again = Packager(store, tmp_path / PACKAGES, BOOT)
        assert again.tend(T0_NS + 20 * day_ns) == []
        write_files(package, {"clip-rear.mp4": b"late"})  # something new is
        assert len(again.tend(T0_NS + 21 * day_ns)) == 1


def test_a_record_that_the_store_refused_is_told_after_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crash = crash_at(T0_NS)
    with Store.open(tmp_path) as store:
        begin(store, crash)
        write_record(tmp_path, crash)
        packager = Packager(store, tmp_path / PACKAGES, BOOT)

        def full(*_: object) -> None:
            raise StoreError("disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(store, "append", full)
            assert packager.tend(T0_NS) == []
        assert packager.tend(T0_NS + S) == []  # it waits
        (told,) = packager.tend(T0_NS + 10 * S)
        assert told.incident == crash.id
        assert manifest(tmp_path / PACKAGES / crash.id)["edition"] == 1


def test_a_time_that_is_learned_later_makes_an_edition_with_the_better_time(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        package = packed(tmp_path, store, clocks=(clock(S, UTC_NS - 500 * S, "restored"),))
        report = verifier.verify(str(package), store.device)
        assert any("nobody vouches" in note for note in report.notes)
        packager = Packager(store, tmp_path / PACKAGES, BOOT)
        assert packager.tend(T0_NS + 100 * S) == []
        store.append([(T0_NS + 101 * S, clock(T0_NS + 101 * S))])
        (told,) = packager.tend(T0_NS + 102 * S)
        assert told.complete
        report = verifier.verify(str(package), store.device)
        assert (report.exit_code, report.facts["time_zero"]["quality"]) == (0, "gnss")
        assert any("clock was set by +500.000 s" in note for note in report.notes)
        assert any("replaced or removed since manifest-1.json: chain.jsonl" in note for note in report.notes)
        assert packager.tend(T0_NS + 103 * S) == []


def test_an_earlier_manifest_that_was_tampered_with_is_named(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        package = packed(tmp_path, store)
        write_files(package, {"clip-rear.mp4": b"late"})
        Packager(store, tmp_path / PACKAGES, BOOT).tend(T0_NS + 60 * S)
        assert verifier.verify(str(package), store.device).exit_code == 0
        data = (package / "manifest-1.json").read_bytes()
        (package / "manifest-1.json").write_bytes(data.replace(b'"edition":1', b'"edition":7'))
        report = verifier.verify(str(package), store.device)
    assert [fault.where for fault in report.faults] == ["manifest-1.json"]


def test_a_clip_that_was_asked_for_is_a_package_too(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        begin(store)
        package = asked(tmp_path)
        add_video(package)
        (told,) = Packager(store, tmp_path / PACKAGES, BOOT).tend(T0_NS + 20 * S)
        report = verifier.verify(str(package), store.device)
    assert told.incident == package.name
    assert (report.exit_code, report.facts["kind"]) == (0, "clip")
    assert not [row for row in manifest(package)["chain"]["entries"] if row["lane"] == "crash"]  # type: ignore[index]


def test_data_of_a_recording_say_that_they_were_replayed(tmp_path: Path) -> None:
    crash = crash_at(T0_NS)
    with Store.open(tmp_path) as store:
        store.begin_boot(BOOT, recorded=True)
        store.append([(S, clock(S)), (crash.t_ns, crash)])
        package = write_record(tmp_path, crash)
        Packager(store, tmp_path / PACKAGES, BOOT).tend(T0_NS)
        report = verifier.verify(str(package), store.device)
    assert report.exit_code == 0
    assert any("replayed from a recording" in note for note in report.notes)


def test_a_package_that_an_earlier_key_signed_is_left_as_it_is(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        package = packed(tmp_path, store)
        device = store.device
    before = {p.name: p.read_bytes() for p in package.iterdir()}
    (tmp_path / "device.key").unlink()
    with Store.open(tmp_path) as store:
        assert store.device != device
        store.begin_boot("next boot")
        assert Packager(store, tmp_path / PACKAGES, "next boot").tend(0) == []
    assert {p.name: p.read_bytes() for p in package.iterdir()} == before
    assert verifier.verify(str(package), device).exit_code == 0


def test_a_link_in_a_folder_is_said_once_not_packed_and_holds_up_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crashes = sorted((crash_at(T0_NS), crash_at(T0_NS + 3 * S)), key=lambda crash: crash.id)
    with Store.open(tmp_path) as store:
        begin(store, *crashes)
        package, other = (write_record(tmp_path, crash) for crash in crashes)
        (package / "secret.csv").symlink_to("/etc/passwd")
        packager = Packager(store, tmp_path / PACKAGES, BOOT)
        assert [p.incident for p in packager.tend(T0_NS)] == [other.name]
        for seconds in range(1, 60):
            assert packager.tend(T0_NS + seconds * S) == []
        assert caplog.text.count("secret.csv is a link") == 1
        assert not (package / "manifest.json").exists()
        (package / "secret.csv").unlink()
        assert len(packager.tend(T0_NS + 60 * S)) == 1


def test_a_report_that_the_card_has_damaged_holds_up_no_other_package(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crashes = sorted((crash_at(T0_NS), crash_at(T0_NS + 3 * S)), key=lambda crash: crash.id)
    with Store.open(tmp_path) as store:
        begin(store, *crashes)
        package, other = (write_record(tmp_path, crash) for crash in crashes)
        for folder in (package, other):
            write_files(folder, {"video.json": b'{"cameras": []}'})
        (package / "video.json").write_bytes(bytes(15))
        clipper = Clipper(store, tmp_path / PACKAGES, tmp_path / "video", BOOT, ClipSettings(), 0)
        packager = Packager(store, tmp_path / PACKAGES, BOOT, clipper.material)
        assert [p.incident for p in packager.tend(T0_NS)] == [other.name]
        assert f"{package}: cannot be packed yet" in caplog.text


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crash = crash_at(T0_NS)
    digests = verifier.digests
    with Store.open(tmp_path) as store:
        begin(store, crash)
        package = write_record(tmp_path, crash)

        def late(folder: verifier.Folder, name: str, most: int | None = None) -> tuple[int, str, str | None]:
            found = digests(folder, name, most)
            if name == "crash.json":
                write_files(package, {"imu.csv": (package / "imu.csv").read_bytes()[::-1]})
            return found

        packager = Packager(store, tmp_path / PACKAGES, BOOT)
        with monkeypatch.context() as patched:
            patched.setattr(verifier, "digests", late)
            assert packager.tend(T0_NS) == []
        assert len(packager.tend(T0_NS + 10 * S)) == 1
        assert verifier.verify(str(package), store.device).exit_code == 0


def test_the_software_hash_is_that_of_the_files() -> None:
    root = Path(verifier.__file__).parents[2]
    lines = []
    for package in SOFTWARE:
        for path in sorted((root / package).rglob("*.py"), key=lambda p: p.relative_to(root).as_posix()):
            name = path.relative_to(root).as_posix()
            lines.append(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n")
    fresh = installed.__wrapped__()  # the remembered one may be older than the files
    assert (fresh.sha256, fresh.files) == (hashlib.sha256("".join(lines).encode()).hexdigest(), len(lines))
    assert installed() is installed()


def test_every_file_that_decision_0150_names_has_a_description() -> None:
    names = ["crash.json", "before.csv", "imu.csv", "track.csv", "clip-front.mp4", "poster-front.jpg", "track.gpx",
             "track.json", "track-front.vtt", "request.json", "chain.jsonl", "manifest-2.json", "manifest-2.sig",
             "manifest-2.tsr"]  # fmt: skip
    assert all(what_is(name)[0] != "other" for name in names)
    assert len({kind.what for kind in KINDS}) == len(KINDS)
    assert what_is("notes.txt") == ("other", "application/octet-stream")


def test_an_empty_or_missing_folder_of_packages_is_no_trouble(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.begin_boot(BOOT)
        packager = Packager(store, tmp_path / PACKAGES, BOOT)
        assert packager.tend(0) == []
        (tmp_path / PACKAGES / "0123456789abcdef").mkdir(parents=True)
        assert packager.tend(0) == []
        crash = crash_at(T0_NS)
        begin(store, crash)
        package = write_record(tmp_path, crash)
        assert len(packager.tend(0)) == 1
        shutil.rmtree(package)  # retention
        assert packager.tend(0) == []
        assert look(package) is None


def test_the_clerk_packs_beside_the_spine_and_says_so_and_a_bug_ends_it_loudly(tmp_path: Path) -> None:
    crash = crash_at(T0_NS)
    told, bugs = threading.Event(), list[BaseException]()
    with Store.open(tmp_path) as store:
        begin(store, crash)
        package = write_record(tmp_path, crash)
        stamper = Stamper(tmp_path / PACKAGES, EvidenceSettings())
        packager = Packager(store, tmp_path / PACKAGES, BOOT)
        clipper = Clipper(store, tmp_path / PACKAGES, tmp_path / "video", BOOT, ClipSettings(), 0)
        clerk = Clerk(clipper, packager, stamper, told.set, bugs.append)
        clerk.start()
        assert told.wait(20)
        clerk.stop()
        assert not clerk.is_alive()
        assert verifier.verify(str(package), store.device).exit_code == 0

        def bug() -> None:
            told.set()
            raise ZeroDivisionError

        add_video(package)
        told.clear()
        broken = Clerk(clipper, Packager(store, tmp_path / PACKAGES, BOOT), stamper, bug, bugs.append)
        broken.start()
        broken.join(20)
    assert [type(b) for b in bugs] == [ZeroDivisionError]
