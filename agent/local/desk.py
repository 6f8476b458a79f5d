"""The spine's end of the local socket: hears what happens, shows it while somebody asks, and lends devices.

Nobody asks, nothing is paid: samples are looked at and snapshots made only while somebody watches.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from agent import clock
from agent.blocks import Block
from agent.channels import BY_NUMBER
from agent.clock import NS_PER_S
from agent.ladder import Ladder, Level
from agent.local.board import Board, Shown
from agent.local.loans import Loans
from agent.local.messages import Fused, Line, Value
from agent.local.server import LocalServer
from agent.local.standing import Car
from agent.local.view import Himself, Parts
from agent.local.words import line_of
from agent.records import Health, Record
from agent.state import SOURCE_NAMES, State

log = logging.getLogger(__name__)

SHOW_NS: Final = 95 * NS_PER_S // 100  # between two snapshots: one at every tenth round of the spine
LINES: Final = 100  # of what happened that are remembered
_NEVER: Final = -1

_FUSED: Final = {  # field of Fused -> field of a row, digits kept
    "speed_mps": ("speed", 2),
    "latitude": ("latitude", 6),
    "longitude": ("longitude", 6),
    "heading_deg": ("heading", 0),
    "mount": ("mount", 2),
}
_LONGITUDINAL: Final = ("lon_vehicle", "lon_wheel", "lon_can", "lon_imu", "lon_obd", "lon_gnss")  # the best first
_LATERAL: Final = ("lat_vehicle", "lat_imu", "lat_yaw", "lat_gnss")


class Desk:
    """One thread, that of the spine, calls it; `call` wakes that thread, `on_bug` takes what ended the socket's."""

    def __init__(
        self,
        folder: Path,
        boot: str,
        config: Path | None,
        ladder: Ladder,
        *,
        recording: bool,
        call: Callable[[], None],
        on_bug: Callable[[BaseException], None],
    ) -> None:
        """Listen beside the store in `folder`, which is ours; without a socket the agent works all the same."""
        self._himself = Himself(boot, config, recording=recording)
        self._ladder = ladder
        self._board = Board(call)
        self._parts: Parts | None = None
        self._loans: Loans | None = None
        self._lines: deque[Line] = deque(maxlen=LINES)
        self._number = 0
        self._watched = False
        self._shown_ns = _NEVER
        self._values = np.zeros(max(BY_NUMBER) + 1)
        self._times = np.full(max(BY_NUMBER) + 1, _NEVER, np.int64)
        self._row: State | None = None
        try:
            self._server: LocalServer | None = LocalServer(folder, self._board, on_bug)
        except OSError as error:
            self._server = None
            cause = error.strerror or str(error)
            log.warning(
                "%s: no local socket: %s; doctor and live cannot ask the agent", error.filename or folder, cause
            )
        else:
            self._server.start()

    def show(self, parts: Parts, tell: Callable[[Health], None], running_rpm: float) -> None:
        """Show these parts from now on, and lend their devices; `tell` takes what the receiver should know."""
        self._parts = parts
        parts.keeper.listener = self.hear
        car = Car(parts.pipeline, parts.parking, running_rpm)
        self._loans = Loans(self._board, parts.feeds, car, tell)

    def configured(self) -> None:
        """Note that the configuration was read again."""
        self._himself.configured()

    def hear(self, records: Sequence[tuple[int, Record]]) -> None:
        """Take what was recorded, each with the time at which it became known."""
        for t_ns, record in records:
            line = line_of(self._number + 1, t_ns, record)
            if line is not None:
                self._number += 1
                self._lines.append(line)

    def take(self, block: Block, rows: Sequence[State]) -> None:
        """Take samples in order of time, and the rows of state that came of them."""
        if not self._watched:
            return
        self._values[block["channel"]] = block["value"]  # of equal indices the last counts
        self._times[block["channel"]] = block["t"]
        if rows:
            self._row = rows[-1][-1:].copy()

    def step(self, now_ns: int, level: Level) -> None:
        """Lend and take back; show how things stand, once a second while somebody asks."""
        if self._loans is not None and self._loans.step(now_ns):
            self._shown_ns = _NEVER  # who has just got a device asks at once how it stands
        watched = self._board.wanted(now_ns)
        if watched and not self._watched:  # what was seen of an earlier watch is old
            self._times[:] = _NEVER
            self._row = None
        self._watched = watched
        if watched and (now_ns - self._shown_ns >= SHOW_NS or self._shown_ns == _NEVER):
            self._shown_ns = now_ns
            loans = [] if self._loans is None else self._loans.lent
            reason = self._ladder.reason if level != "normal" else ""
            status = self._himself.status(now_ns, level, reason, self._parts, loans)
            self._board.show(Shown(status, self._newest(now_ns), self._fused(), tuple(self._lines)))

    def stop(self) -> None:
        """Take back what is lent and end all connections."""
        if self._loans is not None:
            self._loans.end(clock.monotonic_ns())
        if self._server is not None:
            self._server.stop()

    def _newest(self, now_ns: int) -> list[Value]:
        found = np.flatnonzero(self._times != _NEVER)
        return [
            Value(int(n), round(float(self._values[n]), 7), round(max(0, now_ns - int(self._times[n])) / NS_PER_S, 1))
            for n in found
        ]

    def _fused(self) -> Fused | None:
        if self._row is None:
            return None
        row = self._row[0]
        known = {name: _number(row[field], digits) for name, (field, digits) in _FUSED.items()}
        return Fused(
            t_ns=int(row["t"]),
            longitudinal_mps2=_best(row, _LONGITUDINAL),
            lateral_mps2=_best(row, _LATERAL),
            sources=[name for bit, name in SOURCE_NAMES.items() if int(row["sources"]) & bit],
            **known,
        )


def _best(row: Any, fields: Sequence[str]) -> float | None:
    return next((number for f in fields if (number := _number(row[f], 2)) is not None), None)


def _number(value: Any, digits: int) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None
