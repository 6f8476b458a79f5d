"""Which software and board this is, and whether the running agent is the installed one."""

import platform
from collections.abc import Iterator

from agent.doctor.finding import Finding, ill, well
from agent.doctor.seen import Seen
from agent.version import installed_version
from drivers.sysfs import try_text


def examine(seen: Seen) -> Iterator[Finding]:
    """Tell versions; a running agent that is older than what is installed has not been restarted."""
    installed = installed_version()
    running = seen.status.version if seen.status is not None else ""
    if running and running != installed:
        text = f"{installed} is installed, {running} runs"
        yield ill("warn", "versions.roadwitness", "version_differs", text, installed=installed, running=running)
    else:
        yield well("versions.roadwitness", installed, installed=installed)
    system = f"{platform.system()} {platform.release()}, {platform.machine()}, Python {platform.python_version()}"
    yield well("versions.system", system, kernel=platform.release(), machine=platform.machine())
    model = try_text(seen.context.sysfs / "firmware" / "devicetree" / "base" / "model")
    if model:
        yield well("versions.board", model, board=model)
