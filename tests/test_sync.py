"""Sync in virtual time: only acknowledgements move a position, and each sort of trouble is told apart, once."""

import logging
import random
from collections import deque
from collections.abc import Callable

import pytest

from agent import messages
from agent.clock import NS_PER_S
from agent.link import Arrived, Delivered, Down, Happening, Refused, Up
from agent.messages import Ack, Batch
from agent.records import Health
from agent.sync import Sync, SyncSettings
from agent.tcp import Road
from tests.sample_records import event, some, track
from tests.syncing import ListSource


class FakeUplink:
    """An uplink without a network: what is published lies here, what the test wants to happen happens."""

    def __init__(self) -> None:
        self.happened: deque[Happening] = deque()
        self.published: list[tuple[str, bytes, bool]] = []
        self.connects = 0
        self.closes = 0
        self.up = False
        self.on_the_road: Road | None = None

    def on_happening(self, wake: Callable[[], None]) -> None:
        """Nobody waits here."""

    def connect(self) -> None:
        self.connects += 1

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> bool:
        if self.up:
            self.published.append((topic, payload, retain))
        return self.up

    def road(self) -> Road | None:
        return self.on_the_road

    def happenings(self) -> list[Happening]:
        found = list(self.happened)
        self.happened.clear()
        for happening in found:
            self.up = True if isinstance(happening, Up) else self.up and not isinstance(happening, Down | Refused)
        return found

    def close(self) -> None:
        self.closes += 1
        self.up = False


class Bench:
    """One device's sync on a bench: its source, its uplink, its clock, and a receiver played by the test."""

    def __init__(self, records: int = 12, **settings: float) -> None:
        self.source = ListSource()
        self.source.append(some(records))
        self.uplink = FakeUplink()
        self.health: list[Health] = []
        self.sync = Sync(
            self.source,
            self.uplink,
            SyncSettings(**settings),  # type: ignore[arg-type]
            boot="boot-1",
            on_health=self.health.append,
            rng=random.Random(1),
        )
        self.now_ns = 0
        self.due_ns = 0

    def step(self, *happened: Happening) -> None:
        self.uplink.happened.extend(happened)
        self.due_ns = self.sync.step(self.now_ns)
        assert self.due_ns > self.now_ns, "a step that wants to come back at once would spin"

    def pass_time(self) -> float:
        """Go on to when sync wants to be called; return how long that was."""
        waited_ns = self.due_ns - self.now_ns
        self.now_ns = self.due_ns
        self.step()
        return waited_ns / NS_PER_S

    def connect(self, *, held: dict[str, int] | None = None) -> None:
        self.step()
        self.step(Up("5"))
        self.answer(held or {})

    def births(self) -> list[messages.Birth]:
        return [messages.decode_birth(p) for t, p, _ in self.uplink.published if t.endswith("/birth")]

    def batches(self) -> list[Batch]:
        return [messages.decode_batch(p) for t, p, _ in self.uplink.published if "/up/" in t]

    def ack(self, lanes: dict[str, int], retained: bool = False, **changes: object) -> Arrived:
        values: dict[str, object] = {
            "device": self.source.device,
            "state": "accepted",
            "lineage": self.source.lineage,
            "session": self.births()[-1].session if self.births() else "earlier",
            "lanes": lanes,
        }
        ack = Ack(**{**values, **changes})  # type: ignore[arg-type]
        return Arrived(messages.topic(self.source.device, "ack"), messages.encode_ack(ack), retained)

    def answer(self, lanes: dict[str, int], **changes: object) -> None:
        self.step(self.ack(lanes, **changes))


def test_nothing_is_sent_before_the_receiver_says_what_it_holds() -> None:
    bench = Bench()
    bench.step()
    bench.step(Up("5"))
    assert bench.births()[0].heads == bench.source.heads()
    assert bench.batches() == []
    bench.answer({})
    assert {b.lane for b in bench.batches()} == {"event", "trip", "health", "track"}


def test_lanes_go_most_urgent_first_and_only_a_window_ahead() -> None:
    bench = Bench(records=60, window=2, batch_bytes=1024)
    bench.connect()
    assert [b.lane for b in bench.batches()] == ["event", "event"]
    last = bench.batches()[-1].last_seq
    bench.source.append([(1, track(n)) for n in range(3)])
    bench.answer({"event": last})
    assert [b.lane for b in bench.batches()] == ["event"] * 4
    assert [b.first_seq for b in bench.batches()[1:]] == [b.last_seq + 1 for b in bench.batches()[:-1]]


