"""Lists that are not all alike: maximal marginal relevance, and caps on categories.

References
----------
Carbonell, Goldstein: The Use of MMR, Diversity-Based Reranking for Reordering Documents and
Producing Summaries. SIGIR 1998.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from consumers.serving_rules import Entry


def mmr(
    scores: NDArray[np.float64], vectors: NDArray[np.float32], k: int, relevance: float
) -> list[int]:
    """Places in the pool of ``k`` candidates, in the order in which they are shown.

    Each is ``argmax_i λ·r_i - (1 - λ)·max_{j shown} cos(z_i, z_j)`` of those not yet shown, ``r``
    the scores scaled to 0..1 over the pool, so that λ means the same for any scale of scores.

    Parameters
    ----------
    scores : float64[n]
    vectors : float32[n, d]
        Zero rows are like nothing.
    k : int
        At most n are given.
    relevance : float
        λ, 0 to 1; 1 orders by score alone.
    """
    n = len(scores)
    if not n:
        return []
    spread = float(scores.max() - scores.min())
    worth = relevance * (scores - scores.min()) / (spread or 1.0)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.where(lengths > 0, lengths, 1.0)
    alike = np.full(n, -np.inf)
    left = np.ones(n, np.bool_)
    chosen: list[int] = []
    for _ in range(min(k, n)):
        loss = (1.0 - relevance) * np.where(np.isfinite(alike), alike, 0.0)
        best = int(np.argmax(np.where(left, worth - loss, -np.inf)))
        chosen.append(best)
        left[best] = False
        alike = np.maximum(alike, units @ units[best])
    return chosen


def capped(pool: Sequence[Entry], cap: int) -> list[Entry]:
    """The pool in its order, without what would be more than ``cap`` items of any category."""
    counts: Counter[str] = Counter()
    return [entry for entry in pool if _fits(entry, counts, cap)]


def spare(shown: Sequence[Entry], pool: Sequence[Entry], cap: int) -> list[Entry]:
    """Those of the pool all of which could be shown beside ``shown`` under a cap."""
    counts = Counter(name for entry in shown for name in set(entry.facts.categories))
    return [entry for entry in pool if _fits(entry, counts, cap)]


def _fits(entry: Entry, counts: Counter[str], cap: int) -> bool:
    """Count an item where it fits; say whether it does."""
    names = set(entry.facts.categories)
    if any(counts[name] >= cap for name in names):
        return False
    counts.update(names)
    return True
