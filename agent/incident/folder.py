"""The folder of one incident: who puts what there, how files become whole, and what stands there now.

`packages/<incident>/` beside the store is the whole state of an incident; nothing about it is kept elsewhere.

- It is begun by its head: `crash.json` (a crash; agent.incident.recorder writes it, and writes it again until it is
  final) or `request.json` (a clip that was asked for, or the answer to another command; `ask`). A folder without a head
  is not an incident yet.
- While it has no `manifest.sig` it grows: anyone may add files, by `write_files` or by NAME.part, fsync, rename, fsync
  of the folder. Names that end in `.part` do not count; left-over ones are removed when the agent starts.
- When `record_final` is true and the video is there or given up, the packager writes the manifest. Nothing is added
  or changed from then on, unless a second manifest names it.
- When the receiver holds every file, `acknowledge` says so in `packages/<incident>.acknowledged`, beside the folder.
  Only then may retention remove it, by renaming it first.

    for incident in incidents(packages):
        if not incident.signed and incident.video is not None and not incident.has("clip-front.mp4"):
            cut(incident.folder, incident.boot, incident.video.from_ns, incident.video.to_ns)
"""

import errno
import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from agent.durable import sync_folder
from agent.errors import StoreError
from agent.known import known
from agent.records import Crash, Mount

PACKAGES: Final = "packages"  # the folder of all incidents, in the folder of the store
RECORD: Final = "crash.json"
REQUEST: Final = "request.json"
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig"  # written last: with it, the package is signed
PART: Final = ".part"
ACKNOWLEDGED: Final = ".acknowledged"
FORMAT: Final = "roadwitness-crash/1"

_REMEDY: Final = {
    errno.ENOSPC: "free space on that disk",
    errno.EDQUOT: "raise the quota of the agent's user",
    errno.EROFS: "check that the disk is mounted rw",
    errno.EACCES: "check the owner of the folder",
}
_CHECK: Final = "check the card with dmesg"
_ID: Final = re.compile(r"[0-9a-f]{16}")
_log = logging.getLogger("agent.incident")


