"""Frames to values that a person looks at: by a vehicle profile, or every signal of a DBC, and OBD-II answers."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from agent.blocks import Block, Frames
from agent.channels import BY_NUMBER
from agent.clock import NS_PER_S
from agent.config import config_dir
from agent.errors import RecordingError
from agent.vehicle.matching import match
from drivers.decode.dbc import load_dbc
from drivers.decode.decode import Decode
from drivers.decode.profile import load_profile
from drivers.decode.tables import Decoder, compile_all
from drivers.recording import open_recording

LISTEN_S: Final = 3.0  # live, before a profile is chosen; the same as the daemon's
LISTENING: Final = "listening for what is on the bus, to choose a profile"
NOTHING: Final = "OBD-II answers only: no profile fits; name one with --profile or --dbc"


@dataclass(slots=True)
class Value:
    """One signal so far."""

    newest: float
    least: float
    most: float
    t_ns: int
    values: int


class Decoding:
    """Decode what passes and remember each signal's newest, least and most."""

    def __init__(self) -> None:
        self._values: dict[int, Value] = {}
        self._begun_ns: int | None = None

    @property
    def by(self) -> str:
        """By what it decodes."""
        raise NotImplementedError

    @property
    def counts(self) -> dict[str, int]:
        """Values that were left out, by reason."""
        raise NotImplementedError

    @property
    def unknown(self) -> tuple[int, int]:
        """How many identifiers nothing describes, and frames of further ones that could not be told apart."""
        raise NotImplementedError

    def _decode(self, frames: Frames, buses: list[str]) -> Block:
        raise NotImplementedError

    def _named(self, number: int) -> tuple[str, str]:
        """Return name and unit of a signal."""
        raise NotImplementedError

    def add(self, frames: Frames, buses: list[str]) -> Block:
        """Return the samples of a batch."""
        if self._begun_ns is None and len(frames.t):
            self._begun_ns = int(frames.t[0])
        block = self._decode(frames, buses)
        for number in np.unique(block["channel"]).tolist():
            mine = block[block["channel"] == number]
            values = mine["value"]
            newest, t_ns = float(values[-1]), int(mine["t"][-1])
            least, most = float(values.min()), float(values.max())
            had = self._values.get(number)
            if had is None:
                self._values[number] = Value(newest, least, most, t_ns, len(mine))
            else:
                had.newest, had.t_ns, had.values = newest, t_ns, had.values + len(mine)
                had.least, had.most = min(had.least, least), max(had.most, most)
        return block

    def rows(self) -> list[dict[str, Any]]:
        """Return all signals seen, by name."""
        found = []
        for number, value in self._values.items():
            name, unit = self._named(number)
            found.append({
                "name": name,
                "unit": unit,
                "newest": value.newest,
                "least": value.least,
                "most": value.most,
                "values": value.values,
                "t_s": self._seconds(value.t_ns),
            })  # fmt: skip
        return sorted(found, key=lambda row: str(row["name"]))

    def csv(self, block: Block) -> Iterator[str]:
        """Yield a line for each sample."""
        for t, number, value in block.tolist():
            yield f"{self._seconds(t):.6f},{self._named(number)[0]},{value:.10g}\n"

    @property
    def notes(self) -> list[str]:
        """What was not decoded."""
        ids, beyond = self.unknown
        told = [f"{ids} identifiers are not described; see roadwitness profile suggest"] if ids else []
        if beyond:
            told.append(
                f"{beyond} frames had still more identifiers than can be told apart: a broken bus, or an attack"
            )
        dropped = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in self.counts.items() if n)
        return [*told, f"left out: {dropped}"] if dropped else told

    def _seconds(self, t_ns: int) -> float:
        return (t_ns - (self._begun_ns or 0)) / NS_PER_S


class ByProfile(Decoding):
    """By a vehicle profile, into the product's channels."""

    def __init__(self, decode: Decode) -> None:
        super().__init__()
        self._by = decode

    @property
    def by(self) -> str:
        profile = self._by.profile
        if not self._by.settled:
            return LISTENING
        return f"profile {profile.name} ({profile.title})" if profile is not None else NOTHING

    @property
    def counts(self) -> dict[str, int]:
        return self._by.counts

    @property
    def unknown(self) -> tuple[int, int]:
        return len(self._by.unknown_ids), self._by.unknown_uncounted

    def _decode(self, frames: Frames, buses: list[str]) -> Block:
        return self._by(frames, buses)

    def _named(self, number: int) -> tuple[str, str]:
        channel = BY_NUMBER[number]
        return channel.name, channel.unit


class ByDbc(Decoding):
    """Every signal of a DBC, under its own name."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        database = load_dbc(path)
        self._tables = compile_all(database)
        self._by = Decoder(self._tables)
        self._units = {f"{m.name}.{s.name}": s.unit for m in database.messages for s in m.signals}
        self._skipped = len(database.skipped)

    @property
    def by(self) -> str:
        return f"{self._path.name} ({self._skipped} lines of it skipped)" if self._skipped else self._path.name

    @property
    def counts(self) -> dict[str, int]:
        return {"out_of_range": self._by.out_of_range, "not_available": self._by.not_available}

    @property
    def unknown(self) -> tuple[int, int]:
        return len(self._by.unknown_ids), self._by.unknown_uncounted

    def _decode(self, frames: Frames, buses: list[str]) -> Block:
        return self._by.decode(frames, buses)

    def _named(self, number: int) -> tuple[str, str]:
        name = self._tables.signal_names[number]
        return name, self._units[name]


def decoding(profile: str, dbc: Path | None, file: Path | None) -> Decoding:
    """Choose by what to decode: as named, else the profile that fits best: all of `file`, or what is heard at first."""
    folder = config_dir()
    if dbc is not None:
        return ByDbc(dbc)
    if profile:
        return ByProfile(Decode(load_profile(profile, folder), folder))
    if file is None:
        return ByProfile(Decode(None, folder, LISTEN_S))
    recording = open_recording(file)
    if recording.kind != "frames":
        raise RecordingError(f"{file}: holds samples, no CAN frames; give a recording of a bus")
    try:
        found = match(((batch, recording.buses) for batch in recording.batches() if isinstance(batch, Frames)), folder)
    finally:
        recording.close()
    best = next((m.name for m in found if m.fits), "")
    return ByProfile(Decode(load_profile(best, folder) if best else None, folder))
