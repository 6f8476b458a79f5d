"""Files over the wire, shared by both ends: EMQX's file-transfer grammar under the device's own root.

`file/{id}/init`, `file/{id}/{offset}/{checksum}` and `file/{id}/fin/{size}/{checksum}`, QoS 1; a file's id is its
SHA-256 in hex, so a file is sent once although two packages hold it. The receiver answers on `files`.

Two differences from EMQX: checksums, optional there, always stand in the topics of chunks and `fin`; and the answer
is a message of its own, since PUBACK has no reason codes in MQTT 3.1.1 and says nothing about storage.
"""

import hashlib
import re
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from agent.known import known
from agent.messages import MAX_PAYLOAD, PROTOCOL, ROOT, DeviceId, Hex64, MessageError, Text

MAX_CHUNK: Final = MAX_PAYLOAD
MAX_INIT: Final = 1024
MAX_ANSWER: Final = 64 * 1024
# Ranges that a file may be held in. A device has at most 12 chunks under way (UploadSettings), so it needs 13.
MAX_RANGES: Final = 64
LARGEST: Final = 2**53 - 1  # exact in every JSON reader
CHUNK_TYPE: Final = "application/octet-stream"

Incident = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}(?!\n)$")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}(?!\n)$")]
Size = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]
# No separator, no leading dot, nothing that a file system or a page must quote.
FILE_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(?!\n)$"
_NAME: Final = re.compile(FILE_NAME)
FileName = Annotated[str, msgspec.Meta(pattern=FILE_NAME)]


class Init(msgspec.Struct, frozen=True, kw_only=True):
    """What a device says before it sends a file, as EMQX wants it; the receiver answers with what is missing."""

    name: FileName
    size: Size
    checksum: Hex64  # SHA-256, which is also the file's id


class OpenFile(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the receiver lacks of a file: half-open byte ranges; `revision` grows with every change of them.

    The rest need not be sent again to this receiver and may still be lost with it: only `done` is kept for good.
    """

    revision: Size
    missing: Annotated[list[tuple[Size, Size]], msgspec.Meta(max_length=MAX_RANGES + 1)]


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """The receiver's answer about the files of one device: retained; its `packages` alone free anything there."""

    device: DeviceId
    session: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z._-]{0,64}(?!\n)$")]  # of the birth last seen
    open: dict[Hex64, OpenFile] = {}
    done: list[Hex64] = []  # stored and whole
    refused: dict[Hex64, Text] = {}  # why a file is not taken
    packages: dict[Incident, Digest] = {}  # whole packages -> SHA-256 of the body of the record that names their files
    trouble: Text = ""  # why nothing is taken at the moment
    anew: bool = False  # a receiver has just begun: what is under way may have been lost with another
    protocol: int = PROTOCOL


class FileAddress(NamedTuple):
    """The part of a topic after `file/`: `number` is a chunk's offset or, for fin, the size."""

    file: str
    step: Literal["init", "chunk", "fin"]
    number: int = 0
    checksum: str = ""


FILE_FILTER: Final = f"{ROOT}/+/file/#"
_NUMBER: Final = "0|[1-9][0-9]{0,15}"
_REST: Final = re.compile(rf"([0-9a-f]{{64}})/(?:(init)|(fin/)?({_NUMBER})/([0-9a-f]{{64}}))")
_init: Final = msgspec.json.Decoder(known(Init))
_files: Final = msgspec.json.Decoder(known(Files))


def safe_name(name: str) -> bool:
    """Say whether a file may have this name, on either side."""
    return _NAME.fullmatch(name) is not None


def init_topic(device: str, file: str) -> str:
    """Return the topic by which a file is announced."""
    return f"{ROOT}/{device}/file/{file}/init"


def chunk_topic(device: str, file: str, offset: int, chunk: bytes) -> str:
    """Return the topic of one chunk: its offset and its SHA-256."""
    return f"{ROOT}/{device}/file/{file}/{offset}/{hashlib.sha256(chunk).hexdigest()}"


def fin_topic(device: str, file: str, size: int) -> str:
    """Return the topic by which a device says that all chunks of a file are sent."""
    return f"{ROOT}/{device}/file/{file}/fin/{size}/{file}"


def file_address(rest: str) -> FileAddress:
    """Take apart what follows `file/` in a topic; raise MessageError for anything else."""
    found = _REST.fullmatch(rest)
    if found is None:
        raise MessageError("unknown topic")
    file, init, fin, number, checksum = found.groups()
    if init:
        return FileAddress(file, "init")
    if int(number) > LARGEST:
        raise MessageError("unknown topic")
    return FileAddress(file, "fin" if fin else "chunk", int(number), checksum)


def record_digest(body: bytes) -> str:
    """Name what a Package record says, whatever lineage and sequence number it was sealed under."""
    return hashlib.sha256(body).hexdigest()


def encode_init(init: Init) -> bytes:
    """Encode what is said before a file."""
    return msgspec.json.encode(init)


def decode_init(payload: bytes) -> Init:
    """Decode what is said before a file; raise MessageError for anything else."""
    if len(payload) > MAX_INIT:
        raise MessageError("payload too large")
    try:
        return _init.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise MessageError("payload is not an init") from e


def encode_files(files: Files) -> bytes:
    """Encode an answer, leaving out what is empty."""
    return msgspec.json.encode(files)


def decode_files(payload: bytes) -> Files:
    """Decode an answer; raise MessageError for anything else, missing ranges out of order included."""
    if len(payload) > MAX_ANSWER:
        raise MessageError("payload too large")
    try:
        files = _files.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise MessageError("payload is not an answer about files") from e
    for held in files.open.values():
        ends = [x for pair in held.missing for x in pair]
        if any(low >= high for low, high in held.missing) or ends != sorted(ends):
            raise MessageError("payload is not an answer about files")
    return files
