"""What must not leave a box in a log or a setting: keys, tokens, passwords, whereabouts, and who somebody is.

Two nets: what this box itself keeps secret is known and removed wherever it stands, in hex, base64 or as it is; and
what looks like a secret of anybody is removed by its looks. The second one errs towards removing: a shortened hash is
no loss, a token would be.
"""

import base64
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

GONE: Final = "[removed]"
LARGEST: Final = 64 * 1024  # of a file that may hold a key or a password
LEAST: Final = 6  # characters of a secret that is looked for: a shorter one would take half of a log with it
PLACE_DIGITS: Final = 2  # of degrees: 1.1 km from north to south
_KEYS: Final = re.compile(r"\.key$|\.pem$|pass|secret|token|vault|sealed", re.IGNORECASE)

# A word that says that a secret follows, and what follows; the last group is what goes.
_NAMED: Final = re.compile(
    r"((?:pass(?:word|wd|phrase)|secret|token|api[_-]?key|credential|authorization|bearer|private[_-]?key|pin"
    r"|(?:enrol(?:ment)?|bind)[_ -]?code)\b[\"']?"
    r"\s*(?:is\s+|[=:]\s*|\s(?=[A-Za-z0-9+/_-]{16}))(?:bearer\s+|basic\s+)?[\"']?)"
    r"([^\s\"',;}\]]+)",
    re.IGNORECASE,
)
_PEM: Final = re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL)
_LOGIN: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s@\"']+@", re.IGNORECASE)
_JWT: Final = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_HEX: Final = re.compile(r"(?<![0-9A-Za-z])([0-9a-fA-F]{8})[0-9a-fA-F]{40,}(?![0-9A-Za-z])")
_BASE64: Final = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{40,}={0,2}(?![A-Za-z0-9+/_=-])")
_NMEA: Final = re.compile(r"\d{3,5}\.\d{2,},([NSEW])\b")
# Decimals that may be degrees: beside a word that says so, or with as many digits as only a place needs.
_DEGREES: Final = re.compile(r"((?:lat|lon|lng)[a-z_0-9]*[\"']?\s*[=:]?\s*)([-+]?\d{1,3}\.\d{3,})", re.IGNORECASE)
_FINE: Final = re.compile(r"(?<![\w.:+-])([-+]?\d{1,3}\.\d{4,})(?![\w.:]*\d)")
_E7: Final = re.compile(r"((?:lat|lon|lng)[a-z_0-9]*[\"']?\s*[=:]?\s*)[-+]?\d{8,10}\b", re.IGNORECASE)
# ISO 3779: 17 characters without I, O and Q, at least one digit among the last four. Maker and end stay: they say which
# car of a fleet it is, and no register gives a name for them.
_VIN: Final = re.compile(
    r"(?<![0-9A-Za-z])([A-HJ-NPR-Z0-9]{3})[A-HJ-NPR-Z0-9]{10}([A-HJ-NPR-Z0-9]{2}\d[0-9X])(?![0-9A-Za-z])"
)
# GA 36-2018: province, letter, five or (new energy) six more
_PLATE: Final = re.compile(
    "[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-Z][·• ]?"
    "[A-HJ-NP-Z0-9]{4,5}[A-HJ-NP-Z0-9挂学警港澳]"
)


class Redactor:
    """Removes what `secrets` holds and what looks like it; places are rounded unless `with_position`."""

    def __init__(self, secrets: Iterable[str] = (), with_position: bool = False) -> None:
        known = sorted({s for s in secrets if len(s) >= LEAST}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None
        self._places: tuple[Callable[[str], str], ...] = () if with_position else (_places,)

    def text(self, text: str) -> str:
        """Return a text as it may leave the box."""
        if self._known is not None:
            text = self._known.sub(GONE, text)
        text = _PEM.sub(GONE, text)
        text = _LOGIN.sub(rf"\1{GONE}@", text)
        text = _JWT.sub(GONE, text)
        text = _NAMED.sub(rf"\1{GONE}", text)
        text = _HEX.sub(r"\1…", text)
        text = _BASE64.sub(_random, text)
        text = _VIN.sub(r"\1…\2", text)
        text = _PLATE.sub(GONE, text)
        for each in self._places:
            text = each(text)
        return text

    def plain(self, value: Any) -> Any:
        """Return a value of JSON as it may leave the box."""
        if isinstance(value, dict):
            return {self.text(str(k)): self._named(str(k), v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(v) for v in value]
        return self.text(value) if isinstance(value, str) else value

    def _named(self, key: str, value: Any) -> Any:
        if isinstance(value, float) and self._places and key.lower().startswith(("lat", "lon", "lng")):
            return round(value, PLACE_DIGITS)
        if isinstance(value, str) and value and _NAMED.search(f"{key}: {value}") and not value.startswith("/"):
            return GONE
        return self.plain(value)


def _places(text: str) -> str:
    text = _NMEA.sub(rf"{GONE},\1", text)
    text = _E7.sub(rf"\1{GONE}", text)
    text = _DEGREES.sub(lambda found: found[1] + _rounded(found[2]), text)
    return _FINE.sub(lambda found: _rounded(found[1]), text)


def _rounded(number: str) -> str:
    return f"{float(number):.{PLACE_DIGITS}f}"


def _random(found: re.Match[str]) -> str:
    """Remove what has small and large letters and digits, as base64 has; a path or a long name has not all of them."""
    text = found[0]
    kinds = (str.islower, str.isupper, str.isdigit)
    mixed = all(any(is_kind(c) for c in text) for is_kind in kinds)
    return GONE if mixed and text.count("/") <= len(text) // 20 + 1 else text


def secrets_in(folders: Iterable[Path], files: Iterable[Path] = ()) -> list[str]:
    """Return what these folders and files keep secret, in every form in which it may be written.

    What cannot be read by us cannot be in what we read.
    """
    named = [path for folder in folders for path in _listed(folder) if _KEYS.search(path.name)]
    found: list[str] = []
    for path in [*named, *files]:
        try:
            if path.is_file() and path.stat().st_size <= LARGEST:
                found += _forms(path.read_bytes())
        except OSError:
            continue
    return found


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _forms(data: bytes) -> list[str]:
    """Return the forms of a secret file: as it is, in hex, in base64; a key also as its raw bytes."""
    if b"BEGIN CERTIFICATE" in data and b"PRIVATE" not in data:
        return []
    raws = [data, data.strip()]
    text = data.decode("utf-8", "replace").strip()
    lines = [line.strip() for line in text.splitlines() if not line.startswith("-----")]
    found = [text, "".join(lines), *lines]
    if b"PRIVATE KEY" in data:
        try:
            key = load_pem_private_key(data, password=None)
            raws.append(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
            if isinstance(key, Ed25519PrivateKey):
                raws.append(key.private_bytes_raw())
        except (ValueError, TypeError, UnsupportedAlgorithm):
            pass  # damaged: its text is removed all the same
    for raw in raws:
        found += [raw.hex(), raw.hex().upper()]
        found += [base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()]
        found += [f.rstrip("=") for f in found[-2:]]
    return found
