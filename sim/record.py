"""Write a simulated drive where others can read it: candump log, its bus database, and truth.json."""

from pathlib import Path
from typing import Final

import msgspec

from agent.errors import RecordingError
from sim.drive import BUS, Drive, dbc_path
from sim.encode import candump_text, take

BATCH: Final = 262_144  # frames per write: some 10 MB of text at a time, whatever the length of the drive


def write_drive(drive: Drive, out: Path) -> list[Path]:
    """Write `drive` to the folder `out`, or to the log `out` when it ends in .log, with DBC and truth beside it.

    Returns the three paths: log, DBC, truth. Raises RecordingError when they cannot be written.
    """
    if out.suffix == ".log":
        folder, log, truth = out.parent, out, out.with_suffix(".truth.json")
    else:
        folder, log, truth = out, out / f"{drive.scenario}-{drive.seed}.log", out / "truth.json"
    dbc = folder / dbc_path().name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as file:
            for first in range(0, len(drive.frames.t), BATCH):
                part = take(drive.frames, slice(first, first + BATCH))
                file.write(candump_text(part, drive.utc_start_ns, BUS))
        dbc.write_bytes(dbc_path().read_bytes())
        truth.write_bytes(msgspec.json.format(msgspec.json.encode(drive.truth()), indent=1) + b"\n")
    except OSError as e:
        raise RecordingError(
            f"{e.filename or out}: cannot write the simulated drive: {e.strerror}; choose another place"
        ) from e
    return [log, dbc, truth]
