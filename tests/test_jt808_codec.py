"""JT/T 808 on the wire: published vectors, round trips, and bytes from an enemy."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.gcj02 import from_wgs84
from receiver.jt808 import messages
from receiver.jt808.frame import MOST_BODY, Assembly, Deframer, FrameError, Message, decode, encode, split
from receiver.jt808.messages import Answer, Authentication, Location, Registration, RegistrationAnswer

RECORDED = Path(__file__).parents[1].parent / "shared" / "data" / "jt808" / "huabao_packets.tsv"
ONE = bytes.fromhex(
    "7e02004026010000000001391234432900000000006f0000001601dc9a0707456246007b00420003250129223344"
    "0202006401040000000c417e"
)
BATCH = bytes.fromhex(
    "7e0704403f01000000000139123443290000000200001c000000010000000101d907f2073d336c029a0021005924"
    "1029213903001c000000010000000101d907f3073d336d03090043005a241029213903f87e"
)
UTC_2025_01_29_14_33_44 = 1_738_161_224  # 22:33:44 in GMT+8

words = st.integers(0, 0xFFFF)
longs = st.integers(0, 0xFFFFFFFF)
digits = st.text("0123456789", min_size=20, max_size=20)
plain = st.text(st.characters(codec="gb2312", exclude_characters="\0"), max_size=5)
located = st.builds(
    Location,
    alarm=longs,
    status=longs.map(lambda v: v & ~(messages.SOUTH | messages.WEST)),
    latitude_e6=st.integers(0, 90_000_000),
    longitude_e6=st.integers(0, 180_000_000),
    altitude_m=words,
    speed_kmh10=words,
    direction_deg=words,
    utc_s=st.none() | st.integers(946_656_000, 4_102_415_999),
    items=st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=4).map(tuple),
)


def heard(data: bytes) -> tuple[list[Message], Deframer]:
    deframer = Deframer()
    return list(deframer.feed(data)), deframer


def test_the_published_location_decodes_to_its_values_and_back() -> None:
    [message], _ = heard(ONE)
    assert (message.id, message.phone[-11:], message.serial, len(message.body)) == (0x0200, "13912344329", 0, 38)
    assert message.version == 1
    location = Location.decode(message.body)
    assert (location.alarm, location.status) == (111, 22)
    # The vector's status has bit 2, south: the number in the frame is 31.234567, the place is south of the equator.
    assert (location.latitude_e6, location.longitude_e6) == (-31_234_567, 121_987_654)
    assert (location.altitude_m, location.speed_kmh10, location.direction_deg) == (123, 66, 3)
    assert location.utc_s == UTC_2025_01_29_14_33_44
    assert location.items == ((0x02, b"\0\x64"), (messages.ODOMETER, b"\0\0\0\x0c"))
    assert location.encode() == message.body
    assert encode(message) == ONE


def test_the_published_batch_decodes_to_its_values_and_back() -> None:
    [message], _ = heard(BATCH)
    kind, found = messages.decode_batch(message.body)
    assert (message.id, kind, len(found)) == (0x0704, 0, 2)
    first = found[0]
    assert (first.latitude_e6, first.longitude_e6) == (31_000_562, 121_451_372)
    assert (first.altitude_m, first.speed_kmh10, first.direction_deg) == (666, 33, 89)
    assert messages.encode_batch(kind, [f.encode() for f in found]) == message.body
    assert encode(message) == BATCH


@pytest.mark.data
def test_recorded_frames_decode_and_the_one_with_a_wrong_check_byte_does_not() -> None:
    if not RECORDED.exists():
        pytest.skip("recordings in ../shared/data are absent")
    wrong, ids, positions = [], [], 0
    for number, line in enumerate(RECORDED.read_text(encoding="utf-8").splitlines()):
        if line.startswith("#"):
            continue
        expected, text, _ = line.split("\t")
        # They were written down after the escapes had been taken out: one has a bare 7E in its body.
        content = bytes.fromhex(text)[1:-1]
        escaped = content.replace(b"\x7d", b"\x7d\x01").replace(b"\x7e", b"\x7d\x02")
        try:
            message = decode(escaped)
        except FrameError as e:
            wrong.append((number, str(e)))
            continue
        assert f"{message.id:04x}" == expected
        assert encode(message) == b"\x7e" + escaped + b"\x7e"
        ids.append(expected)
        if expected == "0704":
            kind, found = messages.decode_batch(message.body)
            assert (kind, len(found)) == (messages.BLIND_AREA, 8)
        elif expected == "0200" and "southern" not in line:  # that one has a maker's own items, not id and length
            location = Location.decode(message.body)
            assert 22.5 < location.latitude_e6 / 1e6 < 22.7
            positions += 1
    assert wrong == [(8, "the check byte does not fit")]
    assert len(ids) == 9
    assert positions == 4


@settings(max_examples=300, deadline=None)
@given(id=words, phone=digits, serial=words, body=st.binary(max_size=MOST_BODY), cut=st.integers(1, 50))
def test_any_message_comes_back_whole_from_any_pieces(id: int, phone: str, serial: int, body: bytes, cut: int) -> None:
    message = Message(id, phone, serial, body)
    frame = encode(message)
    assert b"\x7e" not in frame[1:-1]
    deframer = Deframer()
    wire = b"noise" + frame + frame
    found = [m for n in range(0, len(wire), cut) for m in deframer.feed(wire[n : n + cut])]
    assert found == [message, message]
    assert deframer.faults == 1  # the noise


@settings(max_examples=100, deadline=None)
@given(body=st.binary(max_size=10_000), serial=words, order=st.randoms(use_true_random=False))
def test_a_long_body_comes_back_from_its_parts_in_any_order(body: bytes, serial: int, order: random.Random) -> None:
    parts = split(messages.REGISTER, "1" * 20, serial, body)
    assert all(len(p.body) <= MOST_BODY for p in parts)
    order.shuffle(parts)
    assembly = Assembly()
    whole = [m for p in parts if (m := assembly.take(heard(encode(p))[0][0])) is not None]
    assert [m.body for m in whole] == [body]
    assert whole[0].serial == serial


@settings(max_examples=200, deadline=None)
@given(location=located, south=st.booleans(), west=st.booleans())
def test_a_location_comes_back_with_its_signs(location: Location, south: bool, west: bool) -> None:
    latitude, longitude = (-v if flip else v for v, flip in zip(location[2:4], (south, west), strict=True))
    location = location._replace(latitude_e6=latitude, longitude_e6=longitude)
    back = Location.decode(location.encode())
    assert back._replace(status=location.status) == location
    assert bool(back.status & messages.SOUTH) == (latitude < 0)
    assert bool(back.status & messages.WEST) == (longitude < 0)


@settings(max_examples=100, deadline=None)
@given(kind=st.integers(0, 1), locations=st.lists(located, max_size=20))
def test_a_batch_comes_back(kind: int, locations: list[Location]) -> None:
    bodies = [x.encode() for x in locations]
    assert messages.decode_batch(messages.encode_batch(kind, bodies)) == (kind, locations)
    n = messages.fitting(bodies)
    assert len(messages.encode_batch(kind, bodies[:n])) <= MOST_BODY
    assert n == len(bodies) or len(messages.encode_batch(kind, bodies[: n + 1])) > MOST_BODY


@settings(max_examples=100, deadline=None)
@given(a=plain, b=plain, province=words, colour=st.integers(0, 255), result=st.integers(0, 4))
def test_registration_and_its_answers_come_back(a: str, b: str, province: int, colour: int, result: int) -> None:
    asked = Registration(province, 100, a, b, a, colour, b)
    assert Registration.decode(asked.encode()) == asked
    assert len(asked.encode()) == 76 + len(b.encode("gbk"))
    proof = Authentication(a, "860000000000001", "roadwitness")
    assert Authentication.decode(proof.encode()) == proof
    said = RegistrationAnswer(province, result, a if result == 0 else "")
    assert RegistrationAnswer.decode(said.encode()) == said
    answer = Answer(province, 0x0704, result)
    assert Answer.decode(answer.encode()) == answer


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (ONE[:-2] + b"\x42\x7e", "check byte"),
        (b"\x7e" + ONE[3:], "check byte"),
        (b"\x7e\x7d\x03\x7e", "escape"),
        (b"\x7e\x00\x01\x7e", "shorter"),
        (b"\x7e" + bytes(4000) + b"\x7e", "without an end"),
    ],
)
def test_a_broken_frame_is_counted_and_the_next_one_is_read(broken: bytes, why: str) -> None:
    found, deframer = heard(broken + ONE)
    assert [m.id for m in found] == [0x0200]
    assert deframer.faults == 1
    assert why in deframer.fault


def test_memory_stays_bounded_whatever_comes() -> None:
    deframer = Deframer()
    for _ in range(1000):
        assert not list(deframer.feed(b"\x55" * 4096))
    assert len(deframer._held) <= 2 * 1045
    assembly = Assembly()
    for serial in range(10_000):
        assert assembly.take(Message(1, "0" * 20, serial * 7, bytes(1000), parts=60, part=1)) is None
    assert len(assembly._open) <= 9
    assert all(assembly.take(Message(2, "0" * 20, n, bytes(1000), parts=0xFFFF, part=n + 1)) is None for n in range(99))
    assert sum(len(b) for pieces in assembly._open.values() for b in pieces.values()) <= 9 * 65_536


def test_a_hundred_thousand_hostile_frames_raise_nothing_but_frame_errors() -> None:
    rng = random.Random(808)
    decoders = (
        Location.decode,
        messages.decode_batch,
        Answer.decode,
        RegistrationAnswer.decode,
        Registration.decode,
        Authentication.decode,
    )
    seeds = [ONE[1:-1], BATCH[1:-1]]
    read = refused = 0
    deframer = Deframer()
    for n in range(100_000):
        content = bytearray(rng.choice(seeds)) if n % 3 else bytearray(rng.randbytes(rng.randrange(90)))
        for _ in range(rng.randrange(4) if content else 0):
            content[rng.randrange(len(content))] = rng.randrange(256)
        if content and n % 2:
            content = content[: rng.randrange(len(content))]
        for _ in deframer.feed(b"\x7e" + bytes(content) + b"\x7e"):
            read += 1
        try:
            decoders[n % len(decoders)](bytes(content))
            read += 1
        except FrameError:
            refused += 1
    assert read > 1000
    assert refused > 10_000
    assert deframer.faults > 10_000


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: encode(Message(1, "12a", 0, b"")), "digits"),
        (lambda: encode(Message(1, "1" * 21, 0, b"")), "digits"),
        (lambda: encode(Message(1, "1", 0, bytes(1024))), "split"),
        (lambda: Registration(1, 1, "a" * 12, "", "", 1, "").encode(), "longer"),
        (lambda: Registration(1, 1, "", "", "", 1, "\U0001f697").encode(), "GBK"),
        (lambda: Authentication("a" * 256, "", "").encode(), "255"),
        (lambda: Location(0, 0, 0, 0, 0, 0, 0, 0).encode(), "1970"),
    ],
)
def test_what_the_wire_cannot_say_is_refused_with_the_reason(make: object, why: str) -> None:
    with pytest.raises(FrameError, match=why):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("wgs84", "gcj02"),
    [
        ((31.1774276, 121.5272106), (31.175303984, 121.531541859)),
        ((22.543847, 113.912316), (22.540796132, 113.917176481)),
        ((39.911954, 116.377817), (39.913345455, 116.384047225)),
        ((48.1, 11.5), (48.1, 11.5)),
    ],
)
def test_gcj02_agrees_with_the_reference_vectors(wgs84: tuple[float, float], gcj02: tuple[float, float]) -> None:
    assert from_wgs84(*wgs84) == pytest.approx(gcj02, abs=1e-6)
