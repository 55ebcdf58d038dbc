"""A confidence sequence is wrong no more often than it says, however often it is looked at."""

import numpy as np
import pytest
from numpy.typing import NDArray

from model.confidence import CELLS, ConfidenceSequence
from model.errors import InvalidInput

CHANCE = 0.1
STREAMS, EVENTS = 300, 600


def stream(rng: np.random.Generator, mean: float, active: float = 0.3) -> NDArray[np.float64]:
    """Differences of hits: -1, 0 or 1."""
    chances = [(active - mean) / 2, 1 - active, (active + mean) / 2]
    return rng.choice([-1.0, 0.0, 1.0], size=EVENTS, p=chances)


def excludes(values: NDArray[np.float64], mean: float) -> bool:
    seen = ConfidenceSequence(CHANCE)
    seen.update(values)
    return not seen.low <= mean <= seen.high


def t_interval_ever_excludes(values: NDArray[np.float64], mean: float) -> bool:
    """The interval of textbooks, looked at after every event from the thirtieth on."""
    n = np.arange(1, len(values) + 1)
    means = np.cumsum(values) / n
    spread = np.sqrt((np.cumsum(values**2) / n - means**2) / n)
    off = np.abs(means - mean) > 1.6449 * spread  # of CHANCE, both sides
    return bool(off[30:].any())


@pytest.mark.parametrize("mean", [0.0, -0.02, 0.1])
def test_peeking_at_every_event_does_not_add_up(mean: float) -> None:
    rng = np.random.default_rng(7)
    streams = [stream(rng, mean) for _ in range(STREAMS)]
    # Bounds are kept for ever: what was excluded once is excluded in the end.
    assert np.mean([excludes(values, mean) for values in streams]) <= CHANCE
    assert np.mean([t_interval_ever_excludes(values, mean) for values in streams]) > 3 * CHANCE


def test_a_loss_is_found() -> None:
    rng = np.random.default_rng(8)
    for _ in range(20):
        seen = ConfidenceSequence(CHANCE)
        seen.update(stream(rng, -0.2))
        assert seen.high < -0.02


def test_the_interval_closes_on_the_mean() -> None:
    rng = np.random.default_rng(9)
    seen = ConfidenceSequence(CHANCE)
    widths = []
    for _ in range(20):
        seen.update(stream(rng, 0.05))
        widths.append(seen.high - seen.low)
    assert widths == sorted(widths, reverse=True)
    assert seen.low < 0.05 < seen.high
    assert widths[-1] < 0.06
    assert seen.mean == pytest.approx(0.05, abs=0.02)


def test_a_value_at_the_edge_ruins_no_bettor() -> None:
    for edge in (-1.0, 1.0):
        seen = ConfidenceSequence(CHANCE)
        seen.update(np.full(50, edge))
        assert seen.low <= edge <= seen.high
        assert seen.high - seen.low < 0.3
        seen.update(np.full(1_000, -edge))  # the bets had been on the other side
        assert np.isfinite(seen.state()["wealth"]).all()


def test_batches_leave_no_trace() -> None:
    values = stream(np.random.default_rng(10), 0.0)
    whole, parts = ConfidenceSequence(CHANCE), ConfidenceSequence(CHANCE)
    whole.update(values)
    for start, stop in ((0, 1), (1, 40), (40, 40), (40, EVENTS)):
        parts.update(values[start:stop])
        parts = ConfidenceSequence.restore(parts.state())
    for name, array in whole.state().items():
        assert np.array_equal(array, parts.state()[name]), name


def test_before_anything_is_seen_nothing_is_said() -> None:
    seen = ConfidenceSequence(CHANCE)
    assert (seen.events, seen.mean, seen.low, seen.high) == (0, None, -1.0, 1.0)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InvalidInput, match="chance is 1"):
        ConfidenceSequence(1.0)
    for wrong in (1.5, np.nan):
        with pytest.raises(InvalidInput, match=r"values in \[-1, 1\]"):
            ConfidenceSequence(CHANCE).update(np.array([0.0, wrong]))
    state = {**ConfidenceSequence(CHANCE).state(), "wealth": np.zeros((2, CELLS))}
    with pytest.raises(InvalidInput, match="capitals of shape"):
        ConfidenceSequence.restore(state)
