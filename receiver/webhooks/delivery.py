"""The outbox is emptied: each post is tried until it is taken, refused for good or too old, twice as late each time."""

import http.client
import logging
import threading
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.exc import DBAPIError

from agent import clock
from agent.clock import NS_PER_S
from agent.errors import ConfigError
from receiver import db
from receiver.webhooks import gathering
from receiver.webhooks.posting import RefusedError, post, secret_of
from receiver.webhooks.settings import HookSettings
from receiver.webhooks.tables import outbox

log = logging.getLogger(__name__)

EVERY_S: Final = 5.0
FIRST_WAIT_S: Final = 10
LONGEST_WAIT_S: Final = 3600
LEASE_S: Final = 60  # more than a post may take: so long nobody else tries the same
AT_ONCE: Final = 100
KEPT_DAYS: Final = 30  # of what was told or given up


class Told(NamedTuple):
    """What one round did."""

    sent: int = 0
    failed: int = 0  # tried again later
    given_up: int = 0  # refused for good, or too old


class Webhooks(threading.Thread):
    """Looks for what happened and tells it, every few seconds until stopped; one a process, several share the work."""

    def __init__(self, engine: Engine, hooks: Mapping[str, HookSettings]) -> None:
        super().__init__(name="webhooks", daemon=True)
        self._engine = engine
        self._hooks = dict(hooks)
        self._stopping = threading.Event()
        self._trouble = ""

    def stop(self, timeout_s: float = 5.0) -> None:
        """End after the post at hand; what waits is told by the next process."""
        self._stopping.set()
        if self.is_alive():
            self.join(timeout_s)

    def run(self) -> None:
        """Work until stopped; without a database wait for it."""
        while not self._stopping.is_set():
            try:
                gathering.gather(self._engine, self._hooks, clock.wall_ns())
                told = deliver(self._engine, self._hooks, clock.wall_ns(), self._stopping)
                self._trouble = ""
                if told.sent == AT_ONCE:
                    continue  # there may be more
            except DBAPIError as e:
                if not self._trouble:
                    log.warning("webhooks: the database does not work: %s", str(e.orig).strip().splitlines()[0])
                self._trouble = "database"
            clock.wait(self._stopping, EVERY_S)


def deliver(
    engine: Engine, hooks: Mapping[str, HookSettings], now_ns: int, stopping: threading.Event | None = None
) -> Told:
    """Try every post that is due once, in the order of the events."""
    t = outbox
    due = (t.c.state == "waiting", t.c.next_utc_ns <= now_ns)
    with db.reading(engine) as connection:
        rows = connection.execute(select(t).where(*due).order_by(t.c.next_utc_ns, t.c.id).limit(AT_ONCE)).all()
    counted = {"sent": 0, "waiting": 0, "refused": 0, "too_old": 0}
    for row in rows:
        if stopping is not None and stopping.is_set():
            break
        if _taken(engine, row, now_ns):
            counted[_tell(engine, hooks.get(row.hook), row, now_ns)] += 1
    if not rows:
        _forget(engine, now_ns)
    return Told(counted["sent"], counted["waiting"], counted["refused"] + counted["too_old"])


def _taken(engine: Engine, row: Any, now_ns: int) -> bool:
    """Say whether this process may try a post: whoever moves its time first."""
    same = (outbox.c.id == row.id, outbox.c.state == "waiting", outbox.c.next_utc_ns == row.next_utc_ns)
    with engine.begin() as connection:
        lease = update(outbox).where(*same).values(next_utc_ns=now_ns + LEASE_S * NS_PER_S)
        return connection.execute(lease).rowcount == 1


def _tell(engine: Engine, hook: HookSettings | None, row: Any, now_ns: int) -> str:
    state, why = "sent", ""
    try:
        if hook is None:
            raise RefusedError("no webhook of this name is configured any more")
        headers = {"Roadwitness-Event": row.event, "Roadwitness-Type": row.type}
        post(hook.url, secret_of(hook.secret_file), row.body.encode(), now_ns, headers)
    except RefusedError as e:
        state, why = "refused", str(e)
    except (OSError, http.client.HTTPException, ConfigError) as e:
        old = hook is not None and now_ns - row.made_utc_ns > hook.longest_h * 3600 * NS_PER_S
        state, why = "too_old" if old else "waiting", _why(e)
    wait_s = min(FIRST_WAIT_S << min(row.attempts, 30), LONGEST_WAIT_S)
    values = {"state": state, "attempts": row.attempts + 1, "why": why[:200]}
    with engine.begin() as connection:
        changed = update(outbox).where(outbox.c.id == row.id, outbox.c.state == "waiting")
        connection.execute(changed.values(**values, next_utc_ns=now_ns + wait_s * NS_PER_S))
    if state != "sent":
        host = "" if hook is None else urlsplit(hook.url).hostname
        log.warning("webhook %s to %s: %s is %s: %s", row.hook, host, row.event, state, why)
    return state


def _forget(engine: Engine, now_ns: int) -> None:
    """Remove what was dealt with long ago, now that there is nothing else to do."""
    old = (outbox.c.state != "waiting", outbox.c.next_utc_ns < now_ns - KEPT_DAYS * 86400 * NS_PER_S)
    with db.reading(engine) as connection:
        if connection.execute(select(outbox.c.id).where(*old).limit(1)).scalar() is None:
            return
    with engine.begin() as connection:
        connection.execute(delete(outbox).where(*old))


def _why(e: Exception) -> str:
    """Name a failure without what a server may have echoed."""
    if isinstance(e, ConfigError):
        return str(e)
    if isinstance(e, OSError) and e.strerror:
        return f"{type(e).__name__}: {e.strerror}"
    return str(e) if str(e).startswith("answered ") else type(e).__name__
