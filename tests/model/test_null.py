"""The null of a distance, on streams whose windows resemble each other or do not."""

import numpy as np
import pytest
from scipy.signal import lfilter

from model.errors import InvalidInput
from model.null import Null, learn
from model.shift import Reference

WINDOW, DIM = 100, 8


def stream(seed: int, windows: int, persistence: float) -> np.ndarray:
    """Rows that follow each other by AR(1), float64[windows * WINDOW, DIM]."""
    noise = np.random.default_rng(seed).standard_normal((windows * WINDOW + 200, DIM))
    noise *= np.sqrt(1 - persistence**2)
    return np.asarray(lfilter([1.0], [1.0, -persistence], noise, axis=0))[200:]


def fitted(rows: np.ndarray) -> tuple[Reference, Null]:
    rng = np.random.default_rng(0)
    reference = Reference(rows[: 40 * WINDOW], rng)
    known, own = rows[: 80 * WINDOW], 40 * WINDOW
    return reference, learn(reference, known, own=own, window=WINDOW, rng=rng, stretches=400)


@pytest.mark.parametrize("persistence", [0.0, 0.9])
def test_later_windows_have_the_null_that_was_learned(persistence: float) -> None:
    rows = stream(1, 280, persistence)
    reference, null = fitted(rows)
    at = np.arange(80, 280)
    later = null.standardised(reference.stretches(reference.prepare(rows), at * WINDOW, WINDOW), at)
    assert np.abs(later.mean(axis=0)).max() < 0.7
    assert 0.6 < later.std(axis=0).min() <= later.std(axis=0).max() < 1.5


def test_rows_drawn_alone_would_have_learned_a_false_null() -> None:
    rows = stream(2, 280, 0.9)
    reference, null = fitted(rows)
    shuffled = np.random.default_rng(0).permutation(rows[40 * WINDOW : 80 * WINDOW])
    rng = np.random.default_rng(0)
    known, own = np.concatenate([rows[: 40 * WINDOW], shuffled]), 40 * WINDOW
    false = learn(reference, known, own=own, window=WINDOW, rng=rng, stretches=400)
    at = np.arange(80, 280)
    later = reference.stretches(reference.prepare(rows), at * WINDOW, WINDOW)
    assert false.standardised(later, at)[:, 1].mean() > 4
    assert null.standardised(later, at)[:, 1].mean() < 0.7


def wandering(seed: int, windows: int, width: float) -> np.ndarray:
    """Independent rows around a centre that moves from window to window by AR(0.9)."""
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal((windows + 100, DIM)) * np.sqrt(1 - 0.9**2)
    centre = np.asarray(lfilter([1.0], [1.0, -0.9], centre, axis=0))[100:]
    rows = rng.standard_normal((windows * WINDOW, DIM))
    return rows + width * np.repeat(centre, WINDOW, axis=0)


def test_what_one_window_has_of_those_before_is_taken_out() -> None:
    for seed in range(3, 6):
        rows = wandering(seed, 480, 0.2)
        reference, null = fitted(rows)
        at = np.arange(40, 480)
        distances = reference.stretches(reference.prepare(rows), at * WINDOW, WINDOW)
        z = null.standardised(distances, at)
        fresh = null.innovations(z)
        before = np.corrcoef(z[1:, 1], z[:-1, 1])[0, 1]
        after = np.corrcoef(fresh[1:, 1], fresh[:-1, 1])[0, 1]
        assert before > 0.4
        assert abs(after) < 0.2
        assert 0.5 < fresh[:, 1].std() < 1.6


def test_independent_windows_are_left_as_they_are() -> None:
    reference, null = fitted(stream(5, 80, 0.0))
    assert null.wandering.distances()[1].max() < 0.3
    z = np.random.default_rng(0).standard_normal((50, 3))
    assert null.innovations(z) == pytest.approx(z, abs=1.0)
    assert reference.dim == DIM


def test_too_few_windows_are_refused() -> None:
    rows = stream(6, 20, 0.0)
    reference = Reference(rows, np.random.default_rng(0))
    with pytest.raises(InvalidInput, match="at least 8"):
        learn(reference, rows, own=13 * WINDOW, window=WINDOW, rng=np.random.default_rng(0))
