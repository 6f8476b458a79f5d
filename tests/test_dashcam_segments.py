"""The video folder: what is written is read back exactly, torn files up to the last whole frame, keeps are honoured."""

import json
import os
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dashcam import h264, segments
from agent.dashcam.mp4 import (
    OVERHEAD_BYTES,
    DamageError,
    Frame,
    Head,
    fragment_head,
    head_bytes,
    read_frames,
    read_head,
)

BOOT = "0123456789abcdef0123456789abcdef"
SECOND = 1_000_000_000


def make(
    folder: Path, camera: str, sequence: int, start_ns: int, end_ns: int, count: int = 4, boot: str = BOOT
) -> Path:
    path = folder / camera / segments.file_name(boot, sequence, start_ns, end_ns)
    path.parent.mkdir(parents=True, exist_ok=True)
    step_us = (end_ns - start_ns) // 1000 // count
    data = head_bytes(Head("mjpeg", 64, 48))
    for i in range(count):
        body = b"\xff\xd8" + bytes([i]) * 100 + b"\xff\xd9"
        data += fragment_head(i + 1, Frame(0, len(body), i * step_us, i * step_us, step_us, True)) + body
    path.write_bytes(data)
    return path


@given(
    st.sampled_from(["h264", "mjpeg"]),
    st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 10**9), st.integers(-(10**6), 10**6)), max_size=6),
    st.integers(0, 3000),
)
@settings(max_examples=100, deadline=None)
def test_a_file_is_read_back_up_to_its_last_whole_frame_wherever_it_is_torn(tmp_path_factory, codec, rows, cut) -> None:
    head = Head(codec, 1280, 720, b"\1avcc-record" if codec == "h264" else b"")
    data, ends, wanted = head_bytes(head), [], []
    for i, (body, dts, shift) in enumerate(rows):
        frame = Frame(len(data) + OVERHEAD_BYTES, len(body), dts + shift, dts, 33_333, i == 0)
        data += fragment_head(i + 1, frame) + body
        wanted.append(frame)
        ends.append(len(data))
    cut = min(cut, len(data))
    path = tmp_path_factory.mktemp("torn") / "x"
    path.write_bytes(data[:cut] + bytes(len(data) - cut))  # zeros, as a power cut may leave them
    with path.open("rb") as file:
        if data[cut : len(head_bytes(head))].strip(b"\0"):  # the head ends in zeros, which are lost to nobody
            with pytest.raises(DamageError):
                read_head(file)
            return
        assert read_head(file) == head
        found = read_frames(file, max(cut, len(head_bytes(head))))
    assert found == [frame for frame, end in zip(wanted, ends, strict=True) if end <= cut]


def test_other_readers_see_the_same_times_and_pictures(tmp_path: Path) -> None:
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.framerate = 64, 48, "yuvj420p", 30
    path = tmp_path / "x.mp4"
    times, data = [0, 33_333, 66_700, 120_001], head_bytes(Head("mjpeg", 64, 48))
    for i, t in enumerate(times):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 60 * i, np.uint8), "bgr24").reformat(format="yuvj420p")
        frame.pts = i
        body = bytes(encoder.encode(frame)[0])
        data += fragment_head(i + 1, Frame(0, len(body), t, t, 33_333, True)) + body
    path.write_bytes(data)
    with av.open(str(path)) as container:
        assert [p.pts for p in container.demux(video=0) if p.size] == times
        assert container.streams.video[0].codec_context.name == "mjpeg"
        container.seek(0)
        grey = [f.to_ndarray(format="gray").mean() for f in container.decode(video=0)]
    assert np.allclose(grey, [0, 60, 120, 180], atol=4)


