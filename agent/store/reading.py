"""Records back from the store, each with its boot and, where it was ever learned, its UTC."""

import logging
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from agent.known import known
from agent.records import KINDS, Clock, Record, TimeQuality
from agent.store.database import Database
from agent.store.schema import PROJECTIONS

R = TypeVar("R", bound=Record)

# Better facts about time come last; a quality of "none" says nothing.
_QUALITIES: Final[tuple[TimeQuality, ...]] = ("restored", "ntp", "gnss")

_log = logging.getLogger("agent.store")


class Utc(NamedTuple):
    """A time in UTC ns since 1970, how it was learned, and how far it may be off."""

    utc_ns: int
    quality: TimeQuality
    uncertainty_ns: int


@dataclass(frozen=True, slots=True)
class Stored(Generic[R]):
    """A record as it stands in the store."""

    record: R
    boot: str
    boot_number: int  # counts the boots of this store; later boots have greater numbers
    recorded: bool  # replayed from a recording, not driven with this device
    lineage: str
    lane: str
    seq: int
    utc: Utc | None  # of the record's own time: its t_ns, or its start


def utc_of(database: Database, boot: str, t_ns: int) -> Utc | None:
    """Return what UTC `t_ns` of a boot was, by the boot's best clock record, earlier or later, if any."""
    rows = database.rows(
        "SELECT c.t_ns, c.offset_ns, c.quality, c.uncertainty_ns FROM clock c JOIN boot b ON b.number = c.boot "
        "WHERE b.id = ? ORDER BY c.entry",
        (boot,),
    )
    return best_utc([Clock(t_ns=t, offset_ns=o, quality=q, uncertainty_ns=u) for t, o, q, u in rows], t_ns)


def best_utc(clocks: list[Clock], t_ns: int) -> Utc | None:
    """Apply the best of one boot's clock records, given in order, to `t_ns`: the rule of docs/decisions/0003."""
    best: Clock | None = None
    for clock in clocks:
        if clock.quality in _QUALITIES and (best is None or _worth(clock) >= _worth(best)):
            best = clock
    return None if best is None else Utc(t_ns + best.offset_ns, best.quality, best.uncertainty_ns)


def _worth(clock: Clock) -> tuple[int, int]:
    """Better quality first, then less uncertainty; of equals the later is taken."""
    return _QUALITIES.index(clock.quality), -clock.uncertainty_ns


def records(
    database: Database, kind: type[R], boot: str | None = None, start_ns: int | None = None, end_ns: int | None = None
) -> list[Stored[R]]:
    """Return the kept records of one type in the order in which they happened; optionally of one boot and time span."""
    table = next(name for name, cls in KINDS.items() if cls is kind)
    where, parameters = ["1"], list[Any]()
    for condition, value in (("b.id = ?", boot), ("p.t_ns >= ?", start_ns), ("p.t_ns < ?", end_ns)):
        if value is not None:
            where.append(condition)
            parameters.append(value)
    rows = database.rows(
        "SELECT e.body, b.id, b.number, b.recorded, l.name, e.lane, e.seq "
        f"FROM {table} p JOIN entry e ON e.id = p.entry JOIN boot b ON b.number = p.boot "
        f"JOIN lineage l ON l.number = e.lineage WHERE {' AND '.join(where)} ORDER BY b.number, p.t_ns, e.id",
        parameters,
    )
    clocks: dict[int, list[Clock]] = {}
    for number, t, offset, quality, uncertainty in database.rows(
        "SELECT boot, t_ns, offset_ns, quality, uncertainty_ns FROM clock ORDER BY entry"
    ):
        clocks.setdefault(number, []).append(
            Clock(t_ns=t, offset_ns=offset, quality=quality, uncertainty_ns=uncertainty)
        )
    decoder = msgspec.json.Decoder(known(kind))
    time_attribute, _ = PROJECTIONS[table]
    found: list[Stored[R]] = []
    for body, boot_id, number, recorded, lineage, lane, seq in rows:
        try:
            record = decoder.decode(body)
        except msgspec.DecodeError as e:
            _log.error("%s: %s %d is left out: %s; run verify", database.path, lane, seq, e)
            continue
        utc = best_utc(clocks.get(number, []), getattr(record, time_attribute))
        found.append(Stored(record, boot_id, number, bool(recorded), lineage, lane, seq, utc))
    return found
