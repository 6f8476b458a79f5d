"""Packages made to hurt: names, links, numbers, depths. All are refused by name; nothing raises, nothing grows."""

import json
import os
import random
import shutil
import tracemalloc
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.chain import START, public_bytes, seal
from agent.evidence import verify_package as verifier
from agent.store import Store
from tests.packing import BOOT, faults, packed


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Store]:
    """A package and its device, which still signs: hostile packages are signed well."""
    folder = tmp_path_factory.mktemp("device")
    store = Store.open(folder)
    return packed(folder, store), store


@pytest.fixture
def package(made: tuple[Path, Store], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[0], tmp_path / "package"))


def signed(package: Path, store: Store, data: bytes) -> None:
    (package / "manifest.json").write_bytes(data)
    signature = store.sign(verifier.PREFIX + data)
    (package / "manifest.sig").write_bytes(verifier.signature_bytes("Ed25519", store.public_key, signature))


@pytest.mark.parametrize(
    "name",
    ["../outside", "/etc/passwd", "a/b", "..", ".", "", ".hidden", "a\\b", "c:x", "nul\x00", "line\nbreak", "\ud800",
     "x" * 101, "manifest.json", "manifest.sig", "IMU.csv"],
)  # fmt: skip
def test_a_name_that_leaves_the_folder_or_means_two_things_is_refused(
    made: tuple[Path, Store], package: Path, name: str
) -> None:
    manifest = json.loads((package / "manifest.json").read_bytes())
    manifest["files"].append({"name": name, "size": 1, "sha256": "00" * 32})
    signed(package, made[1], json.dumps(manifest).encode())
    (package.parent / "outside").write_bytes(b"x")
    assert "name that no package may hold" in faults(package)["manifest.json"]


def test_links_folders_and_pipes_are_named_and_not_followed(package: Path) -> None:
    (package / "before.csv").rename(package.parent / "before.csv")
    (package / "before.csv").symlink_to(package.parent / "before.csv")
    (package / "imu.csv").unlink()
    (package / "imu.csv").mkdir()
    (package / "track.csv").unlink()
    os.mkfifo(package / "track.csv")
    (package / "more").mkdir()
    found = faults(package)
    assert found == {
        "before.csv": "is a link, not a file",
        "imu.csv": "is not a plain file",
        "track.csv": "is not a plain file",
        "more": "is not a plain file",
    }


def test_a_manifest_that_is_a_link_is_refused(package: Path) -> None:
    (package / "manifest.json").rename(package.parent / "manifest.json")
    (package / "manifest.json").symlink_to(package.parent / "manifest.json")
    assert faults(package) == {"manifest.json": "is a link, not a file"}


def test_missing_and_added_files_are_named(package: Path) -> None:
    (package / "imu.csv").unlink()
    (package / "extra.csv").write_bytes(b"")
    (package / "left.part").write_bytes(b"")
    (package / "manifest.sig").unlink()
    assert faults(package) == {"manifest.sig": "is missing: nobody signed the manifest"}
    (package / "manifest.sig").write_bytes(b"{}")
    assert faults(package) == {"manifest.sig": "lacks 'alg'"}


def test_a_file_more_or_less_than_was_signed_is_named(made: tuple[Path, Store], package: Path) -> None:
    (package / "imu.csv").unlink()
    (package / "extra.csv").write_bytes(b"")
    (package / "left.part").write_bytes(b"")
    found = faults(package, made[1].device)
    assert set(found) == {"imu.csv", "extra.csv", "left.part"}
    assert "missing" in found["imu.csv"]
    assert "added" in found["extra.csv"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b'{"format":"roadwitness-package/1","format":"roadwitness-package/1"}', "a key twice"),
        (b'{"format": NaN}', "no JSON"),
        (b'{"format": -Infinity}', "no JSON"),
        (b'{"format": 1e999}', "too large"),
        (b'{"format": ' + b"9" * 5000 + b"}", "too large"),
        (b"[" * 200_000, "too deeply"),
        (b'{"a":' * 100_000, "too deeply"),
        (b"\xff\xfe{}", "not JSON"),
        (b"", "not JSON"),
        (b"[]", "lacks 'format'"),
        (b'{"format":"roadwitness-package/2"}', "format that is not known"),
        (b'{"format":7}', "wrong type"),
        (b'{"format":"roadwitness-package/1","incident":"x"}', "lacks 'device'"),
        (b" " * (verifier.MOST_JSON + 1), "larger than"),
    ],
)
def test_json_that_is_not_strict_is_refused_in_words(
    made: tuple[Path, Store], package: Path, text: bytes, told: str
) -> None:
    signed(package, made[1], text)
    assert told in faults(package)["manifest.json"]


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"seq":1}', b"\xff", b"[" * 100_000, b'{"body":"\\ud800"}'])
def test_a_chain_of_rubbish_is_named_by_its_line(made: tuple[Path, Store], package: Path, line: bytes) -> None:
    with (package / "chain.jsonl").open("ab") as file:
        file.write(line + b"\n")
    assert "chain.jsonl line 8" in faults(package)


def test_a_chain_without_end_is_refused_in_little_memory(package: Path) -> None:
    with (package / "chain.jsonl").open("wb") as file:
        file.truncate(1 << 33)  # 8 GiB of zeros, no line end, no space on disk
    with (package / "clip-front.mp4").open("r+b") as file:
        file.truncate(1 << 33)
    tracemalloc.start()
    found = faults(package)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "longer than" in found["clip-front.mp4"]
    assert "chain.jsonl" in found
    assert peak < 16 << 20


