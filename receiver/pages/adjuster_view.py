"""What the adjusters' pages are given: the queue, and one claim with checks, calculation and history in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote

import msgspec

from agent.clock import NS_PER_S
from receiver.claiming import asking, wording, worklist
from receiver.claiming.assessing import Reserve
from receiver.claiming.documents import Document
from receiver.claiming.facts import Evidence
from receiver.claiming.history import Step
from receiver.claiming.reading import ClaimPage
from receiver.claiming.reporting import Car
from receiver.claiming.rules import Finding
from receiver.claiming.settlement import Line
from receiver.claiming.worklist import Waiting
from receiver.disputes import OPEN, Dispute
from receiver.pages.owner_claims_view import dispute as dispute_said
from receiver.pages.owner_quote_view import yuan
from receiver.views import Figure
from receiver.words import Words

# how a claim's state and its need look: words of CSS
STATE_LOOKS: Final = {"settled": "good", "disputed": "poor"}
RESULT_LOOKS: Final = {"flag": "poor", "clear": "good"}
HOUR_S: Final = 3600


@dataclass(frozen=True, slots=True)
class QueueLine:
    """One claim of the queue in words."""

    id: str
    car: str
    need: str
    waits: bool  # for others, nobody here can do more
    state: str
    state_looks: str
    since: str  # how long it has been in its state
    age: str  # since it was opened
    what: str
    when: str
    when_ns: int | None
    notice: str
    late: bool
    flags: str
    disputes: str
    money: str
    basis: str


@dataclass(frozen=True, slots=True)
class DisputeLine:
    """One dispute in words; `open` ones can be decided."""

    id: int
    said: str
    open: bool


@dataclass(frozen=True, slots=True)
class CheckLine:
    """What a check found, in words, with what it looked at."""

    rule: str
    version: str
    name: str
    result: str
    looks: str
    label: str
    sentence: str
    evidence: list[tuple[str, str]]  # in words, and the address where it is shown ("" for none)
    figures: list[tuple[str, str]]
    disputes: list[DisputeLine]


@dataclass(frozen=True, slots=True)
class Sum:
    """One line of the calculation with each step of it."""

    name: str
    cover: str
    rule: str
    claimed: str
    base: str
    share: str
    less: str
    limit: str
    capped: bool
    ended: bool
    due: str
    paid: str


@dataclass(frozen=True, slots=True)
class LossLine:
    """One loss."""

    number: int
    name: str
    whose: str
    estimated: str
    assessed: str
    by_others: str


@dataclass(frozen=True, slots=True)
class PaperLine:
    """One document."""

    address: str
    name: str
    kind: str
    media: str
    size: str
    by: str
    utc_ns: int
    hash: str


@dataclass(frozen=True, slots=True)
class StepLine:
    """One step of the history."""

    utc_ns: int
    what: str
    who: str
    why: str
    more: list[str]


@dataclass(frozen=True, slots=True)
class Calculation:
    """What is proposed and why."""

    sums: list[Sum]
    total: str
    share: str
    versions: str
    paid: str


@dataclass(frozen=True, slots=True)
class ClaimView:
    """One claim in words."""

    page: ClaimPage
    car: str
    label: str
    looks: str
    need: str
    waits: bool
    when: str
    when_ns: int | None
    figures: list[Figure]
    flags: list[CheckLine]  # and what is disputed of the others
    others: list[CheckLine]
    dispute: int | None  # the first that is open
    checked: str
    calculation: Calculation | None
    fast: list[str]
    fast_yes: bool
    losses: list[LossLine]
    cars: list[tuple[Car, str, list[str]]]
    policies: list[tuple[str, str]]
    papers: list[PaperLine]
    wanted: list[str]
    settlement: list[DisputeLine]
    steps: list[StepLine]


def line(words: Words, one: Waiting) -> QueueLine:
    """Put one claim of the queue into words; nothing says where it happened."""
    text = words.text
    at = one.accident_utc_ns
    return QueueLine(
        id=one.id,
        car=one.plate or one.device,
        need=text(f"desk.need.{one.need}"),
        waits=one.need in worklist.WAITS_FOR_OTHERS,
        state=wording.text(text.language)(f"state.{one.state}"),
        state_looks=STATE_LOOKS.get(one.state, "open"),
        since=_age(words, one.state_utc_ns),
        age=_age(words, one.opened_utc_ns),
        what=_what(words, one),
        when=text("my_claims.no_time") if at is None else words.stamp(at),
        when_ns=at,
        notice=_notice(words, one.notice_h, one.device_notice_s),
        late=one.notice_h is not None and one.notice_h > 48,
        flags=text.many("desk.flags", one.flags) if one.flags else "",
        disputes=text.many("desk.disputes", one.disputes) if one.disputes else "",
        money=_money(words, one.state, one.reserve, one.paid),
        basis=text("desk.was_paid") if one.state == "settled" else _basis(words, one.reserve),
    )


def claim(words: Words, page: ClaimPage, car: str, need: str, crash: str) -> ClaimView:
    """Put one claim into words; `crash` is the address of its crash's page, "" where no device measured one."""
    text, own = words.text, wording.text(words.text.language)
    checks = [check(words, f, page.disputes, crash) for f in page.findings]
    at = page.accident_utc_ns
    fast = [] if page.fast_track is None or len(page.cars) < 2 else wording.fast_track(page.fast_track, own)
    fast_yes = page.fast_track is not None and page.fast_track.fast_track
    return ClaimView(
        page=page,
        car=car,
        label=own(f"state.{page.state}"),
        looks=STATE_LOOKS.get(page.state, "open"),
        need=text(f"desk.next.{need}"),
        waits=need in worklist.WAITS_FOR_OTHERS,
        when=text("my_claims.no_time") if at is None else words.stamp(at),
        when_ns=at,
        figures=_figures(words, page),
        flags=[c for c in checks if _to_look_at(c)],
        others=[c for c in checks if not _to_look_at(c)],
        dispute=next((d.id for d in page.disputes if d.state == OPEN), None),
        checked="" if page.checked_utc_ns is None else words.ago(page.checked_utc_ns),
        calculation=_calculation(words, page),
        fast=fast,
        fast_yes=fast_yes,
        losses=[
            LossLine(
                x.number,
                own.among("head", x.head),
                _whose(words, x.party, x.person),
                yuan(words, x.estimated),
                wording.UNKNOWN if x.assessed is None else yuan(words, x.assessed),
                yuan(words, x.paid_by_others) if x.paid_by_others else "",
            )
            for x in page.losses
        ],
        cars=[(c, _whose(words, c.number, 0), _of_car(words, c)) for c in page.cars],
        policies=[
            (p.id, text("desk.policy", regime=p.regime, starts=p.starts.isoformat(), ends=p.ends.isoformat()))
            for p in page.policies
        ],
        papers=[_paper(words, d) for d in page.documents],
        wanted=[text(f"my_claims.kind.{kind}") for kind in asking.wanted(page.history, page.documents)],
        settlement=_disputes(words, page.disputes, "settlement"),
        steps=[step(words, page, each) for each in page.history],
    )


