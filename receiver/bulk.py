"""Many rows at once: executemany on SQLite, COPY on PostgreSQL.

Statements are made once for each table, and rows are tuples: SQLAlchemy's own way costs more than the database does.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Connection, Float, LargeBinary, String, Table
from sqlalchemy.exc import DBAPIError

# Names by which PostgreSQL knows the types that our split tables and projections have; COPY in binary wants to be told.
_TYPES: Final = ((BigInteger, "int8"), (Boolean, "bool"), (Float, "float8"), (LargeBinary, "bytea"), (String, "text"))


def put(connection: Connection, table: Table, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows whose values stand in the order of `columns`; raise sqlalchemy's DBAPIError."""
    if connection.dialect.name == "postgresql":
        _copy(connection, table, columns, rows)
    else:
        connection.exec_driver_sql(_insert(table, columns), list(rows))


@cache
def _insert(table: Table, columns: tuple[str, ...]) -> str:
    return f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


@cache
def _types(table: Table, columns: tuple[str, ...]) -> list[str]:
    return [next(name for kind, name in _TYPES if isinstance(table.c[column].type, kind)) for column in columns]


def _copy(connection: Connection, table: Table, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
    import psycopg

    driver: Any = connection.connection.driver_connection
    statement = f"COPY {table.name} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(_types(table, columns))
            for row in rows:
                copy.write_row(row)
    except psycopg.Error as e:
        dialect = connection.dialect
        if driver.closed:
            connection.invalidate(e)
        raise DBAPIError.instance(statement, None, e, psycopg.Error, hide_parameters=True, dialect=dialect) from e
