"""Impressions passed over as negatives: which they are, how they count, what they do."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.config import ModelConfig
from model.data import Interactions, interactions
from model.fold_in import fold_in
from model.losses import softmax_loss
from model.passed_over import passed_over
from model.state import ModelState
from model.trainer import finetune

events = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.booleans()), max_size=30)


@given(events, st.integers(1, 4))
def test_they_are_the_last_of_the_user_before_the_event(
    rows: list[tuple[int, int, bool]], count: int
) -> None:
    user, item, liked = (np.array(column) for column in zip(*rows, strict=True)) if rows else (
        np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    )  # fmt: skip
    weight = (1 + np.arange(len(rows))).astype(np.float32)
    data = interactions(user, item, items=6, users=3, positive=liked, weight=weight)
    found = passed_over(data)
    if liked.all():
        assert found is None
        return
    assert found is not None
    positives = data.positives()
    items, weights = found.before(np.arange(len(positives)), count)
    for row, sequence in enumerate(positives.sequence.tolist()):
        missed = [
            (rows[at][1], at + 1.0)
            for at in range(sequence - 1, -1, -1)
            if rows[at][0] == rows[sequence][0] and not rows[at][2]
        ][:count]
        expected = missed + [(0, 0.0)] * (count - len(missed))
        assert list(zip(items[row].tolist(), weights[row].tolist(), strict=True)) == expected


def test_a_weight_is_so_many_more_negatives() -> None:
    generator = torch.Generator().manual_seed(0)
    users, items = torch.randn(2, 4, generator=generator), torch.randn(9, 4, generator=generator)
    passed = (
        torch.tensor([[3, 4, 0], [2, 0, 0]]),
        torch.tensor([[2.0, 1.0, 0.0], [3.0, 0.0, 0.0]]),
    )
    target = torch.tensor([1, 2])
    found = softmax_loss(
        users, items, target=target, negatives=torch.tensor([7, 8]), weight=torch.ones(2),
        temperature=torch.tensor(0.5), passed=passed,
    ).item()  # fmt: skip
    score = (users @ items.T / 0.5).double()
    own = 2 * score[0, 3].exp() + score[0, 4].exp()  # the second row passed over its own target
    others = score[:, [7, 8]].exp().sum(1) + torch.stack([own, own * 0])
    right = score[[0, 1], target]
    expected = torch.log(right.exp() + others) - right
    assert found == pytest.approx(float(expected.mean()), rel=1e-4)


def planted() -> Interactions:
    """Users who click their kind; one item of each kind is shown to them, and passed over."""
    rng = np.random.default_rng(0)
    user, item, liked = [], [], []
    kind = rng.integers(0, 4, 60)
    for _ in range(12):
        for who in range(60):
            user += [who, who]
            item += [kind[who] * 5, kind[who] * 5 + rng.integers(1, 5)]
            liked += [False, True]
    known = np.arange(20)  # each item is clicked once by somebody, and so takes part
    return interactions(
        np.concatenate([np.full(20, 60), user]),
        np.concatenate([known, item]),
        items=20,
        positive=np.concatenate([np.ones(20, np.bool_), liked]),
        weight=np.where(np.concatenate([np.ones(20, np.bool_), liked]), 1.0, 0.1).astype("f4"),
    )


def pull(state: ModelState) -> float:
    """Mean score of an item that is passed over, for a user who clicked its like."""
    history = np.array([[k * 5 + 1, k * 5 + 2] for k in range(4)], np.int32)
    users = fold_in(state.items, state.recency, history, np.zeros((4, 2), np.int64))
    return float(np.mean([users[k] @ state.items[k * 5] for k in range(4)]))


def test_what_is_passed_over_is_pushed_away() -> None:
    config = ModelConfig(dim=8, context=4, half_lives=(4,), batch=128, rate=0.05)
    off = finetune(planted(), config=config, seed=1, threads=1).state
    pushed = config.model_copy(update={"negative_weight": 10.0})
    on = finetune(planted(), config=pushed, seed=1, threads=1).state
    assert pull(on) < pull(off) - 0.1
