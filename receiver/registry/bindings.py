"""Which device is in which vehicle: bound by VIN and a one-time code, ended with a reason, compared with the road.

Whoever fits a device has the code from the insurer, so that nobody binds a device to somebody else's car by its VIN,
which stands behind the windscreen. Every attempt is a row of the access log.
"""

import hashlib
import hmac
import secrets
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, and_, delete, exists, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from agent.clock import NS_PER_S
from agent.known import known
from agent.records import Event, Health
from agent.vin import vin_valid
from receiver import access, db
from receiver.access import Look
from receiver.registry import consents, tables, vehicles
from receiver.registry.refusals import RegistryError
from receiver.registry.vehicles import Vehicle

# Read aloud over a telephone and typed with gloves: no letter that looks like a digit.
ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
CODE_LENGTH: Final = 8  # 40 bits: with MOST_TRIES nobody guesses one
CODE_LIFE_NS: Final = 72 * 3600 * NS_PER_S  # a weekend between the office and the workshop
MOST_TRIES: Final = 5


class Binding(NamedTuple):
    """A device in a vehicle, now (`ended_utc_ns` None) or once."""

    id: int
    device: str
    vin: str
    bound_utc_ns: int
    bound_by: str
    ended_utc_ns: int | None
    ended_by: str
    reason: str
    owner: str  # of the vehicle when it was bound


class Mismatch(NamedTuple):
    """A car that tells another VIN than the one its device is bound to, when that was received last, and by what."""

    device: str
    bound_vin: str
    read_vin: str  # empty where the device only says that it differs
    received_utc_ns: int
    told_by: str  # "event": judged on the road; "health": compared here


_COLUMNS: Final = [tables.binding.c[name] for name in Binding._fields]


def offer(connection: Connection, vin: str, now_ns: int) -> str:
    """Make the one-time code by which a device is bound to a vehicle, and return it; only its hash is kept.

    An earlier code of the vehicle ends. Raise RegistryError for a vehicle that is not registered.
    """
    _vehicle(connection, vin)
    code = "".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH))
    salt = secrets.token_bytes(16)
    row = {"vin": vin, "salt": salt, "digest": _digest(code, salt), "expires_utc_ns": now_ns + CODE_LIFE_NS, "tries": 0}
    connection.execute(db.upsert(connection, tables.binding_code, row, ["vin"]))
    return code


def bind(
    engine: Engine, device: str, vin: str, code: str, now_ns: int, *, by: str = access.LOCAL, address: str = ""
) -> Binding:
    """Bind an enrolled device to a registered vehicle; the same again is the same binding.

    Raise RegistryError: 404 for what is not known, 409 where either is bound already, 422 for a wrong code, which ends
    after MOST_TRIES or CODE_LIFE_NS. The attempt and its refusal are rows of the access log.
    """
    access.append(engine, Look(by, address, device[:64], "", "binding", f"bind {vin[:17]}"), now_ns)
    try:
        return _bind(engine, device, vin, _plain(code), now_ns, by)
    except RegistryError as refused:
        named = f"bind {vin[:17]} refused: {refused.field or 'vehicle'} {refused.status}"
        access.append(engine, Look(by, address, device[:64], "", "binding", named), now_ns)
        raise


def unbind(
    engine: Engine, device: str, now_ns: int, *, reason: str, by: str = access.LOCAL, address: str = ""
) -> Binding:
    """End a device's binding; what was agreed to for this car ends with it, and the device forgets the car.

    Raise RegistryError where the device is in no car or no reason is given.
    """
    if not reason.strip() or len(reason) > 200 or not reason.isprintable():
        raise RegistryError(f"device {device[:64]}: unbind: say why, in up to 200 characters", "reason")
    access.append(engine, Look(by, address, device[:64], "", "binding", "unbind"), now_ns)
    with engine.begin() as connection:
        present = of_device(connection, device)
        if present is None:
            raise RegistryError(f"device {device[:64]}: is bound to no vehicle", "device", 404)
        consents.end(connection, device, by, f"unbound: {reason}", now_ns)
        ended: dict[str, Any] = {"ended_utc_ns": now_ns, "ended_by": by[:64], "reason": reason.strip()}
        connection.execute(update(tables.binding).where(tables.binding.c.id == present.id).values(**ended))
    return present._replace(**ended)


def of_device(connection: Connection, device: str) -> Binding | None:
    """Return the present binding of a device."""
    t = tables.binding
    row = connection.execute(select(*_COLUMNS).where(t.c.device == device, t.c.ended_utc_ns.is_(None))).one_or_none()
    return None if row is None else Binding(*row)


