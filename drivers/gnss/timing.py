"""When was a fix true, on our monotonic clock? Arrival is late; gpsd's PPS and TOFF say by how much. Pure.

A PPS report stamps the edge of the second with this machine's wall clock, a TOFF report the first byte of the
receiver's report. Both stamps are taken to the monotonic clock at once, with the distance between the two clocks read
on arrival; one whose stamp then lies in the future or more than `LATEST_NS` back met a step of the wall clock, or
comes from another machine's gpsd, and is not used. Every stamp is late and none is early, so that the largest
distance between UTC and monotonic time of the last few is the best one. PPS counts before TOFF, TOFF before arrival.
"""

from collections import deque
from typing import Final

from agent.clock import NS_PER_S
from drivers.gnss.messages import Pulse

LATEST_NS: Final = NS_PER_S  # a report later than this belongs to another second: its own time is not believed
FRESH_NS: Final = 30 * NS_PER_S  # in which a crystal of 50 ppm goes 1.5 ms astray
KEPT: Final = 8
STEP_NS: Final = NS_PER_S // 2  # distances that differ by more are another time, not jitter
# What is promised of a time (DESIGN §5, issue 3). PPS through gpsd's user-space thread: well below a millisecond on a
# Pi (gpsd's own "GPSD Time Service HOWTO"). TOFF still holds the receiver's delay before its first byte, unless
# `receiver_delay_s` tells it. Arrival: solution, 9600 baud of NMEA, and gpsd's wait for the end of the cycle.
PPS_ACCURACY_S: Final = 0.001
TOFF_ACCURACY_S: Final = 0.05
ARRIVAL_ACCURACY_S: Final = 0.3


class Timing:
    """The distance between UTC and our monotonic clock, as gpsd's time reports show it."""

    def __init__(self, receiver_delay_ns: int = 0) -> None:
        self._receiver_delay_ns = receiver_delay_ns
        self._kept: dict[str, deque[tuple[int, int]]] = {"PPS": deque(maxlen=KEPT), "TOFF": deque(maxlen=KEPT)}
        self.refused = 0  # time reports that cannot be true
        self.uncorrected = 0  # fixes that had to be stamped on arrival although there was a time report

    def take(self, kind: str, pulse: Pulse, now_ns: int, wall_minus_monotonic_ns: int) -> None:
        """Take a report of `kind` PPS or TOFF that arrived at `now_ns`."""
        stamp_ns = pulse.clock_ns - wall_minus_monotonic_ns
        if not 0 <= now_ns - stamp_ns <= LATEST_NS:
            self.refused += 1
            return
        distance_ns = pulse.real_ns - stamp_ns + (self._receiver_delay_ns if kind == "TOFF" else 0)
        kept = self._kept[kind]
        if kept and abs(kept[-1][1] - distance_ns) > STEP_NS:
            kept.clear()
        kept.append((now_ns, distance_ns))

    def stamp(self, utc_ns: int | None, arrival_ns: int) -> tuple[int, float]:
        """Return the monotonic time of a fix of `utc_ns` that arrived at `arrival_ns`, and how well UTC fits it, s."""
        if utc_ns is None:
            return arrival_ns, ARRIVAL_ACCURACY_S
        tried = False
        for kind, accuracy_s in (("PPS", PPS_ACCURACY_S), ("TOFF", TOFF_ACCURACY_S)):
            fresh = [distance for t_ns, distance in self._kept[kind] if arrival_ns - t_ns <= FRESH_NS]
            if fresh:
                tried = True
                t_ns = utc_ns - max(fresh)
                if 0 <= arrival_ns - t_ns <= LATEST_NS:
                    return t_ns, accuracy_s
        self.uncorrected += tried
        return arrival_ns, ARRIVAL_ACCURACY_S
