"""Whose: which devices a person reaches with the rights of his role. Beyond reach is 404, as if it did not exist."""

from sqlalchemy import Connection, Engine
from starlette.exceptions import HTTPException

from receiver import db
from receiver.people.person import Person
from receiver.people.rights import OWNER
from receiver.registry import bindings
from receiver.registry.vehicles import devices_of_owner


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


def owner(person: Person, owner: str) -> str:
    """Return an owner whom a person reaches; raise 404 for another."""
    if person.role == OWNER and owner != person.owner:
        raise HTTPException(404)
    return owner
