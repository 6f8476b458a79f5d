"""What a desk may ask of a box beside clips: each is done once, told by a reply, and refused where the box says so."""

import json
import logging
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from agent.blocks import make_block
from agent.channels import number
from agent.clip.clipper import Clipper
from agent.commands import dtc, examine, loglevel, reading, restart_agent, restart_dashcam
from agent.commands.commands import Commands
from agent.commands.configure import Trial
from agent.commands.inbox import Inbox
from agent.commands.policy import NO_CONSENT, by_settings
from agent.commands.settings import COMMANDS, NEVER, CommandSettings
from agent.commands.works import works
from agent.dashcam import restarting
from agent.dashcam.watch import VIDEO
from agent.doctor import Finding
from agent.errors import ConfigError
from agent.evidence import verify_package as verifier
from agent.evidence.packager import Packager
from agent.house import House
from agent.incident.folder import PACKAGES
from agent.overlay import FALLS, MOST_STARTS, UNDONE, VALUES, Change, Overlay, keys, laid_over, without
from agent.records import Reply
from agent.settings import AgentConfig, load_agent, start_agent
from agent.store import Store
from agent.vehicle.devices import Device
from drivers.elm.settings import Elm327Settings
from tests.commanding import NOW, TRUSTED, UTC0, clock_of, command, signed
from tests.dashcam_making import BOOT, S
from tests.syncing import until

ROOT = Path(__file__).resolve().parents[1]
ALL = CommandSettings(keys=(TRUSTED,), allow=COMMANDS)
CONFIG = "[sync]\nwindow = 3\n"


@dataclass
class Daemon:
    """What commands see of a daemon."""

    ends: int = 0
    busy: str = ""
    asleep: bool = False
    heard: bool | None = False

    def end(self) -> None:
        self.ends += 1


class Box:
    """A clerk without its thread on a real store; `again` is what a start of the agent does."""

    def __init__(self, folder: Path, settings: CommandSettings = ALL, purposes: tuple[str, ...] = ("track",)) -> None:
        self.folder = folder
        self.settings = replace(AgentConfig(), commands=settings)
        self.purposes = purposes
        self.daemon = Daemon()
        self.bugs: list[BaseException] = []
        folder.mkdir(exist_ok=True)
        self.config = folder / "agent.toml"
        self.config.write_text(CONFIG)
        self.inbox = Inbox()
        self._open()
        self.store.append([(S, clock_of())])

    def _open(self) -> None:
        self.store = Store.open(self.folder)
        self.store.begin_boot(BOOT)
        d = self.daemon
        house = House(
            self.folder, self.config, end=d.end, busy=lambda: d.busy, asleep=lambda: d.asleep, heard=lambda: d.heard
        )
        packages = self.folder / PACKAGES
        clipper = Clipper(self.store, packages, self.folder / VIDEO, BOOT, self.settings.clips, 0)
        self.packager = Packager(self.store, packages, BOOT, clipper.material)
        known = works(self.store, BOOT, self.settings, clipper, house, self.bugs.append)
        assert set(known) == set(COMMANDS)
        policy = by_settings(self.settings.commands, lambda purpose: purpose in self.purposes)
        self.commands = Commands(self.store, BOOT, self.settings.commands, self.inbox, known, policy)
        self.trial = Trial(house, NOW)

    def again(self) -> AgentConfig:
        """End and start as the daemon does; return the settings that are in force then."""
        self.store.close()
        self.daemon.ends = 0
        started = start_agent(self.config, self.folder)
        self._open()
        return started

    def ask(self, name: str, n: int = 1, **arguments: Any) -> Reply:
        """Send a command and return the last reply to it so far."""
        asked = command(self.store.device, n, command=name, arguments=arguments)
        self.inbox.put(signed(asked))
        self.tend()
        return self.last(asked.id)

    def last(self, id_: str) -> Reply:
        return [s.record for s in self.store.records(Reply) if s.record.id == id_][-1]

    def tend(self, now_ns: int = NOW) -> None:
        self.commands.tend(now_ns)
        self.trial.tend(now_ns)
        self.packager.tend(now_ns)

    def over(self, reply: Reply) -> Reply:
        """Tend until a command is over."""

        def done() -> bool:
            self.tend()
            return self.last(reply.id).state != "accepted"

        until(done, f"{reply.command} is over")
        assert self.bugs == []
        return self.last(reply.id)

    def files(self, reply: Reply) -> Path:
        folder = self.folder / PACKAGES / str(reply.incident)
        assert verifier.verify(str(folder), self.store.device).exit_code == 0
        manifest = json.loads((folder / "manifest.json").read_text())
        assert (manifest["kind"], manifest["missing"]) == ("answer", [])
        assert {e["kind"] for e in manifest["chain"]["entries"]} == {"clock"}  # nothing that was driven
        return folder


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path / "agent")
    yield box
    box.store.close()


