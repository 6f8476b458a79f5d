"""docs/vectors.md names the test of each vector, and those of whole programs: a box, a receiver, an emergency call."""

import ast
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from agent.channels import number
from agent.clock import monotonic_ns
from agent.config import config_dir
from agent.errors import StoreError
from agent.records import Crash, Health
from agent.store import Store
from drivers.decode.profile import load_profile
from sim.car import play
from sim.drive import simulate
from sim.elm327 import Latency
from sim.tape import drive_tape
from sim.wires import Wires
from sim.wiring import driver_tables
from tests import sample_records
from tests.syncing import free_port, until

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "vectors.md"
DOMAIN = ROOT.parent / "shared" / "reference" / "domain.md"
NAME = re.compile(r"T-[A-Z]+-(?:\d+|[A-Z]+)")
PLACED = re.compile(r"`(tests/test_\w+\.py)::(test_\w+)`")
PROGRAM = [sys.executable, "-m", "agent"]


def rows() -> dict[str, tuple[list[tuple[str, str]], str]]:
    """Return what the page says of each vector, by its first cell: its tests and where its values are from."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and (placed := PLACED.findall(line)):
            assert cells[0] not in found, cells[0]
            found[cells[0]] = (placed, cells[2])
    return found


@cache
def sources(file: str) -> dict[str, str]:
    """Return the tests of a file by name, each with its decorators and the comment above it."""
    text = (ROOT / file).read_text(encoding="utf-8")
    lines, found, above = text.splitlines(), {}, 0
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = "\n".join(lines[above : node.end_lineno])
        above = node.end_lineno or above
    return found


def test_every_test_that_the_page_names_is_there_and_says_its_vector() -> None:
    told = rows()
    assert len(told) > 60
    for vector, (placed, standing) in told.items():
        assert re.match(r"verified|from memory|proposed", standing), vector
        for file, name in placed:
            assert name in sources(file), f"{vector}: {file} has no {name}"
        if NAME.fullmatch(vector):
            missing = [name for file, name in placed if vector not in sources(file)[name]]
            assert not missing, f"{vector} stands nowhere in {missing}"


def test_no_vector_in_a_test_is_missing_from_the_page() -> None:
    named = {v for path in (ROOT / "tests").glob("test_*.py") for v in NAME.findall(path.read_text(encoding="utf-8"))}
    assert named
    assert named <= set(rows())


@pytest.mark.data
def test_the_page_has_every_vector_of_the_domains_reference() -> None:
    if not DOMAIN.exists():
        pytest.skip("../shared/reference is absent")
    assert set(NAME.findall(DOMAIN.read_text(encoding="utf-8"))) <= set(rows())


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


def test_a_receiver_starts_on_an_empty_disk_with_one_command_and_is_healthy(tmp_path: Path) -> None:
    # T-PLAT-1
    pages = f"127.0.0.1:{free_port()}"
    command = ["receiver", "serve", "--db", f"sqlite:///{tmp_path / 'r.db'}", "--http", pages]
    receiver = subprocess.Popen(
        [*PROGRAM, *command, "--embedded-broker", str(free_port())], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        until(lambda: receiver.poll() is not None or answers(f"http://{pages}/health"), "it is healthy", 100.0)
    finally:
        receiver.terminate()
        _, said = receiver.communicate(timeout=60)
    assert receiver.returncode == 0, said


@pytest.mark.timeout(240)
def test_a_box_with_an_elm327_and_a_receiver_of_positions_alone_is_ready(tmp_path: Path) -> None:
    # T-DEV-1: ready, and both sources on the one monotonic clock. The vector's 60 s are not measured here: a machine
    # that compiles the kernels first, beside other tests, needs longer
    folders, store = config_dir(), tmp_path / "store"
    tape = drive_tape(simulate("calm-city", 3, 2.0), folders, load_profile("simcar", folders))
    line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    line.bind("")  # the kernel chooses a name
    line.settimeout(180.0)
    stop = threading.Event()
    with line, Wires(tmp_path / "car", tape, latency=Latency()) as wires:
        of = driver_tables(wires)
        tables = {"consent": {"sheet": "nobody drives it"}} | {
            n: of[n] for n in ("drivers.elm327.obd", "drivers.gps.main")
        }
        text = "\n".join(f"[{n}]\n" + "".join(f"{k} = {_toml(v)}\n" for k, v in t.items()) for n, t in tables.items())
        (tmp_path / "agent.toml").write_text(text, encoding="utf-8")
        playing = threading.Thread(target=play, args=(tape, wires, stop))
        begun_ns = monotonic_ns()
        box = subprocess.Popen(
            [*PROGRAM, "agent", "--config", str(tmp_path / "agent.toml"), "--store", str(store)],
            cwd=ROOT, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"NOTIFY_SOCKET": "@" + line.getsockname()[1:].decode()},  # noqa: TID251 — as systemd would
        )  # fmt: skip
        try:
            while b"READY=1" not in line.recv(1024):
                assert box.poll() is None
            playing.start()
            until(
                lambda: box.poll() is not None or heard(store, begun_ns) >= {"Obd.Speed", "Gnss.FixType"}, "both speak"
            )
        finally:
            box.terminate()
            _, said = box.communicate(timeout=60)
            stop.set()
            if playing.ident is not None:
                playing.join()
    tape.close()
    assert box.returncode == 0, said
    assert heard(store, begun_ns) >= {"Obd.Speed", "Gnss.FixType"}


def _toml(value: object) -> str:
    return msgspec.json.encode(value).decode()


def heard(store: Path, begun_ns: int) -> set[str]:
    """Return which of two channels, one of each source, the store holds with times since `begun_ns` and until now."""
    try:
        with Store.open(store, read_only=True) as kept:
            boots = [h.boot for h in kept.records(Health)]
            block = kept.read_block(begun_ns, monotonic_ns(), boots[-1]) if boots else None
    except StoreError:
        return set()
    if block is None:
        return set()
    return {name for name in ("Obd.Speed", "Gnss.FixType") if (block["channel"] == number(name)).any()}


# EN 15722, an emergency call's minimum set of data, from docs/sources.md
MSD = "02251C0680E30A51439E2955D43800800437F80A3105669023F8A71166932185B004150043C040"
LETTERS = "0123456789ABCDEFGHJKLMNPRSTUVWXYZ"
MAS_PER_DEG = 3_600_000


class Bits:
    """ASN.1's unaligned packed encoding, read from the front."""

    def __init__(self, data: bytes) -> None:
        self._value, self.left = int.from_bytes(data), 8 * len(data)

    def take(self, bits: int) -> int:
        self.left -= bits
        return self._value >> self.left & (1 << bits) - 1


