"""How far a fitting is, in a file: after a power cut, a closed lid or Ctrl-C the wizard goes on where it was."""

import secrets
from pathlib import Path
from typing import Final

import msgspec

from agent.clock import wall_ns
from agent.errors import StoreError
from agent.fitting.configuring import replace
from agent.fitting.sheet import Item
from agent.known import known
from agent.owner import as_owner

FOLDER: Final = "fitting"  # in the folder of the store
FILE: Final = "progress.json"
MODE: Final = 0o600  # it names people and a car


class Progress(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What was done, by step, and what is known by now. No code and no token is ever in it."""

    id: str
    started_utc_ns: int
    by: str = ""
    vin: str = ""
    consent: str = ""
    done: dict[str, list[Item]] = {}
    applied: str = ""  # SHA-256 of the configuration with which the agent was started last


def folder_of(store: Path) -> Path:
    """Return where a fitting keeps its files."""
    return store / FOLDER


def begun() -> Progress:
    """Begin a fitting."""
    return Progress(id=secrets.token_hex(8), started_utc_ns=wall_ns())


def load(store: Path) -> Progress | None:
    """Return the fitting that was not finished; None where there is none. Raise StoreError where it is damaged."""
    path = folder_of(store) / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=known(Progress))
    except FileNotFoundError:
        return None
    except OSError as e:
        raise StoreError(f"{path}: cannot be read: {e.strerror}; use sudo") from e
    except msgspec.DecodeError as e:
        raise StoreError(f"{path}: is damaged: {e}; begin anew with --anew") from e


def save(store: Path, progress: Progress) -> None:
    """Keep it, durable on return; raise ConfigError where the disk refuses."""
    text = msgspec.json.format(msgspec.json.encode(progress), indent=1).decode() + "\n"
    with as_owner(store):
        replace(folder_of(store) / FILE, text, MODE)


def forget(store: Path) -> None:
    """The fitting is over."""
    with as_owner(store):
        (folder_of(store) / FILE).unlink(missing_ok=True)
