"""Fitting a box: the acceptance drive, the sheet, the configuration, and a wizard that can be stopped anywhere."""

import base64
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import structs
from PIL import Image
from typer.testing import CliRunner

from agent.chain import device_id, public_bytes
from agent.channels import number
from agent.cli.install import app as install
from agent.cli.uninstall import app as uninstall
from agent.dashcam.settings import load_dashcam
from agent.errors import ConfigError, RoadwitnessError
from agent.fitting import progress, service, word
from agent.fitting.acceptance import Acceptance
from agent.fitting.answers import Answers, load_answers
from agent.fitting.beginning import fit
from agent.fitting.configuring import Configuration
from agent.fitting.desk import Desk, token_of
from agent.fitting.ending import NotToldError, end
from agent.fitting.erase import Box, erase
from agent.fitting.finding import devices
from agent.fitting.fitting import Fitting, item
from agent.fitting.photos import taken
from agent.fitting.rules import DriveRules, Expected
from agent.fitting.search import Places, search
from agent.fitting.sheet import Item, Sealed, Sheet, SheetError, proved, seal, short
from agent.fitting.steps import STEPS
from agent.fitting.talk import Row
from agent.fitting.titles import TITLES
from agent.fitting.verify import made, report, verify
from agent.fitting.wizard import run
from agent.identity import load_or_create_key
from agent.local.messages import Camera, Device, Fused, Lane, Power, Tick, Utc, Value
from agent.records import Health
from agent.store import Store

S = 1_000_000_000
VIN = "1M8GDM9AXKP042788"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


# --- the acceptance drive

RULES = DriveRules(seconds=120, close_s=60)
ALL = Expected(speeds=2, gnss=True, imu_hz=100.0, cameras=("front",), supply=True, broker=True)


def tick(s: int, speed: float, heading: float = 0.0, **more: Any) -> Tick:
    """One second of a car in which everything works, but for what is said otherwise."""
    told: dict[str, Any] = {
        "sources": ["gnss", "obd"],
        "mount": 0.8,
        "fix": 3.0,
        "volts": 14.1,
        "trip": True,
        "samples": 600 * s,
    }
    told |= {"acked": 5 + s, "head": 5 + s, "fps": 25.0, "quality": "gnss", "gravity": 9.8, **more}
    axes = zip(("X", "Y", "Z"), (0.0, 0.0, told["gravity"]), strict=True)
    values = {"Gnss.FixType": told["fix"], "Gnss.Satellites": 9.0}
    values |= {f"Imu.Acceleration.{axis}": g for axis, g in axes}
    values |= {f"Imu.AngularVelocity.{axis}": 0.0 for axis in "XYZ"}
    camera = "ok" if told["fps"] else "lost"
    return Tick(
        t_ns=1000 * S + s * S,
        device="rw-0123456789abcdef",
        level="normal",
        utc=Utc(quality=told["quality"]),
        values=[Value(number(name), value, told.get("age", 0.1)) for name, value in values.items()],
        fused=Fused(t_ns=0, speed_mps=speed, heading_deg=heading % 360, sources=told["sources"], mount=told["mount"]),
        devices=[Device(name="imu:x", kind="imu", state="open", since_ns=0, samples=told["samples"])],
        cameras=[Camera(name="front", state=camera, detail="no picture", width=1280, height=720, fps=told["fps"])],
        power=Power(
            state="driving", since_ns=0, volts_of_12=told["volts"], charging=True, taken_wh=0, running=True, moving=True
        ),
        lanes=[Lane(name="trip", head=told["head"], acknowledged=told["acked"])],
        trip=told["trip"],
    )


def driven(**more: Any) -> list[Tick]:
    """Return a drive in which everything passes: a left turn over north, a right one, a stop, and it is parked."""
    road = [(10.0, 5.0)] * 10 + [(8.0, 5.0 - 9.0 * i) for i in range(10)] + [(10.0, 284.0)] * 25
    road += [(8.0, 284.0 + 9.0 * i) for i in range(10)] + [(0.0, 5.0)] * 6
    ticks = [tick(s, speed, heading, **more) for s, (speed, heading) in enumerate(road)]
    return [*ticks, tick(len(road), 0.0, 5.0, **{"trip": False, **more})]


