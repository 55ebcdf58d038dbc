"""Transport where the numbers are hostile: scales, outliers, broken starts, and the dual."""

import warnings
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model import transport
from model.costs import Given
from model.errors import ModelError, TransportFailed
from model.kept_coupling import Floats
from model.transport import Start, by_kernel, pose
from tests.model.transport_answers import solve

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # POT's own source has an invalid escape sequence
    import ot

N = 40
UNIFORM = np.full(N, 1 / N)
SQUARE = np.arange(9.0).reshape(3, 3) ** 2


def clouds(seed: int, n: int = N, m: int = N) -> Floats:
    """Squared distances between two clouds."""
    rng = np.random.default_rng(seed)
    left, right = rng.standard_normal((n, 3)), 3 * rng.random((m, 3))
    return ((left[:, None, :] - right[None, :, :]) ** 2).sum(2)


def masses(seed: int, n: int) -> Floats:
    mass = np.random.default_rng(seed).random(n) + 0.1
    return mass / mass.sum()


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    exponent=st.floats(-8, 8),
    sharpness=st.floats(0.02, 5),
    seed=st.integers(0, 999),
)
def test_at_any_scale_the_plan_is_the_same_and_its_error_true(
    shape: tuple[int, int], exponent: float, sharpness: float, seed: int
) -> None:
    cost, a, b = clouds(seed, *shape), masses(seed, shape[0]), masses(seed + 1, shape[1])
    one = solve(cost, sharpness=sharpness, source_mass=a, target_mass=b, limit=50)
    other = solve(
        cost * 10.0**exponent, sharpness=sharpness, source_mass=a, target_mass=b, limit=50
    )
    np.testing.assert_allclose(one.plan, other.plan, atol=1e-5)
    error = np.abs(one.plan.sum(1) - a).sum() + np.abs(one.plan.sum(0) - b).sum()
    assert one.marginal_error == pytest.approx(float(error), abs=1e-12)
    assert one.converged == (one.marginal_error <= 1e-6)
    assert one.plan.sum() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("exponent", [-150, -12, 12, 150])
def test_extremes_of_scale(exponent: int) -> None:
    cost = clouds(1)
    solved = solve(cost * 10.0**exponent)
    assert solved.converged
    np.testing.assert_allclose(solved.plan, solve(cost).plan, atol=1e-8)


def test_what_underflows_elsewhere_keeps_its_mass_here() -> None:
    # The published code's setting: exp(-C/ε) at cost x 100, ε = .01, float32 is 0 nearly all over.
    cost = clouds(2) * 100
    kernel = np.exp(-cost.astype(np.float32) / np.float32(0.01))
    assert (kernel == 0).mean() > 0.95
    solved = solve(cost, epsilon=0.01, tolerance=1e-3, limit=200)
    assert solved.plan.sum() == pytest.approx(1.0, abs=1e-9)
    np.testing.assert_allclose(solved.plan.sum(1), UNIFORM, rtol=1e-6)
    # That so small an ε was not enough is said, and an ε relative to the cost converges.
    error = np.abs(solved.plan.sum(0) - UNIFORM).sum() + np.abs(solved.plan.sum(1) - UNIFORM).sum()
    assert not solved.converged
    assert error > 1e-3
    assert solve(cost).converged


def test_outliers_far_beyond_the_exponential() -> None:
    cost = clouds(3)
    cost[3] += 1e7
    cost[:, 5] += 1e7
    cost[3, 5] = 0.0
    solved = solve(cost, epsilon=0.5, tolerance=1e-9, limit=5000)
    assert solved.converged
    expected = ot.sinkhorn(UNIFORM, UNIFORM, cost, 0.5, method="sinkhorn_log", stopThr=1e-12)
    np.testing.assert_allclose(solved.plan, expected, atol=1e-7)