def check(words: Words, finding: Finding, disputes: Sequence[Dispute], crash: str) -> CheckLine:
    """Put what a check found into words."""
    own = wording.text(words.text.language)
    return CheckLine(
        rule=finding.name,
        version=finding.rule,
        name=wording.name(finding, own),
        result=finding.result,
        looks=RESULT_LOOKS.get(finding.result, "open"),
        label=own(f"result.{finding.result}"),
        sentence=wording.sentence(finding, own),
        evidence=[_evidence(words, e, crash) for e in finding.evidence],
        figures=[
            (name, wording.shown(value))
            for table in (finding.figures, finding.limits)
            for name, value in table.items()
            if name not in PLACES
        ],
        disputes=_disputes(words, disputes, finding.name),
    )


PLACES: Final = frozenset({"latitude", "longitude", "declared_latitude", "declared_longitude"})  # the map shows them


def _to_look_at(one: CheckLine) -> bool:
    return one.result == "flag" or any(d.open for d in one.disputes)


def step(words: Words, page: ClaimPage, one: Step) -> StepLine:
    """Put one step of the history into words."""
    text, own = words.text, wording.text(words.text.language)
    what = text(f"my_claims.step.{one.what}")
    kinds = [text(f"my_claims.kind.{kind}") for kind in asking.kinds_of(one)]
    if kinds:
        what = text("my_claims.asked_for", kinds=text("event.separator").join(kinds))
    if one.before != one.after and one.after:
        what = text("my_claims.moved", what=what, state=own(f"state.{one.after}"))
    who = text("my_claims.the_box") if one.who == page.device else text.among("my_claims.who", one.who)
    return StepLine(one.utc_ns, what, who, one.why, _details(words, one))


