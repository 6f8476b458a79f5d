"""Configuration: TOML files into frozen dataclasses; an unknown key is an error that lists near names.

The dataclasses hold every default, with its reason beside it; `config/agent.toml` says the same for people, and a
test keeps the two equal. This is the only place that looks for files of the product's own.
"""

import dataclasses
import sys
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, Final, TypeVar

from agent.errors import ConfigError, near_names

T = TypeVar("T")

LOCAL: Final = Path("/etc/roadwitness")  # what belongs to this machine; an update never replaces it


def config_dir() -> Path:
    """Return the folder of what came with this version: profiles, DBC files, tables and settings as delivered."""
    candidates = [
        Path(__file__).resolve().parents[1] / "config",
        Path(sys.prefix) / "share" / "roadwitness" / "config",
    ]
    for folder in candidates:
        if (folder / "profiles").is_dir():
            return folder
    looked = ", ".join(str(c) for c in candidates)
    raise ConfigError(f"no configuration folder with profiles found; looked in {looked}; reinstall the package")


def settings_file(name: str) -> Path:
    """Return this machine's own `name`, e.g. agent.toml, where there is one, else that of the version."""
    own = LOCAL / name
    return own if own.is_file() else config_dir() / name


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; raise ConfigError naming the file and the line that is wrong."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise ConfigError(f"{path}: no such file") from e
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: cannot be read: {e}") from e
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{path}: not valid TOML: {e}") from e


def build(cls: type[T], table: dict[str, Any], where: str) -> T:
    """Make the frozen dataclass `cls` from a TOML table; `where` names file and table in errors."""
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise ConfigError(f"{where}: unknown key '{key}'{near_names(key, fields)}")
    hints = typing.get_type_hints(cls)
    values = {key: _value(hints[key], value, f"{where}: {key}") for key, value in table.items()}
    try:
        return cls(**values)
    except (TypeError, ValueError) as e:
        raise ConfigError(f"{where}: {e}") from e


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected a table")
        return build(hint, value, where)
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = [a for a in typing.get_args(hint) if a is not types.NoneType]
        return _value(type(value) if type(value) in kinds else kinds[0], value, where)
    if origin is typing.Literal:
        if value not in typing.get_args(hint):
            allowed = ", ".join(map(str, typing.get_args(hint)))
            raise ConfigError(f"{where}: '{value}' is not one of {allowed}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where}: expected a list")
        arguments = typing.get_args(hint)
        kinds = [arguments[0]] * len(value) if arguments[1:] == (...,) else list(arguments)
        if len(kinds) != len(value):
            raise ConfigError(f"{where}: expected {len(kinds)} values, got {len(value)}")
        return tuple(_value(k, v, where) for k, v in zip(kinds, value, strict=True))
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected a table")
        kind = typing.get_args(hint)[1]
        return {k: _value(kind, v, f"{where}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r}")
    return value
