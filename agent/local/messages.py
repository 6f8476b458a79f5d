"""What goes over the daemon's local socket: one line of JSON asks, lines of JSON answer (docs/decisions/0280).

Times are monotonic ns of this boot, the same for every process of the machine; `None` is what is not known.
"""

from typing import Annotated, Final, Literal

import msgspec

from agent.known import known
from agent.ladder import Level
from agent.power.machine import State as PowerWord
from agent.records import Severity, TimeQuality
from agent.uplink import SyncStatus

MAX_REQUEST: Final = 4096  # bytes of a request's line
MAX_ANSWER: Final = (
    1024 * 1024
)  # bytes of an answer's line: ten times all channels and a hundred lines of what happened
MAX_LEND_S: Final = 900.0  # the daemon lends nothing for longer; ten minutes of a technician's work, and some
CLEAR: Final = "clear"  # the purpose that changes something in the vehicle: only for a standing car, engine off
# Reasons for which nothing may be changed yet: the agent has just got its device back, or the ignition is off.
UNHEARD: Final = "no engine speed is heard; switch the ignition on, with the engine off, and wait a few seconds"
UNMEASURED: Final = "neither a speed nor shaking is measured, so standing is not known"

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
# Printable, of one line: it is logged and told to the receiver.
Purpose = Annotated[str, msgspec.Meta(pattern=r"^[ -~]{1,64}(?!\n)$")]
About = Annotated[str, msgspec.Meta(pattern=r"^[ -~]{0,400}(?!\n)$")]


# requests


class Request(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="ask"
):
    """What all requests share."""


class AskStatus(Request, frozen=True, kw_only=True, tag="status"):
    """Ask how things stand now; one `Status` answers."""


class AskWatch(Request, frozen=True, kw_only=True, tag="watch"):
    """Ask for a `Tick` a second, until the client goes."""


class AskLend(Request, frozen=True, kw_only=True, tag="lend"):
    """Ask for a device: `Lent` or `Refusal` answers, and `Ended` when the time is over before the client goes."""

    device: Name  # as `Device.name`
    purpose: Purpose = msgspec.field(name="for")
    seconds: Annotated[float, msgspec.Meta(gt=0, le=MAX_LEND_S)]
    about: About = ""  # what exactly will be done, where something is changed: kept with the loan (0288)


Asked = AskStatus | AskWatch | AskLend


# answers


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag_field="answer"):
    """What all answers share; a client ignores fields it does not know."""


class Refusal(Answer, frozen=True, kw_only=True, tag="refusal"):
    """The daemon does not do it; `reason` is one sentence for people."""

    reason: str


class Lent(Answer, frozen=True, kw_only=True, tag="lent"):
    """The device is closed and stays closed until `until_ns`, or until this connection ends."""

    device: str
    until_ns: int


class Ended(Answer, frozen=True, kw_only=True, tag="ended"):
    """The time is over: the daemon opens the device again."""

    device: str
    reason: str


# lent: closed for a client of this socket. resting: left alone, or closed, while the car is parked. barred: a thread
# that hung still holds it. ended: a recording is over.
DeviceState = Literal["opening", "open", "lost", "resting", "lent", "barred", "ended"]


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One configured device as its feed knows it."""

    name: str  # of the driver, e.g. "canbus:can0"
    kind: str  # the driver's, e.g. "canbus"
    state: DeviceState
    since_ns: int
    error: str = ""  # the last one, in one line; kept after the device has come back
    error_ns: int | None = None
    counts: dict[str, int] = {}  # the driver's and the queue's counters that are not 0
    facts: dict[str, dict[str, str]] = {}  # source of a Health, e.g. "gps:fix" -> what was learned, by name
    healths: dict[str, Literal["ok", "degraded", "lost"]] = {}  # source of a Health -> what was told last
    samples: int = 0  # taken since the agent started
    newest_ns: int | None = None  # when samples were taken last
    hangs: int = 0


class Power(msgspec.Struct, frozen=True, kw_only=True):
    """What power management thinks of the car, and the supply."""

    state: PowerWord
    since_ns: int
    volts_of_12: float | None  # of a 12 V system; a 24 V system's are halved
    charging: bool
    taken_wh: float  # out of the car's battery, since it was last full
    running: bool  # an engine turns
    moving: bool


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """One lane of the store."""

    name: str
    head: int  # last sequence number written
    acknowledged: int  # last one that the receiver holds
    oldest_s: float | None = None  # age of the first record that waits; None: nothing waits, or its time is not known

    @property
    def waiting(self) -> int:
        """How many records the receiver does not hold."""
        return self.head - self.acknowledged


class StoreState(msgspec.Struct, frozen=True, kw_only=True):
    """The store's file and its disk."""

    path: str
    bytes: int  # with its write-ahead log
    free_bytes: int | None  # of the disk; None where it cannot be asked
    read_only: bool  # the disk
    waiting: int  # records that the disk has not taken yet
    moved_aside: str = ""  # the sentence, where a damaged file was replaced at the start


