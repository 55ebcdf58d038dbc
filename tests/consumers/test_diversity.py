"""MMR against its formula, and caps."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.diversity import capped, mmr, spare
from consumers.serving_rules import Entry, Facts


def naive(scores: np.ndarray, vectors: np.ndarray, k: int, relevance: float) -> list[int]:
    """The formula, word for word."""
    spread = (scores.max() - scores.min()) or 1.0
    worth = (scores - scores.min()) / spread

    def alike(a: int, b: int) -> float:
        lengths = float(np.linalg.norm(vectors[a]) * np.linalg.norm(vectors[b]))
        return float(vectors[a] @ vectors[b]) / lengths if lengths else 0.0

    chosen: list[int] = []
    while len(chosen) < min(k, len(scores)):
        left = [n for n in range(len(scores)) if n not in chosen]
        value = {
            n: relevance * worth[n]
            - (1 - relevance) * max((alike(n, c) for c in chosen), default=0.0)
            for n in left
        }
        chosen.append(max(left, key=lambda n: value[n]))
    return chosen


@pytest.mark.parametrize("relevance", [0.0, 0.3, 0.7, 1.0])
def test_it_is_what_the_formula_says(relevance: float) -> None:
    rng = np.random.default_rng(3)
    for n in (1, 2, 30):
        scores, vectors = rng.normal(size=n), rng.normal(size=(n, 5)).astype(np.float32)
        assert mmr(scores, vectors, 12, relevance) == naive(scores, vectors, 12, relevance)


def test_relevance_of_one_keeps_the_order_and_a_twin_comes_last() -> None:
    scores = np.array([3.0, 2.9, 1.0])
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert mmr(scores, vectors, 3, 1.0) == [0, 1, 2]
    assert mmr(scores, vectors, 3, 0.4) == [0, 2, 1]
    assert mmr(np.zeros(0), np.zeros((0, 2), np.float32), 3, 0.5) == []


pools = st.lists(st.lists(st.sampled_from("abc"), max_size=3), max_size=20).map(
    lambda all_: [
        Entry(f"i{n}", -n, -n, Facts(categories=tuple(names))) for n, names in enumerate(all_)
    ]
)


def most(pool: list[Entry]) -> int:
    counts = Counter(name for e in pool for name in set(e.facts.categories))
    return max(counts.values(), default=0)


@given(pools, st.integers(1, 4), st.integers(0, 6))
def test_no_category_is_over_its_cap_whatever_else_is_shown(
    pool: list[Entry], cap: int, k: int
) -> None:
    own = capped(pool, cap)[:k]
    assert most(own) <= cap
    further = spare(own, [entry for entry in pool if entry not in own], cap)
    assert most(own + further) <= max(cap, 0)
    assert all(entry in own + further for entry in pool if not entry.facts.categories)
