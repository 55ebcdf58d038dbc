import numpy as np
import pytest
from numpy.typing import NDArray

from model.alignment import TOLERANCE, Alignment, align, paired_sample
from model.data import unit_rows
from model.errors import TransportFailed
from model.kept_coupling import WarmStart

EVERY = np.ones(60, np.bool_)


def spaces(noise: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    own = rng.standard_normal((60, 8)).astype(np.float32)
    return own, own + noise * rng.standard_normal((60, 8)).astype(np.float32)


def aligned(
    own: NDArray[np.float32],
    image: NDArray[np.float32],
    usable: NDArray[np.bool_] = EVERY,
    start: WarmStart | None = None,
) -> tuple[Alignment, WarmStart] | None:
    rng = np.random.default_rng(0)
    return align(own, image, usable, start, 60, temperature=0.2, rng=rng)


def test_the_cost_tells_spaces_that_agree_from_spaces_that_do_not() -> None:
    costs = []
    for noise in (0.1, 1.0, 100.0):
        found = aligned(*spaces(noise), EVERY, None)
        assert found is not None
        assert found[0].converged
        assert found[0].marginal_error <= 1e-6
        costs.append(found[0].paired_cost)
    assert costs[0] < 0.02
    assert 0.2 < costs[1] < 0.8
    assert costs[2] > 0.8


def test_pairing_by_transport_costs_no_more_than_by_identity() -> None:
    own, text = spaces(100.0)
    found = aligned(own, text, EVERY, None)
    assert found is not None
    cost = 1 - unit_rows(own) @ unit_rows(text).T
    assert found[0].paired_cost == pytest.approx(float(np.diag(cost).mean()), abs=1e-5)
    assert found[0].cost < found[0].paired_cost


def test_the_next_one_starts_where_this_one_ended() -> None:
    own, text = spaces(1.0)
    first = aligned(own, text, EVERY, None)
    assert first is not None
    second = aligned(own, text, EVERY, first[1])
    assert second is not None
    assert second[0].warm
    assert not first[0].warm
    assert second[0].iterations <= 1 < first[0].iterations == second[0].cold_iterations
    assert second[0].cold_marginal_error == first[0].marginal_error <= TOLERANCE


def test_the_sample_is_spread_and_follows_the_items() -> None:
    usable = np.ones(1000, np.bool_)
    usable[500:] = False
    first = paired_sample(usable, 100)
    assert len(np.unique(first)) == 100
    assert first.max() < 500
    # Spread over the usable ones, not their beginning.
    assert 200 < first.mean() < 300
    # As the items change by a tenth, so does the sample; new ones are not left out.
    usable[500:550] = True
    second = paired_sample(usable, 100)
    assert 85 <= len(np.intersect1d(first, second)) < 100
    assert (second >= 500).sum() == pytest.approx(100 / 11, abs=3)
    usable[first[0]] = False
    assert len(np.intersect1d(second, paired_sample(usable, 100))) == 99


def test_all_are_taken_when_they_are_few() -> None:
    np.testing.assert_array_equal(paired_sample(np.array([True, False, True]), 512), [0, 2])


def test_divergence_is_nothing_between_equal_clouds_and_grows_with_the_distance() -> None:
    own, text = spaces(1.0)
    same = aligned(own, own, EVERY, None)
    assert same is not None
    assert abs(same[0].divergence) < 1e-9
    found = [aligned(*spaces(noise), EVERY, None) for noise in (0.3, 1.0, 3.0)]
    values = [one[0].divergence for one in found if one is not None]
    assert 0 < values[0] < values[1] < values[2]
    # It takes away the blur that the plain cost has: that one is far from nothing.
    assert same[0].cost > 0.01 or same[0].perplexity < 1.01
    apart = aligned(own, -np.abs(text), EVERY, None)
    assert apart is not None
    assert apart[0].divergence > values[2]


def test_vectors_that_are_not_finite_are_refused() -> None:
    own, text = spaces(1.0)
    text[5] = np.nan
    with pytest.raises(TransportFailed, match="NaN"):
        aligned(own, text, EVERY, None)


def test_one_item_is_no_pair() -> None:
    one = np.zeros(60, np.bool_)
    one[3] = True
    assert aligned(*spaces(1.0), one, None) is None
