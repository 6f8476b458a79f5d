"""What the whole suite shares: its options, where it writes, its order, and a broker of either kind."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 << 30  # a whole run leaves some 200 MB there until it ends

# Files in which a worker stays for long, the longest first (`pytest --durations=0`): one that began last would let the
# other worker wait for its end.
LONG = [
    "crash_demo",
    "fitting_whole",
    "bad_luck_devices",
    "crash_pages",
    "dashcam_process",
    "power_daemon",
    "crash_power_cut",
    "pages",
    "crash_faults_power",
    "bad_luck_kill",
    "dashcam_power_cut",
    "daemon",
    "receiver_kills",
    "bad_luck_start",
    "remote_service_brokers",
    "bad_luck_disk",
    "upload_brokers",
    "gps_real",
    "live_demo",
    "upload_property",
    "guard_daemon",
    "consent_brokers",
    "pages_browser",
    "crash_browser",
    "owner_browser",
    "signin_browser",
    "dashcam_rest",
    "power_states",
    "api_schema",
    "commands",
    "clip",
    "sync_brokers",
    "command_brokers",
    "score_database",
    "replay_command",
    "elm_faults",
    "bad_luck_time",
    "crash_faults_camera",
    "bad_luck_wires",
    "bad_luck_far",
    "sim_wires",
]

# Folders that need minutes and machines of their own: collected where the command names them.
BY_NAME = {"kernel", "packaging"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rebuild-golden", action="store_true", help="write tests/golden anew; explain the change in the commit"
    )


_ours: list[str] = []


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Let tmp_path be in memory where there is room: half of the time is else spent on waiting for a disk to sync."""
    if config.option.basetemp or hasattr(config, "workerinput"):
        return
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM_BYTES:
        _ours.append(tempfile.mkdtemp(prefix="roadwitness-tests-", dir=MEMORY))
        config.option.basetemp = _ours[0]


def pytest_unconfigure() -> None:
    while _ours:
        shutil.rmtree(_ours.pop(), ignore_errors=True)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if collection_path.name not in BY_NAME or collection_path.parent != Path(__file__).parent:
        return None
    named = [Path(word.partition("::")[0]).absolute() for word in config.args]
    return None if any(collection_path in (path, *path.parents) for path in named) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {f"test_{name}.py": at for at, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONG)))


@pytest.fixture(params=["mosquitto", "amqtt"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a broker on this machine: Mosquitto where it is installed, then the embedded one."""
    from receiver.broker import EmbeddedBroker
    from tests.syncing import mosquitto

    if request.param == "mosquitto":
        with mosquitto(tmp_path) as real:
            yield real.url
    else:
        embedded = EmbeddedBroker()
        try:
            yield embedded.open()
        finally:
            embedded.close()
            assert not embedded.is_alive()
