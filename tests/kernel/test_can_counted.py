"""What CAN costs, in instructions, and recorded drives over the kernel's bus beside their replay.

Time counts instructions here (half a billion a second, 0.7 of a Zero 2 W): a busy host makes the run longer and changes
nothing in it.
"""

import json
import lzma
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.kernel.cache import CHECKOUT, HERE
from tests.kernel.can import with_vcan
from tests.kernel.conftest import Figure
from tests.kernel.guest import Guest

MACHINE: Final = {"icount": 1}
INSTRUCTIONS_PER_S: Final = 1e9 / 2
LIMIT_S: Final = 3000.0
SECONDS: Final = 5
FULL: Final = 4000  # frames/s: a bus of 500 kbit/s
BOTH: Final = 2000  # frames/s that python-can follows on this machine, beside the program that sends them
CANS: Final = CHECKOUT.parent / "shared/data/can"


@pytest.fixture(scope="module", autouse=True)
def _bus(guest: Guest) -> None:
    with_vcan(guest)


def cost(guest: Guest, program: str, rate: int) -> tuple[float, float]:
    """Return instructions a frame and the share of this processor while `program` decodes `rate` frames a second."""
    for file in (program, "flood.py"):
        guest.put(f"/root/{file}", (HERE / "programs" / file).read_bytes())
    reader = guest.start(f"exec python3 /root/{program} {rate * SECONDS}")
    reader.until_says("ready", LIMIT_S)
    guest.run(f"python3 /root/flood.py {rate} {SECONDS}", limit_s=LIMIT_S)
    told = json.loads(reader.wait(LIMIT_S).out.splitlines()[-1])
    assert told["frames"] >= rate * SECONDS * 0.9
    assert told["samples"] > told["frames"]
    return told["cpu_s"] * INSTRUCTIONS_PER_S / told["frames"], told["cpu_s"] / SECONDS


def test_what_a_frame_costs_beside_python_can_and_cantools(guest: Guest, figure: Figure) -> None:
    """At the same rate in the same boot; and what it costs the agent on a full bus."""
    costs: dict[tuple[str, int], float] = {}
    for name, program, rate in (
        ("python-can + cantools", "cost_pythoncan.py", BOTH),
        ("the agent", "cost_agent.py", BOTH),
        ("the agent", "cost_agent.py", FULL),
    ):
        each, share = cost(guest, program, rate)
        costs[name, rate] = each
        figure(f"{name}: a frame with its values, at {rate} frames/s", round(each), "instructions")
        figure(f"{name}: share of this processor", 100 * share, "%")
    ratio = costs["python-can + cantools", BOTH] / costs["the agent", BOTH]
    figure(f"python-can + cantools cost, at {BOTH} frames/s", ratio, "times as much")
    assert ratio > 1.0
    assert costs["the agent", FULL] < costs["the agent", BOTH]


@dataclass(frozen=True, slots=True)
class Recording:
    """A part of a recorded drive: what it is decoded by, which buses it has, and which seconds of it are driven."""

    path: Path
    profile: str
    buses: tuple[str, ...]
    begin_s: float
    end_s: float
    events: tuple[str, ...]  # kinds that are in it

    def lines(self) -> list[str]:
        """The part's lines."""
        kept: list[str] = []
        first = 0.0
        with lzma.open(self.path, "rt") as recorded:
            for line in recorded:
                t = float(line[1 : line.index(")")])
                first = first or t
                if t - first > self.end_s:
                    break
                if t - first >= self.begin_s:
                    kept.append(line)
        return kept


RECORDINGS: Final = {
    # 0.5 km with one harsh braking; satellites, acceleration and OBD answers on the bus
    "trip164": Recording(
        CANS / "trip164/trip164.candump.log.xz", "canmod", ("can0",), 2210.0, 2255.0, ("harsh_braking",)
    ),
    # a motorway, 1,650 frames a second on two buses
    "rav4": Recording(CANS / "rav4/rav4_60s.candump.log.xz", "toyota-rav4", ("can0", "can1"), 0.0, 15.0, ()),
}
SAMPLES: Final = "SELECT SUM(samples) FROM (SELECT samples FROM block UNION ALL SELECT samples FROM piece)"
JITTER_S: Final = 0.05  # canplayer sends at turns of 1 ms, when the one processor has time for it
STEP_MPS2: Final = 3.0  # the hardest that these cars change their speed


