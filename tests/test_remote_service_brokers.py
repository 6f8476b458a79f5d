"""Every command of remote service once, from the receiver's command line through a real broker to a real daemon.

The daemon runs in a thread and is started again as systemd would; the car is a simulated adapter on a real terminal.
"""

import io
import json
import logging
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agent import clock
from agent.blocks import Block, make_block
from agent.channels import number
from agent.commands.settings import COMMANDS
from agent.daemon import Daemon, Place
from agent.dashcam.restarting import Restarting
from agent.dashcam.watch import VIDEO
from agent.link import BrokerSettings
from agent.records import Reply
from agent.settings import start_agent
from agent.store import Store
from receiver import commands, db, devices, packages
from receiver.cli import app
from receiver.mqtt import Reception
from receiver.service import answers
from sim.elm327 import FakeElm, PtyElm
from sim.elm_car import Car
from tests.syncing import free_port, mosquitto, until
from tests.uploading import file_store

S = clock.NS_PER_S
LONG_S = 120.0


class Sky:
    """A device that gives satellite time and the place of a car that stands."""

    name = "sky"

    def open(self) -> None:
        pass

    def read(self, timeout_s: float) -> Block:
        clock.wait(threading.Event(), min(timeout_s, 0.1))
        t_ns, now_s = clock.monotonic_ns(), clock.wall_ns() / S
        values = (("Gnss.Time", now_s), ("Gnss.Latitude", 31.2304), ("Gnss.Longitude", 121.4737))
        return make_block([(t_ns, number(name), value) for name, value in values])

    def close(self) -> None:
        pass


class Box:
    """A daemon on its store, started again whenever it ends, as systemd does."""

    def __init__(self, folder: Path, settings: str) -> None:
        self.folder = folder
        self.config = folder / "agent.toml"
        folder.mkdir()
        (folder / VIDEO / "keep").mkdir(parents=True)
        self.config.write_text(settings)
        self.starts = 0
        self._stopping = False
        self._daemon: Daemon | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stopping:
            settings = start_agent(self.config, self.folder)
            self._daemon = Daemon(settings, Place(self.folder, self.config, boot="b" * 32), [Sky])
            self.starts += 1
            self._daemon.run()

    def __enter__(self) -> "Box":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        if self._daemon is not None:
            self._daemon.stop()
        self._thread.join(60)


