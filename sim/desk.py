"""What an insurer's people do in the demo: register, insure, score, price, take a report; and the links to sign in."""

import struct
import zlib
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from agent.clock import NS_PER_S
from sim.elm_car import VIN

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from receiver.filestore import FileStore

OWNER: Final = "demo-owner"
PLATE: Final = "鲁A12345"
POLICY: Final = "DEMO-1"
DAY_NS: Final = 86_400 * NS_PER_S
SINCE_DAYS: Final = 200  # so long ago the box was fitted and the owner agreed
LEFT_DAYS: Final = 40  # until the policy ends: its renewal is due
MODELS: Final = ("relativity/2", "tesla/1")
SAID: Final = "A stone from a lorry hit the windscreen; it has a crack of 20 cm."


def register(engine: "Engine", device: str, now_ns: int) -> None:
    """Let the demo's owner own and insure the virtual car, with this device in it; what is so already stays."""
    from receiver import policies
    from receiver.claiming.assessing import local_day
    from receiver.registry import bindings, consents, owners, vehicles

    since_ns, today = now_ns - SINCE_DAYS * DAY_NS, local_day(now_ns)
    with engine.begin() as connection:
        if bindings.device_of(connection, VIN) == device:
            return
        owners.put(connection, owners.Owner(OWNER, "Demo Owner"), since_ns)
        car = vehicles.Vehicle(VIN, OWNER, "family", 5, "fuel", date(2022, 5, 18), PLATE)
        vehicles.put(connection, car, since_ns)
        ends = today + timedelta(LEFT_DAYS)
        covers = (
            policies.Cover("VD", 9_860_000),
            policies.Cover("GLASS"),
            policies.Cover("TPL", 200_000_000),
            policies.Cover("OCC.driver", 1_000_000),
            policies.Cover("OCC.passenger", 1_000_000),
        )
        starts = ends - timedelta(364)
        insured = policies.Policy(
            POLICY, VIN, PLATE, "2020", starts, ends, 412_000, covers=covers, device=device, owner=OWNER
        )
        policies.put(connection, insured)
        code = bindings.offer(connection, VIN, since_ns)
    bindings.bind(engine, device, VIN, code, since_ns)
    for purpose in consents.PURPOSES:
        consents.give(engine, device, purpose, since_ns, by=OWNER, how="demo")


def month_before_s(now_ns: int) -> float:
    """Return when the month before began (UTC s), in the zone of the scores."""
    from receiver.rating import periods
    from receiver.scoring.model import DEFAULT_MODEL, model

    zone = model(DEFAULT_MODEL).zone
    return periods.bounds(periods.last_ended(now_ns, zone), zone)[0] / NS_PER_S


def work(engine: "Engine", files: "FileStore", device: str, now_ns: int) -> dict[str, int]:
    """Score, price, take the owner's report and his dispute; return how much each role now finds on its pages."""
    from receiver import db

    _score(engine, now_ns)
    _price(engine, device, now_ns)
    with db.reading(engine) as connection:
        disputed = _last_event(connection, device)
        at_ns = _last_trip_ns(connection, device)
    if at_ns is not None:
        _report(engine, files, device, at_ns, now_ns)
    if disputed is not None:
        _dispute(engine, device, disputed, now_ns)
    return present(engine, device, now_ns)


def present(engine: "Engine", device: str, now_ns: int) -> dict[str, int]:
    """Return how many things of each kind the roles find."""
    from receiver import db, disputes
    from receiver.claiming import reading
    from receiver.claiming.assessing import local_day
    from receiver.rating import quotes, scores
    from receiver.registry import bindings, consents
    from receiver.renewals.due import due

    claims = reading.queue(engine, device=device)[0]
    with db.reading(engine) as connection:
        return {
            "consents": sum(c.given for c in consents.standing(connection, device).values()),
            "scores": sum(len(scores.history(connection, device, 12, model)) for model in MODELS),
            "quotes": len(quotes.quotes(connection, devices=[device])[0]),
            "claims": len(claims),
            "flags": sum(len(claim.flags) for claim in claims),
            "disputes": len(disputes.waiting(connection, device)),
            "renewals": sum(one.policy.device == device for one in due(connection, local_day(now_ns))),
            "bindings": len(bindings.listed(connection, device=device)),
        }


