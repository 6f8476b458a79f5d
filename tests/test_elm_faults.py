"""Every fault of the catalogue against the driver, in virtual time: what it does, how soon, and never a wrong value.

The car's speed says what second it is, so a value that is stale, shifted or made up shows.
"""

import random

import numpy as np
import pytest

from agent.blocks import empty_block
from agent.channels import BY_NUMBER, number
from agent.errors import DriverError
from sim.elm327 import FakeElm, Latency
from sim.elm_car import ENGINE, GEARBOX, Car
from sim.elm_faults import FAULTS
from tests.elm_making import S, climbing, collect, virtual

SPEED, RPM = number("Obd.Speed"), number("Obd.EngineSpeed")
SLOW = Latency(unit_s=0.01, wait_s=0.03)
STALE_S = 1.6  # one second of rounding, and an exchange

# What the driver does while the fault lasts, injected before opening and in the middle of polling:
#   on      goes on giving speed
#   waits   gives no speed, keeps the port, looks again later; gives speed within 30 s of the fault's end
#   raises  DriverError within 30 s, for the feed to reopen
#   mute    goes on without speed, gives it when the fault ends
EXPECTED = {
    "silent": ("raises", "raises"),
    "garbage": ("raises", "raises"),
    "no_prompt": ("on", "on"),
    "endless": ("raises", "raises"),
    "frozen": ("on", "on"),
    "unplugged": ("raises", "raises"),
    "lv_reset": ("on", "on"),
    "restarted": ("on", "on"),
    "act_alert": ("on", "on"),
    "lp_alert": ("on", "on"),
    "err94": ("on", "on"),
    "err93": ("raises", "raises"),
    "stopped": ("on", "on"),
    "buffer_full": ("on", "on"),
    "data_error": ("on", "on"),
    "rx_error": ("on", "on"),
    "some_data_error": ("on", "on"),
    "can_error": ("waits", "waits"),
    "bus_error": ("waits", "waits"),
    "bus_busy": ("waits", "waits"),
    "fb_error": ("waits", "waits"),
    "bus_init_error": ("waits", "waits"),
    "unable_to_connect": ("waits", "waits"),
    "not_connected": ("waits", "waits"),
    "no_data": ("waits", "waits"),
    "strange_words": ("waits", "waits"),
    "late_ok": ("on", "on"),
    "echo_on": ("on", "on"),
    "nul_bytes": ("on", "on"),
    "lower_case": ("on", "on"),
    "line_feeds": ("on", "on"),
    "joined_lines": ("on", "on"),
    "loses_characters": ("raises", "raises"),
    "loses_bytes": ("waits", "waits"),
    "two_bytes": ("on", "on"),
    "no_count": ("on", "on"),
    "no_headers": ("on", "on"),
    "spaces_stay": ("on", "on"),
    "no_voltage": ("on", "on"),
    "no_protocol_number": ("on", "on"),
    "version_1_5": ("on", "on"),
    "off_by_one": ("raises", "raises"),
    "asleep": ("waits", "waits"),
    "swapped_units": ("on", "on"),
    "one_pid": ("on", "on"),
    "negative": ("waits", "waits"),
    "speed_255": ("mute", "mute"),
    "claims_throttle": ("on", "on"),
}


def test_the_table_knows_every_fault():
    assert set(EXPECTED) == set(FAULTS)
    assert len(FAULTS) >= 20
    assert all(fault.what for fault in FAULTS.values())


def truthful(block: np.ndarray) -> None:
    """Assert that nothing in the block is wrong: times, ranges, and speed and rpm of their second."""
    assert np.all(np.diff(block["t"]) >= 0)
    for t_ns, channel, value in block.tolist():
        known = BY_NUMBER[channel]
        assert known.low <= value <= known.high
        if channel in (SPEED, RPM):
            second = round(value * 3.6) if channel == SPEED else (value - 1000) / 10
            late_s = (t_ns / S % 200 - second) % 200
            assert late_s <= STALE_S or late_s >= 200 - 0.1, (known.name, late_s)


def speeds(block: np.ndarray) -> int:
    return int(np.count_nonzero(block["channel"] == SPEED))


def end(fake: FakeElm, name: str) -> None:
    fake.clear(name)
    fake.car.awake = True
    fake.gone = False
    fake.can_blocked = False


@pytest.mark.parametrize("midway", [False, True], ids=["from_the_start", "midway"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_has_its_consequence_and_an_end(name, midway):
    fake = FakeElm(Car(values=climbing, units=(ENGINE, GEARBOX)), latency=SLOW)
    driver, line = virtual(fake)
    expected = EXPECTED[name][midway]
    before = empty_block()
    if midway:
        driver.open()
        before = collect(driver, line, 3)
        assert speeds(before) > 5
        truthful(before)
    fake.inject(name)
    began_ns = line.now_ns
    block = before[:0]
    raised = ""
    try:
        if not midway:
            driver.open()
        block = collect(driver, line, 30)
    except DriverError as error:
        raised = str(error)
    assert fake.forbidden == []
    assert fake.empty_lines == 0
    assert (line.now_ns - began_ns) / S <= 36.0  # opening takes up to 5 s

    truthful(block)
    assert bool(raised) == (expected == "raises"), raised
    assert "\n" not in raised
    if expected == "on":
        assert speeds(block) >= 30
    elif expected == "waits":
        assert speeds(block) <= 1
        assert len(block) >= 2, "the supply voltage goes on"
    elif expected == "mute":
        assert speeds(block) <= 1
        assert len(block) > 60

    end(fake, name)
    if raised:
        driver.open()
    after = collect(driver, line, 30)
    truthful(after)
    assert speeds(after) >= 5
    assert fake.forbidden == []
    driver.close()


@pytest.mark.parametrize(
    "names",
    [
        ("echo_on", "spaces_stay", "no_prompt"),
        ("two_bytes", "version_1_5", "late_ok"),
        ("nul_bytes", "lower_case", "line_feeds", "stopped"),
        ("no_headers", "no_count", "no_protocol_number"),
    ],
)
def test_several_quirks_at_once(names):
    fake = FakeElm(Car(values=climbing), latency=SLOW)
    for name in names:
        fake.inject(name)
    driver, line = virtual(fake)
    driver.open()
    block = collect(driver, line, 30)
    truthful(block)
    assert speeds(block) >= 30
    assert fake.forbidden == []


@pytest.mark.parametrize("protocol", "123456789")
@pytest.mark.parametrize("seed", range(2))
def test_faults_that_come_and_go_at_random_leave_no_wrong_value_and_an_adapter_that_works(protocol, seed):
    chance = random.Random(f"{protocol}{seed}")
    fake = FakeElm(Car(protocol=protocol, values=climbing, units=(ENGINE, GEARBOX)), latency=SLOW)
    driver, line = virtual(fake)
    opened = False
    names = sorted(FAULTS)
    for _ in range(8):
        name = chance.choice(names)
        fake.inject(name)
        until_ns = line.now_ns + 20 * S
        while line.now_ns < until_ns:
            try:
                if not opened:
                    line.now_ns += S  # the feed's own pause
                    driver.open()
                    opened = True
                truthful(collect(driver, line, (until_ns - line.now_ns) / S))
            except DriverError:
                opened = False
        end(fake, name)
        fake.notes.clear()
    if not opened:
        driver.open()
    assert speeds(collect(driver, line, 130)) > 20
    assert fake.forbidden == []
    assert fake.empty_lines == 0
