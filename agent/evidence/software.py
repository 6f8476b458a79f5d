"""Which software runs in this box: its version, and one hash over the Python files that are installed."""

import hashlib
import platform
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from agent.version import installed_version

PACKAGES: Final = ("agent", "drivers")  # what runs in the car


class Software(NamedTuple):
    """Version, and SHA-256 over `folder/path.py NUL hash LF` of every Python file, ordered by that path."""

    version: str
    sha256: str
    files: int
    python: str


@cache
def installed() -> Software:
    """Hash the installed code, once per process: 150 files take some 10 ms."""
    found: list[tuple[str, Path]] = []
    for package in PACKAGES:
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec is not None else ():
            found += ((f"{package}/{path.relative_to(place).as_posix()}", path) for path in Path(place).rglob("*.py"))
    whole = hashlib.sha256()
    for name, path in sorted(found):
        whole.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return Software(installed_version(), whole.hexdigest(), len(found), platform.python_version())
