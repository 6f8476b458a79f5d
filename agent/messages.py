"""What goes over the wire between a device and the receiver: topics, envelopes, codec. Shared by both ends.

Everything that comes from the wire is hostile until decoded here: sizes are limited before anything is decompressed,
and every refusal is one exception, `MessageError`, whose text is one of a few fixed reasons that can be counted.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Final, Literal, NamedTuple, TypeVar

import msgspec
import zstandard
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent import chain
from agent.chain import Entry
from agent.errors import RoadwitnessError
from agent.known import known
from agent.records import LANES, SCHEMA_VERSION
from agent.wiredict import DICTIONARY

T = TypeVar("T")

PROTOCOL: Final = 1  # of topics, envelopes and batch codec; the first byte of a batch
CONTENT_TYPE: Final = f"rw-batch/{PROTOCOL}"  # short: it travels with every batch

# 64 KiB keeps one message under a second on a 0.5 Mbit/s uplink, so that a crash waits for little (DESIGN §6).
MAX_PAYLOAD: Final = 64 * 1024
# What a payload may grow to: 16 times, where our JSON reaches 4 to 8. The limit is what a zip bomb can cost.
MAX_PLAIN: Final = 1024 * 1024
# JSON of numbers compresses to less than half, so a body of this size always fits in a payload of its own.
MAX_BODY: Final = 120 * 1024
MAX_BIRTH: Final = 16 * 1024
MAX_SMALL: Final = 4 * 1024  # status, live
MAX_ACK: Final = 16 * 1024

Lane = Literal["crash", "reply", "event", "trip", "health", "clip", "track"]
# (?!\n): Python's $ also matches before a last newline.
DeviceId = Annotated[str, msgspec.Meta(pattern=r"^rw-[0-9a-f]{16}(?!\n)$")]
Lineage = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{12}(?!\n)$")]
BootId = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z._-]{1,64}(?!\n)$")]
Kind = Annotated[str, msgspec.Meta(pattern=r"^[a-z_]{1,32}(?!\n)$")]
Session = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z._-]{1,64}(?!\n)$")]
# 2^53 - 1: exact in every JSON reader.
Sequence_ = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
Position = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Ns = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Text = Annotated[str, msgspec.Meta(max_length=200)]
Hex64 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}(?!\n)$")]
Hex128 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{128}(?!\n)$")]


class MessageError(RoadwitnessError):
    """A message cannot be used; the text is a short fixed reason, fit to be counted."""


class Row(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One lane entry inside a batch; lineage, lane and sequence come from the batch, the hash from the chain."""

    boot: BootId
    t_ns: Ns
    kind: Kind
    body: Annotated[bytes, msgspec.Meta(max_length=MAX_BODY)]
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class Batch(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Consecutive entries of one lane of one lineage; the receiver computes their hashes from the one it holds.

    `anchor` is empty, or, where the device no longer holds the entry before `first_seq`, the hash of the first entry:
    the chain begins anew there and the receiver notes the hole.
    """

    lineage: Lineage
    lane: Lane
    first_seq: Sequence_
    rows: Annotated[list[Row], msgspec.Meta(min_length=1)]
    anchor: Annotated[bytes, msgspec.Meta(max_length=32)] = b""

    @property
    def last_seq(self) -> int:
        """The sequence number of the last entry."""
        return self.first_seq + len(self.rows) - 1


class Birth(msgspec.Struct, frozen=True, kw_only=True):
    """What a device says of itself when it connects; it asks the receiver for an acknowledgement."""

    device: DeviceId
    public_key: Hex64  # raw Ed25519
    lineage: Lineage
    session: Session  # names this asking; the acknowledgement that answers it quotes it
    boot: BootId
    t_ns: Ns
    heads: dict[Lane, Position]  # last sequence number per lane
    protocol: int = PROTOCOL
    schema: int = SCHEMA_VERSION
    versions: dict[Text, Text] = {}  # e.g. {"roadwitness": "0.1.0"}
    capabilities: list[Text] = []


class SignedBirth(msgspec.Struct, frozen=True, kw_only=True):
    """A birth and the device's Ed25519 signature over 'roadwitness birth\\n' and the birth's bytes as they stand."""

    birth: msgspec.Raw
    signature: Hex128


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a device is connected: retained; `offline` is its last will."""

    device: DeviceId
    state: Literal["online", "offline"]
    protocol: int = PROTOCOL


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """Where the car is now, for whoever watches: not stored by the device, not proved, not repeated when lost."""

    device: DeviceId
    boot: BootId
    t_ns: Ns
    latitude: Annotated[float, msgspec.Meta(ge=-90, le=90)]
    longitude: Annotated[float, msgspec.Meta(ge=-180, le=180)]
    speed_mps: Annotated[float, msgspec.Meta(ge=0, le=200)] | None = None
    protocol: int = PROTOCOL


class Ack(msgspec.Struct, frozen=True, kw_only=True):
    """What the receiver holds of one device's lineage: retained, and the only thing that moves a position."""

    device: DeviceId
    state: Literal["accepted", "unknown", "blocked"]
    lineage: Lineage
    session: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z._-]{0,64}(?!\n)$")]  # of the birth last seen
    lanes: dict[Lane, Position]  # highest contiguous sequence number stored, by lane
    hashes: dict[Lane, Hex64] = {}  # chain hash of that entry, by which a device sees that it is a copy of itself
    refused: dict[Lane, Text] = {}  # why the last batch of a lane was not stored
    protocol: int = PROTOCOL


