"""What an owner uploads to a claim: kept by its hash, named by its content, never by what the sender says it is.

A file is looked at without being decoded: its first and last bytes, the size that a picture declares, the outer boxes
of a film. Only six formats are taken, none of which a browser runs as a page; of a PDF, what it says that it would do
(receiver.claiming.pdf). Documents stand in the file store beside packages, in a folder of their own.
"""

import hashlib
import re
import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Engine, func, insert, select

from receiver import db
from receiver.claiming import history, pdf, states, tables
from receiver.claiming.states import ClaimError
from receiver.filestore import FileStore

KINDS: Final = ("photo", "police", "licence", "registration", "invoice", "medical", "statement", "other")
MOST_BYTES: Final = 20 << 20  # one document: a phone's photo has 3 to 8 MB, a scan of ten pages 10
MOST_OF_CLAIM: Final = 200 << 20
MOST_DOCUMENTS: Final = 100
MOST_PIXELS: Final = 120_000_000  # a phone's 108 megapixels; beyond that a small file unpacks to gigabytes
_ENDINGS: Final = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/heic": "heic",
    "application/pdf": "pdf",
    "video/mp4": "mp4",
}
_NOT_IN_NAMES: Final = re.compile(r"[^\w.,()+ -]")
_MARKERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG: frames with a size
_HEIC: Final = (b"heic", b"heix", b"mif1", b"hevc", b"heim", b"heis")


class Document(NamedTuple):
    """One document of a claim."""

    claim: str
    sha256: str
    kind: str
    name: str
    media: str
    size: int
    device: str
    folder: str
    stored: str
    by: str
    uploaded_utc_ns: int


def add(
    engine: Engine, files: FileStore, claim: str, kind: str, name: str, data: bytes, by: str, now_ns: int
) -> Document:
    """Check a document and keep it; the same bytes twice are one document. Raise ClaimError naming the reason."""
    if kind not in KINDS:
        raise ClaimError(claim, f"kind {kind[:32]!r} is unknown; known: {', '.join(KINDS)}", "kind")
    if len(data) > MOST_BYTES:
        raise ClaimError(claim, f"the document has {len(data):,} bytes; {MOST_BYTES:,} are taken", "file")
    media, fault = look(data)
    if fault:
        raise ClaimError(claim, f"the document is refused: {fault}", "file")
    sha256 = hashlib.sha256(data).hexdigest()
    with db.reading(engine) as connection:
        own = states.row_of(connection, claim)
        held = _one(connection, claim, sha256)
        _room(connection, claim, len(data))
    if held is not None:
        return held
    document = Document(
        claim=claim,
        sha256=sha256,
        kind=kind,
        name=clean(name),
        media=media,
        size=len(data),
        device=own.device,
        folder=hashlib.sha256(f"documents:{claim}".encode()).hexdigest()[:16],
        stored=f"{sha256}.{_ENDINGS[media]}",
        by=history.plain(by)[:64],
        uploaded_utc_ns=now_ns,
    )
    # the file first: a row never names what is not there
    partial = files.begin()
    try:
        files.write(partial, [(0, memoryview(data))])
        files.put(partial, document.device, document.folder, document.stored)
    finally:
        files.drop(partial)
    with engine.begin() as connection:
        states.locked(connection, claim)
        held = _one(connection, claim, sha256)  # another request may have brought the same meanwhile
        if held is not None:
            return held
        _room(connection, claim, len(data))
        connection.execute(insert(tables.claim_document).values(**document._asdict()))
        detail = {"sha256": sha256, "kind": kind, "media": media, "size": len(data)}
        states.note(connection, claim, now_ns, who=by, what="document", detail=detail)
    return document


def listed(connection: Connection, claim: str) -> list[Document]:
    """Return the documents of a claim, the first uploaded first."""
    t = tables.claim_document
    rows = connection.execute(select(t).where(t.c.claim == claim).order_by(t.c.uploaded_utc_ns, t.c.sha256))
    return [_document(row) for row in rows]


