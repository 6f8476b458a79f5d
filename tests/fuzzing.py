"""Messages as nobody should send them: good ones of a device, damaged at every level, from one seed.

Some damage is to bytes; some takes a batch apart and spoils a value that only deeper checks see; some is signed by the
device itself, which may be hostile, or by a stranger who names another device.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec
import zstandard
from sqlalchemy import Engine, func, select

from agent import chain, filemessages, messages
from agent.chain import Entry
from agent.messages import Birth, Live
from agent.records import KIND_LANES, Package, PackageFile
from receiver import db, devices
from receiver.filestore import FileStore
from receiver.ingest import Ingest
from receiver.registry import consents
from tests.pages import drive, own
from tests.sample_records import S, crash, reply, some
from tests.syncing import ListSource

NOW: Final = 1_790_000_000 * S
_WORDS: Final = ("", "\0", "a\0b", "x" * 300, "' OR 1=1 --", "../../etc/passwd", "<script>", "\N{GRINNING FACE}")
_NUMBERS: Final = (-1, 0, 1, 2**31, 2**53, 2**63 - 1, -(2**63), 2**64 - 1, 0.0, 1e308)
_JSON: Final[tuple[Any, ...]] = (None, True, *_NUMBERS, *_WORDS, [], {}, [[]], {"a": {}})
_ODD: Final[tuple[Any, ...]] = (*_JSON, float("nan"), float("inf"), b"", b"\xff" * 64)
_TOKENS: Final = (b"{", b"}", b"[", b"]", b'"', b",", b":", b"null", b"1e999", b"\\u0000", b"\xff", b"NaN", b"-", b"\n")
# records whose bodies are spoiled and signed: what the device says is read when it is stored, and again by pages
_KINDS: Final = tuple(KIND_LANES)

Message = tuple[str, bytes]
GROUP: Final = 6  # batches that are taken together, as a receiver does that lags behind


class Outcome(NamedTuple):
    """What came of a run."""

    messages: int
    stored: int  # entries
    refused: dict[str, int]
    raised: dict[str, int]  # exceptions that left `take`: there must be none
    answers: int
    forged: int  # entries in the database that the device did not sign: there must be none


class Fuzzer:
    """Makes messages for one enrolled device, in the order in which they are to be taken."""

    def __init__(self, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self.device, self.stranger = ListSource(1), ListSource(2)
        self.signed: set[bytes] = set()
        self._bodies: dict[str, list[bytes]] = {kind: [] for kind in _KINDS}
        self._good = self._corpus(self.device)
        told = (("crash", crash()), ("reply", reply()), ("curve", drive(seconds=60)[-1]))
        for kind, record in told:
            self._bodies[kind].append(chain.canonical(record))
        self._lineage = 0
        self._ways: tuple[tuple[Callable[[], Message], int], ...] = (
            (self._flipped, 30),
            (self._spliced, 10),
            (self._random, 5),
            (self._topic, 10),
            (self._packed, 15),
            (self._tokens, 10),
            (self._json, 8),
            (self._bomb, 2),
            (self._replayed, 4),
            (self._forged, 3),
            (self._hostile, 6),
        )

    def messages(self, count: int) -> Iterator[Message]:
        """Yield damaged messages."""
        ways, weights = zip(*self._ways, strict=True)
        for _ in range(count):
            yield self.rng.choices(ways, weights)[0]()

    @property
    def good(self) -> list[Message]:
        """The messages as they should be."""
        return self._good

    def _corpus(self, source: ListSource) -> list[Message]:
        entries = source.append(some(30))
        self.signed.update(e.signature for e in entries)
        for e in entries:
            self._bodies[e.kind].append(e.body)
        by_lane: dict[str, list[Entry]] = {}
        for e in entries:
            by_lane.setdefault(e.lane, []).append(e)
        found = [
            (messages.topic(source.device, "up", lane), messages.encode_batch(each)) for lane, each in by_lane.items()
        ]
        birth = Birth(
            device=source.device,
            public_key=source.public_key.hex(),
            lineage=source.lineage,
            session="s1",
            boot="boot-1",
            t_ns=S,
            heads=source.heads(),  # type: ignore[arg-type]
        )
        found.append(
            (
                messages.topic(source.device, "birth"),
                messages.encode_birth(birth, source.sign(messages.birth_bytes(birth))),
            )
        )
        found.append((messages.topic(source.device, "status"), messages.encode_status(source.device, "online")))
        live = Live(device=source.device, boot="boot-1", t_ns=S, latitude=36.6, longitude=117.1, speed_mps=3.0)
        found.append((messages.topic(source.device, "live"), messages.encode_live(live)))
        data = bytes(range(256)) * 4
        file = hashlib.sha256(data).hexdigest()
        init = filemessages.Init(name="imu.csv", size=len(data), checksum=file)
        found.append((filemessages.init_topic(source.device, file), filemessages.encode_init(init)))
        found.append((filemessages.chunk_topic(source.device, file, 0, data[:512]), data[:512]))
        found.append((filemessages.fin_topic(source.device, file, len(data)), b""))
        return found

    def _any(self, what: str = "") -> Message:
        return self.rng.choice([m for m in self._good if f"/{what}" in m[0]] if what else self._good)

    def _flipped(self) -> Message:
        topic, payload = self._any()
        data = bytearray(payload)
        for _ in range(self.rng.choice((1, 1, 1, 2, 8))):
            if data:
                data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
        return topic, bytes(data)

    def _spliced(self) -> Message:
        (topic, one), (_, other) = self._any(), self._any()
        cut, end = self.rng.randint(0, len(one)), self.rng.randint(0, len(other))
        return topic, one[:cut] + other[end:]

    def _random(self) -> Message:
        size = self.rng.choice((0, 1, 16, 300, 4097, 65_537))
        return self._any()[0], self.rng.randbytes(size)

    def _topic(self) -> Message:
        topic, payload = self._any()
        other = self._any()[0]
        way = self.rng.randrange(5)
        if way == 0:
            return topic.replace(self.device.device, self.stranger.device), payload
        if way == 1:
            return other, payload
        if way == 2:
            at = self.rng.randrange(len(topic))
            return topic[:at] + self.rng.choice("/+#\0x0.é") + topic[at + self.rng.randrange(2) :], payload
        if way == 3:
            return topic + self.rng.choice(("/", "/../x", "\n", "/0/" + "f" * 64)), payload
        return topic.replace("rw/v1", self.rng.choice(("rw/v2", "rw", "", "$SYS"))), payload

    def _packed(self) -> Message:
        """Spoil one value inside a batch and pack it anew: it is refused by type, number, chain or signature."""
        topic, payload = self._any("up")
        value = msgspec.msgpack.decode(_plain(payload))
        self._spoil(value, _ODD)
        return topic, _repacked(msgspec.msgpack.encode(value))

    def _spoil(self, where: Any, odd: tuple[Any, ...]) -> None:
        """Put something odd in the place of one value, at any depth."""
        while where:
            at = self.rng.choice(list(where)) if isinstance(where, dict) else self.rng.randrange(len(where))
            if not isinstance(where[at], list | dict) or not where[at] or self.rng.random() < 0.2:
                where[at] = self.rng.choice(odd)
                return
            where = where[at]

    def _tokens(self) -> Message:
        topic, payload = self._any(self.rng.choice(("birth", "status", "live", "file")))
        at = self.rng.randint(0, len(payload))
        return topic, payload[:at] + self.rng.choice(_TOKENS) * self.rng.choice((1, 1, 3, 900)) + payload[at:]

    def _json(self) -> Message:
        topic, payload = self._any(self.rng.choice(("birth", "status", "live")))
        value = msgspec.json.decode(payload)
        where = value.get("birth", value) if self.rng.random() < 0.7 else value
        where[self.rng.choice(list(where))] = self.rng.choice(_JSON)
        return topic, msgspec.json.encode(value)

    def _bomb(self) -> Message:
        """A frame of some bytes that says it is small, or says nothing, and unpacks to megabytes."""
        topic, _ = self._any("up")
        zeros = bytes(self.rng.choice((1 << 20, (1 << 20) + 1, 8 << 20)))
        told = self.rng.random() < 0.5
        packed = zstandard.ZstdCompressor(level=1, write_content_size=told).compress(zeros)
        return topic, bytes([messages.PROTOCOL]) + packed

    def _replayed(self) -> Message:
        return self._any()

    def _forged(self) -> Message:
        """A stranger's entries under the device's name."""
        self._lineage += 1
        source = ListSource(2, f"{self._lineage:012x}")
        source.device = self.device.device
        entries = [source.append_raw("event", "event", body, S) for body in self._bodies["event"][:2]]
        return messages.topic(self.device.device, "up", "event"), messages.encode_batch(entries)

    def _hostile(self) -> Message:
        """The device itself signs anything: a body that is no record, or one that names impossible files."""
        self._lineage += 1
        source = ListSource(1, f"{self._lineage:012x}")
        kind = self.rng.choice(_KINDS)
        if kind == "package":
            names = ("../../x", "a" * 200, "CON", ".hidden", "a/b", "x\n", "ok.csv")
            file = PackageFile(name=self.rng.choice(names), size=self.rng.choice((0, -1, 2**62)), sha256="0" * 64)
            told = Package(t_ns=S, incident=self.rng.choice(("0" * 16, "x")), complete=True, files=[file])
            body = chain.canonical(told)
        elif self.rng.random() < 0.6:
            value = msgspec.json.decode(self.rng.choice(self._bodies[kind] or self._bodies["event"]))
            self._spoil(value, _JSON)
            body = msgspec.json.encode(value)
        else:
            spoiled = bytearray(self.rng.choice(self._bodies[kind] or self._bodies["event"]))
            spoiled[self.rng.randrange(len(spoiled))] = self.rng.randrange(256)
            body = bytes(spoiled)
        entry = source.append_raw(KIND_LANES[kind], kind, body, S)
        self.signed.add(entry.signature)
        return messages.topic(source.device, "up", entry.lane), messages.encode_batch([entry])


def run(engine: Engine, files: FileStore | None, count: int, seed: int = 1) -> Outcome:
    """Take `count` damaged messages into a new ingest and say what came of them."""
    fuzzer = Fuzzer(seed)
    devices.enrol(engine, fuzzer.device.public_key.hex())
    own(engine)
    for purpose in ("recording", "scoring", "video"):  # without these nothing but health would be looked at closely
        consents.give(engine, fuzzer.device.device, purpose, 1, by="owner-1")
    ingest = Ingest(engine, files)
    raised: Counter[str] = Counter()
    answers = 0
    group: list[Message] = []
    for n, (topic, payload) in enumerate(fuzzer.messages(count)):
        together = n % 2 == 0 and _is_batch(topic)
        if together:
            group.append((topic, payload))
            if len(group) < GROUP:
                continue
        try:
            if together:
                answers += len(ingest.take_batches(group, NOW + n))
            else:
                answers += len(ingest.take(topic, payload, NOW + n))
        except Exception as e:  # what is looked for: nothing in a message may raise
            raised[f"{type(e).__name__}: {e}"[:200]] += 1
        if together:
            group.clear()
    with db.reading(engine) as connection:
        stored = connection.execute(select(func.count()).select_from(db.entry)).scalar_one()
        signatures = connection.execute(select(db.entry.c.signature)).scalars()
        forged = sum(bytes(s) not in fuzzer.signed for s in signatures)
    return Outcome(count, stored, dict(ingest.counts.refused), dict(raised), answers, forged)


def _is_batch(topic: str) -> bool:
    try:
        return messages.address(topic).what == "up"
    except messages.MessageError:
        return False


def _plain(payload: bytes) -> bytes:
    dictionary = messages._dictionary()
    return zstandard.ZstdDecompressor(dict_data=dictionary).decompress(payload[1:])


def _repacked(packed: bytes) -> bytes:
    compressor = zstandard.ZstdCompressor(level=1, dict_data=messages._dictionary(), write_content_size=True)
    return bytes([messages.PROTOCOL]) + compressor.compress(packed)
