"""Learn what UTC a boot's monotonic clock shows, from satellite time seen among the samples. Pure, no clock read.

A satellite time sample says "it was U when I was made" and is stamped on arrival, late by the receiver's and the
wire's delay but never early. So the offset U - t is at most the true one, and the largest seen is the best.
"""

from typing import Final

import numpy as np

from agent import channels
from agent.blocks import Block
from agent.clock import NS_PER_S
from agent.records import Clock, TimeQuality

GNSS_TIME: Final = channels.number("Gnss.Time")
GPS_WEEKS_1024_NS: Final = 1024 * 7 * 86_400 * NS_PER_S
EARLIEST_NS: Final = 1_735_689_600 * NS_PER_S  # 2025-01-01: no live device of ours is older
PLAUSIBLE_NS: Final = 946_684_800 * NS_PER_S  # 2000-01-01: below this a time is a counter, not a date
# NMEA and CAN receivers without a pulse per second report 50-300 ms late; the bound that DESIGN promises.
UNCERTAINTY_NS: Final = 300_000_000
STEP_NS: Final = 2 * NS_PER_S  # offsets that differ by more than this are not delay but another time
AGREEING: Final = 3  # samples that must agree before a time is believed or replaced
WORTH_SAYING_NS: Final = 50_000_000


class BootTime:
    """The best known offset of one boot; `learn` returns a record whenever it is worth telling."""

    def __init__(self, *, recorded: bool = False, earliest_ns: int | None = None) -> None:
        self._earliest_ns = earliest_ns or (PLAUSIBLE_NS if recorded else EARLIEST_NS)
        self._recorded = recorded
        self._candidate: int | None = None
        self._agreeing = 0
        self._said: int | None = None
        self.offset_ns: int | None = None
        self.quality: TimeQuality = "none"
        self.rollovers = 0
        self.steps = 0

    def restore(self, t_ns: int, offset_ns: int) -> Clock:
        """Take an offset that some clock said (a file's stamps, a saved time) until satellites know better."""
        self.offset_ns, self.quality, self._said = offset_ns, "restored", offset_ns
        return Clock(t_ns=t_ns, offset_ns=offset_ns, quality="restored", uncertainty_ns=NS_PER_S)

    def learn(self, block: Block) -> list[Clock]:
        """Take the satellite time samples of `block`; return the clock records that follow from them."""
        said = []
        times = block[block["channel"] == GNSS_TIME]
        for t, value in zip(times["t"].tolist(), times["value"].tolist(), strict=True):
            record = self._sample(t, self._repair(int(np.rint(value * 1000)) * 1_000_000))
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
        self.offset_ns, self.quality = self._candidate, "gnss"
        return self._say(t_ns)

    def _say(self, t_ns: int) -> Clock:
        assert self.offset_ns is not None
        self._said = self.offset_ns
        return Clock(t_ns=t_ns, offset_ns=self.offset_ns, quality="gnss", uncertainty_ns=UNCERTAINTY_NS)
