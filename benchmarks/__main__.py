"""`make bench` or `python -m benchmarks [NAME...]`: each prints ratios against a named alternative.

Absolute figures belong to the machine that printed them; quote the ratios, and only from a run you made.
"""

import os
import platform
import sys
from importlib import import_module
from pkgutil import iter_modules

from benchmarks import __path__ as here

SHARED_PARTS = {"fixtures"}


def main() -> None:
    """Run the named benchmarks, or all of them."""
    names = sorted(m.name for m in iter_modules(here) if not m.name.startswith("_") and m.name not in SHARED_PARTS)
    wanted = sys.argv[1:] or names
    for name in wanted:
        if name not in names:
            sys.exit(f"benchmarks: '{name}' is not one of {', '.join(names)}")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for name in wanted:
        print(f"\n== {name} ==", flush=True)
        import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()