def test_only_an_acknowledgement_moves_a_position() -> None:
    bench = Bench()
    bench.connect()
    bench.step(*[Delivered()] * 10)
    assert bench.source.positions() == {}
    assert bench.sync.status.behind == 12
    bench.answer(bench.source.heads())
    assert bench.source.positions() == bench.source.heads()
    assert bench.sync.status.behind == 0
    assert bench.sync.status.phase == "sending"


def test_acknowledgements_that_stay_away_start_again_from_the_position() -> None:
    bench = Bench(window=2)
    bench.connect()
    sent = bench.batches()
    bench.answer({"event": sent[0].last_seq})
    bench.pass_time()
    assert bench.sync.status.overdue == 1
    assert len(bench.births()) == 2
    bench.uplink.published.clear()
    bench.step(bench.ack({"event": sent[0].last_seq}, session=bench.sync._session))
    again = bench.batches()
    assert (again[0].lane, again[0].first_seq) == ("trip", 1)


def test_a_slow_link_is_not_overdue_while_messages_get_through() -> None:
    bench = Bench(answer_s=30.0)
    bench.connect()
    for _ in range(10):
        bench.now_ns += 25 * NS_PER_S
        bench.step(Delivered())
    assert bench.sync.status.overdue == 0


def test_a_network_that_is_down_is_retried_later_and_later_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "agent.sync")
    bench = Bench(retry_s=1.0, retry_cap_s=60.0)
    bench.step()
    waits = []
    for _ in range(12):
        bench.step(Down("no route to host"))
        waits.append(bench.pass_time())
    assert all(0.5 * min(60, 2**i) <= w <= min(60, 2**i) for i, w in enumerate(waits))
    assert len({w / min(60, 2**i) for i, w in enumerate(waits)}) > 6, "without jitter a fleet returns in step"
    assert bench.sync.status.trouble == "offline"
    assert [r.getMessage() for r in caplog.records] == ["uplink offline: no route to host; entries wait in the store"]
    bench.step(Up("5"))
    bench.answer({})
    assert bench.sync.status.trouble == ""
    assert "recovered" in caplog.records[-1].getMessage()
    assert len(caplog.records) == 2
    assert bench.health == [], "a tunnel is no state of health"


def test_a_refusal_waits_long_shows_in_health_and_delivers_nothing() -> None:
    bench = Bench(refused_s=600.0)
    bench.step()
    bench.step(Refused("broker b: bad user name or password"))
    status = bench.sync.status
    assert (status.trouble, status.reason) == ("refused", "broker b: bad user name or password")
    assert [(h.source, h.state) for h in bench.health] == [("uplink", "degraded")]
    assert bench.source.positions() == {}
    assert 450 <= bench.pass_time() <= 750
    bench.step(Refused("broker b: bad user name or password"))
    assert len(bench.health) == 1
    bench.pass_time()
    bench.step(Up("5"))
    bench.answer({})
    assert [h.state for h in bench.health] == ["degraded", "ok"]


def test_a_receiver_that_does_not_know_the_device_is_told_to_people_and_welcomes_it_at_once() -> None:
    bench = Bench()
    bench.step()
    bench.step(Up("5"))
    bench.answer({}, state="unknown")
    assert bench.sync.status.trouble == "refused"
    assert f"roadwitness receiver enrol {bench.source.device}" in bench.health[0].detail
    assert bench.batches() == []
    bench.answer({})
    assert bench.batches()
    assert bench.sync.status.trouble == ""


def test_a_silent_receiver_is_asked_again_more_and_more_rarely() -> None:
    bench = Bench(answer_s=10.0, retry_cap_s=300.0)
    bench.step()
    bench.step(Up("5"))
    waits = [bench.pass_time() for _ in range(12)]
    assert bench.sync.status.trouble == "silent"
    assert waits[0] == 10.0
    assert 150 <= waits[-1] <= 300
    assert len(bench.births()) == 13
    assert bench.batches() == []


def test_a_kept_acknowledgement_of_an_earlier_session_moves_nothing() -> None:
    bench = Bench()
    bench.step()
    bench.step(Up("5"), bench.ack({"event": 2}, retained=True, session="earlier"))
    assert bench.source.positions() == {}
    assert bench.batches() == []


def test_an_acknowledgement_of_another_lineage_moves_nothing_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "agent.sync")
    bench = Bench()
    bench.step()
    bench.step(Up("5"))
    for _ in range(3):
        bench.answer({"event": 2}, lineage="ffffffffffff")
    assert bench.source.positions() == {}
    assert sum("it moves nothing" in r.getMessage() for r in caplog.records) == 1


