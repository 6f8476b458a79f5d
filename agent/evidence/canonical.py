"""Canonical JSON by RFC 8785 (JCS): one way to write a value, so that anyone can write the signed bytes again.

Of the manifest. The bodies of records need no canonical form, since their bytes are kept as they were signed
(agent.chain.canonical; decision 0190).
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Final

MOST: Final = 2**53 - 1  # RFC 8785 3.1 takes I-JSON (RFC 7493): beyond this, an integer is not exact for everyone


def canonical_json(value: object) -> bytes:
    """Encode None, bool, int, float, str, sequences and mappings with text keys.

    Raise ValueError for what I-JSON cannot carry: NaN, infinities, integers beyond 2**53 - 1, half of a character;
    TypeError for other types.
    """
    try:
        return _text(value).encode("utf-8")
    except UnicodeEncodeError as e:
        raise ValueError("half of a character (a lone surrogate) cannot be written as JSON") from e


def _text(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        # exactly the escapes of RFC 8785 3.2.2.2: short ones, \u00xx in lower case for the other controls, no more
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int):
        if abs(value) > MOST:
            raise ValueError(f"{value} is not exact in JSON for everyone; write it as text")
        return str(value)
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, Mapping):
        # by UTF-16 code units (3.2.3), which differs from Python's order for characters beyond U+FFFF
        keys = sorted(value, key=lambda key: str.encode(key, "utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{_text(key)}:{_text(value[key])}" for key in keys) + "}"
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return "[" + ",".join(map(_text, value)) + "]"
    raise TypeError(f"{type(value).__name__} has no JSON form")


def number_text(value: float) -> str:
    """Write a double as ECMAScript does (Number::toString, ECMA-262 6.1.6.1.20).

    Python's repr gives the same shortest digits; only where the point and the exponent go differs.
    """
    if not math.isfinite(value):
        raise ValueError(f"{value} has no JSON form")
    if value == 0:
        return "0"  # also for -0
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))  # digits before the point
    digits = digits.rstrip("0")
    if 0 < point <= 21:
        if len(digits) <= point:
            return sign + digits + "0" * (point - len(digits))
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    power = point - 1
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{'+' if power > 0 else '-'}{abs(power)}"
