"""What the tests of the pages share: a receiver with vehicles whose records came through the real ingest."""

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from dataclasses import replace as replace_settings
from datetime import date
from itertools import pairwise
from math import cos, pi, radians, sin
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec.structs import replace
from sqlalchemy import Engine, insert, select

from agent import clock, messages
from agent.messages import Birth
from agent.records import Clock, Curve, Event, Quality, Record, Track, Trip, Window
from receiver import db, devices
from receiver.ingest import Ingest
from receiver.people import accounts, sessions
from receiver.people.sessions import Session
from receiver.registry import tables as registry
from receiver.settings import HttpSettings, ReceiverSettings
from receiver.web import create_app
from tests.syncing import ListSource

S = 1_000_000_000
NOW = 1_795_000_000 * S  # 2026-11-18 11:06:40 UTC, a Wednesday, 19:06:40 in Shanghai
ZONE = "Asia/Shanghai"
SETTINGS = ReceiverSettings(http=HttpSettings(zone=ZONE))
HOME = "http://127.0.0.1"
METRES_PER_DEGREE = 111_194.93


@dataclass
class Desk:
    """A receiver's database and the devices that talk to it."""

    engine: Engine
    ingest: Ingest = field(init=False)

    def __post_init__(self) -> None:
        self.ingest = Ingest(self.engine)

    def greet(self, source: ListSource, at: int = NOW, **changed: Any) -> None:
        birth = Birth(
            device=source.device,
            public_key=source.public_key.hex(),
            lineage=source.lineage,
            session="s1",
            boot="boot-1",
            t_ns=S,
            heads=source.heads(),  # type: ignore[arg-type]
        )
        birth = replace(birth, **changed)
        payload = messages.encode_birth(birth, source.sign(messages.birth_bytes(birth)))
        self.ingest.take(messages.topic(source.device, "birth"), payload, at)

    def enrol(self, seed: int = 1, greeted: bool = True) -> ListSource:
        source = ListSource(seed)
        devices.enrol(self.engine, source.public_key.hex())
        if greeted:
            self.greet(source)
        return source

    def status(self, source: ListSource, state: Any, at: int = NOW) -> None:
        self.ingest.take(messages.topic(source.device, "status"), messages.encode_status(source.device, state), at)

    def send(self, source: ListSource, records: list[Record], boot: str = "boot-1", at: int = NOW) -> None:
        """Seal records and take them, one batch for each lane."""
        lanes: dict[str, list[Any]] = {}
        for entry in source.append([(_time(r), r) for r in records], boot):
            lanes.setdefault(entry.lane, []).append(entry)
        for lane, entries in lanes.items():
            for first in range(0, len(entries), 50):
                payload = messages.encode_batch(entries[first : first + 50])
                self.ingest.take(messages.topic(source.device, "up", lane), payload, at)
        assert not self.ingest.counts.refused
        assert not self.ingest.counts.flagged


def open_desk(folder: Path) -> Desk:
    return Desk(db.open_database(f"sqlite:///{folder / 'receiver.db'}"))


OWNER = "owner-1"  # whose all cars are, where a test says nothing else


def client(engine: Engine, role: str | None = "owner", *, raising: bool = False, **settings: Any) -> Any:
    """Return a client that talks to the pages without a socket, signed in in a role; None: as a stranger.

    An owner is OWNER, and every device that is enrolled by now is his. What the client posts carries its origin and
    the token of its session, as forms do.
    """
    chosen = replace_settings(SETTINGS, database=engine.url.render_as_string(hide_password=False))
    app = create_app(engine, chosen, lambda: NOW, **settings)
    found = visitor(app, raise_server_exceptions=raising, follow_redirects=True)
    if role is not None:
        session = signed_in(engine, role)
        found.cookies.set("session", session.token)
        found.headers["x-csrf"] = session.csrf
    return found


