"""`roadwitness obd` on the wires that cars have: adapters good, cloned and hostile, and raw CAN; and clearing codes."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.clock import monotonic_ns
from agent.errors import ConfigError, StoreError
from agent.local import client
from agent.local.messages import UNHEARD
from agent.records import Health
from agent.store import Store
from agent.vehicle import clearing, keeping
from agent.vehicle.asking import Spoken
from agent.vehicle.devices import for_frames, for_questions, held, named_channel
from agent.vehicle.dtc import CODE, Meanings, meaning, meanings
from drivers.can.wire import CanSettings
from drivers.diagnosis import Reading
from sim.elm327 import FakeElm, PtyElm
from sim.elm_car import ENGINE, GEARBOX, VIN, Car
from sim.slcan import SlcanAdapter
from sim.units_on_can import UnitsOnCan
from tests.command_line import Ended, ran

STILL = {"rpm": 0.0, "speed_kmh": 0.0}
CODES = "C0123,P0133,P0420"


def parked() -> Car:
    return Car(units=(ENGINE, GEARBOX), values=lambda t_ns: STILL)


class Bench:
    """A car behind one wire, and the command line."""

    def __init__(self, run: Callable[..., Ended], folder: Path, wire: list[str], car: Car) -> None:
        self._run, self.store, self.wire, self.car = run, folder / "store", wire, car
        self._config = folder / "agent.toml"
        self._config.write_text("")

    def __call__(self, *arguments: str) -> Ended:
        return self._run("obd", *arguments, *self.wire, "--config", str(self._config), "--store", str(self.store))

    def json(self, *arguments: str) -> dict:
        ended = self(*arguments, "--json")
        assert ended.returncode == 0, ended.stdout
        told: dict = json.loads(ended.stdout)
        return told


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    monkeypatch.setenv("COLUMNS", "100")
    return lambda *arguments: ran(capsys, monkeypatch, *arguments)


@pytest.fixture
def elm(tmp_path: Path, run: Callable[..., Ended]) -> Iterator[Bench]:
    car = parked()
    adapter = PtyElm(FakeElm(car), tmp_path / "elm")
    yield Bench(run, tmp_path, ["--port", str(adapter.path)], car)
    adapter.stop()


@pytest.fixture
def can(tmp_path: Path, run: Callable[..., Ended]) -> Iterator[Bench]:
    car = parked()
    units = UnitsOnCan(car)
    adapter = SlcanAdapter(tmp_path / "slcan", hear=lambda i, data: units.hear(i, data, monotonic_ns()))
    yield Bench(run, tmp_path, ["--channel", str(adapter.path), "--bit-rate", "500000"], car)
    adapter.stop()


@pytest.mark.parametrize("wire", ["elm", "can"])
def test_every_question_is_answered_alike_over_an_adapter_and_on_can(wire: str, request: pytest.FixtureRequest) -> None:
    bench: Bench = request.getfixturevalue(wire)
    scan = bench.json("scan")
    assert scan["identity"]["vin"] == VIN
    assert scan["protocol"].startswith("ISO 15765-4 CAN (11 bit")
    assert scan["units"] == {"7E8": 17, "7EA": 3}
    assert {c["code"] for c in scan["codes"]} == set(CODES.split(","))
    ready = scan["readiness"]
    assert (ready["mil"], ready["codes"], ready["compression"]) == (True, 2, False)
    assert (ready["monitors"]["misfire"], ready["monitors"]["catalyst"]) == (True, False)
    frame = bench.json("freeze")
    assert (frame["unit"], frame["code"]) == ("7E8", "P0133")
    assert {v["name"]: v["value"] for v in frame["values"]}["coolant_temperature"] == 88.0
    pids = bench.json("pids")["pids"]
    coolant = next(p for p in pids if p["pid"] == "05")
    assert coolant["values"] == [{"name": "coolant_temperature", "value": 88.0, "measure": "degC"}]
    assert scan["identity"]["check_digit"] == "right"
    rows = bench("monitor", "engine_speed", "0D", "--rounds", "2", "--json").stdout.splitlines()
    assert [len(json.loads(row)["values"]) for row in rows] == [3, 3], "speed comes from both units"


def test_tables_say_the_same_in_words(elm: Bench) -> None:
    bench = elm
    told = bench("dtc").stdout
    assert "oxygen sensor reacts slowly (bank 1, sensor 1)" in told
    assert "pending: seen once" in told
    assert "Self-tests" in bench("scan").stdout
    assert "coolant temperature" in bench("freeze").stdout
    assert "engine_speed 0 rpm" in bench("monitor", "0C", "--rounds", "1").stdout
    assert "check digit right" in bench("vin").stdout
    assert "lamp and self-tests: see readiness" in bench("pids").stdout
    assert "not yet" in bench("readiness").stdout


def test_codes_are_not_cleared_unless_they_are_named_and_it_can_be_recorded(elm: Bench) -> None:
    assert "no store, so the change could not be recorded" in elm("dtc", "--clear", "--codes", CODES).stderr
    Store.open(elm.store).close()
    for wrong in ([], ["--codes", "P0133"], ["--codes", "P0133,P0420,C0123,P0001"]):
        ended = elm("dtc", "--clear", *wrong)
        assert (ended.returncode, "nothing was cleared" in ended.stderr) == (1, True)
    elm.car.values = lambda t_ns: {"rpm": 800.0, "speed_kmh": 0.0}
    ended = elm("dtc", "--clear", "--codes", CODES)
    assert (ended.returncode, "the engine runs (800 rpm)" in ended.stderr) == (1, True)
    assert elm.car.codes[0x03]


@pytest.mark.parametrize("wire", ["elm", "can"])
def test_codes_that_are_named_are_cleared_and_what_was_done_is_kept(wire: str, request: pytest.FixtureRequest) -> None:
    bench: Bench = request.getfixturevalue(wire)
    Store.open(bench.store).close()
    told = bench.json("dtc", "--clear", "--codes", "p0420, C0123 ,P0133")
    assert told["cleared"] == ["7E8", "7EA"]
    assert (told["after"]["codes"], told["before"]["freeze"]["code"]) == ([], "P0133")
    assert (bench.car.codes[0x03], bench.car.codes[0x07]) == ((), ())
    with closing(Store.open(bench.store, read_only=True)) as store:
        before, after = [s.record for s in store.records(Health)]
    assert (before.state, after.state) == ("degraded", "ok")
    assert after.facts["about"] == f"C0123 P0133 P0420, by {keeping.who()}"
    assert "cleared by 7E8, 7EA" in after.detail
    assert bench("dtc", "--clear").stdout.splitlines()[-1] == "There is nothing to clear."


@pytest.mark.parametrize(
    ("readings", "why"),
    [
        ([], "no control unit says"),
        ([("7E8", 0x0C, 0.0)], ""),
        ([("7E8", 0x0D, 0.0)], ""),  # electric cars have no engine speed
        ([("7E8", 0x0C, 0.0), ("7EA", 0x0D, 3.0)], "the car moves"),
        ([("7E8", 0x0C, 0.0), ("7EA", 0x0C, 650.0)], "the engine runs"),
    ],
)
def test_the_engine_must_be_known_to_stand(readings: list[tuple[str, int, float]], why: str) -> None:
    assert clearing.hindrance([Reading(u, p, "x", v, "") for u, p, v in readings]).startswith(why)
    assert bool(clearing.hindrance([Reading(u, p, "x", v, "") for u, p, v in readings])) == bool(why)


@pytest.mark.parametrize(
    ("protocol", "headers", "said", "cleared", "refused"),
    [
        ("6", True, b"7E8 01 44 \r7EA 01 44 \r\r>", ("7E8", "7EA"), {}),
        (
            "6",
            True,
            b"7E80144\r7EA037F0422\r\r>",
            ("7E8",),
            {"7EA": "conditions are not right: ignition on, engine off"},
        ),
        ("7", True, b"18DAF110 03 7F 04 78\r18DAF110 01 44\r\r>", ("18DAF110",), {}),
        ("3", True, b"48 6B 10 44 07 \r\r>", ("10",), {}),
        ("6", False, b"44\r\r>", ("bare",), {}),
        ("6", True, b"7E80144FFFFFF", (), {}),
        ("6", True, b"NO DATA\r\r>", (), {}),
        ("6", True, b"\xff\xfe44\x00>", (), {}),
    ],
)
def test_what_an_adapter_says_about_clearing_is_believed_only_whole(
    protocol: str,
    headers: bool,
    said: bytes,
    cleared: tuple[str, ...],
    refused: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Scripted:
        def __init__(self, port: str) -> None:
            self.out: list[bytes] = []

        def open(self, baud: int) -> None:
            assert baud == 9600

        def write(self, data: bytes) -> None:
            self.out.append(b"ELM327\r\r>" if data == b"ATI\r" else said)

        def read(self, timeout_s: float) -> bytes:
            return self.out.pop() if self.out else b">"

        def close(self) -> None: ...

    monkeypatch.setattr(clearing, "SerialLine", Scripted)
    device = for_questions(None, port="/dev/none")
    spoken = Spoken(9600, protocol, headers)
    if cleared or refused:
        outcome = clearing.clear(device, spoken)
        assert (outcome.cleared, outcome.refused) == (cleared, refused)
    else:
        with pytest.raises(Exception, match=r"no control unit answered|not cleared: NO DATA"):
            clearing.clear(device, spoken)


@pytest.mark.parametrize("fault", ["version_1_5", "no_headers", "spaces_stay", "echo_on", "lower_case", "nul_bytes"])
def test_a_clone_is_asked_too(fault: str, tmp_path: Path, run: Callable[..., Ended]) -> None:
    fake = FakeElm(Car(values=lambda t_ns: STILL))
    fake.inject(fault)
    adapter = PtyElm(fake, tmp_path / "elm")
    bench = Bench(run, tmp_path, ["--port", str(adapter.path)], fake.car)
    try:
        told = bench.json("dtc")
        assert [c["code"] for c in told["codes"]] == ["P0133", "C0123", "P0420"]
        assert any("clone" in note for note in told["notes"]) == (fault == "version_1_5")
        assert fake.forbidden == []
    finally:
        adapter.stop()


@pytest.mark.parametrize(
    ("fault", "words"),
    [("garbage", "/dev/pts/"), ("no_data", "gave no answer within"), ("unplugged", "elm: ")],
)
def test_a_hostile_or_dead_adapter_ends_in_one_line(
    fault: str, words: str, tmp_path: Path, run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drivers.elm327.QUESTION_S", 1.0)
    fake = FakeElm(Car())
    fake.inject(fault)
    adapter = PtyElm(fake, tmp_path / "elm")
    port = adapter.path.resolve() if fault == "garbage" else adapter.path  # a pty by its own name has one rate to try
    if fault == "unplugged":
        adapter.unplug()
    try:
        ended = Bench(run, tmp_path, ["--port", str(port)], fake.car)("dtc")
    finally:
        adapter.stop()
    assert ended.returncode == 1
    assert words in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "Traceback" not in ended.stderr
    assert fake.forbidden == []


# --- which wire


def test_the_wire_is_that_of_the_configuration_or_the_one_named(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(
        '[drivers.canbus.quiet]\nchannel = "can1"\n[drivers.obdcan.obd]\nchannel = "can0"\ntransmit = true\n'
        '[drivers.elm327.plug]\nport = "/dev/rfcomm0"\nbaud = 9600\n'
    )
    assert for_questions(config).name == "elm327:/dev/rfcomm0"
    assert for_questions(config, "obd").name == "obdcan:can0"
    assert for_questions(config, port="/dev/rfcomm0").table == "drivers.elm327.plug"
    assert for_questions(config, port="/dev/other").table == ""
    named = for_questions(config, channel=named_channel("can0", "", 250_000))
    assert isinstance(named.settings, CanSettings)
    assert (named.name, named.settings.transmit, named.settings.bit_rate) == ("obdcan:can0", True, 250_000)
    listened = for_frames(config, "obd")
    assert isinstance(listened.settings, CanSettings)
    assert not listened.settings.transmit
    serial = named_channel("/dev/ttyACM0", "", 0)
    assert serial is not None
    assert isinstance(serial.settings, CanSettings)
    assert serial.settings.interface == "slcan"
    with pytest.raises(ConfigError, match=r"device 'oobd' is not in agent.toml \(near names: obd\)"):
        for_questions(config, "oobd")
    config.write_text("")
    with pytest.raises(ConfigError, match="name one: --port"):
        for_questions(config)


def test_a_device_of_the_daemon_is_borrowed_and_a_shared_socket_only_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, str, str]] = []

    class Loan:
        def __init__(self, folder: Path, device: str, purpose: str, seconds: float, about: str = "") -> None:
            asked.append((device, purpose, about))

        def __enter__(self) -> SimpleNamespace:
            return SimpleNamespace(check=lambda: None)

        def __exit__(self, *_: object) -> None: ...

    known = SimpleNamespace(devices=[SimpleNamespace(name="canbus:can0"), SimpleNamespace(name="elm327:/dev/x")])
    monkeypatch.setattr(client, "status", lambda folder: known)
    monkeypatch.setattr(client, "lend", Loan)
    elm = for_questions(None, port="/dev/x")
    bus = for_frames(None, channel=named_channel("can0", "", 0))
    with held(elm, tmp_path, "technician: obd dtc", asks=True), held(bus, tmp_path, "technician: can", asks=False):
        assert asked == [("elm327:/dev/x", "technician: obd dtc", "")]
    with keeping.kept(elm, tmp_path, None, "P0301, by me"):
        assert asked[-1] == ("elm327:/dev/x", "clear", "P0301, by me")
    with (
        pytest.raises(ConfigError, match="does not read this device"),
        keeping.kept(for_questions(None, port="/dev/y"), tmp_path, None, ""),
    ):
        pass


def test_nothing_is_changed_where_it_cannot_be_recorded(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match="no store"),
        keeping.kept(for_questions(None, port="/dev/y"), tmp_path, None, ""),
    ):
        pass
    assert os.listdir(tmp_path) == []


# --- what codes mean


@pytest.mark.parametrize(
    ("code", "words", "origin", "known"),
    [
        ("P0301", "misfire in cylinder 1", "standard", True),
        ("P0210", "injector circuit of cylinder 10", "standard", True),
        ("P0159", "oxygen sensor reacts slowly (bank 2, sensor 2)", "standard", True),
        ("P0773", "shift solenoid E: electrical fault", "standard", True),
        ("P1234", "defined by the car's maker", "maker", False),
        ("P3012", "defined by the car's maker", "maker", False),
        ("C1234", "defined by the car's maker", "maker", False),
        ("P0999", "gearbox", "standard", False),
        ("U0100", "engine control unit A is not heard", "standard", True),
        ("B3000", "reserved", "reserved", False),
    ],
)
def test_a_code_is_told_by_its_own_words_or_by_its_structure(code: str, words: str, origin: str, known: bool) -> None:
    told = meaning(code)
    assert words in told.text
    assert (told.origin, told.known) == (origin, known)


def test_every_text_is_one_short_line_of_a_standard_code() -> None:
    codes = meanings().codes
    assert len(codes) > 900
    for code, text in codes.items():
        assert CODE.fullmatch(code)
        assert meaning(code).origin == "standard", code
        assert 5 < len(text) <= 100
        assert "{" not in text
        assert "\n" not in text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[systems]\n[origins]\n[subjects]\n[codes]\nP9999 = "x"\n', "missing required field"),
        ('series = []\n[systems]\n[origins]\n[subjects]\n[codes]\nP9999 = "x"\n', "'P9999' is no trouble code"),
        (
            '[systems]\n[origins]\n[subjects]\n[codes]\nP0001 = "x"\n'
            '[[series]]\nfirst="P0001"\nplaces=["a"]\ntexts=["b"]\n',
            "described twice",
        ),
    ],
)
def test_a_wrong_table_of_codes_is_refused_in_one_line(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "dtc.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=why):
        Meanings(path)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("7E8 04 41 0C 1A F8", {"engine_speed": 1726.0}),
        ("7E8 06 41 00 BE 3E B8 11\n7E8 03 41 0D 32", {"vehicle_speed": 50.0}),
        ("nonsense", None),
    ],
)
def test_an_answer_that_somebody_wrote_down_is_read(
    text: str, values: dict[str, float] | None, run: Callable[..., Ended]
) -> None:
    ended = run("obd", "decode", text, "--json")
    told = json.loads(ended.stdout)
    if values is None:
        assert (ended.returncode, "error" in told) == (1, True)
    else:
        assert values.items() <= {v["name"]: v["value"] for v in told["values"]}.items()


@pytest.mark.parametrize(("typed", "cleared"), [("clear", True), ("yes", False), ("", False)])
def test_on_a_terminal_a_word_is_typed(
    typed: str, cleared: bool, elm: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Store.open(elm.store).close()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("typer.prompt", lambda *_, **__: typed)
    ended = elm("dtc", "--clear")
    assert ended.returncode == (0 if cleared else 1)
    assert "not ready for an emission test for days" in " ".join(ended.stdout.split())
    assert bool(elm.car.codes[0x03]) != cleared


@pytest.mark.parametrize(("reason", "asked"), [(UNHEARD, 3), ("the car moves", 1)])
def test_the_agent_is_asked_again_while_it_has_not_heard_of_the_car_yet(
    reason: str, asked: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[str] = []

    @contextmanager
    def lend(folder: Path, device: str, purpose: str, seconds: float, about: str) -> Iterator[SimpleNamespace]:
        calls.append(about)
        if len(calls) < 3:
            raise client.RefusedError(f"nothing is changed in a vehicle: {reason}")
        yield SimpleNamespace(check=lambda: None)

    known = SimpleNamespace(devices=[SimpleNamespace(name="elm327:/dev/x")])
    monkeypatch.setattr(client, "status", lambda folder: known)
    monkeypatch.setattr(client, "lend", lend)
    monkeypatch.setattr(keeping, "AGAIN_S", 0.0)
    kept = keeping.kept(for_questions(None, port="/dev/x"), tmp_path, None, "P0301, by me")
    with nullcontext() if asked == 3 else pytest.raises(client.RefusedError), kept:
        pass
    assert calls == ["P0301, by me"] * asked
