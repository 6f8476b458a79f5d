"""How fast the pages are with 10,000 vehicles and a million trips in the database, by the role that sees them.

Trips are inserted in bulk, 100 for each vehicle, four to a boot; one vehicle's latest trips come through ingest, with
entries, events, track and curve. The owner owns all 10,000: the longest list there can be. The last columns are what
the same bytes cost that only have to be sent.
"""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from fastapi import FastAPI, Response
from sqlalchemy import Engine, insert, select, text

from receiver import bulk, db
from tests.pages import NOW, Desk, S, braking, client, clock_at, drive, visitor
from tests.syncing import postgresql

VEHICLES = 10_000
TRIPS = 100  # for each
TRIPS_PER_BOOT = 4
ROUNDS = 100
DAY_NS = 86_400 * S
PLAIN = {"accept-encoding": "identity"}
COLUMNS = (
    "device", "lineage", "lane", "seq", "boot", "t_ns", "received_utc_ns", "end_ns", "distance_m", "moving_s", "idle_s",
    "stops", "max_speed_mps", "night_s", "events",
)  # fmt: skip


def fill(engine: Engine) -> str:
    """Insert vehicles and trips; return the device whose last trips are whole."""
    names = [f"rw-{n:016x}" for n in range(1, VEHICLES)]
    row = {"public_key": "0" * 64, "enrolled_utc_ns": NOW, "state": "accepted", "greeted": True, "session": "s1"}
    seen = {"online": False, "since_utc_ns": NOW, "seen_utc_ns": NOW, "latitude": 48.1, "longitude": 11.5}
    boots = TRIPS // TRIPS_PER_BOOT
    with engine.begin() as connection:
        connection.execute(insert(db.device), [{**row, "id": name, "lineage": "0123456789ab"} for name in names])
        connection.execute(
            insert(db.live), [{**seen, "device": n, "position_boot": "b0", "position_t_ns": 1} for n in names]
        )
        clocks = [(n, f"b{b}", NOW - (b + 1) * DAY_NS, "gnss", 1000) for n in names for b in range(boots)]
        clock_columns = ("device", "boot", "offset_ns", "quality", "uncertainty_ns")
        bulk.put(connection, db.boot_clock, clock_columns, clocks)
        for first in range(0, len(names), 500):
            bulk.put(connection, db.trip, COLUMNS, [t for n in names[first : first + 500] for t in _trips(n)])
        connection.execute(text("ANALYZE"))
    desk = Desk(engine)
    source = desk.enrol()
    for n in range(TRIPS // TRIPS_PER_BOOT):
        boot = [clock_at(NOW - (n + 1) * DAY_NS)]
        desk.send(source, [*boot, *drive(0, 1200, events=[braking(300 * S), braking(500 * S)])], f"boot-{n}")
    desk.status(source, "online")
    return source.device


def _trips(device: str) -> list[tuple[Any, ...]]:
    return [
        (device, "0123456789ab", "trip", i + 1, f"b{i // TRIPS_PER_BOOT}", (i % TRIPS_PER_BOOT + 1) * 3600 * S, NOW,
         (i % TRIPS_PER_BOOT + 1) * 3600 * S + 1200 * S, 9000.0 + i, 1100.0, 100.0, 4, 20.0, 0.0, i % 3)
        for i in range(TRIPS)
    ]  # fmt: skip


def _fetch(get: Callable[..., Any], path: str) -> bytes:
    answer = get(path, headers=PLAIN)
    if answer.status_code != 200:
        raise ValueError(f"{path} answers {answer.status_code}")
    return bytes(answer.content)


def measure(get: Callable[[], bytes]) -> tuple[float, float, int]:
    """Return median and 99th percentile in ms, and the bytes of one answer."""
    size, took = len(get()), []
    for _ in range(ROUNDS):
        start = perf_counter()
        get()
        took.append((perf_counter() - start) * 1e3)
    return float(np.median(took)), float(np.percentile(took, 99)), size


def _table(engine: Engine, device: str) -> None:
    with db.reading(engine) as connection:
        trip = connection.execute(select(db.trip.c.id).where(db.trip.c.device == device).limit(1)).scalar_one()
    pages = [
        ("owner", "his 10,000 vehicles", "/"),
        ("owner", "the last page of them", "/?page=500"),
        ("owner", "one vehicle, 25 trips with tracks", f"/vehicles/{device}"),
        ("owner", "one vehicle, 100 trips", "/vehicles/rw-0000000000000007"),
        ("owner", "one trip", f"/vehicles/{device}/trips/{trip}"),
        ("owner", "live state", f"/vehicles/{device}/live.json"),
        ("technician", "devices", "/devices"),
        ("underwriter", "portfolio", "/portfolio"),
        ("adjuster", "claims", "/claims"),
    ]
    print(f"{'':48}{'median ms':>10}{'p99 ms':>9}{'bytes':>9}{'only sent ms':>14}{'ratio':>7}")
    for role, name, path in pages:
        with client(engine, role) as page:
            try:
                body = _fetch(page.get, path)
            except ValueError as e:
                print(f"  {role}: {e}")
                continue
            median, p99, size = measure(partial(_fetch, page.get, path))
        bare = FastAPI(openapi_url=None)
        bare.add_api_route("/", lambda body=body: Response(body))
        with visitor(bare) as sender:
            sent, _, _ = measure(partial(_fetch, sender.get, "/"))
        print(f"  {role + ': ' + name:46}{median:10.1f}{p99:9.1f}{size:9}{sent:14.2f}{median / sent:7.0f}", flush=True)


def main() -> None:
    """Print a table for each database."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name, url in (
            ("SQLite", f"sqlite:///{folder / 'r.db'}"),
            ("PostgreSQL", stack.enter_context(postgresql())),
        ):
            engine = db.open_database(url)
            start = perf_counter()
            device = fill(engine)
            print(
                f"{name}: {VEHICLES:,} vehicles, {VEHICLES * TRIPS:,} trips, filled in {perf_counter() - start:.0f} s"
            )
            _table(engine, device)
            engine.dispose()


if __name__ == "__main__":
    main()
