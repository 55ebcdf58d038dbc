"""Entropic optimal transport between two samples, from a cold or a warm start.

The plan P_ij = a_i·b_j·exp((f_i + g_j − C_ij)/ε) minimises <P, C> + ε·KL(P | ab) over plans with
marginals a and b, or, unbalanced, with ρ₁·KL(P1 | a) + ρ₂·KL(Pᵀ1 | b) in place of that bond. The
potentials f and g are kept against the product measure, so that a change of n does not shift
them. Tensors, on the device and in the dtype of the cost; potentials in float64.

References
----------
Cuturi: Sinkhorn Distances, NeurIPS 2013.
Chizat, Peyré, Schmitzer, Vialard: Scaling algorithms for unbalanced transport problems, 2018.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from model.costs import TILE, Cost, tiles
from model.errors import TransportFailed
from model.kernels import Absorbed, Streamed
from model.newton import newton
from model.sinkhorn import Dual, Solved, Terms, iterate

SHARP, SMOOTH = 0.25, 0.5
"""ε in standard deviations of the double-centred cost."""
DENSE_ENTRIES = 1 << 28
"""Above so many entries (1 GiB in float32) the kernel is recomputed, never stored."""
NEWTON_SIDE = 1000
_BALANCED = (math.inf, math.inf)


@dataclass(frozen=True)
class Problem:
    """What is to be coupled; `pose` checks and completes it.

    Attributes
    ----------
    cost : Cost
        n x m.
    a, b : float64[n], float64[m]
        Masses, positive; of sum 1 when balanced.
    epsilon : float
        In units of the cost.
    relaxation : (float, float)
        ρ of sources and targets, in units of the cost: infinite binds a marginal, 0 frees it.
    """

    cost: Cost
    a: Tensor
    b: Tensor
    epsilon: float
    relaxation: tuple[float, float] = _BALANCED

    @cached_property
    def spread(self) -> float:
        """Standard deviation of the double-centred cost, in units of the cost."""
        return self.cost.spread()

    @property
    def balanced(self) -> bool:
        """Whether both marginals are bound."""
        return self.relaxation == _BALANCED

    @property
    def dual(self) -> Dual:
        """The optimality conditions."""
        return Dual(self.a, self.b, self.epsilon, self.relaxation)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a solver begins: f and g in units of the cost, and the contraction η once seen."""

    source: Tensor
    target: Tensor
    contraction: float = 0.0


