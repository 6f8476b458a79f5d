"""The end of a fitting: the box leaves its car, or forgets everything; the receiver is told first."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from agent.boot import kernel_boot_id
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

TELL_S: Final = 60.0  # for the receiver to have everything that is on the box


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


def tell(box: Box, last: Word, seconds: float = TELL_S) -> Ended:
    """Tell the receiver the last word and all that waits; the agent must not run. Raise StoreError.

    A box that never had a store has nothing to tell and is told of as `told`.
    """
    if not (box.store / STORE_FILE).exists():
        return Ended(told=True)
    settings = _settings(box)
    with Store.open(box.store, settings.store) as store:
        boot = kernel_boot_id()
        store.begin_boot(boot)
        word.keep(store, last)
        head = store.heads().get("health", 0)
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
        sending.finish(seconds)
        return Ended(store.device, store.positions().get("health", 0) >= head, _unsent(store))


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
    told("telling the receiver")
    with as_owner(box.store):
        done = tell(box, last, seconds)
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
