"""`roadwitness receiver jt808`: tell a regulator's platform where consenting vehicles are, and show how that goes."""

import asyncio
import logging
import signal
from dataclasses import asdict

import typer

from agent.errors import ConfigError
from receiver.options import Config, Db, Json, print_json, settings_of
from receiver.settings import ReceiverSettings

jt808 = typer.Typer(no_args_is_help=True, add_completion=False, help="Tell a regulator's platform (JT/T 808-2019).")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(jt808, name="jt808")


@jt808.command(epilog="Example: roadwitness receiver jt808 run --config /etc/roadwitness/receiver.toml")
def run(config: Config = None, database: Db = None) -> None:
    """Tell the platform of `[jt808]` until stopped. Run one such process for one database."""
    settings = settings_of(config, database)
    if not settings.jt808.enabled or not settings.jt808.terminals:
        raise ConfigError(
            f"{config or '--config'}: [jt808] is off; set enabled = true, host and port, and [jt808.terminals.DEVICE]"
        )
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


@jt808.command(epilog="Example: roadwitness receiver jt808 status --config /etc/roadwitness/receiver.toml --json")
def status(config: Config = None, database: Db = None, as_json: Json = False) -> None:
    """Show how far the platform has been told of each terminal."""
    from receiver import db
    from receiver.jt808.status import statuses

    settings = settings_of(config, database)
    engine = db.open_database(settings.database)
    try:
        with db.reading(engine) as connection:
            rows = statuses(connection, settings.jt808)
    finally:
        engine.dispose()
    if as_json:
        print_json({"enabled": settings.jt808.enabled, "terminals": [asdict(r) for r in rows]})
        return
    if not rows:
        typer.echo("[jt808.terminals] names no device.")
    for r in rows:
        why = f": {r.detail}" if r.detail else ""
        refused = f", {r.refused} called wrong" if r.refused else ""
        typer.echo(f"{r.device}  {r.plate}  {r.state}{why}  {r.told} told{refused}, {r.waiting} records wait")
