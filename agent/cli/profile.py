"""`roadwitness profile`: which vehicle profile or DBC fits what is on a bus."""

import json
from pathlib import Path

import typer

from agent.cli.buses import FILE, source, span
from agent.cli.wires import Where, over_a_wire

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Find the vehicle profile that fits a car.",
    epilog="Example:  roadwitness profile suggest drive.log --dbc ./dbc",
)

SHOWN = 3


@app.callback()
def _profile() -> None:
    """Keep `suggest` a command of its own."""


@app.command(
    epilog="Examples:  roadwitness profile suggest --channel can0  ·  roadwitness profile suggest drive.log --dbc ./dbc"
)
@over_a_wire(adapters=False)
def suggest(
    where: Where,
    file: Path | None = FILE,
    dbc: list[Path] = typer.Option([], "--dbc", help="Try this DBC too, or all of a folder; may be repeated."),
    everything: bool = typer.Option(False, "--all", help="Show all that have anything in common with the bus."),
    seconds: float = typer.Option(
        0.0, "--seconds", min=0.0, help="How long; 0: all of a recording, 10 s of a live bus."
    ),
) -> None:
    """Say which known profiles fit, how much they decode, which channels they give, and what speaks against them."""
    from agent.cli import bustables
    from agent.config import config_dir
    from agent.vehicle.matching import Matcher

    files = [path for each in dbc for path in (sorted(each.glob("*.dbc")) if each.is_dir() else [each])]
    matcher = Matcher(config_dir(), files)
    with source(where, file, "identify", seconds or None) as frames:
        for batch, buses in frames.batches(span(seconds, file)):
            matcher.add(batch, buses)
        told = bustables.suggested(matcher.matches(), matcher.unreadable, matcher.traffic, frames)
        if matcher.unknown_uncounted:
            told["notes"].append(f"{matcher.unknown_uncounted} frames had identifiers that could not be told apart")
    if where.as_json:
        typer.echo(json.dumps(told, ensure_ascii=False))
    else:
        bustables.show_suggested(told, len(told["matches"]) if everything else SHOWN)
