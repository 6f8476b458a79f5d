"""Which box is in which car, for the technician: bind with VIN and code, unbind with a reason, boxes in other cars."""

from typing import Annotated, Final

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import ColumnElement, Connection, and_, func, or_, select
from starlette.concurrency import run_in_threadpool

from receiver import boxes, db, views
from receiver.fields import Field, Typed, typed
from receiver.people import gate
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.queries import Page, paged
from receiver.registry import bindings, tables
from receiver.registry.bindings import CODE_LENGTH, MOST_TRIES, Binding
from receiver.registry.refusals import RegistryError
from receiver.site import Site
from receiver.words import Words

Reader = Annotated[Person, Depends(needs("bindings.read"))]
Writer = Annotated[Person, Depends(needs("bindings.write"))]
Wanted = Annotated[str, Query(alias="q", max_length=64)]
Named = Annotated[str, Query(alias="device", max_length=64)]
PAGE: Final = 50
# fields of the form in its order -> the most characters: a code may be typed with blanks and dashes
FIELDS: Final = {"device": 19, "vin": 17, "code": 2 * CODE_LENGTH}
MOST_WHY: Final = 200


def add(app: FastAPI, site: Site) -> None:
    """Add the routes."""

    @app.api_route("/bindings", methods=["GET", "HEAD"])
    def show(
        request: Request, person: Reader, wanted: Wanted = "", device: Named = "", page_number: views.PageNumber = 1
    ) -> Response:
        return _page(site, request, wanted.strip(), page_number, values={"device": device})

    @app.post("/bindings/bind")
    async def bind(request: Request, person: Writer) -> Response:
        form = typed((await request.form()).multi_items())
        return await run_in_threadpool(_bind, site, request, person, form)

    @app.post("/bindings/unbind")
    async def unbind(request: Request, person: Writer) -> Response:
        form = typed((await request.form()).multi_items())
        return await run_in_threadpool(_unbind, site, request, person, form)


def _bind(site: Site, request: Request, person: Person, form: Typed) -> Response:
    words = site.words_of(request)
    said = {name: form.text(name) for name in FIELDS}
    lacking = {name: words.text("bindings.refused.empty") for name in FIELDS if not said[name]}
    if lacking:
        return _page(site, request, "", 1, 422, values=said, errors=lacking)
    device, vin = said["device"].lower(), said["vin"].upper()
    try:
        bindings.bind(
            site.engine, device, vin, said["code"], site.now_ns(), by=person.name, address=gate.client(request)
        )
    except RegistryError as refused:
        with db.reading(site.engine) as connection:
            error = _refusal(connection, words, refused, device, vin)
        status = 409 if refused.status == 409 else 422
        field = refused.field if refused.field in FIELDS else "vin"
        return _page(site, request, "", 1, status, values={**said, "code": ""}, errors={field: error})
    return RedirectResponse(f"/bindings?q={device}#present", 303)


def _refusal(connection: Connection, words: Words, refused: RegistryError, device: str, vin: str) -> str:
    """Say in words why a binding was refused, beside which field is said by the refusal."""
    text = words.text
    if refused.field == "code":
        t = tables.binding_code
        row = connection.execute(select(t.c.expires_utc_ns, t.c.tries).where(t.c.vin == vin)).one_or_none()
        if row is None or row.expires_utc_ns <= words.now_ns or row.tries >= MOST_TRIES:
            return text("bindings.refused.no_code")
        return text.many("bindings.refused.code", MOST_TRIES - row.tries)
    if refused.status == 404:
        return text("bindings.refused.no_device") if refused.field == "device" else text("bindings.refused.no_vin")
    if refused.field == "device":
        present = bindings.of_device(connection, device)
        if present is None:
            return text("bindings.refused.holds")
        return text("bindings.refused.device_bound", vin=present.vin)
    return text("bindings.refused.vin_bound", device=bindings.device_of(connection, vin) or "")


def _unbind(site: Site, request: Request, person: Person, form: Typed) -> Response:
    words = site.words_of(request)
    device, reason = form.text("device"), form.text("reason", MOST_WHY)
    try:
        bindings.unbind(site.engine, device, site.now_ns(), reason=reason, by=person.name, address=gate.client(request))
    except RegistryError as refused:
        key = "bindings.refused.reason" if refused.field == "reason" else "bindings.refused.not_bound"
        error = (device, words.text(key))
        return _page(site, request, device, 1, 422, unbinding=error)
    return RedirectResponse(f"/devices/{device}#bindings", 303)


def _page(
    site: Site,
    request: Request,
    wanted: str,
    number: int,
    status: int = 200,
    *,
    values: dict[str, str] | None = None,
    errors: dict[str, str] | None = None,
    unbinding: tuple[str, str] = ("", ""),
) -> Response:
    words = site.words_of(request)
    with db.reading(site.engine) as connection:
        present, shown = _present(connection, wanted, number)
        strays, more = boxes.mismatches(connection)
    fields = [_field(words, name, values or {}, errors or {}) for name in FIELDS]
    return site.page(
        request,
        "bindings.html",
        status,
        words=words,
        present=present,
        shown=shown,
        wanted=wanted,
        strays=strays,
        more=more,
        fields=fields,
        wrong=[f for f in fields if f.error],
        unbinding=unbinding,
        most_why=MOST_WHY,
    )


def _field(words: Words, name: str, values: dict[str, str], errors: dict[str, str]) -> Field:
    text = words.text
    return Field(
        name,
        text(f"bindings.field.{name}"),
        value=values.get(name, ""),
        hint=text(f"bindings.hint.{name}"),
        error=errors.get(name, ""),
        most=FIELDS[name],
        required=True,
    )


def _present(connection: Connection, wanted: str, number: int) -> tuple[list[Binding], Page]:
    """Return one page of the present bindings, the latest first; `wanted` is a part of a box's name or of a VIN."""
    t = tables.binding
    where: ColumnElement[bool] = t.c.ended_utc_ns.is_(None)
    if wanted:
        named = (
            t.c.device.contains(wanted.lower(), autoescape=True),
            t.c.vin.contains(wanted.upper(), autoescape=True),
        )
        where = and_(where, or_(*named))
    total = connection.execute(select(func.count()).select_from(t).where(where)).scalar_one()
    part = paged(number, total, PAGE)
    columns = [t.c[name] for name in Binding._fields]
    query = select(*columns).where(where).order_by(t.c.bound_utc_ns.desc(), t.c.id.desc())
    rows = connection.execute(query.offset((part.number - 1) * PAGE).limit(PAGE))
    return [Binding(*row) for row in rows], part
