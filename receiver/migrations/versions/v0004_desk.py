"""People and sign-in, owners, vehicles, bindings and consents, kept scores and quotes, webhooks."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "api_answered",
        sa.Column("who", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("request", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("made_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("headers", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("who", "key"),
    )
    op.create_index("api_answered_made", "api_answered", ["made_utc_ns"])

    op.create_table(
        "api_token",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("made_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("until_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("revoked", sa.Boolean(), nullable=False),
        sa.Column("used_utc_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("hash"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "attempt",
        sa.Column("key", sa.String(length=100), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("until_utc_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("ix_attempt_last_utc_ns", "attempt", ["last_utc_ns"])

    op.create_table(
        "consent",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("vin", sa.String(length=17), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("given", sa.Boolean(), nullable=False),
        sa.Column("at_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.String(length=16), nullable=False),
        sa.Column("language", sa.String(length=8), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("by", sa.String(length=64), nullable=False),
        sa.Column("how", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("consent_of", "consent", ["device", "purpose", "at_utc_ns"])

    op.create_table(
        "consent_untold", sa.Column("device", sa.String(length=64), nullable=False), sa.PrimaryKeyConstraint("device")
    )
    op.create_table(
        "erasure",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("asked_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("asked_by", sa.String(length=64), nullable=False),
        sa.Column("until_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("due_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("done_utc_ns", sa.BigInteger(), nullable=True),
        sa.Column("removed", sa.Text(), nullable=False),
        sa.Column("kept", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("erasure_device", "erasure", ["device", "asked_utc_ns"])
    op.create_index("erasure_state", "erasure", ["state", "due_utc_ns"])

    op.create_table(
        "invite",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("person", sa.String(length=32), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("until_utc_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_index("ix_invite_person", "invite", ["person"])

    op.create_table(
        "kept_quote",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("vin", sa.String(length=17), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("policy", sa.String(length=32), nullable=False),
        sa.Column("regime", sa.String(length=16), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("starts", sa.Date(), nullable=False),
        sa.Column("total_fen", sa.BigInteger(), nullable=False),
        sa.Column("plain_fen", sa.BigInteger(), nullable=False),
        sa.Column("per_km_fen", sa.BigInteger(), nullable=True),
        sa.Column("consent", sa.String(length=64), nullable=False),
        sa.Column("score_model", sa.String(length=32), nullable=False),
        sa.Column("score_period", sa.String(length=7), nullable=False),
        sa.Column("score_revision", sa.Integer(), nullable=False),
        sa.Column("no_score", sa.String(length=16), nullable=False),
        sa.Column("given_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("given_by", sa.String(length=64), nullable=False),
        sa.Column("valid_until", sa.Date(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("kept_quote_device", "kept_quote", ["device", "given_utc_ns"])
    op.create_index("kept_quote_given", "kept_quote", ["given_utc_ns"])
    op.create_index("kept_quote_owner", "kept_quote", ["owner", "given_utc_ns"])
    op.create_index("kept_quote_policy", "kept_quote", ["policy", "given_utc_ns"])

    op.create_table(
        "kept_score",
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=32), nullable=False),
        sa.Column("period", sa.String(length=7), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("newest", sa.Boolean(), nullable=False),
        sa.Column("final", sa.Boolean(), nullable=False),
        sa.Column("vin", sa.String(length=17), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("computed_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("checked_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("start_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("end_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("score", sa.Integer(), nullable=True),
        sa.Column("relativity", sa.Float(precision=53), nullable=False),
        sa.Column("credibility", sa.Float(precision=53), nullable=False),
        sa.Column("km", sa.Float(precision=53), nullable=False),
        sa.Column("km_year", sa.Float(precision=53), nullable=True),
        sa.Column("quality", sa.Float(precision=53), nullable=True),
        sa.Column("trips", sa.Integer(), nullable=False),
        sa.Column("result", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("device", "model", "period", "revision"),
    )
    op.create_index("kept_score_month", "kept_score", ["model", "period", "device"])

    op.create_table(
        "owner",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("phone", sa.String(length=32), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("registered_utc_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "person",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("totp_secret", sa.Text(), nullable=False),
        sa.Column("totp_step", sa.BigInteger(), nullable=False),
        sa.Column("made_utc_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "recovery_code",
        sa.Column("person", sa.String(length=32), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("person", "hash"),
    )
    op.create_table(
        "session",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("person", sa.String(length=32), nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("begun_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("seen_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("agent", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_index("session_of", "session", ["person", "begun_utc_ns"])

    op.create_table(
        "webhook_outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("hook", sa.String(length=64), nullable=False),
        sa.Column("event", sa.String(length=128), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("made_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("next_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("why", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("hook", "event", name="webhook_outbox_event"),
    )
    op.create_index("webhook_outbox_due", "webhook_outbox", ["state", "next_utc_ns"])

    op.create_table(
        "webhook_read",
        sa.Column("hook", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hook", "source"),
    )
    op.create_table(
        "vehicle",
        sa.Column("vin", sa.String(length=17), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("plate", sa.String(length=16), nullable=False),
        sa.Column("use_class", sa.String(length=32), nullable=False),
        sa.Column("seats", sa.Integer(), nullable=False),
        sa.Column("energy", sa.String(length=32), nullable=False),
        sa.Column("first_registered", sa.Date(), nullable=False),
        sa.Column("registered_utc_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner"],
            ["owner.id"],
        ),
        sa.PrimaryKeyConstraint("vin"),
    )
    op.create_index("vehicle_owner", "vehicle", ["owner"])
    op.create_index("vehicle_plate", "vehicle", ["plate"])

    op.create_table(
        "binding",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("vin", sa.String(length=17), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("bound_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("bound_by", sa.String(length=64), nullable=False),
        sa.Column("ended_utc_ns", sa.BigInteger(), nullable=True),
        sa.Column("ended_by", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(
            ["vin"],
            ["vehicle.vin"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("binding_device", "binding", ["device", "bound_utc_ns"])
    op.create_index(
        "binding_one_device",
        "binding",
        ["device"],
        unique=True,
        sqlite_where=sa.text("ended_utc_ns IS NULL"),
        postgresql_where=sa.text("ended_utc_ns IS NULL"),
    )
    op.create_index(
        "binding_one_vehicle",
        "binding",
        ["vin"],
        unique=True,
        sqlite_where=sa.text("ended_utc_ns IS NULL"),
        postgresql_where=sa.text("ended_utc_ns IS NULL"),
    )
    op.create_index("binding_vin", "binding", ["vin", "bound_utc_ns"])

    op.create_table(
        "binding_code",
        sa.Column("vin", sa.String(length=17), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("expires_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["vin"],
            ["vehicle.vin"],
        ),
        sa.PrimaryKeyConstraint("vin"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("binding_code")
    op.drop_index("binding_vin", table_name="binding")
    op.drop_index("binding_one_vehicle", table_name="binding")
    op.drop_index("binding_one_device", table_name="binding")
    op.drop_index("binding_device", table_name="binding")

    op.drop_table("binding")
    op.drop_index("vehicle_plate", table_name="vehicle")
    op.drop_index("vehicle_owner", table_name="vehicle")

    op.drop_table("vehicle")
    op.drop_table("webhook_read")
    op.drop_index("webhook_outbox_due", table_name="webhook_outbox")

    op.drop_table("webhook_outbox")
    op.drop_index("session_of", table_name="session")

    op.drop_table("session")
    op.drop_table("recovery_code")
    op.drop_table("person")
    op.drop_table("owner")
    op.drop_index("kept_score_month", table_name="kept_score")

    op.drop_table("kept_score")
    op.drop_index("kept_quote_policy", table_name="kept_quote")
    op.drop_index("kept_quote_owner", table_name="kept_quote")
    op.drop_index("kept_quote_given", table_name="kept_quote")
    op.drop_index("kept_quote_device", table_name="kept_quote")

    op.drop_table("kept_quote")
    op.drop_index("ix_invite_person", table_name="invite")

    op.drop_table("invite")
    op.drop_index("erasure_state", table_name="erasure")
    op.drop_index("erasure_device", table_name="erasure")

    op.drop_table("erasure")
    op.drop_table("consent_untold")
    op.drop_index("consent_of", table_name="consent")

    op.drop_table("consent")
    op.drop_index("ix_attempt_last_utc_ns", table_name="attempt")

    op.drop_table("attempt")
    op.drop_table("api_token")
    op.drop_index("api_answered_made", table_name="api_answered")

    op.drop_table("api_answered")
