"""`roadwitness uninstall`: take this box out of its car."""

from pathlib import Path
from typing import Final

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

STORE: Final = Path("/var/lib/roadwitness")
EXAMPLES = """
Examples:

  sudo roadwitness uninstall --keep-data --reason "car was sold" --token-file token

  sudo roadwitness uninstall --erase --reason "box is faulty" --yes --device rw-0123456789abcdef

The services stop and do not start at boot. The binding ends with a technician's token, else on the receiver's page
'Bindings'. The program itself stays; remove it with: apt purge roadwitness
"""


@app.command(epilog=EXAMPLES)
def uninstall(
    erase: bool | None = typer.Option(None, "--erase/--keep-data", help="What becomes of keys and data on the box."),
    reason: str = typer.Option("", "--reason", help="Why, in a few words; the receiver keeps it."),
    by: str = typer.Option("", "--by", help="Who does it."),
    token_file: str = typer.Option("", "--token-file", help="File with your API token, to end the binding at once."),
    receiver: str = typer.Option("", "--receiver", help="Address of the receiver [default: that of the enrolment]."),
    device: str = typer.Option("", "--device", help="With --yes: the box that is meant, so that it is no other."),
    yes: bool = typer.Option(False, "--yes", help="Do not ask."),
    force_offline: bool = typer.Option(False, "--force-offline", help="Also where the receiver cannot be told."),
    config: Path | None = typer.Option(None, "--config", help="agent.toml of this box, in place of the installed one."),
    store: Path = typer.Option(STORE, "--store", help="Folder of the agent's store."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Take this box out of its car: stop the services, tell the receiver, end the binding, keep or erase the data."""
    from agent.fitting import leaving

    plan = leaving.Plan(store, config, by, reason, device, yes, force_offline, token_file, receiver)
    typer.echo(leaving.uninstall(plan, erase, as_json=as_json))
