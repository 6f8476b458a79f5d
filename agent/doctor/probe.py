"""Speak MQTT with the broker: is this box let in, may it write what it must, and no more?

A broker knows one client of each name, and throws the older one out: so nothing is tried while the agent is connected,
whose own traffic says more. The session is kept, and nothing that waits in it is acknowledged. The probe's topic is one
that no receiver reads; writing to another box's topic is only tried.
"""

import queue
from collections.abc import Iterator
from types import UnionType
from typing import Final

from agent import clock, messages
from agent.clock import NS_PER_S
from agent.doctor.finding import Facts, Finding, ill, well
from agent.doctor.seen import Seen
from agent.errors import ConfigError, StoreError
from agent.link import Arrived, Broker, BrokerSettings, Delivered, Down, Happening, Link, Refused, Up

ANSWER_S: Final = 5.0
NOBODY: Final = "rw-0000000000000000"  # no box has this name
SLOW_MS: Final = 2000.0
TOPIC: Final = messages.PROBE


def examine(seen: Seen, settings: BrokerSettings, broker: Broker) -> Iterator[Finding]:
    """Connect, write to the own topic and read it back, and see that another's topic is closed."""
    sync = seen.status.sync if seen.status is not None else None
    if sync is not None and sync.phase in ("connecting", "asking", "sending"):
        yield well("network.mqtt", "the agent is connected" if sync.phase != "connecting" else "the agent connects")
        return
    if seen.held and seen.status is None:
        yield ill("unknown", "network.mqtt", "agent_not_asked", "the agent may be connected, and cannot be asked")
        return
    device = _device(seen)
    if device is None:
        yield ill("unknown", "network.mqtt", "no_store", "the box has no name yet: the agent has never run")
        return
    happened: queue.SimpleQueue[Happening] = queue.SimpleQueue()
    own = messages.topic(device, TOPIC)
    try:
        link = Link(
            settings,
            device,
            happened.put,
            filters=[messages.topic(device, "ack"), own],
            keep_session=True,
            manual_ack=True,
            now=seen.moment,
        )
    except ConfigError as error:
        yield ill("fail", "network.mqtt", "tls_files", str(error), host=broker.host, port=broker.port)
        return
    seen.release.append(link.close)
    try:
        link.connect()
        yield from _conversation(seen, link, happened, own, broker)
    finally:
        link.close()


def _device(seen: Seen) -> str | None:
    if seen.status is not None and seen.status.device:
        return seen.status.device
    try:
        with seen.store() as store:
            return store.device
    except StoreError:
        return None


def _conversation(
    seen: Seen, link: Link, happened: "queue.SimpleQueue[Happening]", own: str, broker: Broker
) -> Iterator[Finding]:
    where: Facts = {"host": broker.host, "port": broker.port}
    first = _next(seen, happened, Up)
    if not isinstance(first, Up):
        code = "mqtt_refused" if isinstance(first, Refused) else "mqtt_no_answer"
        yield ill("fail", "network.mqtt", code, _why(first), **where)
        return
    begun_ns = clock.monotonic_ns()
    link.publish(own, b"doctor")
    taken, back = _taken_and_back(seen, happened, own)
    if not isinstance(taken, Delivered):
        yield ill("fail", "network.mqtt", "broker_acl", f"{own}: {_why(taken)}", topic=own, **where)
        return
    took_ms = (clock.monotonic_ns() - begun_ns) / 1e6
    if not back:
        text = "what the box wrote did not come back: it may write, and not read"
        yield ill("fail", "network.mqtt", "broker_acl", text, topic=own, **where)
        return
    text = f"MQTT {first.version}, there and back in {took_ms:.0f} ms"
    if took_ms > SLOW_MS:
        yield ill("warn", "network.mqtt", "network_slow", text, round_trip_ms=round(took_ms), **where)
    else:
        yield well("network.mqtt", text, round_trip_ms=round(took_ms), **where)
    if broker.tls and first.version == "5":  # 3.1.1 does not tell of refused messages
        foreign = messages.topic(NOBODY, TOPIC)
        link.publish(foreign, b"doctor")
        answer = _next(seen, happened, Delivered)
        if isinstance(answer, Delivered):
            text = f"this box may write to {foreign}"
            yield ill("warn", "network.rights", "broker_open", text, topic=foreign, **where)
        elif isinstance(answer, Refused):
            yield well("network.rights", "other boxes' topics are closed to it")


def _taken_and_back(seen: Seen, happened: "queue.SimpleQueue[Happening]", own: str) -> tuple[Happening | None, bool]:
    """Return how the broker took a message, and whether it came back: it may come before it is said to be taken."""
    taken: Happening | None = None
    back = False
    while not (back and isinstance(taken, Delivered)):
        happening = _next(seen, happened, Delivered | Arrived)
        if isinstance(happening, Arrived):
            back |= happening.topic == own  # others have waited for the agent, and go on waiting
        elif isinstance(happening, Delivered):
            taken = happening
        else:
            return taken or happening, back
    return taken, back


def _next(
    seen: Seen, happened: "queue.SimpleQueue[Happening]", wanted: "type[Happening] | UnionType"
) -> Happening | None:
    """Return the next of the wanted kind, or what ended the connection; None when the time is over."""
    deadline_ns = clock.monotonic_ns() + round(min(ANSWER_S, seen.left_s()) * NS_PER_S)
    while (left_ns := deadline_ns - clock.monotonic_ns()) > 0:
        try:
            happening = happened.get(timeout=left_ns / NS_PER_S)
        except queue.Empty:
            return None
        if isinstance(happening, wanted | Down | Refused):
            return happening
    return None


def _why(happening: Happening | None) -> str:
    return happening.reason if isinstance(happening, Down | Refused) else "no answer"