class Video(msgspec.Struct, frozen=True, kw_only=True):
    """The time that video is wanted of, monotonic ns of the incident's boot."""

    from_ns: int
    to_ns: int


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One table of the record: its file, and for each column its unit and the channel that gave it, "" for none."""

    file: str
    rows: int
    first_s: float | None  # time of the first and last row, from time zero; None without rows
    last_s: float | None
    units: dict[str, str]
    sources: dict[str, str]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """`crash.json`: what is known of the crash, and what the tables beside it hold."""

    format: str
    incident: str
    boot: str
    t0_ns: int  # monotonic ns of that boot; UTC is in the manifest, and utc_s in track.csv is the satellites' own
    complete: bool  # everything was measured, up to the end of the longest window, without a gap after time zero
    final: bool  # nothing will be added: complete, or cut for good by a power loss or the end of the recording
    reached_s: float | None  # time of the last sample in it, from time zero
    gaps_s: list[tuple[float, float]]  # when nothing at all was heard for 2 s or more: the agent did not run
    flags_s: dict[str, float | None] = {}  # when the car itself told of the crash (agent.incident.fields.FLAGS)
    video: Video
    mount: Mount | None  # how the box sat at time zero: turns imu.csv into the vehicle's axes; None if unknown
    crash: Crash
    tables: list[Part]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """`request.json`: a clip that somebody, or a rule, asked for without there being a crash; or an answer's files."""

    incident: str
    boot: str
    t_ns: int
    video: Video
    reason: str  # "command", or the kind of the event
    cameras: list[str] = []  # whose video is wanted; none: of all
    asked_boot: str = ""  # when it was asked for …
    asked_ns: int = 0  # … by the clock of that boot
    command: str = ""  # the id of the command that asked …
    actor: str = ""  # … who gave it …
    why: str = ""  # … and why
    kind: Literal["clip", "answer"] = "clip"  # an answer has no video, and its files stand there with this one
    told: str = ""  # what an answer says, in one sentence


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident as it stands on disk."""

    id: str
    folder: Path
    boot: str
    t0_ns: int  # time zero of the crash, or what was asked for
    video: Video  # the range that is wanted
    crash: Crash | None  # None where a clip was asked for
    record_complete: bool  # every sample that belongs to it was measured
    record_final: bool  # the record will not change any more: what the packager waits for
    files: tuple[str, ...]  # names of what stands there whole, by name
    acknowledged: bool  # the receiver holds all of it
    request: Request | None = None  # how it was asked for, where it was

    @property
    def signed(self) -> bool:
        """Say whether the manifest and its signature are there."""
        return SIGNATURE in self.files

    @property
    def filmed(self) -> bool:
        """Say whether video belongs to it: to a crash and to a clip, not to what a command was answered with."""
        return self.request is None or self.request.kind == "clip"

    def has(self, name: str) -> bool:
        """Say whether a whole file of that name is there."""
        return name in self.files


def incidents(packages: Path) -> list[Incident]:
    """Return every incident in `packages`, in the order of their heads; what cannot be read is logged and left out."""
    found = [incident for folder in folders(packages) if (incident := look(folder)) is not None]
    return sorted(found, key=lambda i: (_head_ns(i), i.t0_ns))


def folders(packages: Path) -> list[Path]:
    """Return the folders of all incidents by name, without those that retention is taking away; none, and logged, where
    `packages` cannot be read.
    """
    try:
        return sorted(entry for entry in packages.iterdir() if _ID.fullmatch(entry.name) and entry.is_dir())
    except FileNotFoundError:
        return []
    except OSError as e:
        _log.error("%s: cannot be read: %s; check the disk and the owner of the folder", packages, e.strerror)
        return []


def look(folder: Path) -> Incident | None:
    """Return the incident in one folder; None where it has no head, or one that cannot be read."""
    try:
        files = tuple(sorted(e.name for e in folder.iterdir() if e.is_file() and not e.name.endswith(PART)))
        acknowledged = marker(folder).exists()
        if RECORD in files:
            record = read_record(folder)
            return Incident(
                id=folder.name,
                folder=folder,
                boot=record.boot,
                t0_ns=record.t0_ns,
                video=record.video,
                crash=record.crash,
                record_complete=record.complete,
                record_final=record.final,
                files=files,
                acknowledged=acknowledged,
            )
        if REQUEST in files:
            request = msgspec.json.decode((folder / REQUEST).read_bytes(), type=known(Request))
            return Incident(
                id=folder.name,
                folder=folder,
                boot=request.boot,
                t0_ns=request.t_ns,
                video=request.video,
                crash=None,
                record_complete=True,
                record_final=True,
                files=files,
                acknowledged=acknowledged,
                request=request,
            )
    except FileNotFoundError:
        return None  # retention took it away
    except (OSError, msgspec.DecodeError) as e:
        _log.error("%s: its head cannot be read and is left out: %s", folder, e)
    return None


def read_record(folder: Path) -> Record:
    """Return `crash.json` of an incident; raise OSError or msgspec.DecodeError."""
    return msgspec.json.decode((folder / RECORD).read_bytes(), type=known(Record))


def ask(packages: Path, request: Request, files: Mapping[str, bytes] | None = None) -> Path:
    """Begin a package without a crash, durable on return; return its folder. Raise StoreError when the disk refuses.

    `files` stand there before the head does: with it, they are all there.
    """
    folder = packages / request.incident
    write_files(folder, {**(files or {}), REQUEST: encoded(request)})
    return folder


def acknowledge(packages: Path, incident: str) -> None:
    """Note, durably, that the receiver holds every file of the incident. Raise StoreError when the disk refuses."""
    write_files(packages, {incident + ACKNOWLEDGED: b""})


def marker(folder: Path) -> Path:
    """Return the file beside `folder` that says that the receiver holds all of it."""
    return folder.with_name(folder.name + ACKNOWLEDGED)


def write_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write whole files into `folder`, which is made where missing: all durable on return, each old or new, never torn.

    Raise StoreError naming the file when the disk refuses; files that stood there before stand there still.
    """
    name = ""
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(folder.parent)
            sync_folder(folder.parent.parent)
        for name, data in contents.items():
            _write_part(folder / (name + PART), data)
        for name in contents:
            os.replace(folder / (name + PART), folder / name)
        sync_folder(folder)
    except OSError as e:
        for left in contents:
            with suppress(OSError):  # a disk that has become read-only refuses this, too; `clean` does it later
                (folder / (left + PART)).unlink()
        raise StoreError(
            f"{folder / name}: cannot be written: {e.strerror}; {_REMEDY.get(e.errno or 0, _CHECK)}"
        ) from e


def clean(packages: Path) -> int:
    """Remove what was being written when power went; return how many files that were. Call before anyone writes."""
    torn = [*packages.glob(f"*/*{PART}"), *packages.glob(f"*{PART}")]
    for path in torn:
        try:
            path.unlink()
        except OSError as e:
            _log.warning("%s: cannot be removed: %s", path, e.strerror)
    return len(torn)


def encoded(value: msgspec.Struct) -> bytes:
    """Return JSON with sorted keys that a person can read."""
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=1) + b"\n"


def _write_part(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _head_ns(incident: Incident) -> int:
    """Return when the head was last written, by the wall clock of then."""
    try:
        return (incident.folder / (REQUEST if incident.crash is None else RECORD)).stat().st_mtime_ns
    except OSError:
        return 0
