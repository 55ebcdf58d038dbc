"""Views stay as they were; the CSR says what a plain loop says."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.batch import EventBatch, Kind, Partition
from stream.edges import EdgeLog, EdgeRows
from stream.graph import Graph
from stream.view import Csr, GraphConfig

P = Partition("events", 0)
CONFIG = GraphConfig(half_life_us=100, answer_us=50, slab_rows=4)
Row = tuple[Kind, str, str, int]


def batch_of(rows: list[Row], start: int = 0, refers: dict[int, str] | None = None) -> EventBatch:
    n = len(rows)
    return EventBatch(
        partition=P,
        row=np.arange(n),
        offsets=np.arange(n),
        kind=np.array([r[0] for r in rows], np.uint8),
        time_us=np.array([r[3] for r in rows], np.int64),
        event_id=[f"e{start + i}" for i in range(n)],
        user=[r[1] for r in rows],
        item=[r[2] for r in rows],
        refers_to=[(refers or {}).get(i, "") for i in range(n)],
    )


def apply(graph: Graph, rows: list[Row], refers: dict[int, str] | None = None) -> None:
    batch = batch_of(rows, graph.edges.next, refers)
    graph.apply(batch, np.arange(len(rows)))


def listed(csr: Csr) -> list[tuple[int, int, int, int, int]]:
    user = np.repeat(np.arange(len(csr.indptr) - 1), np.diff(csr.indptr))
    columns = (user, csr.item, csr.time_us, csr.kind, csr.sequence)
    return list(zip(*(c.tolist() for c in columns), strict=True))


rows = st.lists(
    st.tuples(
        st.sampled_from([Kind.CLICK, Kind.PURCHASE, Kind.IMPRESSION]),
        st.sampled_from("uvw"),
        st.sampled_from("abc"),
        st.integers(0, 200),
    ),
    max_size=30,
)


@given(rows)
@settings(deadline=None)
def test_the_csr_is_the_edges_grouped_and_ordered(given_rows: list[Row]) -> None:
    graph = Graph(CONFIG)
    apply(graph, given_rows)
    number = {n: i for i, n in enumerate(graph.users.names)}
    item = {n: i for i, n in enumerate(graph.items.names)}
    every = sorted((number[u], t, s, item[i], int(k)) for s, (k, u, i, t) in enumerate(given_rows))
    liked = [(u, i, t, k, s) for u, t, s, i, k in every if k != Kind.IMPRESSION]
    view = graph.view()
    assert listed(view.csr()) == liked

    def is_answered(user: int, item: int, time: int, sequence: int) -> bool:
        return any(
            (u, i) == (user, item) and (time, sequence) <= (t, s) and t - time <= 50
            for u, i, t, _, s in liked
        )

    answered = {
        (u, i, t, s) for u, t, s, i, k in every if k == Kind.IMPRESSION and is_answered(u, i, t, s)
    }
    both = [(u, i, t, k, s) for u, t, s, i, k in every if (u, i, t, s) not in answered]
    assert listed(view.csr(impressions=True)) == both


def test_weights_are_the_kinds_and_halve_with_time() -> None:
    graph = Graph(CONFIG)
    apply(graph, [(Kind.CLICK, "u", "a", 0), (Kind.PURCHASE, "u", "b", 100)])
    apply(graph, [(Kind.IMPRESSION, "u", "c", 200)])
    csr = graph.view().csr(impressions=True)
    assert csr.weight.tolist() == pytest.approx([0.25, 1.5, -0.1])
    later = graph.view().csr(at_us=300)
    assert later.weight.tolist() == pytest.approx([0.125, 0.75])
    forever = Graph(replace(CONFIG, half_life_us=None))
    apply(forever, [(Kind.LIKE, "u", "a", 0), (Kind.CLICK, "u", "a", 10**9)])
    assert forever.view().csr().weight.tolist() == [2.0, 1.0]


def test_a_view_stays_as_it_was() -> None:
    graph = Graph(CONFIG)
    apply(graph, [(Kind.IMPRESSION, "u", "a", 0), (Kind.CLICK, "u", "b", 1)])
    apply(graph, [(Kind.CLICK, "v", "c", 1), (Kind.CLICK, "w", "a", 1)])
    view = graph.view()
    before = listed(view.csr(impressions=True))
    with pytest.raises(ValueError, match="read-only"):
        view.slices[0].kind[0] = 0
    apply(graph, [(Kind.CLICK, "u", "a", 2)], {0: "e0"})
    apply(graph, [(Kind.CONVERSION, "v", "c", 3)], {0: "e2"})
    apply(graph, [(Kind.ITEM_REMOVED, "", "b", 3)])
    assert listed(view.csr(impressions=True)) == before
    after = listed(graph.view().csr(impressions=True))
    assert [(u, i, k) for u, i, _, k, _ in after] == [(0, 0, 1), (1, 2, 6), (2, 0, 1)]


def test_a_view_shares_memory() -> None:
    graph = Graph(replace(CONFIG, slab_rows=1 << 12))
    apply(graph, [(Kind.CLICK, "u", "a", 0)] * 100)
    first, second = graph.view(), graph.view()
    for a, b in zip(first.slices, second.slices, strict=True):
        assert np.shares_memory(a.user, b.user)
        assert np.shares_memory(a.kind, b.kind)
    apply(graph, [(Kind.CONVERSION, "u", "a", 0)], {0: "e5"})
    third = graph.view()
    assert np.shares_memory(first.slices[0].user, third.slices[0].user)
    assert not np.shares_memory(first.slices[0].kind, third.slices[0].kind)


def test_an_empty_graph_has_an_empty_view() -> None:
    csr = Graph().view().csr(impressions=True)
    assert len(csr) == 0
    assert csr.indptr.tolist() == [0]


def test_old_slabs_are_given_back() -> None:
    graph = Graph(replace(CONFIG, window_us=100, attribution_us=20))
    for time in range(0, 5_000, 10):
        apply(graph, [(Kind.CLICK, "u", "a", time)])
    assert len(graph.edges) <= 12 + 2 * 4
    assert graph.edges.nbytes == 21 * len(graph.edges)
    assert len(graph.view().csr()) == 11
    assert graph.recent(np.array([0], np.int32), 50).item[0].tolist() == [0] * 11 + [-1] * 39


def test_configuration_is_checked() -> None:
    with pytest.raises(ValueError, match=r"GraphConfig\.degree_cap is at least 1: got 0"):
        GraphConfig(degree_cap=0)
    with pytest.raises(ValueError, match="power of two: got 3"):
        Graph(GraphConfig(slab_rows=3))
    log = EdgeLog(4)
    zero = np.zeros(1, np.int32)
    log.append(
        EdgeRows(zero, zero, zero.astype(np.int64), zero.astype(np.uint8), zero.astype(np.uint32))
    )
    with pytest.raises(ValueError, match="only an empty log"):
        log.start_at(7)
