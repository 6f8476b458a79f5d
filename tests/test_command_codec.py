"""Commands over the wire: what is signed comes through as it is, and nothing else passes for a command."""

import json

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.chain import canonical, public_bytes
from agent.commandmessages import (
    MAX_COMMAND,
    NO_COMMAND,
    PREFIX,
    TOO_LARGE,
    UNSIGNED,
    UNTRUSTED,
    Command,
    decode_command,
    encode_command,
    new_id,
    one_line,
)
from agent.messages import MessageError
from tests.commanding import KEY, OTHER_KEY, TRUSTED, command, signed

DEVICE = "rw-0123456789abcdef"
UTC = st.integers(0, 2**62 - 1)
LINE = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=64)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda v: (
        st.lists(v, max_size=3) | st.dictionaries(st.text(st.characters(codec="ascii"), max_size=5), v, max_size=3)
    ),
    max_leaves=6,
)
COMMANDS = st.builds(
    Command,
    id=st.binary(min_size=16, max_size=16).map(bytes.hex),
    device=st.just(DEVICE),
    command=st.from_regex(r"[a-z_]{1,32}", fullmatch=True),
    arguments=st.dictionaries(st.text(st.characters(codec="ascii"), max_size=8), VALUES, max_size=4),
    issued_utc_ns=UTC,
    expires_utc_ns=UTC,
    reason=LINE,
    actor=LINE,
)


def refused(payload: bytes, trusted: frozenset[str] = frozenset({TRUSTED})) -> str:
    with pytest.raises(MessageError) as raised:
        decode_command(payload, trusted)
    return str(raised.value)


@given(COMMANDS)
@settings(max_examples=150, deadline=None)
def test_what_is_signed_comes_through_as_it_is(asked: Command) -> None:
    assert decode_command(encode_command(asked, KEY), {TRUSTED}) == (asked, TRUSTED)


def test_every_flipped_bit_is_refused() -> None:
    payload = signed(command(DEVICE))
    for at in range(len(payload)):
        for bit in range(8):
            bad = payload[:at] + bytes([payload[at] ^ (1 << bit)]) + payload[at + 1 :]
            assert refused(bad) in (NO_COMMAND, UNSIGNED, UNTRUSTED)


def test_a_key_that_is_not_trusted_is_refused_whatever_it_signs() -> None:
    assert refused(signed(command(DEVICE), OTHER_KEY)) == UNTRUSTED
    assert refused(signed(command(DEVICE)), frozenset()) == UNTRUSTED
    stolen = json.loads(signed(command(DEVICE), OTHER_KEY))
    stolen["key"] = TRUSTED  # signed by one, said to be of another
    assert refused(json.dumps(stolen).encode()) == UNSIGNED


def test_what_the_key_signed_for_another_purpose_is_no_command() -> None:
    raw = canonical(command(DEVICE))
    for signed_bytes in (raw, b"roadwitness birth\n" + raw, PREFIX.strip() + raw):
        fake = {"command": msgspec.Raw(raw), "key": TRUSTED, "signature": KEY.sign(signed_bytes).hex()}
        assert refused(msgspec.json.encode(fake)) == UNSIGNED


@given(st.binary(max_size=MAX_COMMAND + 100))
@example(b"[" * MAX_COMMAND)
@example(b'{"command":' + b"[" * 4000)
@example(b'{"key":"\xff"}')
@settings(max_examples=200, deadline=None)
def test_nothing_that_comes_raises_anything_but_a_refusal(payload: bytes) -> None:
    assert refused(payload) in (TOO_LARGE, NO_COMMAND)


@given(st.binary(max_size=600), st.sampled_from([b"[", b'{"a":', b'"', b"1", b"-", b"9" * 300, b"\\u0000"]))
@settings(max_examples=150, deadline=None)
def test_what_a_trusted_key_signs_need_not_be_a_command_either(raw: bytes, piece: bytes) -> None:
    for body in (raw, piece * 400, b'{"arguments":' + piece * 300):
        fake = {"key": TRUSTED, "signature": KEY.sign(PREFIX + body).hex()}
        payload = msgspec.json.encode(fake)[:-1] + b',"command":' + body + b"}"
        assert refused(payload) in (TOO_LARGE, NO_COMMAND, UNSIGNED)


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "A" * 32},
        {"id": "0" * 31},
        {"device": "rw-0"},
        {"command": "Clip"},
        {"reason": ""},
        {"reason": "two\nlines"},
        {"actor": "a" * 65},
        {"expires_utc_ns": 2**62},
        {"issued_utc_ns": -1},
        {"arguments": {"note": "x" * MAX_COMMAND}},
    ],
)
def test_what_could_not_be_read_is_not_sent(changed: dict[str, object]) -> None:
    with pytest.raises(MessageError):
        encode_command(replace(command(DEVICE), **changed), KEY)


def test_ids_are_random_and_lines_are_lines() -> None:
    assert len({new_id() for _ in range(100)}) == 100
    assert public_bytes(KEY).hex() == TRUSTED
    assert one_line("a\x00b\nc\u2028d" + "e" * 300) == "a b c d" + "e" * 193
    assert one_line("") == " "
