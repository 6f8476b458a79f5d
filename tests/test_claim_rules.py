"""The checks of a claim: the vectors of T-CLAIM-*, their limits on both sides, and words for all that they say."""

import re
import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import ConfigError
from receiver.claiming import facts as of
from receiver.claiming import rules, together, wording
from receiver.claiming.facts import Facts, Moment, OtherClaim, PackageFacts, Place, metres
from receiver.claiming.rules import Finding
from receiver.texts import LANGUAGES
from tests.claiming import ENTRY, L0, T0, H, S, facts, impact, north, point, report

K = of.limits()


def found(f: Facts, rule: str) -> Finding:
    return rules.RULES[rule](f, K)


def test_t_claim_delay_a_the_device_itself_gives_notice() -> None:
    # T-CLAIM-DELAY
    told = found(facts(report=None, noticed_utc_ns=T0 + 10 * S), "report_delay")
    assert (told.result, told.figures["device_notice"], told.figures["device_notice_s"]) == ("clear", True, 10.0)


def test_t_claim_delay_b_47_hours_are_in_time() -> None:
    # T-CLAIM-DELAY
    told = found(facts(report=report(47 * H)), "report_delay")
    assert (told.result, told.figures["notice_delay_h"], told.figures["late"]) == ("clear", 47.0, False)


def test_t_claim_delay_c_49_hours_are_late() -> None:
    # T-CLAIM-DELAY
    told = found(facts(report=report(49 * H)), "report_delay")
    assert (told.result, told.reason, told.figures["late"]) == ("flag", ">48h", True)
    assert ENTRY in told.evidence


def test_t_claim_delay_d_the_device_stands_in_for_the_owner() -> None:
    # T-CLAIM-DELAY
    told = found(facts(report=None, now_utc_ns=T0 + 48 * H), "report_delay")
    assert (told.result, told.reason, told.figures["device_notice"]) == ("clear", "device_only", True)


@pytest.mark.parametrize(("delay_ns", "late"), [(48 * H, False), (48 * H + S, True)])
def test_48_hours_are_within_and_a_second_more_is_not(delay_ns: int, late: bool) -> None:
    assert found(facts(report=report(delay_ns)), "report_delay").figures["late"] is late


def test_report_before_the_impact_is_flagged_beyond_the_clocks_uncertainty() -> None:
    assert found(facts(report=report(-60 * S)), "report_delay").reason == "before_impact"
    unsure = facts(report=report(-60 * S), impact=impact(uncertainty_ns=90 * S))
    assert found(unsure, "report_delay").result == "clear"


def test_t_claim_move_declared_place_is_979_m_away() -> None:
    # T-CLAIM-MOVE
    declared = Place(36.66, 117.1201)
    assert round(metres(L0, declared)) == 979
    told = found(facts(report=report(H, declared)), "place_mismatch")
    assert (told.result, told.figures["place_mismatch"], round(float(told.figures["distance_m"] or 0))) == (
        "flag",
        True,
        979,
    )


@pytest.mark.parametrize(("away_m", "far"), [(499.0, False), (501.0, True)])
def test_place_may_be_500_m_off(away_m: float, far: bool) -> None:
    assert found(facts(report=report(H, north(away_m))), "place_mismatch").figures["place_mismatch"] is far


def test_t_claim_move_12_m_are_not_moved_and_80_m_with_the_ignition_on_are() -> None:
    # T-CLAIM-MOVE
    still = found(facts(after=(point(3.0, 12.0),)), "moved_after")
    driven = found(facts(after=(point(3.0, 12.0), point(60.0, 80.0))), "moved_after")
    assert (still.figures["moved"], still.result, still.figures["displacement_m"]) == (False, "clear", 12.0)
    assert (driven.figures["moved"], driven.result, driven.reason) == (True, "flag", "driven")
    assert found(facts(after=(point(60.0, 80.0, None),)), "moved_after").reason == "pushed_or_towed"


def test_t_claim_evade_a_leaving_after_a_locked_event() -> None:
    # T-CLAIM-EVADE
    drive = tuple(point(10.0 * n, 20.0 * n) for n in range(1, 16))
    told = found(facts(after=drive), "left_scene")
    assert (told.result, told.figures["left_scene"]) == ("flag", True)
    assert float(told.figures["driven_m"] or 0) == pytest.approx(300.0, abs=0.5)
    assert found(facts(after=(point(100.0, 199.9),)), "left_scene").result == "clear"
    assert found(facts(after=tuple(p._replace(engine_on=None) for p in drive)), "left_scene").result == "clear"
    later = tuple(p._replace(t_s=p.t_s + 600) for p in drive)
    assert found(facts(after=(point(1.0, 0.0), *later)), "left_scene").result == "clear"
    assert found(facts(after=drive, locked=False), "left_scene").reason == "light"


def test_noise_of_a_standing_car_is_not_driven() -> None:
    noise = tuple(point(float(n), 8.0 * (n % 2)) for n in range(1, 600))
    assert found(facts(after=noise), "left_scene").figures["driven_m"] == 0.0


