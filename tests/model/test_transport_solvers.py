"""Solvers against each other, against POT, and against the optimality conditions."""

import math

import pytest
import torch
from torch import Tensor

from model import curvature as curvatures
from model import newton, sinkhorn, transport
from model.costs import Cost, Given, cosine, l2, squared_l2, tiles
from model.curvature import Curvature, curvature
from model.dimensions import carry, dimension_cost
from model.errors import TransportFailed
from model.kernels import Absorbed, Streamed, soft_rows
from model.sinkhorn import Terms, iterate
from model.transport import Solver, Start, by_kernel, by_newton, by_stream, choose, pose, solve

SOLVERS = (by_kernel, by_stream, by_newton)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def points(n: int, m: int, *, seed: int = 0, kind: torch.dtype = torch.float64) -> list[Tensor]:
    made = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 8, generator=made, dtype=torch.float64)
    y = torch.randn(m, 8, generator=made, dtype=torch.float64) * 0.8 + 0.3
    return [x.to(kind), y.to(kind)]


def costs(kind: torch.dtype = torch.float64) -> list[Cost]:
    x, y = points(60, 50, kind=kind)
    return [squared_l2(x, y), l2(x, y), cosine(x, y), Given(torch.cdist(x, y) ** 1.5)]


def test_costs_are_their_formulas() -> None:
    x, y = points(60, 50)
    found = [c.dense() for c in costs()[:3]]
    unit = [torch.nn.functional.normalize(t, dim=1) for t in (x, y)]
    for made, expected in zip(
        found, (torch.cdist(x, y) ** 2, torch.cdist(x, y), 1 - unit[0] @ unit[1].T), strict=True
    ):
        torch.testing.assert_close(made, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("which", range(4))
def test_a_cost_in_pieces_is_the_cost(which: int) -> None:
    cost = costs()[which]
    whole = cost.dense()
    left, right = torch.randn(60).double(), torch.randn(50).double()
    expected = left[:, None] + right - whole / 0.3
    torch.testing.assert_close(cost.exponent(left, right, 0.3), expected)
    torch.testing.assert_close(cost.transposed().dense(), whole.T)
    for at, to in tiles(60, 50, 17):
        torch.testing.assert_close(cost.take(at, to).dense(), whole[at, to])
    centred = whole - whole.mean(0) - whole.mean(1, keepdim=True) + whole.mean()
    assert cost.spread() == pytest.approx(float(centred.std(correction=0)), rel=1e-9)


def test_points_without_variance_have_no_spread() -> None:
    for kind in (torch.float32, torch.float64):
        x = torch.full((9, 4), 1.1, dtype=kind)
        assert cosine(x, x).spread() == squared_l2(x, x).spread() == 0.0
    assert Given(torch.zeros(2, 3)).spread() == 0.0


@pytest.mark.parametrize("which", range(4))
def test_all_solvers_find_the_same_plan(which: int) -> None:
    problem = pose(costs()[which])
    plans = [solve(problem, tolerance=1e-10, solver=s).plan() for s in SOLVERS]
    for plan in plans[1:]:
        torch.testing.assert_close(plan, plans[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("which", range(3))
def test_float32_is_float64_to_its_precision(which: int, solver: Solver) -> None:
    found, reference = (
        solve(pose(costs(kind)[which], epsilon=0.3), solver=solver)
        for kind in (torch.float32, torch.float64)
    )
    assert found.converged
    assert found.dual == pytest.approx(reference.dual, rel=1e-5)
    assert float((found.plan() - reference.plan()).abs().sum()) < 2e-5
    # The error that is stated is that of the plan in float64, to float32's precision.
    exact = transport.Coupling(
        reference.problem, found.source, found.target, 0, 0.0, converged=True, contraction=0.0
    )
    off = (exact.row_mass - exact.problem.a).abs().sum()
    off += (exact.column_mass - exact.problem.b).abs().sum()
    assert float(off) < 1e-5


def test_the_plan_is_applied_as_if_it_were_built() -> None:
    x, y = points(60, 50)
    found = solve(pose(squared_l2(x, y)), tolerance=1e-9)
    plan = found.plan()
    torch.testing.assert_close(found.apply(y), plan @ y)
    torch.testing.assert_close(found.apply_transposed(x), plan.T @ x)
    torch.testing.assert_close(found.barycentric(y), plan @ y * 60, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(found.row_mass, plan.sum(1))
    torch.testing.assert_close(found.column_mass, plan.sum(0))
    assert found.cost == pytest.approx(float((plan * found.problem.cost.dense()).sum()))
    rows = plan / plan.sum(1, keepdim=True)
    entropy = -(plan * rows.log()).sum()
    assert found.perplexity == pytest.approx(math.exp(float(entropy)), rel=1e-9)


def test_rotating_or_moving_both_clouds_and_reordering_them_changes_nothing() -> None:
    x, y = points(60, 50)
    plan = solve(pose(squared_l2(x, y)), tolerance=1e-11).plan()
    turn = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64)).Q
    moved = solve(pose(squared_l2(x @ turn + 100, y @ turn + 100)), tolerance=1e-11).plan()
    torch.testing.assert_close(moved, plan, rtol=0, atol=1e-9)
    order = torch.randperm(60)
    mixed = solve(pose(squared_l2(x[order], y)), tolerance=1e-11).plan()
    torch.testing.assert_close(mixed, plan[order], rtol=0, atol=1e-10)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_restart_takes_at_most_one_iteration(solver: Solver) -> None:
    for cost in costs():
        first = solve(pose(cost), solver=solver)
        assert first.iterations > 1
        assert solve(first.problem, first.potentials, solver=solver).iterations <= 1


def test_over_relaxation_pays_and_the_contraction_is_the_second_singular_value() -> None:
    problem = pose(squared_l2(*points(60, 50)), sharpness=0.5)
    found = solve(problem, solver=by_kernel, tolerance=1e-10)
    plan = found.plan() / (found.row_mass[:, None] * found.column_mass).sqrt()
    second = float(torch.linalg.svdvals(plan)[1]) ** 2
    assert found.contraction == pytest.approx(second, abs=0.02)
    zero = torch.zeros(60), torch.zeros(50)
    paced = solve(problem, Start(*zero, second), solver=by_kernel, tolerance=1e-10)
    plain = math.log(1e-10) / math.log(second)
    assert paced.iterations < 0.6 * plain


def test_a_pace_that_does_not_suit_is_given_up() -> None:
    problem = pose(squared_l2(*points(60, 50)), sharpness=2.0)
    zero = torch.zeros(60), torch.zeros(50)
    assert solve(problem, Start(*zero, 0.985), solver=by_kernel).converged


def test_where_sinkhorn_is_slow_anderson_and_newton_are_not() -> None:
    problem = pose(squared_l2(*points(60, 50)), sharpness=0.01)
    found = solve(problem, solver=by_kernel)
    assert found.contraction > 0.99
    assert found.converged
    # Plain Sinkhorn from here would need log(1e-6)/log(η) > 1400.
    assert found.iterations < 1000
    assert solve(problem, solver=by_newton).iterations < 30


@pytest.mark.parametrize("relaxation", [(0.5, 2.0), (1.0, math.inf), (0.0, math.inf), (0.3, 0.0)])
@pytest.mark.parametrize("solver", [by_kernel, by_stream])
def test_unbalanced_plans_meet_their_optimality_conditions(
    relaxation: tuple[float, float], solver: Solver
) -> None:
    x, y = points(40, 30)
    made = torch.Generator().manual_seed(3)
    a, b = (torch.rand(n, generator=made).double() + 0.1 for n in (40, 30))
    a, b = (t / t.sum() for t in (a, b))
    found = solve(
        pose(squared_l2(x, y), epsilon=1.0, a=a, b=b, relaxation=relaxation),
        tolerance=1e-11,
        solver=solver,
    )
    assert found.converged
    sides = ((found.row_mass, a, found.source), (found.column_mass, b, found.target))
    for (mass, reference, potential), rho in zip(sides, relaxation, strict=True):
        if rho == 0:
            assert not potential.any()
        else:
            torch.testing.assert_close(
                mass, reference * (-potential / rho).exp(), rtol=1e-8, atol=1e-11
            )
    # No plan near it is better, and the dual's value is the primal one.
    plan, reference = found.plan(), a[:, None] * b

    def value(p: Tensor) -> float:
        total = (p * found.problem.cost.dense()).sum() + kl(p, reference)
        for rho, mass, bound in ((relaxation[0], p.sum(1), a), (relaxation[1], p.sum(0), b)):
            total = total + (rho * kl(mass, bound) if rho < math.inf else 0.0)
        return float(total)

    assert found.dual == pytest.approx(value(plan), rel=1e-8)
    if math.inf not in relaxation:
        assert value(plan) < min(value(plan * 1.01), value(plan * 0.99))


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p / q).log() - p + q).sum()


