"""The manifest: what a package holds, when and by what it was measured, and what is missing. Facts in, a value out.

Written as canonical JSON (agent.evidence.canonical). Nanoseconds are texts: JSON numbers are exact only to 2**53,
which a UTC in ns exceeds. `verify_package` reads it and is the other half of this file.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from agent.clock import NS_PER_S
from agent.evidence.contents import what_is
from agent.evidence.software import installed
from agent.evidence.verify_package import CHAIN, FORMAT, RECORD, device_id, utc_text
from agent.incident.folder import Incident, Part, Record
from agent.known import known
from agent.records import Clock, Crash, Event, Health, Mount
from agent.store import Store
from agent.store.proofs import Proof
from agent.store.reading import Utc, best_utc

AROUND_NS: Final = 60 * NS_PER_S  # events and health around time zero, as long as the track before it
MOST_HEALTH: Final = 200  # a device that flickers fills no package
# Nobody proves more than this; it stands in every package (docs/evidence.md)
LIMITS: Final = (
    "The signature proves that nothing was changed since it was made; not that what was measured was true.",
    "The key is kept in software: whoever controlled the device before time zero could have signed false data.",
    "How right the clock was is stated, not proved; a time-stamp by a third party (RFC 3161) proves the latest time.",
    "This is an EDR-style record of an after-market device, not that of the vehicle's own event data recorder.",
)


class Missing(msgspec.Struct, frozen=True):
    """Something that one would look for and that is not there."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Material:
    """What only those who make an incident's files know of it."""

    waiting: str = ""  # what is still to come, in words; "" when nothing is
    missing: Sequence[Missing] = ()  # what was given up, and why
    covers: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # file -> first and last ns of the boot
    instruments: Mapping[str, Any] = field(default_factory=dict)  # sensor -> its scale, range, rate … (JSON values)


@dataclass(frozen=True, slots=True)
class FileFact:
    """A file of the package as it was read."""

    name: str
    size: int
    sha256: str
    sm3: str | None


def device(algorithm: str, public_key: bytes) -> dict[str, str]:
    """Say who signs."""
    return {"id": device_id(public_key), "algorithm": algorithm, "public_key": public_key.hex()}


def moment(t_ns: int, utc: Utc | None) -> dict[str, str]:
    """Write a time of a boot with its UTC and how well that is known."""
    if utc is None:
        return {"t_ns": str(t_ns), "quality": "none"}
    return {
        "t_ns": str(t_ns),
        "utc": utc_text(utc.utc_ns),
        "utc_ns": str(utc.utc_ns),
        "quality": utc.quality,
        "uncertainty_ns": str(utc.uncertainty_ns),
    }


def evidence(store: Store, incident: Incident) -> list[Proof]:
    """Return the signed records that the package rests on.

    All crash records from the incident's first to its last, so that none can be taken out; all clock records of the
    boot; how the box sat; the state of every device at time zero; events and changes within a minute.
    """
    t0_ns, boot = incident.t0_ns, incident.boot
    if not incident.filmed:  # what was driven around the answer to a command is not part of it
        return store.proofs(Clock, boot)
    from_ns, to_ns = t0_ns - AROUND_NS, t0_ns + AROUND_NS
    crashes = store.proofs(Crash, boot)
    own = [i for i, proof in enumerate(crashes) if _body(proof, Crash).id == incident.id]
    found = crashes[own[0] : own[-1] + 1] if own else []
    found += store.proofs(Clock, boot)
    found += [p for p in store.proofs(Event, boot) if from_ns <= _body(p, Event).t_ns <= to_ns]
    mounts = store.proofs(Mount, boot)
    found += [p for p in mounts if _body(p, Mount).t_ns <= t0_ns][-1:] or mounts[:1]
    state: dict[str, Proof] = {}
    changes: list[Proof] = []
    for proof in store.proofs(Health, boot):
        health = _body(proof, Health)
        if health.t_ns <= t0_ns:
            state[health.source] = proof
        if from_ns <= health.t_ns <= to_ns:
            changes.append(proof)
    kept = {(p.entry.lineage, p.entry.seq): p for p in [*changes[-MOST_HEALTH:], *state.values()]}
    found += kept.values()
    return sorted(found, key=lambda p: (p.entry.lane, p.number))


