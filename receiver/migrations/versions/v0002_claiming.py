"""Policies, what happens to claims, notices, and what a regulator was told.

As with 0001, they may be there.
"""

from functools import partial

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

make_table = partial(op.create_table, if_not_exists=True)
make_index = partial(op.create_index, if_not_exists=True)


def upgrade() -> None:
    """Make the tables that are not there."""
    make_table(
        "claim_document",
        sa.Column("claim", sa.String(length=16), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("media", sa.String(length=32), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("folder", sa.String(length=16), nullable=False),
        sa.Column("stored", sa.String(length=100), nullable=False),
        sa.Column("by", sa.String(length=64), nullable=False),
        sa.Column("uploaded_utc_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("claim", "sha256"),
    )
    make_table(
        "claim_finding",
        sa.Column("claim", sa.String(length=16), nullable=False),
        sa.Column("rule", sa.String(length=32), nullable=False),
        sa.Column("result", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("checked_utc_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("claim", "rule"),
    )
    make_table(
        "claim_history",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("claim", sa.String(length=16), nullable=False),
        sa.Column("who", sa.String(length=64), nullable=False),
        sa.Column("what", sa.String(length=16), nullable=False),
        sa.Column("before", sa.String(length=16), nullable=False),
        sa.Column("after", sa.String(length=16), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    make_index("claim_history_claim", "claim_history", ["claim", "seq"])
    make_table(
        "claim_loss",
        sa.Column("claim", sa.String(length=16), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("head", sa.String(length=16), nullable=False),
        sa.Column("party", sa.Integer(), nullable=False),
        sa.Column("person", sa.Integer(), nullable=False),
        sa.Column("estimated_fen", sa.BigInteger(), nullable=False),
        sa.Column("assessed_fen", sa.BigInteger(), nullable=True),
        sa.Column("paid_by_others_fen", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("claim", "number"),
    )
    make_table(
        "claim_party",
        sa.Column("claim", sa.String(length=16), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("vin", sa.String(length=17), nullable=False),
        sa.Column("plate", sa.String(length=16), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("compulsory", sa.Boolean(), nullable=False),
        sa.Column("fault", sa.String(length=16), nullable=False),
        sa.Column("share_percent", sa.Integer(), nullable=True),
        sa.Column("agrees", sa.Boolean(), nullable=False),
        sa.Column("injured", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("claim", "number"),
    )
    make_table(
        "claim_payment",
        sa.Column("claim", sa.String(length=16), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("policy", sa.String(length=32), nullable=False),
        sa.Column("cover", sa.String(length=16), nullable=False),
        sa.Column("head", sa.String(length=16), nullable=False),
        sa.Column("amount_fen", sa.BigInteger(), nullable=False),
        sa.Column("paid_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("claim", "number"),
    )
    make_index("claim_payment_policy", "claim_payment", ["policy", "cover"])
    make_table(
        "claim_proposal",
        sa.Column("claim", sa.String(length=16), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("made_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.String(length=64), nullable=False),
        sa.Column("total_fen", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("claim", "number"),
    )
    make_table(
        "claim_report",
        sa.Column("claim", sa.String(length=16), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("reported_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.String(length=64), nullable=False),
        sa.Column("loss_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("latitude", sa.Float(precision=53), nullable=True),
        sa.Column("longitude", sa.Float(precision=53), nullable=True),
        sa.Column("said", sa.Text(), nullable=False),
        sa.Column("injured", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("claim", "number"),
    )
    make_table(
        "dispute",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("lineage", sa.String(length=12), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("claim", sa.String(length=16), nullable=False),
        sa.Column("rule", sa.String(length=32), nullable=False),
        sa.Column("by", sa.String(length=64), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("opened_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("decided_by", sa.String(length=64), nullable=False),
        sa.Column("decided_utc_ns", sa.BigInteger(), nullable=True),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    make_index("dispute_claim", "dispute", ["claim"])
    make_index("dispute_entry", "dispute", ["device", "lineage", "lane", "seq"])
    make_table(
        "jt808_sent",
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("lineage", sa.String(length=12), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("part", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device", "lineage", "lane"),
    )
    make_table(
        "jt808_terminal",
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("changed_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("told", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.Column("told_utc_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("device"),
    )
    make_table(
        "notice",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("channel", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("why", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    make_index("notice_due", "notice", ["state", "next_utc_ns"])
    make_table(
        "policy",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("vin", sa.String(length=17), nullable=False),
        sa.Column("plate", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("regime", sa.String(length=16), nullable=False),
        sa.Column("use_class", sa.String(length=32), nullable=False),
        sa.Column("starts", sa.Date(), nullable=False),
        sa.Column("ends", sa.Date(), nullable=False),
        sa.Column("premium_fen", sa.BigInteger(), nullable=False),
        sa.Column("compulsory", sa.Boolean(), nullable=False),
        sa.Column("sales_confirmed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    make_index("policy_device", "policy", ["device"])
    make_index("policy_ends", "policy", ["ends"])
    make_index("policy_plate", "policy", ["plate"])
    make_index("policy_vin", "policy", ["vin"])
    make_table(
        "policy_cover",
        sa.Column("policy", sa.String(length=32), nullable=False),
        sa.Column("code", sa.String(length=16), nullable=False),
        sa.Column("sum_fen", sa.BigInteger(), nullable=True),
        sa.Column("waived", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("policy", "code"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("policy_cover")
    op.drop_index("policy_vin", table_name="policy")
    op.drop_index("policy_plate", table_name="policy")
    op.drop_index("policy_ends", table_name="policy")
    op.drop_index("policy_device", table_name="policy")
    op.drop_table("policy")
    op.drop_index("notice_due", table_name="notice")
    op.drop_table("notice")
    op.drop_table("jt808_terminal")
    op.drop_table("jt808_sent")
    op.drop_index("dispute_entry", table_name="dispute")
    op.drop_index("dispute_claim", table_name="dispute")
    op.drop_table("dispute")
    op.drop_table("claim_report")
    op.drop_table("claim_proposal")
    op.drop_index("claim_payment_policy", table_name="claim_payment")
    op.drop_table("claim_payment")
    op.drop_table("claim_party")
    op.drop_table("claim_loss")
    op.drop_index("claim_history_claim", table_name="claim_history")
    op.drop_table("claim_history")
    op.drop_table("claim_finding")
    op.drop_table("claim_document")
