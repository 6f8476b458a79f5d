"""Goodput of a 50 MB clip over loopback Mosquitto beside mosquitto_pub; bytes on the wire and bytes sent twice.

Ours ends when the device knows that the receiver, a process of its own, has checked, fsynced and stored the whole file.
mosquitto_pub ends when mosquitto_sub has the last byte, which it throws away: nothing is checked, nothing is stored.
The fair one of its runs is QoS 1 in chunks of our size; QoS 0 stands beside it. Between them, two bare paho clients in
two processes: 12 chunks under way, each answered, nothing kept. Limits: one pass of SHA-256 at the device and two at
the receiver, on one core; the same bytes written in chunks with an fdatasync every 8 MiB.
"""

import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from agent.link import BrokerSettings
from agent.sending import Sending
from agent.store import Store
from agent.sync import SyncSettings
from agent.upload.settings import BudgetSettings, UploadSettings
from receiver import db, devices
from receiver.settling import SETTLE_BYTES
from tests.cutting import Cutter
from tests.syncing import Mosquitto
from tests.uploading import INCIDENT, add_package, kept

SIZE = 50_000_000
CHUNK = 65_536
RUNS = 3
LINK_BYTES_PER_S = 1_250_000  # 10 Mbit/s, a usual uplink of 4G
LINK_SIZE = 16_000_000
CUT_S = 5.0


@dataclass(frozen=True)
class Result:
    """One upload."""

    seconds: float
    sent: int  # bytes of files
    wire: int  # bytes from the device, as TCP carried them; 0 where nobody counted
    cuts: int = 0


@contextmanager
def _broker(folder: Path) -> Iterator[int]:
    folder.mkdir()
    broker = Mosquitto(folder, "max_queued_messages 0", "message_size_limit 0")
    broker.start()
    try:
        yield broker.port
    finally:
        broker.stop()


def _ours(folder: Path, clip: bytes, port: int, through: Cutter | None = None, cut_s: float = 0.0) -> Result:
    folder.mkdir()
    url = f"sqlite:///{folder / 'receiver.db'}"
    engine = db.open_database(url)
    config = folder / "receiver.toml"
    config.write_text(f'database = "{url}"\n[broker]\nurl = "mqtt://127.0.0.1:{port}"\n')
    code = "from agent.cli import main; main()"
    command = [sys.executable, "-c", code, "receiver", "serve", "--config", str(config), "--no-pages"]
    receiver = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        with Store.open(folder / "agent") as store:
            store.begin_boot("boot-1")
            devices.enrol(engine, store.public_key.hex())
            broker = BrokerSettings(url=f"mqtt://127.0.0.1:{through.port if through else port}")
            quick = SyncSettings(retry_s=0.2, retry_cap_s=1.0)
            # The receiver's start is not what is measured: a small package goes first.
            add_package(store, "f" * 16, {"warm.csv": b"warm"})
            free = BudgetSettings(metered=False)
            sending = Sending(store, broker, quick, "boot-1", upload=UploadSettings(answer_s=5.0), budget=free)
            _wait(store)
            wire = through.from_client if through else 0
            add_package(store, INCIDENT, {"clip-front.mp4": clip})
            began = time.perf_counter()
            sending.wake()
            next_cut = began + cut_s
            while not all(p.acknowledged for p in store.uploads.packages()):
                time.sleep(0.002)
                if through is not None and cut_s and time.perf_counter() >= next_cut:
                    through.cut()
                    next_cut += cut_s
            took = time.perf_counter() - began
            sent = sending.finish(1.0)["file_bytes"] - len(b"warm")
            device = store.device
        assert kept(folder / "files", device, INCIDENT) == {"clip-front.mp4": clip}
    finally:
        receiver.terminate()
        receiver.wait()
        engine.dispose()
    return Result(took, sent, through.from_client - wire if through else 0, through.cuts if through else 0)


def _wait(store: Store) -> None:
    while not all(p.acknowledged for p in store.uploads.packages()):
        time.sleep(0.01)


def _mosquitto_pub(port: int, clip: bytes, chunked: bool, folder: Path, qos: int = 1) -> float:
    """Return the seconds until mosquitto_sub has everything that mosquitto_pub sent."""
    chunks = [clip[i : i + CHUNK] for i in range(0, len(clip), CHUNK)] if chunked else [clip]
    address = ["-h", "127.0.0.1", "-p", str(port), "-t", "clip", "-q", str(qos)]
    reader = subprocess.Popen(["mosquitto_sub", *address, "-C", str(len(chunks)), "-N"], stdout=subprocess.DEVNULL)
    time.sleep(0.5)
    file = folder / "clip"
    if chunked:  # one message a line, and no line end inside
        file.write_bytes(b"\n".join(c.replace(b"\n", b"\r").replace(b"\0", b"\1") for c in chunks) + b"\n")
    else:
        file.write_bytes(clip)
    began = time.perf_counter()
    with file.open("rb") as lines:
        how = ["-l"] if chunked else ["-f", str(file)]
        subprocess.run(["mosquitto_pub", *address, *how], stdin=lines if chunked else None, check=True)
        reader.wait()
    return time.perf_counter() - began


