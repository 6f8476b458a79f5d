"""How often something may be tried in vain: delays that grow, kept in the database, so that they hold over restarts and
for all processes.

An attempt counts before it is judged, so that many at once are not each the first.
"""

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Engine, Row, delete, select, update

from agent.clock import NS_PER_S
from receiver import db
from receiver.people import secrets
from receiver.people.tables import attempt as table

DAY_NS: Final = 86_400 * NS_PER_S  # what lies so far back counts no more


class Limit(NamedTuple):
    """`free` attempts without delay, then 1, 2, 4 … s up to `most_s`."""

    free: int
    most_s: int

    def wait_ns(self, attempts: int) -> int:
        """Return for how long nothing more is tried after so many attempts."""
        beyond = attempts - self.free
        return 0 if beyond < 0 else min(2 ** min(beyond, 30), self.most_s) * NS_PER_S


# Of a name: a million guesses take nine years, and who is meant waits five minutes at most.
NAME: Final = Limit(5, 300)
ADDRESS: Final = Limit(20, 3600)  # many people may stand behind one address
FACTOR: Final = Limit(5, 3600)  # of 10^6 codes three are right: asked only after the password


class Tried(NamedTuple):
    """An attempt: nothing may be tried for `wait_ns`, or it was the `nth` in a row."""

    wait_ns: int
    nth: int


def attempt(engine: Engine, kinds: Sequence[tuple[str, Limit]], now_ns: int) -> Tried:
    """Count an attempt under each key, unless one of them has to wait."""
    keys = [(secrets.hashed(key), limit) for key, limit in kinds]
    with engine.begin() as connection:
        connection.execute(delete(table).where(table.c.last_utc_ns < now_ns - DAY_NS))
        for key, _ in keys:
            row = {"key": key, "failures": 0, "last_utc_ns": now_ns, "until_utc_ns": 0}
            connection.execute(db.upsert(connection, table, row, ["key"], {}))
        rows = [_locked(connection, key) for key, _ in sorted(keys)]
        wait_ns = max(row.until_utc_ns for row in rows) - now_ns
        if wait_ns > 0:
            return Tried(wait_ns, 0)
        before = {row.key: row.failures for row in rows}
        for key, limit in keys:
            until = now_ns + limit.wait_ns(before[key] + 1)
            values = {"failures": before[key] + 1, "last_utc_ns": now_ns, "until_utc_ns": until}
            connection.execute(update(table).where(table.c.key == key).values(**values))
        return Tried(0, max(before.values()) + 1)


def forgive(connection: Connection, key: str) -> None:
    """Forget what was tried under a key: it went well."""
    connection.execute(delete(table).where(table.c.key == secrets.hashed(key)))


def forgive_one(connection: Connection, key: str) -> None:
    """Take one attempt back: one's own success must not wipe out what one tried at others."""
    own = (table.c.key == secrets.hashed(key), table.c.failures > 0)
    connection.execute(update(table).where(*own).values(failures=table.c.failures - 1, until_utc_ns=0))


def of_address(text: str) -> str:
    """Return the key of an address: one household has a whole /64 of IPv6."""
    try:
        found = ip_address(text)
    except ValueError:
        return f"address:{text[:64]}"
    if isinstance(found, IPv6Address):
        return f"address:{ip_network((found, 64), strict=False)}"
    return f"address:{found}"


def of_name(name: str) -> str:
    """Return the key of a name, whether or not it is anybody's."""
    return f"name:{name.lower()[:64]}"


def of_factor(person: str) -> str:
    """Return the key of a person's second factor."""
    return f"factor:{person}"


def _locked(connection: Connection, key: str) -> Row[Any]:
    return connection.execute(select(table).where(table.c.key == key).with_for_update()).one()
