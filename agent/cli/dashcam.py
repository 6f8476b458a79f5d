"""`roadwitness dashcam`: the cameras' own process, for systemd and for the workbench."""

import logging
import os
import signal
import sys
from pathlib import Path

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

EXAMPLES = """
Examples:

  roadwitness dashcam

  roadwitness dashcam --config ./dashcam.toml --dir ./video

SIGTERM ends it with every segment whole.
"""


@app.command(epilog=EXAMPLES)
def dashcam(
    config: Path | None = typer.Option(None, "--config", help="dashcam.toml to use in place of the installed one."),
    folder: Path = typer.Option(Path("/var/lib/roadwitness-dashcam"), "--dir", help="The video folder."),
) -> None:
    """Keep what the configured cameras see as short segments, oldest deleted first, kept ones never."""
    from agent.dashcam.process import Dashcam, HangError, run

    # no time stamps: the journal has its own
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(message)s")
    logging.getLogger("agent").setLevel(logging.INFO)

    def listen(process: Dashcam) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: process.stop())

    try:
        run(config, folder, listen)
    except HangError as hang:
        typer.echo(f"roadwitness: {hang}", err=True)
        sys.stderr.flush()
        os._exit(1)  # an orderly exit would wait for what the thread that hangs holds
