import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import InvalidInput
from model.popularity import Popularity


@given(
    items=st.lists(st.integers(0, 5), max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    half_life=st.floats(0.5, 50),
)
def test_counts_are_the_definition_however_they_come(
    items: list[int], cuts: list[int], half_life: float
) -> None:
    array = np.array(items, np.int64)
    popularity = Popularity(half_life, 0.5)
    for part in np.split(array, sorted(min(c, len(array)) for c in cuts)):
        popularity.update(part, 6)
    ages = len(array) - 1 - np.arange(len(array))
    expected = np.bincount(array, 0.5 ** (ages / half_life), 6)
    np.testing.assert_allclose(popularity.counts(), expected, rtol=1e-9, atol=1e-12)


def test_items_without_events_keep_their_score_and_rank() -> None:
    popularity = Popularity(10, 0.5)
    popularity.update(np.array([0, 0, 1]), 4)
    before = popularity.scores()
    popularity.update(np.array([2] * 20))
    np.testing.assert_array_equal(popularity.scores(np.array([0, 1, 3])), before[[0, 1, 3]])
    assert popularity.scores()[2] > before.max()


def test_a_landmark_far_in_the_past_is_left_before_it_overflows() -> None:
    popularity = Popularity(1.0, 0.5)
    for start in range(0, 3000, 7):
        popularity.update(np.full(7, start % 3), 3)
    assert np.isfinite(popularity.scores()).all()
    assert np.isfinite(popularity.counts()).all()
    whole = Popularity(1.0, 0.5)
    whole.update(np.zeros(5000, np.int64))
    assert whole.counts()[0] == pytest.approx(2.0, rel=0.01)


def test_expected_counts_decay_like_events() -> None:
    popularity = Popularity(4, 0.5)
    popularity.update(np.array([0, 0, 0]))
    popularity.expect(np.array([2]), np.array([popularity.counts()[0]]))
    popularity.update(np.array([1, 1, 1, 1]))
    assert popularity.counts()[2] == 0.0
    scores = popularity.scores()
    assert scores[2] == pytest.approx(scores[0])
    popularity.forget()
    assert popularity.scores()[2] == pytest.approx(np.log(0.5))


def test_an_expectation_long_after_the_landmark_is_still_finite() -> None:
    popularity = Popularity(1.0, 0.5)
    popularity.update(np.zeros(199, np.int64))
    popularity.update(np.ones(60, np.int64))
    popularity.expect(np.array([2]), np.array([3.0]))
    popularity.rebase()
    assert popularity.scores()[2] == pytest.approx(np.log(3.5))
    popularity.age = 500.0
    popularity.expect(np.array([3]), np.array([2.0]))
    assert popularity.age == 0.0
    assert popularity.scores()[3] == pytest.approx(np.log(2.5))


def test_state_restores_an_equal_and_separate_object() -> None:
    popularity = Popularity(5, 0.5)
    popularity.update(np.array([0, 1, 1]))
    copy = popularity.copy()
    popularity.update(np.array([0]))
    assert copy.age == 3
    copy.update(np.array([0]))
    np.testing.assert_array_equal(copy.scores(), popularity.scores())


@pytest.mark.parametrize(("half_life", "floor"), [(0, 1), (np.nan, 1), (1, 0), (1, np.inf)])
def test_half_life_and_floor_are_positive(half_life: float, floor: float) -> None:
    with pytest.raises(InvalidInput, match="positive"):
        Popularity(half_life, floor)


def test_an_item_is_an_index() -> None:
    with pytest.raises(InvalidInput, match="-1"):
        Popularity(1, 1).update(np.array([-1]))


@pytest.mark.parametrize("floor", [0.5, 3.0])
def test_an_item_without_events_has_the_score_of_the_floor(floor: float) -> None:
    popularity = Popularity(10.0, floor)
    popularity.update(np.array([1]), 3)
    popularity.rebase()
    expected = np.log([floor, floor + 1.0, floor])
    np.testing.assert_allclose(popularity.scores(), expected, rtol=1e-6)


@given(
    items=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    gone=st.sets(st.integers(0, 39)),
    half_life=st.floats(0.5, 50),
)
def test_events_that_are_taken_back_were_never_counted(
    items: list[int], gone: set[int], half_life: float
) -> None:
    array, popularity = np.array(items, np.int64), Popularity(half_life, 0.5)
    popularity.update(array, 4)
    ages = len(array) - 1 - np.arange(len(array))
    taken = np.isin(np.arange(len(array)), list(gone))
    popularity.take_back(array[taken], ages[taken])
    expected = np.bincount(array[~taken], 0.5 ** (ages[~taken] / half_life), 4)
    np.testing.assert_allclose(popularity.counts(), expected, rtol=1e-6, atol=1e-9)


def test_nothing_is_counted_below_zero() -> None:
    popularity = Popularity(10, 0.5)
    popularity.update(np.array([0]), 2)
    popularity.take_back(np.array([0, 1, 1]), np.array([0, 0, 5]))
    assert popularity.counts().tolist() == [0.0, 0.0]
