"""Two ordered blocks become one, as a stable sort would do it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import BLOCK, Block, join_blocks
from drivers.decode.interleave import _interleave, interleave

times = st.lists(st.integers(-5, 40), max_size=30).map(sorted)


def block(times_ns: list[int], channel: int) -> Block:
    return np.array([(t, channel, float(i)) for i, t in enumerate(times_ns)], BLOCK)


@settings(max_examples=150, deadline=None)
@given(times, times)
def test_interleaving_is_a_stable_sort_and_equals_plain_python(a: list[int], b: list[int]) -> None:
    first, second = block(a, 1), block(b, 2)
    made = interleave(first, second)
    assert made.tolist() == join_blocks([first, second]).tolist()
    plain = np.empty_like(made)
    _interleave.py_func(first, second, plain)
    assert plain.tolist() == made.tolist()