@dataclass(frozen=True)
class Coupling:
    """A solved problem and the evidence for it. The plan is applied block by block, not stored.

    Attributes
    ----------
    problem : Problem
    source, target : float64[n], float64[m]
        f and g, in units of the cost; gauge when balanced: the mean of g is 0.
    iterations : int
        Pairs of half-steps after the opening one, or Newton steps.
    marginal_error : float
        L1 distance of the marginals from a and b, summed; unbalanced, the mass that a further
        half-step on either side would move. Measured on the kernel that was iterated on.
    converged : bool
        Whether that reached the tolerance asked for.
    contraction : float
        η of a plain pair of half-steps; 0 when it was not seen.
    """

    problem: Problem
    source: Tensor
    target: Tensor
    iterations: int
    marginal_error: float
    converged: bool
    contraction: float

    @property
    def potentials(self) -> Start:
        """To start a like problem from."""
        return Start(self.source, self.target, self.contraction)

    @property
    def dual(self) -> float:
        """Value of the dual, at the solution <P, C> + ε·KL(P | ab) (+ the relaxation's terms)."""
        p, (rho, sigma) = self.problem, self.problem.relaxation
        value = _conjugate(p.a, self.source, rho) + _conjugate(p.b, self.target, sigma)
        if p.balanced:
            return value
        return value - p.epsilon * (float(self.row_mass.sum()) - float(p.a.sum() * p.b.sum()))

    @cached_property
    def row_mass(self) -> Tensor:
        """P1, float64[n]."""
        p = self.problem
        sums = Streamed(p.cost, p.a, p.b, p.epsilon).rows(self.target / p.epsilon)
        return p.a * (self.source / p.epsilon + sums).exp()

    @cached_property
    def cost(self) -> float:
        """<P, C>; one pass over the blocks."""
        total = 0.0
        for at, to in tiles(*self.problem.cost.shape):
            block = self.problem.cost.take(at, to)
            total += float((self.block(at, to) * block.dense()).sum(dtype=torch.float64))
        return total

    @cached_property
    def perplexity(self) -> float:
        """exp of the mean entropy of the rows: how many targets a source is spread over."""
        p = self.problem
        rows, columns = self.row_mass, self.column_mass
        inside = float(rows @ self.source + columns @ self.target) - self.cost
        entropy = -inside / p.epsilon - float(columns @ p.b.log())
        entropy -= float(rows @ (p.a / rows.clamp_min(1e-300)).log())
        return math.exp(entropy / float(rows.sum()))

    @cached_property
    def column_mass(self) -> Tensor:
        """Pᵀ1, float64[m]."""
        p = self.problem
        sums = Streamed(p.cost, p.a, p.b, p.epsilon).columns(self.source / p.epsilon)
        return p.b * (self.target / p.epsilon + sums).exp()

    def apply(self, values: Tensor) -> Tensor:
        """P·V, [n, k] of V [m, k], in the dtype of V."""
        out = torch.zeros(
            len(self.source), values.shape[1], dtype=values.dtype, device=values.device
        )
        for at, to in tiles(*self.problem.cost.shape):
            out[at] += self.block(at, to).to(values.dtype) @ values[to]
        return out

    def apply_transposed(self, values: Tensor) -> Tensor:
        """Pᵀ·U, [m, k] of U [n, k], in the dtype of U."""
        out = torch.zeros(
            len(self.target), values.shape[1], dtype=values.dtype, device=values.device
        )
        for at, to in tiles(*self.problem.cost.shape):
            out[to] += self.block(at, to).to(values.dtype).T @ values[at]
        return out

    def barycentric(self, values: Tensor) -> Tensor:
        """Each source's mean of the targets' V under its row of the plan, [n, k]."""
        return self.apply(values) / self.row_mass.to(values.dtype)[:, None]

    def plan(self) -> Tensor:
        """P itself, [n, m] in the cost's dtype: for problems that fit."""
        n, m = self.problem.cost.shape
        return self.block(slice(0, n), slice(0, m))

    def block(self, at: slice, to: slice) -> Tensor:
        """Rows ``at`` and columns ``to`` of P, in the cost's dtype."""
        p = self.problem
        left = p.a[at].log() + self.source[at] / p.epsilon
        right = p.b[to].log() + self.target[to] / p.epsilon
        return p.cost.take(at, to).exponent(left, right, p.epsilon).exp_()


Solver = Callable[[Problem, Tensor, Tensor, Terms], Solved]
"""(problem, φ, ψ, terms) → where it ended."""


def pose(
    cost: Cost,
    *,
    sharpness: float = SHARP,
    epsilon: float | None = None,
    a: Tensor | None = None,
    b: Tensor | None = None,
    relaxation: tuple[float, float] = _BALANCED,
) -> Problem:
    """Check and complete a problem.

    Parameters
    ----------
    sharpness : float
        ε in standard deviations of the double-centred cost; 0.25 is sharp, 0.5 smooth.
    epsilon : float
        ε in units of the cost, in place of `sharpness`.
    a, b : [n], [m]
        Masses; uniform of sum 1 by default.

    Raises
    ------
    TransportFailed
        The cost or ε is not finite, ρ is negative, or masses do not fit the cost.
    """
    if len(cost.sample.shape) != 2 or not all(cost.shape):
        raise TransportFailed("the cost must be a matrix [n, m] with n, m >= 1")
    if not bool(torch.isfinite(cost.sample).all()):
        raise TransportFailed("the cost holds NaN or infinity")
    wanted = sharpness if epsilon is None else epsilon
    if not (math.isfinite(wanted) and wanted > 0):
        raise TransportFailed(f"sharpness and epsilon must be positive numbers, got {wanted}")
    if not all(rho >= 0 for rho in relaxation):
        raise TransportFailed(f"a relaxation is a weight >= 0, got {relaxation}")
    bound = relaxation == _BALANCED
    masses = (_mass(a, cost, 0, "source", bound), _mass(b, cost, 1, "target", bound))
    if epsilon is not None:
        return Problem(cost, *masses, epsilon, relaxation)
    spread = cost.spread()
    # A cost without interaction has the product plan at any ε; one that leaves f/ε its digits.
    scale = spread * sharpness if spread > 0 else max(1.0, 1e-6 * float(cost.sample.abs().max()))
    posed = Problem(cost, *masses, scale, relaxation)
    posed.__dict__["spread"] = spread
    return posed


