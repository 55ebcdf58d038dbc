"""Transport between the ID space and a modality's, solved in each fine-tune from the last one's.

Both spaces live in the items' d dimensions: an item's own vector normalise(E_i) on one side,
its image normalise(W·x_i) on the other. The coupling says how far apart the two clouds
are (cost, divergence) and how sharply they match (perplexity).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model.costs import cosine
from model.couplings import resume
from model.divergence import self_value
from model.gaps import Gap, gap
from model.kept_coupling import WarmStart
from model.transport import SMOOTH, by_kernel, pose, solve

TOLERANCE = 1e-6
LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Alignment:
    """Evidence of the coupling of one fine-tune.

    The cost is 1 − cos, half the squared distance of vectors at length 1.

    Attributes
    ----------
    pairs : int
        Items on both sides.
    cost : float
        <P, 1 − cos>.
    paired_cost : float
        Mean 1 − cos of an item with its own image; 1 when the two are unrelated.
    divergence : float
        Sinkhorn divergence, `cost` without the blur of ε: 0 when the clouds coincide.
    perplexity : float
        Images that an item is spread over.
    warm : bool
        Whether it started from the potentials of an earlier fine-tune.
    cold_because : str or None
        Why they were not used.
    iterations, cold_iterations : int
        From those potentials, and for the same problem from nothing.
    marginal_error, cold_marginal_error : float
        L1, both marginals; likewise.
    converged : bool
        Whether that reached 1e-6.
    gap : Gap
        W1, the contrastive loss, what it proves, and what is.

    References
    ----------
    Feydy et al.: Interpolating between Optimal Transport and MMD using Sinkhorn Divergences,
    AISTATS 2019.
    """

    pairs: int
    cost: float
    paired_cost: float
    divergence: float
    perplexity: float
    warm: bool
    cold_because: str | None
    iterations: int
    cold_iterations: int
    marginal_error: float
    cold_marginal_error: float
    converged: bool
    gap: Gap


def align(
    own: NDArray[np.float32],
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    start: WarmStart | None,
    sample: int,
    *,
    temperature: float,
    rng: np.random.Generator,
) -> tuple[Alignment, WarmStart] | None:
    """Couple the two spaces on the items that are in both.

    Parameters
    ----------
    own, image : float32[I, d]
        Vectors of every item in either space; lengths do not matter.
    usable : bool[I]
        Items with events and an image.
    start : WarmStart
        Of the last fine-tune.
    sample : int
        Items at most.
    temperature : float
        τ of the contrastive loss in the gap.
    rng : Generator
        For the confidence of its W1.

    Returns
    -------
    None when fewer than two items can be paired.

    Raises
    ------
    TransportFailed
        A vector or the start is not finite.
    """
    ids = paired_sample(usable, sample)
    if len(ids) < 2:
        return None
    left, right = (torch.from_numpy(t[ids]).double() for t in (own, image))
    cost = cosine(left, right)
    found = resume(
        cost,
        start,
        source_ids=ids,
        target_ids=ids,
        sharpness=SMOOTH,
        tolerance=TOLERANCE,
        limit=LIMIT,
        solver=by_kernel,
    )
    solved = found.coupling
    cold = (
        solved
        if found.cold_because is not None
        else solve(solved.problem, tolerance=TOLERANCE, limit=LIMIT, solver=by_kernel)
    )
    evidence = Alignment(
        pairs=len(ids),
        cost=solved.cost,
        paired_cost=float(cost.dense().diagonal().mean()),
        divergence=solved.dual - _blur(left, right, solved.problem.epsilon),
        perplexity=solved.perplexity,
        warm=found.cold_because is None,
        cold_because=found.cold_because,
        iterations=solved.iterations,
        cold_iterations=cold.iterations,
        marginal_error=solved.marginal_error,
        cold_marginal_error=cold.marginal_error,
        converged=solved.converged,
        gap=gap(own[ids], image[ids], temperature=temperature, rng=rng),
    )
    return evidence, found.kept


def paired_sample(usable: NDArray[np.bool_], sample: int) -> NDArray[np.int64]:
    """Up to ``sample`` of the usable items, ascending int64[n].

    The sample depends on nothing but the items, is spread over all of them, and changes only
    in proportion as they do: most potentials of the last one can be gone on from.
    """
    ids = np.flatnonzero(usable).astype(np.int64)
    # Multiplying by an odd number permutes the integers below 2^64.
    place = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return np.sort(ids[np.argsort(place, kind="stable")[:sample]])


def _blur(left: torch.Tensor, right: torch.Tensor, epsilon: float) -> float:
    """What it costs at this ε to carry the clouds to themselves; 0 without regularisation."""
    clouds = (pose(cosine(cloud, cloud), epsilon=epsilon) for cloud in (left, right))
    return sum(self_value(cloud, tolerance=TOLERANCE, limit=LIMIT) for cloud in clouds) / 2.0
