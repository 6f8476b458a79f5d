"""The parts of the ELM327 driver that need no adapter: what may be said, what is understood, when what is asked."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.channels import BY_NUMBER, number
from drivers.decode.j1979 import PIDS
from drivers.elm.answers import Answers, crc8, shape_of
from drivers.elm.command import Command, allowed, current_data
from drivers.elm.memory import MOST_CARS, Memory
from drivers.elm.poll import RPM, SPEED, Plan
from drivers.elm.recovery import RETRY_S, Absence, Breaker, Stage
from drivers.elm.reply import FAILURES, Action, Reply, failure_of
from drivers.elm.samples import channels_of, read_answers

S = 1_000_000_000


def reply(*lines: str) -> Reply:
    return Reply(0, 0, [(10 * S, line.upper()) for line in lines], prompted=True)


# -- what may be said


@pytest.mark.parametrize(
    "text",
    [
        *[
            "04",
            "041",
            "0104",
            "01040D",
            "010D04",
            "0904",
            "08",
            "1003",
            "27",
            "2E1234",
            "31",
            "14FFFFFF",
            "3E",
            "11",
            "22F190",
        ],
        *["ATTPA", "ATSPA", "ATMA", "ATPP0CSV23", "ATSH7E0", "AT", "", " ", "ATZ\r04", "010D\r04", "0", "011042"],
    ],
)
def test_what_could_write_or_clear_is_no_command(text):
    with pytest.raises(ValueError, match="only reads"):
        Command(text, 1.0)


@given(st.text("0123456789ABCDEF", max_size=18))
@example("010D2")
@settings(max_examples=2000, deadline=None)
def test_whatever_beginning_a_request_loses_it_clears_no_codes(text):
    if allowed(text):
        assert int(text[:2], 16) in (1, 2, 3, 7, 9, 10)
        for lost in range(len(text)):
            rest = text[lost:]
            assert rest[:2] != "04"


@pytest.mark.parametrize("pid", sorted(PIDS))
def test_every_pid_but_04_can_be_asked_for_alone(pid):
    assert allowed(current_data((pid,))) == (pid != 0x04)


# -- what is answered

TEXTS = {
    "?": Action.MISSING,
    "ACT ALERT": Action.AGAIN,
    "!ACT ALERT": Action.AGAIN,
    "BUFFER FULL": Action.SMALLER,
    "BUS BUSY": Action.BUS,
    "BUS ERROR": Action.BUS,
    "CAN ERROR": Action.BUS,
    "DATA ERROR": Action.PASS,
    "7E8 03 41 0D 32 <DATA ERROR": Action.PASS,
    "ERR93": Action.RESET,
    "ERR94": Action.RESET,
    "FB ERROR": Action.BUS,
    "LP ALERT": Action.RESET,
    "LV RESET": Action.RESET,
    "NO DATA": Action.MISSING,
    "7E8 03 41 0D 32<RX ERROR": Action.PASS,
    "STOPPED": Action.AGAIN,
    "UNABLE TO CONNECT": Action.BUS,
    "SEARCHING...UNABLE TO CONNECT": Action.BUS,
    "BUS INIT: ...ERROR": Action.BUS,
    "BUS INIT: ERROR": Action.BUS,
    "NOT CONNECTED": Action.BUS,
    "ELM327 V1.5": Action.RESET,
}


@pytest.mark.parametrize(("text", "action"), TEXTS.items())
def test_every_text_of_the_data_sheet_has_its_action(text, action):
    failure = reply(text).failure
    assert failure is not None
    assert failure.action is action
    assert failure.meaning
    assert reply(text).data() == []


def test_every_row_of_the_table_is_met_above():
    assert {f.name for f in FAILURES} == {failure_of(text).name for text in TEXTS}


@pytest.mark.parametrize(
    "text", ["SEARCHING...", "OK", "BUS INIT: OK", "BUS INIT: ...OK", "7E8 03 41 0D 32", "41 0D 32"]
)
def test_progress_and_answers_are_no_failure(text):
    assert reply(text).failure is None
    assert reply(text).odd_lines == 0


def test_the_gravest_of_several_failures_counts():
    assert reply("<DATA ERROR", "NO DATA", "LV RESET").failure.name == "LV RESET"


# -- answers of every protocol

BITMAP = "4100881800 10".replace(" ", "")


@pytest.mark.parametrize(
    ("protocol", "lines", "unit", "payload"),
    [
        ("6", ["7E8 06 41 00 BE 3F A8 13"], "7E8", "4100BE3FA813"),
        ("6", ["SEARCHING...7E803410D32"], "7E8", "410D32"),
        ("8", ["7E9 03 41 0D 32 AA AA AA AA"], "7E9", "410D32"),
        ("7", ["18 DA F1 11 06 41 00 BC 3F A8 03"], "18DAF111", "4100BC3FA803"),
        ("3", ["...48 6B 1A 41 00 88 18 00 10 BE"], "1A", BITMAP),  # mickeyl/ltsupportautomotive#8
        ("5", ["83 F1 11 41 0D 32 05"], "11", "410D32"),
        ("2", ["48 6B 10 41 0D 32 " + f"{crc8(bytes.fromhex('486B10410D32')):02X}"], "10", "410D32"),
        ("1", ["41 6B 10 41 0D 32 " + f"{crc8(bytes.fromhex('416B10410D32')):02X}"], "10", "410D32"),
    ],
)
def test_answers_of_every_protocol_are_read(protocol, lines, unit, payload):
    assert [(a.unit, a.payload.hex().upper()) for a in Answers(protocol).read(reply(*lines))] == [(unit, payload)]


def test_joined_lines_are_parted_by_their_lengths():
    found = Answers("6").read(reply("7E804410C1AF87E903410D32"))
    assert [(a.unit, a.payload.hex()) for a in found] == [("7E8", "410c1af8"), ("7E9", "410d32")]


def test_the_checksum_of_j1850_is_that_of_the_standard():
    assert crc8(b"123456789") == 0x4B  # CRC-8/SAE-J1850's check value


@pytest.mark.parametrize(
    ("protocol", "line"),
    [
        ("6", "7E8 03 41 0D"),  # a byte short
        ("6", "7E8 03 41 0D 32 00 00 00"),  # neither whole nor filled up
        ("6", "7E8 03 41 0D 3"),
        ("6", "7E0 03 41 0D 32 00 00 00 00 00"),
        ("6", "18 DA F1 10 03 41 0D 32"),  # another width
        ("7", "7E8 03 41 0D 32"),
        ("3", "48 6B 10 41 0D 32 42"),  # checksum
        ("3", "83 F1 11 41 0D 32 06"),
        ("5", "84 F1 11 41 0D 32 06"),  # counts one byte more
        ("2", "48 6B 10 41 0D 32 00"),
    ],
)
def test_lines_that_are_not_what_they_claim_give_nothing(protocol, line):
    assert Answers(protocol).read(reply(line)) == []


def test_a_message_half_received_is_not_completed_by_the_next_answer():
    answers = Answers("6")
    assert answers.read(reply("7E8 10 14 49 02 01 31 47 31")) == []
    assert answers.read(reply("7E8 21 4A 43 35 34 34 34 52", "7E8 22 37 32 35 32 33 36 37")) == []


def test_a_vin_in_five_lines_of_a_k_line_is_put_together():
    lines = []
    for i, part in enumerate([b"\0\0\x001", b"M8GD", b"M9AX", b"KP04", b"2788"]):
        body = b"\x48\x6b\x10\x49\x02" + bytes((i + 1,)) + part
        lines.append((body + bytes((sum(body) & 0xFF,))).hex().upper())
    found = Answers("3").read(reply(*lines))
    assert found[0].payload[:3] == b"\x49\x02\x01"
    assert found[0].payload.endswith(b"1M8GDM9AXKP042788")
    assert Answers("3").read(reply(*lines[1:])) == []


def test_without_headers_only_what_is_plain_is_believed():
    two = Answers("6", headers=False).read(reply("410100040000", "410100000000"))
    assert [a.payload.hex() for a in two] == ["410100040000"]
    long = Answers("6", headers=False).read(
        reply("014", "0: 49 02 01 31 4D 38", "1: 47 44 4D 39 41 58 4B", "2: 50 30 34 32 37 38 38")
    )
    assert long[0].payload == b"\x49\x02\x011M8GDM9AXKP042788"
    assert Answers("6", headers=False).read(reply("014", "0: 49 02 01 31 4D 38", "2: 50 30 34 32 37 38 38")) == []


@pytest.mark.parametrize(
    ("line", "digit"),
    [
        ("7E8064100BE3FA813", "6"),
        ("18DAF110064100BE3FA813", "7"),
        ("486B1A410088180010BE", "3"),
        ("83F111410D3205", "5"),
        ("410D32", None),
    ],
)
def test_the_shape_of_an_answer_tells_the_protocol(line, digit):
    assert shape_of([line]) == digit


# -- samples


def sampled(line: str, asked: tuple[int, ...], owner: dict[int, str] | None = None):
    return read_answers(Answers("6").read(reply(line)), asked, owner or {}, 8 * S, {})


def test_a_sample_is_stamped_in_the_middle_of_request_and_answer():
    assert sampled("7E8 03 41 0D 32", (SPEED,)).samples == [(9 * S, number("Obd.Speed"), pytest.approx(50 / 3.6))]


@pytest.mark.parametrize(
    "line", ["7E8 04 41 0C 1A F8", "7E8 06 41 0D 32 0C 1A F8", "7E8 04 41 0D 32 00", "7E8 02 41 0D", "7E8 03 42 0D 32"]
)
def test_an_answer_to_something_else_gives_nothing(line):
    reading = sampled(line, (SPEED,))
    assert (reading.samples, reading.foreign) == ([], 1)


def test_only_the_owners_answer_counts():
    assert sampled("7EA 03 41 0D 32", (SPEED,), {SPEED: "7E8"}).samples == []


@given(st.lists(st.text("0123456789ABCDEF ", min_size=4, max_size=40), max_size=6), st.sampled_from("123456789"))
@settings(max_examples=600, deadline=None)
def test_no_line_of_hex_gives_an_implausible_value(lines, protocol):
    answers = Answers(protocol)
    asked = tuple(p for p in PIDS if channels_of(p))
    for t_ns, channel, value in read_answers(answers.read(reply(*lines)), asked, {}, 8 * S, {}).samples:
        assert BY_NUMBER[channel].low <= value <= BY_NUMBER[channel].high
        assert t_ns == 9 * S


# -- what is asked for when


def driven(plan: Plan, seconds: float, trip_s: float) -> list[tuple[float, tuple[int, ...]]]:
    """Answer everything after `trip_s`; return (when, what)."""
    asked, now_ns = [], 0
    while now_ns < seconds * S:
        query = plan.next(now_ns)
        if query is None:
            now_ns = plan.due_ns()
            continue
        asked.append((now_ns / S, query.pids))
        plan.answered(set(query.pids), now_ns)
        now_ns += int(trip_s * S)
    return asked


PIDS_OF_A_CAR = (0x01, 0x04, 0x05, 0x0B, 0x0C, 0x0D, 0x0F, 0x10, 0x11, 0x1F, 0x2F, 0x31, 0x42, 0x49)


def plan_of(most: int = 1, units: dict[str, tuple[int, ...]] | None = None, counted: bool = True) -> Plan:
    plan = Plan(units or {"7E8": PIDS_OF_A_CAR}, PIDS_OF_A_CAR, 5.0, 0)
    plan.most, plan.counted = most, counted
    return plan


def rate(asked, pid, seconds):
    return sum(pid in pids for _, pids in asked) / seconds


@pytest.mark.parametrize("most", [1, 6])
def test_a_quick_adapter_gives_speed_five_times_a_second_and_everything_else_its_share(most):
    asked = driven(plan_of(most), 120, 0.03)
    assert rate(asked, SPEED, 120) >= 4.9
    assert 3.5 <= rate(asked, RPM, 120) <= 8
    assert 1.5 <= rate(asked, 0x11, 120) <= 3
    assert rate(asked, 0x2F, 120) < 0.1
    assert {p for _, pids in asked for p in pids} == set(PIDS_OF_A_CAR) - {0x04}


def test_a_slow_adapter_gives_every_other_request_to_speed():
    asked = driven(plan_of(), 60, 0.15)
    assert rate(asked, SPEED, 60) == pytest.approx(0.5 / 0.15, rel=0.05)
    assert all(a != (SPEED,) or b != (SPEED,) for (_, a), (_, b) in itertools.pairwise(asked))
    assert {p for _, pids in asked for p in pids} == set(PIDS_OF_A_CAR) - {0x04}


def test_several_parameters_share_a_request_that_one_frame_can_answer():
    asked = driven(plan_of(6), 60, 0.03)
    assert any(len(pids) == 3 for _, pids in asked)
    for _, pids in asked:
        assert 1 + sum(1 + PIDS[p].length for p in pids) <= 7
    singles = driven(plan_of(1), 60, 0.03)
    assert len(asked) < 0.7 * len(singles)


def test_the_count_of_answers_is_that_of_the_units_that_have_a_parameter():
    plan = plan_of(units={"7E8": PIDS_OF_A_CAR, "7EA": (SPEED,)})
    texts = [plan.next(0).text, plan.next(0).text]
    assert texts[0] == "010D2"
    assert re.fullmatch(r"01[0-9A-F]{2}1", texts[1])
    assert plan.owner()[SPEED] == "7E8"
    plan.counted = False
    assert len(plan.next(0).text) % 2 == 0


def test_a_parameter_that_is_missed_three_times_is_given_up_but_never_speed():
    plan = plan_of()
    assert [plan.missed((0x11,), i * S, alive=True) for i in range(3)] == [[], [], [0x11]]
    for i in range(10):
        assert plan.missed((SPEED,), i * S, alive=True) == []
        assert plan.missed((RPM,), i * S, alive=False) == []
    assert {SPEED, RPM} <= set(plan.pids)
    assert 0x11 not in plan.pids


def test_a_parameter_missed_in_company_is_asked_alone_before_anything_is_concluded():
    plan = plan_of(6)
    first = plan.next(0)
    assert len(first.pids) > 1
    plan.answered({first.pids[0]}, 0)
    plan.doubted(first.pids[1:], 1)
    alone = plan.next(0)
    assert alone.pids == (first.pids[1],)
    plan.answered(set(alone.pids), 0)
    assert plan.most == 1


# -- when to reset, to give up, to look again


def test_three_useless_answers_reset_and_five_resets_in_a_minute_reopen():
    breaker = Breaker()
    assert [breaker.strike() for _ in range(3)] == [Stage.GO_ON, Stage.GO_ON, Stage.RESET]
    breaker.good()
    assert breaker.strike() is Stage.GO_ON
    assert [breaker.reset(i * S) for i in range(5)] == [Stage.RESET] * 4 + [Stage.REOPEN]
    assert breaker.reset(200 * S) is Stage.RESET


def test_a_silent_vehicle_is_asked_ever_more_rarely_and_at_once_when_the_supply_rises():
    absence, now_ns, waits = Absence(), 0, []
    for _ in range(9):
        absence.again(now_ns, 12.4)
        waits.append((absence.due_ns(12.5) - now_ns) / S)
        now_ns = absence.due_ns(12.5)
    assert waits == [*RETRY_S, RETRY_S[-1], RETRY_S[-1]]
    assert absence.due_ns(12.9) == 0


# -- cars remembered


def test_cars_are_remembered_newest_last_and_damage_is_told(tmp_path: Path):
    path = tmp_path / "sub" / "cars.json"
    memory = Memory(path)
    assert memory.recall("A") is None
    for i in range(MOST_CARS + 5):
        memory.keep(f"V{i}", {"7E8": (12, 13)})
    assert Memory(path).recall(f"V{MOST_CARS + 4}") == {"7E8": (12, 13)}
    assert Memory(path).recall("V0") is None
    path.write_bytes(b'{"V1": 3')
    assert memory.recall("V1") is None
    assert "cars.json" in memory.trouble
    memory.keep("V1", {"7E8": (13,)})
    assert Memory(path).recall("V1") == {"7E8": (13,)}
    assert not list(path.parent.glob("*.part"))


def test_a_place_that_cannot_be_written_is_told_and_nothing_raised(tmp_path: Path):
    (tmp_path / "file").write_text("")
    memory = Memory(tmp_path / "file" / "cars.json")
    memory.keep("V", {})
    assert "cannot be" in memory.trouble
    assert Memory(None).recall("V") is None


def test_every_interval_is_of_a_pid_that_is_stored():
    from drivers.elm.poll import INTERVALS_S

    assert all(channels_of(pid) for pid in INTERVALS_S)
    assert np.all(np.array(list(INTERVALS_S.values())) > 0)
