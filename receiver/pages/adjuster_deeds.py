"""What adjusters do to a claim: each deed, its row of the log and its step of the history stand or fall together.

A form names the last thing that was done to the claim when its page was made. Was more done since, nothing is done and
the page says by whom: nobody decides on what he has not seen.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Final

from fastapi import Depends, FastAPI, Path, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from agent.clock import NS_PER_S
from agent.errors import RoadwitnessError
from receiver import access, commands, db, disputes
from receiver.access import Look
from receiver.claiming import asking, assessing, reading, reporting, states
from receiver.claiming.history import MOST_WHY
from receiver.claiming.rules import RULES
from receiver.claiming.states import ClaimError
from receiver.disputes import DisputeError
from receiver.fields import Typed, typed
from receiver.pages import adjuster
from receiver.pages.adjuster_forms import MOST_REASON, SETTLEMENT, insured
from receiver.people import gate
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.pricing.book import Fault
from receiver.site import Site
from receiver.words import Words

Decider = Annotated[Person, Depends(needs("claims.decide"))]
Asker = Annotated[Person, Depends(needs("clips.ask"))]
ClaimId = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]
CLIP_LIFE_S: Final = 72 * 3600.0  # as `roadwitness receiver clip` has it: a car may stand for a weekend
Deed = Callable[[Connection], object]


class StaleError(Exception):
    """A form of a page that is older than the claim; `since` is what it had seen."""

    def __init__(self, since: int) -> None:
        self.since = since
        super().__init__(since)


class FormError(Exception):
    """A form that cannot be taken: keys of words by field."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        self.errors = errors
        super().__init__(errors)


def add(app: FastAPI, site: Site) -> None:
    """Add the routes: a form each, by its name."""

    def form_of(name: str, prepare: Callable[[Site, Person, str, Typed], Deed], anchor: str) -> None:
        @app.post(f"/claims/{{claim}}/{name}")
        async def posted(request: Request, person: Decider, claim: ClaimId) -> Response:
            form = typed((await request.form()).multi_items())
            return await run_in_threadpool(_do, site, request, person, claim, name, form, prepare, anchor)

    form_of("assess", _assess, "money")
    form_of("settle", _settle, "money")
    form_of("contest", _contest, "history")
    form_of("ask", _ask, "documents")
    form_of("loss", _loss, "losses")
    form_of("car", _car, "losses")
    form_of("survey", _survey, "history")

    @app.post("/claims/{claim}/check")
    def check(request: Request, person: Decider, claim: ClaimId) -> Response:
        """Check again; this changes no state and no amount, so that it needs no version."""
        device, incident = adjuster.reached(site, person, claim)
        site.note(request, "check", device, incident, f"claim {claim}")
        assessing.check(site.engine, claim, site.now_ns(), site.files)
        return RedirectResponse(f"/claims/{claim}#checks", 303)

    @app.post("/claims/{claim}/clip")
    async def clip(request: Request, person: Asker, claim: ClaimId) -> Response:
        if not person.may("claims.decide"):
            raise HTTPException(404)
        form = typed((await request.form()).multi_items())
        return await run_in_threadpool(_clip, site, request, person, claim, form)


def _do(
    site: Site,
    request: Request,
    person: Person,
    claim: str,
    name: str,
    form: Typed,
    prepare: Callable[[Site, Person, str, Typed], Deed],
    anchor: str,
) -> Response:
    """Do what a form says, and lead back to the claim; else show the claim with the form and what is wrong with it."""
    device, incident = adjuster.reached(site, person, claim)
    text, seen = site.words_of(request).text, form.text("version")

    def refuse(errors: Mapping[str, str]) -> Response:
        # the forms go on naming what was seen: whatever came meanwhile is still to be told
        said = {field: text(f"desk.wrong.{key}") for field, key in errors.items()}
        return adjuster.page(site, request, person, claim, 422, name, form, said, seen=seen)

    try:
        with db.reading(site.engine) as connection:
            _fresh(connection, claim, seen)
        deed = prepare(site, person, claim, form)
        with site.engine.begin() as connection:
            states.locked(connection, claim)
            _fresh(connection, claim, seen)
            deed(connection)
            look = Look(person.name, gate.client(request), device, incident, "decision", f"{name} {claim}")
            access.write(connection, look, site.now_ns())
    except StaleError as e:
        return adjuster.page(site, request, person, claim, 409, name, form, since=e.since)
    except FormError as e:
        return refuse(e.errors)
    except ClaimError as e:
        return refuse(dict([_place(name, e.field)]))
    except DisputeError:
        return refuse({"contest-rule": "again"})
    return RedirectResponse(f"/claims/{claim}#{anchor}", 303)


