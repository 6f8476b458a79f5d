"""`roadwitness obd dtc --clear`: show what would be lost, be told so in words, ask the daemon, clear, read again."""

import json
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import typer

from agent.cli import answers
from agent.cli.laying import busy, console
from agent.cli.wires import Where
from agent.errors import ConfigError, DriverError, RoadwitnessError
from agent.vehicle import clearing, keeping
from agent.vehicle.asking import Borrowed, wire_to
from agent.vehicle.devices import Check, Device, for_questions, held, named_channel
from drivers import diagnosis

if TYPE_CHECKING:
    from agent.vehicle.asking import VehicleWire

WORD: Final = "clear"
MOST_ABOUT: Final = 400  # characters of a loan's description
ENGINE: Final = (clearing.ENGINE_SPEED, clearing.SPEED)
LOST: Final = (
    "Clearing also erases the freeze frame and all self-tests: the car is not ready for an emission test for days, and"
    " a fault that is not repaired comes back. Permanent codes stay."
)


def clear_codes(where: Where, named: str) -> None:
    """Clear the codes that are stored and pending, and only those that were shown; raise where anything is doubtful."""
    channel = named_channel(where.channel, where.interface, where.bit_rate)
    device = for_questions(where.config, where.device, where.port, channel)
    with held(device, where.store, "technician: obd dtc", asks=True, seconds=120.0) as check:
        wire = _opened(device, where)
        try:
            car = Borrowed(wire, check)
            before = _read(car)
            why = clearing.hindrance(car.ask(lambda: diagnosis.current(ENGINE)))
        finally:
            wire.close()
    found = _listed(before)
    if not where.as_json:
        answers.show_codes(before)
    if not found:
        _end(where, {"cleared": [], "refused": {}, "before": before, "after": before}, "There is nothing to clear.")
        return
    if why:
        raise DriverError(f"{device.name}: not cleared: {why}")
    _confirm(where, named, found)
    about = f"{' '.join(found)}, by {keeping.who()}"[:MOST_ABOUT]
    with ExitStack() as stack:
        with busy("Asking the agent, which must know that the car stands …", where.as_json):
            check, tell = stack.enter_context(keeping.kept(device, where.store, where.config, about))
        try:
            outcome, after = _cleared(device, where, found, check)
        except RoadwitnessError as error:
            tell(f"{device.name}: clearing failed: {error}")
            raise
        left = _listed(after)
        units = ", ".join(outcome.cleared) or "no control unit"
        tell(f"{device.name}: cleared by {units}: {about}; left: {' '.join(left) or 'none'}")
    told = {"cleared": list(outcome.cleared), "refused": outcome.refused, "before": before, "after": after}
    for unit, reason in outcome.refused.items():
        typer.echo(f"{unit} refused: {reason}.", err=True)
    if left:
        _end(where, told, f"Still there: {' '.join(left)}. They came back at once, or were not cleared.")
        raise typer.Exit(1)
    _end(where, told, f"Cleared: {' '.join(found)}.")


def _cleared(device: Device, where: Where, found: list[str], check: Check) -> tuple[clearing.Outcome, dict[str, Any]]:
    """Make sure that all is still as it was shown, clear, and read what is left."""
    wire = _opened(device, where)
    try:
        car = Borrowed(wire, check)
        why = clearing.hindrance(car.ask(lambda: diagnosis.current(ENGINE)))
        if why:
            raise DriverError(f"{device.name}: not cleared: {why}")
        now = _listed(answers.codes(car.ask(diagnosis.codes), None, ()))
        if now != found:
            raise DriverError(f"{device.name}: not cleared: the codes are now {' '.join(now) or 'none'}; look again")
        spoken = wire.spoken
        check()
    finally:
        wire.close()
    outcome = clearing.clear(device, spoken)
    check()
    wire = _opened(device, where)
    try:
        return outcome, _read(Borrowed(wire, check))
    finally:
        wire.close()


def _opened(device: Device, where: Where) -> "VehicleWire":
    wire = wire_to(device)
    try:
        with busy(f"Looking for a vehicle on {device.wire} …", where.as_json):
            wire.open()
    except BaseException:
        wire.close()
        raise
    return wire


def _read(car: Borrowed) -> dict[str, Any]:
    told = answers.codes(car.ask(diagnosis.codes), car.ask(diagnosis.readiness), ())
    return {**told, "freeze": answers.freeze(car.ask(diagnosis.freeze_frame))}


def _listed(told: dict[str, Any]) -> list[str]:
    """Return the codes that clearing would erase, each once."""
    return sorted({row["code"] for row in told["codes"] if row["kind"] != "permanent"})


def _confirm(where: Where, named: str, found: list[str]) -> None:
    """Go on only when a person has said what is to be cleared: the codes by name, or a word typed on a terminal."""
    if named:
        said = sorted({code.strip().upper() for code in named.split(",") if code.strip()})
        if said != found:
            raise ConfigError(f"--codes names {' '.join(said)}, the car holds {' '.join(found)}; nothing was cleared")
        return
    if where.as_json or not sys.stdin.isatty():
        raise ConfigError(f"nothing was cleared: without a terminal name what you have read: --codes {','.join(found)}")
    console().print(LOST)
    typed = typer.prompt(f"Type {WORD} to clear {' '.join(found)}", default="", show_default=False)
    if typed.strip().lower() != WORD:
        raise ConfigError("nothing was cleared")


def _end(where: Where, told: dict[str, Any], words: str) -> None:
    typer.echo(json.dumps(told, ensure_ascii=False) if where.as_json else words)
