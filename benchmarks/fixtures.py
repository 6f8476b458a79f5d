"""Long recordings for benchmarks, written fast and the same on every run."""

from pathlib import Path
from typing import Final

import numpy as np

# (id, period in ms) on two 500 kbit/s buses, as a car of 2017 fills them: ~1,650 frames/s together
_MIX: Final = (
    (
        (0x025, 12), (0x0AA, 12), (0x0B4, 24), (0x1C4, 24), (0x1D0, 24), (0x224, 33), (0x260, 12), (0x262, 20),
        (0x2C1, 32), (0x2E4, 10), (0x343, 33), (0x3B7, 60), (0x3BC, 60), (0x4CB, 300), (0x610, 100), (0x620, 300),
        (0x18FEF100, 100), (0x7E8, 50),
    ),
    (*((0x210 + k, 50 if k < 16 else 60) for k in range(32)), (0x141, 20), (0x160, 50), (0x680, 30)),
)  # fmt: skip
_HEX: Final = np.frombuffer(b"0123456789ABCDEF", np.uint8)
_AT_ONCE: Final = 200_000


def write_long_candump(path: Path, n_frames: int, *, start_s: int = 1_700_000_000, seed: int = 1) -> None:
    """Write a candump log of `n_frames` 8-byte frames with realistic ids, periods and two buses; time never falls."""
    ids, buses, offsets_us, cycle_us = _cycle()
    chance = np.random.default_rng(seed)
    with path.open("wb") as file:
        for at in range(0, n_frames, _AT_ONCE):
            n = np.arange(at, min(at + _AT_ONCE, n_frames))
            k = n % len(ids)
            t_us = n // len(ids) * cycle_us + offsets_us[k]
            data = chance.integers(0, 256, (len(n), 8), dtype=np.uint8)
            data[:, :4] = (n[:, None] >> (8 * np.arange(4))) & 255  # counters compress and change like real signals
            file.write(_lines(start_s, t_us, buses[k], ids[k], data))


def _cycle() -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return ids, buses and offsets (µs) of all frames of 3.3 s of the mix, in order of time, and its length (µs)."""
    cycle_us = 3_300_000
    frames = [
        (t, bus, ident)
        for bus, mix in enumerate(_MIX)
        for k, (ident, period_ms) in enumerate(mix)
        for t in range(k * 137 % (period_ms * 1000), cycle_us, period_ms * 1000)
    ]
    offsets, buses, ids = np.array(sorted(frames)).T
    return ids, buses, offsets, cycle_us


def _lines(start_s: int, t_us: np.ndarray, bus: np.ndarray, ids: np.ndarray, data: np.ndarray) -> bytes:
    """Write frames as candump lines, all 29 bits wide in memory; short ids lose their five leading digits."""
    n = len(t_us)
    template = np.frombuffer(b"(0000000000.000000) can0 00000000#0000000000000000\n", np.uint8)
    text = np.tile(template, (n, 1))
    seconds, micros = start_s + t_us // 1_000_000, t_us % 1_000_000
    for k in range(10):
        text[:, 10 - k] = 48 + seconds // 10**k % 10
    for k in range(6):
        text[:, 17 - k] = 48 + micros // 10**k % 10
    text[:, 23] = 48 + bus
    for k in range(8):
        text[:, 32 - k] = _HEX[(ids >> (4 * k)) & 15]
    text[:, 34:50:2] = _HEX[data >> 4]
    text[:, 35:50:2] = _HEX[data & 15]
    keep = np.ones(text.shape, bool)
    keep[ids <= 0x7FF, 25:30] = False
    return text[keep].tobytes()