# policy


def test_by_default_only_what_reads_the_box_is_allowed() -> None:
    assert CommandSettings().allow == ("clip", "doctor", "bundle")
    assert CommandSettings().keys == ()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_refused_by_the_box(tmp_path: Path, name: str) -> None:
    box = Box(tmp_path / "agent", CommandSettings(keys=(TRUSTED,), allow=tuple(c for c in COMMANDS if c != name)))
    reply = box.ask(name)
    assert reply.state == "refused"
    assert "[commands] allow" in reply.detail
    assert not (box.folder / PACKAGES).exists()
    assert box.daemon.ends == 0
    box.store.close()


@pytest.mark.parametrize("name", COMMANDS)
def test_wrong_arguments_are_refused_in_words(box: Box, name: str) -> None:
    box.purposes = ("clip", "track")
    reply = box.ask(name, colour="red")
    assert reply.state == "refused"
    assert name in reply.detail


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("track", {"from_utc_ns": UTC0, "to_utc_ns": UTC0 + S}), ("bundle", {"with_position": True})],
)
def test_whereabouts_need_the_owners_word(box: Box, name: str, arguments: dict[str, Any]) -> None:
    box.purposes = ("recording", "video", "clip")
    reply = box.ask(name, **arguments)
    assert (reply.state, reply.detail) == ("refused", NO_CONSENT)


@pytest.mark.parametrize("table", NEVER)
def test_a_box_cannot_be_set_up_to_let_commands_change_what_they_never_may(table: str) -> None:
    with pytest.raises(ValueError, match="never changed by command"):
        CommandSettings(config_keys=(f"{table}.x",))


# what is answered by files


def drive(box: Box, from_s: int, seconds: int) -> None:
    names = ("Gnss.Latitude", "Gnss.Longitude", "Gnss.Speed", "Gnss.Heading", "Gnss.HorizontalAccuracy")
    latitude, *rest = map(number, names)
    rows = []
    for i in range(seconds):
        t = (from_s + i) * S
        rows += [(t, latitude, 31.0 + i * 1e-4)]
        rows += [(t + 1000, channel, value) for channel, value in zip(rest, (121.5, 10.0, 90.0, 2.5), strict=True)]
    box.store.append_block(make_block(rows), last=True)


def test_a_track_is_every_fix_of_the_time_and_of_no_other(box: Box) -> None:
    drive(box, 500, 100)
    reply = box.ask("track", from_utc_ns=UTC0 + 510 * S, to_utc_ns=UTC0 + 570 * S)
    assert reply.state == "accepted"
    reply = box.over(reply)
    assert reply.detail == "60 places, their time right within 0.30 s"
    folder = box.files(reply)
    lines = (folder / "track.csv").read_text().splitlines()
    assert len(lines) == 61
    assert lines[1].split(",")[1:] == ["31.0010000", "121.5000000", "10", "90", "2.5"]
    assert (folder / "track.gpx").read_text().count("<trkpt") == 60
    request = json.loads((folder / "request.json").read_text())
    assert (request["kind"], request["actor"], request["why"]) == ("answer", "adjuster", "claim 4711")


