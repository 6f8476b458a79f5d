"""The tables of the authority: codes that may be used once, and every certificate that was given."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, String, Table, Text

from receiver.db import metadata

_NAME: Final = String(64)
_HASH: Final = String(64)  # SHA-256 in hex

enrolment_code = Table(
    "enrolment_code",
    metadata,
    Column("hash", _HASH, primary_key=True),
    Column("device", _NAME, nullable=False),  # the one that may use it; empty: any
    Column("made_utc_ns", BigInteger, nullable=False),
    Column("until_utc_ns", BigInteger, nullable=False),
    Column("made_by", _NAME, nullable=False),
    Column("used_utc_ns", BigInteger),
    Column("used_by", _NAME, nullable=False),
)

certificate = Table(
    "certificate",
    metadata,
    Column("serial", String(40), primary_key=True),  # hex
    Column("kind", String(16), nullable=False),  # device, server, receiver
    Column("subject", String(255), nullable=False),  # its common name: of a device, its id
    Column("key_hash", _HASH, nullable=False),  # of the public key (SubjectPublicKeyInfo): no key has two certificates
    Column("begins_utc_ns", BigInteger, nullable=False),
    Column("ends_utc_ns", BigInteger, nullable=False),
    Column("issued_utc_ns", BigInteger, nullable=False),
    Column("how", String(32), nullable=False),  # code, renewal, record key, by hand
    Column("pem", Text, nullable=False),
    Column("revoked_utc_ns", BigInteger),
    Column("reason", String(200), nullable=False),
    Index("certificate_of", "subject", "issued_utc_ns"),
    Index("certificate_key", "key_hash", unique=True),
)
