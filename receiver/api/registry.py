"""Vehicles, which device is in which, and what owners agree to."""

from datetime import date
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field
from sqlalchemy import select

from receiver import access, db
from receiver.api.answers import answer
from receiver.api.here import Here
from receiver.api.once import once
from receiver.api.paging import After, Items, Limit, Order, page
from receiver.api.shapes import Device, Given, Shape, Utc
from receiver.people import reach
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.people.rights import RIGHTS
from receiver.registry import bindings, consents, erasures, tables, vehicles

Everybody = Annotated[Person, Depends(needs("account.use"))]
ConsentReader = Annotated[Person, Depends(needs("consents.read"))]
ConsentGiver = Annotated[Person, Depends(needs("consents.give"))]
BindingReader = Annotated[Person, Depends(needs("bindings.read"))]
Binder = Annotated[Person, Depends(needs("bindings.write"))]
Purpose = Literal["recording", "scoring", "video", "regulator", "clip", "track"]


class OwnVehicle(Shape):
    """A vehicle of the caller."""

    vin: str
    plate: str
    use_class: str
    seats: int
    energy: str
    first_registered: date
    device: str | None = Field(description="That is in it now.")


class Vehicles(Shape):
    """The vehicles of the caller."""

    items: list[OwnVehicle]


class Consent(Shape):
    """A consent given, or its withdrawal."""

    id: str
    purpose: Purpose
    given: bool
    at: Utc = Field(validation_alias="at_utc_ns")
    version: str = Field(description="Of the text that was shown.")
    language: str
    digest: str = Field(description="SHA-256 of that text.")
    by: str
    how: str


class Consents(Shape):
    """All that was given and withdrawn, first things first."""

    items: list[Consent]


class Erasure(Shape):
    """The erasure of what was kept for a purpose that was withdrawn."""

    id: int
    device: str
    purpose: str
    state: str = Field(description="open; held: all is gone but what an open claim needs; done")
    asked: Utc = Field(validation_alias="asked_utc_ns")
    due: Utc = Field(validation_alias="due_utc_ns")
    done: Utc | None = Field(validation_alias="done_utc_ns")
    removed: dict[str, int]
    kept: list[str] = Field(description="Incidents that an open claim needs.")


class Erasures(Shape):
    """The erasures of an owner, the last first."""

    items: list[Erasure]


class Agreement(Given):
    """What is agreed to, by which text."""

    purpose: Purpose
    version: str = Field(min_length=1, max_length=16, description="Of the text that the owner read.", examples=["1"])
    language: Literal["en", "zh"] = "zh"


class Binding(Shape):
    """A device in a vehicle, now or once."""

    id: int
    device: str
    vin: str
    bound: Utc = Field(validation_alias="bound_utc_ns")
    bound_by: str
    ended: Utc | None = Field(validation_alias="ended_utc_ns")
    ended_by: str
    reason: str


class BindingGiven(Given):
    """Which device goes into which vehicle, with the one-time code of the insurer."""

    device: str = Field(pattern="^rw-[0-9a-f]{16}$", examples=["rw-0123456789abcdef"])
    vin: str = Field(min_length=1, max_length=17, examples=["LSVAM4187C2184841"])
    code: str = Field(min_length=1, max_length=64, examples=["ABCD2345"])


class Unbound(Given):
    """Why a binding ends."""

    reason: str = Field(min_length=1, max_length=200, examples=["The car was sold."])


class Me(Shape):
    """Who asks, as this receiver sees it."""

    name: str
    role: str
    owner: str
    rights: list[str]


class AuditHead(Shape):
    """The last row of the log of looks and decisions: who notes it can prove later that nothing was cut off."""

    seq: int
    hash: str