def commands_of(steps: Sequence[Step]) -> set[str]:
    """Return the ids of the commands that were given for a claim."""
    return {str(msgspec.json.decode(step.detail).get("command")) for step in steps if step.what == "clip"}


def _details(words: Words, one: Step) -> list[str]:
    """Say what a step changed, as far as its kind tells."""
    text, own = words.text, wording.text(words.text.language)
    told: Mapping[str, Any] = msgspec.json.decode(one.detail)
    if one.what == "checked":
        results: dict[str, list[str]] = {"flag": [], "clear": [], "unknown": []}
        for rule, said in told.items():
            result = str(said).partition(":")[0]
            if f"check.{rule}.name" in own.names() and result in results:
                results[result].append(own(f"check.{rule}.name"))
        return [
            text("desk.changed", result=own(f"result.{result}"), names=text("event.separator").join(sorted(names)))
            for result, names in results.items()
            if names
        ]
    if one.what == "loss" and "estimated_fen" in told:
        amount = yuan(words, Decimal(told["estimated_fen"]) / 100)
        return [f"{own.among('head', str(told.get('head')))}: {amount}"]
    if one.what in ("assessed", "settled") and "total_fen" in told:
        shown = told.get("paid_fen", told["total_fen"])
        return [text(f"desk.amount.{one.what}", amount=yuan(words, Decimal(shown) / 100))]
    if one.what == "party" and told.get("fault"):
        fault = text.among("desk.fault", str(told["fault"]))
        return [f"{_whose(words, int(told['number']), 0)}: {fault}"]
    return []


def _figures(words: Words, page: ClaimPage) -> list[Figure]:
    text = words.text
    delay = next((f for f in page.findings if f.name == "report_delay"), None)
    hours, seconds = (None, None) if delay is None else worklist.notice(delay)
    proposal = page.proposal
    return [
        Figure(text("desk.reserve"), _money(words, "", page.reserve, Decimal(0)), _basis(words, page.reserve)),
        Figure(text("desk.proposal"), wording.UNKNOWN if proposal is None else yuan(words, proposal.total), ""),
        Figure(text("my_claims.pays"), yuan(words, page.paid) if page.paid else wording.UNKNOWN, ""),
        Figure(text("desk.notice"), _notice(words, hours, seconds), ""),
        Figure(text("desk.in_state"), _age(words, page.state_utc_ns), ""),
    ]


def _calculation(words: Words, page: ClaimPage) -> Calculation | None:
    text, proposal = words.text, page.proposal
    if proposal is None:
        return None
    return Calculation(
        sums=[_sum(words, each) for each in proposal.lines],
        total=yuan(words, proposal.total),
        share=text("my_claims.share", percent=wording.shown(proposal.share_percent)),
        versions=text("my_claims.versions", regime=proposal.regime_version, limits=proposal.limits_version),
        paid=yuan(words, page.paid) if page.paid else "",
    )


