"""What the spine's thread shows on the local socket: how every part of the daemon stands, copied into structs."""

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent import clock
from agent.clock import NS_PER_S
from agent.consent.settings import PURPOSES
from agent.errors import StoreError
from agent.feed import Feed
from agent.ladder import Level
from agent.local.messages import (
    Agreed,
    Camera,
    Device,
    DeviceState,
    Lane,
    Loan,
    Power,
    Status,
    StoreState,
    Utc,
)
from agent.pipeline import Pipeline
from agent.records import LANES
from agent.version import installed_version

if TYPE_CHECKING:
    from agent.consent.consent import Consent
    from agent.dashcam.watch import CameraWatch
    from agent.feeds import Feeds
    from agent.patience import PatientStore
    from agent.power.parking import Parking
    from agent.store import Store

_WAL: Final = "-wal"
_STATES: Final[dict[str, DeviceState]] = {
    "opening": "opening",
    "open": "open",
    "lost": "lost",
    "closed": "resting",
    "ended": "ended",
}


@dataclass(slots=True)
class Parts:
    """The daemon's parts that are shown; recordings have neither power, cameras nor consent."""

    store: "Store"
    pipeline: Pipeline
    keeper: "PatientStore"
    feeds: "Feeds"
    parking: "Callable[[], Parking | None]" = lambda: None
    cameras: "CameraWatch | None" = None
    consent: "Consent | None" = None


class Himself:
    """What the agent knows of itself; `config` is its file, read again with `configured`."""

    def __init__(self, boot: str, config: Path | None, *, recording: bool) -> None:
        self.boot, self.recording = boot, recording
        self.started_ns = clock.monotonic_ns()
        self._config = config
        self.configured()

    def configured(self) -> None:
        """Note what stands in the configuration file: the agent has just read it."""
        try:
            self.sha256 = hashlib.sha256(self._config.read_bytes()).hexdigest() if self._config else ""
        except OSError:
            self.sha256 = ""

    @cached_property
    def version(self) -> str:
        """Return the product's version."""
        return installed_version()

    def status(
        self, now_ns: int, level: Level, reason: str, parts: Parts | None = None, loans: list[Loan] | None = None
    ) -> Status:
        """Return how everything stands; without `parts` only what the agent knows of itself."""
        p = parts
        sending = None if p is None else p.pipeline.sending
        parking = None if p is None else p.parking()
        incidents = None if p is None else p.pipeline.incidents
        return Status(
            t_ns=now_ns,
            version=self.version,
            device="" if p is None else p.store.device,
            pid=os.getpid(),
            boot=self.boot,
            started_ns=self.started_ns,
            level=level,
            level_reason=reason,
            config=str(self._config or ""),
            config_sha256=self.sha256,
            recording=self.recording,
            utc=Utc(quality="none") if p is None else _utc(p.pipeline),
            devices=[] if p is None else devices(p.feeds, now_ns, p.feeds.hangs),
            power=None if parking is None else _power(parking, now_ns),
            sync=None if sending is None else sending.status,
            lanes=[] if p is None else _lanes(p.store, self.boot, now_ns),
            store=None if p is None else _store(p.store, p.keeper),
            cameras=[] if p is None or p.cameras is None else _cameras(p.cameras, now_ns),
            consent=None if p is None or p.consent is None else _agreed(p.consent),
            trip=p is not None and p.pipeline.spine.driving,
            crash=incidents is not None and incidents.recorder.growing,
            loans=loans or [],
        )


def devices(feeds: Iterable[Feed], now_ns: int, hangs: Callable[[str], int]) -> list[Device]:
    """Return how each device does."""
    found = []
    for feed in feeds:
        account, (healths, facts) = feed.account, feed.told
        if feed.lent:
            state: DeviceState = "lent"
        elif feed.barred(now_ns):
            state = "barred"
        else:
            state = "resting" if feed.resting and account.state == "open" else _STATES[account.state]
        found.append(
            Device(
                name=feed.name,
                kind=feed.name.partition(":")[0],
                state=state,
                since_ns=account.since_ns,
                error=account.error,
                error_ns=account.error_ns,
                counts=account.counts,
                facts=facts,
                healths=healths,  # type: ignore[arg-type]
                samples=account.samples,
                newest_ns=account.newest_ns,
                hangs=hangs(feed.name),
            )
        )
    return found


def _utc(pipeline: Pipeline) -> Utc:
    known = pipeline.spine.boot_time
    return Utc(quality=known.quality, offset_ns=known.offset_ns, uncertainty_ns=known.uncertainty_ns)


def _power(parking: "Parking", now_ns: int) -> Power:
    power = parking.power
    return Power(
        state=power.state,
        since_ns=power.since_ns,
        volts_of_12=None if power.volts is None else round(power.volts, 2),
        charging=power.charging,
        taken_wh=round(power.ledger.taken_wh, 2),
        running=power.running(now_ns),
        moving=power.moving(now_ns),
    )


def _lanes(store: "Store", boot: str, now_ns: int) -> list[Lane]:
    heads, positions = store.heads(), store.positions()
    try:
        oldest = store.oldest_waiting()
    except StoreError:  # a disk that cannot be read is told by whoever writes
        oldest = {}
    return [
        Lane(
            name=name,
            head=heads.get(name, 0),
            acknowledged=positions.get(name, 0),
            oldest_s=_age_s(store, boot, now_ns, *oldest[name]) if name in oldest else None,
        )
        for name in LANES
    ]


def _age_s(store: "Store", boot: str, now_ns: int, of_boot: str, t_ns: int) -> float | None:
    """Return the age of a record; that of an earlier boot only where both boots know their UTC."""
    age_ns = now_ns - t_ns
    if of_boot != boot:
        try:
            now, then = store.utc_of(boot, now_ns), store.utc_of(of_boot, t_ns)
        except StoreError:
            return None
        if now is None or then is None:
            return None
        age_ns = now.utc_ns - then.utc_ns
    return max(0.0, round(age_ns / NS_PER_S, 1))


def _store(store: "Store", keeper: "PatientStore") -> StoreState:
    size, free, read_only = 0, None, False
    for suffix in ("", _WAL):
        try:
            size += os.stat(f"{store.path}{suffix}").st_size
        except OSError:
            continue  # no log just now
    try:
        disk = os.statvfs(store.folder)
        free, read_only = disk.f_bavail * disk.f_frsize, bool(disk.f_flag & os.ST_RDONLY)
    except OSError:
        pass
    return StoreState(
        path=str(store.path),
        bytes=size,
        free_bytes=free,
        read_only=read_only,
        waiting=keeper.waiting,
        moved_aside=store.moved_aside or "",
    )


def _cameras(cameras: "CameraWatch", now_ns: int) -> list[Camera]:
    return [
        Camera(
            name=s.camera,
            state=state,
            detail=detail,
            codec=s.codec,
            encoder=s.encoder,
            width=s.width,
            height=s.height,
            fps=s.fps,
        )
        for s, state, detail in cameras.seen(now_ns)
    ]


def _agreed(consent: "Consent") -> Agreed:
    return Agreed(
        purposes=[p for p in PURPOSES if consent.allows(p)], reference=consent.reference, awaited=consent.awaited
    )
