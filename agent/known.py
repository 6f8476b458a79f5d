"""Types that msgspec reads into, made known to it by one thread at a time.

msgspec 0.22 gathers what a struct is made of when it is first read into, and hands the half-gathered description to any
thread that asks meanwhile, which ends the process with a segmentation fault: two buses of a car that began in the same
moment did so to the agent. Every type that is given to msgspec passes through here first (docs/decisions/0347).
"""

import threading
from typing import Any, Final, TypeVar, overload

import msgspec

T = TypeVar("T")

_known: Final[set[Any]] = set()
_one_at_a_time: Final = threading.Lock()


@overload
def known(kind: type[T]) -> type[T]: ...
@overload
def known(kind: Any) -> Any: ...
def known(kind: Any) -> Any:
    """Return `kind` once msgspec has all of its description; raise TypeError for what msgspec cannot read into."""
    if kind not in _known:
        with _one_at_a_time:
            msgspec.msgpack.Decoder(kind)
            _known.add(kind)
    return kind
