"""Crashes and their packages: what is there, each file with its hash, the whole as a ZIP; and asking for a clip."""

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi import Path as PathParameter
from pydantic import AwareDatetime, Field
from sqlalchemy import select

from agent.clock import NS_PER_S
from receiver import checks, commands, crashes, db, delivery, fleet
from receiver.api.answers import JSON, answer
from receiver.api.here import Here
from receiver.api.once import once
from receiver.api.paging import After, Items, Limit, Order, page
from receiver.api.problems import ProblemError, missing, wrong
from receiver.api.shapes import Device, Done, Given, Incident, Shape, Utc
from receiver.claims import BY_DEVICE
from receiver.people import reach
from receiver.people.gate import needs
from receiver.people.person import Person

Reader = Annotated[Person, Depends(needs("crashes.read"))]
Checker = Annotated[Person, Depends(needs("crashes.check"))]
Asker = Annotated[Person, Depends(needs("clips.ask"))]
FileName = Annotated[str, PathParameter(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
_BINARY: Final[dict[str, Any]] = {"schema": {"type": "string", "format": "binary"}}
_MEDIA: Final = sorted({kind.partition(";")[0] for kind in (*delivery.TYPES.values(), delivery.OTHER)})
MOST_CLIP_S: Final = 600  # the device has its own, shorter limit and says so
LIFE_S: Final = 72 * 3600.0  # of a question to a device, as on the command line


class CrashItem(Shape):
    """A crash in a list."""

    device: str
    incident: str
    claim: str
    opened: Utc
    suspected: bool


class PackageFile(Shape):
    """One file of a package."""

    name: str
    size: int
    sha256: str
    received: int = Field(description="Bytes that are here.")
    held: bool = Field(description="Whole, its hash checked.")


class Check(Shape):
    """What the verifier said of a package."""

    exit_code: int = Field(description="0: proved.")
    verdict: str
    edition: int | None
    files: int
    records: int
    checked: Utc = Field(validation_alias="checked_utc_ns")
    sentences: list[str]
    faults: list[tuple[str, str]]
    missing: list[tuple[str, str]]


class Package(Shape):
    """The package of a crash: what the device's signed record names, and how far it is here."""

    device: str
    incident: str
    state: Literal["none", "arriving", "checking", "proved", "failed"]
    complete: bool = Field(description="The device will add nothing.")
    size: int
    received: int
    check: Check | None
    files: list[PackageFile]


class Asked(Shape):
    """What a device was asked, and what came of it."""

    id: str
    command: str
    state: str = Field(description="waiting, sent, expired, accepted, done, refused or failed")
    reason: str
    actor: str
    issued: Utc | None = Field(validation_alias="issued_utc_ns")
    detail: str
    incident: str | None


class AskedList(Shape):
    """What a device was asked last."""

    items: list[Asked]


class Clip(Given):
    """Which video is asked for, and why: its owner must have agreed that clips may be asked for."""

    start: AwareDatetime = Field(examples=["2026-11-01T16:00:00+08:00"])
    seconds: int = Field(ge=1, le=MOST_CLIP_S, examples=[30])
    reason: str = Field(min_length=1, max_length=200, examples=["Claim 0123456789abcdef: who had priority"])


def add(router: APIRouter, site: Here) -> None:
    """Add the routes."""
    base = "/devices/{device}/crashes/{incident}"

    def reached(who: Person, device: str, incident: str) -> None:
        reach.incident(site.engine, who, device, incident)
        if not crashes.known(site.engine, device, incident):
            raise missing()

    @router.get("/crashes", tags=["evidence"], response_model=Items[CrashItem])
    def listed(request: Request, who: Reader, limit: Limit = 50, after: After = None) -> Response:
        """List crashes, the last reported first; an owner sees those of his cars."""
        c = db.claim.c
        order = Order((c.opened_utc_ns, c.id), (int, str), down=True)
        of: list[Any] = [c.opened_by == BY_DEVICE, *order.beyond(after)]
        mine = reach.reached(site.engine, who)
        of += [c.device.in_(sorted(mine)), *reach.claims(who)] if mine is not None else []
        with db.reading(site.engine) as connection:
            query = select(db.claim).where(*of).order_by(*order.by).limit(limit + 1)
            rows = connection.execute(query).all()
        given, following = page(request, rows, limit, lambda r: (r.opened_utc_ns, r.id))
        items = [CrashItem.model_validate({**r._mapping, "claim": r.id, "opened": r.opened_utc_ns}) for r in given]
        return answer(request, Items[CrashItem](items=items, next=following))

    @router.get(base + "/package", tags=["evidence"], response_model=Package)
    def package(request: Request, who: Reader, device: Device, incident: Incident) -> Response:
        """Tell what the package of a crash holds and how far it is."""
        reached(who, device, incident)
        site.note(request, "page", device, incident)
        found = crashes.crash(site.engine, device, incident)
        if found is None:
            raise missing()
        now = found.row.package
        told = {name: getattr(now, name) for name in ("state", "complete", "size", "received", "check")}
        return answer(
            request, Package.model_validate({"device": device, "incident": incident, **told, "files": found.files})
        )

    @router.get(
        base + "/files/{name}",
        tags=["evidence"],
        response_class=Response,
        responses={
            200: {"content": {m: {} if m == JSON else _BINARY for m in _MEDIA}},
            206: {"description": "The range that was asked for"},
            416: {"description": "No such range"},
        },
    )
    def file(request: Request, who: Reader, device: Device, incident: Incident, name: FileName) -> Response:
        """Give one file of a package, or a range of it."""
        reached(who, device, incident)
        found = crashes.held_file(site.engine, device, incident, name)
        if site.files is None or found is None:
            raise missing()
        site.note(request, "file", device, incident, name, part=delivery.ranged(request))
        try:
            return delivery.file_response(request, site.files, device, incident, found)
        except OSError as e:
            raise _away() from e

    @router.get(
        base + "/package.zip",
        tags=["evidence"],
        response_class=Response,
        responses={200: {"content": {"application/zip": _BINARY}}},
    )
    def zipped(request: Request, who: Reader, device: Device, incident: Incident) -> Response:
        """Give a whole package as a ZIP."""
        reached(who, device, incident)
        files = crashes.held_files(site.engine, device, incident)
        if site.files is None or not files:
            raise missing()
        site.note(request, "package", device, incident)
        return delivery.zip_response(request, site.files, device, incident, files)

    @router.post(base + "/check", tags=["evidence"], response_model=Check)
    def check(request: Request, who: Checker, device: Device, incident: Incident) -> Response:
        """Verify a package again, every signature and hash."""
        reached(who, device, incident)
        if site.files is None:
            raise missing()
        site.note(request, "check", device, incident)
        try:
            found = checks.check(site.engine, site.files, device, incident, site.now_ns())
        except OSError as e:
            raise _away() from e
        if found is None:
            raise ProblemError(409, "does-not-fit", "the package is not whole yet, or it grew meanwhile")
        return answer(request, Check.model_validate(found))

    @router.get("/devices/{device}/commands", tags=["evidence"], response_model=AskedList)
    def asked(request: Request, who: Asker, device: Device) -> Response:
        """List what a device was asked last, and what came of it."""
        _known(who, device)
        found = commands.asked(site.engine, device, site.now_ns(), since_ns=reach.since_ns(site.engine, who, device))
        return answer(request, AskedList(items=[Asked.model_validate(a) for a in found]))

    @router.post("/devices/{device}/commands", tags=["evidence"], status_code=202, response_model=Done)
    def ask(request: Request, who: Asker, device: Device, clip: Clip) -> Response:
        """Ask a device for a clip; it refuses where its owner did not agree, and tells him who asked and why."""
        _known(who, device)
        try:
            start_ns = round(clip.start.timestamp() * 1000) * (NS_PER_S // 1000)
        except (OverflowError, ValueError) as e:
            raise wrong("start", "is no time of ours") from e
        now_ns = site.now_ns()
        if not 0 < start_ns < now_ns:
            raise wrong("start", "lies in the future, or before there were cars")

        def do() -> Response:
            arguments = {"from_utc_ns": start_ns, "to_utc_ns": start_ns + clip.seconds * NS_PER_S}
            key = commands.command_key(site.settings)
            made = commands.issue(
                site.engine,
                key,
                device,
                "clip",
                arguments,
                reason=clip.reason,
                actor=who.name,
                life_s=LIFE_S,
                now_ns=now_ns,
            )
            return answer(request, Done(id=made), 202)

        return once(site.engine, request, who.id, now_ns, do)

    def _known(who: Person, device: str) -> None:
        reach.device(site.engine, who, device)
        if not fleet.known(site.engine, device):
            raise missing()


def _away() -> ProblemError:
    return ProblemError(503, "store-away", "the package cannot be read; tell the insurer")
