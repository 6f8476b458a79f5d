"""`roadwitness install`: fit a box, step by step, and leave with a signed sheet; `install verify` checks one."""

import json
from pathlib import Path
from typing import Final

import typer

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    help="Fit this box into a car, step by step, and leave with a signed sheet; or check such a sheet.",
)

STORE: Final = Path("/var/lib/roadwitness")
EXAMPLES = """
Examples:

  sudo roadwitness install

  sudo roadwitness install --photo box.jpg --photo plug.jpg

  sudo roadwitness install --unattended fitting.toml --json

  roadwitness install verify fitting-1M8GDM9AXKP042788-0123456789abcdef.pdf

It goes on where it was after Ctrl-C or a power cut. How to fit a box, with pictures: docs/fitting.md

Exit code 0: accepted, or accepted with reservations. 1: an error. 2: finished, and not accepted.
"""


@app.callback(epilog=EXAMPLES)
def install(
    context: typer.Context,
    unattended: Path | None = typer.Option(None, "--unattended", metavar="FILE", help="Ask nothing: a file answers."),
    photo: list[Path] = typer.Option([], "--photo", metavar="FILE", help="A photo for the sheet; may be given again."),
    config: Path | None = typer.Option(None, "--config", help="agent.toml of this box, in place of the installed one."),
    store: Path = typer.Option(STORE, "--store", help="Folder of the agent's store."),
    anew: bool = typer.Option(False, "--anew", help="Forget an unfinished fitting and begin at the first step."),
    again: list[str] = typer.Option([], "--again", metavar="STEP", help="Do a step of an unfinished fitting again."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object at the end, and nothing else."),
) -> None:
    """Fit this box into a car, step by step, and leave with a signed sheet."""
    if context.invoked_subcommand is not None:
        return
    import signal

    from agent.fitting.beginning import fit

    # a terminal that is closed is Ctrl-C: everything ends well
    before = {n: signal.signal(n, signal.default_int_handler) for n in (signal.SIGHUP, signal.SIGTERM)}
    try:
        fitting = fit(config, store, unattended, photo, anew=anew, again=again, quiet=as_json)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if as_json:
        items = [
            {"step": i.step, "name": i.name, "state": i.state, "value": i.value, "advice": i.advice}
            for ones in fitting.progress.done.values()
            for i in ones
        ]
        files = {ending: str(path) for ending, path in fitting.made.items()}
        typer.echo(json.dumps({"id": fitting.progress.id, "verdict": fitting.verdict, "files": files, "items": items}))
    if fitting.verdict == "refused":
        raise typer.Exit(2)


@app.command(epilog="Example: roadwitness install verify fitting.pdf --device rw-0123456789abcdef")
def verify(
    sheet: Path = typer.Argument(..., help="The HTML or PDF file."),
    device: str = typer.Option("", "--device", help="The box that must have signed it, as the receiver names it."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Check that a sheet is as its box signed it, and that the file shows what was signed."""
    from agent.fitting.verify import report

    said, sound = report(sheet, device, as_json=as_json)
    typer.echo(said)
    if not sound:
        raise typer.Exit(1)
