"""Methods of recommendation under one interface: ours, and popularity. Others: `baselines`.

A method learns from the first events of a `Dataset`, then scores all items for the users of
later events, from what they had before each.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from consumers.dataset import Dataset, HeldBack, Ints, Past
from model.arrivals import among
from model.config import ModelConfig
from model.coordinate import Coordinate
from model.fold_in import fold_in
from model.popularity import Popularity
from model.state import ModelState
from model.terms import Terms
from model.trainer import finetune

Floats = NDArray[np.float32]
Setting = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Question:
    """Events that are scored, and what of their users' pasts a method may use.

    Attributes
    ----------
    event : int64[n]
    past : Past
    held_back
        See `Past.context`.
    told : int
        A method's popularity may know the first so many events.
    """

    event: Ints
    user: Ints
    past: Past
    held_back: HeldBack = "plain"
    told: int = 0


class Method(Protocol):
    """Learns, then answers."""

    def learn(self, data: Dataset, upto: int) -> None:
        """Learn from the first ``upto`` events, those learned before included."""
        ...

    def scores(self, question: Question) -> Floats:
        """Scores of all items for each event, float32[n, I]; 0 where nothing is known."""
        ...


Make = Callable[[Setting, int], Method]
"""From a setting and a seed to a method that has learned nothing."""


class Nothing:
    """Knows nothing of anybody; with a `Prior` it is windowed popularity."""

    def __init__(self) -> None:
        self._items = 0

    def learn(self, data: Dataset, upto: int) -> None:
        self._items = data.items

    def scores(self, question: Question) -> Floats:
        return np.zeros((len(question.event), self._items), np.float32)


class Goat:
    """Ours: a fine-tune on what is new and a replay of what is not; users folded in live.

    Parameters
    ----------
    config : ModelConfig
    seed : int
        Of the first round; the others' follow from it.
    anew : bool
        Learn from all events at each round, as if there had been none before.
    live : bool
        Users follow their events; otherwise they are as of the last round.
    """

    def __init__(
        self, config: ModelConfig, seed: int, *, anew: bool = False, live: bool = True
    ) -> None:
        self.config = config
        self.state: ModelState | None = None
        self._seed, self._anew, self._live = seed, anew, live
        self._rounds = self._upto = self._told = 0
        self._last = Coordinate(config)
        self._items = np.zeros((0, config.dim), np.float32)
        self._data: Dataset | None = None

    @property
    def terms(self) -> Terms:
        """What is added to the cosine now."""
        return self._last.terms

    def learn(self, data: Dataset, upto: int) -> None:
        tuned = finetune(
            data.upto(upto, passed_over=self.config.negative_weight > 0),
            features=data.features_upto(upto),
            previous=self.state,
            config=self.config,
            seed=self._seed + 1_000 * self._rounds,
            threads=1,
            anew=self._anew,
        )
        self.state, self._upto, self._data = tuned.state, upto, data
        self._rounds += 1
        self._tell(upto)
        self._last.adopt(tuned.state)
        self._items = np.zeros((data.items, self.config.dim), np.float32)
        self._items[: len(tuned.state.items)] = tuned.state.items

    def _tell(self, upto: int) -> None:
        """Count events and place items that came with them, as the live path does."""
        data, state = self._data, self.state
        if data is None or state is None or upto < self._told:
            return
        self._last.update(data.item[self._told : upto], data.items)
        self._told, size = upto, data.vocabulary(upto)
        learned, new = (np.zeros(size, np.bool_) for _ in range(2))
        learned[: len(state.learned)] = state.learned
        new[len(state.learned) :] = ~self._items[len(state.learned) : size].any(axis=1)
        if new.any():
            given, counts = data.features_upto(upto), self._last.counts()[:size]
            put = among(given, learned, new, self._items[:size], counts, config=self.config)
            came = np.flatnonzero(put.vectors.any(axis=1))
            self._items[came] = put.vectors[came]
            self._last.place(came, put.counts[came])

    def scores(self, question: Question) -> Floats:
        state = self.state
        if state is None:
            return np.zeros((len(question.event), 0), np.float32)
        self._tell(question.told)
        past, length = question.past, state.recency.length
        if self._live:
            histories = past.context(question.event, length, question.held_back)
        else:
            histories = past.asof(question.user, self._upto, length)
        users = fold_in(self._items, state.recency, *histories)
        return users @ self._items.T + self._last.of(len(self._items))


class Prior:
    """Weight times log of recent popularity, added to a method's scores.

    Parameters
    ----------
    weight : float
    half_life : float
        In events.
    floor : float
        Count added to every item.
    """

    def __init__(self, weight: float, half_life: float, floor: float) -> None:
        self.weight = weight
        self._counts = Popularity(half_life, floor)
        self._told = 0

    def scores(self, data: Dataset, upto: int) -> Floats:
        """What is added to each item's score after ``upto`` events, float32[I]."""
        self._counts.update(data.item[self._told : upto], data.items)
        self._counts.rebase()
        self._told = upto
        return np.float32(self.weight) * self._counts.scores()
