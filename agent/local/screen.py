"""The full-screen view, for a laptop and for a phone over SSH: side by side where there is room, else one at a time.

Only lines that have changed are drawn again: a second of a car in motion costs some kilobytes, not a screenful.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.events import Resize
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Static

from agent import clock
from agent.local.client import LocalError
from agent.local.messages import Tick
from agent.local.panels import Signals, Told, devices, happened, header, queue, when

WIDE: Final = 90  # columns from which on the panels stand side by side …
HIGH: Final = 24  # … given as many rows
MOST_TOLD: Final = 300
AGAIN_S: Final = 2.0  # an agent that ended is asked again
HOLD: Final = "· space hold · arrows scroll · q end"
HELD: Final = "· HELD: space goes on · q end"


class Lines(ScrollView, can_focus=True):
    """Lines of text that scroll; only those that changed are drawn."""

    def __init__(self, title: str, **given: Any) -> None:
        super().__init__(**given)
        self.border_title = title
        self._lines: list[Text] = []

    def show(self, lines: list[Text]) -> None:
        """Show these lines."""
        before, self._lines = self._lines, lines
        if len(before) != len(lines):
            self.virtual_size = Size(self.content_width, len(lines))
            self.refresh()
            return
        for y, (old, new) in enumerate(zip(before, lines, strict=True)):
            if old != new or old.style != new.style or old.spans != new.spans:
                self.refresh_lines(y)

    @property
    def content_width(self) -> int:
        """How wide a line may be."""
        return max(20, self.scrollable_content_region.width)

    def text(self) -> str:
        """Return all lines as plain text."""
        return "\n".join(line.plain for line in self._lines)

    def render_line(self, y: int) -> Strip:
        """Draw one line of the window."""
        at = y + self.scroll_offset.y
        width = self.size.width
        if at >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        line = self._lines[at].copy()
        line.stylize(line.style)  # a text without spans is rendered without its style
        strip = Strip(list(line.render(self.app.console))).apply_style(self.rich_style)
        return strip.adjust_cell_length(width, self.rich_style)


class Live(App[None]):
    """The live view; `watch` gives ticks until the agent ends and raises LocalError."""

    TITLE = "roadwitness live"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #header { height: 2; }
    #keys { height: 1; }
    #body { height: 1fr; }
    Lines { border: round $foreground; border-title-style: bold; height: 1fr; padding: 0;
            scrollbar-size-vertical: 1; scrollbar-gutter: stable; overflow-x: hidden; }
    Lines:focus { border: heavy $foreground; }
    #right { width: 9fr; }
    #left { width: 10fr; }
    #devices { height: 2fr; }
    #queue { height: 2fr; }
    #events { height: 3fr; }
    .narrow Lines { display: none; border: none; height: 1fr; }
    .narrow Lines:focus { border: none; }
    .narrow Lines.chosen { display: block; }
    .narrow #left, .narrow #right { display: none; }
    .narrow #left.shown, .narrow #right.shown { display: block; width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "choose('signals')", "signals"),
        Binding("2", "choose('events')", "events"),
        Binding("3", "choose('devices')", "devices"),
        Binding("4", "choose('queue')", "queue"),
        Binding("space", "hold", "hold"),
        Binding("q,ctrl+c,escape", "quit", "end"),
    ]

    def __init__(self, watch: Callable[[], Iterator[Tick]]) -> None:
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"
        self._watch = watch
        self._ended = threading.Event()
        self._tick: Tick | None = None
        self._signals = Signals()
        self._told: deque[Told] = deque(maxlen=MOST_TOLD)
        self._numbers: set[int] = set()
        self._samples: dict[str, int] = {}
        self._rates: dict[str, int] = {}
        self._trouble = ""
        self._held = False
        self._room = Size(0, 0)
        self._chosen = "signals"

    def compose(self) -> ComposeResult:
        """Lay out the panels."""
        yield Static(id="header")
        with Horizontal(id="body"):
            with Vertical(id="left"):
                yield Lines("1 signals", id="signals")
            with Vertical(id="right"):
                yield Lines("2 events", id="events")
                yield Lines("3 devices", id="devices")
                yield Lines("4 queue", id="queue")
        yield Static(id="keys")

    def on_mount(self) -> None:
        """Begin to watch."""
        self._room = self.size
        self._arrange()
        self.run_worker(self._follow, thread=True, exit_on_error=True)

    def on_unmount(self) -> None:
        """Let the watching thread end."""
        self._ended.set()

    def on_resize(self, event: Resize) -> None:
        """Fit the terminal."""
        self._room = event.size
        self._arrange()

    def action_choose(self, name: str) -> None:
        """Show a panel where there is room for one, and let the keys scroll it."""
        self._chosen = name
        self._arrange()

    def action_hold(self) -> None:
        """Stand still, so that it can be read; or go on."""
        self._held = not self._held
        self._draw()

    def take(self, tick: Tick) -> None:
        """Take a tick."""
        before, self._tick = self._tick, tick
        self._trouble = ""
        self._signals.take(tick)
        for line in tick.happened:
            if before is None or line.number not in self._numbers:
                self._numbers.add(line.number)
                self._told.append(Told(when(line.t_ns, tick.utc, tick.t_ns), line))
        self._rates = {d.name: d.samples - self._samples.get(d.name, d.samples) for d in tick.devices}
        self._samples = {d.name: d.samples for d in tick.devices}
        if not self._held:
            self._draw()

    def lost(self, trouble: str) -> None:
        """Say that nothing comes, and why."""
        self._trouble = trouble
        self._samples.clear()
        self._numbers.clear()
        self._draw()

    def _follow(self) -> None:
        """Watch in a thread; ask again when the agent has ended."""
        while not self._ended.is_set():
            try:
                for tick in self._watch():
                    if self._ended.is_set():
                        return
                    self.call_from_thread(self.take, tick)
            except LocalError as trouble:
                if not self._ended.is_set():
                    self.call_from_thread(self.lost, str(trouble))
            clock.wait(self._ended, AGAIN_S)

    def _arrange(self) -> None:
        narrow = self._room.width < WIDE or self._room.height < HIGH
        self.screen.set_class(narrow, "narrow")
        for panel in self.query(Lines):
            chosen = panel.id == self._chosen
            panel.set_class(chosen, "chosen")
            if chosen:
                panel.focus()
                for side in ("left", "right"):
                    self.query_one(f"#{side}").set_class(panel.parent is self.query_one(f"#{side}"), "shown")
        self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        tick, width = self._tick, self._room.width
        self.query_one("#keys", Static).update(_keys(self._chosen, self._held, width))
        if tick is None:
            text = self._trouble or "asks the agent …"
            self.query_one("#header", Static).update(Text(text))
            return
        lines = header(tick, width)
        if self._trouble:
            lines[1] = Text(self._trouble, "bold red", no_wrap=True)
            lines[1].truncate(width, overflow="ellipsis")
        self.query_one("#header", Static).update(Text("\n").join(lines))
        fill: dict[str, Callable[[int], list[Text]]] = {
            "signals": lambda w: self._signals.lines(tick, w),
            "events": lambda w: happened(list(self._told), w),
            "devices": lambda w: devices(tick, self._rates, w),
            "queue": lambda w: queue(tick, w),
        }
        for panel in self.query(Lines):
            if panel.display and panel.size.width and panel.id is not None:
                panel.show(fill[panel.id](panel.content_width))


def _keys(chosen: str, held: bool, width: int) -> Text:
    """Return the keys, the chosen panel's and a hold made plain."""
    text = Text(no_wrap=True)
    for number, name in enumerate(("signals", "events", "devices", "queue"), 1):
        text.append(f"{number} {name}", "reverse" if name == chosen else "")
        text.append(" ")
    ends = (HELD, "· space goes on") if held else (HOLD, "· q end")
    text.append(ends[0] if len(text) + len(ends[0]) <= width else ends[1])
    text.truncate(width)
    return text