def add(router: APIRouter, site: Here) -> None:
    """Add the routes."""

    @router.get("/vehicles", tags=["vehicles"], response_model=Vehicles)
    def mine(request: Request, who: ConsentReader) -> Response:
        """List the vehicles of the owner who asks."""
        with db.reading(site.engine) as connection:
            items = [
                OwnVehicle.model_validate(
                    {**{n: getattr(v, n) for n in OwnVehicle.model_fields if n != "device"}}
                    | {"device": bindings.device_of(connection, v.vin)}
                )
                for v in vehicles.of_owner(connection, who.owner)
            ]
        return answer(request, Vehicles(items=items))

    @router.get("/devices/{device}/consents", tags=["consents"], response_model=Consents)
    def given(request: Request, who: ConsentReader, device: Device) -> Response:
        """List what was agreed to for a car, and what was withdrawn."""
        reach.device(site.engine, who, device)
        with db.reading(site.engine) as connection:
            found = [c for c in consents.history(connection, device) if c.owner == who.owner]
        return answer(request, Consents(items=[Consent.model_validate(c) for c in found]))

    @router.post("/devices/{device}/consents", tags=["consents"], status_code=201, response_model=Consent)
    def give(request: Request, who: ConsentGiver, device: Device, told: Agreement) -> Response:
        """Agree to a purpose, by the text that was read."""
        reach.device(site.engine, who, device)

        def do() -> Response:
            row = consents.give(
                site.engine,
                device,
                told.purpose,
                site.now_ns(),
                by=who.name,
                version=told.version,
                language=told.language,
                how="api",
                address=_address(request),
            )
            return answer(request, Consent.model_validate(row), 201)

        return once(site.engine, request, who.id, site.now_ns(), do)

    @router.delete("/devices/{device}/consents/{purpose}", tags=["consents"], response_model=Consents)
    def withdraw(request: Request, who: ConsentGiver, device: Device, purpose: Purpose) -> Response:
        """Agree no more: the device is told within seconds, and what was kept for it is erased."""
        reach.device(site.engine, who, device)
        found = consents.withdraw(
            site.engine, device, purpose, site.now_ns(), by=who.name, how="api", address=_address(request)
        )
        return answer(request, Consents(items=[Consent.model_validate(c) for c in found]))

    @router.get("/erasures", tags=["consents"], response_model=Erasures)
    def erased(request: Request, who: ConsentReader) -> Response:
        """List what was and will be erased of the owner who asks, and what a claim still holds back."""
        with db.reading(site.engine) as connection:
            found = erasures.listed(connection, owner=who.owner)
        return answer(request, Erasures(items=[Erasure.model_validate(e) for e in found]))

    @router.get("/bindings", tags=["bindings"], response_model=Items[Binding])
    def bound(request: Request, who: BindingReader, limit: Limit = 50, after: After = None) -> Response:
        """List which device is or was in which vehicle, the last first."""
        t = tables.binding
        order = Order((t.c.id,), (int,), down=True)
        with db.reading(site.engine) as connection:
            query = select(t).where(*order.beyond(after)).order_by(*order.by).limit(limit + 1)
            rows = connection.execute(query).all()
        listed, following = page(request, rows, limit, lambda r: (r.id,))
        return answer(request, Items[Binding](items=[Binding.model_validate(r) for r in listed], next=following))

    @router.post("/bindings", tags=["bindings"], status_code=201, response_model=Binding)
    def bind(request: Request, who: Binder, told: BindingGiven) -> Response:
        """Bind a device to a vehicle; a second device on a vehicle is 409, and both are rows of the log."""

        def do() -> Response:
            made = bindings.bind(
                site.engine, told.device, told.vin, told.code, site.now_ns(), by=who.name, address=_address(request)
            )
            return answer(request, Binding.model_validate(made), 201)

        return once(site.engine, request, who.id, site.now_ns(), do)

    @router.post("/devices/{device}/unbinding", tags=["bindings"], response_model=Binding)
    def unbind(request: Request, who: Binder, device: Device, told: Unbound) -> Response:
        """End a device's binding; what was agreed to for this car ends with it."""

        def do() -> Response:
            ended = bindings.unbind(
                site.engine, device, site.now_ns(), reason=told.reason, by=who.name, address=_address(request)
            )
            return answer(request, Binding.model_validate(ended))

        return once(site.engine, request, who.id, site.now_ns(), do)

    @router.get("/me", tags=["account"], response_model=Me)
    def me(request: Request, who: Everybody) -> Response:
        """Tell whose token this is and which rights it carries."""
        rights = sorted(right for right in RIGHTS if who.may(right))
        return answer(request, Me(name=who.name, role=who.role, owner=who.owner, rights=rights))

    @router.get("/audit/head", tags=["account"], response_model=AuditHead)
    def head(request: Request, who: Everybody) -> Response:
        """Give the last row of the log; `roadwitness receiver audit verify --head` checks it later."""
        t = db.access_log
        with db.reading(site.engine) as connection:
            row = connection.execute(select(t.c.seq, t.c.hash).order_by(t.c.seq.desc()).limit(1)).one_or_none()
        noted = access.Head(0, "0" * 64) if row is None else access.Head(row.seq, bytes(row.hash).hex())
        return answer(request, AuditHead.model_validate(noted))


def _address(request: Request) -> str:
    return request.client.host if request.client else ""
