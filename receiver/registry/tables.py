"""Tables of owners, vehicles, bindings, consents and erasures, beside those of receiver.db.

Consents are added and never changed. Of a binding only its end is written later, of an erasure only how far it is.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

from receiver import db

_NAME: Final = String(64)
_VIN: Final = String(17)
_ID: Final = BigInteger().with_variant(Integer(), "sqlite")
metadata = db.metadata

owner = Table(
    "owner",
    metadata,
    Column("id", _NAME, primary_key=True),  # the insurer's own reference, as policies name it
    Column("name", String(100), nullable=False),
    Column("phone", String(32), nullable=False),  # empty: not given
    Column("email", String(254), nullable=False),  # empty: not given
    Column("registered_utc_ns", BigInteger, nullable=False),
)

vehicle = Table(
    "vehicle",
    metadata,
    Column("vin", _VIN, primary_key=True),
    Column("owner", _NAME, ForeignKey("owner.id"), nullable=False),
    Column("plate", String(16), nullable=False),  # empty: none yet
    Column("use_class", String(32), nullable=False),
    Column("seats", Integer, nullable=False),
    Column("energy", String(32), nullable=False),
    Column("first_registered", Date, nullable=False),
    Column("registered_utc_ns", BigInteger, nullable=False),
    Index("vehicle_owner", "owner"),
    Index("vehicle_plate", "plate"),
)

# The code that is told to whoever fits the device; one for each vehicle, used once.
binding_code = Table(
    "binding_code",
    metadata,
    Column("vin", _VIN, ForeignKey("vehicle.vin"), primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("expires_utc_ns", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False),  # that failed
)

binding = Table(
    "binding",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("device", _NAME, nullable=False),
    Column("vin", _VIN, ForeignKey("vehicle.vin"), nullable=False),
    Column("owner", _NAME, nullable=False),  # of the vehicle at that time: it may be sold later
    Column("bound_utc_ns", BigInteger, nullable=False),
    Column("bound_by", _NAME, nullable=False),
    Column("ended_utc_ns", BigInteger),  # NULL: the device is in this vehicle
    Column("ended_by", _NAME, nullable=False),
    Column("reason", String(200), nullable=False),  # why it ended
    Index("binding_device", "device", "bound_utc_ns"),
    Index("binding_vin", "vin", "bound_utc_ns"),
)
_present = binding.c.ended_utc_ns.is_(None)
# one device in one vehicle, whoever asks at the same time
Index("binding_one_device", binding.c.device, unique=True, sqlite_where=_present, postgresql_where=_present)
Index("binding_one_vehicle", binding.c.vin, unique=True, sqlite_where=_present, postgresql_where=_present)

consent = Table(
    "consent",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("device", _NAME, nullable=False),
    Column("vin", _VIN, nullable=False),
    Column("owner", _NAME, nullable=False),
    Column("purpose", String(16), nullable=False),  # receiver.registry.consents.PURPOSES
    Column("given", Boolean, nullable=False),  # or withdrawn
    Column("at_utc_ns", BigInteger, nullable=False),  # rising with the ids of one device
    Column("version", String(16), nullable=False),  # of the text that was shown; empty where it was withdrawn
    Column("language", String(8), nullable=False),
    Column("digest", String(64), nullable=False),  # SHA-256 of that text
    Column("by", _NAME, nullable=False),  # who wrote it down
    Column("how", String(200), nullable=False),  # "page", or where the paper is
    Index("consent_of", "device", "purpose", "at_utc_ns"),
)

# Devices that must be told what they may keep: a row while the broker has not been given the newest word.
consent_untold = Table("consent_untold", metadata, Column("device", _NAME, primary_key=True))

erasure = Table(
    "erasure",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("device", _NAME, nullable=False),
    Column("owner", _NAME, nullable=False),
    Column("purpose", String(16), nullable=False),  # what was withdrawn
    Column("asked_utc_ns", BigInteger, nullable=False),
    Column("asked_by", _NAME, nullable=False),
    Column("until_utc_ns", BigInteger, nullable=False),  # of what was received before
    Column("due_utc_ns", BigInteger, nullable=False),  # to be done before
    Column("state", String(16), nullable=False),  # receiver.registry.erasure.STATES
    Column("done_utc_ns", BigInteger),
    Column("removed", Text, nullable=False),  # JSON: what -> how many
    Column("kept", Text, nullable=False),  # JSON: incidents that an open claim needs
    Index("erasure_device", "device", "asked_utc_ns"),
    Index("erasure_state", "state", "due_utc_ns"),
)
