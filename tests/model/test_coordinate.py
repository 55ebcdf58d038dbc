from dataclasses import replace

import numpy as np
import pytest

from model.config import ModelConfig
from model.coordinate import Coordinate
from model.evidence import Calibration, nothing
from model.popularity import Popularity
from model.recency import plain
from model.state import ModelState
from model.terms import Terms

CONFIG = ModelConfig(dim=2, context=1, half_lives=(1.0,), popularity_half_lives=(10.0, 100.0))


def version(terms: Terms | None, *, placed: int = 0, expected: float = 0.0) -> ModelState:
    """Five items, the last ones placed."""
    z = np.ones((5, 2), np.float32)
    recency = plain(np.ones(1, np.float32))
    parameters = {"embedding": z, "log_weights": recency.position, "log_gaps": recency.gap}
    learned = np.arange(5) < 5 - placed
    state = ModelState(z, recency, learned, parameters, trained_upto=0)
    counts = np.where(learned, 0.0, expected).astype(np.float32)
    if terms is None:
        return replace(state, expected=counts)
    tried = nothing(np.zeros((1, 2)))
    return replace(state, calibration=Calibration(terms, tried, tried, tried), expected=counts)


def events(n: int = 300) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4, n)


@pytest.mark.parametrize("half_life", [10.0, 100.0, 5000.0])
def test_a_switch_of_half_life_needs_no_history(half_life: float) -> None:
    last = Coordinate(CONFIG)
    last.adopt(version(None))
    last.update(events(), 5)
    last.adopt(version(Terms(0.3, half_life)))
    fresh = Popularity(half_life, CONFIG.popularity_floor)
    fresh.update(events(), 5)
    np.testing.assert_allclose(last.counts(), fresh.counts())
    fresh.rebase()
    np.testing.assert_allclose(last.of(5), 0.3 * fresh.scores(), rtol=1e-6)
    last.update(np.array([2, 2, 4]), 6)
    fresh.update(np.array([2, 2, 4]), 6)
    np.testing.assert_allclose(last.of(6), 0.3 * fresh.scores(), rtol=1e-6)
    np.testing.assert_array_equal(last.of(6, np.array([2, 5])), last.of(6)[[2, 5]])


def test_a_half_life_that_is_not_kept_begins_from_the_nearest() -> None:
    last = Coordinate(CONFIG)
    last.update(events(), 5)
    last.adopt(version(Terms(0.3, 100.0)))
    near = last.counts()
    last.adopt(version(Terms(0.3, 90.0)))
    np.testing.assert_allclose(last.counts(), near * 0.9)


def test_what_is_placed_has_its_bias_and_the_count_of_its_like() -> None:
    last = Coordinate(CONFIG)
    last.update(np.zeros(8, np.int64), 5)
    terms = Terms(0.5, 100.0, 0.25)
    last.adopt(version(terms, placed=2, expected=3.0))
    floor = CONFIG.popularity_floor
    expected = [0.5 * np.log(floor), 0.5 * np.log(floor + 3.0) + 0.25]
    np.testing.assert_allclose(last.of(5)[[1, 4]], expected, rtol=1e-6)
    last.place(np.array([6]), np.array([2.0]))
    assert last.of(7)[6] == pytest.approx(0.5 * np.log(floor + 2.0) + 0.25)
    assert last.of(7)[5] == pytest.approx(0.5 * np.log(floor))
    last.adopt(version(terms))  # now they are learned
    np.testing.assert_allclose(last.of(7)[[4, 6]], 0.5 * np.log(floor), rtol=1e-6)


def test_state_restores_and_a_copy_shares_nothing() -> None:
    last = Coordinate(CONFIG)
    last.update(events(), 5)
    state = version(Terms(0.3, 10.0, 0.1), placed=1, expected=2.0)
    last.adopt(state)
    copy = last.copy()
    copy.update(np.array([1]), 5)
    again = Coordinate(CONFIG)
    again.use(state)
    again.restore(last.state())
    np.testing.assert_array_equal(again.of(5), last.of(5))
    assert (copy.of(5) != last.of(5)).any()
    more = CONFIG.model_copy(update={"popularity_half_lives": (10.0, 1000.0)})
    other = Coordinate(more)
    other.restore(last.state())
    other.adopt(version(Terms(0.3, 1000.0)))
    last.adopt(version(Terms(0.3, 5000.0)))
    np.testing.assert_allclose(other.counts(), last.counts() / 5)
