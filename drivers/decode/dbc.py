"""Read a DBC file in one tolerant pass: what is understood is kept, what is not is said, line by line.

Own reader because real files break the strict ones (docs/decisions/0020): cantools is the oracle in the tests.
Kept are messages, signals, multiplexing, float types and the J1939 marks; nodes, comments, value tables and all
other attributes mean nothing to a decoder and are passed over in silence.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from agent.errors import ConfigError

EXTENDED_BIT: Final = 0x8000_0000  # set in a DBC's message number when the identifier has 29 bits
MAX_STANDARD_ID: Final = 0x7FF
MAX_EXTENDED_ID: Final = 0x1FFF_FFFF
ORPHANS: Final = "VECTOR__INDEPENDENT_SIG_MSG"  # Vector's drawer for signals that belong to no message

_BO = re.compile(r"BO_\s+(\d+)\s+(\w+)\s*:\s*(\d+)")
_SG = re.compile(
    r"SG_\s+(?P<name>\w+)(?:\s+(?P<mux>M|m\d*M?))?\s*:\s*"
    r"(?P<start>\d+)\s*\|\s*(?P<length>\d+)\s*@\s*(?P<order>[01])\s*(?P<sign>[+-])\s*"
    r"\((?P<scale>[^,]*),(?P<offset>[^)]*)\)\s*"
    r'(?:\[(?P<minimum>[^|\]]*)\|(?P<maximum>[^\]]*)\]\s*)?(?:"(?P<unit>[^"]*)")?'
)
_VALTYPE = re.compile(r"SIG_VALTYPE_\s+(\d+)\s+(\w+)\s*:?\s*(\d)")
_MUL_VAL = re.compile(r"SG_MUL_VAL_\s+(\d+)\s+(\w+)\s+(\w+)\s+([\d\s,-]+)")
_ATTRIBUTE = re.compile(r'BA_\s+"([^"]*)"\s*(?:(BO_)\s+(\d+)|(SG_)\s+(\d+)\s+(\w+))?\s*("[^"]*"|[^\s;]+)')
_ATTRIBUTE_DEFAULT = re.compile(r'BA_DEF_DEF_\s+"([^"]*)"\s+("[^"]*"|[^\s;]+)')
_ENUM = re.compile(r'BA_DEF_\s+BO_\s+"VFrameFormat"\s+ENUM\s+(.*)')
_COMMENT = re.compile(r'CM_\s*(?:"|BO_\s+\d+\s+"|SG_\s+\d+\s+\w+\s+"|(?:BU_|EV_)\s+\w+\s+")')
_VALUES = re.compile(r"VAL_\s+(\d+)\s+(\w+)")
_BARE_POINT = re.compile(r"\s*[-+]?\.\d")
_KEYWORD = re.compile(r"\s*([A-Z][A-Z_]*_|VERSION)(?=[\s:]|$)")


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal: value = raw × scale + offset; `start` as in the file (little-endian the LSB, big-endian the MSB)."""

    name: str
    start: int
    length: int  # bits
    big_endian: bool = False
    signed: bool = False
    is_float: bool = False
    scale: float = 1
    offset: float = 0
    minimum: float | None = None  # both None when the file says [0|0]
    maximum: float | None = None
    unit: str = ""
    multiplexer: bool = False  # selects other signals
    selector: str | None = None  # the multiplexer that this signal depends on
    selected_by: tuple[tuple[int, int], ...] = ()  # inclusive ranges of the selector's raw value

    @property
    def first_bit(self) -> int:
        """The first bit in byte order: little-endian the LSB, big-endian the MSB, where bit 7 is a byte's first."""
        return 8 * (self.start // 8) + 7 - self.start % 8 if self.big_endian else self.start

    @property
    def bytes_needed(self) -> int:
        """How many data bytes a frame must have for this signal to be in it."""
        return (self.first_bit + self.length + 7) // 8


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `id` is without flag bits, `length` in bytes (may exceed 64: sent by a transport protocol)."""

    name: str
    id: int
    extended: bool
    length: int
    j1939: bool = False  # matched by parameter group, not by the whole identifier
    signals: tuple[Signal, ...] = ()


@dataclass(frozen=True, slots=True)
class Database:
    """A DBC file: its messages in file order, and one plain line for each thing that was skipped or repaired."""

    path: Path
    messages: tuple[Message, ...]
    skipped: tuple[str, ...] = ()


@dataclass(slots=True)
class _Draft:
    """What the pass has gathered so far; messages are keyed by the number that the file uses for them."""

    messages: list[tuple[int, Message]] = field(default_factory=list)
    signals: list[list[tuple[Signal, str | None]]] = field(default_factory=list)  # with the multiplexer mark
    section: str = ""  # what became of the last BO_: "" none yet, "kept", "skipped" (and its signals with it)
    skipped: list[str] = field(default_factory=list)
    lines_known: int = 0
    float_types: dict[tuple[int, str], int] = field(default_factory=dict)
    mux_values: dict[tuple[int, str], tuple[str, list[tuple[int, int]]]] = field(default_factory=dict)
    value_names: list[tuple[int, int, str]] = field(default_factory=list)  # line, message number, signal
    frame_formats: tuple[str, ...] = ()
    defaults: dict[str, str] = field(default_factory=dict)
    attributes: dict[tuple[str, int | None, str | None], str] = field(default_factory=dict)


def load_dbc(path: Path) -> Database:
    """Read the DBC file `path`; raise ConfigError when it cannot be read or is no DBC at all."""
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise ConfigError(f"{path}: cannot read the DBC file: {e.strerror}; check the path") from e
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Vector's tools write cp1252; its five unassigned bytes occur in comments only
        text = raw.decode("cp1252", errors="replace")
    draft = _Draft()
    for line, statement in _statements(text.splitlines(), draft.skipped):
        _take(draft, line, statement)
    if draft.lines_known == 0:
        raise ConfigError(f"{path}: this is not a DBC file: no line begins with a DBC keyword; give a .dbc file")
    if not draft.messages:
        why = f" (first trouble: {draft.skipped[0]})" if draft.skipped else ""
        raise ConfigError(f"{path}: the DBC file describes no message{why}; give a DBC with BO_ lines")
    messages = tuple(_finish(draft, i) for i in range(len(draft.messages)))
    _say_duplicates(draft, messages)
    _say_orphans(draft)
    return Database(path, messages, tuple(draft.skipped))


def _statements(lines: list[str], skipped: list[str]) -> Iterator[tuple[int, str]]:
    """Yield (line number, statement); a quoted text may run over several lines."""
    i = 0
    while i < len(lines):
        statement, first = lines[i], i
        i += 1
        if statement.count('"') % 2 and _KEYWORD.match(statement):
            parts = [statement]
            while i < len(lines):
                parts.append(lines[i])
                i += 1
                if lines[i - 1].count('"') % 2:
                    break
            else:
                skipped.append(f"line {first + 1}: {statement.strip()[:40]}: the quoted text never ends")
                i = first + 1
                continue
            statement = " ".join(parts)
        yield first + 1, statement.strip()


def _take(draft: _Draft, line: int, statement: str) -> None:
    found = _KEYWORD.match(statement)
    if not found:
        return
    draft.lines_known += 1
    reader = _READERS.get(found[1])
    if reader is None:
        return
    why = reader(draft, line, statement)
    if why:
        draft.skipped.append(f"line {line}: {statement[:60]}: {why}")


def _message(draft: _Draft, line: int, statement: str) -> str | None:
    m = _BO.match(statement)
    if not m:
        return None if statement == "BO_" else "not a message line (BO_ number name: length sender)"
    draft.section = "skipped"
    number, name, length = int(m[1]), m[2], int(m[3])
    if name == ORPHANS:
        return None
    identifier, extended = number & ~EXTENDED_BIT, bool(number & EXTENDED_BIT)
    if number >= 1 << 32 or identifier > MAX_EXTENDED_ID:
        return f"no CAN identifier is as large as 0x{identifier:X}; its signals are skipped too"
    draft.section = "kept"
    draft.messages.append((number, Message(name, identifier, extended or identifier > MAX_STANDARD_ID, length)))
    draft.signals.append([])
    if identifier > MAX_STANDARD_ID and not extended:
        return f"identifier 0x{identifier:X} needs 29 bits but lacks the mark for it; taken as a 29-bit identifier"
    return "a name that starts with a digit; kept" if name[0].isdigit() else None


def _signal(draft: _Draft, line: int, statement: str) -> str | None:
    if draft.section != "kept":
        return "belongs to no message" if not draft.section and ":" in statement else None
    m = _SG.match(statement)
    if not m:
        return "not a signal line (SG_ name : start|length@order (scale,offset) [min|max] unit)"
    try:
        scale, offset = _number(m["scale"]), _number(m["offset"])
        minimum, maximum = _number(m["minimum"] or "0"), _number(m["maximum"] or "0")
    except ValueError:
        return "scale, offset, minimum or maximum is not a number"
    if int(m["length"]) == 0:
        return "a signal of 0 bits"
    name = m["name"]
    if any(s.name == name for s, _ in draft.signals[-1]):
        return "its message has a signal of this name already; the first is kept"
    unlimited = minimum == maximum == 0
    signal = Signal(
        name=name,
        start=int(m["start"]),
        length=int(m["length"]),
        big_endian=m["order"] == "0",
        signed=m["sign"] == "-",
        scale=scale,
        offset=offset,
        minimum=None if unlimited else minimum,
        maximum=None if unlimited else maximum,
        unit=m["unit"] or "",
        multiplexer=bool(m["mux"] and m["mux"].endswith("M")),
    )
    draft.signals[-1].append((signal, m["mux"]))
    if name[0].isdigit():
        return "a name that starts with a digit; kept"
    if any(_BARE_POINT.match(m[part] or "") for part in ("scale", "offset", "minimum", "maximum")):
        return "a number without a digit before its point; read as if 0 stood there"
    return None


def _value_type(draft: _Draft, line: int, statement: str) -> str | None:
    m = _VALTYPE.match(statement)
    if not m:
        return None if statement == "SIG_VALTYPE_" else "not a value type (SIG_VALTYPE_ number signal : type)"
    draft.float_types[int(m[1]), m[2]] = int(m[3])
    return None


def _mux_values(draft: _Draft, line: int, statement: str) -> str | None:
    m = _MUL_VAL.match(statement)
    if not m:
        return None if statement == "SG_MUL_VAL_" else "not a list of multiplexer values"
    ranges = [(int(low), int(high)) for low, high in re.findall(r"(\d+)\s*-\s*(\d+)", m[4])]
    draft.mux_values[int(m[1]), m[2]] = (m[3], ranges)
    return None


def _values(draft: _Draft, line: int, statement: str) -> str | None:
    m = _VALUES.match(statement)
    if m:
        draft.value_names.append((line, int(m[1]), m[2]))
    return None


def _comment(draft: _Draft, line: int, statement: str) -> str | None:
    if statement != "CM_" and not _COMMENT.match(statement):
        return "a comment that does not say what it is about; skipped"
    if statement.endswith('"'):
        return "a comment without its closing semicolon; ended at the quote"
    return None


def _attribute(draft: _Draft, line: int, statement: str) -> str | None:
    m = _ATTRIBUTE.match(statement)
    if m:  # other attributes (nodes, network) do not concern a decoder
        number = m[3] or m[5]
        draft.attributes[m[1], int(number) if number else None, m[6]] = m[7].strip('"')
    return None


def _attribute_default(draft: _Draft, line: int, statement: str) -> str | None:
    m = _ATTRIBUTE_DEFAULT.match(statement)
    if m:
        draft.defaults[m[1]] = m[2].strip('"')
    return None


def _attribute_definition(draft: _Draft, line: int, statement: str) -> str | None:
    m = _ENUM.match(statement)
    if m:
        draft.frame_formats = tuple(re.findall(r'"([^"]*)"', m[1]))
    return None


_READERS: Final = {
    "CM_": _comment,
    "VAL_": _values,
    "BO_": _message,
    "SG_": _signal,
    "SIG_VALTYPE_": _value_type,
    "SG_MUL_VAL_": _mux_values,
    "BA_": _attribute,
    "BA_DEF_": _attribute_definition,
    "BA_DEF_DEF_": _attribute_default,
}


def _number(text: str) -> float:
    """Read a number as DBC files write it: whole numbers stay exact integers, `.25` and `1E-2` are numbers too."""
    text = text.strip()
    try:
        return int(text)
    except ValueError:
        return float(text)


def _finish(draft: _Draft, i: int) -> Message:
    """Give message `i` its signals, with multiplexing, float types and long names resolved."""
    number, message = draft.messages[i]
    marked = draft.signals[i]
    multiplexers = [s.name for s, mark in marked if mark and mark.endswith("M")]
    signals = []
    for signal, mark in marked:
        kind = draft.float_types.pop((number, signal.name), 0)
        is_float = kind in (1, 2)
        if is_float and signal.length not in (32, 64):
            draft.skipped.append(
                f"message {message.name}: {signal.name}: a float of {signal.length} bits; signal skipped"
            )
            continue
        selector, ranges = _selection(draft, number, signal, mark, multiplexers)
        long_name = draft.attributes.get(("SystemSignalLongSymbol", number, signal.name), signal.name)
        signals.append(replace(signal, name=long_name, is_float=is_float, selector=selector, selected_by=ranges))
    named = {s.name: s for s in signals}
    signals = [replace(s, multiplexer=True) if any(o.selector == s.name for o in signals) else s for s in signals]
    for s in [s for s in signals if s.selector is not None and s.selector not in named]:
        draft.skipped.append(
            f"message {message.name}: {s.name}: its multiplexer {s.selector} is absent; signal skipped"
        )
        signals.remove(s)
    unclear = {s.name for s, mark in marked if mark and mark.startswith("m")}
    draft.skipped.extend(
        f"message {message.name}: {s.name}: multiplexed, but nothing says by what; taken as always present"
        for s in signals
        if s.name in unclear and s.selector is None and not s.multiplexer
    )
    name = draft.attributes.get(("SystemMessageLongSymbol", number, None), message.name)
    return replace(message, name=name, j1939=_is_j1939(draft, number, message), signals=tuple(signals))


def _selection(
    draft: _Draft, number: int, signal: Signal, mark: str | None, multiplexers: list[str]
) -> tuple[str | None, tuple[tuple[int, int], ...]]:
    """Say which multiplexer selects `signal`, at which values; (None, ()) when it is always present."""
    said = draft.mux_values.pop((number, signal.name), None)
    own = [(int(mark[1:].rstrip("M")),) * 2] if mark and mark[1:].rstrip("M") else []
    selector = None
    if said is not None:
        # the list supersedes the mark, which cannot hold more than one value
        selector, ranges = said
    elif mark and mark.startswith("m") and len(multiplexers) == 1 and multiplexers[0] != signal.name:
        selector, ranges = multiplexers[0], own
    if selector is None or not ranges:
        return None, ()
    long_name = draft.attributes.get(("SystemSignalLongSymbol", number, selector), selector)
    return long_name, tuple(ranges)


def _is_j1939(draft: _Draft, number: int, message: Message) -> bool:
    """Follow Vector's marks: the message's frame format, else the default format, else the network's protocol."""
    if not message.extended:
        return False
    own = draft.attributes.get(("VFrameFormat", number, None))
    if own is not None:
        if own.isdigit() and int(own) < len(draft.frame_formats):
            own = draft.frame_formats[int(own)]
        return own == "J1939PG"
    if draft.defaults.get("VFrameFormat"):
        return draft.defaults["VFrameFormat"] == "J1939PG"
    protocol = draft.attributes.get(("ProtocolType", None, None), draft.defaults.get("ProtocolType", ""))
    return protocol.upper().startswith("J1939")


def _say_duplicates(draft: _Draft, messages: tuple[Message, ...]) -> None:
    seen: dict[tuple[int, bool], str] = {}
    for m in messages:
        if (m.id, m.extended) in seen:
            draft.skipped.append(
                f"message {m.name}: identifier 0x{m.id:X} was used by {seen[m.id, m.extended]}; the last one decodes"
            )
        seen[m.id, m.extended] = m.name


def _say_orphans(draft: _Draft) -> None:
    """Report facts about signals that do not exist."""
    for number, name in [*draft.float_types, *draft.mux_values]:
        draft.skipped.append(f"signal {name} of message number {number}: described, but not in the file")
    known = {
        (number, s.name) for (number, _), marked in zip(draft.messages, draft.signals, strict=True) for s, _ in marked
    }
    kept = {number for number, _ in draft.messages}
    for line, number, name in draft.value_names:
        if number in kept and (number, name) not in known:
            draft.skipped.append(
                f"line {line}: VAL_ {number} {name}: names the values of a signal that is not in the file"
            )