class Address(NamedTuple):
    """A topic taken apart: `what` is up, birth, status, live, ack, command, consent, file or files.

    `lane` is that of up. For `file` it is what follows `file/`, which agent.filemessages takes apart.
    """

    device: str
    what: str
    lane: str = ""


ROOT: Final = "rw/v1"
_TOPIC: Final = re.compile(
    rf"{ROOT}/(rw-[0-9a-f]{{16}})/(?:(birth|status|live|ack|files|command|consent)|up/({'|'.join(LANES)})|file/([0-9a-z/]+))"
)
UP_FILTER: Final = f"{ROOT}/+/up/+"
BIRTH_FILTER: Final = f"{ROOT}/+/birth"
STATUS_FILTER: Final = f"{ROOT}/+/status"
LIVE_FILTER: Final = f"{ROOT}/+/live"
PROBE: Final = "probe"  # of a device: written and read back by its doctor alone, to see what the broker allows


def topic(device: str, what: str, lane: str = "") -> str:
    """Return the topic of `what` of one device: as in Address, `up` with a lane."""
    return f"{ROOT}/{device}/{what}/{lane}" if lane else f"{ROOT}/{device}/{what}"


def address(name: str) -> Address:
    """Take a topic apart; raise MessageError for one that is not ours."""
    found = _TOPIC.fullmatch(name)
    if found is None:
        raise MessageError("unknown topic")
    device, what, lane, rest = found.groups()
    if lane is not None:
        return Address(device, "up", lane)
    if rest is not None:
        return Address(device, "file", rest)
    return Address(device, what)


_plain: Final = msgspec.msgpack.Encoder()
_batches: Final = msgspec.msgpack.Decoder(known(Batch))
_signed: Final = msgspec.json.Decoder(known(SignedBirth))
_births: Final = msgspec.json.Decoder(known(Birth))
_statuses: Final = msgspec.json.Decoder(known(Status))
_acks: Final = msgspec.json.Decoder(known(Ack))
_lives: Final = msgspec.json.Decoder(known(Live))


@cache
def _dictionary() -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def encode_batch(entries: Sequence[Entry], anchored: bool = False) -> bytes:
    """Encode consecutive entries of one lane; `anchored` says that the entry before them is gone for ever."""
    first = entries[0]
    batch = Batch(
        first.lineage,
        first.lane,  # type: ignore[arg-type]
        first.seq,
        [Row(e.boot, e.t_ns, e.kind, e.body, e.signature) for e in entries],
        first.hash if anchored else b"",
    )
    packed = _plain.encode(batch)
    # Level 6: a batch of 200 entries in about 2 ms, some 8 % smaller than level 3; the link is slower than that.
    compressor = zstandard.ZstdCompressor(level=6, dict_data=_dictionary(), write_content_size=True)
    return bytes([PROTOCOL]) + compressor.compress(packed)


