"""Binding over HTTPS, shared by both ends: a box says in which car it stands, with the insurer's one-time code.

`POST /api/v1/binding` with a SignedBinding as JSON; 201 means bound. The code is the right to bind, as for whoever
types it on the receiver's page; the signature says that this box is really there. Nothing here ends a binding: what the
owner agreed to ends with it, and that takes a person whom the receiver knows.
"""

from typing import Annotated, Final

import msgspec

from agent import chain
from agent.known import known
from agent.messages import DeviceId, Hex64, Hex128, MessageError, check_signature

PATH: Final = "/api/v1/binding"
PREFIX: Final = b"roadwitness binding\n"
MOST_BYTES: Final = 4 * 1024


class Binding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which box goes into which car."""

    device: DeviceId
    public_key: Hex64  # the record key, whose hash is the name
    vin: Annotated[str, msgspec.Meta(max_length=17)]
    code: Annotated[str, msgspec.Meta(max_length=64)]


class SignedBinding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A binding and the signature of the box's record key over PREFIX and its bytes as they stand."""

    binding: msgspec.Raw
    signature: Hex128


_signed: Final = msgspec.json.Decoder(known(SignedBinding))
_bindings: Final = msgspec.json.Decoder(known(Binding))


def binding_bytes(binding: Binding) -> bytes:
    """Return the bytes of a binding as they are sent and, behind PREFIX, signed."""
    return chain.canonical(binding)


def encode_binding(raw: bytes, signature: bytes) -> bytes:
    """Encode a binding with its signature."""
    return msgspec.json.encode(SignedBinding(binding=msgspec.Raw(raw), signature=signature.hex()))


def decode_binding(payload: bytes) -> Binding:
    """Return what a box asks for; raise MessageError unless the key that it is named after signed it."""
    if len(payload) > MOST_BYTES:
        raise MessageError("payload too large")
    try:
        signed = _signed.decode(payload)
        raw = bytes(signed.binding)
        asked = _bindings.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise MessageError("payload is no binding") from e
    if chain.device_id(bytes.fromhex(asked.public_key)) != asked.device:
        raise MessageError("binding names another device than its key")
    check_signature(asked.public_key, signed.signature, PREFIX + raw, "binding is not signed by its key")
    return asked
