"""A space that has turned is turned back, group by group, and no score knows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.data import unit_rows
from model.errors import InvalidInput
from model.fold_in import fold_in
from model.recency import GAPS, Recency
from model.rotation import measure, rotation, turned


def turns(rng: np.random.Generator, groups: int, width: int) -> NDArray[np.float64]:
    """Random orthogonal matrices."""
    return np.linalg.qr(rng.standard_normal((groups, width, width)))[0]


@given(seed=st.integers(0, 2**31), groups=st.integers(1, 3), width=st.integers(1, 5))
def test_a_turned_space_is_found_and_turned_back(seed: int, groups: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((40, groups * width)).astype(np.float32)
    by = turns(rng, groups, width)
    moved = turned(z, by)
    found = rotation(moved, z, groups)
    np.testing.assert_allclose(found, by.transpose(0, 2, 1), atol=1e-4)
    np.testing.assert_allclose(turned(moved, found), z, atol=1e-4)
    assert measure(moved, z, groups).residual < 1e-4


def test_no_rotation_explains_noise_and_none_is_better() -> None:
    rng = np.random.default_rng(0)
    old = unit_rows(rng.standard_normal((200, 8)).astype(np.float32))
    new = unit_rows(old + 0.1 * rng.standard_normal(old.shape).astype(np.float32))
    found = measure(new, old, 2)
    assert found.rows == 200
    assert 0.2 < found.residual <= found.moved < 0.35
    for _ in range(20):
        other = turned(new, turns(rng, 2, 4))
        assert np.sqrt(np.mean(np.sum((other - old) ** 2, 1))) > found.residual


def test_a_quarter_turn_of_one_plane_in_two_is_64_degrees() -> None:
    z = np.eye(4, dtype=np.float32)
    quarter = np.stack([np.array([[0.0, 1.0], [-1.0, 0.0]]), np.eye(2)])
    found = measure(turned(z, quarter), z, 2)
    assert found.degrees == pytest.approx(90 / np.sqrt(2), abs=1e-3)
    assert found.moved == pytest.approx(1.0, abs=1e-6)
    nothing = measure(z[:0], z[:0], 2)
    assert (nothing.rows, nothing.moved, nothing.residual) == (0, 0.0, 0.0)


def test_scores_do_not_know_of_a_rotation_within_groups() -> None:
    rng = np.random.default_rng(1)
    z = unit_rows(rng.standard_normal((30, 8)).astype(np.float32))
    recency = Recency(rng.random((2, 5)).astype(np.float32), np.ones((2, GAPS), np.float32))
    history = rng.integers(0, 30, (9, 5)).astype(np.int32)
    times = np.zeros((9, 5), np.int64)

    def scores(items: NDArray[np.float32]) -> NDArray[np.float32]:
        return fold_in(items, recency, history, times) @ items.T

    np.testing.assert_allclose(scores(turned(z, turns(rng, 2, 4))), scores(z), atol=1e-5)
    across = turned(z, turns(rng, 1, 8))
    assert np.abs(scores(across) - scores(z)).max() > 0.05


def test_tables_that_do_not_fit_are_refused() -> None:
    z = np.zeros((3, 4), np.float32)
    with pytest.raises(InvalidInput, match="multiple of 3"):
        rotation(z, z, 3)
    with pytest.raises(InvalidInput, match=r"\(2, 4\)"):
        rotation(z, z[:2], 2)
