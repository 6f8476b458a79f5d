"""The packager: writes the manifest of every incident that has all its files, signs it, and tells the receiver of it.

A folder is packed when its record is final and nothing is waited for any more, or has been for too long. Something that
comes later, a time-stamp or a better known time of day makes another edition: the manifest before it stays in the
package as `manifest-N.json` with its signature, listed and signed like every other file.

After a restart the files of a package that the receiver does not hold yet are read once and compared with what was
signed: a card that lost power, or is worn, may give back other bytes of the same number.
"""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from agent.clock import NS_PER_S
from agent.durable import sync_folder
from agent.errors import StoreError
from agent.evidence import manifest as manifests
from agent.evidence import verify_package as verifier
from agent.evidence.canonical import canonical_json
from agent.evidence.manifest import FileFact, Material
from agent.evidence.verify_package import CHAIN, MANIFEST, OUTSIDE, QUALITIES, SIGNATURE, TOKEN
from agent.incident.folder import PART, Incident, folders, look, write_files
from agent.records import Clock, Package, PackageFile
from agent.store import Store

# Who makes a clip gives up by itself, after a few attempts of a minute; this is for one that never says so.
PATIENCE_NS: Final = 600 * NS_PER_S
RETRY_NS: Final = 5 * NS_PER_S  # after a disk that refused, as agent.patience

log = logging.getLogger("agent.evidence")


class SigningKey(Protocol):
    """What signs manifests: the device's own key, or a secure element's."""

    @property
    def algorithm(self) -> str:
        """Ed25519, or ES256 for ECDSA on P-256 with SHA-256."""

    @property
    def public_key(self) -> bytes:
        """Raw key of 32 bytes (Ed25519), or uncompressed point of 65 bytes (ES256)."""

    def sign(self, message: bytes) -> bytes:
        """Sign: 64 bytes, or DER for ES256."""


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """The key in the device's file, by which records are sealed too."""

    store: Store
    algorithm: str = "Ed25519"

    @property
    def public_key(self) -> bytes:
        """The raw key."""
        return self.store.public_key

    def sign(self, message: bytes) -> bytes:
        """Sign with it."""
        return self.store.sign(message)


@dataclass(slots=True)
class _Known:
    """What is remembered of a folder between two looks."""

    changed_ns: int = -1  # of the folder, by its file system; writers rename, so every change moves it
    since_ns: int | None = None  # first seen with something to do
    settled: bool = False
    boot: str = ""  # the incident's
    quality: str = "gnss"  # of time zero, in the manifest
    complete: bool = False  # the manifest expects no more
    stats: list[tuple[str, int, int, int]] | None = None  # of the files when their digests were last those of it
    retry_ns: int = 0  # after trouble
    trouble: str = ""  # as it was logged last


