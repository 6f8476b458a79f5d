"""Options that all commands at a vehicle share: which wire, whose configuration, which daemon's store."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import typer


@dataclass(frozen=True, slots=True)
class Where:
    """What the command line says about the wire."""

    device: str
    channel: str
    interface: str
    bit_rate: int
    config: Path | None
    store: Path
    as_json: bool
    port: str = ""


_SHARED: dict[str, tuple[Any, Any]] = {
    "device": (str, typer.Option("", "--device", help="Device of agent.toml, e.g. obd or can0.")),
    "channel": (str, typer.Option("", "--channel", help="CAN bus: can0, or the line of an slcan adapter.")),
    "interface": (str, typer.Option("", "--interface", help="Kind of bus where the channel does not tell.")),
    "bit_rate": (int, typer.Option(0, "--bit-rate", min=0, help="Bit/s; 0 as configured, or found by listening.")),
    "config": (Path | None, typer.Option(None, "--config", help="agent.toml to use in place of the installed one.")),
    "store": (Path, typer.Option(Path("/var/lib/roadwitness"), "--store", help="Folder of the agent's store.")),
    "as_json": (bool, typer.Option(False, "--json", help="Print JSON.")),
    "port": (str, typer.Option("", "--port", help="Port of an ELM327 adapter, e.g. /dev/ttyUSB0.")),
}


def over_a_wire(*, adapters: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the shared options, handed to it as `where: Where`; `adapters` adds --port."""
    names = [f.name for f in fields(Where) if adapters or f.name != "port"]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command)
        mine = [p for name, p in own.parameters.items() if name != "where"]
        shared = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=_SHARED[name][1], annotation=_SHARED[name][0]
            )
            for name in names
        ]

        def run(**options: Any) -> None:
            where = Where(**{name: options.pop(name) for name in names})
            command(where=where, **options)

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__annotations__ = {p.name: p.annotation for p in (*mine, *shared)}
        keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in mine]
        run.__signature__ = inspect.Signature([*keyword, *shared])  # type: ignore[attr-defined]
        return run

    return decorate
