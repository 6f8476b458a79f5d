"""Cameras: each source yields pictures with monotonic times, compressed as they came or raw. One seam of three verbs.

A constructor takes its settings and does no I/O. `read` returns None when `timeout_s` has passed without a picture.
`DriverError` means that the camera is in trouble, `EndError` that a file is over; `close` may be called twice. A call
may hang in a driver for ever: whoever calls has a deadline (agent.dashcam.process).
"""

from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from agent.errors import DriverError

Image = npt.NDArray[np.uint8]
CopyCodec = Literal["h264", "mjpeg"]
COPY_CODECS: Final[tuple[CopyCodec, ...]] = ("h264", "mjpeg")


class EndError(DriverError):
    """A video file is over."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a camera is asked for; one that cannot do it gives what it has."""

    source: str  # a V4L2 device, a URL, or a video file
    width: int
    height: int
    fps: float
    latency_ns: int = 0  # from exposure to the stamp, subtracted where the stamp is not the kernel's own
    pace: float = 1.0  # files: 1 real time, 0 as fast as it goes
    loop: bool = False  # files: begin again at the end
    start_ns: int = 0  # files: monotonic time of the first picture; 0 is now


@dataclass(frozen=True, slots=True)
class Offer:
    """What a camera gives since it was opened; `extradata` are the parameter sets, where they came apart."""

    codec: str  # libav's name; "rawvideo" for images
    width: int
    height: int
    fps: float  # 0 where it does not say
    extradata: bytes = b""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture: compressed in `data`, or as a BGR `image`; times in monotonic ns."""

    t_ns: int
    decode_ns: int
    data: bytes = b""
    image: Image | None = None
    packet: Any = None  # libav's own, for a decoder; holds the same data


class Camera(Protocol):
    """What every source does."""

    name: str

    def open(self) -> Offer:
        """Open the camera; raise DriverError when it cannot be opened."""

    def read(self, timeout_s: float) -> Picture | None:
        """Return the next picture, at the latest after `timeout_s`; raise EndError at the end of a file."""

    def close(self) -> None:
        """Release the camera."""

    @property
    def counts(self) -> dict[str, int]:
        """Return what was met: `stale` pictures, whose stamp did not move on, and `damaged` ones."""


def is_device(source: str) -> bool:
    """Say whether a source is a V4L2 device."""
    return source.startswith("/dev/") and not source.startswith("/dev/shm/")  # files in memory


def is_url(source: str) -> bool:
    """Say whether a source is a stream from the network or from another program."""
    return "://" in source
