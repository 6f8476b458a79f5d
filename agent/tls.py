"""TLS where nobody set the clock: certificates are judged by the time that the box knows, and always judged.

OpenSSL compares validity with the machine's clock, which is 1970 in a box without a battery for it, or days behind.
Here it checks chain, name and purpose, and the dates are compared with what is known: where that is sure (satellites,
NTP), both of them; where it is only a bound, "it is at least so late", a certificate that had ended by then is refused
and one that begins later is not: a clock that is behind makes every new certificate look like that.
"""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from cryptography import x509

from agent.clock import EARLIEST_NS, NS_PER_S, iso_utc
from agent.errors import ConfigError

_NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, openssl/x509_vfy.h
# Two clocks that are right by NTP or satellites differ by less than a second; servers are often set by hand.
SLACK_NS: Final = 600 * NS_PER_S


class Moment(NamedTuple):
    """UTC: what it is (`sure`), or the least that it can be."""

    utc_ns: int = EARLIEST_NS
    sure: bool = False


class UntimelyError(ssl.SSLCertVerificationError):
    """A certificate that does not count yet, or no more."""

    def __init__(self, said: str) -> None:
        super().__init__(1, said)
        self.verify_message = said


def check_dates(certificate: bytes, now: Moment) -> None:
    """Raise UntimelyError where a certificate (DER) does not count at that time."""
    read = x509.load_der_x509_certificate(certificate)
    begins = round(read.not_valid_before_utc.timestamp()) * NS_PER_S
    ends = round(read.not_valid_after_utc.timestamp()) * NS_PER_S
    if ends < now.utc_ns - SLACK_NS:
        raise UntimelyError(f"it ended at {iso_utc(ends)}, and it is {iso_utc(now.utc_ns)} or later")
    if now.sure and begins > now.utc_ns + SLACK_NS:
        raise UntimelyError(f"it begins at {iso_utc(begins)}, and it is {iso_utc(now.utc_ns)}")


def client_context(
    ca: Path | None, pair: tuple[Path, Path] | None, now: Callable[[], Moment] | None = None
) -> ssl.SSLContext:
    """Return how to connect to a server: `ca` (PEM; the system's authorities when None) vouches for it, `pair` is
    certificate and key of this side, `now` judges dates in place of the machine's clock. Raise ConfigError.
    """
    try:
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
    except OSError as e:
        raise ConfigError(f"{ca}: not a usable certificate authority file: {e.strerror or e}") from e
    if pair is not None:
        try:
            context.load_cert_chain(*pair)
        except OSError as e:
            raise ConfigError(f"{pair[0]}, {pair[1]}: not a usable pair: {e.strerror or e}") from e
    if now is not None:
        judge_dates(context, now)
    return context


def judge_dates(context: ssl.SSLContext, now: Callable[[], Moment]) -> None:
    """Have a context compare the dates of every certificate of a chain with `now` in place of the machine's clock."""

    class Timed(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            moment = now()
            for certificate in _chain(self):
                check_dates(certificate, moment)

    context.sslsocket_class = Timed
    context.verify_flags |= _NO_CHECK_TIME


def _chain(connection: ssl.SSLSocket) -> list[bytes]:
    """Return the certificates that were verified, root included, as DER."""
    verified: Any = getattr(connection, "get_verified_chain", None)
    if verified is not None:  # Python 3.13
        return list(verified())
    under: Any = connection._sslobj  # type: ignore[attr-defined]
    encoding: Any = ssl._ssl.ENCODING_DER  # type: ignore[attr-defined]
    return [each.public_bytes(encoding) for each in under.get_verified_chain()]
