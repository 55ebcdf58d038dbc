"""Publishing when publishers compete or crash between two steps."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from consumers.errors import PublishError, Superseded
from consumers.gone import Gone
from consumers.index import Space, VectorIndex
from consumers.manifest import Manifest
from consumers.manifest_steps import Opened
from stream.clock import ManualClock
from tests.consumers.publishing import (
    DIM,
    ITEMS,
    NONE,
    USERS,
    Crash,
    Open,
    epoch,
    points,
    publish,
    stored,
)

# -- several publishers


def test_an_older_publisher_must_stop(opened: Open, index: VectorIndex) -> None:
    old = opened()
    publish(old, 1)
    filling = old.begin(2, DIM)
    filling.add(Space.ITEMS, points(ITEMS, 1))
    new = opened()
    acts: list[Callable[[], object]] = [
        lambda: old.push(points(["u1"], 1), NONE),
        lambda: old.remove(Gone(items=("i1",))),
        lambda: old.begin(3, DIM),
        old.rollback,
        old.sweep,
        lambda: filling.add(Space.USERS, points(USERS, 2)),
    ]
    for act in acts:
        with pytest.raises(Superseded, match="publisher 2 has taken over from 1"):
            act()
    assert index.collections() == ("t-items-1", "t-users-1"), "its filling was given up"
    with pytest.raises(PublishError):
        filling.commit()
    publish(new, 2)
    assert new.live == 2


def test_a_commit_overtaken_at_the_last_moment_does_not_flip(
    opened: Open, index: VectorIndex
) -> None:
    def overtaken(step: int) -> None:
        if step == 3:
            opened()

    old = opened(on_step=overtaken)
    with pytest.raises(Superseded):
        publish(old, 1)
    assert dict(index.aliases()) == {}
    assert index.collections() == ()


def test_what_a_zombie_wrote_is_never_newer(opened: Open, index: VectorIndex) -> None:
    zombie = opened()
    publish(zombie, 1)
    late = zombie.push(points(["u1"], 1), NONE)
    new = points(["u1"], 2)
    opened().push(new, NONE)
    # It hangs between its check and its write, and counts on for a thousand writes.
    index.upsert("t-users-1", Space.USERS, points(["u1"], 3), epoch=1, sequence=late + 1_000)
    assert stored(index, "t-users-1", Space.USERS, "u1") == float(new.vectors[0, 0])


# -- crashes


@pytest.mark.parametrize("crash_at", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("before", [None, 1])
def test_a_crash_before_the_record_leaves_the_old_version(
    opened: Open, index: VectorIndex, crash_at: int, before: int | None
) -> None:
    if before is not None:
        publish(opened(), before)

    def die(step: int) -> None:
        if step == crash_at:
            raise Crash

    with pytest.raises(Crash):
        publish(opened(on_step=die), 2)
    publisher = opened()
    assert publisher.live == before
    if before is None:
        assert dict(index.aliases()) == {} and index.collections() == ()
    else:
        assert index.collections() == ("t-items-1", "t-users-1")
        assert epoch(index) == {1}
        publisher.push(points(["u1"], 1), NONE)
    publish(publisher, 2)
    assert epoch(index) == {2}


@pytest.mark.parametrize("crash_at", [6, 7])
def test_a_crash_after_the_record_leaves_the_new_version(
    opened: Open, index: VectorIndex, crash_at: int
) -> None:
    publisher = opened()
    publish(publisher, 1)
    publish(publisher, 2)

    def die(step: int) -> None:
        if step == crash_at:
            raise Crash

    with pytest.raises(Crash):
        publish(opened(on_step=die), 3)
    assert opened().live == 3
    assert epoch(index) == {3}
    assert index.collections() == ("t-items-2", "t-items-3", "t-users-2", "t-users-3")


def test_a_rollback_cut_short_is_undone(opened: Open, index: VectorIndex) -> None:
    publisher = opened()
    publish(publisher, 1)
    publish(publisher, 2)
    index.point({"t-items": "t-items-1", "t-users": "t-users-1"})
    assert opened().live == 2
    assert epoch(index) == {2}


def test_a_flip_that_did_not_take_is_undone(
    opened: Open, index: VectorIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = opened()
    publish(publisher, 1)
    point, calls = index.point, []

    def half(targets: Mapping[str, str | None]) -> None:
        calls.append(dict(targets))
        if len(calls) == 1:
            point({"t-items": targets["t-items"]})
            raise PublishError("read back something else")
        point(targets)

    monkeypatch.setattr(index, "point", half)
    with pytest.raises(PublishError, match="something else"):
        publish(publisher, 2)
    assert dict(index.aliases()) == {"t-items": "t-items-1", "t-users": "t-users-1"}
    assert publisher.live == 1


def test_aliases_of_others_are_not_touched(opened: Open, index: VectorIndex) -> None:
    for name in ("a", "b"):
        index.create(name, Space.ITEMS, DIM)
    index.point({"t-items": "a", "t-users": "b"})
    with pytest.raises(PublishError, match="another system"):
        opened()
    assert dict(index.aliases()) == {"t-items": "a", "t-users": "b"}


def test_a_lost_index_is_filled_again(opened: Open, index: VectorIndex) -> None:
    publisher = opened()
    publish(publisher, 1)
    publish(publisher, 2)
    index.point({"t-items": None, "t-users": None})
    for name in ("t-items-2", "t-items-1", "t-users-1"):
        index.drop(name)
    again = opened()
    assert again.live is None
    assert index.collections() == (), "the half that is left is of no use"
    publish(again, 2)
    assert epoch(index) == {2}


def test_generations_are_recorded(opened: Open, manifest: Path) -> None:
    opened(), opened()
    bodies = [line.body for line in Manifest(manifest, ManualClock()).lines]
    assert bodies == [Opened(generation=1), Opened(generation=2)]
