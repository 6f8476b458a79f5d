"""Supply voltage, ignition, and how the board bears it: what the kernel shows of power, read a few times a second.

Voltages come from a power supply, a hwmon chip (INA219, INA226) or an IIO converter (ADS1115), all in sysfs; ignition
from a GPIO line or from a supply's `online`; temperature from the thermal zones; throttling from the Raspberry Pi's
firmware. No program is started and no library is needed.
"""

import re
import select
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from agent.blocks import Block, empty_block, make_block
from agent.channels import BY_NAME
from agent.clock import NS_PER_S, monotonic_ns, wait
from agent.errors import ConfigError, DriverError
from agent.records import Health
from drivers.facts import Facts
from drivers.gpio import Line, chip_called
from drivers.sysfs import number_of, read_text, try_number, try_text

SLOW_NS: Final = 10 * NS_PER_S  # between two looks at the board itself
HOT_C: Final = 80.0  # from here on a Raspberry Pi slows down (raspberrypi.com, "frequency management")
THROTTLED_FILES: Final = (
    "devices/platform/soc/soc:firmware/get_throttled",
    "devices/platform/soc:firmware/get_throttled",
)
# Bits of get_throttled that are true now (raspberrypi.com, vcgencmd get_throttled); 16..19 say the same of the past.
THROTTLED_NOW: Final = {1: "its supply voltage is low", 2: "its clock is capped", 4: "it is throttled", 8: "it is hot"}
_GPIO: Final = re.compile(r"gpio:([\w.:@-]+)/(\d{1,3})")
_VOLTAGE: Final = re.compile(r"supply:[\w.-]+|hwmon:[\w.-]+/in\d+|iio:[\w.-]+/voltage\d+")
_ONLINE: Final = re.compile(r"supply:[\w.-]+")


class _Reading(NamedTuple):
    """An attribute in sysfs and what makes volts of its number."""

    path: Path
    offset: float
    scale: float


