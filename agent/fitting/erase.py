"""What is erased when a box is reset: one table, keys first, so that a power cut leaves nothing that can be used.

A memory card or SSD may keep what was overwritten in cells that no program reaches. Where the vault is in use, that is
ciphertext without a key; where it is not, who takes the card apart may find pieces, and people are told so.
"""

import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from agent.config import LOCAL
from agent.durable import sync_folder
from agent.enrolment.folder import FOLDER as TLS
from agent.errors import ConfigError, StoreError
from agent.fitting.configuring import Configuration
from agent.identity import KEY_FILE

LIMIT: Final = (
    "A memory card may keep what was overwritten in cells that no program reaches. With the vault that is ciphertext "
    "without a key; without it, destroy the card before it leaves your hands."
)
TMPFILES: Final = "roadwitness.conf"
# Tables of agent.toml that are about this car, its owner and the receiver; thresholds and the like stay.
OF_THIS_CAR: Final = ("drivers", "vehicle", "consent", "commands", "enrolment", "broker")


@dataclass(frozen=True, slots=True)
class Box:
    """Where a box keeps what is its own; the defaults are an installed one."""

    store: Path = Path("/var/lib/roadwitness")
    config: Path = LOCAL / "agent.toml"
    video: Path | None = Path("/var/lib/roadwitness-dashcam")
    dashcam: Path | None = LOCAL / "dashcam.toml"
    vault: Path | None = Path("/var/lib/roadwitness-vault")

    @classmethod
    def of(cls, store: Path, config: Path | None) -> "Box":
        """Return the installed box, or one on a workbench, whose video and settings lie beside its store."""
        if store == cls().store:
            return cls(config=config or cls().config)
        return cls(store, config or store / "agent.toml", store / "video", None, None)


class Gone(NamedTuple):
    """What was erased of one part."""

    what: str
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Part:
    """One row: what it is to people, and how it goes; legal again after a power cut."""

    what: str
    erase: Callable[[Box], Iterator[tuple[int, int]]]  # yields files and bytes


def erase(box: Box, told: Callable[[Gone], None]) -> list[Gone]:
    """Erase every part in order; raise StoreError where the disk refuses: legal again at any time."""
    done = []
    for part in PARTS:
        try:
            counted = list(part.erase(box))
        except OSError as e:
            name = e.filename or box.store
            raise StoreError(f"{name}: cannot be erased: {e.strerror}; use sudo, and start again") from e
        gone = Gone(part.what, sum(files for files, _ in counted), sum(size for _, size in counted))
        told(gone)
        done.append(gone)
    return done


def _vault(box: Box) -> Iterator[tuple[int, int]]:
    """The key under which store and video are encrypted: without it the rest is noise."""
    if box.vault is None or not (box.vault / "key.cred").exists():
        return
    from agent.vault.vault import Vault

    try:
        Vault(box.vault, [folder for folder in (box.store, box.video) if folder is not None]).destroy()
    except StoreError as trouble:
        if (box.vault / "key.cred").exists():
            raise
        raise StoreError(f"{trouble}; then start again") from trouble
    yield 1, 0


def _record_key(box: Box) -> Iterator[tuple[int, int]]:
    yield from _shred(box.store / KEY_FILE)


def _tls(box: Box) -> Iterator[tuple[int, int]]:
    folder = box.store / TLS
    if folder.is_symlink():  # none of ours: what it leads to is not the box's
        yield from _shred(folder)
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        yield from _shred(path)
    shutil.rmtree(folder, ignore_errors=True)


def _data(box: Box) -> Iterator[tuple[int, int]]:
    yield from _emptied(box.store)
    _begin_anew(box, box.store)


def _video(box: Box) -> Iterator[tuple[int, int]]:
    if box.video is not None:
        yield from _emptied(box.video)
        _begin_anew(box, box.video)


def _settings(box: Box) -> Iterator[tuple[int, int]]:
    if box.config.exists():
        try:
            configuration = Configuration(box.config)
        except ConfigError:
            yield from _shred(box.config)  # nobody could use it: better gone than half of it there
        else:
            for table in OF_THIS_CAR:
                configuration.drop(table)
            if configuration.changed:
                configuration.write()
                yield 1, 0
    if box.dashcam is not None:
        yield from _shred(box.dashcam)


PARTS: Final = (
    Part("key of the box, its name", _record_key),
    Part("certificate and its key", _tls),
    Part("key of the vault", _vault),  # after these two: it takes the names of files along
    Part("trips, events, crashes, records", _data),
    Part("video", _video),
    Part("settings of this car", _settings),
)


def _shred(path: Path) -> Iterator[tuple[int, int]]:
    """Overwrite a file's bytes and remove it."""
    if not path.is_file() and not path.is_symlink():
        return
    size = 0
    if not path.is_symlink():
        size = path.stat().st_size
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "wb", buffering=0) as file:
            file.write(secrets.token_bytes(size))
            os.fsync(file.fileno())
    path.unlink()
    sync_folder(path.parent)
    yield 1, size


def _begin_anew(box: Box, folder: Path) -> None:
    """Put an empty folder in the place of one whose key is destroyed: nothing could ever be written into that."""
    from agent.vault import fscrypt

    if box.vault is None or fscrypt.policy(folder) is None:
        return
    known = folder.stat()
    shutil.rmtree(folder)
    folder.mkdir(mode=known.st_mode & 0o7777)
    os.chown(folder, known.st_uid, known.st_gid)
    sync_folder(folder.parent)
    subprocess.run(["systemd-tmpfiles", "--create", TMPFILES], check=False, stdin=subprocess.DEVNULL)  # its links


def _emptied(folder: Path) -> Iterator[tuple[int, int]]:
    """Remove what is in a folder; links of ours to other folders stay, and what is there is another part's."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            continue
        if path.is_dir():
            files = [each for each in path.rglob("*") if each.is_file() and not each.is_symlink()]
            yield len(files), sum(each.stat().st_size for each in files)
            shutil.rmtree(path)
        else:
            yield 1, path.stat().st_size
            path.unlink()
    sync_folder(folder)
