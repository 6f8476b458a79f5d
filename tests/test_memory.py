"""The compiler's pages go back after the start, and everything still works."""

import subprocess
import sys

CODE = """
import numpy as np
from agent.memory import release_compiler
import drivers.decode.kernel
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
before = resident()
released = release_compiler()
after = resident()
import numba
twice = numba.njit("i8(i8)")(lambda x: 2 * x)
print(released > 0, before - after > 20_000_000, twice(21))
"""


def test_the_compilers_pages_go_back_and_it_still_compiles() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "42"]
