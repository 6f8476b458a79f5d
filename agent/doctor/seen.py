"""What every check may lean on: the configuration, what the running daemon says, and the samples it has stored."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent import clock
from agent.clock import NS_PER_S
from agent.config import config_dir
from agent.doctor.context import Context
from agent.errors import ConfigError
from agent.settings import AgentConfig, load_agent


@dataclass(frozen=True, slots=True)
class Seen:
    """The same for all checks, but for `deadline_ns` and `release`."""

    context: Context
    config: Path | None = None  # agent.toml, None where no configuration folder is found
    settings: AgentConfig | None = None  # None where the configuration is wrong
    config_trouble: str = ""
    agent_trouble: str = ""  # why the daemon cannot be asked though it seems to run
    deadline_ns: int = 0  # monotonic; the check is given up then
    release: list[Callable[[], None]] = field(default_factory=list)  # what closes that which a check opens

    def of(self, deadline_ns: int, release: list[Callable[[], None]]) -> "Seen":
        """Return the same for one check."""
        return replace(self, deadline_ns=deadline_ns, release=release)

    def left_s(self, spare_s: float = 0.5) -> float:
        """Return how long this check may still take, less what it keeps for its own words."""
        return max(0.0, (self.deadline_ns - clock.monotonic_ns()) / NS_PER_S - spare_s)


def look_around(context: Context) -> Seen:
    """Read the configuration; wrong ones are told, never raised."""
    try:
        path = context.config or config_dir() / "agent.toml"
        return Seen(context, path, load_agent(path))
    except ConfigError as error:
        return Seen(context, context.config, None, str(error))
