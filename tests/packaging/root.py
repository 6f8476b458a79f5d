"""A clean Debian in a folder: made once by mmdebstrap, then unpacked for each test; programs run in it by chroot."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
BUILD = CHECKOUT / "build"

# systemd's part of the machine: it starts and stops the agent as the unit does, by its user and program. There is no
# systemd in a chroot; tests/kernel has a whole machine.
SYSTEMCTL = """#!/bin/sh
echo "$@" >>/run/systemctl.log
case "$*" in
*restart\\ roadwitness-agent.service)
    if [ -e /run/agent.pid ]; then
        kill "$(cat /run/agent.pid)" 2>/dev/null
        while kill -0 "$(cat /run/agent.pid)" 2>/dev/null; do sleep 0.1; done
    fi
    install -d -o roadwitness -g roadwitness -m 0755 /run/roadwitness  # RuntimeDirectory=
    setsid runuser -u roadwitness -- env HOME=/var/lib/roadwitness \\
        /opt/roadwitness/bin/roadwitness agent </dev/null >>/run/agent.log 2>&1 &
    echo $! >/run/agent.pid
    ;;
esac
exit 0
"""


def built(
    version: str, out: Path, *, source: Path = CHECKOUT, trust: Path | None = None, package: str = "roadwitness"
) -> Path:
    """Build a package as `version`, quickly packed; return it."""
    command = [sys.executable, str(source / "packaging" / "build.py"), package, "--version", version, "--out", str(out)]
    command += ["--level", "0", *(["--trust", str(trust)] if trust else [])]
    subprocess.run(command, check=True)
    return out / f"{package}_{version}_amd64.deb"


def needs(package: Path) -> list[str]:
    """Return the Debian packages that a package depends on."""
    said = subprocess.run(["dpkg-deb", "--field", package, "Depends"], capture_output=True, text=True, check=True)
    return [word.split()[0] for word in said.stdout.split(",")]


def base(wanted: list[str]) -> Path:
    """Return an archive of Debian 12 with what is `wanted` and nothing that nobody asked for; it is kept in build/."""
    digest = hashlib.sha256(" ".join(sorted(wanted)).encode()).hexdigest()[:12]
    archive = BUILD / f"bookworm-{digest}.tar"
    if not archive.exists():
        BUILD.mkdir(exist_ok=True)
        partial = archive.with_suffix(".part.tar")
        command = [
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            f"--include={','.join(wanted)}",
            "bookworm",
            str(partial),
        ]
        subprocess.run(command, check=True)
        partial.rename(archive)
    return archive


@dataclass
class Root:
    """A Debian in `folder`."""

    folder: Path

    def unpack(self, archive: Path) -> None:
        """Begin with a clean one."""
        self.folder.mkdir(parents=True)
        subprocess.run(["tar", "-C", self.folder, "-xf", archive], check=True)
        for name, kind in (("proc", "proc"), ("sys", "sysfs")):
            subprocess.run(["mount", "-t", kind, name, self.folder / name], check=True)
        subprocess.run(["mount", "--bind", "/dev", self.folder / "dev"], check=True)
        subprocess.run(["mount", "-t", "devpts", "-o", "ptmxmode=0666", "devpts", self.folder / "dev/pts"], check=True)
        # sensors of the virtual car are found by name on ptys of this machine: those of the chroot

    def remove(self) -> None:
        """Take the file systems off and remove the folder; a mount that stays keeps the folder."""
        for name in ("dev/pts", "dev", "sys", "proc"):
            subprocess.run(["umount", "--lazy", self.folder / name], check=False)
        if not any(str(self.folder) in line for line in Path("/proc/mounts").read_text().splitlines()):
            shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *command: str, timeout_s: float = 600.0) -> "subprocess.CompletedProcess[str]":
        """Run a program inside; both streams are its output."""
        inside = [
            "chroot",
            str(self.folder),
            "/usr/bin/env",
            "-i",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
        ]
        return subprocess.run(
            [*inside, "HOME=/root", "TERM=dumb", "DEBIAN_FRONTEND=noninteractive", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def ok(self, *command: str) -> str:
        """Run a program that has to succeed; return what it said."""
        done = self.run(*command)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
        return done.stdout

    def install(self, package: Path) -> float:
        """Install a package with dpkg alone; return the seconds that it took."""
        inside = self.folder / "root" / package.name
        os.link(package, inside) if package.stat().st_dev == self.folder.stat().st_dev else shutil.copy(package, inside)
        began = time.perf_counter()
        self.ok("dpkg", "--install", f"/root/{package.name}")
        inside.unlink()
        return time.perf_counter() - began

    def path(self, inside: str) -> Path:
        """Return where a file of the root stands outside."""
        return self.folder / inside.lstrip("/")
