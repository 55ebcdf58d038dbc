import numpy as np
import pytest
from numpy.typing import NDArray

from model import ranking
from model.errors import InvalidInput
from model.ranking import mid_ranks, mrr, ndcg_at, recall_at

EMPTY = (np.zeros(2, np.int64), np.zeros(0, np.int64))
EMPTY_2 = (np.zeros(3, np.int64), np.zeros(0, np.int64))


def naive(
    user: NDArray[np.float32],
    items: NDArray[np.float32],
    target: int,
    seen: set[int],
    allowed: NDArray[np.bool_],
) -> float:
    scores = [float(s) for s in items @ user]
    rivals = [s for i, s in enumerate(scores) if i != target and i not in seen and allowed[i]]
    above = sum(s > scores[target] for s in rivals)
    return 1 + above + sum(s == scores[target] for s in rivals) / 2


@pytest.mark.parametrize("block", [1, 100, 1 << 24])
def test_ranks_are_those_of_a_plain_count(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "_BLOCK", block)
    rng = np.random.default_rng(0)
    # Small whole numbers: many exact ties, no rounding.
    users = rng.integers(-2, 3, (30, 3)).astype(np.float32)
    items = rng.integers(-2, 3, (40, 3)).astype(np.float32)
    target = rng.integers(0, 40, 30)
    allowed = rng.random(40) < 0.8
    seen = [rng.integers(0, 40, rng.integers(0, 12)) for _ in range(30)]
    indptr = np.cumsum([0, *map(len, seen)])
    ranks = mid_ranks(users, items, target, (indptr, np.concatenate(seen)), allowed)
    expected = [
        naive(users[n], items, int(target[n]), set(seen[n].tolist()), allowed) for n in range(30)
    ]
    np.testing.assert_array_equal(ranks, expected)


def test_equal_scores_are_no_hit() -> None:
    ranks = mid_ranks(
        np.ones((1, 1), np.float32), np.ones((100, 1), np.float32), np.array([3]), EMPTY
    )
    assert ranks[0] == 50.5
    assert recall_at(ranks, 20) == 0.0


def test_figures_are_their_definitions() -> None:
    ranks = np.array([1.0, 2.0, 30.0])
    assert recall_at(ranks, 20) == pytest.approx(2 / 3)
    assert ndcg_at(ranks, 20) == pytest.approx((1 + 1 / np.log2(3)) / 3)
    assert mrr(ranks) == pytest.approx((1 + 1 / 2 + 1 / 30) / 3)
    nothing = np.zeros(0)
    assert np.isnan([recall_at(nothing, 5), ndcg_at(nothing, 5), mrr(nothing)]).all()


def test_what_does_not_fit_is_refused() -> None:
    users, items = np.ones((1, 2), np.float32), np.ones((3, 2), np.float32)
    with pytest.raises(InvalidInput, match="differ in dimension"):
        mid_ranks(users, items[:, :1], np.array([0]), EMPTY)
    with pytest.raises(InvalidInput, match="2 targets"):
        mid_ranks(users, items, np.array([0, 1]), EMPTY)
    with pytest.raises(InvalidInput, match="target is outside"):
        mid_ranks(users, items, np.array([3]), EMPTY)
    with pytest.raises(InvalidInput, match="seen item is outside"):
        mid_ranks(users, items, np.array([0]), (np.array([0, 1]), np.array([-1])))
    with pytest.raises(InvalidInput, match="NaN"):
        mid_ranks(users * np.nan, items, np.array([0]), EMPTY)


def test_items_that_were_not_there_yet_take_no_part() -> None:
    scores = np.array([[3, 2, 1, 4], [3, 2, 1, 4]], np.float32)
    ranks = ranking.ranks_of(scores, np.array([1, 3]), EMPTY_2, known=np.array([2, 3]))
    assert ranks.tolist() == [2.0, np.inf]


def test_what_is_shown_is_covered_novel_and_popular_by_definition() -> None:
    shown = np.array([[0, 1], [0, -1]])
    assert ranking.coverage(shown, 4) == 0.5
    counts = np.array([3.0, 1.0, 0.0, 0.0])  # with one more each: 4, 2, 1, 1 of 8
    assert ranking.novelty(shown, counts) == pytest.approx((1 + 2 + 1) / 3)
    half = np.array([1.0, 1.0])
    assert ranking.popularity_shift(np.array([0]), np.array([1]), half, 2) == pytest.approx(1.0)
    assert ranking.popularity_shift(np.array([0, 1]), np.array([1, 0]), half, 2) == 0.0
    # p = (1, 0), q = (1/2, 1/2), middle (3/4, 1/4)
    expected = (np.log2(4 / 3) + 0.5 * np.log2(2 / 3) + 0.5 * np.log2(2)) / 2
    found = ranking.popularity_shift(np.array([0]), np.array([0, 1]), half, 2)
    assert found == pytest.approx(expected)
    nothing = np.array([-1])
    assert np.isnan(
        [
            ranking.coverage(nothing, 0),
            ranking.novelty(nothing, counts),
            ranking.popularity_shift(nothing, np.array([0]), counts),
        ]
    ).all()
