"""The adjusters' claims: the queue, and one claim with its crash, checks, calculation, documents, history and forms."""

from collections.abc import Mapping
from functools import cache
from typing import Final

from fastapi import Request, Response
from sqlalchemy import Connection, func, select
from starlette.exceptions import HTTPException

from receiver import access, askedwords, commands, crashes, crashviews, db
from receiver.claiming import reading, states, tables, worklist
from receiver.claiming.documents import KINDS, MOST_BYTES
from receiver.claiming.states import ClaimError
from receiver.crashviews import MOST_LOOKS
from receiver.fields import Typed, typed
from receiver.pages import adjuster_forms, adjuster_view
from receiver.pages import crash as crash_pages
from receiver.pages.owner_claims import ACCEPT
from receiver.people import reach
from receiver.people.person import Person
from receiver.pricing import RateBook, load_book
from receiver.registry import consents
from receiver.site import Site
from receiver.words import Words

CLIP: Final = "clip"
MOST_ASKED: Final = 50  # commands of a device that are looked through for those of a claim


@cache
def book() -> RateBook:
    """Return the tariffs by which claims are calculated."""
    return load_book()


def listed(site: Site, request: Request, _: Person, page_number: int) -> Response:
    """Answer with the queue; ?state= chooses among worklist.CHOICES."""
    choice = request.query_params.get("state", worklist.OPEN)
    if choice not in worklist.CHOICES:
        raise HTTPException(404)
    words = site.words_of(request)
    found, shown, counts = worklist.queue(site.engine, book(), site.now_ns(), choice=choice, page=page_number)
    return site.page(
        request,
        "adjuster_claims.html",
        words=words,
        claims=[adjuster_view.line(words, one) for one in found],
        shown=shown,
        choice=choice,
        counts=counts,
        choices=worklist.CHOICES,
    )


def one(site: Site, request: Request, person: Person, claim: str) -> Response:
    """Answer with one claim."""
    return page(site, request, person, claim)


def refused(site: Site, request: Request, person: Person, claim: str, field: str, said: str) -> Response:
    """Answer that a document was not taken."""
    return page(site, request, person, claim, 422, "documents", errors={field: said})


def page(
    site: Site,
    request: Request,
    person: Person,
    claim: str,
    status: int = 200,
    form: str = "",
    given: Typed | None = None,
    errors: Mapping[str, str] | None = None,
    since: int | None = None,
    seen: str = "",
) -> Response:
    """Answer with one claim; `form` was refused with `errors` by field, or for what was done `since` its version.

    The forms name `seen` as their version, or what is there now.
    """
    words = site.words_of(request)
    try:
        found = reading.claim(site.engine, book(), claim)
    except ClaimError as e:
        raise HTTPException(404) from e
    reach.device(site.engine, person, found.device)
    crash = crashes.crash(site.engine, found.device, found.incident)
    with db.reading(site.engine) as connection:
        car = worklist.plate(connection, claim, found.device) or found.device
        need = worklist.need(connection, claim, site.now_ns())
        word = consents.standing(connection, found.device).get(CLIP)
    before = access.latest(site.engine, found.device, found.incident, MOST_LOOKS)
    site.note(request, "page", found.device, found.incident, f"claim {claim}")
    at = crashviews.address(found.device, found.incident) if crash is not None else ""
    view = adjuster_view.claim(words, found, car, need, at)
    newest = max((step.seq for step in found.history), default=0)
    changed = [adjuster_view.step(words, found, s) for s in found.history if since is not None and s.seq > since]
    return site.page(
        request,
        "adjuster_claim.html",
        status,
        words=words,
        claim=view,
        crash_address=at,
        changed=changed,
        version_of_claim=seen or newest,
        forms=adjuster_forms.forms(words, found, given or typed([]), errors or {}, form),
        chosen=form,
        errors=errors or {},
        agreed=word is not None and word.given,
        asked=_asked(site, words, found),
        kinds=[(kind, words.text(f"my_claims.kind.{kind}")) for kind in KINDS],
        ticked=(given or typed([])).listed("ask-kinds"),
        accept=ACCEPT,
        most_mb=MOST_BYTES >> 20,
        kept=site.files is not None,
        **({"crash": None} if crash is None else crash_pages.shown(site, words, crash, before)),
    )


def version(connection: Connection, claim: str) -> int:
    """Return the number of the last thing done to a claim: what a form of its page must name."""
    t = tables.claim_history
    return int(connection.execute(select(func.max(t.c.seq)).where(t.c.claim == claim)).scalar() or 0)


def reached(site: Site, person: Person, claim: str) -> tuple[str, str]:
    """Return device and incident of a claim that a person reaches; raise 404 for another."""
    try:
        with db.reading(site.engine) as connection:
            row = states.row_of(connection, claim)
    except ClaimError as e:
        raise HTTPException(404) from e
    return reach.device(site.engine, person, row.device), row.incident


def _asked(site: Site, words: Words, found: reading.ClaimPage) -> list[askedwords.AskedLine]:
    """Return the videos that were asked of the box for this claim."""
    own = adjuster_view.commands_of(found.history)
    told = commands.asked(site.engine, found.device, site.now_ns(), MOST_ASKED) if own else []
    return [askedwords.line(words, one) for one in told if one.id in own]
