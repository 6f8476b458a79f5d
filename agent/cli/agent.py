"""`roadwitness agent`: the daemon, for systemd and for the workbench."""

import logging
import signal
import sys
from pathlib import Path

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

EXAMPLES = """
Examples:

  roadwitness agent

  roadwitness agent --config ./agent.toml --store ./store

SIGTERM ends it with the trip closed; SIGHUP reads the configuration again.
"""


@app.command(epilog=EXAMPLES)
def agent(
    config: Path | None = typer.Option(None, "--config", help="agent.toml to use in place of the installed one."),
    store: Path = typer.Option(Path("/var/lib/roadwitness"), "--store", help="Folder of the store."),
) -> None:
    """Run the daemon: read the configured devices, find trips and events, store and send them."""
    from agent.daemon import Daemon, run

    # no time stamps: the journal has its own
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(message)s")
    for ours in ("agent", "drivers"):
        logging.getLogger(ours).setLevel(logging.INFO)

    def listen(daemon: Daemon) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: daemon.stop())
        signal.signal(signal.SIGHUP, lambda *_: daemon.reload())

    run(config, store, listen)
