"""What adapters, clones, cables and cars do wrong, by name. Each row changes one thing about the fake adapter.

`heard` is what the adapter takes a command for · `instead` answers in place of the adapter (None: it answers itself)
· `told` changes what the control units say · `change` changes the bytes and their delays · `begin` happens once, when
the fault is injected.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sim.elm_car import Message

if TYPE_CHECKING:
    from sim.elm327 import FakeElm

Parts = list[tuple[float, bytes]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to go wrong, in a sentence, and what it does to the fake."""

    what: str
    heard: Callable[[str], str] | None = None
    instead: "Callable[[FakeElm, str], list[str] | None] | None" = None
    told: "Callable[[FakeElm, bytes, list[Message]], list[Message]] | None" = None
    change: "Callable[[FakeElm, str, Parts], Parts] | None" = None
    begin: "Callable[[FakeElm], None] | None" = None


def _is_request(text: str) -> bool:
    return not text.startswith("AT")


def _says(*body: str) -> "Callable[[FakeElm, str], list[str] | None]":
    """Answer every request to the vehicle with these lines."""
    return lambda fake, text: list(body) if _is_request(text) else None


def _refuses(pattern: str) -> "Callable[[FakeElm, str], list[str] | None]":
    return lambda fake, text: ["?"] if re.fullmatch(pattern, text) else None


def _every(n: int, line: str) -> "Callable[[FakeElm, str], list[str] | None]":
    """Answer every n-th request with this line."""

    def instead(fake: "FakeElm", text: str) -> list[str] | None:
        if not _is_request(text):
            return None
        turn = int(fake.notes.get(line, 0)) + 1
        fake.notes[line] = turn
        return [line] if turn % n == 0 else None

    return instead


def _bytes(change: Callable[[bytes], bytes]) -> "Callable[[FakeElm, str, Parts], Parts]":
    return lambda fake, text, parts: [(delay_s, change(raw)) for delay_s, raw in parts]


def _answers_only(change: Callable[[bytes], bytes]) -> "Callable[[FakeElm, str, Parts], Parts]":
    return lambda fake, text, parts: [(d, change(raw)) for d, raw in parts] if _is_request(text) else parts


def _late(fake: "FakeElm", text: str, parts: Parts) -> Parts:
    return [(delay_s + 1.5, raw) for delay_s, raw in parts] if text in ("ATE0", "ATH1", "ATL0") else parts


def _garbage(fake: "FakeElm", text: str, parts: Parts) -> Parts:
    chance = random.Random(len(fake.sent))
    return [(0.0, bytes(chance.randrange(256) for _ in range(40)))]


def _drops(raw: bytes) -> bytes:
    chance = random.Random(raw)
    return bytes(b for b in raw if b == 0x3E or chance.random() > 0.08)


def _dropped_pairs(raw: bytes) -> bytes:
    """Lose two characters in the middle of each answer, so that lengths stay even."""
    return re.sub(rb"(41[ 0-9A-F]{3,6})[0-9A-F]{2}", rb"\1", raw)


def _flood(fake: "FakeElm", text: str, parts: Parts) -> Parts:
    return [(0.0005, b"7E8 03 41 0D")] * 4000 if _is_request(text) else parts


