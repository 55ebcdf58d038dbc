"""A plain graph that keeps dictionaries and looks at one event after the other."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from stream.batch import EventBatch, Kind, Partition
from stream.graph import Applied, Graph
from stream.ordering import OrderingConfig
from stream.view import GraphConfig

A = Partition("events", 0)
B = Partition("events", 1)
CONFIG = GraphConfig(
    window_us=1_000,
    degree_cap=6,
    join_rows=8,
    join_block=3,
    slab_rows=4,
    answer_us=50,
    attribution_us=250,
)
ORDERING = OrderingConfig(remembered=11, block=3, lateness_us=300)


@dataclass(frozen=True)
class E:
    """One event of a test."""

    id: str
    kind: Kind
    user: str = ""
    item: str = ""
    time: int = 0
    refers: str = ""


def batch_of(events: Sequence[E], partition: Partition = A, offset: int = 0) -> EventBatch:
    n = len(events)
    return EventBatch(
        partition=partition,
        row=np.arange(n),
        offsets=np.arange(offset, offset + n),
        kind=np.array([e.kind for e in events], np.uint8),
        time_us=np.array([e.time for e in events], np.int64),
        event_id=[e.id for e in events],
        user=[e.user for e in events],
        item=[e.item for e in events],
        refers_to=[e.refers for e in events],
    )


def everything(batch: EventBatch) -> np.ndarray:
    return np.arange(len(batch))


def apply(graph: Graph, *events: E) -> Applied:
    batch = batch_of(events)
    return graph.apply(batch, everything(batch))


# -- the oracle


class Memory:
    """Ids forgotten in blocks, by the count of rows."""

    def __init__(self, size: int, block: int) -> None:
        self.block, self.kept, self.rows = block, -(-size // block) + 1, 0
        self.known: dict[str, tuple[int, int]] = {}

    def put(self, name: str, value: int = 0) -> None:
        self.known[name] = (self.rows // self.block, value)

    def tick(self) -> None:
        self.rows += 1
        if self.rows % self.block:
            return
        oldest = self.rows // self.block - self.kept
        self.known = {n: (b, v) for n, (b, v) in self.known.items() if b > oldest}

    def get(self, name: str) -> int | None:
        return self.known[name][1] if name in self.known else None


@dataclass
class Edge:
    user: str
    item: str
    time: int
    kind: Kind
    alive: bool = True
    shown: bool = False
    click: int | None = None


@dataclass
class Oracle:
    """One partition; everything by the rules, one event at a time."""

    config: GraphConfig = CONFIG
    ordering: OrderingConfig = ORDERING
    edges: list[Edge] = field(default_factory=list)
    latest: int = -(2**60)
    ahead: dict[str, int] = field(default_factory=dict)
    now: int = 0
    removed: set[str] = field(default_factory=set)
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    fate: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("dup", "late", "cap"), 0))
    transitions: Counter[str] = field(default_factory=Counter[str])

    def __post_init__(self) -> None:
        self.seen = Memory(self.ordering.remembered, self.ordering.block)
        self.pending = Memory(self.config.join_rows, self.config.join_block)
        self.waiting = Memory(self.config.join_rows, self.config.join_block)

    def feed(self, e: E) -> None:
        if self.seen.get(e.id) is not None:
            self.fate["dup"] += 1
            return
        if e.time < self.latest - self.ordering.lateness_us:
            self.fate["late"] += 1
            return
        self.seen.put(e.id)
        self.seen.tick()
        self.look_at_the_clock(e)
        self.now = max(self.now, self.latest)
        self.act(e)
        self.pending.tick()
        self.waiting.tick()

    def look_at_the_clock(self, e: E) -> None:
        """One clock alone moves the watermark by no more than the lateness."""
        if self.latest < 0 or e.time <= self.latest + self.ordering.lateness_us:
            self.latest = max(self.latest, e.time)
            return
        self.ahead[e.user or e.id] = e.time
        far = {w: t for w, t in self.ahead.items() if t > self.latest + self.ordering.lateness_us}
        if len(far) >= 3:
            reach = min(far.values()) + self.ordering.lateness_us
            self.latest = max(t for t in far.values() if t <= reach)
        self.ahead = far

    def act(self, e: E) -> None:
        if e.kind is Kind.ERASE_USER:
            for edge in self.edges:
                if edge.user == e.user:
                    edge.alive, edge.click = False, None
            self.counts.pop(e.user, None)
        elif e.kind is Kind.ITEM_REMOVED:
            self.removed.add(e.item)
        elif e.kind >= Kind.ITEM:
            pass  # said of items and campaigns: no edge
        elif self.capped(e):
            self.fate["cap"] += 1
        elif e.kind is Kind.CONVERSION and e.refers:
            self.convert(e)
        else:
            self.add(e)

    def capped(self, e: E) -> bool:
        now = 0 if self.config.window_us is None else e.time // self.config.window_us
        period, count = self.counts.get(e.user, (-1, 0))
        if now > period:
            period, count = now, 0
        self.counts[e.user] = (period, min(count + 1, self.config.degree_cap))
        return count >= self.config.degree_cap

    def new(self, e: E) -> int:
        self.edges.append(Edge(e.user, e.item, e.time, e.kind, shown=e.kind is Kind.IMPRESSION))
        return len(self.edges) - 1

    def add(self, e: E) -> None:
        at = self.new(e)
        edge = self.edges[at]
        standing = self.pending.get(e.id)
        waiter = self.waiting.get(e.id)
        if waiter is not None:
            self.relieve(waiter, e)
        if standing is not None:
            edge.alive = not edge.shown
            self.transitions["impression_clicked"] += edge.shown
        else:
            self.pending.put(e.id, at)
            if waiter is not None:
                self.turn(edge)
        if not e.refers:
            return
        shown = self.pending.get(e.refers)
        if shown is None:
            self.pending.put(e.refers, at)
            waiter = self.waiting.get(e.refers)
            if waiter is not None:
                self.relieve(waiter, e)
                self.turn(edge)
            return
        answered = self.edges[shown]
        if answered.alive and answered.shown and self.joined(answered, e):
            answered.alive = False
            self.transitions["impression_clicked"] += 1
            if answered.kind is Kind.CONVERSION:
                self.turn(edge)
            else:
                answered.click = at

    def convert(self, e: E) -> None:
        at = self.pending.get(e.refers)
        if at is None:
            if self.waiting.get(e.refers) is None:
                self.waiting.put(e.refers, self.new(e))
                self.transitions["conversion_unattributed"] += 1
            return
        edge = self.edges[at]
        if not edge.alive and edge.click is not None and self.joined(edge, e):
            edge = self.edges[edge.click]
        if edge.alive and self.joined(edge, e):
            self.turn(edge)

    def turn(self, edge: Edge) -> None:
        """It has led to a conversion."""
        if edge.kind is not Kind.CONVERSION:
            kind = "impression" if edge.kind is Kind.IMPRESSION else "click"
            self.transitions[f"{kind}_converted"] += 1
        edge.kind = Kind.CONVERSION

    def relieve(self, waiter: int, e: E) -> None:
        """The cause of a conversion has come, or a click that stands for the cause."""
        edge = self.edges[waiter]
        self.transitions["conversion_attributed"] += edge.alive and self.joined(edge, e)
        edge.alive = False

    def joined(self, edge: Edge, e: E) -> bool:
        return edge.time >= e.time - self.config.attribution_us

    def counted(self) -> list[Edge]:
        span = self.config.window_us
        return [e for e in self.edges if e.alive and (span is None or e.time >= self.now - span)]

    def by_name(self) -> list[tuple[str, str, int, str]]:
        return sorted((e.user, e.item, e.time, e.kind.name) for e in self.counted())

    def recent(self, user: str, length: int) -> list[tuple[str, int]]:
        kept = [
            e
            for e in self.counted()
            if e.user == user and e.kind is not Kind.IMPRESSION and e.item not in self.removed
        ]
        last = kept[::-1][:length]
        return [(e.item, e.time) for e in sorted(last, key=lambda e: -e.time)]
