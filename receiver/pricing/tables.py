"""A rate table made ready: checked for gaps and overlaps when it is loaded, asked with the facts of a vehicle later."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from agent.errors import ConfigError
from receiver.pricing.money import plain
from receiver.pricing.refusals import QuoteError
from receiver.pricing.schema import Row

# columns that must be equal, in the order in which they are asked -> the field of a request
EQUAL: Final = {
    "cover": "covers",
    "use_class": "vehicle.use_class",
    "energy": "vehicle.energy",
    "origin": "vehicle.origin",
    "model": "vehicle.model",
    "limit": "covers.limit_yuan",
}
# columns with a from and a below -> the field of a request
BANDS: Final = {
    "seats": "vehicle.seats",
    "tonnes": "vehicle.tonnes",
    "cc": "vehicle.cc",
    "age": "vehicle.first_registration",
    "price": "vehicle.new_price_yuan",
}
VALUES: Final = ("premium", "base", "percent", "driver_percent", "passenger_percent", "factor")
MONTHS: Final = Decimal(12)
_INFINITE: Final = Decimal("Infinity")

Facts = Mapping[str, Any]


class Band(NamedTuple):
    """What a row takes: `start` is in, `end` is out."""

    start: Decimal
    end: Decimal

    def __str__(self) -> str:
        if self.end == _INFINITE:
            return f"{plain(self.start)} and more"
        return f"{plain(self.start)} to below {plain(self.end)}"


class Entry(NamedTuple):
    """A row with its bands and its place in the file."""

    bands: tuple[Band, ...]
    row: Row
    number: int


class Group(NamedTuple):
    """Rows that are alike in all that must be equal, and the columns that they cut into bands."""

    columns: tuple[str, ...]
    entries: list[Entry]


class Found(NamedTuple):
    """The row that a vehicle falls into, and its place in the file (from 1)."""

    row: Row
    number: int

    def value(self, name: str) -> Decimal:
        """Return what the row says; that it says it was checked when it was loaded."""
        found: Decimal = getattr(self.row, name)
        return found


class RateTable:
    """Rows of one table, found by facts."""

    def __init__(self, name: str, rows: list[Row], values: tuple[str, ...], where: str) -> None:
        """Check the rows; raise ConfigError naming the table and the row that is wrong."""
        self.name = name
        if not rows:
            raise ConfigError(f"{where}: has no rows")
        for number, row in enumerate(rows, 1):
            _check_values(row, values, f"{where}: row {number}")
        self.keys = tuple(k for k in EQUAL if getattr(rows[0], k) is not None)
        self.groups: dict[tuple[Any, ...], Group] = {}
        for number, row in enumerate(rows, 1):
            for one in _spread(row):
                self._add(one, number, where)
        for group in self.groups.values():
            _check_tiles(group.columns, group.entries, where)

    def _add(self, row: Row, number: int, where: str) -> None:
        for key in EQUAL:
            if (getattr(row, key) is not None) != (key in self.keys):
                side = "has no" if key in self.keys else "has a"
                raise ConfigError(f"{where}: row {number}: {side} '{key}', unlike row 1")
        columns = tuple(b for b in BANDS if _band_of(row, b) is not None)
        bands = tuple(band for b in columns if (band := _band_of(row, b)) is not None)
        for column, band in zip(columns, bands, strict=True):
            if not 0 <= band.start < band.end:
                raise ConfigError(f"{where}: row {number}: {column} {band} holds nothing")
        key_values = tuple(getattr(row, k) for k in self.keys)
        group = self.groups.setdefault(key_values, Group(columns, []))
        if group.columns != columns:
            first = group.entries[0].number
            raise ConfigError(
                f"{where}: row {number}: bands of {_listed(columns)}, but row {first} has {_listed(group.columns)}"
            )
        group.entries.append(Entry(bands, row, number))

    def find(self, facts: Facts, prefix: str = "") -> Found:
        """Return the row for these facts; raise QuoteError naming the field that has no row, and what is known.

        `prefix` is the request's cover, for the name of the field when a limit is missing.
        """
        key = tuple(facts.get(k) for k in self.keys)
        group = self.groups.get(key)
        if group is None:
            raise self._unknown(facts, prefix)
        if not group.columns:
            return Found(group.entries[0].row, group.entries[0].number)
        values = [facts.get(c) for c in group.columns]
        for entry in group.entries:
            for value, band in zip(values, entry.bands, strict=True):
                if value is None or not band.start <= value < band.end:
                    break
            else:
                return Found(entry.row, entry.number)
        raise self._outside(group, facts)

    def knows(self, key: str) -> list[Any]:
        """Return the values of one of the columns that must be equal."""
        at = self.keys.index(key)
        return sorted({k[at] for k in self.groups})

    def _unknown(self, facts: Facts, prefix: str) -> QuoteError:
        left = list(self.groups)
        for at, key in enumerate(self.keys):
            known = sorted({k[at] for k in left})
            left = [k for k in left if k[at] == facts.get(key)]
            if not left:
                field = f"{prefix}.limit_yuan" if key == "limit" and prefix else EQUAL[key]
                return _refusal(field, facts.get(key), self.name, [_shown(k) for k in known])
        raise AssertionError("some column has no such value")

    def _outside(self, group: Group, facts: Facts) -> QuoteError:
        entries = group.entries
        for at, column in enumerate(group.columns):
            value = facts.get(column)
            known = dict.fromkeys(_in_words(column, e.bands[at]) for e in entries)
            entries = [e for e in entries if value is not None and e.bands[at].start <= value < e.bands[at].end]
            if not entries:
                shown = value if column != "age" or value is None else f"{value} months of age"
                return _refusal(BANDS[column], shown, self.name, list(known))
        raise AssertionError("some column has no such band")


def _refusal(field: str, value: object, table: str, known: list[str]) -> QuoteError:
    if value is None:
        return QuoteError("missing", field, known, why=f"for table {table}")
    return QuoteError("no_row", field, known, value=_shown(value), table=table)


def _shown(value: object) -> str:
    return plain(value) if isinstance(value, Decimal) else str(value)


def _in_words(column: str, band: Band) -> str:
    return f"{band} months" if column == "age" else str(band)


def _spread(row: Row) -> Iterable[Row]:
    """Make one row of each use class and energy that a row lists."""
    classes = row.use_class if isinstance(row.use_class, list) else [row.use_class]
    energies = row.energy if isinstance(row.energy, list) else [row.energy]
    return [replace(row, use_class=c, energy=e) for c in classes for e in energies]


def _band_of(row: Row, column: str) -> Band | None:
    start, end = getattr(row, f"{column}_from"), getattr(row, f"{column}_below")
    if start is None and end is None:
        return None
    scale = MONTHS if column == "age" else Decimal(1)
    return Band((start or Decimal(0)) * scale, _INFINITE if end is None else end * scale)


def _check_values(row: Row, values: tuple[str, ...], where: str) -> None:
    for name in VALUES:
        value = getattr(row, name)
        if (value is not None) != (name in values):
            side = "has no" if name in values else "has a"
            raise ConfigError(f"{where}: {side} '{name}'; this table needs {_listed(values)}")
        if value is not None and not 0 <= value < (HIGHEST_PERCENT if "percent" in name else HIGHEST):
            raise ConfigError(f"{where}: {name} {value} is not believable")


HIGHEST: Final = Decimal(10**7)
HIGHEST_PERCENT: Final = Decimal(100)


def _check_tiles(columns: tuple[str, ...], entries: list[Entry], where: str, at: int = 0) -> None:
    """Check that bands neither overlap nor leave a gap: by the first column, then inside each of its bands."""
    if at == len(columns):
        if len(entries) > 1:
            raise ConfigError(f"{where}: row {entries[1].number}: says again what row {entries[0].number} says")
        return
    by_band: dict[Band, list[Entry]] = {}
    for entry in entries:
        by_band.setdefault(entry.bands[at], []).append(entry)
    ordered = sorted(by_band)
    for before, after in pairwise(ordered):
        if after.start != before.end:
            fault = "overlaps" if after.start < before.end else "leaves a gap after"
            raise ConfigError(
                f"{where}: row {by_band[after][0].number}: {columns[at]} {_in_words(columns[at], after)} {fault} "
                f"row {by_band[before][0].number} ({_in_words(columns[at], before)})"
            )
    for inside in by_band.values():
        _check_tiles(columns, inside, where, at + 1)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