def judged(ticks: Sequence[Tick], expected: Expected = ALL) -> dict[str, str]:
    acceptance = Acceptance(RULES, expected)
    for one in ticks:
        acceptance.take(one)
    return {i.name: i.state for i in acceptance.items()}


def test_a_drive_in_which_everything_works_passes_every_check_and_is_over() -> None:
    acceptance = Acceptance(RULES, ALL)
    for one in driven():
        assert not acceptance.over()
        acceptance.take(one)
    assert acceptance.over()
    assert {i.state for i in acceptance.items()} == {"pass"}
    assert len({i.name for i in acceptance.items()}) == 13


# what is wrong with every tick -> the checks that fail or warn for it, and no others
@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"sources": ["obd"]}, {"Speed agrees between sources": "fail"}),
        ({"fix": 2.0}, {"Satellite fix": "fail"}),
        ({"quality": "restored"}, {"Time": "fail"}),
        ({"samples": 7}, {"Motion sensor": "fail"}),
        ({"gravity": 8.0}, {"Motion sensor": "fail"}),
        ({"mount": 0.3}, {"Mount": "fail"}),
        ({"fps": 0.0}, {"Cameras": "fail"}),
        ({"volts": 12.4}, {"Charging": "warn"}),
        ({"trip": False}, {"Trip opened": "fail", "Trip closed": "fail", "Receiver has it": "fail"}),
        ({"trip": True}, {"Trip closed": "fail", "Receiver has it": "fail"}),
        ({"acked": 4}, {"Receiver has it": "fail"}),
        ({"age": 60.0}, {"Satellite fix": "fail", "Motion sensor": "fail"}),
    ],
)
def test_what_does_not_work_fails_by_its_own_name_with_a_next_step(
    wrong: dict[str, Any], found: dict[str, str]
) -> None:
    acceptance = Acceptance(RULES, ALL)
    for one in driven(**wrong):
        acceptance.take(one)
    left = {i.name: i.state for i in acceptance.items() if i.state != "pass"}
    assert left == found
    assert all(i.advice.endswith(".") for i in acceptance.items() if i.state != "pass")


def test_turns_count_by_side_and_a_bend_or_a_swing_of_the_compass_over_north_is_none() -> None:
    swing = [tick(s, 10.0, (3.0, -3.0)[s % 2]) for s in range(60)]
    bend = [tick(s, 10.0, 2.0 * s) for s in range(60)]  # 40 degrees in 20 s
    for ticks in (swing, bend):
        states = judged(ticks)
        assert (states["A left turn"], states["A right turn"]) == ("fail", "fail")
    right = [tick(s, 10.0, 350.0 + 5.0 * min(s, 20)) for s in range(30)]
    states = judged(right)
    assert (states["A left turn"], states["A right turn"]) == ("fail", "pass")


def test_what_a_car_does_not_have_is_not_asked_for_and_one_speed_is_a_reservation() -> None:
    states = judged(driven(), Expected(speeds=1, gnss=False, imu_hz=0.0, cameras=(), supply=False, broker=False))
    absent = {name for name, state in states.items() if state == "absent"}
    assert absent == {"Satellite fix", "Motion sensor", "Mount", "Cameras", "Receiver has it"}
    assert states["Speed agrees between sources"] == "warn"
    assert judged(driven(mount=0.0), replace(ALL, mount=False))["Mount"] == "skip"


# --- the sheet


def sheet(**changed: Any) -> Sheet:
    public = public_bytes(KEY)
    told: dict[str, Any] = {
        "id": "0123456789abcdef",
        "device": device_id(public),
        "public_key": public.hex(),
        "vin": VIN,
        "by": "李雷 <Li Lei>",
        "started": "2026-11-22T12:00:00Z",
        "ended": "2026-11-22T12:11:00Z",
        "versions": {"roadwitness": "0.1.0"},
        "consent": "sheet 4711",
        "items": [
            Item(step="devices", name="Adapter", state="pass", value="ELM327 & co"),
            Item(step="wiring", name="Supply", state="warn", value="11.9 V", advice="Charge the battery."),
            Item(step="drive", name="Camera", state="absent", value="none"),
        ],
    }
    return Sheet(**{**told, **changed})


def photo(path: Path) -> Path:
    """Write a photo with a place in its EXIF data and text behind its end."""
    image = Image.effect_noise((400, 300), 40).convert("RGB")
    exif = Image.Exif()
    exif[0x010F] = "SECRETCAMERA"
    exif.get_ifd(0x8825)[1] = "N"
    image.save(path, exif=exif, comment=b"SECRETCOMMENT")
    path.write_bytes(path.read_bytes() + b"SECRETTRAILER")
    return path


