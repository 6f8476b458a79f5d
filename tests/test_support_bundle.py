"""The support bundle: what a desk needs is in it, and nothing that a desk must not have."""

import base64
import errno
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from typer.testing import CliRunner

from agent.cli.support import _write, app
from agent.errors import StoreError
from agent.records import Clock, Event, Health, Reply, Track
from agent.store import Store
from agent.support import bundle as bundle_module
from agent.support import parts
from agent.support.bundle import MANIFEST, SIGNATURE, BadBundleError, Bundle, check, make
from agent.support.parts import PARTS, AbsentError, Source
from agent.support.redact import Redactor

PASSWORD = "Tr0ub4dor&3"
TOKEN = "ghTk3nAbCdEf0123456789ZyXwVuTsRqPoNmLkJi"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib3gifQ.c2lnbmF0dXJl"
LATITUDE, LONGITUDE = 31.230416, 121.473701
PLATE, VIN = "沪A12345", "LSVAU2180N2183294"
LOG = f"""2026-11-22T08:00:00+0800 box agent[7]: connecting to mqtts://box:{PASSWORD}@broker.example:8883
2026-11-22T08:00:01+0800 box agent[7]: password={PASSWORD} token: {TOKEN} Authorization: Bearer {JWT}
2026-11-22T08:00:02.123456+0800 box agent[7]: at {LATITUDE}, {LONGITUDE} lat={LATITUDE} {{"longitude": {LONGITUDE}}}
2026-11-22T08:00:03+0800 box gpsd[8]: $GPRMC,000003,A,3113.8250,N,12128.4221,E,0.0
2026-11-22T08:00:04+0800 box agent[7]: plate {PLATE} vin {VIN} lat_e7 312304160 12.6 V
"""


def planted(folder: Path) -> tuple[Source, list[str]]:
    """Make a box whose logs, settings and records hold secrets; return it and what must not be found."""
    store = folder / "store"
    with Store.open(store) as opened:
        opened.begin_boot("boot")
        detail = f"fix at {LATITUDE}, {LONGITUDE}"
        health = Health(t_ns=1, source="gps", state="ok", detail=detail, facts={"vin": VIN, "token": TOKEN})
        event = Event(
            kind="speeding",
            severity="minor",
            confirmed=True,
            t_ns=2,
            duration_ns=1,
            peak=1.0,
            unit="m/s",
            speed_before_mps=None,
            rule="speeding/1",
            sources=["gps"],
            latitude=LATITUDE,
            longitude=LONGITUDE,
        )
        track = Track(
            trip_start_ns=1,
            start_ns=1,
            error_m=5.0,
            dt_ms=[0],
            dlat_e7=[312304160],
            dlon_e7=[1214737010],
            speed_cmps=[0],
        )
        reply = Reply(
            id="0" * 32,
            t_ns=3,
            command="dtc",
            state="done",
            detail=detail,
            actor="tech",
            reason=f"plate {PLATE}",
            key="ab" * 32,
            expires_utc_ns=1,
        )
        clock = Clock(t_ns=1, offset_ns=10**18, quality="gnss", uncertainty_ns=1)
        opened.append([(r, each) for r, each in enumerate((health, event, track, reply, clock))])
    (store / "tls").mkdir()
    pem = (store / "device.key").read_bytes()
    (store / "tls" / "device.key").write_bytes(pem)
    etc = folder / "etc"
    etc.mkdir()
    (etc / "broker.pass").write_text(PASSWORD + "\n")
    (etc / "agent.toml").write_text(f'# bind code: Q7XK-22MP\n[broker]\npassword_file = "{etc / "broker.pass"}"\n')
    (store / "crashes.json").write_text(json.dumps({"reason": f"ValueError: {PASSWORD} at {LATITUDE}"}))
    key = load_pem_private_key(pem, None)
    raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    secrets = [PASSWORD, TOKEN, JWT, "Q7XK-22MP", PLATE, VIN, raw.hex(), raw.hex().upper(), der.hex()]
    secrets += [base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode(), base64.b64encode(der).decode()]
    secrets += pem.decode().splitlines()[1:-1]
    secrets += [
        str(LATITUDE),
        str(LONGITUDE),
        "312304160",
        "1214737010",
        "3113.8250",
        "12128.4221",
        "31.2304",
        "121.4737",
    ]
    secrets += [f"{LATITUDE:.3f}", f"{LONGITUDE:.3f}"]
    return Source(store, etc / "agent.toml"), secrets


