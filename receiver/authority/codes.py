"""One-time codes by which a box enrols: made by the insurer, kept as hashes, used once and not for long."""

from secrets import token_bytes
from typing import Final, NamedTuple

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from agent.clock import NS_PER_S
from agent.enrolmentmessages import SECRET_LENGTH, Code, letters
from receiver.authority.folder import AuthorityError
from receiver.authority.tables import enrolment_code as table
from receiver.people import secrets

MOST_DAYS: Final = 30
AGAIN_NS: Final = 3600 * NS_PER_S
KEPT_NS: Final = 400 * 86_400 * NS_PER_S  # used ones, so that it can be told who enrolled what


class Row(NamedTuple):
    """A code, without its secret."""

    device: str
    made_utc_ns: int
    until_utc_ns: int
    made_by: str
    used_utc_ns: int | None
    used_by: str


def make(connection: Connection, by: str, hours: float, now_ns: int, device: str = "", mark: str = "") -> Code:
    """Make a code for one enrolment within `hours`, of one device where it is named; raise AuthorityError."""
    if not 0 < hours <= 24 * MOST_DAYS:
        raise AuthorityError(f"an enrolment code lives for up to {MOST_DAYS} days, not {hours:g} hours")
    code = Code(letters(token_bytes(32), SECRET_LENGTH), mark)
    connection.execute(delete(table).where(table.c.until_utc_ns < now_ns - KEPT_NS))
    until_ns = now_ns + round(hours * 3600 * NS_PER_S)
    row = {"hash": _hash(code.secret), "device": device, "made_utc_ns": now_ns, "until_utc_ns": until_ns}
    connection.execute(insert(table).values(**row, made_by=by, used_utc_ns=None, used_by=""))
    return code


def use(connection: Connection, secret: str, device: str, now_ns: int) -> str | None:
    """Take a code for a device; of several devices, one gets it. Return who made it, None where it counts for nothing.

    The device that used it may use it again for AGAIN_NS: the answer may have been lost on its way.
    """
    mine = (table.c.hash == _hash(secret), or_(table.c.device == "", table.c.device == device))
    again = and_(table.c.used_by == device, table.c.used_utc_ns > now_ns - AGAIN_NS)
    live = (or_(table.c.used_utc_ns.is_(None), again), table.c.until_utc_ns > now_ns)
    used = {"used_utc_ns": func.coalesce(table.c.used_utc_ns, now_ns), "used_by": device}
    taken = connection.execute(update(table).where(*mine, *live).values(**used)).rowcount
    return connection.execute(select(table.c.made_by).where(*mine)).scalar() if taken else None


def listed(connection: Connection) -> list[Row]:
    """Return the codes, the latest first."""
    columns = [table.c[name] for name in Row._fields]
    return [Row(*row) for row in connection.execute(select(*columns).order_by(table.c.made_utc_ns.desc()))]


def _hash(secret: str) -> str:
    return secrets.hashed(f"enrolment {secret}")
