"""What a PDF says that it would do: the names of actions in its objects, also in compressed ones (ISO 32000-1 7.5.7).

Found is what a document says of itself in the usual way, names written with #xx too. Pictures and page contents are
not looked into, nor is what an object that only a forged table of objects finds. So a document that passes here is
still given out as a file to be saved, and never shown inside a page.
"""

import re
import zlib
from collections.abc import Iterator
from typing import Final

MOST_UNPACKED: Final = 32 << 20  # of all compressed objects: a report of 1,000 pages has 2 MB
# ISO 32000-1 12.6.4: actions that run, start or send something; 12.6.3 AA: at any moment; files and media inside
_ACTIVE: Final = re.compile(rb"/(?:JavaScript|JS|Launch|SubmitForm|ImportData|EmbeddedFiles?|RichMedia|XFA|AA)\b")
_NAME: Final = re.compile(rb"/[!-~]{1,127}")
_ESCAPED: Final = re.compile(rb"#([0-9A-Fa-f]{2})")
_STREAM: Final = re.compile(rb"\bstream\r?\n")


def fault(data: bytes) -> str:
    """Return why a PDF is refused, "" where nothing of that kind was found."""
    if b"%%EOF" not in data[-2048:]:
        return "the document is cut off"
    left = MOST_UNPACKED
    for objects, packed in _parts(data):
        plain = _unescaped(objects)
        if b"/Encrypt" in plain:
            return "it is locked; save it without a password"
        found = _ACTIVE.search(plain)
        if found:
            return f"it does something by itself ({found.group().decode()})"
        if packed is None:
            continue
        inner = _unpacked(plain, packed, left)
        if inner is None:
            return "its objects are packed in a way that cannot be looked into"
        left -= len(inner)
        found = _ACTIVE.search(_unescaped(inner))
        if found:
            return f"it does something by itself ({found.group().decode()})"
    return ""


def _parts(data: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield what stands between streams, each with the stream after it where that holds objects."""
    at = 0
    while begins := _STREAM.search(data, at):
        ends = data.find(b"endstream", begins.end())
        if ends < 0:
            break
        before = data[at : begins.start()]
        own = _unescaped(before[before.rfind(b"obj") :])
        yield before, data[begins.end() : ends] if b"/ObjStm" in own else None
        at = ends
    yield data[at:], None


def _unpacked(own: bytes, packed: bytes, most: int) -> bytes | None:
    """Return the objects of an object stream, None where it is packed otherwise than by Flate alone, or too large."""
    head = own[own.rfind(b"obj") :]
    if b"/Filter" not in head:
        return packed
    if len(re.findall(rb"/\w+Decode\b", head)) != 1 or b"/FlateDecode" not in head or b"/Predictor" in head:
        return None
    work = zlib.decompressobj()
    try:
        inner = work.decompress(packed, most + 1)  # one more: to zlib 0 means without bound
    except zlib.error:
        return None
    return inner if len(inner) <= most else None


def _unescaped(objects: bytes) -> bytes:
    if b"#" not in objects:
        return objects
    return _NAME.sub(lambda name: _ESCAPED.sub(lambda m: bytes([int(m[1], 16)]), name.group()), objects)
