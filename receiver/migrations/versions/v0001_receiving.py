"""What receiving needs: devices, entries and their projections, files, commands, claims, the log of looks.

Databases from before there were revisions hold these tables already, or some of them.
"""

from functools import partial

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

make_table = partial(op.create_table, if_not_exists=True)
make_index = partial(op.create_index, if_not_exists=True)


def upgrade() -> None:
    """Make the tables that are not there."""
    make_table(
        "access_log",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("incident", sa.String(length=16), nullable=False),
        sa.Column("what", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    make_index("access_log_of", "access_log", ["device", "incident", "seq"])
    make_table(
        "boot_clock",
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("boot", sa.String(length=64), nullable=False),
        sa.Column("offset_ns", sa.BigInteger(), nullable=False),
        sa.Column("quality", sa.String(length=16), nullable=False),
        sa.Column("uncertainty_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device", "boot"),
    )
    make_table(
        "claim",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("incident", sa.String(length=16), nullable=False),
        sa.Column("opened_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("opened_by", sa.String(length=16), nullable=False),
        sa.Column("suspected", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("state_utc_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("device", "incident", name="claim_incident"),
    )
    make_index("claim_device", "claim", ["device", "opened_utc_ns"])
    make_index("claim_opened", "claim", ["opened_utc_ns"])
    make_table(
        "command",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("command", sa.String(length=32), nullable=False),
        sa.Column("arguments", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("issued_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("expires_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("sent_utc_ns", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("state_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("incident", sa.String(length=16), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    make_index("command_device", "command", ["device", "issued_utc_ns"])
    make_index("command_unsent", "command", ["sent_utc_ns", "issued_utc_ns"])
    make_table(
        "crash",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("lineage", sa.String(length=12), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("boot", sa.String(length=64), nullable=False),
        sa.Column("t_ns", sa.BigInteger(), nullable=False),
        sa.Column("received_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("incident", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("locked", sa.Boolean(), nullable=False),
        sa.Column("delta_v_mps", sa.Float(precision=53), nullable=True),
        sa.Column("direction_clock", sa.BigInteger(), nullable=True),
        sa.Column("clipped", sa.Boolean(), nullable=False),
        sa.Column("speed_before_mps", sa.Float(precision=53), nullable=True),
        sa.Column("latitude", sa.Float(precision=53), nullable=True),
        sa.Column("longitude", sa.Float(precision=53), nullable=True),
        sa.Column("trip_t_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("device", "lineage", "lane", "seq", name="crash_entry"),
    )
    make_index("crash_incident", "crash", ["device", "incident"])
    make_index("crash_place", "crash", ["latitude", "longitude"])
    make_index("crash_received", "crash", ["received_utc_ns"])
    make_index("crash_time", "crash", ["device", "boot", "t_ns"])
    make_table(
        "curve",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("lineage", sa.String(length=12), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("boot", sa.String(length=64), nullable=False),
        sa.Column("t_ns", sa.BigInteger(), nullable=False),
        sa.Column("received_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("trip_t_ns", sa.BigInteger(), nullable=False),
        sa.Column("step_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("device", "lineage", "lane", "seq", name="curve_entry"),
    )
    make_index("curve_received", "curve", ["received_utc_ns"])
    make_index("curve_time", "curve", ["device", "boot", "t_ns"])
    make_index("curve_trip", "curve", ["device", "boot", "trip_t_ns"])
    make_table(
        "device",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("public_key", sa.String(length=64), nullable=False),
        sa.Column("enrolled_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("greeted", sa.Boolean(), nullable=False),
        sa.Column("lineage", sa.String(length=12), nullable=False),
        sa.Column("session", sa.String(length=64), nullable=False),
        sa.Column("birth", sa.LargeBinary(), nullable=True),
        sa.Column("birth_utc_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    make_table(
        "entry",
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("lineage", sa.String(length=12), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("boot", sa.String(length=64), nullable=False),
        sa.Column("t_ns", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("flag", sa.String(length=16), nullable=False),
        sa.Column("received_utc_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device", "lineage", "lane", "seq"),
    )
    make_table(
        "event",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("lineage", sa.String(length=12), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("boot", sa.String(length=64), nullable=False),
        sa.Column("t_ns", sa.BigInteger(), nullable=False),
        sa.Column("received_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("trip_t_ns", sa.BigInteger(), nullable=True),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("confirmed", sa.Boolean(), nullable=False),
        sa.Column("duration_ns", sa.BigInteger(), nullable=False),
        sa.Column("peak", sa.Float(precision=53), nullable=False),
        sa.Column("unit", sa.String(length=16), nullable=False),
        sa.Column("speed_before_mps", sa.Float(precision=53), nullable=True),
        sa.Column("rule", sa.String(length=64), nullable=False),
        sa.Column("latitude", sa.Float(precision=53), nullable=True),
        sa.Column("longitude", sa.Float(precision=53), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("device", "lineage", "lane", "seq", name="event_entry"),
    )
    make_index("event_received", "event", ["received_utc_ns"])
    make_index("event_time", "event", ["device", "boot", "t_ns"])
    make_index("event_trip", "event", ["device", "boot", "trip_t_ns"])
    make_table(
        "health",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("lineage", sa.String(length=12), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("boot", sa.String(length=64), nullable=False),
        sa.Column("t_ns", sa.BigInteger(), nullable=False),
        sa.Column("received_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("device", "lineage", "lane", "seq", name="health_entry"),
    )
    make_index("health_received", "health", ["received_utc_ns"])
    make_index("health_time", "health", ["device", "boot", "t_ns"])
    make_table(
        "hole",
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("lineage", sa.String(length=12), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("noted_utc_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device", "lineage", "lane", "first_seq"),
    )
    make_table(
        "lane_state",
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("lineage", sa.String(length=12), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("device", "lineage", "lane"),
    )
    make_table(
        "live",
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("online", sa.Boolean(), nullable=False),
        sa.Column("since_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("seen_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("position_boot", sa.String(length=64), nullable=True),
        sa.Column("position_t_ns", sa.BigInteger(), nullable=True),
        sa.Column("latitude", sa.Float(precision=53), nullable=True),
        sa.Column("longitude", sa.Float(precision=53), nullable=True),
        sa.Column("speed_mps", sa.Float(precision=53), nullable=True),
        sa.PrimaryKeyConstraint("device"),
    )
    make_table(
        "mount",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("lineage", sa.String(length=12), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("boot", sa.String(length=64), nullable=False),
        sa.Column("t_ns", sa.BigInteger(), nullable=False),
        sa.Column("received_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("gravity_x", sa.Float(precision=53), nullable=False),
        sa.Column("gravity_y", sa.Float(precision=53), nullable=False),
        sa.Column("gravity_z", sa.Float(precision=53), nullable=False),
        sa.Column("forward_x", sa.Float(precision=53), nullable=False),
        sa.Column("forward_y", sa.Float(precision=53), nullable=False),
        sa.Column("forward_z", sa.Float(precision=53), nullable=False),
        sa.Column("confidence", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("device", "lineage", "lane", "seq", name="mount_entry"),
    )
    make_index("mount_received", "mount", ["received_utc_ns"])
    make_index("mount_time", "mount", ["device", "boot", "t_ns"])
    make_table(
        "package",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("lineage", sa.String(length=12), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("boot", sa.String(length=64), nullable=False),
        sa.Column("t_ns", sa.BigInteger(), nullable=False),
        sa.Column("received_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("incident", sa.String(length=16), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("device", "lineage", "lane", "seq", name="package_entry"),
    )
    make_index("package_incident", "package", ["device", "incident"])
    make_index("package_received", "package", ["received_utc_ns"])
    make_index("package_time", "package", ["device", "boot", "t_ns"])
    make_table(
        "package_check",
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("incident", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=False),
        sa.Column("edition", sa.BigInteger(), nullable=True),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.Column("checked_utc_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device", "incident"),
    )
    make_index("package_check_time", "package_check", ["device", "checked_utc_ns"])
    make_table(
        "package_file",
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("incident", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("file", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("device", "incident", "name"),
    )
    make_index("package_file_file", "package_file", ["device", "file"])
    make_table(
        "package_state",
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("incident", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("lineage", sa.String(length=12), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("whole", sa.Boolean(), nullable=False),
        sa.Column("whole_utc_ns", sa.BigInteger(), nullable=True),
        sa.Column("told", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("device", "incident"),
    )
    make_index("package_untold", "package_state", ["told", "whole"])
    make_table(
        "parked",
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("lineage", sa.String(length=12), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("device", "lineage", "lane", "first_seq"),
    )
    make_table(
        "pending_device",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("public_key", sa.String(length=64), nullable=False),
        sa.Column("birth", sa.LargeBinary(), nullable=False),
        sa.Column("first_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("last_utc_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    make_index(op.f("ix_pending_device_last_utc_ns"), "pending_device", ["last_utc_ns"])
    make_table(
        "refused",
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("last_utc_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device", "reason"),
    )
    make_table(
        "reply",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("lineage", sa.String(length=12), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("boot", sa.String(length=64), nullable=False),
        sa.Column("t_ns", sa.BigInteger(), nullable=False),
        sa.Column("received_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("command_id", sa.String(length=32), nullable=False),
        sa.Column("command", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("expires_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("incident", sa.String(length=16), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("device", "lineage", "lane", "seq", name="reply_entry"),
    )
    make_index("reply_command", "reply", ["device", "command_id"])
    make_index("reply_received", "reply", ["received_utc_ns"])
    make_index("reply_time", "reply", ["device", "boot", "t_ns"])
    make_table("schema_version", sa.Column("version", sa.Integer(), nullable=False), sa.PrimaryKeyConstraint("version"))
    make_table(
        "track",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("lineage", sa.String(length=12), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("boot", sa.String(length=64), nullable=False),
        sa.Column("t_ns", sa.BigInteger(), nullable=False),
        sa.Column("received_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("trip_t_ns", sa.BigInteger(), nullable=False),
        sa.Column("points", sa.BigInteger(), nullable=False),
        sa.Column("error_m", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("device", "lineage", "lane", "seq", name="track_entry"),
    )
    make_index("track_received", "track", ["received_utc_ns"])
    make_index("track_time", "track", ["device", "boot", "t_ns"])
    make_index("track_trip", "track", ["device", "boot", "trip_t_ns"])
    make_table(
        "transfer",
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("file", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("partial", sa.String(length=32), nullable=False),
        sa.Column("ranges", sa.Text(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("updated_utc_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device", "file"),
    )
    make_index("transfer_state", "transfer", ["device", "state"])
    make_table(
        "trip",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("lineage", sa.String(length=12), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("boot", sa.String(length=64), nullable=False),
        sa.Column("t_ns", sa.BigInteger(), nullable=False),
        sa.Column("received_utc_ns", sa.BigInteger(), nullable=False),
        sa.Column("end_ns", sa.BigInteger(), nullable=False),
        sa.Column("start_latitude", sa.Float(precision=53), nullable=True),
        sa.Column("start_longitude", sa.Float(precision=53), nullable=True),
        sa.Column("end_latitude", sa.Float(precision=53), nullable=True),
        sa.Column("end_longitude", sa.Float(precision=53), nullable=True),
        sa.Column("distance_m", sa.Float(precision=53), nullable=False),
        sa.Column("moving_s", sa.Float(precision=53), nullable=False),
        sa.Column("idle_s", sa.Float(precision=53), nullable=False),
        sa.Column("stops", sa.BigInteger(), nullable=False),
        sa.Column("max_speed_mps", sa.Float(precision=53), nullable=False),
        sa.Column("night_s", sa.Float(precision=53), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("device", "lineage", "lane", "seq", name="trip_entry"),
    )
    make_index("trip_received", "trip", ["received_utc_ns"])
    make_index("trip_time", "trip", ["device", "boot", "t_ns"])


def downgrade() -> None:
    """Drop them."""
    op.drop_index("trip_time", table_name="trip")
    op.drop_index("trip_received", table_name="trip")
    op.drop_table("trip")
    op.drop_index("transfer_state", table_name="transfer")
    op.drop_table("transfer")
    op.drop_index("track_trip", table_name="track")
    op.drop_index("track_time", table_name="track")
    op.drop_index("track_received", table_name="track")
    op.drop_table("track")
    op.drop_table("schema_version")
    op.drop_index("reply_time", table_name="reply")
    op.drop_index("reply_received", table_name="reply")
    op.drop_index("reply_command", table_name="reply")
    op.drop_table("reply")
    op.drop_table("refused")
    op.drop_index(op.f("ix_pending_device_last_utc_ns"), table_name="pending_device")
    op.drop_table("pending_device")
    op.drop_table("parked")
    op.drop_index("package_untold", table_name="package_state")
    op.drop_table("package_state")
    op.drop_index("package_file_file", table_name="package_file")
    op.drop_table("package_file")
    op.drop_index("package_check_time", table_name="package_check")
    op.drop_table("package_check")
    op.drop_index("package_time", table_name="package")
    op.drop_index("package_received", table_name="package")
    op.drop_index("package_incident", table_name="package")
    op.drop_table("package")
    op.drop_index("mount_time", table_name="mount")
    op.drop_index("mount_received", table_name="mount")
    op.drop_table("mount")
    op.drop_table("live")
    op.drop_table("lane_state")
    op.drop_table("hole")
    op.drop_index("health_time", table_name="health")
    op.drop_index("health_received", table_name="health")
    op.drop_table("health")
    op.drop_index("event_trip", table_name="event")
    op.drop_index("event_time", table_name="event")
    op.drop_index("event_received", table_name="event")
    op.drop_table("event")
    op.drop_table("entry")
    op.drop_table("device")
    op.drop_index("curve_trip", table_name="curve")
    op.drop_index("curve_time", table_name="curve")
    op.drop_index("curve_received", table_name="curve")
    op.drop_table("curve")
    op.drop_index("crash_time", table_name="crash")
    op.drop_index("crash_received", table_name="crash")
    op.drop_index("crash_place", table_name="crash")
    op.drop_index("crash_incident", table_name="crash")
    op.drop_table("crash")
    op.drop_index("command_unsent", table_name="command")
    op.drop_index("command_device", table_name="command")
    op.drop_table("command")
    op.drop_index("claim_opened", table_name="claim")
    op.drop_index("claim_device", table_name="claim")
    op.drop_table("claim")
    op.drop_table("boot_clock")
    op.drop_index("access_log_of", table_name="access_log")
    op.drop_table("access_log")
