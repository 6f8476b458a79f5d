"""The box's own inertial sensor through the kernel's Industrial I/O: batches from its buffer, or slow polling.

No Python object is made per sample: a batch of scans is decoded, scaled and turned by its mount matrix as arrays.
Where a device has no buffer, its `_raw` attributes are read at `poll_hz`, enough for motion, not for a crash.
"""

import os
import select
import threading
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.blocks import BLOCK, Block, empty_block, join_blocks, make_block
from agent.channels import BY_NUMBER, number
from agent.clock import NS_PER_S, monotonic_ns, wait
from agent.errors import DriverError
from agent.records import Health
from drivers.facts import Facts
from drivers.iio.axes import Axes
from drivers.iio.device import TEMPERATURE, TIMESTAMP, IioDevice
from drivers.iio.scan import Integers, ScanLayout

CLIPPED: Final = number("Imu.Clipped")
IMU_TEMPERATURE: Final = number("Imu.Temperature")
MOST_BYTES: Final = 1 << 16
TEMPERATURE_NS: Final = 10 * NS_PER_S
EARLY_NS: Final = NS_PER_S // 20  # a kernel time may lie in our future by no more: another clock otherwise
OLDEST_NS: Final = 10 * NS_PER_S  # nor in our past: what the buffer held before we opened it
GAP: Final = 1.5  # periods between two samples from which some are missing, unless
SHORT: Final = 0.75  # the next gap has fewer
STUCK_NS: Final = 10 * NS_PER_S  # a live sensor has noise in its last bit
CALM_NS: Final = 10 * NS_PER_S
DISTRUST: Final = 3  # batches in a row without one usable time


