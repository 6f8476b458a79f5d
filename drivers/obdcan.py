"""OBD-II asked on a raw CAN bus, beside what the bus says by itself: ISO-TP requests, only where sending is allowed.

A sample of an answer gets the middle of the request's time and the answer's first frame, for that is when the control
unit looked. While an answer is awaited, samples later than the request are held back, so that times never fall.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from agent.blocks import ERROR, REMOTE, Block, Frames, empty_block, join_blocks
from agent.channels import CHANNELS
from agent.clock import NS_PER_S, monotonic_ns
from agent.errors import ConfigError
from agent.records import Health
from drivers.can.conversation import Ask, Heard, Talk, Vehicle, talk
from drivers.can.outgoing import flow_control, is_answer_id
from drivers.can.wire import CanSettings, Wire, make_wire
from drivers.canbus import CanBus

ANSWER_NS: Final = 100_000_000  # P2 of ISO 15765-4 is 50 ms; the rest is for adapters and windows
LOOK_NS: Final = 5_000_000  # how long frames are collected while an answer is awaited
MORE_NS: Final = 1_000_000_000  # N_Cr: longest wait for the next frame of a long answer
PENDING_NS: Final = 5_000_000_000  # P2*: after "response pending" (7F xx 78)
_PENDING: Final = 0x78
_NOBODY: Final = 2  # unanswered requests: one with 11 bits, one with 29
_OBD_CHANNELS: Final = np.array([c.number for c in CHANNELS if c.name.startswith("Obd.")], np.uint16)


@dataclass(slots=True)
class _Asked:
    """A request under way."""

    ask: Ask
    sent_ns: int
    deadline_ns: int
    first_ns: dict[int, int] = field(default_factory=dict)  # unit -> first frame of its answer
    open_units: set[int] = field(default_factory=set)  # units whose long answer is not whole
    answers: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return self.ask.unit is not None and bool(self.answers) and not self.open_units


class ObdCan(CanBus):
    """A bus on which control units are asked; `settings.transmit` must be true."""

    def __init__(self, settings: CanSettings, folder: Path, make: Callable[[CanSettings], Wire] = make_wire) -> None:
        super().__init__(settings, folder, make)
        self.name = f"obdcan:{settings.bus_name}"
        self.vehicle = Vehicle()
        self._talk: Talk | None = None
        self._next: Ask | None = None
        self._asked: _Asked | None = None
        self._held: list[Block] = []
        self._paused = self._look_anew = False

    def open(self) -> None:
        """Open the wire and begin to look for the vehicle; ConfigError unless sending is allowed."""
        if not self.settings.transmit:
            raise ConfigError(
                f"{self.name}: sending is not allowed; set transmit = true for this bus to ask for OBD-II"
            )
        super().open()
        from drivers.decode.isotp import Reassembler

        self._reassembler = Reassembler()
        self._asked, self._held = None, []
        self._begin()

    def health(self) -> list[Health]:
        """The facts about the bus, and whether a vehicle answers."""
        if self.vehicle.supported:
            units = ", ".join(f"{unit:X}" for unit in sorted(self.vehicle.supported))
            self._facts.say(monotonic_ns(), f"{self.name}:vehicle", "ok", f"control units answer: {units}")
        elif self.vehicle.unanswered >= _NOBODY:
            words = "no control unit answers; is the ignition on, and is this the diagnostic bus?"
            self._facts.say(monotonic_ns(), f"{self.name}:vehicle", "lost", words)
        return super().health()

    def pause(self) -> None:
        """Stop asking, at once: a vehicle whose engine is off must be left to sleep; any thread may call it."""
        self._paused = True

    def resume(self) -> None:
        """Ask again, and look at once for a vehicle that did not answer; any thread may call it."""
        self._look_anew |= self._paused  # told twice before a read, it is still to be done
        self._paused = False

    def read(self, timeout_s: float) -> Block:
        """Return the samples that have come, at the latest after `timeout_s`; asks what is due meanwhile."""
        until_ns = monotonic_ns() + round(timeout_s * NS_PER_S)
        while True:
            now_ns = monotonic_ns()
            if self._look_anew and self._asked is None:  # while an answer is awaited, it waits
                self._look_anew = False
                if not self.vehicle.polling:
                    self._begin()
            self._ask_if_due(now_ns)
            wake_ns = until_ns
            if self._asked is not None:
                wake_ns = min(until_ns, self._asked.deadline_ns, now_ns + LOOK_NS)
            elif self._next is not None and not self._paused:
                wake_ns = min(until_ns, self._next.at_ns)
            frames = self._receive(max(wake_ns - now_ns, 0) / NS_PER_S)
            moved = self._listen_for_answers(frames)
            block = self._decoded(frames)
            if len(block):
                self._held.append(_moved(block, moved) if moved else block)
            now_ns = monotonic_ns()
            self._finish_if_done(now_ns)
            ready = self._release()
            if len(ready) or now_ns >= until_ns:
                return ready

    @property
    def counts(self) -> dict[str, int]:
        """What was received, lost, odd or rejected, by kind, and how many requests there were."""
        asked = {"requests": self.vehicle.requests, "unanswered": self.vehicle.unanswered}
        return {**super().counts, **asked}

    def _begin(self) -> None:
        self._talk = talk(self.vehicle, monotonic_ns())
        self._next = next(self._talk)

    def _ask_if_due(self, now_ns: int) -> None:
        if self._asked is not None or self._paused or self._next is None or now_ns < self._next.at_ns:
            return
        sent_ns = self._opened().send(self._next.frame())
        self._asked = _Asked(self._next, sent_ns, sent_ns + ANSWER_NS)

    def _listen_for_answers(self, frames: Frames) -> dict[int, int]:
        """Collect answers to the request under way, allow the long ones; return their times: last frame to middle."""
        asked = self._asked
        if asked is None or not len(frames.t):
            return {}
        answering = ((frames.id & 0xFFFFFFF8) == 0x7E8) | ((frames.id & 0xFFFFFF00) == 0x18DAF100)
        for i in np.flatnonzero(answering & ((frames.flags & (ERROR | REMOTE)) == 0)):
            unit, t_ns, kind = int(frames.id[i]), int(frames.t[i]), int(frames.data[i, 0]) >> 4
            if asked.ask.unit not in (None, unit) or t_ns < asked.sent_ns - ANSWER_NS:
                continue
            if kind in (0, 1):
                asked.first_ns[unit] = t_ns
            if kind == 1:
                self._opened().send(flow_control(unit))
                asked.open_units.add(unit)
                asked.deadline_ns = max(asked.deadline_ns, monotonic_ns() + MORE_NS)
        moved: dict[int, int] = {}
        for m in self._reassembler.walk(frames):
            for t, key, start, length in zip(
                m.t.tolist(), m.unit.tolist(), m.start.tolist(), m.length.tolist(), strict=True
            ):
                unit = key & 0x1FFFFFFF
                payload = m.heap[start : start + length].tobytes()
                asked.open_units.discard(unit)
                if not is_answer_id(unit) or not asked.ask.is_answer(unit, payload):
                    continue
                if payload[0] == 0x7F and payload[2:3] == bytes([_PENDING]):
                    asked.deadline_ns = monotonic_ns() + PENDING_NS
                    continue
                asked.answers.append((unit, payload))
                first_ns = asked.first_ns.get(unit, t)
                moved[t] = asked.sent_ns + max(first_ns - asked.sent_ns, 0) // 2
        return moved

    def _finish_if_done(self, now_ns: int) -> None:
        asked = self._asked
        if asked is None or not (asked.complete or now_ns >= asked.deadline_ns):
            return
        assert self._talk is not None
        self._asked = None
        self._next = self._talk.send(Heard(now_ns, asked.answers))

    def _release(self) -> Block:
        """Return what is held and cannot be overtaken any more."""
        if not self._held:
            return empty_block()
        held = join_blocks(self._held)
        if self._asked is None:
            self._held = []
            return held
        n = int(np.searchsorted(held["t"], self._asked.sent_ns, side="right"))
        self._held = [held[n:]] if n < len(held) else []
        return held[:n]


def _moved(block: Block, moved: dict[int, int]) -> Block:
    """Return `block` with the OBD samples of the times in `moved` at their new times, in order."""
    for t_ns, middle_ns in moved.items():
        which = (block["t"] == t_ns) & np.isin(block["channel"], _OBD_CHANNELS)
        block["t"][which] = middle_ns
    return block[np.argsort(block["t"], kind="stable")]
