"""Play a tape on the wires in real time or faster. One clock for all wires, on a fixed grid, so nothing drifts."""

import threading
from collections.abc import Sequence
from typing import Any, Final

from agent.clock import NS_PER_S, monotonic_ns, wait
from agent.errors import ConfigError
from sim.tape import Tape
from sim.wire_faults import FAULTS, Planned, check
from sim.wires import Wires

MOST_SPEED: Final = 100.0  # 70,000 frames/s of the virtual car: more than any serial line carries
TICK_NS: Final = 10_000_000  # a USB adapter hands frames over every few milliseconds


def speed_of(text: str) -> float:
    """Read a speed, "1x" or "2.5x" (the x may be left out); raise ConfigError when it is none above 0."""
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not 0.0 < speed <= MOST_SPEED:
        raise ConfigError(f"--speed {text}: write 1x for real time, or up to {MOST_SPEED:g}x")
    return speed


def play(
    tape: Tape,
    wires: Wires,
    stop: threading.Event,
    *,
    speed: float = 1.0,
    faults: Sequence[Planned] = (),
    most_s: float | None = None,
    start_ns: int | None = None,
) -> dict[str, Any]:
    """Play until the tape ends, `most_s` seconds of it have been played, or `stop` is set; return what was given.

    The tape's t = 0 is the monotonic `start_ns`, which must have come; now where it is not given.
    Raises ConfigError for a fault on a wire that is not there.
    """
    check(faults, wires)
    turns = sorted(
        [(round(f.start_s * NS_PER_S), True, f.name) for f in faults]
        + [(round(f.end_s * NS_PER_S), False, f.name) for f in faults],
        key=lambda turn: turn[0],
    )
    happened: list[str] = []
    start_ns = monotonic_ns() if start_ns is None else start_ns
    tape_ns = late_ns = 0
    tick = 0
    while True:
        now_ns = monotonic_ns()
        late_ns = max(late_ns, now_ns - start_ns - tick * TICK_NS)
        tape_ns = int((now_ns - start_ns) * speed)
        while turns and turns[0][0] <= tape_ns:
            _, on, name = turns.pop(0)
            FAULTS[name].switch(wires, on)
            happened += [name] if on else []
        frames, block = tape.take(tape_ns)
        wires.play(frames, block, tape_ns, start_ns, speed)
        if tape.ended or (most_s is not None and tape_ns >= most_s * NS_PER_S):
            break
        tick = (monotonic_ns() - start_ns) // TICK_NS + 1
        if wait(stop, max(start_ns + tick * TICK_NS - monotonic_ns(), 0) / NS_PER_S):
            break
    return {
        "played_s": round(tape_ns / NS_PER_S, 3),
        "ended": "all" if tape.ended else "stopped" if stop.is_set() else "long enough",
        "latest_tick_ms": round(late_ns / 1e6, 1),
        "faults": happened,
        **wires.counts,
    }
