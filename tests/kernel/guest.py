"""One guest: boot it, run commands in it, give it files, pull its plug.

    with Guest("arm64", memory_mib=512) as guest:
        print(guest.run("uname -a").out)

Emulation only: where /dev/kvm opens on the machines that this was written on, it cannot run a stock kernel.
"""

import base64
import json
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from agent.clock import NS_PER_S, monotonic_ns
from tests.kernel.cache import CACHE, call
from tests.kernel.channel import Channel, Process, Result
from tests.kernel.errors import GuestError
from tests.kernel.image import image
from tests.kernel.product import disks

BOOT_S: Final = 600.0  # a boot takes 10 s on an idle machine; another may be busy with eight guests
COMMAND_S: Final = 120.0
# arch -> emulator, machine, processor, console
MACHINES: Final = {
    "amd64": ("qemu-system-x86_64", "q35", "max", "ttyS0"),
    "arm64": ("qemu-system-aarch64", "virt,gic-version=3", "cortex-a72", "ttyAMA0"),  # the Raspberry Pi 4's
}
# In QEMU 7.2 one boot in some hundred hangs for ever: "soft lockup … [cryptomgr_test]" before cryptomgr.notests, and
# later "… [kworker/0:2]" on arm64. A kernel that hangs for a minute says where, and ends.
HANGS: Final = "soft lockup"
KERNEL_LINE: Final = (
    "net.ifnames=0 quiet loglevel=3 panic=-1 mitigations=off audit=0 systemd.show_status=no cryptomgr.notests "
    "softlockup_panic=1 watchdog_thresh=30"
)
MOUNTS: Final = {
    "site": "mount -o ro,noatime /dev/disk/by-id/virtio-site /mnt/site",
    "product": "mount -o noatime /dev/disk/by-id/virtio-product /mnt/product",
    "share": "mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,ro share /mnt/share",
}


