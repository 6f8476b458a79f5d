"""Supply voltage, what the board's firmware says of its own supply, heat, and whether the supply was ever cut."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.channels import number
from agent.clock import NS_PER_S
from agent.doctor.finding import Facts, Finding, ill, lasting, well
from agent.doctor.seen import Seen
from agent.errors import DriverError, StoreError
from agent.guard.settings import GuardSettings
from agent.power.settings import PowerRules
from agent.power.signs import HIGH_V
from agent.records import Event
from drivers import Driver
from drivers.power import THROTTLED_FILES
from drivers.sysfs import try_number, try_text

VOLTAGE: Final = number("Power.Voltage")
# What no battery and no alternator gives, of 12 V: below, a divider's factor is wrong or a wire is off; above, a
# regulator is broken (14.4-14.8 V is a charge, ISO 16750-2 4.3.1 has 18 V as overvoltage of a failed regulator).
WIRE_V: Final = 6.0
OVER_V: Final = 15.5
# Bits of get_throttled: now, and 16 higher since the board started (raspberrypi.com, vcgencmd get_throttled)
UNDER_VOLTAGE: Final = 0x1
SLOWED: Final = {0x2: "its clock is capped", 0x4: "it is throttled", 0x8: "it is at its soft limit of heat"}
CUTS: Final = 3  # boots of a technician's interest
LOOKS_S: Final = 3.0  # for a first sample
LATE_S: Final = 300.0  # after [power] standing_s the box sleeps, whatever the signs say


def examine(seen: Seen) -> Iterator[Finding]:
    """Judge the car's supply, the board's, its temperature, and cuts."""
    yield from _supply(seen)
    yield from _board(seen)
    yield from _parking(seen)
    yield from _cuts(seen)


def _supply(seen: Seen) -> Iterator[Finding]:
    """Judge the car's supply by the daemon's or the power driver's voltage; an ELM327's is judged with the adapter."""
    power = seen.status.power if seen.status is not None else None
    if power is not None and power.volts_of_12 is not None:
        yield judged(power.volts_of_12, power.charging, "power.supply", seen)
        return
    drivers = seen.drivers("power")
    if seen.held:
        text = "the agent has no voltage yet" if drivers else "nothing measures the supply's voltage"
        yield ill("unknown", "power.supply", "voltage_unknown", text)
        return
    for driver in drivers:
        try:
            volts = _measured(driver, seen)
        except DriverError as error:
            yield ill("fail", "power.supply", "power_source", str(error), device=driver.name)
            return
        if volts is not None:
            half = 2.0 if volts > HIGH_V else 1.0
            yield judged(volts / half, None, "power.supply", seen, volts)
            return
    if not seen.drivers("elm327"):
        yield ill("unknown", "power.supply", "voltage_unknown", "nothing measures the supply's voltage")


def _measured(driver: Driver, seen: Seen) -> float | None:
    seen.release.append(driver.close)
    driver.open()
    block = driver.read(min(LOOKS_S, seen.left_s()))
    driver.close()
    values = [] if block is None else block["value"][block["channel"] == VOLTAGE].tolist()
    return float(values[-1]) if values else None


def judged(of_12: float, charging: bool | None, check: str, seen: Seen, volts: float | None = None) -> Finding:
    """Judge a voltage `of_12`, of a 12 V system; `volts` is what was measured where a 24 V system's was halved."""
    guard = (seen.settings.guard if seen.settings is not None else GuardSettings()).supply
    shown = round(volts if volts is not None else of_12, 2)
    running = charging if charging is not None else of_12 >= guard.charging_v
    text = f"{shown:.1f} V" + (", charging" if running else "")
    facts: Facts = {"volts": shown, "charging": running}
    if of_12 < WIRE_V:
        return ill("fail", check, "voltage_implausible", text, **facts)
    if of_12 > OVER_V:
        return ill("fail", check, "voltage_high", text, **facts)
    if of_12 < guard.severe_v:
        return ill("fail", check, "battery_flat", text, **facts)
    if of_12 < guard.minor_v:
        return ill("warn", check, "battery_low", text, **facts)
    return well(check, text, **facts)


