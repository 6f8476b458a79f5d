"""`roadwitness factory-reset`: make this box forget its car, its data and its keys."""

from pathlib import Path
from typing import Final

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

STORE: Final = Path("/var/lib/roadwitness")
EXAMPLES = """
Examples:

  sudo roadwitness factory-reset --reason "goes to another owner"

  sudo roadwitness factory-reset --reason "lost its owner" --yes --device rw-0123456789abcdef --json

The box tells the receiver first, and sends what it holds. Afterwards it has a new name; the old one is never used
again, and its certificate can be revoked: roadwitness ca revoke
"""


@app.command(epilog=EXAMPLES)
def factory_reset(
    reason: str = typer.Option("", "--reason", help="Why, in a few words; the receiver keeps it."),
    by: str = typer.Option("", "--by", help="Who does it."),
    device: str = typer.Option("", "--device", help="With --yes: the box that is meant, so that it is no other."),
    yes: bool = typer.Option(False, "--yes", help="Do not ask."),
    force_offline: bool = typer.Option(False, "--force-offline", help="Also where the receiver cannot be told."),
    config: Path | None = typer.Option(None, "--config", help="agent.toml of this box, in place of the installed one."),
    store: Path = typer.Option(STORE, "--store", help="Folder of the agent's store."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Destroy the keys of this box and erase its data, after telling the receiver."""
    from agent.fitting import leaving

    plan = leaving.Plan(store, config, by, reason, device, yes, force_offline)
    typer.echo(leaving.reset(plan, as_json=as_json))
