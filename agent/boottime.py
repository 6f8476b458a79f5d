"""Learn what UTC a boot's monotonic clock shows, from satellite time among the samples, or NTP. No clock is read.

A satellite time sample says "it was U when I was made" and is stamped on arrival, late by the receiver's and the
wire's delay but never early. So the offset U - t is at most the true one, and the largest seen is the best.
"""

from typing import Final

import numpy as np

from agent import channels
from agent.blocks import Block
from agent.clock import EARLIEST_NS, NS_PER_S
from agent.records import Clock, TimeQuality

GNSS_TIME: Final = channels.number("Gnss.Time")
TIME_ACCURACY: Final = channels.number("Gnss.TimeAccuracy")
GPS_WEEKS_1024_NS: Final = 1024 * 7 * 86_400 * NS_PER_S
PLAUSIBLE_NS: Final = 946_684_800 * NS_PER_S  # 2000-01-01: below this a time is a counter, not a date
# NMEA and CAN receivers without a pulse per second report 50-300 ms late; the bound that DESIGN promises.
UNCERTAINTY_NS: Final = 300_000_000
STEP_NS: Final = 2 * NS_PER_S  # offsets that differ by more than this are not delay but another time
AGREEING: Final = 3  # samples that must agree before a time is believed or replaced
WORTH_SAYING_NS: Final = 50_000_000
# The wall clock at the start of a boot, or the last time saved: nobody vouches for either.
RESTORED_UNCERTAINTY_NS: Final = 86_400 * NS_PER_S
NTP_ERROR_NS: Final = 10_000_000  # the kernel's own bound is believed, but not below this


