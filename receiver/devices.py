"""Which devices the receiver trusts: enrolment binds a device's name to its key, once."""

import re
from typing import Literal, NamedTuple

from sqlalchemy import Connection, Engine, delete, insert, select, update

from agent import chain, clock, messages
from agent.errors import RoadwitnessError, near_names
from receiver import db


class Pending(NamedTuple):
    """A device that has asked to be heard and is not enrolled."""

    id: str
    public_key: str
    first_utc_ns: int
    last_utc_ns: int


class Device(NamedTuple):
    """An enrolled device; times are 0 where nothing was heard yet."""

    id: str
    public_key: str
    state: str
    enrolled_utc_ns: int
    online: bool
    seen_utc_ns: int


def pending(engine: Engine) -> list[Pending]:
    """Return the devices that wait for enrolment, the latest first."""
    table = db.pending_device
    columns = (table.c.id, table.c.public_key, table.c.first_utc_ns, table.c.last_utc_ns)
    with db.reading(engine) as connection:
        rows = connection.execute(select(*columns).order_by(table.c.last_utc_ns.desc(), table.c.id)).all()
    return [Pending(*row) for row in rows]


def devices(engine: Engine) -> list[Device]:
    """Return the enrolled devices, by name."""
    table, live = db.device, db.live
    columns = (
        *(table.c[n] for n in ("id", "public_key", "state", "enrolled_utc_ns")),
        live.c.online,
        live.c.seen_utc_ns,
    )
    joined = table.outerjoin(live, live.c.device == table.c.id)
    with db.reading(engine) as connection:
        rows = connection.execute(select(*columns).select_from(joined).order_by(table.c.id)).all()
    return [Device(r.id, r.public_key, r.state, r.enrolled_utc_ns, bool(r.online), r.seen_utc_ns or 0) for r in rows]


def enrol(engine: Engine, key_or_id: str) -> str:
    """Trust a device from now on and return its name; twice is the same as once.

    It is named by its raw public key in 64 hex digits, or by the id under which it waits: then the key is the one
    that it showed. Raise RoadwitnessError for anything else.
    """
    text = key_or_id.strip().lower()
    now_ns = clock.wall_ns()
    with engine.begin() as connection:
        by_key = re.fullmatch("[0-9a-f]{64}", text) is not None
        name = chain.device_id(bytes.fromhex(text)) if by_key else text
        waiting = connection.execute(select(db.pending_device).where(db.pending_device.c.id == name)).one_or_none()
        known = connection.execute(select(db.device.c.id).where(db.device.c.id == name)).scalar()
        if known is not None:
            _set_state(connection, name, "accepted")
            return name
        if waiting is None and not by_key:
            names = connection.execute(select(db.pending_device.c.id)).scalars()
            raise RoadwitnessError(
                f"device {key_or_id!r}: does not wait for enrolment{near_names(name, names)};"
                " connect it first, or give its public key (64 hex digits)"
            )
        row = {"id": name, "enrolled_utc_ns": now_ns, "state": "accepted", "greeted": False}
        if waiting is None:
            connection.execute(insert(db.device).values(**row, public_key=text, lineage="", session=""))
            return name
        birth = messages.decode_birth(bytes(waiting.birth))
        asked = {"lineage": birth.lineage, "session": birth.session, "public_key": birth.public_key}
        said = {"birth": waiting.birth, "birth_utc_ns": waiting.last_utc_ns}
        connection.execute(insert(db.device).values(**row, **asked, **said))
        connection.execute(delete(db.pending_device).where(db.pending_device.c.id == name))
        return name


def block(engine: Engine, name: str) -> None:
    """Take nothing more from a device; what it sent stays. Raise RoadwitnessError for an unknown one."""
    with engine.begin() as connection:
        _set_state(connection, name, "blocked")


def _set_state(connection: Connection, name: str, state: Literal["accepted", "blocked"]) -> None:
    table = db.device
    done = connection.execute(update(table).where(table.c.id == name).values(state=state, greeted=False))
    if done.rowcount == 0:
        names = connection.execute(select(table.c.id)).scalars()
        near = near_names(name, names)
        raise RoadwitnessError(f"device {name!r}: is not enrolled{near}; see: roadwitness receiver devices")