def test_a_start_that_is_far_off_is_absorbed() -> None:
    cost, rng = clouds(4), np.random.default_rng(5)
    first = solve(cost)
    far = Start(
        torch.from_numpy(first.potentials.source + 1e4 * rng.random(N)),
        torch.from_numpy(first.potentials.target + 1e4 * rng.random(N)),
    )
    problem = pose(Given(torch.from_numpy(cost)))
    solved = transport.solve(problem, far, limit=20_000, solver=by_kernel)
    assert solved.converged
    np.testing.assert_allclose(solved.plan().numpy(), first.plan, atol=1e-7)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_start_that_is_not_finite_is_refused(side: str) -> None:
    broken = replace(solve(SQUARE).potentials, **cast(Any, {side: np.array([0.0, np.nan, 0.0])}))
    with pytest.raises(TransportFailed, match=f"the {side} potentials") as caught:
        solve(SQUARE, start=broken)
    assert isinstance(caught.value, ModelError)


def test_a_start_from_a_flat_problem_is_a_cold_one() -> None:
    cost = clouds(6)
    flat = solve(np.ones((N, N))).potentials
    assert solve(cost, start=flat).iterations == solve(cost).iterations


@pytest.mark.parametrize("value", [0.0, 3.0, -1e9, 1e18])
def test_without_interaction_rows_and_columns_are_independent(value: float) -> None:
    rng = np.random.default_rng(7)
    cost = value * (np.ones((5, 6)) + rng.random((5, 1)))
    a, b = masses(8, 5), masses(9, 6)
    solved = solve(cost, source_mass=a, target_mass=b)
    assert solved.converged
    np.testing.assert_allclose(solved.plan, np.outer(a, b), rtol=1e-5)


def test_the_dual_value_is_the_primal_one() -> None:
    cost, a, b = clouds(10), masses(11, N), masses(12, N)
    solved = solve(cost, source_mass=a, target_mass=b, tolerance=1e-11)
    entropy = (solved.plan * np.log(solved.plan / np.outer(a, b))).sum()
    primal = solved.cost + solved.potentials.epsilon * float(entropy)
    assert solved.dual == pytest.approx(primal, rel=1e-9)


def test_the_cost_lies_between_the_exact_and_the_independent_one() -> None:
    cost, a, b = clouds(13), masses(14, N), masses(15, N)
    costs = [
        solve(cost, sharpness=s, source_mass=a, target_mass=b).cost for s in (0.05, 0.25, 1.0, 50.0)
    ]
    independent = float(a @ cost @ b)
    assert float(ot.emd2(a, b, cost)) < costs[0] < costs[1] < costs[2] < costs[3] < independent
    assert costs[3] == pytest.approx(independent, rel=1e-2)


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan, np.inf])
def test_a_regularisation_that_is_no_positive_number_is_refused(wrong: float) -> None:
    for arguments in ({"sharpness": wrong}, {"epsilon": wrong}):
        with pytest.raises(TransportFailed, match="positive numbers"):
            solve(SQUARE, **arguments)


def test_nothing_is_changed_in_place() -> None:
    cost = clouds(16)
    kept, start = cost.copy(), solve(cost).potentials
    source = start.source.copy()
    solve(cost * 2, start=start)
    np.testing.assert_array_equal(cost, kept)
    np.testing.assert_array_equal(start.source, source)


def test_newcomers_begin_where_those_who_stayed_put_them() -> None:
    rng = np.random.default_rng(17)
    cost = clouds(18, 110, 110) + 60 * rng.random(110)
    then, now = np.arange(100), np.arange(10, 110)
    before = solve(cost[:100, :100], source_ids=then, target_ids=then).potentials
    # The unit of the cost has changed too.
    later = 1000 * cost[10:, 10:]
    met = solve(later, start=before, source_ids=now, target_ids=now, limit=0)
    cold = solve(later, source_ids=now, target_ids=now, limit=0)
    # .40 against 1.85; 1.8 or more where newcomers or the change of unit are left out.
    assert met.marginal_error < 0.3 * cold.marginal_error