class Packager:
    """Tends the packages of one store; one thread at a time may call it, also beside the store's writer.

    `boot` is the present one; `material` says of an incident what its files do not tell.
    """

    def __init__(
        self,
        store: Store,
        packages: Path,
        boot: str,
        material: Callable[[Incident], Material] = lambda _: Material(),
        key: SigningKey | None = None,
    ) -> None:
        self._store = store
        self._packages = packages
        self._boot = boot
        self._material = material
        self._key = key or DeviceKey(store)
        self._known: dict[str, _Known] = {}
        self._told = {s.record.incident: s.record for s in store.records(Package)}
        self._may_read = True  # one package a call: what becomes ready meanwhile must not wait for all to be read

    def tend(self, now_ns: int) -> list[Package]:
        """Pack what is ready, one incident a call; return what was told to the receiver. Trouble is logged, not raised.

        Costs one look at each folder's time where nothing changed. Reading a package of 25 s of video takes a fraction
        of a second.
        """
        there = folders(self._packages)
        self._known = {p.name: self._known.get(p.name) or _Known() for p in there}
        self._may_read = True
        for folder in there:
            known = self._known[folder.name]
            if now_ns < known.retry_ns:
                continue
            try:
                package = self._look(folder, known, now_ns)
            except FileNotFoundError:
                continue  # retention took it away
            except (OSError, StoreError, verifier.BadError, verifier.UnreadableError, msgspec.DecodeError) as e:
                known.retry_ns = now_ns + RETRY_NS
                if known.trouble != str(e):
                    log.warning("%s: cannot be packed yet: %s", folder, e)
                known.trouble = str(e)
                continue
            known.trouble = ""
            if package is not None:
                return [package]
        return []

    def _look(self, folder: Path, known: _Known, now_ns: int) -> Package | None:
        changed_ns = folder.stat().st_mtime_ns
        if known.settled and changed_ns == known.changed_ns and not self._better_time(known, folder):
            return None
        incident = look(folder)
        if incident is None or not incident.record_final:
            return None
        known.boot = incident.boot
        material = self._material(incident)
        known.since_ns = now_ns if known.since_ns is None else known.since_ns
        state = self._state(incident, known)
        if state == "signed" and not known.complete and not material.waiting:
            state = "stale"  # what was waited for was given up, and the manifest must say so
        packed = state == "stale" and (not material.waiting or now_ns - known.since_ns >= PATIENCE_NS)
        if packed:
            package(incident, self._store, self._key, material, self._boot, now_ns)
            known.stats = _stats(folder)
            state = self._state(incident, known)
        if state in ("stale", "unread"):
            return None
        # the receiver holds it, and so long ago that its record is pruned: telling again would send it again
        forgotten = incident.acknowledged and not packed and incident.id not in self._told
        told = None if forgotten else self._tell(incident, now_ns)
        known.changed_ns, known.since_ns = folder.stat().st_mtime_ns, None
        known.settled = known.complete or state == "foreign"
        return told

    def _better_time(self, known: _Known, folder: Path) -> bool:
        """Say whether the present boot has learned more of its time than a manifest of it tells."""
        if known.quality == "gnss" or known.boot != self._boot:
            return False
        incident = look(folder)
        return incident is not None and self._rank(incident) > _rank(known.quality)

    def _rank(self, incident: Incident) -> int:
        """Return how good the time of an incident's boot is now, by the records that would prove it."""
        utc = manifests.learned(self._store.proofs(Clock, incident.boot), incident.t0_ns)
        return -1 if utc is None else _rank(utc.quality)

    def _state(self, incident: Incident, known: _Known) -> str:
        """Say whether a package is "stale", "unread" until its files may be read, or settled: "signed", or "foreign" by
        another key.
        """
        read = read_manifest(incident.folder)
        if read is None:
            return "stale"
        table, signer = read
        if signer.key != self._key.public_key:
            return "foreign"
        known.quality, known.complete = str(table["time_zero"]["quality"]), bool(table["complete"])
        stats = _stats(incident.folder)
        if {row["name"]: row["size"] for row in table["files"]} != {name: size for name, _, size, _ in stats}:
            return "stale"
        if (incident.folder / TOKEN).exists() or self._rank(incident) > _rank(known.quality):
            return "stale"
        if known.stats == stats or incident.acknowledged:
            return "signed"
        if not self._may_read:
            return "unread"
        self._may_read = False
        other = _altered(incident.folder, table)
        if other:
            log.warning("%s: %s is not what was signed; a new manifest says so", incident.folder, ", ".join(other))
            return "stale"
        known.stats = stats
        return "signed"

    def _tell(self, incident: Incident, now_ns: int) -> Package | None:
        """Append the `Package` record, unless the last one already says the same."""
        read = read_manifest(incident.folder)
        if read is None or read[1].key != self._key.public_key:
            return None
        files = [PackageFile(name=r["name"], size=r["size"], sha256=r["sha256"]) for r in read[0]["files"]]
        folder = verifier.Folder(str(incident.folder))
        for name in (MANIFEST, SIGNATURE):
            size, sha256, _ = verifier.digests(folder, name)
            files.append(PackageFile(name=name, size=size, sha256=sha256))
        record = Package(incident=incident.id, t_ns=incident.t0_ns, complete=bool(read[0]["complete"]), files=files)
        if self._told.get(incident.id) == record:
            return None
        self._store.append([(now_ns, record)])
        self._told[incident.id] = record
        return record


