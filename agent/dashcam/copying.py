"""From what cameras and encoders give to what is kept: pieces of MP4, nothing decoded."""

import struct

from agent.dashcam import h264
from agent.dashcam.mp4 import MOST_FRAME_BYTES, Head
from agent.dashcam.writing import Piece
from drivers.camera import Picture

JPEG_BEGINS = b"\xff\xd8"


class Copying:
    """The compressed pictures of one session; `damaged` counts those that cannot be kept."""

    def __init__(self, codec: str, width: int, height: int, extradata: bytes) -> None:
        self.damaged = 0
        self._mjpeg = codec == "mjpeg"
        self._size = (width, height)
        config, self._length_bytes = (b"", 0) if self._mjpeg else h264.of_extradata(extradata)
        self._head = Head("mjpeg" if self._mjpeg else "h264", width, height, config)

    def piece(self, picture: Picture) -> tuple[Head, Piece] | None:
        """Return what to write; None for a picture that cannot be kept."""
        if not 0 < len(picture.data) <= MOST_FRAME_BYTES:
            self.damaged += 1
            return None
        if self._mjpeg:
            return self._jpeg(picture)
        if self._length_bytes:
            units = h264.split_lengths(picture.data, self._length_bytes) or []
        else:
            units = h264.split_start_codes(picture.data)
        if not units:
            self.damaged += 1
            return None
        key = h264.is_key(units)
        if key and not self._length_bytes:
            sets = h264.parameter_sets(units)
            if sets is not None:
                self._head = Head("h264", *self._size, h264.avcc(*sets))
        if not self._head.config:
            self.damaged += 1  # nothing says yet how to decode it
            return None
        data = picture.data if self._length_bytes == 4 else h264.join_lengths(units)
        return self._head, Piece(picture.t_ns, picture.decode_ns, data, key)

    def _jpeg(self, picture: Picture) -> tuple[Head, Piece] | None:
        if not picture.data.startswith(JPEG_BEGINS):
            self.damaged += 1
            return None
        return self._head, Piece(picture.t_ns, picture.decode_ns, picture.data, True)


def whole(head: Head, data: bytes) -> bool:
    """Say whether a kept picture looks whole: not cut, not overwritten by zeros."""
    if head.codec == "h264":
        units = h264.split_lengths(data)
        return bool(units)
    # some cameras pad a JPEG picture behind its end
    return data.startswith(JPEG_BEGINS) and data.rstrip(b"\0").endswith(b"\xff\xd9")


def start_codes(head: Head, data: bytes) -> bytes:
    """Return a kept H.264 key picture as a decoder takes it that knows nothing yet: parameter sets first."""
    sps_bytes = int.from_bytes(head.config[6:8], "big")
    at = 8 + sps_bytes
    (pps_bytes,) = struct.unpack_from(">H", head.config, at + 1)
    sets = [head.config[8:at], head.config[at + 3 : at + 3 + pps_bytes]]
    units = h264.split_lengths(data) or []
    return b"".join(b"\0\0\0\1" + unit for unit in [*sets, *units])
