"""The vault: the box's folders under one sealed key, made once, opened at each start, destroyed at a reset.

A folder that has something in it already is copied into an encrypted one beside it, and the two change places in one
step (renameat2(2), RENAME_EXCHANGE): a power cut at any moment leaves the old one or the new one, whole, in place.
What is then beside it is either a copy that was growing or what was replaced, and may go.
"""

import ctypes
import errno
import os
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from agent.durable import sync_folder
from agent.errors import StoreError
from agent.vault import fscrypt, sealing
from agent.vault.fscrypt import ADIANTUM, AES, Cipher, KeyState

SEALED: Final = "key.cred"
BOUND: Final = "bound"  # to what it is sealed, for people; the seal itself knows
BESIDE: Final = ".vault"  # suffix of the copy that grows, and then of what was there before
_HERE: Final = -100  # AT_FDCWD
_EXCHANGE: Final = 2  # RENAME_EXCHANGE
_CANNOT: Final = (errno.ENOTTY, errno.EOPNOTSUPP)


class Folder(NamedTuple):
    """What is true of one folder."""

    path: str
    state: str  # "open", "locked", "plain" or "absent"
    cipher: str = ""


class State(NamedTuple):
    """What is true of the vault; `bound` is "" where there is none."""

    bound: str
    folders: list[Folder]


class Vault:
    """The vault whose seal is kept in `home`, over `folders`; all of it needs root."""

    def __init__(self, home: Path, folders: Sequence[Path]) -> None:
        self._home = home
        self._folders = folders
        self._sealed = home / SEALED

    def state(self) -> State:
        """Say what is encrypted, and open."""
        try:
            bound = (self._home / BOUND).read_text().strip() if self._sealed.exists() else ""
            return State(bound, [_look(folder) for folder in self._folders])
        except OSError as e:
            raise StoreError(f"vault: {e.filename}: cannot be looked at: {e.strerror}; run as root") from e

    def make(self) -> State:
        """Seal a key where there is none, and encrypt the folders; a folder that is encrypted already stays.

        Raise StoreError where the file system or the kernel cannot, or a service still has files open in what is to be
        copied; what was there is then as it was.
        """
        try:
            for folder in self._folders:
                if folder.is_dir() and fscrypt.policy(folder) is None:
                    _can_change_places(folder)
                    _nobody_uses(folder)
            fresh = not self._sealed.exists()
            key = sealing.unseal(self._sealed) if self._sealed.exists() else self._new_key()
            try:
                for folder in self._folders:
                    self._encrypt(folder, key)
            except StoreError:
                if fresh and not any(folder.is_dir() and fscrypt.policy(folder) for folder in self._folders):
                    self._forget_key()
                raise
        except OSError as e:
            raise StoreError(
                f"vault: {e.filename or self._home}: {e.strerror}; run as root, with room for a copy"
            ) from e
        return self.state()

    def open(self) -> State:
        """Give the kernel the key; do nothing where there is no vault."""
        if not self._sealed.exists():
            return self.state()
        key = sealing.unseal(self._sealed)
        try:
            for folder in self._folders:
                if folder.is_dir() and fscrypt.policy(folder) is not None:
                    fscrypt.add_key(folder, key)
        except OSError as e:
            raise StoreError(f"vault: {e.filename or folder}: {e.strerror}; run as root") from e
        return self.state()

    def destroy(self) -> None:
        """Make what is encrypted unreadable for ever: seal overwritten and removed, key out of the kernel.

        A card may keep the overwritten seal where no program reaches it; it opens only with the TPM, or with the host's
        secret, of this box. Raise StoreError where files are still open, after the seal is gone.
        """
        busy: list[str] = []
        try:
            if self._sealed.exists():
                with self._sealed.open("r+b") as file:
                    file.write(secrets.token_bytes(self._sealed.stat().st_size))
                    file.flush()
                    os.fsync(file.fileno())
                self._sealed.unlink()
                (self._home / BOUND).unlink(missing_ok=True)
                sync_folder(self._home)
            for folder in self._folders:
                found = fscrypt.policy(folder) if folder.is_dir() else None
                if found is None or fscrypt.key_state(folder, found.key_id) == KeyState.ABSENT:
                    continue
                if not fscrypt.remove_key(folder.parent, found.key_id):
                    busy.append(str(folder))
        except OSError as e:
            raise StoreError(f"vault: {e.filename or self._sealed}: {e.strerror}; run as root") from e
        if busy:
            raise StoreError(
                f"vault: the key is destroyed, and files in {', '.join(busy)} are still open; stop the services, or "
                "restart the box"
            )

    def _new_key(self) -> bytes:
        key = secrets.token_bytes(fscrypt.KEY_BYTES)
        to = sealing.binding()
        sealed = sealing.seal(key, to)
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(self._home / BOUND, f"{to}\n".encode())
        _write(self._sealed, sealed)
        if sealing.unseal(self._sealed) != key:
            self._sealed.unlink()
            raise StoreError("vault: the seal does not give back what was sealed; nothing was encrypted")
        return key

    def _forget_key(self) -> None:
        """Drop a seal under which nothing is encrypted."""
        self._sealed.unlink(missing_ok=True)
        (self._home / BOUND).unlink(missing_ok=True)
        sync_folder(self._home)

    def _encrypt(self, folder: Path, key: bytes) -> None:
        beside = folder.with_name(folder.name + BESIDE)
        folder.mkdir(mode=0o700, exist_ok=True)
        if fscrypt.policy(folder) is None:
            key_id = _give(folder, key)
            if beside.exists():
                shutil.rmtree(beside)
            beside.mkdir(mode=0o700)
            _set(beside, key_id)
            _copy_tree(folder, beside)
            os.sync()
            _exchange(beside, folder)
            sync_folder(folder.parent)
        else:
            fscrypt.add_key(folder, key)
        if beside.exists():
            shutil.rmtree(beside)
            sync_folder(folder.parent)


