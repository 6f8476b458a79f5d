"""Erasure at the receiver: what tells of driving goes, what must stay stays, and it may be killed anywhere."""

import io
import json
import random
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update

from agent import messages
from agent.chain import START, Entry, signed_by
from agent.records import Health, Package, PackageFile, Reply
from receiver import access, db
from receiver.filestore import FileStore
from receiver.registry import bindings, consents, erasing, erasures, gate, vehicles
from receiver.registry.exporting import export_owner
from tests import sample_records
from tests.registering import NOW, OTHER_VIN, VIN, agreed, bound, car, registered
from tests.sample_records import S, clock_record
from tests.syncing import postgresql
from tests.test_ingest import Desk
from tests.uploading import file_store

LATER = NOW + 1000 * S
DRIVEN = (db.trip, db.harsh_event, db.track, db.curve)


@pytest.fixture
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """SQLite, and where a test asks for it PostgreSQL."""
    with ExitStack() as stack:
        on_server = getattr(request, "param", "sqlite") == "postgresql"
        made = db.open_database(stack.enter_context(postgresql()) if on_server else f"sqlite:///{tmp_path}/r.db")
        stack.callback(made.dispose)
        yield made


class World(Desk):
    """A device in its owner's car that has sent some of everything, and a package of its crash."""

    def __init__(self, engine: Engine, files: FileStore) -> None:
        super().__init__(engine)
        self.files = files
        self.device = self.source.device
        self.birth()
        bound(engine, self.device)
        agreed(engine, self.device, *consents.PURPOSES)
        self.incident = sample_records.crash(1).id
        for incident in (self.incident, "a" * 16):
            files.put(self._part(b"video"), self.device, incident, "clip-front.mp4")
        self.send(1)
        named = [PackageFile(name="clip-front.mp4", size=5, sha256="0" * 64)]
        for incident in (self.incident, "a" * 16):
            self.sent([(S, Package(incident=incident, t_ns=S, complete=True, files=named))])

    def _part(self, data: bytes) -> str:
        name = self.files.begin()
        self.files.write(name, [(0, memoryview(data))])
        return name

    def send(self, n: int, now_ns: int = NOW) -> None:
        kinds = ("event", "trip", "track", "health", "mount", "crash")
        self.sent([(S, clock_record()), *((S, getattr(sample_records, kind)(n)) for kind in kinds)], now_ns)

    def sent(self, records: list[tuple[int, Any]], now_ns: int = NOW) -> None:
        for e in self.source.append(records):
            self.take(self.up(e.lane), messages.encode_batch([e]), now_ns)

    def count(self, table: Any) -> int:
        return len(self.rows(table))

    def settle(self) -> None:
        with self.engine.begin() as connection:
            connection.execute(update(db.claim).values(state="settled"))

    def erase(self, now_ns: int = LATER) -> list[int]:
        return erasing.run(self.engine, self.files, now_ns)

    def check_chains(self) -> int:
        """Prove every lane, tombstones too; return how many of these there are."""
        last: dict[str, bytes] = {}
        buried = 0
        for row in sorted(self.rows(db.entry), key=lambda r: (r["lane"], r["seq"])):
            entry = Entry(
                *(row[n] for n in ("lineage", "lane", "seq", "boot", "t_ns", "kind", "body", "hash", "signature"))
            )  # type: ignore[arg-type]
            assert gate.links(self.device, last.get(entry.lane, START), entry, str(row["flag"]))
            assert signed_by(self.source.public_key, entry)
            last[entry.lane] = entry.hash
            buried += row["flag"] == gate.ERASED
        return buried


@pytest.fixture
def world(engine: Engine, tmp_path: Path) -> World:
    return World(engine, file_store(tmp_path / "files"))


