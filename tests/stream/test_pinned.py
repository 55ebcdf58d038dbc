"""Snapshots that are kept beside the newest, and the erasure that lets go of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from stream.batch import EventBatch, Kind, Partition
from stream.clock import ManualClock
from stream.graph import Graph
from stream.ordering import Orderer
from stream.snapshot import SnapshotStore
from stream.state import State

TOPIC = Partition("t", 0)


def take(state: State, at: int, kind: Kind = Kind.CLICK, user: str = "u1") -> None:
    batch = EventBatch(
        partition=TOPIC,
        row=np.arange(1),
        offsets=np.array([at]),
        kind=np.array([kind], np.uint8),
        time_us=np.array([at]),
        event_id=[f"e{at}"],
        user=[user],
        item=["" if kind is Kind.ERASE_USER else f"i{at}"],
        refers_to=[""],
    )
    state.graph.apply(batch, state.orderer.admit(batch).keep)


def kept(store: SnapshotStore) -> list[int]:
    return [number for number in range(1, 40) if store.find(number) is not None]


def committed(root: Path, state: State, times: range, pinned: Callable[[], set[int]]) -> list[int]:
    store = SnapshotStore(root, ManualClock(), keep=2, pinned=pinned)
    if times.start > 1:
        loaded = store.load()
        assert loaded is not None
        state = loaded
    for at in times:
        take(state, at)
        store.commit(state)
    store.close()
    return kept(store)


def test_a_pin_keeps_a_snapshot_whole(tmp_path: Path) -> None:
    found = committed(tmp_path, State(Graph(), Orderer()), range(1, 6), lambda: {2, 77})
    assert found == [2, 4, 5]
    store = SnapshotStore(tmp_path, ManualClock())
    opened = store.open_view(number=2)
    assert opened is not None
    assert (opened.info.number, opened.view.next_sequence) == (2, 2)
    assert store.open_view(number=3) is None


def test_an_erasure_lets_go_of_every_pin_before_it_and_of_none_after(tmp_path: Path) -> None:
    state = State(Graph(), Orderer())
    assert committed(tmp_path, state, range(1, 5), lambda: {1}) == [1, 3, 4]
    store = SnapshotStore(tmp_path, ManualClock(), keep=2, pinned=lambda: {1, 4})
    loaded = store.load()
    assert loaded is not None
    take(loaded, 10, Kind.ERASE_USER)
    store.commit(loaded)
    assert kept(store) == [4, 5], "4 is one of the newest two"
    store.close()
    assert committed(tmp_path, state, range(11, 15), lambda: {1, 4, 6}) == [6, 8, 9]
