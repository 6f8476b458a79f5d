"""Decoded pictures: what health looks at, and what is masked, turned, written upon before it is encoded."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import av
import av.error
import cv2
import numpy as np

from agent.dashcam.copying import start_codes
from agent.dashcam.mp4 import Head
from agent.dashcam.settings import CameraSettings
from agent.dashcam.writing import Piece
from drivers.camera import Image, Offer, Picture

MICROSECONDS: Final = Fraction(1, 1_000_000)
_TURNS: Final = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
_BLACK: Final = (16, 128, 128)  # in limited-range Y, U, V (ITU-R BT.601)
_US: Final = 1000  # ns


class Keys:
    """Decode a key picture now and then, for a look at it."""

    def __init__(self) -> None:
        self._decoder: Any = None

    def luma(self, head: Head, piece: Piece) -> Image | None:
        """Return the brightness of a key picture; None when it cannot be decoded."""
        if head.codec == "mjpeg":
            image = cv2.imdecode(np.frombuffer(piece.data, np.uint8), cv2.IMREAD_GRAYSCALE)
            return None if image is None else np.asarray(image, np.uint8)
        try:
            if self._decoder is None:
                self._decoder = av.CodecContext.create("h264", "r")
                self._decoder.options = {"skip_loop_filter": "all"}  # a look needs no beauty
                self._decoder.thread_count = 1
            frames = self._decoder.decode(av.Packet(start_codes(head, piece.data)))
            frames += self._decoder.decode(None)  # it waits for no other picture
            self._decoder.flush_buffers()
        except av.error.FFmpegError:
            self._decoder = None
            return None
        return luma_of(frames[0]) if frames else None


class Decoding:
    """Decode every picture of a session, for encoding."""

    def __init__(self, offer: Offer) -> None:
        self._decoder: Any = None
        if offer.codec != "rawvideo":
            self._decoder = av.CodecContext.create(offer.codec, "r")
            self._decoder.thread_type = "SLICE"  # threads by picture would hold pictures back
            if offer.extradata:
                self._decoder.extradata = offer.extradata
        self.damaged = 0

    def frames(self, picture: Picture) -> list[Any]:
        """Return libav frames with `pts` in monotonic µs; none while a picture waits for another, or is damaged."""
        if picture.image is not None:
            height, width = picture.image.shape[0] // 2 * 2, picture.image.shape[1] // 2 * 2
            planes = cv2.cvtColor(picture.image[:height, :width], cv2.COLOR_BGR2YUV_I420)
            frame = av.VideoFrame.from_ndarray(planes, "yuv420p")  # type: ignore[arg-type]
            frame.pts, frame.time_base = picture.t_ns // _US, MICROSECONDS
            return [frame]
        packet = picture.packet
        packet.pts, packet.dts = picture.t_ns // _US, picture.decode_ns // _US
        packet.time_base = MICROSECONDS
        try:
            return list(self._decoder.decode(packet))
        except av.error.FFmpegError:
            self.damaged += 1
            return []


@dataclass(frozen=True, slots=True)
class Shape:
    """What is done to each picture before it is encoded."""

    width: int  # of the picture that is kept, turned
    height: int
    rotate_deg: int
    masks: tuple[tuple[float, float, float, float], ...]
    overlay: bool

    @classmethod
    def of(cls, camera: CameraSettings) -> "Shape":
        """Return what the settings ask for."""
        sideways = camera.rotate_deg in (90, 270)
        width, height = (camera.height, camera.width) if sideways else (camera.width, camera.height)
        return cls(width, height, camera.rotate_deg, camera.masks, camera.overlay)


def shaped(frame: Any, shape: Shape, text: str) -> Any:
    """Return the frame in its size, masked, turned and with `text` upon it; unchanged pictures are not copied."""
    sideways = shape.rotate_deg in (90, 270)
    width, height = (shape.height, shape.width) if sideways else (shape.width, shape.height)
    pts = frame.pts
    if frame.width != width or frame.height != height or frame.format.name != "yuv420p":
        frame = frame.reformat(width, height, "yuv420p")
    if shape.masks or shape.rotate_deg or shape.overlay:
        planes = _planes(frame.to_ndarray(), width, height)
        for mask in shape.masks:
            _cover(planes, mask)
        if shape.rotate_deg:
            planes = [np.asarray(cv2.rotate(plane, _TURNS[shape.rotate_deg]), np.uint8) for plane in planes]
        if shape.overlay:
            write(planes[0], text)
        joined = np.concatenate([np.ascontiguousarray(plane).reshape(-1) for plane in planes])
        frame = av.VideoFrame.from_ndarray(joined.reshape(-1, shape.width), "yuv420p")
    frame.pts, frame.time_base = pts, MICROSECONDS
    return frame


def write(luma: Image, text: str) -> None:
    """Write a line at the lower left, light on a dark band, so that it can be read over anything."""
    scale = luma.shape[0] / 720  # OpenCV's letters of scale 1 are 22 pixels high: 3 % of 720 lines
    thickness = max(1, round(2 * scale))
    (wide, high), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    bottom = luma.shape[0] - 1
    luma[max(0, bottom - high - 2 * below) :, : wide + 2 * below] = _BLACK[0]
    at = (below, bottom - below)
    cv2.putText(luma, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (235,), thickness, cv2.LINE_8)


def luma_of(frame: Any) -> Image:
    """Return the brightness of a libav frame: its first plane where that is it, not copied."""
    if not frame.format.name.startswith(("yuv", "gray", "nv12")):
        frame = frame.reformat(format="gray")
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[: frame.height, : frame.width]


def _planes(stacked: Image, width: int, height: int) -> list[Image]:
    """Return Y, U and V of a yuv420p array of libav."""
    flat = stacked.reshape(-1)
    quarter = (width // 2) * (height // 2)
    y, u, v = np.split(flat[: width * height + 2 * quarter], [width * height, width * height + quarter])
    return [y.reshape(height, width), u.reshape(height // 2, -1), v.reshape(height // 2, -1)]


def _cover(planes: list[Image], mask: tuple[float, float, float, float]) -> None:
    """Make a region black, outwards to whole pairs of pixels."""
    left, top, width, height = mask
    rows, columns = planes[1].shape
    first_row, last_row = int(top * rows), -int(-(top + height) * rows // 1)
    first_column, last_column = int(left * columns), -int(-(left + width) * columns // 1)
    for plane, level, factor in zip(planes, _BLACK, (2, 1, 1), strict=True):
        plane[first_row * factor : last_row * factor, first_column * factor : last_column * factor] = level
