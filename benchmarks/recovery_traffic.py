"""The traffic and the state that `benchmarks/recovery.py` saves and opens: nothing to run here."""

import sys
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stream.batch import EventBatch, Kind, Partition
from stream.events import EPOCH, Campaign, Item
from stream.graph import Graph
from stream.ordering import Orderer
from stream.state import State

PARTITIONS = 4
EDGES_A_USER, EDGES_AN_ITEM = 20, 100
CAMPAIGNS, SOLD = 200, 0.1  # share of the items that belong to a campaign
STEP_US = 10_000  # between two events
START_US = 1_790_000_000_000_000
OPEN = 500_000  # impressions a partition that later events choose from
_KINDS = [Kind.IMPRESSION, Kind.CLICK, Kind.VIEW, Kind.LIKE, Kind.AD_CLICK]
_SHARES = [0.55, 0.25, 0.1, 0.05, 0.05]


class Lane:
    """The users of one partition, and which of its impressions may still be answered."""

    def __init__(self, number: int, users: NDArray[np.int64], rng: np.random.Generator) -> None:
        self.partition = Partition("events", number)
        self.users = users
        self.open: list[str] = []
        activity = np.cumsum(rng.lognormal(sigma=1.2, size=len(users)))
        self.activity = activity / activity[-1]


class Traffic:
    """Impressions, what answers them, conversions and erasures, in several partitions.

    Parameters
    ----------
    edges : int
        Of the graph that it is for: sets how many users and items there are.
    """

    def __init__(self, edges: int, rng: np.random.Generator) -> None:
        self._rng = rng
        users = np.arange(edges // EDGES_A_USER)
        self.lanes = [Lane(n, users[n::PARTITIONS], rng) for n in range(PARTITIONS)]
        self.items = edges // EDGES_AN_ITEM
        popularity = np.cumsum(1 / (np.arange(self.items) + 10.0))
        self._popularity = popularity / popularity[-1]
        self.made = 0

    def batch(self, lane: Lane, n: int, answers: int, conversions: int) -> EventBatch:
        """``n`` interactions; the first answer old impressions or come of what was before."""
        rng = self._rng
        kind = rng.choice(np.array(_KINDS, np.uint8), n, p=_SHARES)
        refers = [""] * n
        caused = min(len(lane.open), answers + conversions)
        kind[:caused] = Kind.CLICK
        kind[:caused][answers:] = Kind.CONVERSION
        if caused:
            picked = rng.choice(len(lane.open), caused, replace=False)
            refers[:caused] = [lane.open[i] for i in picked.tolist()]
        ids = [f"0190a2b4-7c3e-7d51-9f02-{self.made + i:012x}" for i in range(n)]
        lane.open += [ids[i] for i in np.flatnonzero(kind == Kind.IMPRESSION).tolist()]
        del lane.open[:-OPEN]
        users = lane.users[np.searchsorted(lane.activity, rng.random(n))]
        items = np.searchsorted(self._popularity, rng.random(n))
        who, what = [user(u) for u in users.tolist()], [item(i) for i in items.tolist()]
        return self._batch(lane, kind, ids, who, what, refers)

    def erasures(self, lane: Lane, numbers: Iterable[int]) -> EventBatch:
        """The users with these numbers are to be forgotten."""
        names = [user(u) for u in numbers]
        n = len(names)
        ids = [f"0190a2b4-7c3e-7d51-9f03-{self.made + i:012x}" for i in range(n)]
        kind = np.full(n, Kind.ERASE_USER, np.uint8)
        return self._batch(lane, kind, ids, names, [""] * n, [""] * n)

    def catalog(self, lane: Lane) -> EventBatch:
        """Every item and campaign announced, so that caps and charges are booked."""
        sold = self._rng.random(self.items) < SOLD
        models: list[Campaign | Item] = [_campaign(n) for n in range(CAMPAIGNS)]
        models += [_item(n, sold=bool(sold[n])) for n in range(self.items)]
        n = len(models)
        kind = np.full(n, Kind.ITEM, np.uint8)
        kind[:CAMPAIGNS] = Kind.CAMPAIGN
        names = [""] * CAMPAIGNS + [item(i) for i in range(self.items)]
        ids = [model.event_id for model in models]
        made = self._batch(lane, kind, ids, [""] * n, names, [""] * n)
        return replace(made, models=dict(enumerate(models)))

    def _batch(
        self,
        lane: Lane,
        kind: NDArray[np.uint8],
        ids: list[str],
        users: list[str],
        *texts: list[str],
    ) -> EventBatch:
        items, refers = texts
        n, first = len(ids), self.made
        self.made += n
        return EventBatch(
            partition=lane.partition,
            row=np.arange(n),
            offsets=np.arange(first, first + n),
            kind=kind,
            time_us=START_US + np.arange(first, first + n) * STEP_US,
            event_id=ids,
            user=users,
            item=items,
            refers_to=refers,
        )


def user(number: int) -> str:
    """A user's id."""
    return f"user-{number:07}"


def item(number: int) -> str:
    """An item's id."""
    return f"item-{number:07}"


def _item(number: int, *, sold: bool) -> Item:
    return Item(
        event_id=f"item-event-{number}",
        occurred_at=EPOCH,
        item_id=item(number),
        title=f"Running shoe no. {number}, light and blue",
        categories=("shoes", f"brand-{number % 97}"),
        campaign_id=f"campaign-{number % CAMPAIGNS}" if sold else None,
        price=9.5 + number % 90,
    )


def _campaign(number: int) -> Campaign:
    return Campaign(
        event_id=f"campaign-event-{number}",
        occurred_at=EPOCH,
        campaign_id=f"campaign-{number}",
        bid=2.5,
        bid_for="impression",
        cap=20,
        daily_budget=1e6,
        currency="EUR",
    )


def feed(state: State, batch: EventBatch) -> None:
    """Apply a batch."""
    state.graph.apply(batch, state.orderer.admit(batch).keep)
    state.positions[batch.partition] = int(batch.offsets[-1]) + 1


def grown(edges: int, rng: np.random.Generator) -> tuple[State, Traffic]:
    """A state of so many edges, with the default configuration."""
    traffic, state, size = Traffic(edges, rng), State(Graph(), Orderer()), 25_000
    feed(state, traffic.catalog(traffic.lanes[0]))
    turn = 0
    while (left := edges - state.graph.edges.next) > 0:
        lane = traffic.lanes[turn % PARTITIONS]
        n = min(size, left)
        feed(state, traffic.batch(lane, n, answers=n // 8, conversions=n // 50))
        turn += 1
        if turn % 40 == 0:
            print(f"  {state.graph.edges.next:,} edges", file=sys.stderr, flush=True)
    return state, traffic
