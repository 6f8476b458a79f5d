"""The command `track`: every position of a time that has passed, as exactly as it stands in the store.

track.csv   a line for each fix: UTC, degrees WGS-84, m/s, degrees from north, m
track.gpx   the same for maps
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from agent.blocks import Block
from agent.channels import number
from agent.clip.side import Point, gpx
from agent.clock import NS_PER_S, iso_utc
from agent.commandmessages import TrackArguments
from agent.commands.commands import SURE
from agent.commands.reading import Found
from agent.errors import StoreError
from agent.store import Store
from agent.store.reading import Utc

LONGEST_S: Final = 86_400.0  # a day at one fix a second is 8 MB of text
PIECE_NS: Final = 600 * NS_PER_S  # read at once: the store is held for some 20 ms
LATITUDE: Final = number("Gnss.Latitude")
COLUMNS: Final = {
    "longitude_deg": number("Gnss.Longitude"),
    "speed_mps": number("Gnss.Speed"),
    "heading_deg": number("Gnss.Heading"),
    "accuracy_m": number("Gnss.HorizontalAccuracy"),
}
SAME_FIX_NS: Final = NS_PER_S // 2  # values of one fix stand no farther apart
HEAD: Final = "utc,latitude_deg,longitude_deg,speed_mps,heading_deg,accuracy_m\n"


class _Span(NamedTuple):
    boot: str
    from_ns: int
    to_ns: int
    utc: Utc  # of the boot's t = 0


class Tracks:
    """Reads tracks out of a store; `boot` is the present one."""

    def __init__(self, store: Store, boot: str) -> None:
        self._store = store
        self._boot = boot

    def read(self, wanted: TrackArguments) -> Found:
        """Return the track; raise StoreError with why there is none."""
        length_s = (wanted.to_utc_ns - wanted.from_utc_ns) / NS_PER_S
        if length_s <= 0:
            raise StoreError("the time ends before it begins")
        if length_s > LONGEST_S:
            raise StoreError(f"{length_s / 3600:.1f} h are asked for; {LONGEST_S / 3600:g} h is the longest")
        spans, unsure = self._spans(wanted)
        rows: list[str] = []
        track: list[Point] = []
        for span in spans:
            for point in self._points(span):
                utc_ns = span.utc.utc_ns + point.t_ns
                rows.append(_row(utc_ns, point))
                track.append(Point(utc_ns, *_values(point)))
        if not track:
            more = f", unless in one of {unsure} starts of the box whose time is not known for sure" if unsure else ""
            raise StoreError(f"no place was recorded then{more}")
        zero = Utc(0, "gnss", 0)  # the points' times are UTC already
        files = {"track.csv": (HEAD + "".join(rows)).encode(), "track.gpx": gpx(track, zero, "track")}
        off_s = max(span.utc.uncertainty_ns for span in spans) / NS_PER_S
        return Found(files, f"{len(track)} places, their time right within {off_s:.2f} s")

    def _spans(self, wanted: TrackArguments) -> tuple[list[_Span], int]:
        """Return the wanted time by the clocks of the boots that have samples then; and how many are not sure."""
        found: list[_Span] = []
        unsure = 0
        for boot in self._store.boots():
            utc, stored = self._store.utc_of(boot, 0), self._store.span(boot)
            if stored is None:
                continue
            if utc is None or utc.quality not in SURE:
                unsure += 1
                continue
            from_ns, to_ns = wanted.from_utc_ns - utc.utc_ns, wanted.to_utc_ns - utc.utc_ns
            if stored[0] < to_ns and from_ns <= stored[1]:
                found.append(_Span(boot, max(from_ns, stored[0]), min(to_ns, stored[1] + 1), utc))
        return sorted(found, key=lambda s: s.utc.utc_ns + s.from_ns), unsure

    def _points(self, span: _Span) -> Iterator[Point]:
        channels = {LATITUDE, *COLUMNS.values()}
        for from_ns in range(span.from_ns, span.to_ns, PIECE_NS):
            to_ns = min(from_ns + PIECE_NS, span.to_ns)
            yield from fixes(self._store.read_block(from_ns, to_ns, span.boot, channels))


def fixes(block: Block) -> Iterator[Point]:
    """Yield a point for each latitude, with the other values that were measured with it."""
    of = {c: block[block["channel"] == c] for c in (LATITUDE, *COLUMNS.values())}
    times = of[LATITUDE]["t"]
    columns = []
    for channel in COLUMNS.values():
        mine = of[channel]
        if not len(mine):
            columns.append(np.full(len(times), np.nan))
            continue
        after = np.clip(np.searchsorted(mine["t"], times), 0, len(mine) - 1)
        before = np.maximum(after - 1, 0)
        nearest = np.where(np.abs(mine["t"][before] - times) < np.abs(mine["t"][after] - times), before, after)
        near = np.abs(mine["t"][nearest] - times) <= SAME_FIX_NS
        columns.append(np.where(near, mine["value"][nearest], np.nan))
    longitude, speed, heading, accuracy = columns
    for i, (t_ns, latitude) in enumerate(zip(times.tolist(), of[LATITUDE]["value"].tolist(), strict=True)):
        if np.isfinite(latitude) and np.isfinite(longitude[i]):
            values = (_known(accuracy[i], 1), _known(heading[i], 1), _known(speed[i], 2))
            yield Point(t_ns, round(latitude, 7), round(float(longitude[i]), 7), *values)


def _known(value: float, digits: int) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None


def _values(point: Point) -> tuple[float | None, float | None, float | None, float | None, float | None]:
    return point.latitude, point.longitude, point.accuracy_m, point.heading_deg, point.speed_mps


def _row(utc_ns: int, p: Point) -> str:
    rest = ",".join("" if v is None else f"{v:g}" for v in (p.speed_mps, p.heading_deg, p.accuracy_m))
    return f"{iso_utc(utc_ns)},{p.latitude:.7f},{p.longitude:.7f},{rest}\n"
