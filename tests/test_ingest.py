"""Ingest over SQLite and PostgreSQL: what can be proved is stored once, everything else is refused and counted."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, Engine, Table, select

from agent import messages
from agent.chain import Entry
from agent.errors import ConfigError, RoadwitnessError, StoreError
from agent.messages import Ack
from agent.records import LANES, SCHEMA_VERSION
from receiver import batches, db, devices, ingest, projections
from receiver.ingest import Ingest
from tests.sample_records import S, clock_record, event, health, mount, some, track, trip
from tests.syncing import LINEAGE, ListSource, new_database, postgresql

NOW = 1_790_000_000 * S


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'receiver.db'}"
    cluster: str = request.getfixturevalue("cluster")
    return new_database(cluster)


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = db.open_database(url)
    yield engine
    engine.dispose()


def body_of(connection: Connection, row: Any) -> bytes:
    entry = db.entry.c
    found = connection.execute(
        select(entry.body).where(
            entry.device == row.device,
            entry.lineage == row.lineage,
            entry.lane == row.lane,
            entry.seq == row.seq,
        )
    )
    return bytes(found.scalar_one())


class Desk:
    """A receiver and one device that talks to it by hand."""

    def __init__(self, engine: Engine, enrolled: bool = True) -> None:
        self.engine = engine
        self.ingest = Ingest(engine)
        self.source = ListSource()
        if enrolled:
            devices.enrol(engine, self.source.public_key.hex())

    def birth(self, session: str = "s1") -> list[Ack]:
        birth = messages.Birth(
            device=self.source.device,
            public_key=self.source.public_key.hex(),
            lineage=self.source.lineage,
            session=session,
            boot="boot-1",
            t_ns=1,
            heads={},
        )
        payload = messages.encode_birth(birth, self.source.sign(messages.birth_bytes(birth)))
        return self.take(messages.topic(self.source.device, "birth"), payload)

    def batch(self, entries: list[Entry], anchored: bool = False) -> list[Ack]:
        return self.take(self.up(entries[0].lane), messages.encode_batch(entries, anchored))

    def up(self, lane: str) -> str:
        return messages.topic(self.source.device, "up", lane)

    def take(self, topic: str, payload: bytes, now_ns: int = NOW) -> list[Ack]:
        outgoing = self.ingest.take(topic, payload, now_ns)
        assert all(o.topic.endswith("/ack") for o in outgoing)
        return [messages.decode_ack(o.payload) for o in outgoing]

    def rows(self, table: Table) -> list[dict[str, object]]:
        with db.reading(self.engine) as connection:
            return [dict(r) for r in connection.execute(select(table)).mappings()]

    def held(self) -> set[tuple[object, ...]]:
        fields = ("lineage", "lane", "seq", "boot", "t_ns", "kind", "body", "hash", "signature")
        return {
            tuple(bytes(v) if isinstance(v, memoryview) else v for v in map(r.get, fields)) for r in self.rows(db.entry)
        }

    def refusals(self) -> dict[tuple[object, object], object]:
        return {(r["device"], r["reason"]): r["count"] for r in self.rows(db.refused)}


def wire(entries: list[Entry]) -> set[tuple[object, ...]]:
    return {(e.lineage, e.lane, e.seq, e.boot, e.t_ns, e.kind, e.body, e.hash, e.signature) for e in entries}


def test_what_a_device_wrote_is_what_the_receiver_holds_and_acknowledges(engine: Engine) -> None:
    desk = Desk(engine)
    entries = desk.source.append(some(60))
    [answer] = desk.birth()
    assert (answer.state, answer.lanes, answer.session, answer.lineage) == ("accepted", {}, "s1", LINEAGE)
    acks = [ack for lane in desk.source.lanes.values() for ack in desk.batch(lane)]
    assert acks[-1].lanes == desk.source.heads()
    assert acks[-1].hashes == {lane: hash_.hex() for lane, (_, hash_) in desk.source.written.items()}
    assert desk.held() == wire(entries)
    assert {t.name: len(desk.rows(t)) for t in (db.harsh_event, db.trip, db.health, db.track, db.mount)} == {
        "event": 10, "trip": 10, "health": 10, "track": 10, "mount": 10,
    }  # fmt: skip
    assert desk.refusals() == {}
    with db.reading(engine) as connection:
        row = connection.execute(select(db.trip).limit(1)).one()
        assert msgspec.json.decode(body_of(connection, row))["distance_m"] == row.distance_m
        assert row.events == 3


def test_duplicates_change_nothing(engine: Engine) -> None:
    desk = Desk(engine)
    entries = desk.source.append([(n, event(n)) for n in range(1, 9)])
    desk.birth()
    for part in (entries[:5], entries[:5], entries[2:7], entries[:1], entries[4:], entries):
        [ack] = desk.batch(part)
    assert ack.lanes == {"event": 8}
    assert desk.held() == wire(entries)
    assert len(desk.rows(db.harsh_event)) == 8
    assert desk.refusals() == {}


def test_what_comes_too_early_waits_and_is_not_acknowledged_before_its_turn(engine: Engine) -> None:
    desk = Desk(engine)
    entries = desk.source.append([(n, event(n)) for n in range(1, 13)])
    desk.birth()
    assert desk.batch(entries[6:9])[0].lanes == {}
    assert desk.batch(entries[3:6])[0].lanes == {}
    assert desk.held() == set()
    assert desk.batch(entries[:3])[0].lanes == {"event": 9}
    assert desk.batch(entries[9:])[0].lanes == {"event": 12}
    assert desk.held() == wire(entries)
    assert desk.rows(db.parked) == []


def test_only_a_few_batches_wait(engine: Engine) -> None:
    desk = Desk(engine)
    entries = desk.source.append([(n, event(n)) for n in range(1, 40)])
    desk.birth()
    for e in entries[2:30]:
        desk.batch([e])
    assert len(desk.rows(db.parked)) == batches.MOST_PARKED
    assert desk.refusals() == {(desk.source.device, batches.TOO_EARLY): 28 - batches.MOST_PARKED}
    desk.batch(entries[:2])
    desk.batch(entries)
    assert desk.held() == wire(entries)
    assert desk.rows(db.parked) == []


def test_a_broken_chain_or_signature_is_refused_told_and_never_stored(engine: Engine) -> None:
    desk = Desk(engine)
    entries = desk.source.append([(n, event(n)) for n in range(1, 7)])
    desk.birth()
    desk.batch(entries[:2])
    changed = msgspec.structs.replace(entries[3], body=entries[4].body)
    [ack] = desk.batch([entries[2], changed, *entries[4:]])
    assert (ack.lanes, ack.refused) == ({"event": 2}, {"event": batches.BROKEN_SIGNATURE})
    resigned = msgspec.structs.replace(entries[2], signature=ListSource(2).key.sign(entries[2].hash))
    assert desk.batch([resigned])[0].refused == {"event": batches.BROKEN_SIGNATURE}
    fork = ListSource()
    fork.append([(n, event(n + 50)) for n in range(1, 7)])
    assert desk.batch(fork.lanes["event"])[0].refused == {"event": batches.BROKEN_CHAIN}
    assert desk.held() == wire(entries[:2])
    assert desk.refusals() == {
        (desk.source.device, batches.BROKEN_SIGNATURE): 2,
        (desk.source.device, batches.BROKEN_CHAIN): 1,
    }
    assert desk.batch(entries)[0].lanes == {"event": 6}


def test_a_tampered_batch_among_the_waiting_is_dropped_and_its_lane_goes_on(engine: Engine) -> None:
    desk = Desk(engine)
    entries = desk.source.append([(n, event(n)) for n in range(1, 7)])
    desk.birth()
    desk.batch([msgspec.structs.replace(entries[2], t_ns=99), entries[3]])
    assert desk.batch(entries[:2])[0].lanes == {"event": 2}
    assert desk.refusals() == {(desk.source.device, batches.BROKEN_SIGNATURE): 1}
    assert desk.batch(entries[2:])[0].lanes == {"event": 6}


def test_a_stranger_is_counted_waits_and_is_welcomed_once_enrolled(engine: Engine) -> None:
    desk = Desk(engine, enrolled=False)
    entries = desk.source.append([(1, event(1))])
    assert desk.batch(entries) == []
    [ack] = desk.birth()
    assert (ack.state, ack.session) == ("unknown", "s1")
    assert [p.id for p in devices.pending(engine)] == [desk.source.device]
    assert desk.held() == set()
    assert desk.refusals() == {("", batches.UNKNOWN_DEVICE): 1}
    assert devices.enrol(engine, desk.source.device) == desk.source.device
    assert devices.pending(engine) == []
    [greeting] = [messages.decode_ack(o.payload) for o in desk.ingest.greet()]
    assert (greeting.state, greeting.session, greeting.lineage) == ("accepted", "s1", LINEAGE)
    assert desk.ingest.greet() == []
    assert desk.batch(entries)[0].lanes == {"event": 1}


def test_strangers_cannot_fill_the_database(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "MOST_PENDING", 5)
    desk = Desk(engine)
    for seed in range(10, 22):
        desk.source = ListSource(seed)
        desk.source.append([(1, event(1))])
        birth = messages.Birth(
            device=desk.source.device, public_key=desk.source.public_key.hex(), lineage=LINEAGE,
            session="s", boot="b", t_ns=1, heads={},
        )  # fmt: skip
        payload = messages.encode_birth(birth, desk.source.sign(messages.birth_bytes(birth)))
        desk.take(messages.topic(desk.source.device, "birth"), payload, NOW + seed)
        desk.batch(desk.source.lanes["event"])
        desk.take(f"rw/v1/nonsense{seed}/birth", b"")
    latest = [ListSource(seed).device for seed in range(21, 16, -1)]
    assert [p.id for p in devices.pending(engine)] == latest
    assert desk.refusals() == {("", batches.UNKNOWN_DEVICE): 12, ("", "unknown topic"): 12}


def test_a_blocked_device_is_told_so_and_what_it_sent_stays(engine: Engine) -> None:
    desk = Desk(engine)
    entries = desk.source.append([(n, event(n)) for n in range(1, 4)])
    desk.birth()
    desk.batch(entries[:1])
    devices.block(engine, desk.source.device)
    assert messages.decode_ack(desk.ingest.greet()[0].payload).state == "blocked"
    assert desk.batch(entries[1:])[0].state == "blocked"
    assert desk.birth()[0].state == "blocked"
    assert desk.held() == wire(entries[:1])
    devices.enrol(engine, desk.source.device)
    assert desk.batch(entries[1:])[0].lanes == {"event": 3}


def test_another_key_under_an_enrolled_name_is_refused(engine: Engine) -> None:
    desk = Desk(engine)
    other = ListSource(2)
    with engine.begin() as connection:
        connection.execute(db.device.update().values(public_key=other.public_key.hex()))
    assert desk.birth() == []
    assert desk.refusals() == {(desk.source.device, ingest.OTHER_KEY): 1}


@pytest.mark.parametrize(
    ("what", "payload"),
    [
        ("up/event", b""),
        ("up/event", b"\x01garbage"),
        ("up/event", b"\x01" * 100_000),
        ("birth", b"{}"),
        ("birth", b"\xff" * 20_000),
        ("status", b'{"device": 1}'),
        ("up/nothing", b""),
        ("other", b""),
        ("up/event/more", b""),
    ],
)
def test_garbage_is_counted_and_nothing_else(engine: Engine, what: str, payload: bytes) -> None:
    desk = Desk(engine)
    desk.take(f"rw/v1/{desk.source.device}/{what}", payload)
    assert sum(desk.ingest.counts.refused.values()) == 1
    assert desk.held() == set()


def test_a_batch_under_another_topic_is_refused(engine: Engine) -> None:
    desk = Desk(engine)
    desk.birth()
    entries = desk.source.append([(1, event(1))])
    payload = messages.encode_batch(entries)
    desk.take(desk.up("crash"), payload)
    other = ListSource(2)
    devices.enrol(engine, other.public_key.hex())
    desk.take(messages.topic(other.device, "up", "event"), payload)
    assert set(desk.ingest.counts.refused) == {batches.OTHER_LANE, batches.BROKEN_SIGNATURE}
    assert desk.held() == set()


@pytest.mark.parametrize(
    ("kind", "body", "flag"),
    [
        ("hologram", b'{"t_ns":1}', projections.UNKNOWN_KIND),
        ("event", b'{"kind":"harsh_braking"}', projections.INVALID_BODY),
        ("event", b"\xff\xfe", projections.INVALID_BODY),
        ("event", b"[" * 5000, projections.INVALID_BODY),
        ("health", b'{"t_ns":1,"source":"a\\u0000b","state":"ok","detail":""}', projections.INVALID_BODY),
        ("health", b'{"t_ns":1,"source":"a","state":"ok","detail":"\\ud800"}', projections.INVALID_BODY),
        ("health", b'{"t_ns":9223372036854775807,"source":"a","state":"ok","detail":""}', projections.INVALID_BODY),
        ("clock", b'{"t_ns":1,"offset_ns":1%030d,"quality":"ntp","uncertainty_ns":1}' % 0, projections.INVALID_BODY),
        ("mount", b'{"t_ns":1,"gravity":[1e400,0,0],"forward":[1,0,0],"confidence":1}', projections.INVALID_BODY),
    ],
)  # fmt: skip
def test_a_body_that_nobody_understands_is_kept_flagged_and_blocks_nothing(
    engine: Engine, kind: str, body: bytes, flag: str
) -> None:
    desk = Desk(engine)
    desk.birth()
    entries = [
        *desk.source.append([(1, event(1))]),
        desk.source.append_raw("event", kind, body),
        *desk.source.append([(2, event(2))]),
    ]
    assert desk.batch(entries)[0].lanes == {"event": 3}
    assert desk.held() == wire(entries)
    assert sorted((r["seq"], r["flag"]) for r in desk.rows(db.entry)) == [(1, ""), (2, flag), (3, "")]
    assert len(desk.rows(db.harsh_event)) == 2
    assert desk.ingest.counts.flagged == 1


def test_what_both_sides_lost_is_noted_as_a_hole_and_the_lane_goes_on(engine: Engine) -> None:
    desk = Desk(engine)
    entries = desk.source.append([(n, event(n)) for n in range(1, 11)])
    desk.birth()
    desk.batch(entries[:3])
    assert desk.batch(entries[6:8], anchored=True)[0].lanes == {"event": 8}
    assert desk.batch(entries[6:9], anchored=True)[0].lanes == {"event": 9}
    assert desk.batch(entries[8:])[0].lanes == {"event": 10}
    [hole] = desk.rows(db.hole)
    assert (hole["first_seq"], hole["last_seq"]) == (4, 6)
    assert desk.held() == wire(entries[:3] + entries[6:])
    assert {r["seq"]: r["flag"] for r in desk.rows(db.entry)}[7] == "unlinked"
    forged = msgspec.structs.replace(entries[9], hash=b"x" * 32)
    desk.source.lineage = "ffffffffffff"
    later = ListSource(lineage="ffffffffffff").append([(n, event(n)) for n in range(1, 4)])
    assert desk.batch([msgspec.structs.replace(later[2], hash=forged.hash)], anchored=True)[0].refused


def test_a_new_lineage_starts_from_one_and_keeps_the_old_rows(engine: Engine) -> None:
    desk = Desk(engine)
    old = desk.source.append([(n, event(n)) for n in range(1, 4)])
    desk.birth()
    desk.batch(old)
    desk.source = ListSource(lineage="ffffffffffff")
    [answer] = desk.birth("s2")
    assert (answer.lineage, answer.lanes) == ("ffffffffffff", {})
    new = desk.source.append([(n, event(n)) for n in range(1, 3)])
    assert desk.batch(new)[0].lanes == {"event": 2}
    [late] = desk.batch(old[:1])
    assert (late.lineage, late.lanes) == ("ffffffffffff", {"event": 2})
    assert desk.held() == wire(old + new)


def test_the_best_clock_of_a_boot_wins_and_counts_backwards(engine: Engine) -> None:
    desk = Desk(engine)
    desk.birth()
    first = desk.source.append([(1, trip(100))])
    desk.batch(first)

    def utc() -> list[int | None]:
        joined = select(db.utc_ns(db.trip)).select_from(db.with_clock(db.trip))
        with db.reading(engine) as connection:
            return list(connection.execute(joined).scalars())

    assert utc() == [None]
    for offset, quality, expected in [(5, "restored", 5), (7, "gnss", 7), (9, "ntp", 7), (8, "gnss", 8)]:
        desk.batch(desk.source.append([(2, clock_record(offset_ns=offset * S, quality=quality))]))
        assert utc() == [(100 + expected) * S]
    other = desk.source.append([(3, clock_record(offset_ns=99 * S))], boot="boot-2")
    desk.batch(other)
    assert utc() == [108 * S]


def test_live_status_follows_birth_status_and_the_newest_place(engine: Engine) -> None:
    desk = Desk(engine)
    desk.birth()
    topic = messages.topic(desk.source.device, "status")
    desk.take(topic, messages.encode_status(desk.source.device, "online"), NOW + 1)
    desk.batch(desk.source.append([(1, track(1))]))
    [row] = desk.rows(db.live)
    assert (row["latitude"], row["longitude"]) == (pytest.approx(48.10019), pytest.approx(11.49988))
    desk.batch(desk.source.append([(2, event(1))]))
    [row] = desk.rows(db.live)
    assert (row["latitude"], row["speed_mps"]) == (pytest.approx(48.1001), 14.0)
    desk.batch(desk.source.append([(3, trip(1)), (4, health(1)), (5, mount(1))][:1]))
    desk.take(topic, messages.encode_status(desk.source.device, "offline"), NOW + 9)
    desk.take(topic, messages.encode_status(desk.source.device, "offline"), NOW + 12)
    [row] = desk.rows(db.live)
    assert (row["online"], row["since_utc_ns"], row["seen_utc_ns"]) == (False, NOW + 9, NOW + 12)
    assert row["latitude"] == pytest.approx(48.2)


def test_a_status_of_another_device_is_refused(engine: Engine) -> None:
    desk = Desk(engine)
    desk.take(messages.topic(desk.source.device, "status"), messages.encode_status(ListSource(2).device, "online"))
    assert desk.refusals() == {(desk.source.device, ingest.OTHER_DEVICE): 1}


def test_two_receivers_share_one_database(url: str) -> None:
    one, two = db.open_database(url), db.open_database(url)
    try:
        left, right = Desk(one), Desk(two, enrolled=False)
        entries = left.source.append([(n, event(n)) for n in range(1, 41)])
        left.birth()
        for i in (1, 0, 3, 2):
            ack = (left if i % 2 else right).batch(entries[10 * i : 10 * i + 10])[0]
        assert ack.lanes == {"event": 40}
        assert left.held() == wire(entries)
    finally:
        one.dispose()
        two.dispose()


def test_enrolment_is_by_key_or_by_the_id_of_one_that_waits(engine: Engine) -> None:
    source = ListSource()
    with pytest.raises(RoadwitnessError, match="does not wait for enrolment"):
        devices.enrol(engine, source.device)
    assert devices.enrol(engine, source.public_key.hex().upper()) == source.device
    assert devices.enrol(engine, source.device) == source.device
    assert [d.id for d in devices.devices(engine)] == [source.device]
    with pytest.raises(RoadwitnessError, match=f"near names: {source.device}"):
        devices.block(engine, source.device[:-1])


def test_a_database_of_a_later_version_is_left_alone(url: str) -> None:
    engine = db.open_database(url)
    with engine.begin() as connection:
        connection.execute(db.revision.update().values(version_num="9999"))
    engine.dispose()
    with pytest.raises(StoreError, match="install the newer version"):
        db.open_database(url)


def test_databases_that_cannot_be_opened_say_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        db.open_database(f"sqlite:///{tmp_path / 'no' / 'x.db'}")
    with pytest.raises(ConfigError, match="not a database URL"):
        db.open_database("nonsense")
    with pytest.raises(ConfigError, match="not supported"):
        db.open_database("mysql://x/y")
    (tmp_path / "x.db").write_bytes(b"not a database at all, but text of some length" * 50)
    with pytest.raises(StoreError, match="not a database"):
        db.open_database(f"sqlite:///{tmp_path / 'x.db'}")
    with pytest.raises(StoreError, match="cannot be opened") as caught:
        db.open_database("postgresql+psycopg://rw:secret@127.0.0.1:1/x")
    assert "secret" not in str(caught.value)


def test_the_lanes_of_records_and_messages_agree() -> None:
    assert messages.Lane.__args__ == LANES  # type: ignore[attr-defined]
    assert SCHEMA_VERSION == 1
