"""What a disk must hold after a power cut: all that was told, nothing that was never there, and a store that opens."""

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agent.blocks import Block
from agent.dashcam.salvage import salvage
from agent.dashcam.segments import frame_times, segments
from agent.dashcam.watch import VIDEO
from agent.errors import StoreError
from agent.evidence import verify_package
from agent.incident.folder import PACKAGES, incidents
from agent.records import Package
from agent.store import Store
from agent.store.database import STORE_FILE, SUSPECT_FILE, reading_uri
from tests.crashing import S
from tests.kernel.moving import started_again
from tests.power_cuts import BOOT, START_S

CAR = "car"
FILM_S = 16  # that the camera sees, from START_S
GOOD = ("whole", "not begun")


@dataclass
class Told:
    """What had been said to be stored, at some moment."""

    seqs: dict[str, int] = field(default_factory=dict)
    acknowledged: dict[str, int] = field(default_factory=dict)
    samples: tuple[int, int] = (0, 0)
    now_ns: int = 0
    newest_ns: int = 0  # of the samples that a device had handed over
    begun: list[str] = field(default_factory=list)  # e.g. "migrate 0"
    over: list[str] = field(default_factory=list)
    clip: str = ""  # "begins", "ends"
    whole: bool = False

    def hear(self, line: str) -> None:
        """Take one line."""
        match line.split():
            case ["seq", lane, seq]:
                self.seqs[lane] = max(int(seq), self.seqs.get(lane, 0))
            case ["ack", lane, seq]:
                self.acknowledged[lane] = max(int(seq), self.acknowledged.get(lane, 0))
            case ["upto", count, t_ns]:
                self.samples = (int(count), int(t_ns))
            case ["now", t_ns, newest_ns]:
                self.now_ns, self.newest_ns = int(t_ns), int(newest_ns)
            case ["begins", what, turn]:
                self.begun.append(f"{what} {turn}")
            case ["over", what, turn]:
                self.over.append(f"{what} {turn}")
            case ["clip", what]:
                self.clip = what
            case ["whole"]:
                self.whole = True

    @classmethod
    def by(cls, lines: Iterable[str]) -> "Told":
        """Return what these lines told."""
        told = cls()
        for line in lines:
            told.hear(line)
        return told


@dataclass
class Truth:
    """What was measured and recorded, whatever a disk says."""

    keys: Any  # sorted: time and channel of each sample in one number
    values: Any  # of these; None where only times are known
    entries: Mapping[tuple[str, str, int], bytes] | None = None  # hash of each record, where all of them are known

    @classmethod
    def of(cls, samples: Block, entries: Mapping[tuple[str, str, int], bytes] | None, exact: bool) -> "Truth":
        """Take samples as measured, or, `exact`, as stored."""
        keys = _keys(samples)
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], samples["value"][order] if exact else None, entries)

    def false(self, kept: Block) -> int:
        """Return how many samples never were."""
        if not len(kept):
            return 0
        keys = _keys(kept)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        right = self.keys[at] == keys
        if self.values is not None:
            right &= self.values[at] == kept["value"]
        return int(np.count_nonzero(~right))


def _keys(samples: Block) -> Any:
    return samples["t"].astype(np.int64) * 1024 + samples["channel"]


@dataclass
class Found:
    """What a disk held after a cut."""

    # "whole", "not begun"; what a bad card may do: "lost", "quarantined", "told" (by `verify`), "mended",
    # "unmountable"; what nothing may do: "false", "refused"
    outcome: str
    detail: str = ""
    telemetry_s: float | None = None
    video_s: float | None = None


def entries_of(folder: Path) -> dict[tuple[str, str, int], bytes]:
    """Return the hash of each record of a store that nobody writes."""
    with closing(sqlite3.connect(reading_uri(folder / STORE_FILE), uri=True)) as connection:
        rows = connection.execute(
            "SELECT l.name, e.lane, e.seq, e.hash FROM entry e JOIN lineage l ON l.number = e.lineage"
        ).fetchall()
    return {(name, lane, seq): bytes(hash_) for name, lane, seq, hash_ in rows}


def look(folder: Path, told: Told, truth: Truth, received: Mapping[tuple[str, str, int], bytes] | None = None) -> Found:
    """Open a car's store as the next boot does, and hold it to what was told and what the receiver has.

    Where it meets damage and says that the next start moves it aside, that start comes. "lost" is what an honest disk
    never is: something told is not there. "false" and "refused" are what no disk may be: it holds something that was
    never measured or recorded, and does not say so.
    """
    found = _look(folder, told, truth, received or {})
    if found.outcome == "refused" and (folder / SUSPECT_FILE).exists():
        again = started_again(lambda: _look(folder, told, truth, received or {}), lambda seen: seen.detail)
        return again if again.outcome in ("refused", "false") else Found("told", found.detail)
    return found


def _look(folder: Path, told: Told, truth: Truth, received: Mapping[tuple[str, str, int], bytes]) -> Found:
    if not (folder / STORE_FILE).exists():
        return Found("lost" if told.seqs or told.samples[0] else "not begun", "no store")
    try:
        with Store.open(folder) as store:
            report = store.verify()
            heads, moved = store.heads(), store.moved_aside
            kept = store.read_block(START_S * S, 1 << 62, BOOT)
            key = verify_package.read_key(store.device)
            packages = {s.record.incident for s in store.records(Package)}
        entries = entries_of(folder)
    except StoreError as trouble:
        return Found("refused", str(trouble))
    if false := truth.false(kept):
        return Found("false", f"{false} samples that never were")
    if truth.entries is not None and (other := [k for k, v in entries.items() if truth.entries.get(k) != v]):
        return Found("false", f"records that never were: {other[:3]}")
    if moved:
        return Found("quarantined", moved)
    if not report.ok:
        return Found("told", str(report.faults[:3]))
    lost: list[str] = []
    for what, said in (("stored", told.seqs), ("acknowledged", told.acknowledged)):
        lost += [
            f"{lane} {heads.get(lane, 0)} of {seq} {what}" for lane, seq in said.items() if heads.get(lane, 0) < seq
        ]
    lost += [f"record {k} that the receiver has" for k, v in received.items() if entries.get(k) != v][:3]
    count, upto_ns = told.samples
    there = int(np.count_nonzero(kept["t"] <= upto_ns))
    if there < count:
        lost.append(f"samples: {there} of {count}")
    for incident in incidents(folder / PACKAGES):
        if incident.signed and incident.id in packages:
            faults = verify_package.verify(str(incident.folder), key).faults
            lost += [f"package {incident.id}: {faults[:2]}"] if faults else []
    if lost:
        return Found("lost", "; ".join(lost))
    newest_ns = int(truth.keys[-1] // 1024)
    if not told.now_ns or told.now_ns > newest_ns:  # once the drive is over nothing more can be lost of it
        return Found("whole")
    salvage(folder / VIDEO / "front")  # as the dashcam does when it starts
    shown = [t for s in segments(folder / VIDEO, "front", BOOT, 0, 1 << 62) for t in frame_times(s).tolist()]
    telemetry_ns = max(0, told.newest_ns - int(kept["t"].max(initial=START_S * S))) if told.newest_ns else 0
    video_s = (told.now_ns - max(shown, default=START_S * S)) / S if told.now_ns < (START_S + FILM_S) * S else None
    return Found("whole", "", telemetry_ns / S, video_s)
