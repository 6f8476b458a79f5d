"""The bytes of a recording: plain, or decompressed while reading, never more than asked for at a time.

What the file is says its first bytes, not its name. A file that ends inside its compressed stream gives what could be
decompressed and then says why it ended.
"""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final, cast

import zstandard

from agent.errors import RecordingError


class _Zstandard(io.RawIOBase):
    """A zstd stream that notices its missing end, which zstandard's own stream reader does not."""

    FEED: Final = 1024  # zstd expands at most about 43,000 times (a 3-byte block of 128 KiB): ≤ 44 MB a step

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._unzip = zstandard.ZstdDecompressor().decompressobj()
        self._ready = b""
        self._inside = False

    def readable(self) -> bool:
        return True

    def readinto(self, into: memoryview) -> int:  # type: ignore[override]
        while not self._ready:
            fed = self._file.read(self.FEED)
            if not fed:
                if self._inside:
                    raise EOFError("compressed file ended before its end marker")
                return 0
            while fed:  # a file may hold several zstd frames, one after the other
                self._ready += self._unzip.decompress(fed)
                self._inside = not self._unzip.eof
                fed = self._unzip.unused_data if self._unzip.eof else b""
                if self._unzip.eof:
                    self._unzip = zstandard.ZstdDecompressor().decompressobj()
        n = min(len(into), len(self._ready))
        into[:n] = self._ready[:n]
        self._ready = self._ready[n:]
        return n

    def close(self) -> None:
        self._file.close()
        super().close()


def _xz(path: Path) -> BinaryIO:
    return cast(BinaryIO, lzma.LZMAFile(path))


_OPENERS: Final[tuple[tuple[bytes, str, Callable[[Path], BinaryIO]], ...]] = (
    (b"\x1f\x8b", "gzip", lambda path: cast(BinaryIO, gzip.GzipFile(path))),
    (b"\xfd7zXZ\x00", "xz", _xz),
    (b"BZh", "bzip2", lambda path: cast(BinaryIO, bz2.BZ2File(path))),
    (b"\x28\xb5\x2f\xfd", "zstd", lambda path: cast(BinaryIO, io.BufferedReader(_Zstandard(path.open("rb"))))),
)

# What the decompressors raise on a damaged file, and what the operating system raises on a damaged disk.
_DAMAGE: Final = (EOFError, OSError, lzma.LZMAError, zlib.error, zstandard.ZstdError)


class Source:
    """The (decompressed) bytes of one file, front to back.

    `ended_by` is '' as long as all is well and afterwards says in words why the bytes ended too early. Raises
    RecordingError when the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ended_by = ""
        self.compression = ""
        try:
            with path.open("rb") as file:
                magic = file.read(6)
            self._file: BinaryIO
            for begins, name, opener in _OPENERS:
                if magic.startswith(begins):
                    self.compression = name
                    self._file = opener(path)
                    break
            else:
                self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise RecordingError(f"{path}: cannot be opened: {error.strerror or error}; check the name") from error

    def read(self, n: int) -> bytes:
        """Return at most `n` bytes, b'' at the end; never raises for a damaged file."""
        if self.ended_by:
            return b""
        try:
            # read1 gives what there is before it meets the damage; a plain file has only read
            return self._file.read1(n) if self.compression else self._file.read(n)  # type: ignore[attr-defined]
        except _DAMAGE as error:
            self.ended_by = f"the {self.compression or 'file'} data end early or are damaged ({error})"
            return b""

    def read_into(self, into: memoryview) -> int:
        """Fill the front of `into` with what comes next and return how much, 0 at the end; never raises either."""
        if self.compression or self.ended_by:
            chunk = self.read(len(into))
            into[: len(chunk)] = chunk
            return len(chunk)
        try:
            return self._file.readinto(into)  # type: ignore[attr-defined, no-any-return]
        except OSError as error:
            self.ended_by = f"the file data end early or are damaged ({error})"
            return 0

    def head(self, n: int) -> bytes:
        """Return the first `n` bytes, fewer when the file is shorter; use it before anything else has been read."""
        parts = []
        missing = n
        while missing and (part := self.read(missing)):
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        self._file.close()


def head_of(path: Path, n: int) -> tuple[bytes, str]:
    """Return the first `n` decompressed bytes of a file and why there are no more, '' when nothing is wrong."""
    source = Source(path)
    try:
        return source.head(n), source.ended_by
    finally:
        source.close()
