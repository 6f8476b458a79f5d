"""The options that all commands of `roadwitness receiver` share, and what is made of them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from receiver.settings import ReceiverSettings, load_settings

Config = Annotated[Path | None, typer.Option("--config", help="A receiver.toml; without it the defaults hold.")]
Db = Annotated[str | None, typer.Option("--db", help="Database: sqlite:///FILE or postgresql+psycopg://…")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def settings_of(config: Path | None, database: str | None) -> ReceiverSettings:
    """Return the settings of a file, or the defaults, with the database that is named."""
    settings = load_settings(config) if config else ReceiverSettings()
    return replace(settings, database=database) if database else settings


def open_database(config: Path | None, database: str | None) -> Any:
    """Open the database that file or option name."""
    from receiver import db

    return db.open_database(settings_of(config, database).database)


def comparable_ns(utc_ns: int) -> int:
    """Return a moment in ns, or the nearest with which a database can compare: 64 bits hold those of 1677 to 2262."""
    return max(-(2**63), min(2**63 - 1, utc_ns))


def print_json(value: object) -> None:
    """Print one JSON object."""
    typer.echo(json.dumps(value))
