"""The installed box and its power: switched off with the ignition, reset when it hangs, locked until opened.

Each test ends with the box on, and its agent ready.
"""

import json
from typing import Final

import pytest

from tests.kernel.asking import asked, drive, moment, shown, status
from tests.kernel.box import AGENT, CONFIG, LIMIT_S, READY, STORE, VAULT, installed
from tests.kernel.conftest import Figure, NewGuest
from tests.kernel.guest import Guest

SOON: Final = CONFIG.replace("flush_s", "parked_h = 0.001\nflush_s")  # 3.6 s after the drive it lets go of the battery
SECRET: Final = "/var/lib/systemd/credential.secret"


@pytest.fixture(scope="module")
def box(new_guest: NewGuest) -> Guest:
    """The package, installed, with the agent ready."""
    return installed(new_guest)


def gone(guest: Guest) -> None:
    """Wait until the machine is off, by itself."""
    assert guest._process is not None
    guest._process.wait(LIMIT_S)
    guest.cut()


def back(guest: Guest) -> None:
    """Boot it again, and look whether all that was stored is whole."""
    guest.boot()
    guest.until(READY, LIMIT_S)
    told = status(guest)
    assert (told["level"], told["store"]["moved_aside"]) == ("normal", "")
    assert asked(guest, "store verify")["faults"] == []
    assert guest.run("systemctl --failed --no-legend").out == ""


def test_ignition_off_ends_the_drive_and_switches_the_box_off(box: Guest, figure: Figure) -> None:
    box.put("/etc/roadwitness/agent.toml", SOON)
    box.run(f"systemctl restart {AGENT}", limit_s=LIMIT_S)
    drive(box, 10)
    off = float(box.run("echo pull-down > /run/ignition; cut -d' ' -f1 /proc/uptime").out)
    gone(box)
    back(box)
    box.put("/etc/roadwitness/agent.toml", CONFIG)
    said = box.run(f"journalctl -b -1 -u {AGENT} -o short-monotonic").out
    assert "the ignition is off" in said
    assert "everything is stored; runs systemctl poweroff" in said
    assert "ended with everything stored" in said  # and then systemd asked it to end
    ended = [line for line in box.run("journalctl -b -1 -o short-monotonic").out.splitlines() if line.startswith("[")]
    figure("from the ignition's switching off to the last word of the journal", _at(ended[-1]) - off, "s")
    trips = asked(box, "trips")
    assert [trip["distance_m"] > 150 for trip in trips] == [True], (trips, said)
    kinds = {event["kind"] for event in asked(box, "events")}
    assert "power_lost" not in kinds  # it was no cut
    assert json.loads(box.get("/var/lib/roadwitness/crashes.json"))["crashes"] == []
    assert "recovery complete" not in box.run("journalctl -b -k -o cat | grep vda || true").out  # nor for the disk


def _at(line: str) -> float:
    return float(line[1 : line.index("]")])


def test_a_kernel_that_hangs_is_reset_by_the_boards_watchdog(box: Guest) -> None:
    told = "grep -qx active /sys/class/watchdog/watchdog0/state && ls -l /proc/1/fd | grep -q watchdog0"
    box.until(told, LIMIT_S)  # systemd feeds it
    assert box.run("cat /sys/class/watchdog/watchdog0/timeout").out.strip() == "60"
    # after a panic Debian's kernel does nothing any more, for ever: as good a hang as any
    box.run("sysctl -q kernel.panic=0 kernel.sysrq=1")
    box.start("echo c > /proc/sysrq-trigger")
    gone(box)
    assert "Kernel panic" in box.console()
    back(box)


def test_the_store_is_locked_until_the_boxs_own_secret_opens_it(box: Guest, figure: Figure) -> None:
    """The package made the vault when it was installed."""
    vault = asked(box, "vault state")
    assert {folder["state"] for folder in vault["folders"]} == {"open"}
    opened = moment(box, VAULT, "ActiveEnterTimestampMonotonic")
    assert 0 < opened <= moment(box, AGENT, "ExecMainStartTimestampMonotonic")
    figure("opening the vault at a boot", opened - moment(box, VAULT, "InactiveExitTimestampMonotonic"), "s")
    # another board with this card, and so without what the key is sealed to
    box.run(f"mv {SECRET} {SECRET}.away")
    box.reboot()
    box.until(f"systemctl show -p Result --value {VAULT} | grep -qv success", LIMIT_S)
    assert {folder["state"] for folder in asked(box, "vault state")["folders"]} == {"locked"}
    assert STORE not in box.run("find /var/lib/roadwitness").out
    one = box.run("find /var/lib/roadwitness -type f | head -1").out.strip()
    assert box.run(["cat", one], check=False).code != 0
    assert shown(box, AGENT, "ActiveState") != "active"
    assert "does not open here" in box.run(f"journalctl -b -u {VAULT} -o cat").out
    # a TPM that was late: the box works as soon as it answers, and nobody is there to start it
    box.run(f"mv {SECRET}.away {SECRET}")
    box.until(READY, LIMIT_S)
    assert asked(box, "store verify")["faults"] == []
