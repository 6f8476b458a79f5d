"""An event says in its own unit from where it is minor, moderate and severe."""

import numpy as np
import pytest

from agent.detect.detector import UNITS, Detector
from agent.detect.found import KINDS
from agent.detect.settings import DetectionSettings
from agent.state import STATE, STEP_NS

EXPECTED = {  # a van: 0.95 of a car's forces, its own engine limit
    "harsh_braking": (2.375, 2.85, 4.18),
    "harsh_acceleration": (2.375, 2.85, 3.8),
    "harsh_cornering": (2.85, 3.8, 5.225),
    "speeding": (110.0, 120.0, 150.0),
    "idling": (300.0, 900.0, 3600.0),
    "over_rev": (4500.0, 4950.0, 5400.0),
    "fatigue": (14400.0, 18000.0, 21600.0),
}


@pytest.mark.parametrize(("kind", "name"), list(enumerate(KINDS)))
def test_levels_of_a_van_follow_the_settings(kind: int, name: str) -> None:
    detector = Detector(DetectionSettings(vehicle_class="van"))
    assert detector._levels(kind, True, 100.0) == pytest.approx(EXPECTED[name])
    assert UNITS[kind] in ("m/s2", "m/s", "s", "rpm")


def test_a_speeding_event_carries_levels_that_explain_its_severity() -> None:
    rows = np.zeros(1200, STATE)
    for name in STATE.names or ():
        if np.issubdtype(STATE[name], np.floating):
            rows[name] = np.nan
    rows["t"] = np.arange(1200) * STEP_NS
    rows["speed"] = np.where(np.arange(1200) < 600, 41.0, 20.0)
    detector = Detector(DetectionSettings())
    (event,) = [e for e in detector.step(rows) + detector.finish() if e.kind == "speeding"]
    assert event.levels is not None
    assert event.levels == pytest.approx((36.667, 40.0, 50.0), abs=0.001)
    assert event.levels[1] <= event.peak < event.levels[2]
    assert event.severity == "moderate"
