"""The device and its commands: what is refused and why, what is obeyed once, and what a power cut changes: nothing."""

import errno
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import commandmessages as wire
from agent.clip.settings import ClipSettings
from agent.commandmessages import LONGEST_LIFE_NS
from agent.commands import commands as module
from agent.commands.inbox import MOST, Inbox
from agent.commands.policy import NO_CONSENT
from agent.commands.settings import CommandSettings
from agent.errors import StoreError
from agent.evidence import verify_package as verifier
from agent.incident.folder import PACKAGES, Request
from agent.incident.folder import look as look_at
from agent.records import Reply
from agent.store import Store, StoreSettings
from tests.commanding import NOW, OTHER_KEY, TRUSTED, UTC0, Box, clock_of, command, film_drive, signed, with_video
from tests.dashcam_making import S

DAY = 86_400 * S


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film_drive(tmp_path_factory.mktemp("drive"))


@pytest.fixture
def box(tmp_path: Path, video: Path) -> Iterator[Box]:
    box = Box(with_video(tmp_path / "agent", video))
    box.know_time()
    yield box
    box.close()


def span(from_s: float, to_s: float, **more: object) -> dict[str, object]:
    return {"from_utc_ns": UTC0 + round(from_s * S), "to_utc_ns": UTC0 + round(to_s * S), **more}


def test_a_clip_is_accepted_at_once_and_done_when_its_package_is_signed(box: Box) -> None:
    asked = command(box.store.device)
    (accepted,) = box.heed(signed(asked))
    assert (accepted.state, accepted.actor, accepted.reason) == ("accepted", "adjuster", "claim 4711")
    assert (accepted.id, accepted.key, accepted.incident) == (asked.id, TRUSTED, asked.id[:16])
    box.work()
    last = box.replies()[-1]
    assert (last.state, last.id, last.incident) == ("done", asked.id, accepted.incident)
    folder = box.folder / PACKAGES / asked.id[:16]
    assert (folder / "clip-front.mp4").stat().st_size > 10_000
    assert verifier.verify(str(folder), box.store.device).exit_code == 0
    request = msgspec.json.decode((folder / "request.json").read_bytes(), type=Request)
    assert (request.command, request.actor, request.why) == (asked.id, "adjuster", "claim 4711")
    assert not box.commands.busy
    assert box.commands.counts == {}
    assert box.store.pending("reply", 0, 10**6)[0].kind == "reply"


@pytest.mark.parametrize(
    ("changed", "state", "told"),
    [
        ({"expires_utc_ns": UTC0 + NOW - 1}, "refused", "expired"),
        ({"expires_utc_ns": UTC0 + NOW + LONGEST_LIFE_NS + S}, "refused", "more than 7 days"),
        ({"issued_utc_ns": UTC0 + NOW + 700 * S}, "refused", "from the future"),
        ({"command": "reboot"}, "refused", "no command 'reboot'"),
        ({"arguments": {}}, "refused", "arguments"),
        ({"arguments": span(1002, 1008, speed="fast")}, "refused", "arguments"),
        ({"arguments": {"from_utc_ns": "x", "to_utc_ns": []}}, "refused", "arguments"),
        ({"arguments": span(1002, 1062.5)}, "failed", "60 s is the longest"),
        ({"arguments": span(1008, 1002)}, "failed", "ends before it begins"),
        ({"arguments": span(1099, 1102)}, "failed", "not passed yet"),
        ({"arguments": span(500, 510)}, "failed", "nothing was filmed"),
        ({"arguments": span(1002, 1008, cameras=["rear"])}, "failed", "no camera 'rear' here; there is front"),
    ],
)
def test_what_cannot_be_done_is_answered_with_the_reason(
    box: Box, changed: dict[str, object], state: str, told: str
) -> None:
    (reply,) = box.heed(signed(command(box.store.device, **changed)))
    assert reply.state == state
    assert told in reply.detail
    box.work()
    assert box.packages() == []
    assert len(box.replies()) == 1


@pytest.mark.parametrize(
    ("settings", "agreed", "told"),
    [
        (CommandSettings(keys=(TRUSTED,)), False, NO_CONSENT),
        (CommandSettings(keys=(TRUSTED,), allow=()), True, "not allowed on this device"),
    ],
)
def test_the_owner_decides_what_is_allowed(
    tmp_path: Path, video: Path, settings: CommandSettings, agreed: bool, told: str
) -> None:
    box = Box(with_video(tmp_path / "agent", video), settings, agreed=agreed)
    box.know_time()
    (reply,) = box.heed(signed(command(box.store.device)))
    assert (reply.state, box.packages()) == ("refused", [])
    assert told in reply.detail
    box.close()


