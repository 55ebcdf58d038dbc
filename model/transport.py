"""Balanced entropic optimal transport between two samples, from a cold or a warm start.

The plan P_ij = a_i·b_j·exp((f_i + g_j − C_ij)/ε) has the marginals a and b, of mass 1. The
potentials f and g are kept against the product measure, so that a change of n does not shift
them. Solved in absorbed-kernel form: one exponential at the potentials at hand, then
matrix-vector products, absorbed into the potentials before they could overflow.

References
----------
Cuturi: Sinkhorn Distances, NeurIPS 2013.
Schmitzer: Stabilized Sparse Scaling Algorithms for Entropy Regularized Transport, 2019.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.errors import TransportFailed

Floats = NDArray[np.float64]

_ABSORB = 20.0
"""Largest |log scaling| that stays outside the potentials."""
_TINY = 1e-300


@dataclass(frozen=True, slots=True)
class Potentials:
    """Dual potentials of a solved problem, from which a later one starts.

    Attributes
    ----------
    source_ids, target_ids : int64[n], int64[m]
        What the rows and columns were, so that they are found again after others came or left.
    source, target : float64[n], float64[m]
        f and g, in units of the cost; gauge: the mean of g is 0.
    epsilon : float
        Regularisation they were solved at, in units of the cost.
    spread : float
        Standard deviation of the double-centred cost.
    """

    source_ids: NDArray[np.int64]
    target_ids: NDArray[np.int64]
    source: Floats
    target: Floats
    epsilon: float
    spread: float


@dataclass(frozen=True, slots=True)
class Coupling:
    """A solved problem and the evidence for it.

    Attributes
    ----------
    plan : float64[n, m]
    cost : float
        <P, C>.
    dual : float
        <a, f> + <b, g>, at the solution <P, C> + ε·KL(P | ab): the problem's value.
    iterations : int
        Pairs of half-steps taken.
    marginal_error : float
        L1 distance of the plan's marginals from a and b, summed.
    converged : bool
        Whether the error reached the tolerance that was asked for.
    perplexity : float
        exp of the mean entropy of the rows: how many targets a source is spread over.
    """

    potentials: Potentials
    plan: Floats
    cost: float
    dual: float
    iterations: int
    marginal_error: float
    converged: bool
    perplexity: float


@dataclass(frozen=True, slots=True)
class _Problem:
    cost: Floats
    a: Floats
    b: Floats
    source_ids: NDArray[np.int64]
    target_ids: NDArray[np.int64]
    epsilon: float
    tolerance: float


@dataclass(frozen=True, slots=True)
class _Solved:
    f: Floats
    g: Floats
    plan: Floats
    iterations: int
    error: float


def spread(cost: Floats) -> float:
    """Return the standard deviation of the double-centred cost, what couplings depend on.

    Adding a constant to a row or a column of the cost changes no plan; what is left after both
    means are removed is the scale that ε has to be measured against.
    """
    centred = cost - cost.mean(0, keepdims=True) - cost.mean(1, keepdims=True) + cost.mean()
    # What is left of a cost without interaction is rounding error.
    rounding = 1e-12 * float(np.abs(cost).max())
    deviation = float(centred.std())
    return deviation if deviation > rounding else 0.0


def solve(
    cost: Floats,
    *,
    sharpness: float = 0.25,
    epsilon: float | None = None,
    start: Potentials | None = None,
    source_ids: NDArray[np.int64] | None = None,
    target_ids: NDArray[np.int64] | None = None,
    source_mass: Floats | None = None,
    target_mass: Floats | None = None,
    tolerance: float = 1e-6,
    limit: int = 2000,
) -> Coupling:
    """Couple two samples.

    Parameters
    ----------
    cost : float64[n, m]
    sharpness : float
        ε in standard deviations of the double-centred cost; 0.25 is sharp, 0.5 smooth.
    epsilon : float
        ε in units of the cost, in place of `sharpness`.
    start : Potentials
        Of an earlier problem. Rows and columns are matched by id; newcomers get theirs by the
        c-transform against those that stayed; all are rescaled with the cost.
    source_ids, target_ids : int64[n], int64[m]
        Unique; 0, 1, .. by default.
    source_mass, target_mass : float64[n], float64[m]
        a and b, positive, of sum 1; uniform by default.
    tolerance : float
        Marginal error to reach.
    limit : int
        Iterations at most.

    Raises
    ------
    TransportFailed
        The cost, ε or the start are not finite, or masses and ids do not fit the cost.
    """
    rows, columns = cost.shape if cost.ndim == 2 else (0, 0)
    _check(cost, sharpness if epsilon is None else epsilon, start)
    scale = spread(cost) if rows and columns else 0.0
    problem = _Problem(
        cost=cost,
        a=_mass(source_mass, rows, "source"),
        b=_mass(target_mass, columns, "target"),
        source_ids=_ids(source_ids, rows, "source"),
        target_ids=_ids(target_ids, columns, "target"),
        epsilon=_epsilon(sharpness, scale, cost) if epsilon is None else epsilon,
        tolerance=tolerance,
    )
    solved = _iterate(problem, *_warm(problem, start, scale), limit)
    gauge = float(solved.g.mean())
    return Coupling(
        potentials=Potentials(
            source_ids=problem.source_ids,
            target_ids=problem.target_ids,
            source=solved.f + gauge,
            target=solved.g - gauge,
            epsilon=problem.epsilon,
            spread=scale,
        ),
        plan=solved.plan,
        cost=float((solved.plan * cost).sum()),
        dual=float(problem.a @ solved.f + problem.b @ solved.g),
        iterations=solved.iterations,
        marginal_error=solved.error,
        converged=solved.error <= tolerance,
        perplexity=_perplexity(solved.plan, problem.a),
    )


def _iterate(problem: _Problem, f: Floats, g: Floats, limit: int) -> _Solved:
    """Alternate the two half-steps until the marginals fit."""
    a, b, epsilon = problem.a, problem.b, problem.epsilon
    # A row-wise c-transform first: no kernel entry can then overflow, whatever the start.
    f = _transform(problem.cost, g, b, epsilon)
    kernel = _kernel(problem, f, g)
    u, v = np.ones_like(a), np.ones_like(b)
    error = _error(kernel, a * u, b * v, problem)
    iterations = 0
    while error > problem.tolerance and iterations < limit:
        before = u
        v = 1.0 / np.maximum((a * u) @ kernel, _TINY)
        u = 1.0 / np.maximum(kernel @ (b * v), _TINY)
        iterations += 1
        if max(np.abs(np.log(u)).max(), np.abs(np.log(v)).max()) > _ABSORB:
            # The same two half-steps by c-transforms, which cannot underflow as u and v may have.
            g = _transform(problem.cost.T, f + epsilon * np.log(before), a, epsilon)
            f = _transform(problem.cost, g, b, epsilon)
            kernel = _kernel(problem, f, g)
            u, v = np.ones_like(a), np.ones_like(b)
        error = _error(kernel, a * u, b * v, problem)
    plan = (a * u)[:, None] * kernel * (b * v)[None, :]
    return _Solved(f + epsilon * np.log(u), g + epsilon * np.log(v), plan, iterations, error)


def _warm(problem: _Problem, start: Potentials | None, scale: float) -> tuple[Floats, Floats]:
    """Place the start's potentials on this problem's rows and columns."""
    f, g = np.zeros(len(problem.a)), np.zeros(len(problem.b))
    if start is None or start.spread <= 0 or scale <= 0:
        return f, g
    ratio = scale / start.spread
    stay_f, from_f = _matched(problem.source_ids, start.source_ids)
    stay_g, from_g = _matched(problem.target_ids, start.target_ids)
    if not stay_f.any():
        return f, g
    f[stay_f] = start.source[from_f] * ratio
    g[stay_g] = start.target[from_g] * ratio
    if not stay_g.all():
        kept = problem.a[stay_f] / problem.a[stay_f].sum()
        across = problem.cost[np.ix_(stay_f, ~stay_g)].T
        g[~stay_g] = _transform(across, f[stay_f], kept, problem.epsilon)
    return f, g


def _matched(
    ids: NDArray[np.int64], known: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which ids are known, and where."""
    order = np.argsort(known, kind="stable")
    at = np.searchsorted(known, ids, sorter=order)
    place = order[np.minimum(at, len(known) - 1)] if len(known) else np.zeros(len(ids), np.int64)
    stay = known[place] == ids if len(known) else np.zeros(len(ids), np.bool_)
    return stay, place[stay]


