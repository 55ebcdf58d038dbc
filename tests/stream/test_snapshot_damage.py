"""Snapshots: what a crash or a damaged file leaves behind."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stream.errors import SnapshotCorrupt
from stream.snapshot import SnapshotStore, Step
from tests.stream.snapshots import (
    CLICKS,
    OPTIONS,
    ORDERING,
    Killed,
    P,
    Stops,
    feed,
    filled,
    inside,
    steps_of_a_commit,
)


def test_the_steps_come_in_their_order(tmp_path: Path) -> None:
    seen = steps_of_a_commit(tmp_path)
    assert seen == sorted(seen)
    assert set(seen) == set(Step)


@pytest.mark.parametrize("kill_at", range(14))
def test_a_crash_leaves_the_old_or_the_new_snapshot_whole(
    tmp_path: Path, open_store: Callable[..., SnapshotStore], kill_at: int
) -> None:
    state = filled(6)
    open_store().commit(state)
    stops = Stops(kill_at)
    doomed = open_store(stops)
    loaded = doomed.load(OPTIONS, ORDERING)
    assert loaded is not None
    feed(loaded, CLICKS[6:])
    events: list[object] = []
    killed = True
    try:
        doomed.commit(loaded, announce=lambda i: events.append(i.number), advise=events.append)
        killed = False
    except Killed:
        pass
    store = open_store()
    found = store.load(OPTIONS, ORDERING)
    assert found is not None
    assert store.damaged == ()
    is_new = not killed or stops.seen[-1] >= Step.MANIFEST
    assert found.positions[P] == (12 if is_new else 6)
    assert inside(found) == inside(filled(found.positions[P]))
    assert len(events) == (0 if not is_new else min(stops.seen[-1] - Step.MANIFEST, 2))
    # what the crash left behind is gone after the next commit, and nothing is in its way
    feed(found, CLICKS[found.positions[P] :])
    store.commit(found)
    assert not list(tmp_path.rglob("*.tmp"))
    again = open_store().load(OPTIONS, ORDERING)
    assert again is not None
    assert inside(again) == inside(filled(12))


def damage_flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = [damage_flip, damage_cut, damage_empty, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("which", ["segment", "manifest"])
def test_what_is_damaged_is_named_and_passed_over(
    tmp_path: Path,
    open_store: Callable[..., SnapshotStore],
    damage: Callable[[Path], None],
    which: str,
) -> None:
    store = open_store()
    state = filled(6)
    store.commit(state)
    before = set((tmp_path / "segments").iterdir())
    feed(state, CLICKS[6:])
    newest = store.commit(state)
    new = sorted(set((tmp_path / "segments").iterdir()) - before)
    for target in new if which == "segment" else [newest.path]:
        kept = target.read_bytes()
        damage(target)
        reader = open_store()
        found = reader.newest()
        assert found is not None and found.number == 1
        loaded = reader.load(OPTIONS, ORDERING)
        assert loaded is not None and inside(loaded) == inside(filled(6))
        if which == "manifest" and damage is Path.unlink:
            assert reader.damaged == ()  # a snapshot that is not there is not missed
        else:
            assert [d.path for d in reader.damaged] == [newest.path]
            assert target.name in reader.damaged[0].reason
        target.write_bytes(kept)
    assert open_store().newest() == replace(newest, files_written=0, bytes_written=0)


def test_after_damage_the_next_commit_goes_on_from_what_was_found(
    open_store: Callable[..., SnapshotStore],
) -> None:
    store = open_store()
    state = filled(6)
    store.commit(state)
    feed(state, CLICKS[6:])
    damage_flip(store.commit(state).path)
    store = open_store()
    found = store.load(OPTIONS, ORDERING)
    assert found is not None
    feed(found, CLICKS[6:])
    info = store.commit(found)
    assert info.number == 3
    again = open_store().load(OPTIONS, ORDERING)
    assert again is not None and inside(again) == inside(filled(12))


def test_nothing_valid_is_an_error_and_nothing_at_all_is_not(
    open_store: Callable[..., SnapshotStore],
) -> None:
    store = open_store()
    assert store.newest() is None
    assert store.load() is None
    assert store.open_view() is None
    damage_cut(store.commit(filled(6)).path)
    with pytest.raises(SnapshotCorrupt, match="none of 1 snapshots is valid") as raised:
        store.load(OPTIONS, ORDERING)
    assert "0000000001.json" in str(raised.value)
