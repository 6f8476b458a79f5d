"""SAE J1979 service 01 as data: every PID's length, and the fields inside it with formula, unit and channel.

A field is `raw * num / den + offset`, raw being `bits` bits from bit `start` of the PID's data (bit 0 is the highest
bit of byte A), two's complement where `signed`. Formulas: SAE J1979-DA as reproduced in public tables; the rows
that docs/sources.md F1 gives agree with it. A field is left out of an answer when its raw value is `absent`, or
when bit `gate` of the data is not `gate_value` (the newer PIDs begin with a byte that says which sensors exist).

PID 0D: J1979 gives 0..255 km/h and no code for "invalid". 255 is what a full byte says when the speed is higher, and
what control units and adapters send when they do not know; it is never a measurement, so it is `absent`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Field:
    """One quantity in a PID's data, in the unit of J1979; `channel` names where the product stores it, or ''."""

    name: str
    start: int
    bits: int
    unit: str = ""
    num: float = 1.0
    den: float = 1.0
    offset: float = 0.0
    channel: str = ""
    signed: bool = False
    absent: int = -1
    gate: int = -1
    gate_value: int = 1


@dataclass(frozen=True, slots=True)
class Pid:
    """One parameter: data length in bytes; `long` is the length in vehicles with oxygen sensors in banks 3 and 4."""

    number: int
    length: int
    fields: tuple[Field, ...] = ()
    long: int = 0


# Units of J1979 that are not those of a channel: (J1979, channel) -> factor as numerator, denominator
TO_CHANNEL: Final[dict[tuple[str, str], tuple[float, float]]] = {("km/h", "m/s"): (1.0, 3.6), ("min", "s"): (60.0, 1.0)}


def _byte(name: str, channel: str = "", byte: int = 0, unit: str = "", *, gate: int = -1, absent: int = -1) -> Field:
    return Field(name, 8 * byte, 8, unit, channel=channel, gate=gate, absent=absent)


def _percent(name: str, channel: str = "", byte: int = 0, *, gate: int = -1) -> Field:
    return Field(name, 8 * byte, 8, "%", 100.0, 255.0, channel=channel, gate=gate)


def _trim(name: str, channel: str = "", byte: int = 0, *, gate: int = -1, absent: int = -1) -> Field:
    return Field(name, 8 * byte, 8, "%", 100.0, 128.0, -100.0, channel, absent=absent, gate=gate)


def _celsius(name: str, channel: str = "", byte: int = 0, *, gate: int = -1) -> Field:
    return Field(name, 8 * byte, 8, "degC", offset=-40.0, channel=channel, gate=gate)


def _hot(name: str, channel: str = "", byte: int = 0, *, gate: int = -1) -> Field:
    return Field(name, 8 * byte, 16, "degC", 1.0, 10.0, -40.0, channel, gate=gate)


def _torque(name: str, channel: str = "", byte: int = 0) -> Field:
    return Field(name, 8 * byte, 8, "%", offset=-125.0, channel=channel)


def _word(name: str, unit: str, num: float, den: float, channel: str = "", byte: int = 0, *, gate: int = -1) -> Field:
    return Field(name, 8 * byte, 16, unit, num, den, channel=channel, gate=gate)


def _long(name: str, unit: str, den: float, channel: str = "", byte: int = 0, *, gate: int = -1) -> Field:
    return Field(name, 8 * byte, 32, unit, 1.0, den, channel=channel, gate=gate)


def _bits(names: str, start: int, *, gate: int = -1, gate_value: int = 1) -> tuple[Field, ...]:
    """Name single bits from `start` on, highest first; '-' skips a reserved one."""
    return tuple(
        Field(name, start + i, 1, gate=gate, gate_value=gate_value)
        for i, name in enumerate(names.split())
        if name != "-"
    )


def _supported(base: int) -> Pid:
    return Pid(base, 4, _bits(" ".join(f"supports_pid_{base + 1 + i:02X}" for i in range(32)), 0))


