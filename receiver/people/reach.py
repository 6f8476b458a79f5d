"""Whose: which devices a person reaches with the rights of his role. Beyond reach is 404, as if it did not exist."""

from sqlalchemy import ColumnElement, Connection, Engine, select
from starlette.exceptions import HTTPException

from receiver import db
from receiver.people.person import Person
from receiver.people.rights import OWNER
from receiver.registry import bindings
from receiver.registry.vehicles import devices_of_owner
from receiver.service.kinds import TECHNICAL, command_behind


def devices(connection: Connection, person: Person) -> frozenset[str] | None:
    """Return the devices whose data a person reaches; None for all of them."""
    if person.role != OWNER:
        return None
    return frozenset(devices_of_owner(connection, person.owner)) if person.owner else frozenset()


def reached(engine: Engine, person: Person) -> frozenset[str] | None:
    """Return what `devices` returns, over a connection of its own."""
    with db.reading(engine) as connection:
        return devices(connection, person)


def device(engine: Engine, person: Person, device: str) -> str:
    """Return a device that a person reaches; raise 404 for another."""
    if person.role == OWNER:
        with db.reading(engine) as connection:
            car = bindings.vehicle_of(connection, device)
        if car is None or not person.owner or car.owner != person.owner:
            raise HTTPException(404)
    return device


def incident(engine: Engine, person: Person, device_: str, incident: str) -> str:
    """Return a device of whose incident a person reaches crash, package and claim; raise 404 for another.

    What was opened while the device was in another owner's car stays his; what a box answered a technician is his.
    """
    device(engine, person, device_)
    with db.reading(engine) as connection:
        if command_behind(connection, device_, incident) in TECHNICAL:
            raise HTTPException(404)
    if person.role == OWNER:
        c = db.claim.c
        of = (c.device == device_, c.incident == incident, bindings.claims_of_others(person.owner))
        with db.reading(engine) as connection:
            if connection.execute(select(c.id).where(*of)).first() is not None:
                raise HTTPException(404)
    return device_


def claims(person: Person) -> list[ColumnElement[bool]]:
    """Return what is true of the claims of reached devices that a person reaches."""
    return [~bindings.claims_of_others(person.owner)] if person.role == OWNER else []


def since_ns(engine: Engine, person: Person, device: str) -> int:
    """Return from when on (UTC ns) what concerns a device concerns a person."""
    if person.role != OWNER:
        return 0
    with db.reading(engine) as connection:
        return bindings.since_ns(connection, device, person.owner)


def owner(person: Person, owner: str) -> str:
    """Return an owner whom a person reaches; raise 404 for another."""
    if person.role == OWNER and owner != person.owner:
        raise HTTPException(404)
    return owner