def learned(proofs: Iterable[Proof], t_ns: int) -> Utc | None:
    """Return the UTC of a time of the incident's boot by its signed clock records, so that these prove it."""
    return best_utc([_body(p, Clock) for p in proofs if p.entry.kind == "clock"], t_ns)


def chain_file(proofs: Iterable[Proof]) -> bytes:
    """Write records, one line each, with all that is needed to check hash and signature."""
    lines = []
    for entry, previous, _ in proofs:
        row = {
            "lineage": entry.lineage,
            "lane": entry.lane,
            "seq": entry.seq,
            "boot": entry.boot,
            "t_ns": str(entry.t_ns),
            "kind": entry.kind,
            "body": entry.body.decode(),
            "previous": previous.hex(),
            "hash": entry.hash.hex(),
            "signature": entry.signature.hex(),
        }
        lines.append(msgspec.json.encode(row) + b"\n")
    return b"".join(lines)


def manifest(
    incident: Incident,
    record: Record | None,
    proofs: Sequence[Proof],
    files: Sequence[FileFact],
    material: Material,
    *,
    edition: int,
    made: dict[str, str],
    time_zero: Utc | None,
    replayed: bool,
    signer: dict[str, str],
) -> dict[str, Any]:
    """Put the manifest together; `record` is crash.json, None where no crash began the package."""
    missing = [*material.missing, *_gaps(incident, record, files, time_zero, material)]
    if material.waiting:
        missing.append(Missing("the rest", material.waiting))
    covers = {**_tables(record), **material.covers}
    software = installed()
    return {
        "format": FORMAT,
        "incident": incident.id,
        "kind": "crash" if incident.request is None else incident.request.kind,
        "edition": edition,
        "complete": not material.waiting,  # nothing will be added
        "record_complete": incident.record_complete,  # everything that belongs to it was measured
        "boot": incident.boot,
        "replayed": replayed,
        "time_zero": moment(incident.t0_ns, time_zero),
        "made": made,
        "device": signer,
        "software": {**software._asdict()},
        "files": [_row(fact, covers.get(fact.name), incident.t0_ns, time_zero) for fact in files],
        "missing": [msgspec.to_builtins(gone) for gone in missing],
        "chain": {
            "file": CHAIN,
            "lanes": _lanes(proofs),
            "entries": [
                {"lineage": e.lineage, "lane": e.lane, "seq": e.seq, "kind": e.kind, "hash": e.hash.hex()}
                for e, _, _ in proofs
            ],
        },
        "calibration": _calibration(record, proofs, material),
        "sensor_health": [_health(p) for p in proofs if p.entry.kind == "health"],
        "limits": list(LIMITS),
    }


def _body(proof: Proof, kind: type[Any]) -> Any:
    return msgspec.json.decode(proof.entry.body, type=known(kind))


def _row(fact: FileFact, covers: tuple[int, int] | None, t0_ns: int, zero: Utc | None) -> dict[str, Any]:
    what, media = what_is(fact.name)
    row: dict[str, Any] = {"name": fact.name, "size": fact.size, "sha256": fact.sha256, "what": what, "media": media}
    if fact.sm3 is not None:
        row["sm3"] = fact.sm3
    if covers is not None:
        ends = [moment(t, zero and zero._replace(utc_ns=zero.utc_ns + t - t0_ns)) for t in covers]
        row["covers"] = {"from": ends[0], "to": ends[1]}
    return row


