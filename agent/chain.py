"""The hash chain and signature of lane entries: what makes a record provable. Pure functions, no I/O.

Per lineage and lane: hash_i = SHA-256(hash_{i-1} ‖ SHA-256(signed bytes_i)), hash_0 over 32 zero bytes (docs/sources.md
G2). The signed bytes of an entry are its header, canonical JSON, followed by a newline and its body as it was stored.
The device's Ed25519 key signs the chain hash, so one signature vouches for the entry and for everything before it.
"""

import hashlib
from functools import lru_cache
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

START: Final = bytes(32)


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One lane entry as it is stored and sent: header, body, chain and signature.

    (device, lineage, lane, seq) names it for ever: a rebuilt or restored store begins a new lineage, so that a
    sequence number is never used for two different entries.
    """

    lineage: str  # life of the database that made it, 12 hex digits
    lane: str
    seq: int  # 1, 2, 3 … per lane and lineage, without gaps
    boot: str  # boot id
    t_ns: int  # monotonic ns of that boot
    kind: str  # agent.records.KINDS
    body: bytes  # canonical JSON of the record
    hash: bytes  # 32 bytes, chain hash including this entry
    signature: bytes  # 64 bytes, Ed25519 over `hash`


def canonical(value: object) -> bytes:
    """Encode as compact JSON with sorted keys: the bytes that are stored, sent and signed, which nobody encodes again.

    RFC 8785 for text, integers and what a header holds; floats differ (1.0), for which see agent.evidence.canonical.
    """
    return msgspec.json.encode(value, order="sorted")


def signed_bytes(device: str, lineage: str, lane: str, seq: int, boot: str, t_ns: int, kind: str, body: bytes) -> bytes:
    """Return the bytes that the chain covers for one entry."""
    header = {
        "boot": boot,
        "device": device,
        "kind": kind,
        "lane": lane,
        "lineage": lineage,
        "seq": seq,
        "t_ns": t_ns,
    }
    return canonical(header) + b"\n" + body


def link(previous: bytes, signed: bytes) -> bytes:
    """Return the chain hash that follows `previous` (32 bytes) over the signed bytes of one entry."""
    return hashlib.sha256(previous + hashlib.sha256(signed).digest()).digest()


def device_id(public_key: bytes) -> str:
    """Name a device by its key: 'rw-' and the first 16 hex digits of SHA-256 over the raw Ed25519 public key."""
    return "rw-" + hashlib.sha256(public_key).hexdigest()[:16]


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """Return the raw 32-byte public key."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def seal(
    key: Ed25519PrivateKey,
    device: str,
    lineage: str,
    previous: bytes,
    lane: str,
    seq: int,
    boot: str,
    t_ns: int,
    kind: str,
    body: bytes,
) -> Entry:
    """Chain and sign one entry."""
    head = link(previous, signed_bytes(device, lineage, lane, seq, boot, t_ns, kind, body))
    return Entry(lineage, lane, seq, boot, t_ns, kind, body, head, key.sign(head))


def linked(device: str, previous: bytes, entry: Entry) -> bool:
    """Say whether `entry` follows the chain hash `previous`."""
    signed = signed_bytes(device, entry.lineage, entry.lane, entry.seq, entry.boot, entry.t_ns, entry.kind, entry.body)
    return link(previous, signed) == entry.hash


def signed_by(public_key: bytes, entry: Entry) -> bool:
    """Say whether the holder of `public_key` (raw, 32 bytes) signed the entry's chain hash."""
    try:
        _public_key(public_key).verify(entry.signature, entry.hash)
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(4096)  # making the object is a sixth of a verification
def _public_key(raw: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(raw)
