"""People who may sign in: made by whoever may read the insurer's database, never by a page."""

import re
from typing import Final, NamedTuple

from sqlalchemy import Connection, Engine, func, insert, select, update

from agent.errors import RoadwitnessError
from receiver import db
from receiver.people import secrets
from receiver.people.person import Person
from receiver.people.rights import OWNER, ROLES
from receiver.people.tables import person as table

_NAME: Final = re.compile(r"[\w][\w.@+-]{0,63}")
RESERVED: Final = frozenset({"local"})  # who works at the insurer's own machine, in the logs


class AccountError(RoadwitnessError):
    """A person who cannot be added or is not there: names the field and the reason."""


class Account(NamedTuple):
    """A person as the list shows him."""

    id: str
    name: str
    role: str
    owner: str
    state: str
    password_set: bool
    second_factor: bool


def add(connection: Connection, name: str, role: str, now_ns: int, owner: str = "") -> Person:
    """Add a person without a password; raise AccountError."""
    if not _NAME.fullmatch(name) or name in RESERVED:
        raise AccountError(f"name {name!r}: use 1 to 64 letters, digits and . @ + - _")
    if role not in ROLES:
        raise AccountError(f"role {role!r}: is unknown; known: {', '.join(ROLES)}")
    if (role == OWNER) != bool(owner):
        raise AccountError("owner: an owner needs the id of the owner whose cars he sees, other roles have none")
    if len(owner) > 64 or not owner.isprintable():
        raise AccountError(f"owner {owner!r}: too long, or not printable")
    taken = select(table.c.id).where(func.lower(table.c.name) == name.lower())
    if connection.execute(taken).first() is not None:
        raise AccountError(f"name {name!r}: is given already")
    person = Person(secrets.name(), name, role, owner)
    row = {"id": person.id, "name": name, "role": role, "owner": owner, "state": "active"}
    row |= {"password": "", "totp_secret": "", "totp_step": 0, "made_utc_ns": now_ns}
    connection.execute(insert(table).values(**row))
    return person


def named(engine: Engine, name: str) -> Person | None:
    """Return an active person by name."""
    with db.reading(engine) as connection:
        return find(connection, name)


def find(connection: Connection, name: str) -> Person | None:
    """Return an active person by name, over a connection."""
    columns = (table.c.id, table.c.name, table.c.role, table.c.owner)
    row = connection.execute(select(*columns).where(table.c.name == name, table.c.state == "active")).one_or_none()
    return None if row is None else Person(*row)


def every(engine: Engine) -> list[Account]:
    """Return all people by name."""
    t = table.c
    columns = (t.id, t.name, t.role, t.owner, t.state, t.password != "", t.totp_secret != "")
    with db.reading(engine) as connection:
        rows = connection.execute(select(*columns).order_by(t.name))
        return [Account(*row[:5], bool(row[5]), bool(row[6])) for row in rows]


def disable(connection: Connection, person: str) -> None:
    """Let a person sign in no more; his name stays in the logs and is not given again."""
    connection.execute(update(table).where(table.c.id == person).values(state="disabled"))
