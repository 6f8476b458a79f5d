"""The conversation that never ends: measure the supply, find the vehicle, poll it, recover, rest while paused."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.channels import number
from agent.clock import NS_PER_S
from agent.errors import DriverError
from drivers.diagnosis import codes
from drivers.elm import bringup, diagnosis, vehicle
from drivers.elm.command import Listen
from drivers.elm.dialogue import AdapterLost, Dialogue, Hushed, Script, Timing
from drivers.elm.line import SCHEMES, Line
from drivers.elm.memory import Memory
from drivers.elm.poll import Plan
from drivers.elm.recovery import CHARGING_V, Absence, Breaker, Stage
from drivers.elm.reply import OUT_OF_STEP, USELESS, Action, Reply
from drivers.elm.samples import channels_of, read_answers
from drivers.elm.talk import Talker
from drivers.elm.vehicle import Vehicle

VOLTAGE: Final = number("Power.Voltage")
PLAUSIBLE_V: Final = (4.0, 36.0)  # the adapter itself resets below some 4 V; no vehicle has more than 24 V nominal
VOLTAGE_S: Final = 2.0  # while polling: cranking lasts about as long
RESTING_VOLTAGE_S: Final = 10.0  # paused or without a vehicle
SILENT: Final = 6  # requests without any answer, one after the other, before the vehicle counts as gone
CODES_FIRST_S: Final = 20.0  # after the vehicle is found: speed comes first
CODES_EVERY_S: Final = 300.0  # trouble codes change seldom; the same as drivers.can.conversation
PROBE_AGAIN_S: Final = 60.0  # then twice as long each time: whether requests may carry more than they do
IDLE_S: Final = 1.0  # longest single wait, so that pausing is noticed
# Ports that have no rate of their own: one rate is enough.
_RATELESS: Final = (*SCHEMES, "/dev/rfcomm", "/dev/pts/")


class Session:
    """One adapter from opening to closing. `samples` collects (t_ns, channel, value) until the driver takes them."""

    def __init__(
        self, port: str, speed_hz: float, cache: Path | None, timing: Timing, clock: Callable[[], int]
    ) -> None:
        self._port = port
        self._speed_hz = speed_hz
        self._clock = clock
        self._timing = timing
        self.memory = Memory(cache)
        self.paused = threading.Event()
        self.guest: Script[None] | None = None  # a technician's question, to be asked next
        self.hosting = False
        self.samples: list[tuple[int, int, float]] = []
        self._no_vin = False  # this adapter does not survive the VIN's long answer: kept over reopening

    def start(self, talker: Talker) -> None:
        """Forget everything about an earlier session except the pause."""
        self.dialogue = Dialogue(talker, self._timing, self._hushed)
        self.vehicle: Vehicle | None = None
        self.plan: Plan | None = None
        self.samples = []
        self.guest, self.hosting = None, False
        self.absence = Absence()
        self._breaker = Breaker()
        self._protocol: str | None = None
        self._volts: float | None = None
        self._voltage_due_ns = 0
        self._unanswered = 0
        self.latency_ns = 0  # of answers while polling, the newest weighing an eighth; 0 before the first
        self._closed_protocol = False
        self._probe_due_ns = 0
        self._probe_after_s = PROBE_AGAIN_S
        self._codes_due_ns = 0

    def prepare(self, line: Line, baud: int) -> Script[None]:
        """Find the rate (`baud` 0) and bring the adapter up; raise DriverError when none answers."""
        bauds = (baud,) if baud else bringup.BAUDS
        if self._port.startswith(_RATELESS):
            bauds = bauds[:1]
        self.dialogue.adapter.baud = yield from bringup.find_baud(self.dialogue, line.open, bauds, self._port)
        try:
            yield from bringup.bring_up(self.dialogue, self._port)
        except AdapterLost as lost:
            yield from self._restart(lost)

    def run(self) -> Script[None]:
        """Converse for ever; raise DriverError when the adapter cannot be brought back."""
        while True:
            try:
                yield from self._turn()
            except Hushed:
                continue
            except AdapterLost as lost:
                yield from self._restart(lost)

    def find_vehicle(self) -> Script[None]:
        """Look for the vehicle if it is time; else wait a little."""
        due_ns = self.absence.due_ns(self._volts)
        if self._clock() < due_ns:
            yield from self._idle(min(due_ns, self._voltage_due_ns))
            return
        if due_ns > 0:  # not the first search: be sure of the settings
            yield from bringup.bring_up(self.dialogue, self._port)
        thorough = self._volts is None or self._volts >= CHARGING_V
        self._closed_protocol = False
        found = yield from vehicle.find(self.dialogue, self._protocol, thorough)
        if found is None:
            yield from self._lose_vehicle()
            return
        yield from vehicle.study(self.dialogue, found, self.memory, with_vin=not self._no_vin)
        self._breaker.good()
        self._unanswered = 0
        self.vehicle, self._protocol = found, found.protocol
        wanted = tuple(sorted({pid for have in found.units.values() for pid in have if channels_of(pid)}))
        self.plan = Plan(found.units, wanted, self._speed_hz, self._clock())
        self._probe_after_s = PROBE_AGAIN_S
        self._take_probed(self.plan)
        self._codes_due_ns = self._clock() + int(CODES_FIRST_S * NS_PER_S)

    def _take_probed(self, plan: Plan) -> None:
        plan.most, plan.counted = self.dialogue.adapter.most or 1, bool(self.dialogue.adapter.counted)
        self._probe_due_ns = self._clock() + int(self._probe_after_s * NS_PER_S)
        self._probe_after_s = min(2 * self._probe_after_s, 3600.0)

    def _hushed(self) -> bool:
        return self.paused.is_set() and not self.hosting

    def _turn(self) -> Script[None]:
        """Do the one thing that is due now, or wait for it."""
        if self.guest is not None:
            guest, self.guest, self.hosting = self.guest, None, True
            try:
                yield from guest
            finally:
                self.hosting = False
            return
        now_ns = self._clock()
        if now_ns >= self._voltage_due_ns:
            yield from self._measure_voltage(now_ns)
        elif self.paused.is_set():
            yield from self._rest()
        elif self.vehicle is None or self.plan is None:
            yield from self.find_vehicle()
        elif now_ns >= self._probe_due_ns and not (self.plan.counted and self.plan.most > 1):
            yield from vehicle.probe(self.dialogue, self.vehicle)  # what was lost to a bad moment comes back
            self._take_probed(self.plan)
        elif now_ns >= self._codes_due_ns:
            self._codes_due_ns = now_ns + int(CODES_EVERY_S * NS_PER_S)
            car = self.vehicle
            for name, by_unit in (yield from diagnosis.held(self.dialogue, car, codes())).items():
                car.codes.setdefault(name, {}).update(by_unit)  # a unit that is silent now said something before
        else:
            yield from self._poll(self.vehicle, self.plan)

    def _measure_voltage(self, now_ns: int) -> Script[None]:
        polling = self.vehicle is not None and not self.paused.is_set()
        self._voltage_due_ns = now_ns + int((VOLTAGE_S if polling else RESTING_VOLTAGE_S) * NS_PER_S)
        found = yield from bringup.voltage(self.dialogue)
        if found is not None and PLAUSIBLE_V[0] <= found[1] <= PLAUSIBLE_V[1]:
            self._volts = found[1]
            self.samples.append((found[0], VOLTAGE, found[1]))
        elif found is None and self.dialogue.adapter.voltage:
            yield from self._struck()  # it could before

    def _rest(self) -> Script[None]:
        if not self._closed_protocol:  # an open K-line is kept awake by the adapter itself, every 3 s
            yield from self.dialogue.command("ATPC")
            self._closed_protocol = True
            return
        yield from self._idle(self._voltage_due_ns)

    def _poll(self, car: Vehicle, plan: Plan) -> Script[None]:
        query = plan.next(self._clock())
        if query is None:
            due_ns = plan.due_ns()
            yield from self._idle(self._voltage_due_ns if due_ns is None else min(due_ns, self._voltage_due_ns))
            return
        self._closed_protocol = False
        reply = yield from self.dialogue.request(query.text)
        answers = car.answers.read(reply)
        if reply.lines:
            took_ns = reply.lines[-1][0] - reply.sent_ns
            self.latency_ns = (7 * self.latency_ns + took_ns) // 8 if self.latency_ns else took_ns
        reading = read_answers(answers, query.pids, plan.owner(), reply.sent_ns, self.dialogue.counters)
        self.samples += reading.samples
        plan.answered(reading.answered, reply.sent_ns)
        if self.dialogue.adapter.most != plan.most:
            self.dialogue.adapter.most = plan.most
            self.dialogue.count("requests_shortened")
        missing = tuple(pid for pid in query.pids if pid not in reading.answered)
        if reading.answered:
            self._breaker.good()
            self.absence.over()
            self._unanswered = 0
        if reading.foreign:
            self.dialogue.count("foreign_answers")
            plan.missed(missing, reply.sent_ns, alive=False)
            if not (yield from self._realigned(car)):
                yield from self._struck()
        elif missing:
            silent = reading.negative or not reply.data()
            yield from self._lacking(car, plan, query.pids, missing, reply, silent)

    def _realigned(self, car: Vehicle) -> Script[bool]:
        """Get into step with an adapter that gave an answer to something else; ask what cannot be mistaken for it."""
        if not (yield from self.dialogue.settle()):
            return False
        reply = yield from self.dialogue.request("0100")
        return any(answer.payload[:2] == b"\x41\x00" for answer in car.answers.read(reply))

    def _lacking(
        self, car: Vehicle, plan: Plan, asked: tuple[int, ...], missing: tuple[int, ...], reply: Reply, silent: bool
    ) -> Script[None]:
        """Deal with a request of which `missing` was not answered; `silent` says that no unreadable answer came."""
        failure = reply.failure
        if failure is not None and failure.action is Action.BUS:
            yield from self._lose_vehicle()
            return
        told = failure is None or failure.action in (Action.MISSING, Action.SMALLER)
        if failure is not None and failure.name == "?" and plan.counted:
            plan.counted = self.dialogue.adapter.counted = False
            return
        some = len(missing) < len(asked)
        refused = told and reply.prompted and not reply.odd_lines and (silent or some)
        if len(asked) > 1 and refused:
            plan.doubted(missing, len(asked) - len(missing))
        elif refused:
            gone = plan.missed(missing, reply.sent_ns, alive=self._unanswered == 0)
            car.silent += gone
            for _ in gone:
                self.dialogue.count("pids_given_up")
        if some:
            return
        if not refused:
            plan.missed(asked, reply.sent_ns, alive=False)
            yield from self._struck()
            return
        self._unanswered += 1
        if self._unanswered >= SILENT:
            yield from self._lose_vehicle()

    def _lose_vehicle(self) -> Script[None]:
        """Close the protocol and look for the vehicle later."""
        if self.vehicle is not None:
            self.dialogue.count("vehicle_lost")
        self.vehicle = self.plan = None
        self.absence.again(self._clock(), self._volts)
        yield from self.dialogue.command("ATPC")

    def _idle(self, until_ns: int) -> Script[None]:
        """Listen until something is due; what an adapter says unasked is taken seriously."""
        wait_s = min(max((until_ns - self._clock()) / NS_PER_S, 0.001), IDLE_S)
        reply = yield Listen(wait_s)
        self.dialogue.count("unreadable_lines", reply.odd_lines)
        failure = reply.failure
        if failure is None:
            return
        self.dialogue.count(failure.name)
        if failure.action is Action.RESET:
            raise AdapterLost(failure)

    def _struck(self) -> Script[None]:
        """Count a useless exchange; too many lead to a reset."""
        if self._breaker.strike() is Stage.RESET:
            yield from self._restart(AdapterLost(USELESS))

    def _restart(self, lost: AdapterLost) -> Script[None]:
        """Bring the adapter up again; raise DriverError when that was tried too often, or does not work."""
        self._no_vin |= lost.text == "0902" and lost.why is OUT_OF_STEP
        while True:
            self.dialogue.count("resets")
            self.vehicle = self.plan = None
            self._voltage_due_ns = 0  # after cranking the voltage is news
            if self._breaker.reset(self._clock()) is Stage.REOPEN:
                raise DriverError(
                    f"{self._port}: the adapter needs a reset again and again, the last for {lost.why.name}"
                    f" ({lost.why.meaning}); check its plug and supply"
                )
            try:
                yield from bringup.bring_up(self.dialogue, self._port)
                if lost.why.name == "ERR94":
                    yield from self.dialogue.command("ATFE")
                return
            except AdapterLost as again:
                lost = again
