"""Rules that leave events out, and edges taken out of a graph as it stands."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from stream.batch import EventBatch, Kind, Partition, RecordBatch
from stream.clock import ManualClock
from stream.excision import Rule, left_out
from stream.graph import Graph
from stream.ordering import Orderer
from stream.removal import matching, take_out
from stream.snapshot import SnapshotStore
from stream.state import State
from stream.view import GraphConfig

TOPIC = Partition("t", 0)
Row = tuple[str, int, Kind]


def batch_of(rows: Sequence[Row], first: int = 0) -> EventBatch:
    """User, time and kind of each event; items go round in fives."""
    n = len(rows)
    return EventBatch(
        partition=TOPIC,
        row=np.arange(n),
        offsets=np.arange(first, first + n),
        kind=np.array([kind for *_, kind in rows], np.uint8),
        time_us=np.array([at for _, at, _ in rows], np.int64),
        event_id=[f"e{first + i}" for i in range(n)],
        user=[user for user, *_ in rows],
        item=[
            "" if k == Kind.ERASE_USER else f"i{(first + i) % 5}" for i, (*_, k) in enumerate(rows)
        ],
        refers_to=[""] * n,
    )


def clicks(*rows: tuple[str, int]) -> list[Row]:
    return [(user, at, Kind.CLICK) for user, at in rows]


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("bot-*", [0, 2]),
        ("bot-?", [0, 2]),
        ("bot-[2-9]", [2]),
        ("BOT-*", []),
        ("*", [0, 1, 2, 3]),
        ("bot", [3]),
        ("bot.*", []),
    ],
)
def test_a_glob_names_users(glob: str, expected: list[int]) -> None:
    batch = batch_of(clicks(("bot-1", 5), ("ann", 5), ("bot-2", 5), ("bot", 5)))
    assert np.flatnonzero(left_out([Rule(glob, 0, 9)], batch)).tolist() == expected


def test_times_are_from_the_first_up_to_the_second() -> None:
    batch = batch_of(clicks(*(("b", at) for at in range(6))))
    assert np.flatnonzero(left_out([Rule("b", 2, 4)], batch)).tolist() == [2, 3]
    both = [Rule("b", 2, 4), Rule("b", 3, 5)]
    assert np.flatnonzero(left_out(both, batch)).tolist() == [2, 3, 4]
    assert not left_out([], batch).any()


def test_an_erasure_is_never_left_out() -> None:
    batch = batch_of([("b", 1, Kind.CLICK), ("b", 1, Kind.ERASE_USER)])
    assert left_out([Rule("*", 0, 9)], batch).tolist() == [True, False]


@pytest.mark.parametrize(("users", "first", "last"), [("", 0, 1), ("a", 1, 1), ("a", 2, 1)])
def test_a_rule_names_somebody_at_some_time(users: str, first: int, last: int) -> None:
    with pytest.raises(ValueError, match=r"nobody|no time"):
        Rule(users, first, last)


def test_what_is_left_out_leaves_no_trace() -> None:
    """Neither a watermark nor an id: what comes after is admitted as if it had not been there."""
    mixed = clicks(("a", 10), ("bot", 99), ("a", 11), ("a", 2))
    orderer = Orderer(rules=[Rule("bot", 0, 100)])
    admission = orderer.admit(batch_of(mixed))
    assert admission.keep.tolist() == [0, 2, 3]
    assert admission.excised.tolist() == [1]
    assert (len(admission.duplicates), len(admission.late)) == (0, 0)
    assert orderer.watermarks == {TOPIC: 11}
    again = orderer.admit(batch_of(mixed))
    assert again.duplicates.tolist() == [0, 2, 3]
    assert again.excised.tolist() == [1]


def test_rules_and_beginnings_are_part_of_a_state(tmp_path: Path) -> None:
    rules = [Rule("b*", 1, 2), Rule("ü?", 3, 4)]
    state = State(Graph(), Orderer(rules=rules), numbering=2)
    state.moved(RecordBatch(TOPIC, np.array([7, 8]), [b"", b""], 9))
    state.moved(RecordBatch(TOPIC, np.array([9]), [b""], 10))
    store = SnapshotStore(tmp_path, ManualClock())
    store.commit(state)
    store.close()
    loaded = SnapshotStore(tmp_path, ManualClock()).load()
    assert loaded is not None
    assert loaded.orderer.rules == tuple(rules)
    assert (loaded.begun, loaded.positions, loaded.numbering) == ({TOPIC: 7}, {TOPIC: 10}, 2)
    opened = SnapshotStore(tmp_path, ManualClock()).open_view()
    assert opened is not None
    assert opened.numbering == 2


# -- in place


def filled(rows: Sequence[Row], orderer: Orderer | None = None) -> State:
    state = State(Graph(GraphConfig(window_us=1_000)), orderer or Orderer())
    batch = batch_of(rows)
    state.graph.apply(batch, state.orderer.admit(batch).keep)
    return state


MIXED = clicks(*((("bot", "ann", "bob")[at % 3], at) for at in range(60)))
BURST = Rule("bot", 12, 40)


def test_taken_out_is_as_if_it_had_not_come(tmp_path: Path) -> None:
    state, clean = filled(MIXED), filled(MIXED, Orderer(rules=[BURST]))
    named = matching(state.graph, BURST)
    assert named.tolist() == [at for at in range(12, 40) if at % 3 == 0]
    assert take_out(state.graph, BURST).tolist() == named.tolist()
    assert state.graph.digest() == clean.graph.digest()
    assert take_out(state.graph, BURST).tolist() == [], "nothing is left to take out"
    assert matching(state.graph, BURST).tolist() == named.tolist(), "but they are known still"
    for user in ("bot", "ann"):
        recent = [
            one.graph.items.names[i]
            for one in (state, clean)
            for i in one.graph.recent(one.graph.users.find([user]), 12).item[0].tolist()
        ]
        assert recent[:12] == recent[12:]
    counts = [
        int(one.graph.degrees.count.data[int(one.graph.users.find(["bot"])[0])])
        for one in (state, clean)
    ]
    assert counts[0] == counts[1] == 20 - len(named)
    store = SnapshotStore(tmp_path, ManualClock())
    store.commit(state)
    store.close()
    loaded = SnapshotStore(tmp_path, ManualClock()).load(state.graph.config)
    assert loaded is not None
    assert loaded.graph.digest() == clean.graph.digest()


def test_what_is_taken_out_after_a_snapshot_is_in_the_next_one(tmp_path: Path) -> None:
    state, clean = filled(MIXED), filled(MIXED, Orderer(rules=[BURST]))
    store = SnapshotStore(tmp_path, ManualClock())
    store.commit(state)
    take_out(state.graph, BURST)
    info = store.commit(state)
    store.close()
    assert info.files_written > 0
    loaded = SnapshotStore(tmp_path, ManualClock()).load(state.graph.config)
    assert loaded is not None
    assert loaded.graph.digest() == clean.graph.digest()


def test_numbers_of_items_go_by_arrival_however_a_stream_is_cut() -> None:
    """A replay in other batches must number items alike: what is learned depends on it."""
    rows = [("ann", at, (Kind.CLICK, Kind.ITEM_REMOVED)[at % 4 == 3]) for at in range(40)]
    whole = Graph()
    whole.apply(batch_of(rows), np.arange(len(rows)))
    for size in (1, 7, 13):
        pieces = Graph()
        for at in range(0, len(rows), size):
            part = batch_of(rows[at : at + size], at)
            pieces.apply(part, np.arange(len(part)))
        assert pieces.items.names == whole.items.names
