"""`roadwitness trips`, `events`, `crashes` and `store`: look into a store, also while the agent writes to it."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import typer

from agent.cli.crashes import crash_table, newest_told, package_in_words, package_of
from agent.clock import NS_PER_S, iso_utc, wall_ns

crashes_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
trips_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
events_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
store_app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, help="Check, prune or describe a store."
)

_STORE = typer.Option(Path("/var/lib/roadwitness"), "--store", help="Folder of the store.")
_JSON = typer.Option(False, "--json", help="Print JSON.")


def _opened(folder: Path) -> Any:
    from agent.store import Store

    return closing(Store.open(folder, read_only=True))


def _when(stored: Any) -> dict[str, Any]:
    utc = stored.utc
    return {
        "utc": None if utc is None else iso_utc(utc.utc_ns),
        "time_quality": "none" if utc is None else utc.quality,
        "boot": stored.boot,
        "lane": stored.lane,
        "seq": stored.seq,
    }


def _show(title: str, columns: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title)
    table.title_justify = "left"
    for row in rows:
        table.add_row(*row)
    Console(highlight=False).print(table if rows else f"No {title.lower()}.")


@trips_app.command(epilog="Example:  roadwitness trips --store ./store --json")
def trips(store: Path = _STORE, as_json: bool = _JSON) -> None:
    """List the trips in a store, oldest first."""
    with _opened(store) as opened:
        stored = opened.trips()
    if as_json:
        import msgspec

        typer.echo(json.dumps([_when(s) | msgspec.to_builtins(s.record) for s in stored]))
        return
    rows = [
        [
            _when(s)["utc"] or "unknown",
            _when(s)["time_quality"],
            f"{s.record.distance_m / 1000:.2f} km",
            f"{(s.record.end_ns - s.record.start_ns) / NS_PER_S / 60:.0f} min",
            f"{s.record.max_speed_mps * 3.6:.0f} km/h",
            str(sum(n for k, n in s.record.event_counts.items() if not k.endswith(".unconfirmed"))),
        ]
        for s in stored
    ]
    _show("Trips", ["Start (UTC)", "Time is", "Distance", "Lasted", "Top speed", "Confirmed events"], rows)


@events_app.command(epilog="Example:  roadwitness events --store ./store")
def events(store: Path = _STORE, as_json: bool = _JSON) -> None:
    """List the events in a store, oldest first, and the crashes apart."""
    import msgspec

    with _opened(store) as opened:
        stored = opened.events()
        crashes = newest_told(opened)
    if as_json:
        typer.echo(json.dumps([_when(s) | msgspec.to_builtins(s.record) for s in stored]))
        return
    rows = [
        [
            _when(s)["utc"] or "unknown",
            s.record.kind.replace("_", " "),
            s.record.severity,
            "yes" if s.record.confirmed else "no",
            f"{s.record.peak:.2f} {s.record.unit}",
            ", ".join(s.record.sources),
        ]
        for s in stored
    ]
    _show("Events", ["At (UTC)", "What", "Severity", "Confirmed", "Peak", "Seen by"], rows)
    if crashes:
        from rich.console import Console

        table = crash_table([(_when(s)["utc"] or "unknown", msgspec.to_builtins(s.record)) for s in crashes])
        Console(highlight=False).print(table)


@crashes_app.command(epilog="Example:  roadwitness crashes --store ./store --json")
def crashes(store: Path = _STORE, as_json: bool = _JSON) -> None:
    """List the crashes in a store, and what stands in their packages."""
    import msgspec

    from agent.incident.folder import PACKAGES, look

    with _opened(store) as opened:
        stored = newest_told(opened)
    folders = {s.record.id: look(store / PACKAGES / s.record.id) for s in stored}
    if as_json:
        typer.echo(
            json.dumps([_when(s) | msgspec.to_builtins(s.record) | package_of(folders[s.record.id]) for s in stored])
        )
        return
    if not stored:
        typer.echo("No crashes.")
        return
    from rich.console import Console

    told = [(_when(s)["utc"] or "unknown", msgspec.to_builtins(s.record)) for s in stored]
    console = Console(highlight=False)
    console.print(crash_table(told))
    for s in stored:
        console.print(package_in_words(s.record.id, folders[s.record.id]))


@store_app.command(epilog="Example:  roadwitness store verify --store ./store")
def verify(store: Path = _STORE, as_json: bool = _JSON) -> None:
    """Check the hash chain and signature of every record and the checksum of every block; exit code 1 if one is bad."""
    with _opened(store) as opened:
        report = opened.verify()
    if as_json:
        import msgspec

        typer.echo(msgspec.json.encode(report).decode())
    else:
        typer.echo(f"{report.entries} records and {report.blocks} blocks checked, {len(report.faults)} do not hold.")
        for fault in report.faults:
            typer.echo(f"{fault.lane} {fault.seq} of {fault.lineage or 'samples'}: {fault.cause}")
    if not report.ok:
        raise typer.Exit(1)


@store_app.command(epilog="Example:  roadwitness store packages --store ./store")
def packages(store: Path = _STORE, as_json: bool = _JSON) -> None:
    """List the packages, oldest first, and how much of each file the receiver holds."""
    with _opened(store) as opened:
        stored, progress = opened.uploads.packages(), opened.uploads.progress()
    listed: list[dict[str, Any]] = []
    for s in stored:
        held = [f.size if s.acknowledged else min(f.size, progress.get(f.sha256, 0)) for f in s.package.files]
        size = sum(f.size for f in s.package.files)
        listed.append(
            {
                "incident": s.package.incident,
                "announced": s.announced,
                "acknowledged": s.acknowledged,
                "bytes": size,
                "held": sum(held),
                "files": [
                    {"name": f.name, "bytes": f.size, "held": h} for f, h in zip(s.package.files, held, strict=True)
                ],
            }
        )
    if as_json:
        typer.echo(json.dumps(listed))
        return
    rows = [
        [
            p["incident"] if first else "",
            f["name"],
            f"{f['bytes']:,}",
            "100 %" if p["acknowledged"] else f"{100 * f['held'] // max(1, f['bytes'])} %",
            ("receiver has it all" if p["acknowledged"] else "waits") if first else "",
        ]
        for p in listed
        for first, f in ((i == 0, f) for i, f in enumerate(p["files"]))
    ]
    _show("Packages", ["Incident", "File", "Bytes", "Acknowledged", "State"], rows)


@store_app.command(epilog="Example:  roadwitness store prune --store ./store")
def prune(store: Path = _STORE, as_json: bool = _JSON) -> None:
    """Apply retention now: old samples and old acknowledged records go, unacknowledged ones never."""
    from agent.store import Store

    with closing(Store.open(store)) as opened:
        report = opened.prune(wall_ns())
    if as_json:
        import msgspec

        typer.echo(msgspec.json.encode(report).decode())
    else:
        typer.echo(f"Removed {report.entries} records and {report.blocks} blocks with {report.samples} samples.")


@store_app.command("format", epilog="Example:  roadwitness store format --readable --store ./store")
def show_format(
    store: Path = _STORE,
    readable: bool = typer.Option(False, "--readable", help="Also fail where this version cannot use that store."),
) -> None:
    """List the steps by which this version lays out a store; an update compares two versions by it."""
    from agent.store.schema import ADDITIVE, MIGRATIONS

    if readable and store.exists():
        with _opened(store):
            pass
    for name, _ in MIGRATIONS:
        typer.echo(f"{name} additive" if name in ADDITIVE else name)
