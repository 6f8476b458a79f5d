"""Notices of renewals: signed, sent once, tried again, refused for good; no secret in a log or in the database."""

import hashlib
import hmac
import json
import logging
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from agent.errors import ConfigError
from receiver import db, policies
from receiver.claiming import tables
from receiver.renewals import telling
from receiver.renewals.due import due
from receiver.renewals.settings import EmailSettings, NoticeSettings, WebhookSettings
from receiver.settings import load_settings
from receiver.webhooks.posting import SIGNATURE
from tests.claiming import T0, S
from tests.test_renewals import END, policy

SECRET = "0123456789abcdef-very-secret"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = db.open_database(f"sqlite:///{tmp_path / 'r.db'}")
    with engine.begin() as connection:
        policies.put(connection, policy("A", "A", END))
    yield engine
    engine.dispose()


@contextmanager
def web(*answers: int) -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """Run a server that answers in turn, the last for ever."""
    taken: list[tuple[dict[str, str], bytes]] = []
    left = list(answers)

    class Taker(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append((dict(self.headers.items()), body))
            self.send_response(left.pop(0) if len(left) > 1 else left[0])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Taker)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook?key=in-the-address", taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def hooked(tmp_path: Path, url: str) -> NoticeSettings:
    (tmp_path / "secret").write_text(SECRET)
    return NoticeSettings(webhook=WebhookSettings(url, str(tmp_path / "secret")))


def announce(engine: Engine, settings: NoticeSettings) -> int:
    with engine.begin() as connection:
        return telling.announce(connection, due(connection, END - timedelta(60)), settings, T0)


def notices(engine: Engine) -> list[Any]:
    with db.reading(engine) as connection:
        return list(connection.execute(select(tables.notice)).all())


def test_webhook_is_signed_and_told_once(engine: Engine, tmp_path: Path) -> None:
    with web(204) as (url, taken):
        settings = hooked(tmp_path, url)
        assert (announce(engine, settings), announce(engine, settings)) == (1, 0)
        assert telling.deliver(engine, settings, T0) == (1, 0, 0)
        assert telling.deliver(engine, settings, T0 + S) == (0, 0, 0)
    ((headers, body),) = taken
    seconds, _, digest = headers[SIGNATURE].partition(",v1=")
    assert seconds == f"t={T0 // S}"
    assert hmac.new(SECRET.encode(), f"{T0 // S}.".encode() + body, hashlib.sha256).hexdigest() == digest
    told = json.loads(body)
    assert (told["policy"], told["contact"], told["sms"], told["days_left"]) == ("A", "task", True, 60)


