"""Hold a technician's conversation (drivers.diagnosis) on a CAN wire: one request, all its answers, the next request.

The wire must be one that may send; what can be sent is what drivers.can.outgoing can make, which only reads.
"""

from typing import Final, TypeVar

import numpy as np

from agent.blocks import ERROR, REMOTE, Frames
from agent.clock import NS_PER_S, monotonic_ns
from agent.errors import DriverError
from drivers.can.outgoing import Service, flow_control, is_answer_id, request
from drivers.can.wire import Wire
from drivers.decode.isotp import Reassembler, unit_name
from drivers.decode.profile import IdFilter
from drivers.diagnosis import Asking, Heard

T = TypeVar("T")

ANSWERS: Final = (IdFilter(0x7E8, 0x7F8, False), IdFilter(0x18DAF100, 0x1FFFFF00, True))  # ISO 15765-4
ANSWER_NS: Final = 150_000_000  # P2 of ISO 15765-4 is 50 ms; the rest is for adapters and windows
MORE_NS: Final = 1_000_000_000  # N_Cr: longest wait for the next frame of a long answer
PENDING_NS: Final = 5_000_000_000  # P2*: after "response pending" (7F xx 78)
LOOK_S: Final = 0.02
LONGEST_NS: Final = 15 * NS_PER_S  # for one request, whatever a unit promises
TRIES: Final = 3  # of the first request: a gateway may still be waking up


class CanAsking:
    """A vehicle behind a wire. `find` opens the wire and says who answers."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.extended = False
        self.units: set[str] = set()  # that answered the first request
        self.pids: dict[str, tuple[int, ...]] = {}  # what each has, once somebody has asked: who else is not waited for
        self._kept: set[str] = set()  # units that have a freeze frame
        self.refused: dict[str, int] = {}  # "service 09" -> how often a unit said no
        self._reassembler = Reassembler()

    def find(self) -> list[str]:
        """Open the wire and return the control units that answer; DriverError when none does."""
        self.wire.open(list(ANSWERS))
        for _ in range(TRIES):
            for extended in (False, True):
                self.extended = extended
                heard = self._request(b"\x01\x00")
                if heard:
                    self.units = {unit for unit, _ in heard}
                    return sorted(self.units)
        raise DriverError(
            f"{self.wire.name}: no control unit answers with 11 or 29 bits; switch the ignition on, check that this is"
            " the diagnostic bus and that its bit rate is right"
        )

    def ask(self, asking: Asking[T]) -> T:
        """Ask the vehicle what a technician wants to know; DriverError when the wire is in trouble."""
        question = asking()
        try:
            heard = next(question)
            while True:
                heard = question.send(self._request(heard))
        except StopIteration as end:
            result: T = end.value
            return result

    def close(self) -> None:
        """Close the wire."""
        self.wire.close()

    def _request(self, asked: bytes) -> Heard:
        """Send one request to all units and collect what answers it until its time is over."""
        self.wire.send(request(Service(asked[0]), asked[1:], extended=self.extended))
        begun_ns = monotonic_ns()
        deadline_ns = begun_ns + ANSWER_NS
        found: Heard = []
        open_units: set[int] = set()
        awaited = self._awaited(asked)
        while (now_ns := monotonic_ns()) < min(deadline_ns, begun_ns + LONGEST_NS):
            frames = self.wire.read(min(LOOK_S, (deadline_ns - now_ns) / NS_PER_S))
            mine = self._of_units(frames)
            for unit, kind in mine:
                if kind == 1:
                    self.wire.send(flow_control(unit))
                    open_units.add(unit)
                    deadline_ns = max(deadline_ns, monotonic_ns() + MORE_NS)
            for m in self._reassembler.walk(frames):
                for key, start, length in zip(m.unit.tolist(), m.start.tolist(), m.length.tolist(), strict=True):
                    unit = key & 0x1FFFFFFF
                    payload = m.heap[start : start + length].tobytes()
                    waited = unit in open_units
                    open_units.discard(unit)
                    if not payload or not is_answer_id(unit):
                        continue
                    if payload[0] == 0x7F and payload[1:2] == asked[:1]:
                        if payload[2:3] == b"\x78":
                            deadline_ns = monotonic_ns() + PENDING_NS
                        else:
                            name = f"service {asked[0]:02X}"
                            self.refused[name] = self.refused.get(name, 0) + 1
                    elif payload[0] == asked[0] + 0x40 and (len(asked) == 1 or payload[1:2] == asked[1:2]):
                        found.append((unit_name(key), payload))
                        if awaited and not open_units and awaited <= {name for name, _ in found}:
                            deadline_ns = 0  # everybody has spoken
                        elif waited and not open_units:  # units that had less to say have said it meanwhile
                            deadline_ns = min(deadline_ns, monotonic_ns() + ANSWER_NS)
        if asked[:2] == b"\x02\x02":
            self._kept = {unit for unit, payload in found if any(payload[3:])}
        return found

    def _awaited(self, asked: bytes) -> set[str]:
        """Return the units after whose answers nobody else can be expected to have one."""
        if asked[0] == Service.CURRENT and asked[1] % 0x20:
            return {unit for unit, have in self.pids.items() if asked[1] in have} or self.units
        if asked[0] == Service.FREEZE_FRAME and asked[1] != 0x02:
            return self._kept or self.units
        return self.units

    def _of_units(self, frames: Frames) -> list[tuple[int, int]]:
        """Return (identifier, kind of frame) of what control units have sent."""
        answering = ((frames.id & 0xFFFFFFF8) == 0x7E8) | ((frames.id & 0xFFFFFF00) == 0x18DAF100)
        which = np.flatnonzero(answering & ((frames.flags & (ERROR | REMOTE)) == 0))
        return [(int(frames.id[i]), int(frames.data[i, 0]) >> 4) for i in which]
