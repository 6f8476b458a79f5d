"""The score of one car and month: computed from the signed records, kept with all that explains it."""

from typing import Any, Final, NamedTuple

import msgspec
import zstandard
from sqlalchemy import Connection, Row, Select, select, update

from agent.known import known
from receiver import db
from receiver.rating import periods
from receiver.rating.periods import RatingError
from receiver.rating.tables import kept_score
from receiver.registry import bindings, consents
from receiver.scoring.driven import history_of
from receiver.scoring.model import DEFAULT_MODEL, Model
from receiver.scoring.result import ScoreResult
from receiver.scoring.score import DAY_NS, score_history

PURPOSE: Final = "scoring"  # of a consent
_KEY: Final = ("device", "model", "period", "revision")
_results: Final = msgspec.json.Decoder(known(ScoreResult))


class KeptScore(NamedTuple):
    """A score as it is kept; `result` gives what explains it."""

    device: str
    model: str
    period: str
    revision: int
    newest: bool
    final: bool
    vin: str
    digest: str
    computed_utc_ns: int
    checked_utc_ns: int
    start_utc_ns: int
    end_utc_ns: int
    score: int | None
    relativity: float
    credibility: float
    km: float
    km_year: float | None
    quality: float | None
    trips: int


def score_device(connection: Connection, device: str, period: str, model: Model, now_ns: int) -> KeptScore:
    """Score a device as of the end of a month, over the model's window before it, and keep that.

    While the month lasts, as of now; the row is then written again. Raise RatingError for no month, one to come, or
    without the owner's consent.
    """
    return keep(connection, computed(connection, device, period, model, now_ns))


def computed(connection: Connection, device: str, period: str, model: Model, now_ns: int) -> dict[str, Any]:
    """Compute the row of a device and month without keeping it: of drives in the car whose owner agreed to a score."""
    ends = periods.begun(period, model.zone, now_ns)
    agreed = consents.in_force(connection, device, PURPOSE, now_ns)
    if agreed is None:
        raise RatingError(f"score of {device[:64]}: its owner has not agreed to one, or not any more")
    until = min(ends, now_ns)
    start = max(until - model.window_days * DAY_NS, moved_in_ns(connection, device, agreed.vin))
    found = score_history(history_of(connection, device, start, until, model.needs_curves), model, start, until)
    return {
        "device": device,
        "model": model.id,
        "period": period,
        "final": ends <= now_ns,
        "vin": agreed.vin,
        "digest": model.digest,
        "computed_utc_ns": now_ns,
        "checked_utc_ns": now_ns,
        "start_utc_ns": start,
        "end_utc_ns": until,
        "score": found.score,
        "relativity": found.relativity,
        "credibility": found.credibility,
        "km": found.km,
        "km_year": found.period.km_year if found.period else None,
        "quality": found.exposure.quality,
        "trips": found.exposure.trips,
        "result": zstandard.compress(msgspec.json.encode(found)),
    }


def keep(connection: Connection, row: dict[str, Any]) -> KeptScore:
    """Keep a computed row: the same result once, another one of a month that ended as a further revision."""
    t = kept_score
    of = [t.c[name] == row[name] for name in _KEY[:3]]
    last = connection.execute(select(t).where(*of, t.c.newest).with_for_update()).one_or_none()
    if last is not None and (last.checked_utc_ns > row["computed_utc_ns"] or last.final > row["final"]):
        return _kept(last)  # who computed later knows more
    if last is not None and last.final and last.vin != row["vin"]:
        return _kept(last)  # the device has moved since; that month stays the other car's
    if last is not None and last.final and _same(last.result, row["result"]):
        checked = row["computed_utc_ns"]
        connection.execute(update(t).where(*of, t.c.revision == last.revision).values(checked_utc_ns=checked))
        return _kept(last)._replace(checked_utc_ns=checked)
    revision = 1 if last is None else last.revision + last.final
    connection.execute(update(t).where(*of, t.c.newest, t.c.revision < revision).values(newest=False))
    whole = {**row, "revision": revision, "newest": True}
    connection.execute(db.upsert(connection, t, whole, _KEY))
    return KeptScore(*(whole[name] for name in KeptScore._fields))


def latest(connection: Connection, device: str, model: str | None = None) -> KeptScore | None:
    """Return the kept score of the last month there is, under a model (the default one without its name)."""
    return next(iter(history(connection, device, 1, model)), None)


def history(connection: Connection, device: str, n: int, model: str | None = None) -> list[KeptScore]:
    """Return the kept scores of the last `n` months there are, the latest first; only of the car that it is in now."""
    t = kept_score
    query = _rows().where(t.c.device == device, t.c.model == (model or DEFAULT_MODEL), t.c.newest)
    present = bindings.of_device(connection, device)
    if present is not None:
        query = query.where(t.c.vin == present.vin)
    return [_kept(row) for row in connection.execute(query.order_by(t.c.period.desc()).limit(n))]


def of_month(connection: Connection, device: str, period: str, model: str | None = None) -> KeptScore | None:
    """Return the newest kept score of a month."""
    return next(iter(revisions(connection, device, period, model)), None)


def revisions(connection: Connection, device: str, period: str, model: str | None = None) -> list[KeptScore]:
    """Return what was kept of one month in turn, the newest first: more than one where it came out otherwise later."""
    t = kept_score
    query = _rows().where(t.c.device == device, t.c.model == (model or DEFAULT_MODEL), t.c.period == period)
    return [_kept(row) for row in connection.execute(query.order_by(t.c.revision.desc()))]


def result(connection: Connection, kept: KeptScore) -> ScoreResult:
    """Return the whole account of a kept score; raise RatingError where it is gone or damaged."""
    t = kept_score
    of = [t.c[name] == getattr(kept, name) for name in _KEY]
    found = connection.execute(select(t.c.result).where(*of)).scalar()
    name = f"score of {kept.device}, {kept.period}, {kept.model}"
    if found is None:
        raise RatingError(f"{name}: is no longer kept")
    try:
        return _results.decode(_plain(found))
    except (zstandard.ZstdError, msgspec.DecodeError) as e:
        raise RatingError(f"{name}: its row is damaged; compute it again: roadwitness receiver rate --again") from e


def moved_in_ns(connection: Connection, device: str, vin: str) -> int:
    """Return since when the device was in no other car or owner's (UTC ns, 0: always): that is not for this score."""
    every = bindings.listed(connection, device=device)
    owner = next((b.owner for b in every if b.vin == vin), "")
    ended = (b.ended_utc_ns for b in every if (b.vin, b.owner) != (vin, owner))
    return max((at for at in ended if at is not None), default=0)


def _plain(packed: bytes) -> bytes:
    return zstandard.decompress(bytes(packed))


def _same(kept: bytes, new: bytes) -> bool:
    try:
        return _plain(kept) == _plain(new)  # not packed: another version of the library packs otherwise
    except zstandard.ZstdError:
        return False


def _rows() -> Select[Any]:
    return select(*(kept_score.c[name] for name in KeptScore._fields))


def _kept(row: Row[Any]) -> KeptScore:
    found = KeptScore(*(getattr(row, name) for name in KeptScore._fields))
    return found._replace(newest=bool(found.newest), final=bool(found.final))
