"""The dynamic user-item graph: events go in by the batch, histories and views come out.

What the graph is after a stream depends on each partition's events in their order, and on nothing
else: not on how they were cut into batches, nor on snapshots or restarts in between.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from stream.batch import EventBatch, Kind, pick
from stream.catalog import Catalog
from stream.chains import Chains
from stream.degrees import Degrees
from stream.edges import EdgeLog, EdgeRows, codes, live, positive
from stream.edges_lost import EdgesLost
from stream.events import Campaign, Item
from stream.exposure import exposed
from stream.growing import Growing
from stream.histories import Histories, Recent
from stream.joins import Joins, Transition, referred
from stream.ledger import Ledger
from stream.view import GraphConfig, GraphView, horizon
from stream.vocabulary import Vocabulary

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Applied:
    """What a batch did to the graph.

    Attributes
    ----------
    row : int64[m]
        Index in the `EventBatch` of each event that became an edge, ascending.
    sequence : int64[m]
        Number of each new edge by arrival.
    user, item : int32[m]
    time_us : int64[m]
    kind : uint8[m]
        The `Kind` of the event.
    touched_users : int32[*]
        Users whose history has changed, by new edges or by changed ones; ascending.
    touched_items : int32[*]
        Items of those edges; ascending.
    announced_items, removed_items : int32[*]
        Items whose description is new, or that are removed now.
    erased_users : names that are known no more
    lost : EdgesLost
        What their edges said, which are blank now.
    campaigns : names of the campaigns whose state is new
    capped : int
        Events that were applied only as a count, by the degree cap.
    transitions : how many impressions were clicked, clicks converted, and so on
    """

    row: NDArray[np.int64]
    sequence: NDArray[np.int64]
    user: NDArray[np.int32]
    item: NDArray[np.int32]
    time_us: NDArray[np.int64]
    kind: NDArray[np.uint8]
    touched_users: NDArray[np.int32]
    touched_items: NDArray[np.int32]
    announced_items: NDArray[np.int32]
    removed_items: NDArray[np.int32]
    erased_users: tuple[str, ...]
    lost: EdgesLost
    campaigns: tuple[str, ...]
    capped: int
    transitions: Mapping[Transition, int]


class _Effects:
    """What is gathered while a batch is applied."""

    def __init__(self) -> None:
        self.row: list[NDArray[np.int64]] = []
        self.user: list[NDArray[np.int32]] = []
        self.item: list[NDArray[np.int32]] = []
        self.time_us: list[NDArray[np.int64]] = []
        self.kind: list[NDArray[np.uint8]] = []
        self.changed: list[int] = []
        self.told: set[int] = set()
        self.erased: list[str] = []
        self.lost = EdgesLost.none()
        self.campaigns: set[str] = set()
        self.capped = 0


class Graph:
    """Users, items, and the edges between them, as the events tell.

    Parameters
    ----------
    config : GraphConfig
    """

    def __init__(self, config: GraphConfig | None = None) -> None:
        self.config = config or GraphConfig()
        self.users = Vocabulary()
        self.items = Vocabulary()
        self.catalog = Catalog()
        self.edges = EdgeLog(self.config.slab_rows)
        self.chains = Chains(self.edges)
        self.ledger = Ledger()
        self.degrees = Degrees(self.config.degree_cap, self.config.window_us)
        self.joins = Joins(
            self.edges,
            self.chains,
            rows=self.config.join_rows,
            block=self.config.join_block,
            attribution_us=self.config.attribution_us,
        )
        self.now_us = 0
        # what a snapshot must take up: users counted, edges blanked, names erased, since the last
        self.touched: Growing[np.bool_] = Growing(np.bool_)
        self.erased: set[int] = set()
        self.forgotten: set[str] = set()

    @property
    def horizon_us(self) -> int:
        """Edges before this time are not in the graph any more."""
        return horizon(self.now_us, self.config.window_us)

    # -- events in

    def apply(
        self, batch: EventBatch, keep: NDArray[np.int64], now_us: int | None = None
    ) -> Applied:
        """Apply the events of a batch that were admitted.

        Parameters
        ----------
        keep : int64[m]
            Their indices in the batch, ascending.
        now_us : int, optional
            Time of the stream after them (`Admission.now_us`); by default that of the latest.
        """
        first = self.edges.next
        effects = _Effects()
        self.joins.transitions.clear()
        self.ledger.take(batch, keep, self.catalog, self.items)
        for rows in self._spans(batch, keep):
            self._span(batch, rows, effects)
            self.joins.passed(batch.partition, len(rows))
        if len(keep):
            latest_us = int(batch.time_us[keep].max()) if now_us is None else now_us
            self.now_us = max(self.now_us, latest_us)
        self.ledger.settle(self.users)
        self._scrub(effects)
        applied = self._applied(first, effects)
        # What an event within the window may refer to must still be there, in every order.
        self.edges.drop_before(self.horizon_us - self.config.attribution_us)
        return applied

    def _spans(self, batch: EventBatch, keep: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Cut the rows so that within a piece their order does not matter.

        That is where a block of remembered ids ends, after an erasure, and before an event that
        another further up refers to, or shares its cause with if that is a conversion.
        """
        cuts = np.append(self._erasures(batch, keep), referred(batch, keep))
        for start, stop in self.joins.pending.lanes.spans(batch.partition, len(keep)):
            inside = np.unique(cuts[(cuts > start) & (cuts < stop)]) if len(cuts) else cuts
            for a, b in pairwise([start, *inside.tolist(), stop]):
                yield keep[a:b]

    def _erasures(self, batch: EventBatch, keep: NDArray[np.int64]) -> NDArray[np.int64]:
        """Ends of the pieces after which a user that has edges is to be forgotten."""
        at = np.flatnonzero(batch.kind[keep] == Kind.ERASE_USER)
        if len(at):
            here = set(pick(batch.user, keep[batch.kind[keep] < Kind.ITEM]))
            names = pick(batch.user, keep[at])
            at = at[[name in here or name in self.users for name in names]]
        return at + 1

    def _span(self, batch: EventBatch, rows: NDArray[np.int64], effects: _Effects) -> None:
        kind = batch.kind[rows]
        acts = kind < Kind.ITEM
        if acts.all():
            self._interact(batch, rows, kind, effects)
            return
        # Numbers go by arrival, however the stream is cut: a replay gives the same ones.
        self.items.intern([name for name in pick(batch.item, rows) if name])
        self._interact(batch, rows[acts], kind[acts], effects)
        for i in rows[~acts].tolist():
            self._tell(batch, i, effects)

    def _interact(
        self,
        batch: EventBatch,
        rows: NDArray[np.int64],
        kind: NDArray[np.uint8],
        effects: _Effects,
    ) -> None:
        user = self.users.intern(pick(batch.user, rows))
        item = self.items.intern(pick(batch.item, rows))
        time_us = batch.time_us[rows]
        self.touched.reserve(len(self.users))[user] = True
        admitted = self.degrees.admit(user, time_us)
        if not admitted.all():
            effects.capped += int((~admitted).sum())
            rows, kind, time_us = rows[admitted], kind[admitted], time_us[admitted]
            user, item = user[admitted], item[admitted]
        ids, refers = pick(batch.event_id, rows), pick(batch.refers_to, rows)
        plan = self.joins.plan(kind, time_us, ids, refers)
        at = plan.appended
        if len(at) < len(rows):
            rows, kind, time_us, user, item = rows[at], kind[at], time_us[at], user[at], item[at]
        if len(rows):
            link = self.chains.extend(user, positive(plan.kind))
            stored = exposed(plan.kind, batch.details, rows)
            self.edges.append(EdgeRows(user, item, time_us, stored, link))
        first = self.edges.next - len(rows)
        effects.changed += self.joins.settle(batch.partition, plan, first, kind)
        effects.row.append(rows)
        effects.user.append(user)
        effects.item.append(item)
        effects.time_us.append(time_us)
        effects.kind.append(kind)

    def _tell(self, batch: EventBatch, i: int, effects: _Effects) -> None:
        """Apply one event that is no interaction."""
        kind = batch.kind[i]
        if kind == Kind.ERASE_USER:
            name = batch.user[i]
            effects.erased.append(name)
            self.forgotten.add(name)
            number = self.users.erase(name)
            if number >= 0:
                self.joins.erased.add(number)
                self.ledger.caps.erase(number)
        elif kind == Kind.CAMPAIGN:
            campaign = cast(Campaign, batch.models[i])
            if self.catalog.tell(campaign):
                effects.campaigns.add(campaign.campaign_id)
                self.ledger.moved.add(campaign.campaign_id)
        else:
            number = int(self.items.intern([batch.item[i]])[0])
            if kind == Kind.ITEM_REMOVED:
                changed = self.catalog.remove(number, int(batch.time_us[i]))
            else:
                changed = self.catalog.announce(number, cast(Item, batch.models[i]))
            if changed:
                effects.told.add(number)

    def _scrub(self, effects: _Effects) -> None:
        """Blank the edges of the users that this batch has erased."""
        erased = self.joins.erased
        if not erased:
            return
        numbers = list(erased)
        flags = np.zeros(len(self.users), np.bool_)
        flags[numbers] = True
        effects.lost = EdgesLost.of(self.edges, flags)
        self.erased.update(self.edges.erase(flags).tolist())
        self.chains.heads.reserve(len(self.users))[numbers] = -1
        erased.clear()

    def _applied(self, first: int, effects: _Effects) -> Applied:
        user = _joined(effects.user, np.int32)
        item = _joined(effects.item, np.int32)
        changed = np.array(effects.changed, np.int64)
        changed = changed[changed >= self.edges.first]
        touched = np.unique(np.append(user, self.edges.user(changed)))
        if effects.erased:
            touched = touched[[bool(self.users.name(u)) for u in touched.tolist()]]
        told = np.array(sorted(effects.told), np.int32)
        removed = self.catalog.removed(len(self.items))[told]
        return Applied(
            row=_joined(effects.row, np.int64),
            sequence=np.arange(first, self.edges.next),
            user=user,
            item=item,
            time_us=_joined(effects.time_us, np.int64),
            kind=_joined(effects.kind, np.uint8),
            touched_users=touched,
            touched_items=np.unique(np.r_[item, self.edges.item(changed), effects.lost.item]),
            announced_items=told[~removed],
            removed_items=told[removed],
            erased_users=tuple(dict.fromkeys(effects.erased)),
            lost=effects.lost,
            campaigns=tuple(sorted(effects.campaigns)),
            capped=effects.capped,
            transitions=dict(self.joins.transitions),
        )

    def mark_saved(self) -> None:
        """All changes so far are on disk."""
        self.users.mark_saved()
        self.items.mark_saved()
        self.catalog.mark_saved()
        self.ledger.mark_saved()
        self.joins.amended.clear()
        self.erased.clear()
        self.forgotten.clear()
        self.touched.data[:] = False

    # -- histories out

    def recent(self, users: NDArray[np.int32], length: int) -> Recent:
        """The last positive events of these users, newest event time first.

        The last ``length`` to arrive are meant, removed items and what has left the window not
        counted.

        Parameters
        ----------
        users : int32[n]
            Numbers in ``users``; -1 for an unknown one.
        """
        heads = self.chains.heads.reserve(len(self.users))
        return self._histories().last(np.where(users >= 0, heads[users], -1), length)

    def before(self, sequence: NDArray[np.int64], length: int) -> Recent:
        """Like `recent`, of each edge's user at the moment the edge arrived, itself excluded.

        Parameters
        ----------
        sequence : int64[n]
        """
        return self._histories().last(self.chains.before(sequence), length)

    def seen_before(
        self, sequence: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """All items of each edge's user at the moment the edge arrived, newest arrival first.

        Parameters
        ----------
        sequence : int64[n]

        Returns
        -------
        indptr : int64[n + 1]
        items : int32[*]
            May hold an item twice.
        """
        return self._histories().all_before(sequence)

    def _histories(self) -> Histories:
        removed = self.catalog.removed(len(self.items))
        return Histories(self.edges, self.chains, self.horizon_us, removed)

    def view(self) -> GraphView:
        """The graph as it is now, for good; shares the memory of what does not change."""
        return GraphView(
            slices=self.edges.view(),
            n_users=len(self.users),
            n_items=len(self.items),
            next_sequence=self.edges.next,
            now_us=self.now_us,
            removed=self.catalog.removed(len(self.items)).copy(),
            config=self.config,
        )

    def edges_by_name(self) -> list[tuple[str, str, int, str]]:
        """Every edge in the graph as (user, item, microseconds, kind), sorted: for comparisons."""
        found: list[tuple[str, str, int, str]] = []
        for piece in self.edges.slices():
            at = np.flatnonzero(live(piece.kind) & (piece.time_us >= self.horizon_us))
            users = [self.users.name(u) for u in piece.user[at].tolist()]
            items = [self.items.name(i) for i in piece.item[at].tolist()]
            kinds = [Kind(k).name for k in codes(piece.kind[at]).tolist()]
            found += zip(users, items, piece.time_us[at].tolist(), kinds, strict=True)
        return sorted(found)

    def digest(self) -> str:
        """SHA-256 over `edges_by_name`: equal for equal graphs."""
        digest = sha256()
        for edge in self.edges_by_name():
            digest.update(repr(edge).encode())
        return digest.hexdigest()


def _joined(parts: Sequence[NDArray[T]], dtype: type[T]) -> NDArray[T]:
    return np.concatenate([np.empty(0, dtype), *parts])
