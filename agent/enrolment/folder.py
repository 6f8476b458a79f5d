"""The TLS identity on disk: certificate, key and root change together, by one rename, or not at all.

    tls/current -> 0007     tls/device.crt -> current/device.crt   (also device.key, ca.crt)
    tls/0007/…              tls/next/…  the key that is being certified, and what came of it

Whoever opens `tls/device.crt` and `tls/device.key` during a change finds the old pair or the new one; one who opens
them on either side of it finds that they do not fit and opens them again.
"""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509

from agent.clock import NS_PER_S
from agent.durable import sync_folder
from agent.enrolment import keys
from agent.enrolment.keys import TlsKey
from agent.errors import StoreError

FOLDER: Final = "tls"
CERTIFICATE: Final = "device.crt"
KEY: Final = "device.key"
ROOT: Final = "ca.crt"
_CURRENT: Final = "current"
_NEXT: Final = "next"


class Life(NamedTuple):
    """From when to when a certificate counts, UTC ns."""

    begins_utc_ns: int
    ends_utc_ns: int

    @property
    def due_utc_ns(self) -> int:
        """Return when it is to be renewed: after two thirds, so that weeks without a network cost nothing."""
        return self.begins_utc_ns + (self.ends_utc_ns - self.begins_utc_ns) * 2 // 3


class TlsFolder:
    """The identity in the store's folder; who writes it is the owner of that folder (agent.owner)."""

    def __init__(self, store: Path) -> None:
        self.path = store / FOLDER

    @property
    def pair(self) -> tuple[Path, Path]:
        """Return certificate and key, under names that stay."""
        return self.path / CERTIFICATE, self.path / KEY

    @property
    def ca(self) -> Path:
        """Return the root, under a name that stays."""
        return self.path / ROOT

    @property
    def next_pair(self) -> tuple[Path, Path]:
        """Return certificate and key of what is to come."""
        return self.path / _NEXT / CERTIFICATE, self.path / _NEXT / KEY

    @property
    def next_ca(self) -> Path:
        """Return the root of what is to come."""
        return self.path / _NEXT / ROOT

    def life(self, certificate: Path | None = None) -> Life | None:
        """Return the dates of the certificate in force, or of another; None where there is none that can be read."""
        try:
            read = x509.load_pem_x509_certificate((certificate or self.pair[0]).read_bytes())
        except (OSError, ValueError):
            return None
        return Life(_ns(read.not_valid_before_utc), _ns(read.not_valid_after_utc))

    def key(self) -> TlsKey:
        """Return the key of the certificate in force; raise StoreError."""
        return keys.load(self.pair[1])

    def next_key(self, kind: keys.Kind) -> TlsKey:
        """Return the key that is to be certified, made at the first call and durable on return; raise StoreError."""
        path = self.next_pair[1]
        if path.exists():
            try:
                return keys.load(path)
            except StoreError:
                self.drop_next()  # a power cut left half of it: nobody has certified it
        self._write(path, keys.make(kind))
        return keys.load(path)

    def keep_next_root(self, root: bytes) -> None:
        """Keep the root that is believed while the next certificate is asked for; raise StoreError."""
        self._write(self.next_ca, root)

    def take_next(self, certificate: str, root: str) -> None:
        """Keep what was granted for the next key, durable on return; raise StoreError."""
        self._write(self.next_ca, root.encode())
        self._write(self.next_pair[0], certificate.encode())

    def drop_next(self) -> None:
        """Forget the next key and what was granted for it."""
        shutil.rmtree(self.path / _NEXT, ignore_errors=True)

    def put_in_force(self) -> None:
        """Let the next certificate take the place of the one in force, which is erased; raise StoreError."""
        try:
            before = self._current()
            number = 1 if before is None else int(before.name) + 1
            fresh = self.path / f"{number:04d}"
            shutil.rmtree(fresh, ignore_errors=True)
            os.rename(self.path / _NEXT, fresh)
            self._link(_CURRENT, fresh.name)
            for name in (CERTIFICATE, KEY, ROOT):
                if not (self.path / name).is_symlink():
                    self._link(name, f"{_CURRENT}/{name}")
            sync_folder(self.path)
        except OSError as e:
            raise StoreError(f"{self.path}: cannot be written: {e.strerror}; check the disk") from e
        if before is not None:
            shutil.rmtree(before, ignore_errors=True)

    def _current(self) -> Path | None:
        try:
            name = os.readlink(self.path / _CURRENT)
        except OSError:
            return None
        return self.path / name if name.isdigit() else None

    def _link(self, name: str, target: str) -> None:
        partial = self.path / f".{name}.new"
        partial.unlink(missing_ok=True)
        os.symlink(target, partial)
        os.replace(partial, self.path / name)

    def _write(self, path: Path, data: bytes) -> None:
        try:
            for folder in (self.path, path.parent):
                folder.mkdir(mode=0o700, exist_ok=True)
            partial = path.with_name(f".{path.name}.new")
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
            sync_folder(path.parent)
            sync_folder(self.path)
        except OSError as e:
            raise StoreError(f"{path}: cannot be written: {e.strerror}; check the folder and its free space") from e


def _ns(moment: datetime) -> int:
    return round(moment.astimezone(UTC).timestamp()) * NS_PER_S