def test_a_folder_of_thousands_of_files_is_refused(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(verifier.MOST_FILES):
        (package / f"{number}.csv").touch()
    assert "more than" in faults(package)["folder"]
    monkeypatch.setattr(verifier, "MOST_FILES", 0)  # folders are listed in any order: the manifest may stand beyond
    assert "more than" in faults(package)["folder"]
    assert len(faults(package)) <= verifier.MOST_FAULTS


def test_every_value_of_the_manifest_may_be_anything(made: tuple[Path, Store], package: Path) -> None:
    """Each value in turn is replaced by what it is not; the verifier may refuse it or not, but never raises."""
    manifest = json.loads((package / "manifest.json").read_bytes())
    strange = [None, True, -1, 1 << 63, 1.5, "", "\ud800", "9" * 19, "-5", [], {}, [[]], [None], {"t_ns": "1"}]

    def places(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return [path] + [p for key, inner in items for p in places(inner, (*path, key))]

    chance = random.Random(7)
    for path in [p for p in places(manifest) if p]:
        changed = json.loads(json.dumps(manifest))
        inner = changed
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = chance.choice(strange)
        signed(package, made[1], json.dumps(changed).encode())
        report = verifier.verify(str(package), made[1].device)
        "\n".join(verifier.sentences(report)).encode("ascii")
        json.dumps(report.as_json())


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=300))
def test_bytes_that_claim_to_be_a_token_or_a_signature_only_get_refused(data: bytes) -> None:
    said = []
    for read in (verifier.read_signature, verifier.parse, lambda d: verifier.read_token(d, [])):
        try:
            read(data)
        except verifier.BadError as e:
            said.append(str(e))
    assert said  # at the least it is no token
    assert all("\n" not in text and text.isascii() for text in said)


def test_a_folder_that_is_none_cannot_be_verified(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(verifier.UnreadableError, match="give the folder of a package"):
            verifier.verify(str(path))


@pytest.mark.parametrize("text", ["", "rw-12", "zz", "04" + "00" * 10, "rw-" + "0" * 16 + "\n"])
def test_a_key_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(verifier.UnreadableError):
        verifier.read_key(text)
    path = tmp_path / "key"
    path.write_bytes(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    with pytest.raises(verifier.UnreadableError, match="no public key"):
        verifier.read_key(str(path))


def test_ascii_only_is_printed_whatever_the_package_says(made: tuple[Path, Store], package: Path) -> None:
    manifest = json.loads((package / "manifest.json").read_bytes())
    manifest["missing"] = [{"what": "\x1b[2J\u202e", "why": "\ud83d"}]
    manifest["kind"] = "\x07bell"
    signed(package, made[1], json.dumps(manifest).encode())
    text = "\n".join(verifier.sentences(verifier.verify(str(package))))
    assert text.isascii()
    assert "\x1b" not in text


STRANGE = [None, True, -1, 9 * 10**18, -9 * 10**18, 1.5, 1e300, "", "gnss", "\ud800", [], {}, [[]]]


def test_records_and_crash_json_may_hold_anything_though_the_device_signed_them(
    made: tuple[Path, Store], package: Path
) -> None:
    key, chance = Ed25519PrivateKey.generate(), random.Random(11)
    public = public_bytes(key)
    manifest = json.loads((package / "manifest.json").read_bytes())
    manifest["device"] = {"id": verifier.device_id(public), "algorithm": "Ed25519", "public_key": public.hex()}
    crash = json.loads((package / "crash.json").read_bytes())
    good = [json.loads(line) for line in (package / "chain.jsonl").read_text().splitlines()]
    raised = 0
    for _ in range(150):
        record = json.loads(json.dumps(crash))
        where = chance.choice([record, record["crash"]])
        where[chance.choice(list(where))] = chance.choice(STRANGE)
        rows, entries, previous = [], [], START
        for seq, row in enumerate(good, 1):
            body = json.loads(row["body"])
            body[chance.choice(list(body))] = chance.choice(STRANGE)
            whole = json.dumps(chance.choice([body, body, body, 7, [], "x"])).encode()
            entry = seal(key, manifest["device"]["id"], "aa", previous, "crash", seq, BOOT, 1, row["kind"], whole)
            rows.append(
                {"lineage": "aa", "lane": "crash", "seq": seq, "boot": BOOT, "t_ns": "1", "kind": row["kind"]}
                | {"body": whole.decode(), "previous": previous.hex(), "hash": entry.hash.hex()}
                | {"signature": entry.signature.hex()}
            )
            entries.append({"lineage": "aa", "lane": "crash", "seq": seq, "hash": entry.hash.hex()})
            previous = entry.hash
        (package / "crash.json").write_text(json.dumps(record))
        (package / "chain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        manifest["chain"] = {"file": "chain.jsonl", "entries": entries}
        folder = verifier.Folder(str(package))
        for row in manifest["files"]:
            row["size"], row["sha256"], row["sm3"] = verifier.digests(folder, row["name"])
        data = json.dumps(manifest).encode()
        (package / "manifest.json").write_bytes(data)
        signature = key.sign(verifier.PREFIX + data)
        (package / "manifest.sig").write_bytes(verifier.signature_bytes("Ed25519", public, signature))
        report = verifier.verify(str(package), public.hex())
        assert "\n".join(verifier.sentences(report)).isascii()
        raised += not report.whole
    assert raised > 50
