"""What the builder of packages can be held to without building one; tests/packaging builds and installs them."""

import gzip
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from agent.cli import COMMANDS, parts

sys.path.insert(0, str(Path(__file__).parents[1] / "packaging"))
import man
from kinds import ARCHITECTURES, KINDS, SUITES, Kind
from wheels import lock_path, unpack

ROOT = Path(__file__).parents[1]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    return {canonical(n): v for n, v in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE)}


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_each_library_is_locked_by_version_and_hash(kind: Kind, suite: str, arch: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {*project["dependencies"], *(w for e in kind.extras for w in project["optional-dependencies"][e])}
    text = lock_path(kind, arch, suite).read_text()
    locked, constraints = pins(text), pins((ROOT / "constraints.txt").read_text())
    missing = (
        {canonical(re.split(r"[>=\[]", w)[0]) for w in wanted} - locked.keys() - {canonical(w) for w in kind.without}
    )
    assert missing == set(), "run: python packaging/build.py --lock"
    assert {n: v for n, v in locked.items() if constraints.get(n, v) != v} == {}, (
        "run: python packaging/build.py --lock"
    )
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}$", text, re.MULTILINE)) == len(locked)


def test_each_file_for_the_system_is_in_a_package() -> None:
    packed = {name for kind in KINDS.values() for name, _ in kind.files}
    assert {str(p.relative_to(ROOT / "systemd")) for p in (ROOT / "systemd").rglob("*") if p.is_file()} == packed
    config = {p.name for p in (ROOT / "config").glob("*.toml")}
    assert {name for kind in KINDS.values() for name in kind.settings} <= config


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_each_command_of_a_package_has_a_man_page_that_is_the_same_each_time(kind: Kind, tmp_path: Path) -> None:
    written = man.write(tmp_path / "once", "1.0.0", "2026-01-01", list(kind.code))
    wanted = {name for name in COMMANDS if set(parts(name)) <= set(kind.code)}
    assert {p.name for p in written} == {"roadwitness.1.gz"} | {f"roadwitness-{name}.1.gz" for name in wanted}
    assert "receiver" in wanted if "receiver" in kind.code else "agent" in wanted
    again = man.write(tmp_path / "again", "1.0.0", "2026-01-01", list(kind.code))
    assert [p.read_bytes() for p in written] == [p.read_bytes() for p in again]
    for page in written:
        text = gzip.decompress(page.read_bytes()).decode()
        assert text.startswith(f'.TH {page.name.removesuffix(".1.gz").upper()} 1 "2026-01-01"')
        assert "None" not in re.sub(r"[Nn]one of", "", text)


def test_a_processor_without_libraries_is_refused_by_name_and_reason() -> None:
    command = [sys.executable, "packaging/build.py", "--arch"]
    for arch, told in (("armhf", "no builds for 32-bit ARM"), ("mips", "there are amd64, arm64")):
        done = subprocess.run([*command, arch], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert f"no package for {arch}" in done.stderr
        assert told in done.stderr


def test_a_wheel_lays_nothing_outside_of_its_place(tmp_path: Path) -> None:
    wheel = tmp_path / "a-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("a/__init__.py", "")
        archive.writestr("a-1.data/data/share/a.txt", "")
        archive.writestr("a-1.data/scripts/a", "")
        archive.writestr("numba/tests/test_a.py", "")
    prefix = tmp_path / "prefix"
    unpack(wheel, prefix / "lib", prefix)
    laid = {str(p.relative_to(prefix)) for p in prefix.rglob("*") if p.is_file()}
    assert laid == {"lib/a/__init__.py", "share/a.txt"}
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("../../evil.py", "")
    with pytest.raises(SystemExit, match="outside of the package"):
        unpack(wheel, prefix / "lib", prefix)
