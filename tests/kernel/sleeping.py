"""A guest in the middle of its work, kept with its memory and its disks, to go on from there any number of times.

Waking takes half a second where a boot takes ten. QEMU's own snapshots (savevm) want every disk to be qcow2; here its
memory goes to a file as in a migration, and the disks are copied while it stands still.
"""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent import clock
from agent.clock import NS_PER_S, monotonic_ns
from tests.kernel.cache import call
from tests.kernel.errors import GuestError
from tests.kernel.guest import Guest

LIMIT_S: Final = 120.0
QUICK: Final = 1 << 40  # bytes a second


@dataclass(frozen=True)
class Asleep:
    """What was kept; `disk` is the file of the guest's data disk, which waking replaces."""

    folder: Path
    disk: Path

    def wake(self, guest: Guest) -> None:
        """Let the guest, which is off, go on from where it was when this was kept."""
        root = guest.folder / "root.qcow2"
        root.unlink(missing_ok=True)
        call("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", self.folder / "root.qcow2", root)
        call("cp", "--sparse=always", self.folder / "data.img", self.disk)
        guest.power_on("-incoming", "defer")
        # the hand is connected already: its port in the guest never sees the host gone
        guest.qmp("migrate-set-parameters", **{"max-bandwidth": QUICK})
        guest.qmp("migrate-incoming", uri=f"exec:cat {self.folder / 'memory'}")
        _until_migrated(guest)
        guest.qmp("cont")


def keep(guest: Guest, disk: Path, folder: Path) -> Asleep:
    """Stop a guest, keep what it is, and let it go on; no host folder may be mounted in it."""
    folder.mkdir()
    guest.qmp("stop")
    guest.qmp("migrate-set-parameters", **{"max-bandwidth": QUICK})
    guest.qmp("migrate", uri=f"exec:cat > {folder / 'memory'}")
    _until_migrated(guest)
    call("cp", "--sparse=always", guest.folder / "root.qcow2", folder / "root.qcow2")
    call("cp", "--sparse=always", disk, folder / "data.img")
    guest.qmp("cont")
    return Asleep(folder, disk)


def _until_migrated(guest: Guest) -> None:
    ends_ns = monotonic_ns() + round(LIMIT_S * NS_PER_S)
    never = threading.Event()
    while (told := guest.qmp("query-migrate")).get("status") != "completed":
        if told.get("status") == "failed" or monotonic_ns() > ends_ns:
            raise GuestError(f"its memory does not move: {told} {guest.console()}")
        clock.wait(never, 0.02)
