"""How a claim moves: reported → evidence → assessed → settled, or disputed; each time by somebody, for a reason."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Engine, Row, select, update

from agent.errors import RoadwitnessError
from receiver import db
from receiver.claiming import history

STATES: Final = ("reported", "evidence", "assessed", "settled", "disputed")
# evidence is nobody's whim: the verifier moves there; an adjuster may assess without, and says why
MOVES: Final[dict[str, frozenset[str]]] = {
    "reported": frozenset({"evidence", "assessed", "disputed"}),
    "evidence": frozenset({"assessed", "disputed"}),
    "assessed": frozenset({"assessed", "settled", "disputed"}),
    "disputed": frozenset({"assessed"}),
    "settled": frozenset({"disputed"}),
}


class ClaimError(RoadwitnessError):
    """Something that cannot be done with a claim; `field` names what is wrong, for a form."""

    def __init__(self, claim: str, said: str, field: str = "") -> None:
        self.field = field
        super().__init__(f"claim {claim}: {said}")


@contextmanager
def deed(bind: Engine | Connection) -> Iterator[Connection]:
    """Give a transaction over an engine; over a connection go on in its own, with which the deed stands or falls."""
    if isinstance(bind, Connection):
        yield bind
    else:
        with bind.begin() as connection:
            yield connection


def row_of(connection: Connection, claim: str) -> Row[Any]:
    """Return a claim's row; raise ClaimError where there is none."""
    row = connection.execute(select(db.claim).where(db.claim.c.id == claim)).one_or_none()
    if row is None:
        raise ClaimError(claim[:16], "there is none of that name; see `roadwitness receiver claims list`")
    return row


def locked(connection: Connection, claim: str) -> Row[Any]:
    """Return a claim's row and keep others from changing it until the transaction ends; raise ClaimError."""
    query = select(db.claim).where(db.claim.c.id == claim).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        raise ClaimError(claim[:16], "there is none of that name; see `roadwitness receiver claims list`")
    return row


def move(
    connection: Connection,
    claim: str,
    to: str,
    now_ns: int,
    *,
    who: str,
    what: str,
    why: str = "",
    detail: dict[str, Any] | None = None,
) -> str:
    """Move a claim and write it down, in the caller's transaction; return the state before. Raise ClaimError."""
    before = str(locked(connection, claim).state)
    if to not in MOVES[before]:
        allowed = ", ".join(s for s in STATES if s in MOVES[before])
        raise ClaimError(claim, f"is {before} and cannot become {to}; from there it becomes {allowed}", "state")
    if not who.strip():
        raise ClaimError(claim, "say who does this", "who")
    if what != "proved" and not why.strip():
        raise ClaimError(claim, "say why", "why")
    connection.execute(update(db.claim).where(db.claim.c.id == claim).values(state=to, state_utc_ns=now_ns))
    history.append(connection, now_ns, claim, who, what, states=(before, to), why=why, detail=detail)
    return before


def note(
    connection: Connection,
    claim: str,
    now_ns: int,
    *,
    who: str,
    what: str,
    why: str = "",
    detail: dict[str, Any] | None = None,
) -> str:
    """Write down what was done to a claim without moving it; return its state. Raise ClaimError."""
    state = str(locked(connection, claim).state)
    if not who.strip():
        raise ClaimError(claim, "say who does this", "who")
    history.append(connection, now_ns, claim, who, what, states=(state, state), why=why, detail=detail)
    return state
