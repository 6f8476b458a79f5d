"""The Debian package under the real systemd: installed, in order, watched, shut in, switched off with the ignition."""

import json
import signal
from typing import Any, Final

import pytest

from tests.kernel.box import installed
from tests.kernel.cache import HERE
from tests.kernel.conftest import Figure, NewGuest
from tests.kernel.guest import Guest

LIMIT_S: Final = 600.0
AGENT: Final = "roadwitness-agent.service"
DASHCAM: Final = "roadwitness-dashcam.service"
SOCKET: Final = "/run/roadwitness/agent.sock"
STORE: Final = "/var/lib/roadwitness/store.db"
READY: Final = f"systemctl is-active --quiet {AGENT} && test -S {SOCKET}"
STATUS: Final = (
    "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
    """s.sendall(b'{"ask":"status"}\\n'); print(s.makefile().readline())"""
)


@pytest.fixture(scope="module")
def box(new_guest: NewGuest) -> Guest:
    """The package, installed, with the agent ready."""
    guest = installed(new_guest)
    guest.until(READY, LIMIT_S)
    return guest


def shown(guest: Guest, unit: str, name: str) -> str:
    return guest.run(f"systemctl show --value -p {name} {unit}").out.strip()


def uptime(guest: Guest) -> str:
    return guest.run("cut -d' ' -f1 /proc/uptime").out


def moment(guest: Guest, unit: str, name: str) -> float:
    """Return a time of a unit, in seconds from the kernel's start."""
    return int(shown(guest, unit, name)) / 1e6


def status(guest: Guest) -> dict[str, Any]:
    told = guest.run(["python3", "-c", STATUS, SOCKET], limit_s=LIMIT_S).out
    return json.loads(told)  # type: ignore[no-any-return]


def test_the_package_is_installed_and_its_units_are_right(box: Guest) -> None:
    assert box.run("dpkg-query -W -f '${db:Status-Abbrev}' roadwitness").out.strip() == "ii"
    names = "$(dpkg -L roadwitness | grep -E '/usr/lib/systemd/system/.*[.](service|timer)$')"
    verified = box.run(f"systemd-analyze verify --man=no {names} 2>&1 | grep -i roadwitness || true").out
    assert verified == ""
    assert shown(box, AGENT, "Type") == "notify"
    assert box.run("systemctl --failed --no-legend").out == ""


def test_root_asks_the_agent_through_its_socket_and_others_may_not(box: Guest) -> None:
    told = status(box)
    assert (told["level"], str(told["pid"])) == ("normal", shown(box, AGENT, "MainPID"))
    assert {device["kind"] for device in told["devices"]} == {"imu", "power"}
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


DENIED: Final = (
    "write /etc", "write /usr", "write /opt/roadwitness", "read /home", "read /root", "read the disk",
    "read the kernel's log", "open the i2c bus", "write a kernel setting", "write a control group", "raw IP socket",
    "packet socket", "vsock socket", "gain capabilities", "trace process 1", "mount", "new user namespace", "load BPF",
    "set the host's name", "load a module", "reboot", "set the clock", "real-time priority", "set a user-id bit",
)  # fmt: skip
# unit -> user, denied beside DENIED, allowed
SANDBOXES: Final = {
    AGENT: ("roadwitness", ("open a camera", "see process 1"), ("write its own folder", "CAN socket")),
    DASHCAM: (
        "roadwitness-dashcam",
        ("CAN socket", "memory to write and execute", "read the agent's store", "see process 1"),
        ("write its own folder", "open a camera"),
    ),
}


def attempts(guest: Guest, unit: str, user: str) -> dict[str, str]:
    """Run the table of attempts in a copy of `unit` that differs in its program and user alone."""
    dropped = "ExecReload|WatchdogSec|Restart|RestartSec|RuntimeDirectory|RuntimeDirectoryMode|Requires|After"
    guest.put("/usr/local/lib/attempts.py", (HERE / "programs/attempts.py").read_bytes())
    guest.run(
        f"sed -E -e '/^({dropped})=/d' -e 's|^ExecStart=.*|ExecStart=/usr/bin/python3 /usr/local/lib/attempts.py|' "
        f"-e 's|^Type=.*|Type=oneshot\\nStandardOutput=file:/run/attempts.json|' -e 's|^User=.*|User={user}|' "
        f"/usr/lib/systemd/system/{unit} > /run/systemd/system/bench-attempts.service"
    )
    guest.run("rm -f /run/attempts.json; systemctl daemon-reload; systemctl start bench-attempts", limit_s=LIMIT_S)
    return json.loads(guest.get("/run/attempts.json"))  # type: ignore[no-any-return]


@pytest.mark.parametrize("unit", SANDBOXES)
def test_the_sandbox_denies_what_a_service_must_not_do(box: Guest, figure: Figure, unit: str) -> None:
    user, denied, allowed = SANDBOXES[unit]
    box.module("vivid")
    box.run("udevadm settle")
    found = attempts(box, unit, user)
    assert {name: found[name] for name in (*DENIED, *denied) if found[name] == "done"} == {}
    assert {name: found[name] for name in allowed if found[name] != "done"} == {}
    # the sandbox and not only the modes of files: as root, too
    as_root = attempts(box, unit, "root")
    walls = [name for name in (*DENIED, *denied) if name != "see process 1"]
    assert {name: as_root[name] for name in walls if as_root[name] == "done"} == {}
    figure(f"attempts that {unit} denies, as its user and as root", len(DENIED) + len(denied), "")


def test_systemd_restarts_an_agent_that_hangs(box: Guest, figure: Figure) -> None:
    pid = shown(box, AGENT, "MainPID")
    hung = float(box.run(f"kill -STOP {pid}; cut -d' ' -f1 /proc/uptime").out)
    box.until(f"[ $(systemctl show --value -p MainPID {AGENT}) != {pid} ] && {READY}", LIMIT_S)
    figure("from an agent that hangs until it works again", float(uptime(box)) - hung, "s")
    assert "watchdog" in box.run(f"journalctl -b -u {AGENT} -o cat | grep -i watchdog").out.lower()


def test_from_boot_to_samples_that_are_kept(box: Guest, figure: Figure) -> None:
    box.reboot()
    box.until(READY, LIMIT_S)
    figure(
        "from the kernel's start to an agent that is ready", moment(box, AGENT, "ActiveEnterTimestampMonotonic"), "s"
    )
    boot = box.boot_id.replace("-", "")
    kept = "SELECT boot, start_ns FROM piece UNION ALL SELECT boot, start_ns FROM block"
    query = f"SELECT min(start_ns) / 1e9 FROM ({kept}) JOIN boot ON number = boot WHERE id = '{boot}' HAVING count(*)"
    asked = f'sqlite3 -readonly {STORE} "{query}" | grep .'
    first = float(box.until(asked, LIMIT_S).out)
    figure("from the kernel's start to the first sample of the sensor that is kept", first, "s")
    assert first < float(uptime(box))
