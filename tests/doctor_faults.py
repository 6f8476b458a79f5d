"""The table of fault, finding and advice: what may be wrong with a box, one thing at a time."""

import os
import sqlite3
from typing import Any

from agent.clock import monotonic_ns, wall_minus_monotonic_ns
from agent.dashcam.state import Problem
from agent.local.messages import Agreed, Power, Utc
from agent.records import Event, Mount
from agent.store import Store
from drivers.can.link import Link
from tests.doctoring import CAN, ELM, IMU, Box, Row, S

THROTTLED = "devices/platform/soc/soc:firmware/get_throttled"


def power(box: Box, volts: float, state: Any = "driving", charging: bool = False) -> None:
    box.says(
        power=Power(
            state=state,
            since_ns=monotonic_ns() - 7200 * S,
            volts_of_12=volts,
            charging=charging,
            taken_wh=1.0,
            running=False,
            moving=False,
        )
    )


def event(box: Box, kind: Any) -> None:
    with Store.open(box.store) as store:
        store.begin_boot(box.boot)
        t_ns = monotonic_ns()
        found = Event(
            kind=kind,
            severity="minor",
            confirmed=True,
            t_ns=t_ns,
            duration_ns=0,
            peak=1.0,
            unit="s",
            speed_before_mps=None,
            rule=f"{kind}/1",
            sources=["test"],
        )
        store.append([(t_ns, found)])


def mount(box: Box, confidence: float) -> None:
    with Store.open(box.store) as store:
        store.begin_boot(box.boot)
        t_ns = monotonic_ns()
        found = Mount(t_ns=t_ns, gravity=(0.0, 0.0, 1.0), forward=(1.0, 0.0, 0.0), confidence=confidence)
        store.append([(t_ns, found)])


def damage(box: Box) -> None:
    file = box.store / "store.db"
    data = bytearray(file.read_bytes())
    data[8192:12288] = b"\xa5" * 4096
    file.write_bytes(data)


def alter(box: Box) -> None:
    with sqlite3.connect(box.store / "store.db") as connection:
        connection.execute("UPDATE entry SET body = CAST(replace(body, '0.9', '0.1') AS BLOB)")


def disk(free: float, flag: int = 0, size: int = 10_000_000) -> Any:
    """Return what `os.statvfs` says of a disk of 4 KiB blocks."""

    def hurt(box: Box) -> dict[str, Any]:
        real = os.statvfs(box.store)
        values = [4096, 4096, size, round(size * free), round(size * free), *real[5:8], flag, real[9]]
        return {"statvfs": os.statvfs_result(values)}

    return hurt


def camera(trouble: Any, detail: str) -> Any:
    return lambda box: box.camera(state="degraded", problems={trouble: Problem(0, 0.0, detail)})


def unit(name: str, **shown: str) -> Any:
    return lambda box: box.units[f"roadwitness-{name}"].update(shown)


def lost(name: str, error: str) -> Any:
    return lambda box: box.device_says(name, state="lost", error=error)


def toml(old: str, new: str) -> Any:
    def hurt(box: Box) -> None:
        text = box.config.read_text().replace(old, new)
        changed = box.config.stat().st_mtime_ns - 3600 * S
        box.config.write_text(text)
        os.utime(box.config, ns=(changed, changed))

    return hurt


def socketcan(**link: Any) -> Any:
    """Let the bus be an interface of the kernel's, as `link` says; None is one that is not there."""

    def hurt(box: Box) -> dict[str, Any]:
        toml('interface = "slcan"\nchannel = "/dev/ttyACM0"', 'interface = "socketcan"\nchannel = "can0"')(box)
        usual = {"bit_rate": 500_000, "listen_only": True, "state": "error-active", "sent_errors": 0}
        return {
            "link": Link("can0", "can", link.pop("up", True), 16, **(usual | link)) if link != {"none": 1} else None
        }

    return hurt


