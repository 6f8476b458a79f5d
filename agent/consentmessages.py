"""The word of the owner over the wire, shared by both ends: what a device may keep, signed by a receiver's key.

It travels on `rw/v1/{device}/consent`, QoS 1 and retained: only the newest counts, and a device that was away finds it
when it connects. It is signed by the key that signs commands, over a prefix of its own. A device heeds one only when it
was issued later than the one it heeds, so that an old one played back gives nothing back.
"""

from collections.abc import Collection
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from agent.chain import canonical, public_bytes
from agent.known import known
from agent.messages import PROTOCOL, DeviceId, Hex64, Hex128, MessageError

MAX_WORD: Final = 4 * 1024
PREFIX: Final = b"roadwitness consent\n"
TOPIC: Final = "consent"

TOO_LARGE: Final = "word about consent is too large"
NO_WORD: Final = "payload is no word about consent"
UNTRUSTED: Final = "word about consent is signed by a key that is not trusted here"
UNSIGNED: Final = "word about consent is not signed by its key"
OTHER_DEVICE: Final = "word about consent is for another device"
STALE: Final = "word about consent is not newer than the one that is heeded"

Purpose = Annotated[str, msgspec.Meta(pattern=r"^[a-z_]{1,16}(?!\n)$")]
Reference = Annotated[str, msgspec.Meta(pattern=r"^[\x20-\x7e]{1,64}(?!\n)$")]
# As agent.commandmessages: sums and differences of two stay within 64 bits.
UtcNs = Annotated[int, msgspec.Meta(ge=0, le=2**62 - 1)]


class Word(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that the owner agrees to now, by purpose, each with where that is written down; what is not named is not."""

    device: DeviceId
    issued_utc_ns: UtcNs  # of one device always rising
    purposes: dict[Purpose, Reference]
    protocol: int = PROTOCOL


class SignedWord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A word and the Ed25519 signature by `key` over PREFIX and the word's bytes as they stand."""

    word: msgspec.Raw
    key: Hex64
    signature: Hex128


_signed: Final = msgspec.json.Decoder(known(SignedWord))
_words: Final = msgspec.json.Decoder(known(Word))


def encode_word(word: Word, key: Ed25519PrivateKey) -> bytes:
    """Sign and encode; the same word and key give the same bytes."""
    raw = canonical(word)
    signed = SignedWord(word=msgspec.Raw(raw), key=public_bytes(key).hex(), signature=key.sign(PREFIX + raw).hex())
    return msgspec.json.encode(signed)


def decode_word(payload: bytes, trusted: Collection[str]) -> Word:
    """Return a word that one of `trusted` (raw public keys in hex) signed; raise MessageError with a reason above."""
    if len(payload) > MAX_WORD:
        raise MessageError(TOO_LARGE)
    try:
        signed = _signed.decode(payload)
        if signed.key not in trusted:
            raise MessageError(UNTRUSTED)
        raw = bytes(signed.word)
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signed.key))
        key.verify(bytes.fromhex(signed.signature), PREFIX + raw)
        return _words.decode(raw)
    except (InvalidSignature, ValueError) as e:
        if isinstance(e, msgspec.DecodeError | UnicodeDecodeError):
            raise MessageError(NO_WORD) from e
        raise MessageError(UNSIGNED) from e
    except RecursionError as e:
        raise MessageError(NO_WORD) from e
