"""The broker inside: amqtt in a thread of its own, on 127.0.0.1 only, so that the demo needs nothing installed.

It speaks MQTT 3.1.1 and keeps nothing on disk; a real receiver uses Mosquitto, EMQX or the like. amqtt waits for ever
on a MQTT 5 CONNECT, whose properties it takes for a client id, so the first packet is looked at here and a client
that asks for another version than 3.1.1 is refused as the standard says.
"""

import asyncio
import logging
import threading
from contextlib import suppress
from typing import Final

from amqtt.adapters import ReaderAdapter, StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType

from agent.errors import UplinkError

HOST: Final = "127.0.0.1"
LISTENER: Final = "default"
# CONNACK, return code 1: unacceptable protocol version (MQTT 3.1.1, 3.2.2.3)
REFUSE_VERSION: Final = bytes([0x20, 2, 0, 1])
LEVEL_3_1_1: Final = 4
START_S: Final = 10.0


class _Replayed(ReaderAdapter):  # type: ignore[misc]  # amqtt has no types
    """A stream that gives back first what was already read from it."""

    def __init__(self, head: bytes, stream: asyncio.StreamReader) -> None:
        self._head = head
        self._rest = StreamReaderAdapter(stream)

    async def read(self, n: int = -1) -> bytes:
        """Read n bytes, or fewer at the end."""
        taken, self._head = (self._head, b"") if n < 0 else (self._head[:n], self._head[n:])
        if len(taken) == n:
            return taken
        rest: bytes = await self._rest.read(n - len(taken) if n > 0 else n)
        return taken + rest

    def feed_eof(self) -> None:
        """Say that nothing more comes."""
        self._rest.feed_eof()


class EmbeddedBroker(threading.Thread):
    """Runs a broker from `open` to `close`; port 0 takes a free one."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(name="broker", daemon=True)
        self._port = port
        self._ready = threading.Event()
        self._failure: OSError | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None

    @property
    def url(self) -> str:
        """Return where clients connect."""
        return f"mqtt://{HOST}:{self._port}"

    def open(self) -> str:
        """Start and return the URL; raise UplinkError when the port is taken."""
        self.start()
        if not self._ready.wait(START_S) or self._failure:
            cause = self._failure.strerror if self._failure else "it did not start"
            raise UplinkError(f"embedded broker on {HOST}:{self._port}: {cause}; choose another port or an own broker")
        return self.url

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop; closing twice is legal."""
        if self._loop is not None and self._ending is not None and self.is_alive():
            self._loop.call_soon_threadsafe(self._ending.set)
            self.join(timeout_s)

    def run(self) -> None:
        """Serve until closed."""
        # amqtt tells every connection and every unusual packet; on the demo's own machine that is noise
        logging.getLogger("amqtt").setLevel(logging.CRITICAL)
        logging.getLogger("transitions").setLevel(logging.ERROR)
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        config = BrokerConfig(
            listeners={LISTENER: ListenerConfig(type=ListenerType.EXTERNAL, bind=HOST)},
            plugins={"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        )
        broker = Broker(config)
        await broker.start()
        clients: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            clients[writer] = asyncio.current_task()
            try:
                await _welcome(broker, reader, writer)
            finally:
                writer.close()
                del clients[writer]

        try:
            server = await asyncio.start_server(connected, HOST, self._port)
        except OSError as e:
            self._failure = e
            self._ready.set()
            await broker.shutdown()
            return
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._ending.wait()
        server.close()
        await broker.shutdown()
        left = dict(clients)
        for writer, task in left.items():
            writer.transport.abort()
            if task is not None:
                task.cancel()
        await asyncio.gather(*(t for t in left.values() if t is not None), return_exceptions=True)
        await asyncio.sleep(0)  # the aborted connections close their sockets in the loop's next turn


async def _welcome(broker: Broker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, EOFError, TimeoutError):  # it went away, or it does not speak MQTT
        head, level = await asyncio.wait_for(_first_bytes(reader), START_S)
        if level == LEVEL_3_1_1:
            await broker.external_connected(_Replayed(head, reader), StreamWriterAdapter(writer), LISTENER)
        else:
            writer.write(REFUSE_VERSION)
            await writer.drain()


async def _first_bytes(reader: asyncio.StreamReader) -> tuple[bytes, int]:
    """Return the start of a CONNECT packet and its protocol level; EOFError when it is none."""
    head = await reader.readexactly(2)
    while head[-1] & 0x80 and len(head) < 5:  # remaining length, one to four bytes
        head += await reader.readexactly(1)
    head += await reader.readexactly(7)  # 0 4 M Q T T and the level
    if head[0] != 0x10 or head[-7:-1] != b"\x00\x04MQTT":
        raise EOFError
    return head, head[-1]
