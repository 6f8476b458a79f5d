#!/usr/bin/env python3
"""Verify a Roadwitness package: the folder of one incident, with its files, manifest.json and manifest.sig.

Needs Python 3.9 or newer and the library `cryptography` 42 or newer, no network and nothing else: copy this one file.

    python3 verify_package.py FOLDER --key KEY [--tsa-ca FILE] [--json]

KEY says which device must have signed: its public key in hex, a file that holds it (hex or PEM), or its name (rw-…).
FILE holds the certificates (PEM) of the time-stamping authorities that are trusted.

Exit code 0: everything holds, signed by KEY. 1: something does not hold; each line names the file or record. 2: the
folder cannot be read, or the call is wrong. 3: everything holds, but no KEY was given, so anyone may have signed it.
What is proved by a 0, and what is not, stands in docs/evidence.md.
"""

from __future__ import annotations

import argparse
import binascii
import hashlib
import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple, NoReturn

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

FORMAT = "roadwitness-package/1"
MANIFEST, SIGNATURE, TOKEN, CHAIN, RECORD = "manifest.json", "manifest.sig", "manifest.tsr", "chain.jsonl", "crash.json"
OUTSIDE = (MANIFEST, SIGNATURE, TOKEN)  # stand in no manifest's list
PREFIX = b"roadwitness manifest 1\n"  # keeps this signature apart from all others of the same key
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
EARLIER = re.compile(r"manifest-([1-9][0-9]{0,3})\.json")
MOST_FILES = 1000
MOST_BYTES = {SIGNATURE: 1 << 12, TOKEN: 1 << 20}  # of files that are read whole; others:
MOST_JSON = 4 << 20
MOST_LINE = 1 << 20  # one record with its envelope
MOST_CHAIN = 16 << 20
MOST_FAULTS = 200
MOST_NODES = 1000  # in one DER value
STEP_NS = 2_000_000_000  # clock records that differ by more were a step, not a better estimate
NS = 1_000_000_000
LATE_NS = 24 * 3600 * NS  # a token is usual within a day (docs/sources.md G3)
QUALITIES = ("restored", "ntp", "gnss")

HASHES: dict[str, Any] = {"2.16.840.1.101.3.4.2.1": hashes.SHA256, "2.16.840.1.101.3.4.2.2": hashes.SHA384}
HASHES["2.16.840.1.101.3.4.2.3"] = hashes.SHA512
# signature algorithms that name their hash: RSA PKCS #1 (RFC 8017), ECDSA (RFC 5758)
SIGNING = {"1.2.840.113549.1.1.11": hashes.SHA256, "1.2.840.113549.1.1.12": hashes.SHA384}
SIGNING |= {"1.2.840.113549.1.1.13": hashes.SHA512, "1.2.840.10045.4.3.2": hashes.SHA256}
SIGNING |= {"1.2.840.10045.4.3.3": hashes.SHA384, "1.2.840.10045.4.3.4": hashes.SHA512}
# those that leave it to the digest beside them: RSA, EC, Ed25519
SIGNING_ANY = ("1.2.840.113549.1.1.1", "1.2.840.10045.2.1", "1.3.101.112")
SIGNED_DATA, TST_INFO = "1.2.840.113549.1.7.2", "1.2.840.113549.1.9.16.1.4"
CONTENT_TYPE, MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
SIGNING_CERTIFICATE, SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.12", "1.2.840.113549.1.9.16.2.47"


# what `cryptography` raises for certificates that are odd, beside InvalidSignature
X509_TROUBLES = (
    *(ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound, x509.DuplicateExtension),
    *(x509.InvalidVersion, x509.UnsupportedGeneralNameType, x509.AttributeNotFound),
)


class UnreadableError(Exception):
    """The folder, key or CA file cannot be read at all."""


class BadError(Exception):
    """Something in the package is not as it must be; the text says what, without the file's name."""


class Fault(NamedTuple):
    """A file or record that does not hold, and why."""

    where: str
    cause: str


@dataclass
class Report:
    """What was found. `key` is "expected", "other", or "unknown" where nobody said which to expect."""

    key: str = "unknown"
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what a reader must know and no fault
    facts: dict[str, Any] = field(default_factory=dict)  # what the manifest says of incident, device and times
    files: int = 0
    records: int = 0
    stamps: list[dict[str, Any]] = field(default_factory=list)  # of RFC 3161: file, time, authority, trusted

    @property
    def whole(self) -> bool:
        """Say whether nothing was altered, removed or added since it was signed."""
        return not self.faults

    @property
    def exit_code(self) -> int:
        """Give 0, 1 or 3 as the head of this file says."""
        return 1 if self.faults else 0 if self.key == "expected" else 3

    def fault(self, where: str, cause: object) -> None:
        """Note what does not hold; beyond a few hundred only that there are more."""
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(Fault(where, str(cause)))

    def as_json(self) -> dict[str, Any]:
        """Give everything as plain values."""
        faults = [fault._asdict() for fault in self.faults]
        return {"whole": self.whole, "exit_code": self.exit_code, **self.__dict__, "faults": faults}