def _sum(words: Words, each: Line) -> Sum:
    text, own = words.text, wording.text(words.text.language)
    less = [wording.shown(p) for p in (each.fault_percent, each.absolute_percent) if p]
    return Sum(
        name=own.among("head", each.head),
        cover=text("desk.jqx")
        if each.cover == "JQX"
        else text.among("my_policies.cover", each.cover.replace(".", "_")),
        rule=wording.line(each, own),
        claimed=yuan(words, each.claimed),
        base=yuan(words, each.base),
        share=f"{wording.shown(each.share_percent)} %",
        less=" · ".join(f"−{p} %" for p in less) or wording.UNKNOWN,
        limit=wording.UNKNOWN if each.limit is None else yuan(words, each.limit),
        capped=each.capped,
        ended=each.ended,
        due=yuan(words, each.due) if each.due else "",
        paid=yuan(words, each.paid),
    )


def _evidence(words: Words, one: Evidence, crash: str) -> tuple[str, str]:
    """Name what a check looked at, and the address where this page or another shows it."""
    said = f"{words.text.among('my_claims.evidence', one.kind)} {one.ref}".strip()
    if one.kind == "claim":
        return said, f"/claims/{quote(one.ref, safe='')}"
    if one.kind == "report":
        return said, "#reports"
    if one.kind in ("package", "entry") and crash and one.ref.startswith(crash.split("/")[2]):
        return said, "#package" if one.kind == "package" else "#film"
    if one.kind == "file" and crash:
        return said, f"{crash}/files/{quote(one.ref.rpartition('/')[2], safe='')}"
    return said, ""


def _disputes(words: Words, disputes: Sequence[Dispute], rule: str) -> list[DisputeLine]:
    return [DisputeLine(d.id, dispute_said(words, d), d.state == OPEN) for d in disputes if d.rule == rule]


def _whose(words: Words, party: int, person: int) -> str:
    text = words.text
    said = text("desk.own_car") if party == 1 else text("desk.other_car", n=party)
    return text("desk.person", whose=said, n=person) if person else said


def _of_car(words: Words, car: Car) -> list[str]:
    text = words.text
    said = [text(f"desk.fault.{car.fault}") if car.fault else text("desk.fault.unknown")]
    if car.share_percent is not None:
        said.append(f"{car.share_percent} %")
    return said + [text(f"desk.car.{name}") for name in ("compulsory", "agrees", "injured") if getattr(car, name)]


def _paper(words: Words, d: Document) -> PaperLine:
    size = f"{d.size / 1e6:.1f} MB" if d.size >= 1e6 else f"{max(1, round(d.size / 1e3))} kB"
    kind = words.text(f"my_claims.kind.{d.kind}")
    return PaperLine(
        f"/claims/{d.claim}/documents/{d.sha256}", d.name, kind, d.media, size, d.by, d.uploaded_utc_ns, d.sha256[:16]
    )


def _what(words: Words, one: Waiting) -> str:
    text = words.text
    if not one.kind:
        return text("desk.no_crash")
    kind = text.among("crash_kind", one.kind)
    if one.delta_v_mps is None:
        return kind
    key = "desk.crash_least" if one.clipped else "desk.crash"
    return text(key, kind=kind, change=words.speed(one.delta_v_mps))


def _notice(words: Words, hours: float | None, device_s: float | None) -> str:
    if hours is not None:
        # a clock may run ahead: a report before the impact is told by its own flag
        return words.duration(max(0.0, hours) * HOUR_S)
    if device_s is not None:
        return words.text("desk.by_box", duration=words.duration(max(0.0, device_s)))
    return wording.UNKNOWN


def _age(words: Words, since_ns: int) -> str:
    return words.duration(max(0, words.now_ns - since_ns) // NS_PER_S)


def _money(words: Words, state: str, reserve: Reserve, paid: Decimal) -> str:
    if state == "settled":
        return yuan(words, paid)
    return wording.UNKNOWN if reserve.amount is None else yuan(words, reserve.amount)


def _basis(words: Words, reserve: Reserve) -> str:
    return words.text(f"desk.basis.{reserve.basis}", n=reserve.claims)
