"""What the receiver is told of a fitting, a removal and a reset: a health record of source "fitting".

The wizard is not the daemon and must not write into its store. It leaves the word in a file beside it, and the
daemon's clerk keeps the word as a signed record and removes the file: twice rather than never, if power goes between.
"""

from pathlib import Path
from typing import Final, Literal

import msgspec

from agent.clock import monotonic_ns
from agent.errors import StoreError
from agent.fitting.sheet import Sealed, Sheet, short
from agent.incident.folder import write_files
from agent.known import known
from agent.owner import as_owner
from agent.records import Health
from agent.store import Store

SOURCE: Final = "fitting"
FILE: Final = "fitting.word"  # beside the store
MOST_BYTES: Final = 16 * 1024
Deed = Literal["fitted", "removed", "reset"]


class Word(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be told."""

    state: Literal["ok", "degraded", "lost"]
    detail: str
    facts: dict[str, str]

    def record(self, t_ns: int) -> Health:
        """Return it as a record."""
        return Health(t_ns=t_ns, source=SOURCE, state=self.state, detail=self.detail[:500], facts=self.facts)


def of_sheet(sheet: Sheet, sealed: Sealed) -> Word:
    """Return what the insurer sees of a sheet: its verdict and by what it is known again."""
    failed = [item.name for item in sheet.items if item.state == "fail"]
    verdict = {"accepted": "accepted", "reserved": "accepted with reservations", "refused": "not accepted"}
    detail = f"fitted by {sheet.by}: {verdict[sheet.verdict]}, sheet {short(sealed.digest)}"
    facts = {
        "deed": "fitted",
        "verdict": sheet.verdict,
        "by": sheet.by[:100],
        "vehicle": sheet.vin,  # not "vin": that fact is what the car itself tells
        "sheet": sealed.digest,
        "id": sheet.id,
        "passed": str(sheet.count("pass")),
        "warned": str(sheet.count("warn")),
        "failed": str(len(failed)),
        "left_out": str(sheet.count("skip")),
    }
    if failed:
        facts["first_failed"] = failed[0]
    state: Literal["ok", "degraded", "lost"] = "degraded" if sheet.verdict == "refused" else "ok"
    return Word(state=state, detail=detail, facts=facts)


def of_end(deed: Literal["removed", "reset"], by: str, reason: str) -> Word:
    """Return the last word of a box that leaves its car or forgets itself."""
    said = {
        "removed": "taken out of the car",
        "reset": "reset: its keys and data are erased; its certificate can be revoked",
    }
    facts = {"deed": deed, "by": by[:100], "reason": reason[:200]}
    return Word(state="lost", detail=f"{said[deed]}, by {by}: {reason}", facts=facts)


GIVEN_UP: Final = Word(
    state="ok", detail="what was told last of leaving the car or of a reset was given up", facts={"deed": "given_up"}
)


def leave(folder: Path, word: Word) -> None:
    """Leave a word for the daemon that runs on the store in `folder`, durable on return; raise StoreError."""
    with as_owner(folder):
        write_files(folder, {FILE: msgspec.json.encode(word)})


def left(folder: Path) -> bool:
    """Say whether the daemon has not taken the last word yet."""
    return (folder / FILE).exists()


class Words:
    """Takes what was left beside a store and keeps it as records; one thread."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._path = folder / FILE
        self._ignored = 0  # modification time of a file that is no word and cannot be removed

    def tend(self, now_ns: int) -> bool:
        """Keep a word that was left; say whether there was one. A file that is none is removed. Nothing raises."""
        try:
            changed_ns = self._path.stat().st_mtime_ns
            if changed_ns == self._ignored:
                return False
            self._ignored = changed_ns
            data = self._path.read_bytes()[: MOST_BYTES + 1]
        except OSError:
            return False
        try:
            word = msgspec.json.decode(data, type=known(Word))
            self._store.append([(now_ns, word.record(now_ns))])
            self._path.unlink()
        except msgspec.DecodeError:
            self._path.unlink(missing_ok=True)
            return False
        except StoreError:
            self._ignored = 0  # the disk refuses: tried again at the next look
            return False
        except OSError:
            return True  # it is kept; the file stays, and is known
        return True


def keep(store: Store, word: Word) -> None:
    """Keep a word in a store that nobody else has open, as its newest record; raise StoreError."""
    now_ns = monotonic_ns()
    store.append([(now_ns, word.record(now_ns))])
