"""The receiver's configuration: `receiver.toml` into frozen dataclasses; an unknown key lists near names."""

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args

import msgspec

from agent.errors import ConfigError, near_names
from agent.known import known
from agent.link import BrokerSettings
from receiver.authority.settings import EnrolmentSettings
from receiver.jt808.settings import Jt808Settings
from receiver.renewals.settings import NoticeSettings
from receiver.webhooks.settings import HookSettings

DEFAULT_URL: Final = "sqlite:///roadwitness.db"
ZONE: Final = "Asia/Shanghai"  # the product is made for cars in China


@dataclass(frozen=True, slots=True)
class ReceiverBrokerSettings(BrokerSettings):
    """As a device's, with more under way: what waits here is stored in one transaction."""

    in_flight: int = 256


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Where the pages and the API are served, and how they are protected on the way (receiver.exposure)."""

    host: str = "127.0.0.1"  # beyond this machine only encrypted
    port: int = 8080
    zone: str = ZONE  # of the pages, as the tz database names it
    certificate: str = ""  # PEM files of TLS; both or neither
    key: str = ""
    hosts: tuple[str, ...] = ()  # the names under which browsers ask from beyond this machine
    proxies: tuple[str, ...] = ()  # addresses of proxies whose X-Forwarded-For and -Proto are believed


@dataclass(frozen=True, slots=True)
class FileSettings:
    """Where the files of packages are kept, and how much of them."""

    root: str = ""  # a folder, or a URL that fsspec knows (s3://bucket/prefix); "": `files` beside the database
    partials: str = ""  # local folder of unfinished files; "": `.partial` in the root, or beside the database
    max_file_bytes: int = 512 * 1024**2  # one file: four minutes of video at 16 Mbit/s
    max_device_bytes: int = 20 * 1024**3  # all files of one device
    max_total_bytes: int = 200 * 1024**3  # all files of all devices

    def __post_init__(self) -> None:
        """Check the numbers; raise ValueError."""
        if not 0 < self.max_file_bytes <= self.max_device_bytes <= self.max_total_bytes:
            raise ValueError("max_file_bytes, max_device_bytes and max_total_bytes must be above 0 and not fall")


@dataclass(frozen=True, slots=True)
class CommandKeySettings:
    """By which key this receiver signs what it asks of devices."""

    key: str = ""  # file (PKCS #8 PEM, mode 0600), made at first use; "": `command.key` beside the database


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """Where Prometheus asks this process."""

    port: int = 0  # on 127.0.0.1; 0: not at all

    def __post_init__(self) -> None:
        """Check the number; raise ValueError."""
        if not 0 <= self.port <= 65535:
            raise ValueError("metrics.port must be between 0 and 65535")


@dataclass(frozen=True, slots=True)
class PeopleSettings:
    """How the secrets of second factors are kept."""

    key: str = ""  # file (PKCS #8 PEM, mode 0600), made at first use; "": `people.key` beside the database


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """For how many days what was received is kept; 0: for ever."""

    track_days: int = 180  # where cars were: tracks, speed curves
    health_days: int = 180
    trip_days: int = 1095  # trips and events, from which scores are made
    answer_days: int = 90  # what boxes answered about themselves: support bundles, doctor's findings

    def __post_init__(self) -> None:
        """Check the numbers; raise ValueError."""
        if min(self.track_days, self.health_days, self.trip_days, self.answer_days) < 0:
            raise ValueError("days of retention must not be negative")


@dataclass(frozen=True, slots=True)
class ReceiverSettings:
    """All that `receiver.toml` may say."""

    database: str = DEFAULT_URL
    group: str = "roadwitness"  # processes of one group share the devices' messages among them
    broker: ReceiverBrokerSettings = field(default_factory=ReceiverBrokerSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    people: PeopleSettings = field(default_factory=PeopleSettings)
    files: FileSettings = field(default_factory=FileSettings)
    commands: CommandKeySettings = field(default_factory=CommandKeySettings)
    enrolment: EnrolmentSettings = field(default_factory=EnrolmentSettings)
    jt808: Jt808Settings = field(default_factory=Jt808Settings)
    renewals: NoticeSettings = field(default_factory=NoticeSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    webhooks: dict[str, HookSettings] = field(default_factory=dict)  # by a name of the insurer's choice


def load_settings(path: Path) -> ReceiverSettings:
    """Read a `receiver.toml` over the defaults; raise ConfigError naming the file and the key that is wrong."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise ConfigError(f"{path}: no such file") from e
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: cannot be read: {e}") from e
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{path}: not valid TOML: {e}") from e
    _check_keys(ReceiverSettings, table, str(path))
    try:
        return msgspec.convert(table, known(ReceiverSettings), dec_hook=_path)
    except msgspec.ValidationError as e:
        raise ConfigError(f"{path}: {e}") from e


def _check_keys(cls: type[Any], table: dict[str, Any], where: str) -> None:
    known = {f.name: f.type for f in dataclasses.fields(cls)}
    for key, value in table.items():
        if key not in known:
            raise ConfigError(f"{where}: unknown key '{key}'{near_names(key, known)}")
        kind = known[key]
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, dict):
            _check_keys(kind, value, f"{where}: {key}")
        elif isinstance(value, dict):
            named = next((k for k in get_args(kind) if dataclasses.is_dataclass(k)), None)
            for name, each in value.items():
                if named is not None and isinstance(each, dict):
                    _check_keys(named, each, f"{where}: {key}.{name}")  # type: ignore[arg-type]


def _path(kind: type[Any], value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError
