"""Keys of one's own: made once, kept in a file that only its owner reads, never written anywhere else."""

import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from agent.durable import sync_folder
from agent.errors import StoreError

KEY_FILE: Final = "device.key"


class KeyName(NamedTuple):
    """What a key is called in messages to people, and what becomes of one that is moved aside."""

    key: str
    anew: str


DEVICE: Final = KeyName("device key", "become a new device")


def load_or_create_key(directory: Path) -> Ed25519PrivateKey:
    """Return the device's Ed25519 key kept in `directory`, made at the first call; raise as `load_or_create`."""
    return load_or_create(directory / KEY_FILE, DEVICE)


def load_or_create(path: Path, name: KeyName) -> Ed25519PrivateKey:
    """Return the Ed25519 key kept at `path`, made at the first call.

    The file is PKCS #8 PEM, mode 0600. Raise StoreError when it can be read by others, is damaged, or cannot be
    written. Two processes that make it at once end with one key: the second finds the first's.
    """
    try:
        _create(path)
    except FileExistsError:
        pass
    except OSError as e:
        raise StoreError(
            f"{path}: {name.key} cannot be written: {e.strerror}; check the folder and its free space"
        ) from e
    return _load(path, name)


def _create(path: Path) -> None:
    """Write a new key whole and durable, or raise FileExistsError and leave the one that is there."""
    if path.exists():
        raise FileExistsError
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        os.link(partial, path)  # unlike rename, it never replaces a key that another process has just made
    finally:
        partial.unlink()
    sync_folder(path.parent)


def _load(path: Path, name: KeyName) -> Ed25519PrivateKey:
    remedy = f"restore it, or move it aside to {name.anew}"
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise StoreError(f"{path}: {name.key} can be read by others (mode {mode:o}); run: chmod 600 {path}")
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as e:
        raise StoreError(f"{path}: {name.key} cannot be read: {e.strerror}; run as the user who owns it") from e
    except (ValueError, TypeError) as e:
        raise StoreError(f"{path}: {name.key} is damaged; {remedy}") from e
    if not isinstance(key, Ed25519PrivateKey):
        raise StoreError(f"{path}: {name.key} is not an Ed25519 key; {remedy}")
    return key
