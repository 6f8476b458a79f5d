"""How fast the pages are over 10,000 trips of one vehicle, beside a page of the same size that only has to be sent."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
from fastapi import FastAPI, Response
from msgspec.structs import replace
from starlette.testclient import TestClient

from agent.records import Event, Record, Trip
from receiver.web import create_app
from tests.pages import NOW, SETTINGS, Desk, S, braking, clock_at, drive, open_desk, signed_in

TRIPS = 10_000
TRIPS_PER_BOOT = 4
WITH_TRACK = 60  # the latest trips, which are shown first
ROUNDS = 60
APART_NS = 3600 * S
PLAIN = {"accept-encoding": "identity"}


def fill(desk: Desk) -> str:
    """Store the trips of some seven years through ingest; return the device's name."""
    source = desk.enrol()
    full = drive(0, 1200, events=[braking(300 * S), braking(500 * S, confirmed=False)])
    short = [replace(r, window=None) if isinstance(r, Event) else r for r in full if isinstance(r, Trip | Event)]
    for first in range(0, TRIPS, TRIPS_PER_BOOT):
        boot, records = f"boot-{first}", []
        start_utc = NOW - (TRIPS - first) * 6 * APART_NS
        records.append(clock_at(start_utc))
        for n in range(TRIPS_PER_BOOT):
            at = (1 + n) * APART_NS
            records += [_moved(r, at) for r in (full if first + n >= TRIPS - WITH_TRACK else short)]
        desk.send(source, records, boot)
    desk.status(source, "online")
    return source.device


def _moved(record: Record, by_ns: int) -> Record:
    times = {
        f: getattr(record, f)
        for f in ("t_ns", "start_ns", "end_ns", "trip_t_ns", "trip_start_ns")
        if hasattr(record, f)
    }
    return replace(record, **{f: t + by_ns for f, t in times.items() if t is not None})


def _fetch(client: TestClient, path: str) -> int:
    return len(client.get(path, headers=PLAIN).content)


def measure(get: Callable[[], int]) -> tuple[float, float, int]:
    """Return median and 99th percentile in ms, and the bytes of one answer."""
    size, took = get(), []
    for _ in range(ROUNDS):
        start = perf_counter()
        get()
        took.append((perf_counter() - start) * 1e3)
    return float(np.median(took)), float(np.percentile(took, 99)), size


def main() -> None:
    """Print a table: each page, and what the same bytes cost without database, words and drawing."""
    with tempfile.TemporaryDirectory() as folder:
        desk = open_desk(Path(folder))
        start = perf_counter()
        device = fill(desk)
        print(f"{TRIPS} trips stored through ingest in {perf_counter() - start:.0f} s")
        session = signed_in(desk.engine)
        app = create_app(desk.engine, SETTINGS, lambda: NOW)
        bare = FastAPI(openapi_url=None)
        bodies: dict[str, bytes] = {}

        @bare.get("/{path:path}")
        def same(path: str) -> Response:
            return Response(bodies["/" + path])

        pages = {
            "vehicles": "/",
            "one vehicle": f"/vehicles/{device}",
            "one vehicle, last page": f"/vehicles/{device}?page=500",
            "one trip": f"/vehicles/{device}/trips/{TRIPS - 1}",
            "events": f"/vehicles/{device}/events",
            "live state": f"/vehicles/{device}/live.json",
        }
        print(f"{'page':24}{'median ms':>10}{'p99 ms':>9}{'bytes':>9}{'only sent ms':>14}{'ratio':>7}")
        with TestClient(app, "http://127.0.0.1") as client, TestClient(bare, "http://127.0.0.1") as sender:
            client.cookies.set("session", session.token)
            for name, path in pages.items():
                bodies[path.partition("?")[0]] = client.get(path, headers=PLAIN).content
                median, p99, size = measure(partial(_fetch, client, path))
                sent, _, _ = measure(partial(_fetch, sender, path))
                print(f"{name:24}{median:10.1f}{p99:9.1f}{size:9}{sent:14.2f}{median / sent:7.0f}")
        desk.engine.dispose()
