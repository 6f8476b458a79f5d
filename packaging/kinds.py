"""What is built: packages, architectures and the releases of Debian that they are for, each one row of a table."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
HERE: Final = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Kind:
    """One binary package: its Python code and libraries, and the files of `systemd/` and `config/` that it installs."""

    name: str
    code: tuple[str, ...]  # folders of the checkout
    extras: tuple[str, ...]  # of pyproject.toml
    settings: tuple[str, ...]  # files of config/ that become this machine's own in /etc/roadwitness
    files: tuple[tuple[str, str], ...]  # in systemd/, and where they go
    without: tuple[str, ...] = ()  # libraries that this package's code never loads
    needs: tuple[str, ...] = ()
    recommends: tuple[str, ...] = ()


_UNITS: Final = "usr/lib/systemd/system"
CHORES: Final = ("rate", "renewals", "retention")  # of the receiver, each a service and its timer

KINDS: Final = {
    "roadwitness": Kind(
        "roadwitness",
        ("agent", "drivers", "sim"),
        ("device",),
        ("agent.toml", "dashcam.toml"),
        (
            ("roadwitness-agent.service", _UNITS),
            ("roadwitness-dashcam.service", _UNITS),
            ("roadwitness-settle.service", _UNITS),
            ("roadwitness-update.service", _UNITS),
            ("roadwitness-update.timer", _UNITS),
            ("roadwitness-vault.service", _UNITS),
            ("70-roadwitness.rules", "usr/lib/udev/rules.d"),
            ("71-roadwitness-sensors.rules", "usr/lib/udev/rules.d"),
            ("sysusers.d/roadwitness.conf", "usr/lib/sysusers.d"),
            ("tmpfiles.d/roadwitness.conf", "usr/lib/tmpfiles.d"),
            ("network/80-roadwitness-can0.network", "usr/lib/systemd/network"),
            ("polkit-1/50-roadwitness.rules", "usr/share/polkit-1/rules.d"),
            ("system.conf.d/50-roadwitness.conf", "usr/lib/systemd/system.conf.d"),
        ),
        recommends=("gpsd", "polkitd | policykit-1"),
    ),
    "roadwitness-receiver": Kind(
        "roadwitness-receiver",
        ("agent", "receiver"),
        ("receiver",),
        ("receiver.toml",),
        (
            ("roadwitness-receiver.service", _UNITS),
            *((f"roadwitness-{chore}.{kind}", _UNITS) for chore in CHORES for kind in ("service", "timer")),
            ("sysusers.d/roadwitness.conf", "usr/lib/sysusers.d"),
            ("tmpfiles.d/roadwitness.conf", "usr/lib/tmpfiles.d"),
        ),
        without=("numba", "llvmlite", "python-can", "wrapt"),
        recommends=("mosquitto", "postgresql"),
    ),
}

# Debian's name -> the machine in names of wheels
ARCHITECTURES: Final = {"amd64": "x86_64", "arm64": "aarch64"}

REFUSED: Final = {
    "armhf": "numba, llvmlite and msgspec have no builds for 32-bit ARM; install the 64-bit Raspberry Pi OS and use "
    "ARCH=arm64 (a Pi 3 and everything later runs it)",
}

# Debian's release -> its Python; Raspberry Pi OS has the same names
SUITES: Final = {"bookworm": "3.11", "trixie": "3.13"}
# glibc of the oldest suite is 2.36: wheels for it and for older ones work
GLIBC: Final = ("2_17", "2_27", "2_28", "2_31", "2_34", "2_35", "2_36")
