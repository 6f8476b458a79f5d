"""The libraries: resolved once into lock files with hashes, fetched by them, and unpacked without running anything."""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

from kinds import ARCHITECTURES, GLIBC, HERE, ROOT, SUITES, Kind

# Folders of libraries that only their own developers need.
PRUNED = re.compile(
    r"^(numpy|numba|llvmlite|llvmlite/binding)(/.*)?/tests?/|/_pyinstaller/|^numpy/.*\.(a|h|pyi)$|^pip/"
)


def lock_path(kind: Kind, arch: str, suite: str) -> Path:
    """Return the lock file of a package for an architecture and a release."""
    return HERE / "locks" / f"{kind.name}_{suite}_{arch}.txt"


def _pip(arch: str, suite: str, folder: Path, *further: str) -> None:
    machine = ARCHITECTURES[arch]
    platforms = [f"--platform=manylinux_{version}_{machine}" for version in GLIBC]
    python = SUITES[suite]
    command = [sys.executable, "-m", "pip", "download", "-qq", "--only-binary=:all:", f"--dest={folder}"]
    command += [f"--python-version={python}", "--implementation=cp", f"--abi=cp{python.replace('.', '')}", "--abi=abi3"]
    command += ["--abi=none", *platforms, f"--platform=manylinux2014_{machine}", *further]
    subprocess.run(command, check=True)


def lock(kind: Kind, arch: str, suite: str) -> int:
    """Resolve by constraints.txt and write the lock file; return how many libraries it names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(w for e in kind.extras for w in project["optional-dependencies"][e])]
    wanted = [w for w in wanted if re.split(r"[>=\[]", w)[0] not in kind.without]
    with tempfile.TemporaryDirectory() as folder:
        _pip(arch, suite, Path(folder), f"--constraint={ROOT / 'constraints.txt'}", *wanted)
        lines = []
        for wheel in sorted(Path(folder).glob("*.whl")):
            name, version = wheel.name.split("-")[:2]
            # sqlite-utils asks for pip, for a command of its that installs plug-ins
            if name != "pip" and name.replace("_", "-") not in kind.without:
                digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
                lines.append(f"{name.replace('_', '-')}=={version} --hash=sha256:{digest}\n")
    lock_path(kind, arch, suite).write_text(
        f"# Libraries of {kind.name} for {suite} on {arch}. Written by `python packaging/build.py --lock`.\n"
        + "".join(lines)
    )
    return len(lines)


def fetch(kind: Kind, arch: str, suite: str, cache: Path) -> list[Path]:
    """Bring the wheels of the lock file into `cache`, or find them there; return them sorted by name.

    Each is checked against its hash, also those that lay there already.
    """
    path = lock_path(kind, arch, suite)
    wanted = set(re.findall(r"sha256:([0-9a-f]{64})", path.read_text()))
    cache.mkdir(parents=True, exist_ok=True)
    found = _have(cache, wanted)
    if len(found) < len(wanted):
        _pip(arch, suite, cache, "--no-deps", "--require-hashes", f"--requirement={path}")
        found = _have(cache, wanted)
    if len(found) < len(wanted):
        raise SystemExit(f"{path}: {len(wanted) - len(found)} libraries could not be fetched; run again with a network")
    return sorted(found.values(), key=lambda wheel: wheel.name)


def _have(cache: Path, wanted: set[str]) -> dict[str, Path]:
    found = {hashlib.sha256(wheel.read_bytes()).hexdigest(): wheel for wheel in cache.glob("*.whl")}
    return {digest: wheel for digest, wheel in found.items() if digest in wanted}


def unpack(wheel: Path, site: Path, prefix: Path) -> None:
    """Lay a wheel's files where its installer would: code in `site`, data below `prefix`; scripts are left out."""
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            name = info.filename
            if info.is_dir() or PRUNED.search(name):
                continue
            top, _, rest = name.partition("/")
            target = site / name
            if top.endswith(".data"):
                place, _, inside = rest.partition("/")
                if place not in ("purelib", "platlib", "data"):
                    continue
                target = (prefix if place == "data" else site) / inside
            base = prefix if target.is_relative_to(prefix) else site
            if not target.resolve().is_relative_to(base.resolve()):
                raise SystemExit(f"{wheel.name}: {name} would be laid outside of the package")
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            target.chmod(0o755 if info.external_attr >> 16 & 0o111 and ".so" not in target.name else 0o644)
