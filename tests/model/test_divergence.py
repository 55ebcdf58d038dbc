"""Losses: their gradients against finite differences and unrolling, and what debiasing is for."""

import importlib
import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from model.costs import cosine, l2, squared_l2
from model.divergence import (
    Pairing,
    divergence,
    exact,
    self_value,
    sliced_wasserstein,
    transport_value,
)
from model.errors import TransportFailed
from model.transport import by_newton, pose, solve

with warnings.catch_warnings():
    # A docstring of POT's holds an escape that compiles with a warning; `exact` imports it.
    warnings.simplefilter("ignore")
    importlib.import_module("ot")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def points(n: int, m: int) -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, generator=made, dtype=torch.float64)
    return x, torch.randn(m, 3, generator=made, dtype=torch.float64) + 0.5


def unrolled(x: Tensor, y: Tensor, epsilon: float) -> Tensor:
    cost = torch.cdist(x, y) ** 2
    g = torch.zeros(len(y), dtype=x.dtype)
    f = torch.zeros(len(x), dtype=x.dtype)
    for _ in range(300):
        f = -epsilon * ((g - cost) / epsilon - np.log(len(y))).logsumexp(1)
        g = -epsilon * ((f[:, None] - cost) / epsilon - np.log(len(x))).logsumexp(0)
    return f.mean() + g.mean()


@pytest.mark.parametrize("pairing", [squared_l2, l2, cosine])
@pytest.mark.parametrize("loss", [transport_value, divergence])
def test_the_gradient_is_that_of_finite_differences(loss, pairing: Pairing) -> None:
    x, y = (t.requires_grad_() for t in points(6, 5))

    def value(left: Tensor, right: Tensor) -> Tensor:
        return loss(left, right, epsilon=0.5, pairing=pairing, tolerance=1e-12)

    assert torch.autograd.gradcheck(value, (x, y), eps=1e-5, atol=1e-6)


def test_the_gradient_is_that_of_unrolling() -> None:
    x, y = (t.requires_grad_() for t in points(30, 20))
    through = torch.autograd.grad(unrolled(x, y, 1.0), (x, y))
    ours = torch.autograd.grad(3 * transport_value(x, y, epsilon=1.0, tolerance=1e-10), (x, y))
    for mine, theirs in zip(ours, through, strict=True):
        torch.testing.assert_close(mine, 3 * theirs, rtol=1e-6, atol=1e-9)


def test_unbalanced_values_have_the_plan_as_gradient_too() -> None:
    x, y = (t.requires_grad_() for t in points(6, 5))

    def value(left: Tensor, right: Tensor) -> Tensor:
        return transport_value(left, right, epsilon=0.5, relaxation=(0.7, 2.0), tolerance=1e-12)

    assert torch.autograd.gradcheck(value, (x, y), eps=1e-5, atol=1e-6)


def test_a_coupling_at_hand_is_used() -> None:
    x, y = points(6, 5)
    coupling = solve(pose(squared_l2(x, y), epsilon=0.5), tolerance=1e-10)
    assert float(transport_value(x, y, epsilon=0.5, coupling=coupling)) == coupling.dual


def test_a_value_that_is_none_is_refused() -> None:
    x, y = points(40, 40)
    with pytest.raises(TransportFailed, match="raise epsilon"):
        transport_value(x * 1e4, y, epsilon=1e-9)


def test_debiasing_keeps_the_variance_that_the_plain_value_collapses() -> None:
    # Fails when the self terms are left out: the fitted cloud then shrinks to its mean.
    y = points(1, 60)[1]
    epsilon = 0.5 * float(squared_l2(y, y).dense().mean())
    widths = []
    for loss in (divergence, transport_value):
        x = (0.3 * points(60, 1)[0]).requires_grad_()
        for _ in range(60):
            (slope,) = torch.autograd.grad(loss(x, y, epsilon=epsilon, tolerance=1e-7), x)
            x = (x - 60 * 0.25 * slope).detach().requires_grad_()
        widths.append(float(x.detach().var(0).sum() / y.var(0).sum()))
    assert widths[0] > 0.85
    assert widths[1] < 0.35


def test_the_divergence_of_equal_clouds_is_nothing_and_of_others_positive() -> None:
    x, y = points(30, 20)
    assert float(divergence(x, x[torch.randperm(30)], epsilon=1.0)) == pytest.approx(0, abs=1e-6)
    assert float(divergence(x, y, epsilon=1.0)) > 0.05
    for_newton = solve(pose(squared_l2(x, x), epsilon=1.0), solver=by_newton, tolerance=1e-11).dual
    problem = pose(squared_l2(x, x), epsilon=1.0)
    assert self_value(problem, tolerance=1e-11, limit=500) == pytest.approx(for_newton, rel=1e-9)


def test_sliced_wasserstein_on_a_line_is_the_exact_one() -> None:
    made = torch.Generator().manual_seed(1)
    for n, m in ((40, 40), (30, 42)):
        x, y = (torch.randn(k, 1, generator=made, dtype=torch.float64) for k in (n, m))
        problem = pose(squared_l2(x, y), epsilon=1.0)
        plan = exact(problem)
        expected = float((plan * problem.cost.dense()).sum())
        found = sliced_wasserstein(x, y, directions=3, generator=made)
        assert float(found) == pytest.approx(expected, rel=1e-9)


def test_sliced_wasserstein_of_a_shift_is_its_square_by_the_dimension() -> None:
    made = torch.Generator().manual_seed(1)
    x = points(50, 1)[0].requires_grad_()
    shift = torch.tensor([3.0, 0.0, 0.0], dtype=torch.float64)
    found = sliced_wasserstein(x, x.detach() + shift, directions=4000, generator=made)
    assert float(found.detach()) == pytest.approx(3.0, rel=0.05)
    (slope,) = torch.autograd.grad(found, x)
    torch.testing.assert_close(slope.sum(0), -2 * shift / 3, rtol=0.1, atol=0.1)


def test_the_exact_plan_is_the_assignment() -> None:
    x, y = points(25, 25)
    problem = pose(squared_l2(x, y), epsilon=1.0)
    _, columns = linear_sum_assignment(problem.cost.dense().numpy())
    np.testing.assert_array_equal(exact(problem).argmax(1).numpy(), columns)
    with pytest.raises(TransportFailed, match="balanced"):
        exact(pose(problem.cost, relaxation=(1.0, 1.0)))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [3, 64, 800])
def test_points_that_coincide_are_at_no_distance_and_pull_at_nothing(
    kind: torch.dtype, k: int
) -> None:
    x = torch.randn(40, k, dtype=kind, requires_grad=True)
    twice = l2(x, x).dense()
    assert float(twice.detach().diagonal().max()) < 1e-15
    (slope,) = torch.autograd.grad(twice.diagonal().sum(), x)
    assert float(slope.abs().max()) == 0.0
    away = l2(x, x.detach() + 1.0).dense().diagonal()
    torch.testing.assert_close(away, torch.full((40,), k**0.5, dtype=kind), rtol=1e-3, atol=0)