def read(files: FileStore, document: Document) -> bytes:
    """Return a document's bytes; raise OSError where it is gone, or is not any more what was uploaded."""
    with files.open(document.device, document.folder, document.stored) as file:
        data = bytes(file.read(MOST_BYTES + 1))
    if hashlib.sha256(data).hexdigest() != document.sha256:
        raise OSError(f"document {document.sha256} of claim {document.claim} was altered in the store")
    return data


def look(data: bytes) -> tuple[str, str]:
    """Return what a file is by its content, and why it is refused: ("", reason), or (media type, "")."""
    if not data:
        return "", "it is empty"
    for media, begins, check in _FORMATS:
        if begins(data):
            fault = check(data)
            return ("", fault) if fault else (media, "")
    return "", f"it is none of: {', '.join(sorted(_ENDINGS.values()))}"


def clean(name: str) -> str:
    """Return a file name as it may be shown: no folder, no control character, at most 100 characters."""
    last = re.split(r"[/\\]", name)[-1]
    return _NOT_IN_NAMES.sub("_", last)[-100:].strip(" .") or "document"


def _one(connection: Connection, claim: str, sha256: str) -> Document | None:
    t = tables.claim_document
    row = connection.execute(select(t).where(t.c.claim == claim, t.c.sha256 == sha256)).one_or_none()
    return None if row is None else _document(row)


def _document(row: Any) -> Document:
    return Document(*(getattr(row, name) for name in Document._fields))


def _room(connection: Connection, claim: str, size: int) -> None:
    t = tables.claim_document
    count, held = connection.execute(select(func.count(), func.sum(t.c.size)).where(t.c.claim == claim)).one()
    if count >= MOST_DOCUMENTS or int(held or 0) + size > MOST_OF_CLAIM:
        said = f"holds {count} documents of {int(held or 0):,} bytes; {MOST_DOCUMENTS} and {MOST_OF_CLAIM:,} are taken"
        raise ClaimError(claim, said, "file")


def _jpeg(data: bytes) -> str:
    """Walk the segments up to the frame (ITU-T T.81 B.1.1)."""
    if b"\xff\xd9" not in data[-4096:]:
        return "the picture is cut off"
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker in _MARKERS:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return _pixels(width, height)
        if marker == 0xFF:
            at += 1
            continue
        at += 2 + int(struct.unpack(">H", data[at + 2 : at + 4])[0])
    return "it is no picture: it has no frame"


def _png(data: bytes) -> str:
    if len(data) < 33 or data[12:16] != b"IHDR" or b"IEND" not in data[-64:]:
        return "the picture is cut off"
    width, height = struct.unpack(">II", data[16:24])
    return _pixels(width, height)


def _pixels(width: int, height: int) -> str:
    if not width or not height:
        return "the picture has no size"
    return f"{width} × {height} pixels are too many" if width * height > MOST_PIXELS else ""


def _whole_riff(data: bytes) -> str:
    return "" if struct.unpack("<I", data[4:8])[0] + 8 <= len(data) + 1 else "the picture is cut off"


def _boxes(data: bytes) -> str:
    """Walk the outermost boxes (ISO/IEC 14496-12 4.2): they must fill the file."""
    at, names = 0, set()
    while at + 8 <= len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        if size == 1 and at + 16 <= len(data):
            (size,) = struct.unpack(">Q", data[at + 8 : at + 16])
        elif size == 0:
            size = len(data) - at
        if size < 8:
            return "its boxes are damaged"
        names.add(name)
        at += size
    return "" if at == len(data) and names & {b"moov", b"meta", b"moof"} else "it is cut off"


_FORMATS: Final[tuple[tuple[str, Callable[[bytes], bool], Callable[[bytes], str]], ...]] = (
    ("image/jpeg", lambda d: d[:3] == b"\xff\xd8\xff", _jpeg),
    ("image/png", lambda d: d[:8] == b"\x89PNG\r\n\x1a\n", _png),
    ("image/webp", lambda d: d[:4] == b"RIFF" and d[8:12] == b"WEBP", _whole_riff),
    ("image/heic", lambda d: d[4:8] == b"ftyp" and d[8:12] in _HEIC, _boxes),
    ("application/pdf", lambda d: d[:5] == b"%PDF-", pdf.fault),
    ("video/mp4", lambda d: d[4:8] == b"ftyp", _boxes),
)