@pytest.mark.parametrize(
    ("span", "told"),
    [
        ((510, 500), "ends before it begins"),
        ((0, 100_000), "24 h is the longest"),
        ((10, 20), "no place was recorded then"),
    ],
)
def test_a_track_that_cannot_be_had_is_told_with_the_reason(box: Box, span: tuple[int, int], told: str) -> None:
    drive(box, 500, 10)
    reply = box.over(box.ask("track", from_utc_ns=UTC0 + span[0] * S, to_utc_ns=UTC0 + span[1] * S))
    assert reply.state == "failed"
    assert told in reply.detail
    assert not (box.folder / PACKAGES / str(reply.incident)).exists()


def test_the_doctor_answers_with_findings_worst_first(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        Finding(check="power.supply", state="pass", found="12.6 V"),
        Finding(check="config.file", state="fail", found="wrong", advice="some_code", facts={"file": "agent.toml"}),
    ]
    asked: list[Any] = []
    monkeypatch.setattr(examine, "examine", lambda context: asked.append(context) or found)
    monkeypatch.setattr(examine, "next_step", lambda f: "Mend it." if f.advice else "")
    reply = box.over(box.ask("doctor", groups=["config", "power"]))
    assert (reply.state, reply.detail) == ("done", "1 fail, 1 pass")
    told = json.loads((box.files(reply) / "doctor.json").read_text())
    assert [(f["check"], f["state"], f["next"]) for f in told["findings"]] == [
        ("config.file", "fail", "Mend it."),
        ("power.supply", "pass", ""),
    ]
    assert (asked[0].store, asked[0].groups) == (box.folder, ("config", "power"))


