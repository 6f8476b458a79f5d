"""People who may sign in: made by whoever may read the insurer's database, never by a page."""

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Engine, Row, delete, func, insert, select, update

from agent.errors import RoadwitnessError
from receiver import db
from receiver.people import secrets, sessions
from receiver.people.person import Person
from receiver.people.rights import OWNER, ROLES
from receiver.people.tables import invite, recovery_code
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
    name = name.lower()
    if not _NAME.fullmatch(name) or name in RESERVED:
        raise AccountError(f"name {name!r}: use 1 to 64 letters, digits and . @ + - _")
    if role not in ROLES:
        raise AccountError(f"role {role!r}: is unknown; known: {', '.join(ROLES)}")
    if (role == OWNER) != bool(owner):
        raise AccountError("owner: an owner needs the id of the owner whose cars he sees, other roles have none")
    if len(owner) > 64 or not owner.isprintable():
        raise AccountError(f"owner {owner!r}: too long, or not printable")
    taken = select(table.c.id).where(table.c.name == name)
    if connection.execute(taken).first() is not None:
        raise AccountError(f"name {name!r}: is given already")
    person = Person(secrets.name(), name, role, owner)
    row: dict[str, Any] = {"id": person.id, "name": name, "role": role, "owner": owner, "state": "active"}
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
    row = connection.execute(
        select(*columns).where(table.c.name == name.lower(), table.c.state == "active")
    ).one_or_none()
    return None if row is None else Person(*row)


def every(engine: Engine) -> list[Account]:
    """Return all people by name."""
    t = table.c
    columns = (t.id, t.name, t.role, t.owner, t.state, t.password != "", t.totp_secret != "")
    with db.reading(engine) as connection:
        rows = connection.execute(select(*columns).order_by(t.name))
        return [Account(r.id, r.name, r.role, r.owner, r.state, bool(r[5]), bool(r[6])) for r in rows]


def secrets_of(connection: Connection, name: str) -> Row[Any] | None:
    """Return an active person's row with what is kept of his secrets."""
    query = select(table).where(table.c.name == name.lower(), table.c.state == "active")
    return connection.execute(query).one_or_none()


def keep(connection: Connection, person: str, kept: str) -> None:
    """Keep the same password's hash with other parameters."""
    connection.execute(update(table).where(table.c.id == person).values(password=kept))


def set_password(connection: Connection, person: str, kept: str) -> None:
    """Keep a new password's hash; all sessions of the person end."""
    keep(connection, person, kept)
    sessions.end_all(connection, person)


def set_factor(connection: Connection, person: str, sealed: str, step: int, codes: Sequence[str]) -> None:
    """Keep a second factor, last used in `step`, and its recovery codes in place of others; all sessions end."""
    connection.execute(update(table).where(table.c.id == person).values(totp_secret=sealed, totp_step=step))
    connection.execute(delete(recovery_code).where(recovery_code.c.person == person))
    if codes:
        rows = [{"person": person, "hash": secrets.hashed(code)} for code in codes]
        connection.execute(insert(recovery_code), rows)
    sessions.end_all(connection, person)


def use_step(connection: Connection, person: str, step: int) -> bool:
    """Take a time step of the second factor; say whether it was not taken before."""
    unused = (table.c.id == person, table.c.totp_step < step)
    return connection.execute(update(table).where(*unused).values(totp_step=step)).rowcount > 0


def use_code(connection: Connection, person: str, code: str) -> bool:
    """Take a recovery code; say whether it was there."""
    c = recovery_code.c
    own = (c.person == person, c.hash == secrets.hashed(code))
    return connection.execute(delete(recovery_code).where(*own)).rowcount > 0


def codes_left(connection: Connection, person: str) -> int:
    """Return how many recovery codes a person has."""
    query = select(func.count()).select_from(recovery_code).where(recovery_code.c.person == person)
    return connection.execute(query).scalar_one()


def reset(connection: Connection, person: str) -> None:
    """Take a person's password, second factor, sessions and links: he begins as at first."""
    set_factor(connection, person, "", 0, ())
    set_password(connection, person, "")
    connection.execute(delete(invite).where(invite.c.person == person))


def disable(connection: Connection, person: str) -> None:
    """Let a person sign in no more; his name stays in the logs and is not given again."""
    reset(connection, person)
    connection.execute(update(table).where(table.c.id == person).values(state="disabled"))
