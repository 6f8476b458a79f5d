"""What the tests of packages share: two versions of the package, a repository, and a clean Debian for each test."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.clock import wall_ns
from tests.packaging.root import BUILD, CHECKOUT, Root, base, built, needs

sys.path.insert(0, str(CHECKOUT / "packaging"))
from repository import Repository

for program, package in (("mmdebstrap", "mmdebstrap"), ("dpkg-deb", "dpkg"), ("systemd-analyze", "systemd")):
    if shutil.which(program) is None:
        pytest.skip(f"Debian package {package} is absent", allow_module_level=True)
if os.geteuid() != 0:
    pytest.skip("a chroot needs root: sudo make package-test", allow_module_level=True)


@pytest.fixture(scope="session")
def work() -> Iterator[Path]:
    """Return a folder on a disk: packages and roots are larger than what fits into memory."""
    BUILD.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=BUILD, prefix="package-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def vendor(work: Path) -> Any:
    """Return a repository, and the packages: 0.9.0, 0.9.1 that is as good, 0.9.2 whose agent does not start."""
    now = datetime.fromtimestamp(wall_ns() / 1e9, UTC)
    repository = Repository(work / "repository", work / "keys")
    root = repository.create(now)
    ill = work / "ill"
    names = [
        "agent",
        "drivers",
        "sim",
        "packaging",
        "config",
        "systemd",
        "pyproject.toml",
        "CHANGELOG.md",
        "constraints.txt",
    ]
    ill.mkdir()
    for name in names:
        subprocess.run(["cp", "-r", CHECKOUT / name, ill / name], check=True)
    (ill / "build").mkdir()
    (ill / "build" / "wheels").symlink_to(BUILD / "wheels")
    daemon = ill / "agent" / "daemon.py"
    daemon.write_text(daemon.read_text() + '\nraise RuntimeError("this version is ill")\n')
    epoch = subprocess.run(
        ["git", "-C", CHECKOUT, "log", "-1", "--format=%ct"], capture_output=True, text=True, check=True
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", epoch.stdout.strip())
        return SimpleNamespace(
            repository=repository,
            now=now,
            first=built("0.9.0", work, trust=root),
            second=built("0.9.1", work, trust=root),
            ill=built("0.9.2", work, source=ill, trust=root),
        )


@pytest.fixture
def debian(work: Path, vendor: Any, request: pytest.FixtureRequest) -> Iterator[Root]:
    """Return a clean Debian 12 with what the package depends on, and what looks at it: nothing else."""
    root = Root(work / request.node.name)
    root.unpack(base([*needs(vendor.first), "udev", "dbus", "man-db"]))
    try:
        yield root
    finally:
        root.run("sh", "-c", "[ ! -e /run/agent.pid ] || kill $(cat /run/agent.pid)")
        root.remove()
