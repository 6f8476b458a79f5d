"""The record of what a technician changes in a car: kept before it is done and after, by the daemon or without it.

While the daemon runs the loan is the record: it says who, what for and what exactly, and is stored and sent before the
wire is handed over. Without a daemon the store is opened here, which also keeps a daemon from starting meanwhile.
"""

import os
import pwd
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Literal

from agent.boot import kernel_boot_id
from agent.clock import NS_PER_S, monotonic_ns, wait
from agent.errors import ConfigError, StoreError
from agent.local import client
from agent.local.messages import CLEAR, UNHEARD, UNMEASURED
from agent.records import Health
from agent.settings import load_agent
from agent.store import Store
from agent.store.database import STORE_FILE
from agent.vehicle.devices import Check, Device

LEND_S: Final = 120.0  # reading again, clearing, reading what is left: half a minute on a slow bus
HEAR_S: Final = 45.0  # an adapter is opened and its vehicle found anew: some 10 s, on a slow bus 30
AGAIN_S: Final = 2.0
Tell = Callable[[str], None]


def who() -> str:
    """Name the person at the keyboard: as logged in, also behind sudo; else the user of this process."""
    try:
        name = os.getlogin()
    except OSError:  # no terminal
        uid = os.getuid()
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = f"uid {uid}"
    return "".join(c if " " <= c <= "~" else "?" for c in name)[:32]


@contextmanager
def kept(device: Device, store: Path, config: Path | None, about: str) -> Iterator[tuple[Check, Tell]]:
    """Have `device` for a change that `about` describes. Yields what says it still is ours, and what tells the outcome.

    Raises LocalError where the daemon does not consent, StoreError where the change cannot be recorded.
    """
    try:
        known = client.status(store).devices
    except client.NoDaemonError:
        with _alone(device, store, config, about) as tell:
            yield lambda: None, tell
        return
    if all(d.name != device.name for d in known):
        names = ", ".join(d.name for d in known) or "none"
        raise ConfigError(
            f"{device.name}: the agent runs and does not read this device, so it cannot say whether the car stands and"
            f" keep a record; use one of its devices ({names}), or stop it: systemctl stop roadwitness-agent"
        )
    with ExitStack() as stack:
        borrowed = _lent(stack, device, store, about)
        yield borrowed.check, lambda outcome: None  # the daemon reads the codes next, and tells what has gone


def _lent(stack: ExitStack, device: Device, store: Path, about: str) -> client.Borrowed:
    """Ask for the device until the agent, which has just got it back, has heard of the car again; raise LocalError."""
    deadline_ns = monotonic_ns() + round(HEAR_S * NS_PER_S)
    while True:
        try:
            return stack.enter_context(client.lend(store, device.name, CLEAR, LEND_S, about=about))
        except client.RefusedError as refused:
            soon = any(reason in str(refused) for reason in (UNHEARD, UNMEASURED))
            if not soon or monotonic_ns() >= deadline_ns:
                raise
        wait(threading.Event(), AGAIN_S)


@contextmanager
def _alone(device: Device, store: Path, config: Path | None, about: str) -> Iterator[Tell]:
    if not (store / STORE_FILE).is_file():
        raise StoreError(
            f"{store}: no store, so the change could not be recorded; name it with --store, or start the agent"
        )
    with Store.open(store, load_agent(config).store) as opened:
        opened.begin_boot(kernel_boot_id())

        def say(state: Literal["ok", "degraded"], text: str) -> None:
            t_ns = monotonic_ns()
            facts = {"user": who(), "purpose": CLEAR, "about": about}
            opened.append(
                [(t_ns, Health(t_ns=t_ns, source=f"{CLEAR}:{device.name}", state=state, detail=text, facts=facts))]
            )

        say("degraded", f"{device.name}: about to clear trouble codes without the agent: {about}")
        yield lambda outcome: say("ok", outcome)
