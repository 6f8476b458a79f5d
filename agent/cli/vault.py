"""`roadwitness vault`: the store and the video encrypted, with a key that is sealed to this box."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from agent.vault.vault import State, Vault

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Keep the store and the video encrypted at rest.")

HOME: Final = Path("/var/lib/roadwitness-vault")
FOLDERS: Final = [Path("/var/lib/roadwitness"), Path("/var/lib/roadwitness-dashcam")]

Home = typer.Option(HOME, "--home", help="Where the sealed key is kept.")
Folders = typer.Option(FOLDERS, "--folder", help="A folder to encrypt; may be given again.")
Json = typer.Option(False, "--json", help="Print JSON.")

WORDS: Final = {
    "open": "encrypted, open",
    "locked": "encrypted, locked",
    "plain": "not encrypted",
    "absent": "not there",
}


def _vault(home: Path, folders: list[Path]) -> "Vault":
    from agent.vault.vault import Vault

    return Vault(home, folders)


def _show(state: "State", as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"bound": state.bound, "folders": [f._asdict() for f in state.folders]}))
        return
    typer.echo(f"Key: sealed to {state.bound}." if state.bound else "Key: none. `roadwitness vault make` makes one.")
    for folder in state.folders:
        typer.echo(f"{folder.path}: {WORDS[folder.state]}{f' ({folder.cipher})' if folder.cipher else ''}")


@app.command(epilog="Example: sudo roadwitness vault state --json")
def state(home: Path = Home, folder: list[Path] = Folders, as_json: bool = Json) -> None:
    """Say what is encrypted, and whether it is open."""
    _show(_vault(home, folder).state(), as_json)


@app.command(
    epilog="Example: sudo systemctl stop roadwitness-agent roadwitness-dashcam; sudo roadwitness vault make; "
    "sudo systemctl start roadwitness-agent roadwitness-dashcam"
)
def make(home: Path = Home, folder: list[Path] = Folders, as_json: bool = Json) -> None:
    """Seal a key to this box and encrypt the folders, with what is in them; the services must be stopped."""
    _show(_vault(home, folder).make(), as_json)


@app.command("open", epilog="Example: sudo roadwitness vault open (systemd does it at each start)")
def open_(home: Path = Home, folder: list[Path] = Folders, as_json: bool = Json) -> None:
    """Open what is encrypted, for the services that start afterwards."""
    _show(_vault(home, folder).open(), as_json)