# reading files of a package that may be hostile


class Folder:
    """The files of one folder: regular ones only, opened without following links, read up to a bound."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.names: list[str] = []
        self.odd: list[Fault] = []  # what lies there and is no plain file
        try:
            with os.scandir(path) as entries:
                for count, entry in enumerate(entries):
                    if count >= MOST_FILES:
                        self.odd.append(Fault("folder", f"holds more than {MOST_FILES} entries"))
                        break
                    if not NAME.fullmatch(entry.name):
                        self.odd.append(Fault(shown(entry.name), "is a name that no package may hold"))
                    elif entry.is_symlink():
                        self.odd.append(Fault(entry.name, "is a link, not a file"))
                    elif not entry.is_file(follow_symlinks=False):
                        self.odd.append(Fault(entry.name, "is not a plain file"))
                    else:
                        self.names.append(entry.name)
        except OSError as e:
            raise UnreadableError(f"{path}: cannot be read: {e.strerror}; give the folder of a package") from e
        self.names.sort()

    def chunks(self, name: str) -> Iterator[bytes]:
        """Give the bytes of a file, a mebibyte at a time."""
        flags = os.O_RDONLY
        for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_CLOEXEC"):  # as far as the system has them
            flags |= getattr(os, flag, 0)
        try:
            descriptor = os.open(os.path.join(self.path, name), flags)
            with open(descriptor, "rb", buffering=0) as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise BadError("is not a plain file")
                while chunk := file.read(1 << 20):
                    yield chunk
        except OSError as e:
            raise BadError(f"cannot be read: {e.strerror}") from e

    def read(self, name: str) -> bytes:
        """Give all of a small file."""
        data = b""
        most = MOST_BYTES.get(name, MOST_JSON)
        for chunk in self.chunks(name):
            data += chunk
            if len(data) > most:
                raise BadError(f"is larger than {most} bytes")
        return data

    def lines(self, name: str) -> Iterator[bytes]:
        """Give the lines of a file; each must end, and be of bounded length, as all together."""
        rest, size = b"", 0
        for chunk in self.chunks(name):
            size += len(chunk)
            if size > MOST_CHAIN:
                raise BadError(f"is larger than {MOST_CHAIN} bytes")
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
            if len(rest) > MOST_LINE:
                raise BadError(f"has a line of more than {MOST_LINE} bytes")
        if rest:
            raise BadError("ends in the middle of a line")


def shown(text: str) -> str:
    """Make a text from the package harmless to print, and short."""
    return ascii(text)[1:-1][:120]


def parse(data: bytes) -> Any:
    """Read JSON strictly: UTF-8, no duplicate keys, no NaN or infinity, bounded numbers and depth; raise BadError."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(found)
        if len(table) != len(found):
            raise BadError("has a key twice in one object")
        return table

    def constant(text: str) -> NoReturn:
        raise BadError(f"holds {text}, which is no JSON")

    def real(text: str) -> float:
        number = float(text)
        if number in (float("inf"), float("-inf")):
            raise BadError("holds a number that is too large")
        return number

    def whole(text: str) -> int:
        if len(text) > 20:
            raise BadError("holds a number that is too large")
        return int(text)

    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant, parse_float=real, parse_int=whole
        )
    except RecursionError:
        raise BadError("is nested too deeply") from None
    except ValueError as e:
        raise BadError(f"is not JSON: {shown(str(e))}") from None


def get(table: Any, key: str, kind: Any) -> Any:
    """Give `table[key]`, which must be of `kind`; raise BadError naming the key."""
    if not isinstance(table, dict) or key not in table:
        raise BadError(f"lacks '{key}'")
    value = table[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise BadError(f"has a '{key}' of the wrong type")
    return value


def hexed(table: Any, key: str, size: int = 0) -> bytes:
    """Give bytes from a text of lower-case hex digits; raise BadError."""
    text = get(table, key, str)
    if not re.fullmatch(r"(?:[0-9a-f]{2}){1,4096}", text) or (size and len(text) != 2 * size):
        raise BadError(f"has a '{key}' that is not {size or 'some'} bytes in hex")
    return binascii.unhexlify(text)


def ns_of(table: Any, key: str) -> int:
    """Give nanoseconds, written as a text of digits since JSON numbers end at 2**53; raise BadError."""
    text = get(table, key, str)
    if not re.fullmatch(r"-?(?:0|[1-9][0-9]{0,18})", text):
        raise BadError(f"has a '{key}' that is not nanoseconds")
    return int(text)


def utc_text(utc_ns: int) -> str:
    """Write nanoseconds since 1970 as ISO 8601 UTC with nanoseconds."""
    seconds, rest = divmod(utc_ns, NS)
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


# keys and signatures


def device_id(key: bytes) -> str:
    """Name a device by its public key."""
    return "rw-" + hashlib.sha256(key).hexdigest()[:16]


def signed_by(algorithm: str, key: bytes, signature: bytes, message: bytes) -> bool:
    """Say whether `key` signed: Ed25519 (raw key and signature), or ES256 (65-byte point; r‖s or DER)."""
    try:
        if algorithm == "Ed25519":
            ed25519.Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
            return True
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key)
    except (InvalidSignature, ValueError):
        return False
    forms = [signature]
    if len(signature) == 64:  # a DER signature may be as long, though hardly ever
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        forms.append(encode_dss_signature(r, s))
    for form in forms:
        try:
            point.verify(form, message, ec.ECDSA(hashes.SHA256()))
            return True
        except (InvalidSignature, ValueError):
            continue
    return False


