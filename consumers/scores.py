"""Figures of a ranking, over everything and over what came lately."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river import stats, utils

from model.ranking import discounted_gains, hits, reciprocal
from stream.batch import Kind

K = 20
SCORED_KINDS = (Kind.CLICK, Kind.LIKE, Kind.ADD_TO_CART, Kind.PURCHASE, Kind.AD_CLICK)
BASELINE_HALF_LIVES = (1_000.0, 3_000.0, 10_000.0, 30_000.0)
"""Of the windowed popularity to beat, in events; the best of them counts."""
LATELY = 5_000  # events of the moving figures


@dataclass(slots=True)
class Score:
    """Sums over scored events; the figures are their means."""

    events: int = 0
    recall: float = 0.0
    ndcg: float = 0.0
    mrr: float = 0.0

    def add(self, ranks: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take in mid-ranks (1 is the top, inf a miss); return each one's Recall@20."""
        hit = hits(ranks, K)
        self.events += len(ranks)
        self.recall += float(hit.sum())
        self.ndcg += float(discounted_gains(ranks, K).sum())
        self.mrr += float(reciprocal(ranks).sum())
        return hit

    def means(self) -> dict[str, float | None]:
        """Recall@20, NDCG@20 and MRR; None before the first event."""
        n = self.events
        sums = {f"recall@{K}": self.recall, f"ndcg@{K}": self.ndcg, "mrr": self.mrr}
        return {name: (total / n if n else None) for name, total in sums.items()}


class Lately:
    """Mean over the last events scored."""

    def __init__(self) -> None:
        self._rolling: Any = utils.Rolling(stats.Mean, window_size=LATELY)

    def add(self, values: NDArray[np.float64]) -> None:
        """Take in one value an event, in order."""
        for value in values.tolist():
            self._rolling.update(value)

    def values(self) -> NDArray[np.float64]:
        """The values the mean is made of, oldest first."""
        return np.array([args[0] for args, _ in self._rolling.window], np.float64)

    @property
    def mean(self) -> float | None:
        """Their mean; None before the first."""
        return float(self._rolling.get()) if len(self._rolling.window) else None
