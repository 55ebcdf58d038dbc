"""The graph against a plain one that keeps dictionaries and looks at one event after the other."""

import os
from collections import Counter, deque
from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.batch import Kind
from stream.chains import Chains
from stream.edges import EdgeLog
from stream.graph import Graph
from stream.ordering import Orderer
from stream.view import GraphConfig
from tests.oracle.graph import (
    CONFIG,
    ORDERING,
    E,
    Oracle,
    apply,
    batch_of,
)
from tests.stream import snapshots

# -- streams

IDS = [f"e{i}" for i in range(14)]
KINDS = [
    Kind.CLICK,
    Kind.CLICK,
    Kind.AD_CLICK,
    Kind.LIKE,
    Kind.IMPRESSION,
    Kind.IMPRESSION,
    Kind.CONVERSION,
    Kind.CONVERSION,
    Kind.ERASE_USER,
    Kind.ITEM_REMOVED,
]

LONG = 1_500 if "GOAT_LONG" in os.environ else 400  # streams of 200; all in `make test-long`


@st.composite
def streams(draw: st.DrawFn, size: int = 60) -> list[E]:
    time = 0
    events: list[E] = []
    for _ in range(draw(st.integers(0, size))):
        time = max(0, time + draw(st.integers(-120, 160)))
        wrong = draw(st.sampled_from([0] * 15 + [500, 5_000]))  # a clock that is ahead
        kind = draw(st.sampled_from(KINDS))
        refers = ""
        if kind in (Kind.CLICK, Kind.AD_CLICK, Kind.CONVERSION) and draw(st.booleans()):
            refers = draw(st.sampled_from(IDS))
        events.append(
            E(
                id=draw(st.sampled_from(IDS)),
                kind=kind,
                user="" if kind is Kind.ITEM_REMOVED else draw(st.sampled_from("uvw")),
                item="" if kind is Kind.ERASE_USER else draw(st.sampled_from("abcd")),
                time=time + wrong,
                refers=refers,
            )
        )
    return events


cuts = st.lists(st.integers(1, 9), min_size=1, max_size=10)


def batches(events: Sequence[E], sizes: Sequence[int]) -> list[list[E]]:
    """Cut a stream into batches of these sizes, over and over."""
    out: list[list[E]] = []
    rest = deque(events)
    turn = 0
    while rest:
        out.append([rest.popleft() for _ in range(min(sizes[turn % len(sizes)], len(rest)))])
        turn += 1
    return out


def run(
    events: Sequence[E], sizes: Sequence[int], each: Callable[[Graph], None] = lambda _: None
) -> tuple[Graph, Counter[str]]:
    graph, orderer = Graph(CONFIG), Orderer(ORDERING)
    fate = Counter[str]()
    for piece in batches(events, sizes):
        batch = batch_of(piece)
        admission = orderer.admit(batch)
        applied = graph.apply(batch, admission.keep, admission.now_us)
        fate["dup"] += len(admission.duplicates)
        fate["late"] += len(admission.late)
        fate["cap"] += applied.capped
        fate.update({str(name): n for name, n in applied.transitions.items()})
        each(graph)
    return graph, fate


@given(streams(), cuts)
@settings(max_examples=400, deadline=None)
def test_any_stream_in_any_batches_gives_what_the_rules_give(
    events: list[E], sizes: list[int]
) -> None:
    oracle = Oracle()
    for event in events:
        oracle.feed(event)
    graph, fate = run(events, sizes)
    assert graph.edges_by_name() == oracle.by_name()
    assert fate == Counter(oracle.fate) + oracle.transitions