def test_what_is_not_taken_is_tried_again_later_each_time(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with web(500, 302, 429, 200) as (url, taken):
        settings = hooked(tmp_path, url)
        announce(engine, settings)
        at, waits = T0, []
        for _ in range(3):
            assert telling.deliver(engine, settings, at) == (0, 1, 0)
            assert telling.deliver(engine, settings, at) == (0, 0, 0)
            (row,) = notices(engine)
            waits.append((row.next_utc_ns - at) // S)
            at = row.next_utc_ns
        assert waits == [30, 60, 120]
        assert telling.deliver(engine, settings, at) == (1, 0, 0)
        assert len(taken) == 4
    assert SECRET not in caplog.text + str(notices(engine))
    assert "in-the-address" not in caplog.text + str(notices(engine))


def test_refusal_and_the_end_of_patience_are_final(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with web(410) as (url, _):
        settings = hooked(tmp_path, url)
        announce(engine, settings)
        assert telling.deliver(engine, settings, T0) == (0, 0, 1)
    assert [(n.state, n.why) for n in notices(engine)] == [("refused", "answered 410")]
    monkeypatch.setattr(telling, "MOST_ATTEMPTS", 1)
    with engine.begin() as connection:
        policies.put(connection, policy("B", "B", END))
    announce(engine, settings)
    assert telling.deliver(engine, settings, T0) == (0, 0, 1)  # nobody listens there any more


class _Smtp(socketserver.StreamRequestHandler):
    """As much of RFC 5321 as a message needs."""

    def handle(self) -> None:
        def say(line: str) -> None:
            self.wfile.write(line.encode() + b"\r\n")

        say("220 here")
        while line := self.rfile.readline().decode().strip():
            verb = line.split(" ")[0].upper()
            if verb == "DATA":
                say("354 go on")
                lines = iter(self.rfile.readline, b".\r\n")
                self.server.taken.append(b"".join(lines).decode())  # type: ignore[attr-defined]
                say("250 taken")
            elif verb == "QUIT":
                say("221 bye")
                return
            elif verb == "RCPT" and "nobody" in line:
                say("550 nobody of that name secret-word")
            else:
                say("250 fine")


def test_mail_goes_to_a_server_on_this_machine(engine: Engine) -> None:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Smtp)
    server.taken = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        port = server.server_address[1]
        email = EmailSettings("127.0.0.1", port, "none", "rw@example.com", ["desk@example.com"])
        announce(engine, NoticeSettings(email=email))
        assert telling.deliver(engine, NoticeSettings(email=email), T0) == (1, 0, 0)
        (message,) = server.taken  # type: ignore[attr-defined]
        assert "Subject: Renewal task: policy A ends 2026-12-31" in message
        assert "contact: task" in message
        with engine.begin() as connection:
            policies.put(connection, policy("B", "B", END))
        wrong = NoticeSettings(email=EmailSettings("127.0.0.1", port, "none", "rw@example.com", ["nobody@example.com"]))
        announce(engine, wrong)
        assert telling.deliver(engine, wrong, T0) == (0, 0, 1)
        assert "secret-word" not in str(notices(engine))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('webhook.url = "http://example.com/"\nwebhook.secret_file = "s"', "must be https"),
        ('webhook.url = "https://u:p@example.com/"\nwebhook.secret_file = "s"', "without a user"),
        ('webhook.url = "https://example.com/"', "secret_file is needed"),
        ('webhook.url = "ftp://example.com/"', "https://HOST/PATH"),
        ('email.host = "mail.example.com"', "sender and email.to"),
        ('email.host = "mail.example.com"\nemail.sender = "a@b"\nemail.to = ["c@d"]\nemail.security = "none"', "none"),
        ('email.host = "localhost"\nemail.sender = "a@b\\nBcc: x@y"\nemail.to = ["c@d"]', "not valid"),
        ('webhook.link = "x"', "unknown key 'link'"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, table: str, said: str) -> None:
    path = tmp_path / "receiver.toml"
    path.write_text(f"[renewals]\n{table}\n")
    with pytest.raises(ConfigError, match=said):
        load_settings(path)


def test_secret_that_is_missing_or_short_is_named_without_being_shown(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = hooked(tmp_path, "https://127.0.0.1:1/")
    announce(engine, settings)
    (tmp_path / "secret").write_text("short-secret")
    assert telling.deliver(engine, settings, T0) == (0, 1, 0)
    assert "fewer than 16 bytes" in notices(engine)[0].why
    assert "short-secret" not in caplog.text + str(notices(engine))
    (tmp_path / "secret").unlink()
    assert telling.deliver(engine, settings, T0 + 60 * S) == (0, 1, 0)
    assert "cannot be read" in notices(engine)[0].why
    assert (notices(engine)[0].state, notices(engine)[0].attempts) == ("waiting", 0)


def test_what_cannot_be_told_one_way_holds_up_no_other(engine: Engine, tmp_path: Path) -> None:
    email = EmailSettings("127.0.0.1", 1, "none", "mé@example.org", ["you@example.org"])
    with web(204) as (url, taken):
        hook = hooked(tmp_path, url)
        settings = replace(hook, email=email)
        assert announce(engine, settings) == 2
        settings = replace(settings, webhook=replace(hook.webhook, url="http://127.0.0.1:none/"))
        assert telling.deliver(engine, settings, T0) == (0, 2, 0)  # a port that is none, a server that is not there
        settings = replace(settings, webhook=replace(hook.webhook, secret_file=str(tmp_path / "gone")))
        assert telling.deliver(engine, settings, T0 + 60 * S) == (0, 2, 0)
        assert telling.deliver(engine, replace(hook, email=email), T0 + 3600 * S) == (1, 1, 0)
    assert len(taken) == 1
    assert {row.channel: row.attempts for row in notices(engine)} == {"webhook": 2, "email": 3}