def vehicle_of(connection: Connection, device: str) -> Vehicle | None:
    """Return the vehicle that a device is in now."""
    present = of_device(connection, device)
    return None if present is None else vehicles.get(connection, present.vin)


def device_of(connection: Connection, vin: str) -> str | None:
    """Return the device that is in a vehicle now."""
    t = tables.binding
    return connection.execute(select(t.c.device).where(t.c.vin == vin, t.c.ended_utc_ns.is_(None))).scalar()


def since_ns(connection: Connection, device: str, owner: str) -> int:
    """Return when a device left another owner's vehicle last, UTC ns; 0 where it never was in one."""
    b = tables.binding
    others = (b.c.device == device, b.c.owner != owner, b.c.ended_utc_ns.is_not(None))
    return connection.execute(select(func.max(b.c.ended_utc_ns)).where(*others)).scalar() or 0


def of_others(device: ColumnElement[str], at_utc_ns: ColumnElement[int], owner: str) -> ColumnElement[bool]:
    """Say of a row that it is from before its device left another owner's vehicle: claims outlive an erasure."""
    b = tables.binding
    return exists().where(b.c.device == device, b.c.owner != owner, b.c.ended_utc_ns >= at_utc_ns)


def claims_of_others(owner: str) -> ColumnElement[bool]:
    """Say of a claim that it was opened, or its crash happened, before its device left another owner's vehicle.

    A box keeps the evidence of a crash until it is received (decision 0258): it may come after the box went on.
    """
    b, c, t = tables.binding, db.claim, db.crash
    same = (t.c.device == c.c.device, t.c.incident == c.c.incident)
    ended = (b.c.device == t.c.device, b.c.owner != owner, b.c.ended_utc_ns >= db.utc_ns(t))
    late = select(t.c.id).select_from(db.with_clock(t).join(b, and_(*ended))).where(*same).correlate(c).exists()
    return or_(of_others(c.c.device, c.c.opened_utc_ns, owner), late)


def listed(
    connection: Connection, *, device: str = "", vin: str = "", ended: bool = True, most: int = 1000
) -> list[Binding]:
    """Return bindings, the latest first: of a device, of a vehicle, or of all; without `ended` only present ones."""
    t = tables.binding
    query = select(*_COLUMNS).order_by(t.c.bound_utc_ns.desc(), t.c.id.desc()).limit(most)
    for column, value in ((t.c.device, device), (t.c.vin, vin)):
        if value:
            query = query.where(column == value)
    return [Binding(*row) for row in connection.execute(query if ended else query.where(t.c.ended_utc_ns.is_(None)))]


def mismatches(connection: Connection, device: str = "") -> list[Mismatch]:
    """Return the bound devices, or the one that is named, whose car tells another VIN than it is bound to (T-BIND-1).

    What counts is the newest VIN that a driver read since the device was bound, and where none was, an event of the
    device itself. Both come with the trip on which the VIN was read.
    """
    found = []
    for present in listed(connection, device=device, ended=False):
        read = _read_vin(connection, present)
        if read is not None:
            if read[0] != present.vin:
                found.append(Mismatch(present.device, present.vin, *read, "health"))
            continue
        told = _told(connection, present)
        if told is not None:
            found.append(Mismatch(present.device, present.vin, *told, "event"))
    return found


def _bind(engine: Engine, device: str, vin: str, code: str, now_ns: int, by: str) -> Binding:
    """Bind, or raise after what a wrong code costs was written."""
    try:
        with engine.begin() as connection:
            refused = _refusal(connection, device, vin, code, now_ns)
            if refused is None and (present := of_device(connection, device)) is None:
                connection.execute(delete(tables.binding_code).where(tables.binding_code.c.vin == vin))
                car = _vehicle(connection, vin)
                row = {"device": device, "vin": vin, "owner": car.owner, "bound_utc_ns": now_ns, "bound_by": by[:64]}
                connection.execute(insert(tables.binding).values(**row, ended_by="", reason=""))
                present = of_device(connection, device)
    except IntegrityError as e:  # another process bound one of them at the same moment
        raise RegistryError(f"vehicle {vin}: was bound at the same moment; look again", "vin", 409) from e
    if refused is not None:
        raise refused
    assert present is not None
    return present


