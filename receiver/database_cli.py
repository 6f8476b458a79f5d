"""`roadwitness receiver database`: where the schema stands, and up and down by hand."""

from typing import Annotated

import typer

from agent.errors import ConfigError
from receiver.options import Config, Db, Json, print_json, settings_of

schema = typer.Typer(no_args_is_help=True, help="See, upgrade and downgrade the schema of the database.")
EMPTY = "empty"


def add_to(app: typer.Typer) -> None:
    """Add these commands to `roadwitness receiver`."""
    app.add_typer(schema, name="database")


@schema.command(epilog="Example: roadwitness receiver database show --db sqlite:///roadwitness.db --json")
def show(config: Config = None, database: Db = None, as_json: Json = False) -> None:
    """Say at which revision the database stands, and which this version wants."""
    from receiver import db, migrations

    with db.opening(settings_of(config, database).database) as (_, connection):
        found = migrations.revision_of(connection) or EMPTY
    if as_json:
        print_json({"revision": found, "head": migrations.head(), "known": list(migrations.revisions())})
        return
    typer.echo(f"The database is at {found}; this version wants {migrations.head()}.")


@schema.command(epilog="Example: roadwitness receiver database upgrade --db postgresql+psycopg://rw@db/rw")
def upgrade(config: Config = None, database: Db = None, as_json: Json = False) -> None:
    """Bring the database to this version's schema, as every start of the receiver does."""
    from receiver import db, migrations

    db.open_database(settings_of(config, database).database).dispose()
    _say(migrations.head(), as_json)


@schema.command(epilog="Example: roadwitness receiver database downgrade 0002 --yes")
def downgrade(
    revision: Annotated[str, typer.Argument(help="A revision of `show --json`, or base for none.")],
    yes: Annotated[bool, typer.Option("--yes", help="Really drop what only newer revisions hold.")] = False,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Take the schema back, for an older version of this program; what only newer revisions hold is dropped."""
    from receiver import db, migrations

    order = (migrations.BASE, *migrations.revisions())
    if revision not in order:
        raise ConfigError(f"revision {revision!r}: unknown; known: {', '.join(order)}")
    if not yes:
        raise ConfigError(f"revision {revision}: tables and columns that it lacks would be dropped; say --yes to do it")
    with db.opening(settings_of(config, database).database) as (_, connection):
        migrations.lock(connection)
        found = migrations.revision_of(connection)
        if found is None:
            raise ConfigError("the database is empty; nothing to downgrade")
        migrations.check_known(found)
        if order.index(found) < order.index(revision):
            raise ConfigError(f"the database is at {found}, which is before {revision}; use upgrade")
        migrations.downgrade(connection, revision)
    _say(revision, as_json)


def _say(revision: str, as_json: bool) -> None:
    if as_json:
        print_json({"revision": revision})
    else:
        typer.echo(f"The database is at {revision}.")
