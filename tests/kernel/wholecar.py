"""A whole car in a guest: two CAN buses, inertial sensor, satellites, ignition, camera; agent and dashcam beside it.

Each program is a transient unit of systemd, so that the kernel counts its processor time and its memory.
"""

import json
import re
import shlex
import tomllib
from typing import Any, Final

from tests.kernel.asking import STATUS
from tests.kernel.cache import CHECKOUT, HERE
from tests.kernel.channel import Process
from tests.kernel.errors import GuestError
from tests.kernel.guest import Guest

LIMIT_S: Final = 1800.0
STORE: Final = "/var/lib/box"
AGENT: Final = """\
[consent]
sheet = "bench"

[broker]
url = "mqtt://127.0.0.1:1883"

[drivers.canbus.can0]
channel = "can0"
profile = "toyota-rav4"

[drivers.canbus.can1]
channel = "can1"

[drivers.gps.main]

[drivers.imu.box]
device = "lis3dh"
trigger = "t0"

[drivers.power.board]
ignition = "gpio:ignition/3"
"""
DASHCAM: Final = """\
min_free_bytes = 0

[cameras.front]
source = "/dev/video0"
width = 320
height = 180
fps = 5.0
encoder = "libx264"
bit_rate = 200_000
"""
NOTIFIES: Final = "--service-type=notify -p TimeoutStartSec=1800"
PROGRAMS: Final = {
    "mosquitto": ("mosquitto -p 1883", ""),
    "dashcam": (f"roadwitness dashcam --config /root/dashcam.toml --dir {STORE}/video", NOTIFIES),
    "agent": (f"roadwitness agent --config /root/agent.toml --store {STORE}", NOTIFIES),
}
LOSSES: Final = ("lost_in_queue", "lost", "dropped", "late")
WARM_S: Final = 10.0  # everything has been used once, and the kernels' compiler is let go
LOOKS: Final = 20  # half a second each: the agent looks at its counters once a second
SECTOR_BYTES: Final = 512  # fields and unit: the kernel's Documentation/block/stat.rst
SECTORS_WRITTEN: Final = 6
FLUSHES: Final = 15
SHARES: Final = ("Rss", "Pss", "Pss_Anon", "Pss_File", "Swap")


