"""After a power cut everything that was said to be safe is there: not only after a kill."""

import itertools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from consumers.frontier import Frontier
from consumers.manifest import Manifest
from consumers.manifest_steps import Opened
from consumers.versions import Versions
from model.recency import plain
from model.state import ModelState
from stream.batch import Partition
from stream.clock import ManualClock
from stream.sink import DeadLetter, FileDeadLetters
from stream.snapshot import SnapshotStore
from tests.faults.disk import Disk, PowerCut
from tests.stream.snapshots import CLICKS, OPTIONS, ORDERING, P, feed, filled, inside


def snapshot(root: Path) -> Callable[[], None]:
    store, state = SnapshotStore(root, ManualClock()), filled(6)
    store.commit(state)
    feed(state, CLICKS[6:])
    store.commit(state)
    store.close()

    def check() -> None:
        again = SnapshotStore(root, ManualClock())
        found = again.load(OPTIONS, ORDERING)
        assert found is not None and again.damaged == ()
        assert inside(found) == inside(filled(12))

    return check


def version(root: Path) -> Callable[[], None]:
    items, recency = np.eye(3, dtype=np.float32), plain(np.ones(2, np.float32))
    own = {"embedding": items, "log_weights": recency.position, "log_gaps": recency.gap}
    state = ModelState(items, recency, np.ones(3, np.bool_), own, 7)
    Versions(root).write(state, ("a", "b", "c"), 4, {})

    def check() -> None:
        newest = Versions(root).newest()
        assert newest is not None
        np.testing.assert_array_equal(newest.load().items, items)

    return check


def manifest(root: Path) -> Callable[[], None]:
    written = Manifest(root / "manifest.jsonl", ManualClock())
    written.append(Opened(generation=3))
    written.close()

    def check() -> None:
        again = Manifest(root / "manifest.jsonl", ManualClock())
        assert [line.body for line in again.lines] == [Opened(generation=3)] and not again.torn
        again.close()

    return check


def frontier(root: Path) -> Callable[[], None]:
    written = Frontier(root / "frontier")
    many = {Partition("x" * 200, n): n + 1 for n in range(40)}  # more than it began with room for
    for positions in ({P: 5}, {P: 9}, many):
        assert written.reached(positions)
    written.close()

    def check() -> None:
        again = Frontier(root / "frontier")
        assert again.ahead == {P: 9} | many
        again.close()

    return check


def letters(root: Path) -> Callable[[], None]:
    sink = FileDeadLetters(root / "dead")
    sink.put([DeadLetter(P, 3, b"bad", "invalid_json", "no")])
    sink.flush()

    def check() -> None:
        sink.close()
        assert b'"offset": 3' in (root / "dead").read_bytes()

    return check


@pytest.mark.parametrize("write", [snapshot, version, manifest, frontier, letters])
def test_what_was_written_survives_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], Callable[[], None]]
) -> None:
    disk = Disk(tmp_path)
    with disk.watching(monkeypatch):
        check = write(tmp_path)
    disk.cut()
    check()


def committed(root: Path, upto: int) -> None:
    """A snapshot as of so many clicks, on top of what is there."""
    store = SnapshotStore(root, ManualClock())
    try:
        state = store.load(OPTIONS, ORDERING)
        if state is None:
            state = filled(upto)
        else:
            feed(state, CLICKS[state.positions[P] : upto])
        store.commit(state)
    finally:
        store.close()


def test_a_power_cut_at_any_moment_leaves_the_old_snapshot_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, and without anything damaged to pass over: no name comes before its content."""
    for last in itertools.count():
        root = tmp_path / str(last)
        committed(root, 6)
        disk = Disk(root, last)
        with suppress(PowerCut), disk.watching(monkeypatch):
            committed(root, 12)
        dark = disk.done == last
        disk.cut()
        store = SnapshotStore(root, ManualClock())
        found = store.load(OPTIONS, ORDERING)
        assert found is not None and store.damaged == ()
        assert inside(found) == inside(filled(found.positions[P]))
        committed(root, 12)
        again = SnapshotStore(root, ManualClock()).load(OPTIONS, ORDERING)
        assert again is not None and inside(again) == inside(filled(12))
        if not dark:
            assert found.positions[P] == 12 and last > 10
            return


def test_a_frontier_half_written_says_what_it_said_before(tmp_path: Path) -> None:
    path = tmp_path / "frontier"
    written = Frontier(path)
    for at in (5, 9):
        assert written.reached({P: at})
    written.close()
    content = path.read_bytes()
    place = content.index(b", 9]")
    for damage in (b"", b"\0" * 4, b"9" * 4):
        path.write_bytes(content[:place] + damage.ljust(4) + content[place + 4 :])
        again = Frontier(path)
        assert again.ahead == {P: 5}
        assert not again.reached({P: 4})
        assert again.reached({P: 5})
        again.close()


def test_a_frontier_is_waited_for_by_partition_and_let_go(tmp_path: Path) -> None:
    other = Partition("events", 1)
    written = Frontier(tmp_path / "frontier")
    assert written.reached({P: 8, other: 3})
    written.close()
    again = Frontier(tmp_path / "frontier")
    assert not again.reached({P: 9, other: 2})
    assert again.ahead == {other: 3}
    again.let_go({other})
    assert again.reached({P: 9, other: 2})
    again.close()
    # What was let go of begins anew from where it is.
    third = Frontier(tmp_path / "frontier")
    assert third.ahead == {P: 9, other: 2}
    third.close()


@pytest.mark.parametrize("before", [1, 2])
def test_a_frontier_that_grew_keeps_what_it_said_until_more_is_written(
    tmp_path: Path, before: int
) -> None:
    """Whichever half was the newest: what follows goes behind it, and may be torn."""
    path = tmp_path / "frontier"
    written = Frontier(path)
    for at in range(1, before + 1):
        assert written.reached({P: at})
    assert written.reached({Partition("x" * 200, n): n + 1 for n in range(40)})
    written.close()
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[:half] + b"?" * half)
    again = Frontier(path)
    assert again.ahead == {P: before}
    again.close()
