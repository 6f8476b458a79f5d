"""One update from offer to proof: look, fetch, lay down, switch, judge, and keep it or go back.

The process that judges is always of the last version that proved healthy (the link roadwitness-good), so that a new one
that cannot even start is judged, too. What must outlast a power cut is in agent.update.state; each phase there has one
way on after a boot (`settle`).
"""

import platform
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from agent.clock import NS_PER_S, iso_utc, monotonic_ns, wait, wall_ns
from agent.local.client import LocalError
from agent.local.client import status as ask_status
from agent.local.messages import Status
from agent.update import trees
from agent.update.channel import Channel, Offer
from agent.update.health import ailment, baseline, hindrance
from agent.update.place import Place, Run, UpdateError, run_program
from agent.update.settings import UpdateSettings
from agent.update.state import OUTCOME_FILE, Outcome, State, load, save, write_whole

SERVICES: Final = ("roadwitness-agent.service", "roadwitness-dashcam.service")
LOOK_S: Final = 2.0  # between two looks at a version on trial
PYTHON: Final = ".".join(platform.python_version_tuple()[:2])

# unregistered: installed and healthy, but dpkg would not take it, and is asked again at the next look
Verdict = Literal["newest", "offered", "installed", "unregistered", "rolled_back", "waiting", "nothing"]


@dataclass(frozen=True, slots=True)
class Said:
    """What a step came to: a word for programs, a sentence for people."""

    verdict: Verdict
    detail: str
    version: str = ""


def _ask(folder: Path) -> Status | None:
    try:
        return ask_status(folder)
    except LocalError:
        return None


def _pause(seconds: float) -> None:
    wait(threading.Event(), seconds)


