"""Row and column sums of exp(ψ_j − C_ij/ε), the one thing that Sinkhorn asks of a cost.

`Absorbed` exponentiates once and multiplies matrices by vectors; `Streamed` never holds more than
a block. Potentials φ = f/ε, ψ = g/ε are float64 against the product measure a ⊗ b.

References
----------
Schmitzer: Stabilized Sparse Scaling Algorithms for Entropy Regularized Transport, 2019.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from model import fused
from model.costs import TILE, Cost, tiles

ABSORB = 20.0
"""Largest |log scaling| that stays outside the kernel."""
_RUN = 512
"""Terms that are summed in float32 before they go on in float64."""
_FLOOR = {torch.float32: 1e-28, torch.float64: 1e-280}
"""A sum below this may have lost terms to underflow."""


class Sums(Protocol):
    """The soft transforms of a problem."""

    def rows(self, psi: Tensor) -> Tensor:
        """log Σ_j b_j·exp(ψ_j − C_ij/ε), float64[n]."""
        ...

    def columns(self, phi: Tensor) -> Tensor:
        """log Σ_i a_i·exp(φ_i − C_ij/ε), float64[m]."""
        ...

    def squares(self, phi: Tensor) -> Tensor:
        """log Σ_i a_i·exp(2·(φ_i − C_ij/ε)), float64[m]."""
        ...

    def scaled(self, phi: Tensor, psi: Tensor) -> Tensor | None:
        """P_ij/√(a_i·b_j), float32[n, m]; None where the kernel is not stored."""
        ...


def soft_rows(cost: Cost, log_weights: Tensor, epsilon: float, tile: int = TILE) -> Tensor:
    """log Σ_j exp(w_j − C_ij/ε) in blocks, float64[n]; w = log b + ψ. Nothing can underflow."""
    if fused.serves(cost):
        return fused.soft_rows(cost, log_weights, epsilon)
    n, m = cost.shape
    total = torch.full((n,), -torch.inf, dtype=torch.float64, device=cost.sample.device)
    for at, to in tiles(n, m, tile):
        none = torch.zeros(at.stop - at.start, dtype=torch.float64, device=total.device)
        exponent = cost.take(at, to).exponent(none, log_weights[to], epsilon)
        total[at] = torch.logaddexp(total[at], exponent.logsumexp(1).double())
    return total


def room(cost: Cost) -> Tensor:
    """Memory for a matrix of the cost's shape, dtype and device, not initialised."""
    like = cost.sample
    if like.device.type != "cpu":
        return torch.empty(cost.shape, dtype=like.dtype, device=like.device)
    # NumPy asks for huge pages and torch does not: a third of the time of a first kernel.
    kind = np.float32 if like.dtype == torch.float32 else np.float64
    return torch.from_numpy(np.empty(cost.shape, kind))


@dataclass(frozen=True, slots=True)
class Streamed:
    """On the fly: memory is a tile, time a GEMM and an exponential a half-step."""

    cost: Cost
    a: Tensor
    b: Tensor
    epsilon: float
    tile: int = TILE

    def rows(self, psi: Tensor) -> Tensor:
        return soft_rows(self.cost, self.b.log() + psi, self.epsilon, self.tile)

    def columns(self, phi: Tensor) -> Tensor:
        return soft_rows(self.cost.transposed(), self.a.log() + phi, self.epsilon, self.tile)

    def squares(self, phi: Tensor) -> Tensor:
        weights = self.a.log() + 2 * phi
        return soft_rows(self.cost.transposed(), weights, self.epsilon / 2, self.tile)

    def scaled(self, phi: Tensor, psi: Tensor) -> None:
        return None


class Absorbed:
    """The kernel exp(φ⁰_i + ψ⁰_j − C_ij/ε), rebuilt when the potentials have left it.

    Parameters
    ----------
    phi : float64[n] or None
        Row potentials to build at; None takes those that make every row sum 1.
    psi : float64[m]

    Attributes
    ----------
    builds : int
        Exponentials of the whole matrix so far.
    """

    def __init__(
        self, exact: Streamed, phi: Tensor | None, psi: Tensor, absorb: float | None = None
    ) -> None:
        self._exact, self._absorb = exact, ABSORB if absorb is None else absorb
        self._a, self._b = exact.a, exact.b
        self.builds = 0
        self._kernel = room(exact.cost)
        self._build(-exact.rows(psi) if phi is None else phi, psi)

    def rows(self, psi: Tensor) -> Tensor:
        """log Σ_j b_j·exp(ψ_j − C_ij/ε), float64[n]."""
        away = psi - self._psi
        sums = self._product(self._kernel, self._b, away)
        if self._usable(away, sums):
            return sums.log() - self._phi
        found = self._exact.rows(psi)
        self._build(-found, psi)
        return found

    def columns(self, phi: Tensor) -> Tensor:
        """log Σ_i a_i·exp(φ_i − C_ij/ε), float64[m]."""
        away = phi - self._phi
        sums = self._product(self._kernel.T, self._a, away)
        if self._usable(away, sums):
            return sums.log() - self._psi
        found = self._exact.columns(phi)
        self._build(phi, -found)
        return found

    def squares(self, phi: Tensor) -> Tensor:
        """log Σ_i a_i·exp(2·(φ_i − C_ij/ε)), float64[m]; φ where `columns` has just been."""
        kind = self._kernel.dtype
        weights = (self._a * (2 * (phi - self._phi)).exp()).to(kind)
        total = torch.zeros_like(self._psi)
        for start in range(0, len(weights), _RUN):
            run = slice(start, start + _RUN)
            block = self._kernel[run]
            total += (block * block).T @ weights[run]
        return total.log() - 2 * self._psi

    def scaled(self, phi: Tensor, psi: Tensor) -> Tensor:
        """P_ij/√(a_i·b_j), float32[n, m]; potentials as for `squares`."""
        left = (self._a.sqrt() * (phi - self._phi).exp()).to(self._kernel.dtype)
        right = (self._b.sqrt() * (psi - self._psi).exp()).to(self._kernel.dtype)
        return (self._kernel * left[:, None]).mul_(right).float()

    def _build(self, phi: Tensor, psi: Tensor) -> None:
        self._phi, self._psi = phi, psi
        cost, epsilon = self._exact.cost, self._exact.epsilon
        self._kernel = cost.exponent(phi, psi, epsilon, self._kernel).exp_()
        self.builds += 1

    def _product(self, kernel: Tensor, mass: Tensor, away: Tensor) -> Tensor:
        weights = (mass * away.exp()).to(kernel.dtype)
        if kernel.dtype == torch.float64:
            return kernel @ weights
        # A long float32 sum alone would keep the marginals 2e-6 from fitting.
        total = torch.zeros(len(kernel), dtype=torch.float64, device=kernel.device)
        for start in range(0, len(weights), _RUN):
            run = slice(start, start + _RUN)
            total += kernel[:, run] @ weights[run]
        return total

    def _usable(self, away: Tensor, sums: Tensor) -> bool:
        low, high = torch.aminmax(sums)
        near = bool(away.abs().max() <= self._absorb)
        return near and float(low) > _FLOOR[self._kernel.dtype] and float(high) < torch.inf
