"""`roadwitness sim`: record drives of the virtual car, with the truth beside them."""

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Record drives of the virtual car, with the truth beside them.",
)


def _complete(incomplete: str) -> list[str]:
    """Offer the scenarios' names to the shell."""
    from sim.scenario import SCENARIOS

    return [name for name in SCENARIOS if name.startswith(incomplete)]


@app.command(
    epilog="Example: roadwitness sim record /tmp/drive --scenario commute --seed 7 && "
    "roadwitness replay /tmp/drive/commute-7.log --profile simcar"
)
def record(
    out: Annotated[Path, typer.Argument(help="A folder, or the .log file to write.", show_default=False)],
    scenario: Annotated[
        str, typer.Option(help="What is driven; see the list of scenarios.", autocompletion=_complete)
    ] = "commute",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 1,
    minutes: Annotated[
        float | None,
        typer.Option(min=1.0, max=300.0, help="About how long.", show_default="the scenario's own"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as one JSON object.")] = False,
) -> None:
    """Drive once and write a candump log, its DBC and truth.json (what happened, when, how hard)."""
    from sim.drive import simulate
    from sim.record import write_drive

    drive = simulate(scenario, seed, minutes)
    log, dbc, truth_path = write_drive(drive, out)
    truth = drive.truth()
    if as_json:
        summary = {k: truth[k] for k in ("scenario", "seed", "frames", "duration_s", "distance_m", "start_utc")}
        paths = {"log": str(log), "dbc": str(dbc), "truth": str(truth_path)}
        typer.echo(json.dumps({**paths, **summary, "events": len(truth["events"])}))
        return
    typer.echo(
        f"{log}: {truth['frames']:,} frames, {truth['duration_s'] / 60:.1f} min, {truth['distance_m'] / 1000:.1f} km, "
        f"{len(truth['events'])} events"
    )
    typer.echo(f"{dbc}\n{truth_path}")


@app.command(epilog="Example: roadwitness sim scenarios --json")
def scenarios(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the scenarios that can be driven."""
    from sim.scenario import SCENARIOS

    if as_json:
        typer.echo(
            json.dumps(
                {"scenarios": [{"name": s.name, "minutes": s.minutes, "what": s.what} for s in SCENARIOS.values()]}
            )
        )
        return
    for s in SCENARIOS.values():
        typer.echo(f"{s.name:<15} {s.minutes:>3.0f} min  {s.what}")
