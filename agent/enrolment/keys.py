"""The keys of certificates: made on the box, kept for its owner only, replaced with each certificate."""

from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from agent.errors import StoreError

Kind = Literal["ed25519", "p256"]
TlsKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
KINDS: Final[tuple[Kind, ...]] = ("ed25519", "p256")


def make(kind: Kind) -> bytes:
    """Return a new key as it is kept: PKCS #8."""
    key = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def request(key: TlsKey, device: str) -> bytes:
    """Return a certificate request (PKCS #10, DER) for a device, signed by its key."""
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(named)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


def sign(key: TlsKey, message: bytes) -> bytes:
    """Sign with the key of a certificate: Ed25519, or ECDSA over SHA-256 (DER)."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    return key.sign(message, ec.ECDSA(hashes.SHA256()))


def load(path: Path) -> TlsKey:
    """Read a key; raise StoreError."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as e:
        raise StoreError(f"{path}: cannot be read: {e.strerror}; run as the user who owns it") from e
    except (ValueError, TypeError) as e:
        raise StoreError(f"{path}: is damaged; enrol this box again") from e
    if not isinstance(key, TlsKey):
        raise StoreError(f"{path}: is no key of a certificate; enrol this box again")
    return key
