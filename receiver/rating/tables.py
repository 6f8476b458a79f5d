"""Tables of what was told: scores by car, month and model, and quotes. Rows of a month that ended never change.

A score that came out otherwise later, because a trip arrived late or a dispute was decided, is a further revision.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Float,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from receiver import db

_NAME: Final = String(64)
metadata = db.metadata

kept_score = Table(
    "kept_score",
    metadata,
    Column("device", _NAME, nullable=False),
    Column("model", String(32), nullable=False),  # name/version
    Column("period", String(7), nullable=False),  # 2026-10: the month at whose end the score stood
    Column("revision", Integer, nullable=False),  # from 1
    Column("newest", Boolean, nullable=False),
    Column("final", Boolean, nullable=False),  # computed after the month had ended
    Column("vin", String(17), nullable=False),  # of the car that the device was bound to; empty: to none
    Column("digest", String(64), nullable=False),  # SHA-256 of the model's file
    Column("computed_utc_ns", BigInteger, nullable=False),
    Column("checked_utc_ns", BigInteger, nullable=False),  # computed last, with this result
    Column("start_utc_ns", BigInteger, nullable=False),  # trips that began from here …
    Column("end_utc_ns", BigInteger, nullable=False),  # … until here
    Column("score", Integer),  # 0..100; NULL without a trip that can be scored
    Column("relativity", Float(53), nullable=False),
    Column("credibility", Float(53), nullable=False),
    Column("km", Float(53), nullable=False),
    Column("km_year", Float(53)),
    Column("quality", Float(53)),  # share of the kilometres that could be scored
    Column("trips", Integer, nullable=False),
    # ScoreResult as canonical JSON, compressed by Zstandard: the account of a year is 300 kB, and names trips again
    # and again. Last, so that lists do not read it.
    Column("result", LargeBinary, nullable=False),
    PrimaryKeyConstraint("device", "model", "period", "revision"),
    Index("kept_score_month", "model", "period", "device"),
)

kept_quote = Table(
    "kept_quote",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("device", _NAME, nullable=False),  # empty: a car without a box
    Column("vin", String(17), nullable=False),
    Column("owner", _NAME, nullable=False),  # the insurer's own reference, no name
    Column("policy", String(32), nullable=False),  # that it would renew; empty for none
    Column("regime", String(16), nullable=False),
    Column("region", String(32), nullable=False),
    Column("starts", Date, nullable=False),
    Column("total_fen", BigInteger, nullable=False),
    Column("plain_fen", BigInteger, nullable=False),  # the same without the score
    Column("per_km_fen", BigInteger),  # the pay-per-kilometre offer, where it was asked for
    Column("consent", _NAME, nullable=False),  # under which the score entered; empty where it did not
    Column("score_model", String(32), nullable=False),  # with month and revision: the kept score that entered
    Column("score_period", String(7), nullable=False),
    Column("score_revision", Integer, nullable=False),
    Column("no_score", String(16), nullable=False),  # quotes.NO_SCORE: why none entered; empty where one did
    Column("given_utc_ns", BigInteger, nullable=False),
    Column("given_by", _NAME, nullable=False),
    Column("valid_until", Date, nullable=False),
    Column("answer", Text, nullable=False),  # pricing.Quote as JSON, every factor and reason
    Index("kept_quote_device", "device", "given_utc_ns"),
    Index("kept_quote_owner", "owner", "given_utc_ns"),
    Index("kept_quote_policy", "policy", "given_utc_ns"),
    Index("kept_quote_given", "given_utc_ns"),
)
