"""What an owner takes away: everything about his cars as one archive of plain files (PIPL article 45)."""

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from datetime import date
from decimal import Decimal
from typing import IO, Any, BinaryIO, Final

import msgspec
from sqlalchemy import Connection, Engine, select

from agent.clock import NS_PER_S, iso_utc
from receiver import db, disputes, policies
from receiver.claiming import documents, history, tables
from receiver.exports import columns, gpx, source
from receiver.exports.source import Span
from receiver.exports.tables import write_csv
from receiver.rating import quotes, scores
from receiver.registry import bindings, consents, erasures, owners, vehicles

EVER: Final = Span(-(2**62), 2**62)
README: Final = """What the insurer's receiver holds about you and your cars, made {time} (UTC).

you.json        you, your cars, their boxes, policies, consents, erasures, prices that you kept
DEVICE/         what the box of one car sent: trips.csv, events.csv, tracks.gpx, scores.json
claims.json     your claims: what was reported, found, decided, disputed, and by whom; documents by name

Videos and data of a crash are in the package on the page of the crash. Times are UTC, places WGS-84.

保险人的接收系统保存的关于您和您车辆的全部数据。you.json:您的资料、车辆、设备、保单、授权、删除记录、保存的报价;
DEVICE/:各车设备上传的行程、事件、轨迹和评分;claims.json:您的理赔。时间为 UTC,位置为 WGS-84。
"""


def pack(engine: Engine, owner: str, devices: Sequence[str], out: IO[bytes], now_ns: int) -> None:
    """Write the archive of an owner with these devices."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        archive.writestr("README.txt", README.format(time=iso_utc(now_ns)))
        with db.reading(engine) as connection:
            _write(archive, "you.json", _you(connection, owner, devices))
            _write(archive, "claims.json", [_claim(connection, name) for name in _claims(connection, devices)])
            for device in devices:
                kept = scores.history(connection, device, 1200)
                _write(archive, f"{device}/scores.json", [one._asdict() for one in kept])
        for device in devices:
            for name, write in _SENT.items():
                with archive.open(f"{device}/{name}", "w", force_zip64=True) as file:
                    write(file, engine, device)


def _trips(out: BinaryIO, engine: Engine, device: str) -> None:
    write_csv(out, columns.TRIPS, source.trips(engine, device, EVER))


def _events(out: BinaryIO, engine: Engine, device: str) -> None:
    write_csv(out, columns.EVENTS, source.events(engine, device, EVER))


def _tracks(out: BinaryIO, engine: Engine, device: str) -> None:
    gpx.write_gpx(out, source.drives(engine, device, EVER))


_SENT: Final[dict[str, Callable[[Any, Engine, str], None]]] = {
    "trips.csv": _trips,
    "events.csv": _events,
    "tracks.gpx": _tracks,
}


def _you(connection: Connection, owner: str, devices: Sequence[str]) -> dict[str, Any]:
    t = tables.policy
    ids = connection.execute(select(t.c.id).where(t.c.owner == owner).order_by(t.c.id)).scalars()
    page, given = 1, []
    while True:
        found, shown = quotes.quotes(connection, owner=owner, page=page)
        given += [{**one._asdict(), "answer": _answer(connection, one.id)} for one in found]
        if page >= shown.pages:
            break
        page += 1
    return {
        "owner": owners.get(connection, owner),
        "vehicles": vehicles.of_owner(connection, owner),
        "bindings": [b._asdict() for d in devices for b in bindings.listed(connection, device=d)],
        "policies": [policies.get(connection, name) for name in ids],
        "consents": [c._asdict() for d in devices for c in consents.history(connection, d) if c.owner == owner],
        "erasures": [e._asdict() for e in erasures.listed(connection, owner=owner)],
        "quotes": given,
    }


def _answer(connection: Connection, name: str) -> Any:
    return msgspec.to_builtins(quotes.answer(connection, name))


def _claims(connection: Connection, devices: Sequence[str]) -> list[str]:
    c = db.claim
    chosen = select(c.c.id).where(c.c.device.in_(list(devices))).order_by(c.c.opened_utc_ns, c.c.id)
    return list(connection.execute(chosen).scalars())


def _claim(connection: Connection, name: str) -> dict[str, Any]:
    told: dict[str, Any] = {}
    parts = (
        ("claim", db.claim, db.claim.c.id),
        ("reports", tables.claim_report, tables.claim_report.c.claim),
        ("cars", tables.claim_party, tables.claim_party.c.claim),
        ("losses", tables.claim_loss, tables.claim_loss.c.claim),
        ("payments", tables.claim_payment, tables.claim_payment.c.claim),
    )
    for part, table, column in parts:
        told[part] = [dict(row._mapping) for row in connection.execute(select(table).where(column == name))]
    f = tables.claim_finding
    told["findings"] = [json.loads(b) for b in connection.execute(select(f.c.body).where(f.c.claim == name)).scalars()]
    told["documents"] = [d._asdict() for d in documents.listed(connection, name)]
    told["disputes"] = [d._asdict() for d in disputes.of_claim(connection, name)]
    told["history"] = [step._asdict() for step in history.of_claim(connection, name)]
    return told


def _write(archive: zipfile.ZipFile, name: str, value: Any) -> None:
    text = json.dumps(_plain(value), ensure_ascii=False, indent=1, default=str)
    archive.writestr(name, text)


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it: moments in nanoseconds get their UTC beside them."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        told = {}
        for key, inner in value.items():
            told[key] = _plain(inner)
            if str(key).endswith("_utc_ns") and isinstance(inner, int):
                told[f"{str(key).removesuffix('_ns')}"] = iso_utc(inner // NS_PER_S * NS_PER_S)
        return told
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, date | Decimal) else value
