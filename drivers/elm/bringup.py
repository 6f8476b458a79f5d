"""From an open port to an adapter that answers as we want it: its rate, reset, settings, and what it can do."""

import re
from collections.abc import Callable
from typing import Final

from agent.errors import DriverError
from drivers.elm.command import Command
from drivers.elm.dialogue import Adapter, AdapterLost, Dialogue, Script
from drivers.elm.reply import DISOBEYED, Reply

# In the order of python-OBD, which is that of how often they are met (reference/domain.md F3).
BAUDS: Final = (38400, 9600, 230400, 115200, 57600, 19200)

_NAME: Final = re.compile(r"(ELM ?3\d\d\s*V?\s*(\d+)\.(\d+)\w?|(?:OBDLINK|STN|VGATE|VLINK)[\w .]*)")
_VOLTS: Final = re.compile(r"(\d{1,2}\.\d{1,2}) ?V?")
NEVER_MADE: Final = (1, 5)  # Elm Electronics never made a v1.5: who says so is a clone

# Harmless questions and the version of the data sheet from which on an ELM327 must understand them.
PROBES: Final[tuple[tuple[str, tuple[int, int]], ...]] = (
    ("AT@1", (1, 0)),
    ("ATAT1", (1, 2)),
    ("ATIGN", (1, 4)),
    ("ATRD", (1, 4)),
)


def find_baud(d: Dialogue, set_baud: Callable[[int], None], bauds: tuple[int, ...], port: str) -> Script[int]:
    """Try rates until something readable comes back; raise DriverError when none does.

    The first rate is tried twice: the first character may have woken the adapter up.
    """
    for baud in (bauds[0], *bauds):
        set_baud(baud)
        reply = yield Command("ATI", d.timing.identify_s)
        if _readable(reply):
            d.set_prompts(reply.prompted)
            return baud
    raise DriverError(
        f"{port}: no adapter answers at {', '.join(map(str, bauds))} baud; check that it has power and is an ELM327"
    )


def bring_up(d: Dialogue, port: str) -> Script[None]:
    """Reset and set the adapter, and write into `d.adapter` what it is; raise DriverError when it stays silent."""
    d.adapter = Adapter(baud=d.adapter.baud, prompts=d.adapter.prompts)
    reply = yield from d.ask("ATZ", d.timing.reset_s)
    if not _readable(reply):
        reply = yield from d.command("ATI")
    if not _readable(reply):
        raise DriverError(f"{port}: the adapter does not answer after its reset; unplug it and plug it in again")
    adapter = d.adapter
    found = _NAME.search(reply.text)
    if found is None:
        found = _NAME.search((yield from d.command("ATI")).text)
    adapter.name = found.group(1) if found else ""
    version = (int(found.group(2)), int(found.group(3))) if found and found.group(2) else None

    yield from _obeyed(d, "ATE0")
    adapter.headers = yield from _obeyed(d, "ATH1")
    yield from _obeyed(d, "ATL0")
    adapter.spaces = not (yield from _obeyed(d, "ATS0"))
    adapter.voltage = (yield from voltage(d)) is not None
    for text, since in PROBES:
        reply = yield from d.command(text)
        adapter.echo |= reply.echoed
        if version is not None and version >= since and (not reply.lines or reply.text == "?"):
            adapter.refused.append(text)
    adapter.clone = version == NEVER_MADE or bool(adapter.refused)


def voltage(d: Dialogue) -> Script[tuple[int, float] | None]:
    """Ask for the supply voltage: (t_ns, V), None where the adapter cannot say."""
    reply = yield from d.command("ATRV")
    for t_ns, line in reply.lines:
        found = _VOLTS.fullmatch(line)
        if found:
            return (reply.sent_ns + t_ns) // 2, float(found.group(1))
    return None


def _obeyed(d: Dialogue, text: str) -> Script[bool]:
    """Give an order: True for OK, False for a clear '?'; AdapterLost for anything else.

    Twice if need be: on some clones the first order after a reset is lost.
    """
    reply = yield from d.command(text)
    if not reply.ok:
        reply = yield from d.command(text)
    if not reply.ok and "?" not in reply.text:
        raise AdapterLost(DISOBEYED, text)
    return reply.ok


def _readable(reply: Reply) -> bool:
    """Say whether this is an adapter at the right rate: its name, or a prompt after plain text."""
    text = reply.text
    plain = bool(text) and "\ufffd" not in text and all(" " <= c <= "~" or c == "\n" for c in text)
    return plain and (reply.prompted or _NAME.search(text) is not None)
