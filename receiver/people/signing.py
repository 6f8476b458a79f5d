"""Signing in: a password, then the second factor where there is one or must be one, then a session.

Names that are not there are answered as wrong passwords are, after the same work. Every session is a row of the log;
of refusals in a row the 1st, 2nd, 4th, 8th … are: enough to see an attack, too few to fill the log by one.
"""

from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Engine

from receiver import access, db
from receiver.access import Look
from receiver.people import accounts, factors, invites, limits, passwords, sessions
from receiver.people.factors import Sealer
from receiver.people.person import Person
from receiver.people.rights import ADJUSTER, TECHNICIAN, UNDERWRITER
from receiver.people.sessions import Session

# Who sees the data of many people needs a second factor; owners may have one.
OBLIGED: Final = frozenset({ADJUSTER, UNDERWRITER, TECHNICIAN})


class Seat(NamedTuple):
    """Where somebody sits: address and what the browser says it is."""

    address: str
    agent: str


class Outcome(NamedTuple):
    """A cookie and how far its session is; without one it was wrong, or has to wait so many ns."""

    token: str = ""
    stage: str = ""
    wait_ns: int = 0
    codes: tuple[str, ...] = ()  # new recovery codes, shown once


def with_password(engine: Engine, name: str, password: str, seat: Seat, now_ns: int) -> Outcome:
    """Judge a name and a password."""
    by_address = limits.of_address(seat.address)
    kinds = [(limits.of_name(name), limits.NAME), (by_address, limits.ADDRESS)]
    tried = limits.attempt(engine, kinds, now_ns)
    if tried.wait_ns:
        return Outcome(wait_ns=tried.wait_ns)
    with db.reading(engine) as connection:
        row = accounts.secrets_of(connection, name)
    if not passwords.matches(row.password if row is not None else "", password) or row is None:
        _refused(engine, row, seat, tried.nth, now_ns)
        return Outcome()
    anew = passwords.hashed(password) if passwords.outdated(row.password) else ""
    with engine.begin() as connection:
        limits.forgive(connection, limits.of_name(name))
        limits.forgive_one(connection, by_address)
        if anew:
            accounts.keep(connection, row.id, anew)
        return _go_on(connection, _person(row), bool(row.totp_secret), seat, now_ns)


def with_factor(engine: Engine, sealer: Sealer, half: Session, code: str, seat: Seat, now_ns: int) -> Outcome:
    """Judge a code of the second factor, or a recovery code, of somebody who gave his password."""
    tried = _try_factor(engine, half.person, seat, now_ns)
    if tried.wait_ns:
        return Outcome(wait_ns=tried.wait_ns)
    with engine.begin() as connection:
        if factor_holds(connection, sealer, half.person, code, now_ns):
            limits.forgive(connection, limits.of_factor(half.person.id))
            limits.forgive_one(connection, limits.of_address(seat.address))
            sessions.end(connection, half.person.id, half.id)
            return _begin(connection, half.person, seat, now_ns)
    _refused(engine, half.person, seat, tried.nth, now_ns)
    return Outcome()


def factor_holds(connection: Connection, sealer: Sealer, person: Person, code: str, now_ns: int) -> bool:
    """Say whether a code is the second factor's, or a recovery code; it is taken by that."""
    row = accounts.secrets_of(connection, person.name)
    if row is None or not row.totp_secret:
        return False
    if (recovery := factors.plain_code(code)) and accounts.use_code(connection, person.id, recovery):
        return True
    secret = sealer.unseal(person.id, row.totp_secret)
    step = None if secret is None else factors.step_of(secret, code, now_ns)
    return step is not None and accounts.use_step(connection, person.id, step)


def enrol(engine: Engine, sealer: Sealer, session: Session, code: str, seat: Seat, now_ns: int) -> Outcome:
    """Take the secret that this session was shown as the second factor, when a code proves that an app has it."""
    tried = _try_factor(engine, session.person, seat, now_ns)
    if tried.wait_ns:
        return Outcome(wait_ns=tried.wait_ns)
    person = session.person
    with engine.begin() as connection:
        row = accounts.secrets_of(connection, person.name)
        secret = sealer.offered(session.token, row.totp_secret if row is not None else "")
        step = factors.step_of(secret, code, now_ns)
        if row is None or step is None:
            return Outcome()
        codes = factors.new_codes()
        accounts.set_factor(connection, person.id, sealer.seal(person.id, secret), step, codes)
        limits.forgive(connection, limits.of_factor(person.id))
        limits.forgive_one(connection, limits.of_address(seat.address))
        access.write(connection, Look(person.name, seat.address, "", "", "factor"), now_ns)
        return _begin(connection, person, seat, now_ns)._replace(codes=tuple(codes))


