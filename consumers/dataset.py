"""A whole stream in arrays, read through the sources, the codec and the graph that serve it.

For comparisons of methods, which all must see the same events in the same order. An event is
known by its number in order of arrival; items are numbered in the order in which they appear,
so that the items known before an event are the first ``known`` ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from consumers.features import features_of
from consumers.passed_over import PassedOver, passed_over
from consumers.scores import SCORED_KINDS
from consumers.tally import Tally
from consumers.texts import Texts
from model.data import Features, Interactions, interactions
from stream.batch import Kind
from stream.codec import Codec
from stream.graph import Applied, Graph
from stream.ordering import Orderer
from stream.source import Source
from stream.view import KIND_WEIGHTS

Ints = NDArray[np.int64]
HeldBack = Literal["plain", "instant", "day"]
"""Nothing of a user's past, the events of the very same time, or those of the same day (UTC)."""
_BATCH = 10_000
_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Dataset:
    """Positive events in order of arrival.

    Attributes
    ----------
    user, item : int64[E]
    time_us : int64[E]
    weight : float32[E]
        Of the event's kind.
    asked : bool[E]
        Of a kind that is scored, and the user's first of its item.
    known : int64[E]
        Items known before the event.
    history : int
        So many events come first and are never scored.
    users, items : int
    features : name -> Features
        By modality.
    passed : PassedOver or None
    """

    user: Ints
    item: Ints
    time_us: Ints
    weight: NDArray[np.float32]
    asked: NDArray[np.bool_]
    known: Ints
    history: int
    users: int
    items: int
    features: Mapping[str, Features] = field(default_factory=dict[str, Features])
    passed: PassedOver | None = None

    def __len__(self) -> int:
        return len(self.user)

    def upto(self, end: int, *, passed_over: bool = False) -> Interactions:
        """The first ``end`` events, with the items known by then.

        Parameters
        ----------
        passed_over : bool
            With the impressions of which it was known by then that nothing answers.
        """
        positives = interactions(
            self.user[:end],
            self.item[:end],
            items=self.vocabulary(end),
            users=self.users,
            time_us=self.time_us[:end],
            weight=self.weight[:end],
        )
        if not passed_over or self.passed is None:
            return positives
        return self.passed.beside(positives, end)

    def vocabulary(self, end: int) -> int:
        """Items known after the first ``end`` events."""
        return int(self.known[end]) if end < len(self) else self.items

    def features_upto(self, end: int) -> dict[str, Features]:
        """Vectors of the items known by then, by modality."""
        n = self.vocabulary(end)
        return {k: Features(f.vectors[:n], f.present[:n]) for k, f in self.features.items()}


def dataset(
    user: Ints,
    item: Ints,
    time_us: Ints,
    *,
    weight: NDArray[np.float32] | None = None,
    scored: NDArray[np.bool_] | None = None,
    known: Ints | None = None,
    history: int = 0,
    items: int | None = None,
    features: Mapping[str, Features] | None = None,
    passed: PassedOver | None = None,
) -> Dataset:
    """Check and complete the arrays of a `Dataset`.

    Parameters
    ----------
    scored : bool[E], default all
        Whether an event's kind is a question.
    known : int64[E]
        By default an item is known from its first event on.
    """
    size = max(items or 0, int(item.max()) + 1 if len(item) else 0)
    first = firsts(user, item, size)
    appeared = np.concatenate([[0], np.maximum.accumulate(item + 1)])[:-1]
    return Dataset(
        user=user,
        item=item,
        time_us=time_us,
        weight=np.ones(len(item), np.float32) if weight is None else weight,
        asked=first if scored is None else first & scored,
        known=appeared if known is None else np.maximum(known, appeared),
        history=history,
        users=int(user.max()) + 1 if len(user) else 0,
        items=size,
        features=features or {},
        passed=passed,
    )


def firsts(user: Ints, item: Ints, items: int) -> NDArray[np.bool_]:
    """Which events are their user's first of their item, bool[E]."""
    first = np.zeros(len(item), np.bool_)
    first[np.unique(user * max(items, 1) + item, return_index=True)[1]] = True
    return first


