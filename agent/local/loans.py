"""Devices lent to a technician's commands: the daemon closes them, keeps them closed, and takes them back.

Nobody else opens a wire that the daemon holds. A loan ends with its connection, with its time, when a crash is being
recorded, and, where something in the vehicle is to be changed, as soon as the car moves or its engine runs. Each is
logged and told to the receiver, with who asked for it and what for.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from agent.clock import NS_PER_S
from agent.feed import Feed
from agent.local.board import Board, Wish
from agent.local.messages import CLEAR, Ended, Lent, Loan, Refusal
from agent.local.standing import RECORDING, Car
from agent.records import Health

log = logging.getLogger(__name__)

CLOSE_NS: Final = 20 * NS_PER_S  # a read ends within half a second; one that hangs is given up after 15 s
MOST: Final = 60  # loans within PERIOD_NS: each is a record that is sent
PERIOD_NS: Final = 600 * NS_PER_S

NO_DEVICES: Final = "the agent reads no device now, after repeated crashes; stop it: systemctl stop roadwitness-agent"
CRASH: Final = "a crash is being recorded, which needs every device; ask again in a minute"


@dataclass(slots=True)
class _Loan:
    """One client's device: being closed until `until_ns` is known."""

    wish: Wish
    since_ns: int
    until_ns: int | None = None


class Loans:
    """Called by the spine's thread; `tell` takes what the receiver should know."""

    def __init__(self, board: Board, feeds: Iterable[Feed], car: Car, tell: Callable[[Health], None]) -> None:
        self._board, self._feeds, self._car, self._tell = board, feeds, car, tell
        self._loans: dict[int, _Loan] = {}  # by client
        self._granted: deque[int] = deque(maxlen=MOST)

    @property
    def lent(self) -> list[Loan]:
        """Return what is lent now."""
        return [
            Loan(device=a.wish.asked.device, purpose=a.wish.asked.purpose, uid=a.wish.uid, until_ns=a.until_ns)
            for a in self._loans.values()
            if a.until_ns is not None
        ]

    def step(self, now_ns: int) -> bool:
        """Heed clients that came and went; end what is over. Say whether anything has changed."""
        before = self.lent
        while self._board.gone:
            self._end(self._board.gone.popleft(), now_ns, "")
        while self._board.wishes:
            self._begin(self._board.wishes.popleft(), now_ns)
        if self._loans:
            self._car.stays_awake(now_ns)
        for client, loan in list(self._loans.items()):
            if loan.until_ns is None:
                self._close(client, loan, now_ns)
            else:
                why = self._over(loan, loan.until_ns, now_ns)
                if why:
                    self._board.tell(client, Ended(device=loan.wish.asked.device, reason=why), last=True)
                    self._end(client, now_ns, why)
        return self.lent != before

    def end(self, now_ns: int) -> None:
        """Take everything back: the agent ends."""
        for client in list(self._loans):
            self._end(client, now_ns, "the agent ends")

    def _begin(self, wish: Wish, now_ns: int) -> None:
        feed = self._feed(wish.asked.device)
        why = self._why_not(wish, feed, now_ns)
        if why or feed is None:
            log.info("%s is not lent to user %d for %s: %s", wish.asked.device, wish.uid, wish.asked.purpose, why)
            self._board.tell(wish.client, Refusal(reason=why), last=True)
            return
        self._granted.append(now_ns)
        self._loans[wish.client] = _Loan(wish, now_ns)
        feed.lend()

    def _why_not(self, wish: Wish, feed: Feed | None, now_ns: int) -> str:
        """Return the reason for which a device is not lent, "" where it is."""
        asked = wish.asked
        if feed is None:
            names = ", ".join(f.name for f in self._feeds)
            return f"the agent has no device {asked.device}; it reads {names}" if names else NO_DEVICES
        if self._car.replayed:
            return RECORDING
        other = next((a for a in self._loans.values() if a.wish.asked.device == asked.device), None)
        if other is not None:
            return f"{asked.device} is lent to user {other.wish.uid} already, for {other.wish.asked.purpose}"
        if self._car.crash:
            return CRASH
        if feed.hanging(now_ns) is not None or feed.barred(now_ns):
            return f"{asked.device} hangs: {feed.account.error or 'it does not answer the agent'}"
        if asked.purpose == CLEAR and (moves := self._car.unproved(now_ns)):
            return f"nothing is changed in a vehicle unless it stands with its engine off: {moves}"
        if len(self._granted) == MOST and now_ns - self._granted[0] < PERIOD_NS:
            return (
                f"more than {MOST} devices were asked for within {PERIOD_NS // NS_PER_S // 60} minutes; wait a little"
            )
        return ""

    def _close(self, client: int, loan: _Loan, now_ns: int) -> None:
        """Wait until the device is closed, then hand it over."""
        wish, feed = loan.wish, self._feed(loan.wish.asked.device)
        device = wish.asked.device
        if feed is not None and feed.account.state in ("closed", "ended"):
            loan.until_ns = now_ns + round(wish.asked.seconds * NS_PER_S)
            about = f" ({wish.asked.about})" if wish.asked.about else ""
            what = f"{wish.asked.purpose}{about}"
            text = f"{device}: lent to user {wish.uid} for {what}, at most {wish.asked.seconds:.0f} s"
            facts = {"user": str(wish.uid), "purpose": wish.asked.purpose}
            facts |= {"about": wish.asked.about} if about else {}
            self._say(now_ns, device, "degraded", text, facts)
            self._board.tell(client, Lent(device=device, until_ns=loan.until_ns))
        elif now_ns - loan.since_ns > CLOSE_NS:
            why = f"{device} hangs: it was not closed within {CLOSE_NS // NS_PER_S} s"
            self._board.tell(client, Refusal(reason=why), last=True)
            self._end(client, now_ns, why)

    def _over(self, loan: _Loan, until_ns: int, now_ns: int) -> str:
        if now_ns >= until_ns:
            return "the time for which it was lent is over"
        if self._car.crash:
            return CRASH
        return self._car.moves(now_ns) if loan.wish.asked.purpose == CLEAR else ""

    def _end(self, client: int, now_ns: int, why: str) -> None:
        loan = self._loans.pop(client, None)
        if loan is None:
            return
        device = loan.wish.asked.device
        feed = self._feed(device)
        if feed is not None:
            feed.take_back()
        if loan.until_ns is not None:
            lasted_s = (now_ns - loan.since_ns) / NS_PER_S
            text = f"{device}: taken back from user {loan.wish.uid} after {lasted_s:.0f} s{': ' if why else ''}{why}"
            self._say(now_ns, device, "ok", text, {})

    def _feed(self, device: str) -> Feed | None:
        return next((feed for feed in self._feeds if feed.name == device), None)

    def _say(
        self, now_ns: int, device: str, state: Literal["ok", "degraded"], text: str, facts: dict[str, str]
    ) -> None:
        log.warning("%s", text)
        self._tell(Health(t_ns=now_ns, source=f"lend:{device}", state=state, detail=text, facts=facts))
