"""How the wizard talks: to a person at a terminal of any width, or to nobody, with answers from a file."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.text import Text

from agent.errors import ConfigError
from agent.fitting.sheet import Item

MARKS: Final = {
    "pass": ("✓", "green"),
    "warn": ("!", "yellow"),
    "fail": ("✗", "bold red"),
    "skip": ("–", "yellow"),
    "absent": ("–", "dim"),
}
OPEN: Final = ("·", "cyan")
Row = tuple[str, str, str, str]  # state, name, value, advice


class MissingError(ConfigError):
    """A file of answers lacks one."""


class Talk(Protocol):
    """What the steps need of a conversation."""

    attended: bool  # somebody answers

    def step(self, number: int, total: int, title: str, does: str) -> None:
        """Begin a step."""

    def say(self, text: str, style: str = "") -> None:
        """Say a sentence."""

    def rows(self, rows: Sequence[Row]) -> None:
        """Show lines of a list: state, name, value, what to do."""

    def ask(self, key: str, question: str, given: str = "", *, hidden: bool = False, needed: bool = True) -> str:
        """Return the answer to a question; `given` is what a file says, `key` where it would."""

    def choose(self, question: str, options: dict[str, str], default: str) -> str:
        """Return one of the options' letters; nobody chooses the default."""

    def live(self) -> AbstractContextManager[Callable[[str, Sequence[Row]], None]]:
        """Show a headline and a list that changes, until the block ends."""


class Terminal:
    """A person at a terminal."""

    attended = True

    def __init__(self, console: Console) -> None:
        self._console = console

    def step(self, number: int, total: int, title: str, does: str) -> None:
        """Print a headline and what the step does."""
        self._console.print()
        self._console.print(Text(f"{number}/{total}  {title}", style="bold"))
        self._console.print(Padding(Text(does, style="dim"), (0, 0, 0, 2)))

    def say(self, text: str, style: str = "") -> None:
        """Print a sentence."""
        self._console.print(Padding(Text(text, style=style), (0, 0, 0, 2)))

    def rows(self, rows: Sequence[Row]) -> None:
        """Print a list."""
        for row in rows:
            self._console.print(line(row))

    def ask(self, key: str, question: str, given: str = "", *, hidden: bool = False, needed: bool = True) -> str:
        """Ask until something is said, where it is needed; an empty line takes what is given."""
        shown = f" [{given}]" if given and not hidden else ""
        while True:
            prompt = Padding(Text(f"{question}{shown}"), (0, 0, 0, 2))
            self._console.print(prompt)
            said = self._console.input(Text("  > "), password=hidden).strip() or given
            if said or not needed:
                return said

    def choose(self, question: str, options: dict[str, str], default: str) -> str:
        """Ask for a letter."""
        self.say(question)
        for letter, what in options.items():
            self._console.print(Padding(Text.assemble((letter, "bold"), f"  {what}"), (0, 0, 0, 4)))
        while True:
            said = self._console.input(Text(f"  [{default}] > ")).strip().lower() or default
            if said in options:
                return said

    @contextmanager
    def live(self) -> Iterator[Callable[[str, Sequence[Row]], None]]:
        """Show a list in place."""
        with Live(console=self._console, auto_refresh=False) as shown:

            def show(headline: str, rows: Sequence[Row]) -> None:
                lines: list[RenderableType] = [Padding(Text(headline, style="cyan"), (0, 0, 0, 2))]
                shown.update(Group(*lines, *(line(row) for row in rows)), refresh=True)

            yield show


class Unattended:
    """Nobody: what is not in the file is an error that says where it belongs."""

    attended = False

    def __init__(self, console: Console, file: str) -> None:
        self._out = Terminal(console)
        self._file = file
        self._last = ""

    def step(self, number: int, total: int, title: str, does: str) -> None:
        """Print a headline."""
        self._out.step(number, total, title, does)

    def say(self, text: str, style: str = "") -> None:
        """Print a sentence."""
        self._out.say(text, style)

    def rows(self, rows: Sequence[Row]) -> None:
        """Print a list."""
        self._out.rows(rows)

    def ask(self, key: str, question: str, given: str = "", *, hidden: bool = False, needed: bool = True) -> str:
        """Return what the file says; raise MissingError where it says nothing and must."""
        if not given and needed:
            raise MissingError(f"{self._file}: {key} is missing ({question}); add it, or leave the step out in [skip]")
        return given

    def choose(self, question: str, options: dict[str, str], default: str) -> str:
        """Take the default."""
        return default

    @contextmanager
    def live(self) -> Iterator[Callable[[str, Sequence[Row]], None]]:
        """Print what changed its state, and the whole list at the end."""
        states: dict[str, str] = {}

        def show(headline: str, rows: Sequence[Row]) -> None:
            for row in rows:
                if states.get(row[1], "open") != row[0] != "open":
                    self._out.rows([row])
                states[row[1]] = row[0]

        yield show


def line(row: Row) -> RenderableType:
    """Return one line of a list; it breaks between words, under its own beginning."""
    state, name, value, advice = row
    mark, style = MARKS.get(state, OPEN)
    parts: list[RenderableType] = [
        Text.assemble(
            (mark, style), " ", (name, "bold" if state == "fail" else ""), ("  " if value else ""), (value, "dim")
        )
    ]
    if advice and state in ("warn", "fail"):
        parts.append(Padding(Text(f"→ {advice}", style="yellow" if state == "warn" else "red"), (0, 0, 0, 2)))
    return Padding(Group(*parts), (0, 0, 0, 2))


def rows_of(items: Sequence[Item]) -> list[Row]:
    """Return the lines of items."""
    said = ((i, f"left out: {i.value}" if i.state == "skip" else i.value) for i in items)
    return [(i.state, i.name, value, i.advice) for i, value in said]