def with_link(engine: Engine, secret: str, kept: str, seat: Seat, now_ns: int) -> Outcome | None:
    """Take a one-time link: the first one sets the password whose hash is `kept`; None where it holds no more."""
    with engine.begin() as connection:
        found = invites.use(connection, secret, now_ns)
        if found is None:
            return None
        if found.purpose == invites.ENTER:
            return _begin(connection, found.person, seat, now_ns)
        accounts.set_password(connection, found.person.id, kept)
        access.write(connection, Look(found.person.name, seat.address, "", "", "password"), now_ns)
        return _go_on(connection, found.person, False, seat, now_ns)


def change_password(engine: Engine, session: Session, kept: str, seat: Seat, now_ns: int) -> Outcome:
    """Keep a new password; all sessions end and a new one begins here."""
    with engine.begin() as connection:
        accounts.set_password(connection, session.person.id, kept)
        access.write(connection, Look(session.person.name, seat.address, "", "", "password"), now_ns)
        return _begin(connection, session.person, seat, now_ns)


def remove_factor(engine: Engine, session: Session, seat: Seat, now_ns: int) -> Outcome:
    """Take the second factor away; all sessions end and a new one begins here."""
    with engine.begin() as connection:
        accounts.set_factor(connection, session.person.id, "", 0, ())
        access.write(connection, Look(session.person.name, seat.address, "", "", "factor", "removed"), now_ns)
        return _begin(connection, session.person, seat, now_ns)


def sign_out(engine: Engine, session: Session, seat: Seat, now_ns: int) -> None:
    """End a session."""
    with engine.begin() as connection:
        sessions.end(connection, session.person.id, session.id)
        access.write(connection, Look(session.person.name, seat.address, "", "", "sign_out"), now_ns)


def password_again(engine: Engine, session: Session, password: str, seat: Seat, now_ns: int) -> Outcome:
    """Judge the password of somebody who is signed in; the outcome's token says that it is right."""
    by_name = limits.of_name(session.person.name)
    tried = limits.attempt(engine, [(by_name, limits.NAME)], now_ns)
    if tried.wait_ns:
        return Outcome(wait_ns=tried.wait_ns)
    with db.reading(engine) as connection:
        row = accounts.secrets_of(connection, session.person.name)
    if row is None or not passwords.matches(row.password, password):
        _refused(engine, row, seat, tried.nth, now_ns)
        return Outcome()
    with engine.begin() as connection:
        limits.forgive(connection, by_name)
    return Outcome(session.token, session.stage)


def _go_on(connection: Connection, person: Person, factor: bool, seat: Seat, now_ns: int) -> Outcome:
    """Begin the session of somebody who gave his password: whole, or until the second factor is shown or made."""
    if not factor and person.role not in OBLIGED:
        return _begin(connection, person, seat, now_ns)
    stage = sessions.FACTOR if factor else sessions.ENROL
    token = sessions.begin(connection, person.id, now_ns, stage=stage, address=seat.address, agent=seat.agent)
    return Outcome(token, stage)


def _begin(connection: Connection, person: Person, seat: Seat, now_ns: int) -> Outcome:
    token = sessions.begin(connection, person.id, now_ns, address=seat.address, agent=seat.agent)
    access.write(connection, Look(person.name, seat.address, "", "", "sign_in"), now_ns)
    return Outcome(token, sessions.WHOLE)


def _try_factor(engine: Engine, person: Person, seat: Seat, now_ns: int) -> limits.Tried:
    kinds = [(limits.of_factor(person.id), limits.FACTOR), (limits.of_address(seat.address), limits.ADDRESS)]
    return limits.attempt(engine, kinds, now_ns)


def _refused(engine: Engine, who: Any, seat: Seat, count: int, now_ns: int) -> None:
    """Log a refusal, without what was typed as the name: people type passwords there."""
    if count & (count - 1) == 0:
        name = "" if who is None else who.name
        access.append(engine, Look(name, seat.address, "", "", "refused", f"{count} in a row"), now_ns)


def _person(row: Any) -> Person:
    return Person(row.id, row.name, row.role, row.owner)
