"""The detector: rows of vehicle state in, events out; a pure function of the rows, however they are split.

Rules live in two kernels (`harsh`, `sustained`); here their findings get names, sources and the window of state that
lets anyone see, dispute and recompute them.
"""

from math import isnan
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agent.clock import NS_PER_S
from agent.detect.found import (
    BRAKING,
    CORNERING,
    EVIDENCE_NAMES,
    FATIGUE,
    FOUND,
    IDLING,
    KINDS,
    SPEEDING,
)
from agent.detect.settings import DetectionSettings, Levels
from agent.records import SEVERITIES, Event, Window
from agent.state import STATE, STEP_NS, State

VERSION: Final = 1  # of every rule below; raised when a rule changes what it finds
HISTORY_ROWS: Final = 900
HISTORY_NS: Final = HISTORY_ROWS * STEP_NS  # longest harsh event, its windows, and the time until it is judged
WINDOW_LIMIT_NS: Final = 40 * NS_PER_S
# columns of the rules or limits that hold each kind's levels
_HARSH: Final = ("minor", "moderate", "severe")
LEVELS: Final = (
    _HARSH,
    _HARSH,
    _HARSH,
    ("speed_minor", "speed_moderate", "speed_severe"),
    ("idle_minor", "idle_moderate", "idle_severe"),
    ("rpm", "rpm_moderate", "rpm_severe"),
    ("drive", "again", "again"),
)
UNITS: Final = ("m/s2", "m/s2", "m/s2", "m/s", "s", "rpm", "s")
CAPACITY: Final = 256
NEVER_NS: Final = 1 << 60

_HISTORY: Final = np.dtype([("t", "<i8"), ("speed", "<f4"), ("lon", "<f4"), ("lat", "<f4")])


