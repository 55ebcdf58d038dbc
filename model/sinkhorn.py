"""Sinkhorn's alternation, over-relaxed at the pace that the problem has shown, Anderson where slow.

φ ← (1 − ω)·φ − ω·λ·log Σ_j b_j·exp(ψ_j − C_ij/ε), and the same for ψ; λ = ρ/(ρ + ε), 1 when
balanced. With contraction η of a pair of half-steps, ω = 2/(1 + √(1 − η)) is the best constant
pace, which contracts by ω − 1.

References
----------
Lehmann, von Renesse, Sambale, Uschmajew: A note on overrelaxation in the Sinkhorn algorithm, 2021.
Thibault, Chizat, Dossal, Papadakis: Overrelaxed Sinkhorn-Knopp algorithm, 2021.
Séjourné, Vialard, Peyré: Faster Unbalanced Optimal Transport, AISTATS 2022 (translation).
Walker, Ni: Anderson Acceleration for Fixed-Point Iterations, 2011.
"""

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from model.curvature import Curvature, curvature
from model.kernels import Sums

SLOW = 0.99
"""From this contraction on, Anderson's mixing is used instead of over-relaxation."""
NEAR = 0.1
"""From this error on a step is scaled by the curvature at the point."""
_MEMORY = 5
_WORSE = 3.0
"""An error this much above the best so far says that the pace does not suit the problem."""


@dataclass(frozen=True, slots=True)
class Dual:
    """The optimality conditions of a problem: masses and what binds the marginals to them.

    Attributes
    ----------
    a, b : float64[n], float64[m]
    epsilon : float
    relaxation : (ρ_source, ρ_target), in units of the cost
        Weight of KL(marginal | mass); infinite: the marginal is the mass; 0: it is free.
    """

    a: Tensor
    b: Tensor
    epsilon: float
    relaxation: tuple[float, float] = (math.inf, math.inf)

    @property
    def balanced(self) -> bool:
        """Whether both marginals are bound."""
        return self.relaxation == (math.inf, math.inf)

    @property
    def damping(self) -> tuple[float, float]:
        """λ of either side."""
        first, second = (
            1.0 if rho == math.inf else rho / (rho + self.epsilon) for rho in self.relaxation
        )
        return first, second

    def error(self, rows: Tensor, phi: Tensor, columns: Tensor, psi: Tensor) -> float:
        """Mass that a further half-step on either side would move, summed.

        Balanced, that is the L1 distance of the marginals from a and b.
        """
        first, second = self.damping
        return _moved(self.a, phi, rows, first) + _moved(self.b, psi, columns, second)

    def translated(self, phi: Tensor, psi: Tensor) -> tuple[Tensor, Tensor]:
        """The best of φ + t, ψ − t: closed where both sides are relaxed, no freedom elsewhere."""
        first, second = self.relaxation
        if math.inf in self.relaxation or not (first and second):
            return phi, psi
        left = torch.logsumexp(self.a.log() - phi * (self.epsilon / first), 0)
        right = torch.logsumexp(self.b.log() - psi * (self.epsilon / second), 0)
        shift = first * second / (first + second) / self.epsilon * (left - right)
        return phi + shift, psi - shift


@dataclass(frozen=True, slots=True)
class Solved:
    """Where an iteration ended.

    Attributes
    ----------
    phi, psi : float64[n], float64[m]
        f/ε and g/ε.
    iterations : int
        Pairs of half-steps after the opening one that fits the rows.
    error : float
        See `Dual.error`.
    contraction : float
        η of a pair of plain half-steps as it was seen; 0 when too few were taken to see it.
    """

    phi: Tensor
    psi: Tensor
    iterations: int
    error: float
    contraction: float


@dataclass(frozen=True, slots=True)
class Terms:
    """When to stop, and what an earlier, similar problem has shown.

    Attributes
    ----------
    tolerance : float
        Error to reach.
    limit : int
        Iterations at most.
    contraction : float
        η of an earlier, similar problem; 0 when unknown.
    """

    tolerance: float
    limit: int
    contraction: float = 0.0


@dataclass(slots=True)
class _Pace:
    """η as the errors show it, and the ω that goes with it."""

    contraction: float
    omega: float = field(init=False)
    errors: list[float] = field(default_factory=list[float])
    best: float = math.inf

    def __post_init__(self) -> None:
        self.omega = _omega(self.contraction)

    def saw(self, error: float) -> None:
        """Take in an error; learn η from a settled ratio, give up an ω that does not converge."""
        self.errors.append(error)
        if self.omega > 1.0 and error > _WORSE * self.best:
            self._restart(0.0)
        self.best = min(self.best, error)
        if self.omega == 1.0 and (eta := _settled(self.errors)) is not None:
            self._restart(eta)
        elif self.omega > 1.0 and len(self.errors) > 12:
            rate = (self.errors[-1] / self.errors[-9]) ** 0.125
            if rate > self.omega - 1.0 + 0.05 * (2.0 - self.omega):
                # Young's relation between the rate at ω and the rate at 1.
                eta = (rate + self.omega - 1.0) ** 2 / (self.omega**2 * rate)
                self._restart(min(eta, 0.9999))

    def _restart(self, eta: float) -> None:
        self.contraction, self.omega = eta, _omega(eta)
        self.errors = self.errors[-1:]
        self.best = math.inf


