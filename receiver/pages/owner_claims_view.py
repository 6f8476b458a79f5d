"""What the pages of an owner's claims are given: states, flags, calculation and history in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from receiver.claiming import asking, wording
from receiver.claiming.reading import ClaimPage, LossRow, Queued
from receiver.claiming.rules import Finding
from receiver.claiming.settlement import Line
from receiver.disputes import OPEN, Dispute
from receiver.pages.owner_quote_view import yuan
from receiver.words import Words

# a step of the history -> it says nothing to an owner that another step does not say
QUIET: Final = frozenset({"checked"})
SETTLEMENT: Final = "settlement"


@dataclass(frozen=True, slots=True)
class ClaimLine:
    """One claim in the list."""

    id: str
    car: str
    when: str
    utc_ns: int | None
    state: str
    label: str
    flags: str
    by: str


@dataclass(frozen=True, slots=True)
class Flag:
    """What a check found; `dispute` says how far a dispute of it is, `open` that one may be begun."""

    rule: str
    name: str
    result: str
    label: str
    sentence: str
    evidence: list[str]
    dispute: list[str]
    open: bool


@dataclass(frozen=True, slots=True)
class Amount:
    """One line of the calculation."""

    name: str
    rule: str
    claimed: str
    paid: str
    capped: bool


@dataclass(frozen=True, slots=True)
class StepLine:
    """One step of the history."""

    utc_ns: int
    what: str
    who: str
    why: str


@dataclass(frozen=True, slots=True)
class ClaimView:
    """One claim in words."""

    page: ClaimPage
    car: str
    when: str
    utc_ns: int | None
    label: str
    next: str
    flags: list[Flag]
    others: list[Flag]
    amounts: list[Amount]
    total: str
    paid: str
    share: str
    fast: list[str]
    losses: list[tuple[str, str, str]]
    documents: list[tuple[str, str, str, int]]
    wanted: list[str]  # kinds of documents that were asked for and have not come
    settlement: list[str]
    may_dispute: bool
    steps: list[StepLine]
    versions: str


def line(words: Words, one: Queued, cars: Mapping[str, str]) -> ClaimLine:
    """Put one claim of the list into words; `cars` are names by device."""
    text, at = words.text, one.accident_utc_ns
    return ClaimLine(
        id=one.id,
        car=cars.get(one.device, one.device),
        when=text("my_claims.no_time") if at is None else words.stamp(at),
        utc_ns=at,
        state=one.state,
        label=wording.text(text.language)(f"state.{one.state}"),
        flags=text.many("my_claims.flags", len(one.flags)) if one.flags else "",
        by=text("my_claims.by_device" if one.opened_by == "device" else "my_claims.by_you"),
    )


def claim(words: Words, page: ClaimPage, car: str) -> ClaimView:
    """Put one claim into words."""
    text, own = words.text, wording.text(words.text.language)
    proposal = page.proposal
    found = [_flag(words, f, page.disputes) for f in page.findings]
    at = page.accident_utc_ns
    settling = _disputes(words, page.disputes, SETTLEMENT)
    return ClaimView(
        page=page,
        car=car,
        when=text("my_claims.no_time") if at is None else words.stamp(at),
        utc_ns=at,
        label=own(f"state.{page.state}"),
        next=text(f"my_claims.next.{page.state}"),
        flags=[f for f in found if f.result == "flag"],
        others=[f for f in found if f.result != "flag"],
        amounts=[] if proposal is None else [_amount(words, each) for each in proposal.lines],
        total="" if proposal is None else yuan(words, proposal.total),
        paid=yuan(words, page.paid) if page.paid else "",
        share="" if proposal is None else _percent(words, proposal.share_percent),
        fast=[] if page.fast_track is None or len(page.cars) < 2 else wording.fast_track(page.fast_track, own),
        losses=[
            (
                own.among("head", x.head),
                yuan(words, x.estimated),
                "–" if x.assessed is None else yuan(words, x.assessed),
            )
            for x in page.losses
        ],
        documents=[
            (d.sha256, d.name, f"{text(f'my_claims.kind.{d.kind}')}, {_size(d.size)}", d.uploaded_utc_ns)
            for d in page.documents
        ],
        wanted=[text(f"my_claims.kind.{kind}") for kind in asking.wanted(page.history, page.documents)],
        settlement=settling,
        may_dispute=proposal is not None and not _is_open(page.disputes, SETTLEMENT),
        steps=[_step(words, page, n) for n, step in enumerate(page.history) if step.what not in QUIET],
        versions=""
        if proposal is None
        else text("my_claims.versions", regime=proposal.regime_version, limits=proposal.limits_version),
    )


def _flag(words: Words, finding: Finding, disputes: Sequence[Dispute]) -> Flag:
    text, own = words.text, wording.text(words.text.language)
    return Flag(
        rule=finding.name,
        name=wording.name(finding, own),
        result=finding.result,
        label=own(f"result.{finding.result}"),
        sentence=wording.sentence(finding, own),
        evidence=[f"{text.among('my_claims.evidence', e.kind)} {e.ref}".strip() for e in finding.evidence],
        dispute=_disputes(words, disputes, finding.name),
        open=not _is_open(disputes, finding.name),
    )


def _is_open(disputes: Sequence[Dispute], rule: str) -> bool:
    return any(d.rule == rule and d.state == OPEN for d in disputes)


def _disputes(words: Words, disputes: Sequence[Dispute], rule: str) -> list[str]:
    return [dispute(words, d) for d in disputes if d.rule == rule]


def dispute(words: Words, one: Dispute) -> str:
    """Say how far a dispute is."""
    text = words.text
    said = text("my_claims.disputed", time=words.stamp(one.opened_utc_ns), why=one.why)
    if one.state == OPEN:
        return text("my_claims.dispute_said.open", said=said)
    decided = "" if one.decided_utc_ns is None else words.stamp(one.decided_utc_ns)
    return text(f"my_claims.dispute_said.{one.state}", said=said, time=decided, why=one.decision)


def _loss(words: Words, each: LossRow) -> tuple[str, str, str]:
    name = wording.text(words.text.language).among("head", each.head)
    return name, yuan(words, each.estimated), "–" if each.assessed is None else yuan(words, each.assessed)


def _amount(words: Words, each: Line) -> Amount:
    own = wording.text(words.text.language)
    return Amount(
        name=own.among("head", each.head),
        rule=wording.line(each, own),
        claimed=yuan(words, each.claimed),
        paid=yuan(words, each.paid),
        capped=each.capped,
    )


def _step(words: Words, page: ClaimPage, n: int) -> StepLine:
    step, text = page.history[n], words.text
    what = text(f"my_claims.step.{step.what}")
    kinds = [text(f"my_claims.kind.{kind}") for kind in asking.kinds_of(step)]
    if kinds:
        what = text("my_claims.asked_for", kinds=text("event.separator").join(kinds))
    if step.before != step.after and step.after:
        what = text("my_claims.moved", what=what, state=wording.text(text.language)(f"state.{step.after}"))
    who = text("my_claims.the_box") if step.who == page.device else text.among("my_claims.who", step.who)
    return StepLine(step.utc_ns, what, who, step.why)


def _percent(words: Words, value: Decimal) -> str:
    return words.text("my_claims.share", percent=wording.shown(value))


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{max(1, round(size / 1e3))} kB"
