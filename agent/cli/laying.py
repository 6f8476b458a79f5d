"""Lay out what commands at a vehicle print: facts by name, tables that stay readable on a phone's 45 columns."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Final, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text


def console() -> Console:
    """Return where to print; nothing is highlighted that was not asked for."""
    return Console(highlight=False, soft_wrap=False)


NARROW: Final = 70  # columns of a terminal below which a table leaves out what is not needed


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    title: str = "",
    right: Sequence[int] = (),
    names: bool = False,
) -> Table:
    """Return a plain table; columns in `right` hold numbers. The first is wrapped only where it has long `names`."""
    made = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
    for i, name in enumerate(columns):
        made.add_column(
            name, no_wrap=i in right if names else i == 0, justify="right" if i in right else "left", overflow="fold"
        )
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return made


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Return names and what they are, without a frame."""
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True, style="bold")
    made.add_column(overflow="fold")
    for name, told in rows:
        made.add_row(name, Text(told))
    return made


def notes(out: Console, told: Iterable[str]) -> None:
    """Print one sentence a line that a technician should know."""
    for sentence in told:
        out.print(Text.assemble(("Note: ", "yellow"), sentence))


def busy(words: str, quiet: bool) -> AbstractContextManager[Any]:
    """Show that something is going on, on a terminal; nothing where output is read by a program."""
    err = Console(stderr=True)
    return nullcontext() if quiet or not err.is_terminal else err.status(words)


class Steady:
    """What is drawn anew in its place on a terminal, while it is entered; nothing where `live` is false."""

    def __init__(self, live: bool, *, transient: bool = False) -> None:
        self._live = Live(console=console(), auto_refresh=False, transient=transient) if live else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)
