"""Webhooks: found without anybody telling, signed, told at least once and in bounds; nowhere else, and no secret."""

import hashlib
import hmac
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select, update

from agent import clock
from agent.errors import ConfigError
from receiver import db
from receiver.claiming import history
from receiver.rating import scores
from receiver.registry import consents
from receiver.scoring.model import DEFAULT_MODEL, model
from receiver.settings import load_settings
from receiver.webhooks import delivery, gathering
from receiver.webhooks.posting import SIGNATURE
from receiver.webhooks.settings import HookSettings
from receiver.webhooks.tables import outbox
from tests.pages import NOW, Desk, S, clock_at, drive, open_desk, own
from tests.test_notices import SECRET, web

H = 3600 * S
CLAIM = "0123456789abcdef"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = open_desk(tmp_path)
    yield desk
    desk.engine.dispose()


def hook(tmp_path: Path, url: str, **changed: Any) -> dict[str, HookSettings]:
    (tmp_path / "secret").write_text(SECRET)
    return {"claims": HookSettings(url, str(tmp_path / "secret"), **changed)}


def step(engine: Engine, what: str, before: str, after: str, claim: str = CLAIM) -> None:
    with engine.begin() as connection:
        history.append(connection, NOW, claim, "someone@example.com", what, states=(before, after), why="a secret why")


def rows(engine: Engine) -> list[Any]:
    with db.reading(engine) as connection:
        return list(connection.execute(select(outbox).order_by(outbox.c.id)).all())


