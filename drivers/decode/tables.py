"""Compile signals into the arrays that the kernels walk, and run the kernels over batches of frames.

`compile_all` takes every signal of a DBC, its index as channel; drivers.decode.profile chooses and names channels.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.blocks import BLOCK, Block, Frames
from agent.errors import ConfigError
from drivers.decode import kernel
from drivers.decode.dbc import Database
from drivers.decode.plan import Entry, NotAvailable, Take
from drivers.decode.rows import Rows

UNKNOWN_PLACES: Final = 1 << 13  # half of them may be used: distinct unknown 29-bit identifiers that are counted apart
MIN_HASH_PLACES: Final = 16


@dataclass(frozen=True, slots=True)
class Tables:
    """What the kernels need; `left_out` says, a line each, which signals no frame can carry."""

    entries: tuple[Entry, ...]
    messages: npt.NDArray[np.void]
    signals: npt.NDArray[np.void]
    conditions: npt.NDArray[np.void]
    ranges: npt.NDArray[np.void]
    signal_names: tuple[str, ...] = ()  # of compile_all: channel number -> "Message.Signal"
    left_out: tuple[str, ...] = ()


def compile_all(database: Database, buses: str = "*") -> Tables:
    """Compile every signal of `database`; its index in `signal_names` is its channel."""
    names: list[str] = []
    entries = []
    for message in database.messages:
        absent: NotAvailable = "j1939" if message.j1939 else "none"
        takes = []
        for signal in message.signals:
            takes.append(Take(signal, len(names), not_available=absent))
            names.append(f"{message.name}.{signal.name}")
        entries.append(Entry(message, buses, tuple(takes)))
    if len(names) > np.iinfo(np.uint16).max:
        raise ConfigError(f"{database.path}: {len(names)} signals are more than 65,535; use a profile that chooses")
    return compile_entries(entries, tuple(names))


def compile_entries(entries: Iterable[Entry], signal_names: tuple[str, ...] = ()) -> Tables:
    """Compile the chosen signals of the chosen messages."""
    rows = Rows()
    entries = tuple(entries)
    messages = np.zeros(1 + len(entries), kernel.MESSAGE)  # the first is kernel.NO_MESSAGE
    for i, entry in enumerate(entries):
        messages[1 + i] = rows.add(entry)
    return Tables(
        entries,
        messages,
        np.array(rows.signals, kernel.SIGNAL),
        np.array(rows.conditions, kernel.CONDITION),
        np.array(rows.ranges, kernel.RANGE),
        signal_names,
        tuple(rows.left_out),
    )


class Decoder:
    """Decodes batches of frames by `tables`; the state is counters only, so any split of the input gives the same."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.frames = 0
        self._counters = np.zeros(kernel.COUNTERS, np.int64)
        self._unknown: dict[tuple[str, int], int] = {}
        self._buses: list[str] = []
        self._route([])
        self._found = np.empty((0, 2), np.int32)
        self._out = np.empty(0, BLOCK)

    def decode(self, frames: Frames, buses: list[str]) -> Block:
        """Return the samples of `frames`, ordered as the frames are; `buses` names the bus numbers.

        The block is the decoder's own buffer and is overwritten by the next call: copy what is kept.
        """
        if buses != self._buses:
            self._fold_unknown()
            self._route(list(buses))
        n = len(frames.t)
        if n == 0:
            return self._out[:0]
        if int(frames.bus.max()) >= len(buses):
            raise ValueError(f"bus number {int(frames.bus.max())} has no name among {len(buses)}")
        self.frames += n
        if len(self._found) < n:
            self._found = np.empty((n, 2), np.int32)
        t = self.tables
        known, most = kernel.match(
            frames.bus,
            frames.id,
            frames.flags,
            self._standard,
            self._standard_counts,
            self._keys,
            self._values,
            self._unknown_keys,
            self._unknown_counts,
            t.messages,
            self._found,
            self._counters,
        )
        if len(self._out) <= most:
            self._out = np.empty(1 + most + most // 4, BLOCK)
        words = frames.data.view(np.uint64)
        k = kernel.decode(
            frames.t,
            frames.len,
            words,
            self._found[:known],
            t.messages,
            t.signals,
            t.conditions,
            t.ranges,
            self._out,
            self._counters,
        )
        return self._out[:k]

    @property
    def decoded(self) -> int:
        """Frames whose message has signals to take."""
        return int(self._counters[kernel.DECODED])

    @property
    def out_of_range(self) -> int:
        """Samples dropped because they were outside their range or not finite."""
        return int(self._counters[kernel.OUT_OF_RANGE])

    @property
    def not_available(self) -> int:
        """Samples dropped because their raw value means 'not available' or 'error'."""
        return int(self._counters[kernel.NOT_AVAILABLE])

    @property
    def invalid(self) -> int:
        """Samples dropped because a validity signal said no."""
        return int(self._counters[kernel.INVALID])

    @property
    def unknown_uncounted(self) -> int:
        """Frames of unknown 29-bit identifiers that came after the table of such identifiers was full."""
        return int(self._counters[kernel.UNKNOWN_UNCOUNTED])

    @property
    def unknown_ids(self) -> dict[tuple[str, int], int]:
        """How many frames each (bus, identifier) had that no message describes."""
        self._fold_unknown()
        return dict(self._unknown)

    def _fold_unknown(self) -> None:
        """Move the kernel's counts of unknown identifiers into the dictionary, which outlives a change of buses."""
        unknown = np.where(self._standard == kernel.NO_MESSAGE, self._standard_counts, 0)
        found = [(int(b), int(i), int(unknown[b, i])) for b, i in np.argwhere(unknown)]
        for place in np.flatnonzero(self._unknown_keys):
            key = int(self._unknown_keys[place])
            found.append((key >> 40 & 0xFF, key & 0x1FFF_FFFF, int(self._unknown_counts[place])))
            self._unknown_counts[place] = 0
        self._standard_counts[:] = 0
        for bus, identifier, count in found:
            if count:
                name = self._buses[bus], identifier
                self._unknown[name] = self._unknown.get(name, 0) + count

    def _route(self, buses: list[str]) -> None:
        """Build the look-up tables for these buses; where two messages claim an identifier, the last one decodes."""
        self._buses = buses
        self._standard = np.full((len(buses), 2048), kernel.NO_MESSAGE, np.int32)
        routes: dict[int, int] = {}
        for m, entry in enumerate(self.tables.entries, start=1):
            for bus, name in enumerate(buses):
                if not fnmatchcase(name, entry.buses):
                    continue
                message = entry.message
                if not message.extended:
                    self._standard[bus, message.id] = m
                    continue
                key = int(kernel.USED) | bus << int(kernel.BUS_SHIFT)
                if message.j1939:
                    key |= int(kernel.GROUP_BIT) | int(kernel.parameter_group(message.id))
                else:
                    key |= message.id
                routes[key] = m
        places = MIN_HASH_PLACES
        while places < 2 * len(routes):
            places *= 2
        self._keys = np.zeros(places, np.uint64)
        self._values = np.zeros(places, np.int32)
        for key, m in routes.items():
            place = kernel.place_of(key, self._keys)
            self._keys[place], self._values[place] = key, m
        self._standard_counts = np.zeros((len(buses), 2048), np.int64)
        self._unknown_keys = np.zeros(UNKNOWN_PLACES, np.uint64)
        self._unknown_counts = np.zeros(UNKNOWN_PLACES + 1, np.int64)  # the last is how many places are used
