"""What a score may know of a vehicle: the facts of its trips and driving events, read from the signed entries.

The structs below are everything that reaches a model. They hold no place, no name of one, and nothing about a person;
a test keeps it so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import msgspec
from sqlalchemy import Connection, Engine, Row, Select, Table, and_, func, select

from agent.known import known
from agent.records import DRIVING_KINDS
from receiver import db
from receiver.disputes import disputed_entries
from receiver.scoring.result import EntryId

# Beyond these a record cannot be right, whoever signed it; it is then told as one that cannot be read.
Force = Annotated[int, msgspec.Meta(ge=-100_000, le=100_000)]  # cm/s², a hundred g
Limit = Annotated[float, msgspec.Meta(gt=0.0, le=100.0)]  # m/s
Time = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]  # ns


class QualityFacts(msgspec.Struct, frozen=True):
    """How good the data of a trip are."""

    gap_s: float
    speed_share: dict[str, float]
    mount_confidence: float


class TripFacts(msgspec.Struct, frozen=True):
    """The fields of a Trip record that a score may use."""

    start_ns: Time
    end_ns: Time
    distance_m: float
    moving_s: float
    night_s: float
    hour_of_day_s: list[float]
    speed_histogram_s: list[float]
    smoothness_mps2: float
    quality: QualityFacts


class EventFacts(msgspec.Struct, frozen=True):
    """The fields of an Event record that a score may use."""

    kind: str
    severity: str
    confirmed: bool
    t_ns: Time
    duration_ns: Time
    peak: float
    sources: list[str]
    limit_mps: Limit | None = None


class CurveFacts(msgspec.Struct, frozen=True):
    """The fields of a Curve record that a score may use: the force of each second, cm/s²."""

    start_ns: Time
    step_ms: Annotated[int, msgspec.Meta(ge=1, le=3_600_000)]
    longitudinal_cmps2: list[Force | None]
    lateral_cmps2: list[Force | None]


@dataclass(frozen=True, slots=True)
class DrivenEvent:
    """One driving event; `facts` is None when its entry can no longer be read."""

    id: EntryId
    trip: tuple[str, int] | None  # boot and start of the trip that it belongs to
    kind: str
    severity: str
    facts: EventFacts | None


@dataclass(slots=True)
class DrivenTrip:
    """One trip with its place in time; the events that weigh are put in when it is chosen."""

    id: EntryId
    boot: str
    start_ns: int
    start_utc_ns: int | None
    time: str  # quality of the boot's clock
    facts: TripFacts | None
    curves: list[CurveFacts] = field(default_factory=list)
    events: list[DrivenEvent] = field(default_factory=list)
    contested: list[EventFacts] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, int]:
        """Return boot and start: what names a trip, however often it was sent."""
        return self.boot, self.start_ns

    @property
    def km(self) -> float:
        """Return the distance, 0 where the record cannot be read."""
        return self.facts.distance_m / 1000.0 if self.facts else 0.0


@dataclass(frozen=True, slots=True)
class History:
    """All that was read of a vehicle for one period."""

    device: str
    trips: list[DrivenTrip]
    events: list[DrivenEvent]
    disputed: frozenset[EntryId] = frozenset()  # trips and events that were disputed, unless that was rejected


_trip_decoder: Final = msgspec.json.Decoder(known(TripFacts))
_event_decoder: Final = msgspec.json.Decoder(known(EventFacts))
_curve_decoder: Final = msgspec.json.Decoder(known(CurveFacts))


def read_history(
    engine: Engine, device: str, start_utc_ns: int | None = None, end_utc_ns: int | None = None, curves: bool = False
) -> History:
    """Read the trips that began in [start, end), and those without a time that were received then."""
    with db.reading(engine) as connection:
        return history_of(connection, device, start_utc_ns, end_utc_ns, curves)


def history_of(
    connection: Connection,
    device: str,
    start_utc_ns: int | None = None,
    end_utc_ns: int | None = None,
    curves: bool = False,
) -> History:
    """Read the same inside a transaction that is open."""
    period = (start_utc_ns, end_utc_ns)
    disputed = frozenset(EntryId(*entry) for entry in disputed_entries(connection, device))
    trips = [
        DrivenTrip(
            _id(row),
            row.boot,
            row.t_ns,
            None if row.offset_ns is None else row.t_ns + row.offset_ns,
            row.quality or "none",
            _decode(_trip_decoder, row.body),
        )
        for row in _rows(connection, db.trip, device, period)
    ]
    events = [
        DrivenEvent(
            _id(row),
            None if row.trip_t_ns is None else (row.boot, row.trip_t_ns),
            row.kind,
            row.severity,
            _decode(_event_decoder, row.body),
        )
        for row in _rows(connection, db.harsh_event, device, period, "kind", "severity", "trip_t_ns")
        if row.kind in DRIVING_KINDS
    ]
    if curves:
        latest = {trip.key: trip for trip in sorted(trips, key=lambda t: t.id)}
        for row in _rows(connection, db.curve, device, period, "trip_t_ns"):
            trip, curve = latest.get((row.boot, row.trip_t_ns)), _decode(_curve_decoder, row.body)
            if trip and curve:
                trip.curves.append(curve)
    return History(device, trips, events, disputed)


def _rows(
    connection: Connection, table: Table, device: str, period: tuple[int | None, int | None], *columns: str
) -> Sequence[Row[Any]]:
    """Return rows of a projection with their signed bodies, in the order of arrival."""
    entry, clock = db.entry, db.boot_clock.c
    same = and_(*(entry.c[name] == table.c[name] for name in ("device", "lineage", "lane", "seq")))
    own = [table.c[name] for name in ("lineage", "lane", "seq", "boot", "t_ns", *columns)]
    wanted: Select[Any] = select(*own, clock.offset_ns, clock.quality, entry.c.body)
    wanted = wanted.select_from(db.with_clock(table).join(entry, same)).where(table.c.device == device)
    begun = func.coalesce(table.c.trip_t_ns, table.c.t_ns) if "trip_t_ns" in columns else table.c.t_ns
    time = func.coalesce(begun + clock.offset_ns, table.c.received_utc_ns)
    start, end = period
    inside = [*([time >= start] if start is not None else []), *([time < end] if end is not None else [])]
    return connection.execute(wanted.where(*inside).order_by(table.c.id)).all()


def _id(row: Row[Any]) -> EntryId:
    return EntryId(row.lineage, row.lane, row.seq)


def _decode(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # altered since it was stored: whoever lists it says so
