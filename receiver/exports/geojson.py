"""GeoJSON (RFC 7946): trips as lines, events as points; WGS-84, longitude first, cut at the 180th meridian (§3.1.9)."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

from agent.clock import iso_utc
from receiver.drive import Fix
from receiver.exports.columns import EVENTS, TRIPS, Column
from receiver.exports.source import Drive, Exported

Position = tuple[float, float]


def write_drives(out: BinaryIO, drives: Iterable[Drive]) -> int:
    """Write a feature for each trip; its `times` stand beside the positions, null where not known. Return points."""
    count = 0

    def features() -> Iterator[dict[str, Any]]:
        nonlocal count
        for drive in drives:
            count += len(drive.fixes)
            lines, times = _lines(drive.fixes, [drive.trip.utc_ns(f.t_ns) for f in drive.fixes])
            told = [[None if t is None else iso_utc(t) for t in line] for line in times]
            properties = {**_properties(TRIPS, drive.trip), "times": told[0] if len(told) == 1 else told}
            yield _feature(drive.trip.row.id, _geometry(lines), properties)

    _collection(out, features())
    return count


def write_events(out: BinaryIO, events: Iterable[Exported]) -> int:
    """Write a feature for each event; one without a place has no geometry. Return their number."""
    count = 0

    def features() -> Iterator[dict[str, Any]]:
        nonlocal count
        for event in events:
            count += 1
            row = event.row
            known = row.latitude is not None and row.longitude is not None
            place = {"type": "Point", "coordinates": [row.longitude, row.latitude]} if known else None
            yield _feature(row.id, place, _properties(EVENTS, event))

    _collection(out, features())
    return count


def _collection(out: BinaryIO, features: Iterator[dict[str, Any]]) -> None:
    out.write(b'{"type": "FeatureCollection", "features": [')
    for n, feature in enumerate(features):
        out.write(b",\n" if n else b"\n")
        out.write(json.dumps(feature, ensure_ascii=False, allow_nan=False).encode())
    out.write(b"\n]}\n")


def _feature(number: int, geometry: dict[str, Any] | None, properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "id": number, "geometry": geometry, "properties": properties}


def _properties(columns: Sequence[Column], item: Exported) -> dict[str, Any]:
    values = ((c, c.value(item)) for c in columns)
    return {c.name: iso_utc(v) if c.kind == "time" and v is not None else v for c, v in values}


def _geometry(lines: Sequence[Sequence[Position]]) -> dict[str, Any] | None:
    if not lines or not lines[0]:
        return None
    if len(lines) > 1:
        return {"type": "MultiLineString", "coordinates": lines}
    if len(lines[0]) == 1:
        return {"type": "Point", "coordinates": lines[0][0]}
    return {"type": "LineString", "coordinates": lines[0]}


def _lines(fixes: Sequence[Fix], utc_ns: Sequence[int | None]) -> tuple[list[list[Position]], list[list[int | None]]]:
    """Return the line of a track and its times, in pieces that do not cross the 180th meridian."""
    lines: list[list[Position]] = [[]]
    times: list[list[int | None]] = [[]]
    before: Fix | None = None
    for fix, t in zip(fixes, utc_ns, strict=True):
        if before is not None and abs(fix.longitude - before.longitude) > 180.0:
            side = 180.0 if before.longitude > 0 else -180.0
            here, there = abs(side - before.longitude), abs(-side - fix.longitude)
            share = here / (here + there) if here + there else 0.0
            latitude = round(before.latitude + share * (fix.latitude - before.latitude), 7)
            last = times[-1][-1]
            crossed = None if last is None or t is None else last + round(share * (t - last))
            lines[-1].append((side, latitude))
            times[-1].append(crossed)
            lines.append([(-side, latitude)])
            times.append([crossed])
        lines[-1].append((fix.longitude, fix.latitude))
        times[-1].append(t)
        before = fix
    return lines, times