class Signer(NamedTuple):
    """Who signed a manifest, by its manifest.sig."""

    algorithm: str
    key: bytes
    signature: bytes

    @property
    def device(self) -> str:
        """The device's name."""
        return device_id(self.key)


def signature_bytes(algorithm: str, key: bytes, signature: bytes) -> bytes:
    """Write manifest.sig: canonical JSON, so that there is one way to write it."""
    table = {"alg": algorithm, "key_id": device_id(key), "public_key": key.hex(), "signature": signature.hex()}
    return json.dumps(table, sort_keys=True, separators=(",", ":")).encode()


def read_signature(data: bytes) -> Signer:
    """Read manifest.sig; raise BadError where it is not written as it must be."""
    table = parse(data)
    algorithm = get(table, "alg", str)
    if algorithm not in ("Ed25519", "ES256"):
        raise BadError(f"names an algorithm that is not known: {shown(algorithm)}")
    signer = Signer(algorithm, hexed(table, "public_key"), hexed(table, "signature"))
    if data != signature_bytes(*signer):
        raise BadError("was altered: it is not written as a device writes it, or names another key than it holds")
    return signer


def read_key(text: str) -> str:
    """Give what `--key` means: a public key in hex, or a device's name; raise UnreadableError."""
    if os.path.exists(text):
        try:
            with open(text, "rb") as file:
                data = file.read(1 << 16)
            if b"-----BEGIN" not in data:
                return read_key_text(data.decode("ascii", "replace").strip())
            key: Any = serialization.load_pem_public_key(data)
            if isinstance(key, ed25519.Ed25519PublicKey):
                raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
            else:
                point = serialization.PublicFormat.UncompressedPoint
                raw = key.public_bytes(serialization.Encoding.X962, point)
            return raw.hex()
        except (OSError, ValueError, TypeError, AttributeError, UnsupportedAlgorithm) as e:
            raise UnreadableError(
                f"{text}: holds no public key: {e}; give hex or PEM of an Ed25519 or P-256 key"
            ) from e
    return read_key_text(text)


def read_key_text(text: str) -> str:
    """Check a key in hex or a device's name; raise UnreadableError."""
    if re.fullmatch(r"rw-[0-9a-f]{16}|[0-9a-fA-F]{64}|04[0-9a-fA-F]{128}", text):
        return text.lower()
    raise UnreadableError(f"--key {shown(text)}: is no file, no key in hex and no device name (rw- and 16 hex digits)")


# the chain


class Link(NamedTuple):
    """One signed record of the device, as chain.jsonl holds it."""

    place: tuple[str, str, int]  # lineage, lane, sequence
    boot: str
    kind: str
    body: Any
    previous: bytes
    digest: bytes


def read_link(line: bytes, signer: Signer) -> Link:
    """Read one line of chain.jsonl and check its hash and signature; raise BadError."""
    table = parse(line)
    texts = {key: get(table, key, str) for key in ("lineage", "lane", "boot", "kind", "body")}
    seq, t_ns = get(table, "seq", int), ns_of(table, "t_ns")
    previous, digest, signature = hexed(table, "previous", 32), hexed(table, "hash", 32), hexed(table, "signature")
    header: dict[str, Any] = {key: value for key, value in texts.items() if key != "body"}
    header.update(device=signer.device, seq=seq, t_ns=t_ns)
    try:
        body = texts["body"].encode()
        head = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadError("holds half of a character") from None
    if hashlib.sha256(previous + hashlib.sha256(head + b"\n" + body).digest()).digest() != digest:
        raise BadError("was altered, or is a record of another device: its hash does not follow from it")
    if not signed_by(signer.algorithm, signer.key, signature, digest):
        raise BadError("is not signed by the device's key")
    return Link((texts["lineage"], texts["lane"], seq), texts["boot"], texts["kind"], parse(body), previous, digest)


