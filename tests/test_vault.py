"""The vault on a real ext4 file system: what is sealed, copied, cut off, locked and destroyed."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.doctor.context import Context
from agent.doctor.examine import examine
from agent.errors import StoreError
from agent.vault import fscrypt, sealing, vault
from agent.vault.vault import BESIDE, SEALED, Vault

SECRET = "SYSTEMD_CREDENTIAL_SECRET"  # where systemd keeps the host's secret, for tests


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A mounted ext4 file system that was made without encryption, as a board's card was."""
    if os.geteuid():
        pytest.skip("mounting needs root")
    for program, package in (("mkfs.ext4", "e2fsprogs"), ("losetup", "mount"), ("systemd-creds", "systemd")):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing; it is in Debian's package {package}")
    folder = tmp_path_factory.mktemp("vault")
    image, mounted = folder / "image", folder / "disk"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, mounted], capture_output=True).returncode:
        pytest.skip("this kernel mounts no image")
    try:
        yield mounted
    finally:
        subprocess.run(["umount", mounted], check=True)


@pytest.fixture
def box(disk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder of a box on that disk, with something in it; the host's secret is the test's own."""
    monkeypatch.setenv(SECRET, str(tmp_path / "host.secret"))
    box = disk / "box"
    box.mkdir()
    (box / "packages").mkdir(mode=0o750)
    (box / "packages" / "clip.mp4").write_bytes(b"video" * 10_000)
    (box / "store.db").write_bytes(b"rows" * 1000)
    os.chown(box / "packages", 1234, 1234)
    (box / "store.db").chmod(0o600)
    (box / "video").symlink_to("/var/lib/roadwitness-dashcam")
    yield box
    shutil.rmtree(box, ignore_errors=True)
    shutil.rmtree(disk / "home", ignore_errors=True)


def made(box: Path) -> Vault:
    found = Vault(box.parent / "home", [box])
    try:
        found.make()
    except StoreError as e:
        if "cannot encrypt folders" in str(e):
            pytest.skip("this kernel is built without CONFIG_FS_ENCRYPTION")
        raise
    return found


def key_id(box: Path) -> bytes:
    found = fscrypt.policy(box)
    assert found is not None
    return found.key_id


def locked(box: Path) -> None:
    """Do what a switched-off box does: the kernel has the key no more."""
    assert fscrypt.remove_key(box.parent, key_id(box))


def test_what_a_box_had_is_encrypted_and_all_there_with_owners_modes_and_links(box: Path) -> None:
    state = made(box).state()
    assert state.bound == sealing.HOST
    assert [f.state for f in state.folders] == ["open"]
    assert state.folders[0].cipher in {c.name for c in fscrypt.CIPHERS}
    assert (box / "packages" / "clip.mp4").read_bytes() == b"video" * 10_000
    assert (box / "packages").stat().st_uid == 1234
    assert (box / "packages").stat().st_mode & 0o777 == 0o750
    assert (box / "store.db").stat().st_mode & 0o777 == 0o600
    assert (box / "video").readlink() == Path("/var/lib/roadwitness-dashcam")
    assert not box.with_name(box.name + BESIDE).exists()


def test_locked_its_files_cannot_be_read_nor_named_and_open_again_they_are_there(box: Path) -> None:
    kept = made(box)
    locked(box)
    assert kept.state().folders[0].state == "locked"
    names = sorted(os.listdir(box))
    assert len(names) == 3
    assert not {"packages", "store.db", "video"} & set(names)
    with pytest.raises(OSError, match=os.strerror(errno.ENOKEY)):
        (box / "new").touch()
    assert kept.open().folders[0].state == "open"
    assert (box / "store.db").read_bytes() == b"rows" * 1000


def test_the_doctor_says_whether_it_is_open(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> dict[str, tuple[str, str]]:
        return {f.check: (f.state, f.advice) for f in examine(Context(store=box, groups=("storage",)))}

    assert "storage.encrypted" not in told()  # nobody expects it of a folder on a desk
    monkeypatch.setattr("agent.doctor.storage.STORE", box)
    assert told()["storage.encrypted"] == ("warn", "vault_none")
    made(box)
    assert told()["storage.encrypted"] == ("pass", "")
    locked(box)
    assert told()["storage.encrypted"] == ("fail", "vault_locked")
    assert "storage.store" not in told()


def test_nothing_of_it_stands_on_the_card(box: Path, disk: Path) -> None:
    made(box)
    secret = os.urandom(16).hex().encode()
    (box / "track").write_bytes(secret * 1000)
    (box / f"plate-{secret.decode()}").touch()
    os.sync()
    image = (disk.parent / "image").read_bytes()
    assert secret not in image
    (disk / "open").write_bytes(secret)
    os.sync()
    assert secret in (disk.parent / "image").read_bytes()  # what is not in the vault is seen by the same look


def test_a_seal_of_another_box_does_not_open(box: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept = made(box)
    locked(box)
    monkeypatch.setenv(SECRET, str(tmp_path / "other.secret"))
    with pytest.raises(StoreError, match="the seal does not open here"):
        kept.open()
    assert kept.state().folders[0].state == "locked"


def test_destroyed_it_never_opens_again(box: Path) -> None:
    kept = made(box)
    sealed = box.parent / "home" / SEALED
    before = sealed.read_bytes()
    again = sealed.open("rb")  # as a thief's copy of the file's blocks
    kept.destroy()
    assert kept.state().folders[0].state == "locked"
    assert kept.state().bound == ""
    with again:
        assert again.read() != before
    kept.destroy()  # a reset that was cut off is done again


def test_destroyed_while_a_service_has_a_file_open_it_says_that_the_file_is_still_readable(box: Path) -> None:
    kept = made(box)
    with (box / "store.db").open("rb"), pytest.raises(StoreError, match="are still open; stop the services"):
        kept.destroy()
    assert not (box.parent / "home" / SEALED).exists()
    kept.destroy()
    assert kept.state().folders[0].state == "locked"


def test_what_a_service_still_writes_is_not_copied(box: Path) -> None:
    with (box / "store.db").open("ab"), pytest.raises(StoreError, match=rf"process {os.getpid()}\) has files open"):
        made(box)
    assert fscrypt.policy(box) is None
    assert not (box.parent / "home").exists()
    made(box)


@pytest.mark.parametrize("mount", [["--bind", "box"], ["-t", "tmpfs", "tmpfs"]], ids=["a folder", "a disk"])
def test_a_folder_that_something_is_mounted_on_is_left_and_the_other_way_is_said(box: Path, mount: list[str]) -> None:
    other = box.with_name("other")
    other.mkdir()
    subprocess.run(["mount", *mount, other], cwd=box.parent, check=True)
    try:
        with pytest.raises(StoreError, match=f"{other}: a disk or folder is mounted on it.*give the folder that is"):
            Vault(box.parent / "home", [other]).make()
        assert not (box.parent / "home").exists()
        assert not other.with_name(other.name + BESIDE).exists()
    finally:
        subprocess.run(["umount", other], check=True)
        other.rmdir()
    made(box)


def test_made_twice_it_is_the_same_vault(box: Path) -> None:
    kept = made(box)
    first = key_id(box)
    kept.make()
    assert key_id(box) == first
    assert (box / "store.db").read_bytes() == b"rows" * 1000


class CutError(Exception):
    """The power went."""


@pytest.mark.parametrize("step", ["_set", "_copy_tree", "_exchange", "sync_folder", "rmtree"])
def test_cut_off_at_any_step_it_has_all_files_and_the_next_make_ends_it(
    box: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = made(box)  # the key is there; a second folder is made while the power goes
    other = box.with_name("other")
    shutil.copytree(box, other, symlinks=True)
    both = Vault(box.parent / "home", [box, other])

    def cut(*_: object) -> None:
        raise CutError

    with monkeypatch.context() as patched:
        patched.setattr(vault.shutil if step == "rmtree" else vault, step, cut)
        with pytest.raises(CutError):
            both.make()
    assert (other / "packages" / "clip.mp4").read_bytes() == b"video" * 10_000
    assert {f.state for f in both.make().folders} == {"open"}
    assert (other / "packages" / "clip.mp4").read_bytes() == b"video" * 10_000
    assert not other.with_name(other.name + BESIDE).exists()
    assert kept.state().folders[0].state == "open"
    shutil.rmtree(other)


def test_where_the_file_system_cannot_it_says_so_and_changes_nothing(
    disk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(SECRET, str(tmp_path / "host.secret"))
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or fscrypt.policy(memory) is not None:
        pytest.skip("/dev/shm is not here")
    folder = memory / f"roadwitness-vault-{os.getpid()}"
    folder.mkdir()
    try:
        (folder / "store.db").write_bytes(b"rows")
        with pytest.raises(StoreError, match="cannot encrypt folders"):
            Vault(tmp_path / "home", [folder]).make()
        assert [p.name for p in folder.iterdir()] == ["store.db"]
        assert list((tmp_path / "home").iterdir()) == []  # no seal under which nothing is encrypted
    finally:
        shutil.rmtree(folder)


def test_without_a_vault_opening_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    state = Vault(tmp_path / "home", [tmp_path / "box", tmp_path / "gone"]).open()
    assert [f.state for f in state.folders] == ["plain", "absent"]
    assert state.bound == ""
