"""The command `restart_agent`: the agent ends as it should, its supervisor starts it again, and that is the answer.

It waits for the end of a trip, so that nothing that is driven is missed.
"""

from typing import Final

from agent.commandmessages import Command, NoArguments
from agent.commands.arguments import refusal
from agent.commands.commands import Answer
from agent.house import House
from agent.records import Reply

DONE: Final = "the agent was started anew"


class RestartAgent:
    """Ends the daemon that it runs in; one thread, that of the clerk, may call it."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._ours: set[str] = set()  # taken up by this process, which still has to end

    def begin(self, command: Command, now_ns: int) -> Answer:
        """Accept; the daemon ends only after that was told."""
        wrong = refusal(command, NoArguments)
        if wrong:
            return Answer("refused", wrong)
        self._ours.add(command.id)
        busy = self._house.busy()
        return Answer("accepted", f"waits: {busy}" if busy else "ends and is started again")

    def look(self, accepted: Reply, now_ns: int) -> Answer | None:
        """End the daemon once it may; a process that did not take the command up is the new one."""
        if accepted.id not in self._ours:
            return Answer("done", DONE)
        if not self._house.busy():
            self._house.end()
        return None