def gone(world: World) -> None:
    """Assert that nothing tells of driving any more, and that the lanes can be proved."""
    assert [world.count(t) for t in DRIVEN] == [0, 0, 0, 0]
    (live,) = world.rows(db.live)
    assert (live["latitude"], live["position_boot"]) == (None, None)
    assert world.check_chains() > 0
    bodies = b"".join(bytes(r["body"]) for r in world.rows(db.entry))  # type: ignore[call-overload]
    assert [word for word in (b"distance_m", b"dlat_e7", b"harsh_braking") if word in bodies] == []


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)
def test_t_priv_2_what_was_withdrawn_is_marked_and_erased_but_the_evidence_of_an_open_claim(world: World) -> None:
    # T-PRIV-2
    assert all(world.count(t) == 1 for t in (db.trip, db.harsh_event, db.track, db.crash))
    consents.withdraw(world.engine, world.device, "recording", NOW + S, by="K-1")
    with db.reading(world.engine) as connection:
        (open_,) = erasures.unfinished(connection)
    assert (open_.state, open_.purpose, open_.overdue(open_.due_utc_ns + 1)) == ("open", "recording", True)
    assert world.erase() == []
    gone(world)
    with db.reading(world.engine) as connection:
        (held,) = erasures.unfinished(connection)
    assert (held.state, held.kept) == ("held", [world.incident])
    assert held.removed["entry"] == 4  # event, trip, track, the record of the package that was asked for
    assert world.count(db.crash) == 1
    assert {str(r["incident"]) for r in world.rows(db.package_state)} == {world.incident}
    with world.files.open(world.device, world.incident, "clip-front.mp4") as file:
        assert file.read() == b"video"
    with pytest.raises(FileNotFoundError):
        world.files.open(world.device, "a" * 16, "clip-front.mp4")
    assert world.count(db.health) == world.count(db.mount) == 1
    world.settle()
    assert world.erase() == [held.id]
    assert world.count(db.crash) == world.count(db.package_state) == world.count(db.package) == 0
    assert world.count(db.claim) == 1  # what was assessed and paid stays
    with pytest.raises(FileNotFoundError):
        world.files.open(world.device, world.incident, "clip-front.mp4")
    gone(world)
    assert world.erase() == []
    assert access.verify(world.engine).broken is None


@pytest.mark.parametrize("seed", range(6))
def test_killed_anywhere_an_erasure_goes_on_and_ends_the_same(
    world: World, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "AT_ONCE", 1)
    world.settle()
    consents.withdraw(world.engine, world.device, "recording", NOW + S, by="K-1")
    chance, steps = random.Random(seed), 0

    def killed(connection: Any) -> None:
        nonlocal steps
        steps += 1
        if chance.random() < 0.25:
            raise KeyboardInterrupt

    monkeypatch.setattr(erasing, "_overwrite", killed)
    done: list[int] = []
    for _ in range(100):
        try:
            done = world.erase()
            break
        except KeyboardInterrupt:
            world.check_chains()
    assert len(done) == 1
    assert steps > 8
    gone(world)
    assert world.count(db.crash) == 0


def test_what_comes_although_it_was_withdrawn_is_a_tombstone_and_agreed_again_it_is_stored(world: World) -> None:
    consents.withdraw(world.engine, world.device, "recording", NOW + S, by="K-1")
    world.send(2, NOW + 2 * S)
    assert world.count(db.trip) == 1  # the new one never was stored
    assert world.check_chains() == 3
    assert [ack.lanes["trip"] for ack in world.birth("s2")] == [2]  # and its lane goes on
    assert world.count(db.health) == 2
    live = messages.Live(device=world.device, boot="boot-1", t_ns=9 * S, latitude=1.0, longitude=2.0, speed_mps=None)
    world.take(messages.topic(world.device, "live"), messages.encode_live(live), NOW + 3 * S)
    assert world.rows(db.live)[0]["latitude"] != 1.0
    agreed(world.engine, world.device, "recording", now_ns=NOW + 4 * S)
    world.send(3, NOW + 5 * S)
    assert world.count(db.trip) == 2
    world.erase()
    (left,) = world.rows(db.trip)
    assert left["received_utc_ns"] == NOW + 5 * S  # what was agreed to again is not erased
    assert world.check_chains() > 3


def test_a_device_about_which_nobody_agreed_here_judges_by_its_own_paper(engine: Engine) -> None:
    desk = Desk(engine)
    desk.birth()
    desk.batch(desk.source.append([(S, sample_records.trip(1))]))
    assert len(desk.rows(db.trip)) == 1


@pytest.mark.parametrize(
    ("purpose", "incidents"),
    [
        ("video", {"track", "bundle"}),
        ("clip", {"crash", "track", "bundle"}),
        ("track", {"crash", "clip", "bundle"}),
        ("scoring", {"crash", "clip", "track", "bundle"}),
        ("regulator", {"crash", "clip", "track", "bundle"}),
    ],
)
def test_a_purpose_withdrawn_alone_takes_what_was_kept_for_it(world: World, purpose: str, incidents: set[str]) -> None:
    world.settle()
    names = {world.incident: "crash", "a" * 16: "clip", "b" * 16: "track", "c" * 16: "bundle"}
    for incident, command in list(names.items())[2:]:
        named = [PackageFile(name=f"{command}.csv", size=5, sha256=incident * 4)]
        said = {"actor": "a", "reason": "r", "key": "0" * 64, "expires_utc_ns": 1, "state": "done", "detail": "d"}
        reply = Reply(id=incident * 2, t_ns=S, command=command, incident=incident, **said)  # type: ignore[arg-type]
        world.sent([(S, reply), (S, Package(incident=incident, t_ns=S, complete=True, files=named))])
    consents.withdraw(world.engine, world.device, purpose, NOW + S, by="K-1")
    assert len(world.erase()) == 1
    assert {names[str(r["incident"])] for r in world.rows(db.package_state)} == incidents
    assert world.count(db.trip) == 1


