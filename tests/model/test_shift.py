"""Distances of a window from a reference, against what is known of Gaussians."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import InvalidInput
from model.shift import NAMES, Reference

N, DIM = 4_000, 6


def gauss(seed: int, n: int = N, dim: int = DIM) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim))


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(gauss(0), np.random.default_rng(1))


def test_a_shift_by_s_is_s_squared_in_every_coordinate(reference: Reference) -> None:
    sliced, mean, _ = np.exp(reference.distances(gauss(2) + 0.5))
    assert mean == pytest.approx(DIM * 0.25, rel=0.1)
    # W₂² of two Gaussians that differ by a shift is the shift's square; the mean over directions
    # of (θ·s)² is ‖s‖²/d.
    assert sliced == pytest.approx(0.25, rel=0.1)


def test_a_change_of_scale_is_seen_where_the_mean_stands_still(reference: Reference) -> None:
    quiet, wide = reference.distances(gauss(2)), reference.distances(1.5 * gauss(2))
    assert wide[1] - quiet[1] < 1.5
    assert wide[NAMES.index("kernel")] - quiet[NAMES.index("kernel")] > 3
    # W₂² of N(0, 1) and N(0, 1.5²) is 0.5².
    assert np.exp(wide[0]) == pytest.approx(0.25, rel=0.15)


@given(st.floats(0.01, 100.0), st.floats(-50.0, 50.0))
def test_units_and_origin_of_a_space_are_nothing(scale: float, origin: float) -> None:
    base, live = gauss(3, 200), gauss(4, 200)
    plain = Reference(base, np.random.default_rng(5)).distances(live)
    moved = Reference(base * scale + origin, np.random.default_rng(5))
    np.testing.assert_allclose(moved.distances(live * scale + origin), plain, atol=2e-2)


def test_a_stretch_is_the_window_it_is(reference: Reference) -> None:
    rows = gauss(6, 500)
    prepared = reference.prepare(rows)
    found = reference.stretches(prepared, np.array([0, 120]), 300)
    np.testing.assert_allclose(found[1], reference.distances(rows[120:420]), rtol=1e-5)


def test_one_coordinate_and_a_flat_one_will_do() -> None:
    one = Reference(gauss(7, 300, 1), np.random.default_rng(0))
    assert np.isfinite(one.distances(gauss(8, 100, 1))).all()
    flat = gauss(9, 300)
    flat[:, 2] = 3.0
    held = Reference(flat, np.random.default_rng(0))
    assert np.exp(held.distances(flat)[1]) < 1e-6
    constant = Reference(np.ones((5, 2)), np.random.default_rng(0))
    assert np.isfinite(constant.distances(np.ones((3, 2)))).all()


def test_what_cannot_be_measured_is_refused(reference: Reference) -> None:
    with pytest.raises(InvalidInput, match="at least 2"):
        Reference(gauss(0, 1), np.random.default_rng(0))
    with pytest.raises(InvalidInput, match="shape"):
        reference.distances(gauss(0, 10, DIM + 1))
    with pytest.raises(InvalidInput, match="not finite"):
        reference.distances(np.full((3, DIM), np.nan))
