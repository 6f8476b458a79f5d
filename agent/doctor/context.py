"""What is examined: where the box's files are, and how much may be done to find out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent import clock
from agent.local.place import STORE


@dataclass(frozen=True, slots=True)
class Context:
    """The box under examination; the defaults are an installed one."""

    store: Path = STORE  # the folder that the daemon runs on: its socket, store, video and TLS identity
    config: Path | None = None  # agent.toml; None is the one in the configuration folder
    dashcam: Path | None = None  # dashcam.toml; None is the one beside agent.toml, where there is one
    sysfs: Path = Path("/sys")
    proc: Path = Path("/proc")
    systemctl: str = "systemctl"
    wall_ns: Callable[[], int] = clock.wall_ns
    kernel_error_ns: Callable[[], int | None] = clock.kernel_error_ns
    groups: tuple[str, ...] = ()  # only these; () is all
    limit_s: float = 28.0  # for everything together
    inside: bool = False  # the daemon examines its own box: no camera is opened, no library loaded for it
    bit_rates: bool = False  # also try rates on a silent CAN interface, which needs root and takes it down