def _look(folder: Path) -> Folder:
    if not folder.is_dir():
        return Folder(str(folder), "absent")
    found = fscrypt.policy(folder)
    if found is None:
        return Folder(str(folder), "plain")
    present = fscrypt.key_state(folder, found.key_id) == KeyState.PRESENT
    return Folder(str(folder), "open" if present else "locked", found.cipher)


def _can_change_places(folder: Path) -> None:
    """Raise StoreError where something is mounted on the folder itself, a part of its own disk too."""
    place = str(folder.resolve())
    # the fifth word is the mount point: proc_pid_mountinfo(5)
    if any(line.split()[4] == place for line in Path("/proc/self/mountinfo").read_text().splitlines()):
        raise StoreError(
            f"vault: {folder}: a disk or folder is mounted on it, which the vault cannot exchange; give the folder "
            "that is mounted there, or one below (roadwitness vault make --folder; docs/updates.md)"
        )


def _nobody_uses(folder: Path) -> None:
    """Raise StoreError where a process has a file open in a folder to be copied: what it writes would be lost."""
    inside = f"{folder.resolve()}/"
    for open_file in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            used = os.readlink(open_file).startswith(inside)
            process = open_file.parents[1]
            name = (process / "comm").read_text().strip() if used else ""
        except OSError:  # it has ended, or closed it
            continue
        if used:
            raise StoreError(
                f"vault: {folder}: {name} (process {process.name}) has files open there; stop it first: "
                "systemctl stop roadwitness-agent roadwitness-dashcam"
            )


def _give(folder: Path, key: bytes) -> bytes:
    """Add the key; where the file system could encrypt and is not told to, tell it."""
    try:
        return fscrypt.add_key(folder, key)
    except OSError as e:
        if e.errno not in _CANNOT:
            raise
        reason = e.strerror
    where = subprocess.run(
        ["findmnt", "--noheadings", "--output", "SOURCE,FSTYPE", "--target", folder],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    if len(where) == 2 and where[1] == "ext4":
        told = subprocess.run(["tune2fs", "-O", "encrypt", where[0]], capture_output=True, text=True, check=False)
        if told.returncode == 0:
            try:
                return fscrypt.add_key(folder, key)
            except OSError as e:
                reason = e.strerror
    raise StoreError(
        f"vault: {folder}: its file system ({' '.join(where) or 'unknown'}) cannot encrypt folders: {reason}; "
        "it has to be ext4 or f2fs, and the kernel built with CONFIG_FS_ENCRYPTION"
    )


def _set(folder: Path, key_id: bytes) -> None:
    """Encrypt an empty folder by the cipher that is fast here, or the other where the kernel lacks it."""
    for cipher in _ciphers():
        fscrypt.set_policy(folder, key_id, cipher)
        try:
            (folder / "probe").touch()  # ENOPKG comes at the first file
        except OSError as e:
            if e.errno != errno.ENOPKG:
                raise
            folder.rmdir()
            folder.mkdir(mode=0o700)
            continue
        (folder / "probe").unlink()
        return
    raise StoreError(f"vault: {folder}: the kernel has none of the ciphers {', '.join(c.name for c in _ciphers())}")


def _ciphers() -> tuple[Cipher, ...]:
    """AES first where the processor has instructions for it. A Pi 4 and older has none; Adiantum was made for these
    (Crowley and Biggers, Adiantum: length-preserving encryption for entry-level processors, 2018).
    """
    try:
        words = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        words = []
    return (AES, ADIANTUM) if "aes" in words else (ADIANTUM, AES)


def _copy_tree(source: Path, target: Path) -> None:
    """Copy what is in `source`, with owners and modes; sockets are left out: who listened makes them anew."""
    for entry in os.scandir(source):
        at, to = Path(entry.path), target / entry.name
        if entry.is_symlink():
            to.symlink_to(at.readlink())
        elif entry.is_dir():
            to.mkdir()
            _copy_tree(at, to)
        elif entry.is_file():
            shutil.copy2(at, to)
        else:
            continue
        os.chown(to, at.lstat().st_uid, at.lstat().st_gid, follow_symlinks=False)
        if not entry.is_symlink():
            to.chmod(at.stat().st_mode & 0o7777)
    of = source.stat()
    os.chown(target, of.st_uid, of.st_gid)
    target.chmod(of.st_mode & 0o7777)


def _exchange(one: Path, other: Path) -> None:
    """Let two folders change places in one step; raise OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(other))


def _write(path: Path, content: bytes) -> None:
    """Write whole, durable and for root alone."""
    partial = path.with_suffix(".tmp")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    sync_folder(path.parent)
