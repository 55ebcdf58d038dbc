"""How far apart two spaces of the same items are, and what the contrastive loss promises of it.

References
----------
Shao, Wu: A General Theory for Jackknife Variance Estimation, Annals of Statistics 1989.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from model.bounds import gap_bound

HALVES = 24
"""Random halves of the sample from which the interval comes."""
_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Gap:
    """Distances on one sample of items, both spaces at length 1.

    Attributes
    ----------
    rows : int
    wasserstein : float
        W1 of the two empirical laws under the Euclidean distance, exact: the cheapest assignment.
    wasserstein_low, wasserstein_high : float
        95 % interval over the choice of items, by the spread of W1 over random halves. It does not
        hold the bias of a finite sample in d dimensions, which is upwards.
    contrast : float
        CMCL loss L of these rows.
    temperature : float
        τ of that loss.
    observed : float
        t = mean ‖a_i − b_i‖², of an item's own vector and its image.
    bound : float
        What L proves of t: `model.bounds.gap_bound`. Never below ``observed``.
    """

    rows: int
    wasserstein: float
    wasserstein_low: float
    wasserstein_high: float
    contrast: float
    temperature: float
    observed: float
    bound: float


def gap(
    own: NDArray[np.float32],
    image: NDArray[np.float32],
    *,
    temperature: float,
    rng: np.random.Generator,
) -> Gap:
    """Measure two spaces on the same items.

    Parameters
    ----------
    own, image : float32[n, d]
        Rows of at least two items, of any length but 0.
    rng : Generator
        Draws the halves.
    """
    a, b = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in map(np.float64, (own, image))
    )
    cosines = a @ b.T
    cost = np.sqrt(np.maximum(2.0 - 2.0 * cosines, 0.0))
    centre, width = assignment(cost), _Z * _deviation(cost, rng)
    loss = contrast(cosines, temperature)
    return Gap(
        rows=len(a),
        wasserstein=centre,
        wasserstein_low=max(centre - width, 0.0),
        wasserstein_high=min(centre + width, 2.0),
        contrast=loss,
        temperature=temperature,
        observed=float(((a - b) ** 2).sum(1).mean()),
        bound=gap_bound(loss, len(a), temperature),
    )


def contrast(cosines: NDArray[np.float64], temperature: float) -> float:
    """CMCL loss of cosines s [n, n]: mean_i log(1 + Σ_j≠i exp((s_ij − s_ii)/τ)).

    `model.losses.contrastive_loss` is the same but for rounding: of spaces that agree it gives 0,
    from which a bound of 0 would follow.
    """
    excess = np.exp((cosines - cosines.diagonal()[:, None]) / temperature)
    np.fill_diagonal(excess, 0.0)
    return float(np.log1p(excess.sum(axis=1)).mean())


def assignment(cost: NDArray[np.float64]) -> float:
    """Exact transport value of two uniform samples of the same size, from their cost [n, n].

    Some optimal plan is a permutation (Birkhoff), so this is what a network simplex would find.
    """
    rows, columns = linear_sum_assignment(cost)
    return float(cost[rows, columns].mean())


def _deviation(cost: NDArray[np.float64], rng: np.random.Generator) -> float:
    """Standard error of W1: with half of the items left out, the jackknife's factor is 1."""
    n = len(cost)
    if n < 4:
        return 2.0
    found: list[float] = []
    for _ in range(HALVES):
        half = rng.permutation(n)[: n // 2]
        found.append(assignment(cost[np.ix_(half, half)]))
    return float(np.std(found, ddof=1))