def leaky(source: Source, pem: bytes) -> dict[str, parts.Part]:
    """Return the parts, with a log that says everything it should not."""
    raw = load_pem_private_key(pem, None).private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    log = LOG + pem.decode() + f"raw {raw.hex()} b64 {base64.b64encode(raw).decode()}\n"
    fast = {name: part for name, part in PARTS.items() if name != "doctor.json" and not name.startswith("log/")}
    return {**fast, "log/agent.txt": lambda _: log}


def opened(bundle: Bundle) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(bundle.data)) as found:
        return {name: found.read(name).decode() for name in found.namelist()}


def test_no_planted_secret_and_no_place_is_in_it_and_what_a_desk_needs_is(tmp_path: Path) -> None:
    source, secrets = planted(tmp_path)
    pem = (source.folder / "device.key").read_bytes()
    bundle = make(source, parts=leaky(source, pem))
    found = opened(bundle)
    for secret in secrets:
        for name, text in found.items():
            assert secret not in text, (secret, name)
    log = found["log/agent.txt"]
    assert "31.23, 121.47" in log  # about a kilometre
    assert "LSV…3294" in log
    assert "08:00:02.123456" in log
    assert "12.6 V" in log
    assert "broker.example:8883" in log
    assert '"health": 1' in found["store.json"]
    assert '"tech"' in found["health.json"]
    assert {"versions.json", "config/in-force.json", "config/agent.toml", "crashes.json"} <= found.keys()
    assert "dlat_e7" not in "".join(found.values())
    assert "status.json" in bundle.missing  # the daemon does not run
    assert "no agent runs here" in bundle.missing["status.json"]


def test_places_stay_exact_only_where_that_is_asked_for(tmp_path: Path) -> None:
    source, _ = planted(tmp_path)
    bundle = make(source, with_position=True, parts={"log/agent.txt": lambda _: LOG})
    found = opened(bundle)
    assert str(LATITUDE) in found["log/agent.txt"]
    assert PASSWORD not in found["log/agent.txt"]
    assert json.loads(found[MANIFEST])["position"] == "exact"


@pytest.mark.parametrize(
    "text",
    [
        "engine 2500.5 rpm, 14.2 V, 3 pass, 1 fail",
        "2026-11-22T08:00:02.123456+0800 took 0.004 s",
        "/opt/roadwitness/lib/python3.11/site-packages/agent/commands/Reading2.py",
        'password_file = "/etc/roadwitness/broker.pass"',
        "device rw-0123456789abcdef, incident 0123456789abcdef, boot 1f0c2d3e4b5a69788796a5b4c3d2e1f0",
        "the token of the broker is refused",
    ],
)
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    assert Redactor(["s3cr3t-one"]).text(text) == text


def test_a_part_that_fails_is_told_and_costs_no_other(tmp_path: Path) -> None:
    def fails(error: BaseException) -> parts.Part:
        def part(_: Source) -> parts.Made:
            raise error

        return part

    refused = OSError(errno.EROFS, "Read-only file system")
    made = make(
        Source(tmp_path),
        parts={"a": fails(AbsentError("none here")), "b": fails(refused), "c": lambda _: "x" * 100, "d": lambda _: {}},
    )
    assert made.files == ["c", "d"]
    assert made.missing["a"] == "none here"
    assert "Read-only" in made.missing["b"]
    assert "nobody vouches" in made.missing[SIGNATURE]
    assert list(tmp_path.iterdir()) == []  # nothing is made, no key either


