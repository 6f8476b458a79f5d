"""Renewal: after two thirds of a certificate's life the next one is asked for, tried at the broker, put in force.

The old one stays until the broker has let the new one in, or until it has ended itself. A box whose clock nobody set
cannot tell that its certificate has ended, nor any box that the broker has stopped to believe it: one that is kept out
for long asks as well.
"""

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Literal

from agent import clock
from agent.clock import NS_PER_S, iso_utc
from agent.enrolment.asking import NotGrantedError
from agent.enrolment.enrol import Signer, renewed
from agent.enrolment.folder import Life, TlsFolder
from agent.enrolment.settings import EnrolmentSettings
from agent.enrolment.trying import try_out
from agent.errors import RoadwitnessError
from agent.link import BrokerSettings
from agent.records import Health
from agent.tls import Moment

log = logging.getLogger(__name__)

SOURCE: Final = "certificate"
LOOK_S: Final = 60.0
JITTER: Final = 0.05  # of the life: a fleet that was fitted in one week does not come in one hour
RETRY_NS: Final = 600 * NS_PER_S  # first wait after a failure, doubled each time …
RETRY_CAP_NS: Final = 6 * 3600 * NS_PER_S  # … up to this, at which a refusal begins
KEPT_OUT_NS: Final = 900 * NS_PER_S  # without an answer for so long, or up to twice that: perhaps it is the certificate


class Renewal(threading.Thread):
    """Looks once a minute until `stop`; `connected` says whether the receiver answers at present."""

    def __init__(
        self,
        tls: TlsFolder,
        signer: Signer,
        settings: EnrolmentSettings,
        broker: BrokerSettings,
        now: Callable[[], Moment],
        connected: Callable[[], bool],
        on_health: Callable[[Health], None] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(name="renewal", daemon=True)
        self._tls = tls
        self._signer = signer
        self._settings = settings
        self._broker = broker
        self._now = now
        self._connected = connected
        self._on_health = on_health or (lambda _: None)
        self._rng = rng or random.Random()
        self._early = self._rng.uniform(0.0, JITTER)
        self._patience_ns = round(KEPT_OUT_NS * self._rng.uniform(1.0, 2.0))
        self._stopping = threading.Event()
        self._again_ns = 0
        self._failures = 0
        self._told = ""
        self._kept_out_ns: int | None = None  # since when

    def stop(self) -> None:
        """End; what is asked at the moment ends by its time limit."""
        self._stopping.set()

    def run(self) -> None:
        """Look until stopped."""
        while not self._stopping.is_set():
            self.look(clock.monotonic_ns())
            clock.wait(self._stopping, LOOK_S)

    def look(self, now_ns: int) -> bool:
        """Renew if it is time; say whether another certificate is in force now. Trouble is told, not raised."""
        if self._connected():
            self._kept_out_ns = None
        elif self._kept_out_ns is None:
            self._kept_out_ns = now_ns
        moment, life = self._now(), self._tls.life()
        if now_ns < self._again_ns or not self._due(moment, life, now_ns):
            return False
        try:
            if self._tls.life(self._tls.next_pair[0]) is None:
                s = self._settings
                renewed(self._tls, self._signer, s.receiver, s.ca, s.key, moment)
            ended = life is None or life.ends_utc_ns <= moment.utc_ns
            if not ended and not self._let_in():
                self._wait(now_ns)
                return False
            self._tls.put_in_force()
        except RoadwitnessError as e:
            self._failed(str(e), now_ns, refused=isinstance(e, NotGrantedError))
            return False
        self._succeeded(now_ns)
        return True

    def _due(self, moment: Moment, life: Life | None, now_ns: int) -> bool:
        if life is None:
            return True
        early_ns = round((life.ends_utc_ns - life.begins_utc_ns) * self._early)
        if moment.utc_ns >= life.due_utc_ns - early_ns:
            return True
        return self._kept_out_ns is not None and now_ns - self._kept_out_ns >= self._patience_ns

    def _let_in(self) -> bool:
        """Say whether the broker lets the next certificate in; one that it refuses is forgotten."""
        certificate, key = self._tls.next_pair
        broker = replace(self._broker, ca=self._tls.next_ca, certificate=certificate, key=key)
        tried = try_out(broker, self._now)
        if tried.outcome == "refused":
            self._tls.drop_next()
            self._tell("degraded", f"the certificate that is new is not let in: {tried.reason}")
        return tried.outcome == "let in"

    def _failed(self, text: str, now_ns: int, *, refused: bool) -> None:
        if refused:
            self._failures = 10
        self._wait(now_ns)
        self._tell("degraded" if refused else "ok", text)

    def _wait(self, now_ns: int) -> None:
        wait_ns = min(RETRY_CAP_NS, RETRY_NS * 2 ** min(self._failures, 10))
        self._failures += 1
        self._again_ns = now_ns + round(wait_ns * self._rng.uniform(0.5, 1.0))

    def _succeeded(self, now_ns: int) -> None:
        self._failures, self._again_ns = 0, now_ns + RETRY_NS
        self._kept_out_ns = None
        life = self._tls.life()
        until = "" if life is None else f", until {iso_utc(life.ends_utc_ns)}"
        log.info("a new certificate is in force%s", until)
        if self._told:
            self._told = ""
            self._say("ok", f"a new certificate is in force{until}")

    def _tell(self, state: Literal["ok", "degraded"], text: str) -> None:
        """Log trouble once; a person hears of what only a person can cure."""
        if text == self._told:
            return
        self._told = text
        log.warning("renewal: %s", text)
        if state == "degraded":
            self._say(state, text)

    def _say(self, state: Literal["ok", "degraded"], detail: str) -> None:
        self._on_health(Health(t_ns=clock.monotonic_ns(), source=SOURCE, state=state, detail=detail[:500]))
