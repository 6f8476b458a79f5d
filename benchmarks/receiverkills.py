"""Receivers killed with SIGKILL at 200 random moments, on SQLite and on PostgreSQL: what is lost, what is there twice.

A device writes 60 records for each life and sends them through a Mosquitto of its own. Every tenth kill, and at the
end, the database is compared with what the device signed: each acknowledged entry there, once, with its row, none
altered, no lane beyond its entries (tests/receiver_kills.py). The first difference ends the run.
"""

import logging
import tempfile
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter

from tests.receiver_kills import kill_often, world
from tests.syncing import postgresql

KILLS = 200


def _one(name: str, url: str, folder: Path) -> None:
    folder.mkdir()
    began = perf_counter()
    with world(url, folder) as here:
        kill_often(here, KILLS, seed=20261122, patience_s=300.0)
        took = perf_counter() - began
        print(f"{name:12}{KILLS:>7}{here.unfinished:>18}{here.written:>10,}{0:>7}{0:>7}{took:>8.0f} s")


def main() -> None:
    """Print one line for each database; a loss or a repetition is an AssertionError that names it."""
    logging.getLogger("agent.sync").setLevel(logging.ERROR)  # that receivers are away is what we do
    print(f"{'':12}{'kills':>7}{'work under way':>18}{'entries':>10}{'lost':>7}{'twice':>7}{'took':>10}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _one("SQLite", f"sqlite:///{folder / 'r.db'}", folder / "sqlite")
        _one("PostgreSQL", stack.enter_context(postgresql()), folder / "postgresql")


if __name__ == "__main__":
    main()
