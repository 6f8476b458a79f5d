"""The GPS driver behind a real gpsd that is fed with recorded receivers: what gpsd says is what the driver gives."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.blocks import Block, join_blocks
from agent.channels import BY_NUMBER
from agent.clock import NS_PER_S, monotonic_ns, wait
from agent.errors import DriverError
from drivers.gnss.messages import fix_of
from drivers.gnss.timing import LATEST_NS
from drivers.gps import Gps

LOGS = Path(__file__).parents[1].parent / "shared" / "data" / "gps"
GPSD_OF_EXPECTATIONS = "3.22"
DEADLINE_S = 40
TURNS = 3
CHOSEN = [
    "april6_2019",  # a receiver whose week number rolled over
    "bt451",  # time goes backwards
    "bu303-climbing",
    "bu303-moving",
    "bu303-nofix",
    "bu303-stillfix",
    "foretrex-201",  # no fix, 2-D, 3-D, 2-D, 3-D
    "garmin-10x",
    "gp-320fw-2019-04-06-overflow",
    "motorola-t805",  # binary; the fix is lost and found
    "sirfstarv-nmea",
    "ublox-lea-4h",  # UBX; the fix is lost and found
]


def feed(log: Path) -> tuple[Gps, list[Block]]:
    """Let gpsfake feed a real gpsd with `log`; return the driver that listened and what it gave."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    # -p: a client of gpsfake's own wakes the receiver 1.4 s before it is fed, which is when we connect
    command = ["gpsfake", "-q", "-1", "-p", "-P", str(port), str(log)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    gps, blocks = Gps(port=port), []
    try:
        connect(gps, process)
        with suppress(DriverError):  # gpsd ends with its input
            deadline_ns = monotonic_ns() + DEADLINE_S * NS_PER_S
            while monotonic_ns() < deadline_ns:
                blocks.append(gps.read(0.1))
    finally:
        gps.close()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(DEADLINE_S)
    return gps, blocks


def connect(gps: Gps, process: subprocess.Popen[bytes]) -> None:
    """Open the driver as soon as gpsd listens."""
    deadline_ns = monotonic_ns() + DEADLINE_S * NS_PER_S
    while True:
        try:
            return gps.open()
        except DriverError:
            if process.poll() is not None or monotonic_ns() > deadline_ns:
                raise
        wait(threading.Event(), 0.02)


def expected(log: Path) -> list[dict[str, Any]]:
    lines = log.with_suffix(".log.chk").read_text("utf-8", "replace").splitlines()
    messages = [json.loads(line) for line in lines if line.startswith("{")]
    return [message for message in messages if message["class"] == "TPV"]


def by_report(block: Block) -> list[dict[str, float]]:
    """Cut samples into reports: each begins with its FixType."""
    reports: list[dict[str, float]] = []
    for channel, value in zip(block["channel"].tolist(), block["value"].tolist(), strict=True):
        name = BY_NUMBER[channel].name.removeprefix("Gnss.")
        if name == "FixType":
            reports.append({})
        reports[-1][name] = value
    return reports


@pytest.mark.data
@pytest.mark.parametrize("name", CHOSEN)
def test_position_mode_and_speed_equal_gpsds_own(name: str) -> None:
    if not LOGS.is_dir():
        pytest.skip("recordings of receivers are not in ../shared/data/gps")
    if shutil.which("gpsfake") is None or (gpsd := shutil.which("gpsd", path="/usr/sbin:/usr/bin:/sbin")) is None:
        pytest.skip("gpsd or gpsfake is missing: sudo apt install gpsd gpsd-clients")
    version = subprocess.run([gpsd, "-V"], capture_output=True, text=True, check=True).stdout
    if GPSD_OF_EXPECTATIONS not in version:
        pytest.skip(f"the expectations are gpsd {GPSD_OF_EXPECTATIONS}'s, this is {version.strip()}")
    log = LOGS / f"{name}.log"
    wanted = expected(log)
    for _ in range(TURNS):  # gpsfake waits for nobody: on a busy machine we may come when it has begun, and miss that
        gps, blocks = feed(log)
        block = join_blocks(blocks)
        assert np.all(np.diff(block["t"]) >= 0)
        reports = by_report(block)
        if len(reports) == len(wanted):
            break
    assert len(reports) == len(wanted) > 0
    for report, tpv in zip(reports, wanted, strict=True):
        fix = fix_of(tpv)
        assert report["FixType"] == {0: 0, 1: 0, 2: 2, 3: 3}[tpv["mode"]]
        located = tpv["mode"] >= 2
        assert report.get("Latitude") == (tpv.get("lat") if located else None)
        assert report.get("Longitude") == (tpv.get("lon") if located else None)
        assert report.get("Speed") == (tpv.get("speed") if located else None)
        assert report.get("Heading") == (tpv.get("track") if located else None)
        assert report.get("HorizontalAccuracy") == (fix.accuracy_m if "Latitude" in report else None)
        if located and fix.utc_ns is not None:
            # a log is fed many times faster than it was made, so TOFF moves some stamps, and their UTC with them
            assert report["Time"] == pytest.approx(fix.utc_ns / NS_PER_S, abs=LATEST_NS / NS_PER_S)
        else:
            assert "Time" not in report
    assert gps.counts["bad_lines"] == gps.counts["long_lines"] == 0
    states = {fact.source.removeprefix(gps.name): fact.state for fact in gps.health()}
    assert states[":fix"] == {0: "lost", 2: "degraded", 3: "ok"}[int(reports[-1]["FixType"])]
    if name == "april6_2019":
        assert states[":time"] == "degraded"
