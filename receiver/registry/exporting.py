"""All that is kept of an owner as one ZIP: what was registered, agreed to, driven, scored and claimed, and the files.

Times are UTC. Tables are CSV, tracks GPX, facts JSON: no program of ours is needed to read them.
"""

import json
import zipfile
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, BinaryIO, Final

from sqlalchemy import Connection, Engine, Table, func, select

from agent.clock import iso_utc
from receiver import db, policies
from receiver.claiming import tables as claiming
from receiver.delivery import PIECE
from receiver.exports.files import write
from receiver.exports.source import Span
from receiver.filestore import FileStore
from receiver.rating.tables import kept_quote, kept_score
from receiver.registry import bindings, consents, erasures, owners, tables, vehicles
from receiver.registry.refusals import RegistryError

ALWAYS: Final = Span(-(2**63), 2**63 - 1)
_SHEETS: Final = (("trips", "csv"), ("events", "csv"), ("tracks", "gpx"))
README: Final = """roadwitness: all that is kept of one owner
facts.json      what was registered, agreed to, and asked to be erased
DEVICE/         trips.csv, events.csv, tracks.gpx; scores.json; packages: the evidence of incidents as it was signed
claims.json     claims with their reports, parties, losses, assessments and history
policies.json   policies
prices.json     prices that were kept, with every factor as it was told
disputes.json   what was disputed of events, trips and claims, and how that was decided
"""


def export_owner(engine: Engine, files: FileStore | None, owner: str, sink: BinaryIO) -> dict[str, int]:
    """Write the ZIP into `sink`, which need not seek; return how many of each there were.

    Devices are those that are bound to the owner's vehicles, and those to which he ever agreed. Raise RegistryError for
    an owner who is not registered, OSError where a file cannot be read.
    """
    with db.reading(engine) as connection:
        known = owners.get(connection, owner)
        if known is None:
            raise RegistryError(f"owner {owner[:64]!r}: is not registered", "owner", 404)
        devices = sorted(devices_ever(connection, owner))
        facts = _facts(connection, owner, devices) | {"owner": asdict(known)}
        insured = _policies(connection, owner)
        claims = _claims(connection, owner, devices)
        packages = _packages(connection, owner, devices)
        given = _rows(connection, kept_quote, kept_quote.c.owner == owner)
        d = claiming.dispute.c
        own = ~bindings.of_others(d.device, d.opened_utc_ns, owner)
        contested = _rows(connection, claiming.dispute, d.device.in_(devices), own)
        scores = {device: _rows(connection, kept_score, kept_score.c.device == device) for device in devices}
    counts = {"devices": len(devices), "claims": len(claims), "policies": len(insured), "files": 0}
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.txt", README)
        archive.writestr("facts.json", _json(facts))
        archive.writestr("policies.json", _json(insured))
        archive.writestr("claims.json", _json(claims))
        archive.writestr("prices.json", _json([{**row, "answer": json.loads(row["answer"])} for row in given]))
        archive.writestr("disputes.json", _json(contested))
        for device in devices:
            archive.writestr(f"{device}/scores.json", _json(scores[device]))
            for what, format in _SHEETS:
                with archive.open(f"{device}/{what}.{format}", "w", force_zip64=True) as out:
                    counts[what] = counts.get(what, 0) + write(out, engine, device, ALWAYS, what, format)  # type: ignore[arg-type]
        for device, incident, name in packages if files is not None else ():
            counts["files"] += _copy(archive, files, device, incident, name)  # type: ignore[arg-type]
    return counts


def devices_ever(connection: Connection, owner: str) -> set[str]:
    """Return the devices in an owner's vehicles, and those for which he ever agreed, unless they went to another's.

    What a device that went on sent is the last owner's, who may have given it back since.
    """
    t, b = tables.consent, tables.binding
    agreed = select(t.c.device).where(t.c.owner == owner).distinct()
    newest = select(func.max(b.c.id)).where(b.c.device.in_(agreed)).group_by(b.c.device)
    others = set(connection.execute(select(b.c.device).where(b.c.id.in_(newest), b.c.owner != owner)).scalars())
    return vehicles.devices_of_owner(connection, owner) | (set(connection.execute(agreed).scalars()) - others)


def _facts(connection: Connection, owner: str, devices: list[str]) -> dict[str, Any]:
    cars = vehicles.of_owner(connection, owner)
    return {
        "vehicles": [asdict(car) for car in cars],
        "bindings": [b._asdict() for car in cars for b in bindings.listed(connection, vin=car.vin) if b.owner == owner],
        "consents": [
            c._asdict() for device in devices for c in consents.history(connection, device) if c.owner == owner
        ],
        "erasures": [e._asdict() for e in erasures.listed(connection, owner=owner)],
    }


def _policies(connection: Connection, owner: str) -> list[dict[str, Any]]:
    t = claiming.policy
    ids = connection.execute(select(t.c.id).where(t.c.owner == owner).order_by(t.c.id)).scalars().all()
    return [asdict(found) for one in ids if (found := policies.get(connection, one)) is not None]


def _claims(connection: Connection, owner: str, devices: list[str]) -> list[dict[str, Any]]:
    found, c = [], db.claim.c
    for claim in _rows(connection, db.claim, c.device.in_(devices), ~bindings.claims_of_others(owner)):
        parts = (t for t in claiming.metadata.tables.values() if t.name.startswith("claim_") and "claim" in t.c)
        more = {t.name: _rows(connection, t, t.c.claim == claim["id"]) for t in parts}
        found.append(claim | {name: rows for name, rows in more.items() if rows})
    return found


def _packages(connection: Connection, owner: str, devices: list[str]) -> list[tuple[str, str, str]]:
    t, c = db.package_file, db.claim.c
    theirs = connection.execute(
        select(c.device, c.incident).where(c.device.in_(devices), bindings.claims_of_others(owner))
    ).all()
    query = select(t.c.device, t.c.incident, t.c.name).where(t.c.device.in_(devices), t.c.held.is_(True))
    rows = connection.execute(query.order_by(t.c.device, t.c.incident, t.c.name))
    return [tuple(row) for row in rows if (row.device, row.incident) not in {tuple(one) for one in theirs}]


def _rows(connection: Connection, table: Table, *where: Any) -> list[dict[str, Any]]:
    """Return rows with what a person can read: no bytes, times beside their numbers as text."""
    shown = [c for c in table.c if c.name not in ("hash", "payload", "result")]
    return [dict(row._mapping) for row in connection.execute(select(*shown).where(*where))]


def _copy(archive: zipfile.ZipFile, files: FileStore, device: str, incident: str, name: str) -> int:
    info = zipfile.ZipInfo(f"{device}/packages/{incident}/{name}")  # video and signatures do not shrink
    try:
        with files.open(device, incident, name) as source, archive.open(info, "w", force_zip64=True) as out:
            while piece := source.read(PIECE):
                out.write(piece)
    except FileNotFoundError:
        return 0  # erased meanwhile
    return 1


def _json(value: Any) -> str:
    return json.dumps(_readable(value), ensure_ascii=False, indent=1)


def _readable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _time(key, _readable(item)) for key, item in value.items()}
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return [_readable(item) for item in value]
    return value.hex() if isinstance(value, bytes) else str(value)


def _time(name: str, value: Any) -> Any:
    return iso_utc(value) if name.endswith("_utc_ns") and isinstance(value, int) and 0 <= value < 2**62 else value
