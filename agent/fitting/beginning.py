"""Put a fitting together: where the box is, who talks, what was done before."""

import os
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from rich.console import Console

from agent.errors import ConfigError, near_names
from agent.fitting import progress, wizard
from agent.fitting.answers import Answers, load_answers
from agent.fitting.configuring import FILE
from agent.fitting.fitting import Fitting
from agent.fitting.photos import MOST, taken
from agent.fitting.service import Service, service_of
from agent.fitting.talk import Talk, Terminal, Unattended
from agent.fitting.titles import TITLES


def fit(
    config: Path | None,
    store: Path,
    unattended: Path | None,
    photos: Sequence[Path],
    *,
    anew: bool = False,
    again: Sequence[str] = (),
    quiet: bool = False,
    service: Service | None = None,
) -> Fitting:
    """Fit a box, from the beginning or where an earlier run ended; return the finished fitting.

    Raise RoadwitnessError where it cannot go on: what was done is kept.
    """
    answers = load_answers(unattended) if unattended else Answers()
    for photo in photos:
        taken(photo)  # a photo that cannot be read is told now, not after the drive
    if len(photos) > MOST:
        raise ConfigError(f"--photo: {len(photos)} were named; a sheet takes {MOST}")
    config = config or FILE
    _may_write(config, store)
    before = None if anew else progress.load(store)
    for step in again:
        if step not in TITLES:
            raise ConfigError(f"--again {step}: is no step{near_names(step, TITLES)}")
        if before is not None:
            before.done.pop(step, None)
    talk = _talk(unattended, quiet)
    fitting = Fitting(
        store, config, answers, talk, service or service_of(config, store), before or progress.begun(), list(photos)
    )
    fitting.progress.by = answers.by or fitting.progress.by
    if before is not None and before.done:
        talk.say(f"Going on with the fitting that was begun; done: {', '.join(TITLES[s] for s in before.done)}.")
    try:
        wizard.run(fitting)
    except (KeyboardInterrupt, EOFError):
        fitting.keep()
        raise ConfigError("stopped; start `roadwitness install` again: it goes on at this step") from None
    finally:
        fitting.service.close()
    return fitting


def _talk(unattended: Path | None, quiet: bool) -> Talk:
    if unattended is not None:
        return Unattended(Console(file=StringIO()) if quiet else Console(highlight=False), str(unattended))
    if quiet or not sys.stdin.isatty():
        raise ConfigError("install asks questions: run it in a terminal, or answer them in a file with --unattended")
    return Terminal(Console(highlight=False))


def _may_write(config: Path, store: Path) -> None:
    for path in (config.parent, store):
        at = path
        while not at.exists():
            at = at.parent
        if not os.access(at, os.W_OK):
            raise ConfigError(f"{path}: this user may not write there; run: sudo roadwitness install")
