"""Build the Debian packages, the same bytes from the same commit: `python packaging/build.py roadwitness --arch arm64`.

A package holds a whole virtual environment below /opt/roadwitness-VERSION. Its libraries come from locked wheels that
are only unpacked, so that an arm64 package is built on any machine; nothing of it runs here.
"""

import argparse
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent, fill

from kinds import ARCHITECTURES, HERE, KINDS, REFUSED, ROOT, SUITES, Kind
from wheels import fetch, lock, unpack

SKIPPED = {"__pycache__", ".mypy_cache"}


def version_of(root: Path) -> str:
    """Return the product's version as pyproject.toml says it."""
    return str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"])


def epoch_of(root: Path) -> int:
    """Return the time that all files get: SOURCE_DATE_EPOCH, else that of the commit."""
    said = os.environ.get("SOURCE_DATE_EPOCH")
    if said:
        return int(said)
    done = subprocess.run(["git", "-C", root, "log", "-1", "--format=%ct"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit("no commit to take the time from: build in a clone, or set SOURCE_DATE_EPOCH")
    return int(done.stdout)


def _copy(source: Path, target: Path, mode: int = 0o644) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _copy_folder(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        if path.is_file() and not SKIPPED & set(inside.parts) and path.suffix not in (".pyc", ".nbi", ".nbc"):
            _copy(path, target / inside)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def lay_program(kind: Kind, version: str, suite: str, wheels: list[Path], stage: Path) -> Path:
    """Lay the virtual environment into `stage`; return its folder there."""
    python = SUITES[suite]
    where = f"/opt/roadwitness-{version}"
    prefix = stage / where[1:]
    site = prefix / "lib" / f"python{python}" / "site-packages"
    for wheel in wheels:
        unpack(wheel, site, prefix)
    for folder in kind.code:
        _copy_folder(ROOT / folder, site / folder)
    info = site / f"roadwitness-{version}.dist-info"
    _write(info / "METADATA", f"Metadata-Version: 2.1\nName: roadwitness\nVersion: {version}\nLicense: MIT\n")
    _write(info / "entry_points.txt", "[console_scripts]\nroadwitness = agent.cli:main\n")
    _write(info / "INSTALLER", "dpkg\n")
    _write(prefix / "pyvenv.cfg", f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {python}\n")
    (prefix / "bin").mkdir()
    for name in ("python", "python3", f"python{python}"):
        (prefix / "bin" / name).symlink_to(f"/usr/bin/python{python}")
    # The path with the version in it: a process goes on with its own modules while the link moves to another.
    # -I: no module from where somebody happens to stand, no variable of the environment.
    _write(
        prefix / "bin" / "roadwitness",
        f"#!{where}/bin/python -I\nimport sys\n\nfrom agent.cli import main\n\nsys.exit(main())\n",
        0o755,
    )
    share = prefix / "share" / "roadwitness"
    _copy_folder(ROOT / "config", share / "config")
    for name, place in kind.files:
        _copy(ROOT / "systemd" / name, share / "system" / place / Path(name).name)
    return prefix


def _compile(python: str, prefix: Path, stage: Path) -> None:
    """Compile all Python files, in one process and order, to be trusted unchecked whatever times they have."""
    program = _interpreter(python)
    if program is None:
        raise SystemExit(
            f"python{python} is not on this machine: it compiles what it will run; install it, or build there"
        )
    command = [program, "-I", "-m", "compileall", "-q", "-f", "--invalidation-mode=unchecked-hash"]
    done = subprocess.run(
        [*command, "-s", stage, "-p", "/", prefix / "lib"],
        env={"PYTHONHASHSEED": "0", "PATH": os.environ["PATH"]},
        check=False,
    )
    if done.returncode not in (0, 1):  # 1: a library brings a file for another Python
        raise SystemExit(f"python{python} could not compile the package")


def _interpreter(python: str) -> str | None:
    """Return a program that is this Python: ours, or the first on the path that really starts."""
    if f"{sys.version_info[0]}.{sys.version_info[1]}" == python:
        return sys.executable
    for folder in os.environ["PATH"].split(os.pathsep):
        program = f"{folder}/python{python}"
        # pyenv's names stand there also for versions that are not chosen
        if os.access(program, os.X_OK):
            done = subprocess.run([program, "-c", ""], capture_output=True, check=False)
            if done.returncode == 0:
                return program
    return None


def lay_system(kind: Kind, version: str, day: datetime, prefix: Path, stage: Path, trust: Path | None = None) -> None:
    """Lay what stands outside of /opt: units and rules, settings, man pages, documentation."""
    _copy_folder(prefix / "share" / "roadwitness" / "system", stage)
    for name in kind.settings:
        _copy(ROOT / "config" / name, stage / "etc" / "roadwitness" / name)
    if trust is not None:
        _copy(trust, stage / "etc" / "roadwitness" / "update-root.json")
    (stage / "usr" / "bin").mkdir(parents=True, exist_ok=True)
    (stage / "usr" / "bin" / "roadwitness").symlink_to("/opt/roadwitness/bin/roadwitness")
    man = stage / "usr" / "share" / "man" / "man1"
    command = [sys.executable, str(HERE / "man.py"), str(man), version, f"{day:%Y-%m-%d}", *kind.code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0", "COLUMNS": "100"}
    subprocess.run(command, env=environment, check=True)
    docs = stage / "usr" / "share" / "doc" / kind.name
    _write(docs / "copyright", (HERE / "copyright").read_text())
    (docs / "NEWS.md.gz").write_bytes(_gzip((ROOT / "CHANGELOG.md").read_bytes()))
    log = f"{kind.name} ({version}) stable; urgency=medium\n\n  * Built from the commit of that version; see NEWS.md.\n"
    log += f"\n -- Roadwitness <packages@roadwitness.invalid>  {day:%a, %d %b %Y %H:%M:%S +0000}\n"
    (docs / "changelog.gz").write_bytes(_gzip(log.encode()))
    for folder in (man, docs):
        for path in folder.iterdir():
            path.chmod(0o644)


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def lay_control(kind: Kind, version: str, arch: str, suite: str, stage: Path) -> None:
    """Write DEBIAN/: control, conffiles, checksums and the maintainer's scripts."""
    python = SUITES[suite]
    files = sorted(p for p in stage.rglob("*") if p.is_file() and not p.is_symlink())
    kib = sum(-(-p.stat().st_size // 1024) for p in files)
    needs = ", ".join((f"python{python}", "libc6 (>= 2.36)", "systemd", "passwd", "procps", *kind.needs))
    summary, *rest = (HERE / kind.name / "description").read_text().strip().split("\n\n")
    paragraphs = "\n .\n".join(fill(" ".join(p.split()), 78, initial_indent=" ", subsequent_indent=" ") for p in rest)
    other = next(name for name in KINDS if name != kind.name)
    _write(
        stage / "DEBIAN" / "control",
        dedent(f"""\
            Package: {kind.name}
            Version: {version}
            Architecture: {arch}
            Maintainer: Roadwitness <packages@roadwitness.invalid>
            Installed-Size: {kib}
            Depends: {needs}
            Recommends: {", ".join(kind.recommends)}
            Conflicts: {other}
            Section: misc
            Priority: optional
            Description: """)
        + f"{summary}\n{paragraphs}\n",
    )
    conffiles = sorted(f"/{p.relative_to(stage)}\n" for p in files if p.is_relative_to(stage / "etc"))
    _write(stage / "DEBIAN" / "conffiles", "".join(conffiles))
    sums = (f"{hashlib.md5(p.read_bytes()).hexdigest()}  {p.relative_to(stage)}\n" for p in files)
    _write(stage / "DEBIAN" / "md5sums", "".join(sums))
    for script in ("preinst", "postinst", "prerm", "postrm"):
        source = HERE / kind.name / script
        if source.exists():
            _write(stage / "DEBIAN" / script, _filled(source.read_text(), version), 0o755)


def _filled(script: str, version: str) -> str:
    """Put the package's version and that of the folder in /opt, which no release of Debian is in, into a script."""
    return script.replace("@VERSION@", version).replace("@TREE@", version.partition("+")[0])


def _settle_times(stage: Path, epoch: int) -> None:
    for path in [stage, *stage.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def build(
    kind: Kind, arch: str, suite: str, version: str, out: Path, level: int | None, trust: Path | None = None
) -> Path:
    """Build one package into `out` and return its path; without a `level` it is not compressed."""
    epoch = epoch_of(ROOT)
    day = datetime.fromtimestamp(epoch, UTC)
    wheels = fetch(kind, arch, suite, ROOT / "build" / "wheels")
    suffix = "" if suite == "bookworm" else f"+{suite}"
    with tempfile.TemporaryDirectory(prefix="roadwitness-deb-") as folder:
        stage = Path(folder) / "stage"
        prefix = lay_program(kind, version, suite, wheels, stage)
        _compile(SUITES[suite], prefix, stage)
        lay_system(kind, version + suffix, day, prefix, stage, trust)
        lay_control(kind, version + suffix, arch, suite, stage)
        _settle_times(stage, epoch)
        out.mkdir(parents=True, exist_ok=True)
        deb = out / f"{kind.name}_{version}{suffix}_{arch}.deb"
        packed = ["-Znone"] if level is None else ["-Zxz", f"-z{level}"]
        command = ["dpkg-deb", "--root-owner-group", *packed, "--build", str(stage), str(deb)]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return deb


def main() -> None:
    """Build what the command line names, or write the lock files anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", nargs="?", choices=KINDS, default="roadwitness")
    parser.add_argument("--arch", default="amd64")
    parser.add_argument("--suite", choices=SUITES, default="bookworm")
    parser.add_argument("--version", default=version_of(ROOT), help="build as another version, for tests of upgrades")
    parser.add_argument("--out", type=Path, default=ROOT / "build")
    parser.add_argument("--level", type=int, default=6, help="of xz: 0 is fast and large")
    parser.add_argument("--plain", action="store_true", help="not compressed: three times as large, quickly laid down")
    parser.add_argument("--trust", type=Path, help="the vendor's 1.root.json: what boxes take updates by")
    parser.add_argument("--lock", action="store_true", help="resolve the libraries anew and write packaging/locks")
    asked = parser.parse_args()
    if asked.arch in REFUSED:
        raise SystemExit(f"no package for {asked.arch}: {REFUSED[asked.arch]}")
    if asked.arch not in ARCHITECTURES:
        raise SystemExit(f"no package for {asked.arch}; there are {', '.join(ARCHITECTURES)}")
    if asked.lock:
        for kind in KINDS.values():
            for suite in SUITES:
                for arch in ARCHITECTURES:
                    print(f"{kind.name} {suite} {arch}: {lock(kind, arch, suite)} libraries")
        return
    began = time.perf_counter()
    level = None if asked.plain else asked.level
    deb = build(KINDS[asked.package], asked.arch, asked.suite, asked.version, asked.out, level, asked.trust)
    print(f"{deb} {deb.stat().st_size / 1e6:.1f} MB in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