def check_chain(folder: Folder, manifest: Any, signer: Signer, report: Report) -> list[Link]:
    """Check every record of chain.jsonl, and that they are those that the manifest lists, in order."""
    listed: dict[tuple[str, str, int], str] = {}
    for row in get(get(manifest, "chain", dict), "entries", list):
        listed[(get(row, "lineage", str), get(row, "lane", str), get(row, "seq", int))] = get(row, "hash", str)
    links: dict[tuple[str, str, int], Link] = {}
    last: Link | None = None
    for number, line in enumerate(folder.lines(CHAIN), 1):
        try:
            link = read_link(line, signer)
        except BadError as e:
            report.fault(f"{CHAIN} line {number}", e)
            continue
        where = called(link.place)
        report.records += 1
        if link.place in links:
            report.fault(where, "stands twice in chain.jsonl")
        elif listed.get(link.place) != link.digest.hex():
            report.fault(where, "is not the record that the manifest lists")
        if last is not None and last.place[:2] == link.place[:2]:
            if link.place[2] <= last.place[2]:
                report.fault(where, f"is out of order: it stands after {called(last.place)}")
            elif link.place[2] == last.place[2] + 1 and link.previous != last.digest:
                report.fault(where, f"does not follow {called(last.place)}: the chain is broken")
        links[link.place] = last = link
    for place in listed:
        if place not in links:
            report.fault(called(place), "is missing: the manifest lists it, chain.jsonl does not hold it")
    crashes = sorted(place for place in links if place[1] == "crash")
    for i, place in enumerate(crashes[1:]):
        if place[0] == crashes[i][0] and place[2] != crashes[i][2] + 1:
            report.fault(called((*place[:2], crashes[i][2] + 1)), "is missing: the crash lane has a gap here")
    return [links[place] for place in links]


def called(place: tuple[str, str, int]) -> str:
    """Name a record for people."""
    return f"record {shown(place[1])} {place[2]} of {shown(place[0])}"


# what the package says of the crash and its time


def check_record(folder: Folder, manifest: Any, links: list[Link], report: Report) -> None:
    """Check that crash.json tells of the incident and time zero that the device signed in its crash records."""
    incident, boot = get(manifest, "incident", str), get(manifest, "boot", str)
    t0_ns = ns_of(get(manifest, "time_zero", dict), "t_ns")
    told = [link for link in links if link.kind == "crash" and get(link.body, "id", str) == incident]
    if get(manifest, "kind", str) != "crash":
        return
    if hashlib.sha256(f"{boot}:{t0_ns // 1_000_000}".encode("utf-8", "replace")).hexdigest()[:16] != incident:
        report.fault(MANIFEST, "its incident id does not follow from its boot and time zero")
    if not told:
        report.notes.append("no signed crash record is in the package: only the manifest vouches for crash.json")
    for link in told:
        if (link.boot, get(link.body, "t_ns", int) // 1_000_000) != (boot, t0_ns // 1_000_000):
            report.fault(called(link.place), "has another boot or time zero than the manifest")
    if RECORD not in folder.names:
        report.notes.append("there is no crash.json")
        return
    try:
        record = parse(folder.read(RECORD))
        crash = get(record, "crash", dict)
        same = (get(record, "incident", str), get(record, "boot", str), get(record, "t0_ns", int))
        if same != (incident, boot, t0_ns):
            raise BadError("tells of another incident, boot or time zero than the manifest")
        if told and (crash.get("id"), crash.get("t_ns")) != (incident, told[-1].body["t_ns"]):
            raise BadError("tells of another incident or time zero than the signed crash record")
    except BadError as e:
        report.fault(RECORD, e)
        return
    if told and crash not in [link.body for link in told]:
        keys = sorted(shown(k) for k in {*crash, *told[-1].body} if crash.get(k) != told[-1].body.get(k))
        report.notes.append(f"crash.json differs from the last signed crash record in {', '.join(keys)}")


def check_times(manifest: Any, links: list[Link], report: Report) -> None:
    """Check the UTC of time zero against the signed clock records, and tell of every step of the clock."""
    boot, zero = get(manifest, "boot", str), get(manifest, "time_zero", dict)
    t0_ns, quality = ns_of(zero, "t_ns"), get(zero, "quality", str)
    clocks = [link for link in links if link.kind == "clock" and link.boot == boot]
    best: tuple[int, int, int] | None = None
    before: Any = None
    for link in clocks:
        offset, uncertainty = get(link.body, "offset_ns", int), get(link.body, "uncertainty_ns", int)
        said, t_ns = get(link.body, "quality", str), get(link.body, "t_ns", int)
        if before is not None and abs(offset - before[0]) > STEP_NS:
            report.notes.append(
                f"the clock was set by {(offset - before[0]) / NS:+.3f} s at {(t_ns - t0_ns) / NS:+.3f} s from time "
                f"zero ({shown(before[1])} to {shown(said)}; {called(link.place)}); the order of records is unchanged"
            )
        before = (offset, said)
        worth = (QUALITIES.index(said), -uncertainty, offset) if said in QUALITIES else None
        if worth is not None and (best is None or worth[:2] >= best[:2]):
            best = worth
    if best is None:
        if quality != "none":
            report.fault(MANIFEST, "gives a UTC of time zero that no signed clock record supports")
        report.notes.append("the date and time were never learned: only the order and the durations are known")
        return
    told = (quality, zero.get("utc"), ns_of(zero, "uncertainty_ns"))
    try:
        follows = (QUALITIES[best[0]], utc_text(t0_ns + best[2]), -best[1])
    except OverflowError:
        raise BadError("has a clock record of an impossible date") from None
    if told != follows:
        report.fault(MANIFEST, f"gives another time zero than the signed clock records, by which it was {follows[1]}")
    if quality == "restored":
        report.notes.append("the date and time were restored from before a restart: nobody vouches for them")


# time-stamp tokens of RFC 3161, in the DER of X.690


class Node(NamedTuple):
    """One DER value: tag, contents, and all its bytes."""

    tag: int
    body: bytes
    whole: bytes


def nodes(data: bytes) -> list[Node]:
    """Split the contents of a constructed DER value; raise BadError."""
    found, at = list[Node](), 0
    while at < len(data):
        start, tag, at = at, data[at], at + 1
        size = data[at] if at < len(data) else 0x80
        at += 1
        if size & 0x80:
            count = size & 0x7F
            size = int.from_bytes(data[at : at + count], "big")
            at += count
            if not 1 <= count <= 4 or size < 0x80:
                raise BadError("is not DER")
        if tag & 0x1F == 0x1F or at + size > len(data) or len(found) >= MOST_NODES:
            raise BadError("is not DER")
        found.append(Node(tag, data[at : at + size], data[start : at + size]))
        at += size
    return found


def inside(node: Node | None, tag: int, least: int = 0) -> list[Node]:
    """Give what a constructed value holds, which must be of `tag` and hold at least `least`; raise BadError."""
    if node is None or node.tag != tag:
        raise BadError("is not a time-stamp token")
    held = nodes(node.body)
    if len(held) < least:
        raise BadError("is not a time-stamp token")
    return held


def oid(node: Node) -> str:
    """Give an object identifier in dots; raise BadError."""
    if node.tag != 0x06 or not 1 <= len(node.body) <= 40:
        raise BadError("is not a time-stamp token")
    numbers, number = list[int](), 0
    for byte in node.body:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2) if numbers else 0
    return ".".join(map(str, [first, (numbers[0] if numbers else 0) - 40 * first, *numbers[1:]]))


