"""The units, users, folders and network files in systemd/: they parse, name what exists, and keep services small."""

import configparser
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest
import typer

from agent.cli import COMMANDS
from agent.config import config_dir
from agent.dashcam.process import STOP_S
from agent.dashcam.segments import KEEP
from agent.dashcam.settings import DashcamConfig
from agent.dashcam.watch import VIDEO

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "systemd"
AGENT, RECEIVER = FOLDER / "roadwitness-agent.service", FOLDER / "roadwitness-receiver.service"
DASHCAM = FOLDER / "roadwitness-dashcam.service"
VAULT = FOLDER / "roadwitness-vault.service"
CHORES = tuple(FOLDER / f"roadwitness-{name}.service" for name in ("rate", "renewals", "retention"))
UPDATE, SETTLE = FOLDER / "roadwitness-update.service", FOLDER / "roadwitness-settle.service"
SERVICES = (AGENT, RECEIVER, DASHCAM, *CHORES)
UNITS = (*SERVICES, VAULT, UPDATE, SETTLE)
ANALYZE = shutil.which("systemd-analyze")
SYSUSERS = shutil.which("systemd-sysusers")
needs_analyze = pytest.mark.skipif(ANALYZE is None, reason="Debian package systemd (systemd-analyze) is absent")


class _Repeated(dict):
    """Join values of a key that stands several times, as systemd does."""

    def __setitem__(self, key, value):
        if key in self and isinstance(value, list):
            self[key].extend(value)
        else:
            super().__setitem__(key, value)


