"""The Pi's architecture: the Debian package and the doctor."""

import json
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.kernel.asking import uptime
from tests.kernel.box import AGENT, PATIENT, READY, VAULT
from tests.kernel.cache import CHECKOUT, HERE, built, call, digest
from tests.kernel.conftest import Figure, NewGuest
from tests.kernel.guest import Guest

pytestmark = pytest.mark.arch("arm64")

LIMIT_S: Final = 1800.0
BUILT_FROM: Final = ("agent", "drivers", "config", "systemd", "packaging", "pyproject.toml", "constraints.txt")

CONFIG: Final = """\
[consent]
sheet = "bench"

[drivers.canbus.can0]
profile = "toyota-rav4"
"""


def test_the_doctor_finds_the_board_and_its_store_well(guest: Guest) -> None:
    guest.run("sh -c 'roadwitness config check'", limit_s=LIMIT_S)
    doctor = guest.run("roadwitness doctor --only storage --json", check=False, limit_s=LIMIT_S)
    assert json.loads(doctor.out)["findings"], doctor.err
    assert guest.run("uname -m").out.strip() == "aarch64"


def packed(arch: str) -> Path:
    """Return the folder with the product's package."""

    def make(work: Path) -> None:
        call(sys.executable, CHECKOUT / "packaging/build.py", "roadwitness", "--arch", arch, "--plain", "--out", work)

    key = digest([Path(__file__), *(CHECKOUT / name for name in BUILT_FROM)])
    return built(f"package-{arch}", key, make)


def compiled(guest: Guest) -> str:
    """Return the files of machine code of the agent's user, with their times."""
    return guest.run("cd /var/lib/roadwitness/.cache/numba && find -name '*.nb[ic]' -printf '%P %T@\\n' | sort").out


def test_the_package_is_installed_and_its_agent_starts_without_compiling(
    new_guest: NewGuest, arch: str, figure: Figure
) -> None:
    """Its kernels are laid in place from the bench's cache: under emulation they compile for a quarter of an hour."""
    guest = new_guest(share=packed(arch))
    guest.boot()
    (name,) = guest.run("cd /mnt/share && ls *.deb").out.split()
    guest.run(f"dpkg --force-unsafe-io --unpack /mnt/share/{name}", limit_s=LIMIT_S)
    guest.run("systemd-sysusers roadwitness.conf && systemd-tmpfiles --create roadwitness.conf")
    guest.put("/root/lay_kernels.py", (HERE / "programs/lay_kernels.py").read_bytes())
    site = "$(echo /opt/roadwitness-*/lib/python3*/site-packages)"
    guest.run(f"python3 /root/lay_kernels.py /mnt/product {site} /var/lib/roadwitness")
    guest.run("chown -R roadwitness: /var/lib/roadwitness/.cache")
    laid = compiled(guest)
    assert laid.count(".nbc ") > 10
    guest.run(
        "rm /usr/local/bin/roadwitness /usr/local/lib/python3.11/dist-packages/bench.pth; umount /mnt/product /mnt/site"
    )
    guest.module("vcan")
    guest.run("ip link add can0 type vcan && ip link set can0 up")
    guest.put("/etc/roadwitness/agent.toml", CONFIG)
    for unit in (AGENT, VAULT):
        guest.put(f"/etc/systemd/system/{unit}.d/bench.conf", PATIENT)
    began = uptime(guest)
    guest.run("dpkg --force-confold --configure roadwitness", limit_s=LIMIT_S)
    figure("configuring the package, emulated, kernels compiled before", uptime(guest) - began, "s")
    assert guest.run("dpkg-query -W -f '${db:Status-Abbrev} ${Architecture}' roadwitness").out.split() == ["ii", arch]
    version = guest.run("dpkg-query -W -f '${Version}' roadwitness").out
    assert guest.run("roadwitness --version", limit_s=LIMIT_S).out.split() == ["roadwitness", version]
    units = "$(dpkg -L roadwitness | grep -E '/usr/lib/systemd/system/.*[.](service|timer)$')"
    assert guest.run(f"systemd-analyze verify --man=no {units} 2>&1 | grep -i roadwitness || true").out == ""
    guest.until(READY, LIMIT_S)
    assert compiled(guest) == laid  # neither `warm` of the installation nor the unit compiled anything anew
    began = uptime(guest)
    guest.run(f"systemctl restart {AGENT}", limit_s=LIMIT_S)
    guest.until(READY, LIMIT_S)
    figure("from a restart to an agent that is ready, emulated", uptime(guest) - began, "s")
    assert compiled(guest) == laid
