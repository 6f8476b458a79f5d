"""Enrolment over HTTPS, shared by both ends: a box proves its name, asks for a certificate and is told where to send.

`POST /api/v1/enrolment` with a one-time code, `POST /api/v1/enrolment/renewal` without one, both with a SignedAsk as
JSON. Each purpose has a prefix of its own, so that nothing else that the record key signs can pass for one.
"""

import hashlib
import re
from typing import Annotated, Final, NamedTuple

import msgspec

from agent import chain
from agent.errors import RoadwitnessError
from agent.known import known
from agent.messages import DeviceId, Hex64, Hex128, MessageError, check_signature

PATH: Final = "/api/v1/enrolment"
RENEWAL_PATH: Final = f"{PATH}/renewal"
AUTHORITY_PATH: Final = f"{PATH}/authority"
PATHS: Final = (PATH, RENEWAL_PATH, AUTHORITY_PATH)
ENROL: Final = b"roadwitness enrolment\n"
RENEW: Final = b"roadwitness renewal\n"
MOST_BYTES: Final = 16 * 1024  # of an ask and of an answer

# As codes that bind a box to a car: read aloud and typed with gloves, no letter that looks like a digit.
ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
SECRET_LENGTH: Final = 16  # 80 bits: kept as a plain hash, it must not be found from that
MARK_LENGTH: Final = 16  # 80 bits of a fingerprint: a second certificate with the same is not made
_GROUP: Final = 4


class CodeError(RoadwitnessError):
    """An enrolment code that cannot be one."""


class Code(NamedTuple):
    """A one-time code: the secret, and 80 bits by which the receiver's own authority is recognised, or none."""

    secret: str
    mark: str = ""

    def __str__(self) -> str:
        text = self.secret + self.mark
        return "-".join(text[i : i + _GROUP] for i in range(0, len(text), _GROUP))


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a box asks for: a certificate for the TLS key in `request`."""

    device: DeviceId
    public_key: Hex64  # the record key, whose hash is the name
    request: Annotated[bytes, msgspec.Meta(max_length=4096)]  # PKCS #10, DER, signed by the TLS key
    code: Annotated[str, msgspec.Meta(max_length=64)] = ""  # the secret of a code; renewals have none


class SignedAsk(msgspec.Struct, frozen=True, kw_only=True):
    """An ask, signed over a prefix and its bytes as they stand."""

    ask: msgspec.Raw
    signature: Hex128  # by the record key
    # by the key of the certificate in force: what Ed25519 gives, or ECDSA over SHA-256 (DER); renewals have it
    by_certificate: Annotated[bytes, msgspec.Meta(max_length=256)] = b""


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """What a box is given; texts are PEM."""

    device: DeviceId
    certificate: str  # and those of the authorities between it and the root
    authority: str  # the root
    broker: str
    keys: list[Hex64]  # by which this receiver signs answers, commands and words of consent


_signed: Final = msgspec.json.Decoder(known(SignedAsk))
_asks: Final = msgspec.json.Decoder(known(Ask))
_granted: Final = msgspec.json.Decoder(known(Granted))


def ask_bytes(ask: Ask) -> bytes:
    """Return the bytes of an ask as they are sent and, behind a prefix, signed."""
    return chain.canonical(ask)


def encode_ask(raw: bytes, signature: bytes, by_certificate: bytes = b"") -> bytes:
    """Encode an ask with its signatures."""
    signed = SignedAsk(ask=msgspec.Raw(raw), signature=signature.hex(), by_certificate=by_certificate)
    return msgspec.json.encode(signed)


def decode_ask(payload: bytes, prefix: bytes) -> tuple[Ask, bytes, bytes]:
    """Return an ask, the bytes that were signed, and the certificate's signature, which is not checked here.

    Raise MessageError unless the record key signed it for this purpose and is what the box is named after.
    """
    if len(payload) > MOST_BYTES:
        raise MessageError("payload too large")
    try:
        signed = _signed.decode(payload)
        raw = bytes(signed.ask)
        ask = _asks.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise MessageError("payload is no request for a certificate") from e
    if chain.device_id(bytes.fromhex(ask.public_key)) != ask.device:
        raise MessageError("request names another device than its key")
    check_signature(ask.public_key, signed.signature, prefix + raw, "request is not signed by its key")
    return ask, prefix + raw, signed.by_certificate


def decode_granted(payload: bytes) -> Granted:
    """Decode an answer; raise MessageError for anything else."""
    try:
        return _granted.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise MessageError("answer grants nothing that this version understands") from e


def read_code(text: str) -> Code:
    """Read a code as a person types it; raise CodeError saying what is wrong."""
    plain = re.sub(r"[\s-]", "", text).upper()
    wrong = sorted({c for c in plain if c not in ALPHABET})
    if wrong:
        raise CodeError(f"enrolment code: has {', '.join(map(repr, wrong))}, which no code has; type it again")
    if len(plain) not in (SECRET_LENGTH, SECRET_LENGTH + MARK_LENGTH):
        raise CodeError(
            f"enrolment code: has {len(plain)} letters and digits, not {SECRET_LENGTH}"
            f" or {SECRET_LENGTH + MARK_LENGTH}; type it again"
        )
    return Code(plain[:SECRET_LENGTH], plain[SECRET_LENGTH:])


def mark_of(certificate: bytes) -> str:
    """Return the 80 bits by which a certificate (DER) is recognised in a code."""
    return letters(hashlib.sha256(certificate).digest(), MARK_LENGTH)


def letters(value: bytes, length: int) -> str:
    """Write the first bits of `value` in the alphabet of codes, five a letter."""
    number = int.from_bytes(value[: length * 5 // 8])
    return "".join(ALPHABET[number >> 5 * (length - 1 - i) & 31] for i in range(length))