CALM: dict[str, Any] = {"later": {"newest_ns": 1}}  # nothing more came
ROWS = [
    # power
    Row("the 5 V cable is too thin", lambda b: b.put(THROTTLED, "50005"), "fail", "under_voltage", "5 V converter"),
    Row("the 5 V fell while cranking", lambda b: b.put(THROTTLED, "10000"), "warn", "under_voltage_seen", "Crank"),
    Row("the board throttles", lambda b: b.put(THROTTLED, "4"), "warn", "throttled", "heat sink"),
    Row("the board has throttled", lambda b: b.put(THROTTLED, "40000"), "warn", "throttled_seen", "out of the sun"),
    Row("the box lies in the sun", lambda b: b.put("class/thermal/thermal_zone0/temp", "86000"), "fail", "hot", "sun"),
    Row("the battery is half empty", lambda b: power(b, 12.1), "warn", "battery_low", "Start the engine"),
    Row("the battery is flat", lambda b: power(b, 11.5), "fail", "battery_flat", "Charge the battery"),
    Row("the regulator is broken", lambda b: power(b, 16.2), "fail", "voltage_high", "alternator repaired"),
    Row("the divider's factor is wrong", lambda b: power(b, 1.3), "fail", "voltage_implausible", "voltage_factor"),
    Row("nobody measures the supply", lambda b: b.says(power=None), "unknown", "voltage_unknown", "drivers.power"),
    Row("parked for days", lambda b: power(b, 12.6, "cut_off"), "warn", "cut_off", "Start the engine"),
    Row(
        "another device keeps the car awake",
        lambda b: power(b, 12.6, "engine_off"),
        "warn",
        "kept_awake",
        "unplug other OBD devices",
    ),
    Row(
        "a bad cable",
        lambda b: b.device_says(CAN, later={"counts": {"frames": 1100, "garbage": 7}}),
        "warn",
        "can_noise",
        "USB cable",
    ),
    Row("the plug is loose", lambda b: event(b, "power_lost"), "warn", "supply_cut", "permanent 12 V"),
    # clock
    Row("no time at all", lambda b: b.says(utc=Utc(quality="none")), "fail", "clock_unknown", "in the open"),
    Row("a saved time", lambda b: b.says(utc=Utc(quality="restored", offset_ns=1)), "warn", "clock_restored", "satell"),
    Row(
        "the board booted in 1970",
        lambda b: {"wall_ns": lambda: 1_000_000_000},
        "fail",
        "clock_in_the_past",
        "view of the sky",
    ),
    Row(
        "the machine's clock is an hour fast",
        lambda b: b.says(utc=Utc(quality="gnss", offset_ns=wall_minus_monotonic_ns() - 3600 * S, uncertainty_ns=1)),
        "warn",
        "clock_off",
        "timedatectl",
    ),
    Row(
        "the clock chip's battery is empty",
        lambda b: b.put("class/rtc/rtc0/since_epoch", "9"),
        "warn",
        "rtc_off",
        "hwclock",
    ),
    # storage
    Row("the card is worn", lambda b: b.card("life_time", "0x09 0x03"), "warn", "worn", "replace the storage"),
    Row(
        "the card is at its end",
        lambda b: b.card("pre_eol_info", "0x03"),
        "fail",
        "worn_out",
        "Replace the storage now",
    ),
    Row(
        "an SD card",
        lambda b: (b.card("life_time", ""), b.card("pre_eol_info", ""))[0],
        "unknown",
        "wear_unknown",
        "eMMC",
    ),
    Row("the disk is full", disk(0.0), "fail", "disk_full", "max_bytes"),
    Row("the disk is nearly full", disk(0.08, size=1_000_000), "warn", "disk_nearly_full", "max_bytes"),
    Row("the kernel mounted the card read-only", disk(0.5, os.ST_RDONLY), "fail", "disk_read_only", "dmesg"),
    Row("pages of the store are damaged", damage, "fail", "store_damaged", "moves the damaged file aside"),
    Row("a record was altered", alter, "fail", "store_damaged", "replace the card"),
    Row(
        "a store was damaged before",
        lambda b: (b.store / "store.db.damaged-1").touch(),
        "warn",
        "store_was_damaged",
        "support",
    ),
    Row("others can read the key", lambda b: (b.store / "device.key").chmod(0o644), "fail", "key_open", "chmod 600"),
    # CAN, as the daemon knows it
    Row("the ignition is off", lambda b: b.device_says(CAN, **CALM), "fail", "can_silent", "ignition on"),
    Row(
        "frames are lost",
        lambda b: b.device_says(CAN, later={"counts": {"frames": 1100, "lost_in_queue": 40}}),
        "warn",
        "can_lost",
        "kernel filters",
    ),
    Row(
        "a wire is loose",
        lambda b: b.device_says(CAN, later={"counts": {"frames": 1100, "error_protocol": 9}}),
        "fail",
        "can_errors",
        "60 Ω",
    ),
    Row(
        "an unknown car",
        lambda b: b.device_says(CAN, healths={f"{CAN}:profile": "degraded"}),
        "warn",
        "can_no_profile",
        "profile suggest",
    ),
    Row("the interface is down", socketcan(up=False), "fail", "can_down", "ip link set can0 up"),
    Row("the overlay is not loaded", socketcan(none=1), "fail", "can_missing", "config.txt"),
    Row("no bit rate was set", socketcan(bit_rate=None, up=False), "fail", "can_no_bit_rate", "bitrate 500000"),
    Row("the wrong bit rate drove it off", socketcan(state="bus-off"), "fail", "can_bus_off", "short or a swap"),
    Row("it acknowledges frames", socketcan(listen_only=False), "warn", "can_not_listen_only", "listen-only on"),
    Row("no termination", socketcan(received_errors=128, state="error-passive"), "fail", "can_errors", "60 Ω"),
    Row("it was off the bus", socketcan(happened={"bus_off": 2}), "warn", "can_errors_seen", "--watch"),
    Row(
        "an MCP2515 overflows",
        lambda b: (b.put("class/net/can0/statistics/rx_over_errors", "12"), socketcan()(b))[1],
        "warn",
        "can_overflow",
        "spimaxfrequency",
    ),
    Row(
        "its driver hangs",
        lambda b: b.device_says(CAN, state="barred", error="canbus:can0: hangs in read"),
        "fail",
        "device_hangs",
        "Unplug",
    ),
    Row("parked", lambda b: b.device_says(CAN, state="resting"), "unknown", "device_rests", "ignition on"),
    Row("lent to a scan", lambda b: b.device_says(CAN, state="lent"), "unknown", "device_lent", "ended"),
    Row("not read yet", lambda b: b.says(devices=b.first.devices[1:]), "unknown", "device_not_read", "restart"),
    # adapter and sensor, as the daemon knows them
    Row(
        "the adapter was pulled",
        lost(ELM, "/dev/rfcomm0: cannot open the adapter's port: No such file or directory; check its plug"),
        "fail",
        "adapter_missing",
        "until it clicks",
    ),
    Row(
        "no power on pin 16",
        lost(ELM, "/dev/rfcomm0: no adapter answers at 38400 baud"),
        "fail",
        "adapter_silent",
        "pin 16",
    ),
    Row(
        "the car sleeps",
        lambda b: b.device_says(ELM, facts={}, counts={"NO DATA": 9}),
        "fail",
        "adapter_no_car",
        "ignition on",
    ),
    Row(
        "a bad contact",
        lambda b: b.device_says(ELM, facts={}, counts={"CAN ERROR": 4}),
        "fail",
        "adapter_bus_trouble",
        "contacts",
    ),
    Row(
        "a loose plug",
        lambda b: b.device_says(ELM, later={"counts": {"resets": 4}, "samples": 1100}),
        "warn",
        "adapter_unsteady",
        "plug in",
    ),
    Row(
        "the sensor repeats itself",
        lambda b: b.device_says(IMU, healths={IMU: "degraded"}),
        "fail",
        "imu_stuck",
        "off and on",
    ),
    Row("the sensor is silent", lost(IMU, "imu:first: no sample for 5 s"), "fail", "imu_silent", "interrupt wire"),
    Row("no drive so far", lambda b: mount(b, 0.2), "warn", "mount_not_learned", "ten minutes"),
    Row("somebody turned the box", lambda b: event(b, "device_moved"), "warn", "box_moved", "screws"),
    # cameras
    Row("the camera's cable", camera("lost", "gives no picture"), "fail", "camera_lost", "USB cable"),
    Row("a cap on the lens", camera("blind", "nothing to see: covered"), "fail", "camera_blind", "cap"),
    Row("the picture stands", camera("frozen", "the same picture"), "fail", "camera_frozen", "plug it in again"),
    Row("dirt on the lens", camera("blurred", "is blurred"), "warn", "camera_blurred", "Clean lens"),
    Row("the processor is too slow", camera("slow", "gives 9 of 30"), "warn", "camera_slow", "Lower fps"),
    Row("a slow card", camera("disk", "disk refuses"), "fail", "camera_disk", "class A2"),
    Row(
        "the dashcam died",
        lambda b: b.camera(t_ns=monotonic_ns() - 90 * S),
        "fail",
        "dashcam_not_running",
        "roadwitness-dashcam",
        also=("camera_missing",),
    ),
    Row(
        "no consent to video",
        lambda b: ((b.store / "video/keep").mkdir(), (b.store / "video/keep/withheld").touch())[1],
        "warn",
        "camera_withheld",
        "consent",
    ),
    # services
    Row(
        "the agent keeps crashing",
        lambda b: b.says(level="minimal", level_reason="Boom"),
        "fail",
        "agent_held_back",
        "bundle",
    ),
    Row(
        "a unit failed",
        unit("dashcam", ActiveState="failed"),
        "fail",
        "unit_failed",
        "journalctl -u roadwitness-dashcam",
    ),
    Row("a unit was stopped", unit("dashcam", ActiveState="inactive"), "fail", "unit_stopped", "enable --now"),
    Row(
        "it starts in a loop",
        unit("agent", ActiveState="activating", SubState="auto-restart"),
        "fail",
        "unit_restarts",
        "last line",
    ),
    Row(
        "it will not start again",
        unit("agent", UnitFileState="disabled"),
        "warn",
        "unit_not_enabled",
        "systemctl enable",
    ),
    Row("it was restarted", unit("agent", NRestarts="4"), "warn", "unit_restarted", "journalctl"),
    Row(
        "an update without a restart", lambda b: b.says(version="0.0.1"), "warn", "version_differs", "systemctl restart"
    ),
    # configuration
    Row(
        "a misspelt key",
        toml("[drivers.imu.box]", "[drivers.imu.box]\nrate = 5"),
        "fail",
        "config_wrong",
        "config check",
        groups=("config",),
    ),
    Row("a new setting without a restart", lambda b: os.utime(b.config), "warn", "config_changed", "systemctl restart"),
    Row("another file", lambda b: b.says(config="/etc/roadwitness/agent.toml"), "warn", "config_other", "--config"),
    Row(
        "nobody agreed",
        lambda b: b.says(consent=Agreed(purposes=[], reference="nobody has agreed", awaited=True)),
        "fail",
        "no_consent",
        "consent",
    ),
    Row(
        "a misspelt camera",
        lambda b: b.dashcam.write_text("[cameras.front]\nsrc = 1") and None,
        "fail",
        "dashcam_config_wrong",
        "dashcam.toml",
    ),
]
