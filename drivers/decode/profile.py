"""Vehicle profiles: TOML files that say which signals of which DBC become which channels, and when to believe them.

name = "simcar"                     # also the file's name
title = "the simulated car"
ids = [0x7E8]                       # optional: further identifiers to let through the kernel's filter

[[buses]]                           # one for each DBC
match = "can*"                      # shell pattern of bus names
dbc = "simcar.dbc"                  # beside the profile, else in config/dbc

[[signals]]
message = "SPEED"
signal = "VehicleSpeed"
channel = "Vehicle.Speed"
scale = 0.2777777777777778          # all below optional; value = (signal + plus) * scale * sign + offset
offset = 0.0
sign = -1
plus = "SpeedFraction"              # a signal of the same message that is added
valid = { signal = "SpeedValid", equals = 1 }   # or a list of such; `equals` is a raw value
range = [0, 70]                     # in the channel's unit, inside its plausible range
dbc_range = true                    # honour the DBC's own [min|max]
not_available = "all_ones"          # "none", "all_ones", "j1939" (which J1939 messages have by themselves)
"""

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from agent.channels import BY_NAME
from agent.config import LOCAL
from agent.errors import ConfigError, near_names
from agent.known import known
from drivers.decode.dbc import MAX_EXTENDED_ID, MAX_STANDARD_ID, Database, Message, Signal, load_dbc
from drivers.decode.plan import Entry, NotAvailable, Take, Valid

if TYPE_CHECKING:
    from drivers.decode.tables import Decoder

# Bits of a 29-bit identifier that say which J1939 parameter group it is; a PDU1's low byte is its destination
PDU2_MASK: Final = 0x03FF_FF00
PDU1_MASK: Final = 0x03FF_0000
IDENTIFY_SHARE: Final = 0.5  # of a profile's ids that must be on the bus before it is taken unasked


class _Valid(msgspec.Struct, frozen=True):
    signal: str
    equals: int = 1


class _Signal(msgspec.Struct, frozen=True):
    message: str
    signal: str
    channel: str
    scale: float = 1.0
    offset: float = 0.0
    sign: Literal[1, -1] = 1
    plus: str | list[str] = []
    valid: _Valid | list[_Valid] = []
    range: tuple[float, float] | None = None
    dbc_range: bool = False
    not_available: NotAvailable | None = None


class _Bus(msgspec.Struct, frozen=True):
    dbc: str
    match: str = "*"


class _File(msgspec.Struct, frozen=True):
    name: str
    title: str
    buses: list[_Bus]
    signals: list[_Signal]
    ids: list[int] = []


@dataclass(frozen=True, slots=True)
class IdFilter:
    """A frame passes when `id & mask` equals this `id & mask` and its identifier is as long."""

    id: int
    mask: int
    extended: bool


@dataclass(frozen=True, slots=True)
class Profile:
    """A checked profile; `entries` hold every message of its DBCs, those without mapped signals with no takes."""

    name: str
    title: str
    path: Path
    entries: tuple[Entry, ...]
    ids: tuple[int, ...]
    skipped: tuple[str, ...]  # what its DBC files made the reader skip

    def decoder(self) -> "Decoder":
        """Compile the tables and return a decoder (loads numba)."""
        from drivers.decode.tables import Decoder, compile_entries

        return Decoder(compile_entries(self.entries))

    def id_filters(self, bus: str) -> list[IdFilter]:
        """List what the kernel must let through on `bus`: the mapped messages and the profile's further `ids`."""
        wanted = {filter_of(e.message) for e in self.entries if e.takes and fnmatchcase(bus, e.buses)}
        for i in self.ids:
            wanted.add(IdFilter(i, MAX_EXTENDED_ID if i > MAX_STANDARD_ID else MAX_STANDARD_ID, i > MAX_STANDARD_ID))
        return sorted(wanted, key=lambda f: (f.extended, f.id))


def list_profiles(config_dir: Path) -> list[str]:
    """Return the names of the profiles in `config_dir` and of this machine's own, sorted."""
    return sorted(_profiles(config_dir))


