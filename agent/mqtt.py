"""The uplink over MQTT: what sync talks to on a real device."""

import threading
from collections.abc import Callable
from typing import Final

from agent import messages
from agent.filemessages import CHUNK_TYPE
from agent.link import Arrived, BrokerSettings, Delivered, Happening, Link
from agent.tcp import Road
from agent.tls import Moment

# Of messages that sync has not looked at: dozens of full answers. What is beyond it is asked for again.
MOST_WAITING_BYTES: Final = 4 * 1024 * 1024


class MqttUplink:
    """A device's connection to its broker: subscribes to what it is answered, leaves `offline` as its last will.

    `now` judges the dates of certificates.
    """

    def __init__(self, settings: BrokerSettings, device: str, now: Callable[[], Moment] | None = None) -> None:
        self._lock = threading.Lock()
        self._happened: list[Happening] = []
        self._waiting_bytes = 0
        self.dropped = 0  # messages of a broker that floods
        self._wake: Callable[[], None] = lambda: None
        self._link = Link(
            settings,
            device,
            self._take,
            filters=[messages.topic(device, what) for what in ("ack", "files", "command", "consent")],
            will=(messages.topic(device, "status"), messages.encode_status(device, "offline")),
            content_types={"up": messages.CONTENT_TYPE, "file": CHUNK_TYPE},
            keep_session=True,
            now=now,
        )

    def on_happening(self, wake: Callable[[], None]) -> None:
        """Have `wake` called, from another thread, whenever `happenings` has something to act on."""
        self._wake = wake

    def connect(self) -> None:
        """Begin one attempt to connect."""
        self._link.connect()

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> bool:
        """Hand over a message; False when there is no connection."""
        return self._link.publish(topic, payload, retain)

    def road(self) -> Road | None:
        """Return what was published and is still on its way, where that is known."""
        return self._link.road()

    def happenings(self) -> list[Happening]:
        """Return what happened since the last call, in order."""
        with self._lock:
            found, self._happened, self._waiting_bytes = self._happened, [], 0
        return found

    def close(self) -> None:
        """Disconnect."""
        self._link.close()

    def _take(self, happening: Happening) -> None:
        with self._lock:
            if isinstance(happening, Arrived):
                size = len(happening.payload) + 1000  # and what holds it
                if self._waiting_bytes + size > MOST_WAITING_BYTES:
                    self.dropped += 1
                    return
                self._waiting_bytes += size
            self._happened.append(happening)
        if not isinstance(happening, Delivered):  # it only prolongs patience, and is seen before that ends
            self._wake()
