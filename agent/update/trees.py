"""Versions side by side below /opt, two links that say which runs and which is known to be good."""

import os
import re
import shutil
from pathlib import Path
from typing import Final

from agent.durable import replace_whole, sync_folder
from agent.update.place import Place, Run, UpdateError

ACTIVE: Final = "roadwitness"  # runs
GOOD: Final = "roadwitness-good"  # judges: the last version that proved healthy
VERSION: Final = re.compile(r"\d+\.\d+\.\d+")
_STAGING: Final = ".roadwitness-staging"
_KEPT: Final = ".roadwitness-kept"
_ROOM: Final = 6  # of a package's size: unpacked it is 5 times as large (docs/decisions/0302)


def number(version: str) -> tuple[int, ...]:
    """Return what versions are compared by."""
    return tuple(int(part) for part in version.split("."))


def at(place: Place, link: str) -> str:
    """Return the version that a link points to; "" where there is none."""
    try:
        return os.readlink(place.opt / link).removeprefix("roadwitness-")
    except OSError:
        return ""


def point(place: Place, link: str, version: str) -> None:
    """Let a link point to a version, in one step that a power cut leaves done or not done; raise UpdateError."""
    new = place.opt / f".{link}.new"
    try:
        new.unlink(missing_ok=True)
        new.symlink_to(place.tree(version).name)
        os.replace(new, place.opt / link)
        sync_folder(place.opt)
    except OSError as e:
        raise UpdateError(
            f"{place.opt / link}: cannot be changed: {e.strerror}; a read-only root needs /opt on the data partition"
        ) from e


def versions(place: Place) -> list[str]:
    """Return all versions that are laid down, the oldest first."""
    found = [
        path.name.removeprefix("roadwitness-") for path in place.opt.glob("roadwitness-*") if not path.is_symlink()
    ]
    return sorted((v for v in found if VERSION.fullmatch(v)), key=number)


def stage(place: Place, package: Path, version: str, run: Run) -> None:
    """Lay a package's version beside the others, without dpkg and without changing what runs; raise UpdateError."""
    fields = run(["dpkg-deb", "--show", "--showformat=${Package} ${Version} ${Architecture}", str(package)])
    machine = run(["dpkg", "--print-architecture"])
    words = fields.output.split()
    if fields.code or len(words) != 3 or words[0] != "roadwitness" or words[1].partition("+")[0] != version:
        raise UpdateError(f"{package}: is not roadwitness {version} but {fields.last_line}; the repository is wrong")
    if words[2] != machine.output.strip():
        raise UpdateError(f"{package}: is for {words[2]}, this machine is {machine.output.strip()}")
    if place.tree(version).exists():
        if version in (at(place, ACTIVE), at(place, GOOD)):
            raise UpdateError(f"roadwitness {version} is installed already")
        shutil.rmtree(place.tree(version))
    staging = place.opt / _STAGING
    shutil.rmtree(staging, ignore_errors=True)
    try:
        free = shutil.disk_usage(place.opt).free
        if free < _ROOM * package.stat().st_size:
            raise UpdateError(
                f"{place.opt}: {free >> 20} MiB are free; {_ROOM * package.stat().st_size >> 20} are needed"
            )
        staging.mkdir()
        done = run(["dpkg-deb", "--extract", str(package), str(staging)])
        if done.code:
            raise UpdateError(f"{package}: cannot be unpacked: {done.last_line}")
        os.sync()  # a version exists once it is whole on the disk
        os.rename(staging / "opt" / place.tree(version).name, place.tree(version))
        sync_folder(place.opt)
    except OSError as e:
        raise UpdateError(f"{place.opt}: roadwitness {version} cannot be laid down: {e.strerror}") from e
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _system_files(tree: Path) -> dict[Path, Path]:
    folder = tree / "share" / "roadwitness" / "system"
    return {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}


def activate(place: Place, version: str, other: str, run: Run) -> None:
    """Let `version` be what runs from its next start: its units and rules, its users, then the link.

    Every step may be repeated after a power cut, and what is done is durable when this returns. Files that only
    `other` has go.
    """
    wanted, had = _system_files(place.tree(version)), _system_files(place.tree(other))
    try:
        for inside, source in wanted.items():
            target = place.root / inside
            data = source.read_bytes()
            if not target.is_file() or target.read_bytes() != data:
                replace_whole(target, data)
        for inside in had.keys() - wanted.keys():
            (place.root / inside).unlink(missing_ok=True)
    except OSError as e:
        raise UpdateError(
            f"{e.filename}: cannot be changed: {e.strerror}; mount the root writable before an update (docs/updates.md)"
        ) from e
    run(["systemd-sysusers", "roadwitness.conf"])
    run(["systemd-tmpfiles", "--create", "roadwitness.conf"])
    point(place, ACTIVE, version)
    run(["systemctl", "daemon-reload"])


def register(place: Place, package: Path, keep: str, run: Run) -> str:
    """Tell dpkg of the version that runs already; what it removes of `keep` stays. Return what went wrong, or ""."""
    kept, tree = place.opt / _KEPT, place.tree(keep)
    _take_back(kept, tree)  # a registration that was cut
    run(["dpkg", "--configure", "-a"])
    partial = place.opt / f"{_KEPT}.new"
    shutil.rmtree(partial, ignore_errors=True)
    if tree.is_dir():
        if run(["cp", "-al", str(tree), str(partial)]).code:
            return f"{tree}: cannot be kept beside dpkg"
        os.rename(partial, kept)
    done = run(["dpkg", "--install", "--force-confold", "--force-confdef", str(package)])
    _take_back(kept, tree)
    return done.last_line if done.code else ""


def _take_back(kept: Path, tree: Path) -> None:
    """Put the whole copy where dpkg removed the version, in whole or in part."""
    if kept.is_dir():
        shutil.rmtree(tree, ignore_errors=True)
        os.rename(kept, tree)


def sweep(place: Place, keep: set[str]) -> None:
    """Remove versions that nobody goes back to, and what an update that was cut left."""
    shutil.rmtree(place.opt / _STAGING, ignore_errors=True)
    wanted = keep | {at(place, ACTIVE), at(place, GOOD)}
    for version in versions(place):
        if version not in wanted:
            shutil.rmtree(place.tree(version), ignore_errors=True)