def test_a_relaxation_that_binds_hard_is_the_balanced_plan() -> None:
    cost = squared_l2(*points(40, 30))
    bound = solve(pose(cost, epsilon=1.0), tolerance=1e-9)
    hard = solve(pose(cost, epsilon=1.0, relaxation=(1e6, 1e6)), tolerance=1e-9, solver=by_kernel)
    assert hard.converged
    torch.testing.assert_close(hard.plan(), bound.plan(), rtol=0, atol=1e-6)


def test_an_underflowing_kernel_is_rebuilt_and_a_float32_one_keeps_its_mass() -> None:
    x, y = points(60, 50, kind=torch.float32)
    y[7] = x.mean(0) + 14  # no entry of its column survives exp(-C/ε) in float32
    problem = pose(squared_l2(x, y), epsilon=4.0)
    kernel = (-problem.cost.dense() / 4.0).exp()
    assert not kernel[:, 7].any()
    found = solve(problem, solver=by_kernel, tolerance=1e-5)
    assert found.converged
    torch.testing.assert_close(found.column_mass, problem.b, rtol=1e-3, atol=0)
    exact = Streamed(problem.cost, problem.a, problem.b, 4.0)
    sums = Absorbed(exact, None, torch.zeros(50).double())
    ended = iterate(sums, problem.dual, torch.zeros(50).double(), Terms(1e-5, 500))
    assert sums.builds > 1
    assert ended.error <= 1e-5


