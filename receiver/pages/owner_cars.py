"""An owner's cars: what is registered and insured, with the device that is in each."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from receiver import policies
from receiver.people.person import Person
from receiver.policies import Policy
from receiver.queries import Page, paged
from receiver.registry import vehicles
from receiver.registry.vehicles import Vehicle

PAGE: Final = 20  # cars of one owner on a page: a company may have thousands


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


def cars(connection: Connection, person: Person) -> list[Car]:
    """Return the cars of an owner, those with a device first; none for who is no owner."""
    if not person.owner:
        return []
    by_vin: dict[str, list[Policy]] = {}
    by_plate: dict[str, list[Policy]] = {}
    for policy in policies.of_owner(connection, person.owner):
        by_vin.setdefault(policy.vin, []).append(policy)
        by_plate.setdefault(policy.plate, []).append(policy)
    told = []
    for vehicle, device in vehicles.with_devices(connection, person.owner):
        same = by_plate.get(vehicle.plate, []) if vehicle.plate else []
        mine = {policy.id: policy for policy in (*by_vin.get(vehicle.vin, ()), *same)}
        latest = sorted(mine.values(), key=lambda p: (p.ends, p.id), reverse=True)
        told.append(Car(device, vehicle.vin, vehicle.plate, vehicle, latest))
    return sorted(told, key=lambda car: (not car.device, car.name))


def page_of(told: list[Car], number: int) -> tuple[list[Car], Page]:
    """Return the cars of one page."""
    shown = paged(number, len(told), PAGE)
    return told[(shown.number - 1) * PAGE : shown.number * PAGE], shown
