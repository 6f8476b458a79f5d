"""The Debian package on a clean Debian 12: installs, runs, upgrades, goes back, and goes without a trace.

Run by `make package-test`, as root. The first run makes a Debian root with mmdebstrap (a minute); it is kept in build/.
"""

import functools
import hashlib
import http.server
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.packaging.root import SYSTEMCTL, Root, built
from tests.syncing import until

UNITS = (
    "roadwitness-agent.service",
    "roadwitness-dashcam.service",
    "roadwitness-settle.service",
    "roadwitness-update.service",
    "roadwitness-update.timer",
    "roadwitness-vault.service",
)


def test_two_builds_give_the_same_bytes(work: Path, vendor: Any) -> None:
    trust = work / "repository" / "metadata" / "1.root.json"
    again = built("0.9.1", work / "again", trust=trust)
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (vendor.second, again)}
    assert len(digests) == 1


def test_a_processor_for_which_there_is_no_package_is_refused_by_name_and_reason() -> None:
    said = subprocess.run(["make", "deb", "ARCH=armhf"], capture_output=True, text=True, check=False)
    assert said.returncode
    assert "no package for armhf: numba, llvmlite and msgspec have no builds for 32-bit ARM" in said.stderr


def ours(root: Root) -> set[str]:
    """Return all paths with our name, but for the pages that `man` formatted; dpkg removes an empty /opt, too."""
    said = root.run("find", "/opt", "/etc", "/usr", "/var/lib", "-name", "*roadwitness*").stdout
    return {line for line in said.splitlines() if line.startswith("/")}


