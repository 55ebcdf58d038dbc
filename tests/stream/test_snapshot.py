"""Snapshots: nothing is lost or done twice, whatever happens to the process or the files."""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream import manifest
from stream.batch import Kind
from stream.clock import ManualClock
from stream.errors import SnapshotCorrupt, SnapshotForeign, StoreInUse
from stream.events import Campaign, Item
from stream.graph import Graph
from stream.ordering import Orderer
from stream.snapshot import SnapshotStore
from stream.state import State
from stream.topic import Topic
from stream.view import GraphConfig
from tests.stream.snapshots import (
    CLICKS,
    GRAPH,
    OPTIONS,
    ORDERING,
    Killed,
    P,
    Q,
    Row,
    Stops,
    batch_of,
    feed,
    filled,
    fresh,
    inside,
    streams,
)


@given(
    rows=streams(),
    plan=st.lists(st.tuples(st.integers(1, 9), st.sampled_from("-cclk")), min_size=1, max_size=8),
    kill_at=st.integers(0, 12),
)
@settings(max_examples=100, deadline=None)
def test_commits_crashes_and_restarts_leave_no_trace(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[Row],
    plan: list[tuple[int, str]],
    kill_at: int,
) -> None:
    """c: commit, l: commit and load anew, k: die somewhere within a commit."""
    root = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)  # no power fails here, and it is slow
        patch.setattr("stream.state.CHUNK", 4)  # so that chunks are sealed, and amendments folded
        check_a_run(root, rows, plan, kill_at)


def check_a_run(root: Path, rows: list[Row], plan: list[tuple[int, str]], kill_at: int) -> None:
    expected = fresh()
    feed(expected, rows)
    state, turn = fresh(), 0
    store = SnapshotStore(root, ManualClock())
    while state.positions[P] < len(rows):
        size, act = plan[turn % len(plan)]
        turn += 1
        at = state.positions[P]
        feed(state, rows[at : at + size])
        if act == "k" and turn <= 3 * len(plan):  # not for ever
            store.close()
            doomed = SnapshotStore(root, ManualClock(), step=Stops(kill_at))
            state = doomed.load(GRAPH, ORDERING) or state
            feed(state, rows[state.positions[P] : at + size])
            with suppress(Killed):
                doomed.commit(state)
            doomed.close()
            store = SnapshotStore(root, ManualClock())
            state = store.load(GRAPH, ORDERING) or fresh()
        elif act in "cl":
            store.commit(state)
            if act == "l":
                state = store.load(GRAPH, ORDERING) or fresh()
    store.commit(state)
    store.close()
    loaded = SnapshotStore(root, ManualClock()).load(GRAPH, ORDERING)
    assert loaded is not None
    assert inside(state) == inside(expected)
    assert inside(loaded) == inside(expected)


def test_another_format_or_configuration_is_refused(
    open_store: Callable[..., SnapshotStore],
) -> None:
    store = open_store()
    path = store.commit(filled(6)).path
    with pytest.raises(SnapshotForeign, match="blocks of 3, configured are 5"):
        store.load(OPTIONS, replace(ORDERING, block=5))
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({**whole, "format": 99}))
    with pytest.raises(SnapshotForeign, match="format 99, this program reads 1 to 3"):
        store.newest()


def test_one_writes_and_any_number_reads(
    tmp_path: Path, open_store: Callable[..., SnapshotStore]
) -> None:
    store = open_store()
    store.commit(filled(6))
    other = SnapshotStore(tmp_path, ManualClock())
    with pytest.raises(StoreInUse, match="another process writes"):
        other.commit(filled(6))
    assert other.newest() is not None
    store.close()
    store.close()
    other.commit(filled(6))
    other.close()


def test_only_what_changed_is_written(open_store: Callable[..., SnapshotStore]) -> None:
    store = open_store()
    state = filled(6)
    first = store.commit(state)
    assert first.files_written > 5
    assert store.commit(state).files_written == 0
    state.arrays = {"counts": np.arange(6.0).reshape(2, 3)}
    assert store.commit(state).files_written == 1
    assert store.commit(state).files_written == 0
    state.arrays = {"counts": np.zeros((2, 3))}
    assert store.commit(state).files_written == 1
    # a state that this store does not know is written whole
    assert store.commit(filled(6)).files_written == first.files_written


