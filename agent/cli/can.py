"""`roadwitness can`: look at a bus or a recording. Nothing is ever sent."""

import json
import sys
from pathlib import Path
from typing import Any

import typer

from agent.cli.buses import FILE, source, span
from agent.cli.wires import Where, over_a_wire
from agent.clock import NS_PER_S, monotonic_ns
from agent.errors import ConfigError

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Look at a CAN bus, or at a recording of one. Nothing is ever sent.",
    epilog="Examples:  roadwitness can rates --channel can0  ·  roadwitness can decode drive.blf --csv",
)

_SECONDS = typer.Option(0.0, "--seconds", min=0.0, help="How long; 0: all of a recording, 10 s of a live bus.")


def _print(told: Any) -> None:
    typer.echo(json.dumps(told, ensure_ascii=False))


@app.command(epilog="Example:  roadwitness can rates --channel can0 --seconds 5")
@over_a_wire(adapters=False)
def rates(where: Where, file: Path | None = FILE, seconds: float = _SECONDS) -> None:
    """Show each identifier's rate, jitter and length, and each bus's load and bit timing."""
    from agent.cli import bustables
    from agent.vehicle.traffic import counted

    with source(where, file, "rates", seconds or None) as frames:
        told = bustables.rates(counted(frames.batches(span(seconds, file))), frames, where.bit_rate)
    _print(told) if where.as_json else bustables.show_rates(told)


@app.command(epilog="Example:  roadwitness can identify --channel /dev/ttyACM0")
@over_a_wire(adapters=False)
def identify(where: Where, file: Path | None = FILE, seconds: float = _SECONDS) -> None:
    """Say what kind of bus it is: bit rate, J1939 or OBD-II on it, which known profiles fit."""
    from agent.cli import bustables
    from agent.config import config_dir
    from agent.vehicle.matching import Matcher
    from agent.vehicle.recognising import Recogniser

    seen = Recogniser(Matcher(config_dir()))
    with source(where, file, "identify", seconds or None) as frames:
        for batch, buses in frames.batches(span(seconds, file)):
            seen.add(batch, buses)
        told = bustables.identified(seen, frames)
    _print(told) if where.as_json else bustables.show_identified(told)


@app.command(
    epilog="Examples:  roadwitness can record drive.log --seconds 60  ·  roadwitness can record drive.blf old.log"
)
@over_a_wire(adapters=False)
def record(
    where: Where,
    out: Path = typer.Argument(..., metavar="OUT", help="File to make: .log (candump), .blf or .asc."),
    file: Path | None = FILE,
    seconds: float = typer.Option(0.0, "--seconds", min=0.0, help="End after so long; 0: at Ctrl-C or at the limit."),
    megabytes: float = typer.Option(100.0, "--megabytes", min=0.001, help="End when the file has grown to so much."),
) -> None:
    """Record a bus to a file (or change a recording's format); say how much was lost, never hide it."""
    from agent.cli import bustables
    from agent.errors import RecordingError
    from agent.vehicle.writing import create

    begun_ns = monotonic_ns()
    ended = "at the end" if file else "when asked to"
    with source(where, file, "record", seconds or None) as frames:
        writer = create(out)
        try:
            for batch, buses in frames.batches(seconds or None):
                writer.write(batch, buses, frames.origin_ns or 0)
                writer.flush()
                if writer.size >= megabytes * 1e6:
                    ended = f"at the limit of {megabytes:g} MB"
                    break
            writer.close()
        except OSError as error:
            raise RecordingError(
                f"{out}: cannot be written any more after {writer.written} frames: {error.strerror}; free space"
            ) from error
        finally:
            writer.close()
        told = {
            "file": str(out),
            "frames": writer.written,
            "bytes": out.stat().st_size,
            "seconds": round((monotonic_ns() - begun_ns) / NS_PER_S, 3),
            "ended": ended,
            **frames.counts,
            "notes": frames.notes,
        }
    _print(told) if where.as_json else bustables.show_recorded(told)