class Stamp(NamedTuple):
    """What a token says, after its own signature was found good."""

    imprint: bytes
    algorithm: str
    utc: datetime
    nonce: int | None
    authority: str
    trusted: bool


def read_token(data: bytes, authorities: list[x509.Certificate]) -> Stamp:
    """Read a token or a whole answer of an authority, check its signature and, where given, its chain; or BadError."""
    try:
        tops = nodes(data)
        outer = inside(tops[0] if len(tops) == 1 else None, 0x30, 1)
        if outer[0].tag == 0x30:  # a whole answer: status, then the token
            if int.from_bytes(inside(outer[0], 0x30, 1)[0].body, "big") > 1:
                raise BadError("is a refusal of the time-stamping authority")
            outer = inside(outer[1] if len(outer) > 1 else None, 0x30, 2)
        return _checked_token(outer, authorities)
    except InvalidSignature:
        raise BadError("has a signature that does not hold") from None
    except (IndexError, KeyError, *X509_TROUBLES) as e:
        raise BadError(f"is not a time-stamp token: {shown(str(e))}") from None


def _checked_token(outer: list[Node], authorities: list[x509.Certificate]) -> Stamp:
    if oid(outer[0]) != SIGNED_DATA:
        raise BadError("is not a time-stamp token")
    parts = inside(inside(outer[1], 0xA0, 1)[0], 0x30, 4)
    content = inside(parts[2], 0x30, 2)
    info_bytes = inside(content[1], 0xA0, 1)[0].body
    certificates = [x509.load_der_x509_certificate(n.whole) for p in parts[3:] if p.tag == 0xA0 for n in nodes(p.body)]
    signers = inside(parts[-1], 0x31, 1)
    if oid(content[0]) != TST_INFO or len(signers) != 1:
        raise BadError("is not a time-stamp token with one signer")
    fields = inside(signers[0], 0x30, 6)
    if fields[3].tag != 0xA0:
        raise BadError("signs no attributes")
    attributes = {
        oid(pair[0]): inside(pair[1], 0x31, 1)[0] for pair in (inside(n, 0x30, 2) for n in nodes(fields[3].body))
    }
    digest_oid, signing_oid = oid(inside(fields[2], 0x30, 1)[0]), oid(inside(fields[4], 0x30, 1)[0])
    if digest_oid not in HASHES:
        raise BadError("uses a hash that is not accepted (SHA-256, SHA-384, SHA-512)")
    if signing_oid not in SIGNING and signing_oid not in SIGNING_ANY:
        raise BadError(f"is signed by an algorithm that is not accepted: {signing_oid}")
    if attributes[CONTENT_TYPE].body != content[0].body or attributes[MESSAGE_DIGEST].body != _digest(
        digest_oid, info_bytes
    ):
        raise BadError("was altered: its contents do not match its signature")
    signer = _named_certificate(attributes, certificates)
    signed = b"\x31" + fields[3].whole[1:]  # RFC 5652, 5.4: as a SET OF, not by its implicit tag
    _check_signature(signer, SIGNING.get(signing_oid, HASHES[digest_oid])(), fields[5].body, signed)
    info = inside(nodes(info_bytes)[0], 0x30, 5)
    imprint = inside(info[2], 0x30, 2)
    utc = _moment(info[4])
    nonce = next((int.from_bytes(n.body, "big") for n in info[5:] if n.tag == 0x02), None)
    usage = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    if list(usage.value) != [x509.oid.ExtendedKeyUsageOID.TIME_STAMPING] or not _valid(signer, utc):
        raise BadError("is signed by a certificate that may not stamp time, or not then")
    trusted = _leads(signer, certificates, authorities, utc, 6)
    if authorities and not trusted:
        raise BadError("is of an authority that is not trusted: no path to the certificates given")
    named = signer.subject.rfc4514_string()
    return Stamp(imprint[1].body, oid(inside(imprint[0], 0x30, 1)[0]), utc, nonce, named, trusted)


