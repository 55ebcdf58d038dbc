"""Where a series changed, and how sure that is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.change import difference, discoveries, split


@given(st.integers(2, 40), st.integers(2, 40), st.floats(0.5, 9.0))
def test_a_step_is_found_where_it_is(before: int, after: int, height: float) -> None:
    values = np.concatenate([np.zeros(before), np.full(after, height)])
    assert split(values) == before


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30))
def test_a_split_is_inside(values: list[float]) -> None:
    at = split(np.array(values))
    assert 0 <= at < len(values)


def test_chances_are_uniform_where_nothing_changed() -> None:
    rng = np.random.default_rng(0)
    chances = [difference(rng.standard_normal(60), 30) for _ in range(2_000)]
    assert np.mean(np.array(chances) < 0.05) == pytest.approx(0.05, abs=0.02)


def test_a_shift_has_no_chance_and_a_short_side_any() -> None:
    values = np.random.default_rng(1).standard_normal(60)
    values[30:] += 3
    assert difference(values, 30) < 1e-8
    assert difference(values, 59) == 1.0


def test_few_of_the_discoveries_are_false() -> None:
    rng = np.random.default_rng(2)
    false = []
    for _ in range(300):
        chances = np.concatenate([rng.random(40), rng.random(5) * 1e-6])
        stands = discoveries(chances.tolist(), 0.05)
        assert all(stands[40:])
        false.append(sum(stands[:40]) / max(sum(stands), 1))
    assert np.mean(false) < 0.05
    assert discoveries([], 0.05) == []
