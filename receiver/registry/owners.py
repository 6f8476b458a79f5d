"""Owners of vehicles: the insurer's reference for them, a name, and how they are reached; nothing else is kept."""

import re
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select

from receiver import db
from receiver.registry import tables
from receiver.registry.refusals import RegistryError

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PHONE: Final = re.compile(r"\+?[0-9][0-9 -]{4,30}")
_EMAIL: Final = re.compile(r"[^\s@<>\",;]{1,64}@[^\s@<>\",;]{1,180}")


@dataclass(frozen=True, slots=True)
class Owner:
    """One owner; `phone` and `email` are empty where they were not given."""

    id: str
    name: str
    phone: str = ""
    email: str = ""


def put(connection: Connection, owner: Owner, now_ns: int) -> None:
    """Keep an owner, in place of one of the same id; raise RegistryError naming the field."""
    for field, good in (
        ("id", bool(_ID.fullmatch(owner.id))),
        ("name", 0 < len(owner.name.strip()) <= 100 and owner.name.isprintable()),
        ("phone", not owner.phone or bool(_PHONE.fullmatch(owner.phone))),
        ("email", not owner.email or bool(_EMAIL.fullmatch(owner.email))),
    ):
        if not good:
            raise RegistryError(f"owner {owner.id[:64]!r}: {field}: {_WANTED[field]}", field)
    row = {"id": owner.id, "name": owner.name.strip(), "phone": owner.phone, "email": owner.email}
    statement = db.upsert(connection, tables.owner, {**row, "registered_utc_ns": now_ns}, ["id"], row)
    connection.execute(statement)


def get(connection: Connection, owner: str) -> Owner | None:
    """Return an owner by id."""
    t = tables.owner
    row = connection.execute(select(t.c.id, t.c.name, t.c.phone, t.c.email).where(t.c.id == owner)).one_or_none()
    return None if row is None else Owner(*row)


def listed(connection: Connection, after: str = "", most: int = 1000) -> list[Owner]:
    """Return owners by id, those beyond `after`."""
    t = tables.owner
    query = select(t.c.id, t.c.name, t.c.phone, t.c.email).where(t.c.id > after).order_by(t.c.id).limit(most)
    return [Owner(*row) for row in connection.execute(query)]


_WANTED: Final = {
    "id": "use 1 to 64 letters, digits, dots, dashes",
    "name": "write a name of up to 100 characters",
    "phone": "write digits, spaces and dashes, a + before them at most",
    "email": "write one address, name@host",
}
