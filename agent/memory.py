"""Give back memory that only the start needed: the agent shares a small computer with a dashcam."""

import ctypes
import os
from pathlib import Path
from typing import Final

_MAPS: Final = Path("/proc/self/maps")
_COMPILER: Final = "libllvmlite"
_MADV_DONTNEED: Final = 4  # asm-generic/mman-common.h


def release_compiler() -> int:
    """Let go of the pages of the kernels' compiler, which loads them at the start and then rests; return the bytes.

    Only its machine code, which is never written to and comes back from its file page by page when it is used again.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    released = 0
    for line in _MAPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        span, mode, *_, path = line.split(maxsplit=5)
        if mode == "r-xp" and os.path.basename(path).startswith(_COMPILER):
            start, end = (int(edge, 16) for edge in span.split("-"))
            if libc.madvise(start, end - start, _MADV_DONTNEED) == 0:
                released += end - start
    return released
