"""Build the guest: Debian 12 with its own kernel on an ext4 image, without loop devices or mounts.

Steps: a root folder by mmdebstrap, the kernel package unpacked beside it (nothing of initramfs-tools), modules that
Debian leaves out compiled from its own source, a small initrd, our settings, and `mkfs.ext4 -d`.
"""

import lzma
import shutil
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.kernel.cache import HERE, built, call, digest, need, root
from tests.kernel.errors import CannotBeHadError

INSIDE: Final = HERE / "inside"
EMULATOR: Final = {"amd64": "qemu-system-x86", "arm64": "qemu-system-arm"}
PACKAGES: Final = (
    "systemd,systemd-sysv,dbus,udev,kmod,iproute2,iputils-ping,nftables,procps,e2fsprogs,python3,python3-venv,"
    "can-utils,gpsd,mosquitto,mosquitto-clients,v4l-utils,i2c-tools,libiio-utils,sqlite3,socat,strace"
)
SIZE: Final = "4G"
# Of the kernel's modules only what a car's box has, and what tests of it want; their dependencies come along.
KEEP: Final = (
    "crypto/",
    "drivers/block/",
    "drivers/char/",
    "drivers/gpio/",
    "drivers/hwmon/",
    "drivers/i2c/",
    "drivers/iio/",
    "drivers/md/",
    "drivers/media/test-drivers/",
    "drivers/net/can/",
    "drivers/net/dummy",
    "drivers/net/ifb",
    "drivers/net/veth",
    "drivers/net/virtio_net",
    "drivers/power/",
    "drivers/rtc/",
    "drivers/virtio/",
    "drivers/watchdog/",
    "fs/9p/",
    "fs/configfs/",
    "fs/ext4/",
    "fs/fat/",
    "fs/nls/",
    "fs/overlayfs/",
    "fs/squashfs/",
    "lib/",
    "net/9p/",
    "net/can/",
    "net/ipv4/tcp_",
    "net/netfilter/",
    "net/sched/",
)
# Debian leaves these out of its kernel, so they are compiled from its source package.
EXTRA_SOURCES: Final = (
    "drivers/iio/dummy/*.[ch]",
    "drivers/iio/industrialio-sw-*.c",
    "drivers/iio/industrialio-configfs.c",
    "drivers/iio/trigger/iio-trig-hrtimer.c",
    "drivers/iio/trigger/iio-trig-sysfs.c",
    "drivers/gpio/gpio-sim.c",
    "drivers/gpio/gpiolib.h",
    "kernel/irq/irq_sim.c",
    "drivers/i2c/i2c-stub.c",
)
KBUILD: Final = """\
ccflags-y += -DCONFIG_IIO_SIMPLE_DUMMY_BUFFER=1 -DCONFIG_IIO_SIMPLE_DUMMY_EVENTS=1 -I$(src)
obj-m += industrialio-sw-device.o industrialio-sw-trigger.o industrialio-configfs.o iio-trig-hrtimer.o
obj-m += iio-trig-sysfs.o irq_sim.o iio_dummy_evgen.o iio_dummy.o gpio-sim.o
ifeq ($(CONFIG_I2C_STUB),)
obj-m += i2c-stub.o
endif
iio_dummy-y := iio_simple_dummy.o iio_simple_dummy_events.o iio_simple_dummy_buffer.o
"""
# Installed and not started, so that a test starts what it wants, in the order it wants.
DISABLED: Final = ("gpsd.socket", "gpsd.service", "mosquitto.service", "nftables.service")
# What only costs seconds in a guest that lives for minutes, and timesyncd, which no test may find at work.
MASKED: Final = (
    "getty.target",
    "getty@.service",
    "serial-getty@.service",
    "systemd-timesyncd.service",
    "systemd-logind.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-pstore.service",
    "systemd-networkd-wait-online.service",
    "systemd-firstboot.service",
    "systemd-machine-id-commit.service",
    "modprobe@drm.service",
    "modprobe@efi_pstore.service",
    "modprobe@dm_mod.service",
    "modprobe@fuse.service",
    "modprobe@loop.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-fs-fuse-connections.mount",
    "proc-sys-fs-binfmt_misc.automount",
    "ldconfig.service",
)


@dataclass(frozen=True, slots=True)
class Image:
    """What QEMU is given. `root` is never written: guests run on overlays."""

    arch: str
    folder: Path

    @property
    def kernel(self) -> Path:
        plain = self.folder / "vmlinux"
        return plain if plain.exists() else self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd"

    @property
    def root(self) -> Path:
        return self.folder / "root.img"

    @property
    def release(self) -> str:
        """The kernel's release, as `uname -r` says it."""
        return (self.folder / "release").read_text()


def image(arch: str) -> Image:
    """Return the guest of `arch`, built now unless it is in the cache; raise CannotBeHadError."""
    root()
    need(EMULATOR[arch], "qemu-utils")
    key = digest([Path(__file__), INSIDE])
    return Image(arch, built(arch, key, lambda folder: _Build(arch, folder).make()))


