"""What a box asks of the authority, judged: a first certificate for a code, the next ones for what proves the last.

While a certificate is in force its key must sign for the next: a copy of the record key alone gets none. When it has
ended, as in a car that stood for months, the record key suffices, unless the box is blocked or its last certificate
was revoked: then only a new code helps. Asking again with the same key, as after an answer that was lost, gives the
same certificate.
"""

from collections.abc import Sequence
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Connection, Engine, func, insert, select, update

from agent.chain import public_bytes
from agent.clock import NS_PER_S
from agent.enrolmentmessages import ENROL, RENEW, Ask, Granted, decode_ask
from agent.messages import MessageError
from receiver import access, commands, db, devices
from receiver.access import Look
from receiver.authority import codes, issuing
from receiver.authority.folder import Authority, AuthorityError, folder_of, load
from receiver.authority.issuing import Issued, PublicKey, Revoked
from receiver.authority.tables import certificate as table
from receiver.settings import ReceiverSettings

MOST_A_DAY: Final = 20  # certificates of one box: it wants one in weeks
DAY_NS: Final = 86_400 * NS_PER_S
ACTOR: Final = "enrolment code of {}"


class RefusedError(AuthorityError):
    """A box is given no certificate; `status` is HTTP's number."""

    def __init__(self, said: str, status: int = 403) -> None:
        self.status = status
        super().__init__(said)


def enrol(engine: Engine, settings: ReceiverSettings, payload: bytes, address: str, now_ns: int) -> Granted:
    """Trust a box that has a code, and give it a certificate; raise RefusedError, or AuthorityError without a CA."""
    authority = load(folder_of(settings))
    ask, _, _ = _decoded(payload, ENROL)
    key = _key_of(ask)
    with engine.begin() as connection:
        if _state(connection, ask.device) == "blocked":
            raise RefusedError(f"device {ask.device} is blocked; the insurer must unblock it first")
        by = codes.use(connection, ask.code, ask.device, now_ns)
        if by is None:
            raise RefusedError("the enrolment code is wrong, was used, has ended, or is for another device")
        pem = _give(connection, authority, settings, ask, key, "code", now_ns)
    devices.enrol(engine, ask.public_key)
    access.append(engine, Look(ACTOR.format(by)[:64], address, ask.device, "", "enrolment", "certificate"), now_ns)
    return _granted(authority, settings, ask, pem)


def renew(engine: Engine, settings: ReceiverSettings, payload: bytes, now_ns: int) -> Granted:
    """Give a box that is trusted its next certificate; raise as `enrol` does."""
    authority = load(folder_of(settings))
    ask, signed, proof = _decoded(payload, RENEW)
    key = _key_of(ask)
    with engine.begin() as connection:
        state = _state(connection, ask.device)
        if state != "accepted":
            told = (
                "is not enrolled; enrol it with a code" if state is None else "is blocked; the insurer must unblock it"
            )
            raise RefusedError(f"device {ask.device} {told}")
        had = _had(connection, ask.device)
        if had and had[0].revoked_utc_ns is not None:
            raise RefusedError(f"device {ask.device}: its last certificate was revoked; enrol it with a new code")
        in_force = [row for row in had if row.revoked_utc_ns is None and row.ends_utc_ns > now_ns]
        if in_force and not any(_proved(row, proof, signed) for row in in_force):
            raise RefusedError("the key of the certificate in force did not sign this request")
        pem = _give(connection, authority, settings, ask, key, "renewal" if in_force else "record key", now_ns)
    return _granted(authority, settings, ask, pem)


def keep(connection: Connection, kind: str, subject: str, issued: Issued, how: str, now_ns: int) -> None:
    """Keep a certificate that was given."""
    row = {n: getattr(issued, n) for n in ("serial", "key_hash", "begins_utc_ns", "ends_utc_ns", "pem")}
    row |= {"kind": kind, "subject": subject, "issued_utc_ns": now_ns, "how": how, "revoked_utc_ns": None, "reason": ""}
    connection.execute(insert(table).values(**row))