def _refusal(connection: Connection, device: str, vin: str, code: str, now_ns: int) -> RegistryError | None:
    state = connection.execute(select(db.device.c.state).where(db.device.c.id == device)).scalar()
    if state != "accepted":
        return RegistryError(
            f"device {device[:64]!r}: is not enrolled; see: roadwitness receiver devices", "device", 404
        )
    car = vehicles.get(connection, vin)
    if car is None:
        return RegistryError(f"vehicle {vin[:17]!r}: is not registered", "vin", 404)
    in_it = device_of(connection, vin)
    if in_it is not None and in_it != device:
        said = f"vehicle {vin}: device {in_it} is bound to it; unbind that one first, with the reason"
        return RegistryError(said, "vin", 409)
    present = of_device(connection, device)
    if present is not None:
        if present.vin == vin:
            return None
        return RegistryError(f"device {device}: is bound to vehicle {present.vin}; unbind it first", "device", 409)
    if _holds_of_others(connection, device, car.owner):
        said = f"device {device}: data of the owner before are kept under its name; erase them first"
        return RegistryError(f"{said}: roadwitness receiver erasure ask --device {device}", "device", 409)
    return _wrong_code(connection, vin, code, now_ns)


def _wrong_code(connection: Connection, vin: str, code: str, now_ns: int) -> RegistryError | None:
    t = tables.binding_code
    row = connection.execute(select(t).where(t.c.vin == vin).with_for_update()).one_or_none()
    if row is None or row.expires_utc_ns <= now_ns or row.tries >= MOST_TRIES:
        return RegistryError(f"vehicle {vin}: there is no code that holds; ask the insurer for another one", "code")
    if hmac.compare_digest(bytes(row.digest), _digest(code, bytes(row.salt))):
        return None
    connection.execute(update(t).where(t.c.vin == vin).values(tries=row.tries + 1))
    left = MOST_TRIES - row.tries - 1
    said = f"{left} more tries" if left > 1 else "one more try" if left else "it holds no longer; ask for another one"
    return RegistryError(f"vehicle {vin}: this is not its code: {said}", "code")


def _holds_of_others(connection: Connection, device: str, owner: str) -> bool:
    """Say whether a device was in another owner's vehicle and its data there were not erased since."""
    e = tables.erasure
    last = since_ns(connection, device, owner)
    if not last:
        return False
    erased = and_(e.c.device == device, e.c.purpose == "recording", e.c.until_utc_ns >= last, e.c.state != "open")
    return connection.execute(select(e.c.id).where(erased)).first() is None


def _read_vin(connection: Connection, present: Binding) -> tuple[str, int] | None:
    """Return the VIN that drivers read last since the device was bound, and when that was received."""
    h, e = db.health, db.entry
    same = and_(*(e.c[n] == h.c[n] for n in ("device", "lineage", "lane", "seq")))
    query = (
        select(e.c.body, h.c.received_utc_ns)
        .select_from(h.join(e, same))
        .where(h.c.device == present.device, h.c.received_utc_ns >= present.bound_utc_ns, h.c.source.like("%:vin"))
        .order_by(h.c.id.desc())
        .limit(20)
    )
    for body, received in connection.execute(query):
        try:
            vin = msgspec.json.decode(bytes(body), type=known(Health)).facts.get("vin", "")
        except msgspec.DecodeError:
            continue
        if vin_valid(vin):
            return vin, received
    return None


def _told(connection: Connection, present: Binding) -> tuple[str, int] | None:
    """Return what the device's own event since it was bound says of another VIN, and when that was received."""
    h, e = db.harsh_event, db.entry
    same = and_(*(e.c[n] == h.c[n] for n in ("device", "lineage", "lane", "seq")))
    where = (h.c.device == present.device, h.c.received_utc_ns >= present.bound_utc_ns, h.c.kind == "vin_mismatch")
    query = select(e.c.body, h.c.received_utc_ns).select_from(h.join(e, same)).where(*where).order_by(h.c.id.desc())
    row = connection.execute(query.limit(1)).first()
    if row is None:
        return None
    try:
        read = msgspec.json.decode(bytes(row.body), type=known(Event)).detail[:17]
    except msgspec.DecodeError:
        read = ""
    if read == present.vin:  # the device was bound to another car by its own file
        return None
    return read if vin_valid(read) else "", row.received_utc_ns


def _vehicle(connection: Connection, vin: str) -> Vehicle:
    found = vehicles.get(connection, vin)
    if found is None:
        raise RegistryError(f"vehicle {vin[:17]!r}: is not registered", "vin", 404)
    return found


def _digest(code: str, salt: bytes) -> bytes:
    return hashlib.scrypt(code.encode(), salt=salt, n=2**14, r=8, p=1)


def _plain(code: str) -> str:
    """Return a code as it was made, however it was typed."""
    return "".join(c for c in code[:64].upper() if c.isalnum())
