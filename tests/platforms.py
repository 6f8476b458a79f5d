"""A regulator's platform for tests: a real TCP server in the same event loop that answers as it is told to."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine

from agent import clock
from receiver.jt808 import messages
from receiver.jt808.frame import Deframer, Message, encode
from receiver.jt808.gateway import Gateway
from receiver.jt808.link import pause
from receiver.jt808.messages import Answer, Authentication, Location, Registration, RegistrationAnswer
from receiver.jt808.settings import Jt808Settings, TerminalSettings

PHONE = "13912344329"
CUT = object()  # in the place of an answer: the platform closes the link
Script = Callable[["Platform", Message], Any]


@dataclass
class Platform:
    """Registers, authenticates, keeps what it confirmed. `script` may answer first: bytes, a result, CUT or None."""

    script: Script = lambda platform, message: None
    code: str = "K7#x"
    heard: list[Message] = field(default_factory=list)
    registrations: list[Registration] = field(default_factory=list)
    kept: list[Location] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)  # their kinds
    links: int = 0
    port: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.links += 1
        deframer, authenticated = Deframer(), False
        try:
            while data := await reader.read(4096):
                for message in deframer.feed(data):
                    self.heard.append(message)
                    said = self.script(self, message)
                    if said is CUT:
                        return
                    if message.id == messages.AUTHENTICATE:
                        authenticated = said is None and Authentication.decode(message.body).code == self.code
                        said = messages.OK if authenticated else messages.FAILED
                    elif message.id not in (messages.REGISTER, messages.TERMINAL_ANSWER):
                        assert authenticated, "spoke before it was authenticated"
                    for answer in self._answers(message, said):
                        writer.write(answer)
                    await writer.drain()
                    async with self.changed:
                        self.changed.notify_all()
        except ConnectionError:
            pass
        finally:
            writer.close()

    def _answers(self, message: Message, said: Any) -> Iterator[bytes]:
        if isinstance(said, bytes):
            yield said
            return
        if message.id == messages.TERMINAL_ANSWER:
            return
        if message.id == messages.REGISTER:
            self.registrations.append(Registration.decode(message.body))
            answer = RegistrationAnswer(message.serial, said or 0, self.code).encode()
            yield encode(Message(messages.REGISTER_ANSWER, message.phone, 0, answer))
            return
        result = messages.OK if said is None else said
        if result == messages.OK:
            self.keep(message)
        yield general(message, result)

    def keep(self, message: Message) -> None:
        if message.id == messages.LOCATION:
            self.kept.append(Location.decode(message.body))
        elif message.id == messages.LOCATIONS:
            kind, found = messages.decode_batch(message.body)
            self.batches.append(kind)
            self.kept += found

    def ids(self) -> list[int]:
        return [m.id for m in self.heard]

    async def until(self, true: Callable[[], bool], seconds: float = 60.0) -> None:
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(true), seconds)


def general(message: Message, result: int, serial: int | None = None, id: int | None = None) -> bytes:
    """Return the frame of a general answer, right or, on demand, for another message."""
    answered = message.serial if serial is None else serial
    body = Answer(answered, message.id if id is None else id, result).encode()
    return encode(Message(messages.PLATFORM_ANSWER, message.phone, 0, body))


@asynccontextmanager
async def listening(platform: Platform, **kept: Any) -> AsyncIterator[Platform]:
    server = await asyncio.start_server(platform.serve, "127.0.0.1", platform.port, **kept)
    platform.port = server.sockets[0].getsockname()[1]
    try:
        yield platform
    finally:
        server.close()


def terminal(**changed: Any) -> TerminalSettings:
    since = datetime(2001, 1, 1, tzinfo=UTC)
    base: dict[str, Any] = {"phone": PHONE, "terminal": "RW0001", "plate": "鲁A12345", "consent_from": since}
    return TerminalSettings(**{**base, **changed})


def settings(port: int, terminals: dict[str, TerminalSettings], **changed: Any) -> Jt808Settings:
    quick: dict[str, Any] = {
        "enabled": True,
        "host": "127.0.0.1",
        "port": port,
        "province": 37,
        "city": 100,
        "maker": "RW",
        "poll_s": 0.02,
        "answer_timeout_s": 5.0,
        "back_off_s": 0.01,
        "back_off_most_s": 0.05,
        "messages_per_s": 100_000.0,
    }
    return Jt808Settings(**{**quick, "terminals": terminals, **changed})


@asynccontextmanager
async def telling(engine: Engine, configured: Jt808Settings) -> AsyncIterator[asyncio.Task[None]]:
    """Run a gateway for the time of the block; what ended it before is raised."""
    running = asyncio.create_task(Gateway(engine, configured).run())
    try:
        yield running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        if not running.cancelled():
            running.result()


async def until(true: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait until the database says so."""
    end_ns = clock.monotonic_ns() + int(seconds * 1e9)
    while not true():
        assert clock.monotonic_ns() < end_ns, "it did not come true"
        await pause(0.01)
