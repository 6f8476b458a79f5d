"""`roadwitness update`: look for a new version, install it, go back; what the timer and the boot call, too."""

import json
import os
from pathlib import Path

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

EXAMPLES = """
Examples:

  roadwitness update --check

  sudo roadwitness update --now

  sudo roadwitness update --rollback

Without an option: install what is offered when the car stands, no crash is recorded and the link is cheap enough.
"""


@app.command(epilog=EXAMPLES)
def update(
    check: bool = typer.Option(False, "--check", help="Only say what is offered."),
    now: bool = typer.Option(False, "--now", help="Whatever it costs, and also what failed here before."),
    rollback: bool = typer.Option(False, "--rollback", help="Go back to the version before."),
    settle: bool = typer.Option(False, "--settle", help="At boot: go on with an update that was cut."),
    root: Path = typer.Option(Path("/"), "--root", hidden=True),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Install the vendor's newest version, signed; keep it only when it proves healthy, else go back by itself."""
    from agent.boot import kernel_boot_id
    from agent.errors import ConfigError
    from agent.settings import load_agent
    from agent.update.place import Place, UpdateError, only_one
    from agent.update.settings import UpdateSettings
    from agent.update.state import load
    from agent.update.trees import GOOD
    from agent.update.updater import Said, Updater

    if check + now + rollback + settle > 1:
        raise ConfigError("--check, --now, --rollback and --settle exclude each other; give one")
    if os.geteuid() != 0:
        raise UpdateError("changing the program is for root; use sudo")
    place = Place(root)
    try:
        settings = load_agent(place.settings if place.settings.is_file() else None)
        wanted, metered = settings.update, settings.budget.metered
    except ConfigError:
        if not settle:
            raise
        wanted, metered = UpdateSettings(), True  # what is under way must end also where somebody broke the file
    updater = Updater(place, wanted, kernel_boot_id(), metered)
    with only_one(place):
        try:
            if check:
                offer, _ = updater.check()
                said = Said("newest", f"roadwitness {updater.active} is the newest", updater.active)
                if offer is not None:
                    detail = f"roadwitness {offer.version} is offered, {offer.length / 1e6:.0f} MB. {offer.notes}"
                    said = Said("offered", detail.strip(), offer.version)
            elif rollback:
                said = updater.roll_back("somebody asked for it")
            elif settle:
                said = updater.begin_boot() or Said("nothing", "no update is under way")
            else:
                said = updater.update(asked=now)
        finally:
            updater.note()
    phase = load(place.state).phase
    if settle and phase in ("trial", "registering"):
        updater.run(["systemctl", "start", "--no-block", "roadwitness-update.service"])
    elif phase == "registering" and said.verdict == "installed":
        # the version that proved itself does the rest: this one's files are moved aside while dpkg works
        updater.run([str(place.opt / GOOD / "bin" / "roadwitness"), "update"])
    shown = {"verdict": said.verdict, "version": said.version, "detail": said.detail}
    typer.echo(json.dumps(shown) if as_json else said.detail)
