"""The regulator's platform hears of a car only while its owner agrees to that, by the consents at the receiver."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import clock
from receiver import db
from receiver.jt808 import messages
from receiver.registry import consents
from tests.pages import Desk
from tests.platforms import Platform, listening, settings, telling, terminal, until
from tests.registering import agreed, bound
from tests.test_jt808_gateway import S, driven, row, times, track_of


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(db.open_database(f"sqlite:///{tmp_path / 'receiver.db'}"))
    yield desk
    desk.engine.dispose()


def test_the_owner_s_consent_here_counts_before_the_file_s_and_withdrawn_it_signs_off(desk: Desk) -> None:
    device, seconds = driven(desk).device, times(track_of())
    before_ns = (seconds[0] - 100) * S
    bound(desk.engine, device, now_ns=before_ns)
    agreed(desk.engine, device, "recording", now_ns=before_ns)

    async def scenario() -> None:
        async with listening(Platform()) as platform:
            configured = settings(platform.port, {device: terminal(consent_from=None)})
            async with telling(desk.engine, configured) as running:
                await asyncio.wait_for(running, 30)
            assert platform.links == 0  # nobody agreed to that, neither here nor on paper

            agreed(desk.engine, device, "regulator", now_ns=seconds[10] * S)
            async with telling(desk.engine, configured):
                await until(lambda: row(desk.engine, device).told == len(seconds) - 10)
                assert [x.utc_s for x in platform.kept] == seconds[10:]
                consents.withdraw(desk.engine, device, "regulator", clock.wall_ns(), by="K-1")
                await until(lambda: row(desk.engine, device).state == "signed_off")
                assert platform.ids()[-1] == messages.DEREGISTER
                links = platform.links
                agreed(desk.engine, device, "regulator", now_ns=clock.wall_ns())
                await until(lambda: platform.links == links + 1)
                await until(lambda: row(desk.engine, device).state == "online")

    asyncio.run(scenario())
