"""Trips: when one starts and ends, what it was like, and where it went. A pure function of the rows and events."""

from collections import Counter
from dataclasses import dataclass
from math import isnan, sqrt
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.clock import NS_PER_S
from agent.records import Event, Quality, TimeQuality, Track, Trip
from agent.state import SOURCE_NAMES, STATE, State
from agent.track import Points, Simplifier, cut, encode

SPEEDS: Final = ("wheel", "can", "obd", "gnss")
NS_PER_HOUR: Final = 3600 * NS_PER_S
NIGHT: Final = (22.0, 5.0)  # hours; domain reference E3
HOURS_NS: Final = 60 * NS_PER_S  # hours of the day are counted in minutes: a clock that may be off by more tells none
REMEMBERED: Final = 16  # ended trips whose start `start_of` still knows


@dataclass(frozen=True, slots=True)
class TripSettings:
    """When a trip starts and ends, and how exact its track is."""

    start_m: float = 50.0  # driven, and once faster than `start_mps`: a trip; less is re-parking
    start_slow_m: float = 200.0  # or driven this far at any speed (a queue); Traccar's distance
    start_mps: float = 10 / 3.6
    drift_m: float = (
        100.0  # GNSS alone must have left the place by this much (Traccar 200 m, its users see drifts of 50 m)
    )
    still_mps: float = 0.5  # below: standing
    moving_mps: float = 1.0  # above: moving again (hysteresis)
    stop_s: float = 3.0  # having driven, it stands for this long: a stop, arrival included; less is giving way
    engine_off_s: float = 180.0  # longer than the longest stop-start pause at a light
    standing_s: float = 300.0  # where the engine state is not known (Samsara, Traccar classic: 5 min)
    gap_off_s: float = 120.0  # no data at all for this long after standing: the ignition took the box's power
    bridge_s: float = 600.0  # a longer silence ends the trip where it began (basement parking, traccar#3231)
    # positions for this share of a trip: then its distance is what car and satellites both tell (decision 0053)
    witness_share: float = 0.9
    track_error_m: float = 5.0  # half the usual error of a fix in a street
    utc_offset_h: float = 8.0  # local time where the place is unknown; China has one zone


@dataclass(frozen=True, slots=True)
class Running:
    """The trip that is going on, for the live view."""

    start_ns: int
    distance_m: float
    moving_s: float
    idle_s: float
    stops: int
    max_speed_mps: float