@dataclass
class Updater:
    """The updater of one box; what it asks of the machine is given, so that tests can be the machine."""

    place: Place
    settings: UpdateSettings
    boot: str
    metered: bool = True
    run: Run = run_program
    ask: Callable[[Path], Status | None] = _ask
    clock_ns: Callable[[], int] = monotonic_ns
    pause: Callable[[float], None] = _pause
    _counted: int = 0  # bytes fetched and not yet written down

    # looking and fetching

    def check(self) -> tuple[Offer | None, Channel]:
        """Return what the repository offers beyond what runs, if anything; raise UpdateError."""
        if not self.settings.url:
            raise UpdateError("no repository is named; put its address into [update] url of agent.toml")
        channel = Channel(self.place, self.settings.url, self._count)
        offer = channel.newest(self.run(["dpkg", "--print-architecture"]).output.strip(), PYTHON)
        if offer is None or trees.number(offer.version) <= trees.number(self.active):
            return None, channel
        return offer, channel

    @property
    def active(self) -> str:
        """The version that runs; raise UpdateError where the box was not installed from a package."""
        version = trees.at(self.place, trees.ACTIVE)
        if not trees.VERSION.fullmatch(version):
            raise UpdateError(f"{self.place.opt / trees.ACTIVE}: no installed version; updates need the Debian package")
        return version

    def update(self, *, asked: bool = False) -> Said:
        """Install what is offered, if it may be installed now; `asked`: a person wants it, whatever it costs."""
        settled = self.settle()
        if settled is not None and settled.verdict != "unregistered":
            return settled
        said = self._look(asked)
        return said if settled is None or said.verdict in ("installed", "rolled_back") else settled

    def _look(self, asked: bool) -> Said:
        if not self.settings.url and not asked:
            return Said("nothing", "no repository is named in [update] of agent.toml")
        offer, channel = self.check()
        if offer is None:
            return Said("newest", f"roadwitness {self.active} is the newest", self.active)
        state = load(self.place.state)
        if not asked and offer.version in state.refused:
            return Said("waiting", f"{offer.version} is not tried again: {state.refused[offer.version]}", offer.version)
        why = self._costs(offer, state) if not asked else ""
        why = why or hindrance(self.ask(self.place.store))
        if why:
            return Said("waiting", f"{offer.version} waits: {why}", offer.version)
        package = channel.fetch(offer)
        return self.install(package, offer.version)

    def _costs(self, offer: Offer, state: State) -> str:
        if not self.metered:
            return ""
        spent = state.bytes if state.month == self._month() else 0
        most = self.settings.metered_month_bytes
        if spent + offer.length <= most:
            return ""
        left = max(0, most - spent) / 1e6
        return f"{offer.length / 1e6:.0f} MB over a link that costs; {left:.0f} MB are left this month"

    def _count(self, count: int) -> None:
        """Note what was fetched, a megabyte at a time."""
        if not self.metered:
            return
        self._counted += count
        if self._counted >= 1_000_000:
            self.note()

    def note(self) -> None:
        """Write down what fetching has cost; callers do it once more at the end."""
        if self._counted:
            state = load(self.place.state)
            spent = state.bytes if state.month == self._month() else 0
            save(self.place.state, msgspec.structs.replace(state, month=self._month(), bytes=spent + self._counted))
            self._counted = 0

    def _month(self) -> str:
        return iso_utc(wall_ns())[:7]

    # trying

    def install(self, package: Path, version: str) -> Said:
        """Lay a fetched package down, switch to it, and judge it; raise UpdateError where it is not even tried."""
        previous = self.active
        trees.stage(self.place, package, version, self.run)
        try:
            self._examine(version, previous)
        except UpdateError as wrong:
            self._refuse(version, str(wrong))
            trees.sweep(self.place, {previous})
            raise
        status = self.ask(self.place.store)
        why = hindrance(status)  # fetching and compiling took minutes
        if why:
            return Said("waiting", f"{version} waits: {why}", version)
        state = msgspec.structs.replace(
            load(self.place.state),
            phase="switching",
            version=version,
            previous=previous,
            reason="",
            package=str(package),
            boot=self.boot,
            boots=1,
            baseline=baseline(status),
        )
        save(self.place.state, state)
        try:
            trees.activate(self.place, version, previous, self.run)
        except UpdateError as wrong:
            self._go_back(state, str(wrong))
            raise
        state = msgspec.structs.replace(state, phase="trial")
        save(self.place.state, state)
        self._restart()
        return self._judge(state)

    def _examine(self, version: str, previous: str) -> None:
        """Ask the new version what can be asked before it runs; raise UpdateError with what speaks against it."""
        program = str(self.place.program(version))
        said = self.run([program, "--version"])
        if said.code or version not in said.output:
            raise UpdateError(f"roadwitness {version} does not start here: {said.last_line}")
        config = ["config", "check", "--config", str(self.place.settings)]
        if self.run([str(self.place.program(previous)), *config]).code == 0:
            said = self.run([program, *config])
            if said.code:
                raise UpdateError(f"roadwitness {version} does not take this box's configuration: {said.last_line}")
        said = self.run([str(self.place.program(version)), "store", "format"])
        known = self.run([str(self.place.program(previous)), "store", "format"])
        if said.code or known.code:
            raise UpdateError(f"roadwitness {version} does not say how it keeps its store: {said.last_line}")
        closed = _no_way_back(said.output, known.output)
        if closed:
            raise UpdateError(
                f"roadwitness {version} changes the store so that {previous} could not read it ({', '.join(closed)}); "
                "it is not installed by itself: install the package by hand"
            )
        warm = ["runuser", "-u", "roadwitness", "--", "env", f"HOME={self.place.store}", program, "warm"]
        said = self.run(warm)
        if said.code:
            raise UpdateError(f"roadwitness {version} cannot compile its kernels here: {said.last_line}")

    def _restart(self) -> None:
        # without waiting: at boot the agent's start waits for this process
        self.run(["systemctl", "--no-block", "restart", SERVICES[0]])
        self.run(["systemctl", "--no-block", "try-restart", SERVICES[1]])

    def _judge(self, state: State) -> Said:
        """Watch until the version has been healthy for a while, or its time is over."""
        end_ns = self.clock_ns() + round(self.settings.trial_s * NS_PER_S)
        steady_ns: int | None = None
        while True:
            status = self.ask(self.place.store)
            wrong = ailment(status, state.version, state.baseline)
            now_ns = self.clock_ns()
            if wrong:
                steady_ns = None
            elif steady_ns is None:
                steady_ns = now_ns
            if steady_ns is not None and now_ns - steady_ns >= self.settings.steady_s * NS_PER_S:
                return self._keep(state)
            if now_ns >= end_ns and wrong and not (status is not None and status.crash):
                return self._go_back(state, wrong)
            self.pause(LOOK_S)

    def _keep(self, state: State) -> Said:
        trees.point(self.place, trees.GOOD, state.version)
        refused = {v: why for v, why in load(self.place.state).refused.items() if v != state.version}
        save(self.place.state, msgspec.structs.replace(state, phase="registering", refused=refused))
        detail = f"roadwitness {state.version} is installed and healthy; {state.previous} is kept"
        self._tell(state, "installed", detail)
        return Said("installed", detail, state.version)

    def _go_back(self, state: State, reason: str) -> Said:
        state = msgspec.structs.replace(state, phase="returning", reason=reason)
        save(self.place.state, state)
        trees.activate(self.place, state.previous, state.version, self.run)
        trees.point(self.place, trees.GOOD, state.previous)
        self._refuse(state.version, reason)
        detail = f"went back from roadwitness {state.version} to {state.previous}: {reason}"
        self._tell(state, "rolled_back", detail)
        self._restart()
        return Said("rolled_back", detail, state.previous)

    def _refuse(self, version: str, reason: str) -> None:
        state = load(self.place.state)
        refused = {**state.refused, version: reason}
        waits = state.phase == "registering"  # a version before this one, of which dpkg does not know yet
        self._drop_packages(keep=state.package if waits else "")
        save(
            self.place.state,
            msgspec.structs.replace(state, phase="registering" if waits else "idle", refused=refused),
        )

    def _drop_packages(self, keep: str = "") -> None:
        """Remove what was fetched: as large as what it is fetched for."""
        for package in (self.place.state / "download").glob("roadwitness_*.deb"):
            if str(package) != keep:
                package.unlink(missing_ok=True)

    def _tell(self, state: State, result: Literal["installed", "rolled_back"], detail: str) -> None:
        utc = iso_utc(wall_ns())
        told = Outcome(
            id=f"{state.version} {result} {utc}",
            version=state.version,
            previous=state.previous,
            result=result,
            detail=detail,
            utc=utc,
        )
        write_whole(self.place.state / OUTCOME_FILE, msgspec.json.encode(told))

    # after a boot, and between

    def settle(self) -> Said | None:
        """Go on with what is under way; return None where nothing is."""
        state = load(self.place.state)
        match state.phase:
            case "switching":  # never judged: as it was, and free to be tried again
                trees.activate(self.place, state.previous, state.version, self.run)
                save(self.place.state, msgspec.structs.replace(state, phase="idle"))
                self._restart()
                return Said("waiting", f"the switch to {state.version} was cut; {state.previous} runs", state.previous)
            case "returning":
                return self._go_back(state, state.reason)
            case "trial":
                if trees.at(self.place, trees.GOOD) == state.version:
                    return self._keep(state)
                return self._judge(state)
            case "registering":
                wrong = trees.register(self.place, Path(state.package), state.previous, self.run)
                runs = f"roadwitness {state.version} is installed"
                if wrong:
                    detail = f"{runs}, but dpkg does not know of it: {wrong}; it is told again at the next look"
                    return Said("unregistered", detail, state.version)
                save(self.place.state, msgspec.structs.replace(state, phase="idle"))
                self._drop_packages()
                trees.sweep(self.place, {state.previous})
                return Said("installed", f"{runs}: dpkg knows of it", state.version)
        return None

    def begin_boot(self) -> Said | None:
        """Count a boot in which a version is on trial, before the agent starts; go back when it had its chances."""
        state = load(self.place.state)
        if state.phase in ("switching", "returning"):
            return self.settle()
        if state.phase != "trial" or state.boot == self.boot:
            return None
        if state.boots >= self.settings.boots:
            return self._go_back(state, f"it did not become healthy in {state.boots} boots")
        save(self.place.state, msgspec.structs.replace(state, boot=self.boot, boots=state.boots + 1))
        return None

    def roll_back(self, reason: str) -> Said:
        """Go back to the version before, because a person says so; raise UpdateError where that cannot be."""
        state = load(self.place.state)
        here = self.active
        older = [v for v in trees.versions(self.place) if trees.number(v) < trees.number(here)]
        if not older:
            raise UpdateError(f"no version before {here} is kept on this machine; install its package by hand")
        previous = older[-1]
        program = str(self.place.program(previous))
        for question in (["config", "check", "--config", str(self.place.settings)], ["store", "format", "--readable"]):
            said = self.run([program, *question])
            if said.code:
                raise UpdateError(f"roadwitness {previous} could not run here: {said.last_line}")
        return self._go_back(msgspec.structs.replace(state, version=here, previous=previous), reason)


def _no_way_back(said: str, known: str) -> list[str]:
    """Return the steps of the new format that an older version could not read; lines are `NAME` or `NAME additive`."""
    old = {line.split()[0] for line in known.splitlines() if line.strip()}
    new = [line.split() for line in said.splitlines() if line.strip()]
    return [words[0] for words in new if words[0] not in old and words[1:] != ["additive"]]
