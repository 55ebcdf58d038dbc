"""Transport as a loss: the gradient by the envelope theorem, debiased, sliced, and exact.

At the optimum the potentials' own change adds nothing to first order: the gradient of OT_ε with
respect to the cost is the plan, held fixed. S(x, y) = OT_ε(x, y) − OT_ε(x, x)/2 − OT_ε(y, y)/2
takes away what OT_ε(x, x) is above zero, without which a fit shrinks towards the mean.

References
----------
Feydy et al.: Interpolating between Optimal Transport and MMD using Sinkhorn Divergences, 2019.
Bonneel et al.: Sliced and Radon Wasserstein Barycenters of Measures, 2015.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from model.costs import Cost, squared_l2, tiles
from model.errors import TransportFailed
from model.kernels import Absorbed, Streamed
from model.sinkhorn import Terms, reflexive
from model.transport import DENSE_ENTRIES, Coupling, Problem, pose, solve

Pairing = Callable[[Tensor, Tensor], Cost]
"""`squared_l2`, `l2` or `cosine`."""


class _Envelope(torch.autograd.Function):
    """The value of a solved problem, with the plan as the gradient of its cost."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, pairing: Pairing, coupling: Coupling) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.pairing, ctx.coupling = pairing, coupling
        return x.new_tensor(coupling.dual)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, y = (t.detach().requires_grad_() for t in ctx.saved_tensors)
        total = [torch.zeros_like(x), torch.zeros_like(y)]
        coupling: Coupling = ctx.coupling
        with torch.enable_grad():
            for at, to in tiles(len(x), len(y)):
                block = ctx.pairing(x[at], y[to]).dense()
                linear = (coupling.block(at, to).to(block.dtype) * block).sum()
                left, right = torch.autograd.grad(linear, (x, y))
                total = [total[0] + left, total[1] + right]
        return grads[0] * total[0], grads[0] * total[1], None, None


def transport_value(
    x: Tensor,
    y: Tensor,
    *,
    epsilon: float,
    pairing: Pairing = squared_l2,
    relaxation: tuple[float, float] = (torch.inf, torch.inf),
    coupling: Coupling | None = None,
    tolerance: float = 1e-6,
) -> Tensor:
    """OT_ε(x, y) of uniform samples, differentiable in both, scalar.

    Parameters
    ----------
    x, y : [n, k], [m, k]
    coupling : Coupling
        Of this problem, where it has been solved already (from a warm start, say).

    Raises
    ------
    TransportFailed
        It did not converge: the gradient would be that of another problem.
    """
    if coupling is None:
        posed = pose(pairing(x.detach(), y.detach()), epsilon=epsilon, relaxation=relaxation)
        coupling = solve(posed, tolerance=tolerance)
        if not coupling.converged:
            raise TransportFailed(
                f"marginal error {coupling.marginal_error:.1e} after {coupling.iterations}"
                f" iterations, {tolerance:.0e} was asked for: raise epsilon"
            )
    value: Tensor = _Envelope.apply(x, y, pairing, coupling)
    return value


def divergence(
    x: Tensor,
    y: Tensor,
    *,
    epsilon: float,
    pairing: Pairing = squared_l2,
    tolerance: float = 1e-6,
    coupling: Coupling | None = None,
) -> Tensor:
    """Debiased Sinkhorn divergence of uniform samples, differentiable in both, scalar.

    0 when the samples coincide, positive elsewhere for the costs here; needed rather than
    `transport_value` once ε is above 5 % of the mean cost. ``coupling`` is that of x and y, where
    it has been solved already.
    """
    blur = [
        _Envelope.apply(
            t,
            t,
            pairing,
            _reflexive(pose(pairing(t.detach(), t.detach()), epsilon=epsilon), tolerance, 1000),
        )
        for t in (x, y)
    ]
    across = transport_value(
        x, y, epsilon=epsilon, pairing=pairing, tolerance=tolerance, coupling=coupling
    )
    debiased: Tensor = across - (blur[0] + blur[1]) / 2
    return debiased


def self_value(problem: Problem, *, tolerance: float, limit: int) -> float:
    """OT_ε of a cloud with itself."""
    return _reflexive(problem, tolerance, limit).dual


def sliced_wasserstein(
    x: Tensor, y: Tensor, *, directions: int, generator: torch.Generator, power: float = 2.0
) -> Tensor:
    """Mean over random directions of W_p^p between the projections, differentiable, scalar.

    Parameters
    ----------
    x, y : [n, k], [m, k]
        Uniform samples; of different sizes, quantiles are matched exactly.
    """
    normal = torch.randn(x.shape[1], directions, generator=generator, dtype=torch.float64)
    unit = (normal / normal.norm(dim=0)).to(x)
    left, right = ((t @ unit).sort(0).values for t in (x, y))
    n, m = len(left), len(right)
    if n == m:
        equal: Tensor = ((left - right).abs() ** power).mean()
        return equal
    # Both quantile functions are constant between the merged steps k/n and l/m.
    steps = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).sort().values
    width = torch.diff(steps, prepend=steps.new_zeros(1)).to(x) / (n * m)
    at, to = (((steps - 1) // size).to(x.device) for size in (m, n))
    mean: Tensor = (((left[at] - right[to]).abs() ** power) * width[:, None]).sum(0).mean()
    return mean


def exact(problem: Problem) -> Tensor:
    """The plan without regularisation, float64[n, m], by POT's network simplex: small n only."""
    import ot  # a second of start-up that only this needs

    if not problem.balanced:
        raise TransportFailed("the exact plan is that of a balanced problem")
    a, b, cost = (t.double().cpu().numpy() for t in (problem.a, problem.b, problem.cost.dense()))
    plan: Tensor = torch.from_numpy(ot.emd(a, b, cost))
    return plan


def _reflexive(problem: Problem, tolerance: float, limit: int) -> Coupling:
    phi = torch.zeros_like(problem.a)
    exact_sums = Streamed(problem.cost, problem.a, problem.b, problem.epsilon)
    small = len(phi) ** 2 <= DENSE_ENTRIES
    sums = Absorbed(exact_sums, None, phi) if small else exact_sums
    found = reflexive(sums, problem.dual, phi, Terms(tolerance, limit))
    return Coupling(
        problem=problem,
        source=found.phi * problem.epsilon,
        target=found.psi * problem.epsilon,
        iterations=found.iterations,
        marginal_error=found.error,
        converged=found.error <= tolerance,
        contraction=0.0,
    )
