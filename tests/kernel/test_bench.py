"""The bench itself: it boots, takes commands and files, loses its power, and goes on from its disk."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.kernel.cache import CACHE, need
from tests.kernel.conftest import Figure, NewGuest, machines
from tests.kernel.errors import GuestError
from tests.kernel.guest import BOOT_S, Guest

pytestmark = [pytest.mark.arch("amd64", "arm64"), pytest.mark.short]
# refuses, as apt does, where another fetches the lists
APT = """#!/bin/sh
case "$*" in
*update) mkdir "$0.busy" || exit 100; seq 200000 >/dev/null; rmdir "$0.busy" ;;
*) for name; do touch "$0.$name"; done ;;
esac
"""
DPKG_QUERY = """#!/bin/sh
for name; do :; done
test -e "${0%/*}/apt-get.$name" && echo "ii "
"""


def test_workers_that_miss_a_package_at_once_all_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"apt-get": APT, "dpkg-query": DPKG_QUERY}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(need, ["one", "two", "three", "four"]))
    assert {path.suffix for path in tmp_path.glob("apt-get.*")} >= {".one", ".two", ".three", ".four"}


class Hanging(Guest):
    """A guest whose kernel says at its first boot that it hangs, and ends."""

    def wait_for_hand(self, limit_s: float = BOOT_S) -> None:
        super().wait_for_hand(limit_s)
        if not self.hung:
            self.start("echo '<0>BUG: soft lockup - CPU#0' >/dev/kmsg; echo c >/proc/sysrq-trigger")
            self._wait(lambda: False, limit_s, "does not end")


def test_a_boot_in_which_the_kernel_hangs_is_told_and_repeated(guest: Guest) -> None:
    with Hanging(guest.arch, product=False) as hanging:
        assert hanging.run("uname -r").out.strip() == guest.image.release
        assert [pair for pair in machines([guest, hanging]) if "BUG: soft lockup" in pair[1]]
        kept = CACHE / f"hung-{hanging.folder.name}.log"
        assert "panic" in kept.read_text(errors="replace")
        kept.unlink()


def test_a_guest_boots_without_a_failed_unit(guest: Guest, figure: Figure) -> None:
    state = guest.run("systemctl is-system-running --wait; systemctl --failed --no-legend", check=False).out
    assert state.split() == ["running"]
    assert guest.run("uname -r").out.strip() == guest.image.release
    figure("boot until commands run", guest.boot_s, "s")


def test_commands_give_code_output_and_input_and_run_beside_each_other(guest: Guest) -> None:
    ended = guest.run("cat; echo to err >&2; exit 7", stdin=bytes(range(256)) * 4000, check=False)
    assert (ended.code, ended.err) == (7, "to err\n")
    assert len(ended.out.encode()) >= 256 * 4000
    with pytest.raises(GuestError, match="no such words"):
        guest.run("echo no such words >&2; false")
    sleeper = guest.start("sleep 1000")
    assert guest.run(["echo", "one", "argument each"]).out == "one argument each\n"
    sleeper.kill(signal.SIGTERM)
    assert sleeper.wait().code == 128 + signal.SIGTERM
    assert guest.run("/no/such/program", check=False).code == 127


def test_a_command_that_is_too_slow_is_ended_and_told(guest: Guest) -> None:
    with pytest.raises(GuestError, match=r"still runs after 0\.5 s: echo begun; exec sleep 77\nbegun"):
        guest.run("echo begun; exec sleep 77", limit_s=0.5)
    guest.until("! pgrep -f '[s]leep 77'")


def test_what_a_daemon_left_behind_prints_holds_nobody_up(guest: Guest) -> None:
    ended = guest.run("(sleep 600; echo late) & echo soon", limit_s=60)
    assert ended.out == "soon\n"
    guest.run("pkill -f '[s]leep 600'")


def test_files_come_and_go(guest: Guest) -> None:
    guest.put("/tmp/a/b", b"\0\xff" * 50_000, 0o600)
    assert guest.get("/tmp/a/b") == b"\0\xff" * 50_000
    assert guest.run("stat -c %a /tmp/a/b").out == "600\n"


def test_the_product_runs_with_its_kernels_compiled(guest: Guest, figure: Figure) -> None:
    assert guest.run("roadwitness --help").out
    warmed = guest.run("time -p roadwitness warm")
    seconds = float(warmed.err.split("real")[1].split()[0])
    figure("all kernels from their cache", seconds, "s")
    assert guest.run("find /mnt/product -name '*.nbc' -newer /mnt/product/lost+found").out == ""


def test_after_a_power_cut_what_was_synced_is_there(new_guest: NewGuest) -> None:
    guest = new_guest(product=False, memory_mib=512)
    guest.boot()
    first = guest.boot_id
    guest.run("echo kept > /root/kept && sync /root/kept")
    guest.cut()
    with pytest.raises(GuestError):
        guest.run("true")
    guest.boot()
    assert guest.boot_id != first
    assert guest.get("/root/kept") == b"kept\n"


def test_the_cable_can_be_pulled(guest: Guest) -> None:
    guest.until("grep -q 1 /sys/class/net/eth0/carrier")
    guest.qmp("set_link", name="net0", up=False)
    guest.until("grep -q 0 /sys/class/net/eth0/carrier")
    guest.qmp("set_link", name="net0", up=True)
    guest.until("ip -4 address show eth0 | grep 10.0.2.15")
