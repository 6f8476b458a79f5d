"""Where the versions of an installed box stand, and how its programs are called; tests give another root."""

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.errors import RoadwitnessError

PROGRAM_S: Final = 600.0  # for one program; compiling all kernels takes a minute on a Pi, dpkg some minutes on its card


class UpdateError(RoadwitnessError):
    """A version cannot be fetched, laid down, tried or left."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended."""

    code: int
    output: str  # both streams

    @property
    def last_line(self) -> str:
        """The last line of what it said."""
        return next((line for line in reversed(self.output.splitlines()) if line.strip()), "nothing was said")


Run = Callable[[Sequence[str]], Ran]


def run_program(command: Sequence[str]) -> Ran:
    """Run a program to its end; one that is missing or hangs is a code that is not 0."""
    try:
        done = subprocess.run(
            list(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PROGRAM_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        return Ran(127, f"{command[0]}: {e}")
    return Ran(done.returncode, done.stdout)


@dataclass(frozen=True, slots=True)
class Place:
    """The folders of a box; `root` is / but in tests."""

    root: Path = Path("/")

    @property
    def opt(self) -> Path:
        """The versions, and the links to them."""
        return self.root / "opt"

    @property
    def state(self) -> Path:
        """What the updater remembers and has fetched."""
        return self.root / "var/lib/roadwitness-update"

    @property
    def store(self) -> Path:
        """The agent's store."""
        return self.root / "var/lib/roadwitness"

    @property
    def settings(self) -> Path:
        """The machine's own agent.toml."""
        return self.root / "etc/roadwitness/agent.toml"

    @property
    def trusted(self) -> Path:
        """The vendor's first root metadata: what this box trusts."""
        return self.root / "etc/roadwitness/update-root.json"

    def tree(self, version: str) -> Path:
        """Return the folder of a version."""
        return self.opt / f"roadwitness-{version}"

    def program(self, version: str) -> Path:
        """Return the command of a version."""
        return self.tree(version) / "bin" / "roadwitness"


@contextmanager
def only_one(place: Place) -> Iterator[None]:
    """Keep a second updater away while this one works; raise UpdateError where there is one."""
    try:
        place.state.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise UpdateError(f"{place.state}: cannot be used: {e.strerror}; it must be writable (docs/updates.md)") from e
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as e:
        raise UpdateError("an update is under way already; see: journalctl -u roadwitness-update") from e
    finally:
        os.close(descriptor)
