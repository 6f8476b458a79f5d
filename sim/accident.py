"""An accident in real time: the car's wires here, agent and dashcam in processes of their own, and what goes wrong.

What was driven before stands in the agent's store, as if the agent had been started again on the way: it has learned
how it sits, and the drive goes on. From `LEAD_S` before the collision everything comes by wire and by camera.
"""

import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import numpy as np

from agent.boot import kernel_boot_id
from agent.clock import NS_PER_S, monotonic_ns, wait, wall_minus_monotonic_ns
from agent.config import config_dir
from agent.dashcam.watch import VIDEO
from agent.errors import ConfigError, RoadwitnessError, near_names
from sim.crash import KINDS
from sim.cutlink import CutLink
from sim.disk import Disk
from sim.live import END_S, started
from sim.video import render
from sim.wires import Wires
from sim.wiring import agent_toml

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from sim.drive import Drive

MINUTES: Final = 5.0  # of the whole drive
LEAD_S: Final = 26.0  # played before the collision: the 20 s of the record, and time for both processes to begin
FILMED_S: Final = 30.0  # after the last collision
AHEAD_S: Final = 6.0  # until the wires begin: the processes start meanwhile
SIZE: Final = (640, 360)
FPS: Final = 30
IMU_HZ: Final = 200
OFF_S: Final = 1.0  # the power is away
CUT_WITHIN_S: Final = 12.0  # after time zero
FILM_AGAIN_S: Final = 2.0  # from a start of the dashcam to the first picture of its film
FROZEN_S: Final = (-6.0, 8.0)  # after time zero; longer than the dashcam's `frozen_s`
FULL_S: Final = (-2.0, 6.0)
LINK_CUT_AFTER_S: Final = 10.5  # when the clip can be on its way at the earliest …
LINK_CUT_BYTES: Final = 400_000  # … and so much of it has gone
LINK_AWAY_S: Final = 5.0
FAULTS: Final[dict[str, str]] = {
    "power-cut": f"agent and dashcam are killed at a seeded moment within {CUT_WITHIN_S:.0f} s of time zero",
    "camera-frozen": "the camera gives the same old picture around time zero",
    "disk-full": "no byte is free around time zero; --dir must be on a small file system",
    "link-cut": f"the way to the broker is cut in mid-clip, for {LINK_AWAY_S:.0f} s",
}


@dataclass(frozen=True, slots=True)
class Happened:
    """What truly happened: `start_ns` is the monotonic time at which the drive was at `from_s`."""

    drive: "Drive"
    from_s: float
    start_ns: int
    fault: str
    fault_ns: int | None  # when it began, None where nothing went wrong
    back_ns: int | None  # when it was over

    def t_ns(self, drive_s: float) -> int:
        """Return the monotonic time of a moment of the drive."""
        return self.start_ns + round((drive_s - self.from_s) * NS_PER_S)


def check_names(scenario: str, fault: str) -> None:
    """Raise ConfigError for a scenario without a collision, or a fault that is not known."""
    if scenario not in KINDS or KINDS[scenario].parked:
        known = ", ".join(name for name, kind in KINDS.items() if not kind.parked)
        raise ConfigError(f"--scenario {scenario}: no collision of the demo's; one of {known}")
    if fault and fault not in FAULTS:
        near = near_names(fault, list(FAULTS))
        raise ConfigError(f"--fault {fault}: is not known{near}; one of {', '.join(FAULTS)}")


