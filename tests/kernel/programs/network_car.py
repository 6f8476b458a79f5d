"""Real sync of several cars with its shipped settings, each a process in the namespace of its own link.

Arguments: the folder of network_far.py and the cars' numbers. They are told by lines on stdin, `N clip BYTES`,
`N summaries COUNT`, `N crash`, and tell what changes as JSON lines; times are the kernel's monotonic seconds. All stop
at the end of the input.
"""

import ctypes
import hashlib
import itertools
import json
import os
import random
import sys
import threading
from pathlib import Path
from typing import Any

from agent.clock import NS_PER_S, monotonic_ns, wait
from agent.incident.folder import PACKAGES, write_files
from agent.link import BrokerSettings
from agent.records import Crash, Health, Package, PackageFile
from agent.sending import Sending
from agent.store import Store
from agent.uplink import SyncSettings

CLONE_NEWNET = 0x40000000
LOOK_S = 0.2

far, numbers = Path(sys.argv[1]), [int(word) for word in sys.argv[2:]]
pipes = {}
number = -1
for each in numbers:
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        os.close(write_end)
        number = each
        words = os.fdopen(read_end)
        break
    os.close(read_end)
    pipes[each] = os.fdopen(write_end, "w")
if number < 0:
    for line in sys.stdin:
        which, _, what = line.partition(" ")
        print(what, file=pipes[int(which)], end="", flush=True)
    for pipe in pipes.values():
        pipe.close()
    for _ in numbers:
        os.wait()
    sys.exit()
for pipe in pipes.values():
    pipe.close()

with open(f"/run/netns/car{number}") as space:
    if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
folder = far / f"car{number}"
store = Store.open(folder)
store.begin_boot("boot-1")
broker = BrokerSettings(
    url=f"mqtts://10.7.{number}.1:8883",
    ca=far / "authority/root.crt",
    certificate=folder / "tls.crt",
    key=folder / "tls.key",
)
sending = Sending(store, broker, SyncSettings(), "boot-1")
made, crashed = itertools.count(1), itertools.count(0xC0000000)


def clip(size: int) -> None:
    n = next(made)
    files = {f"clip-{n}.mp4": random.Random(number * 1000 + n).randbytes(size)}
    incident = f"{number:08x}{n:08x}"
    write_files(folder / PACKAGES / incident, files)
    named = [PackageFile(name=f, size=len(d), sha256=hashlib.sha256(d).hexdigest()) for f, d in files.items()]
    store.append([(monotonic_ns(), Package(incident=incident, t_ns=1, complete=True, files=named))])


def summaries(count: int) -> None:
    noise = random.Random(number)
    store.append(
        [
            (monotonic_ns(), Health(t_ns=monotonic_ns(), source="bench", state="ok", detail=noise.randbytes(100).hex()))
            for _ in range(count)
        ]
    )


def crash() -> None:
    noise = random.Random(number + 500)
    curve = [noise.randrange(-900, 0) for _ in range(60)]
    record = Crash(
        id=f"{number:08x}{next(crashed):08x}",
        kind="impact",
        t_ns=monotonic_ns(),
        known_ns=monotonic_ns(),
        complete=True,
        locked=True,
        number=1,
        since_previous_ns=None,
        delta_v_longitudinal_mps=-9.0,
        delta_v_lateral_mps=0.5,
        delta_v_mps=9.0,
        delta_v_max_ns=120_000_000,
        direction_deg=3.0,
        direction_clock=12,
        peak_mps2=210.0,
        clipped=False,
        roll_deg=None,
        curve_step_ms=5,
        curve_longitudinal_cmps=curve,
        curve_lateral_cmps=curve,
        speed_before_mps=13.0,
        speed_after_mps=4.0,
        confirmed_by=["speed_collapse"],
        sensors=["imu"],
        rate_hz=100.0,
        mount_confidence=0.9,
        rule="crash/1",
    )
    store.append([(monotonic_ns(), record)])


DO = {"clip": clip, "summaries": summaries}
ended = threading.Event()


def tell(what: dict[str, Any]) -> None:
    """Write a whole line at once: all cars share one output."""
    os.write(1, json.dumps({"car": number, "t": monotonic_ns() / NS_PER_S, **what}).encode() + b"\n")


def listen() -> None:
    for line in words:
        word, *rest = line.split()
        if word == "crash":
            crash()
        else:
            DO[word](int(rest[0]))
        sending.wake()
        tell({"did": line.strip(), "heads": store.heads()})
    ended.set()


threading.Thread(target=listen, daemon=True).start()
before = None
while not ended.is_set():
    now = sending.status
    files = now.files
    told = {
        "phase": now.phase,
        "trouble": now.trouble,
        "reason": now.reason,
        "acknowledged": store.positions(),
        "asked": now.asked,
        "held": files.held,
        "sent": files.sent,
        "again": files.again,
        "overdue": now.overdue + files.overdue,
        "left": sum(not p.acknowledged for p in store.uploads.packages()),
        "caught_up": sending.caught_up,
    }
    if told != before:
        before = told
        tell(told)
    wait(ended, LOOK_S)
sending.stop()
store.close()