# Monitors, bytes C (supported) and D (not complete), highest bit first; bit 3 of byte B chooses the list.
_SPARK: Final = (
    "egr_vvt oxygen_heater oxygen_sensor air_conditioning secondary_air evaporative heated_catalyst catalyst"
)
_DIESEL: Final = "egr_vvt particulate_filter exhaust_sensor - boost - nox_aftertreatment nmhc_catalyst"


def _monitors(prefix: str) -> tuple[Field, ...]:
    def named(names: str, ending: str) -> str:
        return " ".join("-" if n == "-" else f"{prefix}{n}_{ending}" for n in names.split())

    continuous = "components fuel_system misfire"
    return (
        *_bits(f"- {named(continuous, 'incomplete')} {prefix}compression_ignition {named(continuous, 'supported')}", 8),
        *_bits(named(_SPARK, "supported"), 16, gate=12, gate_value=0),
        *_bits(named(_SPARK, "incomplete"), 24, gate=12, gate_value=0),
        *_bits(named("diesel_" + _DIESEL.replace(" ", " diesel_").replace("diesel_-", "-"), "supported"), 16, gate=12),
        *_bits(named("diesel_" + _DIESEL.replace(" ", " diesel_").replace("diesel_-", "-"), "incomplete"), 24, gate=12),
    )


def _oxygen() -> Iterator[Pid]:
    """Give the three families of eight oxygen sensors; sensors 1 and 2 are bank 1 in both numberings (PID 13, 1D)."""
    for i in range(8):
        sensor = f"oxygen_sensor_{i + 1}"
        place = f"Obd.OxygenSensor.Bank1Sensor{i + 1}"
        volt = f"{place}.Voltage" if i < 2 else ""
        ratio = f"{place}.EquivalenceRatio" if i < 1 else ""
        lean = _word(f"{sensor}_equivalence_ratio", "", 2.0, 65536.0, ratio)
        yield Pid(
            0x14 + i,
            2,
            (
                Field(f"{sensor}_voltage", 0, 8, "V", 1.0, 200.0, channel=volt),
                _trim(f"{sensor}_trim", byte=1, absent=0xFF),  # FF: the sensor takes no part in the trim
            ),
        )
        yield Pid(0x24 + i, 4, (lean, _word(f"{sensor}_wide_voltage", "V", 8.0, 65536.0, volt, 2)))
        yield Pid(0x34 + i, 4, (lean, Field(f"{sensor}_current", 16, 16, "mA", 1.0, 256.0, -128.0)))


def _fuel_trim(number: int, name: str, bank: int, channel: str) -> Pid:
    fields = (_trim(f"{name}_bank_{bank}", channel), _trim(f"{name}_bank_{bank + 2}", byte=1))
    return Pid(number, 1, fields, long=2)


_EGT: Final = "exhaust_temperature_bank_{}_sensor_{}"

