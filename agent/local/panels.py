"""What the terminal view shows, as lines of text for a given width; pure, so that a test reads what people see.

Meaning is never in a colour alone: every state has its sign and its word. Only the terminal's own colours are used,
so that it can be read on light and on dark.
"""

import textwrap
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from rich.text import Text

from agent.channels import BY_NUMBER, number
from agent.clock import NS_PER_S, iso_utc
from agent.local.messages import Device, Line, Tick, Utc, Value
from agent.local.signals import age, group_of, label_of, lasting, shown, sparkline

HISTORY: Final = 60  # seconds of a sparkline
STALE_S: Final = 5.0
_LOUD: Final = "bold red"
_SIGNS: Final = {"ok": " ", "": " ", "minor": "·", "moderate": "!", "degraded": "!", "severe": "X", "lost": "X"}
_STYLES: Final = {"X": _LOUD, "!": "bold"}
_STATES: Final = {  # of a device: sign, word
    "opening": ("·", "is opened"),
    "open": (" ", "works"),
    "lost": ("X", "LOST"),
    "resting": (" ", "rests"),
    "lent": ("!", "lent"),
    "barred": ("X", "BARRED: a hanging thread holds it"),
    "ended": (" ", "recording over"),
}
_PHASES: Final = {
    "stopped": "stopped",
    "waiting": "waits to connect",
    "connecting": "connects",
    "asking": "asks the receiver",
    "sending": "connected",
}
_TROUBLES: Final = {"offline": "offline", "silent": "receiver silent", "refused": "sync REFUSED"}
_FIRST: Final = tuple(  # of a group, in this order; others follow by number
    number(name)
    for name in (
        "Vehicle.Speed",
        "Vehicle.Powertrain.CombustionEngine.Speed",
        "Obd.Speed",
        "Obd.EngineSpeed",
        "Gnss.FixType",
        "Gnss.Satellites",
        "Gnss.Speed",
    )
)
_ORDER: Final = ("power", "on the bus", "asked by OBD", "satellites", "the box's own sensor", "road", "")
_LEAST_LABEL: Final = 8
_WIDEST_LABEL: Final = 22


class Told(NamedTuple):
    """A line of what happened, and what time it was, in words."""

    when: str
    line: Line


def when(t_ns: int, utc: Utc, now_ns: int) -> str:
    """Say when something was: the time of day in UTC, or how long ago where the time is not known."""
    if utc.offset_ns is not None:
        return iso_utc(t_ns + utc.offset_ns)[11:19]
    return f"-{lasting(max(0.0, (now_ns - t_ns) / NS_PER_S))}"


def header(tick: Tick, width: int) -> list[Text]:
    """Return two lines: which box and what time, and how the car and the way to the receiver are."""
    clock = f"{when(tick.t_ns, tick.utc, tick.t_ns)} UTC" if tick.utc.offset_ns is not None else "time unknown"
    quality = "" if tick.utc.quality == "none" else f" ({tick.utc.quality})"
    first = Text(no_wrap=True)
    first.append("Roadwitness ", "bold")
    right = f"{clock}{quality}"
    first.append(tick.device[: max(0, width - 13 - len(right))].ljust(max(1, width - 12 - len(right))))
    first.append(right)
    parts = []
    speed = tick.fused.speed_mps if tick.fused is not None else None
    if tick.crash:
        parts.append("CRASH IS RECORDED")
    if tick.level != "normal":
        parts.append(f"{tick.level.upper()} LEVEL")
    if tick.power is not None:
        parts.append(tick.power.state.replace("_", " "))
    if speed is not None:
        parts.append(f"{speed * 3.6:.0f} km/h")
    if tick.trip:
        parts.append("trip")
    if tick.power is not None and tick.power.volts_of_12 is not None:
        parts.append(f"{tick.power.volts_of_12:.1f} V")
    bad = [d.name.partition(":")[0] for d in tick.devices if d.state in ("lost", "barred")]
    parts += [f"{bad[0]} LOST"] if len(bad) == 1 else [f"{len(bad)} DEVICES LOST"] if bad else []
    parts.append(_sync_word(tick))
    second = Text(" · ".join(parts), no_wrap=True, style=_LOUD if tick.crash or bad else "")
    second.truncate(width, overflow="ellipsis")
    first.truncate(width)
    return [first, second]


