"""Cameras as libav and OpenCV show them: V4L2 through a stand-in for libav's device, streams and files for real."""

import fcntl
import os
import select
import socket
import threading
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import clock
from agent.dashcam.backlog import Backlog
from agent.errors import DriverError
from drivers.camera import EndError, Picture, Wish, images, packets
from drivers.camera.images import Images
from drivers.camera.packets import Packets, unblocked
from drivers.camera.stamps import DRIFT, Stamps
from tests.dashcam_making import S, film, film_h264, scene

MS = 1_000_000
WALL = 1_700_000_000 * S


class Device:
    """What libav's V4L2 demuxer looks like from here: packets stamped in µs, EAGAIN while there is none."""

    def __init__(self, codec: str, script: list) -> None:
        context = SimpleNamespace(name=codec, width=640, height=480, extradata=None)
        stream = SimpleNamespace(codec_context=context, average_rate=Fraction(30), guessed_rate=None)
        self.streams = SimpleNamespace(video=[stream])
        self.format = SimpleNamespace(name="video4linux2,v4l2")
        self.script = list(script)
        self.closed = False

    def demux(self, stream):
        step = self.script.pop(0) if self.script else av.error.BlockingIOError(11, "Resource temporarily unavailable")
        if isinstance(step, Exception):
            raise step
        yield step

    def close(self) -> None:
        self.closed = True


def packet(stamp_ns: int | None, data: bytes = b"\xff\xd8x\xff\xd9"):
    made = av.Packet(data)
    made.pts = None if stamp_ns is None else stamp_ns // 1000
    made.time_base = Fraction(1, 1_000_000)
    return made


def opened(monkeypatch, offers: dict[str, Device], source: str = "/dev/video0") -> tuple[Packets, list[dict]]:
    asked = []

    def fake_open(file, format, options, timeout):
        asked.append({"file": file, "format": format, "timeout": timeout} | options)
        if options.get("input_format") not in offers:
            raise OSError(22, "Invalid argument")
        return offers[options["input_format"]]

    monkeypatch.setattr(packets.av, "open", fake_open)
    return Packets(Wish(source, 640, 480, 30.0)), asked


def test_h264_is_asked_for_first_then_mjpeg_with_the_kernels_stamps(monkeypatch) -> None:
    camera, asked = opened(monkeypatch, {"mjpeg": Device("mjpeg", [])})
    offer = camera.open()
    assert [a["input_format"] for a in asked] == ["h264", "mjpeg"]
    assert (offer.codec, offer.width, offer.height, offer.fps) == ("mjpeg", 640, 480, 30.0)
    for a in asked:
        assert (a["format"], a["timestamps"]) == ("video4linux2", "default")
        assert (a["video_size"], a["framerate"]) == ("640x480", "30")


def test_a_camera_that_compresses_nothing_is_refused_in_one_line(monkeypatch) -> None:
    camera, _ = opened(monkeypatch, {})  # as the kernel's vivid: libav calls another format an invalid argument
    with pytest.raises(DriverError, match=r'/dev/video0: .*neither H\.264 nor MJPEG; use mode = "encode"'):
        camera.open()
    raw = Device("rawvideo", [])
    camera, _ = opened(monkeypatch, {"h264": raw, "mjpeg": raw})
    with pytest.raises(DriverError, match=r'neither H\.264 nor MJPEG; use mode = "encode"'):
        camera.open()
    assert raw.closed


def test_kernel_stamps_are_kept_to_the_microsecond_and_pictures_that_were_there_before_are_dropped(monkeypatch) -> None:
    now_ns = clock.monotonic_ns() // 1000 * 1000
    stamps = [now_ns - 80 * MS, now_ns - 47 * MS, now_ns - 47 * MS, now_ns - 80 * MS, now_ns - 13 * MS]
    camera, _ = opened(monkeypatch, {"h264": Device("h264", [packet(t) for t in stamps])})
    camera.open()
    got = [camera.read(0.2).t_ns for _ in range(3)]
    assert got == [stamps[0], stamps[1], stamps[4]]
    assert camera.counts == {"stale": 2, "damaged": 0}


def test_a_camera_that_has_stopped_blocks_nobody(monkeypatch) -> None:
    camera, _ = opened(monkeypatch, {"h264": Device("h264", [])})
    camera.open()
    began_ns = clock.monotonic_ns()
    assert camera.read(0.1) is None
    assert 0.09 * S < clock.monotonic_ns() - began_ns < 0.5 * S


def test_an_open_device_is_made_to_answer_at_once_and_can_be_waited_on(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "video0")
    (tmp_path / "by-path").symlink_to(tmp_path / "video0")
    device = os.open(tmp_path / "video0", os.O_RDWR)  # as libav does: blocking
    try:
        ready = unblocked(str(tmp_path / "by-path"))
        assert os.O_NONBLOCK & fcntl.fcntl(device, fcntl.F_GETFL)
        with pytest.raises(BlockingIOError):
            os.read(device, 1)
        assert ready.poll(10) == []
        os.write(device, b"x")
        assert ready.poll(10) == [(device, select.POLLIN)]
    finally:
        os.close(device)
    assert unblocked(str(tmp_path / "video0")) is None


