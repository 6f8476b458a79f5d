"""Which wire a command at the vehicle uses, and how it gets it: of the configuration or named, borrowed or opened.

Nobody opens a wire that the daemon holds (docs/decisions/0280): where the daemon reads the device, it is asked to lend
it; where no daemon runs, or it does not know the device, the wire is opened directly.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from agent.devices import DriverTables
from agent.errors import ConfigError, near_names
from agent.local import client
from agent.local.messages import MAX_LEND_S
from agent.settings import load_agent
from drivers.can.wire import CanSettings
from drivers.elm.settings import Elm327Settings

Settings = Elm327Settings | CanSettings
Check = Callable[[], None]

SERIAL: Final = ("/dev/tty", "/dev/serial/", "/dev/pts/", "/dev/rfcomm", "socket://")
_KINDS: Final = ("elm327", "obdcan", "canbus")


@dataclass(frozen=True, slots=True)
class Device:
    """One wire; `name` is the driver's, as the daemon knows it, `table` where it is configured, '' for a named one."""

    name: str
    settings: Settings
    table: str = ""

    @property
    def wire(self) -> str:
        """The port or interface, for people."""
        return self.settings.port if isinstance(self.settings, Elm327Settings) else self.settings.channel

    @property
    def shared(self) -> bool:
        """Whether others may read it beside the daemon: sockets of the kernel's CAN interfaces may."""
        return isinstance(self.settings, CanSettings) and self.settings.interface == "socketcan"


def configured(config: Path | None) -> list[Device]:
    """Return the diagnostic devices and buses of agent.toml, adapters first; raise ConfigError."""
    tables: DriverTables = load_agent(config).drivers
    found = []
    for kind in _KINDS:
        for name, settings in getattr(tables, kind).items():
            device = f"elm327:{settings.port}" if kind == "elm327" else f"{kind}:{settings.bus_name}"
            found.append(Device(device, settings, f"drivers.{kind}.{name}"))
    return found


def for_questions(config: Path | None, device: str = "", port: str = "", channel: Device | None = None) -> Device:
    """Choose what a vehicle is asked over: `port` or `channel` if named, else `device`, else the first that may ask."""
    known = configured(config) if config is not None or device or not (port or channel) else _known(config)
    if port:
        same = [d for d in known if isinstance(d.settings, Elm327Settings) and d.settings.port == port]
        return same[0] if same else Device(f"elm327:{port}", Elm327Settings(port=port))
    if channel is not None:
        # who names a bus to ask on it, wants it asked: only requests that read can be sent
        chosen = _as_known(channel, known)
        assert isinstance(chosen.settings, CanSettings)
        return replace(chosen, settings=replace(chosen.settings, transmit=True))
    if device:
        return _named(device, known)
    asking = [d for d in known if isinstance(d.settings, Elm327Settings) or d.settings.transmit]
    if not asking:
        raise ConfigError(
            "no device of agent.toml may ask the vehicle; name one: --port /dev/ttyUSB0 for an ELM327 adapter,"
            " --channel can0 for a CAN interface"
        )
    return asking[0]


def for_frames(config: Path | None, device: str = "", channel: Device | None = None) -> Device:
    """Choose the bus to listen on: `channel` if named, else `device`, else the first bus of agent.toml."""
    known = configured(config) if config is not None or device or channel is None else _known(config)
    known = [d for d in known if isinstance(d.settings, CanSettings)]
    if channel is not None:
        chosen = _as_known(channel, known)
    elif device:
        chosen = _named(device, known)
    elif known:
        chosen = known[0]
    else:
        raise ConfigError(
            "no CAN bus in agent.toml; name one: --channel can0, --channel /dev/ttyACM0, or give a recording"
        )
    assert isinstance(chosen.settings, CanSettings)
    return replace(chosen, settings=replace(chosen.settings, transmit=False))


def named_channel(channel: str, interface: str, bit_rate: int) -> Device | None:
    """Return the bus that the command line names: a serial line is an slcan adapter, all else SocketCAN."""
    if not channel:
        if interface or bit_rate:
            raise ConfigError("--interface and --bit-rate belong to --channel; name the channel too, e.g. can0")
        return None
    kind = interface or ("slcan" if channel.startswith(SERIAL) or "/" in channel else "socketcan")
    settings = CanSettings(interface=kind, channel=channel, bit_rate=bit_rate)
    return Device(f"canbus:{settings.bus_name}", settings)


@contextmanager
def held(device: Device, store: Path, purpose: str, *, asks: bool, seconds: float = MAX_LEND_S) -> Iterator[Check]:
    """Have `device` for us inside this block: lent by the daemon where it reads it. Yields what says it still is ours.

    Raises LocalError where the daemon refuses, or cannot be asked although it runs.
    """
    if not asks and device.shared:
        yield lambda: None
        return
    try:
        known = client.status(store).devices
    except client.NoDaemonError:
        yield lambda: None
        return
    if all(d.name != device.name for d in known):
        yield lambda: None
        return
    with client.lend(store, device.name, purpose, min(seconds, MAX_LEND_S)) as borrowed:
        yield borrowed.check


def _known(config: Path | None) -> list[Device]:
    """Return what is configured, nothing where the configuration is wrong: a wire that was named works without."""
    try:
        return configured(config)
    except ConfigError:
        return []


def _as_known(channel: Device, known: list[Device]) -> Device:
    """Return a named channel under the name that agent.toml has for it, with what was said about it beside its name."""
    assert isinstance(channel.settings, CanSettings)
    for device in known:
        ours = device.settings
        if isinstance(ours, CanSettings) and (ours.interface, ours.channel) == (
            channel.settings.interface,
            channel.settings.channel,
        ):
            rate = channel.settings.bit_rate or ours.bit_rate
            return replace(device, settings=replace(ours, bit_rate=rate))
    return channel


def _named(name: str, known: list[Device]) -> Device:
    for device in known:
        if name in (device.name, device.table, device.table.rpartition(".")[2]):
            return device
    names = [d.table.rpartition(".")[2] for d in known]
    raise ConfigError(
        f"device '{name}' is not in agent.toml{near_names(name, names)}; known: {', '.join(names) or '-'}"
    )
