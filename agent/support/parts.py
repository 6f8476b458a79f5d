"""What goes into a support bundle: each part by itself, and one that cannot be had is told and costs no other."""

import json
import os
import platform
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

import msgspec

from agent.clock import iso_utc
from agent.config import config_dir
from agent.doctor import Context, examine, next_step
from agent.doctor.finding import STATES
from agent.errors import RoadwitnessError
from agent.evidence.software import installed
from agent.ladder import LADDER_FILE
from agent.local import client
from agent.overlay import STATE, VALUES
from agent.records import Clock, Health, Reply
from agent.settings import load_agent
from agent.store import Store
from agent.store.database import STORE_FILE, reading_uri

UNITS: Final = {"agent": "roadwitness-agent", "dashcam": "roadwitness-dashcam", "vault": "roadwitness-vault"}
JOURNAL_S: Final = 10.0  # for one unit's log; a journal on a worn card is slow
KERNEL_LINES: Final = 2000
LATELY: Final = 500  # records of health, replies and clocks: the newest
SETTINGS: Final = ("agent.toml", "dashcam.toml")
SYSTEM: Final = ("/etc/os-release", "/proc/version", "/proc/uptime", "/proc/loadavg", "/proc/meminfo", "/proc/mounts")
MODEL: Final = Path("/proc/device-tree/model")
# Tables that say how much there is; none of their contents goes along.
COUNTED: Final = ("boot", "entry", "block", "piece", "event", "trip", "track", "crash", "package", "health", "reply")


class AbsentError(RoadwitnessError):
    """A part that cannot be had here; the text says why."""


@dataclass(frozen=True, slots=True)
class Source:
    """The box whose bundle is made."""

    folder: Path  # of the store
    config: Path | None = None  # agent.toml; None is this machine's
    log_bytes: int = 2 * 1024 * 1024  # of each log, the newest


Made = str | Any  # text as it is, anything else as JSON
Part = Callable[[Source], Made]


def doctor(source: Source) -> Made:
    """Return what the doctor finds, worst first, with the next step for each."""
    findings = sorted(_findings(source), key=lambda f: STATES.index(f.state))
    return [msgspec.to_builtins(f) | {"next": next_step(f)} for f in findings]


def _findings(source: Source) -> list[Any]:
    return examine(Context(store=source.folder, config=source.config, inside=True))  # it may be the daemon that asks


