"""The tables of people: who may sign in, their sessions and links, tokens of programs, what was tried in vain.

Of passwords, cookies, links, recovery codes and tokens only hashes are kept.
"""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, PrimaryKeyConstraint, String, Table, Text

from receiver.db import metadata

_NAME: Final = String(64)
_ID: Final = String(32)
_HASH: Final = String(64)  # SHA-256 in hex

person = Table(
    "person",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", _NAME, nullable=False, unique=True),  # to sign in with; never given again
    Column("role", String(16), nullable=False),
    Column("owner", _NAME, nullable=False),  # whose cars an owner sees; empty otherwise
    Column("state", String(16), nullable=False),  # active, disabled
    Column("password", Text, nullable=False),  # Argon2id in PHC form; empty before the first sign-in
    Column("totp_secret", Text, nullable=False),  # sealed (receiver.people.factors); empty without a second factor
    Column("totp_step", BigInteger, nullable=False),  # the last time step that was used: none is taken twice
    Column("made_utc_ns", BigInteger, nullable=False),
)

recovery_code = Table(
    "recovery_code",
    metadata,
    Column("person", _ID),
    Column("hash", _HASH),
    PrimaryKeyConstraint("person", "hash"),
)

session = Table(
    "session",
    metadata,
    Column("hash", _HASH, primary_key=True),  # of the cookie
    Column("person", _ID, nullable=False),
    Column("stage", String(16), nullable=False),  # whole; factor, enrol: the second factor is still to be shown or made
    Column("begun_utc_ns", BigInteger, nullable=False),
    Column("seen_utc_ns", BigInteger, nullable=False),
    Column("address", _NAME, nullable=False),
    Column("agent", String(200), nullable=False),  # what the browser says it is
    Index("session_of", "person", "begun_utc_ns"),
)

invite = Table(
    "invite",
    metadata,
    Column("hash", _HASH, primary_key=True),  # of the link's secret
    Column("person", _ID, nullable=False, index=True),
    Column("purpose", String(16), nullable=False),  # first: set password and second factor; enter: sign in once
    Column("until_utc_ns", BigInteger, nullable=False),
)

attempt = Table(
    "attempt",
    metadata,
    Column("key", String(100), primary_key=True),  # name:… or address:…, hashed
    Column("failures", Integer, nullable=False),
    Column("last_utc_ns", BigInteger, nullable=False, index=True),
    Column("until_utc_ns", BigInteger, nullable=False),  # nothing more is tried before
)

api_token = Table(
    "api_token",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", _NAME, nullable=False, unique=True),
    Column("hash", _HASH, nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("owner", _NAME, nullable=False),
    Column("scopes", Text, nullable=False),  # rights, separated by blanks
    Column("made_utc_ns", BigInteger, nullable=False),
    Column("until_utc_ns", BigInteger, nullable=False),
    Column("revoked", Boolean, nullable=False),
    Column("used_utc_ns", BigInteger, nullable=False),  # first use of the last day on which it was used; 0 before
)