_ROWS: Final[tuple[Pid, ...]] = (
    *(_supported(base) for base in range(0x00, 0x100, 0x20)),
    Pid(
        0x01,
        4,
        (
            Field("mil_on", 0, 1, channel="Obd.MilOn"),
            Field("dtc_count", 1, 7, channel="Obd.DtcCount"),
            *_monitors(""),
        ),
    ),
    Pid(0x02, 2, (_word("freeze_frame_dtc", "", 1.0, 1.0),)),
    Pid(0x03, 2, (_byte("fuel_system_1_status"), _byte("fuel_system_2_status", byte=1))),
    Pid(0x04, 1, (_percent("engine_load", "Obd.EngineLoad"),)),
    Pid(0x05, 1, (_celsius("coolant_temperature", "Obd.CoolantTemperature"),)),
    _fuel_trim(0x06, "short_term_fuel_trim", 1, "Obd.ShortTermFuelTrim.Bank1"),
    _fuel_trim(0x07, "long_term_fuel_trim", 1, "Obd.LongTermFuelTrim.Bank1"),
    _fuel_trim(0x08, "short_term_fuel_trim", 2, "Obd.ShortTermFuelTrim.Bank2"),
    _fuel_trim(0x09, "long_term_fuel_trim", 2, "Obd.LongTermFuelTrim.Bank2"),
    Pid(0x0A, 1, (Field("fuel_pressure", 0, 8, "kPa", 3.0, channel="Obd.FuelPressure"),)),
    Pid(0x0B, 1, (_byte("intake_pressure", "Obd.IntakePressure", unit="kPa"),)),
    Pid(0x0C, 2, (_word("engine_speed", "rpm", 1.0, 4.0, "Obd.EngineSpeed"),)),
    Pid(0x0D, 1, (_byte("vehicle_speed", "Obd.Speed", unit="km/h", absent=255),)),
    Pid(0x0E, 1, (Field("timing_advance", 0, 8, "deg", 1.0, 2.0, -64.0, "Obd.TimingAdvance"),)),
    Pid(0x0F, 1, (_celsius("intake_air_temperature", "Obd.IntakeAirTemperature"),)),
    Pid(0x10, 2, (_word("mass_air_flow", "g/s", 1.0, 100.0, "Obd.MassAirFlow"),)),
    Pid(0x11, 1, (_percent("throttle_position", "Obd.ThrottlePosition"),)),
    Pid(0x12, 1, (_byte("secondary_air_status"),)),
    Pid(0x13, 1, _bits(" ".join(f"has_oxygen_sensor_bank_{b}_{s}" for b in (2, 1) for s in (4, 3, 2, 1)), 0)),
    *_oxygen(),
    Pid(0x1C, 1, (_byte("obd_standard"),)),
    Pid(0x1D, 1, _bits(" ".join(f"has_oxygen_sensor_bank_{b}_{s}" for b in (4, 3, 2, 1) for s in (2, 1)), 0)),
    Pid(0x1E, 1, (Field("power_take_off_active", 7, 1),)),
    Pid(0x1F, 2, (_word("run_time", "s", 1.0, 1.0, "Obd.RunTime"),)),
    Pid(0x21, 2, (_word("distance_with_mil", "km", 1.0, 1.0, "Obd.DistanceWithMil"),)),
    Pid(0x22, 2, (_word("fuel_rail_pressure_relative", "kPa", 79.0, 1000.0),)),
    Pid(0x23, 2, (_word("fuel_rail_pressure", "kPa", 10.0, 1.0, "Obd.FuelRailPressure"),)),
    Pid(0x2C, 1, (_percent("commanded_egr", "Obd.CommandedEgr"),)),
    Pid(0x2D, 1, (_trim("egr_error", "Obd.EgrError"),)),
    Pid(0x2E, 1, (_percent("commanded_evaporative_purge", "Obd.CommandedEvaporativePurge"),)),
    Pid(0x2F, 1, (_percent("fuel_level", "Obd.FuelLevel"),)),
    Pid(0x30, 1, (_byte("warm_ups_since_clear", "Obd.WarmUpsSinceClear"),)),
    Pid(0x31, 2, (_word("distance_since_clear", "km", 1.0, 1.0, "Obd.DistanceSinceClear"),)),
    Pid(0x32, 2, (Field("evaporative_pressure", 0, 16, "kPa", 1.0, 4000.0, signed=True),)),
    Pid(0x33, 1, (_byte("barometric_pressure", "Obd.BarometricPressure", unit="kPa"),)),
    Pid(0x3C, 2, (_hot("catalyst_temperature_bank_1_sensor_1", "Obd.CatalystTemperature.Bank1Sensor1"),)),
    Pid(0x3D, 2, (_hot("catalyst_temperature_bank_2_sensor_1", "Obd.CatalystTemperature.Bank2Sensor1"),)),
    Pid(0x3E, 2, (_hot("catalyst_temperature_bank_1_sensor_2", "Obd.CatalystTemperature.Bank1Sensor2"),)),
    Pid(0x3F, 2, (_hot("catalyst_temperature_bank_2_sensor_2", "Obd.CatalystTemperature.Bank2Sensor2"),)),
    Pid(0x41, 4, _monitors("cycle_")),
    Pid(0x42, 2, (_word("control_module_voltage", "V", 1.0, 1000.0, "Obd.ControlModuleVoltage"),)),
    Pid(0x43, 2, (_word("absolute_load", "%", 100.0, 255.0, "Obd.AbsoluteLoad"),)),
    Pid(0x44, 2, (_word("commanded_equivalence_ratio", "", 2.0, 65536.0, "Obd.CommandedEquivalenceRatio"),)),
    Pid(0x45, 1, (_percent("relative_throttle_position", "Obd.RelativeThrottlePosition"),)),
    Pid(0x46, 1, (_celsius("ambient_temperature", "Obd.AmbientTemperature"),)),
    Pid(0x47, 1, (_percent("throttle_position_b", "Obd.ThrottlePositionB"),)),
    Pid(0x48, 1, (_percent("throttle_position_c"),)),
    Pid(0x49, 1, (_percent("accelerator_pedal_d", "Obd.AcceleratorPedal"),)),
    Pid(0x4A, 1, (_percent("accelerator_pedal_e", "Obd.AcceleratorPedalE"),)),
    Pid(0x4B, 1, (_percent("accelerator_pedal_f"),)),
    Pid(0x4C, 1, (_percent("commanded_throttle", "Obd.CommandedThrottle"),)),
    Pid(0x4D, 2, (_word("time_with_mil", "min", 1.0, 1.0, "Obd.TimeWithMil"),)),
    Pid(0x4E, 2, (_word("time_since_clear", "min", 1.0, 1.0, "Obd.TimeSinceClear"),)),
    Pid(0x4F, 4),  # 4F, 50: the scales of other PIDs in a few vehicles, no measurements
    Pid(0x50, 4),
    Pid(0x51, 1, (_byte("fuel_type", "Obd.FuelType"),)),
    Pid(0x52, 1, (_percent("ethanol_share", "Obd.EthanolShare"),)),
    Pid(0x53, 2, (_word("evaporative_pressure_absolute", "kPa", 1.0, 200.0),)),
    Pid(0x54, 2, (Field("evaporative_pressure_wide", 0, 16, "kPa", 1.0, 1000.0, signed=True),)),
    _fuel_trim(0x55, "short_term_secondary_trim", 1, ""),
    _fuel_trim(0x56, "long_term_secondary_trim", 1, ""),
    _fuel_trim(0x57, "short_term_secondary_trim", 2, ""),
    _fuel_trim(0x58, "long_term_secondary_trim", 2, ""),
    Pid(0x59, 2, (_word("fuel_rail_pressure_absolute", "kPa", 10.0, 1.0),)),
    Pid(0x5A, 1, (_percent("relative_accelerator_pedal", "Obd.RelativeAcceleratorPedal"),)),
    Pid(0x5B, 1, (_percent("hybrid_battery_level", "Obd.HybridBatteryLevel"),)),
    Pid(0x5C, 1, (_celsius("oil_temperature", "Obd.OilTemperature"),)),
    Pid(0x5D, 2, (Field("injection_timing", 0, 16, "deg", 1.0, 128.0, -210.0),)),
    Pid(0x5E, 2, (_word("fuel_rate", "L/h", 1.0, 20.0, "Obd.FuelRate"),)),
    Pid(0x5F, 1, (_byte("emission_requirement"),)),
    Pid(0x61, 1, (_torque("demanded_torque", "Obd.DemandedTorque"),)),
    Pid(0x62, 1, (_torque("actual_torque", "Obd.ActualTorque"),)),
    Pid(0x63, 2, (_word("reference_torque", "Nm", 1.0, 1.0, "Obd.ReferenceTorque"),)),
    Pid(0x64, 5, tuple(_torque(f"torque_point_{i + 1}", byte=i) for i in range(5))),
    Pid(0x65, 2),
    Pid(
        0x66,
        5,
        (
            _word("mass_air_flow_a", "g/s", 1.0, 32.0, "Obd.MassAirFlow", 1, gate=7),
            _word("mass_air_flow_b", "g/s", 1.0, 32.0, byte=3, gate=6),
        ),
    ),
    Pid(
        0x67,
        3,
        (
            _celsius("coolant_temperature_1", "Obd.CoolantTemperature", 1, gate=7),
            _celsius("coolant_temperature_2", byte=2, gate=6),
        ),
    ),
    Pid(
        0x68,
        7,
        (
            _celsius("intake_air_temperature_1_1", "Obd.IntakeAirTemperature", 1, gate=7),
            _celsius("intake_air_temperature_1_2", byte=2, gate=6),
        ),
    ),
    Pid(
        0x69,
        7,
        (
            _percent("commanded_egr_a", "Obd.CommandedEgr", 1, gate=7),
            _percent("actual_egr_a", byte=2, gate=6),
            _trim("egr_error_a", "Obd.EgrError", 3, gate=5),
        ),
    ),
    Pid(
        0x70,
        10,
        (
            _word("commanded_boost_pressure_a", "kPa", 1.0, 32.0, byte=1, gate=7),
            _word("boost_pressure_a", "kPa", 1.0, 32.0, "Obd.BoostPressure", 3, gate=6),
        ),
    ),
    Pid(0x78, 9, (_hot(_EGT.format(1, 1), "Obd.ExhaustTemperature.Bank1Sensor1", 1, gate=7),)),
    Pid(0x79, 9, (_hot(_EGT.format(2, 1), byte=1, gate=7),)),
    Pid(
        0x7A,
        7,
        (
            Field(
                "particulate_filter_pressure_difference",
                8,
                16,
                "kPa",
                1.0,
                100.0,
                channel="Obd.ParticulateFilter.PressureDifference",
                signed=True,
                gate=7,
            ),
        ),
    ),
    Pid(0x7C, 9, (_hot("particulate_filter_temperature", "Obd.ParticulateFilter.InletTemperature", 1, gate=7),)),
    Pid(
        0x7F,
        13,
        (
            _long("engine_run_time_total", "s", 1.0, "Obd.EngineRunTimeTotal", 1, gate=7),
            _long("idle_time_total", "s", 1.0, "Obd.IdleTimeTotal", 5, gate=6),
        ),
    ),
    Pid(0x84, 1, (_celsius("manifold_temperature", "Obd.ManifoldTemperature"),)),
    Pid(0x85, 10, (_percent("def_level", "Obd.DefLevel", 5, gate=5),)),
    Pid(0x87, 5, (_word("intake_pressure_a", "kPa", 1.0, 32.0, "Obd.IntakePressure", 1, gate=7),)),
    Pid(0x8D, 1, (_percent("throttle_position_g"),)),
    Pid(0x8E, 1, (_torque("friction_torque", "Obd.FrictionTorque"),)),
    Pid(
        0x9A,
        6,
        (
            _word("hybrid_battery_voltage", "V", 1.0, 64.0, "Obd.HybridBatteryVoltage", 2, gate=6),
            Field("hybrid_battery_current", 32, 16, "A", 1.0, 10.0, 0.0, "Obd.HybridBatteryCurrent", True, gate=5),
        ),
    ),
    Pid(
        0x9D,
        4,
        (
            _word("fuel_mass_rate", "g/s", 1.0, 50.0, "Obd.FuelMassRate"),
            _word("vehicle_fuel_mass_rate", "g/s", 1.0, 50.0, byte=2),
        ),
    ),
    Pid(0x9E, 2, (_word("exhaust_mass_flow", "kg/h", 1.0, 5.0, "Obd.ExhaustMassFlow"),)),
    Pid(0xA2, 2, (_word("cylinder_fuel_rate", "mg/stroke", 1.0, 32.0),)),
    Pid(0xA4, 4, (_word("gear_ratio", "", 1.0, 1000.0, "Obd.GearRatio", 2, gate=6),)),
    Pid(0xA6, 4, (_long("odometer", "km", 10.0, "Obd.Odometer"),)),
    Pid(0xAA, 1, (_byte("speed_limiter", unit="km/h"),)),
    Pid(0xB2, 1, (_percent("hybrid_battery_health", "Obd.HybridBatteryHealth"),)),
    Pid(0xD3, 4, (_long("engine_odometer", "km", 10.0),)),
)

