"""`roadwitness receiver clip|commands|command-key`: ask a device for something, and see what came of it."""

import getpass
from typing import Annotated, Final

import typer

from agent.clock import iso_utc
from agent.errors import RoadwitnessError
from receiver.moments import read_moment
from receiver.options import Config, Db, Json, open_database, print_json, settings_of

_DEVICE: Final = "rw-0123456789abcdef"
DeviceArgument = Annotated[str, typer.Argument(help="Id of an enrolled device.")]
WHEN: Final = "2026-11-22T08:30:00+08:00"


def add_to(app: typer.Typer) -> None:
    """Add these commands to `roadwitness receiver`."""
    example = f"{_DEVICE} --from {WHEN} --to 2026-11-22T08:30:40+08:00 --reason 'claim 4711'"
    app.command(epilog=f"Example: roadwitness receiver clip {example}")(clip)
    app.command("commands", epilog=f"Example: roadwitness receiver commands {_DEVICE}")(list_commands)
    app.command("command-key", epilog="Example: roadwitness receiver command-key")(command_key)


def clip(
    device: DeviceArgument,
    begin: Annotated[str, typer.Option("--from", help=f"First moment, with its zone: {WHEN}.")],
    end: Annotated[str, typer.Option("--to", help="Last moment, with its zone.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; the owner reads it.")],
    camera: Annotated[list[str] | None, typer.Option("--camera", help="Only this camera; may be repeated.")] = None,
    actor: Annotated[str, typer.Option("--actor", help="Who asks; by default who is signed in here.")] = "",
    hours: Annotated[
        float, typer.Option("--hours", help="How long the device may take to hear it; at most 168.")
    ] = 72.0,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Ask a device for the video of a time that has passed; the owner sees it and must have agreed."""
    from agent import clock
    from receiver import commands

    settings = settings_of(config, database)
    arguments: dict[str, object] = {"from_utc_ns": read_moment("--from", begin), "to_utc_ns": read_moment("--to", end)}
    if camera:
        arguments["cameras"] = camera
    name = commands.issue(
        open_database(config, database),
        commands.command_key(settings),
        device,
        "clip",
        arguments,
        reason=reason,
        actor=actor or user(),
        life_s=hours * 3600,
        now_ns=clock.wall_ns(),
    )
    if as_json:
        print_json({"command": name, "device": device, "state": commands.WAITING})
    else:
        typer.echo(f"{name} waits to be sent; see what comes of it: roadwitness receiver commands {device}")


def list_commands(device: DeviceArgument, config: Config = None, database: Db = None, as_json: Json = False) -> None:
    """List what was asked of a device, by whom and why, and what came of it."""
    from agent import clock
    from receiver import commands

    found = commands.asked(open_database(config, database), device, clock.wall_ns(), 100)
    if as_json:
        print_json({"commands": [a._asdict() for a in found]})
        return
    if not found:
        typer.echo(f"Nothing was asked of {device}.")
    for a in found:
        when = iso_utc(a.issued_utc_ns or a.state_utc_ns)
        package = f"  package {a.incident}" if a.incident else ""
        typer.echo(f"{a.id}  {when}  {a.command}  {a.state}  by {a.actor}: {a.reason}  {a.detail}{package}")


def command_key(config: Config = None, database: Db = None, as_json: Json = False) -> None:
    """Print the public key of this receiver's commands, made at first use; agent.toml names it under commands."""
    from agent.chain import public_bytes
    from receiver import commands

    key = public_bytes(commands.command_key(settings_of(config, database))).hex()
    if as_json:
        print_json({"key": key})
    else:
        typer.echo(key)


def user() -> str:
    """Return who is signed in on this machine; raise RoadwitnessError where that is not known."""
    try:
        return getpass.getuser()
    except (KeyError, OSError) as e:
        raise RoadwitnessError("who asks is not known here; say it with --actor") from e
