"""Room, wear, whether the disk can be written, and whether the store and its key are whole."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent import clock
from agent.clock import NS_PER_S
from agent.doctor.finding import Facts, Finding, ill, well
from agent.doctor.seen import Seen
from agent.errors import StoreError
from agent.guard.settings import BoxSettings
from agent.identity import KEY_FILE
from agent.local.place import STORE
from agent.store.database import STORE_FILE, SUSPECT_FILE
from agent.vault.fscrypt import KeyState, key_state, policy
from drivers.sysfs import try_text

CHECK_S: Final = 6.0  # for every page of the store: 150 MB from a good SD card
VERIFY_BYTES: Final = 33_554_432  # a store up to this is also verified record by record: 4 s on a Pi 4 (estimate)
STEPS: Final = 10_000  # of SQLite's machine between two looks at the time
# JESD84-B51 7.4.37-39: PRE_EOL_INFO 1 normal, 2 warning (80 % of the spare blocks used), 3 urgent; DEVICE_LIFE_TIME
# counts tenths of the life that are used, 11 is beyond it
SPARE_WARNING, SPARE_URGENT = 2, 3
WORN_TENTHS, WORN_OUT_TENTHS = 9, 11


def examine(seen: Seen) -> Iterator[Finding]:
    """Judge the disk below the store, then the store."""
    folder = seen.context.store
    if not folder.is_dir():
        yield ill("fail", "storage.folder", "store_missing", f"{folder} is missing", folder=str(folder))
        return
    yield from _room(seen, folder)
    yield from _wear(seen, folder)
    if not os.access(folder, os.R_OK | os.X_OK):
        yield ill("unknown", "storage.store", "not_permitted", f"{folder}: this user may not look into it")
        return
    secret = list(_vault(folder))
    yield from secret
    if any(finding.state == "fail" for finding in secret):  # nothing in it has a name
        return
    yield from _key(folder)
    yield from _whole(seen, folder)


def _room(seen: Seen, folder: Path) -> Iterator[Finding]:
    disk = os.statvfs(folder)
    free, size = disk.f_bavail * disk.f_frsize, max(1, disk.f_blocks * disk.f_frsize)
    if disk.f_flag & os.ST_RDONLY:
        yield ill("fail", "storage.writable", "disk_read_only", f"{folder} is read-only", folder=str(folder))
    else:
        yield well("storage.writable", "can be written", folder=str(folder))
    box = seen.settings.guard.box if seen.settings is not None else BoxSettings()
    used = 1.0 - free / size
    text = f"{_bytes(free)} of {_bytes(size)} free"
    facts: Facts = {"free_bytes": free, "used_share": round(used, 4), "folder": str(folder)}
    if free > box.least_free_bytes or used < box.minor_share:
        yield well("storage.free", text, **facts)
    else:
        full = used >= box.severe_share
        yield ill(
            "fail" if full else "warn", "storage.free", "disk_full" if full else "disk_nearly_full", text, **facts
        )
    most = seen.settings.store.max_bytes if seen.settings is not None else 0
    try:
        file = (folder / STORE_FILE).stat().st_size
    except OSError:
        return
    if most and file > box.severe_share * most:
        yield ill("warn", "storage.limit", "store_at_limit", f"{_bytes(file)} of {_bytes(most)}", bytes=file)


def _wear(seen: Seen, folder: Path) -> Iterator[Finding]:
    """Judge what an eMMC says of its own wear; SD cards and most others say nothing."""
    number = folder.stat().st_dev
    block = seen.context.sysfs / "dev" / "block" / f"{os.major(number)}:{os.minor(number)}"
    if (block / "partition").exists():
        block = block.resolve().parent
    card = block / "device"
    kind, spare, life = (try_text(card / name) for name in ("type", "pre_eol_info", "life_time"))
    try:
        spare_left = int(spare or "0", 16)
        tenths = max((int(part, 16) for part in (life or "").split()), default=0)
    except ValueError:
        spare_left = tenths = 0
    if spare_left == 0 and tenths == 0:
        text = "an SD card does not tell" if kind == "SD" else "this disk does not tell"
        yield ill("unknown", "storage.wear", "wear_unknown", text, medium=kind or "")
        return
    words = f"about {min(tenths, 10) * 10} % of its life used" if tenths else "spare blocks left"
    facts: Facts = {"medium": kind or "MMC", "life_tenths": tenths, "pre_eol": spare_left}
    if spare_left >= SPARE_URGENT or tenths >= WORN_OUT_TENTHS:
        yield ill("fail", "storage.wear", "worn_out", words, **facts)
    elif spare_left >= SPARE_WARNING or tenths >= WORN_TENTHS:
        yield ill("warn", "storage.wear", "worn", words, **facts)
    else:
        yield well("storage.wear", words, **facts)


def _vault(folder: Path) -> Iterator[Finding]:
    """Judge whether what is stored lies encrypted; elsewhere than on an installed box nobody expects it."""
    try:
        found = policy(folder)
        state = None if found is None else key_state(folder, found.key_id)
    except OSError as error:
        yield ill("unknown", "storage.encrypted", "not_permitted", f"{folder}: {error.strerror}")
        return
    if found is None:
        if folder == STORE:
            yield ill("warn", "storage.encrypted", "vault_none", "not encrypted", folder=str(folder))
    elif state != KeyState.PRESENT:
        yield ill("fail", "storage.encrypted", "vault_locked", f"{found.cipher}, locked", folder=str(folder))
    else:
        yield well("storage.encrypted", f"{found.cipher}, open", folder=str(folder))


def _key(folder: Path) -> Iterator[Finding]:
    key = folder / KEY_FILE
    try:
        mode = stat.S_IMODE(key.stat().st_mode)
    except FileNotFoundError:
        yield ill("unknown", "storage.key", "no_key", "the device has no key yet", file=str(key))
        return
    except OSError as error:
        yield ill("unknown", "storage.key", "not_permitted", f"{key}: {error.strerror}", file=str(key))
        return
    if mode & 0o077:
        yield ill("fail", "storage.key", "key_open", f"mode {mode:o}: others can read it", file=str(key))
    else:
        yield well("storage.key", "for its owner alone", file=str(key))


def _whole(seen: Seen, folder: Path) -> Iterator[Finding]:
    """Check the pages of the store's file, and its records where that is quick; and look for damaged ones of before."""
    path = folder / STORE_FILE
    if not path.exists():
        yield ill("unknown", "storage.store", "no_store", "no store yet", file=str(path))
        return
    aside = sorted(p.name for p in folder.glob(f"{STORE_FILE}.damaged-*") if not p.name.endswith(("-wal", "-shm")))
    trouble = ""
    whole: bool | None = None
    if not (folder / SUSPECT_FILE).exists():
        whole, trouble = _pages(path, min(CHECK_S, seen.left_s(1.5)))
    if whole and path.stat().st_size <= VERIFY_BYTES and seen.left_s(1.5) > 1.0:
        try:
            with seen.store() as store:
                faults = store.verify().faults
        except StoreError as error:
            whole, trouble = False, str(error)
        else:
            if faults:
                one = faults[0]
                whole, trouble = False, f"{one.lane} {one.seq}: {one.cause}"
    if (folder / SUSPECT_FILE).exists() or whole is False:
        text = trouble or "SQLite met damage; the next start checks every page"
        yield ill("fail", "storage.store", "store_damaged", text, file=str(path))
    elif whole is None:
        yield ill("unknown", "storage.store", "store_not_checked", trouble, file=str(path))
    else:
        yield well("storage.store", "whole", file=str(path), bytes=path.stat().st_size)
    if aside:
        yield ill("warn", "storage.damaged", "store_was_damaged", f"kept aside: {', '.join(aside)}", files=len(aside))


def _pages(path: Path, seconds: float) -> tuple[bool | None, str]:
    """Return whether every page of the file is right, None where the time was too short or nobody may read it."""
    until_ns = clock.monotonic_ns() + round(seconds * NS_PER_S)
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)
    except sqlite3.Error as error:
        return None, f"{path}: {error}"
    try:
        connection.set_progress_handler(lambda: clock.monotonic_ns() > until_ns, STEPS)
        (answer,) = connection.execute("PRAGMA quick_check").fetchone()
    except sqlite3.OperationalError as error:
        late = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT
        return None, f"not all of it could be read in {seconds:.0f} s" if late else f"{path}: {error}"
    except sqlite3.DatabaseError as error:
        return False, str(error)
    finally:
        connection.close()
    return (True, "") if answer == "ok" else (False, str(answer).splitlines()[-1].strip())


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000 or unit == "GB":
            return f"{n:.1f} {unit}" if n < 10 and unit != "B" else f"{n:.0f} {unit}"
        n /= 1000
    return ""