class Car:
    """The devices and programs of one guest."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.sent = {"decoded": 0, "radar": 0}
        guest.module("vcan", "can-raw", "vivid")
        guest.put("/root/car.sh", (HERE / "programs/car.sh").read_bytes())
        guest.put("/root/drive.py", (HERE / "programs/drive.py").read_bytes())
        guest.put("/root/agent.toml", AGENT)
        guest.put("/root/dashcam.toml", DASHCAM)
        # the bench lays the tree without an installer's note of it
        version = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
        note = f"Metadata-Version: 2.1\nName: roadwitness\nVersion: {version}\n"
        guest.put(f"/mnt/product/roadwitness-{version}.dist-info/METADATA", note)
        guest.run("sh -e /root/car.sh", limit_s=LIMIT_S)
        guest.run("for n in can0 can1; do ip link add $n type vcan && ip link set $n up; done")
        guest.run(f"mkdir -p {STORE}/video")

    def begin(self, seconds: int, *programs: str) -> Process:
        """Start gpsd and `programs`, wait until they are ready, and return the drive, which waits for a line."""
        self.guest.run("systemctl stop car-gpsd car-drive; systemctl reset-failed", check=False, limit_s=LIMIT_S)
        drive = self.guest.start(f"exec systemd-run -q --unit=car-drive --pipe python3 /root/drive.py {seconds}")
        drive.until(lambda: b"\n" in drive.out or drive.code is not None, LIMIT_S)
        self.unit("gpsd", f"gpsd -N -n {bytes(drive.out).decode().strip()}")
        for name in programs:
            if self.guest.run(f"systemctl is-active -q car-{name}", check=False).code:
                self.unit(name, *PROGRAMS[name])
        # ready is said before the devices are open: what is sent until then is nobody's
        ask = shlex.join(["python3", "-c", STATUS, f"{STORE}/agent.sock"])
        self.guest.until(f'{ask} | tee /dev/stderr | grep -Pq \'("state":"open".*){{5}}\'', LIMIT_S)
        return drive

    def go(self, process: Process) -> float:
        """Begin to drive; return the guest's time."""
        process.write(b"go\n")
        return self.now_s()

    def now_s(self) -> float:
        """Return the guest's time since its boot."""
        return float(self.guest.run("cut -d' ' -f1 /proc/uptime").out)

    def wait_until(self, at_s: float) -> None:
        """Wait for a time of the guest."""
        self.guest.until(f"awk -v s={at_s} '{{exit !($1 >= s)}}' /proc/uptime", LIMIT_S)

    def driven(self, process: Process) -> float:
        """Wait for the end of a drive that has begun; return how many seconds it took."""
        process.until_says("}", LIMIT_S)
        told = json.loads(bytes(process.out).split(b"\n")[1])
        for name in self.sent:
            self.sent[name] += told[name]
        return float(told["s"])

    def lost(self) -> dict[str, int]:
        """Return what the agent says it lost, by kind; raise GuestError unless all else that was sent is decoded."""
        wanted = {"canbus:can0": self.sent["decoded"], "canbus:can1": self.sent["radar"]}
        for _ in range(LOOKS):
            self.guest.run("sleep 0.5")
            counts = {device["name"]: device["counts"] for device in self.status()["devices"]}
            known = {name: counts[name].get("frames", 0) + counts[name].get("lost_in_queue", 0) for name in wanted}
            if known == wanted:
                return {kind: sum(of.get(kind, 0) for of in counts.values()) for kind in LOSSES}
        raise GuestError(f"sent {wanted}, decoded or told as lost {known}")

    def unit(self, name: str, command: str, how: str = "") -> None:
        """Run a program as a unit of its own, and wait until it says that it is ready, where it does."""
        counted = "-p MemoryAccounting=yes -p CPUAccounting=yes -p NotifyAccess=all"
        self.guest.run(f"systemd-run -q --unit=car-{name} {counted} {how} {command}", limit_s=LIMIT_S)

    def status(self) -> dict[str, Any]:
        """Ask the agent."""
        told = self.guest.run(["python3", "-c", STATUS, f"{STORE}/agent.sock"], limit_s=LIMIT_S).out
        return json.loads(told)  # type: ignore[no-any-return]

    def spent_s(self, *names: str) -> dict[str, float]:
        """Return the processor time of units so far, and the guest's time as `now`."""
        asked = " ".join(f"car-{name}" for name in names)
        show = f"systemctl show -p CPUUsageNSec --value {asked} | grep .; cut -d' ' -f1 /proc/uptime"
        *told, now = self.guest.run(show, limit_s=LIMIT_S).out.split()
        return {name: int(ns) / 1e9 for name, ns in zip(names, told, strict=True)} | {"now": float(now)}

    def driving_costs(self, process: Process, *names: str) -> dict[str, float]:
        """Drive; return processor time for each second of driving, the first WARM_S left out."""
        self.wait_until(self.go(process) + WARM_S)
        before = self.spent_s(*names)
        self.driven(process)
        after = self.spent_s(*names)
        seconds = after.pop("now") - before["now"]
        return {name: (s - before[name]) / seconds for name, s in after.items()}

    def memory_kib(self, name: str) -> dict[str, int]:
        """Return the main process's shares of memory, in KiB."""
        pid = self.guest.run(f"systemctl show -p MainPID --value car-{name}").out.strip()
        told = dict(re.findall(r"^(\w+): +(\d+) kB", self.guest.run(f"cat /proc/{pid}/smaps_rollup").out, re.M))
        return {share: int(told[share]) for share in SHARES}

    def disk(self) -> tuple[float, int, int]:
        """Return the guest's time, bytes written to its disk, and flushes of it, since its boot."""
        now, *told = self.guest.run("cut -d' ' -f1 /proc/uptime; cat /sys/class/block/vda/stat").out.split()
        return float(now), int(told[SECTORS_WRITTEN]) * SECTOR_BYTES, int(told[FLUSHES])
