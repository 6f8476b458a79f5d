"""The kernel's IIO scan format: how one sample set lies in the buffer, and batches of them as integers by numpy.

Sources: Documentation/ABI/testing/sysfs-bus-iio and Documentation/driver-api/iio/buffers.rst: a type is written
`[be|le]:[s|u]bits/storagebits[Xrepeat][>>shift]`; elements lie in the order of their index, each aligned to its own
size, the whole to its largest element.
"""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

_TYPE: Final = re.compile(r"(be|le):([su])(\d{1,3})/(\d{1,3})(?:X(\d{1,3}))?(?:>>(\d{1,3}))?")
STORAGE_BITS: Final = (8, 16, 32, 64)

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Element:
    """One channel in the scan."""

    name: str  # e.g. "in_accel_x"
    index: int
    big_endian: bool
    signed: bool
    bits: int
    storage_bits: int
    repeat: int
    shift: int

    @property
    def size(self) -> int:
        """Bytes in the scan."""
        return self.storage_bits // 8 * self.repeat

    @property
    def rails(self) -> tuple[int, int]:
        """The smallest and the largest value of a sensor at its limit; the one above the least number counts too."""
        if self.signed:
            return 1 - (1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1
        return 0, (1 << self.bits) - 1


def parse_type(name: str, index: int, text: str) -> Element:
    """Read a `_type` attribute; raise ValueError with the reason when it is none that we can decode."""
    match = _TYPE.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text[:40]}' is no scan type")
    order, sign, bits, storage, repeat, shift = match.groups()
    element = Element(
        name, index, order == "be", sign == "s", int(bits), int(storage), int(repeat or 1), int(shift or 0)
    )
    if element.storage_bits not in STORAGE_BITS or element.repeat < 1:
        raise ValueError(f"'{text}': storage must be 8, 16, 32 or 64 bits")
    if not 1 <= element.bits <= element.storage_bits - element.shift:
        raise ValueError(f"'{text}': {element.bits} bits shifted by {element.shift} do not fit")
    return element


class ScanLayout:
    """Where each element lies in a scan of `size` bytes."""

    def __init__(self, elements: list[Element]) -> None:
        self.elements = sorted(elements, key=lambda e: e.index)
        offsets, at, largest = [], 0, 1
        for element in self.elements:
            at = -(-at // element.size) * element.size
            offsets.append(at)
            at += element.size
            largest = max(largest, element.size)
        self.size = -(-at // largest) * largest
        self._record = np.dtype(
            {
                "names": [e.name for e in self.elements],
                "formats": [f"{'>' if e.big_endian else '<'}u{e.storage_bits // 8}" for e in self.elements],
                "offsets": offsets,
                "itemsize": self.size,
            }
        )

    def decode(self, data: bytes | bytearray | memoryview) -> dict[str, Integers]:
        """Return every element's integers, int64[n] each; `data` holds n whole scans. 64 unsigned bits wrap around."""
        scans = np.frombuffer(data, self._record)
        return {element.name: _integers(scans[element.name], element) for element in self.elements}


def _integers(stored: npt.NDArray[np.unsignedinteger], element: Element) -> Integers:
    if element.bits == element.storage_bits:
        exact = stored.view(stored.dtype.str.replace("u", "i")) if element.signed else stored
        return exact.astype(np.int64)
    raw = stored.astype(np.uint64) >> np.uint64(element.shift)
    raw &= np.uint64((1 << element.bits) - 1)
    if element.signed:
        top = np.uint64(1 << (element.bits - 1))
        raw = (raw ^ top) - top
    return raw.view(np.int64)
