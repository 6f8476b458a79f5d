"""OBD-II asked on raw CAN: what may be said, when it is said, and what becomes of the answers."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.channels import number
from agent.clock import NS_PER_S, monotonic_ns
from agent.errors import ConfigError
from drivers.can import conversation, schedule
from drivers.can.conversation import Ask, Heard, Vehicle, talk
from drivers.can.outgoing import Outgoing, Service, flow_control, is_answer_id, physical_id, request
from drivers.can.schedule import Schedule
from drivers.can.socketcan import SocketCan
from drivers.can.wire import CanSettings
from drivers.obdcan import ObdCan, _Asked, _moved
from tests.can_peers import Adapter, Answering, Datagrams, Unit
from tests.rigs.canbus import CONFIG
from tests.test_isotp import frames_of

VIN = "1M8GDM9AXKP042788"
MS = 1_000_000
ENGINE = {
    0x04: b"\x33", 0x05: b"\x7b", 0x0B: b"\x63", 0x0C: b"\x1a\xf8", 0x0D: b"\x32", 0x11: b"\x20", 0x2F: b"\xed",
    0x42: b"\x2f\x6c",
}  # fmt: skip
NEVER = (0x04, 0x08, 0x10, 0x14, 0x27, 0x2E, 0x2F, 0x31, 0x34, 0x36, 0x11, 0x28, 0x3D)


# --- what may be said


def test_no_service_that_clears_controls_or_writes_can_be_said():
    assert not {int(s) for s in Service} & set(NEVER)
    for service in NEVER:
        with pytest.raises(ValueError, match="is not one of"):
            request(service, b"")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="made by request"):
        Outgoing(0x7DF, False, b"\x01\x04".ljust(8), object())
    with pytest.raises(ValueError, match="is no answer's identifier"):
        flow_control(0x100)
    with pytest.raises(ValueError, match="takes no 7 parameters"):
        request(Service.CURRENT, bytes(7))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(Service)), st.binary(max_size=6), st.none() | st.integers(0x7E8, 0x7EF) | st.integers(0x18DAF100, 0x18DAF1FF), st.booleans())  # fmt: skip # noqa: E501
def test_every_frame_that_can_be_made_is_a_single_frame_of_a_reading_service_to_a_testers_address(s, p, unit, extended):
    try:
        frame = request(s, p, unit=unit, extended=extended)
    except ValueError:
        return
    assert len(frame.data) == 8
    assert frame.data[0] == 1 + len(p)
    assert frame.data[1] in (1, 2, 3, 7, 9, 10)
    assert frame.id in (0x7DF, 0x18DB33F1) or 0x7E0 <= frame.id <= 0x7E7 or frame.id & ~0xFF00 == 0x18DA00F1
    assert frame.extended == (frame.id > 0x7FF)


def test_requests_to_one_unit_go_to_its_own_identifier():
    assert (physical_id(0x7E8), physical_id(0x7EF), physical_id(0x18DAF110)) == (0x7E0, 0x7E7, 0x18DA10F1)
    assert flow_control(0x18DAF110).id == 0x18DA10F1
    assert is_answer_id(0x7E8)
    assert not is_answer_id(0x7E0)


# --- when it is said (virtual time)


def test_speed_comes_at_least_five_times_a_second_and_slow_pids_seldom():
    plan = Schedule({0x7E8: frozenset(ENGINE)}, 0)
    asked: dict[int, int] = {}
    now, end = 0, 30 * NS_PER_S
    while (due := plan.next_ns()) < end:
        now = max(now, due)
        unit, pids = plan.take(now)
        assert (unit, len(pids) <= 6) == (0x7E8, True)
        for pid in pids:
            asked[pid] = asked.get(pid, 0) + 1
        now += 30 * MS  # a round trip
        plan.heard(unit, pids, pids, now)
    assert asked[0x0D] >= 5 * 30
    assert asked[0x0C] >= 4 * 30
    assert asked[0x05] <= 4
    assert asked[0x2F] <= 2


def test_a_slow_adapter_still_serves_every_pid_and_speed_most():
    plan = Schedule({0x7E8: frozenset(ENGINE)}, 0)
    plan._joint[0x7E8] = 0  # one at a time
    asked = dict.fromkeys(ENGINE, 0)
    now = 0
    while now < 60 * NS_PER_S:
        now = max(now, plan.next_ns())
        unit, pids = plan.take(now)
        asked[pids[0]] += 1
        now += 100 * MS
        plan.heard(unit, pids, pids, now)
    assert min(asked.values()) >= 1
    assert max(asked, key=asked.get) == 0x0D


def test_a_unit_that_does_not_take_joint_requests_is_asked_singly_and_silent_pids_are_dropped():
    plan = Schedule({0x7E8: frozenset({0x0C, 0x0D, 0x11})}, 0)
    sizes, now = [], 0
    for _ in range(60):
        now = max(now, plan.next_ns())
        unit, pids = plan.take(now)
        sizes.append(len(pids))
        now += 10 * MS
        plan.heard(unit, pids, [p for p in pids[:1] if p != 0x11], now)
    assert sizes[0] == 3
    assert sizes.count(1) > 50
    assert max(sizes[10:]) == 1
    assert plan.pids == {0x0C, 0x0D}


def replay_talk(units, until_s, asleep=lambda now_s: False):
    """Hold the conversation with `units` in virtual time; return the vehicle and the requests with their times."""
    vehicle, now, asks = Vehicle(), 0, []
    conversing = talk(vehicle, 0)
    ask = next(conversing)
    while max(now, ask.at_ns) < until_s * NS_PER_S:
        now = max(now, ask.at_ns)
        asks.append((now / NS_PER_S, ask))
        frame = ask.frame()
        answers = []
        for unit in units:
            own, everyone = (frame.id == unit.own), (frame.id == unit.everyone)
            payload = unit._answer(frame.data[1 : 1 + frame.data[0]]) if own or everyone else b""
            if payload and not asleep(now / NS_PER_S) and ask.is_answer(unit.answer_id, payload):
                answers.append((unit.answer_id, payload))
        now += (20 if answers else 100) * MS
        ask = conversing.send(Heard(now, answers))
    return vehicle, asks


def test_the_vehicle_is_found_learned_and_polled():
    engine, gearbox = Unit({**ENGINE, 0xA6: bytes(4)}), Unit({0x0D: b"\x32", 0x46: b"\x40"}, answer_id=0x7E9)
    vehicle, asks = replay_talk([engine, gearbox], 5)
    assert vehicle.supported[0x7E8] >= {*ENGINE, 0xA6}
    assert vehicle.polling
    services = [a.service for _, a in asks]
    assert {Service.VEHICLE_INFO, Service.STORED_CODES, Service.PENDING_CODES, Service.PERMANENT_CODES} <= set(services)
    assert {p for _, a in asks if a.unit == 0x7E9 and a.service == 1 for p in a.parameters} == {0x20, 0x40, 0x46}
    speed = [t for t, a in asks if a.unit == 0x7E8 and 0x0D in a.parameters]
    assert len(speed) / (speed[-1] - speed[0]) >= 5


def test_units_on_29_bit_identifiers_are_found_after_11_bits_stay_silent():
    vehicle, asks = replay_talk([Unit({0x0D: b"\x32"}, answer_id=0x18DAF110)], 2)
    assert vehicle.extended
    assert set(vehicle.supported) == {0x18DAF110}
    assert [a.frame().id for _, a in asks[:2]] == [0x7DF, 0x18DB33F1]
    assert all(a.frame().extended for _, a in asks[1:])


def test_a_sleeping_car_is_asked_less_and_less():
    _, asks = replay_talk([Unit(ENGINE)], 3600, asleep=lambda now_s: now_s > 10)
    later = [t for t, _ in asks if t > 12]
    assert len(later) < 2 * 3600 / conversation.SEEK_MOST_S + 30
    gaps = np.diff([t for t, a in asks if t > 600])
    assert gaps.max() == pytest.approx(conversation.SEEK_MOST_S, rel=0.1)


def test_a_car_that_wakes_is_found_again_within_a_minute():
    vehicle, _ = replay_talk([Unit(ENGINE)], 300, asleep=lambda now_s: 10 < now_s < 200)
    assert vehicle.polling


class Hesitant(Unit):
    """Does not answer when it is asked for its VIN for the first time, nor ever for its calibration."""

    asked = False

    def _answer(self, request: bytes) -> bytes:
        first, self.asked = not self.asked, self.asked or request == b"\x09\x02"
        silent = request == b"\x09\x04" or (request == b"\x09\x02" and first)
        return b"" if silent else super()._answer(request)


def test_who_the_car_is_is_asked_again_where_nobody_answered_but_three_times_at_most():
    vehicle, asks = replay_talk([Hesitant(ENGINE, vin=VIN)], 120)
    vin, calibration = (
        [t for t, a in asks if (a.service, a.parameters) == (Service.VEHICLE_INFO, what)] for what in (b"\x02", b"\x04")
    )
    assert len(vin) == 2
    assert vin[1] - vin[0] == pytest.approx(conversation.IDENTITY_AGAIN_S, abs=1.0)
    assert len(calibration) == conversation.IDENTITY_TRIES
    assert vehicle.unknown == ((Service.VEHICLE_INFO, b"\x04"),)


def test_answers_of_other_services_units_and_pids_are_not_taken_for_ours():
    ask = Ask(Service.CURRENT, b"\x0d", 0, unit=0x7E8)
    assert ask.is_answer(0x7E8, b"\x41\x0d\x32")
    assert ask.is_answer(0x7E8, b"\x7f\x01\x12")
    for unit, payload in [(0x7E9, b"\x41\x0d\x32"), (0x7E8, b"\x41\x0c\0\0"), (0x7E8, b"\x49\x02"), (0x7E8, b"")]:
        assert not ask.is_answer(unit, payload)
    assert not ask.is_answer(0x7E8, b"\x7f\x09\x12")


# --- with a control unit at the other end


@pytest.fixture
def car():
    made = []

    def make(unit, **settings_):
        wire = Datagrams()
        answering = Answering(wire, unit.hear)
        driver = ObdCan(
            CanSettings(**{"transmit": True, "profile": "simcar", "window_s": 0.002, **settings_}),
            CONFIG,
            lambda s: SocketCan(s, lambda *_: wire.inner.dup()),
        )
        made.append((driver, answering, wire))
        return driver

    yield make
    for driver, answering, wire in made:
        driver.close()
        answering.close()
        wire.close()


def poll_until(driver, done, patience_s=30.0):
    blocks, deadline_ns = [], monotonic_ns() + round(patience_s * NS_PER_S)
    while not done(blocks):
        assert monotonic_ns() < deadline_ns, "it did not come"
        blocks.append(driver.read(0.1))
    return np.concatenate(blocks)


def count(blocks, name):
    return sum(int(np.count_nonzero(b["channel"] == number(name))) for b in blocks)


def test_a_car_is_polled_its_vin_and_codes_read_and_times_never_fall(car):
    unit = Unit(ENGINE, vin=VIN)
    driver = car(unit)
    began_ns = monotonic_ns()
    driver.open()
    samples = poll_until(driver, lambda blocks: count(blocks, "Obd.Speed") >= 8)
    assert np.all(np.diff(samples["t"]) >= 0)
    assert began_ns < samples["t"][0] <= samples["t"][-1] < monotonic_ns()
    values = dict(zip(samples["channel"].tolist(), samples["value"].tolist(), strict=True))
    assert values[number("Obd.Speed")] == pytest.approx(50 / 3.6)
    assert values[number("Obd.EngineSpeed")] == 1726.0
    assert values[number("Obd.ControlModuleVoltage")] == pytest.approx(12.14)
    assert driver.vehicle_info["vin"] == VIN
    assert driver.dtcs["stored"] == ["P0133"]
    facts = {fact.source: fact.facts for fact in driver.health()}
    assert facts[f"{driver.name}:vin"] == {"vin": VIN}
    assert facts[f"{driver.name}:dtc"]["7E8 stored"] == "P0133"
    said = {d[1] for i, d in unit.heard if d[0] < 8}
    assert said <= {1, 3, 7, 9, 10}
    joint = [d for _, d in unit.heard if d[0] > 3 and d[0] < 8 and d[1] == 1]
    assert joint, "several PIDs share a request"


def test_a_unit_that_takes_one_pid_at_a_time_is_still_read(car):
    driver = car(Unit(ENGINE, joint=False))
    driver.open()
    samples = poll_until(driver, lambda blocks: count(blocks, "Obd.Speed") >= 4 and count(blocks, "Obd.FuelLevel") >= 1)
    assert {number("Obd.EngineSpeed"), number("Obd.ThrottlePosition")} <= set(samples["channel"].tolist())


def test_a_sample_gets_the_middle_of_request_and_answer(car):
    driver = car(Unit(ENGINE))
    driver.open()
    sent_ns = monotonic_ns()
    answered_ns = sent_ns + 40 * MS

    driver._asked = _Asked(Ask(Service.CURRENT, b"\x0d\x0c\x11", sent_ns, 0x7E8), sent_ns, sent_ns + NS_PER_S)
    body = bytes.fromhex("410D320C1AF81120")
    rows = [
        (answered_ns, 0x7E8, 0, b"\x10\x08" + body[:6]),
        (answered_ns + 9 * MS, 0x7E8, 0, b"\x21" + body[6:] + b"\0" * 5),
    ]
    frames = frames_of([(answered_ns - MS, 0x100, 0, bytes(8)), *rows])
    moved = driver._listen_for_answers(frames)
    assert moved == {answered_ns + 9 * MS: sent_ns + 20 * MS}  # by the first frame: the unit had looked by then
    block = _moved(driver._decoded(frames), moved)
    assert set(block["t"][np.isin(block["channel"], [number("Obd.Speed"), number("Obd.EngineSpeed")])]) == {sent_ns + 20 * MS}  # fmt: skip # noqa: E501
    assert np.all(np.diff(block["t"]) >= 0)


def test_pausing_stops_at_once_and_going_on_goes_on(car):
    unit = Unit(ENGINE)
    driver = car(unit)
    driver.open()
    poll_until(driver, lambda blocks: count(blocks, "Obd.Speed") >= 1)
    driver.pause()
    driver.read(0.2)
    heard = len(unit.heard)
    driver.read(0.3)
    assert len(unit.heard) == heard
    driver.resume()
    poll_until(driver, lambda blocks: count(blocks, "Obd.Speed") >= 1)


def test_a_car_that_slept_is_looked_for_at_once_when_polling_goes_on(car):
    unit = Unit(ENGINE)
    unit.asleep = True
    driver = car(unit)
    driver.open()
    deadline_ns = monotonic_ns() + 30 * NS_PER_S
    while driver.counts["unanswered"] < 4:  # found nobody twice: the next turn is seconds away
        assert monotonic_ns() < deadline_ns
        driver.read(0.2)
    assert vehicle_health(driver) == (
        "lost",
        "no control unit answers; is the ignition on, and is this the diagnostic bus?",
    )
    driver.pause()
    driver.read(0.0)
    unit.asleep = False
    began_ns = monotonic_ns()
    driver.resume()
    poll_until(driver, lambda blocks: driver.vehicle.supported)
    assert monotonic_ns() - began_ns < NS_PER_S
    assert vehicle_health(driver) == ("ok", "control units answer: 7E8")


def sought(driver):
    """Return how often the car was looked for anew."""
    begun = []
    begin = driver._begin
    driver._begin = lambda: (begun.append(1), begin())
    return begun


def test_going_on_told_twice_before_a_read_still_looks_for_the_car(car):
    driver = car(Unit(ENGINE))
    driver.open()
    begun = sought(driver)
    driver.pause()
    driver.resume()
    driver.resume()  # a feed that works says so at every turn
    driver.read(0.0)
    assert len(begun) == 1
    driver.read(0.0)
    assert len(begun) == 1


def test_going_on_while_an_answer_is_awaited_looks_for_the_car_after_it(car):
    unit = Unit(ENGINE)
    unit.asleep = True
    driver = car(unit)
    driver.open()
    begun = sought(driver)
    driver._asked = _Asked(Ask(Service.CURRENT, b"\x00", 0), monotonic_ns(), monotonic_ns() + 3600 * NS_PER_S)
    driver.pause()
    driver.resume()
    driver.read(0.0)
    assert begun == []
    driver._asked = None
    driver.read(0.0)
    assert begun == [1]


def vehicle_health(driver):
    return next((h.state, h.detail) for h in driver.health() if h.source == "obdcan:can0:vehicle")


def test_nothing_is_asked_unless_sending_is_allowed(car):
    unit = Unit(ENGINE)
    with pytest.raises(ConfigError, match=re.escape("obdcan:can0: sending is not allowed; set transmit = true")):
        car(unit, transmit=False).open()
    assert unit.heard == []


def test_a_response_pending_is_waited_for(car):
    unit = Unit({0x0D: b"\x32"})
    plain, state = unit.hear, {"pending": 0}

    def slow(identifier, data):
        answers = plain(identifier, data)
        if data[:3] == b"\x02\x01\x0d" and state["pending"] < 3:
            state["pending"] += 1
            return [(0x7E8, b"\x03\x7f\x01\x78"), *answers]
        return answers

    unit.hear = slow
    driver = car(unit)
    driver.open()
    poll_until(driver, lambda blocks: count(blocks, "Obd.Speed") >= 5)
    assert state["pending"] == 3


def test_a_car_is_polled_through_an_slcan_adapter_too():
    unit = Unit(ENGINE, vin=VIN)
    adapter = Adapter(hear=unit.hear)
    settings_ = CanSettings("slcan", adapter.path, profile="simcar", bit_rate=500_000, window_s=0.002, transmit=True)
    driver = ObdCan(settings_, Path(CONFIG))
    try:
        driver.open()
        samples = poll_until(driver, lambda blocks: count(blocks, "Obd.Speed") >= 5)
        assert np.all(np.diff(samples["t"]) >= 0)
        assert driver.vehicle_info["vin"] == VIN
    finally:
        driver.close()
        adapter.close()


def test_every_pid_that_is_polled_has_a_channel():
    from drivers.decode.j1979 import PIDS

    for pid in schedule.PERIODS_S:
        assert any(f.channel for f in PIDS[pid].fields), hex(pid)
