"""Where the car is now: told while there is a connection, newest only, never in the way of what must be kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, Row, select

from agent import messages
from agent.link import Delivered
from agent.messages import Live, MessageError
from agent.sending import live_of
from agent.state import STEP_NS, empty_state
from receiver import db
from tests.test_ingest import Desk
from tests.test_sync import Bench


def live(device: str, t_ns: int = 1, **changes: Any) -> Live:
    return Live(**{"device": device, "boot": "boot-1", "t_ns": t_ns, "latitude": 36.6, "longitude": 117.1, **changes})


def told(bench: Bench) -> list[Live]:
    return [messages.decode_live(p) for t, p, _ in bench.uplink.published if t.endswith("/live")]


def test_only_the_newest_place_is_told_and_only_once() -> None:
    bench = Bench()
    bench.sync.show(live(bench.source.device, 1))
    bench.step()
    assert told(bench) == []
    bench.connect()
    bench.sync.show(live(bench.source.device, 2))
    bench.sync.show(live(bench.source.device, 3))
    bench.step()
    bench.step()
    assert [x.t_ns for x in told(bench)][-1:] == [3]
    assert 2 not in [x.t_ns for x in told(bench)]
    assert not any(retained for t, _, retained in bench.uplink.published if t.endswith("/live"))


def test_a_broker_that_takes_live_messages_is_no_sign_that_the_receiver_lives() -> None:
    bench = Bench(window=2, answer_s=30.0)
    bench.connect()
    waiting = len(bench.uplink.published)
    bench.step(*[Delivered()] * waiting)  # the broker took everything; the receiver is silent from here on
    due_ns = bench.due_ns
    for second in range(1, 20):
        bench.now_ns += 1_000_000_000
        bench.sync.show(live(bench.source.device, second))
        bench.step()
        bench.step(Delivered())
    assert len(told(bench)) == 19
    assert bench.due_ns == due_ns
    bench.pass_time()
    assert bench.sync.status.overdue == 1


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = db.open_database(f"sqlite:///{tmp_path / 'receiver.db'}")
    yield engine
    engine.dispose()


def shown(engine: Engine) -> "Row[Any] | None":
    with db.reading(engine) as connection:
        return connection.execute(select(db.live)).first()


def test_the_receiver_shows_the_newest_place_of_an_enrolled_device(engine: Engine) -> None:
    desk = Desk(engine)
    desk.birth()
    device = desk.source.device
    topic = messages.topic(device, "live")
    for t_ns, speed in ((5, 10.0), (3, 99.0)):  # an older one comes late
        assert desk.take(topic, messages.encode_live(live(device, t_ns, speed_mps=speed))) == []
    row = shown(engine)
    assert row is not None
    assert (row.position_boot, row.position_t_ns, row.latitude, row.speed_mps) == ("boot-1", 5, 36.6, 10.0)


def test_places_of_strangers_and_rubbish_are_not_shown(engine: Engine) -> None:
    desk = Desk(engine)
    device, other = desk.source.device, "rw-0123456789abcdef"
    assert desk.take(messages.topic(other, "live"), messages.encode_live(live(other))) == []
    for payload in (b"", b"{}", b"\xff" * 20, b"x" * 100_000, messages.encode_live(live(other))):
        desk.take(messages.topic(device, "live"), payload)
    row = shown(engine)
    assert row is None or row.latitude is None
    assert sum(desk.ingest.counts.refused.values()) == 5


@pytest.mark.parametrize("wrong", [{"latitude": 91}, {"longitude": -181}, {"speed_mps": -1}, {"device": "rw-x"}])
def test_impossible_places_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(MessageError):
        messages.decode_live(messages.encode_live(live(**{"device": "rw-0123456789abcdef", **wrong})))


def test_the_place_is_the_last_row_with_a_position() -> None:
    rows = empty_state(4)
    rows["t"] = np.arange(4) * STEP_NS
    assert live_of(rows, "rw-0123456789abcdef", "boot-1") is None
    rows["latitude"][1:3], rows["longitude"][1:3] = 36.5, 117.5
    rows["speed"][2] = 12.345
    found = live_of(rows, "rw-0123456789abcdef", "boot-1")
    assert found is not None
    assert (found.t_ns, found.latitude, found.speed_mps) == (2 * STEP_NS, 36.5, 12.35)
