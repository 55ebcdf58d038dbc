"""What popularity added to a score in the past, and that the cosine leaves it to it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import trend as module
from model.config import ModelConfig
from model.data import interactions
from model.fold_in import fold_in
from model.state import ModelState
from model.trainer import finetune
from model.trend import trend


@given(
    items=st.lists(st.integers(0, 4), min_size=1, max_size=40),
    half_life=st.floats(0.5, 30),
    seed=st.integers(0, 9),
)
def test_an_event_sees_what_came_before_it_and_no_more(
    items: list[int], half_life: float, seed: int
) -> None:
    item = np.array(items)
    user = np.random.default_rng(seed).integers(0, 3, len(item))
    data = interactions(user, item, items=5, users=3)
    found = trend(data, weight=0.5, half_life=half_life, floor=0.5)
    added = found.of(np.arange(len(data)), np.arange(5))
    edges = np.linspace(0, len(item), len(found.added) + 1).astype(int)
    for row, sequence in enumerate(data.sequence.tolist()):
        seen = int(edges[edges <= sequence].max())
        ages = seen - 1 - np.arange(seen)
        counts = np.bincount(item[:seen], 0.5 ** (ages / half_life), 5)
        np.testing.assert_allclose(added[row], 0.5 * np.log(counts + 0.5), rtol=1e-5, atol=1e-6)
        assert sequence - seen <= max(half_life / 8, 1)


def test_many_items_are_seen_at_fewer_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CELLS", 60)
    data = interactions(np.zeros(50, np.int64), np.arange(50) % 20, items=20)
    found = trend(data, weight=1.0, half_life=1.0, floor=0.5)
    assert found.added.shape == (3, 20)
    assert np.bincount(found.moment).tolist() == [16, 17, 17]


def test_sequences_with_gaps_count_as_events() -> None:
    user, item = np.zeros(30, np.int64), np.arange(30) % 4
    plain = interactions(user, item, items=4)
    gaps = interactions(user, item, items=4, sequence=7 + 1000 * np.arange(30))
    one, other = (trend(data, weight=1.0, half_life=5.0, floor=0.5) for data in (plain, gaps))
    np.testing.assert_array_equal(one.added, other.added)
    np.testing.assert_array_equal(one.moment, other.moment)


def fashions() -> tuple[np.ndarray, np.ndarray]:
    """Users without tastes, who follow what is in fashion: three items of sixty at a time."""
    rng = np.random.default_rng(1)
    epoch = np.arange(6000) // 1000
    fashion = np.array([rng.choice(60, 3, replace=False) for _ in range(6)])
    item = np.where(
        rng.random(6000) < 0.7,
        fashion[epoch, rng.integers(0, 3, 6000)],
        rng.integers(0, 60, 6000),
    )
    return rng.integers(0, 200, 6000), item


def spread(state: ModelState, last: np.ndarray) -> float:
    """Deviation of a user's cosines over all items, mean over the users."""
    history = last[:, ::-1].astype(np.int32)
    users = fold_in(state.items, state.recency, history, np.zeros(history.shape, np.int64))
    return float((users @ state.items.T).std(axis=1).mean())


def test_fashion_is_left_to_the_popularity_term() -> None:
    user, item = fashions()
    data = interactions(user, item, items=60)
    last = np.stack([data.item[stop - 10 : stop] for stop in data.indptr[1:]])
    common = {
        "dim": 16,
        "half_lives": (5.0,),
        "context": 10,
        "batch": 128,
        "popularity_weight": 0.12,
        "popularity_half_life": 300.0,
        "temperature_learned": False,
    }
    apart = {
        learned: spread(
            finetune(
                data,
                config=ModelConfig.model_validate({**common, "popularity_learned": learned}),
                seed=0,
                threads=1,
            ).state,
            last,
        )
        for learned in (False, True)
    }
    assert apart[True] < 0.75 * apart[False], apart


def test_a_term_of_weight_nothing_changes_nothing() -> None:
    user, item = fashions()
    data = interactions(user[:600], item[:600], items=60)
    states = [
        finetune(
            data,
            config=ModelConfig(dim=8, half_lives=(5.0,), popularity_weight=0.0, **switch),
            seed=0,
            threads=1,
        ).state
        for switch in ({}, {"popularity_learned": False})
    ]
    np.testing.assert_array_equal(states[0].items, states[1].items)
