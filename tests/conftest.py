"""What the whole suite shares: its options, and a broker of either kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rebuild-golden", action="store_true", help="write tests/golden anew; explain the change in the commit"
    )


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
