"""Transport by mathematics, and against POT."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from model import kernels, transport
from model.costs import Given
from model.couplings import resume
from model.data import unit_rows
from model.errors import InvalidInput, TransportFailed
from model.transport import Start, by_kernel, pose
from tests.model.transport_answers import solve

with warnings.catch_warnings():
    # A docstring of POT's holds an escape that compiles with a warning.
    warnings.simplefilter("ignore")
    import ot

Floats = NDArray[np.float64]


def clouds(n: int, seed: int = 0, noise: float = 1.0) -> Floats:
    """1 − cos between a cloud and a noisy copy of it."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, 16)).astype(np.float32)
    s = z + noise * rng.standard_normal((n, 16)).astype(np.float32)
    cost: Floats = 1.0 - unit_rows(z).astype(np.float64) @ unit_rows(s).astype(np.float64).T
    return cost


def masses(n: int, seed: int) -> Floats:
    drawn = np.random.default_rng(seed).random(n) + 0.1
    shares: Floats = drawn / drawn.sum()
    return shares


def moved(cost: Floats, by: float, seed: int = 9) -> Floats:
    drift = np.random.default_rng(seed).standard_normal(cost.shape)
    later: Floats = cost + by * cost.std() * drift
    return later


@pytest.mark.parametrize("sharpness", [0.25, 0.5, 1.0])
def test_the_plan_is_that_of_pot(sharpness: float) -> None:
    cost, a, b = clouds(60)[:, :50], masses(60, 1), masses(50, 2)
    ours = solve(
        cost, sharpness=sharpness, source_mass=a, target_mass=b, tolerance=1e-11, limit=50_000
    )
    assert ours.converged
    assert ours.potentials.epsilon == pytest.approx(
        sharpness * Given(torch.from_numpy(cost)).spread()
    )
    theirs = ot.sinkhorn(
        a,
        b,
        cost,
        ours.potentials.epsilon,
        method="sinkhorn_log",
        stopThr=1e-13,
        numItermax=50_000,
    )
    np.testing.assert_allclose(ours.plan, theirs, atol=1e-9)
    assert ours.cost == pytest.approx(float((theirs * cost).sum()))


def test_a_sharp_plan_is_the_assignment() -> None:
    cost = clouds(40, noise=0.3)
    ours = solve(cost, sharpness=0.02, tolerance=1e-7, limit=50_000)
    _, columns = linear_sum_assignment(cost)
    np.testing.assert_array_equal(ours.plan.argmax(1), columns)
    uniform = np.full(40, 1 / 40)
    assert ours.cost == pytest.approx(float(ot.emd2(uniform, uniform, cost)), abs=1e-4)
    assert ours.perplexity == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("sharpness", [0.02, 0.5])
def test_marginals_fit_and_the_error_says_by_how_much(sharpness: float) -> None:
    a, b = masses(50, 3), masses(50, 4)
    ours = solve(clouds(50), sharpness=sharpness, source_mass=a, target_mass=b, limit=20)
    error = np.abs(ours.plan.sum(1) - a).sum() + np.abs(ours.plan.sum(0) - b).sum()
    assert ours.marginal_error == pytest.approx(error, rel=1e-6)
    assert ours.converged == (error <= 1e-6)
    assert ours.iterations <= 20


def test_the_plan_is_made_of_its_potentials() -> None:
    cost = clouds(30)
    ours = solve(cost, limit=7)
    kept = ours.potentials
    made = np.exp((kept.source[:, None] + kept.target - cost) / kept.epsilon) / 900
    np.testing.assert_allclose(made, ours.plan, rtol=1e-9)
    assert kept.target.mean() == pytest.approx(0, abs=1e-12)


def test_adding_to_rows_or_columns_and_scaling_change_no_plan() -> None:
    cost = clouds(40)
    rng = np.random.default_rng(1)
    shifted = 1e4 * (cost + 50 * rng.random((40, 1)) + 90 * rng.random(40))
    np.testing.assert_allclose(
        solve(shifted, tolerance=1e-10).plan, solve(cost, tolerance=1e-10).plan, atol=1e-9
    )