# Known by length alone, so that the PIDs after them in one answer can be read: number and bytes.
_LENGTHS: Final = (
    "6A 5  6B 5  6C 5  6D 11  6E 9  6F 3  71 6  72 5  73 5  74 5  75 7  76 7  77 5  7B 7  7D 1  7E 1  81 41  82 41  "
    "83 9  86 5  88 13  89 41  8A 41  8B 7  8C 17  8F 7  90 3  91 5  92 2  93 3  94 12  98 9  99 9  9B 4  9C 17  9F 9  "
    "A1 9  A3 9  A5 4  A7 4  A8 4  D2 3"
)

# From here on editions of J1979-DA have lengthened PIDs: such a length is believed only where the answer adds up.
FIRST_REVISED: Final = 0x64

PIDS: Final[dict[int, Pid]] = {
    **{p.number: p for p in _ROWS},
    **{
        int(n, 16): Pid(int(n, 16), int(length))
        for n, length in zip(_LENGTHS.split()[::2], _LENGTHS.split()[1::2], strict=True)
    },
}


def _fills(payload: bytes, *, long: bool) -> bool:
    at = 1
    while at < len(payload):
        pid = PIDS.get(payload[at])
        if pid is None:
            return False
        at += 1 + (pid.long if long and pid.long else pid.length)
    return at == len(payload)


