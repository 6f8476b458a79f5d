"""`roadwitness receiver jt808`: tell a regulator's platform where consenting vehicles are, and show how that goes."""

import asyncio
import json
import logging
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Connection, func, select

from agent.clock import iso_utc
from agent.errors import ConfigError
from receiver.settings import ReceiverSettings, load_settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Tell a regulator's platform (JT/T 808-2019).")

Config = Annotated[Path, typer.Option("--config", help="The receiver.toml that has [jt808].")]


@dataclass(frozen=True, slots=True)
class TerminalStatus:
    """How one terminal stands; `waiting` counts records that the platform has not confirmed."""

    device: str
    plate: str
    state: str
    detail: str
    since: str | None
    told: int
    refused: int
    last_told: str | None
    waiting: int


@app.command(epilog="Example: roadwitness receiver jt808 run --config /etc/roadwitness/receiver.toml")
def run(config: Config) -> None:
    """Tell the platform of `[jt808]` until stopped. Run one such process for one database."""
    settings = load_settings(config)
    if not settings.jt808.enabled or not settings.jt808.terminals:
        raise ConfigError(f"{config}: [jt808] is off; set enabled = true, host and port, and [jt808.terminals.DEVICE]")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    asyncio.run(_run(settings))


async def _run(settings: ReceiverSettings) -> None:
    from receiver import db
    from receiver.jt808.gateway import Gateway

    engine = db.open_database(settings.database)
    try:
        running = asyncio.ensure_future(Gateway(engine, settings.jt808).run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, running.cancel)
        await asyncio.gather(running, return_exceptions=True)
        if not running.cancelled():
            running.result()
    finally:
        engine.dispose()


@app.command(epilog="Example: roadwitness receiver jt808 status --config /etc/roadwitness/receiver.toml --json")
def status(
    config: Config, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False
) -> None:
    """Show how far the platform has been told of each terminal."""
    from receiver import db

    settings = load_settings(config)
    engine = db.open_database(settings.database)
    try:
        with db.reading(engine) as connection:
            rows = statuses(connection, settings)
    finally:
        engine.dispose()
    if as_json:
        typer.echo(json.dumps({"enabled": settings.jt808.enabled, "terminals": [asdict(r) for r in rows]}))
        return
    if not rows:
        typer.echo(f"{config}: [jt808.terminals] names no device.")
    for r in rows:
        why = f": {r.detail}" if r.detail else ""
        refused = f", {r.refused} called wrong" if r.refused else ""
        typer.echo(f"{r.device}  {r.plate}  {r.state}{why}  {r.told} told{refused}, {r.waiting} records wait")


def statuses(connection: Connection, settings: ReceiverSettings) -> list[TerminalStatus]:
    """Return how each configured terminal stands."""
    from receiver.jt808 import tables

    found = []
    for device, terminal in settings.jt808.terminals.items():
        row = tables.row_of(connection, device)
        found.append(
            TerminalStatus(
                device=device,
                plate=terminal.plate,
                state=row.state if row else "off",
                detail=row.detail if row else "",
                since=iso_utc(row.changed_utc_ns) if row else None,
                told=row.told if row else 0,
                refused=row.refused if row else 0,
                last_told=iso_utc(row.told_utc_ns) if row and row.told_utc_ns else None,
                waiting=_waiting(connection, device),
            )
        )
    return found


def _waiting(connection: Connection, device: str) -> int:
    from receiver import db
    from receiver.jt808 import positions, tables

    entry, done = db.entry, tables.sent
    same = (done.c.device == entry.c.device) & (done.c.lineage == entry.c.lineage) & (done.c.lane == entry.c.lane)
    query = select(func.count()).select_from(entry.outerjoin(done, same)).where(entry.c.device == device)
    query = query.where(entry.c.lane.in_(positions.LANES), entry.c.kind == entry.c.lane)
    return connection.execute(query.where(entry.c.seq > func.coalesce(done.c.seq, 0))).scalar_one()
