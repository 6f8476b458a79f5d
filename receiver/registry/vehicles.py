"""Vehicles: whose they are, what they are used for, and which devices an owner's vehicles carry."""

import re
from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import date
from typing import Any, Final

from sqlalchemy import Connection, select

from agent.vin import vin_valid
from receiver import db
from receiver.registry import owners, tables
from receiver.registry.refusals import RegistryError

_PLATE: Final = re.compile(r"[\w·-]{2,16}")
_WORD: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
MOST_SEATS: Final = 100  # an articulated bus
FIRST_CAR: Final = date(1886, 1, 29)  # Benz's patent


@dataclass(frozen=True, slots=True)
class Vehicle:
    """One vehicle, by its VIN; `use_class` and `energy` are words of config/regimes/names.toml."""

    vin: str
    owner: str
    use_class: str
    seats: int
    energy: str
    first_registered: date
    plate: str = ""


_NAMES: Final = tuple(f.name for f in fields(Vehicle))
_COLUMNS: Final = [tables.vehicle.c[name] for name in _NAMES]


def put(
    connection: Connection,
    vehicle: Vehicle,
    now_ns: int,
    *,
    use_classes: Collection[str] = (),
    energies: Collection[str] = (),
) -> None:
    """Keep a vehicle, in place of one of the same VIN; raise RegistryError naming the field.

    `use_classes` and `energies` are the words that the tariffs know; without them any word is taken. A vehicle with a
    device in it cannot change its owner: what was agreed to does not go over to another person.
    """
    for field, said in _faults(vehicle, use_classes, energies):
        raise RegistryError(f"vehicle {vehicle.vin[:17]!r}: {field}: {said}", field)
    if owners.get(connection, vehicle.owner) is None:
        raise RegistryError(f"vehicle {vehicle.vin}: owner: {vehicle.owner[:64]!r} is not registered", "owner")
    before = get(connection, vehicle.vin)
    if before is not None and before.owner != vehicle.owner and _bound(connection, vehicle.vin):
        said = f"vehicle {vehicle.vin}: owner: the device of the owner before is still bound to it; unbind it first"
        raise RegistryError(said, "owner", 409)
    row: dict[str, Any] = {name: getattr(vehicle, name) for name in _NAMES}
    statement = db.upsert(connection, tables.vehicle, {**row, "registered_utc_ns": now_ns}, ["vin"], row)
    connection.execute(statement)


def get(connection: Connection, vin: str) -> Vehicle | None:
    """Return a vehicle by its VIN."""
    row = connection.execute(select(*_COLUMNS).where(tables.vehicle.c.vin == vin)).one_or_none()
    return None if row is None else Vehicle(*row)


def by_plate(connection: Connection, plate: str) -> list[Vehicle]:
    """Return the vehicles that carry a plate: one, unless it was handed on and nobody wrote it down."""
    t = tables.vehicle
    return [Vehicle(*row) for row in connection.execute(select(*_COLUMNS).where(t.c.plate == plate).order_by(t.c.vin))]


def of_owner(connection: Connection, owner: str) -> list[Vehicle]:
    """Return an owner's vehicles, by VIN."""
    t = tables.vehicle
    return [Vehicle(*row) for row in connection.execute(select(*_COLUMNS).where(t.c.owner == owner).order_by(t.c.vin))]


def listed(connection: Connection, after: str = "", most: int = 1000) -> list[Vehicle]:
    """Return vehicles by VIN, those beyond `after`."""
    t = tables.vehicle
    return [
        Vehicle(*r) for r in connection.execute(select(*_COLUMNS).where(t.c.vin > after).order_by(t.c.vin).limit(most))
    ]


def devices_of_owner(connection: Connection, owner: str) -> set[str]:
    """Return the devices that are bound to an owner's vehicles now."""
    v, b = tables.vehicle, tables.binding
    joined = b.join(v, v.c.vin == b.c.vin)
    query = select(b.c.device).select_from(joined).where(v.c.owner == owner, b.c.ended_utc_ns.is_(None))
    return set(connection.execute(query).scalars())


def with_devices(connection: Connection, owner: str) -> list[tuple[Vehicle, str]]:
    """Return an owner's vehicles, by VIN, each with the device that is in it now, "" for none."""
    v, b = tables.vehicle, tables.binding
    now = (b.c.vin == v.c.vin) & b.c.ended_utc_ns.is_(None)
    query = select(*_COLUMNS, b.c.device).select_from(v.outerjoin(b, now)).where(v.c.owner == owner).order_by(v.c.vin)
    return [(Vehicle(*row[:-1]), row[-1] or "") for row in connection.execute(query)]


def _bound(connection: Connection, vin: str) -> bool:
    b = tables.binding
    return connection.execute(select(b.c.id).where(b.c.vin == vin, b.c.ended_utc_ns.is_(None))).first() is not None


def _faults(v: Vehicle, use_classes: Collection[str], energies: Collection[str]) -> Any:
    if not vin_valid(v.vin):
        yield "vin", "write 17 letters and digits without I, O, Q; its ninth is a check digit where the law has one"
    if v.plate and not _PLATE.fullmatch(v.plate):
        yield "plate", f"{v.plate[:16]!r} is no plate"
    for field, word, known in (("use_class", v.use_class, use_classes), ("energy", v.energy, energies)):
        if not _WORD.fullmatch(word):
            yield field, "is missing: prices depend on it"
        elif known and word not in known:
            yield field, f"{word!r} is unknown; known: {', '.join(sorted(known))}"
    if not 1 <= v.seats <= MOST_SEATS:
        yield "seats", f"write a number from 1 to {MOST_SEATS}"
    if v.first_registered < FIRST_CAR:
        yield "first_registered", "lies before there were cars"