def test_libav_knows_every_option_that_a_device_is_opened_with() -> None:
    # a wrong option is an ArgumentError before the device is even tried
    with pytest.raises(DriverError, match="/dev/video77: open: No such file or directory"):
        Packets(Wish("/dev/video77", 640, 480, 30.0)).open()
    with pytest.raises(DriverError, match="Connection refused"):
        Packets(Wish("rtsp://127.0.0.1:1/stream", 640, 480, 30.0)).open()


def test_an_unplugged_camera_is_a_driver_error_and_closing_twice_is_fine(monkeypatch) -> None:
    device = Device("h264", [av.error.OSError(19, "No such device")])
    camera, _ = opened(monkeypatch, {"h264": device})
    camera.open()
    with pytest.raises(DriverError, match="/dev/video0: read: No such device; it is opened again"):
        camera.read(0.1)
    camera.close()
    camera.close()
    assert device.closed
    with pytest.raises(DriverError, match="is not open"):
        camera.read(0.1)


def drain(camera, pictures: list[Picture]) -> None:
    """Read until the source raises."""
    for _ in range(200):
        picture = camera.read(0.2)
        pictures += [picture] if picture else []


@pytest.mark.parametrize("kind", [Packets, Images])
def test_what_is_not_there_is_a_driver_error(kind, tmp_path: Path) -> None:
    for source in (str(tmp_path / "none.mp4"), "/dev/video77"):
        with pytest.raises(DriverError, match="open"):
            kind(Wish(source, 640, 480, 30.0)).open()
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DriverError, match="open"):
        kind(Wish(str(tmp_path / "text.mp4"), 640, 480, 30.0)).open()


@pytest.mark.parametrize("kind", [Packets, Images])
def test_a_file_gives_every_picture_once_with_its_time_then_ends(kind, tmp_path: Path) -> None:
    path = film_h264(tmp_path / "s.mp4", 1)
    camera = kind(Wish(str(path), 320, 180, 30.0, pace=0.0, start_ns=50 * S))
    offer = camera.open()
    assert (offer.codec, offer.width, offer.height) == ("h264" if kind is Packets else "rawvideo", 320, 180)
    pictures: list[Picture] = []
    with pytest.raises(EndError):
        drain(camera, pictures)
    camera.close()
    expected = 50 * S + np.arange(30) * S / 30
    assert np.abs([p.t_ns for p in pictures] - expected).max() < 2000
    if kind is Images:
        assert np.abs(pictures[10].image.astype(int) - scene(10)).mean() < 12


def test_opencvs_stamp_of_a_device_is_the_kernels(monkeypatch) -> None:
    now_ns = clock.monotonic_ns()

    class Capture:
        stamp_ms = now_ns / MS - 40

        def isOpened(self):
            return True

        def set(self, name, value):
            return False

        def get(self, name):
            return self.stamp_ms if name == images.cv2.CAP_PROP_POS_MSEC else 0.0

        def read(self):
            Capture.stamp_ms += 33.3
            return True, np.zeros((480, 640, 3), np.uint8)

        def release(self):
            pass

    monkeypatch.setattr(images.cv2, "VideoCapture", lambda *a: Capture())
    monkeypatch.setattr(images.cv2.VideoWriter, "fourcc", lambda *a: 0)
    camera = Images(Wish("/dev/video0", 640, 480, 30.0))
    camera.open()
    for k in (1, 2):
        assert abs(camera.read(0.1).t_ns - (now_ns - 40 * MS + k * 33.3 * MS)) < 2000


