"""What adjusters do to a claim: the cars, the losses, the assessment, the payment, and what is decided of disputes.

A caller who read a claim sends its ETag as If-Match, so that he decides on what he saw.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import Field
from sqlalchemy import select

from receiver import db, disputes
from receiver.api.answers import alone, answer, unchanged
from receiver.api.claims import Claim, claim_of
from receiver.api.here import Here
from receiver.api.once import once
from receiver.api.paging import After, Items, Limit, Order, page
from receiver.api.problems import missing
from receiver.api.shapes import ClaimId, Given, Number, Shape, Utc
from receiver.claiming import assessing, reporting, tables
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.pricing import RateBook

Decider = Annotated[Person, Depends(needs("claims.decide"))]
Judge = Annotated[Person, Depends(needs("disputes.decide"))]
Match = Annotated[str | None, Header(alias="If-Match", max_length=200, description="ETag of the claim that was read.")]
Amount = Annotated[Decimal, Field(ge=0, le=10**10, max_digits=13, decimal_places=2, examples=["8600.00"])]
Fault = Literal["", "none", "secondary", "equal", "primary", "full"]
Head = Literal[
    "death", "medical", "property", "vehicle", "driver", "passenger", "theft", "glass", "scratch", "fire", "equipment"
]


class CarGiven(Given):
    """A car of the accident; number 1 is the insured one."""

    vin: str = Field("", max_length=17, examples=["LSVAM4187C2184841"])
    plate: str = Field("", max_length=16, examples=["鲁A12345"])
    device: str = Field("", max_length=64)
    compulsory: bool = False
    fault: Fault = ""
    share_percent: int | None = Field(None, ge=0, le=100, description="Where the police gave one.")
    agrees: bool = False
    injured: bool = False


class LossGiven(Given):
    """An estimated loss."""

    head: Head
    amount: Amount
    party: int = Field(1, ge=1, le=50, description="Whose: the number of the car.")
    person: int = Field(0, ge=0, le=50)
    paid_by_others: Amount = Decimal(0)


class Assessment(Given):
    """The losses as they are assessed, by their numbers, and why."""

    amounts: dict[Annotated[str, Field(pattern="^[1-9][0-9]?$")], Amount] = Field(
        max_length=50, examples=[{"1": "8600.00"}]
    )
    why: str = Field(min_length=1, max_length=2000, examples=["Seen at the workshop."])


class Reason(Given):
    """Why something is decided."""

    why: str = Field(min_length=1, max_length=2000, examples=["The owner agreed."])


class Ruling(Reason):
    """What is decided of a dispute: upheld, and the owner is right, or not."""

    upheld: bool


class OpenDispute(Shape):
    """A dispute that nobody has decided."""

    id: int
    device: str
    claim: str = Field(description="Empty for an event's.")
    rule: str
    by: str
    why: str
    opened: Utc = Field(validation_alias="opened_utc_ns")


def add(router: APIRouter, site: Here, book: RateBook) -> None:
    """Add the routes."""

    def decide(request: Request, who: Person, claim: str, do: Callable[[], object]) -> Response:
        """Do something to a claim as it was read, once, and answer it as it is then."""

        def done() -> Response:
            with alone(site.engine, f"claim:{claim}"):
                before = claim_of(site, book, who, claim)
                unchanged(request, before)
                site.note(request, "page", before.device, before.incident, f"decide {claim}")
                do()
                return answer(request, claim_of(site, book, who, claim))

        return once(site.engine, request, who.id, site.now_ns(), done)

    @router.put("/claims/{claim}/cars/{number}", tags=["claims"], response_model=Claim)
    def car(
        request: Request, who: Decider, claim: ClaimId, number: Number, told: CarGiven, match: Match = None
    ) -> Response:
        """Note a car of the accident, in place of what was known of it."""
        known = reporting.Car(number, **told.model_dump())
        return decide(
            request, who, claim, lambda: reporting.put_car(site.engine, claim, known, who.name, site.now_ns())
        )

    @router.post("/claims/{claim}/losses", tags=["claims"], response_model=Claim)
    def loss(request: Request, who: Decider, claim: ClaimId, told: LossGiven, match: Match = None) -> Response:
        """Note an estimated loss."""

        def do() -> int:
            return reporting.add_loss(
                site.engine,
                claim,
                told.head,
                told.amount,
                who.name,
                site.now_ns(),
                party=told.party,
                person=told.person,
                paid_by_others=told.paid_by_others,
            )

        return decide(request, who, claim, do)

    @router.post("/claims/{claim}/check", tags=["claims"], response_model=Claim)
    def check(request: Request, who: Decider, claim: ClaimId, match: Match = None) -> Response:
        """Check a claim against the evidence again."""
        return decide(request, who, claim, lambda: assessing.check(site.engine, claim, site.now_ns(), site.files))

    @router.post("/claims/{claim}/assessment", tags=["claims"], response_model=Claim)
    def assess(request: Request, who: Decider, claim: ClaimId, told: Assessment, match: Match = None) -> Response:
        """Fix the losses and keep the payment that is proposed for them."""
        amounts = {int(number): amount for number, amount in told.amounts.items()}

        def do() -> object:
            return assessing.assess(site.engine, book, claim, amounts, who.name, told.why, site.now_ns())

        return decide(request, who, claim, do)

    @router.post("/claims/{claim}/settlement", tags=["claims"], response_model=Claim)
    def settle(request: Request, who: Decider, claim: ClaimId, told: Reason, match: Match = None) -> Response:
        """Pay the last proposal, less what was paid before."""
        return decide(
            request, who, claim, lambda: assessing.settle(site.engine, claim, who.name, told.why, site.now_ns())
        )

    @router.get("/disputes", tags=["disputes"], response_model=Items[OpenDispute])
    def waiting(request: Request, who: Judge, limit: Limit = 50, after: After = None) -> Response:
        """List the disputes that nobody has decided, the oldest first."""
        t = tables.dispute
        order = Order((t.c.id,), (int,), down=False)
        with db.reading(site.engine) as connection:
            query = select(t).where(t.c.state == disputes.OPEN, *order.beyond(after)).order_by(*order.by)
            rows = connection.execute(query.limit(limit + 1)).all()
        given, following = page(request, rows, limit, lambda r: (r.id,))
        items = [OpenDispute.model_validate(r) for r in given]
        return answer(request, Items[OpenDispute](items=items, next=following))

    @router.post("/disputes/{dispute}/decision", tags=["disputes"], status_code=204, response_class=Response)
    def rule(request: Request, who: Judge, dispute: Number, told: Ruling) -> Response:
        """Decide a dispute."""
        with db.reading(site.engine) as connection:
            t = tables.dispute
            row = connection.execute(select(t.c.device).where(t.c.id == dispute)).one_or_none()
        if row is None:
            raise missing()

        def do() -> Response:
            site.note(request, "page", row.device, name=f"dispute {dispute}")
            disputes.decide(site.engine, dispute, told.upheld, who.name, told.why, site.now_ns())
            return Response(status_code=204)

        return once(site.engine, request, who.id, site.now_ns(), do)