def test_segments_are_found_by_camera_boot_and_time(tmp_path: Path) -> None:
    for i in range(5):
        make(tmp_path, "front", i, i * 2 * SECOND, (i + 1) * 2 * SECOND)
    make(tmp_path, "front", 5, 2 * SECOND, 4 * SECOND, boot="f" * 32)
    make(tmp_path, "rear", 0, 0, 2 * SECOND)
    (tmp_path / "front" / "note.txt").write_text("not ours")
    assert segments.cameras(tmp_path) == ["front", "rear"]
    found = segments.segments(tmp_path, "front", BOOT, 3 * SECOND, 6 * SECOND)
    assert [(s.start_ns, s.end_ns) for s in found] == [(i * 2 * SECOND, (i + 1) * 2 * SECOND) for i in (1, 2, 3)]
    assert {(s.codec, s.width, s.height, s.frames, s.boot, s.camera) for s in found} == {
        ("mjpeg", 64, 48, 4, BOOT, "front")
    }
    assert segments.frame_times(found[0]).tolist() == [2 * SECOND + i * SECOND // 2 for i in range(4)]
    assert segments.segments(tmp_path, "side", BOOT, 0, SECOND) == []
    assert segments.segments(tmp_path, "front", BOOT, 10 * SECOND, 11 * SECOND) == []


def test_a_damaged_segment_is_left_out(tmp_path: Path) -> None:
    path = make(tmp_path, "front", 0, 0, 2 * SECOND)
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    make(tmp_path, "front", 1, 2 * SECOND, 4 * SECOND)
    assert [s.start_ns for s in segments.segments(tmp_path, "front", BOOT, 0, 4 * SECOND)] == [2 * SECOND]


def test_keep_requests_come_and_go_and_torn_ones_are_counted(tmp_path: Path) -> None:
    segments.keep(tmp_path, "a1b2", BOOT, 3 * SECOND, 5 * SECOND)
    segments.keep(tmp_path, "c3d4", BOOT, 0, 0)
    (tmp_path / "keep" / "torn.json").write_text('{"boot": "01')
    (tmp_path / "keep" / "odd.json").write_text(json.dumps({"boot": 3, "start_ns": 0, "end_ns": 1}))
    found, bad = segments.keeps(tmp_path)
    assert bad == 2
    assert found[0] == segments.Keep("a1b2", BOOT, 3 * SECOND, 5 * SECOND)
    assert os.stat(tmp_path / "keep" / "a1b2.json").st_mode & 0o777 == 0o640
    make(tmp_path, "front", 0, 0, 2 * SECOND)
    make(tmp_path, "front", 1, 2 * SECOND, 4 * SECOND)
    make(tmp_path, "front", 2, 5 * SECOND, 7 * SECOND)
    make(tmp_path, "front", 3, 7 * SECOND, 9 * SECOND)
    assert [found[0].covers(n) for n in segments.names(tmp_path, "front")] == [False, True, True, False]
    segments.release(tmp_path, "a1b2")
    segments.release(tmp_path, "a1b2")
    assert [k.incident for k in segments.keeps(tmp_path)[0]] == ["c3d4"]
    with pytest.raises(ValueError, match="keep"):
        segments.keep(tmp_path, "../x", BOOT, 0, 1)


def test_nal_units_go_from_start_codes_to_lengths_and_back() -> None:
    units = [b"\x67\x42\x00\x1e\xaa", b"\x68\xce", b"\x65" + bytes(range(1, 200))]
    stream = b"\0\0\0\1" + units[0] + b"\0\0\1" + units[1] + b"\0\0\0\1" + units[2] + b"\0\0"
    assert h264.split_start_codes(stream) == units
    assert h264.split_lengths(h264.join_lengths(units)) == units
    assert h264.split_lengths(h264.join_lengths(units)[:-1]) is None
    assert h264.split_lengths(bytes(20)) is None
    assert h264.is_key(units)
    assert not h264.is_key([b"\x41abc"])
    assert h264.parameter_sets(units) == (units[0], units[1])
    assert h264.of_extradata(stream) == (h264.avcc(units[0], units[1]), 0)
    assert h264.of_extradata(h264.avcc(units[0], units[1])) == (h264.avcc(units[0], units[1]), 4)


def test_the_configuration_of_a_high_profile_is_that_of_libavformat(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=30, options={"preset": "medium", "profile": "high"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "bgr24")))
        out.mux(stream.encode(None))
    with av.open(str(path)) as container:
        record = container.streams.video[0].codec_context.extradata
    assert record is not None
    length = int.from_bytes(record[6:8], "big")
    sps, rest = record[8 : 8 + length], record[9 + length :]
    pps = rest[2 : 2 + int.from_bytes(rest[:2], "big")]
    assert h264.avcc(sps, pps) == record
