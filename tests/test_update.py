"""Updates: signed by the vendor, tried beside the version that works, kept only when they prove healthy.

The repository is a real one on 127.0.0.1, the box a folder, and the machine around it (dpkg, systemctl, the agent)
a class that answers as a real one does; tests/packaging does the same with real packages.
"""

import functools
import http.server
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.clock import wall_ns
from agent.local.messages import Device, Power, Status, StoreState, Utc
from agent.records import Health
from agent.update import trees
from agent.update.channel import target_path
from agent.update.news import tell_update
from agent.update.place import Place, Ran, UpdateError, only_one
from agent.update.settings import UpdateSettings
from agent.update.state import State, load, save
from agent.update.updater import PYTHON, Updater

pytest.importorskip("tuf")
sys.path.insert(0, str(Path(__file__).parents[1] / "packaging"))
from repository import Repository

NOW = datetime.fromtimestamp(wall_ns() / 1e9, UTC)
FORMAT = "0001_lanes\n0002_projections\n"


class PowerCutError(BaseException):
    """The machine goes off in the middle of a step."""


def status(version: str, **other: Any) -> Status:
    """Return what a healthy agent of `version` says, but for `other`."""
    values: dict[str, Any] = {
        "t_ns": 0,
        "version": version,
        "device": "rw-0",
        "pid": 1,
        "boot": "b",
        "started_ns": 0,
        "level": "normal",
        "config": "",
        "config_sha256": "",
        "recording": False,
        "utc": Utc(quality="gnss"),
        "devices": [Device(name="gps:main", kind="gps", state="open", since_ns=0)],
        "store": StoreState(path="store.db", bytes=1, free_bytes=1, read_only=False, waiting=0),
    }
    return Status(**(values | other))


