"""A box is fitted from the first plug to the signed sheet, in a real car's wires, and at last made to forget it all."""

import html
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from io import StringIO
from pathlib import Path

import pytest
import tomlkit
from rich.console import Console

from agent import clock
from agent.config import config_dir
from agent.enrolment.enrol import signer_of
from agent.fitting import beginning, leaving
from agent.fitting.leaving import Plan
from agent.fitting.sheet import short
from agent.fitting.talk import Unattended
from agent.fitting.verify import verify
from drivers.decode.profile import load_profile
from receiver import commands, db
from receiver.mqtt import Reception
from receiver.registry import bindings
from receiver.texts import text
from sim.car import play
from sim.drive import simulate
from sim.elm_car import VIN
from sim.tape import drive_tape
from sim.wires import Wires
from tests.enrolling import Insurer
from tests.pages import client
from tests.registering import car, registered

STANDS_S = 10.0  # of the drive: then the car drives off
SPEED = 4.0  # of the drive from then on: half a minute is two minutes of it
ANSWERS = """
by = "李雷 Li Lei, workshop 12"
skip = {{ wiring = "seen on the bench", mount = "learned on the way" }}
[look]
serial = ["{folder}/car/tty-*"]
not_serial = []
gpsd = "{gpsd}"
iio = "{folder}/car/iio/sys"
dev = "{folder}/car/iio/dev"
net = "{folder}/none"
video = "{folder}/none"
[enrolment]
url = "{url}"
code = "{enrol}"
[vehicle]
vin = "{vin}"
[binding]
code = "{bind}"
[drive]
seconds = 60
close_s = 60
confidence = 0.01
agree_s = 3
fix_s = 2
turn_deg = 15
rate_share = 0.3
[settings.vehicle]
vin = "{vin}"
[settings.consent]
sheet = "sheet 4711 of 2026-11-01"
[settings.trips]
engine_off_s = 1.0
standing_s = 2.0
[settings.sync]
retry_s = 0.1
"""


class Car:
    """The virtual car: it stands slowly until `drive_off`, then it drives fast; both on the same wires."""

    def __init__(self, folder: Path) -> None:
        profile = load_profile("simcar", config_dir())
        self._tape = drive_tape(simulate("calm-city", 4, 4.0), config_dir(), profile)
        self.wires = Wires(folder, self._tape)
        self.wires._car.vin = VIN
        self._stop, self._off = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def drive_off(self) -> None:
        self._off.set()

    def _play(self) -> None:
        standing = play(self._tape, self.wires, self._off, speed=0.2)["played_s"]
        start_ns = clock.monotonic_ns() - round(standing / SPEED * 1e9)
        play(self._tape, self.wires, self._stop, speed=SPEED, start_ns=start_ns)

    def close(self) -> None:
        self._off.set()
        self._stop.set()
        self._thread.join(60)
        self.wires.close()
        self._tape.close()


class Driver(Unattended):
    """Nobody answers, and the car drives off when the wizard is ready for it."""

    def __init__(self, car: Car) -> None:
        self.out = StringIO()
        super().__init__(Console(file=self.out, width=100), "answers.toml")
        self._car = car

    def choose(self, question: str, options: dict[str, str], default: str) -> str:
        if question == "Ready?":
            self._car.drive_off()
        return super().choose(question, options, default)


@pytest.fixture
def insurer(tmp_path: Path) -> Iterator[Insurer]:
    (tmp_path / "insurer").mkdir()
    made = Insurer(tmp_path / "insurer")
    yield made
    made.close()


@pytest.mark.timeout(300)  # a minute on a machine of its own; half of that the car drives
def test_a_box_is_fitted_accepted_and_at_last_reset(
    insurer: Insurer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sim.car.TICK_NS", 40_000_000)  # as good for this, and a quarter of the work
    engine, store, config = insurer.engine, tmp_path / "box", tmp_path / "agent.toml"
    insurer.start_broker()
    registered(engine, car(vin=VIN))
    with engine.begin() as connection:
        code = bindings.offer(connection, VIN, clock.wall_ns())
    with ExitStack() as stack:
        reception = Reception(engine, insurer.as_receiver(), key=commands.command_key(insurer.settings))
        reception.start()
        stack.callback(reception.stop)
        wires = Car(tmp_path / "car")
        stack.callback(wires.close)
        gpsd = wires.wires.described["gpsd"]
        answers = tmp_path / "answers.toml"
        answers.write_text(
            ANSWERS.format(
                folder=tmp_path,
                gpsd=f"{gpsd['host']}:{gpsd['port']}",
                url=insurer.pages(),
                enrol=insurer.code(),
                vin=VIN,
                bind=f"{code[:4]}-{code[4:].lower()}",
            ),
            encoding="utf-8",
        )
        driver = Driver(wires)
        monkeypatch.setattr(beginning, "_talk", lambda *_: driver)
        fitting = beginning.fit(config, store, answers, [])
        device = signer_of(store).device

        # the sheet
        states = {(i.step, i.name): (i.state, i.value) for ones in fitting.progress.done.values() for i in ones}
        drive = {name: state for (step, name), (state, _) in states.items() if step == "drive"}
        assert {n for n, s in drive.items() if s != "pass"} == {"Mount", "Cameras"}, driver.out.getvalue()
        assert states["vin", "VIN"] == ("pass", f"{VIN}: the car tells the same")
        assert states["binding", "Binding"] == ("pass", f"{device} is bound to {VIN}")
        assert states["mount", "Mount"] == ("skip", "learned on the way")
        for path in fitting.made.values():
            verified = verify(path)
            assert verified.shown
            assert (verified.sheet.device, verified.sheet.vin, verified.sheet.by) == (
                device,
                VIN,
                "李雷 Li Lei, workshop 12",
            )

        # what the receiver has of it
        with db.reading(engine) as connection:
            bound = bindings.of_device(connection, device)
        assert bound is not None
        assert (bound.vin, bound.bound_by) == (VIN, device)
        page = client(engine, "technician").get(f"/devices/{device}?lang=en").text
        assert short(verified.digest) in page

        # and the end
        done = json.loads(leaving.reset(Plan(store, config, "Ann", "sold", device, True, False), as_json=True))
        assert (done["device"], done["told"], done["unsent"]) == (device, True, 0)
        assert [path.name for path in store.iterdir()] == []
        assert tomlkit.parse(config.read_text()).unwrap() == {
            "trips": {"engine_off_s": 1.0, "standing_s": 2.0}, "sync": {"retry_s": 0.1}
        }  # fmt: skip
        page = client(engine, "technician").get(f"/devices/{device}?lang=en").text
        assert text("en")("box.fitting.reset_help") in html.unescape(page)
