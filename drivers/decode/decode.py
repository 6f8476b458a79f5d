"""Frames to samples, for recordings and live buses alike: the vehicle's own signals by profile, and OBD-II answers."""

from pathlib import Path
from typing import Any, Final

from agent.blocks import Block, Frames
from agent.clock import NS_PER_S
from drivers.decode.interleave import interleave
from drivers.decode.obd import ObdDecoder
from drivers.decode.profile import IDENTIFY_SHARE, Profile, identify
from drivers.decode.tables import Decoder, compile_entries

# ISO 15765-4: functional and physical requests and their answers, 11 bits and the upper half of 29
OBD_IDS: Final = frozenset({0x7DF, *range(0x7E0, 0x7F0)})
OBD_IDS_29: Final = frozenset({0x18DA, 0x18DB})
OBD_REJECTED: Final = ("sequence_errors", "timeouts", "malformed", "oversized", "unknown_pids", "not_available")


class Decode:
    """Turn batches of frames into blocks; OBD-II answers need no profile.

    Without a named profile the ids of the first `listen_s` seconds of frames (0: of the first batch) decide which one
    of `folder` fits, if any; what came before that decision is decoded only as OBD-II.
    """

    def __init__(self, profile: Profile | None, folder: Path, listen_s: float = 0.0) -> None:
        self._folder = folder
        self._named = profile is not None
        self._listen_ns = round(listen_s * NS_PER_S)
        self._listening_since: int | None = None
        self._seen: set[tuple[str, int]] = set()
        self._signals = profile.decoder() if profile else Decoder(compile_entries(()))
        self._obd = ObdDecoder()
        self.profile = profile
        self.samples = 0

    def __call__(self, frames: Frames, buses: list[str]) -> Block:
        """Decode one batch into a new block, ordered as the frames are."""
        if not self._named:
            self._listen(frames, buses)
        # a new block: the decoders reuse their buffers, and replay may hold blocks back
        block = interleave(self._signals.decode(frames, buses), self._obd.decode(frames))
        self.samples += len(block)
        return block

    @property
    def settled(self) -> bool:
        """Whether the profile is decided, even if none fits."""
        return self._named

    @property
    def unknown_ids(self) -> set[tuple[str, int]]:
        """The (bus, identifier) pairs that neither the profile nor OBD-II explains."""
        return {(bus, i) for bus, i in self._signals.unknown_ids if i not in OBD_IDS and i >> 16 not in OBD_IDS_29}

    @property
    def unknown_uncounted(self) -> int:
        """Frames of unknown 29-bit identifiers beyond those that can be told apart."""
        return self._signals.unknown_uncounted

    @property
    def counts(self) -> dict[str, int]:
        """What decoding rejected, by reason."""
        return {
            "decode_out_of_range": self._signals.out_of_range,
            "decode_not_available": self._signals.not_available,
            "decode_invalid": self._signals.invalid,
            **{f"obd_{name}": self._obd.counters[name] for name in OBD_REJECTED},
        }

    @property
    def vehicle_info(self) -> dict[str, Any]:
        """What control units said of the vehicle, see ObdDecoder."""
        return self._obd.vehicle_info

    @property
    def dtcs(self) -> dict[str, list[str]]:
        """The trouble codes of the last answers: stored, pending, permanent."""
        return self._obd.dtcs

    @property
    def unit_dtcs(self) -> dict[str, dict[str, list[str]]]:
        """The same by control unit: stored, pending, permanent -> unit -> codes."""
        return self._obd.unit_dtcs

    def _listen(self, frames: Frames, buses: list[str]) -> None:
        if not len(frames.t):
            return
        if self._listening_since is None:
            self._listening_since = int(frames.t[0])
        pairs = set(zip(frames.bus.tolist(), frames.id.tolist(), strict=True))
        self._seen |= {(buses[bus], i) for bus, i in pairs}
        if int(frames.t[-1]) - self._listening_since < self._listen_ns:
            return
        self._named = True
        found = identify(self._seen, self._folder)
        if found and found[0][1] >= IDENTIFY_SHARE:
            self.profile = found[0][0]
            self._signals = self.profile.decoder()
