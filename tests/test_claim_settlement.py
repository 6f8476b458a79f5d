"""What a claim pays: T-JQX-1, T-DED-1, T-DED-2, T-CLAIM-FAST, and what must hold for any case."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from functools import cache
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.claiming import wording
from receiver.claiming.fasttrack import Party, fast_track
from receiver.claiming.settlement import HEADS, OWN, Case, Held, Line, Loss, Proposal, grade, settle
from receiver.pricing.book import RateBook, load_book
from receiver.pricing.refusals import QuoteError
from receiver.texts import LANGUAGES

D = Decimal
BEIJING = timezone(timedelta(hours=8))
OLD = datetime(2020, 9, 18, 23, 59, 59, tzinfo=BEIJING)
NEW = datetime(2020, 9, 19, tzinfo=BEIJING)
CAR = {
    "VD": Held(D(150_000)),
    "TPL": Held(D(1_000_000)),
    "OCC.driver": Held(D(30_000)),
    "OCC.passenger": Held(D(20_000)),
}
VICTIM = (Loss("death", D(130_000)), Loss("medical", D(8_000)), Loss("property", D(5_000)))


@cache
def book() -> RateBook:
    return load_book()


def case(*losses: Loss, at: datetime = NEW, regime: str = "2015", **changed: object) -> Case:
    made = Case(accident_at=at, fault="full", losses=losses, regime=regime, covers=CAR)
    return replace(made, **changed)  # type: ignore[arg-type]


def paid(proposal: Proposal, cover: str) -> Decimal:
    return sum((line.paid for line in proposal.lines if line.cover == cover), D(0))


@pytest.mark.parametrize(
    ("at", "fault", "compulsory", "residual"),
    [
        (OLD, "full", 120_000, 23_000),
        (OLD, "none", 12_100, 0),
        (NEW, "full", 140_000, 3_000),
        (NEW, "none", 19_900, 0),
    ],
)
def test_t_jqx_1_limits_follow_the_accident(at: datetime, fault: str, compulsory: int, residual: int) -> None:
    # T-JQX-1
    # regime 2006 is what was sold; the compulsory limits do not ask
    proposal = settle(
        case(*VICTIM, at=at, regime="2006", fault=fault, covers={"TPL": Held(D(1_000_000), True)}), book()
    )
    assert paid(proposal, "JQX") == compulsory
    assert paid(proposal, "TPL") == residual
    assert [line.paid for line in proposal.lines if line.cover == "JQX"] == (
        {120_000: [110_000, 8_000, 2_000], 12_100: [11_000, 1_000, 100]}
        | {140_000: [130_000, 8_000, 2_000], 19_900: [18_000, 1_800, 100]}
    )[compulsory]


def test_t_jqx_1_leaves_20000_0_and_3000_to_the_third_party_cover() -> None:
    # T-JQX-1
    proposal = settle(case(*VICTIM, at=OLD, regime="2006"), book())
    rest = [line.claimed - line.paid for line in proposal.lines if line.cover == "JQX"]
    assert rest == [20_000, 0, 3_000]
    (tpl,) = [line for line in proposal.lines if line.cover == "TPL"]
    assert tpl.base == 23_000


def test_t_ded_1_primary_fault_in_2015_and_2020() -> None:
    # T-DED-1
    loss = Loss("vehicle", D(10_000))
    assert settle(case(loss, fault="primary"), book()).total == D("5950.00")
    waived = {"VD": Held(D(150_000), waived=True)}
    assert settle(case(loss, fault="primary", covers=waived), book()).total == D("7000.00")
    assert settle(case(loss, fault="primary", regime="2020"), book()).total == D("7000.00")


def test_police_percentage_goes_before_the_clauses() -> None:
    proposal = settle(case(Loss("vehicle", D(10_000)), fault="primary", share=D("0.6"), regime="2020"), book())
    assert (proposal.total, proposal.share_percent) == (D(6_000), D(60))
    assert [grade(n) for n in (0, 1, 49, 50, 51, 99, 100)] == [
        "none",
        "secondary",
        "secondary",
        "equal",
        "primary",
        "primary",
        "full",
    ]


def test_t_ded_2_absolute_deductibles_and_the_end_of_a_cover() -> None:
    # T-DED-2
    covers = {"SCRATCH": Held(D(2_000)), "FIRE": Held(D(100_000))}
    assert settle(case(Loss("scratch", D(1_200)), covers=covers), book()).total == D("1020.00")
    assert settle(case(Loss("fire", D(30_000)), covers=covers), book()).total == D("24000.00")
    second = settle(case(Loss("scratch", D(1_000)), covers={"SCRATCH": Held(D(2_000), paid_before=D(1_500))}), book())
    assert second.total == D("500.00")
    assert (second.lines[0].capped, second.lines[0].ended) == (True, True)
    third = settle(case(Loss("scratch", D(1_000)), covers={"SCRATCH": Held(D(2_000), paid_before=D(2_000))}), book())
    assert third.total == 0


@pytest.mark.parametrize(
    ("regime", "fault", "expected"),
    [("2006", "full", 8_500), ("2006", "equal", 4_600), ("2015", "full", 8_000), ("2015", "equal", 4_500)],
)
def test_fault_deductible_is_that_of_the_clause_book(regime: str, fault: str, expected: int) -> None:
    assert settle(case(Loss("vehicle", D(10_000)), regime=regime, fault=fault), book()).total == expected


def test_third_party_cover_pays_at_most_its_sum_less_the_deductible() -> None:
    small = {"TPL": Held(D(100_000))}
    (tpl,) = [x for x in settle(case(Loss("death", D(500_000)), covers=small), book()).lines if x.cover == "TPL"]
    assert (tpl.capped, tpl.paid) == (True, D(80_000))


def test_every_passenger_has_a_sum_of_their_own() -> None:
    losses = (Loss("passenger", D(30_000), person=1), Loss("passenger", D(5_000), person=2))
    assert settle(case(*losses, regime="2020"), book()).total == 25_000


def test_glass_is_part_of_the_own_damage_cover_since_2020() -> None:
    both = (Loss("vehicle", D(9_000)), Loss("glass", D(3_000)))
    covers = {"VD": Held(D(10_000))}
    proposal = settle(case(*both, regime="2020", covers=covers), book())
    assert {line.cover for line in proposal.lines} == {"VD"}
    assert proposal.total == 10_000  # one sum for both
    assert [x.rule for x in settle(case(both[1], covers=covers), book()).lines] == ["no_cover"]


def test_compulsory_cover_elsewhere_is_deducted_and_not_paid() -> None:
    proposal = settle(case(*VICTIM, compulsory_here=False, regime="2020"), book())
    assert paid(proposal, "JQX") == 0
    assert sum(line.due for line in proposal.lines) == 140_000
    assert paid(proposal, "TPL") == 3_000


def test_what_others_paid_is_no_loss_any_more() -> None:
    assert settle(case(Loss("vehicle", D(10_000), D(2_000)), regime="2020"), book()).total == 8_000
    assert settle(case(Loss("vehicle", D(1_000), D(2_000)), regime="2020"), book()).total == 0


def test_case_that_is_none_is_refused() -> None:
    loss = Loss("vehicle", D(1))
    for wrong, said in [
        (case(loss, at=datetime(2026, 1, 1)), "time zone"),
        (case(loss, share=D("1.1")), "between 0 and 1"),
        (case(loss, share=D(0)), "does not go"),
        (case(loss, regime="1999"), "unknown; known: 2006, 2015, 2020"),
        (case(Loss("vehicle", D(-1))), "not negative"),
        (case(Loss("roof", D(1))), "head 'roof' is unknown"),  # type: ignore[arg-type]
        (case(loss, covers={"VD": Held(D(-1))}), "not negative"),
    ]:
        with pytest.raises(ValueError, match=said):
            settle(wrong, book())
    with pytest.raises(QuoteError, match="2008"):
        settle(case(*VICTIM, at=datetime(2007, 1, 1, tzinfo=UTC)), book())


def parties(loss: int = 2_000, injured: bool = False) -> list[Party]:
    return [Party(True, "primary", True, injured, D(1_500)), Party(True, "secondary", True, False, D(loss))]


def test_t_claim_fast_two_insured_cars_settle_between_themselves() -> None:
    # T-CLAIM-FAST
    assert fast_track(parties(), D(2_000)).fast_track
    assert not fast_track(parties(2_001), D(2_000)).fast_track
    assert not fast_track(parties(injured=True), D(2_000)).fast_track
    assert not fast_track(parties()[:1], D(2_000)).fast_track
    for change in ({"compulsory": False}, {"agrees": False}, {"fault": "none"}, {"fault": "full"}, {"fault": None}):
        one, other = parties()
        assert not fast_track([replace(one, **change), other], D(2_000)).fast_track  # type: ignore[arg-type]
    assert not fast_track(parties(), D(2_000), outside_damage=True).fast_track
    for language in LANGUAGES:
        assert all(wording.fast_track(fast_track(p, D(2_000)), wording.text(language)) for p in (parties(), []))


def test_fast_settlement_pays_the_own_car_from_the_own_compulsory_cover() -> None:
    both = (Loss("vehicle", D(1_500)), Loss("property", D(1_800)))
    proposal = settle(case(*both, fault="primary", fast_track=True), book())
    assert [(x.cover, x.head, x.paid, x.due) for x in proposal.lines] == [
        ("JQX", "vehicle", 1_500, 0),
        ("JQX", "property", 0, 1_800),
    ]


def test_lines_can_be_said_in_both_languages() -> None:
    shown = [
        *settle(case(*VICTIM, Loss("vehicle", D(1)), Loss("glass", D(1))), book()).lines,
        *settle(case(*VICTIM, compulsory_here=False), book()).lines,
        *settle(case(Loss("vehicle", D(1)), Loss("property", D(1)), fast_track=True), book()).lines,
    ]
    assert {x.rule for x in shown} == {"compulsory", "compulsory_elsewhere", "cover", "no_cover", "fast", "fast_other"}
    for language in LANGUAGES:
        words = wording.text(language)
        assert all("{" not in wording.line(x, words) for x in shown)
        assert {f"head.{head}" for head in HEADS} <= words.names()


yuan = st.decimals(0, 3_000_000, places=2)
losses = st.lists(st.builds(Loss, st.sampled_from(HEADS), yuan, yuan | st.just(D(0)), st.integers(0, 2)), max_size=6)
held = st.builds(Held, st.none() | st.decimals(1, 2_000_000, places=2), st.booleans(), yuan)
cases = st.builds(
    Case,
    accident_at=st.sampled_from([OLD, NEW]),
    fault=st.sampled_from(["none", "secondary", "equal", "primary", "full"]),
    losses=losses,
    regime=st.sampled_from(["2006", "2015", "2020"]),
    covers=st.dictionaries(st.sampled_from(["TPL", *(r.cover for r in OWN.values())]), held),
    compulsory_here=st.booleans(),
    fast_track=st.booleans(),
)


def by_key(lines: Sequence[Line]) -> Mapping[tuple[str, str, int], Decimal]:
    return {(x.cover, x.head, x.person): x.paid for x in lines}


@settings(max_examples=400, deadline=None)
@given(cases)
def test_payment_is_additive_capped_exact_and_never_negative(c: Case) -> None:
    proposal = settle(c, book())
    assert proposal.total == sum((x.paid for x in proposal.lines), D(0))
    assert all(x.paid >= 0 and x.due >= 0 and x.paid == x.paid.quantize(D("0.01")) for x in proposal.lines)
    assert all(x.limit is None or x.paid <= x.limit for x in proposal.lines)
    assert all(x.paid <= x.claimed for x in proposal.lines)
    assert proposal.total <= proposal.claimed
    for code, cover in c.covers.items():
        for person in {x.person for x in proposal.lines}:
            of = [x.paid for x in proposal.lines if x.cover == code and x.person == person]
            assert cover.sum is None or sum(of, D(0)) <= cover.sum


@settings(max_examples=200, deadline=None)
@given(cases, st.data())
def test_more_loss_never_pays_less(c: Case, data: st.DataObject) -> None:
    if not c.losses:
        return
    n = data.draw(st.integers(0, len(c.losses) - 1))
    more = replace(c.losses[n], amount=c.losses[n].amount + data.draw(yuan))
    assert settle(replace(c, losses=[*c.losses[:n], more, *c.losses[n + 1 :]]), book()).total >= settle(c, book()).total


@settings(max_examples=100, deadline=None)
@given(cases, yuan)
def test_a_loss_told_in_two_parts_or_in_another_order_pays_the_same(c: Case, part: Decimal) -> None:
    whole = settle(c, book())
    for order in list(permutations(c.losses))[:6]:
        assert by_key(settle(replace(c, losses=list(order)), book()).lines) == by_key(whole.lines)
    split = [
        piece
        for loss in c.losses
        if loss.paid_by_others == 0
        for piece in (
            replace(loss, amount=min(part, loss.amount)),
            replace(loss, amount=loss.amount - min(part, loss.amount)),
        )
    ]
    kept = [loss for loss in c.losses if loss.paid_by_others == 0]
    assert settle(replace(c, losses=split), book()).total == settle(replace(c, losses=kept), book()).total


@settings(max_examples=200, deadline=None)
@given(cases)
def test_compulsory_cover_comes_first_and_commercial_only_takes_what_it_leaves(c: Case) -> None:
    proposal = settle(replace(c, fast_track=False), book())
    covers = [x.cover for x in proposal.lines]
    assert "JQX" not in covers[covers.count("JQX") :]
    third = [x for x in proposal.lines if x.head == "third"]
    compulsory = [x for x in proposal.lines if x.cover == "JQX"]
    for line in third:
        assert line.base == line.claimed - sum((x.paid + x.due for x in compulsory), D(0))


@settings(max_examples=100, deadline=None)
@given(cases)
def test_waiver_never_pays_less(c: Case) -> None:
    waived = {code: replace(h, waived=True) for code, h in c.covers.items()}
    assert settle(replace(c, covers=waived), book()).total >= settle(c, book()).total
