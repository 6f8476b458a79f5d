"""What the receiver holds of an accident, compared with the truth: each check with its figure."""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import isclose
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent.boot import kernel_boot_id
from agent.clock import NS_PER_S, wall_minus_monotonic_ns
from agent.dashcam.segments import frame_times, segments
from agent.dashcam.watch import VIDEO
from agent.evidence import verify_package
from agent.incident.folder import RECORD
from sim.accident import FPS, Happened
from sim.crash import Collision

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from receiver.filestore import FileStore

BEFORE_S: Final = 15.0
AFTER_S: Final = 10.0
SEEN_S: Final = 20.0  # before time zero, by an event data recorder
GAP_S: Final = 0.04  # between two pictures
PICTURE_S: Final = 1.0 / FPS
ZERO_S: Final = 0.02  # of time zero: two samples at 100 Hz
CHANGE_SHARE: Final = 0.10
TOLD_S: Final = 2.0  # from time zero to the crash at the receiver, on a good link
VIDEO_LOST_S: Final = 2.0  # by a power cut
TELEMETRY_LOST_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `figure` is what was found, `wanted` what it must be, in words."""

    name: str
    ok: bool
    figure: float | int | str | None
    wanted: str


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture of the clip: when the file shows it (monotonic ns), and what its pixels say, None if nothing."""

    file_ns: int
    number: int | None
    pixel_ns: int | None


