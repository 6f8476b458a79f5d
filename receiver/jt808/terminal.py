"""One device as a terminal of the platform: registers, authenticates, tells its positions, signs off; and again."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol, TypeVar
from zlib import crc32

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from agent import clock
from agent.clock import NS_PER_S
from receiver.jt808 import messages, positions, tables
from receiver.jt808.frame import FrameError
from receiver.jt808.link import Link, LinkBroken, TooLate, pause
from receiver.jt808.messages import Answer, Authentication, Registration, RegistrationAnswer
from receiver.jt808.positions import Due, Place
from receiver.jt808.settings import Jt808Settings, TerminalSettings
from receiver.registry import consents

log = logging.getLogger(__name__)

SOFTWARE: Final = "roadwitness"
_REFUSALS: Final = {
    messages.VEHICLE_TAKEN: "the platform has this vehicle registered already; let its operator remove it",
    messages.NO_VEHICLE: "the platform does not know this vehicle; let its operator enter plate and colour",
    messages.TERMINAL_TAKEN: "the platform has this terminal registered already; let its operator remove it",
    messages.NO_TERMINAL: "the platform does not know this terminal; let its operator enter its id",
}
_TAKEN: Final = (messages.OK, messages.ALARM_CONFIRMED)
_NEVER: Final = (messages.WRONG, messages.UNSUPPORTED)  # the same again would be answered the same

T = TypeVar("T")


class Refused(Exception):  # noqa: N818 - what the platform said
    """The platform does not want this terminal, or will not take what it says; the text says why and what to do."""


class Office(Protocol):
    """What terminals share."""

    settings: Jt808Settings
    places: dict[str, Place]

    async def ask(self, question: Callable[[Connection], T]) -> T:
        """Read from the database."""

    async def note(self, change: Callable[[Connection], T]) -> T:
        """Write into the database, durable on return."""

    async def pace(self) -> None:
        """Wait until one more message may be sent."""


class Terminal:
    """Keeps one device's link and moves its positions; `news` is set when the database has something for it."""

    def __init__(self, device: str, settings: TerminalSettings, office: Office) -> None:
        self.news = asyncio.Event()
        self.allowed = settings.allowed  # by the owner's consent at the receiver where there is any, else by the file
        self._device = device
        self._of = settings
        self._office = office
        self._told_live: tuple[str, int] | None = None
        self._told_ns = 0  # when something was last sent, monotonic
        self._tries = 0  # since the platform last took something

    async def run(self) -> None:
        """Keep the platform told for as long as the owner agrees; ends when there is nothing more to do."""
        while True:
            try:
                if not await self._due_for_link():
                    return
                await self._session()
                continue  # it signed off
            except LinkBroken as e:
                state, detail = "broken", str(e)
            except Refused as e:
                state, detail = "refused", str(e)
            except SQLAlchemyError as e:
                state, detail = "broken", f"database: {type(e).__name__}"
                log.warning("jt808: %s: %s", self._device, e)
            self._tries += 1
            await self._say(state, detail)
            await self._rest(state == "refused")

    async def _due_for_link(self) -> bool:
        """Say whether there is a reason for a link; a terminal whose consent ended needs one to sign off."""
        agreed = await self._office.ask(lambda c: consents.spans(c, [self._device], "regulator"))
        self.allowed = agreed.get(self._device, self._of.allowed)
        since_ns, until_ns = self.allowed
        now_ns = clock.wall_ns()
        if since_ns <= now_ns < until_ns:
            return True
        row = await self._office.ask(lambda c: tables.row_of(c, self._device))
        if now_ns >= until_ns and row is not None and row.code is not None:
            return True
        if row is None or row.state != "signed_off":
            await self._say("off", "no consent at this time")
        if now_ns < since_ns:  # it begins later
            await self._until(since_ns)
            return True
        if self._device in agreed:  # the owner may agree again
            self.news.clear()
            await self.news.wait()
            return await self._due_for_link()
        return False

    async def _session(self) -> None:
        """Tell over one link until it breaks, which raises LinkBroken, or consent ends and the terminal signs off."""
        began_ns = clock.wall_ns()
        await self._say("connecting", "")
        link = await Link.open(self._of.phone, self._office.settings, self._office.pace)
        try:
            await self._sign_in(link)
            await self._say("online", "")
            with suppress(TooLate):
                while clock.wall_ns() < self.allowed[1]:
                    await self._tell(link, began_ns)
            await link.ask(messages.DEREGISTER, b"")
            await self._office.note(lambda c: tables.keep_code(c, self._device, None))
            await self._say("signed_off", "consent ended")
        except TooLate:  # it is not registered, and may not register any more
            return
        finally:
            await link.close()

    async def _sign_in(self, link: Link) -> None:
        row = await self._office.ask(lambda c: tables.row_of(c, self._device))
        known = row is not None and row.code is not None
        code = row.code if known else await self._register(link)
        if await self._authenticated(link, code):
            return
        await self._office.note(lambda c: tables.keep_code(c, self._device, None))
        if not known or not await self._authenticated(link, await self._register(link)):
            raise Refused("the platform refuses the authentication code that it gave; ask its operator")

    async def _register(self, link: Link) -> str:
        s, of = self._office.settings, self._of
        asked = Registration(s.province, s.city, s.maker, s.model, of.terminal, of.plate_colour, of.plate)
        answer = await link.ask(messages.REGISTER, asked.encode(), self.allowed[1])
        if not isinstance(answer, RegistrationAnswer):
            raise Refused(f"the platform answers a registration with the general result {answer.result}")
        if answer.result != messages.REGISTERED:
            raise Refused(_REFUSALS.get(answer.result, f"the platform refuses to register it: result {answer.result}"))
        code = answer.code.replace("\0", "")
        await self._office.note(lambda c: tables.keep_code(c, self._device, code))
        return code

    async def _authenticated(self, link: Link, code: str) -> bool:
        try:
            body = Authentication(code, self._of.imei, SOFTWARE).encode()
        except FrameError as e:
            raise Refused(f"the platform gave a code that cannot be sent back: {e}") from e
        answer = await link.ask(messages.AUTHENTICATE, body)
        return answer.result == messages.OK

    async def _tell(self, link: Link, began_ns: int) -> None:
        """Tell where the device is now, then what is due; when nothing is, wait for news or say that we live."""
        await self._tell_live(link)
        self.news.clear()
        datum, allowed = self._office.settings.datum, self.allowed
        due = await self._office.ask(lambda c: positions.due(c, self._device, allowed, datum))
        while due:
            n = await self._tell_some(link, due, began_ns)
            due = due[n:]
            await self._tell_live(link)
            if not due:
                return  # there may be more
        idle_s = (clock.monotonic_ns() - self._told_ns) / NS_PER_S
        left_s = self._office.settings.heartbeat_s - idle_s
        if left_s <= 0:
            await self._send(link, messages.HEARTBEAT, b"")
            left_s = self._office.settings.heartbeat_s
        end_s = (self.allowed[1] - clock.wall_ns()) / NS_PER_S
        await link.idle(self.news, max(0.0, min(left_s, end_s)))

    async def _tell_live(self, link: Link) -> None:
        place = self._office.places.get(self._device)
        if place is None or (place.boot, place.t_ns) == self._told_live:
            return
        now_ns = clock.wall_ns()
        since_ns, until_ns = self.allowed
        fresh = now_ns - place.utc_ns <= self._office.settings.fresh_s * NS_PER_S
        if not fresh or not since_ns <= place.utc_ns < until_ns:
            return
        moving = (place.speed_mps or 0.0) > 0.0
        where = (place.latitude, place.longitude)
        datum = self._office.settings.datum
        location = positions.located(place.utc_ns, where, datum, driving=moving, speed_mps=place.speed_mps)
        if location is not None and await self._send(link, messages.LOCATION, location.encode()) in _TAKEN:
            self._told_live = (place.boot, place.t_ns)

    async def _tell_some(self, link: Link, due: Sequence[Due], began_ns: int) -> int:
        """Tell the first of what is due in one message, move the positions, and return how many that were."""
        missed = due[0].received_utc_ns < began_ns
        urgent = not missed and due[0].mark.lane != "track"
        run: list[Due] = []
        bodies: list[bytes] = []
        for each in due:
            if (each.received_utc_ns < began_ns) != missed or (run and urgent):
                break
            body = [] if each.location is None else [each.location.encode()]
            if messages.fitting(bodies + body) < len(bodies) + len(body):
                break
            run.append(each)
            bodies += body
        if not bodies:
            await self._move(run, 0, 0)
            return len(run)
        if urgent:
            return await self._tell_each(link, run)
        kind = messages.BLIND_AREA if missed else messages.NORMAL
        result = await self._send(link, messages.LOCATIONS, messages.encode_batch(kind, bodies))
        if result in _TAKEN:
            await self._move(run, len(bodies), 0)
            return len(run)
        if result in _NEVER:
            return await self._tell_each(link, run)
        raise LinkBroken(f"the platform failed to take positions: result {result}")

    async def _tell_each(self, link: Link, run: Sequence[Due]) -> int:
        """Tell positions one by one; one that the platform calls wrong by itself is counted and left."""
        for each in run:
            if each.location is None:
                await self._move([each], 0, 0)
                continue
            result = await self._send(link, messages.LOCATION, each.location.encode())
            if result == messages.UNSUPPORTED:
                raise Refused("the platform does not take positions (0x0200); ask its operator")
            if result != messages.WRONG and result not in _TAKEN:
                raise LinkBroken(f"the platform failed to take a position: result {result}")
            wrong = result == messages.WRONG
            await self._move([each], 0 if wrong else 1, 1 if wrong else 0)
        return len(run)

    async def _send(self, link: Link, id: int, body: bytes) -> int:
        """Send what the owner's consent covers, so nothing after its end; return the platform's result."""
        answer = await link.ask(id, body, self.allowed[1])
        self._told_ns = clock.monotonic_ns()
        if not isinstance(answer, Answer):
            raise LinkBroken(f"the platform answers 0x{id:04x} with a registration")
        if answer.result in _TAKEN:
            self._tries = 0
        return answer.result

    async def _move(self, run: Sequence[Due], told: int, refused: int) -> None:
        marks, now_ns = [each.mark for each in run], clock.wall_ns()
        await self._office.note(lambda c: tables.move(c, self._device, marks, told, refused, now_ns))

    async def _say(self, state: str, detail: str) -> None:
        now_ns = clock.wall_ns()
        try:
            await self._office.note(lambda c: tables.note_state(c, self._device, state, detail, now_ns))
        except SQLAlchemyError as e:
            log.warning("jt808: %s: %s: cannot be noted: %s", self._device, state, e)
        if detail:
            log.info("jt808: %s: %s: %s", self._device, state, detail)

    async def _rest(self, refused: bool) -> None:
        """Wait before the next try: longer each time, spread over the devices so that they do not come back at once."""
        s = self._office.settings
        doubled_s = s.back_off_s * 2.0 ** min(self._tries - 1, 20)
        wait_s = s.back_off_most_s if refused else min(s.back_off_most_s, doubled_s)
        await pause(wait_s * (0.75 + crc32(self._device.encode()) % 1000 / 2000))

    async def _until(self, utc_ns: int) -> None:
        """Wait for a moment of the wall clock, which may be set meanwhile."""
        while (left_s := (utc_ns - clock.wall_ns()) / NS_PER_S) > 0:
            await pause(min(left_s, 60.0))
