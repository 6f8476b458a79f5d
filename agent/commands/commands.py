"""Commands: each is judged by its signature, its time and the owner's policy, obeyed at most once, and answered.

What a device was told before it knows by the replies in its store alone: a reply is written before anything else can
be seen of a command, except that its work stands on disk under the command's own name, so that doing it again after a
power cut changes nothing. What no trusted key signed is counted and never answered: a stranger could fill the store.
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Literal, NamedTuple, Protocol

from agent import commandmessages as wire
from agent.clock import NS_PER_S, iso_utc
from agent.commandmessages import LONGEST_LIFE_NS, Command
from agent.commands.inbox import Inbox
from agent.commands.policy import Policy
from agent.commands.settings import CommandSettings
from agent.errors import StoreError
from agent.messages import MessageError
from agent.records import Health, Reply, ReplyState
from agent.store import Store
from agent.store.reading import Utc

log = logging.getLogger(__name__)

SURE: Final = ("ntp", "gnss")  # qualities of time by which an expiry can be judged
# Two clocks that are both right by NTP or satellites differ by less than a second; minutes are for badly kept servers.
AHEAD_NS: Final = 600 * NS_PER_S
MOST_WAITING: Final = 32  # commands that wait for the time to be known, or for the disk
DAY_NS: Final = 86_400 * NS_PER_S
RETRY_NS: Final = 5 * NS_PER_S  # after a disk that refused, as agent.patience
MOST_TRIES: Final = 12  # of one command: a minute of refusals, then its sender is told and may ask again
SOURCE: Final = "commands"

REPEATED: Final = "command was had before"
TOO_MANY: Final = "too many commands wait"
DAY_FULL: Final = "the day's commands are answered"
EXPIRED: Final = "command expired long ago"


class Answer(NamedTuple):
    """What came of a command so far."""

    state: ReplyState
    detail: str
    incident: str | None = None


class Work(Protocol):
    """What obeys one kind of command."""

    def begin(self, command: Command, now_ns: int) -> Answer:
        """Take a command up; the same one again, after a power cut, must change nothing. Raise StoreError or OSError
        where the disk refuses: it is tried again, MOST_TRIES times in all.
        """

    def look(self, accepted: Reply, now_ns: int) -> Answer | None:
        """Say what came of an accepted command; None while it goes on. May raise as `begin` does."""


class _Heard(NamedTuple):
    command: Command
    key: str


class _Tried(NamedTuple):
    times: int = 0  # in a row that it was refused
    again_ns: int = 0


class Commands:
    """Tends the commands of one device; `tend` belongs to one thread, `inbox` takes from any."""

    def __init__(
        self,
        store: Store,
        boot: str,
        settings: CommandSettings,
        inbox: Inbox,
        works: Mapping[str, Work],
        policy: Policy,
        on_health: Callable[[Health], None] | None = None,
    ) -> None:
        self._store = store
        self._boot = boot
        self._settings = settings
        self._inbox = inbox
        self._works = works
        self._policy = policy
        self._on_health = on_health or (lambda _: None)
        self._trusted = frozenset(settings.keys)
        self._waiting: dict[str, _Heard] = {}
        self._open = {reply.id: reply for reply in store.replies.open()}
        self._answered: deque[int] = deque()  # when commands were answered in the last day
        self._tried: dict[str, _Tried] = {}  # commands that the disk refuses; the others go on
        self._retry_ns = 0
        self.counts: dict[str, int] = {}  # what was not answered, by reason

    @property
    def busy(self) -> bool:
        """Say whether a command was taken up and is not over."""
        return bool(self._open)

    def tend(self, now_ns: int) -> bool:
        """Hear what came, take up what can be judged, tell what is over; say whether anything was told.

        Trouble is logged and tried again, never raised.
        """
        payloads, too_large, too_many = self._inbox.take()
        for reason, dropped in ((wire.TOO_LARGE, too_large), (TOO_MANY, too_many)):
            if dropped:
                self._count(reason, now_ns, dropped)
        for payload in payloads:
            self._hear(payload, now_ns)
        if now_ns < self._retry_ns or not (self._waiting or self._open):
            return False
        told = False
        try:
            told = self._take_up(now_ns)
            for reply in list(self._open.values()):
                answer = self._try(reply.id, partial(self._look, reply, now_ns), now_ns)
                if answer is not None:
                    self._tell(reply, answer, now_ns)
                    told = True
        except (StoreError, OSError) as trouble:
            log.warning("commands: %s; tried again", trouble)
            self._retry_ns = now_ns + RETRY_NS
        return told

    # hearing

    def _hear(self, payload: bytes, now_ns: int) -> None:
        try:
            command, key = wire.decode_command(payload, self._trusted)
        except MessageError as e:
            self._count(str(e), now_ns)
            return
        if command.device != self._store.device:
            self._count(wire.OTHER_DEVICE, now_ns)
        elif command.id in self._waiting:
            self._count(REPEATED, now_ns)
        elif len(self._waiting) >= MOST_WAITING:
            self._count(TOO_MANY, now_ns)
        else:
            self._waiting[command.id] = _Heard(command, key)

    def _take_up(self, now_ns: int) -> bool:
        """Answer the waiting commands, as soon as the time is known for sure; say whether any was answered."""
        utc = self._store.utc_of(self._boot, now_ns) if self._waiting else None
        if utc is None or utc.quality not in SURE:
            return False
        told = False
        for heard in list(self._waiting.values()):
            command = heard.command
            if self._store.replies.answered(command.id):
                self._count(REPEATED, now_ns)
            elif utc.utc_ns - utc.uncertainty_ns >= command.expires_utc_ns + LONGEST_LIFE_NS:
                self._count(EXPIRED, now_ns)  # so old that replies to it may be forgotten: it could be sent for ever
            elif not self._may_answer(now_ns):
                self._count(DAY_FULL, now_ns)
            else:
                answer = self._try(command.id, partial(self._judge, command, utc, now_ns), now_ns)
                if answer is None:
                    continue
                self._tell(_reply(heard), answer, now_ns)
                self._answered.append(now_ns)
                told = True
            del self._waiting[command.id]
        return told

    def _judge(self, command: Command, utc: Utc, now_ns: int) -> Answer:
        if command.expires_utc_ns - command.issued_utc_ns > LONGEST_LIFE_NS:
            return Answer("refused", f"it was to be heeded for more than {LONGEST_LIFE_NS // DAY_NS} days")
        if utc.utc_ns >= command.expires_utc_ns:
            return Answer(
                "refused", f"it expired at {iso_utc(command.expires_utc_ns)}, and it is {iso_utc(utc.utc_ns)}"
            )
        if command.issued_utc_ns > utc.utc_ns + utc.uncertainty_ns + AHEAD_NS:
            return Answer(
                "refused", f"it is from the future: issued {iso_utc(command.issued_utc_ns)} by its own account"
            )
        if command.command not in self._works:
            return Answer("refused", f"this device knows no command '{command.command}'")
        refusal = self._policy(command)
        return Answer("refused", refusal) if refusal else self._works[command.command].begin(command, now_ns)

    def _look(self, accepted: Reply, now_ns: int) -> Answer | None:
        work = self._works.get(accepted.command)
        return None if work is None else work.look(accepted, now_ns)

    def _try(self, id_: str, work: Callable[[], Answer | None], now_ns: int) -> Answer | None:
        """Return the answer of `work`, None while the disk refuses it; refused MOST_TRIES times in a row, it failed."""
        tried = self._tried.get(id_, _Tried())
        if now_ns < tried.again_ns:
            return None
        try:
            answer = work()
        except (StoreError, OSError) as trouble:
            times = tried.times + 1
            if times < MOST_TRIES:
                if times == 1:
                    log.warning("command %s: %s; tried again", id_, trouble)
                self._tried[id_] = _Tried(times, now_ns + RETRY_NS)
                return None
            answer = Answer("failed", f"the device tried {times} times: {trouble}")
        self._tried.pop(id_, None)
        return answer

    def _may_answer(self, now_ns: int) -> bool:
        while self._answered and self._answered[0] <= now_ns - DAY_NS:
            self._answered.popleft()
        return len(self._answered) < self._settings.per_day

    # telling

    def _tell(self, so_far: Reply, answer: Answer, now_ns: int) -> None:
        """Write a reply, durable on return."""
        reply = Reply(
            id=so_far.id,
            t_ns=now_ns,
            command=so_far.command,
            state=answer.state,
            detail=wire.one_line(answer.detail),
            actor=so_far.actor,
            reason=so_far.reason,
            key=so_far.key,
            expires_utc_ns=so_far.expires_utc_ns,
            incident=answer.incident or so_far.incident,
        )
        self._store.append([(now_ns, reply)])
        if reply.state == "accepted":
            self._open[reply.id] = reply
        else:
            self._open.pop(reply.id, None)
        level = logging.INFO if reply.state in ("accepted", "done") else logging.WARNING
        log.log(level, "command %s by %s: %s: %s", reply.command, reply.actor, reply.state, reply.detail)

    def _count(self, reason: str, now_ns: int, times: int = 1) -> None:
        """Count what is not answered; the first of each reason is told to people."""
        first = reason not in self.counts
        self.counts[reason] = self.counts.get(reason, 0) + times
        if not first or reason == REPEATED:
            return
        text = reason if self._trusted else f"{reason}: [commands] keys names nobody"
        log.warning("commands: %s; counted from now on", text)
        state: Literal["degraded"] = "degraded"
        self._on_health(Health(t_ns=now_ns, source=SOURCE, state=state, detail=text))


def _reply(heard: _Heard) -> Reply:
    """Return what every reply to a command says."""
    command = heard.command
    return Reply(
        id=command.id,
        t_ns=0,
        command=command.command,
        state="accepted",
        detail="",
        actor=command.actor,
        reason=command.reason,
        key=heard.key,
        expires_utc_ns=command.expires_utc_ns,
    )