@app.command(epilog="Example:  roadwitness can sniff --channel can0 --id 1E5 --id 2F0")
@over_a_wire(adapters=False)
def sniff(
    where: Where,
    file: Path | None = FILE,
    only: list[str] = typer.Option([], "--id", metavar="ID", help="Only this identifier, in hex; may be repeated."),
    changing: bool = typer.Option(False, "--changing", help="Only identifiers whose data change."),
    seconds: float = typer.Option(
        0.0, "--seconds", min=0.0, help="End after so long; 0: at Ctrl-C, or the recording's end."
    ),
) -> None:
    """Watch which bytes change; live on a terminal, else the outcome at the end."""
    from agent.cli import bustables
    from agent.vehicle.sniffing import Sniffer
    from agent.vehicle.traffic import Traffic

    wanted = frozenset(_identifier(text) for text in only)
    sniffer, traffic = Sniffer(), Traffic()
    live = file is None and sys.stdout.isatty() and not where.as_json
    with source(where, file, "sniff", seconds or None) as frames, bustables.Screen(live) as screen:
        for batch, buses in frames.batches(span(seconds, file, None if live else 10.0)):
            sniffer.add(batch, buses)
            traffic.add(batch, buses)
            screen.show(lambda rows: bustables.sniffed(sniffer, traffic, wanted, changing, rows))
        notes = [*frames.notes, *bustables.losses(frames.counts)]
    if where.as_json:
        _print({"ids": bustables.sniffed_rows(sniffer, traffic, wanted, changing), "notes": notes})
    else:
        bustables.show_sniffed(sniffer, traffic, wanted, changing, notes, shown=live)


@app.command(
    epilog="Examples:  roadwitness can decode drive.log  ·  roadwitness can decode --dbc car.dbc --csv > drive.csv"
)
@over_a_wire(adapters=False)
def decode(
    where: Where,
    file: Path | None = FILE,
    profile: str = typer.Option(
        "", "--profile", "-p", help="Vehicle profile, by name or file; found by itself if absent."
    ),
    dbc: Path | None = typer.Option(None, "--dbc", help="Decode every signal of this DBC in place of a profile."),
    csv: bool = typer.Option(False, "--csv", help="Print every sample as CSV, which replay reads again."),
    seconds: float = _SECONDS,
) -> None:
    """Decode by a profile or a DBC: the newest, least and most of each signal, or every sample."""
    from agent.cli import bustables
    from agent.vehicle.decoding import decoding

    if csv and where.as_json:
        raise ConfigError("--csv or --json, not both")
    if profile and dbc is not None:
        raise ConfigError("--profile or --dbc, not both; a profile's own DBC is replaced by roadwitness replay --dbc")
    chosen = decoding(profile, dbc, file)
    live = file is None and sys.stdout.isatty() and not where.as_json and not csv
    if csv:
        typer.echo("t_s,channel,value")
    with source(where, file, "decode", seconds or None) as frames, bustables.Screen(live) as screen:
        for batch, buses in frames.batches(span(seconds, file, None if live else 10.0)):
            samples = chosen.add(batch, buses)
            if csv:
                sys.stdout.writelines(chosen.csv(samples))
            screen.show(lambda rows: bustables.decoded(chosen, rows))
        notes = [*frames.notes, *bustables.losses(frames.counts), *chosen.notes]
    if where.as_json:
        _print({"by": chosen.by, "signals": chosen.rows(), "counts": chosen.counts, "notes": notes})
    elif csv:
        for note in notes:
            typer.echo(f"Note: {note}", err=True)
    else:
        bustables.show_decoded(chosen, notes, shown=live)


def _identifier(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError as error:
        raise ConfigError(f"--id {text}: is no identifier in hex, like 1E5 or 18FEF100") from error
