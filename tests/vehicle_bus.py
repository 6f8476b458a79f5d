"""A small bus for the tests of vehicle work: frames of the simulated car's DBC, written by hand."""

import numpy as np

from agent.blocks import EXTENDED, Frames

MS = 1_000_000
# identifier, period in ms, data: 2000 rpm, no brake, straight on, 4th gear, no force, 90 km/h
CAR = (
    (0xC9, 10, "401F40280000000F"),
    (0xF1, 20, "000000"),
    (0x1E5, 10, "0000"),
    (0x1F5, 100, "05"),
    (0x2F0, 10, "000000000000"),
    (0x348, 10, "23282328"),
    (0x34A, 10, "23282328"),
    (0x3E9, 50, "2823"),
    (0x4C1, 500, "02788200"),
)


def frames(rows: list[tuple[int, int, bytes]], flags: int = 0, width: int = 8) -> Frames:
    """Make frames of (ns, identifier, data), identifiers above 7FF with 29 bits."""
    made = Frames(
        np.array([t for t, _, _ in rows], np.int64),
        np.zeros(len(rows), np.uint8),
        np.array([i for _, i, _ in rows], np.uint32),
        np.array([flags | EXTENDED * (i > 0x7FF) for _, i, _ in rows], np.uint8),
        np.array([len(d) for _, _, d in rows], np.uint8),
        np.zeros((len(rows), width), np.uint8),
    )
    for k, (_, _, data) in enumerate(rows):
        made.data[k, : len(data)] = np.frombuffer(data, np.uint8)
    return made


def car_frames(seconds: int, *more: tuple[int, int, str], spoiled: dict[int, str] | None = None) -> Frames:
    """Make `seconds` of the car, with `more` messages of the same form; `spoiled` replaces the data of some."""
    changed = spoiled or {}
    rows = [
        (t * MS, identifier, bytes.fromhex(changed.get(identifier, data)))
        for identifier, period, data in (*CAR, *more)
        for t in range(0, seconds * 1000, period)
    ]
    return frames(sorted(rows))


def candump(made: Frames, bus: str = "can0", first_s: int = 1_790_000_000) -> str:
    """Write frames as `candump -L` does."""
    lines = []
    for t, i, flags, n, data in zip(
        *(c.tolist() for c in (made.t, made.id, made.flags, made.len)), made.data, strict=True
    ):
        name = f"{i:08X}" if flags & EXTENDED else f"{i:03X}"
        text = data[:n].tobytes().hex().upper()
        lines.append(f"({first_s + t // 10**9}.{t % 10**9 // 1000:06d}) {bus} {name}#{text}\n")
    return "".join(lines)