def _digest(hash_oid: str, data: bytes) -> bytes:
    digest = hashes.Hash(HASHES[hash_oid]())
    digest.update(data)
    return digest.finalize()


def _named_certificate(attributes: dict[str, Node], certificates: list[x509.Certificate]) -> x509.Certificate:
    """Give the certificate whose hash the signer signed (RFC 5035, RFC 2634)."""
    for name, usual in ((SIGNING_CERTIFICATE_V2, hashes.SHA256), (SIGNING_CERTIFICATE, hashes.SHA1)):
        if name in attributes:
            identifier = inside(inside(inside(attributes[name], 0x30, 1)[0], 0x30, 1)[0], 0x30, 1)
            algorithm, wanted = usual, identifier[0]
            if wanted.tag == 0x30:
                algorithm, wanted = HASHES[oid(inside(wanted, 0x30, 1)[0])], identifier[1]
            for certificate in certificates:
                if certificate.fingerprint(algorithm()) == wanted.body:
                    return certificate
    raise BadError("does not hold the certificate that signed it")


def _check_signature(signer: x509.Certificate, algorithm: Any, signature: bytes, data: bytes) -> None:
    key = signer.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, data, padding.PKCS1v15(), algorithm)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, data, ec.ECDSA(algorithm))
    elif isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, data)
    else:
        raise BadError("is signed by a kind of key that is not known")


def _moment(node: Node) -> datetime:
    """Give a GeneralizedTime of RFC 3161: YYYYMMDDhhmmss, fractions where there are any, Z."""
    text = node.body.decode("ascii")
    found = re.fullmatch(r"([0-9]{14})(?:\.([0-9]{1,6})[0-9]*)?Z", text)
    if node.tag != 0x18 or found is None:
        raise BadError("gives no time")
    moment = datetime.strptime(found[1], "%Y%m%d%H%M%S").replace(tzinfo=timezone.utc)
    return moment + timedelta(microseconds=int((found[2] or "0").ljust(6, "0")))


def _valid(certificate: x509.Certificate, utc: datetime) -> bool:
    return certificate.not_valid_before_utc <= utc <= certificate.not_valid_after_utc


def _leads(
    certificate: x509.Certificate,
    held: list[x509.Certificate],
    trusted: list[x509.Certificate],
    utc: datetime,
    most: int,
) -> bool:
    """Say whether a path of at most `most` certificates, valid at `utc`, leads to a trusted one."""
    if certificate in trusted:
        return True
    for issuer in [*trusted, *held] if most else []:
        try:
            certificate.verify_directly_issued_by(issuer)
            basic = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        except (InvalidSignature, *X509_TROUBLES):
            continue
        if basic.ca and _valid(issuer, utc) and _leads(issuer, held, trusted, utc, most - 1):
            return True
    return False


def stamps(stamp: Stamp, data: bytes) -> bool:
    """Say whether a token is over `data`."""
    return stamp.algorithm in HASHES and stamp.imprint == _digest(stamp.algorithm, data)


def check_token(
    name: str, data: bytes, stamped: bytes, manifest: Any, authorities: list[x509.Certificate], report: Report
) -> None:
    """Check the token `data` of file `name` over the bytes of a manifest, and note its time beside the device's."""
    stamp = read_token(data, authorities)
    if not stamps(stamp, stamped):
        raise BadError("is a time-stamp of something else: its hash is not that of the manifest")
    utc = f"{stamp.utc:%Y-%m-%dT%H:%M:%S}.{stamp.utc.microsecond:06d}Z"
    report.stamps.append({"file": name, "utc": utc, "authority": stamp.authority, "trusted": stamp.trusted})
    if not stamp.trusted:
        report.notes.append(f"{name}: nobody checked whether its authority is to be trusted; give --tsa-ca")
    zero = get(manifest, "time_zero", dict)
    if get(zero, "quality", str) in QUALITIES:
        stamped_ns = int((stamp.utc - datetime(1970, 1, 1, tzinfo=timezone.utc)) / timedelta(microseconds=1)) * 1000
        late_ns = stamped_ns - ns_of(zero, "utc_ns")
        if late_ns < -ns_of(zero, "uncertainty_ns") - NS:
            report.notes.append(f"{name}: is older than the device's time zero: the device's clock was wrong")
        if late_ns > LATE_NS:
            report.notes.append(f"{name}: was made {late_ns / 3600 / NS:.1f} h after time zero")


