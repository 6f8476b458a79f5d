"""The published contract: it is generated from the types, and what both ends really send fits it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

from agent import filemessages, messages
from agent.incident.folder import PACKAGES
from agent.link import Arrived, Up
from agent.records import KINDS, LANES
from agent.store import Store
from agent.sync import Sync
from agent.upload.uploads import Uploads
from receiver import contract, db, devices
from receiver.ingest import Ingest
from receiver.settings import ReceiverSettings, load_settings
from tests.test_sync import Bench, FakeUplink
from tests.uploading import INCIDENT, add_package, file_store, some_files

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def schema(stem: str) -> Draft202012Validator:
    found = json.loads((DOCS / "schemas" / f"{stem}.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(found)
    return Draft202012Validator(found)


def asyncapi() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCS / "asyncapi.yaml").read_text(encoding="utf-8"))
    return found


def test_the_schemas_are_those_of_the_types() -> None:
    kept = {p.name: p.read_text(encoding="utf-8") for p in (DOCS / "schemas").glob("*.schema.json")}
    assert kept == contract.schemas(), "run: python -m receiver.contract docs/schemas"


def references(value: object) -> list[str]:
    if isinstance(value, dict):
        here = [v for k, v in value.items() if k == "$ref"]
        return here + [r for v in value.values() for r in references(v)]
    if isinstance(value, list):
        return [r for v in value for r in references(v)]
    return []


def test_every_reference_in_the_contract_leads_somewhere() -> None:
    document = asyncapi()
    found = references(document)
    files = {r for r in found if r.startswith("./")}
    assert {Path(f).name for f in files} == set(contract.schemas())
    for reference in set(found) - files:
        at: Any = document
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]


def test_the_contract_names_the_topics_and_lanes_of_the_code() -> None:
    channels = asyncapi()["channels"]
    device = "rw-0123456789abcdef"
    file, chunk = hashlib.sha256(b"whole").hexdigest(), b"chunk"
    steps = {
        "fileInit": filemessages.init_topic(device, file),
        "fileChunk": filemessages.chunk_topic(device, file, 7, chunk),
        "fileFin": filemessages.fin_topic(device, file, 5),
    }
    for name, channel in channels.items():
        checksum = hashlib.sha256(chunk).hexdigest() if name == "fileChunk" else file
        topic = channel["address"].format(device=device, lane="event", file=file, offset=7, size=5, checksum=checksum)
        where = messages.address(topic)
        if name in steps:
            assert topic == steps[name]
            step = filemessages.file_address(where.lane).step
            assert (where.what, f"file{step.capitalize()}") == ("file", name)
        else:
            assert where.what == name
            assert topic == messages.topic(device, name, "event" if name == "up" else "")
    assert asyncapi()["components"]["messages"]["chunk"]["contentType"] == filemessages.CHUNK_TYPE
    assert tuple(channels["up"]["parameters"]["lane"]["enum"]) == LANES
    assert asyncapi()["components"]["messages"]["batch"]["contentType"] == messages.CONTENT_TYPE


def test_what_a_device_sends_fits_the_contract() -> None:
    bench = Bench(records=24)
    bench.connect()
    bench.sync.close()
    seen = set()
    for topic, payload, _ in bench.uplink.published:
        what = messages.address(topic).what
        seen.add(what)
        if what == "up":
            batch = messages.decode_batch(payload)
            schema("batch").validate(msgspec.to_builtins(batch))
            for row in batch.rows:
                schema(f"record-{row.kind}").validate(msgspec.json.decode(row.body))
        else:
            said = msgspec.json.decode(payload)
            schema({"birth": "signed-birth", "status": "status"}[what]).validate(said)
            if what == "birth":
                schema("birth").validate(said["birth"])
    assert seen == {"up", "birth", "status"}


def test_what_the_receiver_answers_fits_the_contract(tmp_path: Path) -> None:
    engine = db.open_database(f"sqlite:///{tmp_path / 'r.db'}")
    ingest = Ingest(engine)
    bench = Bench(records=24)
    bench.step()
    bench.step(Up("5"))
    states = set()

    def answers() -> None:
        for topic, payload, _ in list(bench.uplink.published):
            for out in ingest.take(topic, payload, 1):
                said = msgspec.json.decode(out.payload)
                schema("ack").validate(said)
                states.add(said["state"])

    answers()
    devices.enrol(engine, bench.source.device)
    bench.answer({})
    bench.uplink.published.append((messages.topic(bench.source.device, "up", "event"), b"garbage", False))
    answers()
    devices.block(engine, bench.source.device)
    answers()
    assert states == {"unknown", "accepted", "blocked"}
    engine.dispose()


def test_what_is_said_of_files_fits_the_contract(tmp_path: Path) -> None:
    engine = db.open_database(f"sqlite:///{tmp_path / 'r.db'}")
    ingest = Ingest(engine, file_store(tmp_path / "files"))
    seen = set()
    with Store.open(tmp_path / "agent") as store:
        store.begin_boot("boot-1")
        add_package(store, INCIDENT, some_files(1))
        devices.enrol(engine, store.public_key.hex())
        uplink = FakeUplink()
        uploads = Uploads(store.device, store.folder / PACKAGES, store.uploads)
        sync = Sync(store, uplink, boot="boot-1", uploads=uploads)
        sync.step(0)
        uplink.happened.append(Up("5"))
        for now_ns in range(1, 100):
            sync.step(now_ns)
            sent, uplink.published = uplink.published, []
            for topic, payload, _ in sent:
                if topic.endswith("/init"):
                    schema("init").validate(msgspec.json.decode(payload))
                for out in ingest.take(topic, payload, 1):
                    if out.topic.endswith("/files"):
                        schema("files").validate(msgspec.json.decode(out.payload))
                        seen |= {k for k, v in msgspec.json.decode(out.payload).items() if v}
                    uplink.happened.append(Arrived(out.topic, out.payload))
        assert sync.status.files.packages == 0
        assert seen >= {"open", "done", "packages", "session"}
    engine.dispose()


def test_the_schemas_refuse_what_the_codec_refuses() -> None:
    for stem, bad in [
        ("ack", {"device": "x"}),
        ("status", {"device": "rw-0123456789abcdef", "state": "?"}),
        ("batch", []),
    ]:
        with pytest.raises(ValidationError):
            schema(stem).validate(bad)
    assert set(KINDS) == {s.removeprefix("record-") for s in contract.TYPES if s.startswith("record-")}


def test_the_configuration_file_names_every_key_with_its_default(tmp_path: Path) -> None:
    path = ROOT / "config" / "receiver.toml"
    assert load_settings(path) == ReceiverSettings()
    text = path.read_text(encoding="utf-8")
    settings = msgspec.to_builtins(ReceiverSettings(), enc_hook=str)
    keys = [
        k
        for table in (settings, settings["broker"], settings["http"], settings["files"], settings["commands"])
        for k, v in table.items()
        if not isinstance(v, dict)
    ]
    assert [k for k in keys if f"{k} = " not in text] == []
    everything = tmp_path / "all.toml"
    everything.write_text(
        text.replace("# ca =", "ca =").replace("# certificate =", "certificate =").replace("# key =", "key =")
    )
    assert load_settings(everything).broker.ca == Path("/etc/roadwitness/ca.pem")
