"""The report of the kernel bench is written by one process from what its workers' tests carry."""

from typing import Any

import pytest

from tests.kernel.report import Report


def phase(when: str, outcome: str = "passed", said: object = None, carries: object = ()) -> Any:
    where = ("tests/kernel/test_x.py", None, "test_x")
    given: dict[str, Any] = {"nodeid": "x", "location": where, "keywords": {}, "sections": [], "duration": 1.5}
    properties = list(carries) if isinstance(carries, list) else []
    return pytest.TestReport(
        when=when,
        outcome=outcome,
        longrepr=said,
        user_properties=properties,
        **given,  # type: ignore[arg-type]
    )


def test_a_report_tells_each_test_once_with_its_figures_and_machines() -> None:
    report = Report()
    carries = [("figure", ("frames", "3 frames/s")), ("machine", ("amd64, 512 MiB", "6.1"))]
    for taken in (phase("setup"), phase("call", carries=carries), phase("teardown", carries=carries)):
        report.take("can: a frame arrives", taken)
    report.take("can: a frame is lost", phase("setup"))
    report.take("can: a frame is lost", phase("call", "failed"))
    report.take("can: a frame is lost", phase("teardown"))
    report.take("camera: mjpeg", phase("setup", "skipped", ("file", 1, "Skipped: needs vivid")))
    report.take("camera: mjpeg", phase("teardown"))
    report.take("camera: frozen", phase("setup"))
    report.take("camera: frozen", phase("call", "skipped", ("file", 2, "Skipped: compresses nothing")))
    report.take("camera: frozen", phase("teardown"))
    report.take("clock: 1970", phase("setup"))  # and then the run was ended
    text = report.text()
    assert "1 passed, 1 failed, 1 not over, 2 skipped" in text
    assert text.count("| can: a frame arrives | frames | 3 frames/s |") == 1
    assert "| amd64, 512 MiB | 6.1 |" in text
    assert "- camera: mjpeg: needs vivid" in text
    assert "| can: a frame is lost | failed | 4.5 |" in text
    assert "| clock: 1970 | not over | 1.5 |" in text
