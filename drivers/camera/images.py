"""Raw pictures, as BGR images by OpenCV: a V4L2 camera that compresses nothing, or any source that OpenCV can open."""

from typing import Any, Final

import cv2

from agent import clock
from agent.clock import NS_PER_S
from agent.errors import DriverError
from drivers.camera import EndError, Offer, Picture, Wish, is_device, is_url
from drivers.camera.pace import Pace
from drivers.camera.stamps import Stamps

OPEN_MS: Final = 10_000
SILENT_MS: Final = 5_000
_NS_PER_MS: Final = 1_000_000

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # that a camera is away is told once, by us


class Images:
    """A source of raw pictures."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self.name = wish.source
        self._capture: Any = None
        self._stamps = Stamps()
        self._pace: Pace | None = None
        self._stale = 0
        self._frame_ns = 0

    @property
    def counts(self) -> dict[str, int]:
        """Return what was met."""
        return {"stale": self._stale + self._stamps.stale}

    def open(self) -> Offer:
        """Open the source; raise DriverError when there is none."""
        wish = self._wish
        if is_device(wish.source):
            capture = cv2.VideoCapture(wish.source, cv2.CAP_V4L2)
            for name, value in (
                # raw pictures of 720 lines do not fit through USB 2 at 30 a second; OpenCV unpacks JPEG itself
                (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
                (cv2.CAP_PROP_FRAME_WIDTH, wish.width),
                (cv2.CAP_PROP_FRAME_HEIGHT, wish.height),
                (cv2.CAP_PROP_FPS, wish.fps),
                (cv2.CAP_PROP_BUFFERSIZE, 4),
            ):
                capture.set(name, value)  # what it refuses shows in the offer
        else:
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, SILENT_MS]
            capture = cv2.VideoCapture(wish.source, cv2.CAP_FFMPEG, limits)
        if not capture.isOpened():
            capture.release()
            raise DriverError(f"{self.name}: open: OpenCV cannot; is it plugged in, and may this user read it?")
        self._capture = capture
        self._stale += self._stamps.stale
        self._stamps = Stamps(wish.latency_ns)
        self._pace = None if is_device(wish.source) or is_url(wish.source) else Pace(wish)
        fps = capture.get(cv2.CAP_PROP_FPS)
        self._frame_ns = round(NS_PER_S / (fps if fps > 0 else wish.fps))
        width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        return Offer("rawvideo", int(width), int(height), fps)

    def read(self, timeout_s: float) -> Picture | None:
        """Return the next picture; see drivers.camera. OpenCV itself may wait for ten seconds."""
        if self._capture is None:
            raise DriverError(f"{self.name}: read: it is not open")
        if self._pace is not None and self._pace.waiting is not None:
            return self._when_due(self._pace, timeout_s)
        there, image = self._capture.read()
        now_ns = clock.monotonic_ns()
        if not there or image is None:
            self._nothing()
            return None
        stamp_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * _NS_PER_MS)
        if self._pace is not None:
            t_ns, decode_ns = self._pace.times(stamp_ns, stamp_ns, self._frame_ns)
            self._pace.waiting = Picture(t_ns, decode_ns, image=image)
            return self._when_due(self._pace, timeout_s)
        taken_ns = self._stamps.time_of(stamp_ns if stamp_ns > 0 else None, now_ns, clock.wall_minus_monotonic_ns())
        return None if taken_ns is None else Picture(taken_ns, taken_ns, image=image)

    def close(self) -> None:
        """Release the source."""
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.release()

    def _nothing(self) -> None:
        if self._pace is None:
            raise DriverError(f"{self.name}: read: OpenCV got no picture; it is opened again")
        if not self._wish.loop:
            raise EndError(f"{self.name}: read: the file is over")
        self._pace.again()
        self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)

    def _when_due(self, pace: Pace, timeout_s: float) -> Picture | None:
        picture: Picture = pace.waiting
        if not pace.due(picture.t_ns, timeout_s):
            return None
        pace.waiting = None
        return picture
