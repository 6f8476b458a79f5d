"""Sync: store and forward is one position per lane, and the receiver owns it.

On every connection the device asks (a signed birth) and the receiver answers with what it holds; from there the lanes
are sent in order, most urgent first, a few batches ahead of the acknowledgements. Only an acknowledgement moves a
position. On any doubt the position is forgotten and asked for again. No queue, no flags: entries stay in the store.
"""

import logging
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

from agent import answers, filemessages, messages
from agent.chain import Entry
from agent.clock import NS_PER_S
from agent.link import Arrived, Delivered, Down, Happening, Refused, Up
from agent.records import LANES, Health
from agent.syncthread import SyncThread
from agent.uplink import LaneSource, Phase, SyncSettings, SyncStatus, Trouble, Uplink
from agent.upload.budget import LOOK_NS as BUDGET_LOOK_NS
from agent.upload.budget import Budget
from agent.upload.status import UploadStatus
from agent.upload.uploads import Uploads

__all__ = ["LaneSource", "Sync", "SyncSettings", "SyncStatus", "SyncThread", "Uplink"]

log = logging.getLogger(__name__)

IDLE_NS: Final = 3600 * NS_PER_S  # with nothing to do, look again after this; every reason to act wakes us earlier
MOST_TOLD: Final = 256  # different things said once; beyond them somebody is making them up


@dataclass(frozen=True, slots=True)
class _Flight:
    lane: str
    last_seq: int
    entries: int


