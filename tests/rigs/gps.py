"""The gps driver with a gpsd at the other end, for the contract suite."""

import threading

from agent.clock import NS_PER_S, monotonic_ns, wait
from drivers.gps import Gps
from sim.gpsd import FakeGpsd, Report

UTC_NS = 1_795_000_000 * NS_PER_S  # in November 2026, at monotonic 0
WAIT_S = 10.0
PERIOD_S = 0.05


class GpsRig:
    """A receiver that stands still; once it has begun to speak it goes on, as receivers do."""

    def __init__(self) -> None:
        self.gpsd = FakeGpsd()
        self.gpsd.start()
        self._ended = threading.Event()
        self._fixes: threading.Thread | None = None

    def driver(self) -> Gps:
        return Gps(*self.gpsd.address)

    def speak(self, n: int) -> None:
        if self._fixes is None:
            self._fixes = threading.Thread(target=self._run, daemon=True)
            self._fixes.start()

    def _run(self) -> None:
        while not wait(self._ended, PERIOD_S):
            t_ns = monotonic_ns()
            self.gpsd.report(Report(t_ns, UTC_NS + t_ns, 55.5, 12.25))

    def garble(self, noise: bytes) -> None:
        assert self.gpsd.watched.wait(WAIT_S)
        self.gpsd.send(noise + b"\n")

    def unplug(self) -> None:
        self.gpsd.stop()

    def close(self) -> None:
        self._ended.set()
        if self._fixes is not None:
            self._fixes.join()
        self.gpsd.stop()


RIGS = (GpsRig,)
