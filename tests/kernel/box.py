"""The box as a technician leaves it: the Debian package installed in a guest, with a car of the kernel's own modules.

The car: a LIS3DH on a stub of an I2C bus, a trigger of 100 Hz, and an ignition line; a unit of the bench makes them at
each boot, before the agent.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.kernel.cache import CHECKOUT, HERE, built, call, digest
from tests.kernel.guest import Guest

BUILT_FROM: Final = ("agent", "drivers", "sim", "config", "systemd", "packaging", "pyproject.toml", "constraints.txt")
# What the package recommends, and Debian's minimal system lacks.
POLKIT: Final = (
    *("polkitd", "libpolkit-agent-1-0", "libpolkit-gobject-1-0", "libduktape207", "libglib2.0-0", "libexpat1"),
    *("xml-core", "sgml-base", "libpam-systemd"),
)
INSTALL_S: Final = 900.0
CONFIG: Final = """\
[consent]
sheet = "bench"

[power]
key_off_s = 5.0
parked_h = 0.001
shutdown = ["systemctl", "poweroff"]

[drivers.imu.box]
device = "lis3dh"
trigger = "t0"

[drivers.power.board]
ignition = "gpio:gpiochip0/3"
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
ExecStart=/bin/sh /root/car.sh

[Install]
WantedBy=multi-user.target
"""


def packages() -> Path:
    """Return the folder with the product's package, and with those that it recommends."""
    key = digest([Path(__file__), *(CHECKOUT / name for name in BUILT_FROM)])

    def make(work: Path) -> None:
        build = CHECKOUT / "packaging/build.py"
        call(sys.executable, build, "--level", "0", "--out", work / "packed")
        # the same files without compression: unpacking xz takes minutes under emulation
        (deb,) = (work / "packed").glob("*.deb")
        call("dpkg-deb", "-R", deb, work / "tree")
        call("dpkg-deb", "--root-owner-group", "-Znone", "--build", work / "tree", work / deb.name)
        for used in ("packed", "tree"):
            shutil.rmtree(work / used)
        call("apt-get", "-qq", "download", *POLKIT, cwd=work)

    return built("packages-amd64", key, make)


def installed(new_guest: Callable[..., Guest]) -> Guest:
    """Return a booted guest with the package installed, and its car."""
    guest = new_guest(share=packages())
    guest.boot()
    guest.run("systemctl unmask systemd-logind.service")
    guest.put("/root/car.sh", (HERE / "programs/car.sh").read_bytes())
    guest.put("/etc/systemd/system/bench-car.service", CAR)
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
    guest.run("dpkg --force-confold --configure roadwitness", limit_s=INSTALL_S)
    return guest
