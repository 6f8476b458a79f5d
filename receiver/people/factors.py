"""The second factor: time-based one-time passwords (RFC 6238) and one-time recovery codes.

Secrets lie in the database sealed with a key that lies beside it (AES-256-GCM), so that a copy of the database alone
shows none. No time step is taken twice.
"""

import base64
import hmac
import re
import secrets as random
from hashlib import sha256
from pathlib import Path
from typing import Final

import pyotp
import segno
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from markupsafe import Markup

from agent.clock import NS_PER_S
from agent.identity import KeyName, load_or_create
from receiver.engine import beside
from receiver.people import secrets
from receiver.settings import ReceiverSettings

KEY: Final = KeyName("people key", "let everybody enrol the second factor again")
KEY_FILE: Final = "people.key"
STEP_S: Final = 30  # RFC 6238 §5.2
WINDOW: Final = 1  # one step before and after: clocks and slow fingers
ISSUER: Final = "Roadwitness"
CODES: Final = 10
_NONCE: Final = 12  # bytes, NIST SP 800-38D
_SECRET: Final = 20  # bytes, RFC 4226 §4


class Sealer:
    """Seals secrets with the key of the settings, which is made at first use."""

    def __init__(self, settings: ReceiverSettings) -> None:
        named = settings.people.key
        self._path = Path(named) if named else beside(settings.database) / KEY_FILE
        self._raw = b""

    def seal(self, person: str, secret: str) -> str:
        """Return a person's secret so that only this receiver reads it; raise StoreError without the key."""
        nonce = random.token_bytes(_NONCE)
        sealed = AESGCM(self._key("seal")).encrypt(nonce, secret.encode(), person.encode())
        return base64.b64encode(nonce + sealed).decode()

    def unseal(self, person: str, sealed: str) -> str | None:
        """Return a person's secret, None where it was sealed with another key or for another person."""
        raw = base64.b64decode(sealed)
        try:
            return AESGCM(self._key("seal")).decrypt(raw[:_NONCE], raw[_NONCE:], person.encode()).decode()
        except InvalidTag:
            return None

    def offered(self, session: str, before: str) -> str:
        """Return the secret that a session is shown before it is confirmed: the same each time, kept nowhere."""
        digest = hmac.new(self._key("offer"), f"{session} {before}".encode(), sha256).digest()
        return base64.b32encode(digest[:_SECRET]).decode()

    def _key(self, purpose: str) -> bytes:
        if not self._raw:
            key = load_or_create(self._path, KEY)
            self._raw = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return hmac.new(self._raw, purpose.encode(), sha256).digest()


def step_of(secret: str, code: str, now_ns: int) -> int | None:
    """Return the time step of which a code is, within the window; None for a wrong one."""
    digits = re.sub(r"\s", "", code)
    if not re.fullmatch(r"[0-9]{6}", digits):
        return None
    totp, now = pyotp.TOTP(secret), now_ns // NS_PER_S // STEP_S
    found = None
    for step in range(now - WINDOW, now + WINDOW + 1):
        if secrets.same(totp.generate_otp(step), digits):
            found = step
    return found


def address(secret: str, name: str) -> str:
    """Return the otpauth address that an app reads."""
    return pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name=ISSUER)


def picture(text: str) -> Markup:
    """Draw a QR code as SVG, dark on light whatever the page's colours are: cameras expect that."""
    drawn = segno.make(text, error="m", micro=False)
    return Markup(drawn.svg_inline(border=4, dark="#000", light="#fff", omitsize=True, svgclass="qr", lineclass=None))


def spaced(secret: str) -> str:
    """Write a secret in groups of four, to be typed."""
    return " ".join(secret[i : i + 4] for i in range(0, len(secret), 4))


def new_codes() -> list[str]:
    """Return recovery codes of 80 bits."""
    made = (base64.b32encode(random.token_bytes(10)).decode().lower() for _ in range(CODES))
    return ["-".join(code[i : i + 4] for i in range(0, 16, 4)) for code in made]


def plain_code(text: str) -> str:
    """Return a recovery code as it was made, however it was typed; empty for what is none."""
    plain = re.sub(r"[\s-]", "", text.lower())
    return "-".join(plain[i : i + 4] for i in range(0, 16, 4)) if re.fullmatch(r"[a-z2-7]{16}", plain) else ""
