"""Closed-form weights of items for items, against the regressions that they solve."""

import numpy as np
import pytest

from model import ridge
from model.data import interactions
from model.errors import InvalidInput
from model.ridge import ridge_scores, ridge_weights


@pytest.mark.parametrize("damping", [0.25, 0.0])
def test_each_column_is_the_ridge_regression_of_an_item_on_all_others(damping: float) -> None:
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 50, 400), rng.integers(0, 12, 400)
    item[item == 5] = 4  # nobody has 5
    found = ridge_weights(interactions(user, item, items=12), penalty=3.0, damping=damping)
    x = np.zeros((50, 12))
    x[user, item] = 1.0
    x *= x.sum(1, keepdims=True) ** -damping
    for j in (0, 4, 11):
        rest = [i for i in range(12) if i != j]
        gram = x[:, rest].T @ x[:, rest]
        solved = np.linalg.solve(gram + 3.0 * np.eye(11), x[:, rest].T @ x[:, j])
        np.testing.assert_allclose(found[rest, j], solved, atol=1e-5)
    assert not found.diagonal().any()
    assert not found[5].any()
    assert not found[:, 5].any()


def test_a_user_is_the_sum_over_what_it_had() -> None:
    weights = np.arange(9, dtype=np.float32).reshape(3, 3)
    scores = ridge_scores(weights, np.array([0, 2, 2, 3]), np.array([0, 2, 1]))
    np.testing.assert_array_equal(scores, [weights[0] + weights[2], np.zeros(3), weights[1]])


def test_what_has_no_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = interactions(np.array([0]), np.array([0]), items=3)
    with pytest.raises(InvalidInput, match="penalty"):
        ridge_weights(data, penalty=0.0)
    monkeypatch.setattr(ridge, "MOST_ITEMS", 2)
    with pytest.raises(InvalidInput, match="3 items"):
        ridge_weights(data, penalty=1.0)
