"""What an adjuster asks the owner of a claim for: documents, by kind and with the reason, and what is still wanted."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, Engine

from receiver.claiming import states
from receiver.claiming.documents import KINDS, Document
from receiver.claiming.history import Step
from receiver.claiming.states import ClaimError


def ask(bind: Engine | Connection, claim: str, kinds: Sequence[str], who: str, why: str, now_ns: int) -> None:
    """Write down which documents the owner is asked for, and why; he reads both. Raise ClaimError naming the field."""
    wanted = [kind for kind in KINDS if kind in kinds]
    if not wanted or len(wanted) != len(set(kinds)):
        raise ClaimError(claim, f"say which documents are wanted: {', '.join(KINDS)}", "kinds")
    if not why.strip():
        raise ClaimError(claim, "say why", "why")
    with states.deed(bind) as connection:
        if states.locked(connection, claim).state == "settled":
            raise ClaimError(claim, "is settled; dispute it before asking for more", "state")
        states.note(connection, claim, now_ns, who=who, what="asked", why=why, detail={"kinds": wanted})


def kinds_of(step: Step) -> list[str]:
    """Return the kinds of documents that a step asks for, none for another step."""
    if step.what != "asked":
        return []
    return [str(kind) for kind in msgspec.json.decode(step.detail).get("kinds", [])]


def wanted(steps: Sequence[Step], held: Sequence[Document]) -> list[str]:
    """Return the kinds that were asked for and of which nothing was uploaded since, in the order of KINDS."""
    asked: dict[str, int] = {}
    for step in steps:
        asked |= dict.fromkeys(kinds_of(step), step.utc_ns)
    came: dict[str, int] = {}
    for document in held:
        came[document.kind] = max(document.uploaded_utc_ns, came.get(document.kind, 0))
    return [kind for kind in KINDS if kind in asked and came.get(kind, -1) < asked[kind]]