def test_what_happened_is_found_signed_and_told_once(desk: Desk, tmp_path: Path) -> None:
    source = desk.enrol()
    step(desk.engine, "opened", "", "reported", "f" * 16)  # before the hook began: not told
    with web(204) as (url, taken):
        hooks = hook(tmp_path, url)
        assert gathering.gather(desk.engine, hooks, NOW) == 0
        step(desk.engine, "opened", "", "reported")
        step(desk.engine, "document", "reported", "reported")
        step(desk.engine, "proved", "reported", "evidence")
        state = {
            "device": source.device,
            "incident": "a" * 16,
            "digest": "d" * 64,
            "lineage": "0" * 12,
            "lane": "crash",
        }
        row = {**state, "seq": 1, "complete": True, "whole": True, "whole_utc_ns": NOW + S, "told": False}
        with desk.engine.begin() as connection:
            connection.execute(db.package_state.insert().values(**row))
        assert gathering.gather(desk.engine, hooks, NOW + 2 * S) == 3
        assert gathering.gather(desk.engine, hooks, NOW + 3 * S) == 0
        assert delivery.deliver(desk.engine, hooks, NOW + 3 * S) == (3, 0, 0)
        assert delivery.deliver(desk.engine, hooks, NOW + 4 * S) == (0, 0, 0)
    told = [json.loads(body) for _, body in taken]
    assert [t["type"] for t in told] == ["claim.opened", "claim.moved", "package.whole"]
    assert (told[1]["data"]["before"], told[1]["data"]["state"]) == ("reported", "evidence")
    assert told[2]["data"]["incident"] == "a" * 16
    for (headers, body), event in zip(taken, told, strict=True):
        seconds, _, digest = headers[SIGNATURE].removeprefix("t=").partition(",v1=")
        assert hmac.new(SECRET.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest() == digest
        assert headers["Roadwitness-Event"] == event["id"]
        assert b"example.com" not in body  # who did it and why are nobody else's
        assert b"secret why" not in body


def test_a_device_is_lost_once_each_time_it_falls_silent(desk: Desk, tmp_path: Path) -> None:
    source = desk.enrol()
    hooks = hook(tmp_path, "https://claims.example/x", events=["device.lost"])
    heard = NOW
    desk.status(source, "online", heard)
    gathering.gather(desk.engine, hooks, NOW)
    assert gathering.gather(desk.engine, hooks, NOW + 71 * H) == 0
    assert gathering.gather(desk.engine, hooks, NOW + 73 * H) == 1
    assert gathering.gather(desk.engine, hooks, NOW + 74 * H) == 0
    desk.status(source, "online", NOW + 75 * H)
    assert gathering.gather(desk.engine, hooks, NOW + 150 * H) == 1
    assert len({row.event for row in rows(desk.engine)}) == 2


def test_scores_of_a_month_that_ended_are_told_once_each_with_kilometres_and_no_place(
    desk: Desk, tmp_path: Path
) -> None:
    source = desk.enrol()
    own(desk.engine)
    consents.give(desk.engine, source.device, "recording", NOW - 60 * 24 * H, by="owner-1")
    consents.give(desk.engine, source.device, "scoring", NOW - 60 * 24 * H, by="owner-1")
    desk.send(source, [clock_at(NOW - 30 * 24 * H), *drive()])
    hooks = hook(tmp_path, "https://claims.example/x", events=["score.published"])
    gathering.gather(desk.engine, hooks, NOW)
    with desk.engine.begin() as connection:
        for period in ("2026-10", "2026-11"):
            scores.score_device(connection, source.device, period, model(DEFAULT_MODEL), NOW)
    assert gathering.gather(desk.engine, hooks, NOW + 60 * S) == 0  # not so soon again
    assert gathering.gather(desk.engine, hooks, NOW + H) == 1  # November has not ended
    assert gathering.gather(desk.engine, hooks, NOW + 2 * H) == 0
    told = json.loads(rows(desk.engine)[0].body)
    assert told["id"] == f"score.published:{source.device}:{DEFAULT_MODEL}:2026-10:1"
    assert told["data"].keys() == {
        "device", "vin", "model", "period", "revision", "score", "km", "credibility", "relativity",
    }  # fmt: skip


def test_what_is_not_taken_is_tried_later_each_time_and_not_for_ever(
    desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with web(500, 302, 503) as (url, taken):
        hooks = hook(tmp_path, url)
        gathering.gather(desk.engine, hooks, NOW)
        step(desk.engine, "opened", "", "reported")
        gathering.gather(desk.engine, hooks, NOW)
        at, waits = NOW, []
        while True:
            told = delivery.deliver(desk.engine, hooks, at)
            assert delivery.deliver(desk.engine, hooks, at) == (0, 0, 0)  # not before its time
            (row,) = rows(desk.engine)
            if told.given_up:
                break
            waits.append((row.next_utc_ns - at) // S)
            at = row.next_utc_ns
    assert waits[:4] == [10, 20, 40, 80]
    assert max(waits) == delivery.LONGEST_WAIT_S
    assert row.state == "too_old"
    assert 72 * H < at - NOW < 74 * H
    assert len(taken) == len(waits) + 1  # a redirect led nowhere: the same server was asked each time
    assert SECRET not in caplog.text + row.why + row.body
    assert "in-the-address" not in caplog.text


def test_a_refusal_and_a_hook_that_is_gone_end_it(desk: Desk, tmp_path: Path) -> None:
    with web(410) as (url, _):
        hooks = hook(tmp_path, url)
        gathering.gather(desk.engine, hooks, NOW)
        step(desk.engine, "opened", "", "reported")
        step(desk.engine, "proved", "reported", "evidence")
        gathering.gather(desk.engine, hooks, NOW)
        with desk.engine.begin() as connection:
            connection.execute(update(outbox).where(outbox.c.type == "claim.moved").values(hook="other"))
        assert delivery.deliver(desk.engine, hooks, NOW) == (0, 0, 2)
    assert {row.why for row in rows(desk.engine)} == {
        "answered 410",
        "no webhook of this name is configured any more",
    }
    delivery.deliver(desk.engine, hooks, NOW + 31 * 24 * H)
    assert rows(desk.engine) == []


def test_the_thread_tells_and_ends(desk: Desk, tmp_path: Path) -> None:
    with web(204) as (url, taken):
        hooks = hook(tmp_path, url)
        gathering.gather(desk.engine, hooks, NOW)
        step(desk.engine, "opened", "", "reported")
        thread = delivery.Webhooks(desk.engine, hooks)
        thread.start()
        pause = threading.Event()
        for _ in range(3000):
            if taken:
                break
            clock.wait(pause, 0.01)
        thread.stop(30.0)
        assert not thread.is_alive()
    assert len(taken) == 1


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('url = "http://claims.example/x"\nsecret_file = "s"', "https unless"),
        ('url = "http://127.evil.example/x"\nsecret_file = "s"', "https unless"),
        ('url = "ftp://claims.example/x"\nsecret_file = "s"', "https://HOST/PATH"),
        ('url = "https://me:pw@claims.example/x"\nsecret_file = "s"', "without a user"),
        ('url = "https://claims.example/x"\nsecret_file = ""', "signed"),
        ('url = "https://claims.example/x"\nsecret_file = "s"\nevents = ["claim.open"]', "known are claim.opened"),
        ('url = "https://claims.example/x"\nsecret_fil = "s"', "near names: secret_file"),
    ],
)
def test_a_wrong_hook_is_told_when_the_settings_are_read(said: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "receiver.toml").write_text(f"[webhooks.claims]\n{said}\n")
    with pytest.raises(ConfigError, match=told):
        load_settings(tmp_path / "receiver.toml")


def test_the_shipped_example_is_one_that_can_be_used(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "config" / "receiver.toml").read_text(encoding="utf-8")
    _, _, example = text.partition("# [webhooks.claims]\n")
    lines = [line.removeprefix("# ") for line in example.split("\n\n")[0].splitlines()]
    (tmp_path / "receiver.toml").write_text("[webhooks.claims]\n" + "\n".join(lines))
    loaded = load_settings(tmp_path / "receiver.toml").webhooks["claims"]
    assert loaded == HookSettings(loaded.url, loaded.secret_file)
    assert {line.split(" = ")[0] for line in lines} == set(HookSettings.__dataclass_fields__)
