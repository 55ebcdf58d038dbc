"""Newton's method on the semi-dual of a balanced problem: few, dense steps where Sinkhorn has many.

With φ eliminated by the c-transform, H(ψ) = <b, ψ> + <a, φ(ψ)> is concave, its gradient is
b − Pᵀ1 and its Hessian −(diag(Pᵀ1) − Pᵀ·diag(1/a)·P), the Schur complement of the joint one.

References
----------
Brauer, Clason, Lorenz, Wirth: A Sinkhorn-Newton method for entropic optimal transport, 2017.
"""

import torch
from torch import Tensor

from model.costs import Cost
from model.sinkhorn import Dual, Solved, Terms

_HALVINGS = 8
_DAMP = 0.1
"""Levenberg's share of the masses, times the error, on the Hessian's diagonal."""
_MARGIN = 1e-12
"""Added to the Hessian's diagonal, relative to it: what rounding may have taken away."""


def newton(cost: Cost, dual: Dual, psi: Tensor, terms: Terms) -> Solved:
    """Solve in float64; a step that does not raise H is halved, then replaced by Sinkhorn's.

    Parameters
    ----------
    psi : float64[m]
        Start.
    terms : Terms
        Its contraction is handed on to whoever comes next; Newton does not need it.
    """
    scaled = cost.dense().double() / dual.epsilon
    log_b = dual.b.log()
    phi, plan = _plan(scaled, dual, log_b, psi)
    done = 0
    while True:
        columns = plan.sum(0)
        error = float((columns - dual.b).abs().sum() + (plan.sum(1) - dual.a).abs().sum())
        if error <= terms.tolerance or done >= terms.limit:
            return Solved(phi, psi, done, error, terms.contraction)
        done += 1
        step = _direction(plan, dual, columns, error)
        psi, phi, plan = _climb(scaled, dual, log_b, (psi, phi, plan), step)


def _climb(
    scaled: Tensor,
    dual: Dual,
    log_b: Tensor,
    here: tuple[Tensor, Tensor, Tensor],
    step: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    psi, phi, plan = here
    gradient = dual.b - plan.sum(0)
    size = 1.0
    for _ in range(_HALVINGS):
        if step is None:
            break
        trial = psi + size * step
        phi_there, plan_there = _plan(scaled, dual, log_b, trial)
        gain = float(dual.b @ (trial - psi) + dual.a @ (phi_there - phi))
        # Near the top a gain drowns in rounding; the gradient still tells.
        smaller = float((dual.b - plan_there.sum(0)).abs().sum()) < 0.5 * float(
            gradient.abs().sum()
        )
        if smaller or gain >= 1e-4 * size * float(gradient @ step) > 0:
            return trial, phi_there, plan_there
        size /= 2
    exact = -torch.logsumexp(phi[:, None] + dual.a.log()[:, None] - scaled, 0)
    return exact, *_plan(scaled, dual, log_b, exact)


def _direction(plan: Tensor, dual: Dual, columns: Tensor, error: float) -> Tensor | None:
    curvature = torch.diag(columns) - plan.T @ (plan / dual.a[:, None])
    # A constant added to ψ changes nothing: the null space is filled, and the step kept out of it.
    curvature += dual.b[:, None] * dual.b[None, :]
    # Far from the solution the quadratic model is trusted less; this vanishes with the error.
    curvature.diagonal().mul_(1.0 + _MARGIN).add_(_DAMP * error * dual.b)
    factor, info = torch.linalg.cholesky_ex(curvature)
    if int(info) != 0:
        return None
    step = torch.cholesky_solve((dual.b - columns)[:, None], factor)[:, 0]
    return step - dual.b @ step


def _plan(scaled: Tensor, dual: Dual, log_b: Tensor, psi: Tensor) -> tuple[Tensor, Tensor]:
    """φ(ψ), and the plan, whose rows fit exactly."""
    exponent = psi + log_b - scaled
    rows = exponent.logsumexp(1)
    plan = dual.a[:, None] * (exponent - rows[:, None]).exp()
    return -rows, plan
