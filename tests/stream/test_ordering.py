"""Each event once, none too late, and nothing depends on how a stream is cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.batch import EventBatch, Kind, Partition
from stream.ordering import Admission, Orderer, OrderingConfig
from stream.window import IdWindow

A, B = Partition("events", 0), Partition("events", 1)


def batch_of(events: list[tuple[str, int]], partition: Partition = A) -> EventBatch:
    n = len(events)
    return EventBatch(
        partition=partition,
        row=np.arange(n),
        offsets=np.arange(n),
        kind=np.full(n, Kind.CLICK, np.uint8),
        time_us=np.array([t for _, t in events], np.int64),
        event_id=[i for i, _ in events],
        user=["u"] * n,
        item=["i"] * n,
        refers_to=[""] * n,
    )


def fates(admission: Admission) -> tuple[list[int], list[int], list[int]]:
    return (
        admission.keep.tolist(),
        admission.duplicates.tolist(),
        admission.late.tolist(),
    )


def test_a_repetition_is_a_duplicate_in_the_batch_and_after_it() -> None:
    orderer = Orderer()
    assert fates(orderer.admit(batch_of([("a", 1), ("b", 2), ("a", 1)]))) == ([0, 1], [2], [])
    assert fates(orderer.admit(batch_of([("c", 3), ("b", 2)]))) == ([0], [1], [])
    assert fates(orderer.admit(batch_of([("a", 1)], B))) == ([], [0], [])
    assert fates(orderer.admit(batch_of([]))) == ([], [], [])


def test_late_is_measured_from_the_latest_kept_event_of_the_partition() -> None:
    orderer = Orderer(OrderingConfig(lateness_us=10))
    assert fates(orderer.admit(batch_of([("a", 100), ("b", 90), ("c", 89)]))) == ([0, 1], [], [2])
    # another partition has a time of its own
    assert fates(orderer.admit(batch_of([("d", 5)], B))) == ([0], [], [])
    # late again, not a duplicate; and a late event does not move the mark
    assert fates(orderer.admit(batch_of([("c", 89), ("c", 91), ("c", 92)]))) == ([1], [2], [0])
    assert orderer.watermarks == {A: 100, B: 5}


@pytest.mark.parametrize("offset", range(3))
@pytest.mark.parametrize(("between", "found"), [(5, True), (9, False)])
def test_an_id_is_remembered_as_long_as_stated(offset: int, between: int, found: bool) -> None:
    """Wherever in its block it came."""
    orderer = Orderer(OrderingConfig(remembered=6, block=3))
    orderer.admit(batch_of([(f"x{i}", 1) for i in range(offset)]))
    orderer.admit(batch_of([("a", 1), *((f"b{i}", 1) for i in range(between))]))
    assert (len(orderer.admit(batch_of([("a", 1)])).duplicates) == 1) is found


@given(
    st.lists(st.tuples(st.sampled_from("abcdefghij"), st.integers(0, 40)), max_size=60),
    st.lists(st.integers(1, 9), min_size=1),
)
@settings(deadline=None)
def test_cutting_the_stream_changes_nothing(
    events: list[tuple[str, int]], sizes: list[int]
) -> None:
    config = OrderingConfig(remembered=5, block=2, lateness_us=15)
    whole = Orderer(config)
    expected = fates(whole.admit(batch_of(events)))
    pieces = Orderer(config)
    got: tuple[list[int], list[int], list[int]] = ([], [], [])
    at = turn = 0
    while at < len(events):
        size = sizes[turn % len(sizes)]
        for out, found in zip(
            got, fates(pieces.admit(batch_of(events[at : at + size]))), strict=True
        ):
            out += [at + i for i in found]
        at, turn = at + size, turn + 1
    assert got == expected
    assert sorted(got[0] + got[1] + got[2]) == list(range(len(events)))
    assert pieces.seen.values == whole.seen.values
    assert pieces.watermarks == whole.watermarks


def test_memory_is_bounded() -> None:
    orderer = Orderer(OrderingConfig(remembered=100, block=10))
    for start in range(0, 5_000, 7):
        orderer.admit(batch_of([(f"e{start + i}", start) for i in range(7)]))
        assert len(orderer.seen.values) <= 110


def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        IdWindow(0, 1)
    with pytest.raises(ValueError, match="lateness_us is at least 0: got -1"):
        OrderingConfig(lateness_us=-1)
