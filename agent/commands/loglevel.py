"""The command `log_level`: the agent writes more, or less, into its log for a stated time, and then as before.

Nothing of it outlives the process: an agent that is started anew writes as it always does.
"""

import logging
from typing import ClassVar, Final

import msgspec

from agent.clock import NS_PER_S
from agent.commandmessages import Command, LevelArguments
from agent.commands.commands import Answer
from agent.known import known
from agent.records import Reply

OURS: Final = ("agent", "drivers")  # the loggers of our own packages; libraries' stay as they are
LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}
OVER: Final = "the agent writes its log as before"
STARTED: Final = "the agent was started anew and writes its log as always"
REPLACED: Final = "another command has set the level since"


class LogLevel:
    """Sets the level of our own loggers; one thread, that of the clerk, may call it. One that is made puts it back."""

    _before: ClassVar[dict[str, int]] = {}  # levels to go back to: loggers belong to the process

    def __init__(self) -> None:
        self._put_back()
        self._at_work = ""  # the command that set the present ones …
        self._until_ns = 0  # … and when its time is over

    def begin(self, command: Command, now_ns: int) -> Answer:
        """Set the level."""
        try:
            wanted = msgspec.convert(command.arguments, known(LevelArguments))
        except msgspec.ValidationError as e:
            return Answer("refused", f"its arguments are not those of log_level: {e}")
        for name in OURS:
            self._before.setdefault(name, logging.getLogger(name).level)
            logging.getLogger(name).setLevel(LEVELS[wanted.level])
        self._at_work, self._until_ns = command.id, now_ns + wanted.seconds * NS_PER_S
        return Answer("accepted", f"{wanted.level} for {wanted.seconds} s")

    def look(self, accepted: Reply, now_ns: int) -> Answer | None:
        """Go back when the time is over."""
        if not self._at_work:
            return Answer("done", STARTED)
        if accepted.id != self._at_work:
            return Answer("done", REPLACED)
        if now_ns < self._until_ns:
            return None
        self._put_back()
        self._at_work = ""
        return Answer("done", OVER)

    def _put_back(self) -> None:
        for name, level in self._before.items():
            logging.getLogger(name).setLevel(level)
        self._before.clear()
