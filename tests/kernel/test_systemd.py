"""The Debian package under the real systemd: installed, in order, watched, shut in, held after many crashes."""

import json
import signal
from typing import Final

import pytest

from agent.tcp import CONGESTION
from tests.kernel.asking import CAMERA, STATUS, asked, moment, shown, status, uptime
from tests.kernel.box import AGENT, CONFIG, DASHCAM, LIMIT_S, READY, SOCKET, STORE, VAULT, installed
from tests.kernel.cache import HERE
from tests.kernel.conftest import Figure, NewGuest
from tests.kernel.guest import Guest

OURS: Final = "$(dpkg -L roadwitness | grep -E '/usr/lib/systemd/system/.*[.](service|timer)$')"


@pytest.fixture(scope="module")
def box(new_guest: NewGuest) -> Guest:
    """The package, installed, with the agent ready."""
    return installed(new_guest)


def test_the_package_is_installed_and_its_units_are_right(box: Guest, figure: Figure) -> None:
    assert box.run("dpkg-query -W -f '${db:Status-Abbrev}' roadwitness").out.strip() == "ii"
    assert box.run(f"systemd-analyze verify --man=no {OURS} 2>&1 | grep -i roadwitness || true").out == ""
    assert shown(box, AGENT, "Type") == "notify"
    figure("installing it by the host's clock, kernels compiled before", int(box.get("/etc/bench/seconds")), "s")


def test_the_box_starts_whole_and_in_order(box: Guest, figure: Figure) -> None:
    assert box.run("systemctl --failed --no-legend").out == ""
    assert box.run("journalctl -b -o cat | grep -i 'ordering cycle' || true").out == ""
    began = moment(box, AGENT, "ExecMainStartTimestampMonotonic")
    ready = moment(box, AGENT, "ActiveEnterTimestampMonotonic")
    for before in (VAULT, "bench-car.service"):
        assert 0 < moment(box, before, "ActiveEnterTimestampMonotonic") <= began
    box.until("systemctl is-system-running | grep -E 'running|degraded'", LIMIT_S)
    chain = box.run(f"systemd-analyze critical-chain --no-pager {AGENT}").out
    for late in ("network-online.target", "time-sync.target", "systemd-networkd-wait-online.service"):
        assert late not in chain  # a car starts without network and clock
    figure("from the kernel's start until systemd starts the agent", began, "s")
    figure("from the kernel's start to an agent that is ready", ready, "s")
    first = float(box.until(f'sqlite3 -readonly {STORE} "{first_kept(box)}" | grep .', LIMIT_S).out)
    figure("from the kernel's start to the first sample of the sensor that is kept", first, "s")
    assert first < uptime(box)


def first_kept(guest: Guest) -> str:
    """Ask for the first sample's time, in seconds from the kernel's start; no row where there is none."""
    boot = guest.boot_id.replace("-", "")
    kept = "SELECT boot, start_ns FROM piece UNION ALL SELECT boot, start_ns FROM block"
    return f"SELECT min(start_ns) / 1e9 FROM ({kept}) JOIN boot ON number = boot WHERE id = '{boot}' HAVING count(*)"


def test_root_asks_the_agent_through_its_socket_and_others_may_not(box: Guest) -> None:
    told = status(box)
    assert (told["level"], str(told["pid"])) == ("normal", shown(box, AGENT, "MainPID"))
    assert {device["kind"] for device in told["devices"]} == {"canbus", "imu", "power"}
    assert box.run(f"stat -c '%a %U %G' {SOCKET}").out.split() == ["660", "roadwitness", "roadwitness"]
    refused = box.run(["runuser", "-u", "nobody", "--", "python3", "-c", STATUS, SOCKET], check=False)
    assert "PermissionError" in refused.err
    doctor = box.run("roadwitness doctor --only imu,storage --json", check=False, limit_s=LIMIT_S)
    found = json.loads(doctor.out)["findings"]
    assert any(finding["check"].startswith("imu") for finding in found), found
    assert not [finding for finding in found if finding["advice"] == "agent_not_asked"]
    live = box.start("exec /usr/bin/roadwitness live --plain")
    live.until_says("Imu.Acceleration", LIMIT_S)
    live.kill(signal.SIGTERM)
    live.wait(LIMIT_S)


