"""`roadwitness live`: what the agent sees and does now, full-screen, as lines or as JSON."""

import sys
from pathlib import Path

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

EXAMPLES = """
Examples:

  roadwitness live

  roadwitness live --plain | grep Obd.Speed

  roadwitness live --json | head -1

It asks the agent through its local socket: root, and members of the group roadwitness, may.
"""


@app.command(epilog=EXAMPLES)
def live(
    store: Path = typer.Option(Path("/var/lib/roadwitness"), "--store", help="Folder of the agent's store."),
    plain: bool = typer.Option(False, "--plain", help="Print a line for each change; so it does into a pipe."),
    as_json: bool = typer.Option(False, "--json", help="Print a line of JSON a second."),
) -> None:
    """Watch the car: signals, what happens, devices, the queue and sync, once a second, until you end it."""
    from agent.local.client import watch
    from agent.local.messages import encode
    from agent.local.plain import Plain

    if plain or as_json or not sys.stdout.isatty():
        said = Plain()
        try:
            for tick in watch(store):
                if as_json:
                    sys.stdout.buffer.write(encode(tick))
                else:
                    sys.stdout.writelines(f"{line}\n" for line in said.lines(tick))
                sys.stdout.flush()
        except KeyboardInterrupt:
            return
        return
    next(watch(store))  # no agent: one line, before the screen is taken
    from agent.local.screen import Live

    Live(lambda: watch(store)).run()