def read(
    source: Source,
    codec: Codec,
    orderer: Orderer,
    *,
    texts: Texts,
    graph: Graph,
    limit: int | None = None,
    tally: Tally | None = None,
) -> Dataset:
    """Read a source to its end, as the pipeline would, and keep its positive events.

    Parameters
    ----------
    graph : Graph
        An empty one; it holds the vocabularies and the catalogue afterwards.
    limit : int
        Messages at most.
    tally : Tally
        Counts the messages; one that is refused is left out.
    """
    taken: list[tuple[Applied, int, bool]] = []
    left = limit
    while not source.exhausted and left != 0:
        for batch in source.poll(_BATCH if left is None else min(left, _BATCH), 0.1):
            decoded = codec.decode(batch)
            admission = orderer.admit(decoded.events)
            known = len(graph.items)
            applied = graph.apply(decoded.events, admission.keep, admission.now_us)
            texts.embed(applied.announced_items)
            if tally is not None:
                tally.account(batch, decoded, admission, applied)
            taken.append((applied, known, batch.history))
            left = None if left is None else max(0, left - len(batch))
    return _gathered(taken, graph)


def _gathered(taken: list[tuple[Applied, int, bool]], graph: Graph) -> Dataset:
    kind = _joined([a.kind for a, _, _ in taken])
    positive = kind != Kind.IMPRESSION
    lengths = [len(a.kind) for a, _, _ in taken]
    before = np.repeat(np.array([h for _, _, h in taken], np.bool_), lengths)[positive]
    weights = np.zeros(256, np.float32)
    for each, weight in KIND_WEIGHTS.items():
        weights[each] = weight
    return dataset(
        _joined([a.user for a, _, _ in taken])[positive],
        _joined([a.item for a, _, _ in taken])[positive],
        _joined([a.time_us for a, _, _ in taken])[positive],
        weight=weights[kind[positive]],
        scored=np.isin(kind[positive], SCORED_KINDS) & ~before,
        known=np.repeat(np.array([k for _, k, _ in taken], np.int64), lengths)[positive],
        history=int(before.sum()),
        items=len(graph.items),
        features=features_of(graph.catalog.items, len(graph.items)),
        passed=passed_over(graph, _joined([a.sequence for a, _, _ in taken])[positive]),
    )


def _joined(
    parts: "list[NDArray[np.int64]] | list[NDArray[np.int32]] | list[NDArray[np.uint8]]",
) -> Ints:
    return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)


class Past:
    """What the user of each event had before it.

    Parameters
    ----------
    data : Dataset
    """

    def __init__(self, data: Dataset) -> None:
        order = np.lexsort((np.arange(len(data)), data.user))
        self.items = data.item[order]
        self.time_us = data.time_us[order]
        self._place = np.empty(len(order), np.int64)
        self._place[order] = np.arange(len(order))
        counts = np.bincount(data.user, minlength=data.users)
        self._user = data.user
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self._ends: dict[HeldBack, Ints] = {
            "plain": self._place,
            "instant": self._since(data.user[order], data.time_us[order]),
            "day": self._since(data.user[order], data.time_us[order] // _DAY_US),
        }

    def _since(self, user: Ints, stamp: Ints) -> Ints:
        """Where the run of one user's events with one stamp begins, by event."""
        new = np.ones(len(user), np.bool_)
        new[1:] = (user[1:] != user[:-1]) | (stamp[1:] != stamp[:-1])
        return np.maximum.accumulate(np.where(new, np.arange(len(user)), 0))[self._place]

    def context(
        self, event: Ints, length: int, held_back: HeldBack = "plain"
    ) -> tuple[NDArray[np.int32], Ints]:
        """Last items before each event, the most recent first, -1 for none, and their times.

        Parameters
        ----------
        held_back
            What of the past is withheld.

        Returns
        -------
        int32[n, L], int64[n, L]
        """
        return self._last(self._ends[held_back][event], self._starts[self._user[event]], length)

    def asof(self, user: Ints, upto: int, length: int) -> tuple[NDArray[np.int32], Ints]:
        """Last items of each user among the first ``upto`` events, as `context` gives them."""
        known = np.bincount(self._user[:upto], minlength=len(self._starts) - 1)
        start = self._starts[user]
        return self._last(start + known[user], start, length)

    def _last(self, end: Ints, start: Ints, length: int) -> tuple[NDArray[np.int32], Ints]:
        at = end[:, None] - np.arange(1, length + 1)
        inside = at >= start[:, None]
        at = np.where(inside, at, 0)
        items = np.where(inside, self.items[at], -1).astype(np.int32)
        return items, np.where(inside, self.time_us[at], 0)

    def before(self, event: Ints, held_back: HeldBack = "plain") -> tuple[Ints, Ints]:
        """All items before each event, as CSR (int64[n + 1], int64[m])."""
        start = self._starts[self._user[event]]
        count = self._ends[held_back][event] - start
        indptr = np.concatenate([[0], np.cumsum(count)])
        at = np.arange(indptr[-1]) + np.repeat(start - indptr[:-1], count)
        return indptr, self.items[at]