@given(streams(), cuts, st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_histories_are_those_of_the_rules(events: list[E], sizes: list[int], length: int) -> None:
    oracle = Oracle()
    for event in events:
        oracle.feed(event)
    graph, _ = run(events, sizes)
    users = graph.users.find(list("uvw?"))
    recent = graph.recent(users, length)
    for user, row, when in zip("uvw?", *recent, strict=True):
        got = [
            (graph.items.name(i), at)
            for i, at in zip(row.tolist(), when.tolist(), strict=True)
            if i >= 0
        ]
        expected = oracle.recent(user, length)
        # nothing is promised further back than four times the length
        gone = [e for e in oracle.edges if e.user == user and e.kind is not Kind.IMPRESSION]
        if len(gone) <= 4 * length:
            assert got == expected
        assert (row[len(got) :] == -1).all()


@pytest.mark.slow
@given(streams(size=200), cuts)
@settings(max_examples=LONG, deadline=None)
def test_long_streams_too(events: list[E], sizes: list[int]) -> None:
    oracle = Oracle()
    for event in events:
        oracle.feed(event)
    graph, fate = run(events, sizes)
    assert graph.edges_by_name() == oracle.by_name()
    assert fate == Counter(oracle.fate) + oracle.transitions


# -- cases with names


def test_the_last_of_a_history_is_by_time_the_removed_left_out() -> None:
    graph = Graph()
    apply(graph, *(E(f"e{t}", Kind.CLICK, "u", f"i{t}", t) for t in (5, 1, 9, 3, 7)))
    apply(graph, E("x", Kind.IMPRESSION, "u", "shown", 8), E("y", Kind.CLICK, "v", "i5", 2))
    users = graph.users.find(["u", "v", "?"])

    def names(rows: np.ndarray) -> list[list[str]]:
        return [[graph.items.name(i) for i in row if i >= 0] for row in rows.tolist()]

    assert names(graph.recent(users, 3).item) == [["i9", "i7", "i3"], ["i5"], []]
    assert names(graph.recent(users, 9).item) == [["i9", "i7", "i5", "i3", "i1"], ["i5"], []]
    assert names(graph.recent(users, 0).item) == [[], [], []]
    removed = apply(graph, E("z", Kind.ITEM_REMOVED, "", "i7", 10))
    assert [graph.items.name(i) for i in removed.removed_items] == ["i7"]
    assert names(graph.recent(users, 3).item)[0] == ["i9", "i3", "i1"]
    before = graph.before(np.arange(graph.edges.next), 2).item
    assert names(before) == [[], ["i5"], ["i5", "i1"], ["i9", "i1"], ["i9", "i3"], ["i9", "i3"], []]
    indptr, items = graph.seen_before(np.array([4, 0, 5, 6]))
    assert indptr.tolist() == [0, 4, 4, 8, 8]
    assert [graph.items.name(i) for i in items] == ["i3", "i9", "i1", "i5"] * 2


def test_what_a_batch_did() -> None:
    graph = Graph(GraphConfig(degree_cap=2))
    applied = apply(
        graph,
        E("a", Kind.CLICK, "u", "x", 1),
        E("b", Kind.CLICK, "u", "y", 2),
        E("c", Kind.CLICK, "u", "z", 3),
        E("d", Kind.IMPRESSION, "v", "x", 4),
    )
    assert applied.row.tolist() == [0, 1, 3]
    assert applied.sequence.tolist() == [0, 1, 2]
    assert applied.kind.tolist() == [Kind.CLICK, Kind.CLICK, Kind.IMPRESSION]
    assert applied.time_us.tolist() == [1, 2, 4]
    assert applied.capped == 1
    assert applied.touched_users.tolist() == [0, 1]
    late = apply(graph, E("e", Kind.CONVERSION, "v", "x", 9, "d"))
    assert late.row.tolist() == []
    assert late.touched_users.tolist() == [1]
    assert late.touched_items.tolist() == [0]
    assert graph.recent(np.array([1], np.int32), 2).item.tolist() == [[0, -1]]
    assert graph.joins.amended
    erased = apply(graph, E("f", Kind.ERASE_USER, "v"), E("g", Kind.CLICK, "v", "y", 10))
    assert erased.erased_users == ("v",)
    assert [graph.users.name(u) for u in erased.touched_users] == ["v"]
    assert erased.touched_users.tolist() == [2]
    assert graph.edges_by_name() == [
        ("u", "x", 1, "CLICK"),
        ("u", "y", 2, "CLICK"),
        ("v", "y", 10, "CLICK"),
    ]
    assert len(graph.digest()) == 64


def test_every_arrival_order_of_a_funnel_comes_to_the_same() -> None:
    shown = E("i", Kind.IMPRESSION, "u", "x", 1)
    click = E("c", Kind.CLICK, "u", "x", 2, "i")
    for cause in ("i", "c"):
        bought = E("v", Kind.CONVERSION, "u", "x", 3, cause)
        for order in permutations((shown, click, bought)):
            together, apart = Graph(), Graph()
            apply(together, *order)
            for event in order:
                apply(apart, event)
            assert together.edges_by_name() == [("u", "x", 2, "CONVERSION")]
            assert apart.digest() == together.digest()


def test_a_conversion_whose_cause_never_comes_stands_for_itself() -> None:
    graph = Graph()
    first = apply(graph, E("v", Kind.CONVERSION, "u", "x", 3, "?"))
    assert first.kind.tolist() == [Kind.CONVERSION]
    apply(graph, E("w", Kind.CONVERSION, "u", "x", 4, "?"))
    assert graph.edges_by_name() == [("u", "x", 3, "CONVERSION")]


def test_links_end_where_32_bits_do() -> None:
    edges = EdgeLog(slab_rows=4)
    edges.start_at(2**33)
    chains = Chains(edges)
    chains.heads.reserve(1)[0] = 5
    assert chains.extend(np.zeros(3, np.int32), np.ones(3, np.bool_)).tolist() == [0, 1, 1]
    assert chains.heads.data[0] == 2**33 + 2


def test_many_users_and_their_arrays_grow() -> None:
    graph = Graph()
    names = [f"u{i}" for i in range(3_000)]
    apply(graph, *(E(f"a{u}", Kind.CLICK, u, "x", 1) for u in names[:10]))
    apply(graph, *(E(f"b{u}", Kind.CLICK, u, "y", 2) for u in names))
    assert graph.recent(graph.users.find(["u3", "u2999"]), 2).item.tolist() == [[1, 0], [1, -1]]


def test_an_erasure_tells_what_the_user_touched_and_how_long_ago() -> None:
    graph = Graph(GraphConfig(slab_rows=4))
    rows = [("ann", "a"), ("bob", "b"), ("ann", "b"), ("bob", "c"), ("bob", "a"), ("ann", "c")]
    kinds = [Kind.CLICK, Kind.CLICK, Kind.IMPRESSION, Kind.LIKE, Kind.CLICK, Kind.CLICK]
    told = [
        (f"e{i}", kind, user, item, 10 * i, "")
        for i, (kind, (user, item)) in enumerate(zip(kinds, rows, strict=True))
    ]
    batch = snapshots.batch_of([*told, ("forget", Kind.ERASE_USER, "ann", "", 70, "")])
    applied = graph.apply(batch, np.arange(len(batch)))
    assert [graph.items.name(n) for n in applied.lost.item.tolist()] == ["a", "b", "c"]
    assert applied.lost.counted.tolist() == [True, False, True]
    assert applied.lost.age[applied.lost.counted].tolist() == [4, 0]
    assert graph.forgotten == {"ann"}
    again = graph.apply(
        snapshots.batch_of([("f2", Kind.ERASE_USER, "ann", "", 80, "")]), np.arange(1)
    )
    assert not len(again.lost.item) and not len(again.touched_items)
