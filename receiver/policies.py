"""Policies: which car is covered from when to when, by which clause book, for what sums.

Minimal on purpose: what claims, renewals and figures need. The owner is the insurer's own reference, never a name.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, insert, or_, select

from agent.errors import RoadwitnessError
from receiver import db
from receiver.claiming import tables
from receiver.moments import FIRST, LAST, within

REGIMES: Final = ("2006", "2015", "2020")
# A cover's code as the tariffs name it; occupants are covered by seat
CODES: Final = ("VD", "TPL", "OCC.driver", "OCC.passenger", "THEFT", "GLASS", "SCRATCH", "FIRE", "EQUIP")
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")
_VIN: Final = re.compile(r"[A-HJ-NPR-Z0-9]{17}")  # ISO 3779: no I, O, Q
_PLATE: Final = re.compile(r"[\w·-]{2,16}")
_DEVICE: Final = re.compile(r"rw-[0-9a-f]{16}")
_MOST_FEN: Final = 10**13  # a hundred thousand million yuan: no sum of a motor policy


class PolicyError(RoadwitnessError):
    """A policy that cannot be kept: names the field and the reason."""


@dataclass(frozen=True, slots=True)
class Cover:
    """One commercial cover; `sum_fen` is for each seat with OCC, None where the cover has no sum."""

    code: str
    sum_fen: int | None = None
    waived: bool = False  # its fault deductible is insured away


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy; `ends` is the last day of cover."""

    id: str
    vin: str
    plate: str
    regime: str
    starts: date
    ends: date
    premium_fen: int = 0
    compulsory: bool = True
    covers: tuple[Cover, ...] = field(default=())
    device: str = ""
    owner: str = ""
    use_class: str = "family"
    sales_confirmed: bool = True

    @property
    def days(self) -> int:
        """Return how many days are covered."""
        return (self.ends - self.starts).days + 1

    def cover(self, code: str) -> Cover | None:
        """Return a cover, None where it was not bought."""
        return next((c for c in self.covers if c.code == code), None)


def check(policy: Policy) -> None:
    """Raise PolicyError for the first field that cannot be kept."""
    wrong = next(_wrong(policy), None)
    if wrong is not None:
        raise PolicyError(f"policy {policy.id!r}: {wrong}")


def put(connection: Connection, policy: Policy) -> None:
    """Keep a policy, in place of one of the same id; raise PolicyError."""
    check(policy)
    row: dict[str, Any] = {name: getattr(policy, name) for name in tables.policy.c.keys()}  # noqa: SIM118 - a collection
    connection.execute(db.upsert(connection, tables.policy, row, ["id"]))
    connection.execute(delete(tables.policy_cover).where(tables.policy_cover.c.policy == policy.id))
    covers = [{"policy": policy.id, "code": c.code, "sum_fen": c.sum_fen, "waived": c.waived} for c in policy.covers]
    if covers:
        connection.execute(insert(tables.policy_cover), covers)


def get(connection: Connection, policy: str) -> Policy | None:
    """Return a policy by its id."""
    found = _of(connection, select(tables.policy).where(tables.policy.c.id == policy))
    return found[0] if found else None


def on(connection: Connection, day: date, *, device: str = "", vin: str = "", plate: str = "") -> list[Policy]:
    """Return the policies in force on a day for a car, by device or VIN, by plate only where neither finds one."""
    t = tables.policy
    in_force = (t.c.starts <= day, t.c.ends >= day)
    for column, value in ((t.c.device, device), (t.c.vin, vin), (t.c.plate, plate)):
        if value:
            found = _of(connection, select(t).where(*in_force, column == value).order_by(t.c.starts, t.c.id))
            if found:
                return found
    return []


def listed(
    connection: Connection,
    after: str = "",
    most: int = 1000,
    *,
    device: str = "",
    vin: str = "",
    plate: str = "",
    owner: str = "",
) -> list[Policy]:
    """Return policies by id, those beyond `after`: of a device, a VIN, a plate, an owner, or all."""
    t = tables.policy
    given = ((t.c.device, device), (t.c.vin, vin), (t.c.plate, plate), (t.c.owner, owner))
    of = [column == value for column, value in given if value]
    return _of(connection, select(t).where(t.c.id > after, *of).order_by(t.c.id).limit(most))


