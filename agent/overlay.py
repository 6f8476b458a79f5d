"""Settings that were changed from afar: laid over agent.toml, and on trial until the box was heard from with them.

    <store>/remote.toml   the values that differ, as TOML; absent: none
    <store>/remote.json   the last change: what was wanted, what stood there before, and what came of it

agent.toml itself is never written: it is root's, and a technician finds in it what he left there. Every file here is
replaced whole, and remote.json says first what is to come; so a cut of power at any point ends in the old values or in
the new ones, and these are still on trial. An overlay that cannot be read, or not together with agent.toml, counts for
nothing (decision 0299).
"""

import logging
import tomllib
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from agent.durable import sync_folder
from agent.errors import ConfigError, StoreError
from agent.incident.folder import encoded, write_files
from agent.known import known

log = logging.getLogger(__name__)

VALUES: Final = "remote.toml"
STATE: Final = "remote.json"
MOST_STARTS: Final = 3  # of an agent with values on trial: one that does not stay up with them has none to wait for
MOST_BYTES: Final = 16 * 1024
UNDONE: Final = "power went before it was in force"
FALLS: Final = f"the agent was started {MOST_STARTS} times with it and was never heard from"

Table = dict[str, Any]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One change and what came of it; `dropping` is a change that is being taken back."""

    id: str  # of the command
    state: Literal["trial", "kept", "dropping", "dropped"]
    wanted: str  # remote.toml with it …
    before: str  # … and without it; "" is no file
    within_s: int  # of being connected or trying, in which the box must be heard from
    starts: int = 0  # of the agent with it
    why: str = ""  # it was taken back


class Overlay:
    """The two files in a store's folder; one thread at a time may change them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def text(self) -> str:
        """Return remote.toml, "" where there is none; raise ConfigError where it cannot be read."""
        path = self._folder / VALUES
        try:
            data = path.read_bytes()
            if len(data) > MOST_BYTES:
                raise ConfigError(f"{path}: is larger than {MOST_BYTES} bytes; remove it")
            return data.decode()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as e:
            raise ConfigError(f"{path}: cannot be read: {e}; remove it") from e

    def table(self) -> Table:
        """Return what remote.toml says; raise ConfigError."""
        return parsed(self.text(), str(self._folder / VALUES))

    def in_force(self) -> Table:
        """Return what runs: without a change that waits for the next start of the agent. Raise ConfigError."""
        change = self.change()
        if change is not None and change.state == "trial" and not change.starts:
            return parsed(change.before, str(self._folder / STATE))
        return self.table()

    def change(self) -> Change | None:
        """Return the last change; None where there was none, or its file is damaged."""
        path = self._folder / STATE
        try:
            return msgspec.json.decode(path.read_bytes(), type=known(Change))
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as e:
            log.error("%s: cannot be read: %s; what %s says is in force", path, e, VALUES)
            return None

    def begin(self, change: Change) -> None:
        """Put a change in force for the next start of the agent, durable on return; raise StoreError."""
        self._note(change)
        self._write(change.wanted)

    def start(self) -> None:
        """Finish what a power cut left, and count this start where values are on trial: before they are read."""
        change = self.change()
        if change is None or change.state in ("kept", "dropped"):
            return
        try:
            if change.state == "dropping":
                self.drop(change.why)
            elif self._spoiled() or self.text() != change.wanted:
                self.drop(UNDONE)
            elif change.starts >= MOST_STARTS:
                self.drop(FALLS)
            else:
                self._note(msgspec.structs.replace(change, starts=change.starts + 1))
        except StoreError as trouble:
            log.error("%s; what %s says stays in force", trouble, VALUES)

    def keep(self) -> None:
        """End the trial: the box was heard from. Raise StoreError."""
        change = self.change()
        if change is not None and change.state == "trial":
            self._note(msgspec.structs.replace(change, state="kept"))

    def drop(self, why: str) -> None:
        """Take a change back, for the next start of the agent; legal again at any time. Raise StoreError."""
        change = self.change()
        if change is None or change.state in ("kept", "dropped"):
            return
        change = msgspec.structs.replace(change, state="dropping", why=why)
        self._note(change)
        self._write(change.before)
        self._note(msgspec.structs.replace(change, state="dropped"))
        log.warning("settings that were changed from afar are taken back: %s", why)

    def _spoiled(self) -> bool:
        try:
            self.table()
        except ConfigError as e:
            log.error("%s", e)
            return True
        return False

    def _note(self, change: Change) -> None:
        write_files(self._folder, {STATE: encoded(change)})

    def _write(self, text: str) -> None:
        if text:
            write_files(self._folder, {VALUES: text.encode()})
            return
        try:
            (self._folder / VALUES).unlink(missing_ok=True)
            sync_folder(self._folder)
        except OSError as e:
            raise StoreError(f"{self._folder / VALUES}: cannot be removed: {e.strerror}; check the disk") from e


def parsed(text: str, where: str) -> Table:
    """Read TOML; raise ConfigError."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as e:
        raise ConfigError(f"{where}: not valid TOML: {e}") from e


def laid_over(below: Table, above: Table) -> Table:
    """Return `below` with the values of `above`, table by table."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = laid_over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def keys(table: Table, prefix: str = "") -> list[str]:
    """Return the keys of all values, written table.key."""
    found: list[str] = []
    for key, value in table.items():
        found += keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return found


def without(table: Table, key: str) -> Table:
    """Return a table without one value, written table.key, and without tables that are empty then."""
    first, _, rest = key.partition(".")
    left = dict(table)
    if not rest:
        left.pop(first, None)
    elif isinstance(left.get(first), dict):
        left[first] = without(left[first], rest)
        if not left[first]:
            del left[first]
    return left