def _sync_word(tick: Tick) -> str:
    if tick.sync is None:
        return "sync rests"
    if tick.sync.trouble:
        return _TROUBLES[tick.sync.trouble]
    return "all sent" if not any(lane.waiting for lane in tick.lanes) else f"{_waiting(tick)} wait"


def _waiting(tick: Tick) -> int:
    return sum(lane.waiting for lane in tick.lanes)


class Signals:
    """The newest values with what they were in the last minute."""

    def __init__(self) -> None:
        self._history: dict[int, deque[float]] = {}

    def take(self, tick: Tick) -> None:
        """Note the values of a tick."""
        for value in tick.values:
            if value.age_s < STALE_S:
                self._history.setdefault(value.channel, deque(maxlen=HISTORY)).append(value.value)

    def lines(self, tick: Tick, width: int) -> list[Text]:
        """Return a line for each channel, grouped by where it comes from."""
        if not tick.values:
            return [Text("No samples yet: is a device open? See 3 devices.", style="bold")]
        found: list[Text] = []
        for group in _ORDER:
            of_group = sorted(
                (v for v in tick.values if group_of(v.channel) == group), key=lambda v: (_rank(v.channel), v.channel)
            )
            if of_group:
                found.append(Text(group or "others", style="bold underline", no_wrap=True))
                found += [self._line(value, width) for value in of_group]
        return found

    def _line(self, value: Value, width: int) -> Text:
        said, unit = shown(value.channel, value.value)
        label = max(_LEAST_LABEL, min(_WIDEST_LABEL, width - 25))
        text = Text(no_wrap=True)
        text.append(f"{_cut(label_of(value.channel), label):<{label}} {said:>10} {unit:<5} {age(value.age_s):>6}")
        room = width - len(text) - 2
        if room >= 8 and BY_NUMBER.get(value.channel) is not None:
            text.append(f"  {sparkline(list(self._history.get(value.channel, ())), min(room, HISTORY))}")
        if value.age_s >= STALE_S:
            text.stylize("dim")
        return text


def _rank(channel: int) -> int:
    return _FIRST.index(channel) if channel in _FIRST else len(_FIRST)


def devices(tick: Tick, samples: dict[str, int], width: int) -> list[Text]:
    """Return each device with what is wrong with it; `samples` are those that came since the tick before."""
    found: list[Text] = []
    for device in tick.devices:
        sign, word = _STATES[device.state]
        rate = f"{samples.get(device.name, 0)}/s"
        since = lasting(max(0.0, (tick.t_ns - device.since_ns) / NS_PER_S))
        room = max(8, width - len(word) - len(rate) - len(since) - 7)
        found.append(_signed(sign, f"{_short(device.name, room):<{room}} {word} {since} {rate}", width))
        found += _details(device, tick, width)
    for camera in tick.cameras:
        sign = _SIGNS[camera.state]
        picture = f" {camera.width}x{camera.height} {camera.fps:.0f}/s {camera.codec}" if camera.width else ""
        found += _wrapped(sign, f"camera {camera.name}: {camera.detail}{picture}", width)
    if tick.power is not None:
        power = tick.power
        volts = (
            "" if power.volts_of_12 is None else f", {power.volts_of_12:.1f} V{' charging' if power.charging else ''}"
        )
        since = lasting(max(0.0, (tick.t_ns - power.since_ns) / NS_PER_S))
        found += _wrapped(" ", f"car: {power.state.replace('_', ' ')} for {since}{volts}", width)
    if tick.fused is not None and tick.fused.mount is not None:
        found += _wrapped(" ", f"mount of the box: known to {tick.fused.mount:.0%}", width)
    return found or [Text("No devices: the agent reads none now.", style="bold")]


