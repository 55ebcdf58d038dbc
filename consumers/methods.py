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
from model.config import ModelConfig
from model.fold_in import fold_in
from model.popularity import Popularity
from model.state import ModelState
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
    """

    event: Ints
    user: Ints
    past: Past
    held_back: HeldBack = "plain"


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
        self._rounds = self._upto = self._size = 0

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
        self.state, self._upto, self._size = tuned.state, upto, data.items
        self._rounds += 1

    def scores(self, question: Question) -> Floats:
        scores = np.zeros((len(question.event), self._size), np.float32)
        state = self.state
        if state is not None:
            past, length = question.past, state.recency.length
            if self._live:
                histories = past.context(question.event, length, question.held_back)
            else:
                histories = past.asof(question.user, self._upto, length)
            users = fold_in(state.items, state.recency, *histories)
            scores[:, : len(state.items)] = users @ state.items.T
        return scores


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