class Accident:
    """Drive into it in `folder`, with the agent's store in `folder`/agent; `say` takes lines about the progress."""

    def __init__(
        self, folder: Path, broker_url: str, scenario: str, seed: int, fault: str, say: "Callable[[str], None]"
    ) -> None:
        from sim.drive import simulate

        self._folder = folder
        self._fault = fault
        self._say = say
        self._disk = Disk(folder / "agent", "--dir") if fault == "disk-full" else None
        self._open = ExitStack()
        self._stop = threading.Event()  # also set when a process ends by itself
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._arguments: dict[str, list[str]] = {}
        self._trouble = ""
        self._rng = np.random.default_rng([seed, *fault.encode()])
        self._link: CutLink | None = None
        if fault == "link-cut":
            where = urlsplit(broker_url)
            self._link = CutLink(str(where.hostname), int(where.port or 0))
            self._open.callback(self._link.close)
            broker_url = f"mqtt://127.0.0.1:{self._link.port}"
        self._broker_url = broker_url
        plan = simulate(scenario, seed, MINUTES)
        self._from_s = max(plan.collisions[0].t_s - LEAD_S, 0.0)
        self._until_s = plan.collisions[-1].t_s + FILMED_S
        self._film = folder / "film.mp4"
        zero_s = plan.collisions[0].t_s
        say(f"Filming {self._until_s - self._from_s:.0f} s of road for the camera")
        frozen_s = (zero_s + FROZEN_S[0], zero_s + FROZEN_S[1]) if fault == "camera-frozen" else (0.0, 0.0)
        render(plan, self._film, self._from_s, self._until_s, size=SIZE, fps=FPS, frozen_s=frozen_s)
        self._start_ns = monotonic_ns() + round(AHEAD_S * NS_PER_S)
        utc_ns = self._start_ns + wall_minus_monotonic_ns()
        self._drive = simulate(scenario, seed, MINUTES, utc_ns / NS_PER_S - self._from_s)

    def __enter__(self) -> "Accident":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes, agent last, and unplug the wires."""
        self._stop.set()
        for name in ("dashcam", "agent"):
            process = self._running.pop(name, None)
            if process is not None:
                process.terminate()
                process.wait(END_S)
        self._open.close()

    def run(self) -> Happened:
        """Drive until the film's range around the last collision is over; return what happened.

        Raise RoadwitnessError when a process ends by itself.
        """
        from drivers.decode.profile import load_profile
        from sim.car import play
        from sim.tape import drive_tape

        self._drive_before()
        folders = config_dir()
        tape = drive_tape(self._drive, folders, load_profile("simcar", folders), self._from_s)
        self._open.callback(tape.close)
        wires = self._open.enter_context(Wires(self._folder / "car", tape))
        config = self._folder / "agent.toml"
        config.write_text(agent_toml(wires, self._broker_url, box={"rate_hz": IMU_HZ}), encoding="utf-8")
        self._arguments["agent"] = ["agent", "--config", str(config), "--store", str(self._folder / "agent")]
        self._begin("agent")
        self._film_from(0)

        def drive() -> None:
            self._until(self._start_ns)
            play(tape, wires, self._stop, start_ns=self._start_ns)

        car = threading.Thread(target=drive, name="car", daemon=True)
        car.start()
        self._open.callback(car.join, END_S)
        self._until(self._start_ns)
        hits = self._drive.collisions
        self._say(f"The car drives on its wires; it crashes in {hits[0].t_s - self._from_s:.0f} s")
        happened = self._go_wrong()
        self._until(happened.t_ns(hits[-1].t_s))
        self._say("It has crashed")
        return happened

    def watch(self) -> None:
        """Raise RoadwitnessError when a process has ended by itself."""
        for name, process in self._running.items():
            if process.poll() is not None:
                log = self._folder / f"{name}.log"
                last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
                raise RoadwitnessError(f"{name}: ended by itself: {' '.join(last) or 'it said nothing'}; see {log}")

    # beginning

    def _drive_before(self) -> None:
        """Put what was driven until now into the agent's store, as it would stand there."""
        from agent.store import Store

        boot, now_ns = kernel_boot_id(), monotonic_ns()
        with Store.open(self._folder / "agent") as store:
            store.begin_boot(boot)
            span = store.span(boot)
            after_ns = span[1] if span is not None else 0
            for block in self._drive.blocks():
                block["t"] += self._start_ns - round(self._from_s * NS_PER_S)
                known = block[(block["t"] > after_ns) & (block["t"] < now_ns)]
                if len(known):
                    store.append_block(known)

    def _begin(self, name: str) -> None:
        self._running[name] = started(self._arguments[name], self._folder / f"{name}.log")

    def _film_from(self, second: int) -> None:
        """Start the dashcam on the film from one of its key pictures on, which is shown in its own time."""
        film = self._film
        if second:
            film = self._folder / "film-on.mp4"
            rest_of(self._film, film, second)
        config = self._folder / "dashcam.toml"
        camera = f'[cameras.front]\nsource = "{film}"\nstart_ns = {self._start_ns + second * NS_PER_S}\n'
        config.write_text(f"min_free_bytes = 0\n{camera}", encoding="utf-8")
        self._arguments["dashcam"] = ["dashcam", "--config", str(config), "--dir", str(self._folder / "agent" / VIDEO)]
        self._begin("dashcam")

    # going wrong

    def _go_wrong(self) -> Happened:
        zero_ns = self._start_ns + round((self._drive.collisions[0].t_s - self._from_s) * NS_PER_S)
        began_ns, over_ns = None, None
        if self._fault == "power-cut":
            began_ns, over_ns = self._cut_power(zero_ns + round(self._rng.uniform(0, CUT_WITHIN_S) * NS_PER_S))
        elif self._fault == "camera-frozen":
            began_ns, over_ns = (zero_ns + round(s * NS_PER_S) for s in FROZEN_S)
        elif self._disk is not None:
            began_ns, over_ns = self._fill(self._disk, zero_ns)
        elif self._link is not None:
            began_ns, over_ns = self._cut(self._link, zero_ns)
        return Happened(self._drive, self._from_s, self._start_ns, self._fault, began_ns, over_ns)

    def _cut_power(self, at_ns: int) -> tuple[int, int]:
        self._until(at_ns)
        for process in self._running.values():
            process.kill()
        began_ns = monotonic_ns()
        for process in self._running.values():
            process.wait(END_S)
        self._running.clear()
        self._say("The power is cut")
        self._until(began_ns + round(OFF_S * NS_PER_S))
        over_ns = monotonic_ns()
        self._begin("agent")
        self._film_from(int((over_ns - self._start_ns) / NS_PER_S + FILM_AGAIN_S))
        self._say("The power is back")
        return began_ns, over_ns

    def _fill(self, disk: Disk, zero_ns: int) -> tuple[int, int]:
        self._until(zero_ns + round(FULL_S[0] * NS_PER_S))
        disk.fill()
        began_ns = monotonic_ns()
        self._open.callback(disk.free)
        self._say("The disk is full")
        self._until(zero_ns + round(FULL_S[1] * NS_PER_S))
        disk.free()
        self._say("The disk has room again")
        return began_ns, monotonic_ns()

    def _cut(self, link: CutLink, zero_ns: int) -> tuple[int | None, int | None]:
        self._until(zero_ns + round(LINK_CUT_AFTER_S * NS_PER_S))
        link.cut_after(LINK_CUT_BYTES)
        if not wait(link.is_cut, FILMED_S):
            return None, None
        began_ns = monotonic_ns()
        self._say("The way to the broker is cut in mid-clip")
        self._until(began_ns + round(LINK_AWAY_S * NS_PER_S))
        link.mend()
        return began_ns, monotonic_ns()

    def _until(self, t_ns: int) -> None:
        """Wait for a time; raise RoadwitnessError when a process ends meanwhile."""
        while (left_s := (t_ns - monotonic_ns()) / NS_PER_S) > 0:
            if wait(self._stop, min(left_s, 0.25)):
                return
            self.watch()


def rest_of(film: Path, path: Path, second: int) -> None:
    """Write the film from one second on, which begins with a key picture, without encoding it anew."""
    import av

    with av.open(str(film)) as source, av.open(str(path), "w") as sink:
        stream: Any = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size and packet.pts is not None and packet.pts * packet.time_base >= second - 0.5 / FPS:
                packet.stream = stream
                sink.mux(packet)