def test_the_road_tells_another_vin_and_that_is_flagged_within_the_trip(world: World) -> None:
    # T-BIND-1
    with db.reading(world.engine) as connection:
        assert bindings.mismatches(connection) == []
    read = Health(t_ns=S, source="elm327:/dev/obd:vin", state="ok", detail="", facts={"vin": OTHER_VIN})
    world.sent([(S, read)], NOW + S)
    with db.reading(world.engine) as connection:
        (found,) = bindings.mismatches(connection, world.device)
    assert (found.bound_vin, found.read_vin, found.told_by) == (VIN, OTHER_VIN, "health")
    world.sent([(S, Health(t_ns=S, source="elm327:/dev/obd:vin", state="ok", detail="", facts={"vin": VIN}))], NOW + S)
    with db.reading(world.engine) as connection:
        assert bindings.mismatches(connection) == []


def test_the_device_s_own_event_flags_where_no_vin_was_told(world: World) -> None:
    event = sample_records.event(1)
    world.sent(
        [
            (
                S,
                type(event)(
                    **{f: getattr(event, f) for f in event.__struct_fields__}
                    | {"kind": "vin_mismatch", "detail": f"{OTHER_VIN} ≠ {VIN}"}
                ),
            )
        ]
    )
    with db.reading(world.engine) as connection:
        (found,) = bindings.mismatches(connection)
    assert (found.read_vin, found.told_by) == (OTHER_VIN, "event")


def test_an_owner_is_given_all_that_is_kept_of_him(world: World) -> None:
    sink = io.BytesIO()
    counts = export_owner(world.engine, world.files, "K-1", sink)
    assert counts == {
        "devices": 1,
        "claims": 1,
        "policies": 0,
        "files": 0,
        "trips": 1,
        "events": 1,
        "tracks": counts["tracks"],
    }
    with zipfile.ZipFile(sink) as archive:
        assert archive.testzip() is None
        facts = json.loads(archive.read("facts.json"))
        assert facts["owner"]["name"] == "王 店主"
        assert [c["purpose"] for c in facts["consents"]] == list(consents.PURPOSES)
        assert facts["consents"][0]["at_utc_ns"].endswith("Z")
        assert b"<trkpt" in archive.read(f"{world.device}/tracks.gpx")
        assert json.loads(archive.read("claims.json"))[0]["incident"] == world.incident


def test_another_owner_is_not_given_what_a_device_recorded_before_it_was_his(world: World) -> None:
    bindings.unbind(world.engine, world.device, NOW + S, reason="sold")
    world.settle()
    same = registered(world.engine, car("K-3"))  # the car was sold: its device does not go with it either
    with world.engine.begin() as connection:
        code = bindings.offer(connection, same.vin, NOW)
    with pytest.raises(Exception, match="erase them first"):
        bindings.bind(world.engine, world.device, same.vin, code, NOW + 3 * S)
    with world.engine.begin() as connection:
        erasures.open_for(connection, world.device, "K-1", "recording", "local", NOW + 2 * S)
    registered(world.engine, car("K-2", OTHER_VIN, ""))
    with world.engine.begin() as connection:
        code = bindings.offer(connection, OTHER_VIN, NOW)
    with pytest.raises(Exception, match="erase them first"):
        bindings.bind(world.engine, world.device, OTHER_VIN, code, NOW + 3 * S)
    world.erase()
    bindings.bind(world.engine, world.device, OTHER_VIN, code, NOW + 3 * S)
    with db.reading(world.engine) as connection:
        assert vehicles.devices_of_owner(connection, "K-1") == set()
        assert vehicles.devices_of_owner(connection, "K-2") == {world.device}
    sink = io.BytesIO()
    assert export_owner(world.engine, world.files, "K-1", sink)["devices"] == 0
    assert world.count(db.trip) == 0