def parsed(path):
    parser = configparser.RawConfigParser(strict=False, dict_type=_Repeated, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str
    parser.read_string(path.read_text())
    return {name: {k: str(v).split("\n") for k, v in parser.items(name)} for name in parser.sections()}


@pytest.mark.parametrize(
    "path", [*UNITS, *FOLDER.glob("*.timer"), *(FOLDER / "network").iterdir()], ids=lambda p: p.name
)
def test_each_file_parses_and_each_line_has_its_reason(path):
    assert parsed(path)
    lines = path.read_text().splitlines()
    bare = [
        line
        for above, line in pairwise(lines)
        if "=" in line and not line.startswith("#") and not above.startswith("#")
    ]
    assert {line for line in bare if not line.startswith("Description=")} <= {
        "Name=can0",
        "WantedBy=multi-user.target",
        "WantedBy=timers.target",
        "After=network-online.target postgresql.service mosquitto.service",
    }


@needs_analyze
@pytest.mark.parametrize("path", UNITS, ids=lambda p: p.name)
def test_systemd_finds_nothing_to_complain_about(path, tmp_path):
    for each in UNITS:  # beside each other, as they are installed
        text = re.sub(r"/opt/roadwitness(-good)?/bin/roadwitness", sys.executable, each.read_text())
        (tmp_path / each.name).write_text(text)
    done = subprocess.run(
        [ANALYZE, "verify", "--man=no", tmp_path / path.name], capture_output=True, text=True, timeout=60
    )
    complaints = [line for line in done.stderr.splitlines() if path.stem in line]
    assert complaints == []
    assert done.returncode == 0, done.stderr


@needs_analyze
@pytest.mark.parametrize(
    ("path", "most"),
    [*((path, 20) for path in (*SERVICES, VAULT)), (UPDATE, 35), (SETTLE, 35)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_services_are_exposed_no_more_than_2_0_and_what_exchanges_programs_than_3_5(path, most):
    command = [ANALYZE, "security", "--offline=true", "--no-pager", f"--threshold={most}", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout.splitlines()[-1:] or done.stderr


@pytest.mark.parametrize("path", UNITS, ids=lambda p: p.name)
def test_what_a_unit_starts_is_in_the_package(path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    program, command, *options = parsed(path)["Service"]["ExecStart"][0].split()
    folder = "roadwitness-good" if path in (UPDATE, SETTLE) else "roadwitness"
    assert program == f"/opt/{folder}/bin/roadwitness"  # the venv's, where pip puts [project.scripts]
    assert "roadwitness" in project["project"]["scripts"]
    assert command in COMMANDS
    shared = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    assert shared["systemd"] == "share/roadwitness/systemd"
    for option in options:
        if option.startswith("/etc/roadwitness/"):
            assert (config_dir() / Path(option).name).is_file()


def test_a_vault_that_opens_late_starts_all_that_waited_for_it():
    """systemd starts nothing anew whose requirement failed, even when that succeeds later (seen on a real one)."""
    waiting = {path.name for path in UNITS if VAULT.name in parsed(path)["Unit"].get("Requires", [])}
    (after,) = parsed(VAULT)["Service"]["ExecStartPost"]
    assert set(re.findall(r"roadwitness-\w+[.]service", after)) == waiting == {AGENT.name, DASHCAM.name}
    assert "--no-block" in after  # they wait for this unit to end


def test_users_homes_and_groups_are_those_of_the_units():
    rows = [line.split() for line in (FOLDER / "sysusers.d" / "roadwitness.conf").read_text().splitlines()]
    users = {row[1]: row[-1] for row in rows if row and row[0] == "u"}
    members = {row[2] for row in rows if row and row[0] == "m"}
    for path in SERVICES:
        service = parsed(path)["Service"]
        assert users[service["User"][0]] == f"/var/lib/{service['StateDirectory'][0]}"
        assert service["Group"] == service["User"]
    assert members == {"dialout", "gpio", "systemd-journal", "video", "roadwitness-dashcam"}
    rules = (FOLDER / "71-roadwitness-sensors.rules").read_text()
    assert set(re.findall(r'GROUP="(\w+)"', rules)) == {"roadwitness", "gpio"}
    # sensors and the triggers that give them their rate, at a boot (add) and when the package is installed (change)
    (opened,) = (line for line in rules.splitlines() if "chmod" in line)
    assert 'KERNEL=="iio:device*|trigger*"' in opened
    assert 'ACTION=="add|change"' in opened


@pytest.mark.skipif(SYSUSERS is None, reason="Debian package systemd (systemd-sysusers) is absent")
def test_the_users_are_made(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "group").write_text("dialout:x:20:\n")
    (tmp_path / "etc" / "passwd").write_text("")
    command = [SYSUSERS, f"--root={tmp_path}", FOLDER / "sysusers.d" / "roadwitness.conf"]
    inside = tmp_path / "usr" / "lib" / "sysusers.d"
    inside.mkdir(parents=True)
    shutil.copy(FOLDER / "sysusers.d" / "roadwitness.conf", inside)
    done = subprocess.run([*command[:2], "roadwitness.conf"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    made = (tmp_path / "etc" / "passwd").read_text()
    assert ":/var/lib/roadwitness:/usr/sbin/nologin" in made
    assert "roadwitness-receiver:" in made
    assert re.search(r"^dialout:.*:roadwitness$", (tmp_path / "etc" / "group").read_text(), re.MULTILINE)


def test_each_timer_starts_a_service_that_runs_a_command_that_is_there():
    for timer in FOLDER.glob("*.timer"):
        assert parsed(timer)["Install"]["WantedBy"] == ["timers.target"]
        words = parsed(timer.with_suffix(".service"))["Service"]["ExecStart"][0].split()[1:]
        module, attribute = COMMANDS[words[0]][0].split(":")
        command = typer.main.get_command(getattr(import_module(module), attribute))
        for word in words[1:]:
            if word.startswith("--"):
                assert any(word in parameter.opts for parameter in command.params)
            elif not word.startswith("/"):
                command = command.commands[word]


def test_the_agent_can_run_compiled_code_and_reach_its_devices():
    service = parsed(AGENT)["Service"]
    assert "MemoryDenyWriteExecute" not in service
    assert service["Type"] == ["notify"]
    assert int(service["WatchdogSec"][0]) > 3  # fed three times in each time-out by a spine that wakes at 10 Hz
    assert {d.split()[0] for d in service["DeviceAllow"]} == {
        "char-ttyUSB",
        "char-ttyACM",
        "char-rfcomm",
        "char-iio",
        "char-gpiochip",
    }
    families = set(service["RestrictAddressFamilies"][0].split())
    used = set(re.findall(r"socket\.(AF_\w+)", "".join(p.read_text() for p in sources("agent", "drivers"))))
    assert used - {"AF_UNSPEC"} <= families
    assert "PrivateDevices" not in service


def test_the_receiver_compiles_nothing_so_that_its_memory_can_be_locked():
    assert parsed(RECEIVER)["Service"]["MemoryDenyWriteExecute"] == ["yes"]
    code = (
        "import importlib, pkgutil, sys, receiver\n"
        "[importlib.import_module('receiver.' + m.name) for m in pkgutil.iter_modules(receiver.__path__)]\n"
        "sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, timeout=60).returncode == 0


def test_the_dashcam_has_cameras_and_a_bounded_share_of_the_board_and_no_key() -> None:
    service = parsed(DASHCAM)["Service"]
    assert service["Type"] == ["notify"]
    assert service["DeviceAllow"] == ["char-video4linux rw"]
    assert service["SupplementaryGroups"] == ["video"]
    assert service["InaccessiblePaths"] == ["-/var/lib/roadwitness"]
    assert service["MemoryDenyWriteExecute"] == ["yes"]
    assert {"CPUQuota", "MemoryMax", "TasksMax"} <= service.keys()
    assert int(service["WatchdogSec"][0]) > 2 * (DashcamConfig().retry_cap_s + 10)
    assert int(service["TimeoutStopSec"][0]) > STOP_S
    code = (
        "import sys, agent.dashcam.process, drivers.camera.packets, drivers.camera.images\n"
        "sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, timeout=60).returncode == 0


def test_agent_and_dashcam_meet_in_one_folder() -> None:
    rows = [line.split() for line in (FOLDER / "tmpfiles.d" / "roadwitness.conf").read_text().splitlines()]
    folders = {row[1]: row for row in rows if row and row[0] in "dL"}
    shared = parsed(DASHCAM)["Service"]["StateDirectory"][0]
    own = parsed(AGENT)["Service"]["StateDirectory"][0]
    assert folders[f"/var/lib/{own}/{VIDEO}"][-1] == f"/var/lib/{shared}"
    keep = folders[f"/var/lib/{shared}/{KEEP}"]
    assert keep[2:5] == ["2770", shared, shared]
    assert f"-/var/lib/{shared}/{KEEP}" in parsed(AGENT)["Service"]["ReadWritePaths"]


def test_the_vault_is_open_before_what_lies_in_it_is_used() -> None:
    from agent.cli.vault import FOLDERS, HOME
    from agent.vault.vault import SEALED

    unit = parsed(VAULT)["Unit"]
    assert unit["ConditionPathExists"] == [str(HOME / SEALED)]
    assert unit["RequiresMountsFor"][0].split() == [*map(str, FOLDERS), str(HOME)]
    for path, folder in zip((AGENT, DASHCAM), FOLDERS, strict=True):
        assert parsed(path)["Unit"]["Requires"] == [VAULT.name]
        assert VAULT.name in parsed(path)["Unit"]["After"][0].split()
        assert f"/var/lib/{parsed(path)['Service']['StateDirectory'][0]}" == str(folder)


def test_a_box_that_is_not_fitted_waits_for_a_person_and_not_for_its_next_start(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("")
    command = [sys.executable, "-m", "agent", "agent", "--config", tmp_path / "agent.toml", "--store", tmp_path / "box"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert str(done.returncode) == parsed(AGENT)["Service"]["RestartPreventExitStatus"][0], done.stderr
    assert done.stderr.startswith("roadwitness: no device is configured")


def test_the_bus_comes_up_listening_only():
    can = parsed(FOLDER / "network" / "80-roadwitness-can0.network")["CAN"]
    assert can["BitRate"] == ["500K"]
    assert can["ListenOnly"] == ["yes"]


def sources(*folders):
    return [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
