"""Each ELM327: is it there, what is it and what does it lack, does the car answer, how fast and how well."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from agent import clock
from agent.channels import number
from agent.clock import NS_PER_S
from agent.doctor.can import without
from agent.doctor.finding import Facts, Finding, ill, well
from agent.doctor.power import judged
from agent.doctor.seen import Seen
from agent.errors import DriverError
from agent.power.signs import HIGH_V
from drivers import Driver
from drivers.elm327 import Elm327

LISTEN_S: Final = 3.0  # of polling, once the car answers
FIND_S: Final = 9.0  # for a car to be found, the adapter's own search of all protocols included
SLOW_HZ: Final = 1.0  # of speed: what is slower finds no harsh braking
SPEED: Final = number("Obd.Speed")
SPEED_PID: Final = 0x0D
VOLTAGE: Final = number("Power.Voltage")
PROTOCOLS: Final = {
    "1": "J1850 PWM", "2": "J1850 VPW", "3": "ISO 9141-2", "4": "KWP2000", "5": "KWP2000", "6": "CAN 11 bit 500k",
    "7": "CAN 29 bit 500k", "8": "CAN 11 bit 250k", "9": "CAN 29 bit 250k",
}  # fmt: skip
# What the adapter reported -> the row of advice, the most telling first (drivers.elm.reply says what each means)
_REPORTS: Final = (
    ("BUS BUSY", "adapter_bus_trouble"),
    ("BUS ERROR", "adapter_bus_trouble"),
    ("CAN ERROR", "adapter_bus_trouble"),
    ("FB ERROR", "adapter_bus_trouble"),
    ("BUS INIT", "adapter_no_car"),
    ("UNABLE TO CONNECT", "adapter_no_car"),
    ("NOT CONNECTED", "adapter_no_car"),
    ("NO DATA", "adapter_no_car"),
)
_UNSTEADY: Final = (
    "resets", "resyncs", "unreadable_lines", "foreign_answers", "BUFFER FULL", "DATA ERROR", "<DATA ERROR", "<RX ERROR",
    "STOPPED", "LV RESET", "RESTARTED", "ERR", "ERR94", "OUT OF STEP",
)  # fmt: skip
UNSTEADY_MOST: Final = 2  # in a few seconds: one of each is a bad moment
_CAUSES: Final = (
    ("no adapter answers", "adapter_silent"),
    ("after its reset", "adapter_silent"),
    ("needs a reset again", "adapter_unsteady"),
    ("Permission denied", "not_permitted"),
    ("could not exclusively lock", "adapter_busy"),
    ("Resource temporarily unavailable", "adapter_busy"),
    ("cannot open", "adapter_missing"),
    ("is gone", "adapter_missing"),
)


def cause_of(error: str) -> str:
    """Return the code of what the driver complains of."""
    return next((code for words, code in _CAUSES if words in error), "adapter_trouble")


def devices(seen: Seen) -> list[Callable[[Seen], Iterator[Finding]]]:
    """Return what judges each configured adapter."""
    return [partial(_adapter, driver) for driver in seen.drivers("elm327")]


def _adapter(driver: Driver, seen: Seen) -> Iterator[Finding]:
    assert isinstance(driver, Elm327)
    return _of_daemon(seen, driver.name) if seen.held else _ourselves(seen, driver)


# what the daemon knows


def _of_daemon(seen: Seen, name: str) -> Iterator[Finding]:
    device = seen.device(name)
    trouble = without(seen, device, name, "adapter.answers")
    if trouble is not None:
        yield trouble
        return
    assert device is not None
    if device.state == "lost":
        yield ill("fail", "adapter.answers", cause_of(device.error), device.error, device=name, port=name[7:])
        return
    known = device.facts.get(f"{name}:adapter", {})
    yield from _kind(known.get("name", ""), known.get("baud", ""), known.get("lacks", ""), name, "clone" in known)
    both = seen.two(name)
    if both is None:
        yield ill("unknown", "adapter.car", "agent_not_asked", "the agent did not answer again", device=name)
        return
    first, second, seconds = both
    grown = {k: n - first.counts.get(k, 0) for k, n in second.counts.items() if n > first.counts.get(k, 0)}
    protocol = known.get("protocol", "")
    samples = (second.samples - first.samples) / seconds
    if not protocol or samples <= 0:
        yield _no_car(second.counts, name)
        return
    facts: Facts = {"protocol": protocol, "samples_s": round(samples, 1)}
    vin = device.facts.get(f"{name}:vin", {}).get("vin", "")
    text = f"{PROTOCOLS.get(protocol, protocol)}, {samples:.0f} values a second" + (f", VIN {vin}" if vin else "")
    yield well("adapter.car", text, device=name, **facts)
    yield from _steady(grown, name)
    if device.healths.get(f"{name}:memory") == "degraded":
        yield ill("warn", "adapter.memory", "adapter_memory", "this car is not remembered", device=name)


# opened by ourselves


def _ourselves(seen: Seen, driver: Elm327) -> Iterator[Finding]:
    name, port = driver.name, driver.settings.port
    if port.startswith("/") and not Path(port).exists():
        yield ill("fail", "adapter.answers", "adapter_missing", f"{port} is not there", device=name, port=port)
        return
    seen.release.append(driver.close)
    try:
        driver.open()
    except DriverError as error:
        driver.close()
        yield _unopened(seen, driver, error)
        return
    try:
        yield from _polled(seen, driver)
    finally:
        driver.close()


def _unopened(seen: Seen, driver: Elm327, error: DriverError) -> Finding:
    """Say why, and whether it answers at another rate than the configured one."""
    name, port, baud = driver.name, driver.settings.port, driver.settings.baud
    code = cause_of(str(error))
    if code == "adapter_silent" and baud:
        other = driver.at_any_rate()
        seen.release.append(other.close)
        try:
            other.open()
        except DriverError:
            return ill("fail", "adapter.answers", code, str(error), device=name, port=port)
        finally:
            other.close()
        found = other.adapter.baud
        text = f"answers at {found} baud, not at {baud}"
        return ill("fail", "adapter.answers", "adapter_wrong_rate", text, device=name, port=port, baud=found)
    return ill("fail", "adapter.answers", code, str(error), device=name, port=port)


def _polled(seen: Seen, driver: Elm327) -> Iterator[Finding]:
    name = driver.name
    begun_ns = clock.monotonic_ns()
    car_ns: int | None = None
    times: list[int] = []
    volts: float | None = None
    values = 0
    trouble = ""
    while seen.left_s() > 0:
        now_ns = clock.monotonic_ns()
        if driver.vehicle is not None and car_ns is None:
            car_ns = now_ns
        if now_ns - (car_ns or begun_ns) > (LISTEN_S if car_ns else FIND_S) * NS_PER_S:
            break
        try:
            block = driver.read(0.25)
        except DriverError as error:
            trouble = str(error)
            break
        values += len(block)
        times += block[block["channel"] == SPEED]["t"].tolist()
        found = block[block["channel"] == VOLTAGE]["value"]
        volts = float(found[-1]) if len(found) else volts
    told = driver.adapter.told()
    if trouble:
        yield ill("fail", "adapter.answers", cause_of(trouble), trouble, device=name, port=driver.settings.port)
        return
    yield from _kind(told["name"], told["baud"], told["lacks"], name, "clone" in told)
    if volts is not None:
        half = 2.0 if volts > HIGH_V else 1.0
        yield judged(volts / half, None, "adapter.supply", seen, volts)
    car = driver.vehicle
    if car is None:
        yield _no_car(driver.counts, name)
        return
    seconds = max(0.1, (clock.monotonic_ns() - (car_ns or begun_ns)) / NS_PER_S)
    rate = len(times) / seconds
    facts: Facts = {
        "protocol": car.protocol,
        "pids": sum(len(pids) for pids in car.units.values()),
        "polled": len(driver.polled),
        "speed_hz": round(rate, 2),
        "latency_ms": round(driver.latency_ns / 1e6, 1),
        "vin": car.vin or "",
    }
    words = (
        f"{PROTOCOLS.get(car.protocol, car.protocol)}, answers in {driver.latency_ns / 1e6:.0f} ms, "
        f"{len(driver.polled)} values, speed {rate:.1f} times a second"
    )
    if SPEED_PID in driver.polled and rate < SLOW_HZ:
        yield ill("warn", "adapter.car", "adapter_slow", words, device=name, **facts)
    else:
        yield well("adapter.car", words, device=name, **facts)
    yield from _vin(car.vin, car.vin_valid, name, seen)
    yield from _steady(driver.counts, name)
    if driver.memory_trouble:
        yield ill("warn", "adapter.memory", "adapter_memory", driver.memory_trouble, device=name)


# in words


def _kind(model: str, baud: str, lacks: str, name: str, clone: bool) -> Iterator[Finding]:
    text = f"{model or 'an adapter without a name'} at {baud} baud" if baud else "answers"
    facts: Facts = {"name": model, "baud": baud, "lacks": lacks, "clone": clone}
    if clone or lacks:
        text += (", a clone" if clone else "") + (f": {lacks}" if lacks else "")
        yield ill("warn", "adapter.answers", "adapter_clone", text, device=name, **facts)
    else:
        yield well("adapter.answers", text, device=name, **facts)


def _no_car(counts: Mapping[str, int], name: str) -> Finding:
    """Say that no car answers, and what the adapter said instead."""
    said, code = next(((words, code) for words, code in _REPORTS if counts.get(words)), ("", "adapter_no_car"))
    text = "no control unit answers" + (f": {said}" if said else "")
    return ill("fail", "adapter.car", code, text, device=name, said=said)


def _vin(vin: str | None, valid: bool, name: str, seen: Seen) -> Iterator[Finding]:
    configured = seen.settings.vehicle.vin if seen.settings is not None else ""
    if vin and not valid:
        yield ill("warn", "adapter.vin", "vin_invalid", f"{vin} is no valid VIN", device=name, vin=vin)
    elif vin and configured and vin != configured:
        text = f"{vin}, and {configured} is configured"
        yield ill("fail", "adapter.vin", "vin_other", text, device=name, vin=vin, configured=configured)
    elif vin:
        yield well("adapter.vin", vin, device=name, vin=vin)


def _steady(counts: Mapping[str, int], name: str) -> Iterator[Finding]:
    met = {what: counts[what] for what in _UNSTEADY if counts.get(what, 0) > 0}
    if sum(met.values()) > UNSTEADY_MOST:
        text = ", ".join(f"{what.lower().replace('_', ' ')} {n}" for what, n in met.items())
        yield ill("warn", "adapter.steady", "adapter_unsteady", text, device=name, **met)
    else:
        yield well("adapter.steady", "answers without trouble", device=name, **met)
