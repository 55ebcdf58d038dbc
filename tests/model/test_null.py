"""The null of a distance, on streams whose windows resemble each other or do not."""

import numpy as np
import pytest
from scipy.signal import lfilter

from model.errors import InvalidInput
from model.null import Null, learn
from model.shift import Reference
from model.wandering import Wandering

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


def test_of_a_trend_the_resemblance_to_the_window_before_is_taken_out() -> None:
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((4_000, 3)) * np.sqrt(1 - 0.8**2)
    z = np.asarray(lfilter([1.0], [1.0, -0.8], noise, axis=0))
    still = Wandering(np.zeros(3), np.zeros(3), np.ones(3), 40)
    null = Null(np.zeros(3), np.ones(3), still, np.full(3, 0.8), np.ones(3), np.zeros((1, 3)))
    fresh = null.innovations(z)
    assert np.corrcoef(fresh[1:, 0], fresh[:-1, 0])[0, 1] == pytest.approx(0.0, abs=0.05)
    assert fresh.std() == pytest.approx(1.0, abs=0.05)
    shifted = null.innovations(z + np.array([2.0, 0.0, 0.0]))
    moved = shifted[1:, 0].mean() - fresh[1:, 0].mean()
    assert moved == pytest.approx(2.0 * np.sqrt(0.2 / 1.8))


def test_persistence_is_found_and_bounded() -> None:
    rows = stream(4, 80, 0.0) + np.repeat(np.sin(np.arange(80) / 9), WINDOW)[:, None]
    assert 0.5 < fitted(rows)[1].persistence[1] <= 0.98
    null = fitted(stream(5, 80, 0.0))[1]
    assert (null.share * null.persistence).max() < 0.5


def test_a_trend_is_not_taken_for_a_wandering() -> None:
    rows = stream(4, 80, 0.0) + np.repeat(np.linspace(0.0, 3.0, 80), WINDOW)[:, None]
    null = fitted(rows)[1]
    assert (null.share == 1.0).all()
    assert null.wandering.rise(np.array([40, 60])) == pytest.approx(np.zeros((2, 3)))


def test_too_few_windows_are_refused() -> None:
    rows = stream(6, 20, 0.0)
    reference = Reference(rows, np.random.default_rng(0))
    with pytest.raises(InvalidInput, match="at least 8"):
        learn(reference, rows, own=13 * WINDOW, window=WINDOW, rng=np.random.default_rng(0))