class _Build:
    """One build in `work`, which becomes the cached folder."""

    def __init__(self, arch: str, work: Path) -> None:
        self.arch, self.work = arch, work
        self.root, self.debs, self.tree = work / "root", work / "debs", work / "kernel"
        self.release = ""
        self.foreign = arch != call("dpkg", "--print-architecture").strip()
        self.cross = "aarch64-linux-gnu-" if self.foreign and arch == "arm64" else ""

    def make(self) -> None:
        if self.foreign and self.arch == "amd64":
            raise CannotBeHadError("an amd64 guest is only built on amd64")
        tools = ("mmdebstrap", "e2fsprogs", "busybox-static", "cpio", "xz-utils", "kmod", "debian-archive-keyring")
        need(*tools, "linux-source-6.1", "linux-kbuild-6.1", "make", "gcc", "libc6-dev")
        if self.foreign:
            need("qemu-user-static", "binfmt-support", "arch-test", "gcc-aarch64-linux-gnu")
            if not Path("/proc/sys/fs/binfmt_misc/status").exists():
                call("mount", "-t", "binfmt_misc", "none", "/proc/sys/fs/binfmt_misc")
            if not Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists():
                call("update-binfmts", "--enable", "qemu-aarch64")
        self.debian()
        self.modules()
        self.extra_modules()
        self.kernel()
        self.ramdisk()
        self.settings()
        call("truncate", "-s", SIZE, self.work / "root.img")
        lazy = "lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0"
        call("mkfs.ext4", "-q", "-F", "-L", "root", "-E", lazy, "-d", self.root, self.work / "root.img")
        for used in (self.root, self.debs, self.tree, self.work / "extra", self.work / "headers", self.work / "ram"):
            shutil.rmtree(used, ignore_errors=True)

    def debian(self) -> None:
        """Make the root folder, and fetch the kernel with the headers that belong to it."""
        self.debs.mkdir()
        fetch = self.work / "fetch"
        wanted = f"linux-image-{self.arch}"
        fetch.write_text(
            "#!/bin/sh\nset -e\n"
            f"cd {self.debs}\nexport APT_CONFIG=$MMDEBSTRAP_APT_CONFIG\n"
            f"image=$(apt-cache depends {wanted} | awk '/Depends: linux-image/{{print $2; exit}}')\n"
            "headers=linux-headers-${image#linux-image-}\n"
            "common=$(apt-cache depends $headers | awk '/Depends: linux-headers-.*-common/{print $2; exit}')\n"
            "apt-get -qq download $image $headers $common busybox-static\n"
        )
        fetch.chmod(0o755)
        without = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale", "icons", "info")]
        call(
            *("mmdebstrap", "--quiet", "--mode=root", f"--architectures={self.arch}", "--variant=minbase"),
            *(f"--include={PACKAGES}", '--aptopt=APT::Install-Recommends "false"'),
            *('--aptopt=Acquire::Languages "none"', "--dpkgopt=force-unsafe-io", *without),
            *(f"--customize-hook={fetch}", "bookworm", self.root),
        )
        fetch.unlink()
        for package in self.debs.glob("linux-image-*.deb"):
            call("dpkg-deb", "-x", package, self.tree)
        self.release = next((self.tree / "lib/modules").iterdir()).name
        (self.work / "release").write_text(self.release)

    def modules(self) -> None:
        """Copy the modules that are wanted, with all that they depend on."""
        source = self.tree / "lib/modules" / self.release
        call("depmod", "-b", self.tree, self.release)
        wanted: set[str] = set()
        for line in (source / "modules.dep").read_text().splitlines():
            name, _, needs = line.partition(":")
            if name.removeprefix("kernel/").startswith(KEEP):
                wanted |= {name, *needs.split()}
        target = self.root / "lib/modules" / self.release
        for name in wanted:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name)
        for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
            shutil.copy2(source / name, target / name)

    def extra_modules(self) -> None:
        """Compile what Debian leaves out, against its headers."""
        extra, headers = self.work / "extra", self.work / "headers"
        extra.mkdir()
        call(
            *("tar", "-C", extra, "-xJf", "/usr/src/linux-source-6.1.tar.xz", "--wildcards"),
            *("--transform=s|.*/||", *(f"*/{name}" for name in EXTRA_SOURCES)),
        )
        # irq_sim is part of the kernel upstream; irq_to_desc is not for modules, generic_handle_irq is
        simulator = extra / "irq_sim.c"
        text = simulator.read_text().replace("handle_simple_irq(irq_to_desc(", "generic_handle_irq((")
        simulator.write_text(f'#include <linux/module.h>\n{text}\nMODULE_LICENSE("GPL");\n')
        (extra / "Kbuild").write_text(KBUILD)
        for package in self.debs.glob("linux-headers-*.deb"):
            call("dpkg-deb", "-x", package, headers)
        build = headers / f"usr/src/linux-headers-{self.release}"
        makefile = build / "Makefile"
        makefile.write_text(makefile.read_text().replace("/usr/src/", f"{headers}/usr/src/"))
        (headers / "usr/lib").mkdir(parents=True, exist_ok=True)
        (headers / "usr/lib/linux-kbuild-6.1").symlink_to("/usr/lib/linux-kbuild-6.1")
        cross = ["ARCH=arm64", f"CROSS_COMPILE={self.cross}"] if self.cross else []
        call("make", "-s", "-C", build, f"M={extra}", *cross, "modules")
        place = self.root / "lib/modules" / self.release / "extra"
        place.mkdir()
        for module in extra.glob("*.ko"):
            call(f"{self.cross}strip", "--strip-debug", module)
            shutil.copy2(module, place)
        call("depmod", "-b", self.root, self.release)

    def kernel(self) -> None:
        packed = self.tree / f"boot/vmlinuz-{self.release}"
        shutil.copy2(packed, self.work / "vmlinuz")
        if self.arch == "amd64":  # boots through PVH, and saves seconds of emulated decompression
            (self.work / "vmlinux").write_bytes(unpacked_kernel(packed.read_bytes()))

    def ramdisk(self) -> None:
        ram = self.work / "ram"
        for name in ("bin", "dev", "proc", "sys", "root", "lib"):
            (ram / name).mkdir(parents=True)
        for package in self.debs.glob("busybox-static*.deb"):
            call("dpkg-deb", "-x", package, self.work / "busybox")
        shutil.copy2(self.work / "busybox/bin/busybox", ram / "bin/busybox")
        shutil.rmtree(self.work / "busybox")
        (ram / "bin/sh").symlink_to("busybox")
        listed: list[str] = []
        for name in ("virtio_pci", "virtio_mmio", "virtio_blk", "ext4", "crc32c_generic"):
            shown = call("modprobe", "-d", self.root, "-S", self.release, "--show-depends", name)
            listed += [line.split()[1] for line in shown.splitlines() if line.startswith("insmod")]
        for module in dict.fromkeys(listed):
            shutil.copy2(module, ram / "lib")
        names = [f"/lib/{Path(module).name}\n" for module in dict.fromkeys(listed)]
        (ram / "modules").write_text("".join(names))
        shutil.copy2(INSIDE / "init", ram / "init")
        (ram / "init").chmod(0o755)
        call("sh", "-c", f"find . | cpio -o -H newc --quiet > {self.work}/initrd", cwd=ram)

    def settings(self) -> None:
        """Make it a box without a person at it: our hand, a card, quiet units, a journal that outlives power cuts."""
        etc, units = self.root / "etc", self.root / "etc/systemd/system"
        shutil.copy2(INSIDE / "hand.py", self.root / "usr/local/sbin/hand.py")
        shutil.copy2(INSIDE / "hand@.service", units)
        shutil.copy2(INSIDE / "70-hand.rules", etc / "udev/rules.d")
        shutil.copy2(INSIDE / "10-bench.network", etc / "systemd/network")
        (etc / "fstab").write_text("LABEL=root / ext4 defaults,noatime 0 1\ntmpfs /tmp tmpfs mode=1777,size=50% 0 0\n")
        (etc / "hostname").write_text("box\n")
        (etc / "hosts").write_text("127.0.0.1 localhost box\n")
        for empty in ("resolv.conf", "machine-id"):
            (etc / empty).unlink(missing_ok=True)
            (etc / empty).write_text("")
        (etc / "systemd/journald.conf.d").mkdir(exist_ok=True)
        (etc / "systemd/journald.conf.d/bench.conf").write_text("[Journal]\nStorage=persistent\nSystemMaxUse=32M\n")
        for place in ("mnt/site", "mnt/product", "mnt/share", "mnt/data"):
            (self.root / place).mkdir()
        (self.root / "usr/local/lib/python3.11/dist-packages/bench.pth").write_text("/mnt/product\n/mnt/site\n")
        started = self.root / "usr/local/bin/roadwitness"
        started.write_text('#!/bin/sh\nexec python3 -m agent "$@"\n')
        started.chmod(0o755)
        offline = f"--root={self.root}"
        call("systemctl", offline, "enable", "systemd-networkd.service")
        call("systemctl", offline, "disable", *DISABLED)
        call("systemctl", offline, "mask", *MASKED)
        call("chroot", self.root, "passwd", "-d", "root")


def unpacked_kernel(packed: bytes) -> bytes:
    """Return the ELF kernel inside a bzImage (Documentation/x86/boot.rst: setup_sects, payload_offset and _length)."""
    sectors = packed[0x1F1] or 4
    offset, length = struct.unpack_from("<II", packed, 0x248)
    payload = packed[(sectors + 1) * 512 + offset :][:length]
    if payload[:6] == b"\xfd7zXZ\0":
        return lzma.LZMADecompressor().decompress(payload)
    if payload[:2] == b"\x1f\x8b":
        return zlib.decompressobj(31).decompress(payload)
    raise CannotBeHadError(f"the kernel is packed in a way not known here: {payload[:6]!r}")