@contextmanager
def started(root: Root, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a command inside as the service's user, in its own session, until the block ends."""
    inside = [
        "chroot",
        str(root.folder),
        "/sbin/runuser",
        "-u",
        "roadwitness",
        "--",
        "env",
        "HOME=/var/lib/roadwitness",
    ]
    command = [*inside, "/usr/bin/roadwitness", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def status(root: Root) -> dict[str, Any]:
    """Ask the agent inside how it is; empty where it does not answer."""
    code = (
        "import msgspec; from pathlib import Path; from agent.local.client import status;"
        "print(msgspec.json.encode(status(Path('/var/lib/roadwitness'))).decode())"
    )
    done = root.run("/opt/roadwitness-good/bin/python", "-I", "-c", code)
    return dict(json.loads(done.stdout.splitlines()[-1])) if done.returncode == 0 else {}


def opened(root: Root) -> set[str]:
    """Return the kinds of devices that the agent has open."""
    return {device["kind"] for device in status(root).get("devices", []) if device["state"] == "open"}


def test_a_clean_debian_takes_it_runs_it_upgrades_it_and_is_clean_again(debian: Root, vendor: Any) -> None:
    took_s = debian.install(vendor.first)
    print(f"\n{vendor.first.name}: {vendor.first.stat().st_size / 1e6:.0f} MB, installed in {took_s:.0f} s")
    assert debian.ok("roadwitness", "--version").strip() == "roadwitness 0.9.0"
    for user in ("roadwitness", "roadwitness-dashcam"):
        assert debian.ok("id", "-un", user).strip() == user
    complaints = debian.run("systemd-analyze", "verify", "--man=no", *UNITS).stdout
    assert not [line for line in complaints.splitlines() if "roadwitness" in line], complaints
    for unit in UNITS:
        if unit not in ("roadwitness-dashcam.service", "roadwitness-update.service"):
            assert debian.ok("systemctl", "is-enabled", unit).strip() == "enabled"
    assert "Check, prune or describe a store" in debian.ok("man", "roadwitness-store")
    kernels = debian.path("/var/lib/roadwitness/.cache/numba")
    assert len(list(kernels.rglob("*.nbi"))) > 10  # compiled at the installation, as the agent's user
    assert {path.owner() for path in kernels.rglob("*.nbi")} != {"root"}

    # a drive, as the user of the service; what is kept has to outlive what follows
    debian.ok("roadwitness", "sim", "record", "/tmp/drive", "--minutes", "3")
    agent = ("runuser", "-u", "roadwitness", "--", "env", "HOME=/var/lib/roadwitness", "roadwitness")
    debian.ok("chmod", "-R", "a+rX", "/tmp/drive")
    debian.ok(*agent, "replay", "/tmp/drive/commute-1.log", "--profile", "simcar", "--store", "/var/lib/roadwitness")
    trips = json.loads(debian.ok("roadwitness", "trips", "--json"))
    assert len(trips) == 1
    findings = debian.run("roadwitness", "doctor", "--json").stdout
    assert "Traceback" not in findings
    assert json.loads(findings[findings.index("{") if findings.lstrip()[:1] == "{" else findings.index("[") :])

    debian.ok("install", "-d", "-o", "roadwitness", "/run/roadwitness")  # as the unit's RuntimeDirectory=
    car = ("sim", "car", "--dir", "/var/lib/roadwitness/car", "--agent-config", "/var/lib/roadwitness/car.toml")
    with started(debian, *car, "--minutes", "30", "--json") as wires:
        assert wires.stdout is not None
        assert wires.stdout.readline()
        with started(debian, "agent", "--config", "/var/lib/roadwitness/car.toml"):
            until(lambda: opened(debian) == {"canbus", "elm327", "gps", "imu"}, "all devices are open", 120)

    settings = debian.path("/etc/roadwitness/agent.toml")
    settings.write_text(settings.read_text().replace("hold_s = 1.8", "hold_s = 1.7"))
    debian.install(vendor.second)
    assert debian.ok("roadwitness", "--version").strip() == "roadwitness 0.9.1"
    assert "hold_s = 1.7" in settings.read_text()
    assert json.loads(debian.ok("roadwitness", "trips", "--json")) == trips
    assert [path.name for path in debian.path("/opt").glob("roadwitness-0*")] == ["roadwitness-0.9.1"]
    assert debian.path("/opt/roadwitness-good").readlink() == Path("roadwitness-0.9.1")

    debian.ok("dpkg", "--remove", "roadwitness")
    assert debian.path("/var/lib/roadwitness/store.db").exists()
    assert "hold_s = 1.7" in settings.read_text()
    assert not list(debian.path("/opt").glob("roadwitness*"))
    debian.install(vendor.second)
    assert json.loads(debian.ok("roadwitness", "trips", "--json")) == trips

    debian.ok("dpkg", "--purge", "roadwitness")
    assert ours(debian) == set()
    assert "roadwitness" not in debian.path("/etc/passwd").read_text() + debian.path("/etc/group").read_text()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on 127.0.0.1, which the chroot shares."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_update_comes_over_the_channel_and_one_that_is_ill_goes_back_by_itself(debian: Root, vendor: Any) -> None:
    debian.install(vendor.first)
    debian.path("/usr/local/bin/systemctl").write_text(SYSTEMCTL)
    debian.path("/usr/local/bin/systemctl").chmod(0o755)
    settings = debian.path("/etc/roadwitness/agent.toml")
    with served(vendor.repository.metadata.parent) as url:
        update = f'[update]\nurl = "{url}"\ntrial_s = 150.0\nsteady_s = 5.0\n'
        settings.write_text(update + "[drivers.gps.main]\nport = 1\n")
        debian.ok("systemctl", "restart", "roadwitness-agent.service")
        until(lambda: status(debian).get("version") == "0.9.0", "0.9.0 answers", 120)

        def said(*words: str) -> dict[str, Any]:
            told = debian.run("roadwitness", "update", "--json", *words).stdout
            return dict(json.loads(told.splitlines()[-1]))

        assert said("--check")["verdict"] == "newest"
        vendor.repository.publish(vendor.second, "as good", vendor.now)
        assert said("--check")["version"] == "0.9.1"
        assert said("--now")["verdict"] == "installed"
        assert "0.9.1" in debian.ok("dpkg", "--status", "roadwitness")
        assert status(debian)["version"] == "0.9.1"
        assert sorted(path.name for path in debian.path("/opt").glob("roadwitness-0*")) == [
            "roadwitness-0.9.0",
            "roadwitness-0.9.1",
        ]
        vendor.repository.publish(vendor.ill, "ill", vendor.now)
        told = said("--now")
        assert told["verdict"] == "rolled_back"
        assert "does not answer" in told["detail"]
        until(lambda: status(debian).get("version") == "0.9.1", "0.9.1 answers", 120)
        assert "this version is ill" in debian.path("/run/agent.log").read_text()
        assert said()["verdict"] == "waiting"  # it is not tried again by itself
        assert said("--rollback")["verdict"] == "rolled_back"
        until(lambda: status(debian).get("version") == "0.9.0", "0.9.0 answers", 120)
    debian.ok("sh", "-c", "kill $(cat /run/agent.pid)")
    debian.ok("dpkg", "--purge", "roadwitness")
    assert ours(debian) == set()


def test_the_receiver_serves_on_a_clean_debian_and_does_its_chores(work: Path, vendor: Any, debian: Root) -> None:
    package = built("0.9.0", work, package="roadwitness-receiver")
    debian.install(package)
    services = [
        f"roadwitness-{name}" for name in ("receiver.service", "rate.timer", "renewals.timer", "retention.timer")
    ]
    complaints = debian.run("systemd-analyze", "verify", "--man=no", *services).stdout
    assert not [line for line in complaints.splitlines() if "roadwitness" in line], complaints
    for unit in services:
        assert debian.ok("systemctl", "is-enabled", unit).strip() == "enabled"
    assert "roadwitness receiver retention run" in debian.ok("man", "roadwitness-receiver")
    refused = debian.run("roadwitness", "agent")
    assert (refused.returncode, len(refused.stdout.splitlines())) == (1, 1)
    assert "box's package" in refused.stdout
    debian.ok("install", "-d", "-o", "roadwitness-receiver", "/var/lib/roadwitness-receiver")
    chores = (("rate",), ("renewals", "send"), ("retention", "run"))
    for words in (("devices", "--json"), *chores):
        command = ["roadwitness", "receiver", *words, "--config", "/etc/roadwitness/receiver.toml"]
        inside = f"cd /var/lib/roadwitness-receiver && exec {' '.join(command)}"
        debian.ok("runuser", "-u", "roadwitness-receiver", "--", "sh", "-c", inside)
    debian.ok("dpkg", "--purge", "roadwitness-receiver")
    assert ours(debian) == set()
