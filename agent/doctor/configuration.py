"""Is the configuration right, and does it name any device?"""

from collections.abc import Iterator

from agent.config import config_dir
from agent.devices import makers
from agent.doctor.finding import Finding
from agent.doctor.seen import Seen
from agent.errors import RoadwitnessError


def examine(seen: Seen) -> Iterator[Finding]:
    """Judge agent.toml as the daemon would read it, and what it comes to."""
    file = str(seen.config or "agent.toml")
    if seen.settings is None:
        yield Finding(
            check="config.file", state="fail", found=seen.config_trouble, advice="config_wrong", facts={"file": file}
        )
        return
    try:
        names = [make().name for make in makers(seen.settings.drivers, config_dir())]
    except RoadwitnessError as error:
        yield Finding(check="config.file", state="fail", found=str(error), advice="config_wrong", facts={"file": file})
        return
    yield Finding(check="config.file", state="pass", found=f"{file} is right", facts={"file": file})
    if names:
        yield Finding(check="config.devices", state="pass", found=", ".join(names), facts={"devices": len(names)})
    else:
        yield Finding(
            check="config.devices",
            state="fail",
            found="no device is configured",
            advice="no_devices",
            facts={"file": file},
        )
