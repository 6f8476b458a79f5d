"""Fragmented MP4 (ISO/IEC 14496-12), one fragment for each frame, as our segments are: written and read back.

A file is a head that says what is in it, then frame after frame; each is whole or absent, so a torn file is read up to
its last whole frame and cut there. Times are microseconds from the first frame. Codecs: H.264 and JPEG pictures.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal

Codec = Literal["h264", "mjpeg"]

TIMESCALE: Final = 1_000_000  # a V4L2 buffer's stamp has microseconds
MOST_FRAME_BYTES: Final = 16_777_216  # far above any frame of a camera; guards a reader against a damaged size
_KEY_FLAGS: Final = 0x02000000  # sample_depends_on = 2: on no other (14496-12, 8.8.3.1)
_DELTA_FLAGS: Final = 0x01010000  # depends on others, is no sync sample
_MATRIX: Final = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_MOST_HEAD_BYTES: Final = 65_536  # ours has some 700
_FTYP: Final = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"iso6", 1, b"iso6", b"mp41")
# moof{mfhd{number} traf{tfhd tfdt{dts} trun{duration, size, flags, pts - dts}}} mdat, all that stands before the data
_FRAGMENT: Final = struct.Struct(">I4s I4sII I4s I4sII I4sIQ I4sIIIIIIi I4s")
OVERHEAD_BYTES: Final = _FRAGMENT.size


class DamageError(ValueError):
    """The bytes are not a segment that we wrote."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a segment holds; `config` is H.264's avcC record, empty for JPEG pictures."""

    codec: Codec
    width: int
    height: int
    config: bytes = b""


@dataclass(frozen=True, slots=True)
class Frame:
    """Where one frame's data are in the file, and when it is: µs from the first frame, presentation and decoding."""

    offset: int
    size: int
    pts_us: int
    dts_us: int
    duration_us: int
    key: bool


def head_bytes(head: Head) -> bytes:
    """Return the beginning of a file: ftyp, and moov without any sample."""
    video = struct.pack(">6xH16xHHII4xH32xHh", 1, head.width, head.height, 0x480000, 0x480000, 1, 24, -1)
    entry = _box(b"avc1", video, _box(b"avcC", head.config)) if head.codec == "h264" else _box(b"jpeg", video)
    empty = (_full(b"stts", 0, bytes(4)), _full(b"stsc", 0, bytes(4)), _full(b"stsz", 0, bytes(8)))
    stbl = _box(b"stbl", _full(b"stsd", 0, struct.pack(">I", 1), entry), *empty, _full(b"stco", 0, bytes(4)))
    dinf = _box(b"dinf", _full(b"dref", 0, struct.pack(">I", 1), _full(b"url ", 1)))
    minf = _box(b"minf", _full(b"vmhd", 1, bytes(8)), dinf, stbl)
    mdhd = _full(b"mdhd", 0, struct.pack(">IIIIHH", 0, 0, TIMESCALE, 0, 0x55C4, 0))  # language "und"
    hdlr = _full(b"hdlr", 0, bytes(4), b"vide", bytes(12), b"video\0")
    size = struct.pack(">II", head.width << 16, head.height << 16)
    tkhd = _full(b"tkhd", 3, struct.pack(">IIIII16x", 0, 0, 1, 0, 0), _MATRIX, size)
    mvhd = _full(b"mvhd", 0, struct.pack(">IIIIIH10x", 0, 0, TIMESCALE, 0, 0x10000, 0x100), _MATRIX, bytes(24), _u32(2))
    trak = _box(b"trak", tkhd, _box(b"mdia", mdhd, hdlr, minf))
    mvex = _box(b"mvex", _full(b"trex", 0, struct.pack(">IIIII", 1, 1, 0, 0, 0)))
    return _FTYP + _box(b"moov", mvhd, trak, mvex)


def fragment_head(number: int, frame: Frame) -> bytes:
    """Return what stands before the data of the frame that is `number` in its file, counted from 1."""
    return _FRAGMENT.pack(*_fragment_fields(number, frame))


def read_head(file: BinaryIO) -> Head:
    """Read the beginning of a segment, leave the file at its first fragment; raise DamageError when it is not ours."""
    start = file.read(32)
    if len(start) < 32 or start[:24] != _FTYP or start[28:32] != b"moov":
        raise DamageError("does not begin as a segment does")
    size = int.from_bytes(start[24:28], "big")
    if not 8 <= size <= _MOST_HEAD_BYTES:
        raise DamageError("has a damaged head")
    whole = start + file.read(size - 8)
    codec: Codec
    for codec, name in (("h264", b"avc1"), ("mjpeg", b"jpeg")):
        at = whole.find(name)
        if at < 0 or at + 96 > len(whole):
            continue
        width, height = struct.unpack_from(">HH", whole, at + 28)
        config = b""
        if codec == "h264":
            config = whole[at + 90 : at + 82 + int.from_bytes(whole[at + 82 : at + 86], "big")]
        head = Head(codec, width, height, config)
        if head_bytes(head) == whole:
            return head
    raise DamageError("has a damaged head")


def read_frames(file: BinaryIO, size: int) -> list[Frame]:
    """Return the whole frames from the present place of a file of `size` bytes, up to the first that is not whole."""
    frames: list[Frame] = []
    at = file.tell()
    while at + OVERHEAD_BYTES <= size:
        file.seek(at)
        head = file.read(OVERHEAD_BYTES)
        if len(head) < OVERHEAD_BYTES:
            break
        fields = _FRAGMENT.unpack(head)
        dts_us, duration_us, length, flags, shift_us = fields[15], *fields[21:25]
        offset = at + OVERHEAD_BYTES
        frame = Frame(offset, length, dts_us + shift_us, dts_us, duration_us, flags == _KEY_FLAGS)
        if length > MOST_FRAME_BYTES or offset + length > size or _fragment_fields(len(frames) + 1, frame) != fields:
            break
        frames.append(frame)
        at = offset + length
    return frames


def _fragment_fields(number: int, frame: Frame) -> tuple[int | bytes, ...]:
    flags = _KEY_FLAGS if frame.key else _DELTA_FLAGS
    return (
        *(OVERHEAD_BYTES - 8, b"moof", 16, b"mfhd", 0, number, 80, b"traf", 16, b"tfhd", 0x020000, 1),
        *(20, b"tfdt", 0x01000000, frame.dts_us),
        *(
            36,
            b"trun",
            0x01000F01,
            1,
            OVERHEAD_BYTES,
            frame.duration_us,
            frame.size,
            flags,
            frame.pts_us - frame.dts_us,
        ),
        *(frame.size + 8, b"mdat"),
    )


def _box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, name) + body


def _full(name: bytes, flags: int, *parts: bytes) -> bytes:
    return _box(name, _u32(flags), *parts)


def _u32(value: int) -> bytes:
    return struct.pack(">I", value)
