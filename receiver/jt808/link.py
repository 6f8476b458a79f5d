"""One TCP link to a platform: sends a message, waits for its answer, repeats it, answers what the platform asks.

The n-th repetition waits n times as long as the wait before it, and a link whose repetitions are used up is broken
(JT/T 808-2019, communication rules; docs/sources.md, J1).
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import Any, Final

from agent import clock
from receiver.jt808 import messages
from receiver.jt808.frame import Assembly, Deframer, FrameError, Message, encode, split
from receiver.jt808.messages import Answer, RegistrationAnswer
from receiver.jt808.settings import ALWAYS_NS, Jt808Settings

_READ: Final = 4096


class LinkBroken(Exception):  # noqa: N818 - what happened to the link
    """The link is of no use any more; the text says why."""


class TooLate(Exception):  # noqa: N818 - what the clock said
    """The time until which a message might be sent is over; it was not sent, or not again."""


class Link:
    """A connection for one terminal. `pace` is awaited before each message that is sent."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        phone: str,
        settings: Jt808Settings,
        pace: Callable[[], Awaitable[None]],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._phone = phone.zfill(20)
        self._settings = settings
        self._pace = pace
        self._serials = count()
        self._waiting: dict[tuple[int, int], asyncio.Future[Answer | RegistrationAnswer]] = {}
        self._deframer = Deframer()
        self.strays = 0  # answers to nothing and messages for another terminal
        self._ear = asyncio.create_task(self._listen())

    @classmethod
    async def open(cls, phone: str, settings: Jt808Settings, pace: Callable[[], Awaitable[None]]) -> "Link":
        """Connect to the platform; raise LinkBroken."""
        try:
            context = ssl.create_default_context(cafile=settings.ca or None) if settings.tls else None
            opening = asyncio.open_connection(settings.host, settings.port, ssl=context, limit=_READ)
            reader, writer = await asyncio.wait_for(opening, settings.connect_timeout_s)
        except TimeoutError as e:
            raise LinkBroken(f"no connection within {settings.connect_timeout_s:g} s") from e
        except OSError as e:
            raise LinkBroken(f"cannot connect: {e}") from e
        return cls(reader, writer, phone, settings, pace)

    @property
    def faults(self) -> int:
        """How much of what came was no message."""
        return self._deframer.faults

    async def close(self) -> None:
        """End the link."""
        self._ear.cancel()
        await asyncio.gather(self._ear, return_exceptions=True)
        self._writer.close()
        await asyncio.gather(self._writer.wait_closed(), return_exceptions=True)

    async def ask(self, id: int, body: bytes, until_ns: int = ALWAYS_NS) -> Answer | RegistrationAnswer:
        """Send a message and return the platform's answer to it; raise LinkBroken.

        Nothing of it is sent from `until_ns` (UTC) on, no repetition either: raise TooLate.
        """
        parts = split(id, self._phone, next(self._serials) & 0xFFFF, body)
        for _ in parts[1:]:
            next(self._serials)
        key = (id, parts[-1].serial)
        answered: asyncio.Future[Answer | RegistrationAnswer] = asyncio.get_running_loop().create_future()
        self._waiting[key] = answered
        wait_s = self._settings.answer_timeout_s
        try:
            for repetition in range(self._settings.retransmissions + 1):
                for part in parts:
                    await self._send(part, until_ns)
                either: set[asyncio.Future[Any]] = {answered, self._ear}
                await asyncio.wait(either, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                if answered.done():
                    return answered.result()
                self._check()
                wait_s *= repetition + 1
        finally:
            del self._waiting[key]
        raise LinkBroken(f"no answer to 0x{id:04x} after {self._settings.retransmissions} repetitions")

    async def idle(self, news: asyncio.Event, seconds: float) -> None:
        """Wait until there is news, the time is over or the link broke; raise LinkBroken for the last."""
        waiting = asyncio.ensure_future(news.wait())
        try:
            either: set[asyncio.Future[Any]] = {waiting, self._ear}
            await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        self._check()

    def _check(self) -> None:
        if self._ear.done():
            raise LinkBroken(str(self._ear.exception() or "the platform closed the link"))

    async def _send(self, message: Message, until_ns: int = ALWAYS_NS) -> None:
        await self._pace()
        if clock.wall_ns() >= until_ns:
            raise TooLate
        try:
            self._writer.write(encode(message))
            await asyncio.wait_for(self._writer.drain(), self._settings.answer_timeout_s)
        except TimeoutError as e:
            raise LinkBroken("the platform takes nothing") from e
        except OSError as e:
            raise LinkBroken(f"cannot send: {e}") from e

    async def _listen(self) -> None:
        assembly = Assembly()
        while True:
            try:
                data = await self._reader.read(_READ)
            except OSError as e:
                raise LinkBroken(f"cannot receive: {e}") from e
            if not data:
                return
            for part in self._deframer.feed(data):
                message = assembly.take(part)
                if message is not None:
                    await self._hear(message)

    async def _hear(self, message: Message) -> None:
        """Take one message; whatever is no answer is answered as unsupported, also when it comes twice."""
        if message.phone.zfill(20) != self._phone:
            self.strays += 1
            return
        try:
            if message.id == messages.PLATFORM_ANSWER:
                answer = Answer.decode(message.body)
                self._answered(answer.id, answer)
                return
            if message.id == messages.REGISTER_ANSWER:
                self._answered(messages.REGISTER, RegistrationAnswer.decode(message.body))
                return
        except FrameError:
            self.strays += 1
            return
        answer = Answer(message.serial, message.id, messages.UNSUPPORTED)
        serial = next(self._serials) & 0xFFFF
        await self._send(Message(messages.TERMINAL_ANSWER, self._phone, serial, answer.encode()))

    def _answered(self, id: int, answer: Answer | RegistrationAnswer) -> None:
        waiting = self._waiting.get((id, answer.serial))
        if waiting is None or waiting.done():
            self.strays += 1
        else:
            waiting.set_result(answer)


async def pause(seconds: float) -> None:
    """Wait in the event loop; only a cancelled task ends it sooner."""
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), seconds)
