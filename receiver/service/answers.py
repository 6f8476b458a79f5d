"""What a box answered: the command, the files of its package, and what stands in them, bounded and never trusted."""

import logging
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from sqlalchemy import Engine

from agent.known import known
from receiver import commands, crashes
from receiver.commands import Asked
from receiver.crashes import PackageFile
from receiver.filestore import FileStore

log = logging.getLogger(__name__)

MOST_JSON: Final = 1 << 20
MOST_ROWS: Final = 500
DOCTOR: Final = "doctor.json"
CODES: Final = "codes.json"


class FoundBy(msgspec.Struct, frozen=True):
    """One finding of the doctor, in the box's own words."""

    check: str
    state: str
    found: str
    next: str = ""
    device: str = ""


class Code(msgspec.Struct, frozen=True):
    """One trouble code."""

    code: str
    kind: str
    unit: str
    text: str
    origin: str = ""


class _Doctor(msgspec.Struct):
    findings: list[FoundBy]


class _Codes(msgspec.Struct):
    codes: list[Code]
    protocol: str = ""
    lamp: bool | None = None
    notes: list[str] = []


@dataclass(frozen=True, slots=True)
class Answer:
    """All that is known of one command to a box."""

    asked: Asked
    files: list[PackageFile] = field(default_factory=list)
    findings: list[FoundBy] | None = None  # None where none have come
    codes: list[Code] | None = None
    protocol: str = ""
    lamp: bool | None = None
    notes: list[str] = field(default_factory=list)


def answer(engine: Engine, files: FileStore | None, device: str, command: str, now_ns: int) -> Answer | None:
    """Return what came of a command; None where this device never had it."""
    asked = commands.one(engine, device, command, now_ns)
    if asked is None:
        return None
    if asked.incident is None or files is None:
        return Answer(asked)
    held = [f for f in crashes.listed_files(engine, device, asked.incident) if f.held]
    doctor = _read(files, asked, held, DOCTOR, _Doctor)
    codes = _read(files, asked, held, CODES, _Codes)
    return Answer(
        asked=asked,
        files=held,
        findings=None if doctor is None else doctor.findings[:MOST_ROWS],
        codes=None if codes is None else codes.codes[:MOST_ROWS],
        protocol="" if codes is None else codes.protocol,
        lamp=None if codes is None else codes.lamp,
        notes=[] if codes is None else codes.notes[:MOST_ROWS],
    )


def _read(files: FileStore, asked: Asked, held: list[PackageFile], name: str, kind: type[Any]) -> Any:
    if not any(f.name == name and 0 < f.size <= MOST_JSON for f in held):
        return None
    try:
        with files.open(asked.device, str(asked.incident), name) as file:
            return msgspec.json.decode(file.read(MOST_JSON), type=known(kind))
    except (OSError, msgspec.DecodeError, RecursionError, UnicodeDecodeError) as e:
        log.warning("answer %s of device %s: %s cannot be read: %s", asked.id, asked.device, name, e)
        return None
