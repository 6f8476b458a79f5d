"""One-time links: for the first sign-in, and into the demo. Each works once and not for long."""

from typing import Final, NamedTuple

from sqlalchemy import Connection, Engine, delete, insert, select

from agent.clock import NS_PER_S
from receiver import db
from receiver.people import secrets
from receiver.people.person import Person
from receiver.people.tables import invite as table
from receiver.people.tables import person as person_table

FIRST: Final = "first"
ENTER: Final = "enter"
LIFE_NS: Final = {FIRST: 3 * 86_400 * NS_PER_S, ENTER: 3600 * NS_PER_S}


class Invite(NamedTuple):
    """A link that still works."""

    person: Person
    purpose: str


def make(connection: Connection, person: str, purpose: str, now_ns: int) -> str:
    """Return the secret of a new link; earlier ones of the person for this purpose end."""
    secret = secrets.make()
    same = (table.c.person == person) & (table.c.purpose == purpose)
    connection.execute(delete(table).where(same | (table.c.until_utc_ns <= now_ns)))
    until = now_ns + LIFE_NS[purpose]
    row = {"hash": secrets.hashed(secret), "person": person, "purpose": purpose, "until_utc_ns": until}
    connection.execute(insert(table).values(**row))
    return secret


def find(engine: Engine, secret: str, now_ns: int) -> Invite | None:
    """Return what a link is for; it still works afterwards."""
    with db.reading(engine) as connection:
        return _find(connection, secret, now_ns)


def use(connection: Connection, secret: str, now_ns: int) -> Invite | None:
    """Take a link: of several at once, one gets it."""
    found = _find(connection, secret, now_ns)
    taken = connection.execute(delete(table).where(table.c.hash == secrets.hashed(secret))).rowcount
    return found if taken else None


def _find(connection: Connection, secret: str, now_ns: int) -> Invite | None:
    p = person_table.c
    query = select(p.id, p.name, p.role, p.owner, table.c.purpose).join(person_table, p.id == table.c.person)
    valid = (table.c.hash == secrets.hashed(secret), table.c.until_utc_ns > now_ns, p.state == "active")
    row = connection.execute(query.where(*valid)).one_or_none()
    return None if row is None else Invite(Person(*row[:4]), row.purpose)
