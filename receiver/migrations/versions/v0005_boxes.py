"""Certificates of boxes and the codes by which they enrol."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "certificate",
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("begins_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("ends_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("issued_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("how", sa.String(length=32), nullable=False),
        sa.Column("pem", sa.Text(), nullable=False),
        sa.Column("revoked_utc_ns", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("serial"),
    )
    with op.batch_alter_table("certificate", schema=None) as batch_op:
        batch_op.create_index("certificate_key", ["key_hash"], unique=True)
        batch_op.create_index("certificate_of", ["subject", "issued_utc_ns"], unique=False)

    op.create_table(
        "enrolment_code",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("made_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("until_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("made_by", sa.String(length=64), nullable=False),
        sa.Column("used_utc_ns", sa.BigInteger(), nullable=True),
        sa.Column("used_by", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )


def downgrade() -> None:
    """Take the tables away."""
    op.drop_table("enrolment_code")
    with op.batch_alter_table("certificate", schema=None) as batch_op:
        batch_op.drop_index("certificate_of")
        batch_op.drop_index("certificate_key")

    op.drop_table("certificate")
