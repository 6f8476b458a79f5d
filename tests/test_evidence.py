"""T-EVID: a package proves itself, and every change to it is found and named."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import CliRunner

from agent.chain import START, canonical, link, public_bytes, seal
from agent.cli.verify import app
from agent.evidence import verify_package as verifier
from agent.evidence.canonical import canonical_json
from agent.evidence.packager import Packager
from agent.incident.folder import PACKAGES
from agent.records import Crash, Package
from agent.store import Store
from tests.packing import BOOT, T0_NS, UTC_NS, S, add_video, begin, clock, crash_at, faults, packed, write_record

SCRIPT = Path(verifier.__file__)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A package and its device's key; tests copy it before they touch it."""
    folder = tmp_path_factory.mktemp("device")
    with Store.open(folder) as store:
        return packed(folder, store), store.public_key.hex()


@pytest.fixture
def package(made: tuple[Path, str], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[0], tmp_path / "package"))


def lines(package: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (package / "chain.jsonl").read_text().splitlines()]


def sign_again(package: Path, key: Ed25519PrivateKey, change: object = None) -> None:
    """Write the manifest over what lies in the folder now, as somebody with `key` would."""
    manifest = json.loads((package / "manifest.json").read_bytes())
    manifest.update(change or {})
    folder = verifier.Folder(str(package))
    for row in manifest["files"]:
        if (package / row["name"]).exists():
            row["size"], row["sha256"], row["sm3"] = verifier.digests(folder, row["name"])
    public = public_bytes(key)
    manifest["device"] = {"id": verifier.device_id(public), "algorithm": "Ed25519", "public_key": public.hex()}
    data = canonical_json(manifest)
    (package / "manifest.json").write_bytes(data)
    signature = key.sign(verifier.PREFIX + data)
    (package / "manifest.sig").write_bytes(verifier.signature_bytes("Ed25519", public, signature))


def test_an_untouched_package_is_proved_with_the_devices_key_or_its_name(made: tuple[Path, str]) -> None:
    package, key = made
    for expected in (key, verifier.device_id(bytes.fromhex(key))):
        report = verifier.verify(str(package), expected)
        assert (report.exit_code, report.faults, report.key) == (0, [], "expected")
    assert (report.files, report.records) == (8, 7)
    assert report.facts["time_zero"]["utc"] == "2026-09-21T14:30:00.000000000Z"
    without = verifier.verify(str(package))
    assert (without.exit_code, without.whole, without.key) == (3, True, "unknown")


def test_t_evid_1_chain_hashes_are_those_of_the_vector(made: tuple[Path, str]) -> None:
    # docs/sources.md T-EVID-1: and the verifier recomputes the same links from what the package holds
    head = START
    for i, begins in enumerate(("ad2b2b8c", "46f3c51d", "3e09de3b")):
        head = link(head, canonical({"k": "trip", "seq": i, "t": 1_700_000_000 + i}))
        assert head.hex().startswith(begins)
    crashes = [row for row in lines(made[0]) if row["lane"] == "crash"]
    assert [row["seq"] for row in crashes] == [1, 2]
    assert crashes[0]["previous"] == START.hex()
    assert crashes[1]["previous"] == crashes[0]["hash"]


def test_t_evid_2_one_flipped_bit_anywhere_is_found_and_the_file_named(made: tuple[Path, str], package: Path) -> None:
    # T-EVID-2
    chance = random.Random(20261122)
    names = sorted(p.name for p in package.iterdir())
    assert len(names) == 10
    for trial in range(1000):
        path = package / names[trial % len(names)]
        data = bytearray(path.read_bytes())
        at, bit = chance.randrange(len(data)), 1 << chance.randrange(8)
        data[at] ^= bit
        path.write_bytes(data)
        report = verifier.verify(str(package), made[1])
        assert report.exit_code == 1, (path.name, at, bit)
        assert path.name in [fault.where for fault in report.faults], (path.name, at, bit, report.faults)
        data[at] ^= bit
        path.write_bytes(data)
    assert verifier.verify(str(package), made[1]).exit_code == 0


