import numpy as np
import pytest

from model.data import Features, Interactions, interactions
from model.errors import InvalidInput
from model.replay import choose, learnable
from model.sampling import contexts


def small(**change: object) -> Interactions:
    given = {
        "indptr": np.array([0, 2, 3]),
        "item": np.array([0, 1, 1], np.int32),
        "time_us": np.arange(3),
        "weight": np.ones(3, np.float32),
        "sequence": np.arange(3),
        "positive": np.ones(3, np.bool_),
        "items": 2,
    }
    return Interactions(**(given | change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"indptr": np.array([0, 2, 4])}, "indptr must run"),
        ({"indptr": np.array([0, 4, 3])}, "must not decrease"),
        ({"indptr": np.zeros(0, np.int64)}, "indptr must run"),
        ({"item": np.array([0, 1, 2], np.int32)}, r"span \[0, 2\]"),
        ({"item": np.array([-1, 1, 1], np.int32)}, r"span \[-1, 1\]"),
        ({"time_us": np.arange(2)}, "time_us has 2"),
        ({"weight": np.array([1, np.nan, 1], np.float32)}, "finite"),
        ({"weight": np.array([1, -1, 1], np.float32)}, "not negative"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        small(**change)


def test_events_are_grouped_by_user_oldest_first() -> None:
    data = interactions(
        np.array([1, 0, 1, 1]), np.array([3, 4, 5, 6]), items=7, time_us=np.array([9, 8, 7, 9])
    )
    assert (data.users, len(data)) == (2, 4)
    np.testing.assert_array_equal(data.item, [4, 5, 3, 6])
    np.testing.assert_array_equal(data.sequence, [1, 2, 0, 3])
    np.testing.assert_array_equal(data.owners(), [0, 1, 1, 1])
    with pytest.raises(InvalidInput, match="users are 1"):
        interactions(np.array([1]), np.array([0]), items=1, users=1)


def test_positives_leave_no_gap() -> None:
    data = small(positive=np.array([False, True, True]))
    kept = data.positives()
    np.testing.assert_array_equal(kept.indptr, [0, 1, 2])
    np.testing.assert_array_equal(kept.item, [1, 1])
    assert kept.positives() is kept


def test_targets_are_first_meetings_with_something_before_them() -> None:
    user = np.array([0, 0, 0, 0, 1, 1])
    item = np.array([2, 3, 2, 4, 3, 0])
    weight = np.array([1, 1, 1, 1, 1, 0], np.float32)
    data = interactions(user, item, items=5, weight=weight)
    np.testing.assert_array_equal(learnable(data), [False, True, False, True, False, False])


def test_contexts_stop_at_the_user_and_never_hold_the_future() -> None:
    data = interactions(np.array([0, 0, 1, 1, 1]), np.array([5, 6, 7, 8, 9]), items=10)
    starts = data.indptr[:-1].repeat(np.diff(data.indptr))
    found, time_us = contexts(data, starts, np.array([1, 2, 4]), 3)
    np.testing.assert_array_equal(found, [[5, -1, -1], [-1, -1, -1], [8, 7, -1]])
    np.testing.assert_array_equal(time_us, [[0, 0, 0], [0, 0, 0], [3, 2, 0]])


def test_all_the_new_and_a_share_of_the_old_are_chosen() -> None:
    data = interactions(np.repeat(np.arange(20), 10), np.tile(np.arange(10), 20), items=10)
    chosen = choose(data, data.sequence >= 150, 1.5)
    assert (data.sequence[chosen.fresh] >= 150).all()
    new = np.count_nonzero(learnable(data) & (data.sequence >= 150))
    assert len(chosen.fresh) == new == 45
    again = chosen.draw(np.random.default_rng(0))[45:]
    assert (data.sequence[again] < 150).all()
    assert len(np.unique(again)) == len(again) == 68
    assert len(choose(data, data.sequence >= 150, 0.0)) == 45


def test_text_is_normalised_where_present() -> None:
    vectors = np.array([[3, 4], [0, 0], [np.nan, 1]], np.float32)
    features = Features(vectors, np.array([True, True, False]))
    np.testing.assert_allclose(
        features.normalised(), [[0.6, 0.8], [0.0, 0.0], [0.0, 0.0]], atol=1e-6
    )
    with pytest.raises(InvalidInput, match="NaN"):
        Features(vectors, np.ones(3, np.bool_))
    with pytest.raises(InvalidInput, match="do not fit 2"):
        Features(vectors, np.ones(2, np.bool_))
