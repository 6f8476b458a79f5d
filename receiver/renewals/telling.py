"""Others are told what is due: a signed webhook and e-mail, both off until they are configured.

A notice is written first and sent later, and again when that fails, so that no dead server loses it; it may come
twice, and its name (`id` of the webhook) lets the other side notice. Secrets are read from files when they are used
and never logged; of an address only the host is.
"""

import hashlib
import hmac
import http.client
import json
import logging
import smtplib
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from sqlalchemy import Connection, Engine, select, update

from agent.clock import NS_PER_S
from agent.errors import ConfigError
from receiver import db
from receiver.claiming import tables
from receiver.renewals.due import Due
from receiver.renewals.schedule import Contact
from receiver.renewals.settings import NoticeSettings

log = logging.getLogger(__name__)

SIGNATURE: Final = "Roadwitness-Signature"  # t=SECONDS,v1=HEX of HMAC-SHA256(secret, "SECONDS." + body)
FIRST_WAIT_S: Final = 30
LONGEST_WAIT_S: Final = 6 * 3600
MOST_ATTEMPTS: Final = 20  # with doubling waits: some four days
AT_ONCE: Final = 200
TIMEOUT_S: Final = 10.0
LEAST_SECRET: Final = 16
_AGAIN: Final = frozenset({408, 425, 429})  # of 4xx, those that may end


class Sent(NamedTuple):
    """What one round of sending did."""

    sent: int
    failed: int  # will be tried again
    refused: int  # will not


class _RefusedError(Exception):
    """The other side will never take it."""


def announce(connection: Connection, rows: Sequence[Due], settings: NoticeSettings, now_ns: int) -> int:
    """Write a notice for every contact of today, once for each channel that is configured; return how many are new."""
    new = 0
    channels = [("webhook", settings.webhook.url), ("email", settings.email.host)]
    for d in rows:
        for step in d.today:
            payload = _payload(d, step)
            for channel, configured in channels:
                if not configured:
                    continue
                row = {
                    "name": f"{payload['id']}:{channel}",
                    "channel": channel,
                    "subject": f"Renewal {step.kind}: policy {d.policy.id} ends {d.policy.ends}",
                    "body": json.dumps(payload, ensure_ascii=False, sort_keys=True),
                    "state": "waiting",
                    "attempts": 0,
                    "next_utc_ns": now_ns,
                    "why": "",
                }
                statement: Any = db.upsert(connection, tables.notice, row, ["name"], {})
                new += connection.execute(statement.returning(tables.notice.c.id)).scalar() is not None
    return new


def deliver(engine: Engine, settings: NoticeSettings, now_ns: int) -> Sent:
    """Try every notice that is due once; what fails is tried again later, twice as late each time."""
    t = tables.notice
    with db.reading(engine) as connection:
        due = (t.c.state == "waiting", t.c.next_utc_ns <= now_ns)
        rows = connection.execute(select(t).where(*due).order_by(t.c.next_utc_ns, t.c.id).limit(AT_ONCE)).all()
    sent = failed = refused = 0
    for row in rows:
        state, why = "sent", ""
        try:
            (_post if row.channel == "webhook" else _mail)(settings, row, now_ns)
        except _RefusedError as e:
            state, why = "refused", str(e)
        except (OSError, http.client.HTTPException, smtplib.SMTPException) as e:
            state, why = "waiting", _why(e)
            if row.attempts + 1 >= MOST_ATTEMPTS:
                state = "refused"
        wait_s = min(FIRST_WAIT_S << min(row.attempts, 30), LONGEST_WAIT_S)
        with engine.begin() as connection:
            values = {"state": state, "attempts": row.attempts + 1, "why": why[:200]}
            changed = update(t).where(t.c.id == row.id, t.c.state == "waiting")
            connection.execute(changed.values(**values, next_utc_ns=now_ns + wait_s * NS_PER_S))
        sent, failed, refused = sent + (state == "sent"), failed + (state == "waiting"), refused + (state == "refused")
        if state != "sent":
            log.warning("notice %d by %s to %s: %s", row.id, row.channel, _host(settings, row.channel), why)
    return Sent(sent, failed, refused)


