"""The road ahead of the virtual car as a video; every picture carries its number and its time, readable from it.

The picture is plain (a road that bends, dashes that come nearer, a horizon that pitches with the body, a jolt when
something hits), but its time is exact: two rows of black and white cells at the top hold the picture's number and the
milliseconds since the drive began, with a checksum, and survive any encoder.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from sim.drive import Drive

Image = npt.NDArray[np.uint8]

CELLS: Final = 32  # in a row: 24 bits of value, 8 of checksum
ROWS: Final = 2
SEEN_M: Final = 60.0  # of road
DASH_M: Final = 12.0  # from one dash of the middle line to the next, half of it painted
JOLT_S: Final = 0.4


def render(
    drive: "Drive",
    path: Path,
    from_s: float,
    until_s: float,
    *,
    size: tuple[int, int] = (1280, 720),
    fps: int = 30,
    bit_rate: int = 2_000_000,
    frozen_s: tuple[float, float] = (0.0, 0.0),
) -> int:
    """Write what a dashcam at 30 pictures a second sees of a stretch of the drive, as H.264 in MP4; return how many.

    Times are of the drive. A key frame stands at every second. During `frozen_s` the camera gives the same old picture.
    """
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "tune": "zerolatency"})
        stream.width, stream.height = size
        stream.pix_fmt, stream.bit_rate, stream.gop_size = "yuv420p", bit_rate, fps
        count = 0
        shown: Image | None = None
        for image in pictures(drive, from_s, until_s, size, fps):
            frozen = frozen_s[0] <= from_s + count / fps < frozen_s[1]
            shown = shown if frozen and shown is not None else image
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="bgr24")))
            count += 1
        container.mux(stream.encode())
    return count


def pictures(drive: "Drive", from_s: float, until_s: float, size: tuple[int, int], fps: int) -> Iterator[Image]:
    """Yield the pictures, uint8[height, width, 3] in BGR."""
    from sim.vehicle import DT

    last = len(drive.motion.speed) - 1
    for number in range(int((until_s - from_s) * fps)):
        t_s = from_s + number / fps
        image = _view(drive, min(int(t_s / DT), last), t_s, size)
        write_code(image, number, round(t_s * 1000))
        yield image


def write_code(image: Image, number: int, t_ms: int) -> None:
    """Write two rows of cells at the top of the picture: its number, and its time in ms (24 bits each)."""
    side = image.shape[1] // CELLS
    for row, value in enumerate((number, t_ms)):
        bits = _bits(value)
        line = np.repeat(np.where(bits, 255, 0).astype(np.uint8), side)
        image[row * side : (row + 1) * side, : CELLS * side] = line[None, :, None]


def read_code(image: Image) -> tuple[int, int] | None:
    """Read number and time (ms) from a picture, whatever its size; None where the cells say nothing."""
    side = image.shape[1] // CELLS
    grey = image.mean(axis=2) if image.ndim == 3 else image
    found = []
    for row in range(ROWS):
        cells = grey[row * side : (row + 1) * side, : CELLS * side].reshape(side, CELLS, side)
        core = cells[side // 4 : -(side // 4) or None, :, side // 4 : -(side // 4) or None].mean(axis=(0, 2))
        bits = core > 127
        value = int(np.packbits(bits[:24]).astype(np.int64) @ np.array([65536, 256, 1]))
        if not np.array_equal(_bits(value), bits):
            return None
        found.append(value)
    return found[0], found[1]


def _bits(value: int) -> npt.NDArray[np.bool_]:
    data = value.to_bytes(3, "big")
    return np.unpackbits(np.frombuffer(data + bytes([zlib.crc32(data) & 255]), np.uint8)).astype(np.bool_)


def _view(drive: "Drive", step: int, t_s: float, size: tuple[int, int]) -> Image:
    """Draw the road as it lies before the car."""
    import cv2

    width, height = size
    motion = drive.motion
    jolt = 0.0
    for hit in drive.collisions:
        since = t_s - hit.t_s
        if 0.0 <= since < JOLT_S:
            jolt += np.exp(-since / 0.12) * np.sin(2 * np.pi * 9.0 * since) * min(hit.ring_mps2 / 20.0, 2.0)
    horizon = int(height * (0.45 + 0.8 * (float(motion.pitch[step]) + 0.06 * jolt)))
    image = np.empty((height, width, 3), np.uint8)
    image[:] = (90, 130, 90)
    image[: max(horizon, 0)] = (230, 200, 160)
    ahead = np.geomspace(1.2, SEEN_M, 48)
    middle = 0.5 * float(motion.curvature[step]) * ahead**2  # m to the left
    scale = 1.1 * height / ahead  # pixels per metre
    below = np.clip(horizon + 1.2 * scale, -height, 2 * height)
    across = width / 2 + 0.25 * width * jolt - middle * scale

    def line(offset_m: float) -> npt.NDArray[np.int32]:
        return np.stack([across + offset_m * scale, below], axis=1).astype(np.int32)

    cv2.fillPoly(image, [np.concatenate([line(-3.6), line(3.6)[::-1]])], (70, 70, 75))
    for edge in (-3.5, 3.5):
        cv2.polylines(image, [line(edge)], False, (235, 235, 235), max(1, height // 180))
    painted = (ahead + float(motion.distance[step])) % DASH_M < DASH_M / 2
    centre = line(0.0)
    for i in np.flatnonzero(painted[:-1]):
        cv2.line(image, centre[i].tolist(), centre[i + 1].tolist(), (235, 235, 235), max(1, height // 150))
    gap_m = _gap(drive, step, t_s)
    if gap_m is not None and gap_m < SEEN_M:  # the car that it runs into
        at = int(np.searchsorted(ahead, gap_m))
        x, y, metre = int(across[min(at, 47)]), int(horizon + 1.32 * height / gap_m), 1.1 * height / gap_m
        cv2.rectangle(image, (int(x - 0.9 * metre), int(y - 1.4 * metre)), (int(x + 0.9 * metre), y), (60, 45, 140), -1)
        lamp = (40, 40, 250)
        for side in (-0.75, 0.75):
            cv2.circle(image, (int(x + side * metre), int(y - 0.7 * metre)), max(2, int(0.12 * metre)), lamp, -1)
    if abs(motion.roll[step]) > 0.3:
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), -float(np.degrees(motion.roll[step])), 1.0)
        image = np.asarray(cv2.warpAffine(image, turn, size), dtype=np.uint8)
    noise = np.random.default_rng(step).integers(0, 6, (height // 4, width // 4, 1), np.uint8)
    image += np.repeat(np.repeat(noise, 4, axis=0), 4, axis=1)[:height, :width]
    text = f"{t_s:8.2f} s  {3.6 * float(motion.speed[step]):3.0f} km/h"
    at_text = (width // 32, height - height // 20)
    cv2.putText(image, text, at_text, cv2.FONT_HERSHEY_SIMPLEX, height / 720, (255, 255, 255), 2, cv2.LINE_AA)
    return image


def _gap(drive: "Drive", step: int, t_s: float) -> float | None:
    """Return how far ahead (m) the car is that this one will run into, None where there is none."""
    from sim.vehicle import DT

    for hit in drive.collisions:
        if hit.forward_mps < -1.0:
            way = float(drive.motion.distance[round(hit.t_s / DT)] - drive.motion.distance[step])
            return 2.2 + max(way, 0.0)
    return None
