"""Commands over the wire, shared by both ends: who may ask a device for something proves it by a signature.

A command travels on `rw/v1/{device}/command`, QoS 1, not retained: one topic holds one retained message, and a device
must not be asked again for what it has answered. The receiver sends it once, and again at every birth of the device,
until a Reply record comes or it expires. The signature is over a prefix of its own, so that nothing else that is signed
can pass for a command.
"""

import re
import secrets
from collections.abc import Collection
from typing import Annotated, Any, Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from agent.chain import canonical, public_bytes
from agent.known import known
from agent.messages import PROTOCOL, DeviceId, Hex64, Hex128, MessageError

MAX_COMMAND: Final = 4 * 1024
PREFIX: Final = b"roadwitness command\n"
# A car that stands for a week is common; beyond that nobody remembers what was asked and why. It also bounds how long
# a device must remember what it was asked.
LONGEST_LIFE_NS: Final = 7 * 86_400 * 1_000_000_000

TOO_LARGE: Final = "command is too large"
NO_COMMAND: Final = "payload is not a command"
UNTRUSTED: Final = "command is signed by a key that is not trusted here"
UNSIGNED: Final = "command is not signed by its key"
OTHER_DEVICE: Final = "command is for another device"

CommandId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}(?!\n)$")]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z_]{1,32}(?!\n)$")]
# One line without control characters: it is shown to people.
Line = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,200}(?!\n)$")]
Actor = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,64}(?!\n)$")]
# Below 2^62, so that sums and differences of two stay within 64 bits.
UtcNs = Annotated[int, msgspec.Meta(ge=0, le=2**62 - 1)]
Key = Annotated[str, msgspec.Meta(pattern=r"^[a-z_]{1,32}(\.[a-z_0-9]{1,32}){1,3}(?!\n)$")]  # of a setting: table.key
Camera = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}(?!\n)$")]

_LINE: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,200}")


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one device is asked to do, by whom and why."""

    id: CommandId  # random, used once
    device: DeviceId
    command: Name
    arguments: dict[str, Any]  # those of `command`
    issued_utc_ns: UtcNs
    expires_utc_ns: UtcNs  # heeded only before
    reason: Line
    actor: Actor
    protocol: int = PROTOCOL


class SignedCommand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A command and the Ed25519 signature by `key` over PREFIX and the command's bytes as they stand."""

    command: msgspec.Raw
    key: Hex64
    signature: Hex128


class ClipArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `clip` asks for: the video of a time that has passed, of all cameras or of those that are named."""

    from_utc_ns: UtcNs
    to_utc_ns: UtcNs
    cameras: Annotated[list[Camera], msgspec.Meta(max_length=8)] = []


class TrackArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `track` asks for: every position of a time that has passed, as exactly as the device holds it."""

    from_utc_ns: UtcNs
    to_utc_ns: UtcNs


class DoctorArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `doctor` asks for: all that the doctor examines, or the groups that are named."""

    groups: Annotated[list[Name], msgspec.Meta(max_length=32)] = []


class BundleArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `bundle` asks for: the support bundle; with exact places only where the owner agrees to tracks."""

    with_position: bool = False


class LevelArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `log_level` asks for: how much the agent writes into its log, and for how long."""

    level: Literal["debug", "info", "warning"]
    seconds: Annotated[int, msgspec.Meta(ge=1, le=86_400)]


class ConfigArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `config` asks for: values laid over agent.toml, as TOML, and keys that get their own value there again.

    They are on trial: a device that is not heard from again within so many seconds takes the former ones by itself.
    """

    toml: Annotated[str, msgspec.Meta(max_length=2048)] = ""
    drop: Annotated[list[Key], msgspec.Meta(max_length=64)] = []
    within_s: Annotated[int, msgspec.Meta(ge=5, le=7200)] = 600


class NoArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What commands take that need no more than their name."""


# command -> its arguments; a device may refuse any of them ([commands] allow)
ARGUMENTS: Final[dict[str, type[msgspec.Struct]]] = {
    "clip": ClipArguments,
    "track": TrackArguments,
    "doctor": DoctorArguments,
    "dtc": NoArguments,
    "bundle": BundleArguments,
    "log_level": LevelArguments,
    "config": ConfigArguments,
    "restart_agent": NoArguments,
    "restart_dashcam": NoArguments,
}

_signed: Final = msgspec.json.Decoder(known(SignedCommand))
_commands: Final = msgspec.json.Decoder(known(Command))


def new_id() -> str:
    """Return a random id for a command."""
    return secrets.token_hex(16)


def encode_command(command: Command, key: Ed25519PrivateKey) -> bytes:
    """Sign and encode a command; raise MessageError where it cannot be sent, with what is wrong."""
    raw = canonical(command)
    try:
        _commands.decode(raw)
    except msgspec.ValidationError as e:
        raise MessageError(str(e)) from e
    signed = SignedCommand(
        command=msgspec.Raw(raw), key=public_bytes(key).hex(), signature=key.sign(PREFIX + raw).hex()
    )
    payload = msgspec.json.encode(signed)
    if len(payload) > MAX_COMMAND:
        raise MessageError(TOO_LARGE)
    return payload


def decode_command(payload: bytes, trusted: Collection[str]) -> tuple[Command, str]:
    """Return a command and the key that signed it, one of `trusted` (raw public keys in hex).

    Raise MessageError, with one of the reasons above, for anything else.
    """
    if len(payload) > MAX_COMMAND:
        raise MessageError(TOO_LARGE)
    try:
        signed = _signed.decode(payload)
        if signed.key not in trusted:
            raise MessageError(UNTRUSTED)
        raw = bytes(signed.command)
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signed.key))
        key.verify(bytes.fromhex(signed.signature), PREFIX + raw)
        return _commands.decode(raw), signed.key
    except (InvalidSignature, ValueError) as e:
        if isinstance(e, msgspec.DecodeError | UnicodeDecodeError):
            raise MessageError(NO_COMMAND) from e
        raise MessageError(UNSIGNED) from e
    except RecursionError as e:
        raise MessageError(NO_COMMAND) from e


def one_line(text: str) -> str:
    """Return text as it may stand in a record that people see: one line, 200 characters at most."""
    shown = "".join(c if _LINE.fullmatch(c) else " " for c in text[:200])
    return shown or " "
