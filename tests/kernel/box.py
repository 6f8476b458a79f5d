"""The box as a technician leaves it: the Debian package installed in a guest, with a car of the kernel's own modules.

The car: a LIS3DH on a stub of an I2C bus, a trigger of 100 Hz, an ignition line, a virtual CAN bus; a unit of the bench
makes them at each boot, before the agent. The disk with all of it is a piece of the cache: a test begins with a boot.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from agent.clock import NS_PER_S, monotonic_ns
from tests.kernel.cache import CHECKOUT, HERE, built, call, digest
from tests.kernel.errors import CannotBeHadError
from tests.kernel.guest import Guest
from tests.kernel.image import image

BUILT_FROM: Final = ("agent", "drivers", "sim", "config", "systemd", "packaging", "pyproject.toml", "constraints.txt")
# What the package recommends, and Debian's minimal system lacks.
POLKIT: Final = (
    *("polkitd", "libpolkit-agent-1-0", "libpolkit-gobject-1-0", "libduktape207", "libglib2.0-0", "libexpat1"),
    *("xml-core", "sgml-base", "libpam-systemd"),
)
LIMIT_S: Final = 1200.0
INSTALL_S: Final = 1800.0
AGENT: Final = "roadwitness-agent.service"
DASHCAM: Final = "roadwitness-dashcam.service"
VAULT: Final = "roadwitness-vault.service"
SOCKET: Final = "/run/roadwitness/agent.sock"
STORE: Final = "/var/lib/roadwitness/store.db"
READY: Final = f"systemctl is-active --quiet {AGENT} && test -S {SOCKET}"
CONFIG: Final = """\
[consent]
sheet = "bench"

[power]
key_off_s = 5.0
flush_s = 5.0
shutdown = ["systemctl", "poweroff"]

[drivers.imu.box]
device = "lis3dh"
trigger = "t0"

[drivers.power.board]
ignition = "gpio:ignition/3"

[drivers.canbus.can0]
profile = "toyota-rav4"
"""
CAR: Final = """\
[Unit]
Description=The bench's car
DefaultDependencies=no
After=systemd-modules-load.service systemd-udevd.service local-fs.target
Before=roadwitness-agent.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /etc/bench/car.sh
ExecStart=/sbin/modprobe -a vcan can-raw
ExecStart=/bin/ip link add can0 type vcan

[Install]
WantedBy=multi-user.target
"""

# A busy machine that emulates takes minutes to start a Python; how long anything takes is judged nowhere here.
PATIENT: Final = "[Service]\nTimeoutStartSec=900\n"


def packages() -> Path:
    """Return the folder with the product's package, and with those that it recommends."""
    key = digest([*POLKIT, *(CHECKOUT / name for name in BUILT_FROM)])

    def make(work: Path) -> None:
        # not compressed: unpacking xz takes minutes under emulation
        call(sys.executable, CHECKOUT / "packaging/build.py", "--plain", "--out", work)
        call("apt-get", "-qq", "download", *POLKIT, cwd=work)

    return built("packages-amd64", key, make)


def disk() -> Path:
    """Return the disk on which the package is installed."""
    packed, under = packages(), image("amd64").root
    # an overlay holds for the very file that it was made over, and not for one that was built again
    ours = [Path(__file__), HERE / "programs/car.sh", HERE / "programs/lay_kernels.py"]
    key = digest([*ours, packed.name, str(under), str(under.stat().st_mtime_ns)])

    def make(work: Path) -> None:
        guest = Guest("amd64", share=packed)
        try:
            guest.boot()
            began_ns = monotonic_ns()
            _install(guest)
            guest.put("/etc/bench/seconds", f"{(monotonic_ns() - began_ns) / NS_PER_S:.0f}")
            guest.off()
            shutil.move(guest.folder / "root.qcow2", work / "root.qcow2")
        finally:
            guest.close()

    return built("box-amd64", key, make) / "root.qcow2"


def _install(guest: Guest) -> None:
    guest.run("systemctl unmask systemd-logind.service")
    guest.put("/etc/bench/car.sh", (HERE / "programs/car.sh").read_bytes())
    guest.put("/etc/systemd/system/bench-car.service", CAR)
    for unit in (AGENT, DASHCAM, VAULT):
        guest.put(f"/etc/systemd/system/{unit}.d/bench.conf", PATIENT)
    guest.run("systemctl enable --now bench-car.service")
    guest.run("dpkg --force-unsafe-io -i $(ls /mnt/share/*.deb | grep -v roadwitness_)", limit_s=INSTALL_S)
    guest.run("dpkg --force-unsafe-io --unpack /mnt/share/roadwitness_*.deb", limit_s=INSTALL_S)
    guest.put("/etc/roadwitness/agent.toml", CONFIG)
    # machine code of the bench's cache in place of a quarter of an hour of compiling under emulation
    guest.run("systemd-sysusers roadwitness.conf && systemd-tmpfiles --create roadwitness.conf")
    guest.put("/root/lay_kernels.py", (HERE / "programs/lay_kernels.py").read_bytes())
    site = "$(echo /opt/roadwitness-*/lib/python3*/site-packages)"
    guest.run(f"python3 /root/lay_kernels.py /mnt/product {site} /var/lib/roadwitness")
    guest.run("chown -R roadwitness: /var/lib/roadwitness/.cache")
    # what the bench has for others, and this box has not
    guest.run("rm /usr/local/bin/roadwitness /usr/local/lib/python3.11/dist-packages/bench.pth")
    said = guest.run("dpkg --force-confold --configure roadwitness 2>&1", limit_s=INSTALL_S).out
    guest.put("/etc/bench/configured", said)
    guest.until(READY, LIMIT_S)


def installed(new_guest: Callable[..., Guest], **options: object) -> Guest:
    """Return a booted guest with the package installed, its car, and the agent ready."""
    try:
        root = disk()
    except CannotBeHadError as trouble:
        pytest.skip(str(trouble))
    guest = new_guest(root=root, product=False, **options)
    guest.boot()
    guest.until(READY, LIMIT_S)
    return guest
