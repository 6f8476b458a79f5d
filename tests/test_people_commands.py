"""`roadwitness receiver people` and `tokens`, where pages may be served, and how a process is told to end."""

import json
import os
import signal
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from sqlalchemy import Engine
from typer.testing import CliRunner

from agent.clock import wall_ns
from agent.errors import ConfigError, RoadwitnessError
from receiver import access, db, exposure, serve
from receiver.cli import app
from receiver.ending import Ending
from receiver.people import accounts, invites, tokens
from receiver.settings import HttpSettings, ReceiverSettings, load_settings
from tests.syncing import until


def run(url: str, *asked: str) -> str:
    done = CliRunner().invoke(app, [*asked, "--db", url], catch_exceptions=True)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def test_people_are_made_reset_and_disabled_and_each_deed_is_in_the_log(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'r.db'}"
    assert "Nobody may sign in yet" in run(url, "people", "list")
    said = run(url, "people", "add", "Li.Wei", "--role", "adjuster")
    link = said.split()[-1]
    assert link.startswith("http://127.0.0.1:8080/enter/")
    engine = db.open_database(url)
    now_ns = wall_ns()
    first = invites.find(engine, link.rsplit("/", 1)[1], now_ns)
    assert first is not None
    assert (first.person.name, first.purpose) == ("li.wei", invites.FIRST)
    for wrong in (
        ("li.wei", "--role", "adjuster"),
        ("a", "--role", "boss"),
        ("a", "--role", "owner"),
        ("a", "--role", "adjuster", "--owner", "o-1"),
        ("local", "--role", "adjuster"),
        ("a b", "--role", "adjuster"),
    ):
        with pytest.raises(accounts.AccountError):
            run(url, "people", "add", *wrong)
    run(url, "people", "add", "mei", "--role", "owner", "--owner", "o-1")
    assert "li.wei  adjuster  waits for the first sign-in" in run(url, "people", "list")
    again = run(url, "people", "reset", "li.wei").split()[-1]
    assert invites.find(engine, link.rsplit("/", 1)[1], now_ns) is None
    assert invites.find(engine, again.rsplit("/", 1)[1], now_ns) is not None
    run(url, "people", "disable", "li.wei")
    assert invites.find(engine, again.rsplit("/", 1)[1], now_ns) is None
    with pytest.raises(RoadwitnessError, match="no active person"):
        run(url, "people", "reset", "li.wei")
    with pytest.raises(accounts.AccountError, match="is given already"):
        run(url, "people", "add", "li.wei", "--role", "owner", "--owner", "o-1")
    listed = json.loads(run(url, "people", "list", "--json"))["people"]
    assert [(p["name"], p["state"]) for p in listed] == [("li.wei", "disabled"), ("mei", "active")]
    token = run(url, "tokens", "add", "actuary", "--role", "underwriter", "--scope", "scores.read").strip()
    assert tokens.find(engine, f"Bearer {token}", now_ns) is not None
    assert token not in run(url, "tokens", "list")
    run(url, "tokens", "revoke", "actuary")
    assert "revoked" in run(url, "tokens", "list")
    with pytest.raises(RoadwitnessError, match="none of that name"):
        run(url, "tokens", "revoke", "other")
    found = access.verify(engine)
    assert (found.rows, found.broken) == (6, None)
    engine.dispose()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_pages_go_beyond_this_machine_only_encrypted_and_under_a_name(host: str, tmp_path: Path) -> None:
    open_to_all = HttpSettings(host=host)
    with pytest.raises(ConfigError, match="unencrypted"):
        exposure.check(open_to_all)
    pem = tmp_path / "a.pem"
    pem.touch()
    tls = replace(open_to_all, certificate=str(pem), key=str(pem))
    for protected in (tls, replace(open_to_all, proxies=("10.0.0.5",))):
        with pytest.raises(ConfigError, match="hosts"):
            exposure.check(protected)
        exposure.check(replace(protected, hosts=("desk.example",)))
    with pytest.raises(ConfigError, match="belong together"):
        exposure.check(replace(tls, key=""))
    with pytest.raises(ConfigError, match="no such file"):
        exposure.check(replace(tls, key=str(tmp_path / "b.pem")))


def test_links_name_the_address_that_people_use(tmp_path: Path) -> None:
    for host in ("127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost"):
        exposure.check(HttpSettings(host=host))
    assert exposure.address(HttpSettings(host="::1")) == "http://[::1]:8080/"
    tls = HttpSettings(host="::", port=8443, certificate="c", key="k", hosts=("desk.example",))
    assert exposure.address(tls) == "https://desk.example:8443/"
    assert exposure.address(replace(tls, certificate="", key="", proxies=("10.0.0.5",))) == "https://desk.example/"
    file = tmp_path / "receiver.toml"
    file.write_text('[http]\nhosts = ["desk.example"]\nproxies = ["10.0.0.5"]\n[people]\nkey = "k"\n')
    assert load_settings(file).http.hosts == ("desk.example",)


def test_pages_are_served_over_tls_and_a_proxy_is_believed_only_where_it_is_named(tmp_path: Path) -> None:
    engine = db.open_database(f"sqlite:///{tmp_path / 'r.db'}")
    certificate, key = authority(tmp_path)
    tls = HttpSettings("127.0.0.1", 0, certificate=str(certificate), key=str(key), hosts=("localhost",))
    with served(ReceiverSettings(database=str(engine.url), http=tls), engine) as port:
        context = ssl.create_default_context(cafile=certificate)
        with urllib.request.urlopen(f"https://localhost:{port}/sign-in", timeout=20, context=context) as answer:
            assert answer.headers["strict-transport-security"]
            assert answer.headers["server"] is None
    behind = HttpSettings(port=0, hosts=("desk.example",), proxies=("127.0.0.1",))
    alone = replace(behind, proxies=())
    for http, status in ((behind, 200), (alone, 421)):
        with served(ReceiverSettings(database=str(engine.url), http=http), engine) as port:
            told = {"Host": "desk.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
            asked = urllib.request.Request(f"http://127.0.0.1:{port}/sign-in", headers=told)
            assert status_of(asked) == status
    engine.dispose()


def status_of(asked: urllib.request.Request) -> int:
    try:
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return int(refused.code)


@contextmanager
def served(settings: ReceiverSettings, engine: Engine) -> Iterator[int]:
    """Serve on a free port until the end of the block."""
    server = serve._server(engine, settings, None)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until(lambda: bool(server.started), "it listened")
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()


def authority(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for localhost that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(datetime(2020, 1, 1, tzinfo=UTC)).not_valid_after(datetime(2049, 1, 1, tzinfo=UTC))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    paths = folder / "c.pem", folder / "k.pem"
    paths[0].write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


def test_an_end_is_asked_for_by_a_signal_or_a_thread_once_and_for_all() -> None:
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    ending = Ending()
    try:
        ending.on_signals()
        os.kill(os.getpid(), signal.SIGTERM)
        ending.wait()
        for _ in range(100_000):  # far more than a socket holds unread
            ending.ask()
        ending.wait()
        assert ending.asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        ending.close()
    ending.ask()
    other = Ending()
    thread = threading.Thread(target=other.wait)
    thread.start()
    other.ask()
    thread.join(20)
    assert not thread.is_alive()
    other.close()