class Verdict:
    """Judge what `engine` and `files` of the receiver hold of the device's accident."""

    def __init__(self, engine: "Engine", files: "FileStore", device: str, store: Path, happened: Happened) -> None:
        self._engine = engine
        self._files = files
        self._device = device
        self._store = store
        self._happened = happened

    def whole(self) -> bool:
        """Say whether a package that expects nothing more is whole at the receiver, and was looked at, for each."""
        from receiver.packages import progress, untold

        found = [p for p in progress(self._engine, self._device) if p.whole and p.complete]
        return len(found) >= len(self._happened.drive.collisions) and not untold(self._engine)

    def judge(self) -> dict[str, Any]:
        """Return everything as plain values; `ok` says whether all of it is as it must be."""
        told = self._told()
        hits = self._happened.drive.collisions
        checks = [Check("crashes_found", len(told) == len(hits), len(told), f"{len(hits)}, each once")]
        incidents = []
        for hit, (incident, row) in zip(hits, sorted(told.items(), key=lambda one: one[1]["t_ns"]), strict=False):
            mine = self._crash(hit, row) + self._package(incident, row["t_ns"])
            incidents.append({"incident": incident, "checks": [asdict(check) for check in mine]})
            checks += mine
        return {
            "scenario": self._happened.drive.scenario,
            "seed": self._happened.drive.seed,
            "fault": self._fault(),
            "device": self._device,
            "crashes_found": asdict(checks[0]),
            "incidents": incidents,
            "ok": all(check.ok for check in checks),
        }

    def _fault(self) -> dict[str, Any] | None:
        happened = self._happened
        if not happened.fault:
            return None
        zero_ns = happened.t_ns(happened.drive.collisions[0].t_s)
        ends = [
            None if t is None else round((t - zero_ns) / NS_PER_S, 3) for t in (happened.fault_ns, happened.back_ns)
        ]
        return {"name": happened.fault, "from_s": ends[0], "to_s": ends[1]}

    # the crash

    def _told(self) -> dict[str, Any]:
        """Return the newest row of each incident, with when its first came."""
        from sqlalchemy import select

        from receiver import db

        found: dict[str, Any] = {}
        with db.reading(self._engine) as connection:
            rows = connection.execute(
                select(db.crash).where(db.crash.c.device == self._device).order_by(db.crash.c.seq)
            )
            for row in rows.mappings():
                first = found.get(row["incident"], row)
                found[row["incident"]] = {**row, "received_utc_ns": first["received_utc_ns"]}
        return found

    def _crash(self, hit: Collision, row: dict[str, Any]) -> list[Check]:
        happened = self._happened
        truth = hit.told(0.0)
        off_s = (row["t_ns"] - happened.t_ns(hit.t_s)) / NS_PER_S
        told_s = (row["received_utc_ns"] - wall_minus_monotonic_ns() - row["t_ns"]) / NS_PER_S
        clock = row["direction_clock"]
        away = None if clock is None else abs((clock - truth["direction_clock"] + 6) % 12 - 6)
        change, true_change = row["delta_v_mps"], truth["delta_v_mps"]
        share = None if change is None else round(change / true_change - 1.0, 4)
        within = change is not None and (
            change <= true_change * (1 + CHANGE_SHARE)
            if row["clipped"]
            else isclose(change, true_change, rel_tol=CHANGE_SHARE)
        )
        cut = happened.fault in ("power-cut", "disk-full", "link-cut")
        return [
            Check("time_zero_off_s", abs(off_s) <= ZERO_S, round(off_s, 4), f"±{ZERO_S} s of contact"),
            Check(
                "known_at_receiver_s", cut or told_s <= TOLD_S, round(told_s, 3), f"≤ {TOLD_S:.0f} s, without a fault"
            ),
            Check("direction_clock", away is not None and away <= 1, clock, f"{truth['direction_clock']} ±1"),
            Check("delta_v_off", within, share, f"±{CHANGE_SHARE} of {true_change} m/s; at most that where clipped"),
            Check("clipped", True, str(row["clipped"]), "said"),
            Check("measured_whole", bool(row["complete"]), str(row["complete"]), "True"),
            self._claim(row["incident"]),
        ]

    def _claim(self, incident: str) -> Check:
        from sqlalchemy import select

        from receiver import db

        claim = db.claim.c
        with db.reading(self._engine) as connection:
            where = (claim.device == self._device, claim.incident == incident)
            states = list(connection.execute(select(claim.state).where(*where)).scalars())
        return Check("claim", states == ["evidence"], ", ".join(states) or "none", "one, opened and with its evidence")

    # the package

    def _package(self, incident: str, t0_ns: int) -> list[Check]:
        with self._files.folder(self._device, incident) as folder:
            if not (folder / verify_package.MANIFEST).exists():
                return [Check("package", False, "none", "whole at the receiver")]
            manifest = json.loads((folder / verify_package.MANIFEST).read_bytes())
            record = json.loads((folder / RECORD).read_bytes())
            said = "; ".join(f"{gone['what']}: {gone['why']}" for gone in manifest["missing"])
            return [
                self._verified(folder),
                *self._clip(folder, t0_ns),
                *self._camera_said(manifest),
                *self._lost(t0_ns, manifest, record, said),
            ]

    def _verified(self, folder: Path) -> Check:
        """Run the stand-alone script as anybody would: no path of ours, only Python and cryptography."""
        script = str(Path(verify_package.__file__))
        done = subprocess.run(
            [sys.executable, "-I", script, str(folder), "--key", self._device, "--json"],
            check=False,
            capture_output=True,
            text=True,
        )
        try:
            report = json.loads(done.stdout)
            figure = f"exit code {done.returncode}, {report.get('files', 0)} files, {report.get('records', 0)} records"
        except json.JSONDecodeError:
            figure = f"exit code {done.returncode}: {done.stderr.strip()}"
        return Check("verified_by_script", done.returncode == 0, figure, "exit code 0")

    def _clip(self, folder: Path, t0_ns: int) -> list[Check]:
        """Read every picture of the clip; a hole is allowed where the power, the camera or the disk was away."""
        clips = sorted(folder.glob("clip-front*.mp4"))
        shown = [picture for clip in clips for picture in self._shown(folder, clip)]
        read = [(s.number, s.pixel_ns) for s in shown if s.number is not None and s.pixel_ns is not None]
        checks = [
            Check("clip_pictures", len(read) > 0, len(shown), "more than 0"),
            Check("clip_unreadable", len(read) == len(shown), len(shown) - len(read), "0"),
        ]
        if not read:
            return checks
        first_s, last_s = ((read[i][1] - t0_ns) / NS_PER_S for i in (0, -1))
        off_s = max(abs(s.file_ns - s.pixel_ns) for s in shown if s.pixel_ns is not None) / NS_PER_S
        away = self._away(t0_ns)
        holes = [((a[1] - t0_ns) / NS_PER_S, (b[1] - t0_ns) / NS_PER_S, b[0] - a[0] - 1) for a, b in pairwise(read)]
        outside = [h for h in holes if away is None or h[1] < away[0] - VIDEO_LOST_S or h[0] > away[1]]
        gap_s = max((h[1] - h[0] for h in outside), default=0.0)
        missing = sum(h[2] for h in outside)
        frozen = self._happened.fault == "camera-frozen"
        first_ok, last_ok = first_s <= -BEFORE_S, last_s >= AFTER_S - PICTURE_S
        if away is not None and not frozen:  # what the fault took at an end of the clip
            last_ok = last_ok or away[0] - VIDEO_LOST_S <= last_s <= away[1] + VIDEO_LOST_S
        checks += [
            Check("clip_from_s", first_ok, round(first_s, 3), f"≤ -{BEFORE_S:.0f} s"),
            Check("clip_to_s", last_ok, round(last_s, 3), f"≥ {AFTER_S - PICTURE_S:.3f} s, but for the fault"),
            Check("clip_missing", missing == 0, missing, "0 pictures, but for the fault"),
            Check("clip_gap_s", gap_s <= GAP_S, round(gap_s, 4), f"≤ {GAP_S} s, but for the fault"),
        ]
        wanted = f"≤ {PICTURE_S:.3f} s" + (", but for the old picture" if frozen else "")
        return [*checks, Check("clip_time_off_s", frozen or off_s <= PICTURE_S, round(off_s, 4), wanted)]

    def _camera_said(self, manifest: dict[str, Any]) -> list[Check]:
        """Look whether the package itself says that its camera was ill."""
        if self._happened.fault != "camera-frozen":
            return []
        ill = [h["detail"] for h in manifest["sensor_health"] if h["source"] == "camera:front" and h["state"] != "ok"]
        told = any("same picture" in detail for detail in ill)
        return [Check("frozen_said", told, "; ".join(ill) or "nothing", "by the package's sensor health")]

    def _shown(self, folder: Path, clip: Path) -> list[Shown]:
        import av
        import numpy as np

        from sim.video import read_code

        report = json.loads((folder / "video.json").read_bytes())
        told = [c for camera in report["cameras"] for c in camera["clips"] if c["file"] == clip.name]
        start_ns = int(told[0]["start_ns"])
        shown = []
        with av.open(str(clip)) as container:
            for frame in container.decode(video=0):
                code = read_code(np.asarray(frame.to_ndarray(format="bgr24"), np.uint8))
                file_ns = start_ns + round(float(frame.time or 0.0) * NS_PER_S)
                pixel_ns = None if code is None else self._happened.t_ns(code[1] / 1000.0)
                shown.append(Shown(file_ns, None if code is None else code[0], pixel_ns))
        return shown

    def _away(self, t0_ns: int) -> tuple[float, float] | None:
        """Return from when to when, s after time zero, the fault kept the camera's pictures away."""
        happened = self._happened
        if happened.fault not in ("power-cut", "disk-full", "camera-frozen") or happened.fault_ns is None:
            return None
        back_ns = happened.back_ns or happened.fault_ns
        # the processes need this long to start, and the film goes on with a key picture
        return (happened.fault_ns - t0_ns) / NS_PER_S, (back_ns - t0_ns) / NS_PER_S + 3.0

    # what a power cut cost

    def _lost(self, t0_ns: int, manifest: dict[str, Any], record: dict[str, Any], said: str) -> list[Check]:
        happened = self._happened
        late = [ends_s for _, ends_s in record["gaps_s"] if ends_s > -SEEN_S]  # the agent began before
        if happened.fault != "power-cut" or happened.fault_ns is None:
            may = happened.fault in ("disk-full", "camera-frozen")
            rest = [gone["what"] for gone in manifest["missing"] if gone["what"] != "everything for a while"]
            whole = manifest["record_complete"] or not may
            ok = whole and (may or not (late or rest))
            return [
                Check("nothing_missing", ok, said or "nothing", f"nothing after -{SEEN_S:.0f} s, but for the fault")
            ]
        from agent.store import Store

        kill_ns = happened.fault_ns
        with Store.open(self._store, read_only=True) as store:
            block = store.read_block(kill_ns - 30 * NS_PER_S, kill_ns, kernel_boot_id())
        lost_s = (kill_ns - int(block["t"].max())) / NS_PER_S if len(block) else 30.0
        checks = [
            Check("telemetry_lost_s", lost_s <= TELEMETRY_LOST_S, round(lost_s, 3), f"≤ {TELEMETRY_LOST_S:.0f} s")
        ]
        found = segments(self._store / VIDEO, "front", kernel_boot_id(), kill_ns - 30 * NS_PER_S, kill_ns)
        last_ns = max((int(t) for s in found for t in frame_times(s) if t <= kill_ns), default=0)
        video_s = (kill_ns - last_ns) / NS_PER_S
        checks.append(Check("video_lost_s", video_s <= VIDEO_LOST_S, round(video_s, 3), f"≤ {VIDEO_LOST_S:.0f} s"))
        within = kill_ns < t0_ns + round((AFTER_S - GAP_S) * NS_PER_S)
        told = ("video of camera front" in said or not within) and bool(late or not record["complete"])
        checks.append(Check("loss_said", told, said, "in the manifest, of the record and of the video"))
        return checks
