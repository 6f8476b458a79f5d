"""The live view for pipes: one line for each change, fit for grep and for a log."""

from collections.abc import Iterator
from typing import Any

from agent.channels import BY_NUMBER
from agent.local.messages import Tick
from agent.local.panels import when
from agent.local.signals import shown

STALE_S = 5.0


class Plain:
    """Remembers what was said, so that only changes are said again."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def lines(self, tick: Tick) -> Iterator[str]:
        """Yield a line for each thing that is another than a tick ago."""
        clock = when(tick.t_ns, tick.utc, tick.t_ns)
        for line in tick.happened:
            yield f"{when(line.t_ns, tick.utc, tick.t_ns)} {line.kind} {line.severity or '-'} {line.text}"
        if tick.missed:
            yield f"{clock} agent - {tick.missed} lines came too fast"
        for name, said in _things(tick):
            if self._said.get(name) != said:
                self._said[name] = said
                yield f"{clock} {name} {said}"


def _things(tick: Tick) -> Iterator[tuple[str, Any]]:
    """Yield name and words of everything that may change."""
    yield "agent", f"level {tick.level}"
    yield "trip", "on" if tick.trip else "off"
    if tick.crash:
        yield "crash", "is being recorded"
    if tick.power is not None:
        yield "car", tick.power.state.replace("_", " ")
    for device in tick.devices:
        yield device.name, device.state + (f": {device.error}" if device.state in ("lost", "barred") else "")
    for camera in tick.cameras:
        yield f"camera:{camera.name}", f"{camera.state}: {camera.detail}"
    if tick.sync is not None:
        yield "sync", f"{tick.sync.phase} {tick.sync.trouble} {tick.sync.reason}".strip()
    for lane in tick.lanes:
        yield f"lane:{lane.name}", f"{lane.head} recorded, {lane.waiting} wait"
    for value in tick.values:
        known = BY_NUMBER.get(value.channel)
        if known is not None:
            said, unit = shown(value.channel, value.value)
            fresh = value.age_s < STALE_S
            yield known.name, f"{said} {unit}".strip() if fresh else "silent"