PAHO = """
import sys, threading
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
count, done = 0, threading.Event()
def take(client, _, message):
    global count
    count += 1
    client.publish("answer", b"held", qos=1)
answered = 0
def taken(*_):
    global answered
    answered += 1
    if answered == int(sys.argv[2]):
        done.set()
client = Client(CallbackAPIVersion.VERSION2)
client.on_message, client.on_publish = take, taken
client.connect("127.0.0.1", int(sys.argv[1]))
client.subscribe("chunk", 1)
client.loop_start()
done.wait(60)
client.disconnect()
"""


def _paho(port: int, clip: bytes) -> float:
    """Return the seconds that two bare paho clients take, twelve chunks under way, each answered."""
    chunks = [clip[i : i + CHUNK] for i in range(0, len(clip), CHUNK)]
    other = subprocess.Popen([sys.executable, "-c", PAHO, str(port), str(len(chunks))])
    free, left, done = threading.Semaphore(12), [len(chunks)], threading.Event()

    def answered(_: object, __: object, ___: object) -> None:
        left[0] -= 1
        free.release()
        if not left[0]:
            done.set()

    client = Client(CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(16)
    client.on_message = answered
    client.connect("127.0.0.1", port)
    client.subscribe("answer", 1)
    client.loop_start()
    time.sleep(1.0)
    began = time.perf_counter()
    for chunk in chunks:
        free.acquire()
        client.publish("chunk", chunk, qos=1)
    done.wait(60)
    took = time.perf_counter() - began
    client.disconnect()
    client.loop_stop()
    other.wait()
    return took


def _limit(clip: bytes) -> float:
    began = time.perf_counter()
    for _ in range(2):
        for i in range(0, len(clip), CHUNK):
            hashlib.sha256(clip[i : i + CHUNK]).digest()
    hashlib.sha256(clip).digest()
    return time.perf_counter() - began


def _disk(clip: bytes, folder: Path) -> float:
    """Return the seconds that writing takes, durable every 8 MiB as in receiver.settling."""
    began = time.perf_counter()
    with (folder / "disk").open("wb", buffering=0) as file:
        for i in range(0, len(clip), CHUNK):
            file.write(clip[i : i + CHUNK])
            if i % SETTLE_BYTES == 0:
                os.fdatasync(file.fileno())
        os.fdatasync(file.fileno())
    return time.perf_counter() - began


def main() -> None:
    """Print goodput, bytes on the wire, and bytes sent twice."""
    clip = random.Random(1).randbytes(SIZE)
    folder = Path(tempfile.mkdtemp(prefix="rw-bench-upload-"))
    try:
        with _broker(folder / "broker") as port:
            ours = min((_ours(folder / f"ours{i}", clip, port) for i in range(RUNS)), key=lambda r: r.seconds)
            lines = min(_mosquitto_pub(port, clip, True, folder) for _ in range(RUNS))
            loose = min(_mosquitto_pub(port, clip, True, folder, 0) for _ in range(RUNS))
            whole = min(_mosquitto_pub(port, clip, False, folder) for _ in range(RUNS))
            bare = min(_paho(port, clip) for _ in range(RUNS))
            with Cutter(port) as counter:
                counted = _ours(folder / "counted", clip, port, counter)
            disk = min(_disk(clip, folder) for _ in range(RUNS))
            part = clip[:LINK_SIZE]
            with Cutter(port, LINK_BYTES_PER_S) as link:
                good = _ours(folder / "good", part, port, link)
            with Cutter(port, LINK_BYTES_PER_S) as link:
                bad = _ours(folder / "bad", part, port, link, CUT_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(
        f"{SIZE // 10**6} MB over loopback Mosquitto, best of {RUNS}              MB/s   ratio to mosquitto_pub -l -q 1"
    )
    for name, seconds in [
        ("ours: checked, fsynced, stored, acknowledged     ", ours.seconds),
        ("mosquitto_pub -l -q 1, 64 KiB chunks             ", lines),
        ("mosquitto_pub -l -q 0, 64 KiB chunks             ", loose),
        ("mosquitto_pub -f -q 1, one message               ", whole),
        ("two bare paho clients, chunks answered           ", bare),
        ("limit: SHA-256 three times over, one core        ", _limit(clip)),
        ("limit: written, fdatasync every 8 MiB            ", disk),
    ]:
        print(f"{name}   {SIZE / seconds / 1e6:8.1f}   {lines / seconds:.2f}")
    print(f"\nbytes on the wire, device to broker: {100 * (counted.wire / SIZE - 1):+.2f} % over the file's")
    print(f"\n{LINK_SIZE // 10**6} MB over a link of {LINK_BYTES_PER_S * 8 / 1e6:.0f} Mbit/s")
    for name, r in (("uncut", good), (f"cut every {CUT_S:.0f} s ({bad.cuts} times)", bad)):
        again = 100 * (r.sent / LINK_SIZE - 1)
        goodput = LINK_SIZE / r.seconds / LINK_BYTES_PER_S
        over = 100 * (r.wire / LINK_SIZE - 1)
        print(f"{name:24}  {r.seconds:5.1f} s, {goodput:.2f} of the link; sent twice {again:.2f} %; wire {over:+.2f} %")


if __name__ == "__main__":
    main()
