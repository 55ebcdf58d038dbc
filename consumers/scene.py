"""What a snapshot and a model version say together: populations of edges as rows of vectors.

A population is watched as a whole and by segment: a category or a campaign of the item, users and
items that are new. Its rows are in order of arrival, each an edge; its vectors are those of the
version, whatever the version was when the edge came.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from consumers import finetuner
from consumers.features import features_of
from consumers.versions import Version
from model.data import TEXT, Interactions, unit_rows
from model.fold_in import fold_in
from model.sampling import before
from model.text_map import TextMap, fit_map
from stream.snapshot import OpenedView

ALL = "all"
NEW_USERS, NEW_ITEMS = "users:new", "items:new"
FEW = 5
"""Events up to which a user or an item is new."""
BINS = 20
LABELS = 200
"""Categories and campaigns among which the largest segments are looked for: those of most items."""

Ints = NDArray[np.int64]
Rows = NDArray[np.float32]
Texts = Mapping[int, NDArray[np.float32]]


class Watch(StrEnum):
    """What is watched; each names what has drifted when it does."""

    SHOWN = "items shown"
    CLICKED = "items clicked"
    USERS = "users active"
    GEOMETRY = "users against items"
    ALIGNMENT = "ids against text"
    CALIBRATION = "predicted against observed"


@dataclass(frozen=True, slots=True)
class Population:
    """Edges of one watch in order of arrival.

    Attributes
    ----------
    edge : int64[n]
        Ascending numbers of the edges.
    item : int64[n]
    owner : int64[n]
        The user.
    start, place : int64[n]
        Among the positive events: the user's first one, and the edge's own or that after it.
    time_us : int64[n]
    answered : bool[n]
        False for what was shown and passed over.
    new_user, new_item : bool[n]
        Whether it is among the first `FEW` events of its user, of its item.
    """

    edge: Ints
    item: Ints
    owner: Ints
    start: Ints
    place: Ints
    time_us: Ints
    answered: NDArray[np.bool_]
    new_user: NDArray[np.bool_]
    new_item: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.edge)

    def where(self, keep: NDArray[np.bool_] | Ints | slice) -> "Population":
        """Only these: a mask, their places in order, or a stretch, which is not copied."""
        return Population(*(getattr(self, name)[keep] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Bins:
    """Share of what was shown that was answered, by score (histogram binning).

    Attributes
    ----------
    bounds : float64[b - 1]
    share : float64[b]
        With one answer in two added to each bin.

    References
    ----------
    Zadrozny, Elkan: Obtaining Calibrated Probability Estimates, ICML 2001.
    """

    bounds: NDArray[np.float64]
    share: NDArray[np.float64]

    @classmethod
    def of(cls, scores: NDArray[np.float64], answered: NDArray[np.bool_]) -> "Bins":
        """Learn from scores and whether each was answered, float64[n] and bool[n]."""
        bounds = np.unique(np.quantile(scores, np.arange(1, BINS) / BINS))
        at = np.searchsorted(bounds, scores, side="right")
        shown = np.bincount(at, minlength=len(bounds) + 1)
        hit = np.bincount(at, answered, minlength=len(bounds) + 1)
        return cls(bounds, (hit + 0.5) / (shown + 1.0))

    def predicted(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Chance of an answer at these scores, float64[n]."""
        at = np.searchsorted(self.bounds, scores, side="right")
        chance: NDArray[np.float64] = self.share[at]
        return chance


Fitted = TextMap | Bins | None