def _profiles(config_dir: Path) -> dict[str, Path]:
    """Return the profiles by name; one of this machine's own stands for the one of that name in `config_dir`."""
    return {p.stem: p for folder in (config_dir, LOCAL) for p in (folder / "profiles").glob("*.toml")}


def load_profile(name_or_path: str, config_dir: Path, dbc: Path | None = None) -> Profile:
    """Read and check a profile, by name in `config_dir` or by path; `dbc` replaces the profile's own DBC files.

    Raises ConfigError, one line that names the file and the near names.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = _profiles(config_dir).get(name_or_path, config_dir / "profiles" / f"{name_or_path}.toml")
        if not path.is_file():
            known = list_profiles(config_dir)
            near = near_names(name_or_path, known)
            raise ConfigError(f"profile '{name_or_path}' is not known{near}; known: {', '.join(known) or 'none'}")
    file = _read(path)
    if file.name != path.stem:
        raise ConfigError(f'{path}: name = "{file.name}" must be the file\'s name, "{path.stem}"')
    databases: list[tuple[_Bus, Database]] = []
    for bus in file.buses:
        databases.append((bus, load_dbc(dbc or _find_dbc(path, config_dir, bus.dbc))))
    takes: dict[tuple[int, str], list[Take]] = {}
    for row in file.signals:
        _map(path, row, databases, takes)
    entries = [
        Entry(message, bus.match, tuple(takes.get((i, message.name), ())))
        for i, (bus, database) in enumerate(databases)
        for message in database.messages
    ]
    skipped = tuple(f"{database.path.name}: {line}" for _, database in databases for line in database.skipped)
    return Profile(file.name, file.title, path, tuple(entries), tuple(file.ids), skipped)


def identify(seen: set[tuple[str, int]], config_dir: Path) -> list[tuple[Profile, float]]:
    """Rank the profiles by the share (0..1) of their mapped messages among the (bus, identifier) pairs `seen`.

    Best first; of equal shares the one that more messages speak for; profiles that nothing speaks for are left out.
    """
    ranked = []
    for name in list_profiles(config_dir):
        profile = load_profile(name, config_dir)
        mapped = [e for e in profile.entries if e.takes]
        present = sum(any(_is_seen(e, bus, i) for bus, i in seen) for e in mapped)
        if present:
            ranked.append((present / len(mapped), present, profile))
    ranked.sort(key=lambda r: (-r[0], -r[1], r[2].name))
    return [(profile, share) for share, _, profile in ranked]


def _is_seen(entry: Entry, bus: str, identifier: int) -> bool:
    wanted = filter_of(entry.message)
    return fnmatchcase(bus, entry.buses) and identifier & wanted.mask == wanted.id & wanted.mask


def filter_of(message: Message) -> IdFilter:
    """Return what identifies the frames of `message`: its identifier, or for J1939 its parameter group."""
    if not message.extended:
        return IdFilter(message.id, MAX_STANDARD_ID, False)
    if not message.j1939:
        return IdFilter(message.id, MAX_EXTENDED_ID, True)
    mask = PDU1_MASK if message.id >> 16 & 0xFF < 0xF0 else PDU2_MASK
    return IdFilter(message.id & mask, mask, True)


def _read(path: Path) -> _File:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(f"{path}: cannot read the profile: {e.strerror}; check the path") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: the profile is not TOML: {e}") from e
    _check_keys(path, raw, _File, "the profile")
    for kind, struct in (("buses", _Bus), ("signals", _Signal)):
        rows = raw.get(kind, [])
        for i, row in enumerate(rows if isinstance(rows, list) else []):
            _check_keys(path, row, struct, f"[[{kind}]] number {i + 1}")
            valid = row.get("valid") if isinstance(row, dict) else None
            for rule in valid if isinstance(valid, list) else [valid]:
                _check_keys(path, rule, _Valid, f"[[{kind}]] number {i + 1}: valid")
    try:
        file = msgspec.convert(raw, known(_File))
    except msgspec.ValidationError as e:
        raise ConfigError(f"{path}: {e}") from e
    if not file.buses or not file.signals:
        raise ConfigError(f"{path}: a profile needs at least one [[buses]] and one [[signals]]")
    for i in file.ids:
        if not 0 <= i <= MAX_EXTENDED_ID:
            raise ConfigError(f"{path}: ids: 0x{i:X} is no CAN identifier; the largest is 0x{MAX_EXTENDED_ID:X}")
    return file


def _check_keys(path: Path, table: Any, struct: type[msgspec.Struct], where: str) -> None:
    known = struct.__struct_fields__
    for key in table if isinstance(table, dict) else ():
        if key not in known:
            raise ConfigError(f"{path}: {where} has an unknown key '{key}'{near_names(key, known)}")


def _find_dbc(path: Path, config_dir: Path, name: str) -> Path:
    for folder in (path.parent, LOCAL / "dbc"):
        if (folder / name).is_file():
            return folder / name
    return config_dir / "dbc" / name


def _map(
    path: Path, row: _Signal, databases: list[tuple[_Bus, Database]], takes: dict[tuple[int, str], list[Take]]
) -> None:
    """Add what `row` asks for to the message of that name in every DBC that has it."""
    if row.channel not in BY_NAME:
        raise ConfigError(f"{path}: channel '{row.channel}' is not known{near_names(row.channel, BY_NAME)}")
    found = False
    for i, (_, database) in enumerate(databases):
        for message in [m for m in database.messages if m.name == row.message]:
            takes.setdefault((i, message.name), []).append(_take(path, row, message))
            found = True
    if not found:
        names = [m.name for _, database in databases for m in database.messages]
        files = ", ".join(database.path.name for _, database in databases)
        raise ConfigError(f"{path}: message '{row.message}' is not in {files}{near_names(row.message, names)}")


def _take(path: Path, row: _Signal, message: Message) -> Take:
    named = {s.name: s for s in message.signals}

    def find(name: str) -> Signal:
        if name not in named:
            near = near_names(name, named)
            raise ConfigError(f"{path}: signal '{name}' is not in message '{message.name}'{near}")
        return named[name]

    channel = BY_NAME[row.channel]
    signal = find(row.signal)
    parts = [signal, *(find(name) for name in ([row.plus] if isinstance(row.plus, str) else row.plus))]
    factor = row.scale * row.sign
    low, high = channel.low, channel.high
    if row.range is not None:
        low, high = max(low, row.range[0]), min(high, row.range[1])
    if row.dbc_range:
        for part in parts:
            if part.minimum is None or part.maximum is None:
                raise ConfigError(f"{path}: dbc_range: the DBC gives no range for '{message.name}.{part.name}'")
        bounds = _dbc_range(parts, factor, row.offset)
        low, high = max(low, bounds[0]), min(high, bounds[1])
    if low > high:
        raise ConfigError(f"{path}: no value of '{row.channel}' can be in range {low:g}..{high:g}; correct range")
    rules = row.valid if isinstance(row.valid, list) else [row.valid]
    default: NotAvailable = "j1939" if message.j1939 else "none"
    return Take(
        signal=signal,
        channel=channel.number,
        scale=factor,
        offset=row.offset,
        low=low,
        high=high,
        plus=tuple(parts[1:]),
        valid=tuple(Valid(find(v.signal), v.equals) for v in rules),
        not_available=row.not_available or default,
    )


def _dbc_range(parts: list[Signal], factor: float, offset: float) -> tuple[float, float]:
    """Return the DBC's [min|max] in the channel's unit, half a raw step wider: 252 × 0.4 is a little above 100.8."""
    low = sum(s.minimum or 0.0 for s in parts) * factor + offset
    high = sum(s.maximum or 0.0 for s in parts) * factor + offset
    margin = abs(min(abs(s.scale) for s in parts) * factor) / 2
    return min(low, high) - margin, max(low, high) + margin
