"""Write to a store as fast as it goes and say after each step what has been accepted; killed by test_store_damage.

Each line: samples accepted in this boot, then the head of the event lane. Run as a module with folder and boot id.
A line is one write: `print` makes four where PYTHONUNBUFFERED is set, and the end may come between them.
"""

import os
import sys
from pathlib import Path

from agent.store import Store, StoreSettings
from tests.store_inputs import UTC_2026, S, clock, drive, event, health

STEP_S = 7


def main() -> None:
    directory, boot = Path(sys.argv[1]), sys.argv[2]
    with Store.open(directory, StoreSettings(block_s=20)) as store:
        store.begin_boot(boot)
        store.append([(0, clock(0, UTC_2026))])
        for step in range(100_000):
            store.append_block(drive(STEP_S, start_ns=step * STEP_S * S, seed=step))
            store.flush()
            entries = store.append([(step, event(step)), (step, health(step)), (step, event(step))])
            os.write(1, b"%d %d\n" % ((step + 1) * STEP_S * 40, entries[-1].seq))
            if step % 5 == 0:
                store.acknowledge({"event": entries[0].seq})
                store.prune(UTC_2026)


if __name__ == "__main__":
    main()