class BootTime:
    """The best known offset of one boot; `learn` returns a record whenever it is worth telling."""

    def __init__(self, *, recorded: bool = False, earliest_ns: int | None = None) -> None:
        self._earliest_ns = earliest_ns or (PLAUSIBLE_NS if recorded else EARLIEST_NS)
        self._recorded = recorded
        self._candidate: int | None = None
        self._agreeing = 0
        self._ntp_candidate: int | None = None
        self._ntp_agreeing = 0
        self._said: int | None = None
        self._time_sample: tuple[int, int] | None = None  # of the last satellite time: t and offset
        self._uncertainty_ns = UNCERTAINTY_NS
        self._restored_ns = RESTORED_UNCERTAINTY_NS
        self.offset_ns: int | None = None
        self.quality: TimeQuality = "none"
        self.rollovers = 0
        self.steps = 0

    def restore(self, t_ns: int, offset_ns: int, *, uncertain: bool = False) -> Clock:
        """Take an offset that some clock said (a file's stamps, a saved time) until satellites know better."""
        self.offset_ns, self.quality, self._said = offset_ns, "restored", offset_ns
        self._restored_ns = RESTORED_UNCERTAINTY_NS if uncertain else NS_PER_S
        return Clock(t_ns=t_ns, offset_ns=offset_ns, quality="restored", uncertainty_ns=self._restored_ns)

    def resume(self, clock: Clock) -> None:
        """Take what was said earlier in this boot, by an agent that was restarted since."""
        if clock.quality != "none":
            self.offset_ns, self.quality, self._said = clock.offset_ns, clock.quality, clock.offset_ns
            self._uncertainty_ns = self._restored_ns = clock.uncertainty_ns

    @property
    def uncertainty_ns(self) -> int | None:
        """How far UTC may be off; None while it is not known."""
        if self.quality == "none":
            return None
        return self._restored_ns if self.quality == "restored" else self._uncertainty_ns

    def ntp(self, t_ns: int, offset_ns: int, error_ns: int) -> Clock | None:
        """Take the offset of a wall clock that NTP keeps right, as it is now; satellites know better.

        It is believed when AGREEING looks agree; once believed, only another time is news, never its small steering.
        """
        if self.quality == "gnss" or t_ns + offset_ns < self._earliest_ns:
            return None
        if self.quality == "ntp" and self.offset_ns is not None and abs(offset_ns - self.offset_ns) <= STEP_NS:
            self._ntp_agreeing = 0
            return None
        if self._ntp_candidate is not None and abs(offset_ns - self._ntp_candidate) <= WORTH_SAYING_NS:
            self._ntp_agreeing += 1
        else:
            self._ntp_agreeing = 1
        self._ntp_candidate = offset_ns
        if self._ntp_agreeing < AGREEING:
            return None
        uncertainty_ns = max(error_ns, NTP_ERROR_NS)
        if self.quality == "ntp":
            self.steps += 1
            uncertainty_ns = min(uncertainty_ns, self._uncertainty_ns)  # the later of equals holds (decision 0003)
        self.offset_ns, self.quality, self._said = offset_ns, "ntp", offset_ns
        self._uncertainty_ns = uncertainty_ns
        return Clock(t_ns=t_ns, offset_ns=offset_ns, quality="ntp", uncertainty_ns=uncertainty_ns)

    def learn(self, block: Block) -> list[Clock]:
        """Take the satellite time samples of `block`; return the clock records that follow from them."""
        said = []
        times = block[(block["channel"] == GNSS_TIME) | (block["channel"] == TIME_ACCURACY)]
        for t, channel, value in times.tolist():
            if channel == TIME_ACCURACY:
                record = self._accurate(t, int(value * NS_PER_S))
            else:
                utc_ns = self._repair(int(np.rint(value * 1000)) * 1_000_000)
                self._time_sample = (t, utc_ns - t)
                record = self._sample(t, utc_ns)
            if record is not None:
                said.append(record)
        return said

    def _repair(self, utc_ns: int) -> int:
        """Undo GPS week rollover: add 1,024 weeks until the date is one that can be (not for old recordings)."""
        if self._recorded:
            return utc_ns
        repaired = utc_ns
        while PLAUSIBLE_NS // 2 < repaired < self._earliest_ns:
            repaired += GPS_WEEKS_1024_NS
        if repaired != utc_ns:
            self.rollovers += 1
        return repaired

    def _sample(self, t_ns: int, utc_ns: int) -> Clock | None:
        if utc_ns < self._earliest_ns:
            return None
        offset = utc_ns - t_ns
        if self.quality == "gnss" and self.offset_ns is not None and abs(offset - self.offset_ns) <= STEP_NS:
            self._agreeing = 0
            self.offset_ns = max(self.offset_ns, offset)
            if self._said is not None and self.offset_ns - self._said < WORTH_SAYING_NS:
                return None
            return self._say(t_ns)
        if self._candidate is not None and abs(offset - self._candidate) <= STEP_NS:
            self._agreeing += 1
            self._candidate = max(self._candidate, offset)
        else:
            self._candidate, self._agreeing = offset, 1
        if self._agreeing < AGREEING:
            return None
        if self.quality == "gnss":
            self.steps += 1
        self.offset_ns, self.quality, self._uncertainty_ns = self._candidate, "gnss", UNCERTAINTY_NS
        return self._say(t_ns)

    def _accurate(self, t_ns: int, accuracy_ns: int) -> Clock | None:
        """Take how well the satellite time of this very moment fits: PPS or TOFF correct the delay and say so."""
        if self.quality != "gnss" or self._time_sample is None or self.offset_ns is None:
            return None
        at_ns, offset = self._time_sample
        accuracy_ns = max(accuracy_ns, 1_000_000)
        if at_ns != t_ns or abs(offset - self.offset_ns) > STEP_NS or accuracy_ns > self._uncertainty_ns // 2:
            return None
        self.offset_ns, self._uncertainty_ns = offset, accuracy_ns
        return self._say(t_ns)

    def _say(self, t_ns: int) -> Clock:
        assert self.offset_ns is not None
        self._said = self.offset_ns
        return Clock(t_ns=t_ns, offset_ns=self.offset_ns, quality="gnss", uncertainty_ns=self._uncertainty_ns)
