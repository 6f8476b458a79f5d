"""From values to CAN frames by the bus database, and from frames to candump text: the wire side of the virtual car."""

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import int64, njit, uint8, uint32

from agent.blocks import Frames, empty_frames
from agent.errors import ConfigError, near_names
from drivers.decode.dbc import Database, Message
from sim.roads import Floats
from sim.sensors import Messages

NS_PER_S: Final = 1_000_000_000
LINE_MAX: Final = 64  # bytes of the longest candump line of an 8-byte frame with a short bus name


def payloads(message: Message, signals: dict[str, Floats], n: int) -> npt.NDArray[np.uint8]:
    """Encode `n` sendings of `message`: uint8[n, 8]; a value beyond the signal's raw range is held at its end.

    A signal called Counter that is not given counts, one called Checksum is the sum of bytes 0..6 modulo 256.
    """
    known = {s.name: s for s in message.signals}
    for name in signals:
        if name not in known:
            raise ConfigError(f"message {message.name} has no signal '{name}'{near_names(name, known)}")
    little = np.zeros(n, np.uint64)
    big = np.zeros(n, np.uint64)
    values = dict(signals)
    if "Counter" in known and "Counter" not in values:
        values["Counter"] = (np.arange(n) % 16).astype(np.float64)
    for name, value in values.items():
        signal = known[name]
        low = -(1 << (signal.length - 1)) if signal.signed else 0
        high = (1 << (signal.length - signal.signed)) - 1
        raw = np.clip(np.round((value - signal.offset) / signal.scale), low, high).astype(np.int64)
        bits = raw.astype(np.uint64) & np.uint64((1 << signal.length) - 1)
        if signal.big_endian:
            big |= bits << np.uint64(64 - signal.first_bit - signal.length)
        else:
            little |= bits << np.uint64(signal.first_bit)
    data = little.astype("<u8").view(np.uint8).reshape(n, 8) | big.astype(">u8").view(np.uint8).reshape(n, 8)
    if "Checksum" in known:
        byte = known["Checksum"].start // 8
        data[:, byte] = data[:, :byte].sum(axis=1, dtype=np.int64) & 255
    return data


def encode(database: Database, sent: Iterable[Messages], answers: tuple[Floats, Frames] | None = None) -> Frames:
    """Make the bus's frames, in the order of time (ns since the drive began, whole µs as candump writes them)."""
    by_name = {m.name: m for m in database.messages}
    parts: list[tuple[Floats, int, int, npt.NDArray[np.uint8]]] = []
    for batch in sent:
        if batch.name not in by_name:
            raise ConfigError(f"{database.path}: no message '{batch.name}'{near_names(batch.name, by_name)}")
        message = by_name[batch.name]
        parts.append((batch.t, message.id, message.length, payloads(message, batch.signals, len(batch.t))))
    total = sum(len(p[0]) for p in parts) + (len(answers[0]) if answers else 0)
    frames = empty_frames(total)
    seconds = np.empty(total)
    i = 0
    for t, identifier, length, data in parts:
        seconds[i : i + len(t)] = t
        frames.id[i : i + len(t)] = identifier
        frames.len[i : i + len(t)] = length
        frames.data[i : i + len(t), :] = data
        i += len(t)
    if answers:
        seconds[i:] = answers[0]
        frames.id[i:], frames.len[i:], frames.data[i:] = answers[1].id, answers[1].len, answers[1].data
    microseconds = np.round(seconds * 1e6).astype(np.int64)
    order = np.lexsort((frames.id, microseconds))  # of two frames at once the lower identifier wins the bus
    return Frames(
        microseconds[order] * 1000,
        frames.bus,
        frames.id[order],
        frames.flags,
        frames.len[order],
        frames.data[order],
    )


def take(frames: Frames, part: slice) -> Frames:
    """Return a stretch of `frames`, without copying."""
    return Frames(
        frames.t[part], frames.bus[part], frames.id[part], frames.flags[part], frames.len[part], frames.data[part]
    )


@njit(
    int64(int64[::1], uint32[::1], uint8[::1], uint8[:, ::1], int64, uint8[::1], uint8[::1]),
    cache=True,
    nogil=True,
)
def candump_lines(t, identifiers, lengths, data, offset_ns, bus, out):  # type: ignore[no-untyped-def]
    """Write `(seconds.microseconds) bus ID#DATA` lines for classic frames with 11-bit ids; return the bytes written.

    t int64[n] ns · identifiers uint32[n] · lengths uint8[n] · data uint8[n, 8] · bus, out ASCII bytes.
    """
    at = 0
    for i in range(len(t)):
        microseconds = (t[i] + offset_ns) // 1000
        seconds = microseconds // 1_000_000
        rest = microseconds - seconds * 1_000_000
        digits = 1
        power = 10
        while power <= seconds:
            power *= 10
            digits += 1
        out[at] = 40
        for d in range(digits):
            out[at + digits - d] = 48 + seconds % 10
            seconds //= 10
        at += digits + 1
        out[at] = 46
        for d in range(6):
            out[at + 6 - d] = 48 + rest % 10
            rest //= 10
        at += 7
        out[at] = 41
        out[at + 1] = 32
        at += 2
        for b in bus:
            out[at] = b
            at += 1
        out[at] = 32
        at += 1
        for shift in (8, 4, 0):
            nibble = (identifiers[i] >> shift) & 15
            out[at] = 48 + nibble if nibble < 10 else 55 + nibble
            at += 1
        out[at] = 35
        at += 1
        for b in range(lengths[i]):
            high = data[i, b] >> 4
            low = data[i, b] & 15
            out[at] = 48 + high if high < 10 else 55 + high
            out[at + 1] = 48 + low if low < 10 else 55 + low
            at += 2
        out[at] = 10
        at += 1
    return at


def candump_text(frames: Frames, offset_ns: int, bus: str) -> bytes:
    """Return candump log text for `frames`; times are `t + offset_ns`."""
    name = np.frombuffer(bus.encode("ascii"), np.uint8).copy()
    out = np.empty(len(frames.t) * (LINE_MAX + len(name)), np.uint8)
    size = candump_lines(frames.t, frames.id, frames.len, frames.data, offset_ns, name, out)
    return out[:size].tobytes()
