"""Write what was found into agent.toml and dashcam.toml: what stands there stays; a file is whole, old or new."""

import difflib
import os
import tomllib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Final

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Table

from agent.config import LOCAL, build, config_dir
from agent.dashcam.settings import DashcamConfig, dashcam_of
from agent.devices import makers
from agent.durable import sync_folder
from agent.errors import ConfigError
from agent.settings import AgentConfig

FILE: Final = LOCAL / "agent.toml"
_NEW: Final = (
    "# What belongs to this box and its car. Written by `roadwitness install`; every key with its default is in\n"
    "# the {name} that came with the program{shown}\n"
)


class TomlFile(ABC):
    """The text of a file of settings while it is being changed; `write` makes it so."""

    shown = ""  # where people see its defaults

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.before = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            self.before = ""
        except (OSError, UnicodeDecodeError) as e:
            raise ConfigError(f"{path}: cannot be read: {e}; use sudo, or repair the file") from e
        try:
            self._document = tomlkit.parse(self.before or _NEW.format(name=path.name, shown=self.shown))
        except TOMLKitError as e:
            raise ConfigError(f"{path}: not valid TOML: {e}; repair that line, then start again") from e

    @property
    def text(self) -> str:
        """Return the text as it would be written."""
        return tomlkit.dumps(self._document)

    @property
    def changed(self) -> bool:
        """Say whether there is anything to write."""
        return self.text != self.before and tomllib.loads(self.text) != _parsed(self.before)

    def get(self, table: str, key: str) -> Any:
        """Return a value of a dotted table, None where it does not stand there."""
        at: Any = tomllib.loads(self.text)
        for name in (*table.split("."), key):
            at = at.get(name) if isinstance(at, dict) else None
        return at

    def put(self, table: str, values: dict[str, Any], *, keep: bool = False) -> None:
        """Set values in a dotted table, which is made where missing; with `keep` those that stand there stay."""
        at: Any = self._document
        for i, name in enumerate(names := table.split(".")):
            if name not in at:
                at[name] = tomlkit.table(is_super_table=i < len(names) - 1)
            at = at[name]
        if not isinstance(at, Table) and not hasattr(at, "items"):
            raise ConfigError(f"{self.path}: {table} is no table; repair it, then start again")
        for key, value in values.items():
            if not (keep and key in at):
                at[key] = value

    def drop(self, table: str) -> None:
        """Remove a dotted table with what stands in it."""
        *above, last = table.split(".")
        at: Any = self._document
        for name in above:
            at = at.get(name, {})
        if last in at:
            del at[last]

    def difference(self) -> list[str]:
        """Return the lines that come and go, as a person reads them: '+ …' and '- …'."""
        lines = difflib.unified_diff(self.before.splitlines(), self.text.splitlines(), lineterm="", n=0)
        told = [x for x in lines if x[:1] in "+-" and x[:3] not in ("+++", "---")]
        return [f"{x[0]} {x[1:]}" for x in told if x[1:].strip() and not x[1:].startswith("#")]

    def write(self) -> None:
        """Check and write the text, durable on return, with the mode and owner of before; raise ConfigError."""
        self.check()
        if self.text == self.before:
            return  # the agent that runs has read it
        replace(self.path, self.text)
        self.before = self.text

    @abstractmethod
    def check(self) -> None:
        """Raise ConfigError where what the text says is wrong."""


class Configuration(TomlFile):
    """An agent.toml."""

    shown = ": roadwitness config show"

    @property
    def settings(self) -> AgentConfig:
        """Return what the text says, defaults included; raise ConfigError."""
        return build(AgentConfig, tomllib.loads(self.text), str(self.path))

    def check(self) -> None:
        makers(self.settings.drivers, config_dir())


class Cameras(TomlFile):
    """A dashcam.toml."""

    @property
    def settings(self) -> DashcamConfig:
        """Return what the text says, defaults included; raise ConfigError."""
        return dashcam_of(tomllib.loads(self.text), str(self.path))

    def check(self) -> None:
        assert self.settings


def replace(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Replace a file whole, keeping its mode and owner, or a folder's owner for a new one; raise ConfigError."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        known = path.stat() if path.exists() else None
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fchmod(file.fileno(), known.st_mode & 0o777 if known else mode)
            own(file.fileno(), path if known else path.parent)
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as e:
        partial.unlink(missing_ok=True)
        raise ConfigError(f"{path}: cannot be written: {e.strerror}; use sudo, and check the disk") from e


def own(descriptor: int, like: Path) -> None:
    """Give an open file to the owner of `like`: what root writes for the agent, the agent must be able to remove."""
    if os.geteuid() == 0:
        of = like.stat()
        os.fchown(descriptor, of.st_uid, of.st_gid)


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}