# the whole package


def check_files(folder: Folder, manifest: Any, report: Report) -> set[str]:
    """Check that every listed file is there with its size and hashes and nothing else; give the names that hold."""
    listed: dict[str, Any] = {}
    for row in get(manifest, "files", list):
        name = get(row, "name", str)
        if not NAME.fullmatch(name) or name in OUTSIDE or name.casefold() in {n.casefold() for n in listed}:
            raise BadError(f"lists a file by a name that no package may hold, or twice: {shown(name)}")
        if len(listed) >= MOST_FILES:
            raise BadError(f"lists more than {MOST_FILES} files")
        listed[name] = row
    good = set()
    odd = {fault.where for fault in folder.odd}
    for name, row in listed.items():
        size, wanted, other = get(row, "size", int), hexed(row, "sha256", 32), row.get("sm3")
        if name not in folder.names:
            if name not in odd:
                report.fault(name, "is missing")
            continue
        try:
            found, digest, sm3 = digests(folder, name, size)
        except BadError as e:
            report.fault(name, e)
            continue
        if found != size:
            report.fault(name, f"was altered: it has {found} bytes, {size} were signed")
        elif digest != wanted.hex() or (other is not None and sm3 is not None and other != sm3):
            report.fault(name, "was altered: its hash is not the one that was signed")
        else:
            good.add(name)
    for name in folder.names:
        if name not in listed and name not in OUTSIDE:
            report.fault(name, "was added: the manifest does not list it")
    report.files = len(listed)
    return good


def digests(folder: Folder, name: str, most: int | None = None) -> tuple[int, str, str | None]:
    """Give size, SHA-256 and, where this Python's OpenSSL has it, SM3 of a file of at most `most` bytes."""
    size, sha256, sm3 = 0, hashlib.sha256(), new_sm3()
    for chunk in folder.chunks(name):
        size += len(chunk)
        if most is not None and size > most:
            raise BadError(f"was altered: it is longer than the {most} bytes that were signed")
        sha256.update(chunk)
        if sm3 is not None:
            sm3.update(chunk)
    return size, sha256.hexdigest(), None if sm3 is None else sm3.hexdigest()


def new_sm3() -> Any:
    """Give a fresh SM3 (GB/T 32905), None where OpenSSL was built without it."""
    try:
        return hashlib.new("sm3")
    except ValueError:
        return None


def check_earlier(
    folder: Folder, good: set[str], manifest: Any, signer: Signer, authorities: list[x509.Certificate], report: Report
) -> None:
    """Check the earlier manifests that the package keeps, their signatures and tokens, and tell what changed since."""
    now = {row["name"]: row["sha256"] for row in manifest["files"]}
    for name in sorted(good):
        if not EARLIER.fullmatch(name):
            continue
        signature, token = name[:-5] + ".sig", name[:-5] + ".tsr"
        try:
            data = folder.read(name)
            if signature not in good:
                raise BadError("lacks its signature")
            was = read_signature(folder.read(signature))
            if was.key != signer.key or not signed_by(was.algorithm, was.key, was.signature, PREFIX + data):
                raise BadError("is not signed by the key of the manifest that keeps it")
            earlier = parse(data)
            changed = [n for n in (get(r, "name", str) for r in get(earlier, "files", list)) if n not in now]
            changed += [r["name"] for r in earlier["files"] if now.get(r["name"]) not in (None, get(r, "sha256", str))]
            if changed:
                report.notes.append(f"replaced or removed since {name}: {', '.join(map(shown, changed))}")
        except BadError as e:
            report.fault(name, e)
            continue
        if token in good:
            try:
                check_token(token, folder.read(token), data, earlier, authorities, report)
            except BadError as e:
                report.fault(token, e)


def tell_facts(manifest: Any, signer: Signer, report: Report) -> None:
    """Take what people ask first from the manifest."""
    device = get(manifest, "device", dict)
    if (get(device, "id", str), hexed(device, "public_key")) != (signer.device, signer.key):
        raise BadError(f"is of device {shown(device['id'])}, but was signed by {signer.device}")
    zero = get(manifest, "time_zero", dict)
    report.facts.update(
        {key: get(manifest, key, kind) for key, kind in (("kind", str), ("edition", int), ("complete", bool))},
        time_zero={key: zero.get(key) for key in ("utc", "quality", "uncertainty_ns")},
        software=get(manifest, "software", dict),
        missing=get(manifest, "missing", list),
    )
    if get(manifest, "replayed", bool):
        report.notes.append("the data were replayed from a recording, not measured by this device")
    if not manifest["complete"]:
        report.notes.append("the device expected to add more to this package")


