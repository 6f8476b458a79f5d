"""`roadwitness receiver`: run the insurer's receiver and manage its devices."""

import logging
from dataclasses import replace
from typing import Annotated

import typer

from agent.clock import iso_utc
from receiver import command_cli, crash_cli, database_cli, dispute_cli, policy_cli, retention_cli
from receiver.authority import command as authority
from receiver.claiming import command as claiming
from receiver.exports import command as exports
from receiver.figures import command as figures
from receiver.jt808 import command as jt808
from receiver.options import Config, Db, Json, open_database, print_json, settings_of
from receiver.people import command as people
from receiver.pricing.cli import add_to as add_pricing
from receiver.rating import command as rating
from receiver.registry import command as registry
from receiver.renewals import command as renewals
from receiver.scoring import command as scoring
from receiver.service import command as service

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Run the insurer's receiver and manage its devices.")
add_pricing(app)


@app.command(
    epilog="Examples: roadwitness receiver serve --embedded-broker 1883 · "
    "roadwitness receiver serve --broker mqtts://broker.example:8883 --db postgresql+psycopg://rw@db/rw"
)
def serve(
    config: Config = None,
    database: Db = None,
    broker: Annotated[str | None, typer.Option("--broker", help="The broker's address: mqtts://host:8883.")] = None,
    embedded_broker: Annotated[
        int | None,
        typer.Option("--embedded-broker", metavar="PORT", help="Run a broker here, on 127.0.0.1 only; 0: any port."),
    ] = None,
    http: Annotated[str | None, typer.Option("--http", help="Where the pages are: HOST:PORT.")] = None,
    pages: Annotated[bool, typer.Option("--pages/--no-pages", help="Serve the pages, or only receive.")] = True,
) -> None:
    """Receive from the broker, and serve the pages, until stopped."""
    from agent.errors import ConfigError
    from receiver.serve import parse_http
    from receiver.serve import serve as run

    if broker is not None and embedded_broker is not None:
        raise ConfigError("--broker and --embedded-broker exclude each other; give one")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    settings = settings_of(config, database)
    if broker is not None:
        settings = replace(settings, broker=replace(settings.broker, url=broker))
    if http is not None:
        asked = parse_http(http)
        settings = replace(settings, http=replace(settings.http, host=asked.host, port=asked.port))
    run(settings, embedded_broker, pages)


@app.command("devices", epilog="Example: roadwitness receiver devices --db sqlite:///roadwitness.db --json")
def list_devices(config: Config = None, database: Db = None, as_json: Json = False) -> None:
    """List the devices that are enrolled and those that wait for it."""
    from receiver import devices

    engine = open_database(config, database)
    enrolled, waiting = devices.devices(engine), devices.pending(engine)
    if as_json:
        print_json({"devices": [d._asdict() for d in enrolled], "pending": [p._asdict() for p in waiting]})
        return
    if not enrolled and not waiting:
        typer.echo("No device has been heard of yet.")
    for d in enrolled:
        seen = iso_utc(d.seen_utc_ns) if d.seen_utc_ns else "never"
        typer.echo(f"{d.id}  {d.state}  {'online' if d.online else 'offline'}  seen {seen}")
    for p in waiting:
        typer.echo(f"{p.id}  waits since {iso_utc(p.first_utc_ns)}; enrol it: roadwitness receiver enrol {p.id}")


@app.command(epilog="Example: roadwitness receiver enrol rw-0123456789abcdef")
def enrol(
    device: Annotated[str, typer.Argument(help="Id of a device that waits, or a public key in 64 hex digits.")],
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Trust a device from now on."""
    from receiver import devices

    name = devices.enrol(open_database(config, database), device)
    if as_json:
        print_json({"device": name, "state": "accepted"})
    else:
        typer.echo(f"{name} is enrolled.")


@app.command(epilog="Example: roadwitness receiver block rw-0123456789abcdef")
def block(
    device: Annotated[str, typer.Argument(help="Id of an enrolled device.")],
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Take nothing more from a device; what it sent stays. `enrol` undoes it."""
    from receiver import devices

    devices.block(open_database(config, database), device)
    if as_json:
        print_json({"device": device, "state": "blocked"})
    else:
        typer.echo(f"{device} is blocked.")


command_cli.add_to(app)
crash_cli.add_to(app)
scoring.add_to(app)
rating.add_to(app)
exports.add_to(app)
jt808.add_to(app)
claiming.add_to(app)
dispute_cli.add_to(app)
policy_cli.add_to(app)
renewals.add_to(app)
figures.add_to(app)
database_cli.add_to(app)
retention_cli.add_to(app)
people.add_to(app)
registry.add_to(app)
authority.add_to(app)
service.add_to(app)