@pytest.mark.data
@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recorded_drive_over_canplayer_gives_the_trip_and_events_of_its_replay(
    guest: Guest, figure: Figure, name: str
) -> None:
    recording = RECORDINGS[name]
    if not recording.path.exists():
        pytest.skip(f"the recording {recording.path.name} is absent")
    lines = recording.lines()
    guest.put("/root/drive.log", "".join(lines))
    guest.put("/root/stored.py", (HERE / "programs/stored.py").read_bytes())
    replay = f"roadwitness replay /root/drive.log --profile {recording.profile} --store /root/{name}-replayed --json"
    assert json.loads(guest.run(replay, limit_s=LIMIT_S).out)["recording"]["frames"] == len(lines)
    config = [
        f'[drivers.canbus.{bus}]\nchannel = "{bus}"\nprofile = "{recording.profile}"\n' for bus in recording.buses
    ]
    guest.put("/root/agent.toml", "\n".join([*config, '[consent]\nsheet = "of the bench"\n']))
    for bus in recording.buses[1:]:
        guest.run(f"ip link show {bus} || ip link add {bus} type vcan; ip link set {bus} up")
    agent = guest.start(f"exec roadwitness agent --config /root/agent.toml --store /root/{name}-live")
    # the list of error frames has every socket of ours, and a line for a bus without
    listening = "; ".join(
        f"until grep {bus} /proc/net/can/rcvlist_err | grep -qv 'no entry'; do sleep 0.2; done"
        for bus in recording.buses
    )
    opened = guest.start(listening)
    agent.until(lambda: opened.code is not None or agent.code is not None, LIMIT_S)
    assert opened.code == 0, f"the agent ended with {agent.code}: {agent.said[-3000:]}"
    to = " ".join(f"{bus}={bus}" for bus in recording.buses)
    guest.run(f"canplayer -I /root/drive.log {to}", limit_s=LIMIT_S)
    replayed = told(guest, f"{name}-replayed")
    arrived = f"sqlite3 -readonly /root/{name}-live/store.db '{SAMPLES}'"
    guest.run(
        f"for n in {{1..300}}; do [ $({arrived}) -ge {replayed['samples']} ] && break; sleep 0.2; done", limit_s=LIMIT_S
    )
    agent.kill(15)
    assert agent.wait(LIMIT_S).code == 0, agent.said[-3000:]
    live = told(guest, f"{name}-live")
    compare(live, replayed, recording)
    figure(f"{name} through canplayer", live["trips"][0]["distance_m"], "m")
    figure(f"{name} by replay", replayed["trips"][0]["distance_m"], "m")
    figure(f"{name}: samples through canplayer, of each as many as by replay", live["samples"], "")


def compare(live: dict[str, Any], replayed: dict[str, Any], recording: Recording) -> None:
    """Look whether both are the same drive, but for frames that come late by JITTER_S."""
    assert live["channels"] == replayed["channels"]
    assert len(live["trips"]) == len(replayed["trips"]) == 1
    mine, theirs = live["trips"][0], replayed["trips"][0]
    for what, off in (
        ("distance_m", 2 * JITTER_S * theirs["max_speed_mps"] + 1.0),  # both ends come late; rounding of both sums
        ("moving_s", 2 * JITTER_S + 0.2),  # counted in grid steps of 0.1 s
        ("max_speed_mps", JITTER_S * STEP_MPS2),
    ):
        assert mine[what] == pytest.approx(theirs[what], abs=off), what
    assert mine["event_counts"] == theirs["event_counts"]
    found = [[(e["kind"], e["severity"], e["confirmed"]) for e in d["events"]] for d in (live, replayed)]
    assert found[0] == found[1]
    assert tuple(kind for kind, *_ in found[1]) == recording.events
    for event, same in zip(live["events"], replayed["events"], strict=True):
        assert event["peak"] == pytest.approx(same["peak"], rel=JITTER_S / 0.5)  # a mean over half a second
        begun = [e["t_ns"] - t["start_ns"] for e, t in ((event, mine), (same, theirs))]
        assert abs(begun[0] - begun[1]) <= (2 * JITTER_S + 0.2) * 1e9


def told(guest: Guest, store: str) -> dict[str, Any]:
    """Trips and events of a store, and how many samples each channel of its trip has."""
    found: dict[str, Any] = {
        kind: json.loads(guest.run(f"roadwitness {kind} --store /root/{store} --json", limit_s=LIMIT_S).out)
        for kind in ("trips", "events")
    }
    boot = found["trips"][0]["boot"]
    samples = json.loads(guest.run(f"python3 /root/stored.py /root/{store} {boot}", limit_s=LIMIT_S).out)
    assert samples["falls"] == 0
    found["channels"] = {name: n for name, (n, *_) in samples["channels"].items()}
    found["samples"] = sum(found["channels"].values())
    return found