def _transform(cost: Floats, g: Floats, b: Floats, epsilon: float) -> Floats:
    """Soft c-transform −ε·log Σ_j b_j·exp((g_j − C_ij)/ε), float64[n]."""
    exponent = (g[None, :] - cost) / epsilon
    top = exponent.max(1)
    transformed: Floats = -epsilon * (np.log(np.exp(exponent - top[:, None]) @ b) + top)
    return transformed


def _kernel(problem: _Problem, f: Floats, g: Floats) -> Floats:
    kernel: Floats = np.exp((f[:, None] + g[None, :] - problem.cost) / problem.epsilon)
    return kernel


def _error(kernel: Floats, au: Floats, bv: Floats, problem: _Problem) -> float:
    rows = au * (kernel @ bv) - problem.a
    columns = bv * (au @ kernel) - problem.b
    return float(np.abs(rows).sum() + np.abs(columns).sum())


def _perplexity(plan: Floats, a: Floats) -> float:
    share = plan / a[:, None]
    logs = np.log(np.maximum(share, _TINY))
    return float(np.exp(-(a[:, None] * share * logs).sum()))


def _epsilon(sharpness: float, scale: float, cost: Floats) -> float:
    """ε of a cost; one without interaction has the product plan at any ε."""
    return sharpness * scale if scale > 0 else max(1.0, 1e-12 * float(np.abs(cost).max()))


def _check(cost: Floats, epsilon: float, start: Potentials | None) -> None:
    if not np.isfinite(cost).all():
        raise TransportFailed("the cost holds NaN or infinity")
    if not (np.isfinite(epsilon) and epsilon > 0):
        raise TransportFailed(f"sharpness and epsilon must be positive numbers, got {epsilon}")
    if start is None:
        return
    for name, potential in (("source", start.source), ("target", start.target)):
        if not np.isfinite(potential).all():
            raise TransportFailed(
                f"the {name} potentials to start from hold NaN or infinity: start without them"
            )


def _mass(given: Floats | None, n: int, side: str) -> Floats:
    if n == 0:
        raise TransportFailed("the cost must be a matrix [n, m] with n, m >= 1")
    if given is None:
        return np.full(n, 1.0 / n)
    if given.shape != (n,) or not (given > 0).all() or abs(float(given.sum()) - 1.0) > 1e-6:
        raise TransportFailed(f"{side} mass must be {n} positive numbers of sum 1")
    shares: Floats = given / given.sum()
    return shares


def _ids(given: NDArray[np.int64] | None, n: int, side: str) -> NDArray[np.int64]:
    ids = np.arange(n, dtype=np.int64) if given is None else given
    if ids.shape != (n,) or len(np.unique(ids)) != n:
        raise TransportFailed(f"{side} ids must be {n} different numbers")
    return ids
