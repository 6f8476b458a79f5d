"""A disk of a guest whose writes are recorded, and what somebody said while they were."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.clock import monotonic_ns, wait
from tests.kernel.cache import call
from tests.kernel.errors import CannotBeHadError, GuestError

DISK_MIB = 48
MOUNTED = "/mnt/data"
MOUNT = f"mkdir -p {MOUNTED} && mount /dev/disk/by-id/virtio-data {MOUNTED}"


class RecordedDisk:
    """An ext4 disk with the contents of a folder, and the log of what a guest writes to it; files lie in `folder`."""

    def __init__(self, folder: Path, contents: Path) -> None:
        self.disk, self.log = folder / "data.img", folder / "data.log"
        call("truncate", "-s", f"{DISK_MIB}M", self.disk)
        lazy = "lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0"
        call("mkfs.ext4", "-q", "-F", "-m", "0", "-E", lazy, "-d", contents, self.disk)
        self.begun = self.disk.read_bytes()
        self.log.touch()
        self.said: list[tuple[int, int, str]] = []  # a line, how long the log was when it came, and when that was
        self.car_ns = 0  # of the car's clock, as last said
        self._rest = b""

    @property
    def devices(self) -> list[str]:
        """Return what QEMU is told of it."""
        return [
            *("-blockdev", f"driver=file,node-name=f0,filename={self.disk}"),
            *("-blockdev", "driver=raw,node-name=r0,file=f0"),
            *("-blockdev", f"driver=file,node-name=l0,filename={self.log}"),
            *("-blockdev", "driver=blklogwrites,node-name=d0,file=r0,log=l0,log-super-update-interval=1"),
            *("-device", "virtio-blk-pci,drive=d0,serial=data"),
        ]

    def hear(self, output: bytes) -> None:
        """Take what a command in the guest prints, as it comes."""
        at, now_ns = self.log.stat().st_size, monotonic_ns()
        *lines, self._rest = (self._rest + output).split(b"\n")
        self.said += [(at, now_ns, line.decode()) for line in lines]
        for line in lines:
            if line.startswith(b"now "):
                self.car_ns = int(line.split()[1])

    def say(self, line: str) -> None:
        """Note what somebody outside the guest knows now."""
        self.said.append((self.log.stat().st_size, monotonic_ns(), line))


@contextmanager
def mounted(image: Path, at: Path) -> Iterator[str]:
    """Mount an image here, so that this kernel replays its journal; give what was wrong with it, or "".

    Where it cannot be mounted it is mended as a boot does, by e2fsck; "lost" is what even that does not mend.
    """
    at.mkdir(exist_ok=True)
    wrong = ""
    if refused := _mount(image, at):
        subprocess.run(["e2fsck", "-fy", str(image)], capture_output=True)
        wrong = f"mended: {refused}"
        if refused := _mount(image, at):
            yield f"lost: {refused}"
            return
    try:
        yield wrong
    finally:
        _unmount(at)


def _unmount(at: Path) -> None:
    """Unmount; for a moment a program that another thread starts may hold what this one had open there."""
    never = threading.Event()
    for _ in range(600):
        done = subprocess.run(["umount", str(at)], capture_output=True, text=True)
        if "busy" not in done.stderr:
            done.check_returncode()
            return
        wait(never, 0.05)
    raise GuestError(f"{at} stays busy: {done.stderr.strip()}")


def _mount(image: Path, at: Path) -> str:
    done = subprocess.run(["mount", "-o", "loop", str(image), str(at)], capture_output=True, text=True)
    if "loop" in done.stderr and "failed to setup" in done.stderr:
        raise CannotBeHadError("needs loop devices on this machine")
    return done.stderr.strip() or "refused" if done.returncode else ""
