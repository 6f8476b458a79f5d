"""Logs to which rows are only added: each row's hash covers the row before it.

hash_i = SHA-256(hash_{i-1} ‖ SHA-256(row_i)), as agent.chain links records, over a row's canonical JSON; rows are
numbered 1, 2, 3 … without gaps. A row changed, removed, put in or moved is found. Rows cut off the end are found by
whoever noted a head before.
"""

import re
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Engine, Table, func, insert, select

from agent import chain
from agent.errors import ConfigError
from receiver import db

_AT_ONCE: Final = 1000
_HEAD: Final = re.compile(r"(\d{1,18}):([0-9a-f]{64})")


class Head(NamedTuple):
    """The last row of a log and its hash; 0 and 64 zeros before the first."""

    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Audit:
    """What the check of a log found; `broken` is the first row that does not follow, with `why`."""

    rows: int
    head: Head
    broken: int | None
    why: str


class Chained(NamedTuple):
    """A log in a table with the columns `names`, `seq` among them, and `hash`.

    `lock` is a number of its own: on PostgreSQL it lets one append at a time.
    """

    table: Table
    names: tuple[str, ...]
    lock: int

    def append(self, connection: Connection, row: dict[str, Any]) -> int:
        """Write a row without its number in the caller's transaction, and return its number."""
        table = self.table
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({self.lock})")
        newest = select(func.max(table.c.seq)).scalar_subquery()
        last = connection.execute(select(table.c.seq, table.c.hash).where(table.c.seq == newest)).first()
        seq, previous = (1, chain.START) if last is None else (last.seq + 1, bytes(last.hash))
        whole = {**row, "seq": seq}
        connection.execute(insert(table).values(**whole, hash=chain.link(previous, self._bytes(whole))))
        return seq

    def verify(self, engine: Engine, expected: Head | None = None) -> Audit:
        """Check the whole log; `expected` is a head noted earlier, which must still stand in it."""
        table, columns = self.table, [self.table.c[name] for name in (*self.names, "hash")]
        previous, at = chain.START, 0
        met = expected is None or expected.seq == 0
        with db.reading(engine) as connection:
            while True:
                query = select(*columns).where(table.c.seq > at).order_by(table.c.seq).limit(_AT_ONCE)
                found = connection.execute(query).mappings().all()
                if not found:
                    break
                for row in found:
                    why = self._fault(dict(row), at, previous)
                    if not why and expected is not None and row["seq"] == expected.seq:
                        met = bytes(row["hash"]).hex() == expected.hash
                        why = "" if met else "has another hash than the head that was noted earlier"
                    if why:
                        return Audit(at, Head(at, previous.hex()), at + 1, why)
                    previous, at = bytes(row["hash"]), row["seq"]
        head = Head(at, previous.hex())
        return (
            Audit(at, head, None, "") if met else Audit(at, head, at + 1, "is missing: a later head was noted earlier")
        )

    def _fault(self, row: dict[str, Any], before: int, previous: bytes) -> str:
        if row["seq"] != before + 1:
            return f"is missing: row {row['seq']} comes after row {before}"
        if chain.link(previous, self._bytes(row)) != bytes(row["hash"]):
            return "was altered, or the row before it was"
        return ""

    def _bytes(self, row: dict[str, Any]) -> bytes:
        return chain.canonical({name: row[name] for name in self.names})


def read_head(text: str) -> Head:
    """Read ROW:HASH as the checks print it; raise ConfigError."""
    match = _HEAD.fullmatch(text.strip().lower())
    if match is None:
        raise ConfigError(f"--head {text!r}: write ROW:HASH, as the check of the log prints it")
    return Head(int(match[1]), match[2])
