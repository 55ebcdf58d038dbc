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
        if not np.isfinite(scores).all():
            raise InvalidInput("a score is NaN or infinite: check the vectors for it")
        chosen = target[start:stop]
        bar = scores[np.arange(stop - start), chosen]
        _exclude(scores, seen, start, stop, allowed)
        scores[np.arange(stop - start), chosen] = -np.inf
        above = np.count_nonzero(scores > bar[:, None], axis=1)
        equal = np.count_nonzero(scores == bar[:, None], axis=1)
        ranks[start:stop] = 1 + above + equal / 2
    return ranks


def recall_at(ranks: NDArray[np.float64], k: int) -> float:
    """Share of ranks at most k; NaN when there are none."""
    return float(np.mean(ranks <= k)) if len(ranks) else float("nan")


def ndcg_at(ranks: NDArray[np.float64], k: int) -> float:
    """Mean of `discounted_gains`; NaN when there are none."""
    return float(np.mean(discounted_gains(ranks, k))) if len(ranks) else float("nan")


def discounted_gains(ranks: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """NDCG@k of each single target, 1/log2(1 + rank) where the rank is at most k, else 0."""
    gains: NDArray[np.float64] = np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks), 0.0)
    return gains


def mrr(ranks: NDArray[np.float64]) -> float:
    """Mean reciprocal rank; NaN when there are none."""
    return float(np.mean(1.0 / ranks)) if len(ranks) else float("nan")


def _exclude(
    scores: NDArray[np.float32],
    seen: tuple[NDArray[np.int64], NDArray[Any]],
    start: int,
    stop: int,
    allowed: NDArray[np.bool_] | None,
) -> None:
    indptr, excluded = seen
    rows = np.repeat(np.arange(stop - start), np.diff(indptr[start : stop + 1]))
    scores[rows, excluded[indptr[start] : indptr[stop]]] = -np.inf
    if allowed is not None:
        scores[:, ~allowed] = -np.inf


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
