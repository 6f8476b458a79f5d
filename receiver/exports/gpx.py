"""GPX 1.1 (topografix.com/GPX/1/1): a track for each trip. Points whose time is not known have none."""

from collections.abc import Iterable
from typing import BinaryIO, Final
from xml.sax.saxutils import escape

from agent.clock import iso_utc
from receiver.exports.source import Drive

_HEAD: Final = """<?xml version="1.0" encoding="UTF-8"?>
<gpx version="1.1" creator="roadwitness" xmlns="http://www.topografix.com/GPX/1/1" xmlns:rw="urn:roadwitness:gpx:1">
"""


def write_gpx(out: BinaryIO, drives: Iterable[Drive]) -> int:
    """Write a document; return the number of points. Speeds stand in an extension, m/s."""
    out.write(_HEAD.encode())
    points = 0
    for drive in drives:
        trip = drive.trip
        began = trip.utc_ns(trip.row.t_ns)
        known = f"time by {trip.quality}" if began is not None else "time not known"
        lines = [
            f"<trk><name>{escape(trip.row.device)} trip {trip.row.id}</name>",
            f"<cmt>{known}; {trip.row.distance_m / 1000:.3f} km</cmt><trkseg>",
        ]
        for fix in drive.fixes:
            utc_ns = trip.utc_ns(fix.t_ns)
            time = "" if utc_ns is None else f"<time>{iso_utc(utc_ns)}</time>"
            speed = (
                "" if fix.speed_mps is None else f"<extensions><rw:speed>{fix.speed_mps:.2f}</rw:speed></extensions>"
            )
            lines.append(f'<trkpt lat="{fix.latitude:.7f}" lon="{fix.longitude:.7f}">{time}{speed}</trkpt>')
        lines.append("</trkseg></trk>\n")
        out.write("\n".join(lines).encode())
        points += len(drive.fixes)
    out.write(b"</gpx>\n")
    return points