class Guest:
    """A machine of its own, with an own overlay over the image's root; `cut` and `boot` go on with the same disk.

    `product`: mount our Python libraries and the program of this checkout (tests.kernel.product; or two disks of
    yours), so that `roadwitness` and every `python3` find them. `share`: a host folder, read-only on /mnt/share.
    `root`: begin from this overlay of the image's root (qcow2), which is not written either.
    `disk`: a raw image as a second disk, /dev/disk/by-id/virtio-data. `icount`: guest time counts instructions,
    2^icount ns each, with one processor, so that the CPU time of a program repeats whatever the host does. `rtc`: what
    the board's clock says at its start, as QEMU's -rtc base=. `devices`: further arguments of QEMU. `line`: further
    words for the kernel.
    """

    def __init__(
        self,
        arch: str = "amd64",
        *,
        root: Path | None = None,
        product: bool | tuple[Path, Path] = True,
        memory_mib: int = 1024,
        cpus: int = 2,
        share: Path | None = None,
        disk: Path | None = None,
        icount: int | None = None,
        rtc: str = "",
        devices: Sequence[str] = (),
        line: str = "",
    ) -> None:
        self.arch = arch
        self.image = image(arch)
        self.memory_mib, self.cpus = memory_mib, 1 if icount is not None else cpus
        self.icount = icount
        self.boot_s = 0.0  # from power on to the first answer, by the host's clock
        self.hung = ""  # what the kernel said of a boot in which it hung
        self._share, self._disk, self._rtc = share, disk, rtc
        self._devices, self._line = tuple(devices), line
        self._site: Path | None = None
        self._product: Path | None = None
        if isinstance(product, tuple):
            self._site, self._product = product
        elif product:
            self._site, self._product = disks(arch)
        runs = CACHE / "run"
        runs.mkdir(exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{arch}.", dir=runs))
        backing = ["-F", "qcow2", "-b", str(root)] if root else ["-F", "raw", "-b", str(self.image.root)]
        call("qemu-img", "create", "-q", "-f", "qcow2", *backing, self.folder / "root.qcow2")
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None

    # power

    def boot(self, limit_s: float = BOOT_S) -> None:
        """Power on and wait until commands run, once more where the kernel hangs; raise GuestError with the console."""
        self.power_on()
        try:
            self.wait_for_hand(limit_s)
        except GuestError:
            said = (self.folder / "console.log").read_text(errors="replace")
            self.hung = next((line for line in said.splitlines() if HANGS in line), "")
            if not self.hung:
                raise
            (CACHE / f"hung-{self.folder.name}.log").write_text(said)  # where it hung, for whoever looks for why
            self.cut()
            self.power_on()
            self.wait_for_hand(limit_s)
        self.mount()

    def power_on(self, *words: str) -> None:
        """Power on and wait for nothing but QEMU's sockets; `words` are further arguments of QEMU, this time."""
        if self.is_on:
            raise GuestError("the guest is on already")
        for left in ("hand.sock", "qmp.sock"):
            (self.folder / left).unlink(missing_ok=True)
        self._began_ns = monotonic_ns()
        with (self.folder / "qemu.log").open("ab") as log:
            # setpriv: a test run that is killed leaves no machine behind
            command = ["setpriv", "--pdeathsig", "KILL", *self._command(), *words]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._wait(lambda: (self.folder / "hand.sock").exists() and self._connects(), 60.0, "QEMU does not start")

    def wait_for_hand(self, limit_s: float = BOOT_S) -> None:
        """Wait until the guest runs commands."""
        greeted = 0

        def answers() -> bool:
            nonlocal greeted
            greeted += 1
            channel = self._connected()
            channel.greet(greeted)
            return channel.until(lambda: channel.answered(1), 0.5)

        self._wait(answers, limit_s, f"no command runs after {limit_s:g} s")
        self.boot_s = (monotonic_ns() - self._began_ns) / NS_PER_S

    def mount(self) -> None:
        """Mount what was given on /mnt."""
        given = {"site": self._site, "product": self._product, "share": self._share}
        lines = [MOUNTS[name] for name, what in given.items() if what]
        if lines:
            self.run("udevadm settle; " + " && ".join(lines))

    def cut(self) -> None:
        """Pull the plug: what the guest had not handed to its disks is lost."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def off(self, limit_s: float = 120.0) -> None:
        """Shut down in order; raise GuestError when it takes longer."""
        assert self._process is not None
        self._connected().start("systemctl poweroff --no-block")
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired as error:
            raise GuestError(f"does not shut down in {limit_s:g} s: {self.console()}") from error
        self.cut()

    def reboot(self) -> None:
        """Shut down in order and boot from the same disk."""
        self.off()
        self.boot()

    @property
    def is_on(self) -> bool:
        return self._process is not None and self._process.poll() is None

    # inside

    def run(
        self,
        command: str | list[str],
        *,
        stdin: bytes = b"",
        check: bool = True,
        limit_s: float = COMMAND_S,
        cwd: str = "",
        env: dict[str, str] | None = None,
    ) -> Result:
        """Run a shell line (bash) or a program as root; raise GuestError unless it ends with 0, or `check` is false."""
        process = self.start(command, cwd=cwd, env=env)
        process.write(stdin, eof=True)
        result = process.wait(limit_s)
        if check and result.code:
            said = (result.err or result.out)[-3000:]
            raise GuestError(f"ended with {result.code}: {process.command}\n{said}")
        return result

    def start(
        self,
        command: str | list[str],
        *,
        cwd: str = "",
        env: dict[str, str] | None = None,
        on_output: Callable[[bytes], None] | None = None,
    ) -> Process:
        """Start a command and go on; any number may run."""
        return self._connected().start(command, cwd, env, on_output)

    def adopt(self, process: Process, on_output: Callable[[bytes], None] | None = None) -> Process:
        """Go on with a command that ran when the guest's memory was taken (tests.kernel.sleeping)."""
        return self._connected().adopt(process, on_output)

    def until(self, command: str, limit_s: float = 60.0) -> Result:
        """Run a shell line in the guest until it ends with 0; raise GuestError with what it said last."""
        wait = f"until ( {command} ) >/tmp/.until 2>&1; do sleep 0.2; done; cat /tmp/.until"
        try:
            return self.run(wait, limit_s=limit_s)
        except GuestError as error:
            raise GuestError(f"{error}\nlast: {self.run('cat /tmp/.until', check=False).out[-2000:]}") from error

    def put(self, path: str, content: bytes | str, mode: int = 0o644) -> None:
        """Write a file of the guest, with the folders above it."""
        data = content.encode() if isinstance(content, str) else content
        write = 'mkdir -p "$(dirname "$0")" && cat > "$0" && chmod "$1" "$0"'
        self.run(["/bin/sh", "-c", write, path, f"{mode:o}"], stdin=data)

    def copy(self, source: Path, path: str) -> None:
        """Copy a host file or the contents of a host folder to `path` of the guest."""
        if source.is_file():
            self.put(path, source.read_bytes(), source.stat().st_mode & 0o777)
            return
        packed = subprocess.run(
            ["tar", "-C", str(source), "--exclude=__pycache__", "-cf", "-", "."], check=True, capture_output=True
        )
        self.run(["/bin/sh", "-c", 'mkdir -p "$0" && tar -C "$0" -xf -', path], stdin=packed.stdout)

    def get(self, path: str) -> bytes:
        """Return a file of the guest."""
        return base64.b64decode(self.run(["base64", "-w0", path]).out)

    def module(self, *names: str) -> None:
        """Load modules of the kernel."""
        self.run(["modprobe", "-a", *names])

    @property
    def boot_id(self) -> str:
        """The kernel's id of this boot."""
        return self._connected().boot

    # outside

    def qmp(self, name: str, /, **arguments: Any) -> Any:
        """Ask QEMU itself; e.g. qmp("set_link", name="net0", up=False) pulls the network's cable."""
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(60.0)
            asked.connect(str(self.folder / "qmp.sock"))
            with asked.makefile("rw") as lines:
                lines.readline()
                answer: dict[str, Any] = {}
                for message in ({"execute": "qmp_capabilities"}, {"execute": name, "arguments": arguments}):
                    lines.write(json.dumps(message) + "\n")
                    lines.flush()
                    answer = json.loads(lines.readline())
                    while "event" in answer:
                        answer = json.loads(lines.readline())
        if "error" in answer:
            raise GuestError(f"QEMU refuses {name}: {answer['error'].get('desc')}")
        return answer.get("return")

    def console(self) -> str:
        """The end of what the kernel and QEMU said."""
        said = ""
        for name in ("console.log", "qemu.log"):
            path = self.folder / name
            said += path.read_text(errors="replace")[-2000:] if path.exists() else ""
        return said

    def close(self) -> None:
        """End it at once and remove its disk."""
        self.cut()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.boot()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # what QEMU is told

    def _command(self) -> list[str]:
        program, machine, processor, console = MACHINES[self.arch]
        threads = "multi" if self.icount is None else "single"
        words = [program, "-machine", machine, "-accel", f"tcg,thread={threads}", "-cpu", processor]
        words += ["-m", str(self.memory_mib), "-smp", str(self.cpus), "-nodefaults", "-display", "none", "-no-reboot"]
        words += ["-kernel", str(self.image.kernel), "-initrd", str(self.image.initrd)]
        words += ["-append", f"console={console} {KERNEL_LINE} {self._line}"]
        words += ["-serial", f"file:{self.folder}/console.log"]
        words += ["-qmp", f"unix:{self.folder}/qmp.sock,server=on,wait=off"]
        words += ["-drive", f"if=none,id=root,format=qcow2,file={self.folder}/root.qcow2,discard=unmap"]
        words += ["-device", "virtio-blk-pci,drive=root", "-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]
        words += ["-chardev", f"socket,id=hand,path={self.folder}/hand.sock,server=on,wait=off"]
        words += ["-device", "virtserialport,chardev=hand,name=hand"]
        words += ["-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,romfile="]
        words += ["-device", "i6300esb", "-action", "watchdog=reset"]
        for name, path, how in (
            ("site", self._site, "readonly=on"),
            ("product", self._product, "snapshot=on"),  # machine code that is compiled anew goes with the guest
            ("data", self._disk, "discard=unmap"),
        ):
            if path:
                words += ["-drive", f"if=none,id={name},format=raw,file={path},{how}"]
                words += ["-device", f"virtio-blk-pci,drive={name},serial={name}"]
        if self._share:
            words += ["-fsdev", f"local,id=share,path={self._share},security_model=none,readonly=on"]
            words += ["-device", "virtio-9p-pci,fsdev=share,mount_tag=share"]
        if self.icount is not None:
            words += ["-icount", f"shift={self.icount},sleep=on"]
        if self._rtc:
            words += ["-rtc", f"base={self._rtc}"]
        return [*words, *self._devices]

    def _connects(self) -> bool:
        try:
            self._channel = Channel(self.folder / "hand.sock")
        except OSError:
            return False
        return True

    def _connected(self) -> Channel:
        if self._channel is None:
            raise GuestError("the guest is off")
        return self._channel

    def _wait(self, condition: Callable[[], bool], limit_s: float, trouble: str) -> None:
        ends_ns = monotonic_ns() + round(limit_s * NS_PER_S)
        assert self._process is not None
        while not condition():
            if self._process.poll() is not None:
                raise GuestError(f"the machine ended while it started: {self.console()}")
            if monotonic_ns() > ends_ns:
                raise GuestError(f"{trouble}: {self.console()}")
            try:
                self._process.wait(0.05)  # no busy loop
            except subprocess.TimeoutExpired:
                continue
