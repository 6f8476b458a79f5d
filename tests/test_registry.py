"""Owners, vehicles, bindings and consents at the receiver."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, select
from typer.testing import CliRunner

from agent.chain import public_bytes
from agent.consentmessages import decode_word
from receiver import access, db
from receiver.cli import app
from receiver.registry import bindings, consents, erasures, gate, owners, tables, telling, vehicles, wording
from receiver.registry.owners import Owner
from receiver.registry.refusals import RegistryError
from tests.registering import DAY, DEVICE, NOW, OTHER, OTHER_VIN, VIN, agreed, bound, car, enrolled, registered


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = db.open_database(f"sqlite:///{tmp_path}/r.db")
    yield made
    made.dispose()


def offered(engine: Engine, vin: str = VIN, now_ns: int = NOW) -> str:
    with engine.begin() as connection:
        return bindings.offer(connection, vin, now_ns)


def looks(engine: Engine) -> list[str]:
    with db.reading(engine) as connection:
        table = db.access_log
        return list(connection.execute(select(table.c.name).order_by(table.c.seq)).scalars())


def test_a_vehicle_without_its_use_class_is_refused(engine: Engine) -> None:
    with engine.begin() as connection:
        owners.put(connection, Owner("K-1", "Wang"), NOW)
        with pytest.raises(RegistryError, match="use_class: is missing") as refused:
            vehicles.put(connection, vehicles.Vehicle(VIN, "K-1", "", 5, "fuel", car().first_registered), NOW)
    assert (refused.value.field, refused.value.status) == ("use_class", 422)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"vin": "LFV2A21K8A3000000"}, "vin"),  # wrong check digit, which China's law demands
        ({"vin": "LFV2A21KOA3000000"}, "vin"),
        ({"plate": "<script>"}, "plate"),
        ({"seats": 0}, "seats"),
        ({"use_class": "famly"}, "use_class"),
        ({"energy": ""}, "energy"),
        ({"owner": "nobody"}, "owner"),
    ],
)
def test_a_wrong_field_of_a_vehicle_is_named(engine: Engine, changed: dict[str, object], field: str) -> None:
    values = {name: getattr(car(), name) for name in car().__slots__} | changed
    with engine.begin() as connection:
        owners.put(connection, Owner("K-1", "Wang"), NOW)
        with pytest.raises(RegistryError) as refused:
            vehicles.put(connection, vehicles.Vehicle(**values), NOW, use_classes={"family"}, energies={"fuel"})
    assert refused.value.field == field


@pytest.mark.parametrize(("owner", "field"), [(Owner("a b", "x"), "id"), (Owner("a", " "), "name")])
def test_a_wrong_field_of_an_owner_is_named(engine: Engine, owner: Owner, field: str) -> None:
    with engine.begin() as connection, pytest.raises(RegistryError) as refused:
        owners.put(connection, owner, NOW)
    assert refused.value.field == field


def test_t_bind_1_a_second_device_on_a_vin_is_refused_and_written_down(engine: Engine) -> None:
    # T-BIND-1
    enrolled(engine)
    enrolled(engine, OTHER)
    bound(engine)
    with db.reading(engine) as connection:
        assert bindings.vehicle_of(connection, DEVICE) == car()
        assert bindings.device_of(connection, VIN) == DEVICE
        assert vehicles.devices_of_owner(connection, "K-1") == {DEVICE}
    with pytest.raises(RegistryError, match=f"device {DEVICE} is bound to it") as refused:
        bindings.bind(engine, OTHER, VIN, offered(engine), NOW)
    assert refused.value.status == 409
    assert looks(engine)[-2:] == [f"bind {VIN}", f"bind {VIN} refused: vin 409"]
    with db.reading(engine) as connection:
        assert bindings.device_of(connection, VIN) == DEVICE
    assert access.verify(engine).broken is None


def test_a_device_is_in_one_vehicle_at_a_time(engine: Engine) -> None:
    enrolled(engine)
    bound(engine)
    registered(engine, car(vin=OTHER_VIN, plate=""))
    with pytest.raises(RegistryError) as refused:
        bindings.bind(engine, DEVICE, OTHER_VIN, offered(engine, OTHER_VIN), NOW)
    assert (refused.value.field, refused.value.status) == ("device", 409)


def test_a_code_is_used_once_however_it_is_typed(engine: Engine) -> None:
    enrolled(engine)
    registered(engine)
    code = offered(engine)
    first = bindings.bind(engine, DEVICE, VIN, f" {code[:4].lower()}-{code[4:]} ", NOW)
    assert (
        bindings.bind(engine, DEVICE, VIN, "whatever", NOW + DAY) == first
    )  # it is bound: the same again changes nothing
    bindings.unbind(engine, DEVICE, NOW, reason="sold")
    with pytest.raises(RegistryError, match="no code that holds"):
        bindings.bind(engine, DEVICE, VIN, code, NOW)


def test_a_code_bears_five_tries_and_ends_after_three_days(engine: Engine) -> None:
    enrolled(engine)
    registered(engine)
    code = offered(engine)
    for left in ("4 more tries", "3 more tries", "2 more tries", "one more try", "holds no longer"):
        with pytest.raises(RegistryError, match=left):
            bindings.bind(engine, DEVICE, VIN, "AAAAAAAA", NOW)
    with pytest.raises(RegistryError, match="no code that holds"):
        bindings.bind(engine, DEVICE, VIN, code, NOW)
    late = offered(engine)
    with pytest.raises(RegistryError, match="no code that holds"):
        bindings.bind(engine, DEVICE, VIN, late, NOW + 3 * DAY)
    assert bindings.bind(engine, DEVICE, VIN, late, NOW + 3 * DAY - 1).vin == VIN


def test_a_code_stands_nowhere_in_the_database(engine: Engine) -> None:
    registered(engine)
    code = offered(engine)
    with db.reading(engine) as connection:
        row = connection.execute(select(tables.binding_code)).one()
    assert code.encode() not in bytes(row.salt) + bytes(row.digest) + str(row).encode()


def test_a_device_goes_to_another_owner_only_when_it_holds_nothing_of_the_first(engine: Engine) -> None:
    enrolled(engine)
    bound(engine)
    bindings.unbind(engine, DEVICE, NOW, reason="car sold")
    registered(engine, car("K-2", OTHER_VIN, ""))
    with pytest.raises(RegistryError, match="data of the owner before"):
        bindings.bind(engine, DEVICE, OTHER_VIN, offered(engine, OTHER_VIN), NOW)


def test_consent_is_given_by_text_and_withdrawn_with_what_rests_on_it(engine: Engine) -> None:
    enrolled(engine)
    bound(engine)
    with pytest.raises(RegistryError, match="rests on recording") as refused:
        consents.give(engine, DEVICE, "video", NOW, by="K-1")
    assert refused.value.status == 409
    agreed(engine, DEVICE, "recording", "video", "clip", "scoring")
    given = consents.give(engine, DEVICE, "regulator", NOW, by="K-1", language="en")
    assert given.digest == wording.current("regulator", "en").digest
    ended = consents.withdraw(engine, DEVICE, "video", NOW + DAY, by="K-1")
    assert [row.purpose for row in ended] == ["video", "clip"]
    with db.reading(engine) as connection:
        held = {p for p in consents.PURPOSES if consents.in_force(connection, DEVICE, p, NOW + 2 * DAY)}
        before = consents.in_force(connection, DEVICE, "clip", NOW + DAY - 1)
        assert [e.purpose for e in erasures.unfinished(connection)] == ["video"]
    assert held == {"recording", "scoring", "regulator"}
    assert before is not None
    assert before.id == "C3"
    assert consents.withdraw(engine, DEVICE, "video", NOW + DAY, by="K-1") == []


def test_consent_is_to_the_text_that_was_shown(engine: Engine) -> None:
    enrolled(engine)
    bound(engine)
    with pytest.raises(RegistryError, match="read it again") as refused:
        consents.give(engine, DEVICE, "recording", NOW, by="K-1", version="2020-01-01")
    assert (refused.value.field, refused.value.status) == ("version", 409)


def test_what_came_last_counts_although_the_clock_went_back(engine: Engine) -> None:
    enrolled(engine)
    bound(engine)
    agreed(engine, DEVICE, "recording")
    consents.withdraw(engine, DEVICE, "recording", NOW - DAY, by="K-1")
    with db.reading(engine) as connection:
        assert consents.in_force(connection, DEVICE, "recording", NOW + DAY) is None


def test_a_device_that_leaves_its_car_takes_no_consent_along(engine: Engine) -> None:
    enrolled(engine)
    bound(engine)
    agreed(engine, DEVICE, "recording", "scoring")
    bindings.unbind(engine, DEVICE, NOW + DAY, reason="replaced")
    with db.reading(engine) as connection:
        assert consents.in_force(connection, DEVICE, "scoring", NOW + DAY) is None
        assert erasures.unfinished(connection) == []  # nobody withdrew anything
    with pytest.raises(RegistryError, match="is in no vehicle"):
        consents.give(engine, DEVICE, "recording", NOW + DAY, by="K-1")


def test_the_box_is_told_until_the_broker_has_the_newest_word(engine: Engine) -> None:
    key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    trusted = [public_bytes(key).hex()]
    enrolled(engine)
    bound(engine)
    assert telling.untold(engine, key) == []  # nobody said anything: its paper counts
    agreed(engine, DEVICE, "recording", "video")
    [(device, first)] = telling.untold(engine, key)
    word = decode_word(first.payload, trusted)
    assert (device, first.retain, word.device, sorted(word.purposes)) == (DEVICE, True, DEVICE, ["recording", "video"])
    consents.withdraw(engine, DEVICE, "recording", NOW + DAY, by="K-1")
    telling.told(engine, DEVICE, first, key)  # an older one: what was said since is still to be told
    [(_, second)] = telling.untold(engine, key)
    later = decode_word(second.payload, trusted)
    assert (later.purposes, later.issued_utc_ns > word.issued_utc_ns) == ({}, True)
    telling.told(engine, DEVICE, second, key)
    assert telling.untold(engine, key) == []
    assert telling.recent(engine, key, NOW + DAY) == [second]  # a connection may have been lost with it
    assert telling.recent(engine, key, NOW + 3 * DAY) == []


def test_who_agreed_on_paper_only_withdraws_here_too(engine: Engine) -> None:
    enrolled(engine)
    bound(engine)
    assert [row.owner for row in consents.withdraw(engine, DEVICE, "recording", NOW, by="K-1")] == ["K-1"]
    with db.reading(engine) as connection:
        word = telling.word_of(connection, DEVICE)
        assert gate.withheld(connection, [DEVICE, OTHER]) == {DEVICE}
    assert word is not None
    assert word.purposes == {}


@pytest.mark.parametrize("purpose", consents.PURPOSES)
def test_every_purpose_has_its_text_in_both_languages(purpose: str) -> None:
    for version in wording.versions(purpose):
        assert set(version.languages) == set(wording.LANGUAGES)
        assert len({shown.digest for shown in version.languages.values()}) == 2


def test_the_command_line_binds_agrees_withdraws_and_erases(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/r.db"
    engine = db.open_database(url)
    enrolled(engine)
    cli = CliRunner()

    def run(words: str, *more: str) -> Any:
        done = cli.invoke(app, [*words.split(), *more, "--db", url, "--json"])
        assert done.exit_code == 0, (words, done.output, done.exception)
        return json.loads(done.stdout)

    run("owners put K-1", "--name", "王 店主")
    car_ = f"vehicles put {VIN} --owner K-1 --use-class family --seats 5 --energy fuel --first-registered 2020-05-04"
    run(f"{car_} --plate 鲁A12345")
    code = run(f"vehicles code {VIN}")["code"]
    assert run(f"bind {DEVICE} {VIN} --code {code} --by technician")["bound_by"] == "technician"
    assert run("vehicles list --owner K-1")["vehicles"][0]["device"] == DEVICE
    assert run("owners list")["owners"] == [{"id": "K-1", "name": "王 店主", "vehicles": [VIN]}]
    assert run("bindings")["bindings"][0]["mismatch"] == ""
    assert run("bindings --mismatch")["bindings"] == []
    assert run(f"consent give {DEVICE} recording", "--how", "sheet 4711")["id"] == "C1"
    assert len(run(f"consent withdraw {DEVICE} recording")["withdrawn"]) == 1
    assert [c["given"] for c in run(f"consent show {DEVICE}")["consents"]] == [True, False]
    assert run("erasure run")["done"] == [1]
    assert run("erasure ask --owner K-1")["erasures"] == [2]
    assert [e["state"] for e in run("erasure show")["erasures"]] == ["open", "done"]
    assert run(f"unbind {DEVICE} --reason sold")["reason"] == "sold"
    said = cli.invoke(app, ["consent", "text", "video", "--language", "en"]).stdout
    assert said.startswith("Filming with the car's camera")
    done = cli.invoke(app, ["my-data", "K-1", "--out", str(tmp_path / "k.zip"), "--db", url])
    assert done.exit_code == 0, done.output
    assert zipfile.is_zipfile(tmp_path / "k.zip")
    refused = cli.invoke(app, ["vehicles", "code", OTHER_VIN, "--db", url])
    assert "is not registered" in str(refused.exception)
    engine.dispose()
