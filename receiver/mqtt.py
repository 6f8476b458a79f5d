"""Reception: one connection to the broker, one thread that commits what came and then acknowledges it.

A message's PUBACK is sent after its transaction, so a broker that still holds it sends it again to whoever is left
when this process dies. While the database is away nothing is taken, nothing is acknowledged and nothing is lost.
Only the chunks of files are durable later, and their devices know it. What takes long has threads of its own: fsync and
hashing of files under way, storing of whole ones, and what is done with whole packages.
"""

import hashlib
import logging
import queue
import random
import secrets
import threading
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from agent import answers, clock, messages
from agent.clock import NS_PER_S
from agent.errors import RoadwitnessError
from agent.filemessages import FILE_FILTER
from agent.link import Arrived, BrokerSettings, Delivered, Down, Happening, Link, Refused, Up
from receiver import commands, db, packages
from receiver.commands import Outgoing
from receiver.errands import Errands
from receiver.filestore import FileStore
from receiver.ingest import Ingest
from receiver.packages import Arrival
from receiver.registry import telling
from receiver.transfers import FileMessage
from receiver.underway import Key

log = logging.getLogger(__name__)

GREET_S: Final = 2.0  # how soon a device learns that it was enrolled
RETRY_S: Final = 1.0
RETRY_CAP_S: Final = 30.0
REFUSED_S: Final = 60.0
# Beyond the receive window of MQTT 5 a broker holds messages back; 3.1.1 has none and Mosquitto 2.0.11 sends a whole
# one for each PUBACK. So there is a bound here: what is beyond it waits in the connection, and is dropped after long.
MOST_WAITING: Final = 1000
FLOOD_S: Final = 2.0  # far below the keep-alive, whose pings wait meanwhile
MOST_GROUP: Final = 16  # messages about files that are answered together
# Batches that are stored together. Beyond some hundred small ones a commit costs little by message; large ones are
# bounded by their bytes, as others wait for a transaction: 128 KiB are some 1200 entries and take about 0.2 s.
MOST_BATCHES: Final = 256
MOST_GROUP_BYTES: Final = 128 * 1024
SETTLE_S: Final = 1.0  # between two fsyncs of a file that comes in slowly (receiver.settling.SETTLE_BYTES)
TEND_S: Final = 3600.0  # between two looks for what crashes left behind
ATTEMPTS: Final = 3  # for a message that the database refuses although it works


