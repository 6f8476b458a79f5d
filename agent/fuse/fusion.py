"""Fusion as the spine sees it: blocks in, state rows out; the mount, what moved, what was rejected."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agent.blocks import Block, empty_block
from agent.fuse.belief import NOTE, NOTE_MOUNT, new_vehicle
from agent.fuse.measured import COUNTS, MEASURED
from agent.fuse.parameters import as_record
from agent.fuse.settings import FusionSettings
from agent.fuse.stream import new_stream, uses
from agent.fuse.vehicle import understand
from agent.fuse.windows import collect
from agent.records import Mount
from agent.state import STATE, State, empty_state
from agent.vectors import dot, unit

ROWS: Final = 2048  # of one pass; 205 s
_PRIOR_ROWS: Final = 2000.0  # weight of a mount that was learned in an earlier boot: 200 s of straight driving
_PRIOR_SS: Final = 200.0


class Fusion:
    """Blocks of one boot in time order → one vehicle state every 100 ms (`agent.state`), 1.5 s behind the samples.

    Any split of the same samples into blocks gives the same rows bit for bit. `mount` is one learned earlier; it is
    used at once and unlearned if the box turns out to have been moved. Samples that go back in time, are not finite, or
    lie outside their channel's range are counted and dropped; nothing in a block raises.
    """

    def __init__(self, settings: FusionSettings, mount: Mount | None = None) -> None:
        self._settings = settings
        self._parameters = as_record(settings)
        self._uses = uses()
        self._stream = new_stream()
        self._vehicle = new_vehicle()
        self._tally = np.zeros(len(COUNTS), np.int64)
        self._measured = np.zeros(ROWS, MEASURED)
        self._notes = np.zeros(ROWS, NOTE)
        self._moved: list[tuple[int, float]] = []
        self._mounts: list[Mount] = []
        self._t_ns = mount.t_ns if mount else 0
        if mount:
            _believe(self._vehicle[0], mount, settings)

    def step(self, block: Block) -> State:
        """Take the next samples; return the rows that they complete."""
        return self._run(np.ascontiguousarray(block), ending=False)

    def finish(self) -> State:
        """End the stream; return the rows that were waiting for later samples."""
        return self._run(empty_block(), ending=True)

    @property
    def mount(self) -> Mount | None:
        """How the box sits in the car as known after the last row; None until learned."""
        v = self._vehicle[0]
        if v["confidence"] < self._settings.use_confidence:
            return None
        return _mount(self._t_ns, v["up"], v["forward"], v["confidence"])

    @property
    def counts(self) -> dict[str, int]:
        """What was rejected or noticed, by reason, since the start."""
        return {name: int(n) for name, n in zip(COUNTS, self._tally, strict=True)}

    def take_moved(self) -> list[tuple[int, float]]:
        """Return (t_ns, degrees) for each time a learned mount was dropped because the box moved, since last asked."""
        taken, self._moved = self._moved, []
        return taken

    def take_mounts(self) -> list[Mount]:
        """Return the mounts learned since last asked: the first, and each that is surer or turned by 5°."""
        taken, self._mounts = self._mounts, []
        return taken

    def _run(self, block: Block, ending: bool) -> State:
        parts: list[State] = []
        at = 0
        while True:
            at, rows = collect(
                block, at, ending, self._uses, self._parameters, self._stream, self._tally, self._measured
            )
            if rows:
                parts.append(self._understand(self._measured[:rows]))
            if at == len(block) and rows < ROWS:
                return np.concatenate(parts) if parts else empty_state()

    def _understand(self, measured: npt.NDArray[Any]) -> State:
        out = np.zeros(len(measured), STATE)
        n_notes = np.zeros(1, np.int64)
        understand(measured, self._parameters, self._vehicle, self._tally, out, self._notes, n_notes)
        self._t_ns = int(measured["t"][-1])
        for note in self._notes[: n_notes[0]]:
            if note["kind"] == NOTE_MOUNT:
                self._mounts.append(_mount(int(note["t"]), note["up"], note["forward"], note["confidence"]))
            else:
                self._moved.append((int(note["t"]), float(note["angle"])))
        return out


def _mount(t_ns: int, up: npt.NDArray[Any], forward: npt.NDArray[Any], confidence: float) -> Mount:
    level = unit(forward - up * dot(forward, up))
    return Mount(
        t_ns=t_ns,
        gravity=(float(up[0]), float(up[1]), float(up[2])),
        forward=(float(level[0]), float(level[1]), float(level[2])),
        confidence=float(confidence),
    )


def _believe(v: Any, mount: Mount, settings: FusionSettings) -> None:
    """Put an earlier mount into the vehicle's state, as evidence that gives the same confidence."""
    up, forward = np.array(mount.gravity), np.array(mount.forward)
    confidence = min(max(mount.confidence, 0.01), 0.99)
    v["up"] = v["noted_up"] = unit(up)
    v["g"] = 9.80665
    v["up_s"] = 0.2 * settings.gravity_tau_s
    v["forward"] = v["noted_forward"] = unit(forward)
    v["confidence"] = v["noted"] = confidence
    error = np.radians(settings.error_deg) * np.sqrt(1 / confidence - 1)
    noise = error * error * _PRIOR_SS / 30.0
    e = v["evidence"][0]
    e["xs"] = forward * _PRIOR_SS
    e["ss"] = _PRIOR_SS
    e["n"] = _PRIOR_ROWS
    e["aa"] = _PRIOR_SS + 2.0 * _PRIOR_ROWS * noise
