"""Asking a receiver over HTTPS: one request, bounded in time and size, and every trouble in one line."""

import hashlib
import http.client
import json
import re
import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent.enrolmentmessages import AUTHORITY_PATH, MOST_BYTES, mark_of
from agent.errors import UplinkError
from agent.tls import Moment, client_context

TIMEOUT_S: Final = 20.0
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")


class NotGrantedError(UplinkError):
    """The receiver answered, and said no: asking again at once does not help."""


def post(receiver: str, path: str, payload: bytes, ca: Path | None, now: Moment, step: str) -> bytes:
    """Post JSON and return the answer; raise NotGrantedError or UplinkError."""
    context = client_context(ca, None, lambda: now) if receiver.startswith("https:") else None
    status, body = _ask(receiver, "POST", path, payload, context, step)
    if status == 201:
        return body
    said = _said(body)
    if status >= 500 or status == 429:
        raise UplinkError(f"receiver {receiver}: {step}: {said or status}; try again later")
    advice = "is there an older receiver, or another service?" if not said else "ask the insurer"
    raise NotGrantedError(f"receiver {receiver}: {step}: {said or f'answered {status}'}; {advice}")


def root_of(receiver: str, wanted: str) -> bytes:
    """Return the root certificate (PEM) of a receiver's own authority, which `wanted` names: a mark, or SHA-256 in hex.

    This one file is asked for without checking who gives it, as the certificate that would be checked against it is
    not known yet: it is public, nothing is told for it, and one with another fingerprint is refused.
    """
    context = None
    if receiver.startswith("https:"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    status, body = _ask(receiver, "GET", AUTHORITY_PATH, b"", context, "its authority")
    try:
        der = x509.load_pem_x509_certificate(body).public_bytes(Encoding.DER) if status == 200 else b""
    except ValueError:
        der = b""
    if not der:
        raise NotGrantedError(f"receiver {receiver}: has no authority of its own; is the address right?")
    if wanted not in (mark_of(der), hashlib.sha256(der).hexdigest()):
        raise NotGrantedError(
            f"receiver {receiver}: is not the one that the code is for, or somebody stands between; do not go on over"
            " this network, and ask the insurer for the code and the address again"
        )
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


def fingerprint(text: str) -> str:
    """Return a SHA-256 fingerprint as people give it, with or without colons, in plain hex; raise UplinkError."""
    plain = text.replace(":", "").replace(" ", "").lower()
    if not _FINGERPRINT.fullmatch(plain):
        raise UplinkError("--ca-fingerprint: is no SHA-256 in 64 hex digits; roadwitness ca list prints it")
    return plain


def _ask(
    receiver: str, method: str, path: str, payload: bytes, context: ssl.SSLContext | None, step: str
) -> tuple[int, bytes]:
    parts = urlsplit(receiver)
    assert parts.hostname is not None
    if context is None:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
    else:
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=TIMEOUT_S, context=context)
    try:
        connection.request(method, path, payload or None, {"Content-Type": "application/json"} if payload else {})
        answer = connection.getresponse()
        body = answer.read(MOST_BYTES + 1)
    except ssl.SSLCertVerificationError as e:
        raise UplinkError(
            f"receiver {receiver}: {step}: its certificate is not trusted: {e.verify_message}; use a code with the"
            " fingerprint of its authority, or check the address"
        ) from e
    except (OSError, http.client.HTTPException) as e:
        cause = getattr(e, "strerror", None) or e
        raise UplinkError(f"receiver {receiver}: {step}: {cause}; check the network and the address") from e
    finally:
        connection.close()
    if len(body) > MOST_BYTES:
        raise UplinkError(f"receiver {receiver}: {step}: its answer is too large; is the address right?")
    return answer.status, body


def _said(body: bytes) -> str:
    """Return what a problem (RFC 9457) says in detail, on one line."""
    try:
        told = json.loads(body)
        detail = told.get("detail", "") if isinstance(told, dict) else ""
    except (ValueError, RecursionError):
        return ""
    return " ".join(detail.split())[:300] if isinstance(detail, str) else ""
