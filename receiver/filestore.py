"""Where package files are kept: unfinished ones in a local folder, whole ones in a folder or wherever fsspec reaches.

Whole files stand as `<root>/<device>/<incident>/<name>`, the same folder that the device has. Unfinished ones have
random names; several receivers on one database must share their folder, or they would lose each other's.
"""

import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import fsspec
from fsspec.implementations.local import LocalFileSystem

from agent.errors import ConfigError
from agent.filemessages import safe_name
from receiver.engine import beside
from receiver.settings import FileSettings

_DEVICE: Final = re.compile(r"rw-[0-9a-f]{16}")
_INCIDENT: Final = re.compile(r"[0-9a-f]{16}")
PARTIALS: Final = ".partial"
PART: Final = ".part"
HASHED: Final = 256 * 1024  # bytes read at once: they stay in the cache of a core


class FileStore:
    """Reads and writes files; raises OSError, whose cause the caller tells."""

    def __init__(self, settings: FileSettings, database: str) -> None:
        """Open the store that `settings` name, by default beside the `database`; raise ConfigError for a bad one."""
        around = beside(database)
        root = settings.root or str(around / "files")
        try:
            self._fs, self._root = fsspec.core.url_to_fs(root)
        except (ValueError, ImportError, OSError) as e:
            raise ConfigError(
                f"files.root {root!r}: {e}; write a folder, or install what that kind of URL needs"
            ) from e
        self._local = isinstance(self._fs, LocalFileSystem)
        given = Path(settings.partials) if settings.partials else None
        self._partials = given or (Path(self._root) if self._local else around) / PARTIALS
        self.settings = settings
        try:
            self._partials.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise ConfigError(f"files.partials {self._partials}: cannot be made: {e.strerror}; check its owner") from e

    # unfinished files

    def begin(self) -> str:
        """Make an empty unfinished file and return its name."""
        name = secrets.token_hex(16)
        os.close(os.open(self._partials / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        _sync(self._partials)
        return name

    def write(self, name: str, pieces: Sequence[tuple[int, memoryview]]) -> None:
        """Write (offset, bytes) pieces; `settle` makes them durable. FileNotFoundError when the file is gone."""
        descriptor = os.open(self._partials / name, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for offset, data in pieces:
                written = 0
                while written < len(data):
                    written += os.pwrite(descriptor, data[written:], offset + written)
        finally:
            os.close(descriptor)

    def settle(self, name: str) -> None:
        """Make an unfinished file durable as it stands; FileNotFoundError when it is gone."""
        descriptor = os.open(self._partials / name, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def length(self, name: str) -> int:
        """Return how long an unfinished file is; -1 when it is gone."""
        try:
            return (self._partials / name).stat().st_size
        except FileNotFoundError:
            return -1

    def hash_part(self, name: str, start: int, end: int, digest: Any) -> int:
        """Feed start ≤ x < end of an unfinished file to a hash; return how much there was. Raises OSError."""
        piece = bytearray(HASHED)
        view = memoryview(piece)
        at = start
        with (self._partials / name).open("rb", buffering=0) as file:
            file.seek(at)
            while at < end and (got := file.readinto(view[: min(HASHED, end - at)])):
                digest.update(view[:got])
                at += got
        return at - start

    def drop(self, name: str) -> None:
        """Remove an unfinished file."""
        if name:
            (self._partials / name).unlink(missing_ok=True)

    def leftovers(self, known: set[str], before_utc_ns: int) -> int:
        """Remove unfinished files that nobody knows and nobody touched since; return how many."""
        gone = 0
        for path in self._partials.iterdir():
            if path.name not in known and path.stat().st_mtime_ns < before_utc_ns:
                if path.is_dir():  # of `exactly`
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
                gone += 1
        return gone

    # whole files

    def put(self, partial: str, device: str, incident: str, name: str) -> None:
        """Put an unfinished file, now whole, in its place; durable on return, and never seen half."""
        source, target = self._partials / partial, self.path(device, incident, name)
        if not self._local:
            self._fs.makedirs(self._fs._parent(target), exist_ok=True)
            self._fs.put_file(str(source), target)
            if self._fs.info(target)["size"] != source.stat().st_size:
                raise OSError(f"{target} was not stored whole")
            return
        folder = Path(target).parent
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f".{partial}{PART}"
        beside.unlink(missing_ok=True)
        try:
            os.link(source, beside)  # no bytes are copied where both stand on one file system
        except FileNotFoundError:
            raise
        except OSError:
            _copy(source, beside)
        os.replace(beside, target)
        _sync(folder)

    def copy(self, source: str, target: str) -> None:
        """Put a whole file in a second place; FileNotFoundError when it is gone."""
        if not self._local:
            self._fs.makedirs(self._fs._parent(target), exist_ok=True)
            self._fs.cp_file(source, target)
            return
        folder = Path(target).parent
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f".{secrets.token_hex(8)}{PART}"
        _copy(Path(source), beside)
        os.replace(beside, target)
        _sync(folder)

    def path(self, device: str, incident: str, name: str = "") -> str:
        """Return where a whole file, or a package's folder, stands in the store's own terms."""
        if not _DEVICE.fullmatch(device) or not _INCIDENT.fullmatch(incident) or (name and not safe_name(name)):
            raise ValueError(f"not a place for a package: {device!r}, {incident!r}, {name!r}")
        return "/".join(part for part in (self._root.rstrip("/"), device, incident, name) if part)

    def open(self, device: str, incident: str, name: str) -> Any:
        """Open a whole file for reading bytes; FileNotFoundError where there is none."""
        return self._fs.open(self.path(device, incident, name), "rb")

    @contextmanager
    def folder(self, device: str, incident: str) -> Iterator[Path]:
        """Give a package as a local folder: its own where the store is local, else a copy for as long as it is used."""
        place = self.path(device, incident)
        if self._local:
            yield Path(place)
            return
        with tempfile.TemporaryDirectory(prefix="rw-package-") as copied:
            for found in self._fs.ls(place, detail=False):
                self._fs.get_file(found, str(Path(copied) / found.rsplit("/", 1)[-1]))
            yield Path(copied)

    @contextmanager
    def exactly(self, device: str, incident: str, names: Sequence[str]) -> Iterator[Path]:
        """Give a local folder with just these files of a package, as far as they are there, while it is used.

        What a receiver that died left beside them, and what an earlier edition named, is not in it.
        """
        with tempfile.TemporaryDirectory(prefix="view-", dir=self._partials) as folder:
            for name in names:
                source, target = self.path(device, incident, name), Path(folder) / name
                try:
                    if not self._local:
                        self._fs.get_file(source, str(target))
                        continue
                    try:
                        os.link(source, target, follow_symlinks=False)
                    except FileNotFoundError:
                        raise
                    except OSError:
                        shutil.copyfile(source, target, follow_symlinks=False)
                except FileNotFoundError:
                    continue
            yield Path(folder)

    def remove(self, device: str, incident: str) -> None:
        """Remove a package's folder; one that is gone is fine."""
        place = self.path(device, incident)
        if self._fs.exists(place):
            self._fs.rm(place, recursive=True)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("wb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)
        writer.flush()
        os.fsync(writer.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
