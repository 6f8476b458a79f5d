"""The wire format: what is encoded is decoded, and nothing hostile gets further than a counted reason."""

import hashlib
import subprocess
import sys
import tracemalloc

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import chain, messages
from agent.messages import Ack, Birth, MessageError
from agent.records import KINDS, LANES
from agent.wiredict import DICTIONARY
from tests.sample_records import some
from tests.syncing import ListSource

DEVICE = "rw-0123456789abcdef"


def birth_of(source: ListSource, **changes: object) -> Birth:
    values: dict[str, object] = {
        "device": source.device,
        "public_key": source.public_key.hex(),
        "lineage": source.lineage,
        "session": "s1",
        "boot": "boot-1",
        "t_ns": 5,
        "heads": {"event": 3},
    }
    return Birth(**{**values, **changes})  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.binary(max_size=400)), min_size=1, max_size=40),
    st.sampled_from(LANES),
    st.booleans(),
)
def test_a_batch_comes_back_as_it_was_sent(bodies: list[tuple[int, bytes]], lane: str, anchored: bool) -> None:
    source = ListSource()
    entries = [source.append_raw(lane, "event", body, t_ns) for t_ns, body in bodies]
    payload = messages.encode_batch(entries, anchored)
    batch = messages.decode_batch(payload)
    assert (batch.lineage, batch.lane, batch.first_seq, batch.last_seq) == (source.lineage, lane, 1, len(entries))
    assert [(r.boot, r.t_ns, r.kind, r.body, r.signature) for r in batch.rows] == [
        (e.boot, e.t_ns, e.kind, e.body, e.signature) for e in entries
    ]
    assert batch.anchor == (entries[0].hash if anchored else b"")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_are_never_more_than_a_message_error(payload: bytes) -> None:
    for decode in (messages.decode_batch, messages.decode_birth, messages.decode_status, messages.decode_ack):
        for tried in (payload, b"\x01" + payload):
            with pytest.raises(MessageError):
                decode(tried)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_batch_is_refused_or_still_a_batch(data: st.DataObject) -> None:
    source = ListSource()
    source.append(some(6))
    payload = bytearray(messages.encode_batch(source.lanes["event"]))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        batch = messages.decode_batch(bytes(payload))
    except MessageError:
        return
    assert batch.rows


def packed(value: object, **frame: object) -> bytes:
    dictionary = zstandard.ZstdCompressionDict(DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return b"\x01" + zstandard.ZstdCompressor(dict_data=dictionary, **frame).compress(msgspec.msgpack.encode(value))


ROW = ["boot-1", 1, "event", b"{}", b"s" * 64]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "unknown protocol version"),
        (b"\x02" + packed(1)[1:], "unknown protocol version"),
        (b"\x01" * (messages.MAX_PAYLOAD + 1), "payload too large"),
        (packed(b"\0" * (messages.MAX_PLAIN + 1)), "payload expands too far"),
        (packed([1], write_content_size=False), "payload expands too far"),
        (packed(["0123456789ab", "event", 1, [ROW]]) + b"more", "payload is not zstd"),
        (packed(["0123456789ab", "event", 1, []]), "payload is not a batch"),
        (packed(["0123456789ab", "event", 0, [ROW]]), "payload is not a batch"),
        (packed(["0123456789ab", "nonsense", 1, [ROW]]), "payload is not a batch"),
        (packed(["0123456789AB", "event", 1, [ROW]]), "payload is not a batch"),
        (packed(["0123456789ab", "event", 1, [[*ROW[:4], b"short"]]]), "payload is not a batch"),
        (packed(["0123456789ab", "event", 1, [["a\0b", *ROW[1:]]]]), "payload is not a batch"),
        (packed(["0123456789ab\n", "event", 1, [ROW]]), "payload is not a batch"),
        (packed(["0123456789ab", "event", 1, [["b", 2**63, *ROW[2:]]]]), "payload is not a batch"),
        (packed(["0123456789ab", "event", 1, [ROW], b"short"]), "payload is not a batch"),
        (packed(["0123456789ab", "event", 1, [ROW], b"", 1]), "payload is not a batch"),
    ],
)
def test_hostile_batches_are_refused_by_a_fixed_reason(payload: bytes, reason: str) -> None:
    with pytest.raises(MessageError) as caught:
        messages.decode_batch(payload)
    assert str(caught.value) == reason


