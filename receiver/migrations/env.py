"""Alembic's environment: runs revisions on the connection that receiver.migrations hands over, in its transaction."""

from typing import Any

from alembic import context

from receiver import db


def _made_here(thing: Any, _: str | None, __: str, reflected: bool, ___: Any) -> bool:
    return reflected or thing.info != db.ONLY_POSTGRESQL  # `make` works with SQLite


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=db.metadata,
    include_object=_made_here,
    render_as_batch=True,  # SQLite changes a column by copying the table
)
with context.begin_transaction():
    context.run_migrations()
