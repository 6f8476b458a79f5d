"""What the gateway remembers: how far each lane of a device has been told, and how each terminal stands."""

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Connection, PrimaryKeyConstraint, String, Table, Text, select

from receiver import db

# A row stands where the platform confirmed it; positions themselves are not kept a second time.
sent = Table(
    "jt808_sent",
    db.metadata,
    Column("device", String(64)),
    Column("lineage", String(12)),
    Column("lane", String(16)),
    Column("seq", BigInteger, nullable=False),  # the last entry that is wholly done
    Column("part", BigInteger, nullable=False),  # positions done of the next one
    PrimaryKeyConstraint("device", "lineage", "lane"),
)

terminal = Table(
    "jt808_terminal",
    db.metadata,
    Column("device", String(64), primary_key=True),
    Column("code", Text),  # the platform's authentication code; NULL while not registered
    Column("state", String(16), nullable=False),  # STATES
    Column("detail", Text, nullable=False),
    Column("changed_utc_ns", BigInteger, nullable=False),  # of `state`
    Column("told", BigInteger, nullable=False),  # positions that the platform confirmed
    Column("refused", BigInteger, nullable=False),  # positions that the platform called wrong, each alone
    Column("told_utc_ns", BigInteger),  # when the last was confirmed
)

STATES: Final = ("off", "connecting", "online", "broken", "refused", "signed_off", "stopped")


def row_of(connection: Connection, device: str) -> Any:
    """Return a terminal's row, or None before it was ever tried."""
    return connection.execute(select(terminal).where(terminal.c.device == device)).one_or_none()


def note_state(connection: Connection, device: str, state: str, detail: str, now_ns: int) -> None:
    """Write how a terminal stands."""
    said = {"state": state, "detail": detail[:500].replace("\0", ""), "changed_utc_ns": now_ns}
    row = {"device": device, "code": None, "told": 0, "refused": 0, "told_utc_ns": None, **said}
    connection.execute(db.upsert(connection, terminal, row, ["device"], said))


def keep_code(connection: Connection, device: str, code: str | None) -> None:
    """Write the platform's authentication code, None to forget it."""
    connection.execute(terminal.update().where(terminal.c.device == device).values(code=code))


def move(connection: Connection, device: str, marks: Iterable[Any], told: int, refused: int, now_ns: int) -> None:
    """Move positions forward and count; `marks` have lineage, lane, seq and part, the last of each lane counts."""
    last = {(m.lineage, m.lane): m for m in marks}
    for (lineage, lane), mark in last.items():
        row = {"device": device, "lineage": lineage, "lane": lane, "seq": mark.seq, "part": mark.part}
        connection.execute(db.upsert(connection, sent, row, ["device", "lineage", "lane"]))
    if told or refused:
        counts = {"told": terminal.c.told + told, "refused": terminal.c.refused + refused}
        when = {"told_utc_ns": now_ns} if told else {}
        connection.execute(terminal.update().where(terminal.c.device == device).values(**counts, **when))
