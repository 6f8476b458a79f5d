"""`roadwitness obd`: what the control units of the car say, over an ELM327 adapter or on a CAN bus. It only reads,
but for `dtc --clear`, which asks first."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import typer

from agent.cli.wires import Where, over_a_wire
from agent.clock import NS_PER_S, monotonic_ns

if TYPE_CHECKING:
    from agent.vehicle.asking import Borrowed
    from agent.vehicle.devices import Device

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Ask the car: what it is, what its control units measure, which trouble codes they hold.",
    epilog="Examples:  roadwitness obd scan --port /dev/ttyUSB0  ·  roadwitness obd dtc --channel can0 --json",
)
PURPOSE: Final = "technician: obd {}"


@contextmanager
def _vehicle(where: Where, what: str, seconds: float = 300.0) -> Iterator[tuple["Borrowed", "Device"]]:
    """Find the vehicle over the wire that the command line says; the wire is released at the end."""
    from agent.cli.laying import busy
    from agent.vehicle.asking import Borrowed, wire_to
    from agent.vehicle.devices import for_questions, held, named_channel

    channel = named_channel(where.channel, where.interface, where.bit_rate)
    device = for_questions(where.config, where.device, where.port, channel)
    with held(device, where.store, PURPOSE.format(what), asks=True, seconds=seconds) as check:
        wire = wire_to(device)
        try:
            with busy(f"Looking for a vehicle on {device.wire} …", where.as_json):
                wire.open()
            yield Borrowed(wire, check), device
        finally:
            wire.close()


def _asked(car: "Borrowed", asking: Callable[[], Any], where: Where) -> Any:
    from agent.cli.laying import busy

    with busy("Asking the vehicle …", where.as_json):
        return car.ask(asking)


def _print(told: dict[str, Any]) -> None:
    typer.echo(json.dumps(told, ensure_ascii=False))


@app.command(epilog="Example:  roadwitness obd scan --port /dev/ttyUSB0")
@over_a_wire(adapters=True)
def scan(where: Where) -> None:
    """Show at a glance: which car, how it speaks, its control units, lamp, codes and readiness."""
    from agent.cli import answers as seen
    from drivers import diagnosis

    with _vehicle(where, "scan") as (car, device):
        told = seen.scan(
            device.name,
            car.wire,
            _asked(car, diagnosis.identity, where),
            _asked(car, diagnosis.codes, where),
            _asked(car, diagnosis.readiness, where),
        )
    _print(told) if where.as_json else seen.show_scan(told)


@app.command(epilog="Example:  roadwitness obd pids --json")
@over_a_wire(adapters=True)
def pids(where: Where) -> None:
    """List what each control unit can tell of itself, with its value now."""
    from agent.cli import answers as seen
    from drivers import diagnosis

    with _vehicle(where, "pids") as (car, _):
        units = car.wire.units
        wanted = sorted({pid for have in units.values() for pid in have if seen.measures(pid)})
        told = seen.pids(units, _asked(car, lambda: diagnosis.current(wanted), where), car.wire.notes)
    _print(told) if where.as_json else seen.show_pids(told)


@app.command(epilog="Examples:  roadwitness obd dtc  ·  roadwitness obd dtc --clear  ·  … --clear --codes P0301,P0420")
@over_a_wire(adapters=True)
def dtc(
    where: Where,
    clear: bool = typer.Option(False, "--clear", help="Clear them, after they were shown and you have confirmed."),
    codes: str = typer.Option("", "--codes", help="With --clear, in place of typing: the very codes to be cleared."),
) -> None:
    """Read stored, pending and permanent trouble codes, and say what they mean."""
    from agent.cli import answers as seen
    from drivers import diagnosis

    if clear:
        from agent.cli.clearing import clear_codes

        clear_codes(where, codes)
        return
    if codes:
        raise typer.BadParameter("--codes belongs to --clear; without it all codes are read")
    with _vehicle(where, "dtc") as (car, _):
        told = seen.codes(_asked(car, diagnosis.codes, where), _asked(car, diagnosis.readiness, where), car.wire.notes)
    _print(told) if where.as_json else seen.show_codes(told)


@app.command(epilog="Example:  roadwitness obd freeze")
@over_a_wire(adapters=True)
def freeze(where: Where) -> None:
    """Show what the engine was doing when its first trouble code was stored."""
    from agent.cli import answers as seen
    from drivers import diagnosis

    with _vehicle(where, "freeze") as (car, _):
        told = seen.freeze(_asked(car, diagnosis.freeze_frame, where))
    _print(told) if where.as_json else seen.show_freeze(told)


@app.command(epilog="Example:  roadwitness obd readiness --json")
@over_a_wire(adapters=True)
def readiness(where: Where) -> None:
    """Show the warning lamp and which self-tests have run, since codes were cleared and on this drive."""
    from agent.cli import answers as seen
    from drivers import diagnosis

    with _vehicle(where, "readiness") as (car, _):
        told = seen.readiness(_asked(car, diagnosis.readiness, where))
    _print(told) if where.as_json else seen.show_readiness(told)


@app.command(epilog="Example:  roadwitness obd vin")
@over_a_wire(adapters=True)
def vin(where: Where) -> None:
    """Read the VIN, check it, and read what the control units call themselves."""
    from agent.cli import answers as seen
    from drivers import diagnosis

    with _vehicle(where, "vin") as (car, _):
        told = seen.identity(_asked(car, diagnosis.identity, where))
    _print(told) if where.as_json else seen.show_identity(told)


@app.command(
    epilog="Examples:  roadwitness obd monitor  ·  roadwitness obd monitor engine_speed 0D --seconds 60 --json"
)
@over_a_wire(adapters=True)
def monitor(
    where: Where,
    wanted: list[str] = typer.Argument(None, metavar="[PID]...", help="PIDs by number (0C) or name (engine_speed)."),
    seconds: float = typer.Option(0.0, "--seconds", min=0.0, help="End after so long; 0: at Ctrl-C, or 15 minutes."),
    rounds: int = typer.Option(0, "--rounds", min=0, help="End after so many rounds; 0: no such end."),
    plain: bool = typer.Option(False, "--plain", help="Print a line a round, also on a terminal."),
) -> None:
    """Ask for chosen values again and again, and show them live."""
    from agent.cli import answers as seen
    from drivers import diagnosis

    chosen = seen.chosen(wanted or [])
    limit_s = seconds or 900.0
    with _vehicle(where, "monitor", limit_s + 60.0) as (car, _):
        have = {pid for known in car.wire.units.values() for pid in known}
        asked = [pid for pid in chosen if pid in have] if not wanted else chosen
        begun_ns, done = monotonic_ns(), 0
        view = seen.MonitorView(live=sys.stdout.isatty() and not plain and not where.as_json)
        with view:
            try:
                while not (rounds and done >= rounds) and (monotonic_ns() - begun_ns) / NS_PER_S < limit_s:
                    readings = car.ask(lambda: diagnosis.current(asked))
                    at_s = (monotonic_ns() - begun_ns) / NS_PER_S
                    if where.as_json:
                        _print({"t_s": round(at_s, 3), "values": [r._asdict() for r in readings]})
                    else:
                        view.show(at_s, readings)
                    done += 1
            except KeyboardInterrupt:  # the usual end
                return


@app.command(epilog='Example:  roadwitness obd decode "7E8 04 41 0C 1A F8"')
def decode(
    text: str = typer.Argument(..., help="What an adapter answered to a service 01 request, headers shown."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Read an adapter's answer that somebody wrote down; no car is needed."""
    from agent.cli import answers as seen
    from agent.errors import DriverError
    from drivers.decode.obd import decode_answer

    values = decode_answer(text.replace("\\r", "\n").replace("\\n", "\n"))
    if not values:
        raise DriverError(
            f"'{text}': this is no answer to service 01 with its header; it looks like 7E8 04 41 0C 1A F8"
        )
    told = {
        "values": [{"name": name, "value": value, "measure": seen.measure_of(name)} for name, value in values.items()]
    }
    _print(told) if as_json else seen.show_values(told["values"])
