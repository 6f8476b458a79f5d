"""Which devices the daemon reads: one table in `agent.toml` for each kind of driver, one name for each device.

A table of kinds turns settings into drivers; nothing is opened here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from agent.errors import ConfigError
from drivers import Driver, driver_class
from drivers.can.wire import CanSettings
from drivers.elm.settings import Elm327Settings

NONE: Final = (
    "no device is configured; add a table for each to agent.toml, e.g. [drivers.gps.main] for gpsd on this machine, "
    '[drivers.canbus.can0] with channel = "can0", [drivers.elm327.obd] with port = "/dev/rfcomm0"'
)


@dataclass(frozen=True, slots=True)
class GpsSettings:
    """A satellite receiver behind gpsd."""

    host: str = "127.0.0.1"
    port: int = 2947
    device: str = ""  # one receiver where gpsd has several; "" takes all
    stale_s: float = 5.0  # no report for so long is told
    silent_s: float = 30.0  # nothing sensible from gpsd for so long: connect again
    receiver_delay_s: float = 0.0  # from fix to first byte (data sheet; u-blox NMEA about 0.05)


@dataclass(frozen=True, slots=True)
class ImuSettings:
    """An inertial sensor behind the kernel's Industrial I/O."""

    device: str = ""  # "iio:device0" or the sensor's name; "" takes the first accelerometer
    rate_hz: float = 100.0
    range_g: float = 16.0  # the narrowest that reaches it, else the widest; what a collision is measured with
    batch_s: float = 0.1
    trigger: str = ""  # for devices without their own
    poll_hz: float = 10.0  # for devices without a buffer
    silent_s: float = 5.0  # no sample for so long is trouble
    sysfs: Path = Path("/sys/bus/iio/devices")  # where the kernel, or somebody who speaks like it, shows devices …
    dev: Path = Path("/dev")  # … and their buffers


@dataclass(frozen=True, slots=True)
class PowerSettings:
    """Supply voltage and ignition, as the kernel shows them; the board's temperature is found by itself."""

    voltage: str = ""  # "supply:NAME", "hwmon:CHIP/in1" or "iio:CHIP/voltage0"
    voltage_factor: float = 1.0  # undoes a divider before the converter
    ignition: str = ""  # "gpio:pinctrl-rp1/17" (label of the chip, or gpiochip0) or "supply:NAME"
    ignition_active_low: bool = False
    debounce_ms: int = 20  # of the ignition line
    period_s: float = 1.0  # between two looks
    sysfs: Path = Path("/sys")
    dev: Path = Path("/dev")


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """Recordings in place of devices, merged by time; not together with devices."""

    files: tuple[Path, ...] = ()
    profile: str = ""  # vehicle profile; "" is found from the first frames
    pace: float = 1.0  # 1 real time, N that many times as fast, 0 as fast as it goes

    def __post_init__(self) -> None:
        """Refuse an empty or backward replay."""
        if not self.files or self.pace < 0:
            raise ValueError("files must name a recording, and pace be 0 or more")


@dataclass(frozen=True, slots=True)
class DriverTables:
    """The devices by kind and name."""

    canbus: dict[str, CanSettings] = field(default_factory=dict)
    obdcan: dict[str, CanSettings] = field(default_factory=dict)
    elm327: dict[str, Elm327Settings] = field(default_factory=dict)
    gps: dict[str, GpsSettings] = field(default_factory=dict)
    imu: dict[str, ImuSettings] = field(default_factory=dict)
    power: dict[str, PowerSettings] = field(default_factory=dict)
    replay: dict[str, ReplaySettings] = field(default_factory=dict)


def _of_can(cls: Any, settings: CanSettings, folder: Path) -> Driver:
    driver: Driver = cls(settings, folder)
    return driver


def _of_elm(cls: Any, settings: Elm327Settings, folder: Path) -> Driver:
    driver: Driver = cls(settings)
    return driver


