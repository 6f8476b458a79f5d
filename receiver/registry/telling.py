"""Telling devices what their owners agreed to: the newest word, made from the rows of consents whenever it is needed.

The same rows give the same bytes, so any process may send it, and a database that was restored issues no word that is
older than what devices heed: the numbers are times.
"""

from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Engine, delete, select

from agent import messages
from agent.clock import NS_PER_S
from agent.consentmessages import TOPIC, Word, encode_word
from receiver import db
from receiver.commands import Outgoing
from receiver.registry import consents, tables

MOST_AT_ONCE: Final = 1000
AGAIN_NS: Final = 86_400 * NS_PER_S


def word_of(connection: Connection, device: str) -> Word | None:
    """Return what a device may keep now; None where nothing was ever agreed to here: then its paper counts."""
    last = consents.standing(connection, device)
    if not last:
        return None
    issued = max(row.at_utc_ns for row in last.values())
    held = {p: f"{row.id} {row.version}" for p, row in sorted(last.items()) if row.given}
    return Word(device=device, issued_utc_ns=issued, purposes=held)


def outgoing(connection: Connection, key: Ed25519PrivateKey, device: str) -> list[Outgoing]:
    """Return the message for a device that has just connected."""
    word = word_of(connection, device)
    return [] if word is None else [Outgoing(messages.topic(device, TOPIC), encode_word(word, key))]


def untold(engine: Engine, key: Ed25519PrivateKey) -> list[tuple[str, Outgoing]]:
    """Return, by device, what was agreed to or withdrawn and has not been handed to the broker."""
    t = tables.consent_untold
    with db.reading(engine) as connection:
        devices = connection.execute(select(t.c.device).order_by(t.c.device).limit(MOST_AT_ONCE)).scalars().all()
        return [(device, message) for device in devices for message in outgoing(connection, key, device)]


def recent(engine: Engine, key: Ed25519PrivateKey, now_ns: int) -> list[Outgoing]:
    """Return what was agreed to or withdrawn within a day: a broker may lack it to which the connection was lost."""
    t = tables.consent
    with db.reading(engine) as connection:
        query = select(t.c.device).where(t.c.at_utc_ns > now_ns - AGAIN_NS).distinct().limit(MOST_AT_ONCE)
        devices = connection.execute(query).scalars().all()
        return [message for device in devices for message in outgoing(connection, key, device)]


def told(engine: Engine, device: str, message: Outgoing, key: Ed25519PrivateKey) -> None:
    """Note that the broker has a word, unless there is a newer one already."""
    with engine.begin() as connection:
        if outgoing(connection, key, device) == [message]:
            connection.execute(delete(tables.consent_untold).where(tables.consent_untold.c.device == device))
