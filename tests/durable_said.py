"""Have a store say on standard output what it has made durable, each line in one write, after the disk took it.

"seq <lane> <seq>" for records; "upto <samples> <t_ns>" for samples, counted since this was asked for.
"""

import os
from collections.abc import Sequence
from typing import Any

from agent.blocks import Block
from agent.store import Store
from agent.store.samples import Samples


def say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


def speak_of_what_is_durable() -> None:
    append, flush, take = Store.append, Samples.flush, Samples.append
    taken = [0, 0]

    def append_and_say(store: Store, records: Sequence[Any]) -> Any:
        entries = append(store, records)
        for lane, seq in {e.lane: e.seq for e in entries}.items():
            say(f"seq {lane} {seq}")
        return entries

    def take_and_count(samples: Samples, block: Block, last: bool = False) -> None:
        taken[0] += len(block)
        taken[1] = int(block["t"][-1]) if len(block) else taken[1]
        take(samples, block, last)

    def flush_and_say(samples: Samples) -> None:
        flush(samples)
        say(f"upto {taken[0]} {taken[1]}")

    Store.append, Samples.append, Samples.flush = append_and_say, take_and_count, flush_and_say  # type: ignore[method-assign,assignment]
