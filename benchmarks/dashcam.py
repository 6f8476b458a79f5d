"""The dashcam at 1280×720×30: CPU, memory and bytes of copying and encoding, beside Debian's ffmpeg doing the same.

Both play one file in real time, as a camera would, and write 2 s segments; CPU is taken between two moments of steady
work, so that no start counts. ffmpeg neither syncs to the disk nor looks whether the camera is well; we do both. The
limit of copying is the bytes themselves: one write of each picture.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT, FPS, BIT_RATE = 1280, 720, 30, 4_000_000
FILM_S = 20
WARM_S, MEASURED_S = 6.0, 20.0
TICKS = os.sysconf("SC_CLK_TCK")
DASHCAM = [sys.executable, "-W", "ignore", "-c", "from agent.cli import main; main()", "dashcam"]


def main() -> None:
    """Print shares of a core with ratios to ffmpeg, memory, bytes per hour and what the container costs."""
    ffmpeg = shutil.which("ffmpeg")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        films = {codec: _film(folder / f"{codec}.mp4", codec) for codec in ("h264", "mjpeg")}
        print(f"% of one core over {MEASURED_S:g} s at {WIDTH}x{HEIGHT}x{FPS}; resident memory at most, in MB")
        for codec, film in films.items():
            theirs = _run(_ffmpeg(ffmpeg, film, folder, ["-c", "copy"])) if ffmpeg else None
            _row(f"{codec} copied: ffmpeg -c copy -f segment", theirs, None)
            _row(f"{codec} copied: dashcam", _ours(folder, film, "copy"), theirs)
            _row(f"{codec} copied: dashcam, no looks", _ours(folder, film, "copy", looks=False), theirs)
            print(f"    {_bytes(folder / 'video', film)}")
        x264 = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-b:v", "4M", "-maxrate", "4M"]
        x264 += ["-bufsize", "4M", "-g", "60", "-bf", "0", "-threads", "2"]
        theirs = _run(_ffmpeg(ffmpeg, films["h264"], folder, x264)) if ffmpeg else None
        _row("h264 encoded anew: ffmpeg, libx264 ultrafast", theirs, None)
        _row("h264 encoded anew: dashcam, the same", _ours(folder, films["h264"], "encode"), theirs)
        print(f"    {_bytes(folder / 'video', None)}")
        _row("the same, masked and written upon", _ours(folder, films["h264"], "encode", shaped=True), theirs)


def _film(path: Path, codec: str) -> Path:
    """Write a road: a textured ground that moves, over it a sensor's noise."""
    rng = np.random.default_rng(1)
    ground = np.kron(rng.integers(60, 190, (120, 300)), np.ones((12, 12))).astype(np.int16)
    noise = [rng.normal(0, 2, (HEIGHT, WIDTH)).astype(np.int16) for _ in range(8)]
    with av.open(str(path), "w") as out:
        stream = out.add_stream({"h264": "libx264", "mjpeg": "mjpeg"}[codec], rate=FPS)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "yuv420p" if codec == "h264" else "yuvj420p"
        stream.codec_context.gop_size = FPS
        stream.codec_context.bit_rate = BIT_RATE if codec == "h264" else 30_000_000
        if codec == "h264":
            stream.codec_context.options = {"preset": "veryfast", "bf": "0", "sc_threshold": "0"}
        for i in range(FILM_S * FPS):
            x, y = (4 * i) % 2000, (2 * i) % 600
            luma = np.clip(ground[y : y + HEIGHT, x : x + WIDTH] + noise[i % 8], 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(luma, "gray").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def _ours(folder: Path, film: Path, mode: str, *, looks: bool = True, shaped: bool = False) -> tuple[float, float]:
    text = "min_free_bytes = 0\n" + ("" if looks else "[health]\nlook_s = 1e6\n")
    text += f'[cameras.front]\nsource = "{film}"\nmode = "{mode}"\nloop = true\nencoder = "libx264"\n'
    text += "overlay = true\nmasks = [[0.0, 0.9, 1.0, 0.1]]\n" if shaped else ""
    toml = folder / "dashcam.toml"
    toml.write_text(text)
    shutil.rmtree(folder / "video", ignore_errors=True)
    return _run([*DASHCAM, "--config", str(toml), "--dir", str(folder / "video")])


def _ffmpeg(program: str, film: Path, folder: Path, codec: list[str]) -> list[str]:
    out = folder / "theirs"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    read = [program, "-v", "error", "-re", "-stream_loop", "-1", "-i", str(film), "-an"]
    return [*read, *codec, "-f", "segment", "-segment_time", "2", "-reset_timestamps", "1", str(out / "%05d.mp4")]


def _run(command: list[str]) -> tuple[float, float]:
    """Run a command; return its share of a core in steady work, and its peak of resident memory in MB."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(WARM_S)
        used, began = _cpu_s(process.pid), time.monotonic()
        time.sleep(MEASURED_S)
        share = (_cpu_s(process.pid) - used) / (time.monotonic() - began)
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return share, int(peak.split()[1]) / 1000
    finally:
        process.terminate()
        process.wait()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _row(name: str, ours: tuple[float, float] | None, theirs: tuple[float, float] | None) -> None:
    if ours is None:
        print(f"  {name:46} not measured: Debian package ffmpeg is absent")
        return
    ratio = f"  {ours[0] / theirs[0]:.2f} x ffmpeg" if theirs else ""
    print(f"  {name:46}{ours[0]:8.1%}{ours[1]:8.0f} MB{ratio}")


def _bytes(video: Path, film: Path | None) -> str:
    """Say how many bytes an hour of what was just written has, and how many of them are not pictures."""
    from agent.dashcam.mp4 import read_frames, read_head
    from agent.dashcam.segments import names

    total = pictures = 0
    span_ns = 0
    for name in names(video, "front"):
        size = name.path.stat().st_size
        with name.path.open("rb") as file:
            read_head(file)
            pictures += sum(frame.size for frame in read_frames(file, size))
        total += size
        span_ns += name.end_ns - name.start_ns
    hour = total * 3600e9 / span_ns / 1e9
    text = f"{hour:.2f} GB an hour; {(total - pictures) / total:.2%} of it is the container"
    if film is None:
        return text
    theirs = video.parent / "theirs"
    if not theirs.is_dir():
        return text
    return f"{text} (ffmpeg's: {_overhead(theirs):.2%})"


def _overhead(folder: Path) -> float:
    total = pictures = 0
    for path in sorted(folder.iterdir())[:-1]:  # the last one was cut
        with av.open(str(path)) as container:
            pictures += sum(packet.size for packet in container.demux(video=0))
        total += path.stat().st_size
    return (total - pictures) / total