def _of_gps(cls: Any, settings: GpsSettings, folder: Path) -> Driver:
    driver: Driver = cls(
        settings.host,
        settings.port,
        settings.device or None,
        stale_s=settings.stale_s,
        silent_s=settings.silent_s,
        receiver_delay_s=settings.receiver_delay_s,
    )
    return driver


def _of_imu(cls: Any, settings: ImuSettings, folder: Path) -> Driver:
    driver: Driver = cls(
        settings.device or None,
        rate_hz=settings.rate_hz,
        range_g=settings.range_g,
        batch_s=settings.batch_s,
        trigger=settings.trigger or None,
        poll_hz=settings.poll_hz,
        silent_s=settings.silent_s,
        sysfs=settings.sysfs,
        dev=settings.dev,
    )
    return driver


def _of_power(cls: Any, settings: PowerSettings, folder: Path) -> Driver:
    driver: Driver = cls(
        voltage=settings.voltage or None,
        voltage_factor=settings.voltage_factor,
        ignition=settings.ignition or None,
        ignition_active_low=settings.ignition_active_low,
        debounce_ms=settings.debounce_ms,
        period_s=settings.period_s,
        sysfs=settings.sysfs,
        dev=settings.dev,
    )
    return driver


def _of_replay(cls: Any, settings: ReplaySettings, folder: Path) -> Driver:
    from drivers.decode.decode import Decode
    from drivers.decode.profile import load_profile

    profile = load_profile(settings.profile, folder) if settings.profile else None
    driver: Driver = cls(list(settings.files), Decode(profile, folder), settings.pace or None)
    return driver


_MAKERS: Final[dict[str, Callable[[Any, Any, Path], Driver]]] = {
    "canbus": _of_can,
    "obdcan": _of_can,
    "elm327": _of_elm,
    "gps": _of_gps,
    "imu": _of_imu,
    "power": _of_power,
    "replay": _of_replay,
}


def makers(tables: DriverTables, folder: Path) -> list[Callable[[], Driver]]:
    """Return for each configured device what makes its driver; `folder` holds profiles and DBC files.

    Raises ConfigError when two tables name one device or one wire, or recordings stand beside devices.
    """
    found: list[Callable[[], Driver]] = []
    places: dict[str, str] = {}
    wires: dict[str, str] = {}
    for kind in fields(tables):
        for name, settings in getattr(tables, kind.name).items():
            make = _maker(kind.name, settings, folder)
            table = f"drivers.{kind.name}.{name}"
            device = make().name
            if device in places:
                raise ConfigError(f"{table} and {places[device]} both read {device}; remove one")
            wire = _wire(settings)
            if wire and wire in wires:
                raise ConfigError(
                    f"{wires[wire]} and {table} both read {wire}: all on it would count twice; remove one"
                    " (obdcan reads all that canbus reads, and asks besides)"
                )
            places[device] = wires[wire] = table
            found.append(make)
    if tables.replay and len(found) > 1:
        raise ConfigError("drivers.replay stands alone: put all recordings into one table, and remove the devices")
    return found


def _wire(settings: Any) -> str:
    """Return the wire that only one device may read, "" where several may."""
    if isinstance(settings, Elm327Settings):
        return settings.port
    if isinstance(settings, CanSettings):
        return settings.channel if settings.interface == "slcan" else f"{settings.interface} {settings.channel}"
    return ""


def _maker(kind: str, settings: Any, folder: Path) -> Callable[[], Driver]:
    return lambda: _MAKERS[kind](driver_class(kind), settings, folder)


def recording_start_ns(make: Callable[[], Driver]) -> int | None:
    """Return the UTC of a recording's t = 0, where its files say it; raise DriverError or RecordingError."""
    from drivers.replay import Replay

    recording = make()
    assert isinstance(recording, Replay)
    recording.open()
    recording.close()
    return recording.recording.start_utc_ns
