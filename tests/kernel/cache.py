"""Where built pieces are kept, each under the hash of all it is made from, and how missing Debian packages are had."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.clock import NS_PER_S, wall_ns
from tests.kernel.errors import CannotBeHadError

CACHE = Path("/var/tmp/roadwitness-kernel")  # a disk; /tmp may be memory
USED_NS = 2 * 3600 * NS_PER_S  # a run of the bench takes an hour: what was taken later may be in use
CHECKOUT = Path(__file__).parents[2]
HERE = Path(__file__).parent


def digest(parts: Iterable[str | Path]) -> str:
    """Return 12 hexadecimal digits over texts, the contents of files, and names and contents of folders."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            total.update(part.encode() + b"\0")
            continue
        files = sorted(part.rglob("*")) if part.is_dir() else [part]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                total.update(str(file.relative_to(part.parent)).encode() + b"\0" + file.read_bytes() + b"\0")
    return total.hexdigest()[:12]


def built(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """Return the folder of a piece; `make` fills it once, and older ones of the same kind that nobody uses go.

    A second process that wants the same piece waits for the first.
    """
    place = CACHE / f"{kind}-{key}"
    with _alone(place.name):
        if place.is_dir():
            os.utime(place)
            return place
        work = Path(tempfile.mkdtemp(prefix=f"{kind}.making-", dir=CACHE))
        try:
            make(work)
            work.chmod(0o755)
            work.rename(place)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        used_ns = wall_ns() - USED_NS
        others = (found for found in CACHE.glob(f"{kind}-*") if found.is_dir() and found.stat().st_mtime_ns < used_ns)
        for old in sorted(others, key=lambda found: found.stat().st_mtime)[:-3]:
            shutil.rmtree(old, ignore_errors=True)
            old.with_name(f"{old.name}.lock").unlink(missing_ok=True)
    return place


def need(*packages: str) -> None:
    """Install what is missing of Debian packages; raise CannotBeHadError with what to type where that cannot be.

    One process at a time: apt waits for whoever installs, but not for whoever fetches the lists.
    """
    if not shutil.which("dpkg-query"):
        raise CannotBeHadError(f"needs Debian 12 with the packages {', '.join(packages)}")
    if not (missing := _missing(packages)):
        return
    if os.geteuid() != 0:
        raise CannotBeHadError(f"needs root, and the packages: sudo apt install {' '.join(missing)}")
    with _alone("packages"):
        if missing := _missing(packages):
            _install(missing)


def _install(packages: list[str]) -> None:
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
    quiet = [*apt, "install", "-y", "--no-install-recommends", *packages]
    for command in ([*apt, "update"], quiet):
        done = subprocess.run(["env", "DEBIAN_FRONTEND=noninteractive", *command], capture_output=True, text=True)
        if done.returncode:
            raise CannotBeHadError(f"needs the Debian packages {' '.join(packages)}: {_last(done.stderr)}")


def root() -> None:
    """Raise CannotBeHadError unless this is root: images hold files of root."""
    if os.geteuid() != 0:
        raise CannotBeHadError("needs root to build the guest's disk: sudo make kernel")


def call(*command: str | Path, **options: object) -> str:
    """Run a program of the build; return its output, or raise CannotBeHadError with the end of what it said."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise CannotBeHadError(f"{Path(str(command[0])).name} failed: {_last(done.stderr) or _last(done.stdout)}")
    return str(done.stdout)


@contextmanager
def _alone(what: str) -> Iterator[None]:
    """Wait until no other process is here with the same."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _missing(packages: tuple[str, ...]) -> list[str]:
    return [name for name in packages if not _installed(name)]


def _installed(package: str) -> bool:
    asked = subprocess.run(["dpkg-query", "-W", "-f=${db:Status-Abbrev}", package], capture_output=True, text=True)
    return asked.stdout.startswith("ii")


def _last(said: str) -> str:
    return " / ".join(line for line in said.strip().splitlines()[-3:])
