"""Documents of a claim: known by their content, bounded, never run, found unaltered again."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.claiming import documents, facts, reading, reporting
from receiver.claiming.reporting import Declared
from receiver.claiming.states import ClaimError
from receiver.pricing.book import load_book
from tests.crash_cases import NOW, Box, Insurer

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
JPEG += b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", 3000, 4000) + b"\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
JPEG += b"\xff\xda\x00\x0c\x03\x01\x00\x02\x11\x03\x11\x00?\x00" + b"\x11" * 100 + b"\xff\xd9"
PDF = b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer\n<< /Root 1 0 R >>\n%%EOF\n"
MP4 = struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + struct.pack(">I4s", 8, b"moov")


def with_stream(words: bytes, body: bytes) -> bytes:
    """Return a PDF with one stream."""
    stream = b"3 0 obj\n<< " + words + b" >>\nstream\n" + body + b"\nendstream\nendobj\n"
    return PDF.replace(b"trailer", stream + b"trailer")


def png(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.fixture
def insurer(tmp_path: Path) -> Iterator[Insurer]:
    made = Insurer(tmp_path / "insurer")
    yield made
    made.engine.dispose()


@pytest.fixture
def claim(insurer: Insurer, tmp_path: Path) -> str:
    box = Box(tmp_path / "box")
    insurer.enrol(box)
    device = box.store.device
    box.store.close()
    return reporting.report(insurer.engine, Declared(device, NOW - 1, "owner-7"), NOW, facts.limits())


@pytest.mark.parametrize(
    ("data", "media"),
    [
        (JPEG, "image/jpeg"),
        (png(40, 30), "image/png"),
        (PDF, "application/pdf"),
        (PDF.replace(b"/Type", b"/OpenAction [3 0 R /Fit] /Type"), "application/pdf"),  # where it is opened
        (with_stream(b"/Subtype /Image /Filter /DCTDecode", b"\x01/JS \x02/AA "), "application/pdf"),  # by chance
        (with_stream(b"/Type /ObjStm /Filter /FlateDecode", zlib.compress(b"1 0 << /S /GoTo >>")), "application/pdf"),
        (MP4, "video/mp4"),
        (b"RIFF" + struct.pack("<I", 8) + b"WEBPVP8 ", "image/webp"),
        (MP4.replace(b"isom", b"heic").replace(b"moov", b"meta"), "image/heic"),
    ],
)
def test_document_is_what_its_content_says(data: bytes, media: str) -> None:
    assert documents.look(data) == (media, "")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"<html><script>alert(1)</script>", "none of"),
        (b"MZ" + b"\0" * 100, "none of"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='x'/>", "none of"),
        (JPEG[:-2], "cut off"),
        (b"\xff\xd8\xff\xff\xd9", "no frame"),
        (png(40, 30)[:-14], "cut off"),
        (png(100_000, 100_000), "too many"),
        (png(0, 1), "no size"),
        (PDF[:-7], "cut off"),
        (PDF.replace(b"/Type", b"/OpenAction << /JS (x) >> /Type"), "by itself"),
        (PDF.replace(b"/Type", b"/OpenAction << /S /J#61vaScript >> /Type"), "by itself"),
        (with_stream(b"/Type /ObjStm /N 1 /Filter /FlateDecode", zlib.compress(b"1 0 << /S /Launch >>")), "by itself"),
        (with_stream(b"/Type /Obj#53tm /N 1", b"1 0 << /S /SubmitForm >>"), "by itself"),
        (with_stream(b"/Type /ObjStm /Filter /LZWDecode", b"x"), "cannot be looked into"),
        (with_stream(b"/Type /ObjStm /Filter [/ASCIIHexDecode /FlateDecode]", b"78>"), "cannot be looked into"),
        (with_stream(b"/Type /ObjStm /Filter /FlateDecode", b"damaged"), "cannot be looked into"),
        (with_stream(b"/Type /ObjStm /Filter /FlateDecode", zlib.compress(bytes(40 << 20))), "cannot be looked into"),
        (PDF.replace(b"/Root", b"/Encrypt 2 0 R /Root"), "locked"),
        (PDF.replace(b"endobj", b"endobj 4 0 obj << >> stream\nhidden 5 0 obj << /S /Launch >>"), "by itself"),
        (MP4[:-1], "cut off"),
        (MP4[:16] + struct.pack(">I4s", 3, b"moov"), "damaged"),
        (MP4[:16], "cut off"),
        (b"RIFF" + struct.pack("<I", 8000) + b"WEBPVP8 ", "cut off"),
    ],
)
def test_document_that_is_none_is_refused_with_the_reason(insurer: Insurer, claim: str, data: bytes, said: str) -> None:
    with pytest.raises(ClaimError, match=said) as e:
        documents.add(insurer.engine, insurer.files, claim, "photo", "a.jpg", data, "owner-7", NOW)
    assert e.value.field == "file"
    assert reading.claim(insurer.engine, load_book(), claim).documents == []


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([JPEG, PDF, MP4, png(4, 3), b"RIFF0000WEBP", b""]), st.integers(0, 300))
def test_no_bytes_break_the_look(noise: bytes, good: bytes, at: int) -> None:
    media, fault = documents.look(good[:at] + noise + good[at:])
    assert bool(media) != bool(fault)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_any_name_becomes_one_that_can_be_shown(name: str) -> None:
    cleaned = documents.clean(name)
    assert 0 < len(cleaned) <= 100
    assert not set(cleaned) & set("/\\<>\"'&\0\n\r")


def test_same_document_twice_is_one_and_can_be_read_until_it_is_altered(insurer: Insurer, claim: str) -> None:
    first = documents.add(insurer.engine, insurer.files, claim, "photo", "../../etc/车 <b>.jpg", JPEG, "owner-7", NOW)
    again = documents.add(insurer.engine, insurer.files, claim, "photo", "b.jpg", JPEG, "owner-7", NOW + 1)
    assert first == again
    assert (first.name, first.media, first.size, first.stored) == (
        "车 _b_.jpg",
        "image/jpeg",
        len(JPEG),
        f"{first.sha256}.jpg",
    )
    shown = reading.claim(insurer.engine, load_book(), claim)
    assert shown.documents == [first]
    assert [s.what for s in shown.history] == ["opened", "reported", "document"]
    assert documents.read(insurer.files, first) == JPEG
    Path(insurer.files.path(first.device, first.folder, first.stored)).write_bytes(JPEG + b"x")
    with pytest.raises(OSError, match="altered"):
        documents.read(insurer.files, first)


def test_size_number_kind_and_claim_are_bounded(insurer: Insurer, claim: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(data: bytes, kind: str = "photo", to: str = claim) -> None:
        documents.add(insurer.engine, insurer.files, to, kind, "a.jpg", data, "owner-7", NOW)

    with pytest.raises(ClaimError, match="20,971,520 are taken"):
        add(JPEG + bytes(documents.MOST_BYTES))
    with pytest.raises(ClaimError, match="kind 'love' is unknown"):
        add(JPEG, "love")
    with pytest.raises(ClaimError, match="none of that name"):
        add(JPEG, to="0" * 16)
    monkeypatch.setattr(documents, "MOST_DOCUMENTS", 1)
    add(JPEG)
    with pytest.raises(ClaimError, match="holds 1 documents"):
        add(png(4, 3))
    monkeypatch.setattr(documents, "MOST_DOCUMENTS", 9)
    monkeypatch.setattr(documents, "MOST_OF_CLAIM", len(JPEG) + 10)
    with pytest.raises(ClaimError, match="are taken"):
        add(png(4, 3))
    assert not list(insurer.files._partials.iterdir())
