"""States for the tests of snapshots, and ways to stop and damage them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from stream.batch import EventBatch, Kind, Partition
from stream.clock import ManualClock
from stream.graph import Graph
from stream.ordering import Orderer, OrderingConfig
from stream.snapshot import SnapshotStore, Step
from stream.state import State
from stream.view import GraphConfig

P = Partition("events", 0)
Q = Partition("other", 3)
GRAPH = GraphConfig(
    window_us=1_000,
    degree_cap=6,
    join_rows=8,
    join_block=3,
    slab_rows=4,
    answer_us=50,
    attribution_us=250,
)
ORDERING = OrderingConfig(remembered=11, block=3, lateness_us=300)
Row = tuple[str, Kind, str, str, int, str]
KINDS = [Kind.CLICK] * 4 + [Kind.IMPRESSION] * 2 + [Kind.CONVERSION] * 2 + [Kind.ERASE_USER]
IDS = [f"e{i}" for i in range(14)]


class Killed(BaseException):
    """The process is gone."""


def batch_of(rows: Sequence[Row], partition: Partition = P) -> EventBatch:
    n = len(rows)
    return EventBatch(
        partition=partition,
        row=np.arange(n),
        offsets=np.arange(n),
        kind=np.array([r[1] for r in rows], np.uint8),
        time_us=np.array([r[4] for r in rows], np.int64),
        event_id=[r[0] for r in rows],
        user=[r[2] for r in rows],
        item=[r[3] for r in rows],
        refers_to=[r[5] for r in rows],
    )


def fresh() -> State:
    return State(Graph(GRAPH), Orderer(ORDERING), positions={P: 0, Q: 0})


def feed(state: State, rows: Sequence[Row], partition: Partition = P) -> None:
    batch = batch_of(rows, partition)
    admission = state.orderer.admit(batch)
    state.graph.apply(batch, admission.keep, admission.now_us)
    state.positions[partition] += len(rows)


@st.composite
def streams(draw: st.DrawFn) -> list[Row]:
    time = 0
    rows: list[Row] = []
    for _ in range(draw(st.integers(0, 50))):
        time = max(0, time + draw(st.integers(-120, 160)))
        wrong = draw(st.sampled_from([0] * 15 + [500, 5_000]))  # a clock that is ahead
        kind = draw(st.sampled_from(KINDS))
        refers = ""
        if kind in (Kind.CLICK, Kind.CONVERSION) and draw(st.booleans()):
            refers = draw(st.sampled_from(IDS))
        item = "" if kind is Kind.ERASE_USER else draw(st.sampled_from("abcd"))
        user = draw(st.sampled_from("uvw"))
        rows.append((draw(st.sampled_from(IDS)), kind, user, item, time + wrong, refers))
    return rows


def inside(state: State) -> object:
    """Everything that later events may depend on, by name."""
    graph, joins = state.graph, state.graph.joins
    # what becomes of an edge is told by what stands for an id: compare that, not its number
    users = graph.users.find(list("uvw"))
    live = [u for u in users.tolist() if u >= 0]
    n = len(graph.users)
    return (
        graph.edges_by_name(),
        [column.tolist() for column in graph.recent(users, 5)],
        remembered(state),
        [joins.pending.get(name) for name in IDS],
        {number: size for number, size in joins.pending.sizes(P).items() if size},
        sorted(joins.ahead.values.items()),
        sorted(joins.waiting.values.items()),
        state.orderer.seen.lanes.rows(),
        joins.pending.lanes.rows(),
        dict(state.orderer.watermarks),
        {p: dict(ahead) for p, ahead in state.orderer.leaps.items() if ahead},
        graph.degrees.count.reserve(n)[live].tolist(),
        graph.degrees.period.reserve(n)[live].tolist(),
        list(graph.users.names),
        (graph.edges.next, graph.now_us),
        state.positions,
    )


def remembered(state: State) -> list[str]:
    """The ids of events that would be found to be repetitions."""
    seen = state.orderer.seen
    blocks = [(p, number) for p in seen.lanes.rows() for number in seen.sizes(p)]
    ids = [name for p, number in blocks for name in seen.since(p, number, 0)[0]]
    assert seen.known([*ids, "never seen"]) == set(ids)
    return sorted(ids)


@dataclass
class Stops:
    """Kills the process at the n-th report of a commit's progress; counts them."""

    at: int = -1
    seen: list[Step] = field(default_factory=list)

    def __call__(self, step: Step) -> None:
        self.seen.append(step)
        if len(self.seen) - 1 == self.at:
            raise Killed


CLICKS: list[Row] = [
    (f"c{i}", Kind.CLICK, "uvw"[i % 3], "abcd"[i % 4], 10 * i, "") for i in range(12)
]
OPTIONS = replace(GRAPH, slab_rows=64)


def filled(upto: int) -> State:
    state = State(Graph(OPTIONS), Orderer(ORDERING), positions={P: 0, Q: 0})
    feed(state, CLICKS[:upto])
    return state


def steps_of_a_commit(tmp_path: Path) -> list[Step]:
    stops = Stops()
    store = SnapshotStore(tmp_path / "count", ManualClock())
    state = filled(6)
    store.commit(state)
    feed(state, CLICKS[6:])
    store.close()
    store = SnapshotStore(tmp_path / "count", ManualClock(), step=stops)
    loaded = store.load(OPTIONS, ORDERING)
    assert loaded is not None
    feed(loaded, CLICKS[6:])
    store.commit(loaded)
    store.close()
    return stops.seen