def test_by_default_nobody_is_heeded_and_that_is_said_once(tmp_path: Path) -> None:
    box = Box(tmp_path, CommandSettings())
    box.know_time()
    assert box.heed(*(signed(command(box.store.device, n)) for n in range(5))) == []
    assert box.commands.counts == {wire.UNTRUSTED: 5}
    assert [(h.source, h.state) for h in box.health] == [("commands", "degraded")]
    assert "[commands] keys names nobody" in box.health[0].detail
    box.close()


def test_strangers_other_devices_and_altered_commands_are_counted_and_not_answered(box: Box) -> None:
    good = signed(command(box.store.device))
    at = good.index(b"claim")
    altered = good[:at] + b"C" + good[at + 1 :]
    other = signed(command("rw-0123456789abcdef", 2))
    box.heed(signed(command(box.store.device, 3), OTHER_KEY), altered, other, b"{}", b"x" * 5000)
    assert box.replies() == []
    assert box.commands.counts == {
        wire.UNTRUSTED: 1,
        wire.UNSIGNED: 1,
        wire.OTHER_DEVICE: 1,
        wire.NO_COMMAND: 1,
        wire.TOO_LARGE: 1,
    }
    assert len(box.health) == 5


def test_a_command_is_obeyed_once_also_after_a_restart_and_a_prune(tmp_path: Path, video: Path) -> None:
    folder = with_video(tmp_path / "agent", video)
    box = Box(folder)
    box.know_time()
    payload = signed(command(box.store.device))
    assert [r.state for r in box.heed(payload, payload)] == ["accepted"]
    assert box.heed(payload) == []
    box.work()
    box.close()
    box = Box(folder)
    assert box.heed(payload) == []
    assert box.commands.counts == {module.REPEATED: 1}
    assert box.health == []  # the receiver sends again what it has no answer to
    box.store.acknowledge(box.store.heads())
    box.store.close()
    with Store.open(folder, StoreSettings(acknowledged_days=0.01)) as store:
        store.prune(UTC0 + NOW + DAY)
        assert store.records(Reply) == []
        assert store.replies.answered(command("", 1).id)  # it could still be heeded
        store.prune(UTC0 + NOW + LONGEST_LIFE_NS + 2 * DAY)
        assert not store.replies.answered(command("", 1).id)


def test_what_is_too_old_to_be_remembered_is_not_even_answered(box: Box) -> None:
    asked = command(box.store.device)
    assert box.heed(signed(asked), now_ns=NOW + 2 * LONGEST_LIFE_NS) == []
    assert box.commands.counts == {module.EXPIRED: 1}


def test_a_command_waits_until_the_time_is_known_for_sure(tmp_path: Path, video: Path) -> None:
    box = Box(with_video(tmp_path / "agent", video))
    payload = signed(command(box.store.device))
    assert box.heed(payload) == []
    box.know_time("restored")
    assert box.heed(payload) == []
    box.know_time("gnss")
    assert [r.state for r in box.heed()] == ["accepted"]
    box.close()


def test_a_restart_between_accepted_and_done_loses_nothing(tmp_path: Path, video: Path) -> None:
    folder = with_video(tmp_path / "agent", video)
    box = Box(folder)
    box.know_time()
    box.heed(signed(command(box.store.device)))
    box.close()
    box = Box(folder, boot="nextboot")  # power was cut
    assert box.commands.busy
    box.work(now_ns=60 * S)
    assert [r.state for r in box.replies()] == ["accepted", "done"]
    assert not box.commands.busy
    box.close()


