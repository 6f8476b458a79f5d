"""Certificates and their revocation, as the issuing key signs them. Nothing here knows a database."""

import datetime
import ipaddress
import re
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.clock import NS_PER_S
from receiver.authority.folder import EARLY, Authority, AuthorityError, moment

Kind = Literal["device", "server", "receiver"]
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
SERVER_DAYS: Final = 397  # as browsers have it at most
_USES: Final[dict[Kind, list[x509.ObjectIdentifier]]] = {
    "device": [ExtendedKeyUsageOID.CLIENT_AUTH],
    "receiver": [ExtendedKeyUsageOID.CLIENT_AUTH],
    "server": [ExtendedKeyUsageOID.SERVER_AUTH],
}
_HOST: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")


class Issued(NamedTuple):
    """A certificate and what is kept of it."""

    serial: str
    key_hash: str
    begins_utc_ns: int
    ends_utc_ns: int
    pem: str  # with the issuing certificate behind it: brokers and boxes know the root alone


class Revoked(NamedTuple):
    """A serial number in hex that counts no more, since when."""

    serial: str
    since_utc_ns: int


def issue(
    authority: Authority, kind: Kind, name: str, key: PublicKey, days: int, now_ns: int, hosts: Sequence[str] = ()
) -> Issued:
    """Certify a key under a name, for `days` but not beyond the issuing certificate; raise AuthorityError."""
    begins = moment(now_ns) - EARLY
    ends = min(moment(now_ns) + datetime.timedelta(days=days), authority.issuing.not_valid_after_utc)
    if ends <= moment(now_ns):
        raise AuthorityError("the issuing certificate has ended; make another: roadwitness ca renew")
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(authority.issuing.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(_USES[kind]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(h) for h in hosts]), critical=False)
    made = builder.sign(authority.key, hashes.SHA256())
    pem = made.public_bytes(Encoding.PEM) + authority.issuing.public_bytes(Encoding.PEM)
    return Issued(
        f"{made.serial_number:x}",
        key_hash(key),
        round(begins.timestamp()) * NS_PER_S,
        round(ends.timestamp()) * NS_PER_S,
        pem.decode(),
    )


def key_of(request: bytes) -> PublicKey:
    """Return the key that a certificate request (PKCS #10, DER) is for and signed by; raise AuthorityError."""
    try:
        asked = x509.load_der_x509_csr(request)
        valid = asked.is_signature_valid
        key = asked.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise AuthorityError("the certificate request cannot be read") from e
    if not valid:
        raise AuthorityError("the certificate request is not signed by its own key")
    if isinstance(key, ed25519.Ed25519PublicKey) or (
        isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    ):
        return key
    raise AuthorityError("the certificate request has another kind of key than Ed25519 or P-256")


def key_hash(key: PublicKey) -> str:
    """Return the SHA-256 of a public key's SubjectPublicKeyInfo, in hex."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize().hex()


def crl(authority: Authority, revoked: Sequence[Revoked], now_ns: int) -> bytes:
    """Return the list of what counts no more, as PEM.

    It ends with the issuing certificate: a broker lets nobody in by a list that has ended, and one that nobody
    renewed must not lock out a fleet. It is written anew whenever something is revoked.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.issuing.subject)
        .last_update(moment(now_ns) - EARLY)
        .next_update(authority.issuing.not_valid_after_utc)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .add_extension(x509.CRLNumber(now_ns // 1000), critical=False)
    )
    for each in revoked:
        one = x509.RevokedCertificateBuilder().serial_number(int(each.serial, 16))
        builder = builder.add_revoked_certificate(one.revocation_date(moment(each.since_utc_ns)).build())
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        if not _HOST.fullmatch(text):
            raise AuthorityError(f"{text!r}: is neither a host name nor an address") from None
        return x509.DNSName(text)