def test_old_snapshots_go_and_so_do_their_segments(
    tmp_path: Path, open_store: Callable[..., SnapshotStore]
) -> None:
    store = open_store(keep=2)
    state = State(Graph(OPTIONS), Orderer(ORDERING), positions={P: 0})
    for start in range(0, 12, 2):
        feed(state, CLICKS[start : start + 2])
        store.commit(state)
    names = sorted(p.name for p in (tmp_path / "snapshots").iterdir())
    assert names == ["0000000005.json", "0000000006.json"]
    named = {
        piece["file"]
        for name in names
        for pieces in json.loads((tmp_path / "snapshots" / name).read_text())["body"][
            "logs"
        ].values()
        for piece in pieces
    }
    assert {p.name for p in (tmp_path / "segments").iterdir()} == named
    with pytest.raises(ValueError, match="keep is at least 2"):
        SnapshotStore(tmp_path, ManualClock(), keep=1)


def test_an_erased_name_is_in_no_file(
    tmp_path: Path, open_store: Callable[..., SnapshotStore]
) -> None:
    store = open_store(keep=2)
    state = State(Graph(OPTIONS), Orderer(ORDERING), positions={P: 0})
    feed(state, [("s1", Kind.CLICK, "a-secret-name", "a", 1, ""), *CLICKS[:3]])
    store.commit(state)
    feed(state, [("s2", Kind.ERASE_USER, "a-secret-name", "", 40, "")])
    store.commit(state)
    store.commit(state)
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"a-secret-name" not in path.read_bytes()
    opened = open_store().open_view(OPTIONS)
    assert opened is not None
    assert opened.view.csr().item.tolist() == [opened.items.find(["abc"[i]])[0] for i in range(3)]


def test_everything_else_comes_back(open_store: Callable[..., SnapshotStore]) -> None:
    state = filled(6)
    tell_catalog(state)
    state.extra = {"tally": {"applied": 6}, "window": [1, 2.5, None, "x"]}
    state.arrays = {
        "counts": np.arange(6.0, dtype=np.float32).reshape(2, 3),
        "none": np.empty(0, np.int64),
        "flags": np.array([True, False]),
    }
    state.positions[Q] = 77
    open_store().commit(state)
    reader = open_store()
    loaded, opened = reader.load(OPTIONS, ORDERING), reader.open_view(OPTIONS)
    assert loaded is not None and opened is not None
    assert loaded.positions == {P: 6, Q: 77}
    for got in (loaded, opened):
        assert got.extra == state.extra
        assert set(got.arrays) == set(state.arrays)
        for name, array in state.arrays.items():
            assert got.arrays[name].dtype == array.dtype
            assert np.array_equal(got.arrays[name], array)
    for catalog in (loaded.graph.catalog, opened.catalog):
        assert catalog.campaigns == state.graph.catalog.campaigns
        for number, record in state.graph.catalog.items.items():
            assert replace(catalog.items[number], vectors={}) == replace(record, vectors={})
            assert {n: v.tolist() for n, v in catalog.items[number].vectors.items()} == {
                n: v.tolist() for n, v in record.vectors.items()
            }
    assert opened.view.csr().item.tolist() == state.graph.view().csr().item.tolist()
    assert list(opened.users.names) == list(state.graph.users.names)


def tell_catalog(state: State) -> None:
    item = Item.model_validate(
        {
            "event_id": "i1",
            "occurred_at": "2026-01-01T00:00:00Z",
            "item_id": "a",
            "title": "Red shoes",
            "categories": ["shoes", "red"],
            "price": 9.5,
            "vectors": {"text": [1.0, 2.0], "image": [0.5]},
            "expires_at": "2027-01-01T00:00:00Z",
        }
    )
    campaign = Campaign.model_validate(
        {
            "event_id": "k1",
            "occurred_at": "2026-01-01T00:00:00Z",
            "campaign_id": "spring",
            "budget_left": 3.0,
            "paused": True,
        }
    )
    batch = replace(
        batch_of(
            [
                ("i1", Kind.ITEM, "", "a", 7, ""),
                ("k1", Kind.CAMPAIGN, "", "", 7, ""),
                ("r1", Kind.ITEM_REMOVED, "", "b", 8, ""),
            ]
        ),
        models={0: item, 1: campaign},
    )
    state.graph.apply(batch, np.arange(3))


def test_another_window_counts_degrees_anew(open_store: Callable[..., SnapshotStore]) -> None:
    open_store().commit(filled(6))
    loaded = open_store().load(replace(OPTIONS, window_us=500), ORDERING)
    assert loaded is not None
    assert loaded.graph.degrees.count.reserve(3)[:3].tolist() == [0, 0, 0]


