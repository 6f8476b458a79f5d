"""How fast vehicles are scored, beside the loop that somebody would write who only wants the number."""

import json
import tempfile
from collections.abc import Callable
from math import exp, log
from pathlib import Path
from time import process_time
from typing import Any, Final

import msgspec
from sqlalchemy import Engine, insert, text

from agent.records import Event, Trip
from receiver import db
from receiver.scoring.driven import History, read_history
from receiver.scoring.model import Model, model
from receiver.scoring.score import score_history, score_vehicle
from receiver.scoring.trend import trend
from tests.pages import NOW, S, braking, drive

TRIPS: Final = 10_000
VEHICLES: Final = 10
DAY_NS: Final = 86_400 * S
ROUNDS: Final = 5
REFERENCE: Final = "relativity/1"
BARE: Final = "bare loop: number only"


def fill(engine: Engine, vehicles: int = VEHICLES, trips: int = TRIPS) -> list[str]:
    """Store trips of a year, one event in each, as ingest does, but without signatures: scores do not look at them."""
    encode = msgspec.json.Encoder().encode
    told = [r for r in drive(100 * S, 900, events=[braking(300 * S)]) if isinstance(r, Trip | Event)]
    bodies = {type(r): encode(r) for r in told}
    trip, event = (next(r for r in told if isinstance(r, kind)) for kind in (Trip, Event))
    devices = [f"rw-{n:016x}" for n in range(vehicles)]
    rows: dict[Any, list[dict[str, Any]]] = {
        t: [] for t in (db.device, db.entry, db.boot_clock, db.trip, db.harsh_event)
    }
    each = trips // vehicles
    for device in devices:
        known = {"id": device, "public_key": "00" * 32, "enrolled_utc_ns": NOW, "state": "accepted"}
        rows[db.device].append({**known, "greeted": True, "lineage": "0" * 12, "session": "s"})
        for n in range(each):
            at = NOW - (each - n) * 365 * DAY_NS // each
            boot = f"boot-{n}"
            clock = {"offset_ns": at - trip.start_ns, "quality": "gnss", "uncertainty_ns": 1}
            rows[db.boot_clock].append({"device": device, "boot": boot, **clock})
            for lane, record, t_ns in (("trip", trip, trip.start_ns), ("event", event, event.t_ns)):
                own = {"device": device, "lineage": "0" * 12, "lane": lane, "seq": n + 1, "boot": boot, "t_ns": t_ns}
                signed = {"kind": lane, "body": bodies[type(record)], "hash": b"", "signature": b"", "flag": ""}
                rows[db.entry].append({**own, **signed, "received_utc_ns": at})
                rows[db.trip if lane == "trip" else db.harsh_event].append(
                    {**own, "received_utc_ns": at, **_columns(record)}
                )
    with engine.begin() as connection:
        for table, values in rows.items():
            connection.execute(insert(table), values)
    return devices


def _columns(record: Trip | Event) -> dict[str, Any]:
    table = db.trip if isinstance(record, Trip) else db.harsh_event
    made = {name: getattr(record, name) for name in table.c.keys() if hasattr(record, name)}  # noqa: SIM118
    return {**made, "events": 1} if isinstance(record, Trip) else made


def bare(engine: Engine, devices: list[str]) -> float:
    """Return r of relativity/1 for every vehicle by one query and one loop over dicts, without any account of it."""
    query = text(
        "SELECT e.kind, e.body FROM entry e JOIN boot_clock c ON c.device = e.device AND c.boot = e.boot "
        "WHERE e.device = :device AND e.kind IN ('trip', 'event')"
    )
    whole = 0.0
    with engine.connect() as connection:
        for device in devices:
            km = night = driven = over = far = 0.0
            counts: dict[tuple[str, str], int] = {}
            for kind, body in connection.execute(query, {"device": device}):
                r = json.loads(body)
                if kind == "trip":
                    km += r["distance_m"] / 1000
                    night += r["night_s"]
                    driven += sum(r["hour_of_day_s"])
                elif r["confirmed"]:
                    counts[r["kind"], r["severity"]] = counts.get((r["kind"], r["severity"]), 0) + 1
                    if r["kind"] == "speeding":
                        over += r["duration_ns"] / 1e9 * r["limit_mps"] / 1000
            rates = [
                counts.get(key, 0) / km * 100
                for key in (
                    ("harsh_braking", "severe"),
                    ("harsh_braking", "moderate"),
                    ("harsh_acceleration", "severe"),
                    ("harsh_cornering", "severe"),
                )
            ]
            terms = zip((0.020, 0.008, 0.012, 0.015), rates, strict=True)
            other = 0.010 * over / km * 100 + 0.020 * far / km * 100 + 0.010 * (night / driven * 100 - 5)
            whole += exp(sum(c * x for c, x in terms) + other + 0.15 * log(km / 12000))
    return whole


def best_of(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return each work's shortest processor time in seconds; taken in turn, so that a busy machine harms all alike."""
    took: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            start = process_time()
            work()
            took[name].append(process_time() - start)
    return {name: min(times) for name, times in took.items()}


def main() -> None:
    """Print trips a second from the database and from memory, beside the bare loop and the bare reading."""
    with tempfile.TemporaryDirectory() as folder:
        engine = db.open_database(f"sqlite:///{Path(folder) / 'receiver.db'}")
        devices = fill(engine)

        def scored(by: Model) -> None:
            for device in devices:
                score_vehicle(engine, device, by, NOW - 400 * DAY_NS, NOW)

        def read() -> list[History]:
            return [read_history(engine, device, NOW - 400 * DAY_NS, NOW) for device in devices]

        def fetched() -> None:
            with engine.connect() as connection:
                for device in devices:
                    connection.execute(text("SELECT body FROM entry WHERE device = :d"), {"d": device}).all()

        histories = read()
        one, two = model(REFERENCE), model("relativity/2")
        rows = best_of(
            {
                BARE: lambda: bare(engine, devices),
                "relativity/1, explained": lambda: scored(one),
                "relativity/2, explained": lambda: scored(two),
                "only read and decode": read,
                "relativity/2 from memory": lambda: [score_history(h, two) for h in histories],
                "26 weeks of one vehicle": lambda: trend(engine, devices[0], two, end_utc_ns=NOW),
                "limit: SELECT of the bodies": fetched,
            }
        )
        print(f"{TRIPS} trips of {VEHICLES} vehicles, one event each, SQLite, processor time")
        print(f"{'':30}{'ms':>8}{'trips/s':>10}{'bare loop = 1':>15}")
        for name, seconds in rows.items():
            trips = TRIPS // VEHICLES if name.startswith("26") else TRIPS
            ratio = rows[BARE] / TRIPS * trips / seconds
            print(f"{name:30}{seconds * 1e3:8.0f}{trips / seconds:10.0f}{ratio:15.2f}")
        engine.dispose()


if __name__ == "__main__":
    main()