def test_no_tile_changes_a_sum_and_the_matrix_is_never_there() -> None:
    x, y = points(300, 200)
    cost, weights = squared_l2(x, y), torch.randn(200).double()
    expected = (weights - cost.dense() / 0.1).logsumexp(1)
    for tile in (7, 64, 1000):
        torch.testing.assert_close(soft_rows(cost, weights, 0.1, tile), expected)


def test_the_on_the_fly_path_never_holds_more_than_a_tile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    largest = 0
    plain = torch.Tensor.__matmul__

    def watched(self: Tensor, other: Tensor) -> Tensor:
        nonlocal largest
        out = plain(self, other)
        largest = max(largest, out.numel())
        return out

    x, y = points(3000, 2500, kind=torch.float32)
    problem = pose(squared_l2(x, y), sharpness=1.0)
    monkeypatch.setattr(torch.Tensor, "__matmul__", watched)
    found = solve(problem, solver=by_stream, limit=1)
    found.apply(y)
    assert found.cost > 0
    # 2048² and not 3000 x 2500.
    assert largest == 2048**2


def test_who_solves_follows_from_size_and_kind() -> None:
    small, large = pose(squared_l2(*points(60, 50))), pose(squared_l2(*points(1001, 5)))
    loose = pose(small.cost, relaxation=(1.0, 1.0))
    assert [choose(p) for p in (small, large, loose)] == [by_newton, by_kernel, by_kernel]
    wide = pose(squared_l2(*points(20_000, 20_000, kind=torch.float32)))
    assert choose(wide) is by_stream


def test_what_cannot_be_is_refused() -> None:
    problem = pose(squared_l2(*points(6, 5)))
    with pytest.raises(TransportFailed, match="5 source potentials for 6"):
        solve(problem, Start(torch.zeros(5), torch.zeros(5)))
    with pytest.raises(TransportFailed, match="balanced"):
        solve(pose(problem.cost, relaxation=(1.0, 1.0)), solver=by_newton)
    with pytest.raises(TransportFailed, match="weight >= 0"):
        pose(problem.cost, relaxation=(-1.0, 1.0))
    with pytest.raises(TransportFailed, match="points must be"):
        squared_l2(torch.zeros(3, 2), torch.zeros(3, 3))
    with pytest.raises(TransportFailed, match="same items"):
        dimension_cost(torch.zeros(3, 2), torch.zeros(4, 2))


def test_the_dimension_cost_is_the_centred_squared_distance_of_columns() -> None:
    z, s = points(50, 50)
    cost = ((z[:, :, None] - s[:, None, :]) ** 2).mean(0)
    centred = cost - cost.mean(0) - cost.mean(1, keepdim=True) + cost.mean()
    torch.testing.assert_close(dimension_cost(z, s).values, centred)


def test_dimensions_that_were_shuffled_are_carried_at_their_full_length() -> None:
    # Fails when the factor d is left out: the carried vectors would be 8 times too short.
    z = points(400, 1)[0]
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    found = solve(pose(dimension_cost(z, z[:, order]), sharpness=0.1), tolerance=1e-9)
    torch.testing.assert_close(carry(z, found), z[:, order], rtol=0, atol=0.05)
    assert float(carry(z, found).norm() / z.norm()) == pytest.approx(1.0, abs=0.01)