def _score(engine: "Engine", now_ns: int) -> None:
    """Score the month that ended last and the present one, under the model of prices and another."""
    from receiver.rating import batch, periods
    from receiver.scoring.model import model

    for name in MODELS:
        chosen = model(name)
        for at_ns in (now_ns, now_ns + 31 * DAY_NS):
            period = periods.last_ended(at_ns, chosen.zone)
            if periods.bounds(period, chosen.zone)[0] <= now_ns:
                batch.score_all(engine, period, chosen, now_ns)


def _price(engine: "Engine", device: str, now_ns: int) -> None:
    """Ask what the renewal would cost, with the score of the owner's driving."""
    from receiver.claiming.assessing import local_day
    from receiver.pricing import load_book
    from receiver.pricing.request import CompulsoryHistory, CoverChoice, History, QuoteRequest, Vehicle
    from receiver.rating import quotes

    wanted = QuoteRequest(
        region="shandong",
        start=local_day(now_ns) + timedelta(LEFT_DAYS + 1),
        vehicle=Vehicle(use_class="family", seats=5, energy="fuel", first_registration=date(2022, 5, 18)),
        covers=[CoverChoice(cover="TPL", limit_yuan=Decimal(2_000_000))],
        history=History(standing="renewal", insured_years=2, claims_three_years=0, lapse_months=0),
        compulsory=CompulsoryHistory(standing="renewal", clean_years=2),
        km_per_year=12_000,
    )
    asked = quotes.Asked(request=wanted, device=device, policy=POLICY, owner=OWNER)
    with engine.begin() as connection:
        quotes.quote(connection, asked, load_book(), now_ns, "demo-underwriter")


def _report(engine: "Engine", files: "FileStore", device: str, at_ns: int, now_ns: int) -> None:
    """Report a cracked windscreen at the end of the last drive, with a photo and what the repair would cost."""
    from receiver.claiming import assessing, documents, reporting
    from receiver.claiming.facts import limits

    claim = reporting.report(engine, reporting.Declared(device, at_ns, OWNER, SAID), now_ns, limits())
    reporting.put_car(
        engine,
        claim,
        reporting.Car(1, VIN, PLATE, device, compulsory=True, fault="none", share_percent=0),
        OWNER,
        now_ns,
    )
    reporting.add_loss(engine, claim, "glass", Decimal(1800), OWNER, now_ns)
    documents.add(engine, files, claim, "photo", "windscreen.png", picture(), OWNER, now_ns)
    assessing.check(engine, claim, now_ns, files)


def _dispute(engine: "Engine", device: str, entry: Any, now_ns: int) -> None:
    from receiver import disputes

    with engine.connect() as connection:
        if entry in disputes.of_device(connection, device):
            return
    disputes.dispute_entry(engine, device, entry, OWNER, "A child ran onto the road.", now_ns)


def _last_event(connection: "Connection", device: str) -> Any:
    from sqlalchemy import select

    from agent.records import DRIVING_KINDS
    from receiver import db

    t = db.harsh_event.c
    of = (t.device == device, t.kind.in_(DRIVING_KINDS))
    return connection.execute(select(t.lineage, t.lane, t.seq).where(*of).order_by(t.id.desc()).limit(1)).first()


def _last_trip_ns(connection: "Connection", device: str) -> int | None:
    from sqlalchemy import select

    from receiver import db

    t = db.trip
    ended = (t.c.end_ns + db.boot_clock.c.offset_ns).label("ended")
    rows = select(ended).select_from(db.with_clock(t)).where(t.c.device == device).order_by(t.c.id.desc()).limit(1)
    return connection.execute(rows).scalar()


def picture(width: int = 320, height: int = 200) -> bytes:
    """Draw the demo's photo, a pane with a crack, as a PNG."""
    rows = bytearray()
    for y in range(height):
        rows.append(0)
        for x in range(width):
            crack = abs(x - 60 - y - (y * 7919 >> 4) % 5) < 2 and 30 < y < 150
            rows += bytes((20, 20, 24)) if crack else bytes((120 + y // 4, 150 + y // 4, 175 + x // 8))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(kind, data) for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows))), (b"IEND", b""))
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


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
