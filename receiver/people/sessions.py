"""Sessions: a random cookie at the browser, its hash and an end in the database.

A session ends after IDLE_NS without a look and AGE_NS at the latest (OWASP Session Management Cheat Sheet: hours, not
days, for what is worth protecting), at sign-out, and when password, role or second factor change.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, Engine, delete, insert, select, update

from agent.clock import NS_PER_S
from receiver import db
from receiver.people import secrets
from receiver.people.person import Person
from receiver.people.tables import person as person_table
from receiver.people.tables import session as table

IDLE_NS: Final = 2 * 3600 * NS_PER_S
AGE_NS: Final = 12 * 3600 * NS_PER_S
# The second factor is shown, or made, within this time after the password.
HALF_NS: Final = 10 * 60 * NS_PER_S
SEEN_NS: Final = 60 * NS_PER_S  # `seen` is written so often at most: a look costs a read only
WHOLE: Final = "whole"
FACTOR: Final = "factor"
ENROL: Final = "enrol"


@dataclass(frozen=True, slots=True)
class Session:
    """A session with its person; `token` is the cookie."""

    token: str
    person: Person
    stage: str
    begun_utc_ns: int
    seen_utc_ns: int

    @property
    def id(self) -> str:
        """Return the hash by which the database knows it."""
        return secrets.hashed(self.token)

    @property
    def csrf(self) -> str:
        """Return the token that this session's forms carry."""
        return secrets.derived(self.token, "form")


@dataclass(frozen=True, slots=True)
class Listed:
    """A session as its person sees it."""

    id: str
    begun_utc_ns: int
    seen_utc_ns: int
    address: str
    agent: str


def begin(
    connection: Connection, person: str, now_ns: int, *, stage: str = WHOLE, address: str = "", agent: str = ""
) -> str:
    """Begin a session of a person and return its cookie; all that ended by time are removed."""
    connection.execute(delete(table).where(~_lives(now_ns)))
    token = secrets.make()
    row = {"hash": secrets.hashed(token), "person": person, "stage": stage, "begun_utc_ns": now_ns}
    row |= {"seen_utc_ns": now_ns, "address": address[:64], "agent": _printable(agent)}
    connection.execute(insert(table).values(**row))
    return token


def find(engine: Engine, token: str, now_ns: int) -> Session | None:
    """Return a session that has not ended and whose person is active."""
    p = person_table.c
    columns = (table.c.stage, table.c.begun_utc_ns, table.c.seen_utc_ns, p.id, p.name, p.role, p.owner)
    own = table.c.hash == secrets.hashed(token)
    query = select(*columns).join(person_table, p.id == table.c.person).where(own, p.state == "active", _lives(now_ns))
    with db.reading(engine) as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        return None
    if row.stage == WHOLE and now_ns - row.seen_utc_ns >= SEEN_NS:
        with engine.begin() as connection:
            connection.execute(update(table).where(own).values(seen_utc_ns=now_ns))
    person = Person(row.id, row.name, row.role, row.owner)
    return Session(token, person, row.stage, row.begun_utc_ns, row.seen_utc_ns)


def of_person(engine: Engine, person: str, now_ns: int) -> list[Listed]:
    """Return the sessions of a person, the latest first."""
    columns = (table.c.hash, table.c.begun_utc_ns, table.c.seen_utc_ns, table.c.address, table.c.agent)
    own = (table.c.person == person, table.c.stage == WHOLE, _lives(now_ns))
    with db.reading(engine) as connection:
        query = select(*columns).where(*own).order_by(table.c.begun_utc_ns.desc(), table.c.hash)
        return [Listed(*row) for row in connection.execute(query)]


def end(connection: Connection, person: str, session: str) -> bool:
    """End one session of a person by its id; say whether it was there."""
    return connection.execute(delete(table).where(table.c.person == person, table.c.hash == session)).rowcount > 0


def end_all(connection: Connection, person: str, but: str = "") -> None:
    """End all sessions of a person except one."""
    connection.execute(delete(table).where(table.c.person == person, table.c.hash != but))


def _lives(now_ns: int) -> ColumnElement[bool]:
    t = table.c
    whole = (t.stage == WHOLE) & (t.seen_utc_ns > now_ns - IDLE_NS) & (t.begun_utc_ns > now_ns - AGE_NS)
    return whole | ((t.stage != WHOLE) & (t.begun_utc_ns > now_ns - HALF_NS))


def _printable(text: str) -> str:
    return "".join(c for c in text[:200] if c.isprintable())