def test_far_potentials_are_absorbed_before_they_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = clouds(40)
    start = solve(cost).potentials
    rng = np.random.default_rng(0)
    lost = Start(torch.from_numpy(start.source), torch.from_numpy(rng.standard_normal(40) * 30))
    problem = pose(Given(torch.from_numpy(cost)))
    ours = transport.solve(problem, lost, tolerance=1e-9, solver=by_kernel)
    assert ours.converged
    expected = solve(cost, tolerance=1e-9).plan
    np.testing.assert_allclose(ours.plan().numpy(), expected, atol=1e-9)
    monkeypatch.setattr(kernels, "ABSORB", 0.01)
    np.testing.assert_allclose(solve(cost, tolerance=1e-9).plan, expected, atol=1e-9)


def test_a_restart_from_its_own_solution_takes_no_iteration() -> None:
    cost = clouds(80)
    cold = solve(cost)
    assert cold.iterations > 5
    again = solve(cost, start=cold.potentials)
    assert again.iterations <= 1
    assert solve(7 * cost, start=cold.potentials).iterations <= 1


def test_a_warm_start_saves_iterations_on_a_cost_that_has_moved_a_little() -> None:
    cost = clouds(200)
    start = solve(cost).potentials
    later = moved(cost, 0.01)
    warm, cold = (solve(later, start=s, tolerance=1e-3) for s in (start, None))
    assert warm.converged
    assert 2 * warm.iterations <= cold.iterations
    tight = solve(later, start=start, tolerance=1e-9)
    np.testing.assert_allclose(tight.plan, solve(later, tolerance=1e-9).plan, atol=1e-9)


def test_a_warm_start_follows_ids_through_churn() -> None:
    cost = clouds(220)
    first, second = np.arange(200), np.random.default_rng(2).permutation(np.arange(10, 220))
    start = solve(cost[:200, :200], source_ids=first, target_ids=first).potentials
    later = cost[np.ix_(second, second)]
    warm = solve(later, start=start, source_ids=second, target_ids=second, tolerance=1e-3)
    cold = solve(later, source_ids=second, target_ids=second, tolerance=1e-3)
    assert warm.iterations < cold.iterations
    # The same potentials on the wrong items are worth less.
    wrong = solve(later[:200, :200], start=start, tolerance=1e-3)
    assert wrong.iterations > warm.iterations


def test_a_start_of_others_is_a_cold_start() -> None:
    cost = clouds(50)
    start = solve(cost, source_ids=np.arange(50), target_ids=np.arange(50)).potentials
    ids = np.arange(100, 150)
    met = solve(cost, start=start, source_ids=ids, target_ids=ids)
    assert met.iterations == solve(cost).iterations
    none = np.zeros(0)
    empty = dict.fromkeys(("source", "target", "source_mass", "target_mass"), none)
    nobody = replace(start, source_ids=ids[:0], target_ids=ids[:0], **empty)
    assert solve(cost, start=nobody).iterations == solve(cost).iterations


def test_a_cost_that_prefers_nothing_gives_the_product() -> None:
    a, b = masses(4, 1), masses(3, 2)
    flat = np.arange(4.0)[:, None] + np.arange(3.0)
    ours = solve(flat, source_mass=a, target_mass=b, start=solve(flat).potentials)
    np.testing.assert_allclose(ours.plan, np.outer(a, b), atol=1e-7)


@pytest.mark.parametrize(
    ("cost", "rest", "said"),
    [
        (np.full((2, 2), np.nan), {}, "NaN"),
        (np.zeros((0, 2)), {}, "matrix"),
        (np.zeros(3), {}, "matrix"),
        (np.zeros((2, 2)), {"source_mass": np.array([0.5, 0.4])}, "source mass"),
        (np.zeros((2, 2)), {"target_mass": np.array([1.0, 0.0])}, "target mass"),
        (np.zeros((2, 2)), {"sharpness": 0.0}, "positive"),
    ],
)
def test_problems_without_an_answer_are_refused(
    cost: Floats, rest: dict[str, Any], said: str
) -> None:
    with pytest.raises(TransportFailed, match=said):
        solve(cost, **rest)


def test_ids_that_are_not_one_a_point_are_refused() -> None:
    with pytest.raises(InvalidInput, match="source ids"):
        resume(Given(torch.zeros(2, 2)), None, source_ids=np.array([1, 1]), target_ids=np.arange(2))
