"""An owner's cars: what is registered and insured, with the device that is in each."""

from dataclasses import dataclass

from sqlalchemy import Connection, select

from receiver import policies
from receiver.claiming import tables
from receiver.people import reach
from receiver.people.person import Person
from receiver.policies import Policy
from receiver.registry import bindings, vehicles
from receiver.registry.vehicles import Vehicle


@dataclass(frozen=True, slots=True)
class Car:
    """One car; `device` and `vin` are empty and `vehicle` None where they are not known."""

    device: str
    vin: str
    plate: str
    vehicle: Vehicle | None
    policies: list[Policy]  # the latest first

    @property
    def name(self) -> str:
        """Name the car as its owner would."""
        return self.plate or self.vin or self.device

    @property
    def policy(self) -> Policy | None:
        """Return the policy that ends last."""
        return self.policies[0] if self.policies else None


def policies_of(connection: Connection, owner: str) -> list[Policy]:
    """Return an owner's policies, the one that ends last first."""
    t = tables.policy
    ids = connection.execute(select(t.c.id).where(t.c.owner == owner).order_by(t.c.ends.desc(), t.c.id)).scalars()
    found = (policies.get(connection, name) for name in ids)
    return [policy for policy in found if policy is not None]


def cars(connection: Connection, person: Person) -> list[Car]:
    """Return the cars of an owner, those with a device first; none for who is no owner."""
    if not person.owner:
        return []
    insured = policies_of(connection, person.owner)
    own = {v.vin: v for v in vehicles.of_owner(connection, person.owner)}
    devices = reach.devices(connection, person) or frozenset()
    told: list[Car] = []
    for vin, vehicle in own.items():
        mine = [p for p in insured if p.vin == vin or (vehicle.plate and p.plate == vehicle.plate)]
        told.append(Car(bindings.device_of(connection, vin) or _device(mine), vin, vehicle.plate, vehicle, mine))
    known = {car.device for car in told}
    for device in sorted(devices - known):
        mine = [p for p in insured if p.device == device]
        told.append(Car(device, mine[0].vin if mine else "", mine[0].plate if mine else "", None, mine))
    return sorted(told, key=lambda car: (not car.device, car.name))


def _device(mine: list[Policy]) -> str:
    return next((p.device for p in mine if p.device), "")