def test_newton_falls_back_on_a_half_step_where_no_step_helps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = pose(squared_l2(*points(60, 50)))
    expected = solve(problem, solver=by_kernel, tolerance=1e-9)
    for broken in (lambda *_: None, lambda *_: torch.full((50,), 1e3).double() * torch.randn(50)):
        monkeypatch.setattr(newton, "_direction", broken)
        found = solve(problem, solver=by_newton, tolerance=1e-9)
        assert found.converged
        assert found.iterations > 10
        torch.testing.assert_close(found.plan(), expected.plan(), rtol=0, atol=1e-8)


def test_a_plan_of_certainties_has_no_newton_step() -> None:
    # Every column is nobody's but one row's: the curvature is singular beyond the constants.
    far = 1e3 * torch.arange(6, dtype=torch.float64)[:, None]
    found = solve(pose(squared_l2(far, far.flip(0)), epsilon=1.0), solver=by_newton)
    assert found.converged
    torch.testing.assert_close(found.plan(), torch.eye(6).double().flip(0) / 6)


def partners(n: int = 300, sharpness: float = 0.25) -> transport.Problem:
    """Points of which many have a partner almost to themselves: as many slow directions."""
    made = torch.Generator().manual_seed(1)
    scale = torch.arange(1, 65, dtype=torch.float64) ** -0.5
    x, noise = (scale * torch.randn(n, 64, generator=made, dtype=torch.float64) for _ in range(2))
    return pose(cosine(x, x + 0.3 * noise), sharpness=sharpness)


def test_the_curvature_of_a_step_is_the_hessian_or_its_diagonal() -> None:
    problem = partners()
    found = solve(problem, tolerance=1e-10)
    plan, change = found.plan(), torch.randn(300).double() / 100
    hessian = torch.diag(problem.b) - plan.T @ (plan / problem.a[:, None])
    diagonal = hessian.diagonal() / problem.b
    assert float((diagonal < 0.1).double().mean()) > 0.1
    phi, psi = found.source / problem.epsilon, found.target / problem.epsilon
    exact = Streamed(problem.cost, problem.a, problem.b, problem.epsilon, tile=64)
    for sums in (exact, Absorbed(exact, phi, psi + 1e-3)):
        taken = curvature(sums, problem.b, phi, psi, columns=sums.columns(phi), error=0.01)
        expected = (1 / diagonal).clamp_max(1e3)
        torch.testing.assert_close(taken.stretch, expected, rtol=1e-6, atol=0)
        if taken.factor is None:
            assert sums is exact
            torch.testing.assert_close(taken.step(change), (change * expected).clamp(-1, 1))
            continue
        # H·step is b∘change, but for the constants that H does not see.
        wanted = problem.b * change
        wanted = wanted - wanted.sum() * problem.b
        small = taken.step(change / 100) * 100
        torch.testing.assert_close(hessian @ small, wanted, rtol=0, atol=1e-3 / 300 / 10)
        assert taken.stale(0.01 / 40)
        assert not taken.stale(0.005)


@pytest.mark.parametrize("whole", [1000, 0])
def test_steps_by_the_curvature_need_a_fraction_of_the_iterations(
    whole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = partners()
    far = Start(torch.zeros(300), torch.zeros(300), 0.999)
    with monkeypatch.context() as patched:
        patched.setattr(curvatures, "WHOLE", whole)
        scaled = solve(problem, far, solver=by_kernel)
    monkeypatch.setattr(sinkhorn, "NEAR", 0.0)
    plain = solve(problem, far, solver=by_kernel)
    assert scaled.converged
    assert (2 if whole == 0 else 4) * scaled.iterations < plain.iterations
    torch.testing.assert_close(scaled.plan(), plain.plan(), rtol=0, atol=1e-7)


def test_a_curvature_of_elsewhere_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = partners()
    monkeypatch.setattr(sinkhorn, "NEAR", 10.0)
    monkeypatch.setattr(Curvature, "step", lambda _, change: 30 * change)
    far = Start(torch.zeros(300), torch.zeros(300), 0.999)
    assert solve(problem, far, solver=by_kernel).converged


def test_a_hessian_that_float32_cannot_factor_leaves_its_diagonal() -> None:
    # Every column is nobody's but one row's: H is 0, and less by rounding.
    far = 1e3 * torch.arange(6, dtype=torch.float64)[:, None]
    problem = pose(squared_l2(far, far), epsilon=1.0)
    zero = torch.zeros(6, dtype=torch.float64)
    exact = Streamed(problem.cost, problem.a, problem.b, 1.0)
    phi = -exact.rows(zero)
    sums = Absorbed(exact, phi, zero)
    high = zero + 1e-3
    taken = curvature(sums, problem.b, phi, high, columns=sums.columns(phi), error=1e-3)
    assert taken.factor is None
    assert bool(torch.isfinite(taken.step(zero + 1e-5)).all())