def test_both_forms_of_a_sheet_prove_what_the_box_signed_photos_and_all(tmp_path: Path) -> None:
    of, data = taken(photo(tmp_path / "box.jpg"), "the box 盒子")
    sealed = seal(sheet(photos=[of]), KEY.sign, [data])
    files = made(sealed.read(), sealed)
    assert files == made(sealed.read(), sealed)
    for ending, content in files.items():
        path = tmp_path / f"sheet.{ending}"
        path.write_bytes(content)
        verified = verify(path)
        assert (verified.sheet, verified.digest, verified.shown) == (sheet(photos=[of]), sealed.digest, True)
        said, sound = report(path, sheet().device)
        assert sound
        assert short(sealed.digest) in said
        assert "Supply" in said
        assert report(path, "rw-0000000000000000")[1] is False
        assert b"SECRET" not in content + base64.b64decode(sealed.photos[0])
    assert "<Li Lei>" not in files["html"].decode()
    assert b"<script src" not in files["html"]


@pytest.mark.parametrize("ending", ["html", "pdf"])
def test_a_page_that_shows_something_else_than_was_signed_is_told(tmp_path: Path, ending: str) -> None:
    good, bad = (seal(sheet(vin=vin), KEY.sign) for vin in (VIN, "LFV2A21K6A3000000"))
    page, other = made(good.read(), good)[ending], made(bad.read(), bad)[ending]
    mark = b"%roadwitness-fitting " if ending == "pdf" else b'id="roadwitness-fitting">'
    at, end_ = page.index(mark) + len(mark), b"\n" if ending == "pdf" else b"<"
    carried = other[other.index(mark) + len(mark) :].split(end_)[0]
    path = tmp_path / f"sheet.{ending}"
    path.write_bytes(page[:at] + carried + page[page.index(end_, at) :])
    verified = verify(path)
    assert (verified.sheet.vin, verified.shown) == ("LFV2A21K6A3000000", False)
    said, sound = report(path)
    assert not sound
    assert "NOT show" in said
    path.write_bytes(page[:at] + b"AAAA" + page[at + 4 :])
    with pytest.raises(SheetError):
        verify(path)
    path.write_bytes(page[:at])
    with pytest.raises(SheetError, match="is no sheet"):
        verify(path)


def test_nothing_in_a_sheet_can_be_changed_after_the_box_signed_it() -> None:
    sealed = seal(sheet(), KEY.sign)
    raw = bytes(sealed.sheet)
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    for wrong in (
        structs.replace(sealed, sheet=type(sealed.sheet)(raw.replace(b'"warn"', b'"pass"'))),
        structs.replace(sealed, signature=other.sign(raw).hex()),
        structs.replace(sealed, photos=["AAAA"]),
        seal(sheet(), other.sign),
        seal(sheet(public_key=public_bytes(other).hex()), other.sign),
        structs.replace(sealed, sheet=type(sealed.sheet)(b"[]")),
    ):
        with pytest.raises(SheetError):
            proved(wrong)
    assert proved(sealed) == sheet()
    assert isinstance(sealed, Sealed)


@pytest.mark.parametrize(
    ("states", "verdict"),
    [
        (["pass", "absent"], "accepted"),
        (["pass", "warn"], "reserved"),
        (["pass", "skip"], "reserved"),
        (["pass", "warn", "fail"], "refused"),
        ([], "refused"),
    ],
)
def test_the_verdict_follows_from_the_items(states: list[Any], verdict: str) -> None:
    one = sheet(items=[Item(step="drive", name=str(n), state=s, value="") for n, s in enumerate(states)])
    assert one.verdict == verdict
    told = word.of_sheet(one, seal(one, KEY.sign))
    assert told.facts["verdict"] == verdict
    assert (told.state == "ok") == (verdict != "refused")


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\xff\xd8\xff\xe0" + bytes(40), b"x" * 100])
def test_what_is_no_photo_is_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.jpg").write_bytes(content)
    with pytest.raises(ConfigError, match=r"p\.jpg: cannot be read as JPEG"):
        taken(tmp_path / "p.jpg")


# --- the configuration


