"""Each event once, none too late, and nothing depends on how a stream is cut."""

from collections.abc import Sequence
from dataclasses import replace

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


def test_one_wrong_clock_does_not_drag_the_watermark() -> None:
    orderer = Orderer(OrderingConfig(lateness_us=10))
    year = 10_000
    admit = lambda *events: orderer.admit(of_users(events))  # noqa: E731
    assert fates(admit(("a", "u", 100), ("b", "bad", year), ("c", "v", 101)))[0] == [0, 1, 2]
    # However often it says so, and whatever else it says in between.
    assert fates(admit(*((f"d{n}", "bad", year + n) for n in range(50))))[0] == list(range(50))
    assert orderer.watermarks == {A: 101}
    assert fates(admit(("e", "w", 91), ("f", "w", 90)))[1:] == ([], [1])
    # After a quiet time three others move it on to where they are, and the wrong one stays ahead.
    found = admit(("g", "u", 500), ("h", "u", 501), ("i", "v", 503))
    assert (fates(found)[0], found.now_us) == ([0, 1, 2], 503)
    assert list(orderer.leaps[A].values()) == [year + 49]


def test_a_leap_is_remembered_over_a_restart_and_names_nobody() -> None:
    first, second = (Orderer(OrderingConfig(lateness_us=10)) for _ in range(2))
    first.admit(of_users([("a", "u", 100), ("b", "v", 300), ("c", "w", 301)]))
    assert first.watermarks == {A: 100}
    second.restore(first.watermarks, first.leaps)
    assert second.admit(of_users([("d", "x", 302)])).now_us == 302
    assert not {"v", "w"}.intersection(str(first.leaps[A]))


def of_users(events: Sequence[tuple[str, str, int]]) -> EventBatch:
    batch = batch_of([(name, at) for name, _, at in events])
    return replace(batch, user=[user for _, user, _ in events])