def revoke(connection: Connection, name: str, reason: str, now_ns: int) -> int:
    """Revoke a certificate by its serial number, or all of a subject; return how many there were in force."""
    named = (table.c.serial == name.lower().lstrip("0")) | (table.c.subject == name)
    live = (table.c.revoked_utc_ns.is_(None), table.c.ends_utc_ns > now_ns)
    said = {"revoked_utc_ns": now_ns, "reason": reason[:200]}
    return connection.execute(update(table).where(named, *live).values(**said)).rowcount


def revoked(connection: Connection, now_ns: int) -> list[Revoked]:
    """Return what counts no more and would not have ended by itself: revoked ones, and all of blocked devices."""
    d = db.device
    joined = table.outerjoin(d, (d.c.id == table.c.subject) & (table.c.kind == "device"))
    no_more = table.c.revoked_utc_ns.is_not(None) | (d.c.state == "blocked")
    columns = (table.c.serial, func.coalesce(table.c.revoked_utc_ns, table.c.issued_utc_ns))
    query = select(*columns).select_from(joined).where(no_more, table.c.ends_utc_ns > now_ns)
    return [Revoked(*row) for row in connection.execute(query.order_by(table.c.serial))]


def _decoded(payload: bytes, prefix: bytes) -> tuple[Ask, bytes, bytes]:
    try:
        return decode_ask(payload, prefix)
    except MessageError as e:
        raise RefusedError(str(e), 422) from e


def _key_of(ask: Ask) -> PublicKey:
    try:
        return issuing.key_of(ask.request)
    except AuthorityError as e:
        raise RefusedError(str(e), 422) from e


def _give(
    connection: Connection,
    authority: Authority,
    settings: ReceiverSettings,
    ask: Ask,
    key: PublicKey,
    how: str,
    now_ns: int,
) -> str:
    """Return a certificate for the key of an ask: a new one, or the one that it has."""
    if isinstance(key, ed25519.Ed25519PublicKey) and key.public_bytes_raw().hex() == ask.public_key:
        raise RefusedError("the certificate's key must be another one than the record key", 422)
    known = connection.execute(select(table).where(table.c.key_hash == issuing.key_hash(key))).one_or_none()
    if known is not None:
        if known.subject != ask.device or known.revoked_utc_ns is not None or known.ends_utc_ns <= now_ns:
            raise RefusedError("the key of this request was certified before; make a new one", 409)
        return str(known.pem)
    since = (table.c.subject == ask.device, table.c.issued_utc_ns > now_ns - DAY_NS)
    if connection.execute(select(func.count()).select_from(table).where(*since)).scalar_one() >= MOST_A_DAY:
        raise RefusedError(f"device {ask.device} had {MOST_A_DAY} certificates within a day; try again tomorrow", 429)
    issued = issuing.issue(authority, "device", ask.device, key, settings.enrolment.life_days, now_ns)
    keep(connection, "device", ask.device, issued, how, now_ns)
    return issued.pem


def _had(connection: Connection, device: str) -> Sequence[Any]:
    """Return the last certificates of a device, the latest first: of several in force a box may hold an earlier one."""
    mine = (table.c.subject == device, table.c.kind == "device")
    query = select(table).where(*mine).order_by(table.c.issued_utc_ns.desc(), table.c.serial).limit(MOST_A_DAY)
    return connection.execute(query).all()


def _proved(row: Any, proof: bytes, signed: bytes) -> bool:
    """Say whether the key of a certificate signed a request."""
    key: Any = x509.load_pem_x509_certificate(row.pem.encode()).public_key()
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(proof, signed, ec.ECDSA(hashes.SHA256()))
        else:
            key.verify(proof, signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def _state(connection: Connection, device: str) -> str | None:
    return connection.execute(select(db.device.c.state).where(db.device.c.id == device)).scalar()


def _granted(authority: Authority, settings: ReceiverSettings, ask: Ask, pem: str) -> Granted:
    return Granted(
        device=ask.device,
        certificate=pem,
        authority=authority.root.public_bytes(Encoding.PEM).decode(),
        broker=settings.enrolment.broker or settings.broker.url,
        keys=[public_bytes(commands.command_key(settings)).hex()],
    )