def test_a_bundle_comes_as_one_signed_file(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.support import bundle as support

    monkeypatch.setattr(support, "PARTS", {"a.txt": lambda source: f"{source.folder.name}"})
    reply = box.over(box.ask("bundle"))
    assert reply.state == "done", reply.detail
    path = box.files(reply) / "support.zip"
    assert support.check(path)["device"] == box.store.device
    with zipfile.ZipFile(path) as found:
        assert found.read("a.txt") == b"agent"


class Wire:
    """A car that answers as codes and readiness are asked for."""

    protocol, notes = "CAN", ("odd",)

    def __init__(self, codes: dict[str, dict[str, list[str]]]) -> None:
        self._answers: list[Any] = [codes, None]
        self.closed = False

    def open(self) -> None:
        assert not self.closed

    def ask(self, _: Any) -> Any:
        return self._answers.pop(0)

    def close(self) -> None:
        self.closed = True


def test_trouble_codes_wait_for_a_car_that_is_awake_and_come_with_their_texts(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.vehicle import asking, devices

    wire = Wire({"stored": {"7E8": ["P0301"], "7E9": []}, "pending": {"7E8": ["P1234"]}})
    monkeypatch.setattr(devices, "for_questions", lambda _: Device("elm327:x", Elm327Settings(port="/dev/x")))
    monkeypatch.setattr(asking, "wire_to", lambda _: wire)
    box.daemon.asleep = True
    reply = box.ask("dtc")
    assert (reply.state, reply.detail) == ("accepted", "waits until the car is driven")
    box.tend()
    assert box.commands.busy
    box.daemon.asleep = False
    reply = box.over(reply)
    assert (reply.state, reply.detail) == ("done", "2 codes in 2 control units")
    told = json.loads((box.files(reply) / dtc.FILE).read_text())
    assert [(c["code"], c["kind"], c["origin"]) for c in told["codes"]] == [
        ("P0301", "stored", "standard"),
        ("P1234", "pending", "maker"),
    ]
    assert told["codes"][0]["text"]
    assert wire.closed


def test_what_waits_until_it_has_expired_is_given_up(box: Box) -> None:
    box.daemon.asleep = True
    reply = box.ask("dtc")
    box.tend(NOW + 3601 * S)
    assert (box.last(reply.id).state, "expired" in box.last(reply.id).detail) == ("failed", True)


def test_what_an_end_of_the_agent_cut_is_told_and_not_begun_again(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "examine", lambda _: [])
    box.daemon.busy = ""
    asked = command(box.store.device, command="doctor", arguments={})
    box.inbox.put(signed(asked))
    box.commands.tend(NOW)
    box.again()
    box.tend()
    assert (box.last(asked.id).state, box.last(asked.id).detail) == ("failed", reading.CUT)


def test_a_fault_of_the_program_ends_it_loudly_and_is_told(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> list[Finding]:
        raise ZeroDivisionError

    monkeypatch.setattr(examine, "examine", fails)
    reply = box.ask("doctor")
    until(lambda: bool(box.bugs), "the bug is handed over")
    box.bugs.clear()
    assert "a fault of the program" in box.over(reply).detail


# log level


def test_the_log_level_goes_back_when_its_time_is_over(box: Box) -> None:
    ours = [logging.getLogger(name) for name in loglevel.OURS]
    before = [each.level for each in ours]
    first, second = (
        box.ask("log_level", 1, level="debug", seconds=60),
        box.ask("log_level", 2, level="info", seconds=30),
    )
    assert [each.level for each in ours] == [logging.INFO] * 2
    box.tend(NOW + 29 * S)
    assert box.last(first.id).detail == loglevel.REPLACED
    assert box.last(second.id).state == "accepted"
    box.tend(NOW + 30 * S)
    assert (box.last(second.id).state, box.last(second.id).detail) == ("done", loglevel.OVER)
    assert [each.level for each in ours] == before
    third = box.ask("log_level", 3, level="debug", seconds=60)
    box.again()
    box.tend()
    assert box.last(third.id).detail == loglevel.STARTED
    assert [each.level for each in ours] == before


# starts


def test_the_agent_ends_after_the_trip_and_after_it_was_told_and_answers_when_it_is_back(box: Box) -> None:
    box.daemon.busy = "the car is on a trip"
    reply = box.ask("restart_agent")
    assert (reply.state, reply.detail) == ("accepted", "waits: the car is on a trip")
    box.tend()
    assert box.daemon.ends == 0
    box.daemon.busy = ""
    box.tend()
    assert box.daemon.ends == 1
    assert box.last(reply.id).state == "accepted"
    box.again()
    box.tend()
    assert (box.last(reply.id).state, box.last(reply.id).detail) == ("done", restart_agent.DONE)
    assert box.daemon.ends == 0


def test_the_dashcam_is_asked_to_end_and_its_start_is_the_answer(box: Box) -> None:
    video = box.folder / VIDEO
    assert box.ask("restart_dashcam", 1).detail == restart_dashcam.NONE
    (video / "keep").mkdir(parents=True)
    dashcam = restarting.Restarting(video)
    assert not dashcam.wanted()
    reply = box.ask("restart_dashcam", 2)
    box.tend()
    assert dashcam.wanted()
    restarting.Restarting(video)
    box.tend()
    assert (box.last(reply.id).state, box.last(reply.id).detail) == ("done", restart_dashcam.DONE)
    deaf = box.ask("restart_dashcam", 3)
    box.tend(NOW + restart_dashcam.WAIT_NS)
    assert (box.last(deaf.id).state, box.last(deaf.id).detail) == ("failed", restart_dashcam.DEAF)
    assert not dashcam.wanted()


# settings


def test_settings_are_kept_once_the_box_was_heard_with_them(box: Box) -> None:
    reply = box.ask("config", toml="[sync]\nretry_s = 2.0\n[upload]\nwindow = 5", within_s=60)
    assert (reply.state, reply.detail) == ("accepted", "sync.retry_s, upload.window")
    assert box.daemon.ends == 1  # only after it was told
    assert load_agent(box.config, box.folder).sync.retry_s == 1.0  # not before a start that watches over it
    started = box.again()
    assert (started.sync.retry_s, started.sync.window, started.upload.window) == (2.0, 3, 5)
    box.tend()
    assert box.last(reply.id).state == "accepted"
    box.daemon.heard = True
    box.tend()
    box.tend()
    assert (box.last(reply.id).state, box.daemon.ends) == ("done", 0)
    dropped = box.ask("config", 2, toml="sync.window = 2", drop=["sync.retry_s"])
    assert dropped.detail == "sync.window, without sync.retry_s"
    again = box.again()
    assert (again.sync.retry_s, again.sync.window, again.upload.window) == (1.0, 2, 5)
    assert box.config.read_text() == CONFIG


def test_settings_with_which_the_box_is_not_heard_are_taken_back_by_itself(box: Box) -> None:
    reply = box.ask("config", toml='broker.url = "mqtts://elsewhere.example:8883"', within_s=60)
    assert box.again().broker.url == "mqtts://elsewhere.example:8883"
    box.daemon.heard = None  # the parked car sends nothing: that counts for nothing
    box.tend(NOW + 600 * S)
    box.daemon.heard = False
    box.tend(NOW + 610 * S)
    assert box.daemon.ends == 0
    box.tend(NOW + 671 * S)
    assert box.daemon.ends == 1
    assert box.again().broker == AgentConfig().broker
    box.tend(NOW + 672 * S)
    last = box.last(reply.id)
    assert last.state == "failed"
    assert "taken back: the receiver did not answer within 60 s" in last.detail
    assert not (box.folder / VALUES).exists()


def test_an_agent_that_does_not_stay_up_with_them_gets_the_former_ones(box: Box) -> None:
    reply = box.ask("config", toml="sync.window = 2")
    for _ in range(MOST_STARTS):
        assert box.again().sync.window == 2
    assert box.again().sync.window == 3
    box.tend()
    assert FALLS in box.last(reply.id).detail


def test_settings_that_agent_toml_makes_wrong_are_left_out(box: Box) -> None:
    reply = box.ask("config", toml="sync.window = 4")
    box.config.write_text("sync.window = 2\nupload.window = 8\nbroker.in_flight = 10\n")  # a technician, meanwhile
    assert box.again().sync.window == 2
    box.tend()
    assert "in_flight" in box.last(reply.id).detail
    (box.folder / VALUES).write_text("no = [toml")
    assert load_agent(box.config, box.folder).broker.in_flight == 10


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"toml": "commands.allow = []"}, "commands.allow is not changed by command here"),
        ({"toml": '[drivers.canbus.front]\nchannel = "can0"'}, "drivers.canbus.front.channel is not changed"),
        ({"toml": "consent.sheet = ''", "drop": ["sync.window"]}, "consent.sheet is not changed"),
        ({"drop": ["broker.key"]}, "broker.key is not changed"),
        ({"toml": "sync.windo = 2"}, "'windo'"),
        ({"toml": "sync.window = 99"}, "window must be 1 to 8"),
        ({"toml": "sync = 3"}, "expected a table"),
        ({"toml": "sync.window = "}, "not valid TOML"),
        ({"toml": 'broker.url = "mqtt://10.0.0.1"'}, "mqtt"),
        ({}, "names no key"),
        ({"toml": "sync.window = 2", "within_s": 1}, "arguments"),
    ],
)
def test_settings_that_may_not_or_cannot_be_are_refused_and_nothing_changes(
    box: Box, arguments: dict[str, Any], told: str
) -> None:
    reply = box.ask("config", **arguments)
    assert reply.state == "refused"
    assert told in reply.detail
    assert Overlay(box.folder).change() is None
    assert box.daemon.ends == 0


