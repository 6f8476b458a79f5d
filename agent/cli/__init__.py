"""The command `roadwitness`: one lazy table of commands, so that `--help` starts fast and no part drags in another.

The table names modules by string. That keeps the import rules honest: the device does not import the receiver or
what feeds it in tests, it only knows that such a command exists.
"""

import faulthandler
import json
import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from agent.errors import ConfigError, RoadwitnessError

# command -> (module:typer app, one line for --help)
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "replay": ("agent.cli.replay:app", "Turn recordings into trips and events, through the whole product."),
    "agent": ("agent.cli.agent:app", "Run the daemon: read the devices of this car until it is stopped."),
    "dashcam": ("agent.cli.dashcam:app", "Run the dashcam: keep what the cameras of this car see, in a loop."),
    "config": ("agent.cli.config:app", "Check the agent's configuration, or show it with all defaults."),
    "demo": ("sim.demo:app", "Show the product: virtual car, agent, broker, receiver and page on this machine."),
    "trips": ("agent.cli.store:trips_app", "List the trips in a store."),
    "events": ("agent.cli.store:events_app", "List the events in a store."),
    "crashes": ("agent.cli.store:crashes_app", "List the crashes in a store, and their packages."),
    "verify": ("agent.cli.verify:app", "Check the package of a crash: was anything altered, removed or added?"),
    "store": ("agent.cli.store:store_app", "Check, prune or describe a store."),
    "doctor": ("agent.cli.doctor:app", "Examine this box: what is wrong with it, and what to do next."),
    "install": ("agent.cli.install:app", "Fit this box into a car, step by step; or check the sheet of a fitting."),
    "uninstall": ("agent.cli.uninstall:app", "Take this box out of its car: services, binding, data."),
    "factory-reset": ("agent.cli.reset:app", "Destroy the keys of this box and erase its data."),
    "vault": ("agent.cli.vault:app", "Encrypt the store and the video, with a key that is sealed to this box."),
    "support-bundle": ("agent.cli.support:app", "Make one file that shows a desk what is wrong with this box."),
    "obd": ("agent.cli.obd:app", "Ask the car: identity, values, trouble codes, readiness, freeze frame."),
    "can": ("agent.cli.can:app", "Look at a CAN bus or a recording: sniff, record, rates, identify, decode."),
    "profile": ("agent.cli.profile:app", "Suggest which vehicle profile fits what is on the bus."),
    "receiver": ("receiver.cli:app", "Run the insurer's receiver and manage its devices."),
    "sim": ("sim.cli:app", "Record drives of the virtual car, with the truth beside them."),
    "enrol": ("agent.cli.enrol:app", "Enrol this box at an insurer with a one-time code."),
    "ca": ("receiver.authority.command:app", "Keep the certificate authority of an insurer's boxes."),
    "update": ("agent.cli.update:app", "Install the vendor's newest version, or go back to the one before."),
    "live": ("agent.cli.live:app", "Watch the car as the agent sees it: signals, events, devices, queue, sync."),
    "warm": ("agent.cli.warm:app", "Compile the kernels now, so that the first start is fast."),
}

# command -> what else of the product it needs beside its own module; those in agent.cli need the drivers' libraries
NEEDS: Final[dict[str, tuple[str, ...]]] = {"demo": ("receiver", "drivers"), "verify": ()}


def parts(name: str) -> tuple[str, ...]:
    """Return the packages of the product that a command needs."""
    top = COMMANDS[name][0].partition(".")[0]
    return (top, *NEEDS.get(name, ("drivers",) if top == "agent" else ()))


def here(name: str) -> bool:
    """Say whether a command's part of the product is installed: a box lacks the receiver, a server the drivers."""
    return all(find_spec(part) for part in parts(name))


class _Command(TyperCommand):
    """A row of the table: shows its help line unloaded, becomes the real command when it is used."""

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        module, attribute = COMMANDS[str(self.name)][0].split(":")
        app = getattr(import_module(module), attribute)
        return typer.main.get_command(app).make_context(info_name, args, parent=parent, **extra)


class _Commands(TyperGroup):
    """The table as a Typer group."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name in COMMANDS if here(name)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        if not here(cmd_name):
            part = "receiver" if COMMANDS[cmd_name][0].startswith("receiver") else "box"
            raise ConfigError(
                f"{cmd_name} is a command of the {part}'s package or a checkout, which are not installed here"
            )
        return _Command(cmd_name, help=COMMANDS[cmd_name][1])


app = typer.Typer(
    cls=_Commands,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Roadwitness: sees how a car is driven, proves what happened in a crash, gets it to an insurer whole.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from agent.version import installed_version

        typer.echo(f"roadwitness {installed_version()}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Keep the options that come before a command."""


def main() -> None:
    """Run the command line; expected trouble is one line and exit code 1, bugs show their traceback."""
    if not faulthandler.is_enabled():
        with suppress(RuntimeError):  # standard error is closed
            faulthandler.enable()  # a library that dies in C says where, too
    try:
        app()
    except RoadwitnessError as e:
        if "--json" in sys.argv:
            typer.echo(json.dumps({"error": str(e), "kind": type(e).__name__}))
        else:
            typer.echo(f"roadwitness: {e}", err=True)
        sys.exit(e.exit_code)
    except BrokenPipeError:
        # the reader of our output has gone (`| head`): not an error
        sys.stderr.close()
        sys.exit(0)