def _fresh(connection: Connection, claim: str, seen: str) -> None:
    """Raise StaleError where more was done to a claim than a form has seen."""
    if str(adjuster.version(connection, claim)) != seen:
        raise StaleError(int(seen[:18]) if seen.isdecimal() else 0)


# field of a refusal -> field of the form (after its name) and key of the words
REFUSED: Final = {
    "loss_utc_ns": ("", "no_time"),
    "policy": ("", "no_policy"),
    "fault": ("fault", "fault"),
    "share_percent": ("share", "share"),
    "amounts": ("", "amounts"),
    "amount": ("amount", "amount"),
    "paid_by_others": ("by_others", "amount"),
    "party": ("person", "person"),
    "kinds": ("kinds", "kinds"),
    "why": ("why", "why"),
    "state": ("", "state"),
    "vin": ("vin", "unprintable"),
    "plate": ("plate", "unprintable"),
    "device": ("device", "unprintable"),
}


def _place(form: str, field: str) -> tuple[str, str]:
    """Return the form's field for that of a refusal, "" for the whole form, and the key of the words."""
    if field.startswith("loss "):
        return f"{form}-amount-{field.removeprefix('loss ')}", "amount"
    name, key = REFUSED.get(field, ("", "refused"))
    return f"{form}-{name}" if name else "", key


def _why(form: Typed, name: str, most: int = MOST_WHY) -> str:
    """Return the reason that was given; note where there is none."""
    why = form.text(f"{name}-why", most)
    if not why:
        form.errors[f"{name}-why"] = "why"
    return why


def _sound(form: Typed) -> None:
    if form.errors:
        raise FormError(form.errors)


def _needed(form: Typed, name: str) -> Decimal:
    """Return an amount; note where there is none."""
    amount = form.number(name)
    if amount is None and name not in form.errors:
        form.errors[name] = "missing"
    return amount or Decimal(0)


def _fault(form: Typed, name: str) -> tuple[Fault | str, int | None]:
    """Return fault and share of a car as they were chosen; reporting checks that they go together."""
    return form.text(f"{name}-fault"), form.whole(f"{name}-share")


def _assess(site: Site, person: Person, claim: str, form: Typed) -> Deed:
    """Prepare an assessment: the insured car's share of fault, every loss, and why."""
    page = reading.claim(site.engine, adjuster.book(), claim)
    fault, share = _fault(form, "assess")
    if not fault and share is None:
        form.errors.setdefault("assess-fault", "fault")
    amounts = {x.number: _needed(form, f"assess-amount-{x.number}") for x in page.losses}
    why = _why(form, "assess")
    _sound(form)
    own, now_ns = insured(page), site.now_ns()
    decided = replace(own, fault=str(fault), share_percent=share)

    def do(connection: Connection) -> None:
        if decided != own:
            reporting.put_car(connection, claim, decided, person.name, now_ns)
        assessing.assess(connection, adjuster.book(), claim, amounts, person.name, why, now_ns)

    return do


def _settle(site: Site, person: Person, claim: str, form: Typed) -> Deed:
    why = _why(form, "settle")
    _sound(form)
    return lambda connection: assessing.settle(connection, claim, person.name, why, site.now_ns())


