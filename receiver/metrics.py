"""What one process of the receiver does, for Prometheus: counted anyway or once a request, read when it is asked for.

Each process has a port of its own, on this machine only: the figures name no device, person or place, and there is
nothing to sign in to. Names and meanings are in docs/api.md.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, Histogram, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import DBAPIError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent import clock
from agent.clock import NS_PER_S
from agent.errors import ConfigError
from receiver import db
from receiver.mqtt import Reception

HOST: Final = "127.0.0.1"
# The device asks again after 10 s (agent.sync), so what matters is below.
ACK_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ANSWER_S: Final = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """The figures of one process; `registry` is what is given out."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        self.acknowledged = Histogram(
            "roadwitness_ack_seconds", "From taking messages up to their acknowledgement.", buckets=ACK_S,
            registry=self.registry,
        )  # fmt: skip
        self.answered = Histogram(
            "roadwitness_http_seconds", "From a request to the end of its answer.", ["family", "status"],
            buckets=ANSWER_S, registry=self.registry,
        )  # fmt: skip
        self.registry.register(_Kept(engine))
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def watch(self, reception: Reception) -> None:
        """Give out what a reception counts."""
        self.registry.register(_Counted(reception))
        reception.on_acknowledged = self.acknowledged.observe

    def serve(self, port: int, stack: ExitStack) -> int:
        """Answer on a port of this machine until `stack` closes, and return it; 0 takes any. Raise ConfigError."""
        try:
            server, thread = start_http_server(port, HOST, self.registry)
        except OSError as e:
            raise ConfigError(f"metrics: port {port}: {e.strerror}; choose another metrics.port") from e

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        stack.callback(stop)
        return int(server.server_port)


class Timed:
    """Middleware that measures how long pages, the API and files take to be answered whole."""

    def __init__(self, app: ASGIApp, answered: Histogram) -> None:
        self._app = app
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = clock.monotonic_ns(), 500

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            family = _family(scope["path"])
            seconds = (clock.monotonic_ns() - began) / NS_PER_S
            self._answered.labels(family, f"{status // 100}xx").observe(seconds)


class _Counted(Collector):
    """What ingest counts while it works, at no further cost."""

    def __init__(self, reception: Reception) -> None:
        self._reception = reception

    def collect(self) -> Iterator[Metric]:
        counts = self._reception.ingest.counts
        for name, said, value in (
            ("messages", "Messages taken.", counts.messages),
            ("rows", "Entries stored.", counts.entries),
            ("duplicates", "Entries that came again.", counts.duplicates),
            ("flagged", "Entries stored that could not be read.", counts.flagged),
            ("parked", "Batches that came too early.", counts.parked),
            ("holes", "Gaps that neither side can fill.", counts.holes),
            ("overrun", "Messages dropped because too many waited.", self._reception.overrun),
        ):
            yield CounterMetricFamily(f"roadwitness_{name}", said, value)
        refused = CounterMetricFamily("roadwitness_refused", "Messages refused, by reason.", labels=["reason"])
        for reason, number in list(counts.refused.items()):
            refused.add_metric([reason], number)
        yield refused
        yield GaugeMetricFamily("roadwitness_backlog", "Messages that wait in this process.", self._reception.waiting)
        connected = int(self._reception.connected.is_set())
        yield GaugeMetricFamily("roadwitness_broker_connected", "1 while the broker is there.", connected)


class _Kept(Collector):
    """What the database knows, asked when Prometheus asks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        of = {
            "devices": ("Devices that are enrolled.", select(func.count()).select_from(db.device)),
            "devices_online": (
                "Devices that are connected.",
                select(func.count()).select_from(db.live).where(db.live.c.online.is_(True)),
            ),
            "claims_open": (
                "Claims that are not settled.",
                select(func.count()).select_from(db.claim).where(db.claim.c.state != "settled"),
            ),
        }
        up = 1
        try:
            with db.reading(self._engine) as connection:
                found = [(n, said, connection.execute(query).scalar_one()) for n, (said, query) in of.items()]
        except DBAPIError:
            up, found = 0, []
        yield GaugeMetricFamily("roadwitness_database_up", "1 while the database answers.", up)
        for name, said, value in found:
            yield GaugeMetricFamily(f"roadwitness_{name}", said, value)


def _family(path: str) -> str:
    return "api" if path.startswith("/api/") else "static" if path.startswith("/static/") else "pages"