def ending(connection: Connection, first: date, last: date) -> list[Policy]:
    """Return the policies whose last day lies between two days, both included, the earliest end first."""
    t = tables.policy
    return _of(connection, select(t).where(t.c.ends >= first, t.c.ends <= last).order_by(t.c.ends, t.c.id))


def of_owner(connection: Connection, owner: str) -> list[Policy]:
    """Return an owner's policies, the one that ends last first."""
    t = tables.policy
    return _of(connection, select(t).where(t.c.owner == owner).order_by(t.c.ends.desc(), t.c.id))


def starting(connection: Connection, first: date, last: date) -> list[Policy]:
    """Return the policies whose first day lies between two days, both included."""
    t = tables.policy
    return _of(connection, select(t).where(t.c.starts >= first, t.c.starts <= last).order_by(t.c.starts, t.c.id))


def overlapping(connection: Connection, first: date, last: date) -> list[Policy]:
    """Return the policies of which at least one day lies between two days, both included."""
    t = tables.policy
    return _of(connection, select(t).where(t.c.starts <= last, t.c.ends >= first).order_by(t.c.id))


def vins_of(connection: Connection, device: str) -> set[str]:
    """Return the VINs under which a device is insured, or was."""
    t = tables.policy
    return set(connection.execute(select(t.c.vin).where(t.c.device == device, t.c.vin != "").distinct()).scalars())


def devices_of(connection: Connection, vins: Iterable[str], plates: Iterable[str] = ()) -> set[str]:
    """Return the devices of cars by VIN or plate."""
    t = tables.policy
    named = or_(t.c.vin.in_([v for v in vins if v]), t.c.plate.in_([p for p in plates if p]))
    return set(connection.execute(select(t.c.device).where(t.c.device != "", named).distinct()).scalars())


def _wrong(p: Policy) -> Any:
    if not _ID.fullmatch(p.id):
        yield "id: use 1 to 32 letters, digits, dots, dashes"
    if not p.vin and not p.plate:
        yield "vin: give the VIN or the plate"
    if p.vin and not _VIN.fullmatch(p.vin):
        yield f"vin: {p.vin!r} is no VIN of 17 letters and digits without I, O, Q"
    if p.plate and not _PLATE.fullmatch(p.plate):
        yield f"plate: {p.plate!r} is no plate"
    if p.device and not _DEVICE.fullmatch(p.device):
        yield f"device: {p.device!r} is no device's id"
    if p.regime not in REGIMES:
        yield f"regime: {p.regime!r} is unknown; known: {', '.join(REGIMES)}"
    for name, day in (("starts", p.starts), ("ends", p.ends)):
        if not within(day):
            yield f"{name}: {day} lies outside {FIRST.year} to {LAST.year}"
    if p.ends < p.starts:
        yield f"ends: {p.ends} lies before the start {p.starts}"
    if not 0 <= p.premium_fen <= _MOST_FEN:
        yield "premium: must not be negative, nor so large"
    if len(p.owner) > 64 or not p.owner.isprintable() or not p.use_class or len(p.use_class) > 32:
        yield "owner, use class: too long, or not printable"
    codes = [c.code for c in p.covers]
    for cover in p.covers:
        if cover.code not in CODES:
            yield f"covers: {cover.code!r} is unknown; known: {', '.join(CODES)}"
        if cover.sum_fen is not None and not 0 < cover.sum_fen <= _MOST_FEN:
            yield f"covers: the sum of {cover.code} must be above 0"
    if len(set(codes)) != len(codes):
        yield "covers: one of them stands there twice"


def _of(connection: Connection, query: Any) -> list[Policy]:
    rows = connection.execute(query).all()
    c = tables.policy_cover
    covers: dict[str, list[Cover]] = {}
    ids = [row.id for row in rows]
    for start in range(0, len(ids), 500):  # a statement takes no more parameters than that for sure
        chosen = select(c).where(c.c.policy.in_(ids[start : start + 500])).order_by(c.c.policy, c.c.code)
        for row in connection.execute(chosen):
            covers.setdefault(row.policy, []).append(Cover(row.code, row.sum_fen, bool(row.waived)))
    return [_policy(row, tuple(covers.get(row.id, ()))) for row in rows]


def _policy(row: Row[Any], covers: tuple[Cover, ...]) -> Policy:
    known = {name: getattr(row, name) for name in tables.policy.c.keys()}  # noqa: SIM118 - a collection
    return Policy(**{**known, "compulsory": bool(row.compulsory), "covers": covers})
