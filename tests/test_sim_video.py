"""The rendered road: what time it is can be read from the pixels, also after encoding and shrinking."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.drive import simulate
from sim.video import pictures, read_code, render, write_code

av = pytest.importorskip("av", reason="needs PyAV: pip install 'roadwitness[device]'")


@given(st.integers(0, 2**24 - 1), st.integers(0, 2**24 - 1), st.sampled_from([320, 640, 1280]))
@settings(max_examples=60, deadline=None)
def test_the_code_says_number_and_time(number: int, t_ms: int, width: int) -> None:
    image = np.full((width * 9 // 16, width, 3), 77, np.uint8)
    assert read_code(image) is None
    write_code(image, number, t_ms)
    assert read_code(image) == (number, t_ms)


def test_every_picture_of_the_video_says_when_it_was_taken(tmp_path: Path) -> None:
    drive = simulate("crash", 3, 3.0)
    contact_s = drive.collisions[0].t_s
    begin_s = contact_s - 2.0
    count = render(drive, tmp_path / "road.mp4", begin_s, contact_s + 1.0, size=(640, 360), bit_rate=600_000)
    with av.open(str(tmp_path / "road.mp4")) as container:
        codes = [read_code(frame.to_ndarray(format="bgr24")) for frame in container.decode(video=0)]
    assert count == len(codes) == 90
    assert codes == [(i, round((begin_s + i / 30) * 1000)) for i in range(90)]


def test_the_picture_jumps_when_the_car_is_hit_and_rests_when_it_stands() -> None:
    drive = simulate("crash", 3, 3.0)
    contact_s = drive.collisions[0].t_s

    def change(from_s: float) -> float:
        one, two = list(pictures(drive, from_s, from_s + 2.1 / 30, (640, 360), 30))[:2]
        return float(np.abs(one[40:].astype(np.int16) - two[40:]).mean())

    assert change(contact_s) > 2 * change(contact_s - 1.0)
    assert change(contact_s + 20.0) < change(contact_s - 1.0)


def test_a_rolled_over_car_sees_the_world_askew() -> None:
    drive = simulate("crash-rollover", 2, 3.0)
    after_s = drive.collisions[0].t_s + 10.0
    assert _sides_differ(next(iter(pictures(drive, after_s, after_s + 1.0, (640, 360), 30)))) > 20
    assert _sides_differ(next(iter(pictures(drive, 10.0, 11.0, (640, 360), 30)))) < 5


def _sides_differ(image: np.ndarray) -> float:
    """Return how different the left and the right edge of a picture are, below its code."""
    return float(np.abs(image[60:, :150].mean(axis=(0, 1)) - image[60:, -150:].mean(axis=(0, 1))).max())
