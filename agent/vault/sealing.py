"""The key's seal: systemd's credentials, bound to the TPM where the box has one and to the host's secret always.

`systemd-creds` (systemd 250 or newer) makes and opens the seal. Without a TPM the host's secret is a file of mode 0400
on the same card: it keeps a copied store or a lost clip closed, and not a card that is taken whole.
"""

import subprocess
from pathlib import Path
from typing import Final

from agent.errors import StoreError

NAME: Final = "roadwitness-vault"  # part of what is sealed: a seal made for something else does not open
PROGRAM: Final = "systemd-creds"
TPM: Final = "TPM and host"
HOST: Final = "host"
_WITH: Final = {TPM: "host+tpm2", HOST: "host"}
LIMIT_S: Final = 60.0  # a TPM takes a second or two; more is a TPM that hangs


def binding() -> str:
    """Return what a key made now would be sealed to: TPM or HOST."""
    return TPM if _run(["has-tpm2"], b"").returncode == 0 else HOST


def seal(key: bytes, to: str) -> bytes:
    """Return `key` sealed to this box; raise StoreError."""
    done = _run(["encrypt", f"--name={NAME}", f"--with-key={_WITH[to]}", "-", "-"], key)
    if done.returncode:
        raise StoreError(f"vault: the key cannot be sealed: {_said(done)}; see systemd-creds(1)")
    return done.stdout


def unseal(sealed: Path) -> bytes:
    """Return the key; raise StoreError where this is not the box that sealed it, or the seal is damaged."""
    done = _run(["decrypt", f"--name={NAME}", str(sealed), "-"], b"")
    if done.returncode:
        raise StoreError(
            f"{sealed}: the seal does not open here: {_said(done)}; a store moved to another box stays closed, "
            "else restore the box's own board and /var/lib/systemd/credential.secret"
        )
    return done.stdout


def _run(arguments: list[str], given: bytes) -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run([PROGRAM, *arguments], input=given, capture_output=True, timeout=LIMIT_S, check=False)
    except FileNotFoundError as e:
        raise StoreError(f"vault: {PROGRAM} is missing; it comes with systemd 250 or newer") from e
    except subprocess.TimeoutExpired as e:
        raise StoreError(f"vault: {PROGRAM} has not answered for {LIMIT_S:.0f} s; is the TPM in order?") from e


def _said(done: "subprocess.CompletedProcess[bytes]") -> str:
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"