def test_what_a_person_wrote_into_the_configuration_stays(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text('# mine\n[broker]\nurl = "mqtt://127.0.0.1:1"  # kept\n\n[drivers.gps.main]\nport = 99 # my port\n')
    path.chmod(0o640)
    configuration = Configuration(path)
    configuration.put("drivers.gps.main", {"host": "127.0.0.1", "port": 2947}, keep=True)
    configuration.put("drivers.elm327.obd", {"port": "/dev/ttyUSB0"})
    assert configuration.difference() == ['+ host = "127.0.0.1"', "+ [drivers.elm327.obd]", '+ port = "/dev/ttyUSB0"']
    configuration.write()
    text = path.read_text()
    assert text.startswith('# mine\n[broker]\nurl = "mqtt://127.0.0.1:1"  # kept\n')
    assert "port = 99 # my port" in text
    assert path.stat().st_mode & 0o777 == 0o640
    assert not Configuration(path).changed
    assert [p.name for p in tmp_path.iterdir()] == ["agent.toml"]


def test_a_configuration_that_would_be_wrong_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text('[drivers.elm327.a]\nport = "/dev/x"\n')
    configuration = Configuration(path)
    configuration.put("drivers.elm327.b", {"port": "/dev/x"})
    with pytest.raises(ConfigError, match="both read"):
        configuration.write()
    configuration.put("vehicle", {"vin": "1"})
    with pytest.raises(ConfigError, match="vin"):
        configuration.write()
    assert "vehicle" not in path.read_text()
    path.write_text("= 1\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        Configuration(path)


def test_what_is_plugged_in_is_found_without_touching_what_gpsd_reads(tmp_path: Path) -> None:
    for name, kind, flags in (("can0", "280", "0x1003"), ("can1", "280", "0x1002"), ("eth0", "1", "0x1003")):
        (tmp_path / "net" / name).mkdir(parents=True)
        (tmp_path / "net" / name / "type").write_text(kind)
        (tmp_path / "net" / name / "flags").write_text(flags)
    for folder, file, text in (
        ("iio/iio:device0", "name", "bme280"),
        ("iio/iio:device1", "name", "lsm6dsl"),
        ("iio/iio:device1", "in_accel_x_raw", "0"),
        ("video/video0", "name", "USB Camera"),
        ("video/video0", "index", "0"),
        ("video/video1", "index", "1"),
        ("video/video10", "name", "bcm2835-codec-decode"),
        ("video/video2", "name", "unicam-image"),
    ):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / file).write_text(text)
    (tmp_path / "gps0").symlink_to(tmp_path / "ttyACM0")
    (tmp_path / "ttyACM0").touch()
    places = Places(
        serial=(f"{tmp_path}/tty*",),
        not_serial=(f"{tmp_path}/gps*",),
        gpsd="127.0.0.1:1",  # nobody listens at port 1
        net=tmp_path / "net",
        iio=tmp_path / "iio",
        dev=tmp_path,
        video=tmp_path / "video",
    )
    looked: list[str] = []
    found = search(places, looked.append)
    assert [(f.what, f.table, bool(f.trouble)) for f in found] == [
        ("Satellite receiver", "", True),
        ("CAN interface", "drivers.canbus.can0", False),
        ("CAN interface", "drivers.canbus.can1", True),
        ("Motion sensor", "drivers.imu.box", False),
        ("Camera", "cameras", False),
        ("Camera", "", True),  # a sensor whose raw data nothing here develops
    ]
    assert found[3].settings["device"] == "lsm6dsl"
    assert not any("tty" in each for each in looked)


# --- the wizard


class Said:
    """A conversation that is recorded; answers come from a list, nobody else is there."""

    attended = True

    def __init__(self, *chosen: str) -> None:
        self.chosen, self.lines, self.steps = list(chosen), [], []  # type: tuple[list[str], list[Row], list[str]]

    def step(self, number: int, total: int, title: str, does: str) -> None:
        self.steps.append(f"{title}: {does}")

    def say(self, text: str, style: str = "") -> None:
        pass

    def rows(self, rows: Sequence[Row]) -> None:
        self.lines += rows

    def ask(self, key: str, question: str, given: str = "", *, hidden: bool = False, needed: bool = True) -> str:
        return given or "because"

    def choose(self, question: str, options: dict[str, str], default: str) -> str:
        return self.chosen.pop(0) if self.chosen else default

    def live(self) -> Any:
        return nullcontext(lambda headline, rows: None)


class NoService:
    """An agent that is not there."""

    def __init__(self) -> None:
        self.did: list[str] = []

    def __getattr__(self, name: str) -> Callable[[], str]:
        return lambda: self.did.append(name) or ""  # type: ignore[func-returns-value]


def fitting_of(tmp_path: Path, talk: Said, answers: Answers | None = None) -> Fitting:
    known = progress.load(tmp_path) or progress.begun()
    return Fitting(tmp_path, tmp_path / "agent.toml", answers or Answers(), talk, NoService(), known)  # type: ignore[arg-type]


def steps(monkeypatch: pytest.MonkeyPatch, works: dict[str, Callable[[Fitting], list[Item]]]) -> list[str]:
    """Let every step do something short, and note which were done."""
    done: list[str] = []

    def work(name: str) -> Callable[[Fitting], list[Item]]:
        def do(fitting: Fitting) -> list[Item]:
            done.append(name)
            return works[name](fitting) if name in works else [item(name, name, "pass", "")]

        return do

    monkeypatch.setattr("agent.fitting.wizard.STEPS", tuple(replace(s, work=work(s.name)) for s in STEPS))
    return done


def test_a_wizard_that_was_stopped_at_any_step_goes_on_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(_: Fitting) -> list[Item]:
        raise KeyboardInterrupt

    names = [s.name for s in STEPS]
    for at in names:
        folder = tmp_path / at
        folder.mkdir()
        first = steps(monkeypatch, {at: cut})
        with pytest.raises(KeyboardInterrupt):
            run(fitting_of(folder, Said()))
        second = steps(monkeypatch, {})
        run(fitting_of(folder, Said()))
        assert first + second == [*names[: names.index(at)], at, *names[names.index(at) :]]
        assert progress.load(folder) is None


def test_a_step_that_fails_is_done_again_left_out_with_a_reason_or_stands_on_the_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Fitting) -> list[Item]:
        raise RoadwitnessError("device x: it is broken; mend it")

    done = steps(monkeypatch, {"vin": fails, "binding": fails})
    fitting = fitting_of(tmp_path, Said("a", "g", "s"))
    run(fitting)
    assert done.count("vin") == 2
    assert [i.state for i in fitting.progress.done["vin"]] == ["fail"]
    assert fitting.progress.done["vin"][0].value == "device x: it is broken; mend it"
    assert fitting.progress.done["binding"][0].value == "because"
    done = steps(monkeypatch, {"vin": fails})
    with pytest.raises(RoadwitnessError, match="stopped at Vehicle"):
        run(fitting_of(tmp_path, Said("q")))