def test_what_the_box_signed_is_proved_and_what_was_changed_is_named(tmp_path: Path) -> None:
    source, _ = planted(tmp_path)
    bundle = make(source, parts={"a.txt": lambda _: "hello", "b.txt": lambda _: "you"})
    path = tmp_path / "b.zip"
    path.write_bytes(bundle.data)
    assert check(path)["device"] == bundle.device
    contents = opened(bundle)
    for change, told in (
        ({"a.txt": "Hello"}, "a.txt"),
        ({"c.txt": "more"}, "c.txt"),
        ({MANIFEST: contents[MANIFEST].replace("hello", "")[:-2]}, "signed"),
        ({SIGNATURE: "{}"}, "signed"),
    ):
        with zipfile.ZipFile(path, "w") as altered:
            for name, text in {**contents, **change}.items():
                altered.writestr(name, text)
        with pytest.raises(BadBundleError, match=told):
            check(path)
    path.write_bytes(b"PK no zip")
    with pytest.raises(BadBundleError):
        check(path)


def test_logs_are_cut_to_their_newest_end_and_the_whole_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "journalctl"
    journal.write_text("#!/bin/sh\nfor i in 1 2 3 4 5 6 7 8 9; do echo line $i of $4; done\n")
    journal.chmod(0o755)
    monkeypatch.setattr(parts.shutil, "which", lambda _: str(journal))
    said = parts.log_of("roadwitness-agent")(Source(tmp_path, log_bytes=30))
    assert isinstance(said, str)
    assert len(said) == 30
    assert "line 9" in said
    journal.write_text("#!/bin/sh\necho no such unit >&2; exit 1\n")
    with pytest.raises(AbsentError, match="no such unit"):
        parts.kernel(Source(tmp_path))


def test_the_command_writes_a_file_or_standard_output_and_checks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = planted(tmp_path)
    monkeypatch.setattr(bundle_module, "PARTS", {"a.txt": lambda _: "hello", "b.txt": beside_nothing})
    run, place = CliRunner(), ["--store", str(source.folder), "--config", str(source.config)]
    done = run.invoke(app, [*place, "--out", "-"])
    assert done.exit_code == 0, done.output
    path, other = tmp_path / "out.zip", tmp_path / "other.zip"
    path.write_bytes(done.stdout_bytes)
    checked = run.invoke(app, ["--check", str(path)])
    assert checked.exit_code == 0, checked.output
    assert "signed it at" in checked.stdout
    assert "b.txt  missing: none here" in checked.stdout
    told = json.loads(run.invoke(app, [*place, "--out", str(other), "--json"]).stdout)
    assert (told["files"], told["missing"]) == (["a.txt"], {"b.txt": "none here"})
    assert other.stat().st_mode & 0o777 == 0o600


def beside_nothing(_: Source) -> parts.Made:
    raise AbsentError("none here")


def test_the_parts_of_a_box_that_does_not_run_are_made_within_its_bounds(tmp_path: Path) -> None:
    source, _ = planted(tmp_path)
    assert {"doctor.json", "status.json", "log/agent.txt", "config/in-force.json"} <= PARTS.keys()
    told = parts.in_force(source)
    assert told["broker"]["password_file"].endswith("broker.pass")
    assert parts.versions(source)["roadwitness"]["files"] > 100


def test_a_file_that_cannot_be_written_is_one_line_that_names_standard_output(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="--out -"):
        _write(tmp_path / "no folder" / "b.zip", b"x")


def test_a_store_on_a_read_only_disk_is_read_and_nothing_is_written_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = planted(tmp_path)
    before = sorted(p.name for p in source.folder.iterdir())
    real = os.statvfs

    def frozen(path: Any) -> Any:
        values = list(real(path))
        return os.statvfs_result([*values[:8], values[8] | os.ST_RDONLY, *values[9:]])

    monkeypatch.setattr(os, "statvfs", frozen)
    made = make(source, parts={"health.json": parts.health, "store.json": parts.store})
    assert made.files == ["health.json", "store.json"]
    assert sorted(p.name for p in source.folder.iterdir()) == before
