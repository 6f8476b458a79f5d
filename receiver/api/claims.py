"""Claims: the list, one claim whole, an owner's report, documents, disputes. Decisions are in decisions.py."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as PathParameter
from pydantic import AwareDatetime, Field
from sqlalchemy import select

from agent.clock import NS_PER_S
from receiver import db, disputes
from receiver.api.answers import answer
from receiver.api.here import Here
from receiver.api.once import once
from receiver.api.paging import After, Items, Limit, Order, page
from receiver.api.problems import ProblemError, missing, wrong
from receiver.api.route import BODY_LIMIT, TAKES
from receiver.api.shapes import ClaimId, Done, Given, Policy, Shape, Utc, Yuan
from receiver.claiming import assessing, documents, facts, reading, reporting, states, tables
from receiver.claiming.facts import Place
from receiver.claiming.rules import RULES
from receiver.claiming.states import ClaimError
from receiver.people import reach
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.pricing import RateBook

Reader = Annotated[Person, Depends(needs("claims.read"))]
Reporter = Annotated[Person, Depends(needs("claims.report"))]
Uploader = Annotated[Person, Depends(needs("claims.document"))]
Disputer = Annotated[Person, Depends(needs("claims.dispute"))]
State = Literal["reported", "evidence", "assessed", "settled", "disputed"]
Kind = Literal["photo", "police", "licence", "registration", "invoice", "medical", "statement", "other"]
Sha256 = Annotated[str, PathParameter(pattern="^[0-9a-f]{64}$")]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ClaimItem(Shape):
    """A claim in a list."""

    id: str
    device: str
    incident: str
    state: State
    since: Utc = Field(validation_alias="state_utc_ns")
    opened: Utc = Field(validation_alias="opened_utc_ns")
    opened_by: str = Field(description="device or owner")
    suspected: bool
    accident: Utc | None = Field(validation_alias="accident_utc_ns")
    flags: list[str] = Field(description="Names of the checks that flagged something.")


class Declared(Shape):
    """What was reported."""

    number: int
    reported: Utc = Field(validation_alias="reported_utc_ns")
    by: str
    loss: Utc = Field(validation_alias="loss_utc_ns")
    latitude: float | None
    longitude: float | None
    said: str
    injured: bool


class Car(Shape):
    """A car of the accident; number 1 is the insured one."""

    number: int
    vin: str
    plate: str
    device: str
    compulsory: bool
    fault: str
    share_percent: int | None
    agrees: bool
    injured: bool


class Loss(Shape):
    """One loss, yuan."""

    number: int
    head: str
    party: int
    person: int
    estimated: Yuan
    assessed: Yuan | None
    paid_by_others: Yuan


class Evidence(Shape):
    """Where something stands."""

    kind: str
    ref: str


class Finding(Shape):
    """What one check found. A flag tells where to look; it changes no state and no amount."""

    rule: str
    result: str
    reason: str
    figures: dict[str, Any]
    limits: dict[str, float]
    evidence: list[Evidence]


class Condition(Shape):
    """One condition of fast settlement."""

    name: str
    holds: bool


class FastTrack(Shape):
    """Whether both sides may settle each for himself (互碰自赔)."""

    fast_track: bool
    conditions: list[Condition]
    limit: Yuan
    largest: Yuan


class ProposalLine(Shape):
    """One line of a proposal, with the rule that made it."""

    cover: str
    head: str
    rule: str
    claimed: Yuan
    base: Yuan
    share_percent: Decimal
    fault_percent: Decimal
    absolute_percent: Decimal
    limit: Yuan | None
    capped: bool
    ended: bool
    paid: Yuan
    due: Yuan
    person: int


class Proposal(Shape):
    """What should be paid."""

    lines: list[ProposalLine]
    total: Yuan
    claimed: Yuan
    share_percent: Decimal
    fault: str
    regime: str
    regime_version: str
    limits_version: str
    fast_track: bool


class Reserve(Shape):
    """What the claim may still cost, and by what that was estimated."""

    amount: Yuan | None
    basis: str
    claims: int


class Document(Shape):
    """A document of the claim."""

    sha256: str
    kind: Kind
    name: str
    media: str
    size: int
    by: str
    uploaded: Utc = Field(validation_alias="uploaded_utc_ns")


class Dispute(Shape):
    """A flag or the settlement, disputed by the owner."""

    id: int
    rule: str
    by: str
    why: str
    opened: Utc = Field(validation_alias="opened_utc_ns")
    state: str
    decided_by: str
    decision: str


class Step(Shape):
    """What was done to the claim, by whom and why."""

    utc: Utc = Field(validation_alias="utc_ns")
    who: str
    what: str
    before: str
    after: str
    why: str


class Claim(Shape):
    """Everything about one claim but its package."""

    id: str
    device: str
    incident: str
    state: State
    since: Utc = Field(validation_alias="state_utc_ns")
    opened: Utc = Field(validation_alias="opened_utc_ns")
    opened_by: str
    suspected: bool
    accident: Utc | None = Field(validation_alias="accident_utc_ns")
    checked: Utc | None = Field(validation_alias="checked_utc_ns")
    reports: list[Declared]
    cars: list[Car]
    losses: list[Loss]
    findings: list[Finding]
    policies: list[Policy]
    fast_track: FastTrack | None
    proposal: Proposal | None
    reserve: Reserve
    paid: Yuan
    documents: list[Document]
    disputes: list[Dispute]
    history: list[Step]
    moves: list[str] = Field(description="States that it can move to.")


class Report(Given):
    """A loss as its owner reports it."""

    device: str = Field(pattern="^rw-[0-9a-f]{16}$", examples=["rw-0123456789abcdef"])
    at: AwareDatetime = Field(description="When it happened, with its zone.", examples=["2026-11-01T16:00:00+08:00"])
    said: str = Field("", max_length=4000, examples=["A van pulled out of a side street."])
    latitude: float | None = Field(None, ge=-90, le=90, examples=[36.6512], description="WGS-84.")
    longitude: float | None = Field(None, ge=-180, le=180, examples=[117.1201])
    injured: bool = False


class FlagDispute(Given):
    """What of a claim is disputed, and why."""

    rule: str = Field(description="A check's name, or settlement.", examples=["report_delay"], max_length=32)
    why: str = Field(min_length=1, max_length=2000, examples=["I called the hotline at once."])


def add(router: APIRouter, site: Here, book: RateBook) -> None:
    """Add the routes."""

    @router.get("/claims", tags=["claims"], response_model=Items[ClaimItem])
    def listed(
        request: Request, who: Reader, state: State | None = None, limit: Limit = 50, after: After = None
    ) -> Response:
        """List claims, the last opened first; an owner sees his own."""
        c, f = db.claim.c, tables.claim_finding.c
        order = Order((c.opened_utc_ns, c.id), (int, str), down=True)
        reached = reach.reached(site.engine, who)
        of: list[Any] = order.beyond(after)
        of += [c.state == state] if state is not None else []
        of += [c.device.in_(sorted(reached)), *reach.claims(who)] if reached is not None else []
        with db.reading(site.engine) as connection:
            rows = connection.execute(select(db.claim).where(*of).order_by(*order.by).limit(limit + 1)).all()
            given, following = page(request, rows, limit, lambda r: (r.opened_utc_ns, r.id))
            flagged = select(f.claim, f.rule).where(f.claim.in_([r.id for r in given]), f.result == "flag")
            flags: dict[str, list[str]] = {}
            for row in connection.execute(flagged.order_by(f.claim, f.rule)):
                flags.setdefault(row.claim, []).append(row.rule)
            items = [
                ClaimItem.model_validate(
                    {
                        **row._mapping,
                        "accident_utc_ns": assessing.accident_utc_ns(connection, row.id),
                        "flags": flags.get(row.id, []),
                    }
                )
                for row in given
            ]
        return answer(request, Items[ClaimItem](items=items, next=following))

    @router.get("/claims/{claim}", tags=["claims"], response_model=Claim)
    def one(request: Request, who: Reader, claim: ClaimId) -> Response:
        """Give one claim; its ETag is what If-Match of a decision takes."""
        found = claim_of(site, book, who, claim)
        site.note(request, "page", found.device, found.incident, f"claim {claim}")
        return answer(request, found)

    @router.post("/claims", tags=["claims"], status_code=201, response_model=Done)
    def report(request: Request, who: Reporter, told: Report) -> Response:
        """Report a loss: it joins the claim that the device opened by itself, or opens one."""
        reach.device(site.engine, who, told.device)
        if (told.latitude is None) != (told.longitude is None):
            raise wrong("longitude" if told.longitude is None else "latitude", "both or neither")
        place = None if told.latitude is None or told.longitude is None else Place(told.latitude, told.longitude)
        try:
            since = told.at.astimezone(UTC) - _EPOCH
        except OverflowError as e:
            raise wrong("at", "is no time of ours") from e
        loss_ns = (since.days * 86400 + since.seconds) * NS_PER_S + since.microseconds * 1000

        def do() -> Response:
            declared = reporting.Declared(told.device, loss_ns, who.name, told.said, place, told.injured)
            made = reporting.report(site.engine, declared, site.now_ns(), facts.limits())
            assessing.check(site.engine, made, site.now_ns(), site.files)
            return answer(request, Done(id=made), 201, {"Location": f"{request.url.path}/{made}"})

        return once(site.engine, request, who.id, site.now_ns(), do)

    takes: dict[str, Any] = {
        TAKES: ["*/*"],
        BODY_LIMIT: documents.MOST_BYTES,
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        },
    }

    @router.post(
        "/claims/{claim}/documents", tags=["claims"], status_code=201, response_model=Document, openapi_extra=takes
    )
    def upload(
        request: Request,
        who: Uploader,
        claim: ClaimId,
        kind: Kind,
        name: Annotated[str, Query(max_length=200, examples=["front.jpg"])] = "document",
    ) -> Response:
        """Add a document: JPEG, PNG, WebP, HEIC, PDF or MP4, as its bytes say and not as it is called."""
        _reached(site, who, claim)
        files = site.files
        if files is None:
            raise ProblemError(503, "no-store", "this receiver keeps no files")

        def do() -> Response:
            body = request.state.body
            added = documents.add(site.engine, files, claim, kind, name, body, who.name, site.now_ns())
            return answer(request, Document.model_validate(added), 201)

        return once(site.engine, request, who.id, site.now_ns(), do)

    @router.get(
        "/claims/{claim}/documents/{sha256}",
        tags=["claims"],
        response_class=Response,
        responses={200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
    )
    def document(request: Request, who: Reader, claim: ClaimId, sha256: Sha256) -> Response:
        """Give a document of a claim as it was uploaded."""
        own = _reached(site, who, claim)
        with db.reading(site.engine) as connection:
            found = next((d for d in documents.listed(connection, claim) if d.sha256 == sha256), None)
        if found is None or site.files is None:
            raise missing()
        site.note(request, "file", own.device, own.incident, found.stored)
        try:
            data = documents.read(site.files, found)
        except OSError as e:
            raise ProblemError(503, "store-away", "the document cannot be read; tell the insurer") from e
        headers = {"Content-Disposition": f'attachment; filename="{found.stored}"', "ETag": f'"{sha256}"'}
        return Response(data, headers=headers, media_type=found.media)

    @router.post("/claims/{claim}/disputes", tags=["claims"], status_code=201, response_model=Done)
    def dispute(request: Request, who: Disputer, claim: ClaimId, told: FlagDispute) -> Response:
        """Dispute what a check found, or the settlement; the claim becomes disputed."""
        _reached(site, who, claim)
        if told.rule not in RULES and told.rule != "settlement":
            raise wrong("rule", f"{told.rule!r} is unknown", [*RULES, "settlement"])

        def do() -> Response:
            number = disputes.dispute_flag(site.engine, claim, told.rule, who.name, told.why, site.now_ns())
            return answer(request, Done(id=str(number)), 201)

        return once(site.engine, request, who.id, site.now_ns(), do)


def claim_of(site: Here, book: RateBook, who: Person, claim: str) -> Claim:
    """Return a claim that a person reaches; raise ProblemError."""
    _reached(site, who, claim)
    return Claim.model_validate(reading.claim(site.engine, book, claim))


def _reached(site: Here, who: Person, claim: str) -> Any:
    with db.reading(site.engine) as connection:
        try:
            row = states.row_of(connection, claim)
        except ClaimError as e:
            raise missing() from e
    reach.incident(site.engine, who, row.device, row.incident)
    return row
