"""What may be said to an adapter. No text that could write to a vehicle or clear its memory can become a Command.

Service 04 (clear trouble codes) is one byte long. A request for PID 04 whose first characters are lost on a bad line,
or eaten by an adapter that was still busy, would be exactly that; so no text is allowed of which any ending begins
with 04, wherever the loss may fall (docs/decisions/0110).
"""

import re
from dataclasses import dataclass
from typing import Final

READ_SERVICES: Final[dict[int, str]] = {
    0x01: "current data",
    0x02: "freeze frame",
    0x03: "stored trouble codes",
    0x07: "pending trouble codes",
    0x09: "vehicle information",
    0x0A: "permanent trouble codes",
}

# Adapter commands in use. Not among them: PP (writes EEPROM), SH (addresses other than J1979's), MA (monitoring),
# TP A (locks up clones), and an empty line, which repeats the last request.
_ADAPTER: Final = re.compile(r"AT(Z|I|@1|E0|H1|L0|S0|AT1|RV|IGN|RD|SP0|TP[1-9]|DPN|PC|FE)")
# a service, bytes, and for service 01 one more digit: after how many answers to stop waiting (ELM327 v1.3)
_REQUEST: Final = re.compile(r"(?:[0-9A-F]{2}){1,8}|01(?:[0-9A-F]{2})+[1-9]")


@dataclass(frozen=True, slots=True)
class Command:
    """One line for the adapter, sent with CR, answered within `deadline_s` or not at all.

    Raises ValueError for a text that is neither a known adapter command nor a request of a reading service.
    """

    text: str
    deadline_s: float

    def __post_init__(self) -> None:
        if not allowed(self.text):
            raise ValueError(f"'{self.text}' is no request that only reads")


@dataclass(frozen=True, slots=True)
class Listen:
    """Send nothing; take what comes until a prompt, `quiet_s` of silence, or `deadline_s`."""

    deadline_s: float
    quiet_s: float = 3600.0


def allowed(text: str) -> bool:
    """Say whether `text` may be sent: adapter commands in use, and requests that only read, even when cut in front."""
    if _ADAPTER.fullmatch(text):
        return True
    if not _REQUEST.fullmatch(text) or int(text[:2], 16) not in READ_SERVICES:
        return False
    return "04" not in text[1:]


def current_data(pids: tuple[int, ...], answers: int = 0) -> str:
    """Write a service 01 request for 1..6 PIDs; `answers` 1..9 tells the adapter after how many to stop waiting."""
    return "01" + "".join(f"{pid:02X}" for pid in pids) + (str(answers) if 0 < answers <= 9 else "")
