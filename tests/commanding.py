"""What the tests of commands share: a receiver's key, and a box that has filmed something."""

import shutil
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from agent.chain import public_bytes
from agent.clip.clipper import Clipper
from agent.clip.settings import ClipSettings
from agent.commandmessages import Command, encode_command
from agent.commands.clips import Clips
from agent.commands.commands import Commands
from agent.commands.inbox import Inbox
from agent.commands.policy import by_settings
from agent.commands.settings import CommandSettings
from agent.dashcam.watch import VIDEO
from agent.evidence.packager import Packager
from agent.incident.folder import PACKAGES
from agent.records import Clock, Health, Reply
from agent.store import Store
from tests.dashcam_making import BOOT, S, config, fast, film_h264, run_whole

KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"\x08" * 32)
TRUSTED = public_bytes(KEY).hex()
UTC0 = 1_795_000_000 * S  # of the boot's time zero
FILMED = (1000 * S, 1012 * S)  # by the boot's clock
NOW = 1100 * S
LET = CommandSettings(keys=(TRUSTED,))


def film_drive(folder: Path) -> Path:
    """Film 12 s from second 1000 of BOOT on, and return the dashcam's folder."""
    run_whole(config(fast(film_h264(folder / "road.mp4", 12.0))), folder / VIDEO)
    return folder / VIDEO


def clock_of(quality: str = "gnss", t_ns: int = S, offset_ns: int = UTC0) -> Clock:
    return Clock(t_ns=t_ns, offset_ns=offset_ns, quality=quality, uncertainty_ns=300_000_000)  # type: ignore[arg-type]


def command(device: str, n: int = 1, at_ns: int = NOW, **changed: Any) -> Command:
    """Return a command that was issued when the boot's clock showed `at_ns`; `changed` are its fields."""
    asked = Command(
        id=f"{n:032x}"[::-1],
        device=device,
        command="clip",
        arguments={"from_utc_ns": UTC0 + 1002 * S, "to_utc_ns": UTC0 + 1008 * S},
        issued_utc_ns=UTC0 + at_ns,
        expires_utc_ns=UTC0 + at_ns + 3600 * S,
        reason="claim 4711",
        actor="adjuster",
    )
    return replace(asked, **changed)


def signed(asked: Command, key: Ed25519PrivateKey = KEY) -> bytes:
    return encode_command(asked, key)


class Box:
    """A device's clerk without its thread: commands, clipper and packager on a real store, in `folder`."""

    def __init__(
        self,
        folder: Path,
        settings: CommandSettings = LET,
        clips: ClipSettings | None = None,
        boot: str = BOOT,
        agreed: bool = True,
    ) -> None:
        self.folder = folder
        self.store = Store.open(folder)
        self.store.begin_boot(boot)
        self.inbox = Inbox()
        self.health: list[Health] = []
        packages, video = folder / PACKAGES, folder / VIDEO
        clips = clips or ClipSettings()
        self.clipper = Clipper(self.store, packages, video, boot, clips, 0)
        self.packager = Packager(self.store, packages, boot, self.clipper.material)
        works = {"clip": Clips(self.store, packages, video, boot, self.clipper, clips)}
        policy = by_settings(settings, lambda _: agreed)
        self.commands = Commands(self.store, boot, settings, self.inbox, works, policy, self.health.append)

    def know_time(self, quality: str = "gnss") -> None:
        self.store.append([(S, clock_of(quality))])

    def heed(self, *payloads: bytes, now_ns: int = NOW) -> list[Reply]:
        """Take payloads in and do one round; return the replies that are new."""
        before = len(self.replies())
        for payload in payloads:
            self.inbox.put(payload)
        self.commands.tend(now_ns)
        return self.replies()[before:]

    def work(self, now_ns: int = NOW, rounds: int = 4) -> None:
        """Do what the clerk does."""
        for _ in range(rounds):
            self.commands.tend(now_ns)
            self.clipper.tend(now_ns)
            self.packager.tend(now_ns)

    def replies(self) -> list[Reply]:
        return [stored.record for stored in self.store.records(Reply)]

    def packages(self) -> list[str]:
        return sorted(p.name for p in (self.folder / PACKAGES).glob("*") if p.is_dir())

    def close(self) -> None:
        self.store.close()


def with_video(folder: Path, video: Path) -> Path:
    """Copy what was filmed into a box's folder."""
    shutil.copytree(video, folder / VIDEO)
    return folder
