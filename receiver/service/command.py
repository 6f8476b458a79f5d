"""`roadwitness receiver command …`: ask a box for more than a clip, and read what it answered."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from agent.errors import RoadwitnessError
from receiver.command_cli import WHEN, DeviceArgument, user
from receiver.moments import read_moment
from receiver.options import Config, Db, Json, open_database, print_json, settings_of

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Ask a box how it is, mend its settings, read what it answered; a box may refuse (its agent.toml).",
    epilog="Example: roadwitness receiver command doctor rw-0123456789abcdef --reason 'no trips since Monday'",
)

Why = Annotated[str, typer.Option("--reason", help="Why; the owner reads it.")]
Actor = Annotated[str, typer.Option("--actor", help="Who asks; by default who is signed in here.")]
Hours = Annotated[float, typer.Option("--hours", help="How long the box may take to hear it; at most 168.")]
_BOX: Final = "rw-0123456789abcdef"
_LIFE_H: Final = 72.0
_Asked = tuple[str, dict[str, Any]]  # a command's name and arguments


def add_to(receiver: typer.Typer) -> None:
    """Add these commands to `roadwitness receiver`."""
    receiver.add_typer(app, name="command")


def _ask(
    *,
    name: str,
    arguments: dict[str, Any],
    device: DeviceArgument,
    reason: Why,
    actor: Actor = "",
    hours: Hours = _LIFE_H,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    from agent import clock
    from receiver import commands
    from receiver.service import asking

    made = asking.ask(
        open_database(config, database),
        commands.command_key(settings_of(config, database)),
        device,
        name,
        arguments,
        reason=reason,
        actor=actor or user(),
        life_s=hours * 3600,
        now_ns=clock.wall_ns(),
    )
    if as_json:
        print_json({"command": made, "device": device, "state": commands.WAITING})
    else:
        typer.echo(
            f"{made} waits to be sent; see what comes of it: roadwitness receiver command answer {device} {made}"
        )


def _asks(command: Callable[..., _Asked]) -> Callable[..., None]:
    """Ask a box for what `command` returns, a name and its arguments; the options of `_ask` are added to its own."""
    own = inspect.signature(command).parameters
    shared = dict(inspect.signature(_ask).parameters)
    del shared["name"], shared["arguments"]
    device = shared.pop("device")

    def run(**given: Any) -> None:
        name, arguments = command(**{each: given.pop(each) for each in own})
        _ask(name=name, arguments=arguments, **given)

    # keyword only: what must be given may then stand behind what need not
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (device, *own.values(), *shared.values())]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


@app.command(epilog=f"Example: roadwitness receiver command track {_BOX} --from {WHEN} --to … --reason 'claim 4711'")
@_asks
def track(
    begin: Annotated[str, typer.Option("--from", help=f"First moment, with its zone: {WHEN}.")],
    end: Annotated[str, typer.Option("--to", help="Last moment, with its zone; at most 24 h later.")],
) -> _Asked:
    """Ask for every position of a time that has passed; the owner sees it and must have agreed."""
    span = {"from_utc_ns": read_moment("--from", begin), "to_utc_ns": read_moment("--to", end)}
    return "track", span


@app.command(epilog=f"Example: roadwitness receiver command doctor {_BOX} --group gps --reason 'no places'")
@_asks
def doctor(
    group: Annotated[list[str] | None, typer.Option("--group", help="Only this group; may be repeated.")] = None,
) -> _Asked:
    """Have the box examined; it answers with findings and the next step for each."""
    arguments = {"groups": group} if group else {}
    return "doctor", arguments


@app.command(epilog=f"Example: roadwitness receiver command dtc {_BOX} --reason 'lamp is on'")
@_asks
def dtc() -> _Asked:
    """Read the trouble codes of the car; the box waits until it is driven."""
    return "dtc", {}


@app.command(epilog=f"Example: roadwitness receiver command bundle {_BOX} --reason 'restarts every hour'")
@_asks
def bundle(
    with_position: Annotated[
        bool, typer.Option("--with-position", help="With exact places; the owner must have agreed to tracks.")
    ] = False,
) -> _Asked:
    """Fetch the support bundle: logs, settings and state in one file, without secrets and places."""
    arguments = {"with_position": True} if with_position else {}
    return "bundle", arguments


@app.command(
    "log-level", epilog=f"Example: roadwitness receiver command log-level {_BOX} debug --minutes 60 --reason x"
)
@_asks
def log_level(
    level: Annotated[str, typer.Argument(help="debug, info or warning.")],
    minutes: Annotated[int, typer.Option("--minutes", help="For how long; at most 1440.")] = 60,
) -> _Asked:
    """Let the agent write more, or less, into its log for a while."""
    arguments = {"level": level, "seconds": minutes * 60}
    return "log_level", arguments


@app.command(
    "config", epilog=f"Example: roadwitness receiver command config {_BOX} --set sync.window=2 --reason 'slow network'"
)
@_asks
def config_(
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="table.key=VALUE, the value as TOML; may be repeated.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--toml", help="File with the settings that are to differ.")] = None,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", help="table.key that gets the box's own value again.")
    ] = None,
    minutes: Annotated[
        float, typer.Option("--within", help="Minutes in which the box must be heard from, or it takes them back.")
    ] = 10.0,
) -> _Asked:
    """Change settings: checked by the box, and taken back by itself where it is not heard from again."""
    arguments = {"toml": _toml(set_ or [], file), "drop": drop or [], "within_s": round(minutes * 60)}
    return "config", arguments


@app.command(epilog=f"Example: roadwitness receiver command restart {_BOX} --part dashcam --reason 'camera frozen'")
@_asks
def restart(
    part: Annotated[str, typer.Option("--part", help="agent or dashcam.")] = "agent",
) -> _Asked:
    """Start the agent or the dashcam anew, once no trip is going on."""
    from receiver.service.kinds import RESTARTS

    if part not in RESTARTS:
        raise RoadwitnessError(f"--part {part!r}: give {' or '.join(RESTARTS)}")
    return RESTARTS[part], {}


@app.command(epilog=f"Example: roadwitness receiver command answer {_BOX} 0f…e1 --out ./answer")
def answer(
    device: DeviceArgument,
    command: Annotated[str, typer.Argument(help="Id of the command, as it was printed.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder into which its files are copied.")] = None,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Show what came of a command: findings and trouble codes as tables; copy its files. Each copy is logged."""
    import msgspec

    from agent import clock
    from receiver.filestore import FileStore
    from receiver.service import answers, taking

    engine, settings = open_database(config, database), settings_of(config, database)
    store = FileStore(settings.files, settings.database)
    found = answers.answer(engine, store, device, command, clock.wall_ns())
    if found is None:
        raise RoadwitnessError(
            f"device {device}: was never asked {command}; see: roadwitness receiver commands {device}"
        )
    if out is not None:
        taking.copy(engine, store, found, out, user(), clock.wall_ns())
    if as_json:
        print_json(msgspec.to_builtins(found, enc_hook=_plain))
        return
    typer.echo(f"{found.asked.command}: {found.asked.state}  {found.asked.detail}")
    for line in taking.lines(found):
        typer.echo(line)
    for f in found.files:
        typer.echo(f"  {f.name}  {f.size:,} bytes")


def _plain(value: Any) -> Any:
    return value._asdict() if hasattr(value, "_asdict") else str(value)


def _toml(sets: list[str], file: Path | None) -> str:
    """Return the settings that the options name as TOML."""
    text = ""
    for said in sets:
        key, equals, value = said.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise RoadwitnessError(f"--set {said!r}: write it like sync.window=2 or broker.url='\"mqtts://host:8883\"'")
        text += f"{key.strip()} = {value.strip()}\n"
    if file is not None:
        try:
            text += file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise RoadwitnessError(f"{file}: cannot be read: {e}") from e
    return text
