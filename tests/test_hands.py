"""A box that goes into another owner's car: neither owner is shown, given or able to touch what is the other's."""

import io
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Table, insert

from receiver import claims, commands, db
from receiver.claiming import facts, gathering, reporting
from receiver.claiming.reporting import Declared
from receiver.people import tokens
from receiver.people.rights import of_role
from receiver.queries import with_clock_columns
from receiver.rating.tables import kept_score
from receiver.registry import bindings, erasing
from receiver.registry.exporting import export_owner
from tests import pages
from tests.registering import NOW, OTHER_VIN, agreed, bound, car
from tests.sample_records import S, crash
from tests.test_erasure import World
from tests.uploading import file_store

HANDED = NOW + 10 * S  # when the box went into the car of K-2


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A box of K-1 whose claim is still open went into K-2's car, after the rest was erased."""
    engine = db.open_database(f"sqlite:///{tmp_path}/r.db")
    made = World(engine, file_store(tmp_path / "files"))
    bindings.unbind(engine, made.device, NOW + S, reason="sold")
    erasing.ask(engine, NOW + 2 * S, owner="K-1")
    made.erase(NOW + 3 * S)
    bound(engine, made.device, car("K-2", OTHER_VIN, "鲁B2"), HANDED)
    yield made
    engine.dispose()


def signed_in(world: World, owner: str) -> Any:
    found = pages.client(world.engine, None, files=world.files)
    session = pages.signed_in(world.engine, "owner", owner)
    found.cookies.set("session", session.token)
    found.headers["x-csrf"] = session.csrf
    with world.engine.begin() as connection:
        token = tokens.add(connection, f"of-{owner}", "owner", of_role("owner"), 1, pages.NOW, owner)
    found.headers["authorization"] = f"Bearer {token}"
    return found


def _rest(table: Table, said: Collection[str]) -> dict[str, Any]:
    """Return something for each column that is needed beside those that are said."""
    needed = (c for c in table.c if c.name not in said and not c.nullable and c.autoincrement is not True)
    return {c.name: c.type.python_type() for c in needed}


def exported(world: World, owner: str) -> tuple[dict[str, int], dict[str, Any]]:
    sink = io.BytesIO()
    counts = export_owner(world.engine, world.files, owner, sink)
    with zipfile.ZipFile(sink) as archive:
        return counts, {name: archive.read(name) for name in archive.namelist()}


def test_the_next_owner_of_a_box_reaches_no_claim_crash_or_consent_of_the_one_before(world: World) -> None:
    visitor, claim = signed_in(world, "K-2"), claims.claim_id(world.device, world.incident)
    of_page = f"/vehicles/{world.device}/crashes/{world.incident}"
    of_api = f"/api/v1/devices/{world.device}/crashes/{world.incident}"
    beyond = [
        f"/claims/{claim}",
        f"/api/v1/claims/{claim}",
        of_page,
        f"{of_page}/progress.json",
        f"{of_page}/package.zip",
    ]
    beyond += [f"{of_page}/files/clip-front.mp4", f"{of_api}/package", f"{of_api}/package.zip"]
    found = {path: visitor.get(path).status_code for path in beyond}
    assert found == dict.fromkeys(beyond, 404)
    assert visitor.post(f"{of_page}/check").status_code == visitor.post(f"{of_api}/check").status_code == 404
    for path in ("claims", "crashes", f"devices/{world.device}/consents"):
        assert visitor.get(f"/api/v1/{path}").json()["items"] == []
    for path in ("/claims", f"/vehicles/{world.device}"):
        page = visitor.get(path)
        assert page.status_code == 200
        assert claim not in page.text
        assert world.incident not in page.text
    consented = visitor.get("/consent").text
    assert world.device[-8:] in consented or "鲁B2" in consented
    assert "K-1" not in consented
    counts, given = exported(world, "K-2")
    assert (counts["claims"], counts["files"]) == (0, 0)
    assert world.incident.encode() not in b"".join(given.values())