def log_of(unit: str) -> Part:
    """Return the part that is a unit's log, out of systemd's journal."""

    def read(source: Source) -> Made:
        lines = str(max(1000, source.log_bytes // 60))  # a line has some hundred bytes
        return _journal(["-u", unit, "-n", lines], source.log_bytes)

    return read


def kernel(source: Source) -> Made:
    """Return the kernel's log of this boot: under-voltage, cards that fail, buses that fall off."""
    return _journal(["-k", "-b", "-n", str(KERNEL_LINES)], source.log_bytes)


def _journal(which: list[str], most: int) -> str:
    program = shutil.which("journalctl")
    if program is None:
        raise AbsentError("there is no journalctl here")
    command = [program, "--no-pager", "-q", "-o", "short-iso", *which]
    try:
        done = subprocess.run(command, check=False, capture_output=True, timeout=JOURNAL_S)
    except subprocess.TimeoutExpired as e:
        raise AbsentError(f"the journal did not answer within {JOURNAL_S:g} s") from e
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise AbsentError(f"journalctl: {said[-1] if said else f'ended with {done.returncode}'}")
    text = done.stdout[-most:].decode("utf-8", "replace")
    if not text.strip():
        raise AbsentError("the journal has nothing of it, or shows this user nothing; run it with sudo")
    return text


def settings_file(name: str) -> Part:
    """Return the part that is a file of settings as it stands."""

    def read(source: Source) -> Made:
        folder = source.config.parent if source.config is not None else None
        own = source.config if source.config is not None and name == SETTINGS[0] else None
        for path in (own, *((folder or at) / name for at in (Path("/etc/roadwitness"), config_dir()))):
            if path is not None and path.is_file():
                return path.read_text("utf-8", "replace")
        raise AbsentError("there is no such file")

    return read


def beside(name: str) -> Part:
    """Return the part that is a small text file in the store's folder."""

    def read(source: Source) -> Made:
        try:
            return (source.folder / name).read_text("utf-8", "replace")
        except FileNotFoundError as e:
            raise AbsentError("there is none") from e

    return read


def in_force(source: Source) -> Made:
    """Return every setting with its default, and what was changed from afar laid over it."""
    return _plain(load_agent(source.config, source.folder))


def versions(_: Source) -> Made:
    """Return which software this is, and on which system it runs."""
    system = {path: _first_lines(Path(path)) for path in SYSTEM}
    found = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"]}
    return {
        "roadwitness": installed()._asdict(),
        "machine": platform.machine(),
        "model": "".join(_first_lines(MODEL)).strip("\0 "),
        "libraries": dict(sorted(found.items(), key=lambda item: item[0].lower())),
        "system": system,
    }


def status(source: Source) -> Made:
    """Return what the daemon says of itself; raise RoadwitnessError where it does not run."""
    return msgspec.to_builtins(client.status(source.folder))


def store(source: Source) -> Made:
    """Return how much the store holds and how far it is sent, without any of its contents."""
    with closing(Store.open(source.folder, read_only=True)) as opened:
        told: dict[str, Any] = {"lineage": opened.lineage, "device": opened.device}
        heads, positions = opened.heads(), opened.positions()
        told["lanes"] = {lane: {"head": heads[lane], "acknowledged": positions.get(lane, 0)} for lane in heads}
        told["dropped_samples"] = opened.dropped()
        told["packages"] = [
            {"incident": p.package.incident, "files": len(p.package.files), "held": p.acknowledged}
            for p in opened.uploads.packages()[-LATELY:]
        ]
        told["traffic_bytes"] = [{"day": d, "kind": k, "bytes": n} for (d, k), n in opened.uploads.traffic().items()]
    path = source.folder / STORE_FILE
    told["rows"] = _rows_of(path)
    told["bytes"] = {p.name: p.stat().st_size for p in (path, path.with_name(path.name + "-wal")) if p.exists()}
    disk = os.statvfs(source.folder)
    told["disk"] = {"free_bytes": disk.f_bavail * disk.f_frsize, "bytes": disk.f_blocks * disk.f_frsize}
    return told


def _rows_of(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(reading_uri(path), uri=True)) as connection:
        return {t: connection.execute(f"SELECT COUNT(*) FROM {t}").fetchone()[0] for t in COUNTED}


def health(source: Source) -> Made:
    """Return the newest states of devices and parts, and what the box learned of the time."""
    with closing(Store.open(source.folder, read_only=True)) as opened:
        return {
            "health": [_dated(s) for s in opened.records(Health)[-LATELY:]],
            "clock": [_dated(s) for s in opened.records(Clock)[-LATELY:]],
            "replies": [_dated(s) for s in opened.records(Reply)[-LATELY:]],
        }


def folder(source: Source) -> Made:
    """Return the names, sizes and modes of what stands in the store's folder and in those below it."""
    found = []
    for path in [source.folder, *sorted(source.folder.glob("*")), *sorted(source.folder.glob("*/*"))][: 4 * LATELY]:
        stat = path.lstat()
        name = path.relative_to(source.folder).as_posix()
        found.append({"name": name, "bytes": stat.st_size, "mode": f"{stat.st_mode:o}", "uid": stat.st_uid})
    return found


def _dated(stored: Any) -> dict[str, Any]:
    utc = None if stored.utc is None else iso_utc(stored.utc.utc_ns)
    return {"utc": utc, "boot": stored.boot_number, **msgspec.to_builtins(stored.record)}


def _first_lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()[:100]
    except OSError:
        return []


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


# name in the bundle -> what makes it; the first ones are what a desk looks at first
PARTS: Final[dict[str, Part]] = {
    "doctor.json": doctor,
    "status.json": status,
    "versions.json": versions,
    "health.json": health,
    "store.json": store,
    "folder.json": folder,
    "crashes.json": beside(LADDER_FILE),
    "config/in-force.json": in_force,
    **{f"config/{name}": settings_file(name) for name in SETTINGS},
    f"config/{VALUES}": beside(VALUES),
    f"config/{STATE}": beside(STATE),
    **{f"log/{name}.txt": log_of(unit) for name, unit in UNITS.items()},
    "log/kernel.txt": kernel,
}


def text_of(made: Made) -> str:
    """Write a part as it stands in the bundle."""
    return made if isinstance(made, str) else json.dumps(made, indent=1, ensure_ascii=False, default=str) + "\n"
