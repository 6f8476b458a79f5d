"""Giving files out: one file with ranges (RFC 9110 §14), so that a player can seek, and a package as one ZIP.

Types are ours, by the end of the name, and never what a device says: everything that a browser could run is a download.
"""

import re
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any, Final

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from receiver.crashes import PackageFile
from receiver.filestore import FileStore

PIECE: Final = 256 * 1024
# end of a name -> type; these are shown by a page, all others are downloads
SHOWN: Final = {".mp4": "video/mp4", ".jpg": "image/jpeg", ".vtt": "text/vtt; charset=utf-8"}
TYPES: Final = {
    **SHOWN,
    ".json": "application/json",
    ".csv": "text/csv; charset=utf-8",
    ".gpx": "application/gpx+xml",
    ".jsonl": "application/x-ndjson",
    ".sig": "application/json",
    ".tsr": "application/timestamp-reply",
}
OTHER: Final = "application/octet-stream"
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_OLDEST: Final = (1980, 1, 1, 0, 0, 0)  # a ZIP's first year; the times are in the manifest


class ShortError(OSError):
    """A stored file is not as long as its record says."""


def file_response(request: Request, files: FileStore, device: str, incident: str, found: PackageFile) -> Response:
    """Give a file or the range that is asked for; raise OSError where it is not there as it should be."""
    kind, shown = _type(found.name)
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": f'"{found.sha256}"',
        "Content-Disposition": f'{"inline" if shown else "attachment"}; filename="{found.name}"',
    }
    wanted = _range(request, found)
    if wanted == "none":
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{found.size}"})
    start, end = (0, found.size) if isinstance(wanted, str) else wanted
    headers["Content-Length"] = str(end - start)
    if not isinstance(wanted, str):
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{found.size}"
    status = 200 if isinstance(wanted, str) else 206
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=kind)
    opened = files.open(device, incident, found.name)
    if opened.seek(0, 2) != found.size:
        opened.close()
        raise ShortError(f"{found.name} of package {incident}: not {found.size} bytes long any more")
    opened.seek(start)
    return StreamingResponse(_pieces(opened, end - start), status, headers, media_type=kind)


def ranged(request: Request) -> bool:
    """Say whether only a part is asked for."""
    return "range" in request.headers


def zip_response(
    request: Request, files: FileStore, device: str, incident: str, listed: Sequence[PackageFile]
) -> Response:
    """Give a package as a ZIP that holds its folder, stored and not compressed."""
    headers = {
        "Content-Disposition": f'attachment; filename="roadwitness-{incident}.zip"',
        "Content-Length": str(zip_size(incident, listed)),
    }
    if request.method == "HEAD":
        return Response(headers=headers, media_type="application/zip")
    return StreamingResponse(zipped(files, device, incident, listed), headers=headers, media_type="application/zip")


def zipped(files: FileStore, device: str, incident: str, listed: Sequence[PackageFile]) -> Iterator[bytes]:
    """Yield the ZIP piece by piece; a file that is not as it should be ends it in the middle, so that nobody takes it.

    Sizes and checksums stand behind each file and in the directory at the end, since it cannot be gone back.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        for one in listed:
            info = zipfile.ZipInfo(f"{incident}/{one.name}", _OLDEST)
            info.external_attr = 0o100644 << 16
            left = one.size
            with files.open(device, incident, one.name) as source, archive.open(info, "w", force_zip64=True) as target:
                while left and (piece := source.read(min(left, PIECE))):
                    target.write(piece)
                    left -= len(piece)
                    yield sink.take()
                if left or source.read(1):
                    raise ShortError(f"{one.name} of package {incident}: not {one.size} bytes long any more")
    yield sink.take()


def zip_size(incident: str, listed: Sequence[PackageFile]) -> int:
    """Return how long `zipped` will be (APPNOTE 6.3.10: local header, ZIP64 field, descriptor; directory; end)."""
    most, offset, directory = zipfile.ZIP64_LIMIT, 0, 0
    for one in listed:
        name = len(f"{incident}/{one.name}".encode())
        large = 2 * (one.size > most) + (offset > most)
        directory += 46 + name + (4 + 8 * large if large else 0)
        offset += 30 + name + 20 + one.size + 24
    return offset + directory + (76 if offset > most or directory > most else 0) + 22


class _Sink:
    """What ZipFile writes into: it cannot seek, and gives out what has come."""

    def __init__(self) -> None:
        self._held = bytearray()

    def write(self, data: Any) -> int:
        self._held += data
        return len(data)

    def flush(self) -> None:
        """Do nothing: nothing is behind it."""

    def take(self) -> bytes:
        """Return what has come since the last call."""
        taken, self._held = bytes(self._held), bytearray()
        return taken


def _type(name: str) -> tuple[str, bool]:
    """Return a file's type and whether a page shows it."""
    end = name[name.rfind(".") :] if "." in name else ""
    return TYPES.get(end, OTHER), end in SHOWN


def _range(request: Request, found: PackageFile) -> tuple[int, int] | str:
    """Return the bytes that are asked for, "all", or "none" for a range that the file has not.

    Several ranges and units that nobody knows are answered by the whole file, as RFC 9110 allows.
    """
    match = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if match is None or request.headers.get("if-range", f'"{found.sha256}"') != f'"{found.sha256}"':
        return "all"
    first, last = match.groups()
    if not first and not last:
        return "all"
    if not first:
        start, end = max(0, found.size - int(last)), found.size
    else:
        start, end = int(first), min(int(last) + 1 if last else found.size, found.size)
        if last and int(last) < int(first):
            return "all"
    return (start, end) if start < end else "none"


def _pieces(opened: Any, length: int) -> Iterator[bytes]:
    with opened:
        while length > 0:
            piece = opened.read(min(length, PIECE))
            if not piece:
                raise ShortError("a stored file ended early")
            length -= len(piece)
            yield bytes(piece)
