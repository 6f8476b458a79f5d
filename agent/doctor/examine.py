"""Run the checks side by side, each with a limit: one that hangs is unknown, and the others do not wait for it."""

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import Final

from agent import clock
from agent.clock import NS_PER_S
from agent.doctor.context import Context
from agent.doctor.finding import Finding
from agent.doctor.seen import Seen, look_around

LOOK_S: Final = 6.0  # to read the configuration and ask the daemon


Part = Callable[[Seen], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Check:
    """One group of findings: what people call it, who examines it, and how long that may take.

    `examine` is module:function; where the function's name is `devices` it returns a part for each device, which are
    examined side by side.
    """

    title: str
    examine: str
    limit_s: float


CHECKS: Final[dict[str, Check]] = {
    "power": Check("Power", "agent.doctor.power:examine", 6.0),
    "clock": Check("Clock", "agent.doctor.time:examine", 3.0),
    "storage": Check("Storage", "agent.doctor.storage:examine", 12.0),
    "can": Check("CAN bus", "agent.doctor.can:devices", 20.0),
    "adapter": Check("OBD adapter", "agent.doctor.adapter:devices", 20.0),
    "gps": Check("Satellites", "agent.doctor.gps:devices", 8.0),
    "imu": Check("Motion sensor", "agent.doctor.imu:devices", 8.0),
    "camera": Check("Cameras", "agent.doctor.camera:examine", 15.0),
    "network": Check("Network", "agent.doctor.network:examine", 18.0),
    "services": Check("Services", "agent.doctor.services:examine", 10.0),
    "config": Check("Configuration", "agent.doctor.configuration:examine", 3.0),
    "versions": Check("Versions", "agent.doctor.versions:examine", 3.0),
}


@dataclass(slots=True)
class _Running:
    group: str
    deadline_ns: int
    thread: threading.Thread = field(default_factory=threading.Thread)
    findings: list[Finding] = field(default_factory=list)
    release: list[Callable[[], None]] = field(default_factory=list)  # what a check has open


def examine(context: Context, told: Callable[[str, list[Finding]], None] | None = None) -> list[Finding]:
    """Examine a box; return what was found, group by group in the order of `CHECKS`, within `context.limit_s`.

    `told` is called with each group as soon as it is done, in any order.
    """
    end_ns = clock.monotonic_ns() + round(context.limit_s * NS_PER_S)
    looked: list[Seen] = []
    looking = threading.Thread(target=lambda: looked.append(look_around(context)), name="doctor", daemon=True)
    looking.start()
    looking.join(min(LOOK_S, context.limit_s))
    seen = looked[0] if looked else Seen(context, agent_trouble="the daemon or the disk does not answer in time")
    _warm(seen)
    groups = [group for group in CHECKS if not context.groups or group in context.groups]
    running = [_start(group, part, seen, end_ns) for group in groups for part in _parts(CHECKS[group], seen)]
    waiting, done = list(running), threading.Event()
    while waiting:
        now_ns = clock.monotonic_ns()
        for one in [r for r in waiting if not r.thread.is_alive() or now_ns >= r.deadline_ns]:
            waiting.remove(one)
            if one.thread.is_alive():
                _give_up(one)
            if told is not None and not any(other.group == one.group for other in waiting):
                told(one.group, [finding for r in running if r.group == one.group for finding in r.findings])
        if waiting:
            clock.wait(done, 0.05)
    return [finding for one in running for finding in one.findings]


def _warm(seen: Seen) -> None:
    """Load what checks load anyway: a library that is loaded beside a conversation with a device disturbs it."""
    if seen.settings is None or seen.held:
        return
    tables = seen.settings.drivers
    can = {settings.interface for settings in (*tables.canbus.values(), *tables.obdcan.values())}
    wanted = {
        "drivers.can.slcan": "slcan" in can,
        "drivers.can.socketcan": "socketcan" in can,
        "drivers.canbus": bool(can),
        "drivers.elm327": bool(tables.elm327),
        "drivers.imu": bool(tables.imu),
        "serial": bool(tables.elm327) or "slcan" in can,
        "paho.mqtt.client": True,
        "agent.dashcam.pictures": seen.dashcam is not None and bool(seen.dashcam.cameras),
    }
    for module, used in wanted.items():
        if used:
            with suppress(ImportError):  # the check that needs it says so
                import_module(module)


def _parts(check: Check, seen: Seen) -> list[Part]:
    """Return what examines a group."""
    module, function = check.examine.split(":")
    if function == "devices":
        parts: list[Part] = getattr(import_module(module), function)(seen)
        return parts
    return [getattr(import_module(module), function)]


def _start(group: str, part: Part, seen: Seen, end_ns: int) -> _Running:
    deadline_ns = min(clock.monotonic_ns() + round(CHECKS[group].limit_s * NS_PER_S), end_ns)
    running = _Running(group, deadline_ns)
    mine = seen.of(deadline_ns, running.release)
    running.thread = threading.Thread(target=lambda: _run(part, mine, running), name=f"doctor {group}", daemon=True)
    running.thread.start()
    return running


def _run(part: Part, seen: Seen, running: _Running) -> None:
    """Collect findings as they come, so that those before a hang are kept."""
    findings = running.findings
    try:
        for finding in part(seen):
            findings.append(finding)
    except Exception as bug:  # the top of a thread: the other checks are worth having all the same
        text = f"this check itself failed: {type(bug).__name__}: {bug}"
        findings.append(Finding(check=f"{running.group}.check", state="unknown", found=text, advice="check_failed"))
    finally:
        _release(running)


def _give_up(running: _Running) -> None:
    """Say that a check took too long, and take from it what it has open."""
    limit_s = CHECKS[running.group].limit_s
    running.findings = [
        *running.findings,
        Finding(
            check=f"{running.group}.check",
            state="unknown",
            found=f"no answer within {limit_s:g} s",
            advice="check_hangs",
            facts={"limit_s": limit_s},
        ),
    ]
    _release(running)


def _release(running: _Running) -> None:
    for release in [*running.release]:
        release()
    running.release.clear()