def test_cameras_that_are_found_are_configured_once_and_a_persons_own_stay(tmp_path: Path) -> None:
    def plugged(*names: str) -> Answers:
        for name in names:
            (tmp_path / "video" / name).mkdir(parents=True)
            (tmp_path / "video" / name / "name").write_text("USB Camera")
        none = tmp_path / "none"
        look = Places(serial=(), not_serial=(), gpsd="", net=none, iio=none, dev=none, video=tmp_path / "video")
        return Answers(look=look)

    path = tmp_path / "dashcam.toml"
    path.write_text('# mine\nsegment_s = 1.0\n[cameras.cabin]\nsource = "rtsp://10.0.0.2/"\n')
    talk = Said("n")
    devices(fitting_of(tmp_path, talk, plugged("video0")))
    assert list(load_dashcam(path).cameras) == ["cabin"]  # the person did not want it
    devices(fitting_of(tmp_path, Said(), plugged("video4", "video8")))
    films = {name: camera.source for name, camera in load_dashcam(path).cameras.items()}
    assert films == {"cabin": "rtsp://10.0.0.2/", "front": "/dev/video0"}
    assert path.read_text().startswith("# mine\nsegment_s = 1.0\n")
    before = path.read_bytes()
    devices(fitting_of(tmp_path, Said(), plugged()))
    assert path.read_bytes() == before


def test_without_any_device_nothing_else_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = steps(monkeypatch, {"devices": lambda _: [item("devices", "Devices", "fail", "nothing", "Plug it in.")]})
    with pytest.raises(RoadwitnessError, match=r"Devices: nothing; Plug it in\."):
        run(fitting_of(tmp_path, Said("g")))
    assert done == ["devices"]
    assert "devices" not in (progress.load(tmp_path) or progress.begun()).done