@pytest.mark.parametrize(("t_s", "result"), [(1.0, "flag"), (299.0, "flag"), (300.0, "clear"), (-1.0, "clear")])
def test_t_claim_evade_b_power_lost_within_five_minutes(t_s: float, result: str) -> None:
    # T-CLAIM-EVADE
    told = found(facts(power_cuts=(Moment(t_s, 0.0, ENTRY),)), "power_cut")
    assert told.result == result
    if result == "flag":
        assert (told.figures["tamper_power"], told.figures["package_complete"]) == (True, True)


@pytest.mark.parametrize(("angle", "result"), [(20.0, "clear"), (20.1, "flag")])
def test_t_claim_evade_c_device_turned_by_more_than_20_degrees(angle: float, result: str) -> None:
    # T-CLAIM-EVADE
    assert found(facts(turns=(Moment(120.0, angle, ENTRY),)), "device_moved").result == result
    assert found(facts(turns=(Moment(120.0, 90.0, ENTRY),), kind="rollover"), "device_moved").result == "unknown"


def test_impact_is_looked_for_where_none_was_measured() -> None:
    nothing = facts(impact=None, kind="", package=PackageFacts())
    assert found(nothing, "no_impact").reason == "none"
    assert found(replace(nothing, recorded=False), "no_impact").result == "unknown"
    assert found(facts(kind="suspected"), "no_impact").reason == "suspected"
    assert found(facts(report=report(2 * H, L0, T0 + H)), "no_impact").reason == "other_time"
    assert found(facts(), "no_impact").result == "clear"


@pytest.mark.parametrize(
    ("package", "hours", "expected"),
    [
        (PackageFacts(), 1, ("unknown", "awaited")),
        (PackageFacts("arriving"), 25, ("flag", "missing")),
        (PackageFacts("failed", True, faults=("imu.csv: altered",)), 1, ("flag", "failed")),
        (PackageFacts("proved", True, missing=("video (no camera)",)), 1, ("flag", "incomplete")),
        (PackageFacts("proved", False), 1, ("flag", "incomplete")),
        (PackageFacts("proved", True), 1, ("clear", "proved")),
    ],
)
def test_evidence_is_told_apart(package: PackageFacts, hours: int, expected: tuple[str, str]) -> None:
    told = found(facts(package=package, now_utc_ns=T0 + hours * H), "evidence")
    assert (told.result, told.reason) == expected


@pytest.mark.parametrize(
    ("quality", "unsure_s", "reason"),
    [
        ("gnss", 0, "sure"),
        ("ntp", 10, "sure"),
        ("ntp", 11, "unsure"),
        ("restored", 0, "restored"),
        ("none", 0, "unset"),
    ],
)
def test_clock_is_told_apart(quality: str, unsure_s: int, reason: str) -> None:
    told = found(facts(quality=quality, impact=impact(uncertainty_ns=unsure_s * S)), "clock")
    assert (told.reason, told.result) == (reason, "clear" if reason == "sure" else "flag")


def test_second_claim_of_the_same_loss_is_a_duplicate() -> None:
    assert found(facts(other_claims=(OtherClaim("a" * 16, T0 + 1800 * S),)), "duplicate").result == "flag"
    assert found(facts(other_claims=(OtherClaim("a" * 16, T0 + 1801 * S),)), "duplicate").result == "clear"


