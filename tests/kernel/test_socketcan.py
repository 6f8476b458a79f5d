"""SocketCAN as the kernel does it: our networkd file, filters, stamps, error frames, losses, links that go and come."""

import json
import re
import signal
from collections.abc import Iterator

import pytest

from tests.kernel.cache import HERE
from tests.kernel.can import Watch, goes_down_and_up, with_vcan
from tests.kernel.conftest import Figure
from tests.kernel.guest import Guest

pytestmark = [pytest.mark.arch("amd64", "arm64")]

SPEED_ID = 0x0AA  # toyota-rav4: WHEEL_SPEEDS, four wheels of 0.01 km/h above -67.67 km/h, big-endian
SPEED = "Vehicle.Speed"
VIN = "JTMRJREV1HD139163"


@pytest.fixture(scope="module")
def reader(guest: Guest) -> Iterator[Watch]:
    """The driver on can0 with a profile, so that the kernel filters."""
    with_vcan(guest)
    made = Watch(guest, profile="toyota-rav4")
    yield made
    made.stop()


@pytest.fixture
def watch(reader: Watch) -> Watch:
    """The same, open, counting anew."""
    reader.until(lambda now: now["open"])
    reader.begin()
    return reader


def speed_frame(kmh: float) -> str:
    wheel = round((kmh + 67.67) * 100)
    return f"{SPEED_ID:03X}#" + f"{wheel:04X}" * 4


@pytest.mark.short
def test_networkd_brings_can0_up_by_our_file_and_gives_it_no_address(guest: Guest, watch: Watch) -> None:
    said = json.loads(guest.run("ip -j address show can0").out)[0]
    assert "UP" in said["flags"]
    assert said["addr_info"] == []
    assert "80-roadwitness-can0.network" in guest.run("networkctl status can0").out


@pytest.mark.short
def test_a_frame_of_cansend_becomes_the_speed_it_says(guest: Guest, watch: Watch) -> None:
    guest.run(f"cansend can0 {speed_frame(72.0)}")
    watch.until_counted(frames=1)
    assert watch.told["last"][SPEED] == pytest.approx(20.0)


@pytest.mark.short
def test_the_kernel_keeps_out_what_nothing_is_decoded_from(guest: Guest, watch: Watch) -> None:
    listed = guest.run("cat /proc/net/can/rcvlist_sff /proc/net/can/rcvlist_fil").out
    assert re.search(r"can0\s+0?0?0?0?0?0aa\s", listed)
    guest.run(f"cangen can0 -I 555 -n 2000 -g 0 && cansend can0 {speed_frame(1.0)}")
    watch.until_counted(frames=1)
    assert watch.counts["frames"] == 1


@pytest.mark.short
def test_error_frames_are_counted_by_kind_and_told_as_health(guest: Guest, watch: Watch) -> None:
    for frame in ("20000004#0001000000000000", "20000008#0000000000000000", "20000080#0000000000000000"):
        guest.run(f"cansend can0 {frame}")
    watch.until_counted(error_bus_error=1, error_controller=1, error_fifo_overflow=1, error_protocol=1)
    assert watch.counts["frames"] == 0
    health = watch.told["health"]
    assert health["canbus:can0:errors"][0] == health["canbus:can0:losses"][0] == "degraded"


def test_a_controller_that_left_the_bus_is_told_and_opened_anew(guest: Guest, watch: Watch) -> None:
    said = len(watch.process.out)
    guest.run("cansend can0 20000040#0000000000000000")
    watch.until_counted(error_bus_off=1)
    watch.until(lambda now: now["open"] and b"has left the bus" in watch.process.out[said:])
    guest.run(f"cansend can0 {speed_frame(1.0)}")
    watch.until_counted(frames=1)


@pytest.mark.short
def test_what_a_full_queue_loses_is_counted_to_the_frame(guest: Guest, watch: Watch, figure: Figure) -> None:
    sent = 20_000
    watch.process.kill(signal.SIGSTOP)  # a processor that has no time for it
    guest.run(f"cangen can0 -I {SPEED_ID:X} -L 8 -n {sent} -g 0", limit_s=300)
    watch.process.kill(signal.SIGCONT)
    watch.until_counted(frames=1)
    guest.run(f"cansend can0 {speed_frame(2.0)}")  # the kernel tells its count with the next frame
    watch.until(lambda _: watch.counts["frames"] + watch.counts["lost_in_queue"] == sent + 1)
    assert watch.counts["lost_in_queue"] > 0
    figure("frames held for a reader that has no time", watch.counts["frames"], "frames")


def test_a_link_that_goes_down_and_up_is_told_with_what_to_do(guest: Guest, watch: Watch) -> None:
    goes_down_and_up(guest, watch)
    guest.run(f"cansend can0 {speed_frame(3.0)}")
    watch.until_counted(frames=1)