def parameters(payload: bytes) -> Iterator[tuple[Pid, bytes]]:
    """Yield the PIDs of a service 01 answer (41 …) with their data; stop at what cannot be read with certainty.

    Fuel trims have one byte, or two where banks 3 and 4 exist; the answer as a whole says which. Where neither or
    each reading fills the answer exactly, what comes before the first doubt is kept: a fuel trim, an unknown PID, a
    cut one, or (where none fills it) anything after a PID whose length editions of the standard have changed.
    """
    short, long = _fills(payload, long=False), _fills(payload, long=True)
    at = 1
    while at < len(payload):
        pid = PIDS.get(payload[at])
        if pid is None or (pid.long and short == long):
            return
        length = pid.long if long and pid.long else pid.length
        data = payload[at + 1 : at + 1 + length]
        if len(data) < length:
            return
        yield pid, data
        if pid.number >= FIRST_REVISED and not (short or long):
            return
        at += 1 + length


def values(pid: Pid, data: bytes) -> Iterator[tuple[Field, float]]:
    """Yield the fields that are present in a PID's data with their values in the units of J1979."""
    whole = int.from_bytes(data, "big")
    bits = 8 * len(data)
    for field in pid.fields:
        if field.start + field.bits > bits:
            continue
        if field.gate >= 0 and whole >> (bits - 1 - field.gate) & 1 != field.gate_value:
            continue
        raw = whole >> (bits - field.start - field.bits) & ((1 << field.bits) - 1)
        if raw == field.absent:
            continue
        if field.signed and raw >> (field.bits - 1):
            raw -= 1 << field.bits
        yield field, raw * field.num / field.den + field.offset
