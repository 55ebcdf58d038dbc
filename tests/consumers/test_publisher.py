"""Publishing, on the embedded engine: versions, crashes between steps, several publishers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from consumers.errors import PublishError, UnknownPoint
from consumers.filling import Thresholds, overlap
from consumers.gone import Gone
from consumers.index import Candidate, Names, PointBatch, Space, VectorIndex
from consumers.mandate import GENERATION_BITS, Mandate, Record
from consumers.manifest_steps import Published
from consumers.publisher import Publisher
from consumers.sweeping import GRACE_US, Sweeper
from stream.clock import ManualClock
from tests.consumers.publishing import DIM, ITEMS, NONE, USERS, Open, epoch, points, publish, stored

# -- whole versions


def test_a_version_goes_live_and_is_recorded(
    opened: Open, index: VectorIndex, manifest: Path
) -> None:
    publisher = opened()
    assert publisher.live is None
    publish(publisher, 3)
    assert publisher.live == 3
    assert dict(index.aliases()) == {"t-items": "t-items-3", "t-users": "t-users-3"}
    assert epoch(index) == {3}
    recorded = publisher.record.manifest.lines[-1].body
    assert isinstance(recorded, Published)
    assert recorded.collections.names == Names("t-items-3", "t-users-3")
    assert recorded.aliases == index.aliases()
    assert recorded.origin.offsets == {"t[0]": 3}
    assert recorded.gates.model_dump() == {
        "items": 60,
        "users": 30,
        "probes": 30,
        "k": 20,
        "overlap": 1.0,
    }


def test_candidates_are_those_of_brute_force(opened: Open) -> None:
    publisher = opened()
    publish(publisher, 1)
    items = np.concatenate([points(ITEMS[:40], 1).vectors, points(ITEMS[40:], 101).vectors])
    users = points(USERS, 201).vectors
    for n, user in enumerate(USERS):
        best = [ITEMS[i] for i in np.argsort(-items @ users[n])[:7]]
        assert [c.id for c in publisher.candidates(user, 7)] == best


def test_the_version_before_is_kept_and_older_ones_are_dropped(
    opened: Open, index: VectorIndex
) -> None:
    publisher = opened()
    for version in (1, 2, 3):
        publish(publisher, version)
    assert index.collections() == ("t-items-2", "t-items-3", "t-users-2", "t-users-3")
    assert publisher.rollback() == 2
    assert publisher.live == 2 and epoch(index) == {2}
    assert publisher.rollback(3) == 3
    assert publisher.live == 3 and epoch(index) == {3}
    with pytest.raises(PublishError, match="version 1 to return to: version 2 is kept"):
        publisher.rollback(1)


def test_there_may_be_nothing_to_return_to(opened: Open) -> None:
    publisher = opened()
    publish(publisher, 1)
    with pytest.raises(PublishError, match="none is kept"):
        publisher.rollback()


@pytest.mark.parametrize("version", [2, 1, 0])
def test_versions_do_not_go_backwards(opened: Open, version: int) -> None:
    publisher = opened()
    publish(publisher, 3)
    with pytest.raises(PublishError, match="use rollback"):
        publisher.begin(version, DIM)


def test_the_live_version_can_be_filled_anew(opened: Open, index: VectorIndex) -> None:
    publisher = opened()
    for version in (1, 2, 2, 2):
        publish(publisher, version)
    assert index.aliases()["t-items"] == "t-items-2-3"
    assert publisher.rollback() == 1


def test_a_second_filling_gives_the_first_up(opened: Open, index: VectorIndex) -> None:
    publisher = opened()
    first = publisher.begin(1, DIM)
    publish(publisher, 2)
    assert index.collections() == ("t-items-2", "t-users-2")
    for act in (first.commit, lambda: first.add(Space.ITEMS, points(ITEMS, 1))):
        with pytest.raises(PublishError, match="is over"):
            act()


def test_a_filling_ends_with_its_commit(opened: Open) -> None:
    publisher = opened()
    filling = publisher.begin(1, DIM)
    filling.add(Space.ITEMS, points(ITEMS, 1))
    assert filling.open
    gates = filling.commit()
    assert (gates.users, gates.probes) == (0, 0), "a system may begin without users"
    assert not filling.open


def test_collections_of_others_are_not_touched(opened: Open, index: VectorIndex) -> None:
    publisher = opened()
    index.create("t-items-1", Space.ITEMS, DIM)
    with pytest.raises(PublishError, match="not made by"):
        publisher.begin(1, DIM)
    opened()
    assert index.collections() == ("t-items-1",)


# -- gates


def failed(publisher: Publisher, index: VectorIndex, match: str, spoil: Callable[[], None]) -> None:
    publish(publisher, 1)
    filling = publisher.begin(2, DIM)
    filling.add(Space.ITEMS, points(ITEMS, 1))
    filling.add(Space.USERS, points(USERS, 2))
    spoil()
    with pytest.raises(PublishError, match=match):
        filling.commit()
    assert publisher.live == 1 and epoch(index) == {1}
    assert index.collections() == ("t-items-1", "t-users-1")
    publish(publisher, 2)
    assert index.aliases()["t-items"] == "t-items-2-2"


def test_a_lost_point_is_noticed(opened: Open, index: VectorIndex) -> None:
    def lose() -> None:
        index.bury("t-items-2", Space.ITEMS, ["i7"], epoch=2, sequence=2**52)

    failed(opened(), index, "holds 59 points, 60 were filled", lose)


def test_an_id_filled_twice_is_noticed(opened: Open, index: VectorIndex) -> None:
    publisher = opened()
    filling = publisher.begin(1, DIM)
    filling.add(Space.ITEMS, points(ITEMS, 1))
    filling.add(Space.ITEMS, points(["i3"], 1))
    with pytest.raises(PublishError, match="holds 60 points, 61"):
        filling.commit()


def test_a_wrong_vector_is_noticed(opened: Open, index: VectorIndex) -> None:
    def swap() -> None:
        index.upsert("t-items-2", Space.ITEMS, points(ITEMS, 99), epoch=2, sequence=2**52)

    failed(opened(), index, r"0\.\d+ of the candidates of 30 users", swap)


def test_a_user_under_another_id_is_noticed(opened: Open, index: VectorIndex) -> None:
    def rename() -> None:
        index.bury("t-users-2", Space.USERS, ["u3"], epoch=2, sequence=2**52)
        index.upsert("t-users-2", Space.USERS, points(["x"], 2), epoch=2, sequence=1)

    failed(opened(), index, "u3", rename)


def test_no_items_are_not_published(opened: Open) -> None:
    filling = opened().begin(1, DIM)
    filling.add(Space.USERS, points(USERS, 2))
    with pytest.raises(PublishError, match="no items"):
        filling.commit()


def test_the_probes_are_a_fixed_sample(opened: Open, index: VectorIndex) -> None:
    def sample(order: list[int]) -> list[str]:
        publisher = opened(thresholds=Thresholds(probes=5, k=3))
        filling = publisher.begin(1, DIM)
        for n in order:
            filling.add(Space.USERS, points([USERS[n]], n))
        return sorted(user for _, user, _ in filling._probes)

    forwards = sample(list(range(30)))
    assert len(forwards) == 5
    assert sample(list(range(30))[::-1]) == forwards


def test_overlap_counts_ties_and_misses() -> None:
    users = np.eye(2, dtype=np.float32)
    items = [
        PointBatch(["a", "b"], np.array([[3, 0], [2, 0]], np.float32), [{}, {}]),
        PointBatch(["c", "d"], np.array([[2, 0], [1, 5]], np.float32), [{}, {}]),
    ]

    def found(*ids: str) -> list[Candidate]:
        return [Candidate(i, 0.0, {}) for i in ids]

    assert overlap(users, items, [found("a", "b"), found("d", "a")], 2) == 1.0
    assert overlap(users, items, [found("a", "c"), found("d", "b")], 2) == 1.0
    assert overlap(users, items, [found("a", "d"), found("d", "c")], 2) == 0.75
    assert overlap(users, items, [found("a"), found()], 2) == 0.25
    assert overlap(users, items, [found("z", "y"), found("d", "c")], 2) == 0.5


# -- changes to the live version


def test_a_push_changes_what_it_names_and_no_more(opened: Open, index: VectorIndex) -> None:
    publisher = opened()
    publish(publisher, 1)
    other = stored(index, "t-items-1", Space.ITEMS, "i2")
    changed = points(["i1", "new"], 7, {"title": "T"})
    first = publisher.push(points(["u1"], 8), changed, version=1)
    assert stored(index, "t-items-1", Space.ITEMS, "i1") == float(changed.vectors[0, 0])
    assert stored(index, "t-items-1", Space.ITEMS, "i2") == other
    assert index.count("t-items-1") == 61
    assert publisher.push(NONE, NONE) > first
    publisher.flush()


def test_nothing_is_pushed_before_something_is_live(opened: Open) -> None:
    with pytest.raises(PublishError, match="nothing is live"):
        opened().push(points(["u1"], 8), NONE)


def test_vectors_of_another_version_are_refused(opened: Open) -> None:
    publisher = opened()
    publish(publisher, 1)
    with pytest.raises(PublishError, match="version 2, but 1 is live"):
        publisher.push(points(["u1"], 8), NONE, version=2)


def test_sequences_rise_over_restarts(opened: Open, index: VectorIndex, manifest: Path) -> None:
    publisher = opened()
    publish(publisher, 1)
    sequences = [publisher.push(points(["u1"], n), NONE) for n in range(3)]
    for n in range(3):
        sequences.append(opened().push(points(["u1"], n), NONE))
    assert sequences == sorted(set(sequences))
    assert index.last_sequence("t-users-1") == sequences[-1]


def test_sequences_rise_even_when_the_manifest_is_behind(
    opened: Open, index: VectorIndex, manifest: Path
) -> None:
    publish(opened(), 1)
    ahead = 9 << GENERATION_BITS
    index.upsert("t-users-1", Space.USERS, points(["u1"], 5), epoch=1, sequence=ahead)
    assert opened().push(points(["u1"], 6), NONE) > ahead


def test_removed_points_are_gone_from_every_version_kept(opened: Open, index: VectorIndex) -> None:
    publisher = opened()
    publisher.remove(Gone(users=("u1",), items=("i1",)))
    publish(publisher, 1)
    publish(publisher, 2)
    best = publisher.candidates("u1", 1)[0].id
    publisher.remove(Gone(items=(best,), users=("u2",)))
    assert best not in {c.id for c in publisher.candidates("u1", 60)}
    with pytest.raises(UnknownPoint):
        publisher.candidates("u2", 1)
    publisher.rollback()
    assert best not in {c.id for c in publisher.candidates("u1", 60)}
    with pytest.raises(UnknownPoint):
        publisher.candidates("u2", 1)


def test_what_is_removed_while_a_version_is_filled_does_not_come_with_it(
    opened: Open, index: VectorIndex
) -> None:
    publisher = opened()
    publish(publisher, 1)
    filling = publisher.begin(2, DIM)
    filling.add(Space.ITEMS, points(ITEMS, 1))
    publisher.remove(Gone(items=("i5",), users=("u5",)))
    filling.add(Space.USERS, points(USERS, 2))
    filling.commit()
    assert index.count("t-items-2") == 59
    with pytest.raises(UnknownPoint):
        publisher.candidates("u5", 1)


def test_sweeping_spares_this_generation(opened: Open, index: VectorIndex) -> None:
    first = opened()
    publish(first, 1)
    first.remove(Gone(items=("i1",)))
    second = opened()
    second.remove(Gone(items=("i2",)))
    second.sweep()
    old, new = index.fetch("t-items-1", Space.ITEMS, ["i1", "i2"])
    assert old is None
    assert new is not None and new.deleted
    second.sweep(2**52)
    assert index.fetch("t-items-1", Space.ITEMS, ["i2"]) == [None]


def test_members_users_are_swept_by_what_the_oldest_of_them_may_still_write(
    opened: Open, index: VectorIndex
) -> None:
    publish(opened(), 1)
    member = Mandate(Record(opened().record.path, ManualClock()), index, "ads[0]")
    own = {"epoch": 1, "sequence": member.next_sequence()}
    index.bury("t-users-1", Space.USERS, ["u1"], **own)
    publisher = opened()
    publisher.remove(Gone(users=("u2",), items=("i2",)))
    publisher.sweep(publisher.mandate.next_sequence())
    users = index.fetch("t-users-1", Space.USERS, ["u1", "u2"])
    assert all(point is not None and point.deleted for point in users)
    assert index.fetch("t-items-1", Space.ITEMS, ["i2"]) == [None]


def test_the_dead_are_swept_when_their_grace_is_over(opened: Open, index: VectorIndex) -> None:
    publisher, sweeper = opened(), Sweeper()
    publish(publisher, 1)

    def buried() -> list[str]:
        found = zip(ITEMS, index.fetch("t-items-1", Space.ITEMS, ITEMS), strict=True)
        return [name for name, point in found if point is not None and point.deleted]

    publisher.remove(Gone(items=("i1",)))
    sweeper.look(publisher, 0)
    publisher.remove(Gone(items=("i2",)))
    sweeper.look(publisher, GRACE_US - 1)
    assert buried() == ["i1", "i2"]
    sweeper.look(publisher, GRACE_US)
    assert buried() == ["i2"]
    sweeper.look(publisher, 2 * GRACE_US)
    assert buried() == []
    assert index.count("t-items-1") == len(ITEMS) - 2
