"""The virtual car on the road in real time: its wires here, the agent in a process of its own, as in a car."""

import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from agent.config import config_dir
from agent.errors import RoadwitnessError
from sim.wires import Wires
from sim.wiring import agent_toml

END_S: Final = 15.0  # for the agent to close its trip and store everything


def started(arguments: list[str], log: Path) -> "subprocess.Popen[bytes]":
    """Start `roadwitness ARGUMENTS` in a process of its own; what it logs is added to `log`.

    Of its own session: Ctrl-C at the terminal is ours, it gets a signal when we have ended.
    """
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "agent", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=file,
            start_new_session=True,
        )


class Live:
    """Drive on wires in `folder`/car; the agent keeps its store in `folder`/agent and its log in `folder`/agent.log."""

    def __init__(self, folder: Path, broker_url: str) -> None:
        self._folder = folder
        self._broker_url = broker_url
        self._agent: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()
        self._gpsd_port = 0  # that of the first drive is kept, as in a car
        self.log = folder / "agent.log"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the agent: its trip is closed and everything is stored when this returns."""
        agent, self._agent = self._agent, None
        if agent is not None:
            agent.send_signal(signal.SIGTERM)
            agent.wait(END_S)

    def drive(self, scenario: str, seed: int, minutes: float) -> dict[str, Any]:
        """Drive once and return what the wires gave; raise RoadwitnessError when the agent ends by itself."""
        from drivers.decode.profile import load_profile
        from sim.car import play
        from sim.drive import simulate
        from sim.tape import drive_tape

        folders = config_dir()
        with ExitStack() as stack:
            tape = drive_tape(simulate(scenario, seed, minutes), folders, load_profile("simcar", folders))
            stack.callback(tape.close)
            wires = stack.enter_context(Wires(self._folder / "car", tape, gpsd_port=self._gpsd_port))
            if self._agent is None:
                self._begin(wires)
            try:
                played = play(tape, wires, self._stop)
            except BaseException:
                self.close()  # before its devices vanish
                raise
        if self._stop.is_set():
            last = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise RoadwitnessError(f"agent: ended by itself: {' '.join(last) or 'it said nothing'}; see {self.log}")
        return played

    def _begin(self, wires: Wires) -> None:
        """Start the agent on these wires, and a thread that notices when it ends."""
        if wires.gpsd is not None:
            self._gpsd_port = wires.gpsd.address[1]
        config = self._folder / "agent.toml"
        config.write_text(agent_toml(wires, self._broker_url), encoding="utf-8")
        arguments = ["agent", "--config", str(config), "--store", str(self._folder / "agent")]
        agent = self._agent = started(arguments, self.log)

        def notice() -> None:
            agent.wait()
            if self._agent is agent:
                self._stop.set()

        threading.Thread(target=notice, name="agent ended", daemon=True).start()
