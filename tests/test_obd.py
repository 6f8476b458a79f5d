"""Service 01 answers become samples; identity and trouble codes are read."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import BLOCK
from agent.channels import BY_NAME, number
from agent.vin import vin_check_digit, vin_valid
from drivers.decode import obd
from drivers.decode.j1979 import PIDS, TO_CHANNEL, parameters, values
from drivers.decode.j1979_info import dtc_text, trouble_codes
from drivers.decode.obd import ObdDecoder, decode_answer
from tests.test_isotp import MS, cut, frames_of, split

VIN = "1M8GDM9AXKP042788"  # the worked example of 49 CFR 565; check digit X
INFO_UNITS = {"7E8": "ECM-EngineControl"}


def answers(*bodies: str, unit: int = 0x7E8):
    rows = []
    for body in bodies:
        for part in cut(bytes.fromhex(body)):
            rows.append((len(rows) * MS, unit, 0, part))
    return frames_of(rows)


def by_name(block) -> dict[str, float]:
    names = {c.number: c.name for c in BY_NAME.values()}
    return {names[int(c)]: float(v) for c, v in zip(block["channel"], block["value"], strict=True)}


@pytest.mark.parametrize(
    ("answer", "name", "value"),
    [
        ("410C1AF8", "Obd.EngineSpeed", 1726.0),  # docs/sources.md F1
        ("410D32", "Obd.Speed", 50 / 3.6),
        ("410433", "Obd.EngineLoad", 20.0),
        ("41052C", "Obd.CoolantTemperature", 4.0),
        ("410666", "Obd.ShortTermFuelTrim.Bank1", -20.3125),
        ("410B63", "Obd.IntakePressure", 99.0),
        ("410EA7", "Obd.TimingAdvance", 19.5),
        ("411017F3", "Obd.MassAirFlow", 61.31),
        ("411120", "Obd.ThrottlePosition", 3200 / 255),
        ("411F0227", "Obd.RunTime", 551.0),
        ("412FED", "Obd.FuelLevel", 23700 / 255),
        ("41422F6C", "Obd.ControlModuleVoltage", 12.14),
        ("414D0002", "Obd.TimeWithMil", 120.0),
        ("415E0064", "Obd.FuelRate", 5.0),
        ("41627D", "Obd.ActualTorque", 0.0),
        ("41660100800000", "Obd.MassAirFlow", 4.0),
        ("417A01FF9C00000000", "Obd.ParticulateFilter.PressureDifference", -1.0),
        ("419A04000000FFF6", "Obd.HybridBatteryCurrent", -1.0),
        ("41A6000F4240", "Obd.Odometer", 100000.0),
    ],
)
def test_an_answer_becomes_a_sample_in_the_products_unit(answer, name, value):
    assert by_name(ObdDecoder().decode(answers(answer))) == {name: pytest.approx(value, abs=1e-9)}


def test_lamp_and_count_of_codes_come_from_pid_01():
    assert by_name(ObdDecoder().decode(answers("410183076500"))) == {"Obd.MilOn": 1.0, "Obd.DtcCount": 3.0}


def test_several_pids_in_one_answer_are_walked_across_frames():
    block = ObdDecoder().decode(answers("410D320C1AF8111105730446"))
    assert list(by_name(block)) == [
        "Obd.Speed",
        "Obd.EngineSpeed",
        "Obd.ThrottlePosition",
        "Obd.CoolantTemperature",
        "Obd.EngineLoad",
    ]
    assert set(block["t"]) == {MS}  # the time of the last frame


def test_fuel_trims_are_one_or_two_bytes_as_the_whole_answer_says():
    assert decode_answer("7E8 05 41 06 80 07 84") == {
        "short_term_fuel_trim_bank_1": 0,
        "long_term_fuel_trim_bank_1": 3.125,
    }
    assert decode_answer("7E8 07 41 06 80 F7 07 F7 80") == {
        "short_term_fuel_trim_bank_1": 0,
        "short_term_fuel_trim_bank_3": 92.96875,
        "long_term_fuel_trim_bank_1": 92.96875,
        "long_term_fuel_trim_bank_3": 0,
    }
    assert decode_answer("7E8 07 41 06 80 84 07 84 80") == {}  # two PIDs 06 07, or three 06 84 84: nobody can say
    decoder = ObdDecoder()
    assert by_name(decoder.decode(answers("410D320680840DFF0C"))) == {"Obd.Speed": 50 / 3.6}
    assert decoder.counters["malformed"] == 1


def test_255_km_h_is_no_speed():
    decoder = ObdDecoder()
    assert len(decoder.decode(answers("410DFF"))) == 0
    assert decoder.counters["not_available"] == 1
    assert decode_answer("7E803410DFF") == {}


def test_a_sensor_that_the_answer_says_is_absent_gives_nothing():
    decoder = ObdDecoder()
    assert len(decoder.decode(answers("41660000800000"))) == 0
    assert decoder.counters["not_available"] == 1


def test_what_is_not_current_data_is_counted_and_not_decoded():
    decoder = ObdDecoder()
    assert len(decoder.decode(answers("7F0112", "6200010D32", "42020D0032", "410D32", "41FE01", "41"))) == 1
    counted = decoder.counters
    assert {k: counted[k] for k in ("negative", "uds", "other_services", "unknown_pids", "malformed", "single")} == {
        "negative": 1,
        "uds": 1,
        "other_services": 1,
        "unknown_pids": 1,
        "malformed": 1,
        "single": 6,
    }


def test_identity_is_read_from_service_09():
    decoder = ObdDecoder()
    vin = "490201" + VIN.encode().hex()
    calibration = "490402" + b"JMB*36761500".ljust(16, b"\0").hex() + b"JMB*47872611".ljust(16, b"\0").hex()
    name = "490A01" + b"ECM\0-EngineControl\0\0".hex()
    assert len(decoder.decode(answers(vin, calibration, "4906011791BC82", name))) == 0
    assert decoder.vehicle_info == {
        "vin": VIN,
        "vin_valid": True,
        "calibration_ids": {"7E8": ["JMB*36761500", "JMB*47872611"]},
        "calibration_numbers": {"7E8": ["1791BC82"]},
        "unit_names": INFO_UNITS,
    }
    decoder.decode(answers("490201" + VIN.replace("X", "1").encode().hex(), "490201" + "4142", "490404", "490600"))
    assert decoder.vehicle_info["vin"] == VIN
    assert decoder.vehicle_info["vin_valid"]
    assert decoder.counters["malformed"] == 2


@pytest.mark.parametrize(
    ("vin", "valid"),
    [
        (VIN, True),
        ("1M8GDM9A1KP042788", False),  # check digit wrong, North America
        ("11111111111111111", True),
        ("WVWZZZ1JZXW000001", True),  # Europe: position 9 is the maker's
        ("LFV2A21K9A3000000", vin_check_digit("LFV2A21K9A3000000") == "9"),
        ("1M8GDM9AXKP04278", False),
        ("WVWZZZ1JZXW00000O", False),
        ("", False),
    ],
)
def test_a_vin_is_checked_by_its_form_and_where_the_law_has_one_its_check_digit(vin, valid):
    assert vin_valid(vin) is valid


def test_trouble_codes_are_read_by_service_and_replaced_by_the_next_answer():
    assert dtc_text(0x4123) == "C0123"
    decoder = ObdDecoder()
    decoder.decode(answers("43020301C123", "47010420", "4A00", "4303"))
    decoder.decode(answers("43010133", unit=0x7E9))
    assert decoder.dtcs == {"stored": ["P0133", "P0301", "U0123"], "pending": ["P0420"], "permanent": []}
    assert decoder.counters["malformed"] == 1
    decoder.decode(answers("4300"))
    assert decoder.dtcs["stored"] == ["P0133"]
    assert trouble_codes(bytes.fromhex("430203010000")) == ["P0301"]


def test_every_stored_field_has_a_unit_of_its_channel_and_no_raw_value_outside_its_range():
    for pid in PIDS.values():
        for field in pid.fields:
            assert field.start + field.bits <= 8 * max(pid.length, pid.long), (pid, field)
            if not field.channel:
                continue
            channel = BY_NAME[field.channel]
            num, den = (1.0, 1.0) if field.unit == channel.unit else TO_CHANNEL[field.unit, channel.unit]
            top = 1 << field.bits
            extremes = (-(top >> 1), (top >> 1) - 1) if field.signed else (0, top - 1)
            for raw in extremes:
                value = (raw * field.num / field.den + field.offset) * num / den
                assert channel.low <= value <= channel.high, (hex(pid.number), field.name, value)


def test_names_are_unique_within_an_answer_of_any_pids_but_families():
    for pid in PIDS.values():
        names = [f.name for f in pid.fields]
        assert len(names) == len(set(names)), pid


pid_numbers = st.sampled_from(sorted(PIDS))


@st.composite
def current_data(draw) -> bytes:
    """An answer of up to six known PIDs, sometimes with rubbish behind."""
    payload = b"\x41"
    for pid in draw(st.lists(pid_numbers, min_size=1, max_size=6)):
        size = PIDS[pid].length
        payload += bytes([pid]) + draw(st.binary(min_size=size, max_size=size))
    return payload + draw(st.binary(max_size=3))


def stored(payload: bytes) -> list[tuple[int, float]]:
    """What the plain-Python walk gives, in the product's units."""
    found = []
    for pid, data in parameters(payload):
        for field, value in values(pid, data):
            if field.channel:
                unit = BY_NAME[field.channel].unit
                num, den = (1.0, 1.0) if unit == field.unit else TO_CHANNEL[field.unit, unit]
                found.append((number(field.channel), value * num / den))
    return found


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(current_data(), st.binary(min_size=1, max_size=40)), max_size=6),
    st.lists(st.integers(0, 60), max_size=3),
)
def test_the_kernel_gives_what_the_plain_walk_gives_in_any_batches(bodies, at):
    rows = []
    for body in bodies:
        for part in cut(body):
            rows.append((len(rows) * MS, 0x7E8, 0, part))
    frames = frames_of(rows)
    decoder = ObdDecoder()
    block = decoder.decode(frames)
    expected = [sample for body in bodies if body[0] == 0x41 for sample in stored(body)]
    assert [(int(c), float(v)) for c, v in zip(block["channel"], block["value"], strict=True)] == expected
    parts = ObdDecoder()
    again = np.concatenate([np.empty(0, BLOCK), *(parts.decode(p) for p in split(frames, at))])
    assert again.tobytes() == block.tobytes()
    assert parts.counters == decoder.counters
    assert parts.vehicle_info == decoder.vehicle_info


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(current_data(), st.binary(min_size=1, max_size=40)), min_size=1, max_size=6))
def test_the_kernel_equals_its_python_self(bodies):
    pids, fields = obd._tables()
    heap = np.frombuffer(b"".join(bodies), np.uint8).copy()
    length = np.array([len(b) for b in bodies], np.int32)
    start = (np.cumsum(length) - length).astype(np.int32)
    t = np.arange(len(bodies), dtype=np.int64)
    results = []
    for kernel in (obd.decode_answers, obd.decode_answers.py_func):
        out, rest = np.zeros(5000, BLOCK), np.zeros(10, np.int32)
        counters, cursor = np.zeros(len(obd.COUNTERS), np.int64), np.zeros(3, np.int64)
        kernel(t, start, length, heap, pids, fields, out, rest, counters, cursor)
        results.append(tuple(a.tobytes() for a in (out, rest, counters, cursor)))
    assert results[0] == results[1]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0x7E8, 0x7EF), st.binary(max_size=8)), max_size=50))
