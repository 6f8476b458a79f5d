"""H.264 as cameras give it (start codes, ITU-T H.264 annex B) and as MP4 keeps it (lengths, ISO/IEC 14496-15)."""

import struct
from typing import Final

IDR: Final = 5
SPS: Final = 7
PPS: Final = 8
_START: Final = b"\0\0\1"
_HIGH_PROFILES: Final = (100, 110, 122, 144)  # whose avcC record tells colour depth too (14496-15, 5.3.3.1.2)


def split_start_codes(data: bytes) -> list[bytes]:
    """Return the NAL units between start codes; none when there is no start code."""
    units: list[bytes] = []
    at = data.find(_START)
    while at >= 0:
        after = data.find(_START, at + 3)
        end = len(data) if after < 0 else after
        # a unit never ends in zero: zeros here belong to the next start code or are padding
        unit = data[at + 3 : end].rstrip(b"\0")
        if unit:
            units.append(unit)
        at = after
    return units


def split_lengths(data: bytes, length_bytes: int = 4) -> list[bytes] | None:
    """Return the NAL units behind big-endian lengths, None when the lengths do not fill `data` exactly."""
    units: list[bytes] = []
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + length_bytes], "big")
        at += length_bytes
        if size == 0 or at + size > len(data) or data[at] & 0x80:  # forbidden_zero_bit
            return None
        units.append(data[at : at + size])
        at += size
    return units


def join_lengths(units: list[bytes]) -> bytes:
    """Return NAL units as MP4 keeps them, each behind its length in four bytes."""
    return b"".join(part for unit in units for part in (struct.pack(">I", len(unit)), unit))


def is_key(units: list[bytes]) -> bool:
    """Say whether a picture refers to none before it, and none after it to one before."""
    return any(unit[0] & 31 == IDR for unit in units)


def parameter_sets(units: list[bytes]) -> tuple[bytes, bytes] | None:
    """Return the sequence and picture parameter sets among `units`, None when one is missing."""
    sps = next((u for u in units if u[0] & 31 == SPS and len(u) >= 4), None)
    pps = next((u for u in units if u[0] & 31 == PPS), None)
    return None if sps is None or pps is None else (sps, pps)


def avcc(sps: bytes, pps: bytes) -> bytes:
    """Return the configuration record of an MP4 (14496-15, 5.3.3.1) with lengths of four bytes."""
    head = bytes((1, sps[1], sps[2], sps[3], 0xFF, 0xE1))
    record = head + struct.pack(">H", len(sps)) + sps + b"\1" + struct.pack(">H", len(pps)) + pps
    if sps[1] in _HIGH_PROFILES:
        chroma, luma_depth, chroma_depth = _colour(sps)
        record += bytes((0xFC | chroma, 0xF8 | luma_depth, 0xF8 | chroma_depth, 0))
    return record


def of_extradata(extradata: bytes) -> tuple[bytes, int]:
    """Return avcC record and length size (0: packets have start codes) of what a demuxer calls extradata."""
    if len(extradata) >= 7 and extradata[0] == 1:
        return extradata, (extradata[4] & 3) + 1
    sets = parameter_sets(split_start_codes(extradata))
    return (avcc(*sets) if sets else b""), 0


def _colour(sps: bytes) -> tuple[int, int, int]:
    """Return chroma_format_idc and the two bit depths less 8 of a high profile's sequence parameter set (7.3.2.1.1)."""
    bits = "".join(f"{byte:08b}" for byte in sps[4:24].replace(b"\0\0\3", b"\0\0"))
    at = 0

    def unsigned() -> int:
        nonlocal at
        one = bits.find("1", at)
        zeros = one - at
        if one < 0 or one + zeros + 1 > len(bits):
            return 0
        at = one + zeros + 1
        return int(bits[one:at], 2) - 1

    unsigned()  # seq_parameter_set_id
    chroma = unsigned()
    if chroma == 3:
        at += 1  # separate_colour_plane_flag
    return chroma & 3, unsigned() & 7, unsigned() & 7