def test_an_adapter_that_is_pulled_out_and_plugged_in_again_is_taken_up(guest: Guest, watch: Watch) -> None:
    guest.run("ip link delete can0")
    watch.until(lambda now: not now["open"] and "unplugged" in now["trouble"])  # the kernel takes it down at first
    guest.run("ip link add can0 type vcan")  # as the adapter's driver would; bringing it up is networkd's part
    watch.until(lambda now: now["open"])
    guest.run(f"cansend can0 {speed_frame(4.0)}")
    watch.until_counted(frames=1)


def test_a_vin_that_passes_by_in_iso_tp_is_heard(guest: Guest, watch: Watch) -> None:
    """An ECU answers a tester in three frames with flow control between them; the agent only listens."""
    tester = guest.start("exec isotprecv -s 7E0 -d 7E8 can0")
    guest.until("grep -qi isotp /proc/net/can/rcvlist_*")
    answer = "49 02 01 " + VIN.encode().hex(" ")
    guest.run(f"echo {answer} | isotpsend -s 7E8 -d 7E0 can0")
    assert tester.wait().out.split() == answer.upper().split()
    told = watch.until(lambda now: bool(now["vehicle"].get("vin")))
    assert told["vehicle"]["vin"] == VIN


@pytest.mark.parametrize(
    ("name", "rate"), [pytest.param("500 kbit/s", 4000, marks=pytest.mark.short), ("1 Mbit/s", 8000)]
)
def test_on_a_full_bus_what_was_sent_is_decoded_or_told_as_lost(
    guest: Guest, watch: Watch, figure: Figure, name: str, rate: int
) -> None:
    seconds = 10
    guest.put("/root/flood.py", (HERE / "programs/flood.py").read_bytes())
    said = json.loads(guest.run(f"python3 /root/flood.py {rate} {seconds}", limit_s=600).out)
    watch.until(lambda _: watch.counts["frames"] + watch.counts["lost_in_queue"] == said["sent"], limit_s=300)
    figure(f"{name}: sent", said["sent"] / said["s"], "frames/s")
    figure(f"{name}: decoded", watch.counts["frames"], "frames")
    figure(f"{name}: lost, as the kernel and the agent say", watch.counts["lost_in_queue"], "frames")


def test_stamps_are_the_kernels(guest: Guest, watch: Watch) -> None:
    """Frames that wait for a reader keep the times at which they came."""
    guest.put("/root/stamps.py", (HERE / "programs/stamps.py").read_bytes())
    gaps = json.loads(guest.run("python3 /root/stamps.py").out)
    assert len(gaps) == 5
    for ours, kernels in gaps:
        assert ours == pytest.approx(kernels, abs=0.002)
        assert kernels > 0.05


def test_a_serial_adapter_behind_slcand_is_read_and_told_when_it_goes(guest: Guest, reader: Watch) -> None:
    guest.run("ip link add far0 type vcan && ip link set far0 up")
    far = guest.start("exec stdbuf -oL slcanpty /dev/ptmx far0")
    far.until(lambda: b"/dev/pts/" in far.out + far.err or far.code is not None)
    pts = re.search(r"/dev/pts/\d+", far.said)
    assert pts, far.said
    near = guest.start(f"exec slcand -F -o -s6 {pts[0]} slcan0")
    guest.until("ip link set slcan0 up")
    read = Watch(guest, channel="slcan0", bus="can0", profile="toyota-rav4")
    guest.run(f"cansend far0 {speed_frame(54.0)}")
    read.until_counted(frames=1)
    assert read.told["last"][SPEED] == pytest.approx(15.0)
    near.kill(signal.SIGTERM)
    told = read.until(lambda now: "unplugged" in now["trouble"])
    assert not told["open"]
    read.stop()
    far.kill()


def test_a_serial_line_with_the_kernels_slcan_at_its_end_is_read_whole(guest: Guest, reader: Watch) -> None:
    """The kernel's own slcan writes what an adapter would; it answers no command, as some clones do not."""
    sent = 2000
    line = guest.start("exec socat pty,raw,echo=0,link=/root/box pty,raw,echo=0,link=/root/adapter")
    guest.until("test -e /root/box && test -e /root/adapter")
    adapter = guest.start("exec slcand -F -o -s6 $(readlink -f /root/adapter) far1")
    guest.until("ip link set far1 up")
    read = Watch(guest, interface="slcan", channel="/root/box", bit_rate=500_000, bus="can0", profile="toyota-rav4")
    assert "answers no command" in read.told["notes"][0]
    guest.run(f"cansend far1 {speed_frame(36.0)}")
    read.until_counted(frames=1)
    assert read.told["last"][SPEED] == pytest.approx(10.0)
    guest.run(f"cangen far1 -I {SPEED_ID:X} -L 8 -n {sent} -g 0 -p 1000", limit_s=300)
    read.until_counted(frames=sent + 1)
    assert read.counts["garbage"] == 0
    line.kill(signal.SIGTERM)
    told = read.until(lambda now: "unplugged" in now["trouble"])
    assert not told["open"]
    read.stop()
    adapter.kill()
