"""What owners agreed to: which text, when, for what; given and withdrawn rows are added and never changed.

Each purpose is agreed to on its own (PIPL articles 23 and 29), and withdrawing is as easy as giving. What rests on
another purpose ends with it. Withdrawing opens the erasure of what was kept for it, and the device is told.
"""

from collections.abc import Collection, Iterable
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Engine, Row, func, insert, select

from receiver import access, db
from receiver.access import Look
from receiver.registry import erasures, tables
from receiver.registry.refusals import RegistryError
from receiver.registry.wording import current, latest

PURPOSES: Final = ("recording", "scoring", "video", "regulator", "clip", "track")
ALWAYS_NS: Final = 2**62
# purpose -> what must be agreed to as well: it makes no sense alone
RESTS_ON: Final[dict[str, tuple[str, ...]]] = {
    "recording": (),
    "scoring": ("recording",),
    "video": ("recording",),
    "regulator": ("recording",),
    "clip": ("recording", "video"),
    "track": ("recording",),
}


class Consent(NamedTuple):
    """One row: a consent given, or its withdrawal."""

    id: str  # C1, C2, …
    device: str
    vin: str
    owner: str
    purpose: str
    given: bool
    at_utc_ns: int
    version: str  # of the text
    language: str
    digest: str  # SHA-256 of the text as it was shown
    by: str
    how: str


def give(
    engine: Engine,
    device: str,
    purpose: str,
    now_ns: int,
    *,
    by: str,
    version: str = "",
    language: str = "zh",
    how: str = "page",
    address: str = "",
) -> Consent:
    """Write down that the owner of a device's vehicle agrees to a purpose, by the text that was shown.

    `version` is that of the text; one that is not the newest any more is refused (409), so that nobody agrees to what
    was changed meanwhile; empty takes the newest. Raise RegistryError.
    """
    known(purpose)
    text = latest(purpose)
    if version not in ("", text.version):
        raise RegistryError(f"consent to {purpose}: the text is now {text.version}; read it again", "version", 409)
    shown = current(purpose, language)
    access.append(engine, Look(by, address, device[:64], "", "consent", f"give {purpose}"), now_ns)
    with engine.begin() as connection:
        vin, owner = _whose(connection, device)
        lacking = [p for p in RESTS_ON[purpose] if not _in_force(connection, device, p)]
        if lacking:
            said = f"consent to {purpose}: rests on {', '.join(lacking)}, which is not agreed to; agree to that first"
            raise RegistryError(said, "purpose", 409)
        told = {"version": text.version, "language": language, "digest": shown.digest}
        return _append(
            connection, device, vin, owner, purpose, True, _moment(connection, device, now_ns), by, how, told
        )


def withdraw(
    engine: Engine, device: str, purpose: str, now_ns: int, *, by: str, how: str = "page", address: str = ""
) -> list[Consent]:
    """Write down that a purpose, and what rests on it, is agreed to no more; return the rows, [] where it was not.

    `recording` may be withdrawn where it was agreed to on paper only: the box is told, and heeds that from then on.
    What was kept for it is erased (receiver.registry.erasing), on the device within seconds of its being told.
    """
    known(purpose)
    access.append(engine, Look(by, address, device[:64], "", "consent", f"withdraw {purpose}"), now_ns)
    with engine.begin() as connection:
        rows = _withdraw(connection, device, purpose, by, how, now_ns)
        if rows:
            erasures.open_for(connection, device, rows[0].owner, purpose, by, now_ns)
    return rows


def end(connection: Connection, device: str, by: str, how: str, now_ns: int) -> None:
    """End everything that was agreed to for a device, because it leaves the car; nothing is erased by this."""
    _withdraw(connection, device, "recording", by, how, now_ns)


def spans(connection: Connection, devices: Iterable[str], purpose: str) -> dict[str, tuple[int, int]]:
    """Return from when until when (UTC ns, the end excluded) a purpose was agreed to last, by device.

    Devices about which nobody ever said anything here are left out: their paper counts.
    """
    t = tables.consent
    of = (t.c.device.in_(sorted(set(devices))), t.c.purpose == purpose)
    found: dict[str, tuple[int, int]] = {}
    for row in connection.execute(select(t.c.device, t.c.given, t.c.at_utc_ns).where(*of).order_by(t.c.id)):
        since_ns, _ = found.get(row.device, (row.at_utc_ns, 0))
        found[row.device] = (row.at_utc_ns, ALWAYS_NS) if row.given else (since_ns, row.at_utc_ns)
    return found


def owner_of(connection: Connection, device: str) -> str:
    """Return whose consents a device has had last, or whose vehicle it was in last; empty for nobody's."""
    t, b = tables.consent, tables.binding
    agreed = select(t.c.owner).where(t.c.device == device).order_by(t.c.id.desc()).limit(1)
    drove = select(b.c.owner).where(b.c.device == device)
    found = connection.execute(agreed).scalar() or connection.execute(drove.order_by(b.c.id.desc()).limit(1)).scalar()
    return found or ""


