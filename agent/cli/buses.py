"""A bus or a recording for the commands that look at frames, as the command line names it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from agent.cli.wires import Where

if TYPE_CHECKING:
    from agent.vehicle.frames import FrameSource

FILE = typer.Argument(None, metavar="[RECORDING]", help="A recording in place of a live bus, in any known format.")
LIVE_S = 10.0  # how long a live bus is looked at unless said otherwise: everything at 0.2 Hz and faster shows


@contextmanager
def source(where: Where, file: Path | None, what: str, seconds: float | None) -> Iterator["FrameSource"]:
    """Open the recording, or the bus as the daemon's guest; Ctrl-C ends a live bus's frames, not the command."""
    from agent.errors import ConfigError
    from agent.local.messages import MAX_LEND_S
    from agent.vehicle.devices import for_frames, held, named_channel
    from agent.vehicle.frames import FrameSource, LiveFrames, RecordedFrames, until_interrupted

    channel = named_channel(where.channel, where.interface, where.bit_rate)
    opened: FrameSource
    if file is not None:
        if channel is not None or where.device:
            raise ConfigError("a recording or a live bus, not both; leave out --channel and --device, or the file")
        opened = RecordedFrames(file)
        try:
            yield opened
        finally:
            opened.close()
        return
    device = for_frames(where.config, where.device, channel)
    lent_s = MAX_LEND_S if seconds is None else seconds + 60.0
    with held(device, where.store, f"technician: can {what}", asks=False, seconds=lent_s) as check:
        opened = LiveFrames(device, check)
        try:
            with until_interrupted(opened):
                yield opened
        finally:
            opened.close()


def span(seconds: float, file: Path | None, live_s: float | None = LIVE_S) -> float | None:
    """Return how long to look: as said, else all of a recording, and `live_s` of a live bus."""
    return seconds or (None if file is not None else live_s)
