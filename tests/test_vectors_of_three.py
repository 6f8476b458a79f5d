"""Vectors of three: as numpy's own, with sums in one order."""

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from agent.vectors import along, dot, length, unit

Floats = npt.NDArray[np.float64]
vectors = arrays(np.float64, 3, elements=st.floats(-1e6, 1e6))


@given(vectors, vectors)
def test_dot_and_length_are_numpys(a: Floats, b: Floats) -> None:
    assert np.isclose(dot(a, b), a @ b, rtol=1e-12, atol=1e-12 * length(a) * length(b))
    assert np.isclose(length(a), np.linalg.norm(a), rtol=1e-12)


@given(vectors.filter(lambda a: length(a) > 1e-3))
def test_a_unit_has_length_one_and_the_same_direction(a: Floats) -> None:
    assert np.isclose(length(unit(a)), 1.0)
    assert np.allclose(unit(a) * length(a), a)


@given(arrays(np.float64, st.tuples(st.integers(0, 20), st.just(3)), elements=st.floats(-1e6, 1e6)), vectors, vectors)
def test_rows_reach_along_each_axis_as_each_row_alone(rows: Floats, a: Floats, b: Floats) -> None:
    both = along(rows, a, b)
    assert both.shape == (len(rows), 2)
    assert np.array_equal(along(rows, a), both[:, 0])
    assert both.tolist() == [[dot(row, a), dot(row, b)] for row in rows]
