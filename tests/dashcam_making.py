"""Cameras for the dashcam's tests: video files made here, sources that misbehave, and a process to be killed."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from agent import clock
from agent.dashcam.process import Dashcam
from agent.dashcam.settings import CameraSettings, DashcamConfig
from drivers.camera import EndError, Offer, Picture, Wish

BOOT = "0123456789abcdef0123456789abcdef"
S = 1_000_000_000


def scene(i: int, width: int = 320, height: int = 180, *, still: bool = False, noise: float = 3.0) -> np.ndarray:
    """A road-like picture: edges, a moving square, a sensor's noise."""
    rng = np.random.default_rng(i)
    image = np.full((height, width, 3), 90, np.uint8)
    for k in range(0, width, 20):
        cv2.line(image, (k, 0), (width // 2, height), (200, 200, 200), 1)
    x = 0 if still else (7 * i) % (width - 30)
    cv2.rectangle(image, (x, 40), (x + 30, 70), (0, 80, 230), -1)
    return np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8)


def film(
    path: Path,
    codec: str,
    seconds: float,
    fps: int = 30,
    *,
    gop: int = 30,
    size: tuple[int, int] = (320, 180),
    picture: Callable[[int], np.ndarray] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a video file; `picture(i)` gives BGR images of `size`."""
    width, height = size
    picture = picture or (lambda i: scene(i, width, height))
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height = width, height
        stream.pix_fmt = {"mjpeg": "yuvj420p", "rawvideo": "bgr24"}.get(codec, "yuv420p")
        stream.codec_context.gop_size = gop
        stream.codec_context.bit_rate = 1_000_000
        for i in range(round(seconds * fps)):
            frame = av.VideoFrame.from_ndarray(picture(i), "bgr24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = i, Fraction(1, fps)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def film_h264(path: Path, seconds: float, **more) -> Path:
    return film(path, "libx264", seconds, options={"preset": "ultrafast", "bf": "0", "sc_threshold": "0"}, **more)


def config(camera: CameraSettings | dict[str, CameraSettings], **more) -> DashcamConfig:
    cameras = camera if isinstance(camera, dict) else {"front": camera}
    return DashcamConfig(min_free_bytes=0, cameras=cameras, **more)


def run_whole(settings: DashcamConfig, folder: Path, **more) -> Dashcam:
    """Run until all files are over."""
    dashcam = Dashcam(settings, folder, boot=BOOT, **more)
    dashcam.run()
    return dashcam


def fast(source: Path, **more) -> CameraSettings:
    """A file that is read as fast as it goes, from second 1000 on."""
    return CameraSettings(
        **({"source": str(source), "pace": 0.0, "start_ns": 1000 * S, "width": 320, "height": 180} | more)
    )


class Script:
    """A source that gives what a generator gives: pictures, None for silence, errors raised, "hang" for ever."""

    def __init__(self, wish: Wish, steps: Iterator, offer: Offer) -> None:
        self.name = wish.source
        self._steps = steps
        self._offer = offer
        self.counts: dict[str, int] = {}

    def open(self) -> Offer:
        return self._offer

    def read(self, timeout_s: float) -> Picture | None:
        step = next(self._steps, EndError("over"))
        if isinstance(step, Exception):
            raise step
        if step == "hang":
            threading.Event().wait()  # as a driver that never returns
        if step is None:
            clock.wait(threading.Event(), min(timeout_s, 0.05))
        return step

    def close(self) -> None:
        pass


def raw(image: np.ndarray, t_ns: int) -> Picture:
    return Picture(t_ns, t_ns, image=image)


def running(arguments: list[str], cwd: Path) -> subprocess.Popen:
    command = [sys.executable, "-W", "ignore", "-c", "from agent.cli import main; main()", "dashcam", *arguments]
    return subprocess.Popen(command, cwd=cwd, stderr=subprocess.PIPE, text=True)