class Imu:
    """Read the IIO device `device`: its number ("iio:device0"), its name, or None for the first accelerometer.

    Of `rate_hz` and `range_g` the next that is offered is taken; a batch comes every `batch_s`. `trigger` names a
    trigger for devices without their own, `poll_hz` is for devices without a buffer. No sample for `silent_s` is
    trouble.
    """

    def __init__(
        self,
        device: str | None = None,
        *,
        rate_hz: float = 100.0,
        range_g: float = 16.0,
        batch_s: float = 0.1,
        trigger: str | None = None,
        poll_hz: float = 10.0,
        silent_s: float = 5.0,
        sysfs: Path = Path("/sys/bus/iio/devices"),
        dev: Path = Path("/dev"),
    ) -> None:
        self.name = f"imu:{device or 'first'}"
        self.rate_hz = rate_hz
        self._range_g = range_g
        self._wanted, self._asked_hz, self._batch_s, self._trigger = device, rate_hz, batch_s, trigger
        self._poll_ns = round(NS_PER_S / poll_hz)
        self._silent_ns = round(silent_s * NS_PER_S)
        self._sysfs, self._dev = sysfs, dev
        self._device: IioDevice | None = None
        self._layout: ScanLayout | None = None
        self._fd: int | None = None
        self._rest = b""
        self._closing = threading.Event()
        self._facts = Facts()
        self._counts = dict.fromkeys(("samples", "lost", "clipped", "bad_times", "out_of_range"), 0)
        self._last_ns = 0
        self._previous_ns: int | None = None  # kernel time of the last scan of this opening
        self._open_gap = np.empty(0)
        self._previous_raw: Integers | None = None
        self._opened_ns = self._came_ns = self._changed_ns = self._due_ns = self._temperature_due_ns = 0
        self._clipped_ns: int | None = None
        self._period_ns = NS_PER_S / rate_hz
        self._stamped = False
        self._distrust = 0
        self._at_rails = 0
        self._axes = Axes([], None)

    def open(self) -> None:
        """Set the device up and start its buffer."""
        self.close()
        self._closing.clear()
        device = IioDevice(self.name, self._sysfs, self._wanted)
        reached_g = device.reach(self._range_g)
        now_ns = monotonic_ns()
        self._opened_ns = self._came_ns = self._changed_ns = self._due_ns = self._temperature_due_ns = now_ns
        self._rest, self._previous_ns, self._previous_raw, self._distrust = b"", None, None, 0
        self._open_gap = np.empty(0)
        node = self._dev / device.folder.name
        if device.has_buffer and node.exists():
            self._layout, self.rate_hz, self._stamped = device.start_buffer(
                self._asked_hz, self._batch_s, self._trigger
            )
            self._period_ns = NS_PER_S / self.rate_hz
            try:
                self._fd = os.open(node, os.O_RDONLY | os.O_NONBLOCK)
            except OSError as error:
                raise DriverError(f"{self.name}: open {node}: {error.strerror}; may this user read it?") from None
            self._device = device
            device.enable_buffer()
        self._axes = Axes(device.triads, self._layout)
        self._device = device
        how = f"in batches at {self.rate_hz:g} Hz" if self._fd is not None else "one by one: it has no buffer"
        upto = f", up to ±{reached_g:.0f} g" if reached_g is not None else ""
        self._facts.say(now_ns, self.name, "ok", f"{device.folder.name} gives samples {how}{upto}")

    def read(self, timeout_s: float) -> Block:
        """Return the samples of one batch, an empty block after `timeout_s`."""
        device = self._device
        if device is None:
            raise DriverError(f"{self.name}: read: not open")
        if self._fd is None or self._layout is None:
            return self._poll(device, timeout_s)
        data = self._receive(self._fd, timeout_s)
        now_ns = monotonic_ns()
        size = self._layout.size
        whole = len(data) // size * size
        self._rest = data[whole:]
        if whole:
            self._came_ns = now_ns
            return self._batch(device, self._layout.decode(memoryview(data)[:whole]), now_ns)
        if not device.folder.exists():  # the kernel does not wake who waits for a device that is gone
            raise DriverError(f"{self.name}: {device.folder}: the device disappeared")
        if now_ns - self._came_ns > self._silent_ns:
            raise DriverError(
                f"{self.name}: no sample for {self._silent_ns / NS_PER_S:g} s; is the sensor's bus or trigger dead?"
            )
        return empty_block()

    def close(self) -> None:
        """Stop the buffer and release the device."""
        self._closing.set()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            try:
                assert self._device is not None
                self._device.stop_buffer()
            except DriverError:
                self._facts.say(monotonic_ns(), self.name, "lost", "the device disappeared")
        self._device = self._layout = None

    def health(self) -> list[Health]:
        """Return what stands: the device, its clipping; each with all counters."""
        return self._facts.standing(self.counts)

    @property
    def counts(self) -> dict[str, int]:
        """What was met since the driver was made; `lost` is an estimate from the kernel's times."""
        return dict(self._counts)

    def _receive(self, fd: int, timeout_s: float) -> bytes:
        """Wait for bytes; return them behind those of a scan that was cut."""
        try:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            if not poll.poll(max(timeout_s, 0.0) * 1000):
                return self._rest
            received = os.read(fd, MOST_BYTES)
        except BlockingIOError:
            return self._rest
        except OSError as error:
            raise DriverError(f"{self.name}: read: {error.strerror}; the device disappeared") from None
        if not received:
            raise DriverError(f"{self.name}: read: end of file; the device disappeared")
        return self._rest + received

    def _batch(self, device: IioDevice, raw: dict[str, Integers], now_ns: int) -> Block:
        axes = np.array([raw[name] for name in self._axes.names]).T
        self._counts["samples"] += len(axes)
        t, kept = self._times(raw.get(TIMESTAMP), len(axes), now_ns)
        if not kept.all():
            axes, t = axes[kept], t[kept]
        if not len(t):
            return empty_block()
        self._last_ns = int(t[-1])
        self._notice_stuck(axes, now_ns)
        blocks = [self._block(t, self._axes.values(axes)), self._clipping(axes, t, now_ns)]
        if now_ns >= self._temperature_due_ns:
            scanned = raw.get(TEMPERATURE)
            blocks.append(self._temperature(device, now_ns, None if scanned is None else float(scanned[-1])))
        return join_blocks(blocks)

    def _times(self, kernel_ns: Integers | None, n: int, now_ns: int) -> tuple[Integers, npt.NDArray[np.bool_]]:
        """Return the time of each scan and which scans have one that can be."""
        if kernel_ns is not None and self._stamped:
            least_ns = max(self._last_ns, self._opened_ns - OLDEST_NS)
            fits = (kernel_ns >= least_ns) & (kernel_ns <= now_ns + EARLY_NS)
            fits &= kernel_ns >= np.maximum.accumulate(np.where(fits, kernel_ns, least_ns))
            self._counts["bad_times"] += int(n - fits.sum())
            if fits.any():
                self._distrust = 0
                self._estimate_lost(kernel_ns[fits])
                return kernel_ns, fits
            self._distrust += 1
            if self._distrust < DISTRUST:
                return kernel_ns, fits
            self._stamped = False
            self._facts.say(now_ns, f"{self.name}:time", "degraded", "the kernel's times cannot be: stamped on arrival")
        back_ns = np.arange(n - 1, -1, -1, dtype=np.float64) * self._period_ns
        return np.maximum(now_ns - back_ns.astype(np.int64), self._last_ns), np.ones(n, np.bool_)

    def _estimate_lost(self, t: Integers) -> None:
        """Count the periods that are missing in wide gaps; a gap that the next one makes up for was a late sample."""
        gaps = np.diff(t, prepend=t[0] if self._previous_ns is None else self._previous_ns).astype(np.float64)
        self._previous_ns = int(t[-1])
        period_ns = self._period_ns
        # Only a calm batch teaches the period: where the kernel is late, short gaps make up for long ones, and would
        # make it too short.
        median_ns = float(np.median(gaps))
        if gaps.min() > SHORT * median_ns and gaps.max() < GAP * min(median_ns, period_ns):
            self._period_ns += 0.1 * (median_ns - period_ns)
        gaps = np.concatenate((self._open_gap, gaps))
        last_is_wide = gaps[-1] > GAP * period_ns
        self._open_gap = gaps[-1:] if last_is_wide else gaps[:0]  # judged with the next sample
        wide = np.flatnonzero(gaps[:-1] > GAP * period_ns)
        if len(wide):
            after = gaps[wide + 1]
            made_up = np.where(after < SHORT * period_ns, period_ns - after, 0.0)
            self._counts["lost"] += int(np.maximum(np.rint((gaps[wide] - made_up) / period_ns) - 1, 0).sum())

    def _clipping(self, axes: Integers, t: Integers, now_ns: int) -> Block:
        """Say how many axes are at their rails, when that changes."""
        low, high = self._axes.rails
        railed = (axes <= low) | (axes >= high)
        if not self._at_rails and self._clipped_ns is None and not railed.any():
            return empty_block()
        at_rails = railed.sum(axis=1)
        clipped = int((at_rails > 0).sum())
        source = f"{self.name}:clipping"
        if clipped:
            self._counts["clipped"] += clipped
            self._clipped_ns = now_ns
            self._facts.say(now_ns, source, "degraded", "the sensor is at the end of its range: forces were larger")
        elif self._clipped_ns is not None and now_ns - self._clipped_ns > CALM_NS:
            self._clipped_ns = None
            self._facts.say(now_ns, source, "ok", "the sensor is within its range")
        changes = np.flatnonzero(np.diff(at_rails, prepend=self._at_rails))
        self._at_rails = int(at_rails[-1])
        block = np.empty(len(changes), BLOCK)
        block["t"], block["channel"], block["value"] = t[changes], CLIPPED, at_rails[changes]
        return block

    def _notice_stuck(self, axes: Integers, now_ns: int) -> None:
        before = self._previous_raw
        if before is None or (axes[0] != before).any() or (axes[1:] != axes[0]).any():
            self._changed_ns = now_ns
            self._facts.say(now_ns, self.name, "ok", "samples vary again")
        elif now_ns - self._changed_ns > STUCK_NS:
            seconds = STUCK_NS / NS_PER_S
            self._facts.say(
                now_ns, self.name, "degraded", f"the sensor has said the same for {seconds:g} s: it is stuck"
            )
        self._previous_raw = axes[-1]

    def _poll(self, device: IioDevice, timeout_s: float) -> Block:
        now_ns = monotonic_ns()
        missing_s = (self._due_ns - now_ns) / NS_PER_S
        if missing_s > 0 and (wait(self._closing, min(timeout_s, missing_s)) or timeout_s < missing_s):
            return empty_block()
        before_ns = monotonic_ns()
        raw = np.hstack([device.read_raw(triad) for triad in device.triads])
        after_ns = monotonic_ns()
        t_ns = self._last_ns = max(self._last_ns, (before_ns + after_ns) // 2)
        self._due_ns = max(self._due_ns + self._poll_ns, after_ns)
        self._counts["samples"] += 1
        self._notice_stuck(raw, after_ns)
        blocks = [self._block(np.array([t_ns]), self._axes.values(raw))]
        if after_ns >= self._temperature_due_ns:
            blocks.append(self._temperature(device, after_ns, None))
        return join_blocks(blocks)

    def _temperature(self, device: IioDevice, now_ns: int, raw: float | None) -> Block:
        self._temperature_due_ns = now_ns + TEMPERATURE_NS
        degrees = device.temperature(raw)
        channel = BY_NUMBER[IMU_TEMPERATURE]
        if degrees is None or not channel.low <= degrees <= channel.high:
            return empty_block()
        return make_block([(self._last_ns, IMU_TEMPERATURE, degrees)])

    def _block(self, t: Integers, values: npt.NDArray[np.float64]) -> Block:
        """Lay values[n, axes] out as a block; drop and count what no sensor can say."""
        block = np.empty(values.shape, BLOCK)
        block["t"], block["channel"], block["value"] = t[:, None], self._axes.channels, values
        flat = block.ravel()
        possible = ((values >= self._axes.low) & (values <= self._axes.high)).ravel()
        if possible.all():
            return flat
        self._counts["out_of_range"] += int(len(flat) - possible.sum())
        return flat[possible]
