"""What may be stored of devices: nothing that tells of driving while the owner has withdrawn it (decision 0259).

A device about which nobody ever agreed here has its owner's consent on paper and judges by itself. What comes although
it was withdrawn is stored as a tombstone: its place in the lane, the SHA-256 of what was signed, hash and signature, so
that the lane goes on and stays provable, and nothing that it said.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace
from sqlalchemy import Connection, func, select

from agent import chain
from agent.chain import Entry
from receiver.registry import tables

ERASED: Final = "erased"  # flag of an entry
# Crashes and packages are evidence of claims: they come in, and go when their claim is settled.
DRIVING: Final = frozenset(("event", "trip", "track", "curve"))


def withheld(connection: Connection, devices: Iterable[str]) -> set[str]:
    """Return those of `devices` whose owners have withdrawn recording, and not agreed again."""
    t = tables.consent
    of = (t.c.device.in_(sorted(set(devices))), t.c.purpose == "recording")
    newest = select(func.max(t.c.id)).where(*of).group_by(t.c.device)
    return set(connection.execute(select(t.c.device).where(t.c.id.in_(newest), t.c.given.is_(False))).scalars())


def tombstone(device: str, entry: Entry) -> Entry:
    """Return an entry without what it said: its body is the SHA-256 of what the device signed."""
    return replace(entry, body=digest(device, entry))


def digest(device: str, entry: Entry) -> bytes:
    """Return the SHA-256 of an entry's signed bytes."""
    e = entry
    return hashlib.sha256(chain.signed_bytes(device, e.lineage, e.lane, e.seq, e.boot, e.t_ns, e.kind, e.body)).digest()


def links(device: str, previous: bytes, entry: Entry, flag: str) -> bool:
    """Say whether an entry, a tombstone too, follows the chain hash `previous`."""
    if flag != ERASED:
        return chain.linked(device, previous, entry)
    return hashlib.sha256(previous + entry.body).digest() == entry.hash