def test_the_agents_user_may_ask_tcp_for_what_links_that_lose_packets_want(box: Guest) -> None:
    allowed = box.run("cat /proc/sys/net/ipv4/tcp_allowed_congestion_control").out.split()
    assert {"reno", "cubic", *CONGESTION} <= set(allowed)
    suited = "import socket; from agent import tcp; s = socket.socket(); tcp.suit(s); "
    suited += "print(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16))"
    said = box.run(["runuser", "-u", "roadwitness", "--", "/opt/roadwitness/bin/python", "-c", suited], cwd="/").out
    assert said.startswith(f"b'{CONGESTION[0]}"), said


# what no service of ours may do, …
DENIED: Final = (
    "read /home", "read /root", "read the disk", "read the kernel's log", "open the i2c bus", "write a kernel setting",
    "write a control group", "raw IP socket", "packet socket", "crypto socket", "gain capabilities", "trace process 1",
    "mount", "new user namespace", "load BPF", "set the host's name", "load a module", "reboot", "set the clock",
    "real-time priority",
)  # fmt: skip
# … nor any but those that exchange programs, …
FILES: Final = ("write /etc", "write /usr", "write /opt/roadwitness", "set a user-id bit")
UPDATER: Final = ("root", ("open a camera", "CAN socket"), ("write /opt/roadwitness",))
# … and unit -> user, what else it may not, what it may
SANDBOXES: Final = {
    AGENT: ("roadwitness", (*FILES, "open a camera", "see process 1"), ("write its own folder", "CAN socket")),
    DASHCAM: (
        "roadwitness-dashcam",
        (*FILES, "CAN socket", "memory to write and execute", "read the agent's store", "see process 1"),
        ("write its own folder", "open a camera"),
    ),
    VAULT: (
        "root",
        (*FILES, "open a camera", "CAN socket", "memory to write and execute"),
        ("read the agent's store",),
    ),
    "roadwitness-update.service": UPDATER,
    "roadwitness-settle.service": UPDATER,
}
DROPPED: Final = (
    "ExecReload|WatchdogSec|Restart|RestartSec|RuntimeDirectory|RuntimeDirectoryMode|Requires|After|Before|"
    "RemainAfterExit|ConditionPathExists|RequiresMountsFor"
)


@pytest.fixture(scope="module")
def tempted(box: Guest) -> Guest:
    """The box with all that the attempts look for."""
    box.module("vivid")
    box.run("udevadm settle; echo secret | tee /home/bench > /root/bench")
    box.put("/usr/local/lib/attempts.py", (HERE / "programs/attempts.py").read_bytes())
    return box


def attempts(guest: Guest, unit: str, user: str) -> dict[str, str]:
    """Run the table of attempts in a copy of `unit` that differs in its program, user and folder alone."""
    guest.run(
        f"sed -E -e '/^({DROPPED})=/d' -e 's|^ExecStart=.*|ExecStart=/usr/bin/python3 /usr/local/lib/attempts.py|' "
        f"-e 's|^Type=.*|Type=oneshot\\nStandardOutput=file:/run/attempts.json|' -e 's|^User=.*|User={user}|' "
        f"-e 's|^StateDirectory=.*|StateDirectory=bench-{user}|' "
        f"/usr/lib/systemd/system/{unit} > /run/systemd/system/bench-attempts.service"
    )
    guest.run("rm -f /run/attempts.json; systemctl daemon-reload; systemctl start bench-attempts", limit_s=LIMIT_S)
    return json.loads(guest.get("/run/attempts.json"))  # type: ignore[no-any-return]


def test_what_is_tried_is_possible_outside_of_any_sandbox(tempted: Guest) -> None:
    found = json.loads(tempted.run("python3 /usr/local/lib/attempts.py").out)
    assert {name: said for name, said in found.items() if said != "done"} == {}


