"""The best encoder that works here, found by trying: each candidate is opened and has to encode a picture."""

import logging
from fractions import Fraction
from typing import Any, Final

import av
import av.error

from agent.dashcam.copying import Copying
from agent.dashcam.mp4 import Head
from agent.dashcam.pictures import MICROSECONDS
from agent.dashcam.settings import CameraSettings
from agent.dashcam.writing import Piece
from agent.errors import DriverError
from drivers.camera import Picture

log = logging.getLogger(__name__)

# best first: the board's own (a Pi 4 has one, a Pi 5 none), then x264, then single pictures, which cost most bytes
CANDIDATES: Final = ("h264_v4l2m2m", "libx264", "mjpeg")
_OPTIONS: Final[dict[str, dict[str, str]]] = {
    "h264_v4l2m2m": {},
    "libx264": {"preset": "ultrafast", "tune": "zerolatency", "forced-idr": "1"},
    "mjpeg": {},
}
_TRIAL_PICTURES: Final = 8  # hardware holds some back; one that gives nothing for so many does not work
_US: Final = 1000  # ns


class Encoding:
    """An encoder at work; raises DriverError when none works."""

    def __init__(self, camera: CameraSettings, width: int, height: int, segment_s: float) -> None:
        reasons = []
        for name in CANDIDATES if camera.encoder == "auto" else (camera.encoder,):
            try:
                _trial(name, camera, width, height, segment_s)
                self._context = _opened(name, camera, width, height, segment_s)
                break
            except (av.error.FFmpegError, ValueError, OSError) as e:
                reasons.append(f"{name}: {getattr(e, 'strerror', None) or e}")
        else:
            raise DriverError(f"{camera.source}: encode: no encoder works ({'; '.join(reasons)})")
        self.name = name
        self._copying = Copying("mjpeg" if name == "mjpeg" else "h264", width, height, b"")
        log.info("%s: encodes %dx%d by %s", camera.source, width, height, name)

    def pieces(self, frame: Any, *, key: bool) -> list[tuple[Head, Piece]]:
        """Encode a frame whose `pts` is in µs; what comes out may be of an earlier one. Raises DriverError."""
        if frame.format.name != self._context.pix_fmt:
            pts = frame.pts
            frame = frame.reformat(format=self._context.pix_fmt)  # JPEG uses all 256 levels
            frame.pts, frame.time_base = pts, MICROSECONDS
        frame.pict_type = av.video.frame.PictureType.I if key else av.video.frame.PictureType.NONE
        try:
            packets = self._context.encode(frame)
        except (av.error.FFmpegError, ValueError) as e:
            raise DriverError(f"{self.name}: encode: {e}; the encoder is opened again") from None
        return self._kept(packets)

    def rest(self) -> list[tuple[Head, Piece]]:
        """Return what the encoder still holds, and end it."""
        try:
            return self._kept(self._context.encode(None))
        except (av.error.FFmpegError, ValueError):
            return []

    def _kept(self, packets: list[Any]) -> list[tuple[Head, Piece]]:
        found = []
        for packet in packets:
            t_ns = round(packet.pts * packet.time_base / MICROSECONDS) * _US
            piece = self._copying.piece(Picture(t_ns, t_ns, bytes(packet)))
            if piece is not None:
                found.append(piece)
        return found


def _opened(name: str, camera: CameraSettings, width: int, height: int, segment_s: float) -> Any:
    context: Any = av.CodecContext.create(name, "w")
    context.width, context.height = width, height
    context.pix_fmt = "yuvj420p" if name == "mjpeg" else "yuv420p"
    context.time_base = MICROSECONDS
    context.framerate = Fraction(camera.fps).limit_denominator(1001)
    context.bit_rate = camera.bit_rate
    context.gop_size = max(1, round(camera.fps * segment_s))  # keys are asked for; this is for a driver that is deaf
    context.max_b_frames = 0
    context.thread_count = camera.encoder_threads
    limits = {"maxrate": str(camera.bit_rate), "bufsize": str(camera.bit_rate)} if name == "libx264" else {}
    context.options = _OPTIONS[name] | limits
    context.open()
    return context


def _trial(name: str, camera: CameraSettings, width: int, height: int, segment_s: float) -> None:
    """Encode grey pictures until one comes out; raise what libav raises, ValueError when none does."""
    context = _opened(name, camera, width, height, segment_s)
    for i in range(_TRIAL_PICTURES):
        frame = av.VideoFrame(width, height, context.pix_fmt)
        for plane in frame.planes:
            plane.update(bytes([128]) * plane.buffer_size)
        frame.pts, frame.time_base = i * round(1e6 / camera.fps), MICROSECONDS
        if context.encode(frame):
            return
    raise ValueError(f"took {_TRIAL_PICTURES} pictures and gave none")
