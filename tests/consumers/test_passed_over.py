"""Impressions on their way to the model: from a snapshot, and beside a comparison's events."""

from pathlib import Path

import numpy as np
import pytest

from consumers.dataset import dataset
from consumers.finetuner import interactions, newest_graph
from consumers.passed_over import PassedOver, passed_over
from stream.batch import EventBatch, Kind, Partition
from stream.clock import SystemClock
from stream.graph import Graph
from stream.ordering import Orderer
from stream.snapshot import SnapshotStore
from stream.state import State

HOUR = 3_600_000_000
Row = tuple[Kind, str, str, float, str]
ROWS: list[Row] = [
    (Kind.CLICK, "u", "a", 0, ""),
    (Kind.IMPRESSION, "u", "b", 1, ""),  # passed over
    (Kind.CLICK, "u", "c", 2, ""),
    (Kind.IMPRESSION, "v", "a", 3, ""),  # converts in the end
    (Kind.IMPRESSION, "v", "d", 3.5, ""),  # clicked half an hour later
    (Kind.CLICK, "v", "d", 4, ""),
    (Kind.CONVERSION, "v", "a", 4.5, "e3"),
    (Kind.IMPRESSION, "u", "e", 4.6, ""),  # still waiting for an answer
    (Kind.CLICK, "u", "d", 5, ""),
]


def graph() -> Graph:
    n, made = len(ROWS), Graph()
    batch = EventBatch(
        partition=Partition("events", 0),
        row=np.arange(n),
        offsets=np.arange(n),
        kind=np.array([r[0] for r in ROWS], np.uint8),
        time_us=np.array([r[3] * HOUR for r in ROWS], np.int64),
        event_id=[f"e{i}" for i in range(n)],
        user=[r[1] for r in ROWS],
        item=[r[2] for r in ROWS],
        refers_to=[r[4] for r in ROWS],
    )
    made.apply(batch, np.arange(n))
    return made


def test_a_snapshot_gives_what_is_surely_passed_over(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, SystemClock())
    store.commit(State(graph(), Orderer()))
    store.close()
    snapshot = newest_graph(tmp_path, 1_000 * HOUR)
    liked, both = interactions(snapshot), interactions(snapshot, passed_over=True)
    assert liked.positive.all()
    missed = ~both.positive
    names = [snapshot.items.name(i) for i in both.item[missed].tolist()]
    assert names == ["b"]
    assert both.weight[missed] == pytest.approx(0.1, rel=0.01)
    np.testing.assert_array_equal(both.positives().item, liked.item)
    assert liked.late is not None
    assert [snapshot.items.name(i) for i in liked.item[liked.late].tolist()] == ["a"]
    assert liked.weight[liked.late] == pytest.approx(3, rel=0.01)


def test_a_comparison_has_them_beside_its_events() -> None:
    made = graph()
    found = passed_over(made, np.array([0, 2, 5, 8]))
    assert found is not None
    assert [made.items.name(i) for i in found.item.tolist()] == ["b", "e"]
    assert found.place.tolist() == [1, 3]
    assert found.weight.tolist() == pytest.approx([0.1, 0.1])
    clicks = Graph()
    assert passed_over(clicks, np.zeros(0, np.int64)) is None


def test_nothing_is_known_before_its_time() -> None:
    user, item = np.zeros(6, np.int64), np.arange(6)
    passed = PassedOver(
        user=np.zeros(4, np.int64),
        item=np.array([1, 2, 9, 3]),
        time_us=np.array([5, 15, 16, 45]),
        weight=np.full(4, 0.1, np.float32),
        place=np.array([1, 2, 2, 5]),
        wait_us=20,
    )
    known = np.full(6, 6)
    data = dataset(user, item, np.arange(6) * 10, known=known, items=6, passed=passed)
    assert data.upto(6).positive.all()

    def beside(end: int) -> list[int]:
        both = data.upto(end, passed_over=True)
        np.testing.assert_array_equal(both.positives().sequence, np.arange(end))
        assert (np.diff(both.time_us) >= 0).all()
        assert int(both.sequence.max()) == end - 1
        return both.item[~both.positive].tolist()

    # At 30 the impression of 5 is decided, that of 15 waits; item 9 is not known.
    assert [beside(end) for end in (1, 3, 4, 5, 6)] == [[], [], [1], [1, 2], [1, 2]]
