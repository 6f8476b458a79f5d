"""The kernel's encryption of folders, ext4's and f2fs's: keys given and taken, policies set and read.

Layouts and numbers: Linux, include/uapi/linux/fscrypt.h; what they do: Documentation/filesystems/fscrypt.rst. Only
version 2 policies are used. Every function raises OSError with the kernel's own reason.
"""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple

KEY_BYTES: Final = 64  # FSCRYPT_MAX_KEY_SIZE; AES-256-XTS needs all of them

_SET_POLICY: Final = 0x800C6613  # _IOR('f', 19, 12 bytes)
_GET_POLICY_EX: Final = 0xC0096616  # _IOWR('f', 22, 9 bytes)
_ADD_KEY: Final = 0xC0506617  # _IOWR('f', 23, 80 bytes)
_REMOVE_KEY: Final = 0xC0406618  # _IOWR('f', 24, 64 bytes)
_KEY_STATUS: Final = 0xC080661A  # _IOWR('f', 26, 128 bytes)

_BY_IDENTIFIER: Final = 2  # FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER
_PAD_32: Final = 0x03  # names are padded to 32 bytes, so that their length tells less
_DIRECT_KEY: Final = 0x04  # Adiantum needs no key of its own for each file, and saves its set-up
_VERSION_2: Final = 2
_FILES_BUSY: Final = 1  # FSCRYPT_KEY_REMOVAL_STATUS_FLAG_FILES_BUSY

_SPECIFIER: Final = struct.Struct("<II16s16x")
_ADDING: Final = struct.Struct("<II16s16xII32x")
_POLICY: Final = struct.Struct("<BBBBB3x16s")


class Cipher(NamedTuple):
    """How contents and names are encrypted, by the kernel's numbers, and what people call it."""

    name: str
    contents: int
    names: int
    flags: int


AES: Final = Cipher("AES-256-XTS", 1, 4, _PAD_32)
ADIANTUM: Final = Cipher("Adiantum", 9, 9, _PAD_32 | _DIRECT_KEY)
CIPHERS: Final = (AES, ADIANTUM)


class KeyState(IntEnum):
    """Whether the kernel has a key for a file system."""

    ABSENT = 1
    PRESENT = 2
    PARTLY_REMOVED = 3  # files are still open


class Policy(NamedTuple):
    """What a folder is encrypted with."""

    cipher: str
    key_id: bytes  # 16 bytes, made from the key by the kernel


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def add_key(folder: Path, key: bytes) -> bytes:
    """Give the kernel the key for the file system of `folder`; return its 16-byte identifier."""
    argument = bytearray(_ADDING.pack(_BY_IDENTIFIER, 0, b"", len(key), 0) + key)
    try:
        with _opened(folder) as descriptor:
            fcntl.ioctl(descriptor, _ADD_KEY, argument)
        return _SPECIFIER.unpack_from(argument)[2]  # type: ignore[no-any-return]
    finally:
        argument[:] = bytes(len(argument))


def remove_key(folder: Path, key_id: bytes) -> bool:
    """Take the key away; say whether all files are unreadable now, False where one is still open somewhere.

    `folder` is on the file system and not itself encrypted: looking at it would keep it open.
    """
    argument = bytearray(_SPECIFIER.pack(_BY_IDENTIFIER, 0, key_id) + bytes(24))
    with _opened(folder) as descriptor:
        fcntl.ioctl(descriptor, _REMOVE_KEY, argument)
    return not struct.unpack_from("<I", argument, _SPECIFIER.size)[0] & _FILES_BUSY


def key_state(folder: Path, key_id: bytes) -> KeyState:
    """Say whether the kernel has the key."""
    argument = bytearray(_SPECIFIER.pack(_BY_IDENTIFIER, 0, key_id) + bytes(88))
    with _opened(folder) as descriptor:
        fcntl.ioctl(descriptor, _KEY_STATUS, argument)
    return KeyState(struct.unpack_from("<I", argument, _SPECIFIER.size + 24)[0])


def set_policy(folder: Path, key_id: bytes, cipher: Cipher) -> None:
    """Encrypt what will be in `folder`, which must be empty, with a key that the kernel has."""
    argument = _POLICY.pack(_VERSION_2, cipher.contents, cipher.names, cipher.flags, 0, key_id)
    with _opened(folder) as descriptor:
        fcntl.ioctl(descriptor, _SET_POLICY, argument)


def policy(folder: Path) -> Policy | None:
    """Return what `folder` is encrypted with; None where it is not by this file's rules."""
    argument = bytearray(struct.pack("<Q", _POLICY.size) + bytes(_POLICY.size))
    with _opened(folder) as descriptor:
        try:
            fcntl.ioctl(descriptor, _GET_POLICY_EX, argument)
        except OSError:  # ENODATA: not encrypted; ENOTTY, EOPNOTSUPP: it cannot be
            return None
    version, contents, _, _, _, key_id = _POLICY.unpack_from(argument, 8)
    if version != _VERSION_2:
        return None
    return Policy(next((c.name for c in CIPHERS if c.contents == contents), f"mode {contents}"), key_id)
