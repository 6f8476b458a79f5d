"""The ELM327 driver as a whole, in virtual time: vehicles, protocols, questions, pausing, memory, real dialogues."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import empty_block
from agent.channels import BY_NUMBER, number
from agent.errors import DriverError
from drivers import diagnosis
from drivers.elm.bringup import BAUDS
from sim.elm327 import REAL, FakeElm, Latency, Transcript
from sim.elm_car import CODES, ENGINE, GEARBOX, VIN, Car
from tests.elm_making import S, climbing, collect, virtual

SPEED, RPM, VOLTS = number("Obd.Speed"), number("Obd.EngineSpeed"), number("Power.Voltage")
DIALOGUES = Path(__file__).parents[1].parent / "shared" / "data" / "obd" / "elm327" / "transcripts.json"


def count(block: np.ndarray, channel: int) -> int:
    return int(np.count_nonzero(block["channel"] == channel))


def value_of(block: np.ndarray, name: str) -> float:
    return float(block["value"][block["channel"] == number(name)][-1])


# -- vehicles


@pytest.mark.parametrize("protocol", "123456789")
def test_every_protocol_gives_values_identity_and_codes(protocol):
    fake = FakeElm(Car(protocol=protocol, units=(ENGINE, GEARBOX)), latency=REAL)
    driver, line = virtual(fake)
    driver.open()
    block = collect(driver, line, 40)
    car = driver.vehicle
    assert (car.protocol, car.vin, car.vin_valid) == (protocol, VIN, True)
    assert len(car.units) == 2
    assert value_of(block, "Obd.Speed") == pytest.approx(50 / 3.6)
    assert value_of(block, "Obd.EngineSpeed") == 1726.0
    assert value_of(block, "Obd.CoolantTemperature") == 88.0
    assert value_of(block, "Obd.MassAirFlow") == pytest.approx(6.13)
    assert value_of(block, "Obd.ControlModuleVoltage") == pytest.approx(13.9)
    assert value_of(block, "Power.Voltage") == pytest.approx(13.8)
    assert count(block, SPEED) / 36 >= 4.0, "at a real adapter's pace"
    assert driver.adapter.most == (6 if protocol in "6789" else 1)
    engine = min(car.units)
    codes = driver.ask(diagnosis.codes)
    assert codes["stored"][engine] == ["P0133", "C0123"]
    assert codes["pending"][engine] == ["P0420"]
    assert codes["permanent"][engine] == []
    ready = driver.ask(diagnosis.readiness)
    assert (ready.mil, ready.codes) == (True, len(CODES[0x03]))
    assert ready.monitors["misfire"] is True
    assert ready.monitors["catalyst"] is False
    frame = driver.ask(diagnosis.freeze_frame)
    assert (frame.unit, frame.code) == (engine, "P0133")
    assert frame.values["engine_speed"] == 1726.0
    assert "engine_load" not in frame.values, "PID 04 is never asked for"
    assert fake.forbidden == []
    assert driver.counts.get("resets", 0) == 0


def test_a_car_without_codes_has_no_freeze_frame():
    driver, line = virtual(FakeElm(Car(codes={0x03: (), 0x07: (), 0x0A: ()})))
    driver.open()
    collect(driver, line, 2)
    assert driver.ask(diagnosis.codes) == {"stored": {"7E8": []}, "pending": {"7E8": []}, "permanent": {"7E8": []}}
    assert driver.ask(diagnosis.freeze_frame) is None
    assert driver.ask(diagnosis.readiness).mil is False


def test_a_vin_that_fails_its_check_digit_is_asked_for_twice_and_marked():
    fake = FakeElm(Car(vin="1M8GDM9A0KP042788"))
    driver, line = virtual(fake)
    driver.open()
    collect(driver, line, 2)
    assert (driver.vehicle.vin, driver.vehicle.vin_valid) == ("1M8GDM9A0KP042788", False)
    assert fake.sent.count("0902") == 2


@pytest.mark.parametrize("protocol", "136")
def test_vin_and_codes_become_facts_by_control_unit_and_are_read_again_every_five_minutes(protocol):
    fake = FakeElm(Car(protocol=protocol, units=(ENGINE, GEARBOX)), latency=REAL)
    driver, line = virtual(fake)
    driver.open()
    assert driver.health() == []
    collect(driver, line, 40)
    facts = {fact.source: fact for fact in driver.health()}
    engine, gearbox = sorted(driver.vehicle.units)
    assert facts[f"{driver.name}:vin"].facts == {"vin": VIN}
    told = facts[f"{driver.name}:dtc"]
    assert told.detail == "the vehicle lists 3 trouble codes"
    lists = {f"{engine} stored": "C0123 P0133", f"{engine} pending": "P0420", f"{engine} permanent": ""}
    lists |= {f"{gearbox} {name}": "" for name in ("stored", "pending", "permanent")}
    assert told.facts == {"vin": VIN} | lists
    assert fake.sent.count("03") + fake.sent.count("032") == 1
    fake.car.codes[0x03] = ()
    collect(driver, line, 310)
    again = next(fact for fact in driver.health() if fact.source.endswith(":dtc"))
    assert again.facts[f"{engine} stored"] == ""
    assert again.facts[f"{engine} pending"] == "P0420"
    assert again.t_ns > told.t_ns
    assert [f.t_ns for f in driver.health()] == [f.t_ns for f in driver.health()]  # what goes on is one fact


def test_a_car_that_misreads_its_own_vin_names_nobody():
    driver, line = virtual(FakeElm(Car(vin="1M8GDM9A0KP042788")))
    driver.open()
    collect(driver, line, 40)
    (vin,) = (fact for fact in driver.health() if fact.source.endswith(":vin"))
    assert (vin.state, vin.facts) == ("degraded", {})
    assert "which is no valid VIN" in vin.detail
    assert "vin" not in next(fact for fact in driver.health() if fact.source.endswith(":dtc")).facts


def test_questions_to_a_sleeping_car_end_in_one_line():
    driver, line = virtual(FakeElm(Car(awake=False)))
    driver.open()
    collect(driver, line, 2)
    with pytest.raises(DriverError, match="ignition"):
        driver.ask(diagnosis.codes)
    assert len(collect(driver, line, 30)) >= 2


# -- adapters


@pytest.mark.parametrize("baud", BAUDS)
def test_the_rate_is_found(baud):
    fake = FakeElm(Car())
    fake.baud = baud
    driver, line = virtual(fake)
    driver.open()
    assert driver.adapter.baud == baud
    assert line.opened[-1] == baud


def test_a_rate_that_is_given_is_the_only_one_tried():
    fake = FakeElm(Car())
    fake.baud = 9600
    driver, line = virtual(fake, baud=115200)
    with pytest.raises(DriverError, match="at 115200 baud"):
        driver.open()
    assert set(line.opened) == {115200}
    assert line.closed


def test_the_adapter_is_described_for_people():
    driver, _ = virtual(FakeElm(Car(), name="ELM327 v1.5"))
    driver.open()
    assert driver.adapter.clone
    assert driver.adapter.describe() == "ELM327 V1.5 clone at 38400 baud"


def test_bring_up_keeps_to_the_order_and_asks_the_vehicle_nothing():
    fake = FakeElm(Car())
    driver, _ = virtual(fake)
    driver.open()
    assert fake.sent == ["ATI", "ATZ", "ATE0", "ATH1", "ATL0", "ATS0", "ATRV", "AT@1", "ATAT1", "ATIGN", "ATRD"]


def test_a_search_that_fails_goes_through_the_protocols_only_while_the_engine_charges():
    for volts, tries in ((12.4, 1), (14.1, 10)):
        fake = FakeElm(Car(awake=False))
        fake.volts = lambda t_ns, v=volts: v
        driver, line = virtual(fake)
        driver.open()
        collect(driver, line, 3)
        assert fake.sent.count("0100") == tries
        assert "ATTPA" not in fake.sent


def test_a_car_that_falls_asleep_is_left_alone_until_the_alternator_runs():
    fake = FakeElm(Car())
    volts = [13.9]
    fake.volts = lambda t_ns: volts[0]
    driver, line = virtual(fake)
    driver.open()
    collect(driver, line, 10)
    fake.car.awake, volts[0] = False, 12.5
    collect(driver, line, 60)
    before = fake.requests
    collect(driver, line, 3600)
    assert fake.requests - before <= 20
    fake.car.awake, volts[0] = True, 14.2
    block = collect(driver, line, 30)
    assert count(block, SPEED) > 50


# -- time


def test_samples_lie_in_the_middle_of_request_and_answer():
    fake = FakeElm(Car(values=climbing), latency=Latency(unit_s=0.2))
    driver, line = virtual(fake)
    driver.open()
    block = collect(driver, line, 20)
    speed = block[block["channel"] == SPEED]
    ages = (speed["t"] / S) % 200 - np.round(speed["value"] * 3.6)
    # the car read its speed as the request came, 0.1 s before the stamp: whole seconds, so the age is 0.1..1.1
    assert 0.05 <= ages.min() < 0.35
    assert 0.8 < ages.max() <= 1.15


def test_a_read_ends_in_time_in_the_middle_of_an_exchange():
    fake = FakeElm(Car(), latency=Latency(unit_s=0.9))
    driver, line = virtual(fake)
    driver.open()
    began_ns = line.now_ns
    assert len(driver.read(0.0)) == 0
    assert line.now_ns - began_ns < 0.01 * S
    for _ in range(200):
        before_ns = line.now_ns
        driver.read(0.05)
        assert line.now_ns - before_ns <= 0.051 * S
    assert driver.vehicle is not None


# -- pausing


@pytest.mark.parametrize("protocol", "63")
def test_a_pause_stops_requests_at_once_and_closes_the_protocol(protocol):
    fake = FakeElm(Car(protocol=protocol), latency=REAL)
    driver, line = virtual(fake)
    driver.open()
    collect(driver, line, 10)
    driver.pause()
    before, sent = fake.requests, len(fake.sent)
    block = collect(driver, line, 300)
    assert fake.requests == before
    assert count(block, SPEED) <= 1, "the answer that was under way"
    assert 20 <= count(block, VOLTS) <= 40
    assert fake.sent[sent:].count("ATPC") == 1
    assert set(fake.sent[sent:]) == {"ATPC", "ATRV"}
    driver.resume()
    assert count(collect(driver, line, 10), SPEED) > 20


def test_a_pause_during_the_search_ends_it():
    fake = FakeElm(Car(), latency=Latency(search_s=2.0, unit_s=0.05))
    driver, line = virtual(fake)
    driver.open()
    driver.read(0.5)
    driver.pause()
    collect(driver, line, 60)
    assert fake.requests <= 1
    driver.resume()
    assert count(collect(driver, line, 20), SPEED) > 20


def test_a_technician_may_ask_while_polling_is_paused():
    fake = FakeElm(Car())
    driver, line = virtual(fake)
    driver.open()
    collect(driver, line, 5)
    driver.pause()
    collect(driver, line, 5)
    assert driver.ask(diagnosis.codes)["stored"]["7E8"] == ["P0133", "C0123"]
    before = fake.requests
    collect(driver, line, 60)
    assert fake.requests == before


# -- memory


def test_a_car_seen_before_is_not_asked_what_it_can_tell(tmp_path):
    cache = tmp_path / "cars.json"
    first = FakeElm(Car())
    driver, line = virtual(first, cache=cache)
    driver.open()
    collect(driver, line, 2)
    assert "0120" in first.sent
    assert list(json.loads(cache.read_text())) == [VIN]
    second = FakeElm(Car())
    driver, line = virtual(second, cache=cache)
    driver.open()
    collect(driver, line, 2)
    assert driver.vehicle.remembered
    assert "0120" not in second.sent
    assert set(driver.polled) == {p for p in ENGINE.pids if p != 0x04}


def test_a_car_that_answers_otherwise_than_remembered_is_asked_again(tmp_path):
    cache = tmp_path / "cars.json"
    cache.write_text(json.dumps({VIN: {"7E8": [0x0C, 0x0D]}}))
    driver, line = virtual(FakeElm(Car()), cache=cache)
    driver.open()
    collect(driver, line, 2)
    assert not driver.vehicle.remembered
    assert 0x05 in driver.polled
    assert driver.memory_trouble == ""


# -- garbage


@given(st.lists(st.binary(max_size=60), max_size=40), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_random_bytes_raise_nothing_but_driver_error_and_give_nothing_implausible(chunks, seed):
    """Bytes of the test's choosing come with, between and instead of answers."""
    chance = random.Random(seed)
    fake = FakeElm(Car(values=climbing))
    driver, line = virtual(fake)
    block = empty_block()
    try:
        driver.open()
        for chunk in chunks:
            fake.say(line.now_ns + chance.randrange(S // 2), chunk)
            if chance.random() < 0.2:
                fake.inject("silent")
            block = np.concatenate([block, driver.read(0.3)])
            fake.clear("silent")
    except DriverError:
        assert fake.sent
    assert np.all(np.diff(block["t"]) >= 0)
    for _, channel, value in block.tolist():
        assert BY_NUMBER[channel].low <= value <= BY_NUMBER[channel].high
    assert fake.forbidden == []


class _Babble:
    """An adapter that answers every command with what it is given."""

    gone = False
    host_baud = 0

    def __init__(self, answers: list[bytes]) -> None:
        self.answers = answers
        self.out = b""

    def receive(self, data: bytes, now_ns: int) -> None:
        if self.answers:
            self.out += self.answers.pop(0)

    def next_ns(self) -> int | None:
        return 0 if self.out else None

    def take(self, now_ns: int) -> bytes:
        out, self.out = self.out, b""
        return out


WORDS = st.sampled_from(
    [
        b"OK\r\r>",
        b"ELM327 v1.5\r\r>",
        b"7E8 06 41 00 BE 3F A8 13\r\r>",
        b"A6\r>",
        b"?\r>",
        b">",
        b"\r",
        b"41 0D 32\r>",
        b"7E8 03 41 0D 32\r\r>",
        b"13.8V\r>",
        b"LV RESET\r>",
    ]
)


@given(st.lists(WORDS | st.binary(max_size=20), max_size=60))
@settings(max_examples=150, deadline=None)
def test_an_adapter_that_answers_anything_at_all_is_survived(answers):
    driver, line = virtual(_Babble([*[b"ELM327 v1.5\r\r>"] * 2, *[b"OK\r\r>"] * 4, *answers]))
    try:
        driver.open()
        block = collect(driver, line, 20)
    except DriverError:
        return
    for _, channel, value in block.tolist():
        assert BY_NUMBER[channel].low <= value <= BY_NUMBER[channel].high


# -- what users' adapters really said


def dialogues() -> list[dict[str, object]]:
    return json.loads(DIALOGUES.read_text(encoding="utf-8")) if DIALOGUES.exists() else []


# name -> control units found, protocol; None: no vehicle in the dialogue, or an adapter that breaks off
REAL_ENDS = {
    "can11_two_ecus_out_of_order": ({"7E8", "7EA"}, "6"),
    "can11_single_ecu_truncated_ok": ({"7E8"}, "6"),
    "can29_two_ecus": ({"18DAF111", "18DAF11D"}, "7"),
    "unable_to_connect_auto": None,
    "baud_9600_question_mark": None,
    "headers_off_spaces_off_two_ecus": ({"bare"}, "6"),
    "stopped_while_driving": None,
}


@pytest.mark.data
@pytest.mark.parametrize("name", REAL_ENDS)
def test_a_real_adapters_words_are_understood(name):
    if not DIALOGUES.exists():
        pytest.skip("../shared/data/obd/elm327 is not here")
    told = next(d for d in dialogues() if d["id"] == name)
    fake = Transcript([(e["tx"], e["rx"].encode("latin-1")) for e in told["exchanges"]])
    driver, line = virtual(fake)
    block, car, refused = empty_block(), None, ""
    try:
        driver.open()
        # the recorded adapter knows little more than 0100, so the vehicle is soon given up: look at the start
        while line.now_ns < 1020 * S and car is None:
            block = np.concatenate([block, driver.read(0.25)])
            car = driver.vehicle
        found = (set(car.units), car.protocol) if car is not None else None
        block = np.concatenate([block, collect(driver, line, 20)])
    except DriverError as error:
        refused = str(error)
        found = (set(car.units), car.protocol) if car is not None else None
    assert found == REAL_ENDS[name], refused
    assert "\n" not in refused
    assert count(block, SPEED) == 0
