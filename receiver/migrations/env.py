"""Alembic's environment: runs revisions on the connection that receiver.migrations hands over, in its transaction."""

from alembic import context

from receiver import db

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=db.metadata,
    render_as_batch=True,  # SQLite changes a column by copying the table
)
with context.begin_transaction():
    context.run_migrations()
