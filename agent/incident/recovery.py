"""After a restart: every crash that the store knows of has its package again, or goes on growing.

Samples are in the store within a second, and at once when there was a crash, so that whatever a power cut left of a
folder can be made again. What can still grow (same boot, its window not over) goes to the recorder of the new life;
what cannot is cut from the store and is final, `complete` only where no sample is missing.
"""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from agent.clock import NS_PER_S
from agent.fuse.fusion import Fusion
from agent.incident.folder import RECORD, clean, encoded, look, read_record
from agent.incident.recorder import Draft, Recorder
from agent.incident.tables import AFTER_NS, BACK_NS
from agent.records import Crash, Mount, Package
from agent.settings import AgentConfig
from agent.store import Store

log = logging.getLogger(__name__)

_LOOK_AHEAD_NS = 2 * NS_PER_S  # of fused speed, and to see that samples went on after the window


def take_up(
    store: Store,
    packages: Path,
    recorder: Recorder,
    found: Iterable[Crash],
    settings: AgentConfig,
    working: Callable[[], None],
) -> list[Draft]:
    """Return what is to be written of all crashes of all boots; those that can grow go to the `recorder`.

    `recorder` is the current boot's and has seen its stored samples (agent.recovery.resumed); `found` are its crashes
    that were found just now. Torn files are removed. `working` is called after each package that is made anew.
    """
    boot = recorder.boot
    torn = clean(packages)
    if torn:
        log.warning("%s: removed %d files that were being written when power went", packages, torn)
    by_boot: dict[str, dict[str, Crash]] = {boot: {}}
    for stored in store.records(Crash):
        if not stored.recorded:
            _newer(by_boot.setdefault(stored.boot, {}), stored.record)
    for crash in found:
        _newer(by_boot[boot], crash)
    packed = {stored.record.incident for stored in store.records(Package)}
    span = store.span(boot)
    reached_ns = span[1] if span else 0
    drafts: list[Draft] = []
    for of, crashes in by_boot.items():
        # A fresh recorder of another boot only repeats the decision who gets a package.
        judge = recorder if of == boot else Recorder(settings.incident, of)
        for crash in sorted(crashes.values(), key=lambda c: c.t_ns):
            there = look(packages / crash.id)
            over = crash.id in packed or (there is not None and there.record_final)
            growing = not over and of == boot and reached_ns <= crash.t_ns + AFTER_NS
            if judge.resume(crash, growing=growing) and not over and not growing:
                drafts += _made_anew(store, packages / crash.id, of, crash, settings)
                working()
    return drafts + recorder.drafts()


def _newer(crashes: dict[str, Crash], crash: Crash) -> None:
    """Keep the later telling of a crash: the one that is complete."""
    if crash.id not in crashes or crash.complete:
        crashes[crash.id] = crash


def _made_anew(store: Store, folder: Path, boot: str, crash: Crash, settings: AgentConfig) -> list[Draft]:
    """Return the final record of a crash by what is stored; nothing where neither samples nor a folder are left."""
    mounts = [s.record for s in store.records(Mount, boot) if s.record.t_ns <= crash.t_ns]
    block = store.read_block(crash.t_ns - BACK_NS, crash.t_ns + AFTER_NS + _LOOK_AHEAD_NS, boot)
    if not len(block) and not folder.exists():
        return []
    recorder = Recorder(settings.incident, boot)
    for mount in mounts:
        recorder.mount_known(mount)
    recorder.resume(crash, growing=True)
    rows = Fusion(settings.fusion, mounts[-1] if mounts else None).step(block)
    (draft,) = recorder.step(block, [rows], []) or recorder.finish()
    return [_with_fuller(draft, folder)]


def _with_fuller(draft: Draft, folder: Path) -> Draft:
    """Keep a table that stands on disk with more in it: the store holds less of a parked car, or refused samples."""
    try:
        before = read_record(folder)
        there = {
            part.file: part
            for part in before.tables
            if (folder / part.file).stat().st_size > len(draft.files[part.file])
        }
    except (OSError, KeyError, msgspec.DecodeError):
        return draft
    if not there:
        return draft
    record = msgspec.structs.replace(
        draft.record,
        tables=[there.get(part.file, part) for part in draft.record.tables],
        reached_s=max(before.reached_s or 0.0, draft.record.reached_s or 0.0),
    )
    files = {name: data for name, data in draft.files.items() if name not in there}
    return Draft(draft.id, files | {RECORD: encoded(record)}, record)
