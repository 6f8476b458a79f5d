"""Which vehicle profile, or which DBC, fits what is on a bus: how much it decodes, what it gives, what speaks against.

Nothing is decided by identifiers alone: the values that a profile would give must lie in their plausible ranges, and
frames must be as long as the DBC says.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.blocks import Frames
from agent.channels import BY_NUMBER
from agent.config import config_dir
from agent.errors import ConfigError
from agent.vehicle.traffic import Key, Seen, Traffic
from drivers.decode.dbc import Message, load_dbc
from drivers.decode.plan import Entry
from drivers.decode.profile import IDENTIFY_SHARE, Profile, filter_of, list_profiles, load_profile

PLAUSIBLE: Final = 0.5  # of a channel's expected values that must be in range before the channel counts as gained
MOST_TOLD: Final = 5  # conflicts of one kind in words; the rest are counted


@dataclass(frozen=True, slots=True)
class Gain:
    """A channel that would be gained: its possible values, how many frames could have given one, least and most."""

    channel: str
    unit: str
    message: str
    values: int
    expected: int | None  # None for multiplexed signals
    least: float | None  # None without any value
    most: float | None

    @property
    def plausible(self) -> bool:
        """Whether enough of what came was a possible value."""
        return self.values > 0 and (self.expected is None or self.values >= PLAUSIBLE * self.expected)


@dataclass(frozen=True, slots=True)
class Match:
    """How well one profile (or one DBC, which gives no channels) fits.

    `mapped` and `seen` count the messages that it takes signals from, and those of them that are on the bus; `ids` and
    `frames` what of the bus it describes at all, `decoded` the frames that it takes signals from.
    """

    name: str
    title: str
    path: Path
    is_profile: bool
    buses: tuple[str, ...]
    mapped: int
    seen: int
    ids: int
    of_ids: int
    frames: int
    of_frames: int
    decoded: int
    gains: tuple[Gain, ...] = ()
    conflicts: tuple[str, ...] = ()
    taken_ids: frozenset[Key] = frozenset()

    @property
    def share(self) -> float:
        """The share (0..1) of its messages that are on the bus."""
        return self.seen / self.mapped if self.mapped else 0.0

    @property
    def fits(self) -> bool:
        """Whether it may be used: most of its messages are here, and most of its channels have possible values."""
        good = sum(gain.plausible for gain in self.gains)
        enough = not self.is_profile or 2 * good > len(self.gains)
        return self.share >= IDENTIFY_SHARE and enough


def match(
    batches: Iterable[tuple[Frames, list[str]]], folder: Path | None = None, dbcs: Sequence[Path] = ()
) -> list[Match]:
    """Rank the profiles in `folder` (the product's own by default) and the files `dbcs` by how well they fit.

    `batches` are (frames, names of the buses) in the order of time; those that nothing speaks for are left out.
    """
    matcher = Matcher(folder or config_dir(), dbcs)
    for frames, buses in batches:
        matcher.add(frames, buses)
    return matcher.matches()


class Matcher:
    """Try all profiles on what passes. `unreadable` says, a line each, which could not be read."""

    def __init__(self, folder: Path, dbcs: Sequence[Path] = ()) -> None:
        self.traffic = Traffic()
        self.unreadable: list[str] = []
        self._trials: list[_Trial] = []
        self._dbcs = dbcs
        for name in list_profiles(folder):
            try:
                self._trials.append(_Trial(load_profile(name, folder)))
            except ConfigError as error:
                self.unreadable.append(str(error))

    def add(self, frames: Frames, buses: list[str]) -> None:
        """Take a batch."""
        self.traffic.add(frames, buses)
        for trial in self._trials:
            trial.add(frames, buses)

    def matches(self) -> list[Match]:
        """Return what fits, best first; each is told which better one it overlaps with."""
        found = [trial.result(self.traffic) for trial in self._trials]
        for path in self._dbcs:
            try:
                found.append(_of_dbc(path, self.traffic))
            except ConfigError as error:
                self.unreadable.append(str(error))
        found = [m for m in found if m.seen]
        found.sort(key=lambda m: (not m.fits, not m.is_profile, -m.decoded, -m.frames, m.name))
        return [_overlapping(m, found[:i]) for i, m in enumerate(found)]

    @property
    def unknown_uncounted(self) -> int:
        """Frames of 29-bit identifiers that no table had room to tell apart."""
        return max([self.traffic.uncounted, *(trial.decoder.unknown_uncounted for trial in self._trials)])


@dataclass(slots=True)
class _Channel:
    """The values of one channel so far."""

    values: int = 0
    least: float = np.inf
    most: float = -np.inf


class _Trial:
    """One profile on its way through the frames."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.decoder = profile.decoder()
        self.channels: dict[int, _Channel] = {}
        self.names: dict[str, str] = {}  # the bus as it is called here -> as the profile would have it

    def add(self, frames: Frames, buses: list[str]) -> None:
        called = [self._called(bus, alone=len(buses) == 1) for bus in buses]
        self.names |= zip(buses, called, strict=True)
        block = self.decoder.decode(frames, called)
        for number in np.unique(block["channel"]).tolist():
            self._count(number, block["value"][block["channel"] == number])

    def _count(self, number: int, values: npt.NDArray[np.float64]) -> None:
        channel = self.channels.setdefault(number, _Channel())
        channel.values += len(values)
        channel.least = min(channel.least, float(values.min()))
        channel.most = max(channel.most, float(values.max()))

    def _called(self, bus: str, alone: bool) -> str:
        """Return the name under which the profile knows this bus; a bus that is alone may be called anything."""
        patterns = {entry.buses for entry in self.profile.entries if entry.takes}
        if not alone or any(fnmatchcase(bus, pattern) for pattern in patterns):
            return bus
        return min(patterns).replace("*", "0").replace("?", "0")

    def result(self, traffic: Traffic) -> Match:
        mine = traffic.ids
        conflicts = [
            f"the profile is for a bus called {name}, this one is {bus}; set bus = '{name}' for it in agent.toml"
            for bus, name in self.names.items()
            if bus != name
        ]
        described: dict[Key, Seen] = {}
        taken: dict[Key, Seen] = {}
        short: list[str] = []
        gains: list[Gain] = []
        mapped = [entry for entry in self.profile.entries if entry.takes]
        present = 0
        for entry in self.profile.entries:
            found = self._frames_of(entry, mine)
            described |= found
            if not entry.takes or not found:
                continue
            present += 1
            taken |= found
            short += _too_short(entry.message, found, max(t.signal.bytes_needed for t in entry.takes))
            gains += self._gains(entry, sum(seen.frames for seen in found.values()))
        merged = _merged(gains)
        conflicts += _few(short)
        conflicts += _few(
            [
                f"{g.channel}: only {g.values} of {g.expected} values of {g.message} are possible ones"
                for g in merged
                if not g.plausible and g.expected
            ]
        )
        return Match(
            name=self.profile.name,
            title=self.profile.title,
            path=self.profile.path,
            is_profile=True,
            buses=tuple(sorted({key.bus for key in described})),
            mapped=len(mapped),
            seen=present,
            ids=len(described),
            of_ids=len(mine),
            frames=sum(seen.frames for seen in described.values()),
            of_frames=traffic.frames,
            decoded=sum(seen.frames for seen in taken.values()),
            gains=tuple(merged),
            conflicts=tuple(conflicts),
            taken_ids=frozenset(taken),
        )

    def _frames_of(self, entry: Entry, ids: dict[Key, Seen]) -> dict[Key, Seen]:
        return {
            key: seen
            for key, seen in _of_message(entry.message, ids).items()
            if fnmatchcase(self.names.get(key.bus, key.bus), entry.buses)
        }

    def _gains(self, entry: Entry, frames: int) -> list[Gain]:
        gains = []
        for take in entry.takes:
            told, channel = self.channels.get(take.channel, _Channel()), BY_NUMBER[take.channel]
            expected = None if take.signal.selector else frames
            where = f"{entry.message.name}.{take.signal.name}"
            least, most = (told.least, told.most) if told.values else (None, None)
            gains.append(Gain(channel.name, channel.unit, where, told.values, expected, least, most))
        return gains


def _of_message(message: Message, ids: dict[Key, Seen]) -> dict[Key, Seen]:
    """Return the identifiers on the bus that are this message's."""
    wanted = filter_of(message)
    return {
        key: seen
        for key, seen in ids.items()
        if key.extended == wanted.extended and key.id & wanted.mask == wanted.id & wanted.mask
    }


def _merged(gains: list[Gain]) -> list[Gain]:
    """Make one of the gains of a channel that several messages give: its values were counted together."""
    merged: dict[str, Gain] = {}
    for gain in gains:
        had = merged.get(gain.channel)
        if had is None:
            merged[gain.channel] = gain
        else:
            both = had.expected is not None and gain.expected is not None
            expected = (had.expected or 0) + (gain.expected or 0) if both else None
            merged[gain.channel] = replace(had, message=f"{had.message}, {gain.message}", expected=expected)
    return sorted(merged.values(), key=lambda gain: gain.channel)


def _too_short(message: Message, found: dict[Key, Seen], needed: int) -> list[str]:
    return [
        f"{message.name} ({key.text}): frames have {seen.most_bytes} bytes, the DBC needs {needed}"
        for key, seen in found.items()
        if seen.most_bytes < needed
    ]


def _few(sentences: list[str]) -> list[str]:
    if len(sentences) <= MOST_TOLD:
        return sentences
    return [*sentences[:MOST_TOLD], f"and {len(sentences) - MOST_TOLD} more of this kind"]


def _of_dbc(path: Path, traffic: Traffic) -> Match:
    """Say how much of the bus a DBC describes: a message counts where its frames are as long as the DBC says."""
    database = load_dbc(path)
    described: dict[Key, Seen] = {}
    wrong: list[str] = []
    present = 0
    for message in database.messages:
        found = _of_message(message, traffic.ids)
        right = {key: seen for key, seen in found.items() if seen.most_bytes == message.length}
        present += bool(right)
        described |= right
        wrong += [
            f"{message.name} ({key.text}): frames have {seen.most_bytes} bytes, the DBC says {message.length}"
            for key, seen in found.items()
            if key not in right
        ]
    frames = sum(seen.frames for seen in described.values())
    return Match(
        name=path.stem,
        title="DBC without a profile",
        path=path,
        is_profile=False,
        buses=tuple(sorted({key.bus for key in described})),
        mapped=len(database.messages),
        seen=present,
        ids=len(described),
        of_ids=len(traffic.ids),
        frames=frames,
        of_frames=traffic.frames,
        decoded=frames,
        conflicts=tuple(_few(wrong)),
        taken_ids=frozenset(described),
    )


def _overlapping(mine: Match, better: list[Match]) -> Match:
    """Add which better one claims the same identifiers."""
    shared = [(len(mine.taken_ids & other.taken_ids), other.name) for other in better if other.fits]
    told = [f"{n} of its identifiers are also taken by {name}; only one can be right" for n, name in shared if n]
    return replace(mine, conflicts=(*mine.conflicts, *told)) if told and mine.is_profile else mine
