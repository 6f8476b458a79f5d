"""The device key file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent.chain import public_bytes
from agent.errors import StoreError
from agent.identity import KEY_FILE, load_or_create_key


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    first = public_bytes(load_or_create_key(tmp_path))
    assert public_bytes(load_or_create_key(tmp_path)) == first
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == [KEY_FILE]


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o610])
def test_a_key_that_others_can_read_is_refused_with_the_fix(tmp_path: Path, mode: int) -> None:
    load_or_create_key(tmp_path)
    (tmp_path / KEY_FILE).chmod(mode)
    with pytest.raises(StoreError, match=r"can be read by others .* run: chmod 600"):
        load_or_create_key(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_damaged_key_is_said_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / KEY_FILE
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(StoreError, match="damaged"):
        load_or_create_key(tmp_path)
    assert path.read_bytes() == content


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / KEY_FILE
    path.write_bytes(generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    with pytest.raises(StoreError, match="not an Ed25519 key"):
        load_or_create_key(tmp_path)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        load_or_create_key(tmp_path / "absent")


def test_processes_that_start_together_end_with_one_key(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from agent.identity import load_or_create_key; from agent.chain import public_bytes;"
        "sys.stdin.read(); print(public_bytes(load_or_create_key(pathlib.Path(sys.argv[1]))).hex())"
    )
    go_read, go_write = os.pipe()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdin=go_read,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        for _ in range(3)
    ]
    os.close(go_read)
    os.close(go_write)  # all begin at once
    keys = {process.communicate(timeout=60)[0] for process in processes}
    assert len(keys) == 1