@pytest.mark.parametrize("removed", [0, 1, 2, 6])
def test_t_evid_3_a_removed_record_is_missed_by_its_number(made: tuple[Path, str], package: Path, removed: int) -> None:
    # T-EVID-3
    kept = lines(package)
    gone = kept.pop(removed)
    (package / "chain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    found = faults(package, made[1])
    assert "is missing" in found[f"record {gone['lane']} {gone['seq']} of {gone['lineage']}"]
    assert "altered" in found["chain.jsonl"]


def test_t_evid_3_even_the_device_cannot_leave_out_a_crash_record_between_two(tmp_path: Path) -> None:
    # T-EVID-3
    with Store.open(tmp_path) as store:
        package = packed(tmp_path, store)
        key = Ed25519PrivateKey.generate()
    device = verifier.device_id(public_bytes(key))
    body = json.dumps({"id": json.loads((package / "crash.json").read_bytes())["incident"], "t_ns": T0_NS}).encode()
    entries, previous = [], START
    for seq in (1, 2, 3):
        entry = seal(key, device, "aa", previous, "crash", seq, BOOT, T0_NS, "crash", body)
        entries.append((entry, previous))
        previous = entry.hash
    rows = [
        {"lineage": "aa", "lane": "crash", "seq": e.seq, "boot": BOOT, "t_ns": str(T0_NS), "kind": "crash"}
        | {"body": e.body.decode(), "previous": p.hex(), "hash": e.hash.hex(), "signature": e.signature.hex()}
        for e, p in (entries[0], entries[2])
    ]
    (package / "chain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    listed = [{"lineage": "aa", "lane": "crash", "seq": r["seq"], "hash": r["hash"]} for r in rows]
    sign_again(package, key, {"chain": {"file": "chain.jsonl", "entries": listed}})
    assert "the crash lane has a gap here" in faults(package)["record crash 2 of aa"]


def test_t_evid_3_reordered_or_doubled_records_are_named(made: tuple[Path, str], package: Path) -> None:
    # T-EVID-3
    first, second, *rest = lines(package)
    where = f"record crash 1 of {first['lineage']}"
    (package / "chain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [second, first, *rest]))
    assert "out of order" in faults(package, made[1])[where]
    (package / "chain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [first, first, second, *rest]))
    assert "stands twice" in faults(package, made[1])[where]


def test_t_evid_4_a_package_signed_again_with_another_key_is_of_an_unknown_key(
    made: tuple[Path, str], package: Path
) -> None:
    # T-EVID-4
    record = json.loads((package / "crash.json").read_bytes())
    record["crash"]["speed_before_mps"] = 5.0
    (package / "crash.json").write_text(json.dumps(record))
    other = Ed25519PrivateKey.generate()
    sign_again(package, other)
    report = verifier.verify(str(package), made[1])
    assert (report.exit_code, report.key) == (1, "other")
    assert dict(report.faults)["manifest.sig"].startswith("unknown key")
    # the records cannot be signed again without being made again: they still are of the first device
    assert "altered, or is a record of another device" in dict(report.faults)["chain.jsonl line 1"]
    assert verifier.verify(str(package)).exit_code == 1


def test_t_evid_4_a_package_of_another_device_is_refused_wherever_it_lies(
    made: tuple[Path, str], tmp_path: Path
) -> None:
    # T-EVID-4
    with Store.open(tmp_path / "other") as store:
        theirs = packed(tmp_path / "other", store)
    moved = Path(shutil.copytree(theirs, tmp_path / made[0].name))
    assert "unknown key" in faults(moved, made[1])["manifest.sig"]
    # or put together: their records among our files
    mixed = Path(shutil.copytree(made[0], tmp_path / "mixed"))
    shutil.copy(theirs / "chain.jsonl", mixed / "chain.jsonl")
    found = faults(mixed, made[1])
    assert "record of another device" in found["chain.jsonl line 1"]
    assert "chain.jsonl" in found
    shutil.copy(theirs / "manifest.sig", mixed / "manifest.sig")
    found = faults(mixed, made[1])
    assert "unknown key" in found["manifest.sig"]
    assert "does not hold" in next(iter(found.values())) or "manifest.json" in found


def test_t_evid_5_a_clock_that_was_set_back_is_told_and_changes_no_order(tmp_path: Path) -> None:
    # T-EVID-5
    set_back = (clock(5 * S, quality="ntp"), clock(T0_NS - 100 * S, UTC_NS - 3600 * S, quality="ntp"))
    with Store.open(tmp_path) as store:
        package = packed(tmp_path, store, clocks=set_back)
        report = verifier.verify(str(package), store.public_key.hex())
    assert report.exit_code == 0
    (step,) = [note for note in report.notes if "clock was set" in note]
    assert "-3600.000 s" in step
    assert "order of records is unchanged" in step
    assert [row["seq"] for row in lines(package) if row["kind"] == "clock"] == [1, 2]
    # decision 0003: of equals the later holds
    assert report.facts["time_zero"]["utc"] == "2026-09-21T13:30:00.000000000Z"


def test_a_time_zero_that_the_clock_records_do_not_support_is_refused(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        package = packed(tmp_path, store)
        manifest = json.loads((package / "manifest.json").read_bytes())
        manifest["time_zero"]["utc"] = "2026-09-21T15:30:00.000000000Z"
        data = canonical_json(manifest)
        (package / "manifest.json").write_bytes(data)
        signature = store.sign(verifier.PREFIX + data)
        (package / "manifest.sig").write_bytes(verifier.signature_bytes("Ed25519", store.public_key, signature))
        found = faults(package, store.public_key.hex())
    assert "another time zero than the signed clock records" in found["manifest.json"]


def test_without_any_time_a_package_says_so_and_is_whole(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        package = packed(tmp_path, store, clocks=(clock(S, quality="none"),))
        report = verifier.verify(str(package), store.public_key.hex())
    assert report.exit_code == 0
    assert any("never learned" in note for note in report.notes)
    assert {"what": "date and time"}.items() <= report.facts["missing"][0].items()


@pytest.mark.parametrize(
    "change",
    [{"incident": "0" * 16}, {"boot": "another"}, {"t0_ns": T0_NS + S}, {"crash": {"id": "x"}}, {"crash": None}],
)
def test_crash_json_must_tell_of_the_incident_that_the_device_signed(tmp_path: Path, change: dict[str, object]) -> None:
    with Store.open(tmp_path) as store:
        package = packed(tmp_path, store)
        record = json.loads((package / "crash.json").read_bytes()) | change
        (package / "crash.json").write_text(json.dumps(record))
        folder = verifier.Folder(str(package))
        manifest = json.loads((package / "manifest.json").read_bytes())
        (row,) = [row for row in manifest["files"] if row["name"] == "crash.json"]
        row["size"], row["sha256"], row["sm3"] = verifier.digests(folder, "crash.json")
        data = canonical_json(manifest)
        (package / "manifest.json").write_bytes(data)
        signature = store.sign(verifier.PREFIX + data)
        (package / "manifest.sig").write_bytes(verifier.signature_bytes("Ed25519", store.public_key, signature))
        assert list(faults(package, store.public_key.hex())) == ["crash.json"]


def test_t_evid_6_a_package_cut_at_any_write_is_whole_after_the_next_tend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # T-EVID-6
    """Every rename, write and sync of packing fails once; what stands then is repaired, and proves itself."""
    calls = ("replace", "fsync")
    real = {name: getattr(os, name) for name in calls}
    cuts = 0
    for cut in range(60):
        folder = tmp_path / str(cut)
        with Store.open(folder) as store:
            crash = crash_at(T0_NS)
            begin(store, crash)
            package = write_record(folder, crash)
            packager = Packager(store, folder / PACKAGES, BOOT)
            assert packager.tend(T0_NS + 20 * S)
            add_video(package)  # so that an edition is there already when the power goes
            left = [cut]

            def cutting(name: str, left: list[int] = left) -> object:
                def call(*arguments: object) -> object:
                    left[0] -= 1
                    if left[0] == -1:
                        raise KeyboardInterrupt  # nothing of ours catches it, as nothing catches a power cut
                    return real[name](*arguments)

                return call

            with monkeypatch.context() as patched:
                for name in calls:
                    patched.setattr(os, name, cutting(name))
                try:
                    packager.tend(T0_NS + 30 * S)
                except KeyboardInterrupt:
                    cuts += 1
            for part in package.glob("*.part"):
                part.unlink()  # as the agent does when it starts
            again = Packager(store, folder / PACKAGES, BOOT)
            again.tend(T0_NS + 40 * S)
            report = verifier.verify(str(package), store.public_key.hex())
            assert report.exit_code == 0, (cut, report.faults)
            assert report.facts["edition"] >= 2
            last = store.records(Package)[-1].record
            assert {f.name: f.size for f in last.files} == {p.name: p.stat().st_size for p in package.iterdir()}
            assert again.tend(T0_NS + 50 * S) == []
        if left[0] >= 0:
            break
    assert cuts == 11  # five files, each written and renamed, and their folder: every call had its turn


def test_t_evid_8_the_script_alone_verifies_offline_without_any_of_our_code(
    made: tuple[Path, str], package: Path, tmp_path: Path
) -> None:
    # T-EVID-8
    alone = tmp_path / "court"
    alone.mkdir()
    shutil.copy(SCRIPT, alone / "verify_package.py")
    (alone / "device.hex").write_text(made[1] + "\n")
    import cryptography

    libraries = Path(cryptography.__file__).parents[1]
    # no site, no environment, no folder of ours; only the library's place, and sockets refuse to be made
    start = (
        "import sys, socket, runpy; sys.path.append(sys.argv.pop(1))\n"
        "def refuse(*a, **k): raise SystemExit('the network was used')\n"
        "socket.socket = refuse\n"
        "sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-I", "-S", "-c", start, str(libraries), "verify_package.py", *arguments],
            cwd=alone,
            env={"LC_ALL": "C"},
            capture_output=True,
            text=True,
        )

    good = run(str(package), "--key", "device.hex")
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.splitlines()[-1].startswith("PROVED: 8 files and 7 records")
    assert run(str(package)).returncode == 3
    assert run(str(package), "--key", "nonsense").returncode == 2
    assert run(str(tmp_path / "nowhere")).returncode == 2
    (package / "imu.csv").write_bytes(b"t_s\n")
    bad = run(str(package), "--key", made[1], "--json")
    assert bad.returncode == 1
    assert [fault["where"] for fault in json.loads(bad.stdout)["faults"]] == ["imu.csv"]


def test_the_script_is_written_for_python_3_9_and_imports_only_cryptography() -> None:
    import ast

    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {str(n.module).split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert imported - set(sys.stdlib_module_names) == {"cryptography"}


@pytest.mark.parametrize("der", [True, False])
def test_a_manifest_signed_by_a_p256_secure_element_is_proved(tmp_path: Path, der: bool) -> None:
    element = ec.generate_private_key(ec.SECP256R1())

    class Element:
        algorithm = "ES256"
        public_key = element.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

        def sign(self, message: bytes) -> bytes:
            signature = element.sign(message, ec.ECDSA(hashes.SHA256()))
            r, s = decode_dss_signature(signature)
            return signature if der else r.to_bytes(32, "big") + s.to_bytes(32, "big")

    with Store.open(tmp_path) as store:
        crash = crash_at(T0_NS)
        store.begin_boot(BOOT)  # no records: they would be under the other key
        package = write_record(tmp_path, crash)
        told = Packager(store, tmp_path / PACKAGES, BOOT, key=Element()).tend(T0_NS)
    assert len(told) == 1
    key_file = tmp_path / "element.pem"
    key_file.write_bytes(element.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    report = verifier.verify(str(package), verifier.read_key(str(key_file)))
    assert report.exit_code == 0
    table = json.loads((package / "manifest.sig").read_bytes())
    table["signature"] = table["signature"][:-2] + ("00" if table["signature"][-2:] != "00" else "01")
    (package / "manifest.sig").write_bytes(canonical_json(table))
    assert "manifest.json" in faults(package)


def test_two_crashes_three_seconds_apart_are_two_packages_that_both_hold(tmp_path: Path) -> None:
    first, second = crash_at(T0_NS), crash_at(T0_NS + 3 * S)
    with Store.open(tmp_path) as store:
        begin(store, first, second)
        folders = [write_record(tmp_path, crash) for crash in (first, second)]
        packager = Packager(store, tmp_path / PACKAGES, BOOT)
        told = [packager.tend(T0_NS + n * S) for n in (30, 31, 32)]
        assert [len(t) for t in told] == [1, 1, 0]
        for folder in folders:
            assert verifier.verify(str(folder), store.public_key.hex()).exit_code == 0
    # told in turn, 1 2 1 2: each holds all from its first to its last, so that none can be taken out
    counts = [sum(row["lane"] == "crash" for row in lines(folder)) for folder in folders]
    assert counts == [3, 3]
    assert msgspec.json.decode(str(lines(folders[0])[1]["body"]), type=Crash).id == second.id


def test_the_command_says_the_same_as_the_script(made: tuple[Path, str], package: Path) -> None:
    run = CliRunner().invoke
    good = run(app, [str(package), "--key", made[1]])
    assert (good.exit_code, good.stdout.splitlines()[-1][:7]) == (0, "PROVED:")
    assert run(app, [str(package)]).exit_code == 3
    nowhere = run(app, [str(package / "nowhere"), "--json"])
    assert (nowhere.exit_code, json.loads(nowhere.stdout)["exit_code"]) == (2, 2)
    unreadable = run(app, [str(package), "--key", "zz"])
    assert (unreadable.exit_code, unreadable.stderr.count("\n")) == (2, 1)
    assert run(app, [str(package), "--tsa-ca", str(package / "imu.csv")]).exit_code == 2
    (package / "imu.csv").unlink()
    bad = run(app, [str(package), "--key", made[1], "--json"])
    assert (bad.exit_code, json.loads(bad.stdout)["faults"]) == (1, [{"where": "imu.csv", "cause": "is missing"}])
