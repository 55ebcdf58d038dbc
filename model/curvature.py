"""The Hessian of the semi-dual at a plan, to scale the steps of a fixed-point iteration by.

With rows that fit, H = diag(Pᵀ1) − Pᵀ·diag(1/a)·P. Where the plan is stored and small the whole of
H is factored once, in float32, for it only steers; elsewhere its diagonal has to do, which sees the
points that have a partner almost to themselves, each a slow direction of its own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.kernels import Sums

WHOLE = 1000
"""Points a side up to which all of H is used."""
RENEWED = 30.0
"""An error so many times below the one it was taken at is worth a factor of its own."""
_LEAST = 1e-3
"""Least curvature of a point, relative to its mass, that a step is divided by."""
_STRIDE = 1.0
"""Longest change of a scaled ψ_j."""


@dataclass(frozen=True, slots=True)
class Curvature:
    """H where it was taken.

    Attributes
    ----------
    error : float
        Marginal error there.
    stretch : float64[m]
        b_j/H_jj.
    b : float64[m]
    factor : float32[m, m] or None
        Cholesky's, of D^(−1/2)·H·D^(−1/2), D = diag(b), with its null space filled.
    """

    error: float
    stretch: Tensor
    b: Tensor
    factor: Tensor | None

    def step(self, change: Tensor) -> Tensor:
        """H⁻¹·(b∘change), or by the diagonal alone, no entry above 1; change = log(b/Pᵀ1)."""
        if self.factor is None:
            return (change * self.stretch).clamp_(-_STRIDE, _STRIDE)
        root = self.b.sqrt()
        scaled = (root * change).to(self.factor.dtype)
        found = torch.cholesky_solve(scaled[:, None], self.factor)[:, 0].double() / root
        return (found - self.b @ found).clamp_(-_STRIDE, _STRIDE)

    def stale(self, error: float) -> bool:
        """Whether the whole of H should be taken anew."""
        return self.factor is not None and error < self.error / RENEWED


def curvature(
    sums: Sums, b: Tensor, phi: Tensor, psi: Tensor, *, columns: Tensor, error: float
) -> Curvature:
    """Take H at a plan whose rows fit.

    Parameters
    ----------
    b, psi, columns : float64[m]
        ``columns`` is log Σ_i a_i·exp(φ_i − C_ij/ε).
    phi : float64[n]
    """
    mass = (psi + columns).exp()
    kept = b * (psi + sums.squares(phi) - columns).exp()
    stretch = 1.0 / (1.0 - kept).clamp_min(_LEAST)
    whole = sums.scaled(phi, psi) if max(len(phi), len(psi)) <= WHOLE else None
    return Curvature(error, stretch, b, None if whole is None else _factor(whole, b, mass))


def _factor(scaled: Tensor, b: Tensor, mass: Tensor) -> Tensor | None:
    """Of diag(mass) − SᵀS + √b·√bᵀ; None where float32 does not find it positive."""
    whole = -(scaled.T @ scaled)
    whole.diagonal().add_(mass.to(whole.dtype) * (1.0 + 1e-6))
    root = b.sqrt().to(whole.dtype)
    whole += root[:, None] * root
    factor, info = torch.linalg.cholesky_ex(whole)
    return factor if int(info) == 0 else None
