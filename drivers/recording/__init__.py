"""Recordings: files of CAN frames or of samples, read in batches with bounded memory.

What a file is says its content, its name only where the content leaves it open. A damaged file ends with what could
be read, a count and a sentence; only a file that cannot be read at all raises.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.errors import RecordingError
from drivers.recording.base import Counts, Recording
from drivers.recording.source import head_of

__all__ = ["Counts", "Recording", "RecordingError", "open_recording"]

HEAD: Final = 1 << 16  # bytes looked at

_ASC: Final = re.compile(
    rb"^\s*(date\s+\w{3}\s|base\s+(hex|dec)\b|begin\s+triggerblock)|^\s*\d+\.\d+\s+(\d+|CANFD)\s", re.I | re.M
)
_TRC: Final = re.compile(rb"^;\$(FILEVERSION|STARTTIME|COLUMNS)|^;.*\n[\s\S]*^\s*\d+\)\s+\d+", re.M)
_PYTHON_CAN_CSV: Final = b"timestamp,arbitration_id,extended,remote,error,dlc,data"


def _candump(path: Path, head: bytes) -> Recording:
    from drivers.recording.candump import Candump

    return Candump(path, head)


def _samples(path: Path, head: bytes) -> Recording:
    from drivers.recording.samples import SampleCsv

    return SampleCsv(path, head)


def _python_can(format_name: str) -> Callable[[Path, bytes], Recording]:
    def opened(path: Path, head: bytes) -> Recording:
        from drivers.recording.foreign import PythonCan

        return PythonCan(path, format_name, head)

    return opened


def _mf4(path: Path, head: bytes) -> Recording:
    from drivers.recording.mf4 import Mf4

    return Mf4(path)


def _is_candump(head: bytes) -> bool:
    from drivers.recording.candump import LINE

    return any(LINE.match(line) for line in head.split(b"\n"))


def _is_samples(head: bytes) -> bool:
    from drivers.recording.samples import header_columns

    return header_columns(head.split(b"\n", 1)[0]) is not None


_BY_CONTENT: Final[tuple[tuple[Callable[[bytes], bool], Callable[[Path, bytes], Recording]], ...]] = (
    (lambda head: head.startswith(b"LOGG"), _python_can("blf")),
    (lambda head: head.startswith((b"MDF     ", b"UnFinMF ")), _mf4),
    (lambda head: head.startswith(_PYTHON_CAN_CSV), _python_can("csv")),
    (_is_samples, _samples),
    (_is_candump, _candump),
    (lambda head: _TRC.search(head) is not None, _python_can("trc")),
    (lambda head: _ASC.search(head) is not None, _python_can("asc")),
)

_TIMELESS: Final = re.compile(rb"^\s*[a-z]+\d+\s+[0-9A-F]{3,8}\s+\[\d+\]", re.I | re.M)
KNOWN: Final = (
    "candump .log, Vector .asc and .blf, PEAK .trc, .MF4, python-can .csv, or CSV with the header t_s,channel,value"
)


def open_recording(path: Path) -> Recording:
    """Open the recording `path`, plain or compressed, whatever its format; nothing but its beginning is read yet.

    Raises RecordingError when the file is missing, empty, of no known format, or needs a package that is absent.
    """
    if path.is_dir():
        raise RecordingError(f"{path}: is a folder; name the recordings in it")
    head, ended_by = head_of(path, HEAD)
    if not head:
        raise RecordingError(f"{path}: {ended_by or 'the file is empty'}; record or copy it again")
    for is_it, opened in _BY_CONTENT:
        if is_it(head):
            return opened(path, head)
    if _TIMELESS.search(head):
        raise RecordingError(f"{path}: the lines have no time; record with `candump -L` or `candump -t a`")
    raise RecordingError(f"{path}: not a recording in a known format; known are {KNOWN}")
