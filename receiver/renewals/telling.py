"""Others are told what is due: a signed webhook and e-mail, both off until they are configured.

A notice is written first and sent later, and again when that fails, so that no dead server loses it; it may come
twice, and its name (`id` of the webhook) lets the other side notice. Secrets are read from files when they are used
and never logged; of an address only the host is.
"""

import hashlib
import http.client
import json
import logging
import smtplib
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
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
from receiver.webhooks.posting import TIMEOUT_S, RefusedError, post, secret_of

log = logging.getLogger(__name__)

FIRST_WAIT_S: Final = 30
LONGEST_WAIT_S: Final = 6 * 3600
MOST_ATTEMPTS: Final = 20  # with doubling waits: some four days
AT_ONCE: Final = 200


class Sent(NamedTuple):
    """What one round of sending did."""

    sent: int
    failed: int  # will be tried again
    refused: int  # will not


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
        state, why, tried = "sent", "", 1
        try:
            (_post if row.channel == "webhook" else _mail)(settings, row, now_ns)
        except RefusedError as e:
            state, why = "refused", str(e)
        except ConfigError as e:  # a secret's file is gone: nothing was tried, and no other notice waits for it
            state, why, tried = "waiting", str(e), 0
        except (OSError, http.client.HTTPException, smtplib.SMTPException, ValueError) as e:
            # ValueError: a name or an address that the libraries cannot write
            state, why = "waiting" if row.attempts + 1 < MOST_ATTEMPTS else "refused", _why(e)
        wait_s = min(FIRST_WAIT_S << min(row.attempts, 30), LONGEST_WAIT_S)
        with engine.begin() as connection:
            values = {"state": state, "attempts": row.attempts + tried, "why": why[:200]}
            changed = update(t).where(t.c.id == row.id, t.c.state == "waiting")
            connection.execute(changed.values(**values, next_utc_ns=now_ns + wait_s * NS_PER_S))
        sent, failed, refused = sent + (state == "sent"), failed + (state == "waiting"), refused + (state == "refused")
        if state != "sent":
            log.warning("notice %d by %s to %s: %s", row.id, row.channel, _host(settings, row.channel), why)
    return Sent(sent, failed, refused)


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
    if not settings.webhook.url:
        raise RefusedError("no webhook is configured any more")
    secret = secret_of(settings.webhook.secret_file)
    post(settings.webhook.url, secret, row.body.encode(), now_ns, {"Roadwitness-Notice": str(row.id)})


def _mail(settings: NoticeSettings, row: Any, _: int) -> None:
    s = settings.email
    if not s.host:
        raise RefusedError("no e-mail is configured any more")
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
            server.login(s.user, secret_of(s.password_file, 1).decode())
        try:
            server.send_message(message)
        except smtplib.SMTPRecipientsRefused as e:
            if all(code >= 500 for code, _ in e.recipients.values()):
                raise RefusedError("every recipient is refused") from e
            raise


def _why(e: Exception) -> str:
    """Name a failure without what a server may have echoed: a user, a password, an address."""
    if isinstance(e, smtplib.SMTPResponseException):
        return f"{type(e).__name__} {e.smtp_code}"
    if isinstance(e, OSError) and e.strerror:
        return f"{type(e).__name__}: {e.strerror}"
    return str(e) if str(e).startswith("answered ") else type(e).__name__


def _host(settings: NoticeSettings, channel: str) -> str:
    return (urlsplit(settings.webhook.url).hostname or "") if channel == "webhook" else settings.email.host
