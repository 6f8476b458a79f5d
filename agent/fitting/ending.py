"""The end of a fitting: the box leaves its car, or forgets everything; the receiver is told first."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from agent import clock
from agent.boot import kernel_boot_id
from agent.clock import NS_PER_S
from agent.errors import RoadwitnessError, UplinkError
from agent.fitting import word
from agent.fitting.desk import Desk, DeskError
from agent.fitting.erase import Box, Gone, erase
from agent.fitting.service import Service
from agent.fitting.word import Word
from agent.owner import as_owner
from agent.sending import Sending
from agent.settings import AgentConfig, load_agent
from agent.store import Store
from agent.store.database import STORE_FILE

TELL_S: Final = 60.0  # for the receiver to have everything that is on the box, and then the last word
LOOK_S: Final = 0.1
_never: Final = threading.Event()


@dataclass(slots=True)
class Ended:
    """What came of it."""

    device: str = ""
    told: bool = False  # the receiver has the last word
    unsent: int = 0  # records and packages that only this box held
    unbound: str = ""  # "" done or not asked for, else why it must be done at the desk
    gone: list[Gone] = field(default_factory=list)


class NotToldError(UplinkError):
    """The receiver does not know yet, so nothing was done."""


def tell(box: Box, last: Word, *, everything: bool, offline: bool, seconds: float = TELL_S) -> Ended:
    """Send what waits, then the last word; the agent must not run. Raise StoreError.

    The word is only kept when the receiver has answered, and with `everything` when it has all that came before: one
    that is kept and not followed by the deed would tell of an end that never came. With `offline` it is kept anyway.
    A box that never had a store has nothing to tell and is told of as `told`.
    """
    if not (box.store / STORE_FILE).exists():
        return Ended(told=True)
    settings = _settings(box)
    with Store.open(box.store, settings.store) as store:
        boot = kernel_boot_id()
        store.begin_boot(boot)
        try:
            sending = Sending(
                store,
                settings.broker,
                settings.sync,
                boot,
                upload=settings.upload,
                budget=settings.budget,
                trusted=settings.commands.keys,
            )
        except RoadwitnessError:  # no certificate, no broker: nobody can be told
            return Ended(store.device, False, _unsent(store))
        try:
            ready = _until(lambda: sending.caught_up if everything else bool(sending.heard), seconds)
            if not ready and not offline:
                return Ended(store.device, False, _unsent(store))
            word.keep(store, last)
            head = store.heads()["health"]
            sending.wake()
            told = ready and _until(lambda: store.positions().get("health", 0) >= head, seconds)
            if not told and not offline:
                word.keep(store, word.GIVEN_UP)
            return Ended(store.device, told, _unsent(store))
        finally:
            sending.stop()


def _until(true: Callable[[], bool], seconds: float) -> bool:
    deadline_ns = clock.monotonic_ns() + round(seconds * NS_PER_S)
    while not true():
        if clock.monotonic_ns() >= deadline_ns:
            return False
        clock.wait(_never, LOOK_S)
    return True


def _unsent(store: Store) -> int:
    waiting = sum(store.heads().values()) - sum(store.positions().values())
    return waiting + sum(not package.acknowledged for package in store.uploads.packages())


def _settings(box: Box) -> AgentConfig:
    try:
        return load_agent(box.config) if box.config.exists() else AgentConfig()
    except RoadwitnessError:
        return AgentConfig()


def end(
    box: Box,
    service: Service,
    last: Word,
    *,
    erasing: bool,
    offline: bool = False,
    desk: Desk | None = None,
    seconds: float = TELL_S,
    told: Callable[[str], None] = lambda _: None,
) -> Ended:
    """Stop the box, tell the receiver, unbind it where `desk` is given, and erase it where that is asked for.

    Raise NotToldError, with the agent running again, where the receiver could not be told, or not everything, and
    `offline` does not say that this is all right.
    """
    told("stopping the services")
    service.stop()
    told(f"telling the receiver, {seconds:.0f} s at most")
    with as_owner(box.store):
        done = tell(box, last, everything=erasing, offline=offline, seconds=seconds)
    if not offline and not (done.told and (done.unsent == 0 or not erasing)):
        service.start()
        left = f"; {done.unsent} records or packages are only on this box" if done.unsent else ""
        raise NotToldError(
            f"device {done.device}: the receiver {'has not everything' if done.told else 'cannot be told'}{left}; "
            "nothing was changed. Find a network and try again, or lose it for good with --force-offline"
        )
    service.disable()
    if desk is not None and done.device:
        told("unbinding")
        try:
            desk.unbind(done.device, last.facts["reason"])
        except DeskError as trouble:
            done.unbound = str(trouble)
    if erasing:
        done.gone = erase(box, lambda gone: told(f"erased: {gone.what} ({gone.files} files)"))
    return done