def test_only_one_change_is_on_trial(box: Box) -> None:
    box.ask("config", 1, toml="sync.window = 2")
    assert box.ask("config", 2, toml="sync.window = 4").state == "failed"
    assert box.again().sync.window == 2


class CutError(BaseException):
    """Power goes."""


def cut_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let power go before the step-th thing that a disk is asked to do."""
    left = [step]

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise CutError
            return real(*args, **more)

        return call

    for name in ("open", "replace", "fsync"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))


CHANGE = Change(id="1" * 32, state="trial", wanted="sync.window = 2\n", before="sync.window = 4\n", within_s=60)


@pytest.mark.parametrize("act", ["begin", "start", "keep", "drop"])
@pytest.mark.parametrize("before", ["", "sync.window = 4\n"])
def test_a_cut_of_power_at_any_step_ends_in_the_old_values_or_the_new(tmp_path: Path, act: str, before: str) -> None:
    change = Change(id=CHANGE.id, state="trial", wanted=CHANGE.wanted, before=before, within_s=60)
    acts: dict[str, Callable[[Overlay], None]] = {
        "begin": lambda o: o.begin(change),
        "start": Overlay.start,
        "keep": Overlay.keep,
        "drop": lambda o: o.drop("why"),
    }
    for step in range(200):
        folder = tmp_path / f"{act}{step}"
        folder.mkdir()
        if before:
            (folder / VALUES).write_text(before)
        overlay = Overlay(folder)
        if act != "begin":
            overlay.begin(change)
            overlay.start()
        with pytest.MonkeyPatch.context() as power:
            cut_at(power, step)
            try:
                acts[act](overlay)
                whole = True
            except CutError:
                whole = False
        overlay.start()
        found, state = overlay.text(), overlay.change()
        assert found in (before, change.wanted)
        if state is None:
            assert found == before
        else:
            assert (state.state in ("trial", "kept")) == (found == change.wanted)
            assert state.state == "dropped" or found == change.wanted
            assert state.why in ("", UNDONE, "why")
        if act != "start":  # which counts
            overlay.start()
            assert overlay.text() == found
        if whole:
            assert step > 1
            return
    pytest.fail("never whole")


KILLED = """
import sys
from pathlib import Path
from agent.overlay import Change, Overlay
overlay, n = Overlay(Path(sys.argv[1])), 0
while True:
    n += 1
    before = overlay.text()
    wanted = f"sync.window = {n % 8 + 1}\\n"
    print(f"{before!r} {wanted!r}", flush=True)
    overlay.begin(Change(id=f"{n:032x}", state="trial", wanted=wanted, before=before, within_s=60))
    overlay.start()
    overlay.keep() if n % 2 else overlay.drop("why")
