"""The last step: the sheet, signed by the box, in both forms, and the word to the receiver."""

import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from agent import clock
from agent.chain import device_id, public_bytes
from agent.clock import NS_PER_S
from agent.doctor.examine import examine
from agent.errors import ConfigError
from agent.fitting import word
from agent.fitting.configuring import replace
from agent.fitting.finding import LATER, of_finding, short_rows
from agent.fitting.fitting import Fitting
from agent.fitting.photos import MOST, taken
from agent.fitting.progress import folder_of
from agent.fitting.sheet import VERDICTS, Item, Photo, Sheet, seal, short
from agent.fitting.verify import made
from agent.identity import KEY_FILE, load_or_create_key
from agent.local import client
from agent.local.client import LocalError
from agent.local.messages import Status
from agent.owner import as_owner
from agent.version import installed_version

ACKNOWLEDGED_S: Final = 60.0  # for the receiver to have the word, where there is a network
LOOK_S: Final = 0.5
_never: Final = threading.Event()


def sheet(fitting: Fitting) -> list[Item]:
    """Examine what the steps before have brought about, sign the sheet, tell the receiver."""
    talk, progress = fitting.talk, fitting.progress
    status = fitting.running()
    if not progress.by:
        progress.by = talk.ask("by", "Who fitted the box (name, workshop)", fitting.answers.by)
    # the car is parked by now: what sleeps with it was examined before
    findings = examine(fitting.context(*dict.fromkeys(name.partition(".")[0] for name in LATER)))
    last = [of_finding("sheet", finding) for finding in findings if finding.check.startswith(LATER)]
    talk.rows(short_rows(last))
    photos = [taken(path) for path in _photos(fitting)]
    items = [each for step, ones in progress.done.items() if step != "sheet" for each in ones]
    written = _sheet(fitting, status, [*items, *last], [photo for photo, _ in photos])
    key = load_or_create_key(fitting.store)
    sealed = seal(written, key.sign, [data for _, data in photos])
    folder = Path(fitting.answers.sheet.folder) if fitting.answers.sheet.folder else folder_of(fitting.store)
    name = f"fitting-{written.vin or written.device}-{written.id}"
    for ending, data in made(written, sealed).items():
        fitting.made[ending] = folder / f"{name}.{ending}"
        with nullcontext() if fitting.answers.sheet.folder else as_owner(fitting.store):
            replace(fitting.made[ending], data)
    word.leave(fitting.store, word.of_sheet(written, sealed))
    fitting.verdict = written.verdict
    style = {"accepted": "bold green", "reserved": "bold yellow", "refused": "bold red"}[written.verdict]
    talk.say(f"{VERDICTS[written.verdict]}. Short code {short(sealed.digest)}", style)
    for path in fitting.made.values():
        talk.say(str(path))
    if not told(fitting):
        talk.say(
            "The receiver does not know of it yet; the box tells it by itself as soon as there is a network.", "yellow"
        )
    return last


def told(fitting: Fitting, seconds: float = ACKNOWLEDGED_S) -> bool:
    """Say whether the receiver has the word, after waiting for it for a while."""
    if not fitting.expected().broker:
        return False
    deadline_ns = clock.monotonic_ns() + round(seconds * NS_PER_S)
    head: int | None = None  # of the health lane when the daemon had taken the word
    with fitting.talk.live() as show:
        while True:
            show("Telling the receiver …", [])
            if not word.left(fitting.store):
                held = _health(fitting.store)
                if held is not None:
                    head = held[0] if head is None else head
                    if held[1] >= head:
                        return True
            if clock.monotonic_ns() >= deadline_ns:
                return False
            clock.wait(_never, LOOK_S)


def _health(store: Path) -> tuple[int, int] | None:
    """Return head and acknowledged position of the lane in which the word is kept."""
    try:
        lanes = client.status(store).lanes
    except LocalError:
        return None
    return next(((lane.head, lane.acknowledged) for lane in lanes if lane.name == "health"), None)


def _photos(fitting: Fitting) -> list[Path]:
    photos = [*fitting.photos, *(Path(photo) for photo in fitting.answers.sheet.photos)]
    if len(photos) > MOST:
        raise ConfigError(f"photos: {len(photos)} were named; a sheet takes {MOST}")
    return photos


def _sheet(fitting: Fitting, status: Status, items: list[Item], photos: list[Photo]) -> Sheet:
    progress = fitting.progress
    if not (fitting.store / KEY_FILE).exists():
        raise ConfigError(f"{fitting.store / KEY_FILE}: there is no key to sign with; start the agent once")
    key = public_bytes(load_or_create_key(fitting.store))
    known = status.utc.quality in ("ntp", "gnss")
    return Sheet(
        id=progress.id,
        device=device_id(key),
        public_key=key.hex(),
        vin=progress.vin,
        by=progress.by[:200],
        started=_time(progress.started_utc_ns) if known else "",
        ended=_time(clock.wall_ns()) if known else "",
        versions={"roadwitness": installed_version(), "agent": status.version},
        consent=progress.consent[:500],
        items=items,
        photos=photos,
    )


def _time(utc_ns: int) -> str:
    return clock.iso_utc(utc_ns // NS_PER_S * NS_PER_S).replace(".000Z", "Z")