def test_a_zip_bomb_costs_no_memory() -> None:
    bomb = b"\x01" + zstandard.ZstdCompressor(level=19).compress(bytes(500_000_000))
    assert len(bomb) < messages.MAX_PAYLOAD
    tracemalloc.start()
    with pytest.raises(MessageError, match="expands too far"):
        messages.decode_batch(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * messages.MAX_PLAIN


def test_a_frame_that_lies_about_its_size_is_refused() -> None:
    honest = packed(["0123456789ab", "event", 1, [[*ROW[:3], b"x" * 5000, ROW[4]]]])
    frame = bytearray(honest)
    frame[1 + 5] ^= 0x01  # magic 4, descriptor 1, then the content size (RFC 8878, 3.1.1.1)
    assert zstandard.frame_content_size(bytes(frame[1:])) != zstandard.frame_content_size(honest[1:])
    with pytest.raises(MessageError):
        messages.decode_batch(bytes(frame))


def test_a_birth_is_believed_only_from_its_own_key() -> None:
    source, other = ListSource(1), ListSource(2)
    birth = birth_of(source)
    good = messages.encode_birth(birth, source.sign(messages.birth_bytes(birth)))
    assert messages.decode_birth(good) == birth
    forged = messages.encode_birth(birth, other.sign(messages.birth_bytes(birth)))
    with pytest.raises(MessageError, match="not signed by its key"):
        messages.decode_birth(forged)
    stolen = birth_of(source, public_key=other.public_key.hex())
    with pytest.raises(MessageError, match="names another device"):
        messages.decode_birth(messages.encode_birth(stolen, other.sign(messages.birth_bytes(stolen))))
    with pytest.raises(MessageError, match="too large"):
        messages.decode_birth(good + b" " * messages.MAX_BIRTH)


def test_a_birth_with_fields_of_a_later_version_is_still_believed() -> None:
    source = ListSource()
    later = {**msgspec.to_builtins(birth_of(source)), "zone": "x"}
    raw = chain.canonical(later)
    signed = {"birth": later, "signature": source.sign(messages.birth_bytes(raw)).hex()}
    assert messages.decode_birth(chain.canonical(signed)).device == source.device


def test_statuses_and_acknowledgements_come_back() -> None:
    status = messages.decode_status(messages.encode_status(DEVICE, "offline"))
    assert (status.device, status.state) == (DEVICE, "offline")
    ack = Ack(
        device=DEVICE,
        state="accepted",
        lineage="0123456789ab",
        session="",
        lanes={"event": 4},
        hashes={"event": "ab" * 32},
    )
    assert messages.decode_ack(messages.encode_ack(ack)) == ack


def test_topics_are_made_and_taken_apart() -> None:
    assert messages.address(messages.topic(DEVICE, "up", "crash")) == (DEVICE, "up", "crash")
    assert messages.address(messages.topic(DEVICE, "birth")) == (DEVICE, "birth", "")
    for bad in ("", "rw/v1/x/birth", f"rw/v1/{DEVICE}/up", f"rw/v1/{DEVICE}/up/none", f"rw/v1/{DEVICE}/ack/x", "a\n"):
        with pytest.raises(MessageError):
            messages.address(bad)


def test_the_dictionary_of_version_1_never_changes() -> None:
    digest = hashlib.sha256(DICTIONARY).hexdigest()
    assert digest == "140357e580c0f059b6d18e778106a2753748e82044ff435572c6802d9a6abea4"


def test_a_single_event_costs_less_than_half_of_its_json() -> None:
    source = ListSource()
    [entry] = source.append(some(1))
    assert len(messages.encode_batch([entry])) < len(entry.body) / 2


def test_every_kind_of_record_fits_into_the_kinds_of_rows() -> None:
    for kind in KINDS:
        msgspec.convert(kind, messages.Kind)


def test_the_wire_format_imports_neither_paho_nor_numpy() -> None:
    code = "import sys, agent.messages, agent.link; print({'paho', 'numpy', 'numba', 'sqlalchemy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