"""


def test_a_kill_leaves_old_or_new_values_and_never_half(tmp_path: Path) -> None:
    for round_ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(5 + 7 * round_)]
            os.kill(process.pid, signal.SIGKILL)
            lines += process.stdout.readlines()
        legal = {part for line in lines for part in line.strip().split("' '")}
        legal = {part.strip("'").replace("\\n", "\n") for part in legal} | {""}
        overlay = Overlay(tmp_path)
        overlay.start()
        assert overlay.text() in legal
        assert load_agent(ROOT / "config" / "agent.toml", tmp_path).sync.window in range(1, 9)
        change = overlay.change()
        assert change is not None
        if change.state in ("dropping", "trial"):
            overlay.drop("done")


def test_tables_are_laid_over_each_other_key_by_key() -> None:
    table = {"a": {"b": 1, "c": {"d": 2}}, "e": [3]}
    assert keys(table) == ["a.b", "a.c.d", "e"]
    assert laid_over(table, {"a": {"c": {"d": 4, "f": 5}}}) == {"a": {"b": 1, "c": {"d": 4, "f": 5}}, "e": [3]}
    assert without(table, "a.c.d") == {"a": {"b": 1}, "e": [3]}
    assert without(table, "x.y") == table
    assert table["a"] == {"b": 1, "c": {"d": 2}}


def test_a_values_file_beyond_all_bounds_is_refused(tmp_path: Path) -> None:
    (tmp_path / VALUES).write_text("#" * 20_000)
    with pytest.raises(ConfigError, match="larger"):
        Overlay(tmp_path).text()
