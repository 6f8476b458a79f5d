"""`roadwitness receiver export`: a device's trips, tracks or events in a range of time as a file."""

from typing import Annotated, Final

import typer

from receiver.options import Config, Db, open_database

COUNTED: Final = {"tracks": "points", "trips": "trips", "events": "events"}


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    example = "roadwitness receiver export rw-0123456789abcdef --format"
    app.command(
        "export",
        epilog=f"Examples: {example} gpx --from 2026-11-01 --to 2026-12-01 --out november.gpx · "
        f"{example} csv --what events --out - | head",
    )(export)


def export(
    device: Annotated[str, typer.Argument(help="Id of an enrolled device.")],
    format: Annotated[str, typer.Option("--format", help="gpx, geojson, csv or parquet.")],
    what: Annotated[str, typer.Option("--what", help="tracks (with their trips), trips or events.")] = "tracks",
    since: Annotated[str, typer.Option("--from", help="First moment, ISO 8601; UTC unless it says.")] = "1970-01-01",
    until: Annotated[str, typer.Option("--to", help="End, excluded; ISO 8601; UTC unless it says.")] = "2200-01-01",
    out: Annotated[str, typer.Option("--out", help="The file, or - for standard output.")] = "-",
    config: Config = None,
    database: Db = None,
) -> None:
    """Write a device's tracks, trips or events of a range of time to a file.

    Times are in UTC where the box learned it; where it did not they are empty, and the range goes by arrival.
    """
    from agent import clock
    from agent.errors import ConfigError
    from receiver import access, fleet
    from receiver.exports.files import check, opened, parse_moment, write
    from receiver.exports.source import Span

    span = Span(parse_moment("--from", since), parse_moment("--to", until))
    check(what, format)
    engine = open_database(config, database)
    try:
        if not fleet.known(engine, device):
            raise ConfigError(
                f"device {device}: not enrolled here; `roadwitness receiver devices` lists those that are"
            )
        look = access.Look(access.LOCAL, "", device, "", "export", f"{what} {format}")
        access.append(engine, look, clock.wall_ns())
        with opened(out) as file:
            count = write(file, engine, device, span, what, format)
    finally:
        engine.dispose()
    if out != "-":
        typer.echo(f"{out}: {count} {COUNTED[what]}", err=True)
