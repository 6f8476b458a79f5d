"""Remote service: a technician asks a box how it is, mends its settings, and reads what it answered. Never a place.

Each question is in the access log before it exists (receiver.commands); each look at a file before it is given.
"""

import logging
from typing import Annotated, Any, Final, NamedTuple

from fastapi import Depends, FastAPI, Path, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from agent.errors import RoadwitnessError
from receiver import boxwords, commands, crashes, delivery, fleet
from receiver.fields import Field, Typed, typed
from receiver.pages.crash import AwayError
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.service import answers, asking
from receiver.service.kinds import TECHNICAL
from receiver.site import Site
from receiver.words import Words

log = logging.getLogger(__name__)

Reader = Annotated[Person, Depends(needs("service.read"))]
Asker = Annotated[Person, Depends(needs("service.ask"))]
DeviceId = Annotated[str, Path(pattern="^rw-[0-9a-f]{16}$")]
CommandId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
Name = Annotated[str, Path(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
MOST_WHY: Final = 200
MOST_TOML: Final = 2048
LEVELS: Final = ("debug", "info", "warning")
USUAL_MIN: Final = {"log_level": "60", "config": "10"}
MOST_MIN: Final = {"log_level": 1440, "config": 120}
LOOKS: Final = {"pass": "good", "warn": "open", "fail": "poor", "unknown": "open"}
STATES: Final = ("fail", "warn", "unknown", "pass")


class Form(NamedTuple):
    """The form of one command."""

    what: str
    fields: list[Field]
    wrong: bool


class Line(NamedTuple):
    """One command that was asked, with where its answer is."""

    id: str
    line: boxwords.CommandLine
    reason: str
    detail: str


def add(app: FastAPI, site: Site) -> None:
    """Add the routes."""
    base = "/devices/{device}/service"

    @app.api_route(base, methods=["GET", "HEAD"])
    def service(request: Request, person: Reader, device: DeviceId) -> Response:
        return _page(site, request, device)

    @app.post(base)
    async def ask(request: Request, person: Asker, device: DeviceId) -> Response:
        form = typed((await request.form()).multi_items())
        return await run_in_threadpool(_ask, site, request, person, device, form)

    @app.api_route(base + "/{command}", methods=["GET", "HEAD"])
    def answer(request: Request, person: Reader, device: DeviceId, command: CommandId) -> Response:
        return _answer(site, request, device, command)

    @app.api_route(base + "/{command}/files/{name}", methods=["GET", "HEAD"])
    def file(request: Request, person: Reader, device: DeviceId, command: CommandId, name: Name) -> Response:
        return _file(site, request, device, command, name)


def _page(
    site: Site, request: Request, device: str, status: int = 200, form: Typed | None = None, refused: str = ""
) -> Response:
    if not fleet.known(site.engine, device):
        raise HTTPException(404)
    words = site.words_of(request)
    what = form.text("what") if form is not None else ""
    forms = [_form(words, each, form if each == what and form is not None else Typed({})) for each in TECHNICAL]
    asked = [a for a in commands.asked(site.engine, device, words.now_ns, 50) if a.command in TECHNICAL]
    return site.page(
        request,
        "service.html",
        status,
        words=words,
        device=device,
        forms=forms,
        asked=[_line(words, each) for each in asked],
        refused=refused,
        wrong=[f for one in forms for f in one.fields if f.error],
    )


def _line(words: Words, asked: commands.Asked) -> Line:
    return Line(asked.id, boxwords.command(words, asked), asked.reason, asked.detail)


def _form(words: Words, what: str, form: Typed) -> Form:
    """Return the fields of a command's form, as they were typed."""
    text = words.text

    def field(name: str, kind: str = "text", value: str = "", **more: Any) -> Field:
        full = f"{what}-{name}"
        error = form.errors.get(full, "")
        said = form.text(full, MOST_TOML) or value
        words_ = text(f"service.refused.{error}", most=MOST_MIN.get(what, 0)) if error else ""
        return Field(full, text(f"service.field.{name}"), kind, said, error=words_, **more)

    minutes = field("minutes", "number", USUAL_MIN.get(what, ""), hint=text.among("service.minutes", what))
    own: dict[str, list[Field]] = {
        "log_level": [
            field("level", "select", "info", options=[(v, text(f"service.level.{v}")) for v in LEVELS]),
            minutes,
        ],
        "config": [
            field("toml", "area", most=MOST_TOML, hint=text("service.hint.toml")),
            field("drop", hint=text("service.hint.drop")),
            minutes,
        ],
    }
    why = field("why", most=MOST_WHY, required=True, hint=text("service.hint.why"))
    return Form(what, [*own.get(what, []), why], bool(form.errors))


def _ask(site: Site, request: Request, person: Person, device: str, form: Typed) -> Response:
    what = form.text("what")
    if not fleet.known(site.engine, device) or what not in TECHNICAL:
        raise HTTPException(404)
    arguments = _arguments(what, form)
    why = " ".join(form.text(f"{what}-why", MOST_WHY).split())
    if not why:
        form.errors[f"{what}-why"] = "empty"
    if form.errors:
        return _page(site, request, device, 422, form)
    try:
        key = commands.command_key(site.settings)
        asking.ask(site.engine, key, device, what, arguments, reason=why, actor=person.name, now_ns=site.now_ns())
    except RoadwitnessError as e:
        return _page(site, request, device, 422, form, str(e))
    return RedirectResponse(f"/devices/{device}/service#asked", 303)


def _arguments(what: str, form: Typed) -> dict[str, Any]:
    """Read the arguments of a command; note what is wrong with them."""
    if what not in MOST_MIN:
        return {}
    minutes = form.whole(f"{what}-minutes")
    if f"{what}-minutes" not in form.errors and not (minutes is not None and 1 <= minutes <= MOST_MIN[what]):
        form.errors[f"{what}-minutes"] = "minutes"
    seconds = (minutes or 0) * 60
    if what == "log_level":
        level = form.text("log_level-level")
        return {"level": level if level in LEVELS else "info", "seconds": seconds}
    toml = form.text("config-toml", MOST_TOML).replace("\r\n", "\n")
    drop = form.text("config-drop").replace(",", " ").split()
    if not toml and not drop:
        form.errors["config-toml"] = "empty"
    return {"toml": toml, "drop": drop, "within_s": seconds}


def _found(site: Site, device: str, command: str) -> answers.Answer:
    found = answers.answer(site.engine, site.files, device, command, site.now_ns())
    if found is None or found.asked.command not in TECHNICAL:
        raise HTTPException(404)
    return found


def _answer(site: Site, request: Request, device: str, command: str) -> Response:
    found, words = _found(site, device, command), site.words_of(request)
    if found.asked.incident is not None:
        site.note(request, "page", device, found.asked.incident, found.asked.command)
    order = {state: i for i, state in enumerate(STATES)}
    findings = sorted(found.findings or [], key=lambda f: order.get(f.state, 0))
    return site.page(
        request,
        "service_answer.html",
        words=words,
        device=device,
        answer=found,
        line=_line(words, found.asked),
        findings=[(LOOKS.get(f.state, "open"), words.text.among("service_state", f.state), f) for f in findings],
        size=boxwords.size,
    )


def _file(site: Site, request: Request, device: str, command: str, name: str) -> Response:
    incident = _found(site, device, command).asked.incident
    held = crashes.held_file(site.engine, device, incident, name) if incident is not None else None
    if site.files is None or held is None or incident is None:
        raise HTTPException(404)
    site.note(request, "file", device, incident, name, part=delivery.ranged(request))
    try:
        return delivery.file_response(request, site.files, device, incident, held)
    except OSError as e:
        log.error("answer %s of device %s: %s; check the store", incident, device, e)
        raise AwayError from e