OTHER = impact(device="rw-1111111111111111", heading_deg=180.0, utc_ns=T0 + S // 5, place=north(5.0))


def test_two_of_ours_in_one_crash_fit_by_momentum() -> None:
    lighter = OTHER._replace(delta_v_mps=12.5, longitudinal_mps=-12.5)  # half the mass
    told = found(facts(other_impacts=(lighter,)), "other_party")
    assert (told.result, told.reason, told.figures["ratio"], told.figures["angle_deg"]) == (
        "clear",
        "plausible",
        0.5,
        180.0,
    )
    assert lighter.ref in told.evidence


def test_velocity_changes_that_no_two_cars_have_are_flagged() -> None:
    heavy = OTHER._replace(delta_v_mps=0.5, longitudinal_mps=-0.5)
    assert found(facts(other_impacts=(heavy,)), "other_party").reason == "ratio"
    assert found(facts(other_impacts=(heavy._replace(clipped=True),)), "other_party").result == "clear"
    same_way = OTHER._replace(heading_deg=10.0)
    assert found(facts(other_impacts=(same_way,)), "other_party").reason == "direction"
    unknown = OTHER._replace(delta_v_mps=None)
    assert found(facts(other_impacts=(unknown,)), "other_party").result == "unknown"


def test_impacts_elsewhere_or_at_another_time_are_no_party() -> None:
    far, late = OTHER._replace(place=north(57.0)), OTHER._replace(utc_ns=T0 + 3 * S)
    assert together.near(impact(), [far, late, OTHER._replace(utc_ns=None)], K) == []
    assert found(facts(other_impacts=(far, late)), "other_party").reason == "none"
    assert together.near(impact(), [late._replace(uncertainty_ns=S)], K) != []


def test_partys_device_that_measured_nothing_is_told() -> None:
    told = found(facts(other_devices=("rw-1111111111111111",)), "other_party")
    assert (told.result, told.reason) == ("flag", "silent")
    there = facts(other_devices=("rw-1111111111111111",), other_impacts=(OTHER,))
    assert found(there, "other_party").result == "clear"


def test_crash_as_it_should_be_raises_no_flag() -> None:
    assert {f.name: f.result for f in rules.check(facts(), K)} == dict.fromkeys(rules.RULES, "clear")


places = st.none() | st.builds(Place, st.floats(-90, 90), st.floats(-180, 180))
amounts = st.none() | st.floats(0, 50)
impacts = st.none() | st.builds(
    impact,
    utc_ns=st.none() | st.integers(T0 - H, T0 + H),
    uncertainty_ns=st.integers(0, 100 * S),
    place=places,
    heading_deg=st.none() | st.floats(0, 360),
    longitudinal_mps=st.none() | st.floats(-30, 30),
    lateral_mps=st.none() | st.floats(-30, 30),
    delta_v_mps=amounts,
    clipped=st.booleans(),
)
any_facts = st.builds(
    facts,
    impact=impacts,
    kind=st.sampled_from(["", "impact", "rollover", "suspected"]),
    locked=st.booleans(),
    quality=st.sampled_from(["none", "restored", "ntp", "gnss"]),
    noticed_utc_ns=st.none() | st.integers(T0, T0 + 50 * H),
    report=st.none() | st.builds(report, st.integers(-H, 100 * H), places, st.integers(T0 - 2 * H, T0 + 2 * H)),
    recorded=st.booleans(),
    after=st.lists(
        st.builds(point, st.floats(-10, 900), st.floats(0, 2000), st.none() | st.booleans()), max_size=5
    ).map(lambda points: tuple(sorted(points, key=lambda p: p.t_s))),
    power_cuts=st.lists(st.builds(Moment, st.floats(-10, 900), st.just(0.0), st.just(ENTRY)), max_size=2).map(tuple),
    turns=st.lists(st.builds(Moment, st.floats(-10, 9000), st.floats(0, 180), st.just(ENTRY)), max_size=2).map(tuple),
    package=st.builds(
        PackageFacts, st.sampled_from(["none", "arriving", "checking", "proved", "failed"]), st.booleans()
    ),
    other_claims=st.lists(st.builds(OtherClaim, st.just("a" * 16), st.integers(T0 - H, T0 + H)), max_size=2).map(tuple),
    other_impacts=st.lists(impacts.filter(bool), max_size=2).map(tuple),
    other_devices=st.lists(st.just("rw-1111111111111111"), max_size=1).map(tuple),
    now_utc_ns=st.integers(T0, T0 + 100 * H),
)


@settings(max_examples=300, deadline=None)
@given(any_facts)
def test_every_finding_can_be_said_in_both_languages(f: Facts) -> None:
    for finding in rules.check(f, K):
        for language in LANGUAGES:
            words = wording.text(language)
            assert wording.sentence(finding, words)
            assert wording.name(finding, words)


def test_words_stand_for_every_reason_in_the_code_and_for_no_other() -> None:
    code = "".join(Path(m.__file__).read_text(encoding="utf-8") for m in (rules, together) if m.__file__)
    for language in LANGUAGES:
        names = wording.text(language).names()
        assert names == wording.text("en").names()
        for name in names:
            if name.startswith("check.") and not name.endswith(".name"):
                rule, reason = name.removeprefix("check.").split(".", 1)
                assert rule in rules.RULES
                assert f'"{reason}"' in code
        assert {f"check.{rule}.name" for rule in rules.RULES} <= names


def test_limits_have_sources_and_a_wrong_file_is_named(tmp_path: Path) -> None:
    table = tomllib.loads(of.LIMITS.read_text(encoding="utf-8"))
    assert set(table) == {f.name for f in fields(of.Limits)}
    assert all(row["source"] and isinstance(row["proposed"], bool) for row in table.values())
    wrong = tmp_path / "limits.toml"
    text = of.LIMITS.read_text(encoding="utf-8")
    for changed, said in [
        (text.replace("[notice_h]", "[notice]"), "'notice'|'notice_h'"),
        (text.replace("value = 48", "value = 0"), "notice_h.value must be a number above 0"),
        ("[", "cannot be read"),
    ]:
        wrong.write_text(changed, encoding="utf-8")
        of.limits.cache_clear()
        with pytest.raises(ConfigError, match=said):
            of.limits(wrong)


def test_no_rule_knows_an_amount_or_a_state() -> None:
    for module in (rules, together, of):
        assert module.__file__
        code = Path(module.__file__).read_text(encoding="utf-8")
        assert not re.search(
            r"^from receiver\S* import .*\b(db|settlement|states|tables|assessing)\b", code, re.MULTILINE
        )
        assert "Decimal" not in code