def visitor(app: Any, **more: Any) -> Any:
    """Return a client over an app that sends the origin of our own pages and follows no redirect."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # starlette wants httpx2, which is not released for all of our Pythons
        from starlette.testclient import TestClient
    usual = {"base_url": HOME, "raise_server_exceptions": False, "headers": {"origin": HOME}}
    return TestClient(app, **{**usual, "follow_redirects": False, **more})


def signed_in(engine: Engine, role: str = "owner", owner: str = OWNER, now_ns: int = NOW) -> Session:
    """Begin a session of a person of a role, who is made where there is none; an owner owns all devices."""
    name = owner if role == "owner" else f"{role}-1"
    if role == "owner" and owner == OWNER:
        own(engine)
    person = accounts.named(engine, name)
    with engine.begin() as connection:
        if person is None:
            person = accounts.add(connection, name, role, now_ns, owner if role == "owner" else "")
        token = sessions.begin(connection, person.id, now_ns)
    return Session(token, person, sessions.WHOLE, now_ns, now_ns)


def own(engine: Engine, owner: str = OWNER) -> None:
    """Let an owner own every device that is bound to no vehicle."""
    t = registry
    with engine.begin() as connection:
        bound = set(connection.execute(select(t.binding.c.device).where(t.binding.c.ended_utc_ns.is_(None))).scalars())
        free = sorted(set(connection.execute(select(db.device.c.id)).scalars()) - bound)
        row = {"id": owner, "name": owner, "phone": "", "email": "", "registered_utc_ns": NOW}
        connection.execute(db.upsert(connection, t.owner, row, ["id"]))
        for device in free:
            vin = f"L{device[3:].upper()}"
            car = {"vin": vin, "owner": owner, "plate": "", "use_class": "family", "seats": 5, "energy": "fuel"}
            car |= {"first_registered": date(2020, 1, 1), "registered_utc_ns": NOW}
            connection.execute(insert(t.vehicle).values(**car))
            ends = {"ended_utc_ns": None, "ended_by": "", "reason": ""}
            row = {"device": device, "vin": vin, "owner": owner, "bound_utc_ns": NOW, "bound_by": "local", **ends}
            connection.execute(insert(t.binding).values(**row))


def enter(driver: Any, base: str, engine: Engine, role: str = "owner") -> None:
    """Sign a browser in, as the person of a role."""
    token = signed_in(engine, role, now_ns=clock.wall_ns()).token
    cookie = {"url": base, "name": "session", "value": token, "httpOnly": True, "sameSite": "Lax"}
    driver.execute_cdp_cmd("Network.setCookie", cookie)


@contextmanager
def browsing(
    driver: Any, base: str, engine: Engine, names: Mapping[str, str], role: str, *, refusals: bool = False
) -> Iterator[Any]:
    """Give a function that opens a page in a browser, signed in in a role; `names` are put into its path.

    Afterwards nothing was logged, but for forms that were refused where that is allowed, and nothing else was asked.
    """
    driver.get("about:blank")
    driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    enter(driver, base, engine, role)
    for kind in ("browser", "performance"):
        driver.get_log(kind)

    def go(path: str, width: int, scheme: str = "light", media: str = "") -> Any:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
        driver.get(base + path.format(**names))
        return driver

    yield go
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    logged = [line["message"] for line in driver.get_log("browser")]
    assert [line for line in logged if not refusals or "status of 422" not in line] == []
    asked = [json.loads(line["message"])["message"] for line in driver.get_log("performance")]
    addresses = [m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"]
    assert {urlsplit(a).hostname for a in addresses if not a.startswith(("data:", "about:"))} == {"127.0.0.1"}


def _time(record: Record) -> int:
    return getattr(record, "t_ns", None) or getattr(record, "start_ns", 0)


def clock_at(utc_ns: int, t_ns: int = S, quality: Any = "gnss") -> Clock:
    """Return the record that makes monotonic `t_ns` the time `utc_ns`."""
    return Clock(t_ns=t_ns, offset_ns=utc_ns - t_ns, quality=quality, uncertainty_ns=300_000_000)


def speed_at(second: int, seconds: int) -> float:
    """Return a speed that starts and ends at nil and stops once on the way, m/s."""
    if second in (0, seconds) or seconds // 2 <= second < seconds // 2 + 20:
        return 0.0
    return 15.0 + 8.0 * sin(2 * pi * second / 120)


def drive(
    start_ns: int = 100 * S,
    seconds: int = 900,
    place: tuple[float, float] = (31.23, 121.47),
    events: list[Event] | None = None,
) -> list[Record]:
    """Return the records of one trip on a wide curve: its events, the trip, track and curve."""
    lat, lon = place
    places = []
    speeds = [speed_at(s, seconds) for s in range(seconds + 1)]
    for second, speed in enumerate(speeds):
        course = radians(40 + 100 * second / seconds)
        lat += speed * cos(course) / METRES_PER_DEGREE
        lon += speed * sin(course) / METRES_PER_DEGREE / cos(radians(lat))
        places.append((lat, lon))
    kept = list(range(0, seconds + 1, 30))
    e7 = [(round(a * 1e7), round(o * 1e7)) for a, o in (places[k] for k in kept)]
    track = Track(
        trip_start_ns=start_ns,
        start_ns=start_ns,
        error_m=5.0,
        dt_ms=[0, *[30_000] * (len(kept) - 1)],
        dlat_e7=[e7[0][0], *(b[0] - a[0] for a, b in pairwise(e7))],
        dlon_e7=[e7[0][1], *(b[1] - a[1] for a, b in pairwise(e7))],
        speed_cmps=[round(speeds[k] * 100) for k in kept],
    )
    curve = Curve(
        trip_start_ns=start_ns,
        start_ns=start_ns,
        step_ms=1000,
        speed_cmps=[round(v * 100) for v in speeds],
        longitudinal_cmps2=[round(100 * 0.4 * cos(s / 20)) for s in range(seconds + 1)],
        lateral_cmps2=[None if s < 30 else round(100 * 0.6 * sin(s / 30)) for s in range(seconds + 1)],
    )
    found = events or []
    counts: dict[str, int] = {}
    for e in found:
        name = f"{e.kind}.{e.severity if e.confirmed else 'unconfirmed'}"
        counts[name] = counts.get(name, 0) + 1
    trip = Trip(
        start_ns=start_ns,
        end_ns=start_ns + seconds * S,
        start_latitude=places[0][0],
        start_longitude=places[0][1],
        end_latitude=places[-1][0],
        end_longitude=places[-1][1],
        distance_m=sum(speeds),
        distance_by_source_m={"wheel": sum(speeds) * 1.002, "gnss": sum(speeds) * 0.997},
        moving_s=float(seconds - 20),
        idle_s=20.0,
        stops=1,
        max_speed_mps=max(speeds),
        speed_histogram_s=[20.0, 10.0, 120.0, 240.0, 200.0, 150.0, 100.0, 60.0, 0.0],
        night_s=0.0,
        hour_of_day_s=[0.0] * 9 + [float(seconds)] + [0.0] * 14,
        event_counts=counts,
        smoothness_mps2=0.42,
        quality=Quality(
            gap_s=1.0,
            longest_gap_s=0.6,
            speed_share={"wheel": 1.0, "gnss": 0.97},
            position_share=0.98,
            mount_confidence=0.93,
            time="gnss",
        ),
        track_points=len(kept),
        track_error_m=5.0,
    )
    return [*(replace(e, trip_t_ns=start_ns) for e in found), trip, track, curve]


def braking(t_ns: int = 300 * S, **changed: Any) -> Event:
    """Return a severe, confirmed braking of 4.6 m/s² from 54 km/h, as the detector writes it."""
    speeds: list[float | None] = [15.0] * 50 + [round(max(3.0, 15.0 - 0.46 * i), 2) for i in range(70)]
    forces: list[float | None] = [0.1] * 50 + [-4.6] * 20 + [0.0] * 50
    event = Event(
        kind="harsh_braking",
        severity="severe",
        confirmed=True,
        t_ns=t_ns,
        duration_ns=2_000_000_000,
        peak=-4.6,
        unit="m/s2",
        speed_before_mps=15.0,
        rule="harsh_braking/1",
        sources=["wheel", "imu"],
        latitude=31.245,
        longitude=121.481,
        window=Window(
            start_ns=t_ns - 5 * S, speed_mps=speeds, longitudinal_mps2=forces, lateral_mps2=[None] * len(speeds)
        ),
        levels=(2.5, 3.0, 4.4),
    )
    return replace(event, **changed)


SPEEDING = {
    "kind": "speeding",
    "severity": "minor",
    "peak": 36.9,
    "unit": "m/s",
    "rule": "speeding/1",
    "limit_mps": 33.333,
    "levels": (36.667, 40.0, 50.0),
    "duration_ns": 25 * S,
}


def readable(page: Any) -> None:
    """Assert that a page in a browser has one heading above all, and a name for every drawing and control."""
    levels = page.execute_script("return [...document.querySelectorAll('h1,h2,h3')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    nameless = page.execute_script("""
      const labels = (e) => [...(e.labels ?? [])].map((l) => l.textContent.trim()).join("");
      const named = (e) => e.getAttribute("aria-label") || e.textContent.trim() || e.title || labels(e);
      const outer = [...document.querySelectorAll("svg")].filter((s) => !s.parentElement.closest("svg"));
      return [
        ...outer.filter((s) => s.getAttribute("aria-hidden") !== "true" && !s.closest("[aria-hidden=true]")
                        && !(s.getAttribute("role") === "img" && s.getAttribute("aria-label"))),
        ...[...document.querySelectorAll(
          "a, button, summary, input:not([type=hidden]), select, textarea, video, progress")].filter((e) => !named(e)),
        ...[...document.querySelectorAll("th")].filter((e) => !e.getAttribute("scope")),
        ...[...document.querySelectorAll("img")].filter((e) => !e.hasAttribute("alt")),
      ].map((e) => e.outerHTML.slice(0, 120));""")
    assert nameless == []
    ids = page.execute_script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
