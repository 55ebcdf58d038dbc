"""Ways to give a new item a vector and an expected count by its text, for `cold.py` to compare."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model.cold import Placed, place
from model.costs import cosine
from model.data import unit_rows
from model.text_map import fit_map
from model.transport import pose, solve

Floats = NDArray[np.float32]
OURS = "ridge map"


@dataclass(frozen=True, slots=True)
class Known:
    """What a placement may use of a version.

    Attributes
    ----------
    text : float32[m, t], at length 1
    vectors : float32[m, d]
    counts : float64[m]
        Recent ones.
    head : float32[t, d]
        The version's own map from texts to vectors.
    epsilon : float
    """

    text: Floats
    vectors: Floats
    counts: NDArray[np.float64]
    head: Floats
    epsilon: float

    def mean(self, plan: NDArray[np.float64]) -> Placed:
        """Barycentres under a plan whose rows have sum 1, float64[n, m]."""
        return Placed((plan @ self.vectors).astype(np.float32), plan @ self.counts)


def nowhere(text: Floats, known: Known) -> Placed:
    """New items are not placed: no direction, no count."""
    return Placed(np.zeros((len(text), known.vectors.shape[1]), np.float32), np.zeros(len(text)))


def by_head(text: Floats, known: Known) -> Placed:
    """Each where its text is mapped to, with the mean count."""
    return Placed(unit_rows(text @ known.head), np.full(len(text), known.counts.mean()))


def by_nearest(text: Floats, known: Known, k: int = 5) -> Placed:
    """The mean of the warm items that are nearest by text."""
    near = np.argpartition(-(text @ known.text.T), k, axis=1)[:, :k]
    plan = np.zeros((len(text), len(known.text)))
    np.put_along_axis(plan, near, 1.0 / k, axis=1)
    return known.mean(plan)


def by_kernel(text: Floats, known: Known) -> Placed:
    """exp(cos/ε), all warm items alike: no counts in the reference."""
    even = np.ones(len(known.text))
    vectors = place(text, known.text, known.vectors, even, epsilon=known.epsilon).vectors
    counts = place(
        text, known.text, known.counts[:, None].astype("f4"), even, epsilon=known.epsilon
    )
    return Placed(vectors, counts.vectors[:, 0].astype(np.float64))


def by_transport(relaxation: float) -> Callable[[Floats, Known], Placed]:
    """Entropic plan to the warm items, all of one mass, bound by so much (inf: balanced)."""

    def placed(text: Floats, known: Known) -> Placed:
        cost = cosine(torch.from_numpy(text), torch.from_numpy(known.text))
        found = solve(
            pose(cost, epsilon=known.epsilon, relaxation=(float("inf"), relaxation)),
            tolerance=1e-4,
        )
        both = np.concatenate([known.vectors, known.counts[:, None]], 1, dtype=np.float32)
        mean = found.barycentric(torch.from_numpy(both)).numpy()
        return Placed(mean[:, :-1].astype(np.float32), mean[:, -1].astype(np.float64))

    return placed


def by_counts(text: Floats, known: Known) -> Placed:
    """The semi-relaxed plan whose reference measure is the recent counts."""
    return place(text, known.text, known.vectors, known.counts, epsilon=known.epsilon)


def by_map(text: Floats, known: Known) -> Placed:
    """What is served: a linear map, where it explains anything of the items left out."""
    by = fit_map(known.text, known.vectors)
    warm = (known.text, known.vectors, known.counts)
    return place(text, *warm, epsilon=known.epsilon, by=by)


PLACEMENTS: dict[str, Callable[[Floats, Known], Placed]] = {
    "nowhere": nowhere,
    "text head": by_head,
    "mean of the 5 nearest": by_nearest,
    "softmax kernel": by_kernel,
    "balanced transport": by_transport(float("inf")),
    "unbalanced transport": by_transport(0.05),
    "semi-relaxed, recent counts": by_counts,
    OURS: by_map,
}
