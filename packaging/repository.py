"""The vendor's side of updates: a folder that any web server can serve, signed by The Update Framework.

Five keys: two of root and one of targets stay off the network and come out for a release; snapshot and timestamp may
lie where `refresh` runs every day. A device trusts the first root.json alone; every later one is signed by keys that it
knows from the one before.
"""

import argparse
import copy
import hashlib
import os
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

# role -> how many keys, how many of them must sign, days until it expires
ROLES: Final = {"root": (2, 2, 365), "targets": (1, 1, 120), "snapshot": (1, 1, 14), "timestamp": (1, 1, 7)}


class Repository:
    """The folder `where` with metadata/ and targets/, and the private keys in `keys`."""

    def __init__(self, where: Path, keys: Path) -> None:
        """Take the folders; nothing is read yet."""
        self.metadata, self.targets, self.keys = where / "metadata", where / "targets", keys

    def create(self, now: datetime) -> Path:
        """Make keys and the first metadata; return the root file that devices get. Raise FileExistsError."""
        if (self.metadata / "1.root.json").exists():
            raise FileExistsError(f"{self.metadata}: there is a repository already")
        self.metadata.mkdir(parents=True, exist_ok=True)
        self.targets.mkdir(parents=True, exist_ok=True)
        root = Root(consistent_snapshot=True)
        for role, (count, threshold, _) in ROLES.items():
            for number in range(1, count + 1):
                root.add_key(self._new_key(role, number).public_key, role)
            root.roles[role].threshold = threshold
        self._write("root", Metadata(root), now)
        self._write("targets", Metadata(Targets()), now)
        self.refresh(now)
        return self.metadata / "1.root.json"

    def publish(self, deb: Path, notes: str, now: datetime) -> str:
        """Offer a package to the machines that it is for, in place of the one before; return where it stands."""
        shown = subprocess.run(
            ["dpkg-deb", "--show", "--showformat=${Package} ${Version} ${Architecture} ${Depends}", str(deb)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        name, version, arch, depends = shown.split(" ", 3)
        python = re.search(r"python(\d\.\d+)", depends)
        if name != "roadwitness" or python is None:
            raise ValueError(f"{deb}: is {name}; only the box's package is published")
        version = version.partition("+")[0]
        return self.offer(f"{arch}/python{python[1]}/roadwitness.deb", deb, version, notes, now)

    def offer(self, path: str, file: Path, version: str, notes: str, now: datetime) -> str:
        """Name `file` as `version` at `path`; refuse one that is older than what is offered there."""
        targets = self._read("targets")
        before = targets.signed.targets.get(path)
        if before is not None and _number(before.custom["version"]) >= _number(version):
            raise ValueError(f"{path}: {before.custom['version']} is offered; devices take only higher versions")
        target = TargetFile.from_file(path, str(file), ["sha256"])
        target.unrecognized_fields["custom"] = {"version": version, "notes": notes}
        targets.signed.targets[path] = target
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        place = self.targets / Path(path).parent / f"{digest}.{Path(path).name}"
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            place.write_bytes(file.read_bytes())
        targets.signed.version += 1
        self._write("targets", targets, now)
        self.refresh(now)
        return path

    def refresh(self, now: datetime) -> None:
        """Sign snapshot and timestamp anew, so that devices see that nothing is held back."""
        snapshot = self._read("snapshot")
        if snapshot is None:
            snapshot = Metadata(Snapshot())
        else:
            snapshot.signed.version += 1
        snapshot.signed.meta["targets.json"] = MetaFile(version=self._read("targets").signed.version)
        self._write("snapshot", snapshot, now)
        timestamp = self._read("timestamp")
        if timestamp is None:
            timestamp = Metadata(Timestamp())
        else:
            timestamp.signed.version += 1
        timestamp.signed.snapshot_meta = MetaFile(version=snapshot.signed.version)
        self._write("timestamp", timestamp, now)

    def rotate(self, role: str, now: datetime) -> None:
        """Replace the keys of a role; devices follow, because the old root vouches for the new one."""
        root = self._read("root")
        old = copy.deepcopy(root.signed)
        old_signers = self._signers("root", old)
        numbers = range(1, ROLES[role][0] + 1)
        for keyid in list(root.signed.roles[role].keyids):
            root.signed.revoke_key(keyid, role)
        for number in numbers:
            self._path(role, number).rename(self._path(role, number).with_suffix(f".old{root.signed.version}"))
            root.signed.add_key(self._new_key(role, number).public_key, role)
        root.signed.version += 1
        self._write("root", root, now, also=old_signers)
        if role == "targets":
            targets = self._read("targets")
            targets.signed.version += 1
            self._write("targets", targets, now)
        if role != "root":
            self.refresh(now)

    # keys and files

    def _path(self, role: str, number: int) -> Path:
        return self.keys / f"{role}-{number}.pem"

    def _new_key(self, role: str, number: int) -> CryptoSigner:
        signer = CryptoSigner.generate_ed25519()
        self.keys.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._path(role, number), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(signer.private_bytes)
        return signer

    def _signers(self, role: str, root: Root) -> list[CryptoSigner]:
        found = []
        for path in sorted(self.keys.glob(f"{role}-*.pem")):
            signer = CryptoSigner(load_pem_private_key(path.read_bytes(), None))
            if signer.public_key.keyid in root.roles[role].keyids:
                found.append(signer)
        if len(found) < root.roles[role].threshold:
            raise ValueError(
                f"{self.keys}: {root.roles[role].threshold} keys of {role} are needed, {len(found)} are there"
            )
        return found

    def _read(self, role: str) -> Any:
        files = sorted(self.metadata.glob(f"*.{role}.json"), key=lambda path: int(path.name.partition(".")[0]))
        path = self.metadata / "timestamp.json" if role == "timestamp" else (files[-1] if files else None)
        return Metadata.from_file(str(path)) if path is not None and path.exists() else None

    def _write(self, role: str, metadata: Any, now: datetime, also: list[CryptoSigner] | None = None) -> None:
        metadata.signed.expires = (now + timedelta(days=ROLES[role][2])).replace(microsecond=0)
        root = metadata.signed if role == "root" else self._read("root").signed
        metadata.signatures.clear()
        for signer in [*self._signers(role, root), *(also or [])]:
            metadata.sign(signer, append=True)
        name = "timestamp.json" if role == "timestamp" else f"{metadata.signed.version}.{role}.json"
        partial = self.metadata / f".{name}.new"
        metadata.to_file(str(partial))
        os.replace(partial, self.metadata / name)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("create", "publish", "refresh", "rotate"))
    parser.add_argument("repository", type=Path, help="folder that the web server serves")
    parser.add_argument("packages", nargs="*", type=Path, help="for publish: .deb files; for rotate: nothing")
    parser.add_argument("--keys", type=Path, required=True, help="folder of private keys; not below the repository")
    parser.add_argument("--notes", default="", help="one line for people")
    parser.add_argument("--role", choices=ROLES, help="for rotate")
    asked = parser.parse_args()
    repository, now = Repository(asked.repository, asked.keys), datetime.now(UTC)
    try:
        if asked.step == "create":
            print(f"devices trust: {repository.create(now)}; make deb TRUST=that file")
        elif asked.step == "publish":
            for deb in asked.packages:
                print(f"{deb} is offered as {repository.publish(deb, asked.notes, now)}")
        elif asked.step == "rotate":
            if asked.role is None:
                raise ValueError("rotate needs --role")
            repository.rotate(asked.role, now)
        else:
            repository.refresh(now)
    except (OSError, ValueError, subprocess.CalledProcessError) as e:
        raise SystemExit(f"repository: {e}") from e


if __name__ == "__main__":
    main()
