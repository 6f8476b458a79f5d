"""Uploads: the files of announced packages go in chunks, small files first, and only the receiver's answer frees one.

Within a session (one birth of the device) the receiver is asked what it lacks of a file (`init`), that is sent, and
`fin` asks it to check and store the whole. On any doubt what is known is forgotten and asked again. agent.sync drives
this between batches: `fill` sends what fits in the window, `take` hears an answer; nothing here waits.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from agent import filemessages, ranges
from agent.clock import NS_PER_S
from agent.errors import StoreError
from agent.filemessages import Files, Init
from agent.incident.folder import acknowledge, marker
from agent.records import Health, PackageFile
from agent.store.uploads import StoredPackage
from agent.tcp import Road
from agent.upload.budget import Budget
from agent.upload.outgoing import Flight, OutgoingFile, sha256_of
from agent.upload.pace import Pace
from agent.upload.settings import UploadSettings
from agent.upload.status import UploadStatus

log = logging.getLogger(__name__)

# Files that are open at the receiver at once: a package has about ten, and every answer tells of all open ones.
MOST_OPEN: Final = 8
KEEP_NS: Final = 5 * NS_PER_S  # between two notes of progress, which are for people only
LOOK_NS: Final = 60 * NS_PER_S  # how soon a budget of the next day is noticed
MOST_TOLD: Final = 256
IDLE_NS: Final = 3600 * NS_PER_S

Publish = Callable[[str, bytes], bool]
Look = Callable[[], Road | None]


class PackageTable(Protocol):
    """What uploads need of the store; `Store.uploads` on a device."""

    def packages(self) -> list[StoredPackage]:
        """Return every package that the store knows, oldest first."""

    def acknowledge(self, incident: str, digest: str) -> None:
        """Keep that the receiver holds all files of a package, as that record names them."""

    def reopen(self, incident: str) -> None:
        """Keep that the receiver does not hold a package any more."""

    def keep_progress(self, acknowledged: dict[str, int]) -> None:
        """Keep how many bytes of some files the receiver holds."""


class Uploads:
    """The state of all files that wait; owned by sync's thread."""

    def __init__(
        self,
        device: str,
        packages: Path,
        table: PackageTable,
        settings: UploadSettings | None = None,
        budget: Budget | None = None,
        on_health: Callable[[Health], None] | None = None,
    ) -> None:
        self._device = device
        self._packages = packages
        self._table = table
        self._settings = settings or UploadSettings()
        self._budget = budget
        self._on_health = on_health or (lambda _: None)
        self._pace = Pace(self._settings)
        self._session = ""
        self.silent = False  # answers stayed away: sync should ask who we are to the receiver, then `begin` again
        self._stale = True
        self._waiting: dict[str, StoredPackage] = {}  # by incident
        self._files: dict[str, OutgoingFile] = {}  # by id, in the order in which they go
        self._flights: list[Flight] = []
        self._now_ns = 0
        self._reading: OutgoingFile | None = None  # of which something was read ahead
        self._due_ns: int | None = None  # when the answer that is expected is overdue
        self._again_ns = IDLE_NS
        self._busy_ns = 0
        self._keep_ns = 0
        self._attempts = 0
        self._unkept: dict[str, int] = {}
        self._told: set[str] = set()
        self._sent = self._again = self._overdue = 0
        self._reason = ""
        self._over: set[str] = set()  # classes of files whose budget is used up

    def begin(self, session: str, now_ns: int) -> None:
        """Ask anew about everything: a connection stands and the receiver knows this session."""
        self._session = session
        self._now_ns = now_ns
        self._pace.begin(now_ns)
        self.silent = False
        self._forget()
        self._stale = True

    def lost(self) -> None:
        """Forget what is under way: the connection is gone."""
        self._session = ""
        self._forget()

    def refresh(self) -> None:
        """Look again which packages there are: one was announced."""
        self._stale = True

    def delivered(self, now_ns: int) -> None:
        """Take a PUBACK of a file's message as a sign of life of the link."""
        self._now_ns = now_ns
        if self._under_way:
            self._expect()

    def take(self, answer: Files, now_ns: int) -> None:
        """Hear what the receiver holds; an answer to another session says nothing."""
        if not self._session or answer.session != self._session:
            return
        self._now_ns = now_ns
        self._load()
        if answer.anew:
            self._lose_what_is_under_way()
        self._reopen([name for name in (*answer.open, *answer.refused) if name not in self._files])
        for name, held in answer.open.items():
            if name in self._files:
                self._hear(self._files[name], held)
        for name in answer.done:
            if name in self._files:
                self._finished(self._files[name])
        for name, reason in answer.refused.items():
            if name in self._files:
                self._refused(self._files[name], reason)
        for incident, digest in answer.packages.items():
            self._whole(incident, digest)
        if answer.trouble:
            self._reason = answer.trouble
            self._tell(f"the receiver takes no files: {answer.trouble}")
            self._forget()
            self._busy_ns = now_ns + round(self._settings.busy_s * NS_PER_S)
        else:
            self._expect()

    def fill(self, now_ns: int, publish: Publish, look: Look = lambda: None) -> None:
        """Send what may be sent now; `look` tells what is on the road."""
        self._now_ns = now_ns
        self._load()
        if not self._session or now_ns < self._busy_ns:
            return
        if self._due_ns is not None and now_ns >= self._due_ns:
            self._fall_due()
            return
        self._again_ns = now_ns + IDLE_NS
        while self._send_one(publish, look):
            pass
        if self._due_ns is None:
            self._expect()
        if self._unkept and now_ns >= self._keep_ns:
            self._keep()

    def come_back_ns(self) -> int:
        """Return when `fill` wants to be called at the latest."""
        if not self._session:
            return self._now_ns + IDLE_NS
        if self._now_ns < self._busy_ns:
            return self._busy_ns
        due_ns = self._again_ns if self._due_ns is None else min(self._due_ns, self._again_ns)
        return max(self._now_ns + 1, due_ns)

    def close(self) -> None:
        """Keep what is known."""
        if self._unkept:
            self._keep()
        if self._budget is not None:
            self._budget.close()

    @property
    def status(self) -> UploadStatus:
        """How far the files are."""
        open_files = [f for f in self._files.values() if not f.done]
        return UploadStatus(
            packages=len(self._waiting),
            files=len(open_files),
            bytes=sum(f.size for f in open_files),
            held=sum(f.size - ranges.total(f.missing) for f in open_files if f.missing is not None),
            sent=self._sent,
            again=self._again,
            overdue=self._overdue,
            reason=self._reason or ", ".join(f"the byte budget of class {kind} is used up" for kind in self._over),
        )

    # sending

    def _send_one(self, publish: Publish, look: Look) -> bool:
        """Send the next message, if there is one and it may go."""
        left = MOST_OPEN
        for file in self._files.values():
            if file.done:
                continue
            if file.hold_ns > self._now_ns:
                self._again_ns = min(self._again_ns, file.hold_ns)
                continue
            left -= 1
            if left < 0:
                break
            if file.missing is None:
                if not file.asked and self._there(file) and self._init(file, publish):
                    return True
            elif not file.missing:
                if not file.ending and self._fin(file, publish):
                    return True
            elif (piece := self._next_piece(file)) is not None:
                return self._has_room(look) and self._chunk(file, *piece, publish)
        return False

    def _has_room(self, look: Look) -> bool:
        """Say whether one more chunk may go; else an answer or a later look at the road brings it."""
        if len(self._flights) >= self._settings.window:
            return False
        road = look() or Road(sum(f.end - f.start for f in self._flights), 0.0)
        wait_ns = self._pace.look_again_ns(road)
        if wait_ns:
            self._again_ns = min(self._again_ns, self._now_ns + wait_ns)
        return not wait_ns

    def _init(self, file: OutgoingFile, publish: Publish) -> bool:
        init = Init(name=file.path.name, size=file.size, checksum=file.id)
        file.asked = publish(filemessages.init_topic(self._device, file.id), filemessages.encode_init(init))
        return file.asked

    def _fin(self, file: OutgoingFile, publish: Publish) -> bool:
        file.ending = publish(filemessages.fin_topic(self._device, file.id, file.size), b"")
        return file.ending

    def _next_piece(self, file: OutgoingFile) -> tuple[int, int] | None:
        """Return the first bytes that are missing and not under way."""
        left = file.missing or []
        for flight in self._flights:
            if flight.file is file:
                left = ranges.remove(left, flight.start, flight.end)
        if not left:
            return None
        start, end = left[0]
        return start, min(end, start + self._pace.chunk())

    def _chunk(self, file: OutgoingFile, start: int, end: int, publish: Publish) -> bool:
        size = end - start
        if self._budget is not None and not self._budget.allows(file.kind, size, self._now_ns):
            self._tell(
                f"the byte budget for files of class {file.kind} is used up; they wait for the next day or month"
            )
            self._over.add(file.kind)
            self._again_ns = min(self._again_ns, self._now_ns + LOOK_NS)
            file.hold_ns = self._now_ns + LOOK_NS
            return True  # the next file may be of another class
        wait_ns = self._pace.wait_ns(size, self._now_ns)
        if wait_ns:
            self._again_ns = min(self._again_ns, self._now_ns + wait_ns)
            return False
        data = self._read(file, start, size)
        if data is None:
            return True
        if not publish(filemessages.chunk_topic(self._device, file.id, start, data), data):
            return False  # the connection is gone; `lost` follows
        self._flights.append(Flight(file, start, end, self._now_ns, self._pace.acknowledged))
        self._pace.sent(size)
        if self._budget is not None:
            self._budget.spend(file.kind, size)
            self._over.discard(file.kind)
        known = ranges.total(file.sent)
        file.sent = ranges.add(file.sent, start, end)
        self._sent += size
        self._again += size - (ranges.total(file.sent) - known)
        return True

    def _there(self, file: OutgoingFile) -> bool:
        """Say whether a file is what its record says, as far as that is cheap; hold it where it is not."""
        try:
            size = file.path.stat().st_size
            same = size == file.size and (not file.suspect or sha256_of(file.path) == file.id)
            reason = "" if same else "it is not what its record says; the rest of the package goes without it"
        except OSError as e:
            reason = e.strerror or str(e)
        if reason:
            self._leave(file, reason)
        return not reason

    def _read(self, file: OutgoingFile, start: int, size: int) -> bytes | None:
        try:
            if self._reading is not file:
                if self._reading is not None:
                    self._reading.drop_ahead()
                self._reading = file
            data = file.read(start, size)
        except OSError as e:
            self._leave(file, e.strerror or str(e))
            return None
        if len(data) != size:
            self._leave(file, "it has become shorter")
            return None
        return data

    def _leave(self, file: OutgoingFile, reason: str) -> None:
        self._tell(f"{file.path} cannot be sent: {reason}")
        self._hold(file)

    def _hold(self, file: OutgoingFile) -> None:
        file.forget()
        file.hold_ns = self._now_ns + round(self._settings.refused_s * NS_PER_S)
        self._flights = [f for f in self._flights if f.file is not file]

    # hearing

    def _hear(self, file: OutgoingFile, held: filemessages.OpenFile) -> None:
        if held.revision < file.revision:
            return  # overtaken on the way by a later answer, as two receivers may do
        file.revision = held.revision
        file.missing = ranges.remove(list(held.missing), file.size, filemessages.LARGEST)
        file.asked = file.done = False
        file.ending = file.ending and not file.missing
        left = []
        for flight in self._flights:
            if flight.file is not file or ranges.overlap(file.missing, flight.start, flight.end):
                left.append(flight)
                continue
            self._pace.arrived(flight.end - flight.start, flight.sent_ns, flight.acknowledged_then, self._now_ns)
            self._attempts = 0
            self._reason = ""
        self._flights = left
        self._unkept[file.id] = file.size - ranges.total(file.missing)

    def _finished(self, file: OutgoingFile) -> None:
        for flight in self._flights:
            if flight.file is file:
                self._pace.arrived(flight.end - flight.start, flight.sent_ns, flight.acknowledged_then, self._now_ns)
        self._flights = [f for f in self._flights if f.file is not file]
        file.missing, file.done = [], True
        file.drop_ahead()
        file.asked = file.ending = file.suspect = False
        file.hold_ns = 0
        self._attempts = 0
        self._unkept[file.id] = file.size

    def _refused(self, file: OutgoingFile, reason: str) -> None:
        self._reason = f"{file.path.name}: {reason}"
        self._tell(f"the receiver refuses {file.path}: {reason}")
        self._hold(file)
        file.suspect = True

    def _whole(self, incident: str, digest: str) -> None:
        waiting = self._waiting.get(incident)
        if waiting is None or waiting.digest != digest:
            return  # it speaks of an earlier record: files were added since
        try:
            self._table.acknowledge(incident, digest)
            acknowledge(self._packages, incident)
        except StoreError as e:
            self._tell(str(e))
            return  # it is told again in the next session
        log.info("the receiver holds package %s: %d files", incident, len(waiting.package.files))
        self._keep()
        self._stale = True

    def _reopen(self, names: list[str]) -> None:
        """Begin again with packages that were acknowledged, of which the receiver now lacks a file."""
        if not names:
            return
        for stored in self._table.packages():
            lacking = stored.acknowledged and any(f.sha256 in names for f in stored.package.files)
            folder = self._packages / stored.package.incident
            if lacking and folder.is_dir():
                log.warning("the receiver lacks files of package %s that it held before", stored.package.incident)
                self._table.reopen(stored.package.incident)
                self._stale = True
        self._load()

    # what there is

    def _load(self) -> None:
        if not self._stale:
            return
        self._stale = False
        stored = [p for p in self._table.packages() if not p.acknowledged]
        self._waiting = {p.package.incident: p for p in stored}
        found: dict[str, OutgoingFile] = {}
        for p in stored:
            folder = self._packages / p.package.incident
            self._protect(folder)
            for named in p.package.files if p.announced else ():
                if self._usable(p, named):
                    file = self._files.get(named.sha256)
                    found.setdefault(named.sha256, file or OutgoingFile(named.sha256, folder / named.name, named.size))
        order = sorted(found.values(), key=lambda f: f.kind == "video")
        self._files = {f.id: f for f in order}
        self._flights = [f for f in self._flights if f.file.id in self._files]

    def _protect(self, folder: Path) -> None:
        """Keep retention from a package of which the receiver lacks something: new files, or ones that it lost."""
        try:
            marker(folder).unlink(missing_ok=True)
        except OSError as e:
            self._tell(f"{marker(folder)}: cannot be removed: {e.strerror}; check the disk")

    def _usable(self, stored: StoredPackage, named: PackageFile) -> bool:
        usable = filemessages.safe_name(named.name) and 0 <= named.size <= filemessages.LARGEST
        if not usable:
            self._tell(f"package {stored.package.incident} names a file that cannot be sent: {named.name[:100]!r}")
        return usable

    # trouble

    @property
    def _under_way(self) -> bool:
        return bool(self._flights) or any(f.asked or f.ending for f in self._files.values())

    def _fall_due(self) -> None:
        """Forget what was said: answers stayed away, or the receiver never told that a package is whole."""
        if self._under_way:
            self._overdue += 1
            self._reason = "the receiver does not answer about files"
            log.warning("answers about files stay away; asking again")
        self._attempts += 1
        self._forget()
        self.silent = True

    def _lose_what_is_under_way(self) -> None:
        """Send again at once what may have gone to a receiver that died, less what the one that began holds."""
        self._flights = []
        for file in self._files.values():
            file.asked = file.ending = False

    def _forget(self) -> None:
        self._flights = []
        self._busy_ns = 0
        self._due_ns = None
        for file in self._files.values():
            file.forget()

    def _expect(self) -> None:
        """Set when the answer that is expected now, if any, will be overdue: later each time that it stayed away."""
        if self._under_way or any(self._complete(p) for p in self._waiting.values()):
            longest = max(self._settings.answer_s, self._settings.refused_s)
            patience_s = min(longest, self._settings.answer_s * 2.0 ** min(self._attempts, 10))
            self._due_ns = self._now_ns + round(patience_s * NS_PER_S)
        else:
            self._due_ns = None

    def _complete(self, stored: StoredPackage) -> bool:
        """Say whether the receiver has told that it holds every file of a package, but not yet the package."""
        files = [self._files.get(f.sha256) for f in stored.package.files]
        return stored.announced and all(f is not None and f.done for f in files)

    def _keep(self) -> None:
        kept, self._unkept = self._unkept, {}
        self._keep_ns = self._now_ns + KEEP_NS
        try:
            self._table.keep_progress(kept)
        except StoreError as e:
            self._tell(str(e))

    def _tell(self, text: str) -> None:
        """Say once what a person should know."""
        if text in self._told or len(self._told) >= MOST_TOLD:
            return
        self._told.add(text)
        log.warning("%s", text)
        self._on_health(Health(t_ns=self._now_ns, source="uplink", state="degraded", detail=text))