def verify(path: str, key: str | None = None, authorities: list[x509.Certificate] | None = None) -> Report:
    """Check the package in folder `path`.

    `key` is what `read_key` gives, None when nobody knows which device it should be; `authorities` are the trusted
    certificates of RFC 3161. Nothing in the package raises; UnreadableError means that there is no package to check.
    """
    folder, report = Folder(path), Report()
    report.faults += folder.odd
    if MANIFEST not in folder.names:
        if not any(where in (MANIFEST, "folder") for where, _ in folder.odd):
            raise UnreadableError(f"{path}: holds no {MANIFEST}; give the folder of a package")
        return report
    where = MANIFEST
    try:
        data = folder.read(MANIFEST)
        where = SIGNATURE
        if SIGNATURE not in folder.names:
            raise BadError("is missing: nobody signed the manifest")
        signer = read_signature(folder.read(SIGNATURE))
        report.facts["device"] = signer.device
        if key is not None:
            report.key = "expected" if key in (signer.key.hex(), signer.device) else "other"
        if report.key == "other":
            report.fault(SIGNATURE, f"unknown key: signed by device {signer.device}, not by the one expected")
        if not signed_by(signer.algorithm, signer.key, signer.signature, PREFIX + data):
            report.fault(MANIFEST, "was altered, or manifest.sig was: the signature does not hold")
            report.fault(SIGNATURE, "was altered, or manifest.json was: the signature does not hold")
        where = MANIFEST
        manifest = parse(data)
        if get(manifest, "format", str) != FORMAT:
            raise BadError(f"has a format that is not known: {shown(manifest['format'])}")
        report.facts["incident"] = get(manifest, "incident", str)
        tell_facts(manifest, signer, report)
        good = check_files(folder, manifest, report)
        if get(get(manifest, "chain", dict), "file", str) != CHAIN:
            raise BadError("names another file of records than chain.jsonl")
        trusted = authorities or []
        check_earlier(folder, good, manifest, signer, trusted, report)
        where = CHAIN
        links = check_chain(folder, manifest, signer, report) if CHAIN in folder.names else []
        check_record(folder, manifest, links, report)
        where = MANIFEST
        check_times(manifest, links, report)
        if TOKEN in folder.names:
            where = TOKEN
            check_token(TOKEN, folder.read(TOKEN), data, manifest, trusted, report)
    except BadError as e:
        report.fault(where, e)
    return report


def read_authorities(path: str) -> list[x509.Certificate]:
    """Read PEM certificates; raise UnreadableError."""
    try:
        with open(path, "rb") as file:
            return x509.load_pem_x509_certificates(file.read(MOST_JSON))
    except (OSError, ValueError) as e:
        raise UnreadableError(f"{path}: holds no certificates: {e}; give a PEM file") from e


def sentences(report: Report) -> Iterator[str]:
    """Say what was found, one line for each fault and note."""
    facts = report.facts
    if "time_zero" in facts:
        zero = facts["time_zero"]
        uncertain = zero["uncertainty_ns"]
        off = f", within {int(uncertain) / NS:.3f} s" if isinstance(uncertain, str) and uncertain.isdigit() else ""
        yield f"{shown(facts['kind'])} {shown(facts['incident'])}, device {facts['device']}"
        yield f"time zero {shown(str(zero['utc']))} ({shown(str(zero['quality']))}{off})"
        for gone in facts["missing"][:50]:
            if isinstance(gone, dict):
                yield f"not in it: {shown(str(gone.get('what')))}: {shown(str(gone.get('why')))}"
    for stamp in report.stamps:
        yield f"{stamp['file']}: existed at {stamp['utc']}, says {shown(stamp['authority'])}"
    for note in report.notes:
        yield f"note: {note}"
    for fault in report.faults:
        yield f"FAIL {fault.where}: {fault.cause}"
    if not report.whole:
        yield "NOT PROVED: what is named above was altered, removed or added, or is not the device's"
    elif report.key == "expected":
        yield f"PROVED: {report.files} files and {report.records} records are as the expected device signed them"
    else:
        yield f"WHOLE, KEY UNKNOWN: {report.files} files and {report.records} records; give --key to know whose"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and give the exit code."""
    asks = argparse.ArgumentParser(
        description="Verify a Roadwitness package.", epilog="Exit codes: see this file's head."
    )
    asks.add_argument("folder", help="the folder of the package")
    asks.add_argument("--key", help="the device's public key in hex, a file that holds it, or its name (rw-...)")
    asks.add_argument("--tsa-ca", help="PEM file with the trusted certificates of time-stamping authorities")
    asks.add_argument("--json", action="store_true", help="print JSON")
    given = asks.parse_args(arguments)
    try:
        key = None if given.key is None else read_key(given.key)
        report = verify(given.folder, key, read_authorities(given.tsa_ca) if given.tsa_ca else None)
    except UnreadableError as e:
        if given.json:
            print(json.dumps({"error": str(e), "exit_code": 2}))
        else:
            print(f"verify: {e}", file=sys.stderr)
        return 2
    print(json.dumps(report.as_json(), indent=1) if given.json else "\n".join(sentences(report)))
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
