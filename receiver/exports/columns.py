"""The columns of the tables that are exported: name with unit, kind, and where the value comes from."""

from collections.abc import Callable, Iterator
from math import isfinite
from operator import itemgetter
from typing import Any, Final, Literal, NamedTuple

from agent.clock import NS_PER_S
from receiver.exports.source import Drive

Kind = Literal["text", "whole", "number", "flag", "time"]  # times are ns since 1970, UTC


class Column(NamedTuple):
    """One column; the value is None where it is not known."""

    name: str
    kind: Kind
    value: Callable[[Any], Any]


def _of_row(name: str) -> Callable[[Any], Any]:
    return lambda e: getattr(e.row, name)


def _kmh(name: str) -> Callable[[Any], Any]:
    def value(e: Any) -> float | None:
        mps = getattr(e.row, name)
        # a device may sign any number: 1e308 m/s are no km/h, and infinite is no JSON
        return None if mps is None or not isfinite(mps * 3.6) else round(mps * 3.6, 2)

    return value


TRIPS: Final = (
    Column("device", "text", _of_row("device")),
    Column("trip", "whole", _of_row("id")),
    Column("start_utc", "time", lambda e: e.utc_ns(e.row.t_ns)),
    Column("end_utc", "time", lambda e: e.utc_ns(e.row.end_ns)),
    Column("time_quality", "text", lambda e: e.quality),
    Column("received_utc", "time", _of_row("received_utc_ns")),
    Column("duration_s", "number", lambda e: (e.row.end_ns - e.row.t_ns) / NS_PER_S),
    Column("distance_km", "number", lambda e: round(e.row.distance_m / 1000, 3)),
    Column("moving_s", "number", _of_row("moving_s")),
    Column("idle_s", "number", _of_row("idle_s")),
    Column("stops", "whole", _of_row("stops")),
    Column("max_speed_kmh", "number", _kmh("max_speed_mps")),
    Column("night_s", "number", _of_row("night_s")),
    Column("confirmed_events", "whole", _of_row("events")),
    Column("start_latitude", "number", _of_row("start_latitude")),
    Column("start_longitude", "number", _of_row("start_longitude")),
    Column("end_latitude", "number", _of_row("end_latitude")),
    Column("end_longitude", "number", _of_row("end_longitude")),
)

EVENTS: Final = (
    Column("device", "text", _of_row("device")),
    Column("event", "whole", _of_row("id")),
    Column("trip", "whole", _of_row("trip_id")),
    Column("time_utc", "time", lambda e: e.utc_ns(e.row.t_ns)),
    Column("time_quality", "text", lambda e: e.quality),
    Column("received_utc", "time", _of_row("received_utc_ns")),
    Column("kind", "text", _of_row("kind")),
    Column("severity", "text", _of_row("severity")),
    Column("confirmed", "flag", lambda e: bool(e.row.confirmed)),
    Column("duration_s", "number", lambda e: e.row.duration_ns / NS_PER_S),
    Column("peak", "number", _of_row("peak")),
    Column("unit", "text", _of_row("unit")),
    Column("speed_before_kmh", "number", _kmh("speed_before_mps")),
    Column("rule", "text", _of_row("rule")),
    Column("latitude", "number", _of_row("latitude")),
    Column("longitude", "number", _of_row("longitude")),
)

# Of a point, as `points` yields it.
POINTS: Final = (
    Column("device", "text", itemgetter(0)),
    Column("trip", "whole", itemgetter(1)),
    Column("time_utc", "time", itemgetter(2)),
    Column("time_quality", "text", itemgetter(3)),
    Column("elapsed_s", "number", itemgetter(4)),
    Column("latitude", "number", itemgetter(5)),
    Column("longitude", "number", itemgetter(6)),
    Column("speed_kmh", "number", itemgetter(7)),
)


def points(drives: Iterator[Drive]) -> Iterator[tuple[Any, ...]]:
    """Yield the values of POINTS for the points of drives one by one."""
    for drive in drives:
        trip = drive.trip
        device, number, start_ns, quality = trip.row.device, trip.row.id, trip.row.t_ns, trip.quality
        for fix in drive.fixes:
            elapsed_s = (fix.t_ns - start_ns) / NS_PER_S
            kmh = None if fix.speed_mps is None else round(fix.speed_mps * 3.6, 2)
            yield device, number, trip.utc_ns(fix.t_ns), quality, elapsed_s, fix.latitude, fix.longitude, kmh