class Desk:
    """A receiver, and who sits before it."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.url = f"sqlite:///{folder / 'receiver.db'}"
        self.engine = db.open_database(self.url)
        self.files = file_store(folder / "files")
        self.reception = Reception(
            self.engine,
            BrokerSettings(url=broker),
            files=self.files,
            on_package=partial(packages.arrived, self.engine, self.files),
        )

    def run(self, *words: str) -> str:
        done = CliRunner().invoke(app, [*words, "--db", self.url])
        assert done.exit_code == 0, (done.output, done.exception)
        return done.stdout.strip()

    def ask(self, device: str, *words: str) -> str:
        said = self.run("command", words[0], device, *words[1:], "--reason", "why", "--actor", "tech", "--json")
        return str(json.loads(said)["command"])

    def over(self, device: str, command: str) -> answers.Answer:
        """Wait until a command is over and its files are here."""

        def found() -> answers.Answer | None:
            answer = answers.answer(self.engine, self.files, device, command, clock.wall_ns())
            assert answer is not None
            failed = answer.asked.state in ("failed", "refused")
            done = answer.asked.state == "done" and (answer.asked.incident is None or bool(answer.files))
            return answer if failed or (done and self._whole(device, answer)) else None

        until(lambda: found() is not None, f"{command} is over", LONG_S)
        answer = found()
        assert answer is not None
        return answer

    def _whole(self, device: str, answer: answers.Answer) -> bool:
        incident = answer.asked.incident
        return incident is None or all(p.whole for p in packages.progress(self.engine, device, incident))


@pytest.fixture
def adapter(tmp_path: Path) -> Iterator[PtyElm]:
    pty = PtyElm(FakeElm(Car()), tmp_path / "ttyELM")
    yield pty
    pty.stop()


@pytest.mark.timeout(400)  # five starts of a daemon and three of its waits; half a minute on a quiet machine
def test_each_command_is_obeyed_once_by_a_real_daemon_over_a_real_broker(tmp_path: Path, adapter: PtyElm) -> None:
    with mosquitto(tmp_path) as broker:
        desk = Desk(tmp_path, broker.url)
        settings = f"""
            [commands]
            keys = ["{desk.run("command-key")}"]
            allow = {json.dumps(COMMANDS)}
            [consent]
            sheet = "sheet 17"
            purposes = ["recording", "track"]
            [broker]
            url = "{broker.url}"
            [sync]
            retry_s = 0.05
            retry_cap_s = 0.4
            [drivers.elm327.obd]
            port = "{adapter.path}"
        """
        box = Box(tmp_path / "agent", settings)
        with Store.open(box.folder) as store:
            device = store.device
            devices.enrol(desk.engine, store.public_key.hex())
        desk.reception.start()
        try:
            with box:
                _ask_everything(desk, box, device)
        finally:
            desk.reception.stop()
            desk.engine.dispose()
    with Store.open(box.folder, read_only=True) as store:
        replies = [(r.record.id, r.record.state) for r in store.records(Reply)]
        assert len(set(replies)) == len(replies)  # nothing was told twice, over three starts
        assert store.verify().ok


def _ask_everything(desk: Desk, box: Box, device: str) -> None:
    begun_ns = clock.wall_ns()
    doctor = desk.over(device, desk.ask(device, "doctor", "--group", "config"))
    assert doctor.asked.state == "done", doctor.asked.detail
    assert doctor.findings
    dtc = desk.over(device, desk.ask(device, "dtc"))
    assert dtc.asked.state == "done", dtc.asked.detail
    assert dtc.codes is not None
    asked = desk.ask(device, "log-level", "info", "--minutes", "1")
    until(lambda: _state(desk, device, asked) == "accepted", "the level is set", LONG_S)
    assert logging.getLogger("agent").level == logging.INFO

    kept = desk.over(device, desk.ask(device, "config", "--set", "sync.window=3", "--within", "2"))
    assert (kept.asked.state, box.starts) == ("done", 2), kept.asked.detail
    assert desk.over(device, asked).asked.state == "done"  # the start ended it
    nowhere = f'broker.url="mqtt://127.0.0.1:{free_port()}"'
    lost = desk.over(device, desk.ask(device, "config", "--set", nowhere, "--within", "0.084"))
    assert lost.asked.state == "failed"
    assert "taken back: the receiver did not answer within 5 s" in lost.asked.detail
    assert box.starts == 4
    started = desk.over(device, desk.ask(device, "restart"))
    assert (started.asked.state, box.starts) == ("done", 5)

    dashcam, asked = Restarting(box.folder / VIDEO), desk.ask(device, "restart", "--part", "dashcam")
    until(dashcam.wanted, "the dashcam is asked to end", LONG_S)
    Restarting(box.folder / VIDEO)
    assert desk.over(device, asked).asked.state == "done"

    span = [clock.iso_utc(t) for t in (begun_ns, clock.wall_ns())]
    track = desk.over(device, desk.ask(device, "track", "--from", span[0], "--to", span[1]))
    assert track.asked.state == "done", track.asked.detail
    assert {"track.csv", "track.gpx", "manifest.sig"} <= {f.name for f in track.files}

    bundle = desk.over(device, desk.ask(device, "bundle"))
    assert bundle.asked.state == "done", bundle.asked.detail
    with desk.files.open(device, str(bundle.asked.incident), "support.zip") as file:
        found = zipfile.ZipFile(io.BytesIO(file.read()))
    status: dict[str, Any] = json.loads(found.read("status.json"))  # the daemon was asked by its own socket
    assert (status["device"], status["sync"]["phase"]) == (device, "sending")
    assert b"31.2304" not in found.read("health.json")


def _state(desk: Desk, device: str, command: str) -> str:
    found = commands.one(desk.engine, device, command, clock.wall_ns())
    assert found is not None
    return found.state