class Sync:
    """The position loop: `step` does all that can be done now and returns when it wants to be called again."""

    def __init__(
        self,
        source: LaneSource,
        uplink: Uplink,
        settings: SyncSettings | None = None,
        *,
        boot: str,
        versions: dict[str, str] | None = None,
        capabilities: list[str] | None = None,
        on_health: Callable[[Health], None] | None = None,
        rng: random.Random | None = None,
        uploads: Uploads | None = None,
        budget: Budget | None = None,
        on_command: Callable[[bytes], None] | None = None,
        on_consent: Callable[[bytes], None] | None = None,
        belief: answers.Belief | None = None,
    ) -> None:
        self._unread = {"command": on_command, "consent": on_consent}  # what goes on as it came
        self._belief = belief
        self._source = source
        self._uplink = uplink
        self._settings = settings or SyncSettings()
        self._boot = boot
        self._versions = versions or {}
        self._capabilities = capabilities or []
        self._on_health = on_health or (lambda _: None)
        self._rng = rng or random.Random()
        self._uploads = uploads
        self._budget = budget
        self._now_ns = 0
        self._due_ns = 0
        self._phase: Phase = "waiting"
        self._attempts = 0
        self._lost_since_ns = 0
        self._session = ""
        self._acked: dict[str, int] = {}
        self._sent: dict[str, int] = {}
        self._flights: list[_Flight] = []
        self._unanswered: deque[str] = deque()  # what was published and not taken by the broker: up, file, live, …
        self._live: messages.Live | None = None
        self._held: dict[str, int] = {}  # lane -> when to try it again
        self._told: set[str] = set()  # what was said once and need not be said again
        self.status = SyncStatus(phase="waiting")

    def step(self, now_ns: int) -> int:
        """Do what can be done at `now_ns` (monotonic) and return when to come back at the latest."""
        self._now_ns = now_ns
        for happening in self._uplink.happenings():
            self._take(happening)
        if now_ns >= self._due_ns:
            self._fall_due()
        if self._phase == "sending":
            lanes_are_empty = self._fill()
            self._tell_where()
            if self._uploads is not None:
                return self._send_files(self._uploads, lanes_are_empty)
        self._show()
        return self._next_ns()

    def show(self, live: messages.Live) -> None:
        """Tell where the car is, if there is a connection and nothing newer comes before; any thread may call it."""
        self._live = live

    def close(self) -> None:
        """Say goodbye and disconnect; nothing is lost by it."""
        self._publish("status", messages.encode_status(self._source.device, "offline"), retain=True)
        self._uplink.close()
        self._flights = []
        self._phase = "stopped"
        if self._uploads is not None:
            self._uploads.close()
        if self._budget is not None:
            self._budget.close()
        self._show()

    # what happens to us

    def _take(self, happening: Happening) -> None:
        if isinstance(happening, Arrived):
            self._take_message(happening)
        elif isinstance(happening, Up):
            if self._phase == "connecting":
                self._begin()
        elif isinstance(happening, Down):
            self._retry("offline", happening.reason)
        elif isinstance(happening, Refused):
            self._refused(happening.reason)
        elif isinstance(happening, Delivered):
            # a broker answers in the order in which it was asked (MQTT 5, 4.6)
            what = self._unanswered.popleft() if self._unanswered else "up"
            if what == "file" and self._uploads is not None:
                self._uploads.delivered(self._now_ns)
            if what != "live" and self._flights:
                self._due_ns = self._now_ns + self._answer_ns()

    def _fall_due(self) -> None:
        if self._phase == "waiting":
            self._phase = "connecting"
            self._due_ns = self._now_ns + self._answer_ns()
            self._uplink.connect()
        elif self._phase == "connecting":
            self._retry("offline", "no answer to the attempt to connect")
        elif self._phase == "asking":
            if self.status.trouble != "refused":
                self._trouble("silent", "the broker is there, but the receiver does not answer")
            self._ask()
        elif self._flights:
            self.status = replace(self.status, overdue=self.status.overdue + 1)
            self._trouble("silent", "acknowledgements stay away")
            self._ask()
        else:
            self._due_ns = self._now_ns + IDLE_NS

    def _begin(self) -> None:
        # Unlike a counter kept on disk, 64 random bits cost no write, and no two askings of a device share them.
        self._session = f"{self._rng.getrandbits(64):016x}"
        self._unanswered.clear()
        status = messages.encode_status(self._source.device, "online")
        self._publish("status", status, retain=True)
        self._ask()

    def _ask(self) -> None:
        """Forget what is under way and ask the receiver what it holds."""
        self._phase = "asking"
        self._flights = []
        birth = messages.Birth(
            device=self._source.device,
            public_key=self._source.public_key.hex(),
            lineage=self._source.lineage,
            session=self._session,
            boot=self._boot,
            t_ns=self._now_ns,
            heads=dict(self._source.heads()),  # type: ignore[arg-type]
            versions=self._versions,
            capabilities=self._capabilities,
        )
        payload = messages.encode_birth(birth, self._source.sign(messages.birth_bytes(birth)))
        self._publish("birth", payload, retain=True)
        self.status = replace(self.status, asked=self.status.asked + 1)
        self._due_ns = self._now_ns + max(self._answer_ns(), self._backoff_ns())

    def _take_message(self, arrived: Arrived) -> None:
        try:
            where = messages.address(arrived.topic)
            if self._belief is not None and where.what in answers.PREFIXES:
                self._belief.check(where.what, arrived.payload)
            if where.what == "files":
                self._take_files(where.device, arrived.payload)
                return
            if where.device == self._source.device and where.what in self._unread:
                take = self._unread[where.what]
                if take is not None:  # a recording is not asked for anything
                    take(arrived.payload)
                return
            ack = messages.decode_ack(arrived.payload)
            if where.device != self._source.device or where.what != "ack" or ack.device != where.device:
                raise messages.MessageError("not our acknowledgement")
        except messages.MessageError as e:
            self.status = replace(self.status, ignored=self.status.ignored + 1)
            forged: Literal["degraded"] | None = "degraded" if str(e) == answers.UNBELIEVED else None
            self._once(f"ignored: {e}", logging.WARNING, f"ignored a message on {arrived.topic!r}: {e}", forged)
            return
        if ack.lineage != self._source.lineage:
            self._once(
                f"lineage {ack.lineage}",
                logging.INFO,
                f"an acknowledgement is for store {ack.lineage}, this one is {self._source.lineage}: it moves nothing",
            )
            return
        if ack.session != self._session or self._phase not in ("asking", "sending"):
            return  # kept by the broker from before; the answer to our own question follows
        if ack.state != "accepted":
            # Stay connected: the receiver says so at once when somebody enrols the device.
            self._trouble("refused", _STATES[ack.state].format(device=self._source.device))
            self._phase = "asking"
            self._flights = []
            self._due_ns = self._now_ns + self._ns(self._settings.refused_s)
            return
        lineage = self._source.lineage
        mine = self._source.positions()
        held = {str(lane): seq for lane, seq in ack.lanes.items()}
        self._source.acknowledge(held, {str(lane): bytes.fromhex(digest) for lane, digest in ack.hashes.items()})
        if self._source.lineage != lineage:
            log.warning("the store was an older copy of itself: sending what is not acknowledged under a new lineage")
            self._begin()
        elif self._phase == "asking":
            self._answered(ack, mine)
        else:
            self._move(ack)

    # positions

    def _answered(self, ack: messages.Ack, mine: dict[str, int]) -> None:
        self._phase = "sending"
        self._held = {}
        for lane in LANES:
            theirs, ours = _at(ack.lanes, lane), mine.get(lane, 0)
            if theirs < ours:
                self._once(
                    f"back {lane} {theirs}",
                    logging.WARNING,
                    f"the receiver holds lane {lane} up to {theirs}, but acknowledged {ours} before: sending again",
                )
            self._acked[lane] = self._sent[lane] = theirs
        self._due_ns = self._now_ns + IDLE_NS
        if self._uploads is not None:
            self._uploads.begin(self._session, self._now_ns)
        self._well()

    def _move(self, ack: messages.Ack) -> None:
        for lane in LANES:
            theirs = _at(ack.lanes, lane)
            if theirs > self._acked[lane]:
                self._acked[lane] = theirs
                self._sent[lane] = max(theirs, self._sent[lane])
                self._held.pop(lane, None)
                self._attempts = 0
                self._due_ns = self._now_ns + self._answer_ns()
                if lane == "clip" and self._uploads is not None:
                    self._uploads.refresh()
        self._flights = [f for f in self._flights if f.last_seq > self._acked[f.lane]]
        if not self._flights:
            self._due_ns = self._now_ns + IDLE_NS
        for lane, reason in ack.refused.items():
            if lane in self._sent and self._sent[lane] > self._acked[lane]:
                self._hold(lane, f"the receiver refuses lane {lane} after entry {self._acked[lane]}: {reason}")

    def _hold(self, lane: str, reason: str) -> None:
        """Leave one lane alone for a while, so that it does not block the others; say why, once."""
        self._held[lane] = self._now_ns + self._ns(self._settings.refused_s)
        self._sent[lane] = self._acked.get(lane, 0)
        self._flights = [f for f in self._flights if f.lane != lane]
        self._once(f"hold {lane} {reason}", logging.WARNING, reason, health="degraded")

    def _fill(self) -> bool:
        """Send what the window takes; say whether every lane was looked at and nothing of it must wait."""
        heads = self._source.heads()  # with a clip on its way this runs for every few chunks: one look for all lanes
        for lane in LANES:
            if self._held.get(lane, 0) > self._now_ns or self._sent[lane] >= heads.get(lane, 0):
                continue
            self._held.pop(lane, None)
            while len(self._flights) < self._settings.window and self._send(lane):
                pass
        return len(self._flights) < self._settings.window

    def _send_files(self, uploads: Uploads, lanes_are_empty: bool) -> int:
        if lanes_are_empty:
            uploads.fill(self._now_ns, self._publish_file, self._uplink.road)
            if uploads.silent:  # the receiver may know us by an earlier session, if at all
                self._ask()
                lanes_are_empty = False
        self._show()
        return min(self._next_ns(), uploads.come_back_ns()) if lanes_are_empty else self._next_ns()

    def _take_files(self, device: str, payload: bytes) -> None:
        answer = filemessages.decode_files(payload)
        if device != self._source.device or answer.device != device:
            raise messages.MessageError("not our answer")
        if self._uploads is not None:
            self._uploads.take(answer, self._now_ns)

    def _publish_file(self, topic: str, payload: bytes) -> bool:
        return self._hand_over("file", topic, payload)

    def _send(self, lane: str) -> bool:
        """Send the next batch of a lane; say whether there was one."""
        after = self._sent[lane]
        entries = _without_gaps(self._source.pending(lane, after, self._settings.batch_bytes))
        if not entries:
            return False
        anchored = entries[0].seq != after + 1
        if anchored:
            if after != self._acked[lane]:
                return False  # what is under way must arrive before the hole can be told
            gone = f"entries {after + 1} to {entries[0].seq - 1} of lane {lane}"
            self._once(gone, logging.ERROR, f"{gone} are held neither here nor by the receiver", health="degraded")
        payload = messages.encode_batch(entries, anchored)
        while len(payload) > messages.MAX_PAYLOAD and len(entries) > 1:
            entries = entries[: len(entries) // 2]
            payload = messages.encode_batch(entries, anchored)
        if len(payload) > messages.MAX_PAYLOAD or any(len(e.body) > messages.MAX_BODY for e in entries):
            self._hold(lane, f"an entry after {after} of lane {lane} is too large to send")
            return False
        if self._budget is not None and not self._budget.allows(lane, len(payload), self._now_ns):
            self._wait_for_budget(lane)
            return False
        if not self._publish("up", payload, lane):
            return False  # the connection is gone; Down follows
        if not self._flights:
            self._due_ns = self._now_ns + self._answer_ns()
        if self._budget is not None:
            self._budget.spend(lane, len(payload))
        self._flights.append(_Flight(lane, entries[-1].seq, len(entries)))
        self._sent[lane] = entries[-1].seq
        status = self.status
        self.status = replace(
            status,
            batches=status.batches + 1,
            entries=status.entries + len(entries),
            payload_bytes=status.payload_bytes + len(payload),
        )
        return True

    def _tell_where(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            self._publish("live", messages.encode_live(live))

    def _publish(self, what: str, payload: bytes, lane: str = "", *, retain: bool = False) -> bool:
        return self._hand_over(what, messages.topic(self._source.device, what, lane), payload, retain)

    def _hand_over(self, what: str, topic: str, payload: bytes, retain: bool = False) -> bool:
        if not self._uplink.publish(topic, payload, retain):
            return False
        self._unanswered.append(what)
        return True

    def _next_ns(self) -> int:
        return min([self._due_ns, *self._held.values()]) if self._phase == "sending" else self._due_ns

    def _wait_for_budget(self, lane: str) -> None:
        """Look again in a minute: a new day brings a new budget. Nothing is lost by it, and crashes never wait."""
        self._held[lane] = self._now_ns + BUDGET_LOOK_NS
        self._once(f"budget {lane}", logging.WARNING, f"the byte budget of lane {lane} is used up", health="degraded")

    # troubles

    def _retry(self, trouble: Trouble, reason: str) -> None:
        self._trouble(trouble, reason)
        self._phase = "waiting"
        self._flights = []
        self._forget_files()
        self._due_ns = self._now_ns + self._backoff_ns()

    def _refused(self, reason: str) -> None:
        self._trouble("refused", reason)
        self._uplink.close()
        self._phase = "waiting"
        self._flights = []
        self._forget_files()
        self._due_ns = self._now_ns + self._ns(self._settings.refused_s * self._rng.uniform(0.75, 1.25))

    def _forget_files(self) -> None:
        if self._uploads is not None:
            self._uploads.lost()

    def _backoff_ns(self) -> int:
        wait_s = min(self._settings.retry_cap_s, self._settings.retry_s * 2.0 ** min(self._attempts, 30))
        self._attempts += 1
        # Jitter of half the wait, so that a fleet does not return to a restarted broker in step.
        return self._ns(wait_s * self._rng.uniform(0.5, 1.0))

    def _trouble(self, trouble: Trouble, reason: str) -> None:
        if not self.status.trouble:
            self._lost_since_ns = self._now_ns
        if self.status.trouble != trouble:
            level = logging.ERROR if trouble == "refused" else logging.WARNING
            log.log(level, "uplink %s: %s; entries wait in the store", trouble, reason)
            if trouble == "refused":
                self._health("degraded", reason)
        self.status = replace(self.status, trouble=trouble, reason=reason)

    def _well(self) -> None:
        if self.status.trouble:
            away_s = (self._now_ns - self._lost_since_ns) / NS_PER_S
            log.info("uplink recovered after %.0f s", away_s)
            if self.status.trouble == "refused":
                self._health("ok", "the uplink works again")
        self._attempts = 0
        self.status = replace(self.status, trouble="", reason="")

    def _once(self, key: str, level: int, text: str, health: Literal["degraded"] | None = None) -> None:
        if key in self._told or len(self._told) >= MOST_TOLD:
            return
        self._told.add(key)
        log.log(level, "%s", text)
        if health:
            self._health(health, text)

    def _health(self, state: Literal["ok", "degraded"], detail: str) -> None:
        self._on_health(Health(t_ns=self._now_ns, source="uplink", state=state, detail=detail))

    def _show(self) -> None:
        heads = self._source.heads()
        acked = self._acked if self._acked else self._source.positions()
        behind = sum(max(0, head - acked.get(lane, 0)) for lane, head in heads.items())
        files = UploadStatus() if self._uploads is None else self._uploads.status
        self.status = replace(self.status, phase=self._phase, acknowledged=dict(acked), behind=behind, files=files)

    def _answer_ns(self) -> int:
        return self._ns(self._settings.answer_s)

    @staticmethod
    def _ns(seconds: float) -> int:
        return int(seconds * NS_PER_S)


_STATES: Final = {
    "unknown": "the receiver does not know this device; enrol it there: roadwitness receiver enrol {device}",
    "blocked": "the receiver has blocked this device {device}",
}


def _at(positions: dict[messages.Lane, int], lane: str) -> int:
    return positions.get(lane, 0)  # type: ignore[call-overload, no-any-return]


def _without_gaps(entries: list[Entry]) -> list[Entry]:
    """Return the entries up to the first gap in their numbers."""
    for i in range(1, len(entries)):
        if entries[i].seq != entries[i - 1].seq + 1:
            return entries[:i]
    return entries
