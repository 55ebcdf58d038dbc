"""Where the item that was chosen stood among all items, and the figures made from it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import InvalidInput

_BLOCK = 1 << 24
"""Scores held at a time (64 MB of float32)."""


def mid_ranks(
    users: NDArray[np.float32],
    items: NDArray[np.float32],
    target: NDArray[Any],
    seen: tuple[NDArray[np.int64], NDArray[Any]],
    allowed: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Rank of each target under dot product, 1 the best; ties count half.

    rank = 1 + #{score > target's} + #{other items, score = target's} / 2, over the items that
    are allowed and not seen. The target itself always takes part.

    Parameters
    ----------
    users : float32[n, D]
    items : float32[I, D]
    target : int[n]
    seen : (int64[n + 1], int[m])
        Items excluded from each row, as CSR; repeated ones count once.
    allowed : bool[I]
        Items that can be served; all by default.

    Returns
    -------
    float64[n]
    """
    _check(users, items, target, seen)
    ranks = np.empty(len(users))
    step = max(1, _BLOCK // max(1, len(items)))
    for start in range(0, len(users), step):
        stop = min(start + step, len(users))
        scores = users[start:stop] @ items.T
        pointers = seen[0][start : stop + 1]
        mine = (pointers - pointers[0], seen[1][pointers[0] : pointers[-1]])
        ranks[start:stop] = ranks_of(scores, target[start:stop], mine, allowed)
    return ranks


def ranks_of(
    scores: NDArray[np.float32],
    target: NDArray[Any],
    seen: tuple[NDArray[np.int64], NDArray[Any]],
    allowed: NDArray[np.bool_] | None = None,
    known: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Rank of each target in a row of scores, as `mid_ranks`, float64[n].

    Parameters
    ----------
    scores : float32[n, I]
        Overwritten: what is excluded becomes -inf.
    target : int[n]
    seen : (int64[n + 1], int[m])
    allowed : bool[I]
    known : int64[n]
        Items that there were when each row was asked, the first ones; a target beyond is at inf.

    Raises
    ------
    InvalidInput
        A score is NaN or infinite.
    """
    if not np.isfinite(scores).all():
        raise InvalidInput("a score is NaN or infinite: check the vectors for it")
    row = np.arange(len(scores))
    bar = scores[row, target]
    indptr, excluded = seen
    scores[np.repeat(row, np.diff(indptr)), excluded] = -np.inf
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    if known is not None:
        scores[np.arange(scores.shape[1]) >= known[:, None]] = -np.inf
    scores[row, target] = -np.inf
    above = np.count_nonzero(scores > bar[:, None], axis=1)
    equal = np.count_nonzero(scores == bar[:, None], axis=1)
    ranks: NDArray[np.float64] = 1 + above + equal / 2
    if known is not None:
        ranks[np.asarray(target) >= known] = np.inf
    return ranks


def recall_at(ranks: NDArray[np.float64], k: int) -> float:
    """Share of ranks at most k; NaN when there are none."""
    return float(np.mean(hits(ranks, k))) if len(ranks) else float("nan")


def ndcg_at(ranks: NDArray[np.float64], k: int) -> float:
    """Mean of `discounted_gains`; NaN when there are none."""
    return float(np.mean(discounted_gains(ranks, k))) if len(ranks) else float("nan")


def discounted_gains(ranks: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """NDCG@k of each single target, 1/log2(1 + rank) where the rank is at most k, else 0."""
    gains: NDArray[np.float64] = np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks), 0.0)
    return gains


def mrr(ranks: NDArray[np.float64]) -> float:
    """Mean reciprocal rank; NaN when there are none."""
    return float(np.mean(reciprocal(ranks))) if len(ranks) else float("nan")


def hits(ranks: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Recall@k of each single target: 1 where the rank is at most k, else 0."""
    return (ranks <= k).astype(np.float64)


def reciprocal(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / rank of each target, 0 where it is infinite."""
    inverse: NDArray[np.float64] = 1.0 / ranks
    return inverse


def coverage(shown: NDArray[np.int64], items: int) -> float:
    """Share of ``items`` that were shown at least once; NaN without any. -1 is no item."""
    return len(np.unique(shown[shown >= 0])) / items if items else float("nan")


def novelty(shown: NDArray[np.int64], counts: NDArray[np.float64]) -> float:
    """Mean self-information of what was shown, bits: -log2((n_i + 1) / Σ_j (n_j + 1)).

    Parameters
    ----------
    shown : int64[...]
        Items, -1 for none.
    counts : float64[I]
        Events of each item.
    """
    bits = -np.log2((counts + 1.0) / (counts + 1.0).sum())
    own = shown[shown >= 0]
    return float(bits[own].mean()) if len(own) else float("nan")


def popularity_shift(
    shown: NDArray[np.int64], chosen: NDArray[np.int64], counts: NDArray[np.float64], bins: int = 10
) -> float:
    """How far the popularity of what was shown is from that of what was chosen, bits in [0, 1].

    Jensen-Shannon divergence between the two distributions over ``bins`` classes of items, each
    with as equal a part of all events as whole items allow, the most popular first. 0: what is
    shown is as popular as what is chosen.
    """
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    of = np.empty(len(counts), np.int64)
    of[order] = np.minimum(before * bins / max(counts.sum(), 1.0), bins - 1).astype(np.int64)
    own = shown[shown >= 0]
    if not len(own) or not len(chosen):
        return float("nan")
    p, q = (np.bincount(of[x], minlength=bins) / len(x) for x in (own, chosen))
    middle = (p + q) / 2
    return float((_divergence(p, middle) + _divergence(q, middle)) / 2)


def _divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    some = p > 0
    return float((p[some] * np.log2(p[some] / q[some])).sum())


def _check(
    users: NDArray[np.float32],
    items: NDArray[np.float32],
    target: NDArray[Any],
    seen: tuple[NDArray[np.int64], NDArray[Any]],
) -> None:
    if users.ndim != 2 or items.ndim != 2 or users.shape[1] != items.shape[1]:
        raise InvalidInput(f"users {users.shape} and items {items.shape} differ in dimension")
    indptr, excluded = seen
    if len(target) != len(users) or len(indptr) != len(users) + 1 or indptr[-1] != len(excluded):
        raise InvalidInput(
            f"{len(users)} users came with {len(target)} targets and {len(indptr)} pointers"
            f" to {len(excluded)} seen items"
        )
    for name, index in (("target", target), ("seen item", excluded)):
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(items):
            raise InvalidInput(f"a {name} is outside the {len(items)} items")