@dataclass
class Machine:
    """What is around the updater. A version's manners stand in its file `manners.json`."""

    place: Place
    commands: list[list[str]] = field(default_factory=list)
    now_ns: int = 0
    running: str = ""  # version of the agent that runs
    cut_at: int | None = None  # the power goes before this command
    refusal: Ran | None = None  # of dpkg
    saying: dict[str, Any] = field(default_factory=dict)  # of the agent, beside what is healthy
    log: list[str] = field(default_factory=list)

    def run(self, command: Any) -> Ran:
        if self.cut_at is not None and len(self.commands) >= self.cut_at:
            raise PowerCutError
        self.commands.append(list(command))
        name, words = Path(command[0]).name, list(command)
        if name == "dpkg-deb" and words[1] == "--show":
            return Ran(0, f"roadwitness {json.loads(Path(words[-1]).read_text())['version']} amd64")
        if name == "dpkg-deb":
            return self._extract(Path(words[2]), Path(words[3]))
        if words[:2] == ["dpkg", "--print-architecture"]:
            return Ran(0, "amd64\n")
        if words[:2] == ["dpkg", "--install"]:
            return self.refusal or self._install(Path(words[-1]))
        if words[0] == "cp":
            shutil.copytree(words[2], words[3])
        if words[:3] == ["systemctl", "--no-block", "restart"]:
            self.running = trees.at(self.place, trees.ACTIVE)
        if name == "roadwitness":
            return self._program(Path(words[0]).parents[1], words[1:])
        if words[0] == "runuser":
            return self._program(Path(words[-2]).parents[1], words[-1:])
        return Ran(0, "")

    def _extract(self, package: Path, target: Path) -> Ran:
        manners = json.loads(package.read_text())
        tree = target / "opt" / f"roadwitness-{manners['version']}"
        make_tree(tree, manners)
        return Ran(0, "")

    def _install(self, package: Path) -> Ran:
        """Do as dpkg does: lay the new version down, remove the files of the one that it knew."""
        known = self.place.root / "dpkg"
        self._extract(package, self.place.root / "again")
        shutil.rmtree(self.place.root / "again")
        if known.exists():
            shutil.rmtree(self.place.tree(known.read_text()), ignore_errors=True)
        known.write_text(json.loads(package.read_text())["version"])
        return Ran(0, "")

    def _program(self, tree: Path, words: list[str]) -> Ran:
        manners = json.loads((tree / "manners.json").read_text())
        if words[0] in manners.get("fails", ()):
            return Ran(1, f"roadwitness: {words[0]} fails")
        if words[0] == "--version":
            return Ran(0, f"roadwitness {manners['version']}\n")
        if words[:2] == ["store", "format"]:
            return Ran(0, manners.get("format", FORMAT))
        return Ran(0, "")

    def ask(self, folder: Path) -> Status | None:
        if not self.running:
            return None
        manners = json.loads((self.place.tree(self.running) / "manners.json").read_text())
        if manners.get("dead"):
            return None
        return status(**({"version": self.running} | self.saying | decoded(manners.get("says", {}))))

    def pause(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


def decoded(said: dict[str, Any]) -> dict[str, Any]:
    """Return what a version's manners say of the agent as the types that it answers with."""
    devices = [Device(name="gps:main", kind="gps", state=said["gps"], since_ns=0)] if "gps" in said else None
    return {k: v for k, v in said.items() if k != "gps"} | ({"devices": devices} if devices else {})


def make_tree(tree: Path, manners: dict[str, Any]) -> None:
    """Lay a version down that behaves by its manners."""
    unit = (
        tree / "share" / "roadwitness" / "system" / "usr" / "lib" / "systemd" / "system" / "roadwitness-agent.service"
    )
    unit.parent.mkdir(parents=True, exist_ok=True)
    unit.write_text(f"# of {manners['version']}\n")
    if "extra" in manners:
        (unit.parent / manners["extra"]).write_text("")
    (tree / "manners.json").write_text(json.dumps(manners))


def package(folder: Path, version: str, **manners: Any) -> Path:
    """Return the file that stands for a version's package."""
    path = folder / f"roadwitness_{version}.deb"
    path.write_text(json.dumps({"version": version} | manners))
    return path


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a box with version 1.0.0, running."""
    place = Place(tmp_path / "box")
    make_tree(place.tree("1.0.0"), {"version": "1.0.0"})
    trees.point(place, trees.ACTIVE, "1.0.0")
    trees.point(place, trees.GOOD, "1.0.0")
    (place.root / "dpkg").write_text("1.0.0")
    unit = place.root / "usr/lib/systemd/system/roadwitness-agent.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("# of 1.0.0\n")
    return Machine(place, running="1.0.0")


def updater(machine: Machine, boot: str = "b1", metered: bool = False, **settings: Any) -> Updater:
    """Return the updater of a box; times are the machine's own."""
    return Updater(
        machine.place,
        UpdateSettings(trial_s=100, steady_s=10, **settings),
        boot,
        metered,
        machine.run,
        machine.ask,
        lambda: machine.now_ns,
        machine.pause,
    )


def outcome(machine: Machine) -> dict[str, str]:
    """Return what the agent is told."""
    told: dict[str, str] = json.loads((machine.place.state / "outcome.json").read_bytes())
    return told


def unit_of(machine: Machine) -> str:
    """Return the version whose units are installed."""
    return (machine.place.root / "usr/lib/systemd/system/roadwitness-agent.service").read_text().split()[-1]


# the repository


@dataclass
class Vendor:
    """A repository that is served, and what was asked of it."""

    repository: Repository
    url: str
    folder: Path
    asked: list[tuple[str, str | None]]

    def offer(self, version: str, now: datetime = NOW, **manners: Any) -> None:
        self.repository.offer(target_path("amd64", PYTHON), package(self.folder, version, **manners), version, "", now)


@contextmanager
def served(folder: Path, asked: list[tuple[str, str | None]]) -> Iterator[str]:
    """Serve a folder on 127.0.0.1, with ranges."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            asked.append((self.path, wanted))
            path = Path(self.translate_path(self.path))
            if not path.is_file():
                self.send_error(404)
                return
            data = path.read_bytes()
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self.wfile.write(data[start:])

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def vendor(tmp_path: Path, machine: Machine) -> Iterator[Vendor]:
    """Return a repository whose first root metadata the box has."""
    repository = Repository(tmp_path / "repository", tmp_path / "keys")
    root = repository.create(NOW)
    machine.place.trusted.parent.mkdir(parents=True)
    shutil.copy(root, machine.place.trusted)
    asked: list[tuple[str, str | None]] = []
    with served(tmp_path / "repository", asked) as url:
        yield Vendor(repository, url, tmp_path, asked)


def test_an_update_is_fetched_tried_proved_and_made_known(machine: Machine, vendor: Vendor) -> None:
    vendor.offer("1.1.0", extra="new.timer")
    box = updater(machine, url=vendor.url)
    offer, _ = box.check()
    assert offer is not None
    assert offer.version == "1.1.0"
    said = box.update()
    assert (said.verdict, said.version) == ("installed", "1.1.0")
    assert (trees.at(machine.place, trees.ACTIVE), trees.at(machine.place, trees.GOOD)) == ("1.1.0", "1.1.0")
    assert (machine.running, unit_of(machine)) == ("1.1.0", "1.1.0")
    assert (machine.place.root / "usr/lib/systemd/system/new.timer").exists()
    assert outcome(machine)["result"] == "installed"
    machine.place.store.mkdir()
    told: list[Health] = []
    for _ in range(2):
        tell_update(machine.place.store, told.append)
    assert [(health.source, health.state, health.facts["version"]) for health in told] == [("update", "ok", "1.1.0")]
    assert load(machine.place.state).phase == "registering"
    assert updater(machine, url=vendor.url).update().verdict == "installed"  # as the new version does it
    assert (machine.place.root / "dpkg").read_text() == "1.1.0"
    assert trees.versions(machine.place) == ["1.0.0", "1.1.0"]  # dpkg removed the old one, and it is kept
    assert load(machine.place.state).phase == "idle"
    assert updater(machine, url=vendor.url).update().verdict == "newest"
    vendor.offer("1.2.0")
    assert updater(machine, url=vendor.url).update().verdict == "installed"
    assert updater(machine, url=vendor.url).update().verdict == "installed"
    assert trees.versions(machine.place) == ["1.1.0", "1.2.0"]
    assert not (machine.place.root / "usr/lib/systemd/system/new.timer").exists()


@pytest.mark.parametrize(
    ("manners", "why"),
    [
        ({"dead": True}, "does not answer"),
        ({"says": {"level": "minimal", "level_reason": "KeyError: x"}}, "KeyError: x"),
        ({"says": {"gps": "lost"}}, "gps:main worked before"),
        ({"says": {"version": "0.0.1"}}, "version 0.0.1 answers"),
        ({"says": {"store": None}}, "store cannot be written"),
    ],
)
def test_a_version_that_is_not_healthy_goes_by_itself(machine: Machine, manners: dict[str, Any], why: str) -> None:
    box = updater(machine)
    said = box.install(package(machine.place.root, "1.1.0", extra="new.timer", **manners), "1.1.0")
    assert said.verdict == "rolled_back"
    assert why in said.detail
    assert (machine.running, unit_of(machine)) == ("1.0.0", "1.0.0")
    assert not (machine.place.root / "usr/lib/systemd/system/new.timer").exists()
    assert outcome(machine)["result"] == "rolled_back"
    assert 100e9 <= machine.now_ns < 103e9  # no sooner than its time is over, and no later
    assert "1.1.0" in load(machine.place.state).refused


@pytest.mark.parametrize(
    ("manners", "why"),
    [
        ({"fails": ["--version"]}, "does not start here"),
        ({"fails": ["config"]}, "does not take this box's configuration"),
        ({"fails": ["warm"]}, "kernels"),
        ({"format": FORMAT + "0003_other\n"}, "0003_other"),
    ],
)
def test_a_version_that_could_not_work_is_not_even_tried(machine: Machine, manners: dict[str, Any], why: str) -> None:
    with pytest.raises(UpdateError, match=why):
        updater(machine).install(package(machine.place.root, "1.1.0", **manners), "1.1.0")
    assert machine.running == "1.0.0"
    assert not any(command[0] == "systemctl" for command in machine.commands)
    assert trees.versions(machine.place) == ["1.0.0"]
    assert load(machine.place.state).phase == "idle"


def test_a_store_that_only_gains_something_lets_a_box_go_back(machine: Machine) -> None:
    said = updater(machine).install(package(machine.place.root, "1.1.0", format=FORMAT + "0003_x additive\n"), "1.1.0")
    assert said.verdict == "installed"


def test_what_failed_is_not_tried_again_by_itself_and_a_newer_one_is(machine: Machine, vendor: Vendor) -> None:
    vendor.offer("1.1.0", dead=True)
    assert updater(machine, url=vendor.url).update().verdict == "rolled_back"
    assert updater(machine, url=vendor.url).update().verdict == "waiting"
    assert updater(machine, url=vendor.url).update(asked=True).verdict == "rolled_back"
    assert not list((machine.place.state / "download").glob("*.deb"))
    vendor.offer("1.1.1")
    assert updater(machine, url=vendor.url).update().verdict == "installed"


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ({"crash": True}, "crash"),
        ({"trip": True}, "driven"),
        (
            {
                "power": Power(
                    state="driving", since_ns=0, volts_of_12=14.1, charging=True, taken_wh=0, running=True, moving=True
                )
            },
            "driven",
        ),
    ],
)
def test_nothing_is_fetched_while_the_car_is_used(machine: Machine, vendor: Vendor, says: Any, why: str) -> None:
    vendor.offer("1.1.0")
    machine.saying = says
    for asked in (False, True):
        said = updater(machine, url=vendor.url).update(asked=asked)
        assert said.verdict == "waiting"
        assert why in said.detail
    assert not any("targets/" in path for path, _ in vendor.asked)


def test_a_link_that_costs_is_used_up_to_its_budget(machine: Machine, vendor: Vendor) -> None:
    vendor.offer("1.1.0", padding="x" * 1_500_000)
    box = updater(machine, metered=True, url=vendor.url, metered_month_bytes=1_000_000)
    said = box.update()
    assert said.verdict == "waiting"
    assert "over a link that costs" in said.detail
    box = updater(machine, metered=True, url=vendor.url, metered_month_bytes=2_000_000)
    assert box.update().verdict == "installed"
    box.note()
    assert 1_500_000 < load(machine.place.state).bytes < 1_600_000
    vendor.offer("1.2.0", padding="x" * 600_000)
    updater(machine, metered=True, url=vendor.url).update()  # dpkg
    assert updater(machine, metered=True, url=vendor.url, metered_month_bytes=2_000_000).update().verdict == "waiting"


def test_a_download_that_was_cut_goes_on_where_it_was(machine: Machine, vendor: Vendor) -> None:
    vendor.offer("1.1.0", padding="x" * 300_000)
    box = updater(machine, url=vendor.url)
    offer, channel = box.check()
    assert offer is not None
    whole = next((vendor.folder / "repository" / "targets").rglob("*.deb")).read_bytes()
    folder = machine.place.state / "download"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "partial.deb").write_bytes(whole[:200_000])
    (folder / "partial.of").write_text(next(iter(offer.target.hashes.values())))
    assert channel.fetch(offer).read_bytes() == whole
    assert vendor.asked[-1][1] == "bytes=200000-"
    assert not (folder / "partial.deb").exists()


def corrupt_package(vendor: Vendor, box: Path) -> None:
    path = next((vendor.folder / "repository" / "targets").rglob("*.deb"))
    path.write_bytes(path.read_bytes().replace(b"1.1.0", b"6.6.6"))


def forge_targets(vendor: Vendor, box: Path) -> None:
    path = max((vendor.folder / "repository" / "metadata").glob("*.targets.json"))
    path.write_text(path.read_text().replace("1.1.0", "9.9.9"))


def other_keys(vendor: Vendor, box: Path) -> None:
    shutil.rmtree(vendor.folder / "repository" / "metadata")
    other = Repository(vendor.folder / "repository", vendor.folder / "thief")
    other.create(NOW)
    Vendor(other, vendor.url, vendor.folder, []).offer("1.1.0")


def expire(vendor: Vendor, box: Path) -> None:
    vendor.repository.refresh(NOW - timedelta(days=30))


def roll_back_metadata(vendor: Vendor, box: Path) -> None:
    metadata = vendor.folder / "repository" / "metadata"
    old = vendor.folder / "old"
    shutil.copytree(metadata, old)
    vendor.offer("1.2.0")
    updater(Machine(Place(box)), url=vendor.url).check()
    shutil.rmtree(metadata)
    shutil.copytree(old, metadata)


@pytest.mark.parametrize(
    ("attack", "why"),
    [
        (corrupt_package, "is not trusted"),
        (forge_targets, "is not trusted"),
        (other_keys, "is not trusted"),
        (expire, "have expired"),
        (roll_back_metadata, "is not trusted"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_is_not_signed_as_it_should_be_is_refused(
    machine: Machine, vendor: Vendor, attack: Callable[[Vendor, Path], None], why: str
) -> None:
    vendor.offer("1.1.0")
    attack(vendor, machine.place.root)
    with pytest.raises(UpdateError, match=why):
        updater(machine, url=vendor.url).update()
    assert machine.running == "1.0.0"
    assert trees.versions(machine.place) == ["1.0.0"]


def test_a_repository_that_offers_less_than_what_runs_is_not_followed(machine: Machine, vendor: Vendor) -> None:
    vendor.offer("0.9.0")
    assert updater(machine, url=vendor.url).update().verdict == "newest"
    with pytest.raises(ValueError, match="only higher versions"):
        vendor.offer("0.8.0")


def test_keys_are_replaced_and_boxes_follow(machine: Machine, vendor: Vendor) -> None:
    for role in ("targets", "root", "timestamp"):
        vendor.repository.rotate(role, NOW)
    vendor.offer("1.1.0")
    assert updater(machine, url=vendor.url).update().verdict == "installed"


def test_dpkg_that_fails_is_told_of_the_version_again_and_holds_no_newer_one_up(
    machine: Machine, vendor: Vendor
) -> None:
    vendor.offer("1.1.0")
    assert updater(machine, url=vendor.url).update().verdict == "installed"
    machine.refusal = Ran(1, "dpkg: error: no space left on device")
    for _ in range(2):
        said = updater(machine, url=vendor.url).update()
        assert said.verdict == "unregistered"
        assert "no space left on device; it is told again" in said.detail
        assert trees.versions(machine.place) == ["1.0.0", "1.1.0"]
    assert (machine.place.root / "dpkg").read_text() == "1.0.0"
    vendor.offer("1.1.5", fails=["config"])
    with pytest.raises(UpdateError, match="does not take this box's configuration"):
        updater(machine, url=vendor.url).update()
    assert [path.name for path in (machine.place.state / "download").glob("*.deb")] == ["roadwitness_1.1.0.deb"]
    assert updater(machine, url=vendor.url).update().verdict == "unregistered"
    vendor.offer("1.2.0")
    assert updater(machine, url=vendor.url).update().version == "1.2.0"
    machine.refusal = None
    assert updater(machine, url=vendor.url).update().verdict == "installed"
    assert (machine.place.root / "dpkg").read_text() == "1.2.0"
    assert not list((machine.place.state / "download").glob("*.deb"))
    assert load(machine.place.state).phase == "idle"


def test_a_power_cut_before_any_step_leaves_the_old_or_the_new_version_whole(tmp_path: Path, machine: Machine) -> None:
    """Cut the power before each command that an update runs; the next boots end with one version, and say which."""
    start = tmp_path / "start"
    shutil.copytree(machine.place.root, start, symlinks=True)
    ends = []
    for at in range(100):
        shutil.rmtree(machine.place.root)
        shutil.copytree(start, machine.place.root, symlinks=True)
        machine = Machine(machine.place, running="1.0.0", cut_at=at)
        file = package(machine.place.root, "1.1.0")
        try:
            updater(machine).install(file, "1.1.0")
            updater(machine).settle()
        except PowerCutError:
            finished = False
        else:
            finished = True
        machine.cut_at = None
        for boot in ("b2", "b3"):
            updater(machine, boot).begin_boot()
            machine.running = trees.at(machine.place, trees.ACTIVE)
            updater(machine, boot).settle()
            updater(machine, boot).settle()
        active = trees.at(machine.place, trees.ACTIVE)
        assert active == trees.at(machine.place, trees.GOOD) == unit_of(machine) == machine.running
        assert (machine.place.tree(active) / "manners.json").is_file()
        assert load(machine.place.state).phase == "idle"
        if active == "1.1.0":
            assert (machine.place.root / "dpkg").read_text() == "1.1.0"
            assert trees.versions(machine.place) == ["1.0.0", "1.1.0"]
        ends.append(active)
        if finished:
            break
    assert finished
    assert set(ends) == {"1.0.0", "1.1.0"}
    assert ends == sorted(ends)


def test_a_version_in_which_the_machine_boots_again_and_again_goes(machine: Machine) -> None:
    state = State(phase="trial", version="1.1.0", previous="1.0.0", boot="b1", boots=1)
    make_tree(machine.place.tree("1.1.0"), {"version": "1.1.0"})
    trees.activate(machine.place, "1.1.0", "1.0.0", machine.run)
    save(machine.place.state, state)
    for boot in ("b1", "b2", "b2", "b3"):
        assert updater(machine, boot).begin_boot() is None
    said = updater(machine, "b4").begin_boot()
    assert said is not None
    assert said.verdict == "rolled_back"
    assert "3 boots" in outcome(machine)["detail"]
    assert machine.running == "1.0.0"


def test_units_are_on_the_disk_before_the_update_says_that_they_are(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new file that is only renamed into its place is empty after a power cut: ext4 gives it its blocks later."""
    durable: list[str] = []
    fsync, replaced = os.fsync, os.replace

    def fsync_noted(descriptor: int) -> None:
        fsync(descriptor)
        durable.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    def replace_checked(source: Any, target: Any) -> None:
        if not Path(source).is_symlink():
            assert str(source) in durable, f"{source} is renamed before its contents are on the disk"
        replaced(source, target)

    monkeypatch.setattr(os, "fsync", fsync_noted)
    monkeypatch.setattr(os, "replace", replace_checked)
    said = updater(machine).install(package(machine.place.root, "1.1.0", extra="new.timer"), "1.1.0")
    assert said.verdict == "installed"
    assert any(path.endswith(".new.timer.new") for path in durable)
    assert str(machine.place.root / "usr/lib/systemd/system") in durable


def test_a_person_goes_back_where_the_old_version_could_run(machine: Machine) -> None:
    with pytest.raises(UpdateError, match="no version before"):
        updater(machine).roll_back("asked")
    updater(machine).install(package(machine.place.root, "1.1.0"), "1.1.0")
    updater(machine).settle()
    said = updater(machine).roll_back("asked")
    assert (said.verdict, machine.running) == ("rolled_back", "1.0.0")
    assert updater(machine).install(package(machine.place.root, "1.2.0"), "1.2.0").verdict == "installed"
    updater(machine).settle()
    (machine.place.tree("1.0.0") / "manners.json").write_text(json.dumps({"version": "1.0.0", "fails": ["store"]}))
    with pytest.raises(UpdateError, match="store fails"):
        updater(machine).roll_back("asked")


def test_two_updaters_do_not_work_at_once(machine: Machine) -> None:
    with only_one(machine.place), pytest.raises(UpdateError, match="under way already"), only_one(machine.place):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_root_that_is_read_only_is_named(machine: Machine) -> None:
    machine.place.opt.chmod(0o555)
    with pytest.raises(UpdateError, match="data partition"):
        trees.point(machine.place, trees.ACTIVE, "1.0.0")
