"""Claims and packages at the receiver: opened once by the first record, verified, kept whatever they are."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import delete, select, update

from agent import messages
from agent.evidence.manifest import Missing
from agent.incident.folder import write_files
from receiver import checks, claims, crashes, db, packages
from tests.crash_cases import NOW, Box, Insurer, hit
from tests.packing import S
from tests.syncing import postgresql


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path / "box")
    yield made
    made.store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def insurer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Insurer]:
    url = ""
    if request.param == "postgresql":
        url = request.getfixturevalue("cluster")
        engine = db.open_database(url)
        db.metadata.drop_all(engine)
        engine.dispose()
    made = Insurer(tmp_path / "insurer", url)
    yield made
    made.engine.dispose()


def rows(insurer: Insurer, table: Any) -> list[Any]:
    with db.reading(insurer.engine) as connection:
        return list(connection.execute(select(table)).all())


def now(insurer: Insurer, box: Box) -> crashes.PackageNow:
    return crashes.package_now(insurer.engine, box.store.device, box.crash.id)


def test_t_claim_auto_the_first_crash_record_opens_a_claim_and_the_package_proves_it(
    insurer: Insurer, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    # T-CLAIM-AUTO
    told = []
    monkeypatch.setattr(claims, "opened", lambda _, claim: told.append(claim))
    box.crashes()
    insurer.enrol(box)
    insurer.take_records(box, NOW - 35 * S, lanes=["crash"], most=1)
    (claim,) = rows(insurer, db.claim)
    assert (claim.device, claim.incident, claim.opened_by) == (box.store.device, box.crash.id, "device")
    assert (claim.state, claim.suspected, claim.opened_utc_ns) == ("reported", False, NOW - 35 * S)
    assert now(insurer, box).state == "none"
    insurer.take_records(box)
    insurer.take_files(box, but=["clip-front.mp4"])
    arriving = now(insurer, box)
    assert arriving.state == "arriving"
    assert 0 < arriving.received < arriving.size
    insurer.take_file(box, box.package / "clip-front.mp4", share=0.5)
    assert now(insurer, box).received > arriving.received
    insurer.take_file(box, box.package / "clip-front.mp4")
    assert now(insurer, box).state == "checking"
    insurer.settle()
    proved = now(insurer, box)
    assert proved.state == "proved"
    assert proved.check is not None
    assert (proved.check.exit_code, proved.check.edition, proved.check.faults) == (0, 1, [])
    assert proved.check.sentences[-1].startswith("PROVED")
    (claim,) = rows(insurer, db.claim)
    assert claim.state == "evidence"
    assert [c.incident for c in told] == [box.crash.id]
    assert packages.untold(insurer.engine) == []


def test_a_suspicion_is_marked_until_the_complete_record_says_otherwise(insurer: Insurer, box: Box) -> None:
    insurer.enrol(box)
    early = replace(box.crash, kind="suspected", complete=False, delta_v_mps=None)
    box.store.begin_boot("boot-x")
    box.store.append([(1, early)])
    insurer.take_records(box)
    (row,), _ = crashes.crashes(insurer.engine)
    assert (row.kind, row.complete, row.claim is not None and row.claim.suspected) == ("suspected", False, True)
    box.store.append([(2, box.crash)])
    insurer.take_records(box, NOW + S)
    (row,), _ = crashes.crashes(insurer.engine, box.store.device)
    assert (row.kind, row.complete, row.claim is not None and row.claim.suspected) == ("impact", True, False)
    assert row.received_utc_ns == NOW
    assert len(rows(insurer, db.claim)) == 1


def test_two_receivers_open_one_claim_however_they_race(cluster: str, tmp_path: Path, box: Box) -> None:
    engine = db.open_database(cluster)
    db.metadata.drop_all(engine)
    engine.dispose()
    both = [Insurer(tmp_path / f"i{n}", cluster) for n in range(2)]
    both[0].enrol(box)
    box.store.begin_boot("boot-x")
    incidents = [replace(hit(), id=f"{n:016x}", t_ns=n * S) for n in range(1, 9)]
    known = [
        {box.store.device: [packages.Known(None, one, ())]}  # type: ignore[arg-type]
        for one in incidents
    ]

    def take(insurer: Insurer) -> int:
        opened = 0
        for one in known:
            with insurer.engine.begin() as connection:
                opened += len(claims.report(connection, one, NOW))
        return opened

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(take, both)) == 8
    assert len(rows(both[0], db.claim)) == 8
    for insurer in both:
        insurer.engine.dispose()


def test_a_package_that_fails_is_kept_and_the_file_is_named(insurer: Insurer, box: Box) -> None:
    box.crashes()
    insurer.enrol(box)
    insurer.take_records(box)
    insurer.take_files(box)
    path = Path(insurer.files.path(box.store.device, box.crash.id, "imu.csv"))
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    insurer.settle()
    failed = now(insurer, box)
    assert failed.state == "failed"
    assert failed.check is not None
    assert [where for where, _ in failed.check.faults] == ["imu.csv"]
    assert rows(insurer, db.claim)[0].state == "reported"
    assert path.exists()
    # mended from a copy, it is proved when somebody asks for it
    path.write_bytes((box.package / "imu.csv").read_bytes())
    again = checks.check(insurer.engine, insurer.files, box.store.device, box.crash.id, NOW + 9 * S)
    assert again is not None
    assert again.proved
    assert now(insurer, box).state == "proved"
    assert rows(insurer, db.claim)[0].state == "evidence"


def test_the_expected_key_is_the_enrolled_one(insurer: Insurer, box: Box, tmp_path: Path) -> None:
    box.crashes(films="")
    insurer.enrol(box)
    insurer.take_records(box)
    insurer.take_files(box)
    with insurer.engine.begin() as connection:
        connection.execute(update(db.device).values(public_key="11" * 32))
    insurer.settle()
    check = now(insurer, box).check
    assert check is not None
    assert check.exit_code == 1
    assert "unknown key" in dict(check.faults)["manifest.sig"]


def test_files_that_are_no_package_fail_and_say_so(insurer: Insurer, box: Box) -> None:
    box.crashes(films="")
    insurer.take_all(box)
    with insurer.engine.begin() as connection:
        f = db.package_file
        connection.execute(delete(f).where(f.c.name == "manifest.json"))
    found = checks.check(insurer.engine, insurer.files, box.store.device, box.crash.id, NOW)
    assert found is not None
    assert found.exit_code == checks.UNREADABLE
    assert now(insurer, box).state == "failed"


def test_what_lies_beside_the_files_of_a_package_is_not_the_packages_fault(insurer: Insurer, box: Box) -> None:
    box.crashes(films="")
    insurer.enrol(box)
    insurer.take_records(box)
    insurer.take_files(box)
    folder = Path(insurer.files.path(box.store.device, box.crash.id))
    (folder / ".0123.part").write_bytes(b"left by a receiver that died")
    insurer.settle()
    assert now(insurer, box).state == "proved"


def test_a_newer_edition_is_verified_anew_and_the_older_check_says_so_meanwhile(insurer: Insurer, box: Box) -> None:
    box.missing.append(Missing("video", "the clip could not be cut"))
    box.crashes(films="")
    insurer.take_all(box)
    first = now(insurer, box)
    assert first.check is not None
    assert first.check.missing[0] == ("video", "the clip could not be cut")
    write_files(box.package, {"manifest.tsr": b"not a token"})
    (second,) = box.pack()
    insurer.take_records(box, NOW + 60 * S)
    between = now(insurer, box)
    assert (between.state, between.check is not None and between.check.edition) == ("arriving", 1)
    assert checks.check(insurer.engine, insurer.files, box.store.device, box.crash.id, NOW) is None
    for _ in range(2):  # what was manifest.json has another name now, and is asked for once more
        insurer.take_files(box, NOW + 70 * S)
    insurer.settle()
    after = now(insurer, box)
    assert (after.state, after.check is not None and after.check.edition) == ("proved", 2)
    assert {f.name for f in second.files} >= {"manifest-1.json", "manifest-1.sig"}


def test_a_check_that_was_overtaken_by_an_edition_says_nothing(
    insurer: Insurer, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.crashes(films="")
    insurer.enrol(box)
    insurer.take_records(box)
    insurer.take_files(box)
    verified = checks._verified

    def overtaken(*arguments: Any) -> checks.Check:
        with insurer.engine.begin() as connection:
            connection.execute(update(db.package_state).values(digest="other"))
        return verified(*arguments)

    monkeypatch.setattr(checks, "_verified", overtaken)
    assert checks.check(insurer.engine, insurer.files, box.store.device, box.crash.id, NOW) is None
    assert rows(insurer, db.package_check) == []


def test_a_package_in_another_kind_of_store_is_verified_too(tmp_path: Path, box: Box) -> None:
    box.crashes(films="")
    insurer = Insurer(tmp_path / "i")
    insurer.enrol(box)
    insurer.take_records(box)
    insurer.take_files(box)
    elsewhere = Insurer(tmp_path / "j", partials=str(tmp_path / "partials"))
    elsewhere.files._local = False  # the same folder, reached as a remote store is
    shutil.copytree(insurer.root, elsewhere.root, dirs_exist_ok=True)
    found = checks.check(insurer.engine, elsewhere.files, box.store.device, box.crash.id, NOW)
    assert found is not None
    assert found.proved
    assert not list((tmp_path / "partials").iterdir())


def test_the_list_shows_packages_in_every_state(insurer: Insurer, box: Box) -> None:
    box.crashes(films="")
    insurer.take_all(box)
    others = [replace(hit(), id=f"{n:016x}", t_ns=(2000 + n) * S, latitude=None, longitude=None) for n in range(12)]
    box.store.append([(c.t_ns, c) for c in others])
    insurer.take_records(box, NOW + S)
    first, page = crashes.crashes(insurer.engine, size=10)
    second, _ = crashes.crashes(insurer.engine, page=2, size=10)
    assert (page.pages, page.total) == (2, 13)
    assert [r.package.state for r in first] == ["none"] * 10
    assert second[-1].package.state == "proved"
    assert second[-1].incident == box.crash.id


def test_crashes_are_listed_by_command(tmp_path: Path, box: Box) -> None:
    from typer.testing import CliRunner

    from receiver.cli import app

    box.crashes(films="")
    insurer = Insurer(tmp_path / "i")
    asked = ["crashes", "--db", insurer.url]
    assert "No crash" in CliRunner().invoke(app, asked).stdout
    insurer.take_all(box)
    told = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)["crashes"]
    assert [(c["incident"], c["package"], c["claim"]["state"]) for c in told] == [(box.crash.id, "proved", "evidence")]
    assert (told[0]["utc"], told[0]["delta_v_mps"]) == ("2026-09-21T14:30:00.000Z", 6.21)
    said = CliRunner().invoke(app, asked).stdout
    assert box.crash.id in said
    assert "proved" in said


def test_a_check_is_run_again_by_command(tmp_path: Path, box: Box) -> None:
    from typer.testing import CliRunner

    from agent.errors import RoadwitnessError
    from receiver.cli import app

    box.crashes(films="")
    insurer = Insurer(tmp_path / "i")
    insurer.take_all(box)
    (tmp_path / "receiver.toml").write_text(f'database = "{insurer.url}"\n[files]\nroot = "{insurer.root}"\n')
    asked = ["check", box.store.device, box.crash.id, "--config", str(tmp_path / "receiver.toml")]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0
    assert "PROVED" in done.stdout
    (insurer.root / box.store.device / box.crash.id / "track.csv").write_bytes(b"t_s\n")
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 1
    assert "FAIL track.csv" in done.stdout
    wrong = CliRunner().invoke(app, ["check", box.store.device, "0" * 16, *asked[3:]])
    assert isinstance(wrong.exception, RoadwitnessError)


def test_messages_of_strangers_open_nothing(tmp_path: Path, box: Box) -> None:
    insurer = Insurer(tmp_path / "i")
    box.crashes(films="")
    payload = messages.encode_batch(box.store.pending("crash", 0, 1 << 20))
    insurer.ingest.take(messages.topic(box.store.device, "up", "crash"), payload, NOW)
    assert rows(insurer, db.claim) == []
