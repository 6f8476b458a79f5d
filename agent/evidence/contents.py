"""What may lie in a package, and what it is, for the manifest and for people."""

import re
from typing import Final, NamedTuple


class Kind(NamedTuple):
    """A kind of file: names that it has, what it is, its media type."""

    names: re.Pattern[str]
    what: str
    media: str


KINDS: Final[tuple[Kind, ...]] = tuple(
    Kind(re.compile(names), what, media)
    for names, what, media in (
        (r"crash\.json", "the collision as it was measured, and what the tables hold", "application/json"),
        (r"request\.json", "what was asked for, and why", "application/json"),
        (r"before\.csv", "the seconds before time zero, ten rows a second", "text/csv"),
        (r"imu\.csv", "the inertial sensor around time zero, at its full rate", "text/csv"),
        (r"track\.csv", "where the vehicle was, once a second", "text/csv"),
        (r"chain\.jsonl", "the device's signed records that this package rests on", "application/x-ndjson"),
        (r"clip-[^/]+\.mp4", "video", "video/mp4"),
        (r"view-[^/]+\.mp4", "the same video encoded anew for browsers; the clip is the evidence", "video/mp4"),
        (r"video\.json", "what the cameras filmed, and how much the picture jumped at time zero", "application/json"),
        (r"poster-[^/]+\.jpg", "a picture from the video", "image/jpeg"),
        (r"track\.gpx", "positions for maps", "application/gpx+xml"),
        (r"track\.json", "position and speed beside the video", "application/json"),
        (r"track-[^/]+\.vtt", "time and speed as subtitles of the video", "text/vtt"),
        (r"doctor\.json", "what the doctor found in this box", "application/json"),
        (r"codes\.json", "the trouble codes that the car had stored", "application/json"),
        (r"support\.zip", "the support bundle: logs, settings and state without secrets", "application/zip"),
        (r"manifest-\d+\.json", "an earlier manifest of this package", "application/json"),
        (r"manifest-\d+\.sig", "the signature of an earlier manifest", "application/json"),
        (r"manifest-\d+\.tsr", "a time-stamp of an earlier manifest (RFC 3161)", "application/timestamp-reply"),
    )
)


def what_is(name: str) -> tuple[str, str]:
    """Return what a file is and its media type, by its name."""
    for kind in KINDS:
        if kind.names.fullmatch(name):
            return kind.what, kind.media
    return "other", "application/octet-stream"
