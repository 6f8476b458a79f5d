"""What the pictures show around time zero: a poster, and how much the scene jumped. A number, never a decision."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np
import numpy.typing as npt

from agent.clip.cut import MICROSECONDS, Clip
from agent.clock import NS_PER_S

POSTER_WIDTH: Final = 1280
POSTER_QUALITY: Final = 85
LOOK_WIDTH: Final = 160  # a jolt moves the whole picture: small ones show it, and lose the sensor's noise
BEFORE_S: Final = (5.0, 0.5)  # what is usual is measured so long before time zero …
AROUND_S: Final = (0.15, 0.6)  # … and the jump so long before and after it
_US: Final = 1000

Grey = npt.NDArray[np.uint8]


def poster(clip: Clip, folder: Path, t0_ns: int) -> bytes | None:
    """Return the picture nearest after time zero as a JPEG, None where the clip does not hold it."""
    chosen = None
    for t_ns, frame in _frames(clip, folder, t0_ns - NS_PER_S):
        chosen = frame
        if t_ns >= t0_ns:
            break
    if chosen is None:
        return None
    image = chosen.to_ndarray(format="bgr24")
    height, width = image.shape[:2]
    if width > POSTER_WIDTH:
        image = cv2.resize(image, (POSTER_WIDTH, height * POSTER_WIDTH // width), interpolation=cv2.INTER_AREA)
    good, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, POSTER_QUALITY])
    return data.tobytes() if good else None


def motion(clip: Clip, folder: Path, t0_ns: int) -> dict[str, float] | None:
    """Measure how the picture jumped at time zero, against the seconds before; None where it does not show them.

    `jump` is the largest change of brightness between two pictures around time zero over the median change before it;
    `shift_share` the largest shift of the whole picture, as a share of its width; `jump_s` when the jump was.
    """
    usual: list[float] = []
    around: list[tuple[float, float, float]] = []
    before: Grey | None = None
    window: Any = None
    for t_ns, frame in _frames(clip, folder, t0_ns - round(BEFORE_S[0] * NS_PER_S)):
        at_s = (t_ns - t0_ns) / NS_PER_S
        if at_s > AROUND_S[1]:
            break
        grey: Grey = frame.reformat(
            width=LOOK_WIDTH, height=max(2, round(LOOK_WIDTH * frame.height / frame.width / 2) * 2), format="gray"
        ).to_ndarray()
        if before is not None:
            if window is None:
                window = cv2.createHanningWindow((grey.shape[1], grey.shape[0]), cv2.CV_32F)
            change = float(np.abs(grey.astype(np.int16) - before).mean())
            if at_s < -BEFORE_S[1]:
                usual.append(change)
            elif at_s >= -AROUND_S[0]:
                (dx, dy), _ = cv2.phaseCorrelate(before.astype(np.float32), grey.astype(np.float32), window)
                around.append((change, float(np.hypot(dx, dy)) / grey.shape[1], at_s))
        before = grey
    if not usual or not around:
        return None
    change, _, at_s = max(around)
    return {
        "jump": round(change / max(float(np.median(usual)), 0.1), 2),
        "jump_s": round(at_s, 3),
        "shift_share": round(max(shift for _, shift, _ in around), 4),
    }


def _frames(clip: Clip, folder: Path, from_ns: int) -> Iterator[tuple[int, Any]]:
    """Yield the pictures from a time on, decoded from the key picture before it."""
    with av.open(str(folder / clip.name)) as container:
        stream = container.streams.video[0]
        start_us = max(0, (from_ns - clip.start_ns) // _US)
        assert stream.time_base is not None
        container.seek(int(start_us * MICROSECONDS / stream.time_base), stream=stream, backward=True)
        for frame in container.decode(stream):
            if frame.pts is None or frame.time_base is None:
                continue
            t_ns = clip.start_ns + round(frame.pts * frame.time_base / MICROSECONDS) * _US
            if t_ns >= from_ns:
                yield t_ns, frame
