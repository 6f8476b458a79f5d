"""The command `restart_dashcam`: the dashcam ends as it should and its supervisor starts it again.

It waits for the end of a trip: a start costs the cameras some seconds.
"""

from pathlib import Path
from typing import Final

from agent.clock import NS_PER_S
from agent.commandmessages import Command, NoArguments
from agent.commands.arguments import refusal
from agent.commands.commands import Answer
from agent.dashcam import restarting
from agent.dashcam.segments import KEEP
from agent.house import House
from agent.records import Reply

WAIT_NS: Final = 120 * NS_PER_S  # it looks once a second, ends its segments within 5 s and is started after 2 s
DONE: Final = "the dashcam was started anew"
NONE: Final = "there is no dashcam here"
DEAF: Final = "the dashcam does not heed; see: systemctl status roadwitness-dashcam"


class RestartDashcam:
    """Asks through the folder that both share; one thread, that of the clerk, may call it."""

    def __init__(self, video: Path, house: House) -> None:
        self._video = video
        self._house = house
        self._asked: dict[str, int] = {}  # when

    def begin(self, command: Command, now_ns: int) -> Answer:
        """Accept where there is a dashcam."""
        wrong = refusal(command, NoArguments)
        if wrong:
            return Answer("refused", wrong)
        if not (self._video / KEEP).is_dir():
            return Answer("failed", NONE)
        busy = self._house.busy()
        return Answer("accepted", f"waits: {busy}" if busy else "asks the dashcam")

    def look(self, accepted: Reply, now_ns: int) -> Answer | None:
        """Ask once the trip is over; say whether the dashcam has started."""
        if accepted.id not in self._asked:
            if self._house.busy():
                return None
            restarting.ask(self._video, accepted.id)
            self._asked[accepted.id] = now_ns
            return None
        if restarting.asked(self._video) != accepted.id:
            return Answer("done", DONE)
        if now_ns - self._asked[accepted.id] < WAIT_NS:
            return None
        restarting.withdraw(self._video)
        return Answer("failed", DEAF)
