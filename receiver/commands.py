"""What this receiver asks of devices: signed, kept, sent once and again at every birth until it is answered.

Only the device's own replies change the state of a command. A car may stand for days; so nothing here waits or gives
up: a command that is not answered and cannot be heeded any more is shown as expired, and a reply that comes late still
counts.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Engine, func, insert, select, update

from agent import messages
from agent.clock import NS_PER_S
from agent.commandmessages import LONGEST_LIFE_NS, Command, encode_command, new_id
from agent.errors import RoadwitnessError, near_names
from agent.identity import KeyName, load_or_create
from agent.messages import MessageError
from agent.records import Reply
from receiver import access, db
from receiver.access import Look
from receiver.engine import beside
from receiver.projections import Known
from receiver.settings import ReceiverSettings

KEY: Final = KeyName("command key", "make another, which every device must be told")
KEY_FILE: Final = "command.key"
# A device holds 32 that it cannot judge yet (agent.commands); more at once would be dropped there.
MOST_OPEN: Final = 32
MOST_AT_ONCE: Final = 1000
WAITING: Final = "waiting"
# a reply moves a command on and never back: records may come again when a device's store was an older copy of itself
_BEFORE: Final = {
    "accepted": (WAITING,),
    "done": (WAITING, "accepted"),
    "refused": (WAITING, "accepted"),
    "failed": (WAITING, "accepted"),
}


class Outgoing(NamedTuple):
    """A message to publish."""

    topic: str
    payload: bytes
    retain: bool = True


class Asked(NamedTuple):
    """A command as people see it; `state` is that of the last reply, or waiting, sent, expired."""

    id: str
    device: str
    command: str
    arguments: dict[str, Any]  # empty where another receiver asked
    reason: str
    actor: str
    issued_utc_ns: int | None  # None where another receiver asked
    expires_utc_ns: int
    state: str
    state_utc_ns: int
    detail: str
    incident: str | None


def command_key(settings: ReceiverSettings) -> Ed25519PrivateKey:
    """Return the key by which commands are signed, made at first use; raise StoreError."""
    named = settings.commands.key
    return load_or_create(Path(named) if named else beside(settings.database) / KEY_FILE, KEY)


def issue(
    engine: Engine,
    key: Ed25519PrivateKey,
    device: str,
    name: str,
    arguments: dict[str, Any],
    *,
    reason: str,
    actor: str,
    life_s: float,
    now_ns: int,
) -> str:
    """Sign and keep a command; whoever receives sends it within seconds. Return its id.

    Who asked is in the access log before the command exists. Raise RoadwitnessError with what is wrong.
    """
    if not 0 < life_s <= LONGEST_LIFE_NS / NS_PER_S:  # nor is it nan
        raise RoadwitnessError(
            f"a command lives for up to {LONGEST_LIFE_NS // NS_PER_S // 86_400} days, not {life_s:g} s"
        )
    command = Command(
        id=new_id(),
        device=device,
        command=name,
        arguments=arguments,
        issued_utc_ns=now_ns,
        expires_utc_ns=now_ns + round(life_s * NS_PER_S),
        reason=reason,
        actor=actor,
    )
    table = db.command
    with db.reading(engine) as connection:
        known = connection.execute(select(db.device.c.id, db.device.c.state)).all()
        waiting = (table.c.device == device, table.c.state == WAITING, table.c.expires_utc_ns > now_ns)
        open_ = connection.execute(select(func.count()).select_from(table).where(*waiting)).scalar_one()
    if (device, "accepted") not in [(row.id, row.state) for row in known]:
        near = near_names(device, [row.id for row in known])
        raise RoadwitnessError(f"device {device!r}: is not enrolled{near}; see: roadwitness receiver devices")
    if open_ >= MOST_OPEN:
        raise RoadwitnessError(f"device {device}: {open_} commands wait for its answer already; ask when some are over")
    try:
        payload = encode_command(command, key)
    except MessageError as e:
        raise RoadwitnessError(f"command {name}: cannot be sent: {e}") from e
    access.append(engine, Look(actor, "", device, "", "command", command.id), now_ns)
    row = {n: getattr(command, n) for n in ("id", "device", "command", "reason", "actor")}
    row |= {"issued_utc_ns": now_ns, "expires_utc_ns": command.expires_utc_ns, "payload": payload}
    row |= {"arguments": msgspec.json.encode(arguments).decode(), "sent_utc_ns": None, "incident": None}
    with engine.begin() as connection:
        connection.execute(insert(table).values(**row, state=WAITING, state_utc_ns=now_ns, detail=""))
    return command.id


def unsent(engine: Engine, now_ns: int) -> list[Outgoing]:
    """Return commands that were never sent, and note that they are now."""
    table = db.command
    fresh = (table.c.sent_utc_ns.is_(None), table.c.expires_utc_ns > now_ns)
    query = select(table.c.id, table.c.device, table.c.payload).where(*fresh).order_by(table.c.issued_utc_ns)
    with db.reading(engine) as connection:
        if not connection.execute(query.limit(1)).first():
            return []  # nearly always: nothing is written every two seconds
    with engine.begin() as connection:
        rows = connection.execute(query.limit(MOST_AT_ONCE)).all()
        connection.execute(update(table).where(table.c.id.in_([r.id for r in rows])).values(sent_utc_ns=now_ns))
    return [_outgoing(row) for row in rows]


def again(connection: Connection, device: str, now_ns: int) -> list[Outgoing]:
    """Return what a device that has just connected was asked and has not answered."""
    table = db.command
    open_ = (table.c.device == device, table.c.state == WAITING, table.c.expires_utc_ns > now_ns)
    query = select(table.c.id, table.c.device, table.c.payload).where(*open_).order_by(table.c.issued_utc_ns)
    rows = connection.execute(query.limit(MOST_OPEN)).all()
    unsent_ = (table.c.id.in_([row.id for row in rows]), table.c.sent_utc_ns.is_(None))
    if rows:
        connection.execute(update(table).where(*unsent_).values(sent_utc_ns=now_ns))
    return [_outgoing(row) for row in rows]


def hear(connection: Connection, device: str, known: Sequence[Known], now_ns: int) -> None:
    """Take the replies among entries that were just stored; those to commands of others stay records."""
    table = db.command
    for _, record, _ in known:
        if isinstance(record, Reply):
            where = (table.c.id == record.id, table.c.device == device, table.c.state.in_(_BEFORE[record.state]))
            said = {"state": record.state, "detail": record.detail, "incident": record.incident}
            connection.execute(update(table).where(*where).values(**said, state_utc_ns=now_ns))


def asked(engine: Engine, device: str, now_ns: int, most: int = 20, since_ns: int = 0) -> list[Asked]:
    """Return what was asked of a device since a time (UTC ns), the latest first: by this receiver, and by any other
    that it answered.
    """
    t, r = db.command, db.reply
    mine = select(t).where(t.c.device == device, t.c.issued_utc_ns > since_ns)
    mine = mine.order_by(t.c.issued_utc_ns.desc(), t.c.id).limit(most)
    last = select(func.max(r.c.id)).where(r.c.device == device).group_by(r.c.command_id)
    foreign = (
        select(r)
        .where(r.c.id.in_(last), r.c.command_id.not_in(select(t.c.id).where(t.c.device == device)))
        .where(r.c.received_utc_ns > since_ns)
        .order_by(r.c.id.desc())
        .limit(most)
    )
    with db.reading(engine) as connection:
        ours = [_asked(row, now_ns) for row in connection.execute(mine)]
        others = [_answered(row) for row in connection.execute(foreign)]
    return sorted(ours + others, key=lambda a: a.issued_utc_ns or a.state_utc_ns, reverse=True)[:most]


def one(engine: Engine, device: str, id_: str, now_ns: int) -> Asked | None:
    """Return one command that a device was asked, by this receiver or another; None where it never was."""
    t, r = db.command, db.reply
    with db.reading(engine) as connection:
        mine = connection.execute(select(t).where(t.c.device == device, t.c.id == id_)).one_or_none()
        if mine is not None:
            return _asked(mine, now_ns)
        of = (r.c.device == device, r.c.command_id == id_)
        said = connection.execute(select(r).where(*of).order_by(r.c.id.desc()).limit(1)).one_or_none()
        return None if said is None else _answered(said)


def _asked(row: Any, now_ns: int) -> Asked:
    state = row.state
    if state == WAITING:
        state = "expired" if row.expires_utc_ns <= now_ns else WAITING if row.sent_utc_ns is None else "sent"
    arguments = msgspec.json.decode(row.arguments)
    same = {n: getattr(row, n) for n in Asked._fields if n not in ("state", "arguments")}
    return Asked(**same, state=state, arguments=arguments)


def _answered(row: Any) -> Asked:
    return Asked(
        id=row.command_id,
        device=row.device,
        command=row.command,
        arguments={},
        reason=row.reason,
        actor=row.actor,
        issued_utc_ns=None,
        expires_utc_ns=row.expires_utc_ns,
        state=row.state,
        state_utc_ns=row.received_utc_ns,
        detail=row.detail,
        incident=row.incident,
    )


def _outgoing(row: Any) -> Outgoing:
    return Outgoing(messages.topic(row.device, "command"), bytes(row.payload), retain=False)
