"""Speed of OBD on CAN: frames that are not OBD, frames that are, beside plain Python and a copy of the same memory."""

import time

import numpy as np

from agent.blocks import Frames, empty_frames
from drivers.decode.j1979 import parameters, values
from drivers.decode.obd import ObdDecoder

FRAMES = 4_000_000
ROUNDS = 5


def _frames(share_obd: float) -> Frames:
    frames = empty_frames(FRAMES)
    rng = np.random.default_rng(1)
    frames.t[:] = np.arange(FRAMES) * 250_000
    frames.id[:] = rng.integers(0, 0x7E0, FRAMES)
    frames.len[:] = 8
    frames.data[:] = rng.integers(0, 256, (FRAMES, 8))
    obd = rng.random(FRAMES) < share_obd
    frames.id[obd] = 0x7E8
    answers = np.array([[3, 0x41, 0x0D, 50, 0, 0, 0, 0], [4, 0x41, 0x0C, 0x1A, 0xF8, 0, 0, 0]], np.uint8)
    frames.data[obd] = answers[np.arange(int(obd.sum())) % 2]
    return frames


def _best(run: object) -> float:
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        run()  # type: ignore[operator]
        times.append(time.perf_counter() - begin)
    return min(times)


def _plain(frames: Frames, n: int) -> int:
    made = 0
    for i in range(n):
        if 0x7E8 <= frames.id[i] <= 0x7EF and 1 <= frames.data[i, 0] <= 7 and frames.data[i, 1] == 0x41:
            payload = frames.data[i, 1 : 1 + frames.data[i, 0]].tobytes()
            made += sum(1 for pid, data in parameters(payload) for _ in values(pid, data))
    return made


def main() -> None:
    """Print millions of frames per second and ratios."""
    print(f"{'':34}{'M frames/s':>12}{'× plain Python':>16}")
    for name, share in (("no frame is OBD", 0.0), ("1 frame in 100 is OBD", 0.01), ("every frame is OBD", 1.0)):
        frames = _frames(share)
        decoder = ObdDecoder()
        decoder.decode(Frames(*(column[:1000] for column in frames)))
        rate = FRAMES / _best(lambda d=decoder, f=frames: d.decode(f)) / 1e6
        begin = time.perf_counter()
        _plain(frames, FRAMES // 100)
        plain = FRAMES / 100 / (time.perf_counter() - begin) / 1e6
        print(f"{name:34}{rate:12.1f}{rate / plain:16.0f}")
    frames = _frames(0.0)
    copy = FRAMES / _best(lambda: [column.copy() for column in frames]) / 1e6
    print(f"{'limit: copy of the frames':34}{copy:12.1f}")