def served(path: Path, seconds: float) -> tuple[str, threading.Thread]:
    """Send a file to the first who asks, evenly over `seconds`; return where, and the thread that does."""
    server = socket.create_server(("127.0.0.1", 0))
    data = path.read_bytes()

    def send() -> None:
        never, steps = threading.Event(), round(seconds * 50)
        with server, server.accept()[0] as line:
            for k in range(steps):
                line.sendall(data[len(data) * k // steps : len(data) * (k + 1) // steps])
                clock.wait(never, 0.02)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    return f"tcp://127.0.0.1:{server.getsockname()[1]}", sender


@pytest.mark.parametrize(("name", "clock_of"), [("s.ts", "sender"), ("s.h264", "arrival")])
def test_a_real_stream_is_read_with_times_near_its_arrival_and_its_end_is_trouble(
    name, clock_of, tmp_path: Path
) -> None:
    url, sender = served(film_h264(tmp_path / name, 3, gop=15), 3)
    began_ns = clock.monotonic_ns()
    camera = Packets(Wish(url, 320, 180, 30.0))
    offer = camera.open()
    assert (offer.codec, offer.width, offer.height) == ("h264", 320, 180)
    pictures: list[Picture] = []
    with pytest.raises(DriverError, match="stream has ended"):
        drain(camera, pictures)
    sender.join(60)
    camera.close()
    assert 80 <= len(pictures) <= 90
    shown = np.array([p.t_ns for p in pictures])
    assert (np.diff(shown) > 0).all()
    assert began_ns - 4 * S < shown[0]
    assert shown[-1] <= clock.monotonic_ns()
    assert camera._stamps.clock == clock_of
    if clock_of == "sender":
        assert np.abs(np.diff(shown) - S / 30).max() < 40 * MS
        assert np.median(np.abs(np.diff(shown) - S / 30)) < MS  # the sender's distances, not those of arrival


# stamps


def test_each_clock_of_a_stamp_is_recognised() -> None:
    now = 500 * S
    kernel, wall, sender, none = Stamps(7 * MS), Stamps(7 * MS), Stamps(7 * MS), Stamps(7 * MS)
    assert kernel.time_of(now - 30 * MS, now, WALL) == now - 30 * MS
    assert wall.time_of(WALL + now - 30 * MS, now, WALL) == now - 37 * MS
    assert sender.time_of(90 * S, now, WALL) == now - 7 * MS
    assert none.time_of(None, now, WALL) == now - 7 * MS
    assert [s.clock for s in (kernel, wall, sender, none)] == ["kernel", "wall", "sender", "arrival"]


@given(st.lists(st.integers(0, 200), min_size=5, max_size=200), st.integers(-50, 50))
@settings(max_examples=100, deadline=None)
def test_jitter_of_the_network_moves_no_picture_by_more_than_it_delayed_the_best(delays, ppm) -> None:
    stamps, errors = Stamps(), []
    for i, delay_ms in enumerate(delays):
        taken = 1000 * S + i * S // 30
        sent = round((taken - 1000 * S) * (1 + ppm * 1e-6)) + 33 * S
        got = stamps.time_of(sent, taken + delay_ms * MS, WALL)
        if got is not None:
            errors.append((got - taken, min(delays[: i + 1]) * MS))
    slack = (len(delays) / 30 + 0.2) * DRIFT * 2 * S + 1000  # what two clocks may have parted by at the last arrival
    assert all(-slack <= error <= best + slack for error, best in errors)


def test_a_sender_that_counts_anew_is_followed() -> None:
    stamps = Stamps()
    assert stamps.time_of(10 * S, 1000 * S, WALL) == 1000 * S
    assert stamps.time_of(11 * S, 1001 * S, WALL) == 1001 * S
    assert stamps.time_of(0, 1010 * S, WALL) == 1010 * S


# backlog


def backlog(most: int = 10, *, patient: bool = False) -> Backlog:
    return Backlog(most, len, lambda item: item.startswith(b"k"), patient=patient)


def test_what_does_not_fit_is_dropped_up_to_the_next_key() -> None:
    waiting = backlog()
    assert waiting.put(b"k1234567")
    assert not waiting.put(b"abc")
    assert waiting.take() == b"k1234567"
    assert not waiting.put(b"d")
    assert waiting.put(b"kx")
    assert waiting.put(b"e")
    assert waiting.dropped == 2
    waiting.close()
    assert not waiting.put(b"k")
    assert [waiting.take(), waiting.take(), waiting.take()] == [b"kx", b"e", None]
    assert waiting.over


def test_a_patient_giver_waits_for_room_and_one_that_is_too_big_alone_is_taken() -> None:
    waiting = backlog(patient=True)
    assert waiting.put(bytes(50))
    given_in: list[bool] = []
    giver = threading.Thread(target=lambda: given_in.append(waiting.put(b"second")))
    giver.start()
    assert len(waiting.take()) == 50
    giver.join(60)
    assert given_in == [True]
    assert waiting.take() == b"second"
    assert waiting.dropped == 0


def test_a_silent_stream_that_ends_is_opened_again_not_over(monkeypatch, tmp_path: Path) -> None:
    film(tmp_path / "s.avi", "mjpeg", 0.2)
    real = av.open(str(tmp_path / "s.avi"))
    monkeypatch.setattr(packets.av, "open", lambda *a, **k: real)
    camera = Packets(Wish("http://127.0.0.1:1/stream", 320, 180, 30.0))
    assert camera.open().codec == "mjpeg"
    pictures: list[Picture] = []
    with pytest.raises(DriverError, match="the stream has ended") as ended:
        drain(camera, pictures)
    assert not isinstance(ended.value, EndError)
    assert len(pictures) == 6
    assert np.abs(np.diff([p.t_ns for p in pictures]) - S / 30).max() < 40 * MS
