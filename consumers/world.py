"""One state of the stream as a server sees it: what is known of users and items, and asked for.

Nothing here waits or locks: whoever owns a world (`consumers.follower`) sees to it that it is not
read while it changes.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from consumers.campaigns import Campaigns
from consumers.live import LiveModel
from consumers.manifest_steps import Collections
from consumers.serving_rules import Facts
from consumers.texts import Texts
from consumers.versions import Version
from stream.batch import RecordBatch
from stream.codec import Codec
from stream.graph import Applied
from stream.histories import Recent
from stream.state import State

SEEN = 2_000
"""Newest positive events of a user whose items count as seen."""
REMEMBERED = 50_000
"""Users whose vector and seen items are kept from one request to the next."""


@dataclass(frozen=True, slots=True)
class Known:
    """A user as of now.

    Attributes
    ----------
    vector : float32[d + 1]
        As served: ``[u, 1]``.
    folded : bool
        Whether the version knows anything of the history: else ``u`` is zero.
    history : int32[h]
        Items of the last positive events, newest first; at most `SEEN`.
    time_us : int64[h]
    seen : item ids of the history, the newest first, each once
    """

    vector: NDArray[np.float32]
    folded: bool
    history: NDArray[np.int32]
    time_us: NDArray[np.int64]
    seen: tuple[str, ...]


class World:
    """A restored state that takes up further batches, under one model version at a time.

    Parameters
    ----------
    state : State
    live : LiveModel
        Over the state's graph.
    codec : Codec
    texts : Texts
    campaigns : Campaigns
        Of the state's graph.
    snapshot : int
        Number of the snapshot it began from; 0 for none.
    """

    def __init__(
        self,
        state: State,
        live: LiveModel,
        codec: Codec,
        texts: Texts,
        campaigns: Campaigns,
        *,
        snapshot: int,
    ) -> None:
        self.state = state
        self.graph = state.graph
        self.live = live
        self.campaigns = campaigns
        self.snapshot = snapshot
        self.pair: Collections | None = None
        self._codec = codec
        self._texts = texts
        self._known: OrderedDict[int, Known] = OrderedDict()
        self._facts: dict[str, Facts] = {}  # as many as there are items
        self._popular: dict[tuple[int, tuple[str, ...] | None], list[tuple[str, float]]] = {}
        self._shelves: dict[str, list[int]] | None = None
        self._shelf_of: dict[int, tuple[str, ...]] = {}

    # -- what comes in

    def take(self, batch: RecordBatch) -> Applied:
        """Apply messages as the ingestor does, without scoring or publishing anything."""
        decoded = self.state.recognised(self._codec.decode(batch))
        admission = self.state.orderer.admit(decoded.events)
        applied = self.graph.apply(decoded.events, admission.keep, admission.now_us)
        self._texts.embed(applied.announced_items)
        self.live.learn(applied)
        self.live.take_touched()  # nobody here publishes them,
        self.graph.forgotten.clear()  # nor saves
        self.state.moved(batch)
        self._forget(applied)
        return applied

    def successor(self, version: Version) -> LiveModel:
        """Prepare another version over the same graph; takes a while and changes nothing."""
        return self.live.successor(version)

    def adopt(self, live: LiveModel, pair: Collections) -> None:
        """Answer by this version and its collections from here on."""
        self.live, self.pair = live, pair
        self._known.clear()

    def freshen(self) -> None:
        """Rank by popularity anew from here on: that is not done at every batch."""
        self._popular.clear()

    def _forget(self, applied: Applied) -> None:
        if len(applied.removed_items) or applied.erased_users:
            self._known.clear()  # neither is in anything that is kept
        for user in applied.touched_users.tolist():
            self._known.pop(user, None)
        for told in (applied.announced_items, applied.removed_items):
            for item in told.tolist():
                self._facts.pop(self.graph.items.name(item), None)
        if self._shelves is not None:
            self._shelve(applied.announced_items.tolist())

    # -- users

    def user(self, name: str) -> Known | None:
        """What is known of a user; None for one never seen, or erased."""
        number = int(self.graph.users.find([name])[0])
        if number < 0:
            return None
        known = self._known.get(number)
        if known is None:
            known = self._known[number] = self._look(number)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return known

    def _look(self, number: int) -> Known:
        at = np.array([number], np.int32)
        recent = self.graph.recent(at, SEEN)
        there = recent.item[0] >= 0
        history, time_us = recent.item[0][there], recent.time_us[0][there]
        if self.live.ready:
            # Of more events than count, the last to arrive do, which only the graph knows.
            whole = recent if len(history) <= self.live.context else None
            vector = self.live.user_vectors(at, whole)[0]
        else:
            vector = np.zeros(self.live.dim, np.float32)
        seen = tuple(dict.fromkeys(self.graph.items.name(i) for i in history.tolist()))
        return Known(vector, bool(vector[:-1].any()), history, time_us, seen)

    def fold(self, items: Sequence[str], now_us: int) -> NDArray[np.float32] | None:
        """Vector of somebody who just did something with these items, the newest first.

        Returns
        -------
        float32[d + 1], or None if the version knows none of them
        """
        numbers = self.graph.items.find(items)
        numbers = numbers[numbers >= 0]
        if not self.live.ready or not len(numbers):
            return None
        recent = Recent(numbers[None, :], np.full((1, len(numbers)), now_us, np.int64))
        vector = self.live.fold(recent)[0]
        return vector if vector[:-1].any() else None

    # -- items

    def number(self, item: str) -> int:
        """Number of an item; -1 if it is unknown."""
        return int(self.graph.items.find([item])[0])

    def facts(self, item: str) -> Facts | None:
        """What rules go by; None where nothing is known of the item."""
        found = self._facts.get(item)
        return self._looked_up(item) if found is None else found

    def _looked_up(self, item: str) -> Facts | None:
        record = self.graph.catalog.items.get(self.number(item))
        if record is None:
            return None
        found = self._facts[item] = Facts(
            title=record.title,
            campaign=record.campaign_id,
            categories=record.categories,
            price=record.price,
            expires_us=record.expires_us,
            removed=record.removed,
        )
        return found

    def vectors(self, items: Sequence[str]) -> NDArray[np.float32]:
        """Served vectors of items, float32[n, d + 1]; zero rows for unknown ones."""
        numbers = self.graph.items.find(items)
        found = np.zeros((len(items), self.live.dim), np.float32)
        there = numbers >= 0
        if self.live.ready and there.any():
            found[there] = self.live.item_vectors(numbers[there])
        return found

    def popular(
        self, n: int, categories: Sequence[str] | None = None
    ) -> Sequence[tuple[str, float]]:
        """The ``n`` most popular items with their decayed counts, the most popular first.

        As of the last `freshen`: what was removed or has expired since is for the rules.

        Parameters
        ----------
        categories : items of any of these; of all by default
        """
        key = n, None if categories is None else tuple(categories)
        if key not in self._popular:
            self._popular[key] = self._ranked(*key)
        return self._popular[key]

    def _ranked(self, n: int, categories: tuple[str, ...] | None) -> list[tuple[str, float]]:
        size = len(self.graph.items)
        showable = self.graph.catalog.showable(size, self.graph.now_us)
        if categories is None:
            members = np.flatnonzero(showable)
        else:
            shelves = self._shelved()
            inside = {i for name in categories for i in shelves.get(name, ())}
            members = np.array(sorted(inside), np.int64)
            members = members[showable[members]]
        counts = np.zeros(size)
        own = self.live.last.counts()[:size]
        counts[: len(own)] = own
        ranked = counts[members]
        if len(members) > n:
            best = np.argpartition(-ranked, n - 1)[:n]
            members, ranked = members[best], ranked[best]
        order = np.argsort(-ranked, kind="stable")
        names = self.graph.items
        return [(names.name(int(members[i])), float(ranked[i])) for i in order]

    def _shelved(self) -> dict[str, list[int]]:
        """Items by category; made when it is first asked for, and kept up from then on."""
        if self._shelves is None:
            self._shelves = {}
            self._shelve(list(self.graph.catalog.items))
        return self._shelves

    def _shelve(self, items: Sequence[int]) -> None:
        shelves = self._shelves if self._shelves is not None else {}
        for number in items:
            now = self.graph.catalog.items[number].categories
            before = self._shelf_of.get(number, ())
            if now == before:
                continue
            for name in before:
                shelves[name].remove(number)
            for name in dict.fromkeys(now):
                shelves.setdefault(name, []).append(number)
            self._shelf_of[number] = tuple(dict.fromkeys(now))
