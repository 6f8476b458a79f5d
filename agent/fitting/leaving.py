"""What `roadwitness uninstall` and `factory-reset` ask, do and say."""

import getpass
import json
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from agent.chain import device_id, public_bytes
from agent.errors import ConfigError, RoadwitnessError
from agent.fitting import word
from agent.fitting.desk import Desk, token_of
from agent.fitting.ending import Ended, end
from agent.fitting.erase import LIMIT, PARTS, Box
from agent.fitting.service import Service, service_of
from agent.fitting.word import Deed
from agent.identity import KEY_FILE, load_or_create_key
from agent.owner import as_owner
from agent.settings import load_agent


@dataclass(frozen=True, slots=True)
class Plan:
    """What was said on the command line."""

    store: Path
    config: Path | None
    by: str
    reason: str
    device: str  # "" where nobody named it
    yes: bool
    offline: bool
    token_file: str = ""
    receiver: str = ""


def uninstall(plan: Plan, erase: bool | None, *, as_json: bool = False, service: Service | None = None) -> str:
    """Take the box out of its car; return what came of it, for people or as JSON. Raise RoadwitnessError."""
    if erase is None:
        raise ConfigError("uninstall: say what becomes of keys and data on the box: --keep-data or --erase")
    desk = _desk(plan)
    done = _end(plan, "removed", erasing=erase, desk=desk, quiet=as_json, service=service)
    lines = [f"{done.device or 'The box'} is out of its car: its services are stopped and do not start at boot."]
    if done.unbound:
        lines.append(f"The binding could not be ended: {done.unbound}")
    if desk is None or done.unbound:
        lines.append("End the binding on the receiver's page 'Bindings', with the same reason.")
    else:
        lines.append("The binding has ended.")
    return _said(done, lines, erasing=erase, as_json=as_json)


def reset(plan: Plan, *, as_json: bool = False, service: Service | None = None) -> str:
    """Make the box forget everything; return what came of it, for people or as JSON. Raise RoadwitnessError."""
    done = _end(plan, "reset", erasing=True, desk=None, quiet=as_json, service=service)
    lines = [f"{done.device or 'The box'} is reset and will never use that name again."]
    if done.device:
        lines.append(f"At the receiver: end its binding, then `roadwitness ca revoke {done.device}`.")
    return _said(done, lines, erasing=True, as_json=as_json)


def _end(plan: Plan, deed: Deed, *, erasing: bool, desk: Desk | None, quiet: bool, service: Service | None) -> Ended:
    assert deed != "fitted"
    box = Box.of(plan.store, plan.config)
    if not box.store.is_dir():
        raise ConfigError(f"{box.store}: there is no box here; name its folder with --store")
    if not os.access(box.store, os.W_OK):
        raise ConfigError(f"{box.store}: this user may not write there; use sudo")
    device = _name(box)
    console = Console(stderr=True, highlight=False, quiet=quiet)
    _confirm(plan, device, erasing, console)
    reason = plan.reason or "no reason given"
    last = word.of_end(deed, plan.by or getpass.getuser(), reason)
    worker = service or service_of(box.config, box.store)
    logging.getLogger("agent").addHandler(logging.NullHandler())  # its lines would stand among ours
    try:
        return end(
            box,
            worker,
            last,
            erasing=erasing,
            offline=plan.offline,
            desk=desk,
            told=lambda text: console.print(f"{text} …", style="dim"),
        )
    finally:
        worker.close()


def _name(box: Box) -> str:
    if not (box.store / KEY_FILE).exists():
        return ""
    with as_owner(box.store):
        return device_id(public_bytes(load_or_create_key(box.store)))


def _confirm(plan: Plan, device: str, erasing: bool, console: Console) -> None:
    """Make sure that this box is meant; raise ConfigError where it is not, or nobody can be asked."""
    if plan.yes:
        if device and plan.device != device:
            raise ConfigError(f"this box is {device}, not {plan.device or 'named'}; with --yes say --device {device}")
        return
    if not sys.stdin.isatty():
        raise ConfigError("nobody can be asked here: say --yes and --device with the name of the box")
    console.print(f"This is box [bold]{device or 'without a name'}[/bold]. What happens:")
    console.print("  the services stop, and do not start at boot")
    for part in PARTS if erasing else ():
        console.print(f"  erased for good: {part.what}")
    typed = console.input(f"Type the name of the box ({device or 'erase'}) to go on: ").strip()
    if typed != (device or "erase"):
        raise ConfigError("that is not its name; nothing was changed")


def _desk(plan: Plan) -> Desk | None:
    if not plan.token_file:
        return None
    box, url, ca = Box.of(plan.store, plan.config), plan.receiver, ""
    try:
        known = load_agent(box.config).enrolment
        url, ca = url or known.receiver, "" if known.ca is None else str(known.ca)
    except RoadwitnessError:
        ca = ""
    if not url:
        raise ConfigError("--token-file: the address of the receiver is not known; say --receiver https://…")
    return Desk(url, token_of(plan.token_file), ca)


def _said(done: Ended, lines: list[str], *, erasing: bool, as_json: bool) -> str:
    if as_json:
        gone = [gone._asdict() for gone in done.gone]
        told = {"device": done.device, "told": done.told, "unsent": done.unsent, "unbound": done.unbound}
        return json.dumps({**told, "erased": gone})
    if not done.told:
        lines.append("The receiver does NOT know of it: tell the insurer.")
    if done.unsent and erasing:
        lines.append(f"Lost: {done.unsent} records or packages that only this box held.")
    if erasing:
        lines += [f"Erased: {gone.what} ({gone.files} files, {gone.bytes:,} bytes)" for gone in done.gone if gone.files]
        lines.append(LIMIT)
    return "\n".join(lines)