def solve(
    problem: Problem,
    start: Start | None = None,
    *,
    tolerance: float = 1e-6,
    limit: int = 2000,
    solver: Solver | None = None,
) -> Coupling:
    """Couple the two sides.

    Parameters
    ----------
    start : Start
        Of this problem or one like it; from zero without.
    tolerance : float
        Marginal error to reach.
    limit : int
        Iterations at most.
    solver : Solver
        `by_newton`, `by_kernel` or `by_stream`; by default what `choose` says.

    Raises
    ------
    TransportFailed
        The start is not finite or not of this shape.
    """
    n, m = problem.cost.shape
    begin = start or Start(torch.zeros(n), torch.zeros(m))
    for name, potential, size in (("source", begin.source, n), ("target", begin.target, m)):
        if potential.shape != (size,):
            raise TransportFailed(f"{len(potential)} {name} potentials for {size} points")
        if not bool(torch.isfinite(potential).all()):
            raise TransportFailed(
                f"the {name} potentials to start from hold NaN or infinity: start without them"
            )
    device = problem.cost.sample.device
    phi, psi = (t.to(device).double() / problem.epsilon for t in (begin.source, begin.target))
    terms = Terms(tolerance, limit, begin.contraction)
    found = (solver or choose(problem))(problem, phi, psi, terms)
    gauge = float(found.psi.mean()) if problem.balanced else 0.0
    return Coupling(
        problem=problem,
        source=(found.phi + gauge) * problem.epsilon,
        target=(found.psi - gauge) * problem.epsilon,
        iterations=found.iterations,
        marginal_error=found.error,
        converged=found.error <= tolerance,
        contraction=found.contraction,
    )


def choose(problem: Problem) -> Solver:
    """Newton for small balanced problems on a CPU, the stored kernel, or none where it is large."""
    n, m = problem.cost.shape
    on_cpu = problem.cost.sample.device.type == "cpu"
    if problem.balanced and on_cpu and max(n, m) <= NEWTON_SIDE:
        return by_newton
    return by_kernel if n * m <= DENSE_ENTRIES else by_stream


def by_newton(problem: Problem, phi: Tensor, psi: Tensor, terms: Terms) -> Solved:
    """Dense Newton on the semi-dual, in float64; balanced problems only."""
    if not problem.balanced:
        raise TransportFailed("Newton's semi-dual is that of a balanced problem")
    return newton(problem.cost, problem.dual, psi, terms)


def by_kernel(problem: Problem, phi: Tensor, psi: Tensor, terms: Terms) -> Solved:
    """Over-relaxed Sinkhorn on one absorbed kernel."""
    exact = Streamed(problem.cost, problem.a, problem.b, problem.epsilon)
    sums = Absorbed(exact, phi if bool(phi.any() | psi.any()) else None, psi)
    return iterate(sums, problem.dual, psi, terms)


def by_stream(problem: Problem, phi: Tensor, psi: Tensor, terms: Terms) -> Solved:
    """Over-relaxed Sinkhorn on the fly: never more than a tile of the cost."""
    sums = Streamed(problem.cost, problem.a, problem.b, problem.epsilon, TILE)
    return iterate(sums, problem.dual, psi, terms)


def _conjugate(mass: Tensor, potential: Tensor, rho: float) -> float:
    """−ρ·<mass, exp(−potential/ρ) − 1>; <mass, potential> where the marginal is bound."""
    if rho == math.inf:
        return float(mass @ potential)
    return -rho * float(mass @ torch.expm1(-potential / rho)) if rho else 0.0


def _mass(given: Tensor | None, cost: Cost, side: int, name: str, bound: bool) -> Tensor:
    n, device = cost.shape[side], cost.sample.device
    if given is None:
        return torch.full((n,), 1.0 / n, dtype=torch.float64, device=device)
    mass = given.to(device).double()
    fits = mass.shape == (n,) and bool((mass > 0).all()) and bool(torch.isfinite(mass).all())
    if not fits or (bound and abs(float(mass.sum()) - 1.0) > 1e-6):
        raise TransportFailed(f"{name} mass must be {n} positive numbers of sum 1")
    return mass / mass.sum() if bound else mass
