"""The receiver's side of commands: who may be asked, when it is sent again, what a reply changes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from typer.testing import CliRunner

from agent.chain import public_bytes
from agent.commandmessages import LONGEST_LIFE_NS, decode_command
from agent.errors import RoadwitnessError, StoreError
from receiver import access, askedwords, commands, devices
from receiver.cli import app
from receiver.commands import MOST_OPEN, Asked, Outgoing
from receiver.settings import CommandKeySettings, ReceiverSettings
from receiver.texts import text
from receiver.words import Words, time_zone
from tests.commanding import KEY, TRUSTED
from tests.pages import NOW, Desk, client, open_desk
from tests.sample_records import reply
from tests.syncing import ListSource

S = 1_000_000_000
DAY = 86_400 * S


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = open_desk(tmp_path)
    yield desk
    desk.engine.dispose()


def ask(desk: Desk, source: ListSource, at: int = NOW, **changed: Any) -> str:
    given: dict[str, Any] = {"reason": "claim 4711", "actor": "adjuster", "life_s": 3 * 86_400.0, **changed}
    arguments = {"from_utc_ns": NOW - 60 * S, "to_utc_ns": NOW - 50 * S}
    return commands.issue(desk.engine, KEY, source.device, "clip", arguments, now_ns=at, **given)


def answer(desk: Desk, source: ListSource, name: str, state: str, at: int = NOW, **changed: Any) -> None:
    desk.send(source, [replace(reply(state=state), id=name, t_ns=at, **changed)], at=at)


def born(desk: Desk, source: ListSource, at: int) -> list[Outgoing]:
    """Let the device connect, and return the commands that it is sent."""
    seen: list[Outgoing] = []
    take = desk.ingest.take
    desk.ingest.take = lambda *a: seen.extend(take(*a)) or []  # type: ignore[method-assign,func-returns-value]
    try:
        desk.greet(source, at)
    finally:
        desk.ingest.take = take  # type: ignore[method-assign]
    return [out for out in seen if out.topic.endswith("/command")]


def only(desk: Desk, source: ListSource, at: int = NOW) -> Asked:
    (found,) = commands.asked(desk.engine, source.device, at)
    return found


def test_a_command_is_signed_sent_once_and_not_retained(desk: Desk) -> None:
    source = desk.enrol()
    name = ask(desk, source)
    assert only(desk, source).state == "waiting"
    (out,) = commands.unsent(desk.engine, NOW)
    assert (out.topic, out.retain) == (f"rw/v1/{source.device}/command", False)
    sent, key = decode_command(out.payload, {TRUSTED})
    assert (sent.id, sent.device, key) == (name, source.device, TRUSTED)
    assert (sent.expires_utc_ns - sent.issued_utc_ns, sent.reason) == (3 * DAY, "claim 4711")
    assert commands.unsent(desk.engine, NOW) == []
    assert only(desk, source).state == "sent"


def test_it_is_sent_again_at_every_birth_until_it_is_answered(desk: Desk) -> None:
    source = desk.enrol()
    first, second = ask(desk, source), ask(desk, source, NOW + S)
    again = born(desk, source, NOW + DAY)  # no broker, no car: a day later
    assert [decode_command(o.payload, {TRUSTED})[0].id for o in again] == [first, second]
    assert commands.unsent(desk.engine, NOW + DAY) == []
    answer(desk, source, first, "accepted", NOW + DAY)
    assert [decode_command(o.payload, {TRUSTED})[0].id for o in born(desk, source, NOW + 2 * DAY)] == [second]
    assert born(desk, source, NOW + 4 * DAY) == []
    assert {a.id: a.state for a in commands.asked(desk.engine, source.device, NOW + 4 * DAY)} == {
        first: "accepted",
        second: "expired",
    }


def test_an_expired_command_is_never_sent_and_a_late_reply_still_counts(desk: Desk) -> None:
    source = desk.enrol()
    name = ask(desk, source, life_s=60.0)
    assert commands.unsent(desk.engine, NOW + 61 * S) == []
    assert only(desk, source, NOW + 61 * S).state == "expired"
    answer(desk, source, name, "done", NOW + DAY)
    found = only(desk, source, NOW + DAY)
    assert (found.state, found.incident, found.state_utc_ns) == ("done", f"{1:016x}", NOW + DAY)


@given(st.lists(st.sampled_from(["accepted", "done", "failed", "refused"]), min_size=1, max_size=5))
@settings(max_examples=25, deadline=None)
def test_replies_move_a_command_on_and_never_back(tmp_path_factory: pytest.TempPathFactory, states: list[str]) -> None:
    desk = open_desk(tmp_path_factory.mktemp("desk"))
    source = desk.enrol()
    name = ask(desk, source)
    for state in states:
        answer(desk, source, name, state)
    over = [s for s in states if s != "accepted"]
    assert only(desk, source).state == (over[0] if over else "accepted")
    desk.engine.dispose()


def test_another_devices_reply_changes_nothing_and_strangers_commands_are_shown(desk: Desk) -> None:
    source, other = desk.enrol(), desk.enrol(2)
    name = ask(desk, source)
    answer(desk, other, name, "refused")
    assert only(desk, source).state == "waiting"
    answer(desk, source, "f" * 32, "accepted", actor="somebody else")
    answer(desk, source, "f" * 32, "done", actor="somebody else")
    foreign = [a for a in commands.asked(desk.engine, source.device, NOW) if a.id != name]
    assert [(a.actor, a.state, a.issued_utc_ns) for a in foreign] == [("somebody else", "done", None)]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"life_s": 0.0}, "up to 7 days"),
        ({"life_s": float("nan")}, "up to 7 days"),
        ({"life_s": float("inf")}, "up to 7 days"),
        ({"life_s": LONGEST_LIFE_NS / S + 1}, "up to 7 days"),
        ({"reason": "two\nlines"}, "cannot be sent"),
        ({"actor": ""}, "cannot be sent"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_leaves_nothing(desk: Desk, changed: dict[str, Any], told: str) -> None:
    source = desk.enrol()
    with pytest.raises(RoadwitnessError, match=told):
        ask(desk, source, **changed)
    assert commands.asked(desk.engine, source.device, NOW) == []
    assert access.verify(desk.engine).rows == 0


def test_only_enrolled_devices_are_asked_and_not_for_more_than_they_hold(desk: Desk) -> None:
    stranger, blocked = ListSource(9), desk.enrol(3)
    devices.block(desk.engine, blocked.device)
    for source in (stranger, blocked):
        with pytest.raises(RoadwitnessError, match="is not enrolled"):
            ask(desk, source)
    assert born(desk, blocked, NOW) == []
    source = desk.enrol()
    for _ in range(MOST_OPEN):
        ask(desk, source)
    with pytest.raises(RoadwitnessError, match="wait for its answer already"):
        ask(desk, source)
    assert len(born(desk, source, NOW)) == MOST_OPEN


def test_who_asked_is_in_the_access_log_before_anything_is_sent(desk: Desk) -> None:
    source = desk.enrol()
    name = ask(desk, source)
    (row,) = access.latest(desk.engine, source.device, "", 5)
    assert (row.who, row.what, row.name) == ("adjuster", "command", name)
    assert access.verify(desk.engine).broken is None


def test_a_reply_that_nobody_could_store_is_flagged_and_blocks_nothing(desk: Desk) -> None:
    source = desk.enrol()
    bad = [replace(reply(), id="x"), replace(reply(), incident="../x"), replace(reply(), expires_utc_ns=2**63 - 1)]
    entries = source.append([(1, r) for r in bad])
    from agent import messages

    payload = messages.encode_batch(entries)
    desk.ingest.take(messages.topic(source.device, "up", "reply"), payload, NOW)
    assert desk.ingest.counts.flagged == 3
    assert commands.asked(desk.engine, source.device, NOW) == []


def test_the_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    settings = ReceiverSettings(database=f"sqlite:///{tmp_path / 'r.db'}")
    key = commands.command_key(settings)
    path = tmp_path / "command.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert public_bytes(commands.command_key(settings)) == public_bytes(key)
    named = ReceiverSettings(commands=CommandKeySettings(key=str(tmp_path / "other.key")))
    assert public_bytes(commands.command_key(named)) != public_bytes(key)
    path.chmod(0o644)
    with pytest.raises(StoreError, match="command key can be read by others"):
        commands.command_key(settings)


def test_the_command_line_asks_lists_and_prints_the_key(desk: Desk, tmp_path: Path) -> None:
    source = desk.enrol()
    run, db = CliRunner(), ["--db", f"sqlite:///{tmp_path / 'receiver.db'}"]
    key = run.invoke(app, ["command-key", *db]).stdout.strip()
    span = ["--from", "2026-11-18T19:05:40.5+08:00", "--to", "2026-11-18T11:05:50Z"]
    asked = run.invoke(app, ["clip", source.device, *span, "--reason", "claim 1", "--camera", "front", "--json", *db])
    name = json.loads(asked.stdout)["command"]
    (out,) = commands.unsent(desk.engine, NOW)
    sent, _ = decode_command(out.payload, {key})
    assert sent.arguments == {
        "from_utc_ns": NOW - 59_500_000_000,
        "to_utc_ns": NOW - 50 * S,
        "cameras": ["front"],
    }
    listed = json.loads(run.invoke(app, ["commands", source.device, "--json", *db]).stdout)["commands"]
    assert [(a["id"], a["reason"], a["state"]) for a in listed] == [(name, "claim 1", "sent")]
    assert name in run.invoke(app, ["commands", source.device, *db]).stdout
    assert "Nothing was asked" in run.invoke(app, ["commands", "rw-0123456789abcdef", *db]).stdout
    naive = run.invoke(app, ["clip", source.device, "--from", "2026-11-18T19:05", "--to", "x", "--reason", "r", *db])
    assert "the zone is missing" in str(naive.exception)
    bad = run.invoke(app, ["clip", source.device, "--from", "noon", "--to", "x", "--reason", "r", *db])
    assert "write it like" in str(bad.exception)


@pytest.mark.parametrize(
    ("lang", "said"),
    [
        ("en", ["What was asked of this box", "Video of Wed 18 Nov 2026, 19:05:40 to 19:05:50", "Asked by adjuster"]),
        ("zh", ["向本设备提出的请求", "19:05:40 至 19:05:50 的视频", "由 adjuster 于"]),
    ],
)
def test_the_owner_sees_who_asked_for_what_and_why(desk: Desk, lang: str, said: list[str]) -> None:
    source = desk.enrol()
    page = client(desk.engine, raising=True)
    assert said[0] not in page.get(f"/vehicles/{source.device}?lang={lang}").text
    name = ask(desk, source, reason="<b>claim</b> & 4711")
    answer(desk, source, name, "refused", detail="the owner's consent is not recorded")
    answer(desk, source, "e" * 32, "done", actor="<i>x</i>", detail="\u202ehm", command="reboot")
    shown = page.get(f"/vehicles/{source.device}?lang={lang}").text
    assert [words for words in said if words not in shown] == []
    assert "&lt;b&gt;claim&lt;/b&gt; &amp; 4711" in shown
    assert "the owner&#39;s consent is not recorded" in shown
    assert "<i>x</i>" not in shown
    assert "reboot" in shown


@pytest.mark.parametrize("state", ["waiting", "sent", "expired", "accepted", "done", "refused", "failed"])
def test_every_state_has_its_word(state: str) -> None:
    asked = Asked("0" * 32, "rw", "clip", {"from_utc_ns": 2**62 - 1}, "r", "a", None, 0, state, NOW, "", None)
    words = [askedwords.line(Words(text(lang), time_zone("UTC"), NOW), asked) for lang in ("en", "zh")]
    assert [w.what for w in words] == ["Video", "视频"]
    assert words[0].state != words[1].state
