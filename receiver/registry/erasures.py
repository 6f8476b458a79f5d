"""Erasures that were asked for: one row each, open until everything is gone that no open claim needs."""

import json
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, insert, select

from agent.clock import NS_PER_S
from receiver.registry import tables

STATES: Final = ("open", "held", "done")  # held: all is gone but what an open claim needs
# PIPL article 47 says "promptly"; the draft of the automotive data rules said two weeks (docs/sources.md).
WINDOW_NS: Final = 14 * 86_400 * NS_PER_S


class Erasure(NamedTuple):
    """One erasure: of what was kept for `purpose` and received before `until_utc_ns`."""

    id: int
    device: str
    owner: str
    purpose: str
    asked_utc_ns: int
    asked_by: str
    until_utc_ns: int
    due_utc_ns: int
    state: str
    done_utc_ns: int | None
    removed: dict[str, int]
    kept: list[str]  # incidents that an open claim needs

    def overdue(self, now_ns: int) -> bool:
        """Say whether it should have been done by now."""
        return self.state == "open" and self.due_utc_ns < now_ns


def open_for(connection: Connection, device: str, owner: str, purpose: str, by: str, now_ns: int) -> int:
    """Ask for the erasure of what a device sent for a purpose, all of it for `recording`; return its number."""
    row = {"device": device, "owner": owner, "purpose": purpose, "asked_utc_ns": now_ns, "asked_by": by[:64]}
    row |= {"until_utc_ns": now_ns, "due_utc_ns": now_ns + WINDOW_NS, "state": "open", "removed": "{}", "kept": "[]"}
    made = connection.execute(insert(tables.erasure).values(**row)).inserted_primary_key
    assert made is not None
    return int(made[0])


def unfinished(connection: Connection) -> list[Erasure]:
    """Return the erasures that are not done, the oldest first."""
    t = tables.erasure
    return [_erasure(row) for row in connection.execute(select(t).where(t.c.state != "done").order_by(t.c.id))]


def listed(connection: Connection, *, device: str = "", owner: str = "", most: int = 1000) -> list[Erasure]:
    """Return erasures, the latest first: of a device, of an owner, or all."""
    t = tables.erasure
    query = select(t).order_by(t.c.id.desc()).limit(most)
    for column, value in ((t.c.device, device), (t.c.owner, owner)):
        if value:
            query = query.where(column == value)
    return [_erasure(row) for row in connection.execute(query)]


def _erasure(row: Row[Any]) -> Erasure:
    plain = {name: getattr(row, name) for name in Erasure._fields if name not in ("removed", "kept")}
    return Erasure(**plain, removed=json.loads(row.removed), kept=json.loads(row.kept))
