"""How far a platform has been told, read from the database: also while no gateway runs."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from agent.clock import iso_utc
from receiver import db
from receiver.jt808 import positions, tables
from receiver.jt808.settings import Jt808Settings


@dataclass(frozen=True, slots=True)
class TerminalStatus:
    """How one terminal stands; `waiting` counts records that the platform has not confirmed."""

    device: str
    plate: str
    state: str
    detail: str
    since: str | None
    told: int
    refused: int
    last_told: str | None
    waiting: int


def statuses(connection: Connection, settings: Jt808Settings) -> list[TerminalStatus]:
    """Return how each configured terminal stands."""
    found = []
    for device, terminal in settings.terminals.items():
        row = tables.row_of(connection, device)
        found.append(
            TerminalStatus(
                device=device,
                plate=terminal.plate,
                state=row.state if row else "off",
                detail=row.detail if row else "",
                since=iso_utc(row.changed_utc_ns) if row else None,
                told=row.told if row else 0,
                refused=row.refused if row else 0,
                last_told=iso_utc(row.told_utc_ns) if row and row.told_utc_ns else None,
                waiting=_waiting(connection, device),
            )
        )
    return found


def _waiting(connection: Connection, device: str) -> int:
    entry, done = db.entry, tables.sent
    same = (done.c.device == entry.c.device) & (done.c.lineage == entry.c.lineage) & (done.c.lane == entry.c.lane)
    query = select(func.count()).select_from(entry.outerjoin(done, same)).where(entry.c.device == device)
    query = query.where(entry.c.lane.in_(positions.LANES), entry.c.kind == entry.c.lane)
    return connection.execute(query.where(entry.c.seq > func.coalesce(done.c.seq, 0))).scalar_one()