def decode_batch(payload: bytes) -> Batch:
    """Decode what `encode_batch` made; raise MessageError for anything else, before it can expand too far."""
    if len(payload) > MAX_PAYLOAD:
        raise MessageError("payload too large")
    if not payload or payload[0] != PROTOCOL:
        raise MessageError("unknown protocol version")
    frame = payload[1:]
    try:
        size = zstandard.frame_content_size(frame)
        if not 0 < size <= MAX_PLAIN:
            raise MessageError("payload expands too far")
        decompressor = zstandard.ZstdDecompressor(dict_data=_dictionary(), max_window_size=2 * MAX_PLAIN)
        packed = decompressor.decompress(frame, max_output_size=MAX_PLAIN, allow_extra_data=False)
        batch = _batches.decode(packed)
    except zstandard.ZstdError as e:
        raise MessageError("payload is not zstd") from e
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise MessageError("payload is not a batch") from e
    if len(batch.anchor) not in (0, 32):
        raise MessageError("payload is not a batch")
    return batch


def encode_birth(birth: Birth, signature: bytes) -> bytes:
    """Encode a birth with the signature over `birth_bytes(birth)`."""
    return msgspec.json.encode(SignedBirth(birth=msgspec.Raw(chain.canonical(birth)), signature=signature.hex()))


def birth_bytes(birth: Birth | bytes) -> bytes:
    """Return the bytes that a device signs to vouch for its birth; the prefix keeps them apart from chain hashes."""
    return b"roadwitness birth\n" + (birth if isinstance(birth, bytes) else chain.canonical(birth))


def decode_birth(payload: bytes) -> Birth:
    """Decode a birth; raise MessageError unless its key signed it and names the device."""
    if len(payload) > MAX_BIRTH:
        raise MessageError("payload too large")
    try:
        signed = _signed.decode(payload)
        raw = bytes(signed.birth)
        birth = _births.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise MessageError("payload is not a birth") from e
    if chain.device_id(bytes.fromhex(birth.public_key)) != birth.device:
        raise MessageError("birth names another device")
    check_signature(birth.public_key, signed.signature, birth_bytes(raw), "birth is not signed by its key")
    return birth


def check_signature(public_key: str, signature: str, signed: bytes, reason: str) -> None:
    """Raise MessageError with `reason` unless the raw Ed25519 key signed the bytes; key and signature are in hex."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(bytes.fromhex(signature), signed)
    except (InvalidSignature, ValueError) as e:
        raise MessageError(reason) from e


def encode_status(device: str, state: Literal["online", "offline"]) -> bytes:
    """Encode a status."""
    return msgspec.json.encode(Status(device=device, state=state))


def decode_status(payload: bytes) -> Status:
    """Decode a status; raise MessageError for anything else."""
    return _decoded(_statuses, payload, MAX_SMALL, "payload is not a status")


def encode_live(live: Live) -> bytes:
    """Encode where the car is."""
    return msgspec.json.encode(live)


def decode_live(payload: bytes) -> Live:
    """Decode where a car is; raise MessageError for anything else."""
    return _decoded(_lives, payload, MAX_SMALL, "payload is not a live message")


def encode_ack(ack: Ack) -> bytes:
    """Encode an acknowledgement."""
    return msgspec.json.encode(ack)


def decode_ack(payload: bytes) -> Ack:
    """Decode an acknowledgement; raise MessageError for anything else."""
    return _decoded(_acks, payload, MAX_ACK, "payload is not an acknowledgement")


def _decoded(decoder: msgspec.json.Decoder[T], payload: bytes, most: int, reason: str) -> T:
    if len(payload) > most:
        raise MessageError("payload too large")
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise MessageError(reason) from e
