"""`roadwitness receiver figures`: the insurer's figures over a period, with their definitions."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer

from agent import clock
from agent.errors import RoadwitnessError
from receiver.moments import read_day
from receiver.options import Config, Db, Json, open_database, print_json


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("figures", epilog="Example: roadwitness receiver figures --from 2026-01-01 --to 2026-12-31")(show)


def show(
    first: Annotated[str, typer.Option("--from", help="First day, YYYY-MM-DD; a year ago without it.")] = "",
    last: Annotated[str, typer.Option("--to", help="Last day; today without it.")] = "",
    language: Annotated[Literal["en", "zh"], typer.Option("--lang", help="Of the names.")] = "en",
    regimes: Annotated[Path | None, typer.Option("--regimes", help="Folder of the rate tables.")] = None,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Show claim frequency, delays, closing, average claim, loss ratio and renewal rate."""
    from receiver.claiming.assessing import local_day
    from receiver.figures import kpi
    from receiver.pricing.book import load_book

    today = local_day(clock.wall_ns())
    end = read_day("--to", last) if last else today
    start = read_day("--from", first) if first else end - timedelta(364)
    if end < start:
        raise RoadwitnessError(f"--from {start} lies after --to {end}")
    found = kpi.figures(open_database(config, database), load_book(regimes), start, end, today)
    if as_json:
        told = {f.name: {"value": None if f.value is None else str(f.value), "cases": f.cases} for f in found}
        print_json({"from": str(start), "to": str(end), "figures": told})
        return
    for f in found:
        name = kpi.definitions()[f.name]
        value = "–" if f.value is None else str(f.value)
        note = f"; {f.note}" if f.note else ""
        typer.echo(f"{getattr(name, language)}: {value} {name.unit} ({f.cases}{note})")
        typer.echo(f"  {kpi.meaning(f.name, language)}")
