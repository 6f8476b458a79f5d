"""The command `clip`: the video of a time that has passed becomes a signed package, within the day's budget."""

from pathlib import Path
from typing import Final

import msgspec

from agent.clip.clipper import Asked, Clipper
from agent.clip.settings import ClipSettings
from agent.clock import NS_PER_S
from agent.commandmessages import ClipArguments, Command
from agent.commands.commands import Answer
from agent.commands.when import place
from agent.evidence import verify_package as verifier
from agent.evidence.packager import read_manifest
from agent.incident.folder import look as look_at
from agent.known import known
from agent.records import Reply
from agent.store import Store

CLIP: Final = "clip-*.mp4"


class Clips:
    """Obeys `clip`; one thread, that of the clipper, may call it. `boot` is the present one."""

    def __init__(self, store: Store, packages: Path, video: Path, boot: str, clipper: Clipper, settings: ClipSettings):
        self._store = store
        self._packages = packages
        self._video = video
        self._boot = boot
        self._clipper = clipper
        self._settings = settings

    def begin(self, command: Command, now_ns: int) -> Answer:
        """Ask the clipper for a package named after the command."""
        try:
            wanted = msgspec.convert(command.arguments, known(ClipArguments))
        except msgspec.ValidationError as e:
            return Answer("refused", f"its arguments are not those of a clip: {e}")
        name = command.id[:16]  # random, like the command's: no incident has it
        length_s = (wanted.to_utc_ns - wanted.from_utc_ns) / NS_PER_S
        told = f"{length_s:.1f} s of video"
        if look_at(self._packages / name) is not None:  # power went before the reply was written
            return Answer("accepted", told, name)
        if length_s <= 0:
            return Answer("failed", "the time ends before it begins")
        if length_s > self._settings.asked_longest_s:
            longest_s = self._settings.asked_longest_s
            return Answer("failed", f"{told} is asked for; {longest_s:g} s is the longest that this device gives")
        utc = self._store.utc_of(self._boot, now_ns)
        if utc is None or wanted.to_utc_ns > utc.utc_ns + utc.uncertainty_ns:
            return Answer("failed", "the time has not passed yet; ask again when it has")
        found = place(
            self._store, self._video, self._boot, now_ns, wanted.from_utc_ns, wanted.to_utc_ns, wanted.cameras
        )
        if isinstance(found, str):
            return Answer("failed", found)
        asked = Asked(name, found.boot, tuple(wanted.cameras), command.id, command.actor, command.reason)
        if self._clipper.ask(found.video.from_ns, found.video, "command", now_ns, asked) is None:
            return Answer("failed", f"the {self._settings.asked_per_day} clips that a day may bring are used up")
        sure_s = found.uncertainty_ns / NS_PER_S
        return Answer("accepted", f"{told}, its time right within {sure_s:.2f} s", name)

    def look(self, accepted: Reply, now_ns: int) -> Answer | None:
        """Say what the signed package holds; None while it grows."""
        folder = self._packages / str(accepted.incident)
        incident = look_at(folder)
        if incident is None:
            return None if folder.exists() else Answer("failed", "its package is gone")
        try:
            read = read_manifest(folder) if incident.signed else None
        except (verifier.BadError, verifier.UnreadableError):
            return None  # the packager tells and makes it anew
        if read is None or not read[0]["complete"]:
            return None
        lacking = "; ".join(f"{gone['what']}: {gone['why']}" for gone in read[0]["missing"])
        if not any(folder.glob(CLIP)):
            return Answer("failed", lacking or "nothing was filmed then")
        return Answer("done", f"{accepted.detail}; missing: {lacking}" if lacking else accepted.detail)