def _board(seen: Seen) -> Iterator[Finding]:
    bits = _throttled(seen.context.sysfs)
    if bits is None:
        yield ill("unknown", "power.board", "board_supply_unknown", "this board does not tell of its 5 V supply")
    else:
        slowed = ", ".join(text for bit, text in SLOWED.items() if bits & bit)
        if bits & UNDER_VOLTAGE:
            yield ill("fail", "power.board", "under_voltage", "under-voltage now", bits=f"{bits:#x}")
        elif bits >> 16 & UNDER_VOLTAGE:
            text = "there was under-voltage since it started"
            yield ill("warn", "power.board", "under_voltage_seen", text, bits=f"{bits:#x}")
        else:
            yield well("power.board", "no under-voltage", bits=f"{bits:#x}")
        if slowed:
            yield ill("warn", "power.throttling", "throttled", slowed, bits=f"{bits:#x}")
        elif bits >> 16 & sum(SLOWED):
            text = "the board was slowed down since it started"
            yield ill("warn", "power.throttling", "throttled_seen", text, bits=f"{bits:#x}")
        else:
            yield well("power.throttling", "never slowed down", bits=f"{bits:#x}")
    degrees = _temperature(seen.context.sysfs)
    box = (seen.settings.guard if seen.settings is not None else GuardSettings()).box
    if degrees is None:
        yield ill("unknown", "power.temperature", "temperature_unknown", "this board has no thermometer")
    elif degrees >= box.minor_c:
        state = "fail" if degrees >= box.moderate_c else "warn"
        yield ill(state, "power.temperature", "hot", f"{degrees:.0f} °C", celsius=round(degrees, 1))  # type: ignore[arg-type]
    else:
        yield well("power.temperature", f"{degrees:.0f} °C", celsius=round(degrees, 1))


def _throttled(sysfs: Path) -> int | None:
    """Return the firmware's bits, or the mainline driver's alarm as the bit that it stands for."""
    for file in THROTTLED_FILES:
        text = try_text(sysfs / file)
        if text is not None:
            try:
                return int(text, 16)
            except ValueError:
                continue
    for chip in sorted((sysfs / "class" / "hwmon").glob("*/")):
        if try_text(chip / "name") == "rpi_volt":
            alarm = try_number(chip / "in0_lcrit_alarm")
            return None if alarm is None else UNDER_VOLTAGE * (alarm != 0)
    return None


def _temperature(sysfs: Path) -> float | None:
    """Return °C of the processor's thermal zone, else of the first."""
    zones = sorted((sysfs / "class" / "thermal").glob("thermal_zone*/"))
    zones.sort(key=lambda zone: "cpu" not in (try_text(zone / "type") or ""))
    return next((milli / 1000.0 for zone in zones if (milli := try_number(zone / "temp")) is not None), None)


def _parking(seen: Seen) -> Iterator[Finding]:
    """Tell how the box treats the battery: what keeps a car awake is what flattens it."""
    power = seen.status.power if seen.status is not None else None
    if power is None or seen.status is None:
        return
    rules = seen.settings.power if seen.settings is not None else PowerRules()
    for_s = (seen.status.t_ns - power.since_ns) / NS_PER_S
    words = f"{power.state.replace('_', ' ')} for {lasting(for_s)}"
    facts: Facts = {"state": power.state, "taken_wh": round(power.taken_wh, 2)}
    if power.state == "cut_off":
        yield ill("warn", "power.parking", "cut_off", words, **facts)
    elif power.state == "engine_off" and for_s > rules.standing_s + LATE_S:
        yield ill("warn", "power.parking", "kept_awake", f"{words}, and still awake", **facts)
    else:
        yield well("power.parking", words, **facts)


def _cuts(seen: Seen) -> Iterator[Finding]:
    """Look for drives in which the supply was cut: a plug that is loose, or a box on switched ignition."""
    try:
        with seen.store() as store:
            told = store.records(Event)
    except StoreError:
        return  # the storage says so
    boots = list(dict.fromkeys(stored.boot for stored in told))[-CUTS:]
    cuts = [stored for stored in told if stored.record.kind == "power_lost" and stored.boot in boots]
    if cuts:
        text = f"the supply was cut {len(cuts)} time{'s' if len(cuts) > 1 else ''} while driving"
        yield ill("warn", "power.cuts", "supply_cut", text, times=len(cuts))
    else:
        yield well("power.cuts", "no cut while driving", times=0)