@pytest.mark.parametrize("unit", SANDBOXES)
def test_the_sandbox_denies_what_a_service_must_not_do(tempted: Guest, figure: Figure, unit: str) -> None:
    user, also, allowed = SANDBOXES[unit]
    denied = (*DENIED, *also)
    found = attempts(tempted, unit, user)
    assert {name: found[name] for name in denied if found[name] == "done"} == {}
    assert {name: found[name] for name in allowed if found[name] != "done"} == {}
    if user != "root":  # the sandbox and not only the modes of files
        as_root = attempts(tempted, unit, "root")
        walls = [name for name in denied if name != "see process 1"]
        assert {name: as_root[name] for name in walls if as_root[name] == "done"} == {}
    figure(f"attempts that {unit} denies{'' if user == 'root' else ', as its user and as root'}", len(denied))


def test_systemd_restarts_an_agent_and_a_dashcam_that_hang(box: Guest, figure: Figure) -> None:
    box.module("vivid")
    box.put("/etc/roadwitness/dashcam.toml", CAMERA)
    box.run(f"systemctl start {DASHCAM}", limit_s=LIMIT_S)
    films = "ls /var/lib/roadwitness-dashcam/front/*.mp4"
    box.until(films, LIMIT_S)
    pids = {unit: shown(box, unit, "MainPID") for unit in (AGENT, DASHCAM)}
    restarts = {unit: int(shown(box, unit, "NRestarts")) for unit in pids}
    hung = float(box.run(f"kill -STOP {' '.join(pids.values())}; cut -d' ' -f1 /proc/uptime").out)
    for unit, again in ((AGENT, READY), (DASHCAM, f"systemctl is-active --quiet {DASHCAM}")):
        box.until(f"[ $(systemctl show --value -p MainPID {unit}) != {pids[unit]} ] && {again}", LIMIT_S)
        back = moment(box, unit, "ActiveEnterTimestampMonotonic")
        figure(f"from a hang until {unit} works again", back - hung, "s")
        assert "Watchdog timeout" in box.run(f"journalctl -b -u {unit} -o cat").out
        assert int(shown(box, unit, "NRestarts")) == restarts[unit] + 1
    seen = box.run(films).out.split()
    box.until(f"[ $({films} | wc -l) -gt {len(seen)} ]", LIMIT_S)  # it films, too
    box.run(f"systemctl stop {DASHCAM}", limit_s=LIMIT_S)


def test_an_agent_that_crashes_again_and_again_runs_without_its_devices_then_holds(box: Guest) -> None:
    """Fewer crashes than by default, so that they come within the window also where a start takes a minute."""
    box.put("/etc/roadwitness/agent.toml", f"{CONFIG}\n[daemon.crashes]\nminimal_after = 1\nhold_after = 2\n")
    box.run(f"systemctl stop {AGENT}; rm /var/lib/roadwitness/crashes.json; systemctl start {AGENT}", limit_s=LIMIT_S)
    for level, reads in (("normal", True), ("minimal", False), ("hold", False)):
        box.until(READY, LIMIT_S)
        told = status(box)
        assert (told["level"], bool(told["devices"])) == (level, reads)
        pid = shown(box, AGENT, "MainPID")
        if level != "hold":
            box.run(f"kill -KILL {pid}")
            box.until(f"[ $(systemctl show --value -p MainPID {AGENT}) != {pid} ]", LIMIT_S)
    assert "holds after too many crashes" in shown(box, AGENT, "StatusText")
    # it stays, for it feeds the watchdog: beyond systemd's time-out
    assert shown(box, AGENT, "WatchdogUSec") == "30s"
    late = int(shown(box, AGENT, "WatchdogTimestampMonotonic")) + 30_000_000
    box.until(f"[ $(systemctl show --value -p WatchdogTimestampMonotonic {AGENT}) -gt {late} ]", LIMIT_S)
    assert (shown(box, AGENT, "ActiveState"), shown(box, AGENT, "MainPID")) == ("active", pid)
    # a new boot begins anew
    box.put("/etc/roadwitness/agent.toml", CONFIG)
    box.reboot()
    box.until(READY, LIMIT_S)
    assert status(box)["level"] == "normal"
    assert asked(box, "store verify")["faults"] == []
