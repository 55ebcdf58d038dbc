"""The propensities that are logged are those with which items are shown."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.exploration import explore

ROUNDS = 40_000


@pytest.mark.parametrize(("k", "m"), [(4, 6), (5, 3), (3, 1)])
def test_frequencies_are_the_propensities(k: int, m: int) -> None:
    own, further = [f"own{n}" for n in range(k)], [f"further{n}" for n in range(m)]
    rng, epsilon = np.random.default_rng(5), 0.3
    shown: Counter[tuple[int, str]] = Counter()
    said: dict[tuple[int, str], float] = {}
    for _ in range(ROUNDS):
        for place, slot in enumerate(explore(own, further, epsilon, rng)):
            shown[place, slot.shown] += 1
            said.setdefault((place, slot.shown), slot.propensity)
            assert said[place, slot.shown] == slot.propensity
    for what, propensity in said.items():
        noise = np.sqrt(propensity * (1 - propensity) / ROUNDS)
        assert abs(shown[what] / ROUNDS - propensity) <= 4.5 * noise, what
    able = min(k, m)
    assert len(said) == k + able * m  # everything that could happen did
    for place in range(k):
        total = sum(p for (where, _), p in said.items() if where == place)
        assert total == pytest.approx(1.0)


@given(st.integers(0, 8), st.integers(0, 8), st.floats(0, 0.5), st.integers(0, 1_000))
def test_a_list_stays_whole_and_holds_nothing_twice(
    k: int, m: int, epsilon: float, seed: int
) -> None:
    own, further = [f"own{n}" for n in range(k)], [f"further{n}" for n in range(m)]
    slots = explore(own, further, epsilon, np.random.default_rng(seed))
    ids = [slot.shown for slot in slots]
    assert len(set(ids)) == len(ids) == k
    assert all(0 < slot.propensity <= 1 for slot in slots)
    assert all(slot.explored == (slot.shown in further) for slot in slots)
    if epsilon == 0:
        assert ids == own and {slot.propensity for slot in slots} <= {1.0}
