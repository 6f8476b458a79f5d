"""What root does in the agent's folder leads it nowhere else, whatever the agent's user has put there."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent import answers
from agent.doctor.finding import ill
from agent.doctor.fix import repairs
from agent.enrolment.enrol import signer_of
from agent.errors import RoadwitnessError
from agent.fitting import progress, word
from agent.fitting.erase import Box, erase
from agent.owner import as_owner

NOBODY = 65_534
LAST = word.of_end("removed", "Ann", "sold")


@pytest.fixture
def store() -> Iterator[Path]:
    """A store of another user, reachable by that user as /var/lib/roadwitness is."""
    if os.geteuid() != 0:
        pytest.skip("only root can work in a folder of another user")
    above = Path(tempfile.mkdtemp(prefix="roadwitness-owner-"))
    above.chmod(0o755)
    (above / "precious").mkdir()
    (above / "precious" / "file").write_text("root's")
    (above / "precious" / "file").chmod(0o644)
    (above / "store").mkdir(mode=0o700)
    os.chown(above / "store", NOBODY, NOBODY)
    yield above / "store"
    shutil.rmtree(above)


def begin(store: Path) -> None:
    with as_owner(store):
        answers.begin(store)


def close(store: Path) -> None:
    found = ill("fail", "storage.key", "key_open", "", file=str(store / "device.key"))
    (repair,) = repairs([found], None)  # type: ignore[arg-type]
    if repair.act():
        raise OSError


@pytest.mark.parametrize(
    ("link", "to", "work"),
    [
        ("fitting", "precious", lambda store: progress.save(store, progress.begun())),
        ("fitting", "precious", progress.forget),
        ("fitting.word.part", "precious/file", lambda store: word.leave(store, LAST)),
        (f".{answers.FILE}.tmp", "precious/file", begin),
        ("device.key", "precious/file", signer_of),
        ("device.key", "precious/file", close),
    ],
)
def test_a_link_in_the_store_changes_nothing_of_roots(
    store: Path, link: str, to: str, work: Callable[[Path], object]
) -> None:
    target = store.parent / to
    (store / link).symlink_to(target)
    (store.parent / "precious" / progress.FILE).write_text("root's, too")
    before = (store.parent / "precious" / "file").stat()
    with pytest.raises((OSError, RoadwitnessError)):
        work(store)
    after = (store.parent / "precious" / "file").stat()
    assert (after.st_mode, after.st_uid, after.st_mtime_ns) == (before.st_mode, before.st_uid, before.st_mtime_ns)
    assert sorted(os.listdir(store.parent / "precious")) == ["file", progress.FILE]
    assert (store.parent / "precious" / progress.FILE).read_text() == "root's, too"


def test_what_root_makes_in_the_store_is_its_owners_and_root_is_root_again(store: Path) -> None:
    groups = os.getgroups()
    signer_of(store)
    progress.save(store, progress.begun())
    word.leave(store, LAST)
    made = ("device.key", "fitting", f"fitting/{progress.FILE}", word.FILE)
    assert {(store / name).stat().st_uid for name in made} == {NOBODY}
    assert (os.geteuid(), os.getgroups()) == (0, groups)
    assert progress.load(store) is not None


def test_a_reset_erases_what_is_in_the_store_and_not_where_links_lead(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("root's")
    box = Box.of(tmp_path / "store", None)
    (box.store / "packages").mkdir(parents=True)
    for name in ("tls", "device.key", "packages/clip.mp4"):
        (box.store / name).symlink_to(precious if name == "tls" else precious / "file")
    erase(box, lambda _: None)
    assert (precious / "file").read_text() == "root's"
    assert not (box.store / "device.key").is_symlink()
    assert not (box.store / "packages").exists()
