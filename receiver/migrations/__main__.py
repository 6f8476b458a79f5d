"""`python -m receiver.migrations make NAME`: write the revision that leads from the last one to db.metadata.

Read what it wrote: it does not see data that must move, nor what differs between SQLite and PostgreSQL.
"""

import sys

from alembic import command

from receiver import db, migrations
from receiver.engine import engine_of, parse


def main() -> None:
    """Make the next revision, or say how to."""
    if sys.argv[1:2] != ["make"] or len(sys.argv) != 3 or not sys.argv[2].isidentifier():
        sys.exit("write: python -m receiver.migrations make NAME, where NAME has letters, digits and _")
    db.load_tables()
    number = f"{int(migrations.head()) + 1:04d}"
    with engine_of(parse("sqlite://")).begin() as connection:
        migrations.upgrade(connection, migrations.head())
        command.revision(migrations.config(connection), sys.argv[2], autogenerate=True, rev_id=number)


if __name__ == "__main__":
    main()