def iterate(sums: Sums, dual: Dual, psi: Tensor, terms: Terms) -> Solved:
    """Alternate until the error is within the tolerance or the limit is reached.

    Parameters
    ----------
    psi : float64[m]
        Start; the opening half-step fits the rows to it.
    """
    first, second = dual.damping
    if terms.contraction > 0.0:
        return _mixed(sums, dual, psi, terms, 0)
    rows = sums.rows(psi)
    phi = -first * rows
    pace = _Pace(terms.contraction)
    done = 0
    while True:
        columns = sums.columns(phi)
        error = dual.error(rows, phi, columns, psi)
        pace.saw(error)
        if error <= terms.tolerance or done >= terms.limit:
            # A plain half-step last: the rows fit exactly, and the plan has all of its mass.
            phi = -first * rows
            columns = sums.columns(phi) if pace.omega != 1.0 else columns
            error = dual.error(rows, phi, columns, psi)
            if error <= terms.tolerance or done >= terms.limit:
                return Solved(phi, psi, done, error, pace.contraction)
        if pace.contraction >= SLOW:
            terms = replace(terms, contraction=pace.contraction)
            return _mixed(sums, dual, -second * columns, terms, done + 1)
        done += 1
        psi = psi + pace.omega * (-second * columns - psi)
        phi, psi = dual.translated(phi, psi)
        rows = sums.rows(psi)
        phi = phi + pace.omega * (-first * rows - phi)


def reflexive(sums: Sums, dual: Dual, phi: Tensor, terms: Terms) -> Solved:
    """Solve the problem of a cloud with itself, whose potentials are equal: φ ← (φ + T φ)/2.

    References
    ----------
    Feydy et al.: Interpolating between Optimal Transport and MMD using Sinkhorn Divergences, 2019.
    """
    done = 0
    while True:
        rows = sums.rows(phi)
        error = dual.error(rows, phi, rows, phi)
        if error <= terms.tolerance or done >= terms.limit:
            return Solved(phi, phi, done, error, 0.0)
        done += 1
        phi = (phi - dual.damping[0] * rows) / 2


def _mixed(sums: Sums, dual: Dual, psi: Tensor, terms: Terms, done: int) -> Solved:
    """Anderson(5) on ψ → ψ after a plain pair, restarted where it does not bring the error down.

    From `NEAR` on, steps are scaled by the `curvature` at the point.
    """
    first, second = dual.damping
    images: list[Tensor] = []
    residuals: list[Tensor] = []
    scale: Curvature | None = None
    near = NEAR if dual.balanced else 0.0
    best, kept = math.inf, psi
    while True:
        phi = -first * sums.rows(psi)
        columns = sums.columns(phi)
        error = dual.error(-phi / first if first else phi, phi, columns, psi)
        if error <= terms.tolerance or done >= terms.limit:
            return Solved(phi, psi, done, error, terms.contraction)
        done += 1
        # NaN compares as false: a mixture that overflowed is given up too.
        if images and not error <= _WORSE * best:
            near = near if scale is None else near / 10
            images, residuals, scale, best, psi = [], [], None, math.inf, kept
            continue
        change = -second * columns - psi
        best, kept = (error, psi + change) if error < best else (best, kept)
        if error <= near if scale is None else scale.stale(error):
            scale = curvature(sums, dual.b, phi, psi, columns=columns, error=error)
            images, residuals = [], []
        if scale is not None:
            change = scale.step(change)
        images, residuals = (
            [*images, psi + change][-_MEMORY - 1 :],
            [*residuals, change][-_MEMORY - 1 :],
        )
        psi = _combined(images, residuals)
        _, psi = dual.translated(phi, psi)


def _combined(images: list[Tensor], residuals: list[Tensor]) -> Tensor:
    if len(images) == 1:
        return images[0]
    changes = torch.stack([r - residuals[-1] for r in residuals[:-1]], 1)
    steps = torch.stack([g - images[-1] for g in images[:-1]], 1)
    gram = changes.T @ changes
    gram.diagonal().add_(1e-12 * gram.diagonal().max())
    weights, info = torch.linalg.solve_ex(gram, changes.T @ residuals[-1])
    return images[-1] - steps @ weights if int(info) == 0 else images[-1]


def _omega(eta: float) -> float:
    return 2.0 / (1.0 + math.sqrt(1.0 - eta)) if 0.0 < eta < SLOW else 1.0


def _settled(errors: list[float]) -> float | None:
    """The last ratio of errors, once three in a row agree on how far it is from 1."""
    if len(errors) < 6 or min(errors[-4:]) <= 0.0:
        return None
    ratios = [errors[k] / errors[k - 1] for k in (-3, -2, -1)]
    last = ratios[-1]
    agree = all(abs(r - last) <= 0.1 * (1.0 - last) for r in ratios)
    return min(last, 0.9999) if last < 1.0 and agree else None


def _moved(mass: Tensor, potential: Tensor, sums: Tensor, damping: float) -> float:
    marginal = mass * (potential + sums).exp()
    return float((marginal * torch.expm1(-damping * sums - potential).abs()).sum())