def _details(device: Device, tick: Tick, width: int) -> list[Text]:
    found: list[Text] = []
    if device.state in ("lost", "barred") and device.error:
        found += _wrapped("", device.error, width, indent=4)
    for source, state in sorted(device.healths.items()):
        if source != device.name and state != "ok":
            facts = ", ".join(f"{k} {v}" for k, v in device.facts.get(source, {}).items())
            name = source.removeprefix(f"{device.name}:")
            found += _wrapped(_SIGNS[state], f"{name}: {state}{f' ({facts})' if facts else ''}", width, indent=4)
    for loan in tick.loans:
        if loan.device == device.name:
            left = lasting(max(0.0, (loan.until_ns - tick.t_ns) / NS_PER_S))
            found += _wrapped("", f"user {loan.uid} has it for {loan.purpose}, {left} more", width, indent=4)
    return found


def queue(tick: Tick, width: int) -> list[Text]:
    """Return how sync does, and how much of each lane waits."""
    found: list[Text] = []
    sync = tick.sync
    if sync is None:
        found += _wrapped(" ", "sync rests: the car is parked, or no broker is configured", width)
    else:
        sign = "X" if sync.trouble == "refused" else "!" if sync.trouble else " "
        said = _PHASES[sync.phase] + (f", {sync.trouble}: {sync.reason}" if sync.trouble else "")
        found += _wrapped(sign, f"sync {said}", width)
        if sync.files.packages:
            share = 100 * sync.files.held // max(1, sync.files.bytes)
            of = f"{sync.files.bytes / 1e6:.1f} MB"
            found += _wrapped(" ", f"packages: {sync.files.packages} wait, {share} % of {of} at the receiver", width)
    if not any(lane.head for lane in tick.lanes):
        found.append(Text("  nothing recorded yet", no_wrap=True))
    for lane in tick.lanes:
        if lane.head:
            oldest = "" if lane.oldest_s is None else f"oldest {lasting(lane.oldest_s)}"
            waits = f"{lane.waiting} wait" if lane.waiting else "all held"
            found.append(_signed(" ", f"{lane.name:<7} {lane.head:>7} {waits:>11}  {oldest}", width))
    if tick.store is not None:
        store = tick.store
        free = "" if store.free_bytes is None else f", {store.free_bytes / 1e9:.1f} GB free"
        bad = store.read_only or store.waiting
        state = ", disk is READ-ONLY" if store.read_only else ""
        state += f", {store.waiting} records wait for the disk" if store.waiting else ""
        found += _wrapped("X" if bad else " ", f"store {store.bytes / 1e6:.1f} MB{free}{state}", width)
    return found


def happened(told: Sequence[Told], width: int) -> list[Text]:
    """Return what happened, newest first."""
    found: list[Text] = []
    for when_, line in reversed(told):
        found += _wrapped(_SIGNS.get(line.severity, " "), f"{when_} {line.text}", width, hang=11)
    return found or [Text("Nothing has happened yet.", no_wrap=True)]


def _signed(sign: str, text: str, width: int) -> Text:
    found = Text(f"{sign:1} {text}", style=_STYLES.get(sign, ""), no_wrap=True)
    found.truncate(width, overflow="ellipsis")
    return found


def _wrapped(sign: str, text: str, width: int, indent: int = 2, hang: int = 0) -> list[Text]:
    """Return a sentence in as many lines as it needs, later ones indented by `hang` or as the first."""
    first, later = sign.ljust(indent), " " * (hang or indent)
    lines = textwrap.wrap(text, max(width, 20), initial_indent=first, subsequent_indent=later)
    return [Text(line, style=_STYLES.get(sign, ""), no_wrap=True) for line in lines]


def _short(name: str, width: int) -> str:
    """Shorten a device's name at its middle: what is special stands at both ends."""
    if len(name) <= width:
        return name
    head = (width - 1) // 2
    return f"{name[:head]}…{name[len(name) - (width - 1 - head) :]}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