def _cut(fake: "FakeElm", text: str, parts: Parts) -> Parts:
    """Break off in the middle of answers of several lines, with BUFFER FULL."""
    return [
        (d, raw[: len(raw) // 2] + b"\rBUFFER FULL\r\r>") if len(raw) > 40 and _is_request(text) else (d, raw)
        for d, raw in parts
    ]


def _marked(mark: bytes) -> "Callable[[FakeElm, str, Parts], Parts]":
    return _answers_only(lambda raw: re.sub(rb" ?\r", mark + b"\r", raw, count=1))


def _previous(fake: "FakeElm", text: str, parts: Parts) -> Parts:
    """Give each request the answer of the one before."""
    if not _is_request(text):
        return parts
    before: Parts = fake.notes.get("previous", [(0.0, b"\r>")])
    fake.notes["previous"] = parts
    return before


def _freezes(fake: "FakeElm", text: str, parts: Parts) -> Parts:
    """Stop in the middle of a long answer until the reset."""
    if text == "ATZ":
        fake.notes["frozen"] = False
    if fake.notes.get("frozen"):
        return []
    if text == "0902":
        fake.notes["frozen"] = True
        return [(0.0, parts[0][1][:30])]
    return parts


def _two_bytes(text: str) -> str:
    return text[:4] if _is_request(text) else text


def _dip(words: bytes) -> "Callable[[FakeElm], None]":
    """Lose all settings at once, and say so unasked."""

    def begin(fake: "FakeElm") -> None:
        fake.reset()
        fake.say(0, b"\r\r" + words + b"\r\r>")

    return begin


def _err94(fake: "FakeElm", text: str) -> list[str] | None:
    """Report the fatal CAN error once, lose all settings, block CAN until ATFE."""
    if not _is_request(text) or fake.notes.get("err94"):
        return None
    fake.notes["err94"] = True
    fake.reset()
    fake.can_blocked = True
    return ["ERR94"]


def _asleep(fake: "FakeElm", text: str) -> list[str] | None:
    """Announce sleep once; the next command only wakes it, with settings lost."""
    if not _is_request(text) or fake.notes.get("asleep"):
        return None
    fake.notes["asleep"] = True
    fake.reset()
    return ["LP ALERT"]


def _unplug(fake: "FakeElm") -> None:
    fake.gone = True


def _sleeps(fake: "FakeElm") -> None:
    fake.car.awake = False


def _clone(fake: "FakeElm") -> None:
    fake.name = "ELM327 v1.5"


def _reversed(fake: "FakeElm", request: bytes, messages: list[Message]) -> list[Message]:
    return messages[::-1]


def _negative(fake: "FakeElm", request: bytes, messages: list[Message]) -> list[Message]:
    return [Message(m.unit, bytes((0x7F, request[0], 0x12))) for m in messages]


def _single(fake: "FakeElm", request: bytes, messages: list[Message]) -> list[Message]:
    return messages if len(request) <= 2 else []


def _full_speed(fake: "FakeElm", request: bytes, messages: list[Message]) -> list[Message]:
    speed = re.compile(rb"^\x41\x0d.", re.DOTALL)
    return [Message(m.unit, speed.sub(b"\x41\x0d\xff", m.payload)) for m in messages]


def _no_throttle(fake: "FakeElm", request: bytes, messages: list[Message]) -> list[Message]:
    if request[0] != 0x01 or 0x11 not in request[1:]:
        return messages
    return fake.car.answer(request.replace(b"\x11", b""), fake.now_ns)


FAULTS: Final[dict[str, Fault]] = {
    # the adapter falls silent or raves
    "silent": Fault("says nothing any more", change=lambda fake, text, parts: []),
    "garbage": Fault("answers 40 random bytes", change=_garbage),
    "no_prompt": Fault("never gives its prompt", change=_bytes(lambda raw: raw.replace(b">", b""))),
    "endless": Fault("keeps talking and gives no prompt", change=_flood),
    "frozen": Fault("stops in the middle of the VIN until the next reset", change=_freezes),
    "unplugged": Fault("its plug is pulled", begin=_unplug),
    # its settings
    "lv_reset": Fault("starts again after a dip of the supply", begin=_dip(b"LV RESET")),
    "restarted": Fault("starts again without a reason", begin=_dip(b"ELM327 v2.1")),
    "act_alert": Fault("threatens to go to sleep", begin=lambda fake: fake.say(0, b"!ACT ALERT\r\r>")),
    "lp_alert": Fault("goes to sleep and loses its settings", instead=_asleep),
    "err94": Fault("fatal CAN error once; CAN blocked until ATFE", instead=_err94),
    "err93": Fault("an internal error at every fifth request", instead=_every(5, "ERR93")),
    # what it reports
    "stopped": Fault("STOPPED at every fifth request", instead=_every(5, "STOPPED")),
    "buffer_full": Fault("longer answers break off with BUFFER FULL", change=_cut),
    "data_error": Fault("every answer is marked <DATA ERROR", change=_marked(b"<DATA ERROR")),
    "rx_error": Fault("every answer is marked <RX ERROR", change=_marked(b"<RX ERROR")),
    "some_data_error": Fault("DATA ERROR at every fourth request", instead=_every(4, "DATA ERROR")),
    "can_error": Fault("CAN ERROR to every request", instead=_says("CAN ERROR")),
    "bus_error": Fault("BUS ERROR to every request", instead=_says("BUS ERROR")),
    "bus_busy": Fault("BUS BUSY to every request", instead=_says("BUS BUSY")),
    "fb_error": Fault("FB ERROR to every request", instead=_says("FB ERROR")),
    "bus_init_error": Fault("the K-line does not wake anyone", instead=_says("BUS INIT: ...ERROR")),
    "unable_to_connect": Fault("no protocol works", instead=_says("SEARCHING...", "UNABLE TO CONNECT")),
    "not_connected": Fault("a clone's words for no vehicle", instead=_says("NOT CONNECTED")),
    "no_data": Fault("NO DATA to every request", instead=_says("NO DATA")),
    "strange_words": Fault("a text of no data sheet to every request", instead=_says("ADAPTER BUSY HOLD ON")),
    # quirks of clones
    "late_ok": Fault("says OK 1.5 s late", change=_late),
    "echo_on": Fault("ATE0 says OK and is not obeyed", heard=lambda text: "ATAT1" if text == "ATE0" else text),
    "nul_bytes": Fault(
        "NUL bytes between the characters",
        change=_bytes(lambda raw: bytes(b for c in raw for b in (c, 0))),
    ),
    "lower_case": Fault("writes hex digits small", change=_bytes(bytes.lower)),
    "line_feeds": Fault(
        "ends lines with LF alone", change=_bytes(lambda raw: raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
    ),
    "joined_lines": Fault(
        "leaves out the line ends between answers", change=_answers_only(lambda raw: raw.replace(b"\r", b"", 1))
    ),
    "loses_characters": Fault("loses one character in twelve", change=_answers_only(_drops)),
    "loses_bytes": Fault("loses two hex digits in each answer", change=_answers_only(_dropped_pairs)),
    "two_bytes": Fault("drops request bytes beyond two", heard=_two_bytes),
    "no_count": Fault("does not understand the count of answers", instead=_refuses(r"(?:[0-9A-F]{2})+[0-9A-F]")),
    "no_headers": Fault("refuses ATH1", instead=_refuses("ATH1")),
    "spaces_stay": Fault("refuses ATS0", instead=_refuses("ATS0")),
    "no_voltage": Fault("refuses ATRV", instead=_refuses("ATRV")),
    "no_protocol_number": Fault("refuses ATDPN", instead=_refuses("ATDPN")),
    "version_1_5": Fault("a v1.5, and lacks commands", begin=_clone, instead=_refuses("AT@1|ATIGN|ATRD|ATAT1")),
    "off_by_one": Fault("each request gets the answer of the one before", change=_previous),
    # the car
    "asleep": Fault("ignition off: nothing answers", begin=_sleeps),
    "swapped_units": Fault("the second unit answers first", told=_reversed),
    "one_pid": Fault("the car answers one PID in a request", told=_single),
    "negative": Fault("every answer is 7F xx 12", told=_negative),
    "speed_255": Fault("speed is FF", told=_full_speed),
    "claims_throttle": Fault("PID 11 is claimed and never answered", told=_no_throttle),
}
