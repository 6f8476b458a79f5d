"""Is the configuration right, does the daemon run on it, does it name devices, and has the owner agreed?"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from agent.config import config_dir
from agent.devices import makers
from agent.doctor.finding import Finding, ill, well
from agent.doctor.seen import Seen
from agent.errors import RoadwitnessError


def examine(seen: Seen) -> Iterator[Finding]:
    """Judge agent.toml and dashcam.toml as their processes would read them, and what they come to."""
    file = str(seen.config or "agent.toml")
    if seen.settings is None:
        denied = "Permission denied" in seen.config_trouble
        state, code = ("unknown", "not_permitted") if denied else ("fail", "config_wrong")
        yield ill(state, "config.file", code, seen.config_trouble, file=file)  # type: ignore[arg-type]
    else:
        try:
            names = [make().name for make in makers(seen.settings.drivers, config_dir())]
        except RoadwitnessError as error:
            yield ill("fail", "config.file", "config_wrong", str(error), file=file)
        else:
            yield from _agent(seen, Path(file))
            yield from _devices(names, file)
    yield from _dashcam(seen)
    yield from _consent(seen)


def _agent(seen: Seen, file: Path) -> Iterator[Finding]:
    """Compare the file with the one that the daemon has."""
    status = seen.status
    if status is not None and status.config and Path(status.config).resolve() != file.resolve():
        text = f"the agent runs on {status.config}"
        yield ill("warn", "config.file", "config_other", text, file=str(file), running=status.config)
        return
    digest = ""
    if status is not None:
        try:
            changed_s = (seen.context.wall_ns() - file.stat().st_mtime_ns) / 1e9
            digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        except OSError as error:
            yield ill("fail", "config.file", "config_wrong", f"{file}: {error.strerror or error}", file=str(file))
            return
        if changed_s < status.uptime_s - 2:  # a file's time is coarse
            text = f"{file.name} was changed after the agent had started"
            yield ill("warn", "config.file", "config_changed", text, file=str(file))
            return
    yield well("config.file", f"{file.name} is right", file=str(file), sha256=digest)


def _devices(names: list[str], file: str) -> Iterator[Finding]:
    if names:
        yield well("config.devices", ", ".join(names), devices=len(names))
    else:
        yield ill("fail", "config.devices", "no_devices", "no device is configured", file=file)


def _dashcam(seen: Seen) -> Iterator[Finding]:
    if seen.dashcam_trouble:
        yield ill("fail", "config.dashcam", "dashcam_config_wrong", seen.dashcam_trouble)
    elif seen.dashcam is not None:
        cameras = ", ".join(seen.dashcam.cameras) or "no camera"
        yield well("config.dashcam", f"dashcam.toml is right: {cameras}", cameras=len(seen.dashcam.cameras))


def _consent(seen: Seen) -> Iterator[Finding]:
    """Without the owner's consent nothing but health is kept: a box that seems to do nothing."""
    if seen.status is not None and seen.status.consent is not None:
        agreed = seen.status.consent
        if "recording" in agreed.purposes:
            yield well("config.consent", agreed.reference, awaited=False)
        else:
            yield ill("fail", "config.consent", "no_consent", agreed.reference, awaited=agreed.awaited)
    elif seen.settings is not None and seen.status is None:
        settings = seen.settings
        if settings.consent.sheet:
            text = f"{settings.consent.sheet}: {', '.join(settings.consent.purposes)}"
            yield well("config.consent", text, awaited=False)
        elif settings.commands.keys:
            text = "as the receiver tells; only the running agent knows"
            yield ill("unknown", "config.consent", "agent_not_asked", text)
        else:
            text = "nobody has agreed: nothing but health is kept"
            yield ill("fail", "config.consent", "no_consent", text, awaited=True)
