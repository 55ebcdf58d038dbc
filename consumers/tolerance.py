"""How far an item's score may move before lists change: learned from a sample of queries.

Within a version only the last coordinate of a served item moves, and a served user has a 1 there:
an item's movement *is* that of its score, for every user. For each of a ladder of thresholds
T_j = g·2^j, with g the gap between adjacent scores near rank k, the coordinates are kept that
readers would see if an item were written whenever it had moved by more than T_j. From time to time
the lists of these are compared with the exact ones, and the largest threshold is taken up to which
each loses no more than the budget.
"""

import numpy as np
from numpy.typing import NDArray

QUERIES = 64
"""Of the sample."""
FEWEST = 8
"""Queries that anything is learned from."""
NEW = 4
"""Queries that are replaced at a time, at most."""
SCORES = 6_400_000
"""Scores worked out for one look, about: with more items fewer queries are asked."""
RUNGS = np.exp2(np.arange(-4.0, 8.0))
"""Thresholds tried, in gaps."""
POOL = 1_024
"""Items below a list that may come into it; those that moved so far count as lost anyway."""
_SPREAD = 5  # ranks around k over which the gap is taken
_FADING = 0.7  # of a measured loss from look to look


class Tolerance:
    """The threshold of a version's items, and what is lost by it.

    Parameters
    ----------
    budget : float
        Of overlap@k, 0 to 1; with 0 the threshold stays 0.
    k : int
        Length of the lists.
    rng : Generator
        Picks the sample.

    Attributes
    ----------
    threshold : float
        Movement of a score up to which an item need not be written.
    loss : float or None
        1 - overlap@k of what readers see at the last look; None before one.
    """

    def __init__(self, budget: float, k: int, rng: np.random.Generator) -> None:
        self.threshold = 0.0
        self.loss: float | None = None
        self._budget, self._k, self._rng = budget, k, rng
        self._queries: NDArray[np.float32] | None = None
        self._full = 0
        self._steps = np.zeros(0)  # thresholds tried; none before the first look at a version
        self._losses: NDArray[np.float64] | None = None
        self._rung = -1
        self._own = 0.0
        self._shown = np.zeros((len(RUNGS), 0), np.float32)

    def begin(self) -> None:
        """Another version is served: its scores have gaps and queries of their own.

        The rung is kept: what is lost by it is measured again before it is left.
        """
        self._queries, self._full = None, 0
        self._steps = np.zeros(0)
        self.threshold, self.loss = 0.0, None

    def sample(self, users: NDArray[np.float32]) -> None:
        """Take some of these users' served vectors, float32[n, d + 1], into the sample."""
        if not len(users):
            return
        if self._queries is None:
            self._queries = np.zeros((QUERIES, users.shape[1]), np.float32)
        for row in self._rng.choice(len(users), min(NEW, len(users)), replace=False).tolist():
            full = self._full == QUERIES
            place = int(self._rng.integers(QUERIES)) if full else self._full
            self._queries[place] = users[row]
            self._full = min(self._full + 1, QUERIES)

    def moved(self, items: NDArray[np.int32], now: NDArray[np.float32]) -> None:
        """These items' last coordinates are these now, int32[n] and float32[n]."""
        if not len(self._steps) or not len(items):
            return
        if (size := int(items.max()) + 1) > self._shown.shape[1]:
            grown = np.full((len(RUNGS), max(size, 2 * self._shown.shape[1])), np.nan, np.float32)
            grown[:, : self._shown.shape[1]] = self._shown
            self._shown = grown
        shown = self._shown[:, items]
        written = np.isnan(shown) | (np.abs(now - shown) > self._steps[:, None])
        self._shown[:, items] = np.where(written, now, shown)

    def look(
        self,
        numbers: NDArray[np.int32],
        items: NDArray[np.float32],
        seen: NDArray[np.float32],
    ) -> None:
        """Measure what is lost, and choose the threshold.

        Parameters
        ----------
        numbers : int32[n]
            Items that may be shown.
        items : float32[n, d + 1]
            Their served vectors as of now.
        seen : float32[n]
            Their last coordinates as last written; NaN for those that are as of now.
        """
        asked = min(self._full, max(FEWEST, SCORES // max(len(items), 1)))
        if self._queries is None or asked < FEWEST or len(items) <= self._k + _SPREAD:
            return
        chosen = self._rng.choice(self._full, asked, replace=False)
        lists = _Lists(self._queries[chosen], items, self._k)
        self.loss = lists.loss(seen)
        self._own = _FADING * self._own + (1 - _FADING) * self.loss
        if not len(self._steps):
            self._steps = lists.gap * RUNGS
            self._shown = np.full((len(RUNGS), 0), np.nan, np.float32)
        else:
            self._measure(lists, numbers)
        self.threshold = float(self._steps[self._rung]) if self._rung >= 0 else 0.0

    def _measure(self, lists: "_Lists", numbers: NDArray[np.int32]) -> None:
        shown = np.full((len(RUNGS), len(numbers)), np.nan, np.float32)
        known = numbers < self._shown.shape[1]
        shown[:, known] = self._shown[:, numbers[known]]
        found = np.array([lists.loss(one) for one in shown])
        before = found if self._losses is None else self._losses
        self._losses = _FADING * before + (1 - _FADING) * found
        above = np.flatnonzero(self._losses > self._budget)
        best = int(above[0]) - 1 if len(above) else len(RUNGS) - 1
        if self._own > self._budget:  # by what the rungs do not know of: hot ids, held back items
            best = min(best, self._rung - 1)
        # What a higher one would lose shows only after items have had time to move so far.
        self._rung = max(min(best, self._rung + 1), -1) if self._budget > 0 else -1


class _Lists:
    """The exact lists of some queries, and how others compare.

    Attributes
    ----------
    gap : float
        Between adjacent scores near rank k: the median over the queries.
    """

    def __init__(self, queries: NDArray[np.float32], items: NDArray[np.float32], k: int) -> None:
        last = items[:, -1]
        learned = queries[:, :-1] @ items[:, :-1].T  # [q, I]
        exact = learned + last
        most = min(len(items), max(POOL, 10 * k))
        # Coordinates rise between two landmarks, so what is seen late is too low, seldom too high.
        self._pool = np.argpartition(-exact, most - 1, axis=1)[:, :most]
        self._learned = np.take_along_axis(learned, self._pool, axis=1)
        self._last = last[self._pool]
        self._exact = self._learned + self._last
        self._k = k
        ranked = -np.sort(-self._exact, axis=1)
        self._worst = ranked[:, k - 1]
        first, after = max(k - 1 - _SPREAD, 0), k - 1 + _SPREAD
        gaps = (ranked[:, first] - ranked[:, after]) / (after - first)
        self.gap = float(np.median(gaps))

    def loss(self, seen: NDArray[np.float32]) -> float:
        """1 - overlap@k of lists by these last coordinates, float32[I]; NaN means exact.

        An item counts as right when its true score reaches the k-th best up to rounding.
        """
        last = seen[self._pool]
        scores = self._learned + np.where(np.isnan(last), self._last, last)
        k = self._k
        shown = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        true = np.take_along_axis(self._exact, shown, axis=1)
        worst = (self._worst - 1e-5 * (1 + np.abs(self._worst)))[:, None]
        return float(1.0 - np.mean(true >= worst))
