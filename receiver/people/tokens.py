"""Tokens by which programs ask: shown once, kept as a hash, with some rights of one role, and for some days."""

import re
from collections.abc import Collection
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Engine, func, insert, select, update

from agent.clock import NS_PER_S
from receiver import db
from receiver.people import secrets
from receiver.people.accounts import AccountError
from receiver.people.person import Person
from receiver.people.rights import OWNER, ROLES, of_role
from receiver.people.tables import api_token as table

PREFIX: Final = "rw_"  # scanners of leaked secrets find it by that
ALWAYS: Final = "account.use"  # whose token it is and what it may
DAY_NS: Final = 86_400 * NS_PER_S
MOST_DAYS: Final = 366
_NAME: Final = re.compile(r"[\w][\w.-]{0,59}")
_BEARER: Final = re.compile(r"(?i:bearer) +(rw_[A-Za-z0-9_-]{43})")


class Token(NamedTuple):
    """A token as the list shows it; `used_utc_ns` is the first use of the last day on which it was used."""

    id: str
    name: str
    role: str
    owner: str
    scopes: tuple[str, ...]
    until_utc_ns: int
    revoked: bool
    used_utc_ns: int


def add(
    connection: Connection, name: str, role: str, scopes: Collection[str], days: int, now_ns: int, owner: str = ""
) -> str:
    """Make a token of a role for some of its rights and return it; raise AccountError naming what is wrong."""
    if not _NAME.fullmatch(name):
        raise AccountError(f"name {name!r}: use 1 to 60 letters, digits and . - _")
    if role not in ROLES:
        raise AccountError(f"role {role!r}: is unknown; known: {', '.join(ROLES)}")
    if (role == OWNER) != bool(owner) or len(owner) > 64 or not owner.isprintable():
        raise AccountError("owner: an owner's token needs the id of the owner, those of other roles have none")
    beyond = sorted(set(scopes) - of_role(role))
    if beyond or not scopes:
        known = ", ".join(sorted(of_role(role)))
        raise AccountError(f"scopes {', '.join(beyond) or 'none'}: not rights of an {role}; those are: {known}")
    if not 1 <= days <= MOST_DAYS:
        raise AccountError(f"days {days}: a token holds from 1 to {MOST_DAYS} days")
    if connection.execute(select(table.c.id).where(func.lower(table.c.name) == name.lower())).first() is not None:
        raise AccountError(f"name {name!r}: is given already")
    token = PREFIX + secrets.make()
    row: dict[str, Any] = {"id": f"t-{secrets.name()}", "name": name, "hash": secrets.hashed(token)}
    row |= {"role": role, "owner": owner}
    row |= {
        "scopes": " ".join(sorted({*scopes, ALWAYS})),
        "made_utc_ns": now_ns,
        "until_utc_ns": now_ns + days * DAY_NS,
    }
    connection.execute(insert(table).values(**row, revoked=False, used_utc_ns=0))
    return token


def find(engine: Engine, header: str, now_ns: int) -> tuple[Person, bool] | None:
    """Return who an Authorization header names, and whether it is the first time on this day (UTC)."""
    match = _BEARER.fullmatch(header)
    if match is None:
        return None
    t = table.c
    columns = (t.id, t.name, t.role, t.owner, t.scopes, t.used_utc_ns)
    holds = (t.hash == secrets.hashed(match[1]), t.until_utc_ns > now_ns, t.revoked.is_(False))
    with db.reading(engine) as connection:
        row = connection.execute(select(*columns).where(*holds)).one_or_none()
    if row is None:
        return None
    first = False
    day_ns = now_ns // DAY_NS * DAY_NS
    if row.used_utc_ns < day_ns:
        with engine.begin() as connection:
            unused = (t.id == row.id, t.used_utc_ns < day_ns)
            first = connection.execute(update(table).where(*unused).values(used_utc_ns=now_ns)).rowcount > 0
    return Person(row.id, f"token:{row.name}", row.role, row.owner, frozenset(row.scopes.split())), first


def every(engine: Engine) -> list[Token]:
    """Return all tokens by name."""
    t = table.c
    columns = (t.id, t.name, t.role, t.owner, t.scopes, t.until_utc_ns, t.revoked, t.used_utc_ns)
    with db.reading(engine) as connection:
        rows = connection.execute(select(*columns).order_by(t.name))
        return [Token(r.id, r.name, r.role, r.owner, tuple(r.scopes.split()), *r[5:]) for r in rows]


def revoke(connection: Connection, name: str) -> bool:
    """End a token by its name; say whether there was one."""
    return connection.execute(update(table).where(table.c.name == name).values(revoked=True)).rowcount > 0
