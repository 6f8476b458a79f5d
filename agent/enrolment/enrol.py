"""Enrolment: a code and an address become a certificate, a broker, and whom this box believes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent import answers, chain, identity
from agent.enrolment import asking, keys
from agent.enrolment.folder import TlsFolder
from agent.enrolment.settings import check_address
from agent.enrolmentmessages import (
    ENROL,
    PATH,
    RENEW,
    RENEWAL_PATH,
    Ask,
    Granted,
    ask_bytes,
    decode_granted,
    encode_ask,
    read_code,
)
from agent.errors import ConfigError, StoreError, UplinkError
from agent.link import parse_url
from agent.messages import MessageError
from agent.owner import as_owner
from agent.tls import Moment

STEP: Final = "enrolment"


class Enrolled(NamedTuple):
    """What came of it; `settings` are tables of agent.toml with what they must say from now on."""

    device: str
    broker: str
    ends_utc_ns: int
    settings: dict[str, dict[str, Any]]


class Signer(NamedTuple):
    """Who asks: the device's name, its record key's public half, and what signs by it."""

    device: str
    public_key: bytes
    sign: Callable[[bytes], bytes]


def enrol(
    store: Path, receiver: str, code: str, now: Moment, *, fingerprint: str = "", kind: keys.Kind = "ed25519"
) -> Enrolled:
    """Enrol the box whose store is in `store`, and write its TLS identity there.

    Legal again at any time: the box keeps its name and gets a new certificate. Raise ConfigError, StoreError or
    UplinkError; then nothing changed, and the same code may be tried again.
    """
    try:
        receiver = check_address(receiver)
    except ValueError as e:
        raise ConfigError(str(e)) from e
    store = store.absolute()  # settings are read elsewhere
    _made(store)
    with as_owner(store):
        return _enrol(store, receiver, code, now, fingerprint, kind)


def _enrol(store: Path, receiver: str, code: str, now: Moment, fingerprint: str, kind: keys.Kind) -> Enrolled:
    read = read_code(code)
    wanted = asking.fingerprint(fingerprint) if fingerprint else read.mark
    signer = signer_of(store)
    tls = TlsFolder(store)
    tls.drop_next()  # of a renewal that was under way, perhaps of another insurer
    ca: Path | None = None
    if wanted:
        tls.keep_next_root(asking.root_of(receiver, wanted))
        ca = tls.next_ca
    tls_key = tls.next_key(kind)
    raw = ask_bytes(
        Ask(
            device=signer.device,
            public_key=signer.public_key.hex(),
            request=keys.request(tls_key, signer.device),
            code=read.secret,
        )
    )
    answer = asking.post(receiver, PATH, encode_ask(raw, signer.sign(ENROL + raw)), ca, now, STEP)
    granted = understood(answer, signer.device, receiver)
    tls.take_next(granted.certificate, granted.authority)
    life = tls.life(tls.next_pair[0])
    if life is None:
        raise UplinkError(f"receiver {receiver}: {STEP}: what it gives is no certificate; tell the insurer")
    tls.put_in_force()
    try:
        answers.begin(store)
    except OSError as e:
        raise StoreError(f"{store / answers.FILE}: cannot be written: {e.strerror}; check the disk, try again") from e
    trust = {"ca": str(tls.ca)} if wanted else {}
    settings: dict[str, dict[str, Any]] = {
        "broker": {
            "url": granted.broker,
            "ca": str(tls.ca),
            "certificate": str(tls.pair[0]),
            "key": str(tls.pair[1]),
        },
        "commands": {"keys": list(granted.keys)},
        "enrolment": {"receiver": receiver, **trust, "key": kind},
    }
    return Enrolled(signer.device, granted.broker, life.ends_utc_ns, settings)


def renewed(tls: TlsFolder, signer: Signer, receiver: str, ca: Path | None, kind: keys.Kind, now: Moment) -> Granted:
    """Ask for the next certificate and keep it beside the one in force; raise StoreError or UplinkError."""
    fresh = tls.next_key(kind)
    request = keys.request(fresh, signer.device)
    raw = ask_bytes(Ask(device=signer.device, public_key=signer.public_key.hex(), request=request))
    try:
        proof = keys.sign(tls.key(), RENEW + raw)
    except StoreError:
        proof = b""  # lost: the record key alone suffices once the certificate has ended
    payload = encode_ask(raw, signer.sign(RENEW + raw), proof)
    granted = understood(asking.post(receiver, RENEWAL_PATH, payload, ca, now, "renewal"), signer.device, receiver)
    tls.take_next(granted.certificate, granted.authority)
    return granted


def understood(answer: bytes, device: str, receiver: str) -> Granted:
    """Return what an answer grants to this device; raise UplinkError for anything else."""
    try:
        granted = decode_granted(answer)
    except MessageError as e:
        raise UplinkError(f"receiver {receiver}: {e}; is it older than this box?") from e
    if granted.device != device:
        raise UplinkError(f"receiver {receiver}: answers for another device; tell the insurer")
    try:
        parse_url(granted.broker)
    except ConfigError as e:
        raise UplinkError(f"receiver {receiver}: names a broker that cannot be used: {e}") from e
    return granted


def signer_of(store: Path) -> Signer:
    """Return who the box is, making its record key at the first call; raise StoreError."""
    _made(store)
    with as_owner(store):
        key: Ed25519PrivateKey = identity.load_or_create_key(store)
    public = chain.public_bytes(key)
    return Signer(chain.device_id(public), public, key.sign)


def _made(store: Path) -> None:
    try:
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as e:
        raise StoreError(f"{store}: cannot be made: {e.strerror}; use sudo") from e