def test_neither_code_nor_token_is_kept_in_the_progress(tmp_path: Path) -> None:
    assert not {"code", "token"} & set(progress.Progress.__struct_fields__)
    fitting = fitting_of(tmp_path, Said())
    fitting.keep()
    path = tmp_path / "fitting" / "progress.json"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("{")
    with pytest.raises(RoadwitnessError, match="begin anew with --anew"):
        progress.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("vehicel = 1", "unknown key 'vehicel' (near names: vehicle)"),
        ('[skip]\nmout = "x"', "'mout' is no step that can be left out (near names: mount)"),
        ('[skip]\nmount = " "', "say why"),
        ('[skip]\nsheet = "x"', "no step that can be left out"),
        ("[drive]\nseconds = 0", "must be above 0"),
        ("settings = 1", "expected tables"),
        ('[sheet]\nphotos = ["a","b","c","d","e"]', "at most 4"),
    ],
)
def test_a_wrong_file_of_answers_is_told_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "fit.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as told:
        load_answers(path)
    assert said in str(told.value)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


def test_the_example_of_the_documentation_is_a_file_of_answers(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "fitting.md").read_text(encoding="utf-8")
    example = page.split("```toml\n")[1].split("```")[0]
    (tmp_path / "fit.toml").write_text(example, encoding="utf-8")
    answers = load_answers(tmp_path / "fit.toml")
    assert answers.by
    assert answers.vehicle.vin == VIN
    assert set(answers.skip) <= set(TITLES)
    assert all(step.title in page for step in STEPS)


def test_an_answer_that_is_missing_is_named_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "fit.toml").write_text('skip = { devices = "x", wiring = "x" }\n')
    nobody = NoService()
    with pytest.raises(ConfigError, match=r"fit\.toml: \[enrolment\] url is missing"):
        fit(tmp_path / "agent.toml", tmp_path, tmp_path / "fit.toml", [], quiet=True, service=nobody)  # type: ignore[arg-type]
    assert nobody.did == ["close"]
    assert list((progress.load(tmp_path) or progress.begun()).done) == ["devices", "wiring"]


def test_the_commands_say_in_one_line_what_they_need(tmp_path: Path) -> None:
    run_, folder = CliRunner(), ["--store", str(tmp_path), "--config", str(tmp_path / "agent.toml")]
    for app, words, said in (
        (install, [*folder], "install asks questions: run it in a terminal"),
        (install, [*folder, "--again", "mout"], "--again mout: is no step (near names: mount)"),
        (install, [*folder, "--photo", str(tmp_path / "none.jpg")], "no such file"),
        (install, ["verify", str(tmp_path / "none.pdf")], "cannot be read"),
        (uninstall, [*folder], "say what becomes of keys and data on the box"),
        (uninstall, [*folder, "--erase"], "say --yes and --device"),
        (uninstall, ["--store", str(tmp_path / "none"), "--erase"], "there is no box here"),
    ):
        done = run_.invoke(app, words)
        assert isinstance(done.exception, RoadwitnessError), (words, done.output)
        assert said in str(done.exception)


# --- what the receiver is told


def test_a_word_that_is_left_becomes_a_record_and_rubbish_goes(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.begin_boot("boot-1")
        words = word.Words(store, tmp_path)
        assert not words.tend(S)
        word.leave(tmp_path, word.of_sheet(sheet(), seal(sheet(), KEY.sign)))
        assert words.tend(2 * S)
        assert not word.left(tmp_path)
        (tmp_path / word.FILE).write_bytes(b"{}")
        assert not words.tend(3 * S)
        assert not word.left(tmp_path)
        kept = [stored.record for stored in store.records(Health)]
    assert [(h.source, h.state, h.facts["sheet"]) for h in kept] == [
        ("fitting", "ok", seal(sheet(), KEY.sign).digest)
    ]  # fmt: skip


# --- the end


def filled(tmp_path: Path) -> Box:
    """Return a box on a workbench with keys, data, video and settings."""
    box = Box.of(tmp_path / "box", tmp_path / "agent.toml")
    load_or_create_key(box.store) if box.store.mkdir() is None else None
    for name in ("tls/0001/device.key", "tls/0001/ca.crt", "packages/x/clip.mp4", "fitting/a.pdf", "video/1.mp4"):
        path = box.store / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"SECRET")
    (box.store / "tls" / "current").symlink_to("0001")
    box.config.write_text('# ours\n[vehicle]\nvin = "1M8GDM9AXKP042788"\n\n[trips]\nstart_m = 60.0\n')
    with Store.open(box.store) as store:
        store.begin_boot("boot-1")
        store.append([(S, Health(t_ns=S, source="x", state="ok", detail="x"))])
    return box


