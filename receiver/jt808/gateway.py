"""The gateway: one link for each terminal in one event loop; the database in a few threads beside it.

Nothing listens. Positions move only when the platform has confirmed them, so whatever happens between is told again.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import SQLAlchemyError

from agent import clock
from agent.clock import NS_PER_S
from receiver import db
from receiver.jt808 import positions, tables
from receiver.jt808.link import pause
from receiver.jt808.positions import Place
from receiver.jt808.settings import Jt808Settings
from receiver.jt808.terminal import Terminal
from receiver.registry import consents

log = logging.getLogger(__name__)

_THREADS: Final = 2  # for the database: on SQLite one writes at a time
_NAMES: Final = 500  # devices in one query

T = TypeVar("T")


class Gateway:
    """Tells a platform of the devices in `settings` until `run` is cancelled."""

    def __init__(self, engine: Engine, settings: Jt808Settings) -> None:
        self.settings = settings
        self.places: dict[str, Place] = {}
        self._engine = engine
        self._threads = ThreadPoolExecutor(_THREADS, "jt808")
        self._next_ns = 0
        self._seen: dict[str, dict[tuple[str, str], int]] = {}

    async def run(self) -> None:
        """Keep all terminals told; ends when none has anything left to do, or when cancelled."""
        terminals = {d: Terminal(d, t, self) for d, t in self.settings.terminals.items()}
        links = [asyncio.create_task(t.run(), name=f"jt808 {d}") for d, t in terminals.items()]
        watch = asyncio.create_task(self._watch(terminals))
        ended = asyncio.gather(*links)
        either: set[asyncio.Future[Any]] = {ended, watch}
        try:
            for done in (await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED))[0]:
                done.result()  # a bug ends the process
        finally:
            for task in (*links, watch):
                task.cancel()
            await asyncio.gather(ended, *links, watch, return_exceptions=True)
            with suppress(SQLAlchemyError):
                await self.note(self._stopped)
            self._threads.shutdown()

    async def ask(self, question: Callable[[Connection], T]) -> T:
        """Read from the database in a thread."""

        def ask() -> T:
            with db.reading(self._engine) as connection:
                return question(connection)

        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)

    async def note(self, change: Callable[[Connection], T]) -> T:
        """Write into the database in a thread, in one transaction."""

        def note() -> T:
            with self._engine.begin() as connection:
                return change(connection)

        return await asyncio.get_running_loop().run_in_executor(self._threads, note)

    async def pace(self) -> None:
        """Let messages out no faster than configured, in the order in which they ask."""
        now_ns = clock.monotonic_ns()
        at_ns = max(now_ns, self._next_ns)
        self._next_ns = at_ns + round(NS_PER_S / self.settings.messages_per_s)
        if at_ns > now_ns:
            await pause((at_ns - now_ns) / NS_PER_S)

    async def _watch(self, terminals: dict[str, Terminal]) -> None:
        """Look for news of all terminals at once, so that idle ones cost no queries of their own."""
        while True:
            try:
                for device in await self.ask(lambda c: self._news(c, list(terminals))):
                    terminals[device].news.set()
                for device, span in (await self.ask(lambda c: _spans(c, list(terminals)))).items():
                    if terminals[device].allowed != span:  # the owner agreed, or withdrew
                        terminals[device].allowed = span
                        terminals[device].news.set()
            except SQLAlchemyError as e:
                log.warning("jt808: database: %s", e)
            await pause(self.settings.poll_s)

    def _news(self, connection: Connection, devices: Sequence[str]) -> list[str]:
        """Return the devices whose lanes or places changed since the last look."""
        state = db.lane_state
        found: dict[str, dict[tuple[str, str], int]] = {}
        places: dict[str, Place] = {}
        for names in _chunks(devices):
            query = select(state.c.device, state.c.lineage, state.c.lane, state.c.seq)
            for row in connection.execute(query.where(state.c.device.in_(names), state.c.lane.in_(positions.LANES))):
                found.setdefault(row.device, {})[row.lineage, row.lane] = row.seq
            places.update(positions.live(connection, names))
        changed = [d for d in devices if found.get(d) != self._seen.get(d) or places.get(d) != self.places.get(d)]
        self._seen, self.places = found, places
        return changed

    def _stopped(self, connection: Connection) -> None:
        table = tables.terminal
        gone = {"state": "stopped", "detail": "the gateway is not running", "changed_utc_ns": clock.wall_ns()}
        for names in _chunks(list(self.settings.terminals)):
            live = table.c.device.in_(names) & table.c.state.in_(("connecting", "online", "broken"))
            connection.execute(table.update().where(live).values(**gone))


def _spans(connection: Connection, devices: Sequence[str]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for names in _chunks(devices):
        found |= consents.spans(connection, names, "regulator")
    return found


def _chunks(devices: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(devices), _NAMES):
        yield devices[first : first + _NAMES]