def package(
    incident: Incident, store: Store, key: SigningKey, material: Material, boot: str, now_ns: int
) -> dict[str, Any]:
    """Write and sign the next manifest over all whole files of an incident's folder; return it.

    `boot` and `now_ns` are the present ones. All or nothing by the folder's own rule: what stood before is whole until
    the new signature is there. Raise StoreError or OSError where the disk refuses, BadError where a file is odd.
    """
    folder = incident.folder
    earlier, edition = _earlier(folder)
    proofs = manifests.evidence(store, incident)
    added = {CHAIN: manifests.chain_file(proofs), **earlier}
    opened = verifier.Folder(str(folder))
    if opened.odd:
        raise verifier.BadError(f"{opened.odd[0].where} {opened.odd[0].cause}; remove it")
    before = _stats(folder)
    facts = [FileFact(name, *verifier.digests(opened, name)) for name in _names(folder) if name not in added]
    facts += [_fact_of(name, data) for name, data in added.items()]
    if _stats(folder) != before:
        raise verifier.BadError("files changed while they were read")
    time_zero = manifests.learned(proofs, incident.t0_ns)
    table = manifests.manifest(
        incident,
        manifests.record_of(incident),
        proofs,
        sorted(facts, key=lambda f: f.name),
        material,
        edition=edition,
        made={"boot": boot, **manifests.moment(now_ns, store.utc_of(boot, now_ns))},
        time_zero=time_zero,
        replayed=store.replayed(incident.boot),
        signer=manifests.device(key.algorithm, key.public_key),
    )
    data = canonical_json(table)
    signature = key.sign(verifier.PREFIX + data)
    write_files(
        folder,
        {**added, MANIFEST: data, SIGNATURE: verifier.signature_bytes(key.algorithm, key.public_key, signature)},
    )
    if (folder / TOKEN).exists():  # it is kept beside the manifest that it stamps
        (folder / TOKEN).unlink()
        sync_folder(folder)
    return table


def read_manifest(folder: Path) -> tuple[dict[str, Any], verifier.Signer] | None:
    """Return the manifest and its signer, None where there is none whose signature holds."""
    opened = verifier.Folder(str(folder))
    try:
        data, signer = opened.read(MANIFEST), verifier.read_signature(opened.read(SIGNATURE))
        if not verifier.signed_by(signer.algorithm, signer.key, signer.signature, verifier.PREFIX + data):
            return None
        table: dict[str, Any] = msgspec.json.decode(data)
    except (verifier.BadError, msgspec.DecodeError):
        return None
    return table, signer


def _earlier(folder: Path) -> tuple[dict[str, bytes], int]:
    """Return the files that keep the present manifest, by their new names, and the number of the next edition."""
    read = read_manifest(folder)
    if read is None:
        numbers = [int(m[1]) for p in folder.iterdir() if (m := verifier.EARLIER.fullmatch(p.name))]
        return {}, max(numbers, default=0) + 1
    edition = int(read[0]["edition"])
    data = (folder / MANIFEST).read_bytes()
    kept = {f"manifest-{edition}.json": data, f"manifest-{edition}.sig": (folder / SIGNATURE).read_bytes()}
    if (folder / TOKEN).exists():
        token = (folder / TOKEN).read_bytes()
        if stamps(token, data):
            kept[f"manifest-{edition}.tsr"] = token
    return kept, edition + 1


def stamps(token: bytes, data: bytes) -> bool:
    """Say whether a time-stamp token is over these bytes."""
    try:
        return verifier.stamps(verifier.read_token(token, []), data)
    except verifier.BadError:
        return False


def _names(folder: Path) -> list[str]:
    """Return the whole files that a manifest must list."""
    names = (p.name for p in folder.iterdir() if not p.name.endswith(PART))
    return sorted(name for name in names if name not in OUTSIDE)


def _stats(folder: Path) -> list[tuple[str, int, int, int]]:
    """Return by what a file's contents are known to be the same."""
    found = ((name, (folder / name).stat()) for name in _names(folder))
    return [(name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in found]


def _altered(folder: Path, table: dict[str, Any]) -> list[str]:
    """Return the names of the files whose SHA-256 is not the manifest's; of one that cannot be read sync tells."""
    opened = verifier.Folder(str(folder))
    found = []
    for row in table["files"]:
        sha256 = hashlib.sha256()
        try:
            for chunk in opened.chunks(row["name"]):
                sha256.update(chunk)
        except verifier.BadError:
            continue
        if sha256.hexdigest() != row["sha256"]:
            found.append(row["name"])
    return found


def _fact_of(name: str, data: bytes) -> FileFact:
    sm3 = verifier.new_sm3()
    if sm3 is not None:
        sm3.update(data)
    return FileFact(name, len(data), hashlib.sha256(data).hexdigest(), None if sm3 is None else sm3.hexdigest())


def _rank(quality: str) -> int:
    """Order the qualities of time; "none" is the least."""
    return QUALITIES.index(quality) if quality in QUALITIES else -1
