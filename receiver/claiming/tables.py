"""Tables of policies, claims and disputes, beside those of receiver.db, which makes them with its own.

Amounts are whole fen, so that both databases add them exactly. Days are the insurer's calendar days, both inclusive.
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
_CLAIM: Final = String(16)
_ID: Final = BigInteger().with_variant(Integer(), "sqlite")
metadata = db.metadata

policy = Table(
    "policy",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("device", _NAME, nullable=False),  # empty: no box in the car
    Column("vin", String(17), nullable=False),  # empty: not known
    Column("plate", String(16), nullable=False),  # empty: not known
    Column("owner", _NAME, nullable=False),  # the insurer's own reference, no name
    Column("regime", String(16), nullable=False),  # the clause book that was sold
    Column("use_class", String(32), nullable=False),
    Column("starts", Date, nullable=False),
    Column("ends", Date, nullable=False),  # the last day of cover
    Column("premium_fen", BigInteger, nullable=False),
    Column("compulsory", Boolean, nullable=False),  # holds the compulsory cover too
    Column("sales_confirmed", Boolean, nullable=False),  # sales says that it can be renewed
    Index("policy_vin", "vin"),
    Index("policy_plate", "plate"),
    Index("policy_device", "device"),
    Index("policy_ends", "ends"),
)

policy_cover = Table(
    "policy_cover",
    metadata,
    Column("policy", String(32)),
    Column("code", String(16)),  # VD, TPL, OCC.driver, OCC.passenger, THEFT, GLASS, SCRATCH, FIRE, EQUIP
    Column("sum_fen", BigInteger),  # of OCC for each seat; NULL where the cover has no sum
    Column("waived", Boolean, nullable=False),  # the fault deductible is insured away (WAIVER)
    PrimaryKeyConstraint("policy", "code"),
)

claim_report = Table(
    "claim_report",
    metadata,
    Column("claim", _CLAIM),
    Column("number", Integer),  # 1 is the report; later ones correct it
    Column("reported_utc_ns", BigInteger, nullable=False),
    Column("by", _NAME, nullable=False),
    Column("loss_utc_ns", BigInteger, nullable=False),
    Column("latitude", Float(53)),  # WGS-84, as declared
    Column("longitude", Float(53)),
    Column("said", Text, nullable=False),
    Column("injured", Boolean, nullable=False),
    PrimaryKeyConstraint("claim", "number"),
)

claim_party = Table(
    "claim_party",
    metadata,
    Column("claim", _CLAIM),
    Column("number", Integer),  # 1 is the insured car
    Column("vin", String(17), nullable=False),
    Column("plate", String(16), nullable=False),
    Column("device", _NAME, nullable=False),
    Column("compulsory", Boolean, nullable=False),  # insured for the compulsory cover, here or elsewhere
    Column("fault", String(16), nullable=False),  # settlement.GRADES; empty while nobody has said
    Column("share_percent", Integer),  # where the police gave one
    Column("agrees", Boolean, nullable=False),  # to fault and to fast settlement
    Column("injured", Boolean, nullable=False),
    PrimaryKeyConstraint("claim", "number"),
)

claim_loss = Table(
    "claim_loss",
    metadata,
    Column("claim", _CLAIM),
    Column("number", Integer),
    Column("head", String(16), nullable=False),  # settlement.HEADS
    Column("party", Integer, nullable=False),  # whose
    Column("person", Integer, nullable=False),  # of several injured ones
    Column("estimated_fen", BigInteger, nullable=False),
    Column("assessed_fen", BigInteger),  # NULL until somebody assessed it
    Column("paid_by_others_fen", BigInteger, nullable=False),
    PrimaryKeyConstraint("claim", "number"),
)

claim_finding = Table(
    "claim_finding",
    metadata,
    Column("claim", _CLAIM),
    Column("rule", String(32)),
    Column("result", String(16), nullable=False),  # clear, flag, unknown
    Column("reason", String(32), nullable=False),
    Column("body", Text, nullable=False),  # the finding as JSON
    Column("checked_utc_ns", BigInteger, nullable=False),
    PrimaryKeyConstraint("claim", "rule"),
)

claim_proposal = Table(
    "claim_proposal",
    metadata,
    Column("claim", _CLAIM),
    Column("number", Integer),
    Column("made_utc_ns", BigInteger, nullable=False),
    Column("by", _NAME, nullable=False),
    Column("total_fen", BigInteger, nullable=False),
    Column("body", Text, nullable=False),  # the proposal as JSON
    PrimaryKeyConstraint("claim", "number"),
)

claim_payment = Table(
    "claim_payment",
    metadata,
    Column("claim", _CLAIM),
    Column("number", Integer),
    Column("policy", String(32), nullable=False),
    Column("cover", String(16), nullable=False),
    Column("head", String(16), nullable=False),
    Column("amount_fen", BigInteger, nullable=False),
    Column("paid_utc_ns", BigInteger, nullable=False),
    Column("by", _NAME, nullable=False),
    PrimaryKeyConstraint("claim", "number"),
    Index("claim_payment_policy", "policy", "cover"),
)

claim_document = Table(
    "claim_document",
    metadata,
    Column("claim", _CLAIM),
    Column("sha256", String(64)),
    Column("kind", String(16), nullable=False),  # documents.KINDS
    Column("name", String(100), nullable=False),  # as it was uploaded, cleaned
    Column("media", String(32), nullable=False),  # by its content
    Column("size", BigInteger, nullable=False),
    Column("device", _NAME, nullable=False),  # with folder and stored: where it stands in the file store
    Column("folder", String(16), nullable=False),
    Column("stored", String(100), nullable=False),
    Column("by", _NAME, nullable=False),
    Column("uploaded_utc_ns", BigInteger, nullable=False),
    PrimaryKeyConstraint("claim", "sha256"),
)

# Who did what to a claim, and why: rows are added and never changed, each hash covers the row before it.
claim_history = Table(
    "claim_history",
    metadata,
    Column("seq", _ID, primary_key=True, autoincrement=False),
    Column("utc_ns", BigInteger, nullable=False),
    Column("claim", _CLAIM, nullable=False),  # empty: a decision about an event that is no claim's
    Column("who", _NAME, nullable=False),
    Column("what", String(16), nullable=False),  # history.WHAT
    Column("before", String(16), nullable=False),  # state of the claim
    Column("after", String(16), nullable=False),
    Column("why", Text, nullable=False),
    Column("detail", Text, nullable=False),  # JSON
    Column("hash", LargeBinary, nullable=False),
    Index("claim_history_claim", "claim", "seq"),
)

dispute = Table(
    "dispute",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("device", _NAME, nullable=False),
    Column("lineage", String(12), nullable=False),  # with lane and seq: the signed entry; empty where a flag is meant
    Column("lane", String(16), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("claim", _CLAIM, nullable=False),  # with rule: the flag; empty where an entry is meant
    Column("rule", String(32), nullable=False),
    Column("by", _NAME, nullable=False),
    Column("why", Text, nullable=False),
    Column("opened_utc_ns", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),  # open, upheld, rejected
    Column("decided_by", _NAME, nullable=False),
    Column("decided_utc_ns", BigInteger),
    Column("decision", Text, nullable=False),
    Index("dispute_entry", "device", "lineage", "lane", "seq"),
    Index("dispute_claim", "claim"),
)

# What others are to be told by webhook or e-mail: tried again until it is taken, refused for good, or too old.
notice = Table(
    "notice",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("name", String(128), nullable=False, unique=True),  # the same thing is told once
    Column("channel", String(16), nullable=False),  # webhook, email
    Column("subject", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),  # waiting, sent, refused
    Column("attempts", Integer, nullable=False),
    Column("next_utc_ns", BigInteger, nullable=False),
    Column("why", String(200), nullable=False),  # of the last failure, without any secret
    Index("notice_due", "state", "next_utc_ns"),
)

Index("crash_place", db.crash.c.latitude, db.crash.c.longitude)  # two of ours in one crash are looked for by place
