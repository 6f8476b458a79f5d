"""How an update ended, told once as a record of health: the updater is another process, and keeps no store."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from agent.clock import monotonic_ns
from agent.known import known
from agent.records import Health
from agent.update.state import OUTCOME_FILE, Outcome

TOLD_FILE: Final = "update.told"  # in the store's folder: the outcome that was told last


def tell_update(store: Path, tell: Callable[[Health], None]) -> None:
    """Tell of the last update unless it was told; `store` is the store's folder, the updater's stands beside it."""
    try:
        data = (store.parent / f"{store.name}-update" / OUTCOME_FILE).read_bytes()
        outcome = msgspec.json.decode(data, type=known(Outcome))
    except (OSError, ValueError):
        return
    told = store / TOLD_FILE
    try:
        if told.exists() and told.read_text(encoding="utf-8") == outcome.id:
            return
        partial = told.with_suffix(".tmp")
        partial.write_text(outcome.id, encoding="utf-8")
        os.replace(partial, told)
    except OSError:
        return  # a full disk: told at the next look
    tell(
        Health(
            t_ns=monotonic_ns(),
            source="update",
            state="ok" if outcome.result == "installed" else "degraded",
            detail=outcome.detail,
            facts={"version": outcome.version, "previous": outcome.previous, "result": outcome.result},
        )
    )