def test_what_an_emergency_call_tells_of_place_time_and_car_has_its_field_in_our_first_notice() -> None:
    # T-MSD-1: decoded bit by bit; then told as our crash, as far as one goes
    bits = Bits(bytes.fromhex(MSD))
    assert (bits.take(8), bits.take(8), bits.left) == (2, 37, 37 * 8)
    assert (bits.take(2), bits.take(4)) == (0, 0b0111)  # the two places before and the passengers are there
    assert (bits.take(8), bits.take(1), bits.take(1), bits.take(1), bits.take(5)) == (1, 1, 0, 1, 0)
    vin = "".join(LETTERS[bits.take(6)] for _ in range(17))
    assert vin == "ECALLEXAMPLE02013"
    assert (bits.take(8), bits.take(7)) == (0x7F, 0b1000000)  # seven kinds of energy, of which gasoline
    utc_s, latitude_mas, longitude_mas, direction = (bits.take(32), bits.take(32), bits.take(32), bits.take(8))
    assert (utc_s, latitude_mas - 2**31, longitude_mas - 2**31, direction) == (
        1_367_878_452,
        18_859_320,
        187_996_428,
        45,
    )
    assert [bits.take(10) - 512 for _ in range(4)] == [0, 10, 0, 30]
    assert bits.take(8) == 2
    assert bits.left < 8
    latitude, longitude = ((mas - 2**31) / MAS_PER_DEG for mas in (latitude_mas, longitude_mas))
    assert (latitude, longitude) == (pytest.approx(5.2387, abs=5e-5), pytest.approx(52.22123, abs=5e-6))
    told = replace(sample_records.crash(), latitude=latitude, longitude=longitude, heading_deg=2.0 * direction)
    heard = msgspec.json.decode(msgspec.json.encode(told), type=Crash)
    assert heard.latitude is not None
    assert heard.longitude is not None
    assert [round(d * MAS_PER_DEG) for d in (heard.latitude, heard.longitude)] == [18_859_320, 187_996_428]
    assert heard.heading_deg == 90.0
    car = Health(t_ns=told.t_ns, source="guard", state="ok", detail="", facts={"vin": vin})
    assert msgspec.json.decode(msgspec.json.encode(car), type=Health).facts["vin"] == vin
