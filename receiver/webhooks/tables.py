"""What other systems are to be told, and how far each source was read."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, PrimaryKeyConstraint, String, Table, Text, UniqueConstraint

from receiver import db

_ID: Final = BigInteger().with_variant(Integer(), "sqlite")

outbox = Table(
    "webhook_outbox",
    db.metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("hook", String(64), nullable=False),  # NAME of [webhooks.NAME]
    Column("event", String(128), nullable=False),  # the event's id: the same event is told once
    Column("type", String(32), nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),  # waiting, sent, refused, too_old
    Column("attempts", Integer, nullable=False),
    Column("made_utc_ns", BigInteger, nullable=False),
    Column("next_utc_ns", BigInteger, nullable=False),
    Column("why", String(200), nullable=False),  # of the last failure, without any secret
    UniqueConstraint("hook", "event", name="webhook_outbox_event"),
    Index("webhook_outbox_due", "state", "next_utc_ns"),
)

read = Table(
    "webhook_read",
    db.metadata,
    Column("hook", String(64)),
    Column("source", String(16)),
    Column("position", BigInteger, nullable=False),
    PrimaryKeyConstraint("hook", "source"),
)