class Scene:
    """A snapshot under a version.

    Parameters
    ----------
    snapshot : OpenedView
    version : Version
    """

    def __init__(self, snapshot: OpenedView, version: Version) -> None:
        self.snapshot, self.version = snapshot, version
        self.state = version.load()
        self._events = finetuner.interactions(snapshot, passed_over=True)
        self._positives = self._events.positives()
        self._unit = unit_rows(self.state.items)
        features = features_of(snapshot.catalog.items, snapshot.view.n_items)
        self.texts = features.get(TEXT)

    @property
    def edges(self) -> int:
        """The number that the next edge will get."""
        return self.snapshot.view.next_sequence

    def populations(self) -> dict[Watch, Population]:
        """Each watch's edges; one without any is left out."""
        clicked = self._learned(_population(self._positives))
        followed = clicked.where(clicked.place > clicked.start)
        out = {Watch.CLICKED: clicked, Watch.USERS: followed, Watch.GEOMETRY: followed}
        if not self._events.positive.all():
            out[Watch.SHOWN] = self._learned(_population(self._events))
            shown = out[Watch.SHOWN]
            out[Watch.CALIBRATION] = shown.where(shown.place > shown.start)
        if self.texts is not None:
            out[Watch.ALIGNMENT] = clicked.where(self.texts.present[clicked.item])
        return {watch: found for watch, found in out.items() if len(found)}

    def _learned(self, population: Population) -> Population:
        """Only edges of items that the version has learned: others have no vector of their own."""
        learned = np.zeros(self.snapshot.view.n_items, np.bool_)
        learned[: len(self.state.learned)] = self.state.learned
        return population.where(learned[population.item])

    def segments(self, population: Population) -> dict[str, NDArray[np.bool_]]:
        """Which edges belong to which segment, bool[n] each; a segment without any is left out."""
        found = {ALL: np.ones(len(population), np.bool_)}
        found |= {NEW_USERS: population.new_user, NEW_ITEMS: population.new_item}
        found |= {name: items[population.item] for name, items in self._labels.items()}
        return {name: mask for name, mask in found.items() if mask.any()}

    @cached_property
    def _labels(self) -> dict[str, NDArray[np.bool_]]:
        """Items of each category and campaign, bool[I], of the `LABELS` that have most items."""
        numbers: dict[str, list[int]] = defaultdict(list)
        for number, record in self.snapshot.catalog.items.items():
            for name in record.categories:
                numbers[f"category:{name}"].append(number)
            if record.campaign_id:
                numbers[f"campaign:{record.campaign_id}"].append(number)
        largest = sorted(numbers, key=lambda label: -len(numbers[label]))[:LABELS]
        found = {label: np.zeros(self.snapshot.view.n_items, np.bool_) for label in largest}
        for label, items in found.items():
            items[numbers[label]] = True
        return found

    def fit(self, watch: Watch, part: Population, texts: Texts) -> Fitted:
        """What the rows of a watch are seen through, from the edges that are its reference.

        The alignment is seen through a map from texts to ids; None where a text says nothing of
        an item. What is observed is held against the share of answers at scores alike.
        """
        if watch is Watch.ALIGNMENT:
            one = part.where(np.unique(part.item, return_index=True)[1])
            return fit_map(self._texts_of(one, texts), self._unit[one.item])
        if watch is Watch.CALIBRATION:
            return Bins.of(self._scores(part), part.answered)
        return None

    def vectors(self, watch: Watch, part: Population, texts: Texts, by: Fitted) -> Rows:
        """Rows of a part of a population, float32[n, d] (n, 1 of the calibration).

        Parameters
        ----------
        texts : item -> float32[t]
            What stands in the place of the catalogue's text of an item.
        by : what `fit` gave
        """
        if isinstance(by, Bins):
            return (part.answered - by.predicted(self._scores(part)))[:, None].astype(np.float32)
        own = self._unit[part.item]
        if watch in (Watch.SHOWN, Watch.CLICKED):
            return own
        if isinstance(by, TextMap):
            return own - unit_rows(by.vectors(self._texts_of(part, texts)))
        users = self.users(part)
        return users if watch is Watch.USERS else users - own

    def _scores(self, part: Population) -> NDArray[np.float64]:
        users = self.users(part)
        scores: NDArray[np.float64] = (users * self._unit[part.item]).sum(axis=1, dtype=np.float64)
        return scores

    def users(self, part: Population) -> Rows:
        """Vectors of each edge's user just before it, float32[n, d]."""
        length = self.state.recency.length
        history = before(self._positives, part.start, part.place, length)
        return fold_in(self.state.items, self.state.recency, *history)

    def _texts_of(self, part: Population, texts: Texts) -> Rows:
        if self.texts is None:
            raise ValueError("no item has a text")
        rows = self.texts.vectors[part.item].copy()
        for at, item in enumerate(part.item.tolist()):
            if item in texts:
                rows[at] = texts[item]
        return unit_rows(rows)


def _population(data: Interactions) -> Population:
    order = np.argsort(data.sequence, kind="stable")
    item, owner = data.item[order].astype(np.int64), data.owners()[order]
    # Positive events up to each row: where the row itself is one of them, or would be.
    until = np.concatenate([[0], np.cumsum(data.positive)])
    return Population(
        edge=data.sequence[order],
        item=item,
        owner=owner,
        start=until[data.indptr[owner]],
        place=until[order],
        time_us=data.time_us[order],
        answered=data.positive[order],
        new_user=_first(owner),
        new_item=_first(item),
    )


def _first(key: Ints) -> NDArray[np.bool_]:
    """Whether each is among the first `FEW` of its key, bool[n]."""
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(key) else ordered
    place = np.arange(len(key)) - np.repeat(begins, np.diff(np.r_[begins, len(key)]))
    out = np.empty(len(key), np.bool_)
    out[order] = place < FEW
    return out
