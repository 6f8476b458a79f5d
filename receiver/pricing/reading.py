"""Files and requests into structs: an unknown key is an error that names its place and the nearest known name."""

import tomllib
import types
import typing
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

import msgspec

from agent.errors import ConfigError, near_names
from agent.known import known

T = TypeVar("T")


class Stray(NamedTuple):
    """A key that no struct has."""

    path: str
    key: str
    known: list[str]


def read(path: Path, kind: type[T]) -> T:
    """Read a TOML file into a struct, numbers as exact decimals; raise ConfigError naming file, table, row and key."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except FileNotFoundError as e:
        raise ConfigError(f"{path}: no such file") from e
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: cannot be read: {e}") from e
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{path}: not valid TOML: {e}") from e
    for stray in strays(kind, table):
        place = f" {stray.path}:" if stray.path else ""
        raise ConfigError(f"{path}:{place} unknown key '{stray.key}'{near_names(stray.key, stray.known)}")
    try:
        found = msgspec.convert(table, known(kind))
    except msgspec.ValidationError as e:
        raise ConfigError(f"{path}: {said_of_place(str(e))}") from e
    _check_numbers(found, str(path))
    return found


def strays(kind: Any, value: Any, path: str = "") -> Iterator[Stray]:
    """Yield every key of nested tables that the struct `kind` does not have; rows are counted from 1."""
    if get_origin(kind) in (typing.Union, types.UnionType):
        kind = next(a for a in get_args(kind) if a is not types.NoneType)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(value, dict):
        hints = typing.get_type_hints(kind)
        for key, inner in value.items():
            if key not in hints:
                yield Stray(path, key, list(hints))
            else:
                yield from strays(hints[key], inner, f"{path}.{key}" if path else key)
    elif get_origin(kind) is list and isinstance(value, list):
        for number, inner in enumerate(value, 1):
            yield from strays(get_args(kind)[0], inner, f"{path}: row {number}")
    elif get_origin(kind) is dict and isinstance(value, dict):
        for key, inner in value.items():
            yield from strays(get_args(kind)[1], inner, f"{path}.{key}")


def said_of_place(message: str) -> str:
    """Turn msgspec's `… - at `$.covers[…].rows[2].base`` into `covers.rows[2].base: …`."""
    said, _, place = message.partition(" - at `")
    place = place.rstrip("`").removeprefix("$").removeprefix(".")
    said = said[:1].lower() + said[1:]
    return f"{place}: {said}" if place else said


def numbers(value: Any, path: str = "") -> Iterator[tuple[str, Decimal]]:
    """Yield every decimal of nested structs, lists and dicts with its path."""
    if isinstance(value, Decimal):
        yield path, value
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from numbers(getattr(value, name), f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from numbers(inner, f"{path}.{number}")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, f"{path}.{key}" if path else str(key))


def _check_numbers(value: Any, where: str) -> None:
    for path, number in numbers(value):
        if not number.is_finite():
            raise ConfigError(f"{where}: {path}: {number} is no number")
