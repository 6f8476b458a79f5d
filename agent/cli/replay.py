"""`roadwitness replay`: recordings through the very pipeline that the live car uses."""

import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import typer

from agent.cli.crashes import crash_table
from agent.clock import NS_PER_S, monotonic_ns

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

EXAMPLES = """
Examples:

  roadwitness replay drive.log.xz --profile canmod

  roadwitness replay can.log imu.csv --json

  roadwitness replay drive.blf --dbc car.dbc --profile toyota-rav4 --store ./store --uplink mqtt://127.0.0.1:1883
"""


@app.command(epilog=EXAMPLES)
def replay(
    files: list[Path] = typer.Argument(
        ..., metavar="FILE...", help="Recordings: candump, ASC, BLF, TRC, MF4, CSV; text also .xz or .gz."
    ),
    profile: str = typer.Option(
        "", "--profile", "-p", help="Vehicle profile: name or file; found by itself if absent."
    ),
    dbc: Path | None = typer.Option(None, "--dbc", help="Use this DBC file in place of the profile's own."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
    store: Path | None = typer.Option(None, "--store", help="Keep everything in the store in this folder."),
    uplink: str = typer.Option("", "--uplink", help="Send to this broker (mqtts://host:8883), wait for the receiver."),
    config: Path | None = typer.Option(None, "--config", help="agent.toml to use in place of the installed one."),
    wait_s: float = typer.Option(60.0, "--wait", min=0.0, help="Longest wait for the receiver, seconds."),
) -> None:
    """Replay recordings: decode, fuse, detect, find trips; optionally store them and send them."""
    started_ns = monotonic_ns()
    from agent.replay import Replayed, run

    with ExitStack() as stack:
        if uplink and store is None:
            store = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="roadwitness-")))
        progress = None if as_json or not sys.stderr.isatty() else _progress(stack, files)
        replayed: Replayed = run(
            files, profile=profile, dbc=dbc, store=store, uplink=uplink, config=config, wait_s=wait_s, progress=progress
        )
    report = replayed.report((monotonic_ns() - started_ns) / NS_PER_S)
    if as_json:
        typer.echo(json.dumps(report))
    else:
        _show(report)
    sync = report.get("sync")
    if sync and sync["acknowledged"] < sync["entries"]:
        missing = sync["entries"] - sync["acknowledged"]
        why = sync["reason"] or f"not acknowledged within {wait_s:.0f} s"
        typer.echo(f"roadwitness: {missing} of {sync['entries']} entries are still to be sent: {why}", err=True)
        raise typer.Exit(1)


def _progress(stack: ExitStack, files: list[Path]) -> Any:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    bar = stack.enter_context(
        Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TextColumn("{task.completed:,} frames and samples"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
    )
    task = bar.add_task(files[0].name, total=None)
    return lambda done: bar.update(task, completed=done)


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    recording, speed, mount = report["recording"], report["speed"], report["mount"]
    console.print(
        f"{recording['frames']:,} frames and {recording['samples']:,} samples over {_clock(recording['duration_s'])}"
        f" in {speed['wall_s']:.2f} s"
        f" ({speed['frames_per_s']:,.0f} frames/s, {speed['realtime_factor']:,.0f} x real time)"
    )
    if recording["profile"]:
        console.print(f"Vehicle profile: {recording['profile']}")
    for problem in recording["problems"]:
        console.print(f"[yellow]Note:[/yellow] {problem}")
    if mount:
        console.print(
            f"Box mount: gravity {_vector(mount['gravity'])}, forward {_vector(mount['forward'])}"
            f" (box axes), confidence {mount['confidence']:.2f}"
        )
    trips = Table("Start, UTC", "End", "Distance", "Moving", "Idle", "Stops", "Top speed", title="Trips")
    trips.title_justify = "left"
    for trip in report["trips"]:
        trips.add_row(
            _moment(trip),
            _clock(trip["end_t_s"]),
            f"{trip['distance_m'] / 1000:.2f} km",
            _clock(trip["moving_s"]),
            _clock(trip["idle_s"]),
            str(trip["stops"]),
            f"{trip['max_speed_mps'] * 3.6:.0f} km/h",
        )
    console.print(trips if report["trips"] else "No trips.")
    events = Table("At", "What", "Severity", "Confirmed", "Peak", "Lasted", "Before", "Seen by", title="Events")
    events.title_justify = "left"
    for event in report["events"]:
        before = event["speed_before_mps"]
        events.add_row(
            _clock(event["t_s"]),
            event["kind"].replace("_", " "),
            event["severity"],
            "yes" if event["confirmed"] else "no",
            f"{event['peak']:.2f} {event['unit']}",
            f"{event['duration_s']:.1f} s",
            "" if before is None else f"{before * 3.6:.0f} km/h",
            ", ".join(event["sources"]),
        )
    console.print(events if report["events"] else "No events.")
    if report["crashes"]:
        console.print(crash_table([(_clock(c["t_s"]), c) for c in report["crashes"]]))
    if report.get("sync"):
        console.print(f"Receiver holds {report['sync']['acknowledged']} of {report['sync']['entries']} entries.")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _vector(v: list[float]) -> str:
    return "(" + ", ".join(f"{x:+.2f}" for x in v) + ")"


def _moment(trip: dict[str, Any]) -> str:
    """Say when a trip began: the date and minute in UTC where they are known, else its time in the recording."""
    utc: str | None = trip["start_utc"]
    return _clock(trip["start_t_s"]) if utc is None else utc[:16].replace("T", " ")
