"""What a POST with an Idempotency-Key was answered, so that the same request again has no second effect."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, PrimaryKeyConstraint, String, Table, Text

from receiver import db

answered = Table(
    "api_answered",
    db.metadata,
    Column("who", String(64)),  # id of the person or token
    Column("key", String(128)),
    Column("request", String(64), nullable=False),  # SHA-256 of method, address and body
    Column("state", String(16), nullable=False),  # open, done
    Column("made_utc_ns", BigInteger, nullable=False),
    Column("status", Integer, nullable=False),  # 0 while open
    Column("headers", Text, nullable=False),  # JSON
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("who", "key"),
    Index("api_answered_made", "made_utc_ns"),
)
