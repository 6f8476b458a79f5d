"""`roadwitness config`: is the agent's configuration right, and what does it come to?"""

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import typer

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Check the agent's configuration, or show it with all defaults.",
    epilog="Example:  roadwitness config check --config ./agent.toml",
)

_CONFIG = typer.Option(None, "--config", help="agent.toml to use in place of the installed one.")
_JSON = typer.Option(False, "--json", help="Print JSON.")


@app.command()
def check(config: Path | None = _CONFIG, as_json: bool = _JSON) -> None:
    """Read the configuration as the agent would, without opening a device; name what is wrong in one line."""
    from agent.config import config_dir, settings_file
    from agent.devices import NONE, makers
    from agent.settings import load_agent

    path = config or settings_file("agent.toml")
    settings = load_agent(path)
    names = [make().name for make in makers(settings.drivers, config_dir())]
    if settings.consent.sheet:
        consent = f"{settings.consent.sheet} permits {', '.join(settings.consent.purposes)}"
    else:
        consent = "as the receiver tells" if settings.commands.keys else "nobody has agreed: nothing but health is kept"
    if as_json:
        typer.echo(json.dumps({"file": str(path), "devices": names, "consent": consent}))
        return
    typer.echo(f"{path} is right.")
    typer.echo(f"Devices: {', '.join(names)}." if names else f"But {NONE}.")
    typer.echo(f"Consent: {consent}.")


@app.command()
def show(
    config: Path | None = _CONFIG,
    store: Path | None = typer.Option(
        None, "--store", help="Store whose remote.toml is laid over it, if there is one."
    ),
    as_json: bool = _JSON,
) -> None:
    """Show every value that the agent would use, defaults included, as TOML; with --store what a command changed, too.

    Only an agent whose store it is reads that store's remote.toml (docs/remote-service.md).
    """
    from agent.settings import load_agent

    tables = _plain(load_agent(config, store))
    if as_json:
        typer.echo(json.dumps(tables))
    else:
        typer.echo("\n".join(_toml(tables, "")).strip())


def _plain(value: Any) -> Any:
    """Return dataclasses as tables, without what is not set."""
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value) if getattr(value, f.name) is not None}
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def _toml(table: dict[str, Any], name: str) -> list[str]:
    """Return the lines of a table, its values before its tables."""
    # JSON writes strings, numbers, booleans and lists of them as TOML does
    own = [f"{_key(k)} = {json.dumps(v, ensure_ascii=False)}" for k, v in table.items() if not isinstance(v, dict)]
    lines = ["", f"[{name}]", *own] if own and name else own
    for k, v in table.items():
        if isinstance(v, dict):
            lines += _toml(v, f"{name}.{_key(k)}" if name else _key(k))
    return lines


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key)
