"""Taking an answer off the receiver's machine: lines for a terminal, files into a folder; each file is logged first."""

from pathlib import Path

from sqlalchemy import Engine

from agent.errors import StoreError
from receiver import access
from receiver.access import Look
from receiver.filestore import FileStore
from receiver.service.answers import Answer


def lines(answer: Answer) -> list[str]:
    """Return findings and codes as lines."""
    found = []
    for f in answer.findings or []:
        found.append(f"{f.state:8}{f.check}{f'  {f.device}' if f.device else ''}")
        found += [f"{'':8}{f.found}", *([f"{'':8}→ {f.next}"] if f.next else [])]
    for c in answer.codes or []:
        found += [f"{c.code:8}{c.kind}, {c.unit}", f"{'':8}{c.text}"]
    return found


def copy(engine: Engine, files: FileStore, answer: Answer, folder: Path, who: str, now_ns: int) -> None:
    """Copy the files of an answer into a folder, which is made; raise StoreError with what failed."""
    device, incident = answer.asked.device, str(answer.asked.incident)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for f in answer.files:
            access.append(engine, Look(who, access.LOCAL, device, incident, "file", f.name), now_ns)
            with files.open(device, incident, f.name) as source:
                (folder / f.name).write_bytes(source.read())
    except OSError as e:
        raise StoreError(f"{folder}: the answer cannot be copied there: {e.strerror or e}") from e
