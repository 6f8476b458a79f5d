"""What the owner agrees to, as this device knows it: the newest word of a trusted receiver, else the sheet of paper.

The word stands beside the store as it was signed, so that it outlives a store that is begun anew, and is proved again
at every start. One that cannot be read or proved any more permits nothing: whoever damages it gains nothing by it.
"""

import logging
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from agent.clock import NS_PER_S, iso_utc
from agent.consent.settings import ConsentSettings
from agent.consentmessages import MAX_WORD, OTHER_DEVICE, STALE, TOO_LARGE, Word, decode_word
from agent.errors import StoreError
from agent.incident.folder import write_files
from agent.messages import MessageError
from agent.records import Health

log = logging.getLogger(__name__)

FILE: Final = "consent.json"
SOURCE: Final = "consent"
RETRY_NS: Final = 5 * NS_PER_S  # after a disk that refused, as agent.patience
MOST_WAITING: Final = 16  # payloads; the broker keeps the newest
# purpose -> what it rests on: without that it does not hold here, whatever was said of it
_RESTS_ON: Final[dict[str, tuple[str, ...]]] = {
    "recording": (),
    "video": ("recording",),
    "clip": ("recording", "video"),
    "track": ("recording",),
}


class Consent:
    """Knows what may be done; `put` takes from any thread, `step` belongs to one, the rest any thread may read.

    `trusted` are the keys of receivers in hex; `tell` takes what a person should know.
    """

    def __init__(
        self,
        folder: Path,
        device: str,
        settings: ConsentSettings,
        trusted: Collection[str],
        tell: Callable[[Health], None] | None = None,
    ) -> None:
        self._folder = folder
        self._device = device
        self._settings = settings
        self._trusted = frozenset(trusted)
        self._tell = tell or (lambda _: None)
        self._payloads: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._word: Word | None = None
        self._unsaved: bytes | None = None
        self._retry_ns = 0
        self._spoiled = ""
        self.counts: dict[str, int] = {}  # words that were not heeded, by reason
        self._load()
        self._given = self._find()

    def allows(self, purpose: str) -> bool:
        """Say whether the owner agrees to a purpose now."""
        return purpose in self._given

    @property
    def withdrawn(self) -> bool:
        """Say whether a receiver has told that nothing may be recorded, so that what is here must go."""
        return self._word is not None and "recording" not in self._given

    @property
    def awaited(self) -> bool:
        """Say whether somebody has to act before anything can be recorded: nobody agreed, or the word is damaged."""
        return bool(self._spoiled) or (self._word is None and not self._settings.sheet)

    @property
    def reference(self) -> str:
        """Return one sentence for people: what is agreed to, and where that is written down."""
        if self._spoiled:
            return self._spoiled
        if self._word is not None:
            said = ", ".join(f"{p} ({self._word.purposes[p]})" for p in sorted(self._given)) or "nothing"
            return f"the receiver's word of {iso_utc(self._word.issued_utc_ns)} permits {said}"
        if self._settings.sheet:
            return f"{self._settings.sheet} permits {', '.join(sorted(self._given)) or 'nothing'}"
        return "nobody has agreed yet: nothing but health is kept"

    def put(self, payload: bytes) -> None:
        """Take a payload as it came, unread."""
        self._payloads.append(payload[: MAX_WORD + 1])

    def step(self, now_ns: int) -> bool:
        """Heed what came and make it durable; say whether what may be done has changed. Trouble is told, not raised."""
        before = self._given, self.withdrawn
        while self._payloads:
            self._hear(self._payloads.popleft(), now_ns)
        if self._unsaved is not None and now_ns >= self._retry_ns:
            self._save(now_ns)
        changed = (self._given, self.withdrawn) != before
        if changed:
            self._say(now_ns, "ok", self.reference)
        return changed

    def _hear(self, payload: bytes, now_ns: int) -> None:
        try:
            if len(payload) > MAX_WORD:
                raise MessageError(TOO_LARGE)
            word = decode_word(payload, self._trusted)
            if word.device != self._device:
                raise MessageError(OTHER_DEVICE)
            if self._word is not None and word.issued_utc_ns <= self._word.issued_utc_ns:
                if word != self._word:
                    raise MessageError(STALE)
                return  # the broker keeps it, and gives it at every connection
        except MessageError as e:
            reason = str(e)
            self.counts[reason] = self.counts.get(reason, 0) + 1
            if self.counts[reason] == 1:
                self._say(now_ns, "degraded", reason)
            return
        self._word, self._spoiled, self._unsaved = word, "", payload
        self._retry_ns = 0
        self._given = self._find()

    def _find(self) -> frozenset[str]:
        if self._spoiled:
            return frozenset()
        if self._word is not None:
            said = set(self._word.purposes)
        else:
            said = set(self._settings.purposes) if self._settings.sheet else set()
        return frozenset(p for p, below in _RESTS_ON.items() if p in said and said.issuperset(below))

    def _load(self) -> None:
        path = self._folder / FILE
        try:
            word = decode_word(path.read_bytes(), self._trusted)
            if word.device != self._device:
                raise MessageError(OTHER_DEVICE)
            self._word = word
        except FileNotFoundError:
            return
        except (OSError, MessageError) as e:
            cause = e.strerror if isinstance(e, OSError) else e
            self._spoiled = f"{path}: {cause}; nothing but health is kept until the receiver speaks, or it is removed"
            log.error("%s", self._spoiled)

    def _save(self, now_ns: int) -> None:
        assert self._unsaved is not None
        try:
            write_files(self._folder, {FILE: self._unsaved})
        except StoreError as trouble:
            if self._retry_ns == 0:
                self._say(now_ns, "degraded", str(trouble))
            self._retry_ns = now_ns + RETRY_NS
        else:
            self._unsaved = None

    def _say(self, now_ns: int, state: str, detail: str) -> None:
        log.log(logging.INFO if state == "ok" else logging.WARNING, "%s", detail)
        self._tell(Health(t_ns=now_ns, source=SOURCE, state=state, detail=detail[:500]))  # type: ignore[arg-type]