def test_power_lost_before_the_reply_was_written_begins_no_second_clip(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = signed(command(box.store.device))

    def full(_: object) -> None:
        raise StoreError("disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(box.store, "append", full)
        assert box.heed(payload) == []
    assert len(box.packages()) == 1
    assert box.heed(now_ns=NOW + S) == []  # not at once again
    assert [r.state for r in box.heed(payload, now_ns=NOW + 6 * S)] == ["accepted"]
    assert box.commands.counts == {module.REPEATED: 1}
    box.work(NOW + 7 * S)
    assert [r.state for r in box.replies()] == ["accepted", "done"]
    assert len(box.packages()) == 1


def test_a_disk_that_cannot_be_read_is_waited_for(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "I/O error")

    box.heed(signed(command(box.store.device)))
    box.clipper.tend(NOW)
    box.packager.tend(NOW)
    with monkeypatch.context() as patched:
        patched.setattr("agent.commands.clips.look_at", broken)
        assert box.heed() == []
    assert [r.state for r in box.heed(now_ns=NOW + 6 * S)] == ["done"]


def test_a_command_that_the_disk_refuses_again_and_again_holds_up_no_other_and_is_answered(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = (command(box.store.device, n) for n in (1, 2))
    ask = box.clipper.ask
    tries = []

    def refused(*given: Any) -> str | None:
        if given[-1].command == bad.id:
            tries.append(given[-2])
            raise StoreError("packages/1: cannot be written: Structure needs cleaning; check the card with dmesg")
        return ask(*given)

    monkeypatch.setattr(box.clipper, "ask", refused)
    (accepted,) = box.heed(signed(bad), signed(good))
    assert (accepted.id, accepted.state) == (good.id, "accepted")
    told = []
    for seconds in range(1, 300):
        told += box.heed(now_ns=NOW + seconds * S)
    (failed,) = told
    assert (failed.id, failed.state) == (bad.id, "failed")
    assert "Structure needs cleaning" in failed.detail
    assert len(tries) == module.MOST_TRIES
    assert min(later - earlier for earlier, later in pairwise(tries)) >= module.RETRY_NS
    assert box.heed(signed(bad), now_ns=NOW + 300 * S) == []  # answered is answered


def test_a_package_that_cannot_be_looked_at_holds_up_no_other_answer(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = box.heed(*(signed(command(box.store.device, n)) for n in (1, 2)))
    look = look_at
    monkeypatch.setattr("agent.commands.clips.look_at", lambda folder: _broken(folder, first.incident) or look(folder))
    box.work()
    last = box.replies()[-1]
    assert (last.id, last.state) == (second.id, "done")
    told = []
    for seconds in range(1, 300):
        told += box.heed(now_ns=NOW + seconds * S)
    assert [(r.id, r.state, r.incident) for r in told] == [(first.id, "failed", first.incident)]
    assert "I/O error" in told[0].detail
    assert not box.commands.busy


def _broken(folder: Path, name: str | None) -> None:
    if folder.name == name:
        raise OSError(errno.EIO, "I/O error")


def test_the_days_budget_is_one_for_rules_and_commands_and_survives_a_restart(tmp_path: Path, video: Path) -> None:
    folder, two = with_video(tmp_path / "agent", video), ClipSettings(asked_per_day=2)
    box = Box(folder, clips=two)
    box.know_time()
    states = [box.heed(signed(command(box.store.device, n)))[0].state for n in (1, 2)]
    box.close()
    box = Box(folder, clips=two)
    (third,) = box.heed(signed(command(box.store.device, 3)))
    assert [*states, third.state] == ["accepted", "accepted", "failed"]
    assert "2 clips that a day may bring are used up" in third.detail
    box.close()
    box = Box(folder, clips=two, boot="nextboot")  # its clock begins anew, and the day has not passed
    box.store.append([(S, clock_of(offset_ns=UTC0 + 2000 * S))])
    fourth = command(box.store.device, 4, at_ns=2010 * S)
    assert [r.state for r in box.heed(signed(fourth), now_ns=10 * S)] == ["failed"]
    tomorrow = command(box.store.device, 5, at_ns=2010 * S + DAY)
    assert [r.state for r in box.heed(signed(tomorrow), now_ns=10 * S + DAY)] == ["accepted"]
    box.close()


def test_video_of_an_earlier_boot_is_found_where_that_boots_time_is_known(tmp_path: Path, video: Path) -> None:
    folder = with_video(tmp_path / "agent", video)
    box = Box(folder)
    box.know_time("restored")
    box.close()
    box = Box(folder, boot="nextboot")
    box.store.append([(S, clock_of(offset_ns=UTC0 + 2000 * S))])
    (unsure,) = box.heed(signed(command(box.store.device, 1, at_ns=2060 * S)), now_ns=60 * S)
    assert unsure.state == "failed"
    assert "did not know the time for sure" in unsure.detail
    (elsewhere,) = box.heed(
        signed(command(box.store.device, 2, at_ns=2060 * S, arguments=span(1900, 1910))), now_ns=60 * S
    )
    assert "unless by one of 1 starts" in elsewhere.detail
    box.close()
    box = Box(folder)
    box.know_time("ntp")
    box.close()
    box = Box(folder, boot="nextboot")
    (accepted,) = box.heed(signed(command(box.store.device, 3, at_ns=2060 * S)), now_ns=60 * S)
    assert accepted.state == "accepted"
    box.work(now_ns=60 * S)
    assert box.replies()[-1].state == "done"
    # two boots that both claim the time: nobody can say which is meant
    name = next((folder / "video" / "front").glob("*.mp4"))
    (name.parent / f"nextboot-00000099-{2_000_000:016d}-{4_000_000:016d}.mp4").write_bytes(name.read_bytes())
    box.store.append([(2 * S, clock_of(offset_ns=UTC0 + 1001 * S))])
    (twice,) = box.heed(signed(command(box.store.device, 4, at_ns=1061 * S)), now_ns=60 * S)
    assert "started anew within that time" in twice.detail
    box.close()


def test_what_is_missing_of_a_clip_is_told_and_a_clip_of_nothing_has_failed(box: Box) -> None:
    box.heed(signed(command(box.store.device, 1, arguments=span(1008, 1020))))
    box.work()
    partly = box.replies()[-1]
    assert partly.state == "done"
    assert "missing: video of camera front: the last 8" in partly.detail
    box.heed(signed(command(box.store.device, 2)))
    for segment in (box.folder / "video" / "front").glob("*.mp4"):
        segment.unlink()  # the loop came round before the request to keep them
    box.work(NOW + 20 * S)
    lost = box.replies()[-1]
    assert (lost.state, lost.id) == ("failed", command("", 2).id)
    assert "nothing was filmed" in lost.detail


def test_only_the_cameras_that_are_asked_for_are_cut(tmp_path: Path, video: Path) -> None:
    folder = with_video(tmp_path / "agent", video)
    (folder / "video" / "front").rename(folder / "video" / "cabin")
    with_front = with_video(tmp_path / "other", video)
    (with_front / "video" / "front").rename(folder / "video" / "front")
    box = Box(folder)
    box.know_time()
    asked = command(box.store.device, arguments=span(1002, 1006, cameras=["front"]))
    box.heed(signed(asked))
    box.work()
    made = {p.name for p in (folder / PACKAGES / asked.id[:16]).glob("*.mp4")}
    assert made == {"clip-front.mp4"}
    assert box.replies()[-1].state == "done"
    box.close()


def test_no_camera_at_all_is_said(tmp_path: Path) -> None:
    box = Box(tmp_path)
    box.know_time()
    (reply,) = box.heed(signed(command(box.store.device)))
    assert (reply.state, reply.detail) == ("failed", "no dashcam has ever filmed here")
    box.close()


def test_a_flood_is_bounded_and_counted(tmp_path: Path) -> None:
    box = Box(tmp_path, CommandSettings(keys=(TRUSTED,), per_day=10))
    payloads = [signed(command(box.store.device, n)) for n in range(100)]
    assert box.heed(*payloads) == []  # the time is not known
    assert box.commands.counts == {module.TOO_MANY: 100 - module.MOST_WAITING}
    box.know_time()
    assert len(box.heed()) == 10
    assert box.commands.counts[module.DAY_FULL] == module.MOST_WAITING - 10
    assert len(box.heed(signed(command(box.store.device, 200, at_ns=NOW + DAY)), now_ns=NOW + DAY)) == 1
    inbox = Inbox()
    for _ in range(MOST + 7):
        inbox.put(b"x")
    inbox.put(b"y" * 5000)
    assert [len(inbox.take()[0]), *inbox.take()[1:]] == [MOST, 0, 0]
    box.close()


@given(st.lists(st.binary(max_size=200) | st.integers(0, 5), max_size=12), st.booleans())
@settings(max_examples=25, deadline=None)
def test_whatever_comes_the_clerk_goes_on(
    tmp_path_factory: pytest.TempPathFactory, came: list[bytes | int], known: bool
) -> None:
    box = Box(tmp_path_factory.mktemp("fuzz"))
    if known:
        box.know_time()
    strange: list[dict[str, object]] = [
        {},
        {"arguments": {"from_utc_ns": 2**62 - 1, "to_utc_ns": 0}},
        {"arguments": {"from_utc_ns": 0, "to_utc_ns": 2**62 - 1, "cameras": ["../x"]}},
        {"arguments": {"\x00": None}},
        {"issued_utc_ns": 0, "expires_utc_ns": 2**62 - 1},
        {"command": "a" * 32, "reason": "\U0001f600" * 200},
    ]
    payloads = [
        c if isinstance(c, bytes) else signed(command(box.store.device, i, **strange[c])) for i, c in enumerate(came)
    ]
    replies = box.heed(*payloads)
    signed_ones = sum(isinstance(c, int) for c in came)
    assert len(replies) == (signed_ones if known else 0)
    assert all(r.detail.isprintable() for r in replies)
    assert box.packages() == []
    box.close()


def test_settings_refuse_what_is_no_key_and_no_command() -> None:
    for wrong in ({"keys": ("ab",)}, {"allow": ("reboot",)}, {"per_day": 0}):
        with pytest.raises(ValueError, match=r"keys|reboot|per_day"):
            CommandSettings(**wrong)  # type: ignore[arg-type]
    assert CommandSettings().keys == ()