def test_random_bytes_on_answer_ids_never_raise_and_give_finite_values(raw):
    decoder = ObdDecoder()
    block = decoder.decode(frames_of([(i * MS, can_id, 0, data) for i, (can_id, data) in enumerate(raw)], 8))
    assert np.isfinite(block["value"]).all()
    assert all(isinstance(codes, list) for codes in decoder.dtcs.values())


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="7E8 0141FD\n\r", max_size=60))
def test_any_adapter_text_gives_numbers_or_nothing(text):
    assert all(math.isfinite(v) for v in decode_answer(text).values())


def test_the_first_of_two_control_units_gives_the_value():
    assert decode_answer("7E8 03 41 0D 32\n7E9 03 41 0D 33") == {"vehicle_speed": 50}


def test_more_samples_than_room_in_one_batch_all_come_out():
    n = 16_384
    frames = frames_of([(i, 0x7E8, 0, b"\x06\x41\x01\x83\x07\x65\x00\x00") for i in range(n)], 8)
    block = ObdDecoder().decode(frames)
    assert len(block) == 2 * n
    assert block["t"].tolist() == [i for i in range(n) for _ in range(2)]
    assert all(sum(bool(f.channel) for f in pid.fields) <= 1 + pid.length for pid in PIDS.values())


def test_control_units_of_one_id_on_two_buses_are_kept_apart():
    body = bytes.fromhex("410D320C1AF81111")
    first = frames_of([(i, 0x7E8, 0, part) for i, part in enumerate(f for f in cut(body) for _ in range(2))], 8)
    first.bus[1::2] = 1
    for column in first:
        column.flags.writeable = False  # as memory-mapped recordings are
    assert len(ObdDecoder().decode(first)) == 6
    one_bus = ObdDecoder()
    assert len(one_bus.decode(first._replace(bus=np.zeros_like(first.bus)))) == 3
    assert (one_bus.counters["interrupted"], one_bus.counters["stray"]) == (1, 1)
