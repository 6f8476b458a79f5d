"""The driver for ELM327 adapters on serial, Bluetooth serial and TCP.

One conversation (drivers/elm/session.py, a generator) brings the adapter up, finds the vehicle, polls it and recovers
from trouble; `read` carries it on for as long as its time-out allows and leaves it in the middle of an exchange if
need be. Nothing here can write to a vehicle (drivers/elm/command.py).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeVar

from agent.blocks import Block, empty_block, make_block
from agent.clock import NS_PER_S, monotonic_ns
from agent.errors import DriverError
from agent.records import Health
from drivers.diagnosis import Asking
from drivers.elm import diagnosis, usb
from drivers.elm.command import Command, Listen
from drivers.elm.dialogue import Adapter, Script, Timing
from drivers.elm.line import Line, SerialLine
from drivers.elm.reply import Reply
from drivers.elm.session import Session
from drivers.elm.settings import Elm327Settings
from drivers.elm.talk import Talker
from drivers.elm.vehicle import Vehicle
from drivers.facts import Facts, say_vehicle

T = TypeVar("T")

QUESTION_S: Final = 60.0  # a whole freeze frame on a K-line


class Elm327:
    """Read an ELM327: OBD samples and the supply voltage.

    `pause` and `resume` may be called from any thread; all else from the one that reads. `line`, `clock` and `timing`
    are the port, its clock and its deadlines; by default pyserial, the monotonic clock and the data sheet's. `reset`
    resets the USB device behind a port (drivers.elm.usb), which is done only where `settings.usb_reset` is true.
    """

    def __init__(
        self,
        settings: Elm327Settings,
        timing: Timing | None = None,
        line: Line | None = None,
        clock: Callable[[], int] = monotonic_ns,
        reset: Callable[[str], bool | None] = usb.reset,
    ) -> None:
        self.name = f"elm327:{settings.port}"
        self._settings = settings
        self._line: Line = line or SerialLine(settings.port)
        self._clock = clock
        self._session = Session(settings.port, settings.speed_hz, settings.cache, timing or Timing(), clock)
        self._talker = Talker(self._line, clock)
        self._session.start(self._talker)
        self._script: Script[None] | None = None
        self._request: Command | Listen | None = None
        self._reset = reset
        self._stubborn = usb.Stubborn()
        self._resets: dict[str, int] = {}
        self._facts = Facts()

    def open(self) -> None:
        """Open the port, find the rate, bring the adapter up; raise DriverError when none answers.

        The vehicle is looked for while reading: it may be asleep, and the adapter's voltage is worth having then too.
        """
        self.close()
        self._session.start(self._talker)
        if self._settings.usb_reset and self._stubborn.due:
            self._reset_usb()
        try:
            self._hold(self._session.prepare(self._line, self._settings.baud))
        except DriverError:
            self._stubborn.failed()
            self.close()
            raise
        self._script = self._session.run()
        self._request = next(self._script)

    def read(self, timeout_s: float) -> Block:
        """Return the samples of the next answer, an empty block when `timeout_s` passed without one.

        Raises DriverError when the adapter is gone or cannot be brought back.
        """
        self._carry_on(self._clock() + int(timeout_s * NS_PER_S), lambda: bool(self._session.samples))
        samples, self._session.samples = self._session.samples, []
        if not samples:
            return empty_block()
        self._stubborn.good()
        return make_block(samples)

    def close(self) -> None:
        """Release the port."""
        self._script = self._request = None
        self._talker.drop()
        self._line.close()

    def pause(self) -> None:
        """Send no further request to the vehicle, so that its control units can sleep."""
        self._session.paused.set()

    def resume(self) -> None:
        """Poll again."""
        self._session.paused.clear()

    @property
    def settings(self) -> Elm327Settings:
        """Return what it was made with."""
        return self._settings

    def at_any_rate(self) -> "Elm327":
        """Return a driver of the same adapter that finds the rate itself, not opened."""
        return Elm327(replace(self._settings, baud=0))

    @property
    def adapter(self) -> Adapter:
        """Return the facts about the adapter."""
        return self._session.dialogue.adapter

    @property
    def counts(self) -> dict[str, int]:
        """Count failures by the adapter's own words, and repairs, since opening; USB resets since the start."""
        return {**self._session.dialogue.counters, **self._resets}

    def health(self) -> list[Health]:
        """Return what the adapter is, who the vehicle says it is, and what trouble codes its control units list."""
        car, now_ns = self._session.vehicle, self._clock()
        if car is not None:
            say_vehicle(self._facts, now_ns, self.name, car.vin, car.vin_valid, car.codes)
            learned = self.adapter.told() | {"protocol": car.protocol}
            self._facts.say(now_ns, f"{self.name}:adapter", "ok", self.adapter.describe(), learned)
        if self.memory_trouble:
            self._facts.say(now_ns, f"{self.name}:memory", "degraded", self.memory_trouble)
        return self._facts.standing({})

    @property
    def vehicle(self) -> Vehicle | None:
        """Return what is known of the vehicle while it answers, else None."""
        return self._session.vehicle

    @property
    def polled(self) -> tuple[int, ...]:
        """Return the PIDs that are asked for."""
        return self._session.plan.pids if self._session.plan else ()

    @property
    def latency_ns(self) -> int:
        """Return how long the car's answers take while it is polled, 0 before the first."""
        return self._session.latency_ns

    @property
    def memory_trouble(self) -> str:
        """Say in one line why cars are not remembered; '' when they are."""
        return self._session.memory.trouble

    def ask(self, asking: Asking[T]) -> T:
        """Ask the vehicle what a technician wants to know (drivers.diagnosis); DriverError when nobody answers.

        It is asked while polling is paused too, and again when the adapter loses its settings over it. Samples wait
        for the next read.
        """
        session = self._session
        until_ns = self._clock() + int(QUESTION_S * NS_PER_S)
        answers: list[T] = []

        def guest() -> Script[None]:
            session.absence.over()
            while session.vehicle is None and self._clock() < until_ns:
                yield from session.find_vehicle()
            if session.vehicle is not None:
                answers.append((yield from diagnosis.held(session.dialogue, session.vehicle, asking())))

        while not answers and self._clock() < until_ns:
            session.guest = guest()
            self._carry_on(until_ns, lambda: session.guest is None and not session.hosting)
        session.guest = None
        if not answers:
            raise DriverError(
                f"{self._settings.port}: the vehicle gave no answer within {QUESTION_S:.0f} s; switch the ignition on"
            )
        return answers[0]

    def _carry_on(self, until_ns: int, enough: Callable[[], bool]) -> None:
        """Go on with the conversation until it has given `enough`, or the time is up."""
        if self._script is None or self._request is None:
            raise DriverError(f"{self._settings.port}: cannot read: the adapter is not open; open it first")
        try:
            while True:
                if not self._talker.busy:
                    self._talker.begin(self._request)
                reply = self._talker.wait((until_ns - self._clock()) / NS_PER_S)
                if reply is None:
                    return
                self._request = self._script.send(reply)
                if enough() or self._clock() >= until_ns:
                    return
        except DriverError:
            self._stubborn.failed()
            self._script = self._request = None  # the conversation is over until the next `open`
            raise

    def _reset_usb(self) -> None:
        done = self._reset(self._settings.port)
        if done is not None:
            name = "usb_resets" if done else "usb_resets_refused"
            self._resets[name] = self._resets.get(name, 0) + 1

    def _hold(self, script: Script[T]) -> T:
        """Hold a whole conversation now."""
        try:
            request = next(script)
            while True:
                self._talker.begin(request)
                reply: Reply | None = None
                while reply is None:  # at most until the request's own deadline
                    reply = self._talker.wait(request.deadline_s)
                request = script.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result