def _tables(record: Record | None) -> dict[str, tuple[int, int]]:
    """Return the times that the record's tables cover."""

    def covered(part: Part, t0_ns: int) -> tuple[int, int] | None:
        if part.first_s is None or part.last_s is None:
            return None
        return t0_ns + round(part.first_s * NS_PER_S), t0_ns + round(part.last_s * NS_PER_S)

    parts = record.tables if record is not None else []
    return {p.file: times for p in parts if record is not None and (times := covered(p, record.t0_ns)) is not None}


def _gaps(
    incident: Incident, record: Record | None, files: Sequence[FileFact], zero: Utc | None, material: Material
) -> list[Missing]:
    """Return what is missing as far as the files themselves tell."""
    found: list[Missing] = []
    names = {fact.name for fact in files}
    told = {gone.what for gone in material.missing}
    for begins_s, ends_s in record.gaps_s if record is not None else ():
        when = f"from {begins_s:.3f} to {ends_s:.3f} s after time zero"
        found.append(Missing("everything for a while", f"nothing was heard {when}: the agent did not run"))
    if record is not None and not record.complete:
        reached = "never" if record.reached_s is None else f"{record.reached_s:.3f} s after time zero"
        found.append(Missing("the end of the record", f"measuring stopped: the last sample came {reached}"))
    found += [Missing(p.file, "nothing was measured") for p in (record.tables if record else []) if p.rows == 0]
    clips = any(n.startswith("clip-") for n in names)
    if incident.filmed and not clips and "video" not in told and not material.waiting:
        found.append(Missing("video", "no camera recorded the time that was wanted"))
    if zero is None:
        found.append(Missing("date and time", "neither satellites nor the network gave the time in this boot"))
    if incident.crash is not None and incident.crash.latitude is None:
        found.append(Missing("place", "no satellite fix near time zero"))
    if any(fact.sm3 is None for fact in files):
        found.append(Missing("SM3 hashes", "the OpenSSL of this device does not offer SM3"))
    return found


def _lanes(proofs: Sequence[Proof]) -> list[dict[str, Any]]:
    """Return for each lane the range of sequences from which records are taken, and the heads at both ends."""
    lanes: dict[tuple[str, str], list[Proof]] = {}
    for proof in proofs:
        lanes.setdefault((proof.entry.lineage, proof.entry.lane), []).append(proof)
    return [
        {
            "lineage": lineage,
            "lane": lane,
            "first": held[0].entry.seq,
            "last": held[-1].entry.seq,
            "previous": held[0].previous.hex(),
            "head": held[-1].entry.hash.hex(),
        }
        for (lineage, lane), held in lanes.items()
    ]


def _calibration(record: Record | None, proofs: Sequence[Proof], material: Material) -> dict[str, Any]:
    """Return how the box sat and what its sensors can measure; null where it is not known."""
    mount = record.mount if record is not None else None
    if mount is None:
        mount = next((_body(p, Mount) for p in proofs if p.entry.kind == "mount"), None)
    crash = record.crash if record is not None else None
    return {
        "mount": None
        if mount is None
        else {
            "gravity": list(mount.gravity),
            "forward": list(mount.forward),
            "confidence": mount.confidence,
            "t_ns": str(mount.t_ns),
        },
        "accelerometer": None if crash is None else {"rate_hz": crash.rate_hz, "clipped": crash.clipped},
        "instruments": dict(material.instruments),
    }


def _health(proof: Proof) -> dict[str, Any]:
    health: Health = _body(proof, Health)
    return {
        "t_ns": str(health.t_ns),
        "source": health.source,
        "state": health.state,
        "detail": health.detail,
        "counts": health.counts,
    }


def record_of(incident: Incident) -> Record | None:
    """Return the incident's crash.json, None where no crash began it; raise OSError or msgspec.DecodeError."""
    if incident.crash is None:
        return None
    return msgspec.json.decode((incident.folder / RECORD).read_bytes(), type=known(Record))
