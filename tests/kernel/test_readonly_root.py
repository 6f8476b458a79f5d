"""The installed box on a read-only root with a data partition, set up as docs/updates.md says.

The table of mounts is taken from that page: what is written there is what is booted here.
"""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.kernel.asking import CAMERA, asked, drive, status, uptime
from tests.kernel.box import DASHCAM, LIMIT_S, READY, STORE, installed
from tests.kernel.cache import CHECKOUT, call
from tests.kernel.conftest import Figure, NewGuest
from tests.kernel.guest import Guest

PAGE: Final = (CHECKOUT / "docs/updates.md").read_text().partition("## A root that is read-only")[2]
DRIVEN_S: Final = 15.0  # of a drive whose plug is pulled
FILMS: Final = "ls /var/lib/roadwitness-dashcam/front/*.mp4"


def blocks() -> list[str]:
    """Return the page's indented blocks: the table of mounts, the commands that lay the partition out, the drop-in."""
    found = re.findall(r"(?:^    .*\n|^\n(?=    ))+", PAGE, re.M)
    return [re.sub(r"^    ", "", block, flags=re.M).strip() + "\n" for block in found]


@pytest.fixture(scope="module")
def box(new_guest: NewGuest, tmp_path_factory: pytest.TempPathFactory) -> Guest:
    """The box after the page's steps."""
    data = tmp_path_factory.mktemp("box") / "data.img"
    _disk(data)
    guest = installed(new_guest, disk=data, line="ro")
    guest.module("vivid")
    guest.put("/etc/modules-load.d/camera.conf", "vivid\n")
    guest.put("/etc/roadwitness/dashcam.toml", CAMERA)
    guest.run(f"systemctl enable {DASHCAM}")
    lay, table = blocks()[:2]
    guest.run(lay, limit_s=LIMIT_S)
    guest.put("/etc/fstab", table)
    guest.reboot()
    guest.until(READY, LIMIT_S)
    return guest


def _disk(path: Path) -> None:
    call("truncate", "-s", "2G", path)
    call("mkfs.ext4", "-q", "-F", "-L", "data", path)


def test_it_starts_whole_and_records(box: Guest) -> None:
    assert "ro" in box.run("findmnt -n -o OPTIONS /").out.strip().split(",")
    assert box.run("touch /usr/bench", check=False).code != 0
    assert box.run("systemctl --failed --no-legend").out == ""
    told = status(box)
    assert (told["level"], told["store"]["read_only"], told["store"]["moved_aside"]) == ("normal", False, "")
    drive(box, 10)
    box.until(FILMS, LIMIT_S)
    assert {folder["state"] for folder in asked(box, "vault state")["folders"]} == {"open"}


def test_nothing_of_ours_wants_to_write_elsewhere(box: Guest) -> None:
    box.run("systemctl start roadwitness-settle roadwitness-update", limit_s=LIMIT_S)
    box.run("roadwitness doctor --json >/tmp/doctor.json", check=False, limit_s=LIMIT_S)
    told = box.run("journalctl -b -u 'roadwitness-*' | grep -i 'read-only file system' || true").out
    assert told == ""


def test_the_plug_is_pulled_while_it_drives(box: Guest, figure: Figure) -> None:
    seen = len(asked(box, "trips"))
    box.start("while cangen can0 -I 0AA -L 8 -D 368F368F368F368F -g 20 -n 50; do :; done")
    kept = "SELECT boot, end_ns FROM block UNION ALL SELECT boot, end_ns FROM piece"
    boot = f"(SELECT number FROM boot WHERE id = '{box.boot_id.replace('-', '')}')"
    newest = f"SELECT max(end_ns) > {uptime(box) + DRIVEN_S}e9 FROM ({kept}) WHERE boot = {boot}"
    box.until(f'sqlite3 -readonly {STORE} "{newest}" | grep 1', LIMIT_S)
    box.cut()
    box.boot()
    box.until(READY, LIMIT_S)
    told = status(box)
    assert (told["level"], told["store"]["moved_aside"]) == ("normal", "")
    assert asked(box, "store verify")["faults"] == []
    trips = asked(box, "trips")
    assert len(trips) == seen + 1
    assert trips[-1]["distance_m"] > 100
    assert box.run("systemctl --failed --no-legend").out == ""
    box.until(f"systemctl is-active --quiet {DASHCAM} && {FILMS}", LIMIT_S)
    figure("of the drive whose plug was pulled, kept on the data partition", trips[-1]["distance_m"], "m")
