"""What stands around sync: the store on one side, the way to the receiver on the other, its settings and its status."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from agent import messages
from agent.chain import Entry
from agent.link import Happening
from agent.tcp import Road
from agent.upload.status import UploadStatus


class LaneSource(Protocol):
    """What sync needs of the store."""

    @property
    def device(self) -> str:
        """The device's name."""

    @property
    def public_key(self) -> bytes:
        """The device's raw Ed25519 public key."""

    @property
    def lineage(self) -> str:
        """The life of the database; only `acknowledge` changes it."""

    def heads(self) -> dict[str, int]:
        """Return the last sequence number written, by lane."""

    def positions(self) -> dict[str, int]:
        """Return the last sequence number acknowledged, by lane."""

    def pending(self, lane: str, after: int, limit_bytes: int) -> list[Entry]:
        """Return entries beyond `after` in order, at least one if there is any, about `limit_bytes` of bodies."""

    def acknowledge(self, positions: dict[str, int], hashes: dict[str, bytes]) -> None:
        """Keep what the receiver holds of this lineage, and the chain hashes there; positions never go back.

        Where the receiver is ahead or holds other entries this store is an older copy of itself, and `lineage` is
        another one afterwards.
        """

    def sign(self, message: bytes) -> bytes:
        """Sign with the device's key."""


class Uplink(Protocol):
    """A way to the receiver; `agent.mqtt.MqttUplink` on a device."""

    def on_happening(self, wake: Callable[[], None]) -> None:
        """Have `wake` called whenever `happenings` has something to give."""

    def connect(self) -> None:
        """Begin one attempt and return at once."""

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> bool:
        """Hand over a message; False when there is no connection."""

    def road(self) -> Road | None:
        """Return what was published and is still on its way, and how long that is; None where that is not known."""

    def happenings(self) -> list[Happening]:
        """Return what happened since the last call, in order."""

    def close(self) -> None:
        """Disconnect; closing twice is legal."""


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """How patient sync is."""

    window: int = 4  # batches under way without acknowledgement; one in flight reaches 34–88 % of a link, four 97 %
    batch_bytes: int = 96 * 1024  # of bodies before compression, which makes 12 to 30 KiB of them
    answer_s: float = 30.0  # wait for the receiver, from the last sign of progress: a 64 KiB batch at 17 kbit/s
    retry_s: float = 1.0  # first wait after a loss, doubled each time …
    retry_cap_s: float = 300.0  # … up to this
    refused_s: float = 600.0  # wait after a refusal: only a person can cure it

    def __post_init__(self) -> None:
        """Check the numbers; raise ValueError."""
        if not 1 <= self.window <= 8:
            raise ValueError("window must be 1 to 8")
        if not 1024 <= self.batch_bytes <= messages.MAX_PLAIN // 2:
            raise ValueError(f"batch_bytes must be 1024 to {messages.MAX_PLAIN // 2}")
        if not 0 < self.retry_s <= self.retry_cap_s or self.answer_s <= 0 or self.refused_s <= 0:
            raise ValueError("waits must be positive, and retry_s not above retry_cap_s")


Phase = Literal["stopped", "waiting", "connecting", "asking", "sending"]
Trouble = Literal["", "offline", "silent", "refused"]


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """What sync is doing, for `status` and tests; `behind` counts entries that the receiver has not acknowledged."""

    phase: Phase = "stopped"
    trouble: Trouble = ""
    reason: str = ""
    acknowledged: dict[str, int] = field(default_factory=dict)
    behind: int = 0
    batches: int = 0
    payload_bytes: int = 0
    entries: int = 0
    asked: int = 0
    overdue: int = 0  # times that acknowledgements stayed away and sending began again from the position
    ignored: int = 0  # messages that could not be used
    files: UploadStatus = field(default_factory=UploadStatus)
