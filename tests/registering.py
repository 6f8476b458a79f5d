"""An owner with a car and an enrolled device, for the tests of the registry."""

from datetime import date

from sqlalchemy import Engine, insert

from receiver import db
from receiver.registry import bindings, consents, owners, vehicles
from receiver.registry.owners import Owner
from receiver.registry.vehicles import Vehicle

DAY = 86_400_000_000_000
NOW = 1_790_000_000 * 1_000_000_000
VIN = "LFV2A21K6A3000000"  # its check digit is right
OTHER_VIN = "WVWZZZ1JZXW000001"  # Europe: the ninth is the maker's
DEVICE = "rw-00000000000000d1"
OTHER = "rw-00000000000000d2"


def enrolled(engine: Engine, device: str = DEVICE) -> str:
    """Have a device enrolled without a birth."""
    row = {"id": device, "public_key": "00" * 32, "enrolled_utc_ns": 0, "state": "accepted", "greeted": True}
    with engine.begin() as connection:
        connection.execute(insert(db.device).values(**row, lineage="", session=""))
    return device


def car(owner: str = "K-1", vin: str = VIN, plate: str = "鲁A12345") -> Vehicle:
    return Vehicle(vin, owner, "family", 5, "fuel", date(2020, 5, 4), plate)


def registered(engine: Engine, vehicle: Vehicle | None = None) -> Vehicle:
    """Register an owner with a vehicle."""
    vehicle = vehicle or car()
    with engine.begin() as connection:
        owners.put(connection, Owner(vehicle.owner, "王 店主", "+86 138 0000 0000"), NOW)
        vehicles.put(connection, vehicle, NOW)
    return vehicle


def bound(engine: Engine, device: str = DEVICE, vehicle: Vehicle | None = None, now_ns: int = NOW) -> Vehicle:
    """Register a vehicle and bind a device, enrolled before, to it."""
    vehicle = registered(engine, vehicle)
    with engine.begin() as connection:
        code = bindings.offer(connection, vehicle.vin, now_ns)
    bindings.bind(engine, device, vehicle.vin, code, now_ns, by="technician")
    return vehicle


def agreed(engine: Engine, device: str, *purposes: str, now_ns: int = NOW) -> None:
    for purpose in purposes:
        consents.give(engine, device, purpose, now_ns, by="K-1")