def _contest(site: Site, person: Person, claim: str, form: Typed) -> Deed:
    """Prepare a dispute that the owner told by telephone or letter."""
    rule, why = form.text("contest-rule"), _why(form, "contest")
    if rule not in RULES and rule != SETTLEMENT:
        form.errors["contest-rule"] = "choice"
    _sound(form)
    return lambda connection: disputes.dispute_flag(connection, claim, rule, person.name, why, site.now_ns())


def _ask(site: Site, person: Person, claim: str, form: Typed) -> Deed:
    kinds, why = form.listed("ask-kinds"), _why(form, "ask")
    if not kinds:
        form.errors["ask-kinds"] = "kinds"
    _sound(form)
    return lambda connection: asking.ask(connection, claim, kinds, person.name, why, site.now_ns())


def _loss(site: Site, person: Person, claim: str, form: Typed) -> Deed:
    head, amount = form.text("loss-head"), _needed(form, "loss-amount")
    party, who = form.whole("loss-party"), form.whole("loss-person")
    by_others = form.number("loss-by_others")
    _sound(form)

    def do(connection: Connection) -> None:
        reporting.add_loss(
            connection,
            claim,
            head,
            amount,
            person.name,
            site.now_ns(),
            party=1 if party is None else party,
            person=who or 0,
            paid_by_others=by_others or Decimal(0),
        )

    return do


def _car(site: Site, person: Person, claim: str, form: Typed) -> Deed:
    number = form.whole("car-number")
    fault, share = _fault(form, "car")
    _sound(form)
    car = reporting.Car(
        number or 0,
        form.text("car-vin").upper(),
        form.text("car-plate").upper(),
        form.text("car-device"),
        compulsory=form.checked("car-compulsory"),
        fault=str(fault),
        share_percent=share,
        agrees=form.checked("car-agrees"),
        injured=form.checked("car-injured"),
    )
    return lambda connection: reporting.put_car(connection, claim, car, person.name, site.now_ns())


def _survey(site: Site, person: Person, claim: str, form: Typed) -> Deed:
    step = form.text("step")
    return lambda connection: reporting.survey(connection, claim, step, person.name, site.now_ns())


def _clip(site: Site, request: Request, person: Person, claim: str, form: Typed) -> Response:
    """Ask the box for a video. The command has its own row of the log, written before it exists (receiver.commands)."""
    device, _ = adjuster.reached(site, person, claim)
    words = site.words_of(request)
    begin_ns, end_ns = _moment(words, form, "clip-from"), _moment(words, form, "clip-to")
    why = " ".join(_why(form, "clip", MOST_REASON).split())
    if not form.errors and begin_ns >= end_ns:
        form.errors["clip-to"] = "order"
    if not form.errors and end_ns > site.now_ns():
        form.errors["clip-to"] = "future"
    if not form.errors:
        try:
            command = commands.issue(
                site.engine,
                commands.command_key(site.settings),
                device,
                adjuster.CLIP,
                {"from_utc_ns": begin_ns, "to_utc_ns": end_ns},
                reason=why,
                actor=person.name,
                life_s=CLIP_LIFE_S,
                now_ns=site.now_ns(),
            )
        except RoadwitnessError:
            form.errors[""] = "clip"
    if form.errors:
        errors = {field: words.text(f"desk.wrong.{key}") for field, key in form.errors.items()}
        return adjuster.page(site, request, person, claim, 422, "clip", form, errors)
    with site.engine.begin() as connection:
        detail = {"command": command}
        states.note(connection, claim, site.now_ns(), who=person.name, what="clip", why=why, detail=detail)
    return RedirectResponse(f"/claims/{claim}#asked", 303)


def _moment(words: Words, form: Typed, name: str) -> int:
    """Return a time that was typed, local time of the pages, as UTC ns; note what is none."""
    try:
        at = datetime.fromisoformat(form.text(name)).replace(tzinfo=words.zone)
        return round(at.timestamp()) * NS_PER_S
    except (ValueError, OverflowError):
        form.errors[name] = "moment"
        return 0
