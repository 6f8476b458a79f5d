"""What the tests of uploads share: a device with packages on disk, and the receiver's side in memory or in files."""

import hashlib
import random
from pathlib import Path

from agent.incident.folder import PACKAGES, write_files
from agent.records import Package, PackageFile
from agent.store import Store
from receiver.filestore import FileStore
from receiver.settings import FileSettings

INCIDENT = "0123456789abcdef"


def contents(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def package(incident: str, files: dict[str, bytes], complete: bool = True) -> Package:
    named = [PackageFile(name=n, size=len(d), sha256=hashlib.sha256(d).hexdigest()) for n, d in files.items()]
    return Package(incident=incident, t_ns=1, complete=complete, files=named)


def add_package(store: Store, incident: str, files: dict[str, bytes], complete: bool = True) -> Package:
    """Write a package's files and its record, as the packager does."""
    write_files(store.folder / PACKAGES / incident, files)
    record = package(incident, files, complete)
    store.append([(1, record)])
    return record


def some_files(seed: int, video: int = 300_000) -> dict[str, bytes]:
    return {
        "crash.json": contents(seed, 900),
        "imu.csv": contents(seed + 1, 70_000),
        "empty.csv": b"",
        "clip-front.mp4": contents(seed + 2, video),
        "manifest.json": contents(seed + 3, 2_000),
        "manifest.sig": contents(seed + 4, 64),
    }


def file_store(folder: Path, **settings: object) -> FileStore:
    return FileStore(FileSettings(root=str(folder), **settings), "sqlite:///")  # type: ignore[arg-type]


def kept(folder: Path, device: str, incident: str) -> dict[str, bytes]:
    """Return the files that the receiver has of a package."""
    return {p.name: p.read_bytes() for p in (folder / device / incident).iterdir()}
