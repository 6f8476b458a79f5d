"""Reception when the database is away or refuses: nothing is acknowledged that was not stored, and it is said once."""

import logging
from pathlib import Path

import pytest
from sqlalchemy.exc import DataError, OperationalError

from agent.link import Arrived, BrokerSettings
from receiver import db
from receiver.ingest import Outgoing
from receiver.mqtt import MOST_WAITING, Reception

MESSAGE = Arrived("rw/v1/x/up/event", b"payload", token=("client", 7))


class Desk:
    """A reception whose link and ingest are played by the test."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *outcomes: Exception | None) -> None:
        self.reception = Reception(
            db.open_database(f"sqlite:///{folder / 'r.db'}"), BrokerSettings(url="mqtt://127.0.0.1:1")
        )
        self.did: list[str] = []
        self.outcomes = list(outcomes)

        def take(topic: str, payload: bytes, now_ns: int) -> list[Outgoing]:
            outcome = self.outcomes.pop(0)
            self.did.append(type(outcome).__name__ if outcome else "stored")
            if outcome:
                raise outcome
            return [Outgoing("ack", b"")]

        def publish(topic: str, payload: bytes, retain: bool = False) -> bool:
            self.did.append(f"published {topic} {retain}")
            return True

        monkeypatch.setattr(self.reception.ingest, "take", take)
        monkeypatch.setattr(self.reception._link, "publish", publish)
        monkeypatch.setattr(self.reception._link, "acknowledge", lambda _: self.did.append("puback"))


def away() -> OperationalError:
    return OperationalError("BEGIN", {}, Exception("database or disk is full"))


def test_the_puback_follows_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path, monkeypatch, None)
    desk.reception._store([MESSAGE])
    assert desk.did == ["stored", "published ack True", "puback"]


def test_a_database_that_is_away_is_waited_for_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "receiver.mqtt")
    desk = Desk(tmp_path, monkeypatch, away(), away(), None)
    desk.reception._store([MESSAGE])
    assert desk.did == ["OperationalError", "OperationalError", "stored", "published ack True", "puback"]
    assert [r.getMessage() for r in caplog.records] == [
        "not working, nothing is acknowledged: database or disk is full",
        "the database works again",
    ]


def test_a_message_that_the_database_refuses_stops_nobody_and_is_not_acknowledged_to_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuses = DataError("INSERT", {}, Exception("value out of range"))
    desk = Desk(tmp_path, monkeypatch, refuses, refuses, refuses)
    desk.reception._store([MESSAGE])
    assert desk.did == ["DataError"] * 3 + ["puback"]


def test_stopping_ends_the_waiting_and_acknowledges_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path, monkeypatch, away(), None)

    def take(topic: str, payload: bytes, now_ns: int) -> list[Outgoing]:
        desk.reception.stop()
        raise away()

    monkeypatch.setattr(desk.reception.ingest, "take", take)
    desk.reception._store([MESSAGE])
    assert desk.did == []


def test_a_flood_is_bounded_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path, monkeypatch)
    for _ in range(MOST_WAITING + 25):
        desk.reception._take(MESSAGE)
    assert desk.reception.overrun == 25
