"""The sheet of a fitting: what was checked, what came of it, and the device's signature over all of it."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from typing import Annotated, Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.chain import canonical, device_id
from agent.errors import RoadwitnessError
from agent.known import known
from agent.messages import DeviceId, Hex64, Hex128

FORMAT: Final = "roadwitness-fitting/1"
PREFIX: Final = b"roadwitness fitting\n"  # nothing else that the device signs can pass for a sheet
MOST_BYTES: Final = 16 * 1024**2  # of a file that is read as a sheet: four photos are below 2 MB

# skip: somebody left it out; absent: this car has nothing of the kind
ItemState = Literal["pass", "warn", "fail", "skip", "absent"]
Verdict = Literal["accepted", "reserved", "refused"]
VERDICTS: Final[dict[Verdict, str]] = {
    "accepted": "Accepted",
    "reserved": "Accepted with reservations",
    "refused": "Not accepted",
}

_Line = Annotated[str, msgspec.Meta(max_length=500)]


class SheetError(RoadwitnessError):
    """A file is no sheet, or not what the device signed."""


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that was checked."""

    step: _Line  # of the wizard, e.g. "wiring"
    name: _Line  # in words, e.g. "Supply voltage"
    state: ItemState
    value: _Line  # what was found, or why it was left out
    advice: _Line = ""  # the next step, where it did not pass


class Photo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A picture of the fitted box, as it stands in the sheet: encoded anew, without place or camera."""

    name: _Line
    sha256: Hex64
    width: int
    height: int


class Sheet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the technician leaves with, and the insurer can check."""

    format: Literal["roadwitness-fitting/1"] = FORMAT
    id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}(?!\n)$")]  # of this fitting
    device: DeviceId
    public_key: Hex64
    vin: _Line
    by: _Line  # who fitted
    started: _Line  # UTC by the box's clock, "" where it did not know the time
    ended: _Line
    versions: dict[str, str]
    consent: _Line
    items: list[Item]
    photos: list[Photo] = []

    @property
    def verdict(self) -> Verdict:
        """Return what comes of all items: one that failed refuses, one that warns or was left out is a reservation."""
        states = {item.state for item in self.items}
        if "fail" in states or not states:
            return "refused"
        return "reserved" if states & {"warn", "skip"} else "accepted"

    def count(self, state: ItemState) -> int:
        """Return how many items have a state."""
        return sum(item.state == state for item in self.items)


class Sealed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sheet as it was signed, and the photos that it names, base64 of JPEG."""

    sheet: msgspec.Raw
    signature: Hex128
    photos: list[str] = []

    @property
    def digest(self) -> str:
        """Return SHA-256 of what was signed, in hex: by this the receiver knows the sheet."""
        return hashlib.sha256(PREFIX + bytes(self.sheet)).hexdigest()

    def read(self) -> Sheet:
        """Return the sheet; raise SheetError."""
        try:
            return _sheets.decode(bytes(self.sheet))
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            raise SheetError(f"the sheet cannot be read: {e}") from e

    def pictures(self) -> list[bytes]:
        """Return the photos; raise SheetError."""
        try:
            return [base64.b64decode(text, validate=True) for text in self.photos]
        except ValueError as e:
            raise SheetError("a photo in the sheet is damaged") from e


_sheets: Final = msgspec.json.Decoder(known(Sheet))
_sealed: Final = msgspec.json.Decoder(known(Sealed))


def seal(sheet: Sheet, sign: Callable[[bytes], bytes], photos: Sequence[bytes] = ()) -> Sealed:
    """Sign a sheet with the device's key; `photos` are those that it names, in order."""
    raw = canonical(sheet)
    texts = [base64.b64encode(photo).decode() for photo in photos]
    return Sealed(sheet=msgspec.Raw(raw), signature=sign(PREFIX + raw).hex(), photos=texts)


def packed(sealed: Sealed) -> str:
    """Return a sealed sheet as one line of base64, as it stands in the HTML and the PDF file."""
    return base64.b64encode(msgspec.json.encode(sealed)).decode()


def unpacked(text: str) -> Sealed:
    """Return what `packed` made; raise SheetError."""
    try:
        return _sealed.decode(base64.b64decode(text, validate=True))
    except (ValueError, msgspec.DecodeError) as e:
        raise SheetError("what the sheet holds for checking is damaged") from e


def proved(sealed: Sealed) -> Sheet:
    """Return the sheet after proving that the named device signed it, photos and all; raise SheetError."""
    sheet = sealed.read()
    key = bytes.fromhex(sheet.public_key)
    if device_id(key) != sheet.device:
        raise SheetError(f"the key in the sheet is not that of {sheet.device}")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(bytes.fromhex(sealed.signature), PREFIX + bytes(sealed.sheet))
    except (InvalidSignature, ValueError) as e:
        raise SheetError(f"device {sheet.device} did not sign this: it was changed after it was signed") from e
    pictures = sealed.pictures()
    if [hashlib.sha256(p).hexdigest() for p in pictures] != [p.sha256 for p in sheet.photos]:
        raise SheetError("the photos are not those that were signed")
    return sheet


def short(digest: str) -> str:
    """Return the beginning of a digest as people compare it: '3f9a 17c2 04bb 91d0'."""
    return " ".join(digest[i : i + 4] for i in range(0, 16, 4))