def test_amendments_are_folded_into_the_edges_in_time(
    open_store: Callable[..., SnapshotStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.state.CHUNK", 4)
    options = GraphConfig(slab_rows=8)
    store, state = open_store(), State(Graph(options), Orderer(), positions={P: 0})
    shown: list[Row] = [(f"i{n}", Kind.IMPRESSION, "u", "a", n, "") for n in range(20)]
    feed(state, shown)
    store.commit(state)
    amendments: list[int] = []
    for n in range(20):
        feed(state, [(f"c{n}", Kind.CLICK, "u", "a", 50 + n, f"i{n}")])
        body = json.loads(store.commit(state).path.read_text())["body"]
        amendments.append(sum(p["rows"] for p in body["logs"].get("amendments", ())))
        loaded = store.load(options)
        assert loaded is not None
        assert loaded.graph.edges_by_name() == state.graph.edges_by_name()
    assert max(amendments) <= 11
    assert 0 in amendments[1:]


def test_edges_that_are_not_there_are_missed(
    tmp_path: Path, open_store: Callable[..., SnapshotStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.state.CHUNK", 4)
    path = open_store().commit(filled(12)).path
    found = manifest.read(path)
    logs = {**found.logs, "edges": found.logs["edges"][1:]}
    path.write_bytes(manifest.to_bytes(replace(found, logs=logs))[0])
    with pytest.raises(SnapshotCorrupt, match="begins with edge 4, expected 0"):
        open_store().load(OPTIONS, ORDERING)


def test_edges_that_came_and_went_unsaved_leave_no_gap(
    open_store: Callable[..., SnapshotStore],
) -> None:
    def click(n: int) -> Row:
        return (f"c{n}", Kind.CLICK, f"u{n}", "a", 100 * n, "")

    store, state = open_store(), fresh()
    for start, stop in ((0, 2), (2, 90), (90, 95)):
        feed(state, [click(n) for n in range(start, stop)])
        store.commit(state)
        loaded = store.load(GRAPH, ORDERING)
        assert loaded is not None
        assert loaded.graph.edges.first == state.graph.edges.first
        assert loaded.graph.edges_by_name() == state.graph.edges_by_name()
    assert state.graph.edges.first > 2


def test_a_snapshot_of_format_2_is_read_without_what_has_been_added_since(
    open_store: Callable[..., SnapshotStore],
) -> None:
    store = open_store()
    state = filled(6)
    state.topics["ads"] = Topic("an id", 3, {0: 7})
    path = store.commit(state).path
    restored = store.load(OPTIONS, ORDERING)
    assert restored is not None and restored.topics == state.topics
    whole = json.loads(path.read_text())
    assert whole["format"] == 3
    for name in ("leaps", "begun", "numbering", "excised", "topics"):
        del whole["body"]["state"][name]
    body = json.dumps(whole["body"], sort_keys=True, separators=(",", ":"))
    sha256 = hashlib.sha256(body.encode()).hexdigest()
    path.write_text(json.dumps({"format": 2, "sha256": sha256, "body": whole["body"]}))
    older = store.load(OPTIONS, ORDERING)
    assert older is not None
    assert (older.topics, older.begun, older.numbering) == ({}, {}, 0)
    assert older.graph.edges_by_name() == state.graph.edges_by_name()


def test_a_sealed_piece_costs_a_commit_next_to_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large state is hundreds of pieces that do not change: a few calls for each."""
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("stream.state.CHUNK", 4)
    calls = [calls_of_a_commit(tmp_path / str(n), 4 * n) for n in (40, 240)]
    assert calls[1] - calls[0] < 5 * 200


def calls_of_a_commit(root: Path, edges: int) -> int:
    """Calls of functions in the second commit of a state that has so many edges."""
    state, store = fresh(), SnapshotStore(root, ManualClock())
    rows: list[Row] = [
        (f"n{i}", Kind.CLICK, f"u{i // 5}", f"i{i % 9}", 0, "") for i in range(edges + 3)
    ]
    feed(state, rows[:edges])
    store.commit(state)
    feed(state, rows[edges:])
    counted: Counter[str] = Counter()
    sys.setprofile(lambda _, what, __: counted.update([what]))
    try:
        store.commit(state)
    finally:
        sys.setprofile(None)
        store.close()
    assert len(store.find(2).path.read_bytes()) > 100 * edges / 4  # type: ignore[union-attr]
    return counted["call"] + counted["c_call"]