class Trips:
    """Finds the trips of one boot or one recording, and sums each up when it has ended."""

    def __init__(self, settings: TripSettings) -> None:
        from agent import trip_kernel as k

        self._k = k
        self._settings = settings
        self._rules = np.zeros(1, k.RULES)
        rule = self._rules[0]
        rule["still"], rule["moving"], rule["start_mps"] = settings.still_mps, settings.moving_mps, settings.start_mps
        rule["start_m"], rule["start_slow_m"], rule["drift_m"] = (
            settings.start_m,
            settings.start_slow_m,
            settings.drift_m,
        )
        rule["engine_off"], rule["standing"] = _ns(settings.engine_off_s), _ns(settings.standing_s)
        rule["gap_off"], rule["bridge"] = _ns(settings.gap_off_s), _ns(settings.bridge_s)
        rule["stop"] = _ns(settings.stop_s)
        self._trip = np.zeros(1, k.TRIP)
        self._sums = np.zeros((2, k.SUMS))
        self._minutes = np.zeros(k.MINUTES)
        self._by_source = np.zeros((4, 2))
        self._track = Simplifier(settings.track_error_m)
        self._events: list[Event] = []
        self._ended: list[tuple[int, int]] = []
        self._offset_ns: int | None = None  # where it is good enough for hours of the day
        self._time_quality: TimeQuality = "none"
        self._clear()

    @property
    def current(self) -> Running | None:
        """The trip that is going on; None while parked, and until a trip has really begun."""
        trip, k = self._trip[0], self._k
        if trip["phase"] != k.OPEN:
            return None
        sums = self._sums[0]
        return Running(
            start_ns=int(trip["start"]),
            distance_m=float(sums[k.DISTANCE]),
            moving_s=float(sums[k.MOVING]),
            idle_s=float(sums[k.STILL]),
            stops=int(trip["stops"]),
            max_speed_mps=float(trip["top"]),
        )

    def set_clock(self, offset_ns: int, quality: TimeQuality, uncertainty_ns: int = 0) -> None:
        """Say what UTC the boot's clock shows (utc_ns = t_ns + offset_ns); holds backwards for the open trip too.

        A restored time may be days off: a trip that ends by it keeps no hours, for these would stay when UTC is known.
        """
        self._offset_ns = offset_ns if uncertainty_ns <= HOURS_NS else None
        self._time_quality = quality

    def start_of(self, t_ns: int) -> int | None:
        """Return the start of the trip, ended lately or going on, that was under way at `t_ns`."""
        for start, end in self._ended:
            if start <= t_ns <= end:
                return start
        trip = self._trip[0]
        return int(trip["start"]) if trip["phase"] != self._k.PARKED and t_ns >= trip["start"] else None

    def step(self, rows: State, events: list[Event]) -> list[tuple[Trip, list[Track]]]:
        """Take the next rows and the events that became known with them; return the trips that have ended."""
        self._events += events
        done = []
        if len(rows):
            rows = np.require(rows, STATE, ["C", "W"])
        marks = np.zeros(len(rows), np.uint8)
        fixes = Points(*(np.ascontiguousarray(rows[name]) for name in ("t", "latitude", "longitude", "speed")))
        i = 0
        while i < len(rows):
            begin = i
            i, code = self._k.drive(rows, i, self._rules, self._trip, self._sums, self._minutes, self._by_source, marks)
            self._track.step(cut(fixes, begin, i), marks[begin:i])
            if code == self._k.CLOSED:
                done.append(self._summary())
            if code != self._k.DONE:
                self._clear()
        return done

    def finish(self, events: list[Event] | None = None) -> list[tuple[Trip, list[Track]]]:
        """End the boot or the recording: a trip that is going on ends with the last row that showed it."""
        self._events += events or []
        done = [self._summary()] if self._trip["phase"][0] == self._k.OPEN else []
        self._clear()
        return done

    def _clear(self) -> None:
        self._trip[:] = np.zeros(1, self._k.TRIP)
        for name in ("known", "off", "stop", "resume", "place_t", "chord_t"):
            self._trip[name] = -1
        for name in ("latitude", "longitude", "start_latitude", "start_longitude", "end_latitude", "end_longitude"):
            self._trip[name] = np.nan
        self._sums[:] = 0.0
        self._minutes[:] = 0.0
        self._by_source[:] = -1.0
        self._track.reset()

    def _summary(self) -> tuple[Trip, list[Track]]:
        k, trip, sums = self._k, self._trip[0], self._sums[0]
        start, end = int(trip["start"]), int(trip["end"])
        points = self._track.points()
        points = cut(points, 0, int(np.searchsorted(points.t, end, "right")))
        seconds = max((end - start) / NS_PER_S, 1e-9)
        distances = dict(zip(SPEEDS, sums[k.WHEEL_M : k.WHEEL_M + 4].tolist(), strict=True))
        distances["position"] = float(sums[k.POSITION_M])
        distances["fused"] = float(sums[k.DISTANCE])
        shares = {
            name: min(1.0, round(float(sums[k.SHARE + bit.bit_length() - 1]) / seconds, 4))
            for bit, name in SOURCE_NAMES.items()
        }
        counts = Counter(
            f"{e.kind}.{e.severity if e.confirmed else 'unconfirmed'}" for e in self._events if start <= e.t_ns <= end
        )
        self._events = [e for e in self._events if e.t_ns > end]
        self._ended = [*self._ended, (start, end)][-REMEMBERED:]
        moving_sums = float(sums[k.SQUARED])
        record = Trip(
            start_ns=start,
            end_ns=end,
            start_latitude=_degrees(trip["start_latitude"]),
            start_longitude=_degrees(trip["start_longitude"]),
            end_latitude=_degrees(trip["end_latitude"]),
            end_longitude=_degrees(trip["end_longitude"]),
            distance_m=round(self._witnessed_m(distances["position"], float(sums[k.PLACED]) / seconds), 1),
            distance_by_source_m={name: round(m, 1) for name, m in distances.items() if m > 0.0},
            moving_s=round(float(sums[k.MOVING]), 1),
            idle_s=round(float(sums[k.STILL]), 1),
            stops=int(trip["stops"]) + int(self._arrived()),
            max_speed_mps=round(float(trip["top"]), 2),
            speed_histogram_s=[round(s, 1) for s in sums[k.BAND : k.BAND + k.BANDS].tolist()],
            night_s=round(self._night_s(start, float(trip["start_longitude"])), 1),
            hour_of_day_s=self._hours(start),
            event_counts=dict(sorted(counts.items())),
            smoothness_mps2=round(sqrt(float(sums[k.SQUARES]) / moving_sums), 3) if moving_sums else 0.0,
            quality=Quality(
                gap_s=round(float(sums[k.GAP]), 1),
                longest_gap_s=round(int(trip["longest"]) / NS_PER_S, 1),
                speed_share={name: share for name, share in shares.items() if share > 0.0},
                position_share=min(1.0, round(float(sums[k.PLACED]) / seconds, 4)),
                mount_confidence=min(1.0, round(float(sums[k.MOUNTED]) / seconds, 4)),
                time=self._time_quality,
            ),
            track_points=len(points.t),
            track_error_m=self._settings.track_error_m,
        )
        return record, encode(points, start, self._settings.track_error_m)

    def _witnessed_m(self, position_m: float, placed_share: float) -> float:
        """Return the metres that count: where satellites saw the trip, no more than both they and the car tell."""
        fused_m = float(self._sums[0][self._k.DISTANCE])
        return min(fused_m, position_m) if placed_share >= self._settings.witness_share else fused_m

    def _arrived(self) -> bool:
        """Say whether the trip ended with a standstill that counts as a stop, whether or not the engine ran on."""
        trip = self._trip[0]
        stood_ns = int(trip["last"] - trip["stop"])
        return bool(trip["moved"] and trip["stop"] >= 0 and stood_ns >= int(self._rules["stop"][0]))

    def _minute_hours(self, start: int, shift_ns: float) -> npt.NDArray[np.float64]:
        """Return the hour of the day (0..24) in the middle of every minute of the trip, UTC shifted by `shift_ns`."""
        assert self._offset_ns is not None
        middle = start + self._offset_ns + (np.arange(len(self._minutes)) + 0.5) * 60 * NS_PER_S + shift_ns
        return (middle / NS_PER_HOUR) % 24.0

    def _night_s(self, start: int, longitude: float) -> float:
        if self._offset_ns is None:
            return 0.0
        # Local solar time follows the sun wherever the car is: 15 degrees of longitude are one hour.
        hours_east = self._settings.utc_offset_h if isnan(longitude) else longitude / 15.0
        local = self._minute_hours(start, hours_east * NS_PER_HOUR)
        return float(self._minutes[(local >= NIGHT[0]) | (local < NIGHT[1])].sum())

    def _hours(self, start: int) -> list[float]:
        if self._offset_ns is None:
            return []
        hours = self._minute_hours(start, 0.0).astype(np.int64)
        return [round(s, 1) for s in np.bincount(hours, self._minutes, 24).tolist()]


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)


def _degrees(value: float) -> float | None:
    return None if isnan(value) else round(float(value), 7)