def signature(secret: bytes, seconds: int, body: bytes) -> str:
    """Return what stands in the header: the other side computes the same and compares times and digests."""
    digest = hmac.new(secret, f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def _payload(d: Due, step: Contact) -> dict[str, Any]:
    return {
        "id": f"renewal:{d.policy.id}:{d.policy.ends}:{step.kind}:{step.day}",
        "type": "renewal.due",
        "policy": d.policy.id,
        "vin": d.policy.vin,
        "plate": d.policy.plate,
        "owner": d.policy.owner,
        "ends": str(d.policy.ends),
        "days_left": d.days_left,
        "contact": step.kind,
        "day": str(step.day),
        "until": None if step.until is None else str(step.until),
        "sms": step.sms,
        "escalated": d.escalated,
        "score_change": d.score_change,
        "price_difference": None if d.price_difference is None else str(d.price_difference),
    }


def _post(settings: NoticeSettings, row: Any, now_ns: int) -> None:
    at = urlsplit(settings.webhook.url)
    if not at.hostname:
        raise _RefusedError("no webhook is configured any more")
    secret = _secret(settings.webhook.secret_file, LEAST_SECRET)
    body = row.body.encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "roadwitness",
        "Roadwitness-Notice": str(row.id),
        SIGNATURE: signature(secret, now_ns // NS_PER_S, body),
    }
    target = (at.path or "/") + (f"?{at.query}" if at.query else "")
    connection: http.client.HTTPConnection
    if at.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(at.hostname, at.port, timeout=TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection(at.hostname, at.port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", target, body, headers)
        answer = connection.getresponse()
        answer.read(1000)
    finally:
        connection.close()
    if 200 <= answer.status < 300:
        return
    if 400 <= answer.status < 500 and answer.status not in _AGAIN:
        raise _RefusedError(f"answered {answer.status}")
    raise OSError(f"answered {answer.status}")  # redirects too: a notice goes nowhere else


def _mail(settings: NoticeSettings, row: Any, _: int) -> None:
    s = settings.email
    if not s.host:
        raise _RefusedError("no e-mail is configured any more")
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = s.sender, ", ".join(s.to), row.subject
    message["Message-ID"] = f"<{hashlib.sha256(row.name.encode()).hexdigest()[:32]}@roadwitness>"
    told = json.loads(row.body)
    message.set_content("\n".join(f"{name}: {value}" for name, value in told.items() if value is not None))
    context = ssl.create_default_context() if s.security != "none" else None
    server: smtplib.SMTP
    if s.security == "tls":
        server = smtplib.SMTP_SSL(s.host, s.port, timeout=TIMEOUT_S, context=context)
    else:
        server = smtplib.SMTP(s.host, s.port, timeout=TIMEOUT_S)
    with server:
        if s.security == "starttls":
            server.starttls(context=context)
        if s.user:
            server.login(s.user, _secret(s.password_file, 1).decode())
        try:
            server.send_message(message)
        except smtplib.SMTPRecipientsRefused as e:
            if all(code >= 500 for code, _ in e.recipients.values()):
                raise _RefusedError("every recipient is refused") from e
            raise


def _secret(path: str, least: int) -> bytes:
    """Read a secret, never shown; raise ConfigError naming the file only."""
    try:
        found = Path(path).read_bytes().strip()
    except OSError as e:
        raise ConfigError(f"{path or 'secret file'}: cannot be read: {e.strerror}; check its owner") from e
    if len(found) < least:
        raise ConfigError(f"{path}: holds fewer than {least} bytes; make one with `openssl rand -hex 32`")
    return found


def _why(e: Exception) -> str:
    """Name a failure without what a server may have echoed: a user, a password, an address."""
    if isinstance(e, smtplib.SMTPResponseException):
        return f"{type(e).__name__} {e.smtp_code}"
    if isinstance(e, OSError) and e.strerror:
        return f"{type(e).__name__}: {e.strerror}"
    return str(e) if str(e).startswith("answered ") else type(e).__name__


def _host(settings: NoticeSettings, channel: str) -> str:
    return (urlsplit(settings.webhook.url).hostname or "") if channel == "webhook" else settings.email.host