class Camera(msgspec.Struct, frozen=True, kw_only=True):
    """One camera as the dashcam last wrote it."""

    name: str
    state: Literal["ok", "degraded", "lost"]
    detail: str
    codec: str = ""
    encoder: str = ""
    width: int = 0
    height: int = 0
    fps: float = 0.0


class Agreed(msgspec.Struct, frozen=True, kw_only=True):
    """What the owner agrees to."""

    purposes: list[str]
    reference: str  # one sentence: what, and where that is written down
    awaited: bool  # somebody has to act before anything can be recorded


class Loan(msgspec.Struct, frozen=True, kw_only=True):
    """A device that is lent now."""

    device: str
    purpose: str
    uid: int  # of the process that asked
    until_ns: int


class Utc(msgspec.Struct, frozen=True, kw_only=True):
    """What time it is, as the boot knows it; utc_ns = t_ns + offset_ns."""

    quality: TimeQuality
    offset_ns: int | None = None
    uncertainty_ns: int | None = None


class Status(Answer, frozen=True, kw_only=True, tag="status"):
    """How everything stands at `t_ns`."""

    t_ns: int
    version: str
    device: str  # its name, rw-…; empty while it holds
    pid: int
    boot: str
    started_ns: int
    level: Level  # of the crash ladder
    level_reason: str = ""  # the last crash, where it is not normal
    config: str  # the file; empty: the installed default could not be found
    config_sha256: str  # of the file as it stands now; empty where it cannot be read
    recording: bool  # a recording is replayed: no car, no dashcam, no parking
    utc: Utc
    devices: list[Device]
    power: Power | None = None
    sync: SyncStatus | None = None  # None while sync rests, or where nothing is configured
    lanes: list[Lane] = []
    store: StoreState | None = None
    cameras: list[Camera] = []
    consent: Agreed | None = None
    trip: bool = False  # one is going on
    crash: bool = False  # one is being recorded
    loans: list[Loan] = []

    @property
    def uptime_s(self) -> float:
        """How long the agent has run."""
        return (self.t_ns - self.started_ns) / 1e9


class Value(msgspec.Struct, frozen=True, array_like=True):
    """The newest sample of one channel (agent.channels): its number, value in the table's unit, and age."""

    channel: int
    value: float
    age_s: float


class Fused(msgspec.Struct, frozen=True, kw_only=True):
    """The newest row of vehicle state (agent.state); it describes the car about 1.5 s ago."""

    t_ns: int
    speed_mps: float | None = None
    longitudinal_mps2: float | None = None
    lateral_mps2: float | None = None
    latitude: float | None = None
    longitude: float | None = None
    heading_deg: float | None = None
    sources: list[str] = []  # that agree on the speed
    mount: float | None = None  # 0..1, confidence in the learned orientation of the box


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One record that was kept, in words."""

    number: int  # counts all records since the agent started
    t_ns: int
    kind: str  # as agent.records.KINDS
    severity: Severity | Literal["ok", "degraded", "lost", ""]
    text: str


class Tick(Answer, frozen=True, kw_only=True, tag="tick"):
    """A second of the car: values, what was recorded since the tick before (the first: lately), states."""

    t_ns: int
    device: str  # the box's name, rw-…
    level: Level
    utc: Utc
    values: list[Value]
    fused: Fused | None = None
    happened: list[Line] = []
    missed: int = 0  # lines that came too fast to be kept for this client
    devices: list[Device] = []
    cameras: list[Camera] = []
    power: Power | None = None
    sync: SyncStatus | None = None
    lanes: list[Lane] = []
    store: StoreState | None = None
    trip: bool = False
    crash: bool = False
    loans: list[Loan] = []


Answered = Status | Tick | Lent | Ended | Refusal

_requests: Final[msgspec.json.Decoder[Asked]] = msgspec.json.Decoder(known(Asked))
_answers: Final[msgspec.json.Decoder[Answered]] = msgspec.json.Decoder(known(Answered))


def encode(message: Request | Answer) -> bytes:
    """Return the line of a message, its end included."""
    return msgspec.json.encode(message) + b"\n"


def decode_request(line: bytes) -> Asked:
    """Read a request's line; raise ValueError (msgspec.DecodeError, UnicodeDecodeError) for anything else."""
    return _requests.decode(line)


def decode_answer(line: bytes) -> Answered:
    """Read an answer's line; raise ValueError for anything else."""
    return _answers.decode(line)
