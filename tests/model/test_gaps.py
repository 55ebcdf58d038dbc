"""The figures of two spaces: exact, honest about their confidence, and within the bound."""

import importlib
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.costs import l2
from model.data import unit_rows
from model.divergence import exact
from model.gaps import gap
from model.transport import pose

with warnings.catch_warnings():
    # A docstring of POT's holds an escape that compiles with a warning; `exact` imports it.
    warnings.simplefilter("ignore")
    importlib.import_module("ot")


def spaces(
    seed: int, size: int, noise: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], np.random.Generator]:
    rng = np.random.default_rng(seed)
    own = rng.standard_normal((size, 6)).astype(np.float32)
    moved = own + noise * rng.standard_normal((size, 6))
    return own, moved.astype(np.float32), rng


def test_w1_is_that_of_the_network_simplex() -> None:
    own, image, rng = spaces(0, 60, 1.0)
    left, right = (torch.from_numpy(unit_rows(rows)).double() for rows in (own, image))
    problem = pose(l2(left, right), epsilon=1.0)
    expected = float((exact(problem) * problem.cost.dense()).sum())
    found = gap(own * 3, image, temperature=0.2, rng=rng)
    assert found.wasserstein == pytest.approx(expected, rel=1e-6)
    # Every pair kept together is a coupling too, so W1 is at most their mean distance.
    assert found.wasserstein <= found.observed**0.5 + 1e-9


@given(seed=st.integers(0, 2**31), size=st.integers(2, 40), noise=st.floats(0, 5))
def test_what_is_observed_is_within_what_the_loss_proves(
    seed: int, size: int, noise: float
) -> None:
    own, image, rng = spaces(seed, size, noise)
    found = gap(own, image, temperature=0.3, rng=rng)
    assert found.rows == size
    assert 0 <= found.observed <= found.bound + 1e-6
    assert found.wasserstein_low <= found.wasserstein <= found.wasserstein_high


def test_the_interval_is_as_wide_as_w1_varies_over_samples() -> None:
    values, widths = [], []
    for seed in range(30):
        found = gap(*spaces(seed, 80, 1.0)[:2], temperature=0.2, rng=np.random.default_rng(seed))
        values.append(found.wasserstein)
        widths.append((found.wasserstein_high - found.wasserstein_low) / 2 / 1.96)
    assert 0.6 < float(np.mean(widths)) / float(np.std(values, ddof=1)) < 1.7


def test_the_same_space_twice_is_no_gap() -> None:
    own, _, rng = spaces(3, 50, 0.0)
    found = gap(own, own, temperature=0.05, rng=rng)
    assert found.wasserstein == pytest.approx(0, abs=1e-6)
    assert found.observed == 0
    few = gap(own[:3], own[:3], temperature=0.05, rng=rng)
    assert (few.wasserstein_low, few.wasserstein_high) == (0, 2)