def test_a_reset_leaves_nothing_but_settings_that_are_about_no_car(tmp_path: Path) -> None:
    box = filled(tmp_path)
    kept = [(p, p.open("rb")) for p in (box.store / "device.key", box.store / "tls" / "0001" / "device.key")]
    before = [file.read() for _, file in kept]
    gone = {g.what: g.files for g in erase(box, lambda _: None)}
    for (path, file), was in zip(kept, before, strict=True):
        file.seek(0)
        assert file.read() != was  # the bytes themselves, not only the name
        assert not path.exists()
        file.close()
    assert list(box.store.iterdir()) == []
    assert box.config.read_text() == "# ours\n[trips]\nstart_m = 60.0\n"
    assert gone["key of the box, its name"] == 1
    assert gone["certificate and its key"] == 3
    assert sum(g.files for g in erase(box, lambda _: None)) == 0  # again, after a power cut


def test_a_box_whose_receiver_cannot_be_told_stays_as_it_is_unless_that_is_forced(tmp_path: Path) -> None:
    box = filled(tmp_path)
    box.config.write_text('[broker]\nurl = "mqtt://127.0.0.1:1"\n')  # nobody listens at port 1
    last, nobody = word.of_end("reset", "Ann", "sold"), NoService()
    with pytest.raises(NotToldError, match="only on this box; nothing was changed"):
        end(box, nobody, last, erasing=True, seconds=0.2)  # type: ignore[arg-type]
    assert nobody.did == ["stop", "start"]
    assert (box.store / "device.key").exists()
    with Store.open(box.store, read_only=True) as store:  # a reset that was not done is not told of later
        assert not [stored for stored in store.records(Health) if stored.record.source == "fitting"]
    done = end(box, nobody, last, erasing=True, offline=True, seconds=0.2)  # type: ignore[arg-type]
    assert (done.told, done.unsent > 0) == (False, True)
    assert list(box.store.iterdir()) == []


@pytest.mark.parametrize("films", [True, False])
def test_a_box_that_was_reset_films_again_when_it_is_fitted_again(monkeypatch: pytest.MonkeyPatch, films: bool) -> None:
    told: list[str] = []
    monkeypatch.setattr(service, "_systemctl", lambda *words: told.append(" ".join(words)))
    monkeypatch.setattr(service, "_films", lambda: films)
    box = service.Systemd()
    box.disable()
    box.start()
    agent, dashcam = service.UNIT, service.DASHCAM
    assert told[:3] == [f"disable --now {agent} {dashcam}", f"enable {agent}", f"restart {agent}"]
    assert told[3:] == [f"enable --now {dashcam}"] * films


def test_a_token_goes_only_where_nobody_listens_in(tmp_path: Path) -> None:
    for url in ("http://receiver.example.org", "ftp://x", "receiver.example.org", "https://"):
        with pytest.raises(ConfigError, match="must begin with https"):
            Desk(url, "t")
    path = tmp_path / "token"
    path.write_text("short\n")
    with pytest.raises(ConfigError, match="holds no token"):
        token_of(str(path))
    path.write_text("x" * 40 + "\n")
    assert token_of(str(path)) == "x" * 40
    with pytest.raises(RoadwitnessError, match="cannot be asked"):
        Desk("http://127.0.0.1:1", "t").unbind("rw-0123456789abcdef", "sold")


def test_json_of_a_verified_sheet_is_one_object(tmp_path: Path) -> None:
    sealed = seal(sheet(), KEY.sign)
    (tmp_path / "s.html").write_bytes(made(sheet(), sealed)["html"])
    done = CliRunner().invoke(install, ["verify", str(tmp_path / "s.html"), "--json"])
    told = json.loads(done.stdout)
    assert (told["sound"], told["verdict"], told["sheet"]) == (True, "reserved", sealed.digest)
    assert done.stdout.count("\n") == 1
