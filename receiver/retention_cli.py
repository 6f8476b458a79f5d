"""`roadwitness receiver retention run`: delete what is past its days, once a day by a timer."""

from typing import Annotated

import typer

from agent import clock
from agent.errors import StoreError
from receiver.options import Config, Db, Json, open_database, print_json, settings_of

retention = typer.Typer(
    no_args_is_help=True, help="Delete what is kept no longer (table `retention` of receiver.toml)."
)


def add_to(app: typer.Typer) -> None:
    """Add these commands to `roadwitness receiver`."""
    app.add_typer(retention, name="retention")


@retention.command(epilog="Example: roadwitness receiver retention run --config receiver.toml")
def run(
    at_most: Annotated[
        float, typer.Option("--minutes", help="Stop after so many minutes; the rest is done next time.")
    ] = 60.0,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Delete tracks, health, trips, events and boxes' answers past their days; never what an open claim may need."""
    from receiver import retention as work
    from receiver.filestore import FileStore
    from receiver.service import keeping

    settings = settings_of(config, database)
    engine, now_ns = open_database(config, database), clock.wall_ns()
    until_ns = clock.monotonic_ns() + int(at_most * 60 * clock.NS_PER_S)

    def late() -> bool:
        return clock.monotonic_ns() > until_ns

    gone = work.run(engine, settings.retention, now_ns, late)
    files = FileStore(settings.files, settings.database)
    try:
        answers = keeping.drop_old(engine, files, settings.retention.answer_days, now_ns, late)
    except OSError as e:
        raise StoreError(f"store of packages: {e.strerror or e}; old answers stay until the next run") from e
    gone |= {"answer": answers} if answers else {}
    engine.dispose()
    if as_json:
        print_json({"deleted": gone})
    else:
        said = [f"{rows} rows of {table} deleted." for table, rows in sorted(gone.items())]
        typer.echo("\n".join(said or ["Nothing is past its days."]))
