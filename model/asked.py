"""A version asked for what came after it, as it was served then, under several terms of the score.

Where an item was announced is not known to a fine-tune: one with text counts as known from the
start, one without from its first event on.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.arrivals import among
from model.config import ModelConfig
from model.data import Features, Interactions
from model.fold_in import fold_in
from model.popularity import Popularity
from model.sampling import contexts
from model.state import ModelState
from model.terms import Terms

Floats = NDArray[np.float32]
_BLOCK = 1 << 22
"""Scores held at a time (16 MB of float32)."""
_REFRESHES = 10
"""Times that the counts are brought up to date within a sample, at least."""
_LONG = 40.0
"""Half-lives after which an event counts for nothing."""
_K = 20.0
"""Rank at which a gain is a half; about as many items are shown."""
_STEEP = 1.5


def soft_recall(rank: NDArray[np.float64]) -> NDArray[np.float64]:
    """A recall@20 without the edge: 1/(1 + (rank/20)^1.5).

    By it 1,000 events tell terms apart as well as 3,000 do by recall@20.
    """
    gain: NDArray[np.float64] = 1.0 / (1.0 + (rank / _K) ** _STEEP)
    return gain


class Round:
    """What came after a version.

    Parameters
    ----------
    data : Interactions
        Positive events; those from ``previous.trained_upto`` on came after it.
    previous : ModelState
    features : name -> Features
        Vectors by modality, a row per item.
    served : Terms
        Those that the version was served with.
    config : ModelConfig
    """

    def __init__(
        self,
        data: Interactions,
        previous: ModelState,
        features: Mapping[str, Features],
        served: Terms,
        config: ModelConfig,
    ) -> None:
        self._data, self._previous, self._served = data, previous, served
        self._starts = data.indptr[:-1].repeat(np.diff(data.indptr))
        order = np.argsort(data.sequence, kind="stable")
        self._items, self._sequence = data.item[order], data.sequence[order]
        half_lives = {served.half_life, config.popularity_half_life, *config.popularity_half_lives}
        self._counts = {h: Popularity(h, config.popularity_floor) for h in sorted(half_lives)}
        self._told = 0
        self._tell(previous.trained_upto)
        for counts in self._counts.values():
            counts.rebase()
        self._first = np.full(data.items, np.iinfo(np.int64).max)
        np.minimum.at(self._first, data.item, data.sequence)
        self._first[: len(previous.items)] = 0
        self._place(features, config)

    def _tell(self, sequence: int) -> None:
        """Count the events before this one."""
        upto = int(np.searchsorted(self._sequence, sequence))
        for half_life, counts in self._counts.items():
            start = max(self._told, upto - int(_LONG * half_life))
            counts.update(self._items[start:upto], self._data.items)
        self._told = upto

    def _place(self, features: Mapping[str, Features], config: ModelConfig) -> None:
        """Give the items that came after the version the places that they had."""
        old, size = self._previous, len(self._previous.items)
        expected = np.zeros(self._data.items)
        expected[:size] = 0.0 if old.expected is None else old.expected
        self._vectors = np.zeros((self._data.items, old.dim), np.float32)
        self._vectors[:size] = old.items
        counts = self._counts[self._served.half_life].counts()
        learned, new = (np.zeros(self._data.items, np.bool_) for _ in range(2))
        learned[:size], new[size:] = old.learned, True
        found = among(features, learned, new, self._vectors, counts, config=config)
        self._vectors[size:], expected[size:] = found.vectors[size:], found.counts[size:]
        self._placed = self._vectors.any(axis=1) & ~learned
        self._first[self._placed] = 0
        placed, total = np.flatnonzero(self._placed), max(float(counts.sum()), 1.0)
        for each in self._counts.values():
            each.expect(placed, expected[placed] * each.counts().sum() / total)

    def sample(self, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Rows of new events that are their user's first of their item, in order of arrival."""
        data = self._data
        fresh = np.flatnonzero((data.sequence >= self._previous.trained_upto) & (data.weight > 0))
        drawn = rng.permutation(fresh)[: 2 * most]
        first = [
            not (data.item[start:row] == data.item[row]).any()
            for start, row in zip(self._starts[drawn].tolist(), drawn.tolist(), strict=True)
        ]
        rows = drawn[np.array(first, np.bool_)][:most]
        return rows[np.argsort(data.sequence[rows], kind="stable")]

    @property
    def places(self) -> bool:
        """Whether any item was placed."""
        return bool(self._placed.any())

    def of_placed(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows are events of items that were placed, bool[n]."""
        return self._placed[self._data.item[rows]]

    def gains(
        self, rows: NDArray[np.int64], pairs: NDArray[np.float64], biases: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How well each row's item would have stood, as `soft_recall`; 0 if it was unknown.

        Parameters
        ----------
        rows : int64[n]
            From `sample`.
        pairs : float64[p, 2]
            Weights and half-lives to try, under the bias that was served.
        biases : float64[b, 1]
            To try under the popularity that was served.

        Returns
        -------
        float64[n, p], float64[n, b]
        """
        by_pair, by_bias = np.zeros((len(rows), len(pairs))), np.zeros((len(rows), len(biases)))
        step = max(1, min(_BLOCK // max(self._data.items, 1), -(-len(rows) // _REFRESHES)))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            self._tell(int(self._data.sequence[rows[start]]))
            answer = self._ask(rows[part])
            for k, (weight, half_life) in enumerate(pairs.tolist()):
                by_pair[part, k] = answer.gains(self._added(weight, half_life, self._served.bias))
            for k, (bias,) in enumerate(biases.tolist()):
                added = self._added(self._served.weight, self._served.half_life, bias)
                by_bias[part, k] = answer.gains(added)
        return by_pair, by_bias

    def _added(self, weight: float, half_life: float, bias: float) -> Floats:
        scores = np.float32(weight) * self._counts[half_life].scores()
        return (scores + np.float32(bias) * self._placed).astype(np.float32)

    def _ask(self, rows: NDArray[np.int64]) -> "_Answer":
        data, starts = self._data, self._starts[rows]
        history = contexts(data, self._starts, rows, self._previous.recency.length)
        cosine = fold_in(self._vectors, self._previous.recency, *history) @ self._vectors.T
        row, target = np.arange(len(rows)), data.item[rows].astype(np.int64)
        bar = cosine[row, target]
        known = self._first < data.sequence[rows][:, None]
        missed = ~known[row, target]
        for n, (start, stop) in enumerate(zip(starts.tolist(), rows.tolist(), strict=True)):
            known[n, data.item[start:stop]] = False
        known[row, target] = False
        cosine[~known] = -np.inf
        return _Answer(cosine, target, bar, missed)


@dataclass(frozen=True, slots=True)
class _Answer:
    """Cosines with all that competes, -inf for what does not, and with the items asked for."""

    cosine: Floats
    target: NDArray[np.int64]
    bar: Floats
    missed: NDArray[np.bool_]

    def gains(self, added: Floats) -> NDArray[np.float64]:
        scores, bar = self.cosine + added, (self.bar + added[self.target])[:, None]
        ahead = np.count_nonzero(scores > bar, axis=1) + np.count_nonzero(scores == bar, axis=1) / 2
        return np.where(self.missed, 0.0, soft_recall(1.0 + ahead))
