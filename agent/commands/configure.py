"""The command `config`: values laid over agent.toml, checked, put in force by a start, kept once the box was heard.

Whether they are kept is watched by the start that has them (Trial), also where the command was forgotten meanwhile.
"""

import json
import logging
from typing import Any, Final

import msgspec

from agent.clock import NS_PER_S
from agent.commandmessages import Command, ConfigArguments
from agent.commands.commands import Answer
from agent.commands.settings import CommandSettings
from agent.config import read_toml, settings_file
from agent.errors import ConfigError, StoreError
from agent.house import House
from agent.known import known
from agent.link import parse_url
from agent.overlay import MOST_BYTES, VALUES, Change, Overlay, keys, laid_over, parsed, without
from agent.records import Reply
from agent.settings import overlaid

log = logging.getLogger(__name__)

RETRY_NS: Final = 5 * NS_PER_S
OTHER: Final = "another change is on trial; ask again when that is over"
GONE: Final = f"{VALUES} was changed by somebody else since"


class Configure:
    """Obeys `config`; one thread, that of the clerk, may call it."""

    def __init__(self, house: House, settings: CommandSettings) -> None:
        self._house = house
        self._settings = settings
        self._overlay = Overlay(house.folder)

    def begin(self, command: Command, now_ns: int) -> Answer:
        """Check what is wanted as a start of the agent would, and write it down."""
        try:
            wanted = msgspec.convert(command.arguments, known(ConfigArguments))
        except msgspec.ValidationError as e:
            return Answer("refused", f"its arguments are not those of config: {e}")
        last = self._overlay.change()
        if last is not None and last.id == command.id:  # power went before the reply was written
            return Answer("failed", last.why) if last.state == "dropped" else Answer("accepted", _told(wanted))
        if last is not None and last.state in ("trial", "dropping"):
            return Answer("failed", OTHER)
        try:
            named = parsed(wanted.toml, "what is asked for")
            let = [*keys(named), *wanted.drop]
            barred = sorted(key for key in let if not self._settings.changeable(key))
            if barred or not let:
                why = f"{barred[0]} is not changed by command here" if barred else "it names no key"
                return Answer("refused", f"{why}; [commands] config_keys: {', '.join(self._settings.config_keys)}")
            before = self._overlay.text()
            text = _text(_wanted(self._overlay.table(), named, wanted.drop))
            path = self._house.config or settings_file("agent.toml")
            parse_url(overlaid(read_toml(path), parsed(text, VALUES), path).broker.url)
        except ConfigError as wrong:
            return Answer("refused", str(wrong))
        if len(text) > MOST_BYTES:
            return Answer("refused", f"all that was changed would be more than {MOST_BYTES} bytes")
        self._overlay.begin(Change(id=command.id, state="trial", wanted=text, before=before, within_s=wanted.within_s))
        return Answer("accepted", _told(wanted))

    def look(self, accepted: Reply, now_ns: int) -> Answer | None:
        """Say whether the values were kept; have the agent started with them once it may end."""
        change = self._overlay.change()
        if change is None or change.id != accepted.id:
            return Answer("failed", GONE)
        if change.state == "kept":
            return Answer("done", f"in force and heard from: {accepted.detail}")
        if change.state == "dropped":
            return Answer("failed", f"taken back: {change.why}")
        if not change.starts and not self._house.busy():
            self._house.end()
        return None


class Trial:
    """Watches values on trial in the process that was started with them; one thread may call it."""

    def __init__(self, house: House, now_ns: int) -> None:
        self._house = house
        self._overlay = Overlay(house.folder)
        change = self._overlay.change()
        begun = change is not None and change.starts > 0 and change.state in ("trial", "dropping")
        self._change = change if begun else None
        self._seen_ns = now_ns
        self._waited_ns = 0
        self._retry_ns = 0

    def tend(self, now_ns: int) -> None:
        """Keep the values once the receiver has answered; take them back, and end, where it did not in time."""
        passed_ns, self._seen_ns = now_ns - self._seen_ns, now_ns
        heard = self._house.heard()
        if self._change is None or heard is None or now_ns < self._retry_ns:
            return
        self._waited_ns += passed_ns
        try:
            if heard:
                self._overlay.keep()
                log.warning("settings that were changed from afar are kept: the receiver answers")
                self._change = None
            elif self._waited_ns >= self._change.within_s * NS_PER_S:
                self._overlay.drop(f"the receiver did not answer within {self._change.within_s} s")
                self._change = None
                self._house.end()  # a trip is closed and taken up again: a box that nobody hears is worse
        except StoreError as trouble:
            log.error("%s; tried again", trouble)
            self._retry_ns = now_ns + RETRY_NS


def _wanted(table: dict[str, Any], named: dict[str, Any], drop: list[str]) -> dict[str, Any]:
    """Return the values that differ from agent.toml afterwards."""
    for key in drop:
        table = without(table, key)
    return laid_over(table, named)


def _text(table: dict[str, Any], prefix: str = "") -> str:
    """Write a table as TOML, a dotted key a line; JSON writes strings, numbers, booleans and lists of them likewise."""
    lines = ""
    for key, value in sorted(table.items()):
        if isinstance(value, dict):
            lines += _text(value, f"{prefix}{key}.")
        else:
            lines += f"{prefix}{key} = {json.dumps(value, ensure_ascii=False, default=str)}\n"
    return lines


def _told(wanted: ConfigArguments) -> str:
    said = [key for key in keys(parsed(wanted.toml, "")) if key] + [f"without {key}" for key in wanted.drop]
    return ", ".join(said)[:150]
