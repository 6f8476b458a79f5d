"""Inserts that know what to do when the key is there already, on both databases."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Executable, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert(connection: Connection, table: Table) -> "postgresql.Insert | sqlite.Insert":
    """Return an insert that can be told what to do on conflict."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def upsert(
    connection: Connection, table: Table, row: dict[str, Any], key: Sequence[str], update: dict[str, Any] | None = None
) -> Executable:
    """Build an insert that, where the key exists, sets `update`, or the whole row when that is None.

    Without a key and with nothing to set, whatever constraint the row offends keeps it out.
    """
    changed = {name: value for name, value in row.items() if name not in key} if update is None else update
    statement = insert(connection, table).values(**row)
    if not changed:
        return statement.on_conflict_do_nothing(index_elements=list(key) or None)
    return statement.on_conflict_do_update(index_elements=list(key), set_=changed)
