"""The authority in its folder: a root that can be taken away, and an issuing key below it that the receiver uses.

`root.crt root.key issuing.crt issuing.key crl.pem`; keys are for their owner only (0600). All of ECDSA P-256 with
SHA-256: every broker understands it, which cannot be said of Ed25519.
"""

import datetime
import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from agent.clock import NS_PER_S
from agent.durable import sync_folder
from agent.errors import RoadwitnessError
from receiver.engine import beside
from receiver.settings import HttpSettings, ReceiverSettings

FOLDER: Final = "authority"
ROOT: Final = "root.crt"
ROOT_KEY: Final = "root.key"
ISSUING: Final = "issuing.crt"
ISSUING_KEY: Final = "issuing.key"
CRL: Final = "crl.pem"
# The root outlives the boxes (ten years in a car); the issuing key is certified anew by `ca renew`, the root at hand.
ROOT_DAYS: Final = 25 * 365
ISSUING_DAYS: Final = 5 * 365
# A broker whose clock is behind must not refuse what was given a minute ago.
EARLY: Final = datetime.timedelta(hours=1)
Key = ec.EllipticCurvePrivateKey


class AuthorityError(RoadwitnessError):
    """The authority is not there, or something cannot be certified."""


class Authority(NamedTuple):
    """What certificates are made with."""

    folder: Path
    root: x509.Certificate
    issuing: x509.Certificate
    key: Key  # of `issuing`

    @property
    def ends_utc_ns(self) -> int:
        """Return when the issuing certificate ends: nothing that it gives lives longer."""
        return round(self.issuing.not_valid_after_utc.timestamp()) * NS_PER_S


def folder_of(settings: ReceiverSettings) -> Path:
    """Return where the authority of a receiver is kept."""
    named = settings.enrolment.folder
    return Path(named) if named else beside(settings.database) / FOLDER


def crl_of(settings: ReceiverSettings) -> Path:
    """Return where the list of revoked certificates is written."""
    return Path(settings.enrolment.crl) if settings.enrolment.crl else folder_of(settings) / CRL


def make(folder: Path, name: str, now_ns: int) -> Authority:
    """Make a root and an issuing key; raise AuthorityError where there is a root already, or the disk refuses."""
    if (folder / ROOT).exists():
        raise AuthorityError(f"{folder / ROOT}: is there already; boxes trust it, so it is not made anew")
    key = ec.generate_private_key(ec.SECP256R1())
    named = _name(f"{name} root")
    root = _authority(named, named, key, key, ROOT_DAYS, now_ns, path_length=1)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(folder / ROOT_KEY, pem_of(key), private=True)
        write(folder / ROOT, root.public_bytes(Encoding.PEM))
    except OSError as e:
        raise AuthorityError(f"{folder}: the authority cannot be written: {e.strerror}") from e
    return renew(folder, name, now_ns)


def renew(folder: Path, name: str, now_ns: int) -> Authority:
    """Certify the issuing key anew by the root, whose key must be in the folder; raise AuthorityError.

    The key stays, so that lists of what is revoked go on; where it is lost another is made, and the boxes, which
    no list speaks of any more, are let in again once they have renewed their certificates.
    """
    root = _certificate(folder / ROOT)
    root_key = _key(folder / ROOT_KEY, "put the root's key back for this step")
    lost = not (folder / ISSUING_KEY).exists()
    key = ec.generate_private_key(ec.SECP256R1()) if lost else _key(folder / ISSUING_KEY, "move it aside")
    issuing = _authority(_name(f"{name} issuing"), root.subject, key, root_key, ISSUING_DAYS, now_ns, path_length=0)
    try:
        write(folder / ISSUING_KEY, pem_of(key), private=True)
        write(folder / ISSUING, issuing.public_bytes(Encoding.PEM))
    except OSError as e:
        raise AuthorityError(f"{folder}: the authority cannot be written: {e.strerror}") from e
    return Authority(folder, root, issuing, key)


def load(folder: Path) -> Authority:
    """Return the authority in a folder; raise AuthorityError saying what is missing."""
    if not (folder / ROOT).exists():
        raise AuthorityError(f"{folder}: there is no authority; make it: roadwitness ca init")
    advice = "put it back from your copy, or make another with the root's key: roadwitness ca renew"
    issuing, key = _certificate(folder / ISSUING), _key(folder / ISSUING_KEY, advice)
    if issuing.public_key() != key.public_key():
        raise AuthorityError(f"{folder / ISSUING_KEY}: is not the key of {ISSUING}; {advice}")
    return Authority(folder, _certificate(folder / ROOT), issuing, key)


def exists(folder: Path) -> bool:
    """Say whether there is an authority."""
    return (folder / ROOT).exists()


def gave(authority: Authority, http: HttpSettings) -> bool:
    """Say whether the certificate of the pages is of this authority; raise AuthorityError where it cannot be read."""
    if not http.certificate:
        return False
    return _certificate(Path(http.certificate)).issuer == authority.issuing.subject


def root_pem(folder: Path) -> bytes:
    """Return the root's certificate; raise AuthorityError where there is none."""
    return _certificate(folder / ROOT).public_bytes(Encoding.PEM)


def write(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file whole and durable; a key is for its owner only from the first byte. Raise OSError."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if private else 0o644)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    sync_folder(path.parent)


def pem_of(key: Key) -> bytes:
    """Return a private key as PKCS #8."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def moment(utc_ns: int) -> datetime.datetime:
    """Return a time as certificates have it."""
    return datetime.datetime.fromtimestamp(utc_ns // NS_PER_S, datetime.UTC)


def _authority(
    subject: x509.Name, issuer: x509.Name, key: Key, signer: Key, days: int, now_ns: int, path_length: int
) -> x509.Certificate:
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    begins = moment(now_ns) - EARLY
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as e:
        raise AuthorityError(f"{path}: cannot be read: {e.strerror}; run as the user who owns it") from e
    except ValueError as e:
        raise AuthorityError(f"{path}: is no certificate; put it back from your copy") from e


def _key(path: Path, advice: str) -> Key:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise AuthorityError(f"{path}: can be read by others (mode {mode:o}); run: chmod 600 {path}")
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as e:
        raise AuthorityError(f"{path}: cannot be read: {e.strerror}; {advice}") from e
    except (ValueError, TypeError) as e:
        raise AuthorityError(f"{path}: is damaged; {advice}") from e
    if not isinstance(key, Key):
        raise AuthorityError(f"{path}: is no key of this authority; {advice}")
    return key
