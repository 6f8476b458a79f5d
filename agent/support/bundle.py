"""One file, as ZIP, that a desk opens with what it has: parts, a manifest with the hash of each, signed by the box.

It is made in memory, bounded, so that a full or read-only disk does not keep it from being made: it may go to standard
output. `check` says of a bundle whether the box signed it as it is.
"""

import hashlib
import io
import sqlite3
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from agent.chain import device_id, public_bytes
from agent.clock import iso_utc, wall_ns
from agent.config import config_dir
from agent.errors import RoadwitnessError, StoreError
from agent.evidence.software import installed
from agent.identity import KEY_FILE, load_or_create_key
from agent.known import known
from agent.settings import load_agent
from agent.support.parts import PARTS, Part, Source, text_of
from agent.support.redact import Redactor, secrets_in

FORMAT: Final = "roadwitness-support/1"
PREFIX: Final = b"roadwitness support 1\n"  # keeps this signature apart from all others of the same key
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig"
MOST_BYTES: Final = 8 * 1024 * 1024  # of one part after redaction; as text it packs to a tenth
MOST_BUNDLE: Final = 32 * 1024 * 1024  # of all parts
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # of ZIP entries: when the bundle was made stands in its manifest
REMOVED: Final = "keys, tokens, passwords, plates; VINs shortened"


class BadBundleError(RoadwitnessError):
    """A bundle that is not as a box signed it."""


class Signer(Protocol):
    """What signs for the box."""

    @property
    def public_key(self) -> bytes:
        """The raw Ed25519 key."""

    def sign(self, message: bytes) -> bytes:
        """Sign."""


class KeySigner:
    """The key in the box's file, where the daemon does not run."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @property
    def public_key(self) -> bytes:
        """The raw key."""
        return public_bytes(self._key)

    def sign(self, message: bytes) -> bytes:
        """Sign."""
        return self._key.sign(message)


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """`manifest.sig`: an Ed25519 signature over PREFIX and the manifest's bytes."""

    device: str
    public_key: str
    signature: str


class Bundle(NamedTuple):
    """What was made: the file, and what it has and lacks."""

    data: bytes
    device: str  # "" where the box has no key that we may read
    files: list[str]
    missing: dict[str, str]


def make(
    source: Source,
    signer: Signer | None = None,
    *,
    with_position: bool = False,
    parts: dict[str, Part] | None = None,
    told: Callable[[str], None] | None = None,
) -> Bundle:
    """Make the bundle of a box; never raise for a part that cannot be had.

    Without a `signer` the key in the store's folder signs, where it may be read. `told` hears each part's name.
    """
    redactor = Redactor(_secrets(source), with_position)
    contents: dict[str, bytes] = {}
    missing: dict[str, str] = {}
    room = MOST_BUNDLE
    for name, part in (PARTS if parts is None else parts).items():
        if told is not None:
            told(name)
        try:
            data = _redacted(part(source), redactor)[-min(MOST_BYTES, room) :]
        except (RoadwitnessError, OSError, ValueError, LookupError, ImportError, sqlite3.Error) as e:
            missing[name] = redactor.text(str(e) or type(e).__name__)
            continue
        contents[name] = data
        room -= len(data)
    signer = signer or _own(source.folder, missing)
    return _sealed(contents, missing, signer, with_position)


def check(path: Path) -> dict[str, Any]:
    """Return the manifest of a bundle that its box signed as it is; raise BadBundleError with what is wrong."""
    try:
        with zipfile.ZipFile(path) as bundle:
            names = bundle.namelist()
            if sum(info.file_size for info in bundle.infolist()) > 2 * MOST_BUNDLE:
                raise BadBundleError(f"{path}: is larger than any bundle; do not open it")
            if SIGNATURE not in names and MANIFEST in names:
                raise BadBundleError(f"{path}: nobody signed it; it was made where the box's key could not be read")
            data, signed = bundle.read(MANIFEST), bundle.read(SIGNATURE)
            found = {n: hashlib.sha256(bundle.read(n)).hexdigest() for n in names if n not in (MANIFEST, SIGNATURE)}
        seal = msgspec.json.decode(signed, type=known(Signature))
        key = bytes.fromhex(seal.public_key)
        Ed25519PublicKey.from_public_bytes(key).verify(bytes.fromhex(seal.signature), PREFIX + data)
        manifest: dict[str, Any] = msgspec.json.decode(data)
        listed = {row["name"]: row["sha256"] for row in manifest["files"]}
    except OSError as e:
        raise BadBundleError(f"{path}: cannot be read: {e.strerror or e}") from e
    except (InvalidSignature, KeyError, ValueError, TypeError, zipfile.BadZipFile) as e:
        raise BadBundleError(f"{path}: is no bundle that a box has signed: {e or 'its signature is wrong'}") from e
    wrong = sorted({*listed.items()} ^ {*found.items()})
    if wrong or len(names) != len(set(names)) or manifest["device"] != device_id(key) != seal.device:
        name = wrong[0][0] if wrong else MANIFEST
        raise BadBundleError(f"{path}: {name} is not what its box signed; ask for another")
    return manifest


def _redacted(made: Any, redactor: Redactor) -> bytes:
    told = made if isinstance(made, str) else redactor.plain(made)
    text = text_of(told)
    return (redactor.text(text) if isinstance(made, str) else text).encode()


def _secrets(source: Source) -> list[str]:
    folders: list[Path] = [source.folder, source.folder / "tls", Path("/etc/roadwitness")]
    files: list[Path] = []
    try:
        folders.append(source.config.parent if source.config is not None else config_dir())
        broker = load_agent(source.config, source.folder).broker
        files += [Path(p) for p in (broker.password_file, broker.key) if p]
    except RoadwitnessError:
        pass  # settings that cannot be read have no file to look into
    return secrets_in(folders, files)


def _own(folder: Path, missing: dict[str, str]) -> Signer | None:
    """Return the key of the box, None where there is none or we may not read it; none is made."""
    try:
        if (folder / KEY_FILE).is_file():
            return KeySigner(load_or_create_key(folder))
        missing[SIGNATURE] = f"{folder} has no device key: nobody vouches for this bundle"
    except (StoreError, OSError) as e:
        missing[SIGNATURE] = f"{e}; nobody vouches for this bundle"
    return None


def _sealed(contents: dict[str, bytes], missing: dict[str, str], signer: Signer | None, exact: bool) -> Bundle:
    device = "" if signer is None else device_id(signer.public_key)
    manifest = {
        "format": FORMAT,
        "device": device,
        "made": iso_utc(wall_ns()),
        "software": installed()._asdict(),
        "position": "exact" if exact else "rounded to 0.01 degrees, about 1 km",
        "removed": REMOVED,
        "files": [_row(name, data) for name, data in contents.items()],
        "missing": [{"name": name, "why": why} for name, why in missing.items()],
    }
    data = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    written = {MANIFEST: data, **contents}
    if signer is not None:
        seal = Signature(device=device, public_key=signer.public_key.hex(), signature=signer.sign(PREFIX + data).hex())
        written[SIGNATURE] = msgspec.json.encode(seal)
    return Bundle(_zipped(written.items()), device, list(contents), missing)


def _row(name: str, data: bytes) -> dict[str, Any]:
    return {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _zipped(files: Iterable[tuple[str, bytes]]) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as bundle:
        for name, data in files:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o600 << 16
            bundle.writestr(entry, data)
    return whole.getvalue()