class Power:
    """Read what is configured, every `period_s`; edges of an ignition line at once.

    `voltage` is "supply:NAME", "hwmon:CHIP/in1" or "iio:CHIP/voltage0"; `voltage_factor` undoes a divider before it.
    `ignition` is "gpio:CHIP/17", CHIP being a label or a device, or "supply:NAME". Temperature and throttling of the
    board are found by themselves.
    """

    def __init__(
        self,
        *,
        voltage: str | None = None,
        voltage_factor: float = 1.0,
        ignition: str | None = None,
        ignition_active_low: bool = False,
        debounce_ms: int = 20,
        period_s: float = 1.0,
        sysfs: Path = Path("/sys"),
        dev: Path = Path("/dev"),
    ) -> None:
        if voltage is not None and not _VOLTAGE.fullmatch(voltage):
            raise ConfigError(f"power: voltage '{voltage}' is none of supply:NAME, hwmon:CHIP/in1, iio:CHIP/voltage0")
        if ignition is not None and not (_GPIO.fullmatch(ignition) or _ONLINE.fullmatch(ignition)):
            raise ConfigError(f"power: ignition '{ignition}' is none of gpio:CHIP/17, supply:NAME")
        self.name = "power"
        self._voltage, self._factor = voltage, voltage_factor
        self._ignition, self._active_low, self._debounce_ms = ignition, ignition_active_low, debounce_ms
        self._period_ns = round(period_s * NS_PER_S)
        self._sysfs, self._dev = sysfs, dev
        self._opened = False
        self._closing = threading.Event()
        self._volts: _Reading | None = None
        self._online: Path | None = None
        self._line: Line | None = None
        self._edge: int | None = None
        self._temperature: Path | None = None
        self._throttled: Path | None = None
        self._due_ns = self._slow_due_ns = self._last_ns = 0
        self._samples: list[tuple[int, int, float]] = []
        self._facts = Facts()
        self._counts = dict.fromkeys(("bad_values", "out_of_range", "edges", "lost_edges"), 0)

    def open(self) -> None:
        """Find the sources."""
        self.close()
        self._closing.clear()
        self._volts = self._find_voltage()
        gpio = _GPIO.fullmatch(self._ignition or "")
        if gpio is not None:
            chip, line = gpio.groups()
            found = chip_called(self.name, chip, self._dev)
            self._line = Line(self.name, found, int(line), self._active_low, self._debounce_ms)
            self._edge = None
        elif self._ignition is not None:
            self._online = self._supply(self._ignition) / "online"
            read_text(self.name, self._online)
        self._temperature = self._find_temperature()
        self._throttled = self._find_throttled()
        if not (self._volts or self._line or self._online or self._temperature or self._throttled):
            raise DriverError(f"{self.name}: nothing to read below {self._sysfs}: name a voltage or ignition source")
        self._due_ns = self._slow_due_ns = monotonic_ns()
        self._opened = True
        self._facts.say(self._due_ns, self.name, "ok", "the power sources are there")

    def read(self, timeout_s: float) -> Block:
        """Return the samples of one look or of ignition edges, an empty block after `timeout_s`."""
        if not self._opened:
            raise DriverError(f"{self.name}: read: not open")
        now_ns = monotonic_ns()
        missing_s = max((self._due_ns - now_ns) / NS_PER_S, 0.0)
        wait_s = min(missing_s, max(timeout_s, 0.0))
        if self._line is not None:
            self._edges(self._line, wait_s)
        elif wait_s > 0:
            wait(self._closing, wait_s)
        now_ns = monotonic_ns()
        if now_ns >= self._due_ns and not self._closing.is_set():
            self._due_ns = max(self._due_ns + self._period_ns, now_ns)
            self._look(now_ns)
        if not self._samples:
            return empty_block()
        block, self._samples = make_block(self._samples), []
        return block

    def close(self) -> None:
        """Release the ignition line."""
        self._closing.set()
        self._opened = False
        if self._line is not None:
            self._line.close()
        self._line = self._online = self._volts = None

    def health(self) -> list[Health]:
        """Return what stands: the sources, and how the board is; each with all counters."""
        return self._facts.standing(self.counts)

    @property
    def counts(self) -> dict[str, int]:
        """What was met since the driver was made."""
        return dict(self._counts)

    def _look(self, now_ns: int) -> None:
        if self._volts is not None:
            raw = self._number(self._volts.path)
            if raw is not None:
                self._put(now_ns, "Power.Voltage", (raw + self._volts.offset) * self._volts.scale * self._factor)
        if self._line is not None:
            self._put(now_ns, "Power.Ignition", float(self._line.active()))
        elif self._online is not None:
            online = self._number(self._online)
            if online is not None:
                self._put(now_ns, "Power.Ignition", float((online != 0) != self._active_low))
        if now_ns >= self._slow_due_ns:
            self._slow_due_ns = now_ns + SLOW_NS
            self._look_at_board(now_ns)

    def _look_at_board(self, now_ns: int) -> None:
        troubles = []
        if self._temperature is not None and (milli := try_number(self._temperature)) is not None:
            degrees = milli / 1000.0
            self._put(now_ns, "Power.BoardTemperature", degrees)
            if degrees >= HOT_C:
                troubles.append(f"it has {degrees:.0f} °C")
        if self._throttled is not None and (bits := _hexadecimal(try_text(self._throttled))) is not None:
            now = [what for bit, what in THROTTLED_NOW.items() if bits & bit]
            self._put(now_ns, "Power.Throttled", float(bool(now)))
            troubles += now
        if troubles:
            self._facts.say(now_ns, f"{self.name}:board", "degraded", f"the board suffers: {', '.join(troubles)}")
        elif self._temperature is not None or self._throttled is not None:
            self._facts.say(now_ns, f"{self.name}:board", "ok", "the board is well")

    def _edges(self, line: Line, wait_s: float) -> None:
        poll = select.poll()
        assert line.fd is not None
        poll.register(line.fd, select.POLLIN)
        if not poll.poll(wait_s * 1000):
            return
        for edge in line.edges():
            if self._edge is not None:
                self._counts["lost_edges"] += max(edge.number - self._edge - 1, 0)
            self._edge = edge.number
            self._counts["edges"] += 1
            self._put(min(edge.t_ns, monotonic_ns()), "Power.Ignition", float(edge.active))

    def _number(self, path: Path) -> float | None:
        value = number_of(read_text(self.name, path))
        self._counts["bad_values"] += value is None
        return value

    def _put(self, t_ns: int, name: str, value: float) -> None:
        channel = BY_NAME[name]
        if channel.low <= value <= channel.high:
            self._last_ns = max(self._last_ns, t_ns)
            self._samples.append((self._last_ns, channel.number, value))
        else:
            self._counts["out_of_range"] += 1

    def _supply(self, spec: str) -> Path:
        return self._sysfs / "class" / "power_supply" / spec.partition(":")[2]

    def _find_voltage(self) -> _Reading | None:
        if self._voltage is None:
            return None
        kind, _, rest = self._voltage.partition(":")
        if kind == "supply":
            reading = _Reading(self._supply(self._voltage) / "voltage_now", 0.0, 1e-6)  # µV
        else:
            chip, _, attribute = rest.partition("/")
            root = self._sysfs / ("class/hwmon" if kind == "hwmon" else "bus/iio/devices")
            folder = next((f for f in sorted(_folders(root)) if chip in (f.name, try_text(f / "name"))), None)
            if folder is None:
                seen = ", ".join(try_text(f / "name") or f.name for f in sorted(_folders(root))) or "none"
                raise DriverError(f"{self.name}: chip '{chip}' is not below {root}; chips there: {seen}")
            if kind == "hwmon":
                reading = _Reading(folder / f"{attribute}_input", 0.0, 1e-3)  # mV
            else:
                stem = f"in_{attribute}"
                scale = try_number(folder / f"{stem}_scale") or try_number(folder / "in_voltage_scale")
                if scale is None:
                    raise DriverError(f"{self.name}: {folder / stem}_scale is missing or no number")
                offset = try_number(folder / f"{stem}_offset") or try_number(folder / "in_voltage_offset") or 0.0
                reading = _Reading(folder / f"{stem}_raw", offset, scale * 1e-3)  # (raw + offset) × scale mV
        read_text(self.name, reading.path)
        return reading

    def _find_temperature(self) -> Path | None:
        """Prefer the processor's thermal zone; boards name it cpu-thermal, cpu_thermal, x86_pkg_temp …"""
        zones = [z for z in sorted(_folders(self._sysfs / "class" / "thermal")) if z.name.startswith("thermal_zone")]
        zones.sort(key=lambda z: "cpu" not in (try_text(z / "type") or ""))
        return next((z / "temp" for z in zones if try_number(z / "temp") is not None), None)

    def _find_throttled(self) -> Path | None:
        """Take the firmware's file, else the undervoltage alarm of the mainline kernel's driver."""
        alarms = (
            f / "in0_lcrit_alarm"
            for f in _folders(self._sysfs / "class" / "hwmon")
            if try_text(f / "name") == "rpi_volt"
        )
        candidates = [*(self._sysfs / file for file in THROTTLED_FILES), *alarms]
        return next((path for path in candidates if _hexadecimal(try_text(path)) is not None), None)


def _folders(root: Path) -> Iterator[Path]:
    return root.glob("*/")


def _hexadecimal(text: str | None) -> int | None:
    """Read the firmware's bits, written as bare hexadecimal: '50005'."""
    return int(text, 16) if text is not None and re.fullmatch(r"(0x)?[0-9a-fA-F]{1,8}", text) else None
