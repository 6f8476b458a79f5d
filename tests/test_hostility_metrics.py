"""What Prometheus is given: counts of the real ingest, times of real answers, and nothing about anybody."""

import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from agent import messages
from agent.link import BrokerSettings
from receiver.metrics import Metrics, Timed
from receiver.mqtt import Reception
from tests.api import client
from tests.pages import NOW, Desk, clock_at, drive, open_desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = open_desk(tmp_path)
    yield desk
    desk.engine.dispose()


def figures(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return {
        f"{s.name}{''.join(f'|{v}' for _, v in sorted(s.labels.items()) if v)}": s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_what_a_process_does_is_given_out_and_names_nobody(desk: Desk) -> None:
    source = desk.enrol()
    desk.status(source, "online")
    reception = Reception(desk.engine, BrokerSettings(url="mqtt://127.0.0.1:1"))
    reception.ingest = desk.ingest
    measured = Metrics(desk.engine)
    measured.watch(reception)
    desk.send(source, [clock_at(NOW), *drive()])
    desk.ingest.take(messages.topic(source.device, "up", "trip"), b"\x01 garbage", NOW)
    reception.on_acknowledged(0.003)

    async def answered(_: object) -> PlainTextResponse:
        return PlainTextResponse("here")

    pages = client(Timed(Starlette(routes=[Route("/api/v1/me", answered)]), measured.answered))
    assert [pages.get(path).status_code for path in ("/api/v1/me", "/nowhere")] == [200, 404]
    with ExitStack() as stack:
        found = figures(measured.serve(0, stack))
    assert found["roadwitness_rows_total"] == desk.ingest.counts.entries > 3
    assert found["roadwitness_messages_total"] == desk.ingest.counts.messages
    assert found["roadwitness_refused_total|payload is not zstd"] == 1
    assert (found["roadwitness_devices"], found["roadwitness_devices_online"]) == (1, 1)
    assert (found["roadwitness_claims_open"], found["roadwitness_database_up"]) == (0, 1)
    assert (found["roadwitness_backlog"], found["roadwitness_broker_connected"]) == (0, 0)
    assert found["roadwitness_ack_seconds_bucket|0.005"] == found["roadwitness_ack_seconds_count"] == 1
    assert found["roadwitness_ack_seconds_bucket|0.0025"] == 0
    assert found["roadwitness_http_seconds_count|api|2xx"] == found["roadwitness_http_seconds_count|pages|4xx"] == 1
    assert found["process_resident_memory_bytes"] > 1e6
    assert not [name for name in found if source.device in name]


def test_a_database_that_is_away_is_told_and_no_error(tmp_path: Path) -> None:
    desk = open_desk(tmp_path)
    desk.engine.dispose()
    (tmp_path / "receiver.db").write_bytes(b"no database" * 500)
    with ExitStack() as stack:
        found = figures(Metrics(desk.engine).serve(0, stack))
    assert found["roadwitness_database_up"] == 0
    assert "roadwitness_devices" not in found
