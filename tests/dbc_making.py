"""Hypothesis strategies for DBC files and frames, written so that cantools reads them too."""

import random
from dataclasses import dataclass

from hypothesis import strategies as st

SCALES = ["1", "0.5", "0.01", "-0.25", "2", "1E-3", "10", "0.1", "0.03589"]
OFFSETS = ["0", "-40", "0.5", "1000", "-67.67"]
LENGTHS = [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64]  # what CAN and CAN FD can carry


@dataclass(frozen=True)
class Made:
    """The text of a DBC file, and frames (identifier, extended, data) for it."""

    text: str
    frames: list[tuple[int, bool, bytes]]


def _layout(draw: st.DrawFn, first: int, end: int, prefix: str) -> tuple[list[str], list[str]]:
    """Fill bytes `first`..`end` with signals that do not overlap; return (name, rest of the line) and float lines."""
    signals, floats = [], []
    while first < end and len(signals) < 12:
        size = draw(st.integers(1, min(9, end - first)))
        skew = draw(st.integers(0, 7))
        room = min(64, 8 * size - skew)
        length = draw(st.one_of(st.integers(1, room), st.just(room)))
        name = f"{prefix}{len(signals)}"
        if length >= 32 and draw(st.booleans()):
            length = 64 if length == 64 else 32
            floats.append(f"{name} : {length // 32}")
        order = draw(st.booleans())
        bit = 8 * first + skew
        start = bit if order else 8 * (bit // 8) + 7 - bit % 8
        sign = draw(st.sampled_from("+-"))
        scale, offset = draw(st.sampled_from(SCALES)), draw(st.sampled_from(OFFSETS))
        signals.append(f'{name}|: {start}|{length}@{int(order)}{sign} ({scale},{offset}) [0|0] "" X')
        first += size
    return signals, floats


@st.composite
def made(draw: st.DrawFn) -> Made:
    """Draw a DBC of up to three messages, plain or multiplexed (in two levels too), with frames of any length."""
    lines: list[str] = []
    tail: list[str] = []
    ids: list[tuple[int, bool, int]] = []
    for m in range(draw(st.integers(1, 3))):
        extended = draw(st.booleans())
        number = draw(st.integers(0, 50)) * 4 + m if not extended else 0x18000000 + draw(st.integers(0, 2**20)) * 4 + m
        length = draw(st.sampled_from(LENGTHS))
        ids.append((number, extended, length))
        dbc_id = number | (0x80000000 if extended else 0)
        lines.append(f"BO_ {dbc_id} M{m}: {length} X")
        kind = draw(st.sampled_from(["plain", "mux", "nested"])) if length >= 6 else "plain"
        if kind == "plain":
            signals, floats = _layout(draw, 0, length, "S")
            lines += [f" SG_ {s.replace('|', ' ', 1)}" for s in signals]
        else:
            lines.append(' SG_ Page M : 0|3@1+ (1,0) [0|0] "" X')
            floats = []
            first = 1
            if kind == "nested":
                lines.append(' SG_ Sub m1M : 15|3@0+ (1,0) [0|0] "" X')
                tail.append(f"SG_MUL_VAL_ {dbc_id} Sub Page 1-1;")
                first = 2
            for page in range(3):
                signals, more = _layout(draw, first, length - 1, f"P{page}_")
                floats += more
                lines += [f" SG_ {s.replace('|', f' m{page} ', 1)}" for s in signals]
                parent, ranges = ("Sub", "1-1, 4-6") if kind == "nested" and page == 1 else ("Page", f"{page}-{page}")
                if kind == "nested":
                    tail += [f"SG_MUL_VAL_ {dbc_id} {s.split('|')[0]} {parent} {ranges};" for s in signals]
            lines.append(f' SG_ Last : {8 * length - 8}|8@1- (0.5,1) [0|0] "" X')
        tail += [f"SIG_VALTYPE_ {dbc_id} {f};" for f in floats]
    rng = random.Random(draw(st.integers(0, 2**32)))
    frames = []
    for _ in range(draw(st.integers(1, 60))):
        number, extended, length = rng.choice(ids)
        size = rng.choice([*[length] * 4, *range(9), 12, 16, 64])
        data = bytearray(rng.choice([rng.randbytes(size), bytes(size), b"\xff" * size]))
        if data and rng.random() < 0.8:
            data[0] = data[0] & 0xF8 | rng.randrange(3)  # mostly a page that exists
        frames.append((number, extended, bytes(data)))
    return Made('VERSION ""\n\nBU_: X\n\n' + "\n".join([*lines, "", *tail]) + "\n", frames)
