"""What waits for the receiver, how long, and whether the receiver acknowledges."""

from collections.abc import Iterator
from typing import Final

from agent.doctor.finding import Facts, Finding, ill, lasting, well
from agent.doctor.seen import Seen
from agent.errors import StoreError
from agent.local.messages import Lane
from agent.records import LANES

OLD_S: Final = 3600.0  # while driving something is sent every minute; a garage without network is an evening
VERY_OLD_S: Final = 7 * 86_400.0
MANY: Final = 1000  # records without a known age: of earlier boots


def examine(seen: Seen) -> Iterator[Finding]:
    """Judge sync's own trouble, then the lanes."""
    sync = seen.status.sync if seen.status is not None else None
    if sync is not None:
        told: Facts = {"phase": sync.phase, "behind": sync.behind, "overdue": sync.overdue}
        if sync.trouble == "refused":
            yield ill("fail", "network.receiver", "receiver_refuses", sync.reason, **told)
        elif sync.trouble == "silent":
            yield ill("fail", "network.receiver", "receiver_silent", sync.reason or "no acknowledgement", **told)
        elif sync.trouble == "offline":
            yield ill("warn", "network.receiver", "agent_offline", sync.reason or "no connection", **told)
        elif sync.phase == "sending":
            yield well("network.receiver", "acknowledges what it is sent", **told)
        else:
            yield ill("unknown", "network.receiver", "receiver_not_asked", f"sync is {sync.phase}", **told)
    elif seen.status is not None:
        text = "sync rests while the car is parked, or has nobody to send to"
        yield ill("unknown", "network.receiver", "receiver_not_asked", text)
    lanes = _lanes(seen)
    if lanes is None:
        return
    waiting = sum(lane.waiting for lane in lanes)
    oldest_s = max((lane.oldest_s for lane in lanes if lane.oldest_s is not None), default=None)
    by_lane = {lane.name: lane.waiting for lane in lanes if lane.waiting}
    acknowledged = sum(lane.acknowledged for lane in lanes)
    facts: Facts = {
        "waiting": waiting,
        "oldest_s": None if oldest_s is None else round(oldest_s),
        "acknowledged": acknowledged,
    }
    if not waiting:
        words = "nothing waits" + (f": the receiver has all {acknowledged} records" if acknowledged else "")
        yield well("network.backlog", words, **facts)
        return
    listed = ", ".join(f"{name} {n}" for name, n in by_lane.items())
    text = f"{waiting} records wait ({listed})" + (f", the oldest {lasting(oldest_s)}" if oldest_s is not None else "")
    if (not acknowledged and waiting > MANY) or (oldest_s or 0) > VERY_OLD_S:
        yield ill("fail", "network.backlog", "backlog_old", text, **facts)
    elif (oldest_s or 0) > OLD_S or waiting > MANY:
        yield ill("warn", "network.backlog", "backlog_old", text, **facts)
    else:
        yield well("network.backlog", text, **facts)


def _lanes(seen: Seen) -> list[Lane] | None:
    if seen.status is not None:
        return seen.status.lanes
    try:
        with seen.store() as store:
            heads, positions = store.heads(), store.positions()
    except StoreError:
        return None
    return [Lane(name=name, head=heads.get(name, 0), acknowledged=positions.get(name, 0)) for name in LANES]
