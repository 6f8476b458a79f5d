"""One file of a device's tracks, trips or events: which format writes what, and the file that is whole or not there."""

import contextlib
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from sqlalchemy import Engine

from agent.errors import ConfigError, StoreError, near_names
from receiver.exports import columns, geojson, gpx, source
from receiver.exports.source import Span
from receiver.exports.tables import write_csv, write_parquet
from receiver.options import comparable_ns

WHAT: Final = {
    "tracks": ("gpx", "geojson", "csv", "parquet"),
    "trips": ("csv", "parquet"),
    "events": ("csv", "geojson", "parquet"),
}
TABLES: Final = {"csv": write_csv, "parquet": write_parquet}


def check(what: str, format: str) -> None:
    """Raise ConfigError for what cannot be written so."""
    if what not in WHAT:
        raise ConfigError(f"--what {what!r}: unknown{near_names(what, WHAT)}; use {', '.join(WHAT)}")
    if format not in WHAT[what]:
        raise ConfigError(f"--format {format!r}: {what} can be written as {', '.join(WHAT[what])}")


def write(out: BinaryIO, engine: Engine, device: str, span: Span, what: str, format: str) -> int:
    """Write to an open file as the data come; return how many points, trips or events there were."""
    if what == "trips":
        return TABLES[format](out, columns.TRIPS, source.trips(engine, device, span))
    if what == "events":
        events = source.events(engine, device, span)
        return geojson.write_events(out, events) if format == "geojson" else TABLES[format](out, columns.EVENTS, events)
    drives = source.drives(engine, device, span)
    if format == "gpx":
        return gpx.write_gpx(out, drives)
    if format == "geojson":
        return geojson.write_drives(out, drives)
    return TABLES[format](out, columns.POINTS, columns.points(drives))


@contextlib.contextmanager
def opened(out: str) -> Iterator[BinaryIO]:
    """Give standard output, or a new file that takes its name when it is whole; raise StoreError."""
    if out == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(out)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as e:
        raise StoreError(f"{out}: cannot be written: {e.strerror or e}; choose another --out") from e
    finally:
        partial.unlink(missing_ok=True)


def parse_moment(option: str, text: str) -> int:
    """Return a moment in ns since 1970, or the nearest that can be compared; raise ConfigError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as e:
        raise ConfigError(f"{option} {text!r}: write e.g. 2026-11-01 or 2026-11-01T08:00:00+08:00") from e
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return comparable_ns(round(moment.timestamp() * 1000) * 1_000_000)
