"""The vendor's repository: signed metadata by The Update Framework, and packages that it names.

TUF refuses metadata that are older than known ones, expired, or not signed by enough of the keys that the first root
file on this box trusts; and packages whose length or hash is not what they say.
"""

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.api.metadata import TargetFile
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

from agent.update.place import Place, UpdateError
from agent.update.trees import VERSION

ANSWER_S: Final = 60.0  # of silence; a link in a car stalls for tens of seconds under a bridge
_CHUNK: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Offer:
    """A version in the repository that is for this machine."""

    version: str
    length: int
    notes: str  # one line for people
    target: TargetFile


def target_path(arch: str, python: str) -> str:
    """Return where the repository has the package for a machine and a version of Python."""
    return f"{arch}/python{python}/roadwitness.deb"


class _Fetcher(FetcherInterface):
    """Reads over HTTP; counts what it cost, and goes on where a package's download was cut."""

    def __init__(self, on_bytes: Callable[[int], None], partial: Path) -> None:
        self._on_bytes = on_bytes
        self._partial = partial

    def _fetch(self, url: str) -> Iterator[bytes]:
        if not url.endswith(".deb"):
            yield from self._read(url, 0)
            return
        self._partial.parent.mkdir(parents=True, exist_ok=True)
        have = self._partial.stat().st_size if self._partial.exists() else 0
        if have:
            with self._partial.open("rb") as file:
                while part := file.read(_CHUNK):
                    yield part
        with self._partial.open("ab") as file:
            for part in self._read(url, have):
                file.write(part)
                yield part

    def _read(self, url: str, start: int) -> Iterator[bytes]:
        request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
                if start and answer.status != 206:  # it sends all of it again
                    skip = start
                    while skip and (part := answer.read(min(_CHUNK, skip))):
                        self._on_bytes(len(part))
                        skip -= len(part)
                while part := answer.read(_CHUNK):
                    self._on_bytes(len(part))
                    yield part
        except urllib.error.HTTPError as e:
            if e.code == 416:  # nothing is missing
                return
            raise DownloadHTTPError(f"{url}: {e.code} {e.reason}", e.code) from e
        except OSError as e:
            raise DownloadError(f"{url}: {getattr(e, 'reason', None) or e}") from e


class Channel:
    """The repository at `url`, as far as the keys on this box vouch for it."""

    def __init__(self, place: Place, url: str, on_bytes: Callable[[int], None]) -> None:
        """Take the first root metadata from the box; raise UpdateError where there are none."""
        self._url = url.rstrip("/")
        self._folder = place.state
        self._partial = place.state / "download" / "partial.deb"
        try:
            root = place.trusted.read_bytes()
        except OSError as e:
            raise UpdateError(
                f"{place.trusted}: cannot be read: {e.strerror}; the vendor's root metadata belong there"
            ) from e
        metadata = place.state / "metadata"
        metadata.mkdir(parents=True, exist_ok=True)
        with _in_words(self._url):
            self._updater = Updater(
                str(metadata),
                f"{self._url}/metadata",
                str(place.state / "download"),
                f"{self._url}/targets",
                _Fetcher(on_bytes, self._partial),
                bootstrap=root,
            )

    def newest(self, arch: str, python: str) -> Offer | None:
        """Ask for the newest metadata; return what is offered to this kind of machine, if anything.

        Raise UpdateError.
        """
        with _in_words(self._url):
            self._updater.refresh()
            target = self._updater.get_targetinfo(target_path(arch, python))
        if target is None:
            return None
        custom = target.custom or {}
        version = str(custom.get("version", ""))
        if not VERSION.fullmatch(version):
            raise UpdateError(f"{self._url}: offers a version '{version}', which is not one; publish it again")
        return Offer(version, target.length, str(custom.get("notes", "")), target)

    def fetch(self, offer: Offer) -> Path:
        """Bring a package here, whole and checked; return its path. Raise UpdateError, and go on there next time."""
        path = self._folder / "download" / f"roadwitness_{offer.version}.deb"
        path.parent.mkdir(parents=True, exist_ok=True)
        note = self._folder / "download" / "partial.of"
        if self._updater.find_cached_target(offer.target, str(path)) is not None:
            return path
        digest = next(iter(offer.target.hashes.values()))
        if not note.exists() or note.read_text() != digest:  # what lies there is of another package
            self._partial.unlink(missing_ok=True)
            note.write_text(digest)
        try:
            with _in_words(self._url):
                self._updater.download_target(offer.target, str(path))
        except _NotWhatWasSignedError:
            self._partial.unlink(missing_ok=True)
            raise
        self._partial.unlink(missing_ok=True)
        note.unlink(missing_ok=True)
        return path


class _NotWhatWasSignedError(UpdateError):
    """What came is not what the metadata say."""


class _in_words:  # noqa: N801 - used as a function
    """Turn TUF's errors into one line."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ExpiredMetadataError):
            raise UpdateError(
                f"{self._url}: its metadata have expired ({error}): the repository is not kept up, somebody holds back "
                "newer ones, or this clock is wrong; nothing is installed"
            ) from error
        if isinstance(error, DownloadLengthMismatchError):
            raise _NotWhatWasSignedError(
                f"{self._url}: sends more than was signed: {error}; nothing is installed"
            ) from error
        if isinstance(error, DownloadError):
            raise UpdateError(f"{self._url}: cannot be read: {error}; tried again at the next look") from error
        if isinstance(error, RepositoryError):
            raise _NotWhatWasSignedError(f"{self._url}: is not trusted: {error}; nothing is installed") from error
        if isinstance(error, (OSError, ValueError)):
            raise UpdateError(f"{self._url}: what was fetched cannot be kept: {error}") from error