def test_garbage_on_the_acknowledgement_topic_is_counted_and_ignored() -> None:
    bench = Bench()
    bench.connect()
    other = ListSource(2)
    topic = messages.topic(bench.source.device, "ack")
    theirs = bench.ack({"event": 4}, device=other.device)
    bench.step(Arrived(topic, b"\xff{"), Arrived("x", b""), theirs, Arrived(messages.topic(other.device, "ack"), b"{}"))
    assert bench.sync.status.ignored == 4
    assert bench.source.positions() == {}


def test_a_receiver_that_lost_what_it_had_gets_it_again_where_it_is_still_held(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    heads = bench.source.heads()
    bench.source.acknowledge(heads, {})
    bench.connect(held={"event": 1, "trip": heads["trip"], "health": heads["health"], "track": heads["track"]})
    assert [(b.lane, b.first_seq, b.anchor) for b in bench.batches()] == [("event", 2, b"")]
    assert any("sending again" in r.getMessage() for r in caplog.records)


def test_what_neither_side_holds_is_said_and_does_not_stop_the_lane() -> None:
    bench = Bench(records=24)
    bench.source.acknowledge(bench.source.heads(), {})
    bench.source.forget("event", 5)
    bench.connect(held={"event": 2})
    batch = next(b for b in bench.batches() if b.lane == "event")
    assert batch.first_seq == 6
    assert batch.anchor == bench.source.lanes["event"][0].hash
    assert any(
        "entries 3 to 5 of lane event are held neither here nor by the receiver" in h.detail for h in bench.health
    )


def test_a_lane_that_the_receiver_refuses_does_not_hold_up_the_others() -> None:
    bench = Bench(records=60, window=4, batch_bytes=1024, refused_s=600.0)
    bench.connect()
    bench.answer({}, refused={"event": "hash chain is broken"})
    assert {b.lane for b in bench.batches()} == {"event", "trip"}
    assert "hash chain is broken" in bench.health[0].detail
    sent = sum(b.lane == "event" for b in bench.batches())
    bench.answer({"trip": 1})
    assert sum(b.lane == "event" for b in bench.batches()) == sent
    heads = bench.source.heads()
    bench.answer({lane: seq for lane, seq in heads.items() if lane != "event"})
    bench.now_ns += 601 * NS_PER_S
    bench.step()
    assert sum(b.lane == "event" for b in bench.batches()) > sent


def test_an_entry_too_large_to_send_holds_its_own_lane_only() -> None:
    bench = Bench(records=0)
    bench.source.append_raw("trip", "trip", random.Random(1).randbytes(messages.MAX_PAYLOAD))
    bench.source.append([(1, event(1)), (2, track(1))])
    bench.connect()
    assert {b.lane for b in bench.batches()} == {"event", "track"}
    assert any("too large" in h.detail for h in bench.health)


def test_large_bodies_are_split_until_each_message_fits() -> None:
    bench = Bench(records=0, window=8, batch_bytes=512 * 1024)
    noise = random.Random(2)
    for _ in range(8):
        bench.source.append_raw("track", "track", noise.randbytes(30_000))
    bench.connect()
    batches = bench.batches()
    assert [b.first_seq for b in batches] == [1, *(b.last_seq + 1 for b in batches[:-1])]
    assert batches[-1].last_seq == 8
    assert all(len(p) <= messages.MAX_PAYLOAD for _, p, _ in bench.uplink.published)


def test_a_store_that_proves_an_older_copy_goes_on_under_its_new_lineage() -> None:
    bench = Bench()

    def renew(positions: dict[str, int], hashes: dict[str, bytes]) -> None:
        if positions.get("event", 0) > 100:
            bench.source.lineage = "ffffffffffff"

    bench.source.acknowledge = renew  # type: ignore[method-assign]
    bench.step()
    bench.step(Up("5"))
    bench.answer({"event": 101})
    assert [b.lineage for b in bench.births()] == ["0123456789ab", "ffffffffffff"]
    assert bench.births()[0].session != bench.births()[1].session
    assert bench.batches() == []


def test_closing_says_goodbye() -> None:
    bench = Bench()
    bench.connect()
    bench.sync.close()
    topic, payload, retained = bench.uplink.published[-1]
    assert (topic, retained) == (messages.topic(bench.source.device, "status"), True)
    assert messages.decode_status(payload).state == "offline"
    assert bench.uplink.closes == 1
    assert bench.sync.status.phase == "stopped"
