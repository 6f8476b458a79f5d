"""`[jt808]` in receiver.toml and its commands: off by default, wrong keys named, a process that ends when told."""

import asyncio
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Engine

from agent import clock
from agent.errors import ConfigError
from receiver import db
from receiver.jt808 import messages, tables
from receiver.jt808.settings import Jt808Settings, TerminalSettings
from receiver.settings import ReceiverSettings, load_settings
from tests.pages import Desk, S, clock_at, drive
from tests.platforms import Platform, listening, settings, telling, terminal, until

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "config" / "receiver.toml"
DEVICE = "rw-0123456789abcdef"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(db.open_database(f"sqlite:///{tmp_path / 'receiver.db'}"))
    yield desk
    desk.engine.dispose()


def driven(desk: Desk) -> str:
    source = desk.enrol()
    desk.send(source, [clock_at(clock.wall_ns() - 86_400 * S), *drive()], at=clock.wall_ns() - 3600 * S)
    return source.device


def row(engine: Engine, device: str) -> Any:
    with db.reading(engine) as connection:
        return tables.row_of(connection, device)


def test_the_shipped_file_holds_every_key_of_jt808_at_its_default_and_is_off(tmp_path: Path) -> None:
    loaded = load_settings(SHIPPED)
    assert loaded == ReceiverSettings()
    assert not loaded.jt808.enabled
    text = SHIPPED.read_text(encoding="utf-8")
    _, _, table = text.partition("\n[jt808]\n")
    table, _, after = table.partition("\n# [jt808.terminals.")
    keys = [line.split(" = ")[0] for line in table.splitlines() if line and not line.startswith("#")]
    fields = list(Jt808Settings.__dataclass_fields__)
    assert sorted(keys) == sorted(f for f in fields if f != "terminals")
    shown = tmp_path / "receiver.toml"
    example, *_ = after.split("\n\n")
    lines = [line.removeprefix("# ") for line in f"[jt808.terminals.{example}".splitlines()]
    shown.write_text("\n".join(lines), encoding="utf-8")
    known = load_settings(shown).jt808.terminals[DEVICE]
    assert (known.plate, known.imei, known.plate_colour) == ("鲁A12345", "", 1)
    assert known.allowed == (1_793_462_400 * S, 1_824_998_400 * S)
    assert {line.split(" = ")[0] for line in lines[1:]} == set(TerminalSettings.__dataclass_fields__)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[jt808]\nhots = 'x'", "near names: host"),
        ("[jt808]\nenabled = true", "host and port"),
        ("[jt808]\ndatum = 'bd09'", "datum"),
        ("[jt808]\nmaker = 'twelve chars'", "maker"),
        ("[jt808]\npoll_s = 0", "above 0"),
        ("[jt808.terminals.a]\nphone = '1'", "terminal"),
        ("[jt808.terminals.a]\nphone = '1'\nterminal = 'x'\nplate = 'y'\nplate_color = 2", "near names: plate_colour"),
        ("[jt808.terminals.a]\nphone = '1x'\nterminal = 'x'\nplate = 'y'", "20 digits"),
        ("[jt808.terminals.a]\nphone = '1'\nterminal = 'x'\nplate = '\U0001f697'", "GBK"),
        (
            "[jt808.terminals.a]\nphone = '1'\nterminal = 'x'\nplate = 'y'\nconsent_from = 2026-11-01T00:00:00",
            "time zone",
        ),
        (
            "[jt808.terminals.a]\nphone = '1'\nterminal = 'x'\nplate = 'y'\n"
            "[jt808.terminals.b]\nphone = '01'\nterminal = 'z'\nplate = 'w'",
            "one phone",
        ),
    ],
)
def test_a_wrong_key_or_value_is_one_line_that_names_it(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "receiver.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        load_settings(path)
    assert told in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_consent_nothing_may_be_told() -> None:
    assert TerminalSettings(phone="1", terminal="x", plate="y").allowed == (0, 0)


def written(folder: Path, url: str, device: str, port: int) -> Path:
    path = folder / "receiver.toml"
    path.write_text(
        f'database = "{url}"\n[jt808]\nenabled = true\nhost = "127.0.0.1"\nport = {port}\npoll_s = 0.05\n'
        f'[jt808.terminals.{device}]\nphone = "13912344329"\nterminal = "RW0001"\nplate = "鲁A12345"\n'
        "consent_from = 2001-01-01T00:00:00Z\n",
        encoding="utf-8",
    )
    return path


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "agent", "receiver", "jt808", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)


def test_the_command_tells_until_it_is_stopped_and_status_says_how_far(desk: Desk, tmp_path: Path) -> None:
    device, url = driven(desk), str(desk.engine.url)

    async def scenario() -> None:
        async with listening(Platform()) as platform:
            config = str(written(tmp_path, url, device, platform.port))
            command = [sys.executable, "-m", "agent", "receiver", "jt808", "run", "--config", config]
            process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stderr=asyncio.subprocess.PIPE)
            await platform.until(lambda: len(platform.kept) == 31, 60)
            await until(lambda: row(desk.engine, device).told == 31)
            process.terminate()
            _, said = await asyncio.wait_for(process.communicate(), 30)
            assert process.returncode == 0, said
            assert b"Traceback" not in said

    asyncio.run(scenario())
    config = str(tmp_path / "receiver.toml")
    shown = json.loads(run("status", "--config", config, "--json").stdout)
    [one] = shown["terminals"]
    assert (one["device"], one["state"], one["told"], one["refused"], one["waiting"]) == (device, "stopped", 31, 0, 0)
    plain = run("status", "--config", config).stdout
    assert "鲁A12345  stopped: the gateway is not running  31 told, 0 records wait" in plain


def test_a_gateway_that_is_off_says_what_to_set() -> None:
    done = run("run")
    assert done.returncode != 0
    assert "enabled = true" in done.stderr
    assert "Traceback" not in done.stderr
    with_none = run("status", "--config", str(SHIPPED), "--db", "sqlite://")
    assert "names no device" in with_none.stdout


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Make a platform's own certificate for 127.0.0.1; give its file and the platform's context."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "platform")])
    now = datetime.now(UTC)  # noqa: TID251 - a certificate for the moment
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    own = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    signed = made.add_extension(own, critical=False).sign(key, hashes.SHA256())
    pem, secret = folder / "platform.pem", folder / "platform.key"
    pem.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    forms = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    secret.write_bytes(key.private_bytes(*forms))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, secret)
    return pem, context


def test_tls_is_checked_against_the_authority_that_is_named(desk: Desk, tmp_path: Path) -> None:
    device = driven(desk)
    pem, context = certificate(tmp_path)

    async def scenario() -> None:
        async with listening(Platform(), ssl=context) as platform:
            asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the handshakes that fail
            stranger = settings(platform.port, {device: terminal()}, tls=True)
            async with telling(desk.engine, stranger):
                await until(lambda: (r := row(desk.engine, device)) is not None and r.state == "broken")
                assert "certificate" in row(desk.engine, device).detail.lower()
            assert platform.heard == []
            async with telling(desk.engine, settings(platform.port, {device: terminal()}, tls=True, ca=str(pem))):
                await platform.until(lambda: len(platform.kept) == 31)
            assert platform.ids()[0] == messages.REGISTER

    asyncio.run(scenario())
