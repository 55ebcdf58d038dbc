"""The figures of a comparison: means, slices and intervals of each method."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from consumers.contest import Chosen, Outcome
from consumers.dataset import Dataset, Ints
from consumers.scores import K
from model.ranking import coverage, hits, mrr, ndcg_at, novelty, popularity_shift, recall_at

NEW_ITEM = 5
"""Events up to which an item is new."""
HEAD = 0.2
"""Part of the items with events, the most popular ones, that is the head."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One method over all its seeds."""

    name: str
    chosen: Chosen
    outcomes: Sequence[Outcome]


class Slices:
    """Which of the scored events belong to which slice; the same for every method.

    Parameters
    ----------
    data : Dataset
    event : int64[n]
    first : int
        Where the first round stood: a user without events before it is new, and the head are the
        items that were popular by then.
    """

    def __init__(self, data: Dataset, event: Ints, first: int) -> None:
        item, user = data.item[event], data.user[event]
        counts = np.bincount(data.item[:first], minlength=data.items)
        seen = int((counts > 0).sum())
        bar = np.sort(counts)[::-1][max(0, math.ceil(HEAD * seen) - 1)] if seen else 1
        head = (counts >= max(bar, 1))[item]
        order = np.argsort(data.item, kind="stable")
        grouped = np.concatenate([[0], np.cumsum(np.bincount(data.item, minlength=data.items))])
        before = np.empty(len(data), np.int64)
        before[order] = np.arange(len(data)) - grouped[data.item[order]]
        new_user = np.bincount(data.user[:first], minlength=data.users)[user] == 0
        self.masks: dict[str, NDArray[np.bool_]] = {
            "known_users": ~new_user,
            "new_users": new_user,
            "new_items": before[event] <= NEW_ITEM,
            "head": head,
            "tail": ~head,
        }

    def recall(self, ranks: NDArray[np.float64]) -> dict[str, float | None]:
        """Recall@20 by slice; None where nothing is in it."""
        return {n: recall_at(ranks[m], K) if m.any() else None for n, m in self.masks.items()}


def figures(data: Dataset, standing: Standing, slices: Slices) -> dict[str, object]:
    """Everything that is reported of a method, as JSON."""
    out: dict[str, object] = {}
    each = [_of_seed(data, outcome) for outcome in standing.outcomes]
    for name in each[0]:
        out[name] = float(np.mean([one[name] for one in each]))
    recalls = [one[f"recall@{K}"] for one in each]
    first = standing.outcomes[0]
    users = over_users(hits(first.ranks, K), data.user[first.event])
    several = len(recalls) > 1
    ranks = np.concatenate([o.ranks for o in standing.outcomes])
    number = np.concatenate([o.round for o in standing.outcomes])
    out |= {
        "ci95": over_seeds(recalls) if several else users,
        "ci95_over": "seeds" if several else "users",
        "ci95_users": users,
        "seeds": recalls,
        "slices": _mean([slices.recall(o.ranks) for o in standing.outcomes]),
        f"recall@{K}_by_round": [
            recall_at(ranks[number == r], K) if (number == r).any() else None
            for r in range(int(number.max(initial=-1)) + 1)
        ],
        "cpu_s": float(np.mean([sum(o.learn_s) for o in standing.outcomes])),
        "cpu_s_by_round": np.mean([o.learn_s for o in standing.outcomes], axis=0).tolist(),
        "score_cpu_s": float(np.mean([o.score_s for o in standing.outcomes])),
        "tune_cpu_s": standing.chosen.cpu_s,
        "setting": dict(standing.chosen.setting),
        "popularity": dict(zip(("weight", "half_life"), standing.chosen.prior, strict=True)),
        "terms_by_round": [[asdict(t) for t in outcome.terms] for outcome in standing.outcomes],
        f"valid_recall@{K}": standing.chosen.recall,
    }
    return out


def _of_seed(data: Dataset, outcome: Outcome) -> dict[str, float]:
    first, last = int(outcome.event[0]), int(outcome.event[-1])
    counted = np.bincount(data.item[:first], minlength=data.items).astype(np.float64)
    known = data.vocabulary(last)
    return {
        f"recall@{K}": recall_at(outcome.ranks, K),
        f"ndcg@{K}": ndcg_at(outcome.ranks, K),
        "mrr": mrr(outcome.ranks),
        f"strict_recall@{K}": recall_at(outcome.strict, K),
        f"strict_ndcg@{K}": ndcg_at(outcome.strict, K),
        f"coverage@{K}": coverage(outcome.top, known),
        f"novelty@{K}": novelty(outcome.top, counted),
        f"popularity_shift@{K}": popularity_shift(outcome.top, data.item[outcome.event], counted),
    }


def over_users(values: NDArray[np.float64], user: Ints) -> tuple[float, float]:
    """95 % interval of the mean where a user's events hang together (cluster-robust).

    mean ± 1.96·sqrt(Σ_u (Σ_{e of u} (x_e - mean))²) / n
    """
    n, mean = max(len(values), 1), float(values.mean()) if len(values) else 0.0
    sums = np.bincount(user, values - mean)
    half = 1.96 * float(np.sqrt((sums**2).sum())) / n
    return mean - half, mean + half


def over_seeds(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean by Student's t over the seeds."""
    mean, n = float(np.mean(values)), len(values)
    half = float(stats.t.ppf(0.975, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return mean - half, mean + half


def _mean(each: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    found = {name: [v for one in each if (v := one[name]) is not None] for name in each[0]}
    return {name: float(np.mean(values)) if values else None for name, values in found.items()}
