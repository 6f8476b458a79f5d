"""Does the agent run and answer, do the services, and is there processor time to spare?"""

import os
import subprocess
import threading
from collections.abc import Iterator
from typing import Final

from agent import clock
from agent.clock import NS_PER_S
from agent.doctor.finding import Facts, Finding, ill, lasting, well
from agent.doctor.seen import Seen

SYSTEMCTL_S: Final = 4.0
AGENT, DASHCAM, GPSD = "roadwitness-agent", "roadwitness-dashcam", "gpsd"
WANTED: Final = ("LoadState", "ActiveState", "SubState", "NRestarts", "Result", "UnitFileState")
LOOK_S: Final = 1.5  # of the processor's counters
BUSY: Final = 0.9  # of all cores: the dashcam loses pictures, the adapter's answers wait


def examine(seen: Seen) -> Iterator[Finding]:
    """Judge the agent, the units and the processor."""
    yield from _agent(seen)
    yield from _units(seen)
    yield from _processor(seen)


def _agent(seen: Seen) -> Iterator[Finding]:
    status = seen.status
    if status is None:
        if seen.agent_hangs:
            yield ill("fail", "services.agent", "agent_hangs", "it listens and does not answer")
        elif seen.agent_denied:
            yield ill("unknown", "services.agent", "agent_not_asked", seen.agent_trouble)
        elif seen.held:
            yield ill("fail", "services.agent", "agent_not_asked", seen.agent_trouble)
        else:
            yield ill(
                "fail", "services.agent", "agent_not_running", "it does not run: devices are opened by the doctor"
            )
        return
    text = f"runs for {lasting(status.uptime_s)}, process {status.pid}"
    if status.level != "normal":
        reason = status.level_reason or "it crashed again and again"
        yield ill("fail", "services.agent", "agent_held_back", f"{status.level}: {reason}", level=status.level)
    elif status.recording:
        yield ill("warn", "services.agent", "agent_replays", "it replays a recording instead of reading a car")
    else:
        yield well("services.agent", text, level=status.level, uptime_s=round(status.uptime_s))


def _units(seen: Seen) -> Iterator[Finding]:
    wanted = [AGENT]
    if seen.dashcam is not None and seen.dashcam.cameras:
        wanted.append(DASHCAM)
    if seen.settings is not None and any(
        g.host in ("127.0.0.1", "localhost") for g in seen.settings.drivers.gps.values()
    ):
        wanted.append(GPSD)
    for unit in wanted:
        shown = _show(seen, unit)
        check = f"services.{unit.removeprefix('roadwitness-')}_unit"
        if shown is None:
            yield ill("unknown", "services.units", "no_systemd", "systemd cannot be asked here")
            return
        active, sub, restarts = (shown.get(k, "") for k in ("ActiveState", "SubState", "NRestarts"))
        times = int(restarts) if restarts.isdigit() else 0
        facts: Facts = {"unit": unit, "active": active, "restarts": times, "enabled": shown.get("UnitFileState", "")}
        if shown.get("LoadState") != "loaded":
            state = "unknown" if unit == GPSD and seen.status is not None else "warn"
            yield ill(state, check, "unit_missing", f"{unit} is not installed", **facts)  # type: ignore[arg-type]
        elif active == "failed":
            yield ill("fail", check, "unit_failed", f"{unit} failed: {shown.get('Result', '')}", **facts)
        elif active not in ("active", "activating", "reloading"):
            yield ill("fail", check, "unit_stopped", f"{unit} is {active}", **facts)
        elif sub == "auto-restart":
            yield ill("fail", check, "unit_restarts", f"{unit} is being started again, {times} times so far", **facts)
        elif unit != GPSD and shown.get("UnitFileState") not in ("enabled", "enabled-runtime", "static"):
            yield ill("warn", check, "unit_not_enabled", f"{unit} does not start by itself", **facts)
        elif times:
            yield ill("warn", check, "unit_restarted", f"{unit} was started again {times} times", **facts)
        else:
            yield well(check, f"{unit} is {active}", **facts)


def _show(seen: Seen, unit: str) -> dict[str, str] | None:
    """Return what systemd says of a unit, None where there is no systemd."""
    command = (seen.context.systemctl, "show", unit, "--property", ",".join(WANTED))
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=min(SYSTEMCTL_S, max(0.5, seen.left_s())), check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    if done.returncode != 0:
        return None
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def _processor(seen: Seen) -> Iterator[Finding]:
    before, never, own_before = _ticks(seen), threading.Event(), os.times()
    begun_ns = clock.monotonic_ns()
    clock.wait(never, min(LOOK_S, seen.left_s()))
    after = _ticks(seen)
    if before is None or after is None or after[1] <= before[1]:
        yield ill("unknown", "services.processor", "processor_unknown", "the kernel does not tell")
        return
    ticks = after[1] - before[1]
    own = (sum(os.times()[:2]) - sum(own_before[:2])) * os.sysconf("SC_CLK_TCK")  # the doctor's own work
    busy = max(0.0, 1.0 - (after[0] - before[0] + own) / ticks)
    over_s = (clock.monotonic_ns() - begun_ns) / NS_PER_S
    text = f"{busy:.0%} busy over {over_s:.1f} s"
    if busy > BUSY and seen.status is not None:
        yield ill("warn", "services.processor", "processor_busy", text, busy=round(busy, 3))
    else:
        yield well("services.processor", text, busy=round(busy, 3))


def _ticks(seen: Seen) -> tuple[int, int] | None:
    """Return idle and all ticks of all cores since the board started (proc(5), /proc/stat)."""
    try:
        numbers = [int(n) for n in (seen.context.proc / "stat").read_text(encoding="ascii").splitlines()[0].split()[1:]]
    except (OSError, ValueError, IndexError):
        return None
    return (numbers[3] + numbers[4], sum(numbers[:8])) if len(numbers) >= 8 else None
