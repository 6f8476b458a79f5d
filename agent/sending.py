"""Sync beside whatever fills the store: it sends what is there and tells where the car is."""

import threading
from collections.abc import Callable, Collection
from typing import Any, Final

import numpy as np

from agent.answers import Belief
from agent.clock import NS_PER_S, monotonic_ns, wait
from agent.enrolment.enrol import Signer
from agent.enrolment.folder import TlsFolder
from agent.enrolment.moments import of_boot
from agent.enrolment.renewal import Renewal
from agent.enrolment.settings import EnrolmentSettings
from agent.incident.folder import PACKAGES
from agent.link import BrokerSettings
from agent.messages import Live
from agent.mqtt import MqttUplink
from agent.records import Health
from agent.spine import Output
from agent.state import State
from agent.store import Store
from agent.sync import Sync, SyncSettings, SyncThread
from agent.tls import Moment
from agent.uplink import SyncStatus
from agent.upload.budget import Budget
from agent.upload.settings import BudgetSettings, UploadSettings
from agent.upload.uploads import Uploads

LOOK_AGAIN_S: Final = 0.02
LIVE_S: Final = 1.0  # of wall time between two places that are told


class Sending:
    """Sync in a thread: it sends what the store and the packages beside it hold and says where the car is.

    `on_health` takes what a person should know of the uplink; `on_bug` what ended the thread, if a bug did;
    `on_command` and `on_consent` what came on these topics, unread. `trusted` are the keys of receivers, in hex.
    With `enrolment` the certificate is renewed meanwhile.
    """

    def __init__(
        self,
        store: Store,
        broker: BrokerSettings,
        settings: SyncSettings,
        boot: str,
        *,
        on_health: Callable[[Health], None] | None = None,
        on_bug: Callable[[BaseException], None] | None = None,
        upload: UploadSettings | None = None,
        budget: BudgetSettings | None = None,
        on_command: Callable[[bytes], None] | None = None,
        on_consent: Callable[[bytes], None] | None = None,
        trusted: Collection[str] = (),
        enrolment: EnrolmentSettings | None = None,
    ) -> None:
        self._store = store
        self._boot = boot
        self._told_ns = 0
        uplink = MqttUplink(broker, store.device, self._moment)
        counted = Budget(budget or BudgetSettings(), store.uploads, self._utc_ns)
        packages = store.folder / PACKAGES
        uploads = Uploads(store.device, packages, store.uploads, upload, counted, on_health)
        sync = Sync(
            store,
            uplink,
            settings,
            boot=boot,
            on_health=on_health,
            uploads=uploads,
            budget=counted,
            on_command=on_command,
            on_consent=on_consent,
            belief=Belief(store.folder, trusted),
        )
        self._thread = SyncThread(sync, uplink, on_bug)
        self._thread.start()
        self._renewal: Renewal | None = None
        if enrolment is not None and enrolment.receiver:
            signer = Signer(store.device, store.public_key, store.sign)
            tls = TlsFolder(store.folder)
            self._renewal = Renewal(tls, signer, enrolment, broker, self._moment, self._answered, on_health)
            self._renewal.start()

    def tell(self, output: Output) -> None:
        """Take what a step gave: there may be something to send, and a place to show, once in LIVE_S of wall time."""
        if output.records:
            self._thread.wake()
        now_ns = monotonic_ns()
        if output.rows and now_ns - self._told_ns >= LIVE_S * NS_PER_S:
            live = live_of(output.rows[-1], self._store.device, self._boot)
            if live is not None:
                self._told_ns = now_ns
                self._thread.show(live)

    def wake(self) -> None:
        """Look at once for something to send."""
        self._thread.wake()

    @property
    def caught_up(self) -> bool:
        """Say whether the receiver has answered on this connection and holds everything."""
        if self._thread.status.phase != "sending" or self._store.positions() != self._store.heads():
            return False
        return self._packages_left() == 0

    @property
    def heard(self) -> bool:
        """Say whether the receiver has answered on the present connection."""
        return self._thread.status.phase == "sending"

    @property
    def status(self) -> SyncStatus:
        """What sync is doing."""
        return self._thread.status

    @property
    def progress(self) -> int:
        """Return a number that grows with what the receiver acknowledges and with every byte of a file that is sent."""
        return sum(self._store.positions().values()) + self._thread.status.files.sent

    def finish(self, wait_s: float) -> dict[str, Any]:
        """Wait until the receiver holds everything or `wait_s` has passed; say how far it came."""
        deadline_ns = monotonic_ns() + round(wait_s * NS_PER_S)
        never = threading.Event()
        self._thread.wake()
        while monotonic_ns() < deadline_ns and self._thread.is_alive():
            if self._store.positions() == self._store.heads() and self._packages_left() == 0:
                break
            wait(never, LOOK_AGAIN_S)
        status = self._thread.status
        left = self._packages_left()
        self.stop()
        return {
            "device": self._store.device,
            "entries": sum(self._store.heads().values()),
            "acknowledged": sum(self._store.positions().values()),
            "payload_bytes": status.payload_bytes,
            "file_bytes": status.files.sent,
            "packages_left": left,
            "trouble": status.trouble,
            "reason": status.reason,
        }

    def _packages_left(self) -> int:
        return sum(not p.acknowledged for p in self._store.uploads.packages())

    def _utc_ns(self, now_ns: int) -> int | None:
        utc = self._store.utc_of(self._boot, now_ns)
        return None if utc is None else utc.utc_ns

    def _moment(self) -> Moment:
        return of_boot(self._store, self._boot)

    def _answered(self) -> bool:
        return self._thread.status.phase == "sending"

    @property
    def stopped(self) -> bool:
        """Say whether it has ended: nothing of it uses the store any more."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Disconnect; what was not sent stays in the store."""
        if self._renewal is not None:
            self._renewal.stop()
        self._thread.stop()


def live_of(rows: State, device: str, boot: str) -> Live | None:
    """Return where the car is by the last of `rows` that has a position; None where none has."""
    placed = np.flatnonzero(np.isfinite(rows["latitude"]) & np.isfinite(rows["longitude"]))
    if not len(placed):
        return None
    row = rows[placed[-1]]
    speed = float(row["speed"])
    return Live(
        device=device,
        boot=boot,
        t_ns=int(row["t"]),
        latitude=round(float(row["latitude"]), 7),
        longitude=round(float(row["longitude"]), 7),
        speed_mps=round(speed, 2) if np.isfinite(speed) else None,
    )