def in_force(connection: Connection, device: str, purpose: str, at_ns: int) -> Consent | None:
    """Return the consent to a purpose that held for a device at a time (UTC ns), None where there was none."""
    t = tables.consent
    of = (t.c.device == device, t.c.purpose == purpose, t.c.at_utc_ns <= at_ns)
    row = connection.execute(select(t).where(*of).order_by(t.c.id.desc()).limit(1)).one_or_none()
    return _consent(row) if row is not None and row.given else None


def agreed(connection: Connection, devices: Collection[str], purpose: str, at_ns: int) -> set[str]:
    """Return those of some hundred devices for which a purpose was agreed to at a time, as `in_force` says it."""
    t = tables.consent
    of = (t.c.device.in_(devices), t.c.purpose == purpose, t.c.at_utc_ns <= at_ns)
    rows = connection.execute(select(t.c.device, t.c.given).where(*of).order_by(t.c.id))
    last = {row.device: bool(row.given) for row in rows}
    return {device for device, given in last.items() if given}


def history(connection: Connection, device: str) -> list[Consent]:
    """Return all that was given and withdrawn for a device, first things first."""
    t = tables.consent
    return [_consent(row) for row in connection.execute(select(t).where(t.c.device == device).order_by(t.c.id))]


def standing(connection: Connection, device: str) -> dict[str, Consent]:
    """Return the last row of every purpose that was ever agreed to for a device."""
    return {row.purpose: row for row in history(connection, device)}


def _in_force(connection: Connection, device: str, purpose: str) -> bool:
    return in_force(connection, device, purpose, ALWAYS_NS) is not None


def _withdraw(connection: Connection, device: str, purpose: str, by: str, how: str, now_ns: int) -> list[Consent]:
    last = standing(connection, device)
    ends = [p for p in PURPOSES if p == purpose or purpose in RESTS_ON[p]]
    nothing = {"version": "", "language": "", "digest": ""}
    at_ns = _moment(connection, device, now_ns)
    rows = [
        _append(connection, device, last[p].vin, last[p].owner, p, False, at_ns, by, how, nothing)
        for p in ends
        if p in last and last[p].given
    ]
    if purpose == "recording" and purpose not in last:  # agreed to on paper at most: the box must be told
        vin, owner = _in(connection, device)
        rows.append(_append(connection, device, vin, owner, purpose, False, at_ns, by, how, nothing))
    return rows


def _moment(connection: Connection, device: str, now_ns: int) -> int:
    """Return a time for new rows beyond all before: a clock that was set back must not undo what came last."""
    t = tables.consent
    last = connection.execute(select(func.max(t.c.at_utc_ns)).where(t.c.device == device)).scalar()
    return now_ns if last is None else max(now_ns, last + 1)


def _append(
    connection: Connection,
    device: str,
    vin: str,
    owner: str,
    purpose: str,
    given: bool,
    at_ns: int,
    by: str,
    how: str,
    text: dict[str, str],
) -> Consent:
    t = tables.consent
    row: dict[str, Any] = {
        "device": device,
        "vin": vin,
        "owner": owner,
        "purpose": purpose,
        "given": given,
        "at_utc_ns": at_ns,
    }
    row |= {"by": by[:64], "how": how[:200], **text}
    made = connection.execute(insert(t).values(**row)).inserted_primary_key
    assert made is not None
    connection.execute(db.upsert(connection, tables.consent_untold, {"device": device}, ["device"]))
    return Consent(id=f"C{made[0]}", **row)


def _whose(connection: Connection, device: str) -> tuple[str, str]:
    """Return VIN and owner of the vehicle that a device is in; raise RegistryError."""
    vin, owner = _in(connection, device)
    if not vin:
        raise RegistryError(
            f"device {device[:64]}: is in no vehicle, so nobody can agree; bind it first", "device", 409
        )
    return vin, owner


def _in(connection: Connection, device: str) -> tuple[str, str]:
    """Return VIN and owner of the vehicle that a device is in, both empty where it is in none."""
    b = tables.binding
    row = connection.execute(select(b.c.vin, b.c.owner).where(b.c.device == device, b.c.ended_utc_ns.is_(None))).first()
    return ("", "") if row is None else (row.vin, row.owner)


def known(purpose: str) -> None:
    """Raise RegistryError for a purpose that does not exist."""
    if purpose not in PURPOSES:
        raise RegistryError(f"consent: purpose {purpose[:32]!r} is unknown; known: {', '.join(PURPOSES)}", "purpose")


def _consent(row: Row[Any]) -> Consent:
    same = {name: getattr(row, name) for name in Consent._fields if name not in ("id", "given")}
    return Consent(id=f"C{row.id}", given=bool(row.given), **same)
