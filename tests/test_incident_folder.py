"""The folder of an incident: files are whole or not there, and the folder alone says what stands there."""

import os
from pathlib import Path

import pytest

from agent.errors import StoreError
from agent.incident.folder import (
    MANIFEST,
    PACKAGES,
    SIGNATURE,
    Request,
    Video,
    acknowledge,
    ask,
    clean,
    incidents,
    look,
    write_files,
)
from agent.records import incident_id

S = 1_000_000_000
ID = incident_id("b" * 32, 50 * S)


def asked(folder: Path, incident: str = ID) -> Path:
    video = Video(from_ns=35 * S, to_ns=60 * S)
    request = Request(incident=incident, boot="b" * 32, t_ns=50 * S, video=video, reason="command")
    return ask(folder / PACKAGES, request)


def test_a_clip_that_was_asked_for_is_an_incident_without_a_crash(tmp_path: Path) -> None:
    folder = asked(tmp_path)
    (found,) = incidents(tmp_path / PACKAGES)
    assert (found.id, found.folder, found.boot, found.t0_ns) == (ID, folder, "b" * 32, 50 * S)
    assert (found.video.from_ns, found.video.to_ns) == (35 * S, 60 * S)
    assert found.crash is None
    assert found.record_final
    assert not found.signed
    assert not found.acknowledged
    write_files(folder, {"clip-front.mp4": b"x", MANIFEST: b"{}", SIGNATURE: b"s"})
    acknowledge(tmp_path / PACKAGES, ID)
    (found,) = incidents(tmp_path / PACKAGES)
    assert found.has("clip-front.mp4")
    assert found.signed
    assert found.acknowledged


def test_without_a_folder_or_a_head_there_is_no_incident(tmp_path: Path) -> None:
    assert incidents(tmp_path / PACKAGES) == []
    write_files(tmp_path / PACKAGES / ID, {"clip-front.mp4": b"x"})
    write_files(tmp_path / PACKAGES / "notes", {"request.json": b"{}"})
    assert incidents(tmp_path / PACKAGES) == []


def test_a_head_that_cannot_be_read_hides_only_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    asked(tmp_path)
    write_files(tmp_path / PACKAGES / ("0" * 16), {"crash.json": b'{"torn'})
    assert [found.id for found in incidents(tmp_path / PACKAGES)] == [ID]
    assert "0000000000000000" in caplog.text


def test_torn_files_do_not_count_and_are_removed(tmp_path: Path) -> None:
    folder = asked(tmp_path)
    (folder / "imu.csv.part").write_bytes(b"torn")
    (tmp_path / PACKAGES / f"{ID}.acknowledged.part").write_bytes(b"")
    found = look(folder)
    assert found is not None
    assert found.files == ("request.json",)
    assert clean(tmp_path / PACKAGES) == 2
    assert clean(tmp_path / PACKAGES) == 0


def test_a_disk_that_has_become_read_only_is_a_sentence_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = asked(tmp_path)
    (folder / "imu.csv.part").write_bytes(b"torn")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        patch.setattr(os, "open", refuse)
        assert clean(tmp_path / PACKAGES) == 1
        with pytest.raises(StoreError, match="Read-only file system; check that the disk is mounted rw"):
            write_files(folder, {"imu.csv": b"new"})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", refuse)
        assert incidents(tmp_path / PACKAGES) == []
    assert caplog.text.count("Read-only file system") == 2
    assert [found.id for found in incidents(tmp_path / PACKAGES)] == [ID]


def test_a_disk_that_refuses_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / PACKAGES / ID
    write_files(folder, {"before.csv": b"old", "imu.csv": b"old"})
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"imu\.csv: cannot be written: No space left"):
        write_files(folder, {"before.csv": b"new", "imu.csv": b"new"})
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {"before.csv": b"old", "imu.csv": b"old"}
