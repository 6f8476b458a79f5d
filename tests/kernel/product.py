"""The program of this checkout and its libraries as disks of a guest.

The libraries are wheels of the pinned versions for the guest's architecture, fetched by pip on the host. The program
is copied as it is; its kernels' machine code is compiled once, as `roadwitness warm` does, and kept under the hash of
the files it comes from.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.kernel.cache import CACHE, CHECKOUT, built, call, digest
from tests.kernel.errors import CannotBeHadError

if TYPE_CHECKING:
    from tests.kernel.guest import Guest

WHEELS: Final = {"amd64": "x86_64", "arm64": "aarch64"}
GLIBC: Final = ("2014", "_2_17", "_2_24", "_2_26", "_2_27", "_2_28", "_2_31", "_2_34", "_2_35", "_2_36")  # 12 has 2.36
ONLY_SOURCE: Final = ("gpsd-py3",)  # have no wheel in the registry; pure Python
ALSO: Final = ("cantools",)  # beside which the agent is measured
COMPILE_S: Final = 5400.0  # a quarter of an hour on two idle cores
FOLDERS: Final = ("agent", "drivers", "sim", "receiver", "config", "systemd")


def disks(arch: str) -> tuple[Path, Path]:
    """Return the disks of libraries and program."""
    return site(arch), product(arch)


def site(arch: str) -> Path:
    """Return the read-only disk of libraries: those of the device and of the receiver."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["device"], *extras["receiver"], *ALSO]
    pins = CHECKOUT / "constraints.txt"
    key = digest([Path(__file__), arch, *wanted, pins])

    def make(work: Path) -> None:
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        call(*pip, "wheel", "--no-deps", "-w", work / "wheels", "-c", pins, *ONLY_SOURCE)
        tags = [word for tag in GLIBC for word in ("--platform", f"manylinux{tag}_{WHEELS[arch]}")]
        how = ["--only-binary=:all:", "--implementation", "cp", "--python-version", "3.11", *tags]
        where = ["--find-links", work / "wheels", "--no-compile", "--target", work / "site"]
        call(*pip, "install", "--root-user-action=ignore", *how, *where, "-c", pins, *wanted)
        _compile(work / "site", "/mnt/site")
        _disk(work / "site", work / "site.img")
        shutil.rmtree(work / "wheels")

    return built(f"site-{arch}", key, make) / "site.img"


def product(arch: str) -> Path:
    """Return the disk with the program and its compiled kernels; a guest writes to a copy that ends with it."""
    files = [CHECKOUT / name for name in FOLDERS]
    kernels = _kernels(arch)
    key = digest([Path(__file__), arch, kernels.name, *files])

    def make(work: Path) -> None:
        _copy(work / "tree")
        call("tar", "-C", work / "tree", "-xf", kernels)
        _compile(work / "tree", "/mnt/product")
        _disk(work / "tree", work / "product.img")

    return built(f"product-{arch}", key, make) / "product.img"


def _kernels(arch: str) -> Path:
    """Return an archive of numba's caches for the kernels as they are, for the processor of the guest.

    The host compiles for a guest of its own architecture, told that processor's name and features: fifteen times as
    fast. A guest of another architecture compiles for itself.
    """
    sources = [path for name in FOLDERS for path in sorted((CHECKOUT / name).rglob("*.py"))]
    with_kernels = [path for path in sources if re.search(r"^@(numba\.)?njit", path.read_text(), re.M)]
    key = digest([Path(__file__), arch, str(site(arch)), *with_kernels])

    def make(work: Path) -> None:
        _copy(work / "tree")
        pack = "find . -name '*.nb[ic]' -print0 | tar --null -T - -cf"
        if arch == call("dpkg", "--print-architecture").strip():
            name, features = _processor(arch)
            told = [f"NUMBA_CPU_NAME={name}", f"NUMBA_CPU_FEATURES={features}"]
            call("env", *told, sys.executable, "-m", "agent", "warm", cwd=work / "tree")
            call("sh", "-c", f"{pack} {work}/kernels.tar", cwd=work / "tree")
            shutil.rmtree(work / "tree")
            return
        _disk(work / "tree", work / "product.img")
        with _guest(arch, work / "product.img") as guest:
            listed = "python3 -c 'from agent.cli.warm import KERNELS; print(*KERNELS)' | tr ' ' '\\n'"
            guest.run(f"{listed} | xargs -P2 -I{{}} python3 -c 'import {{}}'", limit_s=COMPILE_S)
            guest.run(f"cd /mnt/product && {pack} /tmp/kernels.tar")
            (work / "kernels.tar").write_bytes(guest.get("/tmp/kernels.tar"))
        (work / "product.img").unlink()

    return built(f"kernels-{arch}", key, make) / "kernels.tar"


def _processor(arch: str) -> tuple[str, str]:
    """Return the name and features of the guest's processor, as LLVM calls them."""
    ask = "import llvmlite.binding as b; print(b.get_host_cpu_name(), b.get_host_cpu_features().flatten())"
    disk = CACHE / f"empty-{arch}.img"
    call("truncate", "-s", "8M", disk)
    call("mkfs.ext4", "-q", "-F", disk)
    with _guest(arch, disk) as guest:
        name, features = guest.run(["python3", "-c", ask]).out.split()
    return name, features


def _guest(arch: str, program: Path) -> "Guest":
    from tests.kernel.guest import Guest

    return Guest(arch, product=(site(arch), program))


def _copy(target: Path) -> None:
    for name in FOLDERS:
        shutil.copytree(CHECKOUT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))


def _compile(folder: Path, seen_at: str) -> None:
    """Write Python's byte code, which is the same on every architecture, where this is the guest's Python."""
    if sys.version_info[:2] != (3, 11):
        raise CannotBeHadError("needs Python 3.11, as the guest's Debian 12 has it")
    words = ["-q", "-j2", "--invalidation-mode", "unchecked-hash", "-s", str(folder), "-p", seen_at, str(folder)]
    subprocess.run([sys.executable, "-m", "compileall", *words], capture_output=True)  # some libraries carry odd files


def _disk(folder: Path, disk: Path) -> None:
    """Make an ext4 disk of `folder`, with some room, and remove the folder."""
    used_mib = int(call("du", "-sm", folder).split()[0])
    call("truncate", "-s", f"{used_mib * 5 // 4 + 96}M", disk)
    call("mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-m", "0", "-E", "root_owner=0:0", "-d", folder, disk)
    shutil.rmtree(folder)
