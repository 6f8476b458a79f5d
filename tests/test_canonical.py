"""Canonical JSON: RFC 8785's own vectors, ECMAScript's numbers, and what I-JSON refuses."""

import json
import math
import struct

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.chain import canonical
from agent.evidence.canonical import MOST, canonical_json, number_text

# RFC 8785 appendix B: bits of the double, its text
NUMBERS = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"),
    ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]


@pytest.mark.parametrize(("bits", "text"), NUMBERS)
def test_a_double_is_written_as_the_rfc_writes_it(bits: str, text: str) -> None:
    assert number_text(struct.unpack(">d", bytes.fromhex(bits))[0]) == text


def test_the_rfcs_sample_object_is_written_byte_for_byte() -> None:
    # RFC 8785 3.2.2 to 3.2.4
    given_text = (
        '{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],'
        '"string": "\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/", "literals": [null, true, false]}'
    )
    assert (
        canonical_json(json.loads(given_text))
        == (
            '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
            '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
        ).encode()
    )


def test_keys_are_ordered_by_utf16_code_units() -> None:
    # RFC 8785 3.2.3: the smiley's first unit D83D comes before FB33, though its code point is greater
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    written = json.loads(canonical_json({key: i for i, key in enumerate(keys)}))
    assert list(written) == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, MOST + 1, -MOST - 1, "\ud800", {"\udfff": 1}])
def test_what_json_cannot_carry_exactly_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"x": [value]})


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object(), {1: "key that is no text"}])
def test_what_has_no_json_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        canonical_json(value)


@settings(max_examples=500, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_reads_back_as_itself_and_is_as_short_as_ecmascripts(value: float) -> None:
    text = number_text(value)
    assert float(text) == value
    assert msgspec.json.decode(text, type=float) == value
    digits = text.lstrip("-").split("e")[0].replace(".", "").strip("0")
    assert len(digits) <= 17
    size = abs(value)
    assert ("e" in text) == (size != 0 and not 1e-6 <= size < 1e21)
    assert ".0" not in text.split("e")[0][-2:]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-MOST, MOST) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_canonical_json_reads_back_and_is_the_same_when_written_again(value: object) -> None:
    written = canonical_json(value)
    # a double of 2**53 or more is written without a point: whoever reads JSON as the RFC says reads doubles
    read = json.loads(written, parse_int=float)
    assert canonical_json(read) == written
    assert read == value


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["boot", "kind", "lane", "seq", "t_ns"]), st.text() | st.integers(-MOST, MOST)))
def test_the_chains_own_encoder_is_canonical_for_what_a_header_holds(header: dict[str, object]) -> None:
    assert canonical(header) == canonical_json(header)