class Detector:
    """Finds events in the rows of one boot or one recording."""

    def __init__(self, settings: DetectionSettings) -> None:
        from agent.detect import harsh, sustained

        self._harsh, self._sustained = harsh.harsh, sustained.sustained
        self._window_ns = round(settings.window_s * NS_PER_S)
        self._rules = harsh_rules(settings)
        self._machines = np.zeros(harsh.MACHINES, harsh.MACHINE)
        self._machines["quiet_until"] = np.iinfo(np.int64).min
        self._best = np.zeros((harsh.MACHINES, harsh.GROUPS))
        self._bits = np.zeros((harsh.MACHINES, harsh.GROUPS), np.int64)
        self._ring = np.full((harsh.RING, harsh.COLUMNS), np.nan)
        self._harsh_memory = np.zeros(3, np.int64)
        self._limits = sustained_limits(settings)
        self._kept = np.zeros(sustained.RULES, sustained.KEPT)
        self._kept["start"] = -1
        self._kept["rest"] = -1
        self._counts = np.zeros((sustained.RULES, 5), np.int64)
        self._sustained_memory = np.array([0, 0, 0, -NEVER_NS], np.int64)
        self._found = np.zeros(CAPACITY, FOUND)
        self._history = np.empty(0, _HISTORY)  # of earlier calls
        self._past: npt.NDArray[np.void] | None = None  # and of this call, joined when a window is wanted
        self._trace: tuple[State, npt.NDArray[np.float64]] | None = None  # this call's rows and leading accelerations
        self._waiting: list[
            tuple[int, npt.NDArray[np.void]]
        ] = []  # (ready at, found row), until the window is complete
        self._opened: dict[tuple[int, int], Window] = {}  # (kind, start) -> window cut when the event began
        self._last_ns = np.iinfo(np.int64).min

    def step(self, rows: State) -> list[Event]:
        """Take the next rows (dtype STATE, in time order) and return the events that became complete, in that order."""
        if not len(rows):
            return []
        rows = np.require(rows, STATE, ["C", "W"])
        self._run(rows, 0)
        self._last_ns = int(rows["t"][-1])
        ready = self._complete(self._last_ns)
        rest, trace = rows[-HISTORY_ROWS:], self._trace[1][-HISTORY_ROWS:] if self._trace else np.empty((0, 2))
        self._history = np.concatenate([self._history, _remember(rest, trace)])
        self._history = self._history[np.searchsorted(self._history["t"], self._last_ns - HISTORY_NS) :]
        self._trace = self._past = None
        return ready

    def finish(self) -> list[Event]:
        """End the boot or the recording: judge what is open as it stands and return the rest of the events."""
        self._run(np.empty(0, STATE), 1)
        ready = self._complete(None)
        self._history = self._history[:0]
        self._opened.clear()
        return ready

    def _run(self, rows: State, ending: int) -> None:
        trace = np.full((len(rows), 2), np.nan)
        kernels: tuple[tuple[Any, tuple[Any, ...]], ...] = (
            (
                self._harsh,
                (self._rules, self._machines, self._best, self._bits, self._ring, self._harsh_memory, trace),
            ),
            (self._sustained, (self._limits, self._kept, self._counts, self._sustained_memory)),
        )
        for kernel, state in kernels:
            i = 0
            while True:
                i, n = kernel(rows, i, ending, *state, self._found)
                self._waiting += [(self._ready(one), one) for one in self._found[:n].copy()]
                if i >= len(rows):
                    break
        self._trace = (rows, trace)
        self._past = None
        if len(rows) and len(self._history) and rows["t"][0] <= self._history["t"][-1]:
            self._history = self._history[:0]  # time stepped back: a new beginning

    def _remembered(self) -> npt.NDArray[np.void]:
        """Return what is still known of the past, this call's rows included."""
        if self._past is None:
            now = [_remember(*self._trace)] if self._trace is not None else []
            self._past = np.concatenate([self._history, *now])
        return self._past

    def _ready(self, one: npt.NDArray[np.void]) -> int:
        kind, start, end, at = int(one["kind"]), int(one["start"]), int(one["end"]), int(one["at"])
        if kind <= CORNERING:
            return max(at, end + self._window_ns)
        return max(at, start + self._window_ns)

    def _complete(self, now: int | None) -> list[Event]:
        """Return the waiting events whose window ends by `now` (None: all), in the order in which they became ready."""
        self._waiting.sort(key=lambda w: (w[0], int(w[1]["at"]), int(w[1]["kind"]), -int(w[1]["open"])))
        events = []
        left = []
        for ready, one in self._waiting:
            if now is not None and ready > now:
                left.append((ready, one))
            elif one["open"]:
                self._opened[int(one["kind"]), int(one["start"])] = self._window(int(one["start"]), int(one["start"]))
            else:
                events.append(self._event(one))
        self._waiting = left
        return events

    def _event(self, one: npt.NDArray[np.void]) -> Event:
        kind, start, end = int(one["kind"]), int(one["start"]), int(one["end"])
        window = self._window(start, end) if kind <= CORNERING else self._opened.pop((kind, start), None)
        name = KINDS[kind] if one["oriented"] else "harsh_unoriented"
        bits = int(one["sources"])
        return Event(
            kind=KINDS[kind],
            severity=SEVERITIES[int(one["level"])],
            confirmed=bool(one["confirmed"]),
            t_ns=start,
            duration_ns=end - start,
            peak=round(float(one["peak"]), 3),
            unit=UNITS[kind],
            speed_before_mps=_known(one["speed_before"], 3),
            rule=f"{name}/{VERSION}",
            sources=[source for bit, source in EVIDENCE_NAMES.items() if bits & bit],
            latitude=_known(one["latitude"], 7),
            longitude=_known(one["longitude"], 7),
            window=window,
            limit_mps=_known(one["limit"], 3),
            levels=self._levels(kind, bool(one["oriented"]), float(one["limit"])),
        )

    def _levels(self, kind: int, oriented: bool, limit_mps: float) -> tuple[float, float, float]:
        """Return from where an event of a kind is minor, moderate, severe, in its unit, as these settings have it."""
        one = self._limits[0]
        if kind <= CORNERING:  # the last machine knows no orientation; a turn it judges by the levels of turns
            one = self._rules[kind if oriented or kind == CORNERING else -1]
        minor, moderate, severe = (float(one[name]) for name in LEVELS[kind])
        if kind == SPEEDING:
            minor, moderate, severe = minor * limit_mps, moderate * limit_mps, severe * limit_mps
        elif kind == IDLING:
            minor, moderate, severe = minor / NS_PER_S, moderate / NS_PER_S, severe / NS_PER_S
        elif kind == FATIGUE:  # the drive, then one level for each further hour
            first, further = minor / NS_PER_S, severe / NS_PER_S
            minor, moderate, severe = first, first + further, first + 2 * further
        return round(minor, 3), round(moderate, 3), round(severe, 3)

    def _window(self, start: int, end: int) -> Window:
        begin = start - self._window_ns
        until = min(end, start + WINDOW_LIMIT_NS) + self._window_ns
        history = self._remembered()
        t = history["t"]
        rows = history[np.searchsorted(t, begin) : np.searchsorted(t, until, "right")]
        return Window(
            start_ns=int(rows["t"][0]) if len(rows) else begin,
            speed_mps=_listed(rows["speed"]),
            longitudinal_mps2=_listed(rows["lon"]),
            lateral_mps2=_listed(rows["lat"]),
        )


