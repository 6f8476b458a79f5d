"""What an insurer's people do before the demo begins: the owner, his car and its box are registered, links are made."""

from datetime import date
from typing import TYPE_CHECKING, Final

from sim.elm_car import VIN

if TYPE_CHECKING:
    from sqlalchemy import Engine

OWNER: Final = "demo-owner"
PLATE: Final = "鲁A12345"


def register(engine: "Engine", device: str, now_ns: int) -> None:
    """Let the demo's owner own the virtual car, with this device in it; what is so already stays."""
    from receiver.registry import bindings, owners, vehicles

    with engine.begin() as connection:
        if bindings.device_of(connection, VIN) == device:
            return
        owners.put(connection, owners.Owner(OWNER, "Demo Owner"), now_ns)
        car = vehicles.Vehicle(VIN, OWNER, "family", 5, "petrol", date(2022, 5, 18), PLATE)
        vehicles.put(connection, car, now_ns)
        code = bindings.offer(connection, VIN, now_ns)
    bindings.bind(engine, device, VIN, code, now_ns)


def links(engine: "Engine", page: str, now_ns: int) -> list[tuple[str, str]]:
    """Make one person of each role, and for each a link that signs in once; return (role, link)."""
    from receiver.people import accounts, invites, rights

    made = []
    with engine.begin() as connection:
        for role in rights.ROLES:
            owner = OWNER if role == rights.OWNER else ""
            name = f"demo-{role}"
            person = accounts.find(connection, name) or accounts.add(connection, name, role, now_ns, owner)
            made.append((role, f"{page}enter/{invites.make(connection, person.id, invites.ENTER, now_ns)}"))
    return made
