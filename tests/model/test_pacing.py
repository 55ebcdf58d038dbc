"""The controller against days of traffic: smooth, surprising and hostile ones."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.pacing import START, Pace, begin, new_day, progress_of, step

STEPS = 1_440  # a minute each
BUDGET = 1_000.0


def shaped(seed: int = 0) -> NDArray[np.float64]:
    """Traffic of a day with a night and two peaks, a share of the whole in each minute."""
    at = np.arange(STEPS) / STEPS
    peaks = 0.15 + np.exp(-(((at - 0.4) / 0.1) ** 2)) + 2 * np.exp(-(((at - 0.85) / 0.06) ** 2))
    noise = np.random.default_rng(seed).uniform(0.8, 1.2, STEPS)
    return np.asarray(peaks * noise / (peaks * noise).sum(), np.float64)


@dataclass
class Day:
    """What came of a day: after each step spend, and the share taken part in during it."""

    spent: NDArray[np.float64]
    multiplier: NDArray[np.float64]
    last: Pace
    biggest: float  # spend of any ``lag + 1`` steps in a row


def run(
    traffic: NDArray[np.float64],
    forecast: NDArray[np.float64],
    cost: float,
    *,
    lag: int = 0,
    pace: Pace | None = None,
    noise: np.random.Generator | None = None,
) -> Day:
    """Play a day of which all traffic would cost ``cost`` budgets; p takes ``lag`` steps to act."""
    pace = begin(BUDGET, 0.0, 0.0) if pace is None else step(new_day(pace), BUDGET, 0.0, 0.0)
    acting = [pace.multiplier] * (lag + 1)
    spent, spends, multipliers = 0.0, [], []
    for at, share in enumerate(traffic.tolist()):
        spend = acting[0] * share * cost * BUDGET
        if noise is not None:
            spend = float(noise.poisson(spend))
        spent += spend
        spends.append(spend)
        multipliers.append(acting[0])
        pace = step(pace, BUDGET, spent, progress_of(forecast, (at + 1) / len(traffic)))
        acting = [*acting[1:], pace.multiplier]
    window = np.convolve(spends, np.ones(lag + 1))
    return Day(np.cumsum(spends), np.array(multipliers), pace, float(window.max()))


@pytest.mark.parametrize("cost", [1.5, 5.0, 40.0, 300.0])
def test_a_day_s_budget_is_spent_whole_and_along_the_forecast(cost: float) -> None:
    forecast = shaped()
    day = run(shaped(1), forecast, cost)
    assert day.spent[-1] == pytest.approx(BUDGET, rel=0.01)
    behind = np.abs(day.spent / BUDGET - np.cumsum(forecast))
    assert behind.max() < 0.05


def test_it_follows_the_forecast_and_not_the_clock() -> None:
    forecast = shaped()
    day = run(forecast, forecast, 20.0)
    even = np.arange(1, STEPS + 1) / STEPS
    assert np.abs(day.spent / BUDGET - np.cumsum(forecast)).max() < 0.03
    assert np.abs(day.spent / BUDGET - even).max() > 0.15


def test_single_charges_that_come_at_random_are_paced_too() -> None:
    day = run(shaped(1), shaped(), 20.0, noise=np.random.default_rng(3))
    assert day.spent[-1] == pytest.approx(BUDGET, rel=0.01)


def test_without_a_forecast_the_budget_is_still_spent() -> None:
    day = run(shaped(), np.ones(288), 20.0)
    assert day.spent[-1] == pytest.approx(BUDGET, rel=0.01)


def test_what_cannot_be_spent_takes_part_in_everything() -> None:
    day = run(shaped(), shaped(), 0.5)
    assert day.last.multiplier == 1.0
    assert day.spent[-1] > 0.48 * BUDGET


def test_the_second_day_begins_where_the_first_ended() -> None:
    first = run(shaped(1), shaped(), 40.0)
    second = run(shaped(2), shaped(), 40.0, pace=first.last)
    settled = float(np.median(first.multiplier[300:]))
    assert second.multiplier[1] == pytest.approx(settled, rel=0.35)
    assert second.spent[-1] == pytest.approx(BUDGET, rel=0.01)


@pytest.mark.parametrize(("factor", "begins"), [(10.0, 400), (0.0, 500), (20.0, 1_000)])
def test_it_recovers_from_a_shock(factor: float, begins: int) -> None:
    traffic = shaped(1)
    traffic[begins : begins + 30] *= factor
    day = run(traffic, shaped(), 20.0)
    assert day.spent[-1] == pytest.approx(BUDGET, rel=0.01)
    # Two hours of traffic later what is left is spent at an even rate again.
    after = begins + 200
    rest = (day.spent[after:] - day.spent[after]) / (day.spent[-1] - day.spent[after])
    to_come = np.cumsum(shaped()[after:]) / shaped()[after:].sum()
    assert np.abs(rest - to_come).max() < 0.05


def test_under_steady_traffic_it_does_not_oscillate() -> None:
    even = np.full(STEPS, 1 / STEPS)
    day = run(even, np.ones(288), 20.0)
    settled = day.multiplier[STEPS // 4 : -60]
    assert np.abs(settled / (1 / 20) - 1).max() < 0.05
    turns = np.abs(np.diff(np.log(settled))).sum()
    assert turns < 0.1, "the log of the multiplier travels no more than that in eighteen hours"


@given(
    traffic=st.lists(st.floats(0, 50), min_size=3, max_size=80),
    forecast=st.lists(st.floats(0, 10), min_size=1, max_size=12),
    cost=st.floats(0.01, 1e4),
    lag=st.integers(0, 3),
)
@settings(max_examples=200, deadline=None)
def test_it_never_spends_more_than_the_budget_and_what_was_on_its_way(
    traffic: list[float], forecast: list[float], cost: float, lag: int
) -> None:
    day = run(np.array(traffic) / 50, np.array(forecast), cost, lag=lag)
    assert day.spent[-1] <= BUDGET + day.biggest + 1e-6
    assert ((day.multiplier >= 0) & (day.multiplier <= 1)).all()
    over = np.flatnonzero(day.spent >= BUDGET)
    if len(over):
        assert not day.multiplier[over[0] + lag + 1 :].any(), "0 as soon as it can act"


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1e9)), min_size=1, max_size=30),
    st.floats(0, 1e6),
)
@settings(max_examples=200, deadline=None)
def test_whatever_it_is_told_it_stays_within_0_and_1(
    told: list[tuple[float, float]], budget: float
) -> None:
    pace = begin(budget, 0.0, told[0][0])
    for progress, spent in told:
        pace = step(pace, budget, spent, progress)
        assert 0 <= pace.multiplier <= 1
        assert math.isfinite(pace.taken) and math.isfinite(pace.cost)
        assert pace.multiplier == 0 or spent < budget


def test_a_campaign_of_which_nothing_is_known_begins_slowly() -> None:
    assert begin(BUDGET, 0.0, 0.3).multiplier == START
    assert begin(BUDGET, BUDGET, 0.3).multiplier == 0.0
    after = step(begin(BUDGET, 0.0, 0.0), BUDGET, 0.0, 0.2)
    assert after.multiplier == 1.0, "what costs nothing for so long may take part in all"


@pytest.mark.parametrize(
    ("shares", "at", "expected"),
    [
        ([1, 1], 0.25, 0.25),
        ([1, 3], 0.5, 0.25),
        ([1, 3], 0.75, 0.625),
        ([0, 0], 0.4, 0.4),
        ([0, 2, 0], 0.9, 1.0),
        ([1, 1], 1.0, 1.0),
        ([1, 1], -1.0, 0.0),
    ],
)
def test_progress_is_the_share_of_traffic_gone_by(
    shares: list[float], at: float, expected: float
) -> None:
    assert progress_of(np.array(shares, np.float64), at) == pytest.approx(expected)