def _remember(rows: State, trace: npt.NDArray[np.float64]) -> npt.NDArray[np.void]:
    kept = np.empty(len(rows), _HISTORY)
    kept["t"], kept["speed"], kept["lon"], kept["lat"] = rows["t"], rows["speed"], trace[:, 0], trace[:, 1]
    return kept


def _known(value: Any, digits: int) -> float | None:
    number = float(value)
    return None if isnan(number) else round(number, digits)


def _listed(values: npt.NDArray[np.float32]) -> list[float | None]:
    return [None if isnan(v) else round(v, 2) for v in values.tolist()]


def harsh_rules(settings: DetectionSettings) -> npt.NDArray[np.void]:
    """Lay the thresholds of the four machines out as the kernel reads them."""
    from agent.detect.harsh import FREE, MACHINES, RULES

    s = settings.harsh
    factor = getattr(settings.class_factors, settings.vehicle_class)
    rules = np.zeros(MACHINES, RULES)
    levels: tuple[Levels, ...] = (s.braking, s.acceleration, s.cornering, s.braking)
    for k, level in enumerate(levels):
        rule = rules[k]
        minor_mps2 = min(s.free_minor_mps2, level.minor_mps2) if k == FREE else level.minor_mps2
        rule["minor"] = minor_mps2 * factor
        rule["moderate"] = level.moderate_mps2 * factor
        rule["severe"] = level.severe_mps2 * factor
        rule["release"] = s.release_share * minor_mps2 * factor
        rule["hold"] = _rows_of(s.hold_s)
        rule["gate"] = s.corner_gate_mps if k == CORNERING else s.speed_gate_mps
        # The speed before a launch is always nil: an acceleration counts while the car is already rolling.
        rule["gate_lag"] = 10 if k in (BRAKING, CORNERING) else 0
        rule["merge"] = round(s.merge_s * NS_PER_S)
        rule["refractory"] = round(s.refractory_s * NS_PER_S)
        rule["agree"] = s.agree_share
        rule["contradict"] = s.contradict_share
        rule["contradict_mps"] = s.contradict_mps
        rule["plausible"] = s.plausible_mps2
        rule["vertical_ratio"] = s.vertical_ratio
        rule["free_corner_mps"] = s.free_corner_mps
        rule["handled_degps"] = s.handled_degps
    return rules


def sustained_limits(settings: DetectionSettings) -> npt.NDArray[np.void]:
    """Lay the limits of what lasts out as the kernel reads them."""
    from agent.detect.sustained import LIMITS

    limits = np.zeros(1, LIMITS)
    one = limits[0]
    s, i, r, f = settings.speeding, settings.idling, settings.over_rev, settings.fatigue
    one["speed_limit"] = s.fixed_limit_mps if s.fixed_limit_mps > 0 else np.nan
    one["speed_minor"], one["speed_moderate"], one["speed_severe"] = s.minor_share, s.moderate_share, s.severe_share
    one["speed_release"] = s.release_share
    one["speed_hold"], one["speed_merge"] = round(s.hold_s * NS_PER_S), round(s.merge_s * NS_PER_S)
    one["idle_still"] = i.still_mps
    one["idle_minor"], one["idle_moderate"] = round(i.minor_s * NS_PER_S), round(i.moderate_s * NS_PER_S)
    one["idle_severe"] = round(i.severe_s * NS_PER_S)
    rpm = getattr(r.limits, f"{settings.vehicle_class}_rpm")
    one["rpm"], one["rpm_moderate"], one["rpm_severe"] = rpm, rpm * r.moderate_share, rpm * r.severe_share
    one["rpm_release"], one["rpm_hold"] = rpm * r.release_share, round(r.hold_s * NS_PER_S)
    one["rest_still"], one["rest"] = f.still_mps, round(f.rest_s * NS_PER_S)
    one["drive"], one["again"] = round(f.driving_s * NS_PER_S), round(f.repeat_s * NS_PER_S)
    return limits


def _rows_of(seconds: float) -> int:
    return max(1, round(seconds * NS_PER_S / STEP_NS))