class Reception(threading.Thread):
    """Receives until stopped; `on_end` is called when the thread ends, for whatever reason.

    `files` keeps the files of packages; `on_package` is called, in a thread of its own, for every package that became
    whole (receiver.packages.arrived), again after a RoadwitnessError or OSError. `key` signs what devices are
    answered, and told of their owners' consent; without it another process tells them of that.
    """

    def __init__(
        self,
        engine: Engine,
        settings: BrokerSettings,
        group: str = "roadwitness",
        on_end: Callable[[], None] | None = None,
        files: FileStore | None = None,
        on_package: Callable[[Arrival], None] | None = None,
        key: Ed25519PrivateKey | None = None,
    ) -> None:
        super().__init__(name="ingest", daemon=True)
        self.ingest = Ingest(engine, files)
        self._engine = engine
        self._on_package = on_package
        self._key = key
        self._tell_again = False  # what was handed over before may be lost with the connection
        self.connected = threading.Event()
        self.overrun = 0  # messages dropped because too many waited; their devices send them again
        self.on_acknowledged: Callable[[float], None] = _unwatched  # seconds from taking messages to acknowledging them
        self._happened: queue.Queue[Happening | None] = queue.Queue()
        self._room = threading.Semaphore(MOST_WAITING)  # for messages
        self._choked = False
        self._stopping = threading.Event()
        self._on_end = on_end or (lambda: None)
        self._rng = random.Random()
        self._failures = 0
        self._connect_due_ns: int | None = 0
        self._greet_due_ns = self._tend_due_ns = 0
        self._ahead: Happening | None = None  # taken from the queue while a group was gathered, and not part of it
        self._package_trouble = ""
        self._settling = Errands[Key]("settle", self._settle_file, self._settle, SETTLE_S)
        self._finishing = Errands[Key]("store", self._finish_file)
        self._arriving = Errands[Arrival]("packages", self._hand_over, self._look_for_packages, GREET_S)
        self._trouble = ""
        self._link = Link(
            settings,
            f"rw-receiver-{secrets.token_hex(4)}",
            self._take,
            filters=[messages.BIRTH_FILTER, messages.STATUS_FILTER, messages.LIVE_FILTER],
            shared_filters=[messages.UP_FILTER, FILE_FILTER],
            group=group if key is None else _unguessable(group, key),
            manual_ack=True,
        )

    @property
    def stopping(self) -> bool:
        """Whether somebody asked it to stop."""
        return self._stopping.is_set()

    @property
    def waiting(self) -> int:
        """How many messages have come and are not stored."""
        return self._happened.qsize()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Finish the message at hand, disconnect, and end."""
        self._stopping.set()
        self._happened.put(None)
        if self.is_alive() and threading.current_thread() is not self:
            self.join(timeout_s)

    def run(self) -> None:
        """Receive until stopped."""
        workers = (self._settling, self._finishing, self._arriving)
        try:
            for worker in workers:
                worker.start()
            while not self._stopping.is_set():
                self._fall_due()
                happening = self._next()
                if isinstance(happening, Arrived):
                    self._store(self._group(happening))
                elif happening is not None:
                    self._note(happening)
        finally:
            for worker in reversed(workers):
                worker.stop()
            self._link.close()
            self.connected.clear()
            self._on_end()

    def _next(self) -> Happening | None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            return ahead
        try:
            return self._taken(self._happened.get(timeout=self._patience_s()))
        except queue.Empty:
            return None

    def _taken(self, happening: Happening | None) -> Happening | None:
        if isinstance(happening, Arrived):
            self._room.release()
        return happening

    def _group(self, first: Arrived) -> list[Arrived]:
        """Return a message, and where it is one of a sort that goes together, those of its sort that wait behind it."""
        group, sort = [first], _sort(first)
        most, size = _TOGETHER.get(sort, 1), len(first.payload)
        while len(group) < most and size < MOST_GROUP_BYTES and self._ahead is None:
            try:
                happening = self._taken(self._happened.get_nowait())
            except queue.Empty:
                break
            if isinstance(happening, Arrived) and _sort(happening) == sort:
                group.append(happening)
                size += len(happening.payload)
            else:
                self._ahead = happening
                if happening is None:  # told to stop
                    break
        return group

    def _take(self, happening: Happening) -> None:
        if isinstance(happening, Arrived) and not self._room.acquire(timeout=0.0 if self._choked else FLOOD_S):
            self._choked = True  # until there is room again
            self.overrun += 1
        elif not isinstance(happening, Delivered):
            self._choked = self._choked and not isinstance(happening, Arrived)
            self._happened.put(happening)

    def _patience_s(self) -> float:
        due_ns = self._greet_due_ns if self._connect_due_ns is None else min(self._greet_due_ns, self._connect_due_ns)
        return max(0.0, (due_ns - clock.monotonic_ns()) / NS_PER_S)

    def _fall_due(self) -> None:
        now_ns = clock.monotonic_ns()
        if self._connect_due_ns is not None and now_ns >= self._connect_due_ns:
            self._connect_due_ns = None
            self._link.connect()
        if now_ns >= self._greet_due_ns:
            self._greet_due_ns = now_ns + int(GREET_S * NS_PER_S)
            if self.connected.is_set():
                try:
                    self._publish(self.ingest.greet())
                    self._publish(commands.unsent(self._engine, clock.wall_ns()))
                    self._tell_consents()
                except DBAPIError as e:
                    self._say("database", f"cannot be read: {_cause(e)}")
        if now_ns >= self._tend_due_ns:
            self._tend_due_ns = now_ns + int(TEND_S * NS_PER_S)
            try:
                self.ingest.tend(clock.wall_ns())
            except DBAPIError as e:
                self._say("database", f"cannot be read: {_cause(e)}")

    def _tell_consents(self) -> None:
        """Hand the broker what was agreed to or withdrawn, to be kept for its device."""
        if self._key is None:
            return
        if self._tell_again:
            self._publish(telling.recent(self._engine, self._key, clock.wall_ns()))
            self._tell_again = False
        for device, word in telling.untold(self._engine, self._key):
            if self._link.publish(*word):
                telling.told(self._engine, device, word, self._key)

    def _note(self, happening: Happening) -> None:
        if isinstance(happening, Up):
            self._say("", f"receiving from broker {self._link.name} (MQTT {happening.version})")
            self._failures = 0
            self.connected.set()
            self._tell_again = True
        elif isinstance(happening, Down | Refused):
            self.connected.clear()
            self._say("refused" if isinstance(happening, Refused) else "offline", happening.reason)
            base_s = REFUSED_S if isinstance(happening, Refused) else RETRY_S * 2.0 ** min(self._failures, 10)
            wait_s = min(base_s, REFUSED_S if isinstance(happening, Refused) else RETRY_CAP_S)
            self._failures += 1
            self._connect_due_ns = clock.monotonic_ns() + int(wait_s * self._rng.uniform(0.5, 1.0) * NS_PER_S)

    def _settle(self) -> None:
        self.ingest.settle(clock.wall_ns())

    def _settle_file(self, key: Key) -> None:
        self.ingest.settle_file(key, clock.wall_ns())

    def _finish_file(self, key: Key) -> None:
        self._publish([self.ingest.finish_file(key, clock.wall_ns())])
        self._arriving.soon()

    def _look_for_packages(self) -> None:
        """Have the packages handed over that became whole and were not dealt with yet, also by earlier processes."""
        if self._on_package is not None:
            for arrival in packages.untold(self._engine):
                self._arriving.give(arrival)

    def _hand_over(self, arrival: Arrival) -> None:
        if self._on_package is None or self.stopping:
            return
        try:
            self._on_package(arrival)
        except (RoadwitnessError, OSError) as e:
            if self._package_trouble != str(e):
                log.error("package %s of device %s: %s; tried again", arrival.incident, arrival.device, e)
            self._package_trouble = str(e)
        else:
            packages.told(self._engine, arrival)

    def _commit(self, group: list[Arrived]) -> list[Outgoing]:
        first, now_ns = group[0], clock.wall_ns()
        if _sort(first) == "file":
            received = self.ingest.receive_files([_file_message(a) for a in group], now_ns)
            for key in received.ends:
                self._finishing.give(key)  # without room the device asks again
            for key in received.full:
                self._settling.give(key)
            return received.outgoing
        if len(group) > 1:
            return self.ingest.take_batches([(a.topic, a.payload) for a in group], now_ns)
        outgoing = self.ingest.take(first.topic, first.payload, now_ns)
        if outgoing and self._key is not None and _sort(first) == "birth":
            with db.reading(self._engine) as connection:
                outgoing += telling.outgoing(connection, self._key, messages.address(first.topic).device)
        if first.retained and outgoing and first.topic.endswith("/birth"):
            # The broker kept it from before this process began: its device may wait for one that died.
            outgoing += self.ingest.resume(messages.address(first.topic).device, now_ns)
        return outgoing

    def _store(self, group: list[Arrived]) -> None:
        """Commit messages, publish their acknowledgements, and let the broker forget them; wait for the database."""
        failures, began_ns = 0, clock.monotonic_ns()
        while not self._stopping.is_set():
            try:
                outgoing = self._commit(group)
            except (OperationalError, InterfaceError) as e:
                self._say("database", f"not working, nothing is acknowledged: {_cause(e)}")
                clock.wait(self._stopping, min(RETRY_CAP_S, 0.1 * 2.0 ** min(failures, 10)))
                failures += 1
            except DBAPIError:
                failures += 1
                if failures >= ATTEMPTS and len(group) > 1:  # one of them is not wanted; the others are
                    for arrived in group:
                        self._store([arrived])
                    return
                if failures >= ATTEMPTS:
                    log.exception("the database refuses a message on %s; it is not stored", group[0].topic)
                    self._let_go(group)
                    return
            else:
                if self._trouble == "database":
                    self._say("", "the database works again")
                self._publish(outgoing)
                self._let_go(group)
                self.on_acknowledged((clock.monotonic_ns() - began_ns) / NS_PER_S)
                return

    def _let_go(self, group: list[Arrived]) -> None:
        for arrived in group:
            self._link.acknowledge(arrived)

    def _publish(self, outgoing: list[Outgoing]) -> None:
        for topic, payload, retain in outgoing:
            what = topic.rpartition("/")[2]
            signs = self._key if what in answers.PREFIXES else None
            self._link.publish(topic, payload if signs is None else answers.sign(what, payload, signs), retain=retain)

    def _say(self, trouble: str, text: str) -> None:
        """Log a change of state; a steady state is silence."""
        if trouble != self._trouble or not trouble:
            log.log(logging.WARNING if trouble else logging.INFO, "%s", text)
        self._trouble = trouble


def _unguessable(group: str, key: Ed25519PrivateKey) -> str:
    """Return the name of a group that only who has the key finds, the same for all processes that have it.

    A broker deals the messages of a shared subscription out among all that ask for it, and Mosquitto lets anybody ask:
    a hostile box in our group would make every second batch of the others vanish until they send it again.
    """
    proof = key.sign(b"roadwitness shared subscription\n" + group.encode())  # Ed25519: always the same
    return f"{group}-{hashlib.sha256(proof).hexdigest()[:32]}"


def _unwatched(_: float) -> None:
    """Do nothing: nobody measures."""


_TOGETHER: Final = {"file": MOST_GROUP, "up": MOST_BATCHES}


def _sort(arrived: Arrived) -> str:
    """Return what a message is about, empty for one that is not ours."""
    try:
        return messages.address(arrived.topic).what
    except messages.MessageError:
        return ""


def _file_message(arrived: Arrived) -> FileMessage:
    where = messages.address(arrived.topic)
    return FileMessage(where.device, where.lane, arrived.payload)


def _cause(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0]