def test_the_next_owner_of_a_box_joins_no_claim_and_sees_no_command_of_the_one_before(world: World) -> None:
    with world.engine.begin() as connection:
        said: dict[str, Any] = {
            "id": "c" * 16,
            "device": world.device,
            "command": "clip",
            "arguments": "{}",
            "reason": "why K-1 braked",
        }
        said |= {"actor": "adjuster-1", "issued_utc_ns": NOW, "expires_utc_ns": HANDED, "state": "waiting"}
        connection.execute(insert(db.command).values(**said, **_rest(db.command, said)))
    asked = commands.asked(world.engine, world.device, pages.NOW)
    assert [one.reason for one in asked] == ["why K-1 braked"]
    visitor = signed_in(world, "K-2")
    assert "why K-1 braked" not in visitor.get(f"/vehicles/{world.device}").text
    assert visitor.get(f"/api/v1/devices/{world.device}/commands").json()["items"] == []
    with db.reading(world.engine) as connection:
        loss_ns = connection.execute(with_clock_columns(db.crash).with_only_columns(db.utc_ns(db.crash))).scalar_one()
        assert gathering.incident_near(connection, world.device, loss_ns, 1.0) == world.incident
    declared = Declared(world.device, loss_ns, "K-2", "not mine")
    reported = reporting.report(world.engine, declared, pages.NOW, facts.limits())
    assert reported != claims.claim_id(world.device, world.incident)
    assert visitor.get(f"/api/v1/claims/{reported}").status_code == 200


def test_the_evidence_of_a_crash_that_comes_after_the_box_went_on_is_still_its_owner_s(world: World) -> None:
    late = replace(crash(2), t_ns=S // 2, known_ns=S // 2)
    world.sent([(S, late)], HANDED + 2 * S)  # it happened in the car of K-1, where no network was
    claim, visitor = claims.claim_id(world.device, late.id), signed_in(world, "K-2")
    assert world.count(db.crash) == 2
    assert visitor.get(f"/api/v1/claims/{claim}").status_code == 404
    assert visitor.get(f"/vehicles/{world.device}/crashes/{late.id}").status_code == 404
    assert visitor.get("/api/v1/crashes").json()["items"] == []
    assert exported(world, "K-2")[0]["claims"] == 0


def test_what_a_box_sent_for_the_next_owner_is_not_given_to_the_one_before(world: World) -> None:
    agreed(world.engine, world.device, "recording", now_ns=HANDED + S)
    world.send(2, HANDED + 2 * S)
    bindings.unbind(world.engine, world.device, HANDED + 3 * S, reason="to the workshop")
    assert world.count(db.trip) == 1
    counts, given = exported(world, "K-1")
    assert counts["devices"] == 0
    assert not [name for name in given if name.startswith(world.device)]
    assert erasing.ask(world.engine, HANDED + 4 * S, owner="K-1") == []
    assert exported(world, "K-2")[0]["trips"] == 1


def test_taking_all_data_away_is_in_the_log_though_no_box_is_in_a_car_any_more(world: World) -> None:
    agreed(world.engine, world.device, "recording", now_ns=HANDED + S)
    world.send(2, HANDED + 2 * S)
    bindings.unbind(world.engine, world.device, HANDED + 3 * S, reason="to the workshop")
    assert signed_in(world, "K-2").get("/consent/my-data.zip").status_code == 200
    logged = [(r["who"], r["device"]) for r in world.rows(db.access_log) if r["what"] == "export"]
    assert logged == [("k-2", world.device)]


def test_a_held_erasure_leaves_the_scores_that_were_computed_since_it_was_agreed_again(world: World) -> None:
    agreed(world.engine, world.device, "recording", "scoring", now_ns=HANDED + S)
    with world.engine.begin() as connection:
        said = {"device": world.device, "vin": OTHER_VIN, "period": "2026-09", "computed_utc_ns": HANDED + 2 * S}
        connection.execute(insert(kept_score).values(**said, **_rest(kept_score, said)))
    world.erase(HANDED + 3 * S)
    assert world.count(kept_score) == 1
