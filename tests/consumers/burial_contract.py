"""What every vector index says of those who are gone."""

import numpy as np

from consumers.index import Space, VectorIndex, point_id
from tests.consumers.index_contract import DIM, batch


class BurialContract:
    """Subclasses give `index` and inherit `items` and `users` from the rest of the contract."""

    def test_a_buried_point_is_found_by_no_search_and_no_late_write_raises_it(
        self, index: VectorIndex, items: str
    ) -> None:
        index.upsert(items, Space.ITEMS, batch(["x", "yy"]), epoch=1, sequence=1)
        index.bury(items, Space.ITEMS, ["x", "never seen"], epoch=1, sequence=3)
        index.upsert(items, Space.ITEMS, batch(["x", "never seen"]), epoch=1, sequence=2)
        found = index.search(items, np.ones(DIM, np.float32), 10)
        assert [c.id for c in found] == ["yy"]
        assert index.count(items) == 1
        [stored] = index.fetch(items, Space.ITEMS, ["x"])
        assert stored is not None and stored.deleted and stored.vector is None
        index.upsert(items, Space.ITEMS, batch(["x"]), epoch=1, sequence=4)
        assert index.count(items) == 2, "announced again later, it is back"

    def test_a_late_burial_does_not_remove(self, index: VectorIndex, items: str) -> None:
        index.upsert(items, Space.ITEMS, batch(["x"]), epoch=1, sequence=3)
        index.bury(items, Space.ITEMS, ["x"], epoch=1, sequence=2)
        assert index.count(items) == 1

    def test_sweeping_deletes_old_tombstones_only(self, index: VectorIndex, items: str) -> None:
        index.upsert(items, Space.ITEMS, batch(["a", "b", "c"]), epoch=1, sequence=1)
        index.bury(items, Space.ITEMS, ["a"], epoch=1, sequence=2)
        index.bury(items, Space.ITEMS, ["b"], epoch=1, sequence=3)
        index.sweep(items, before=3)
        a, b, c = index.fetch(items, Space.ITEMS, ["a", "b", "c"])
        assert a is None
        assert b is not None and b.deleted
        assert c is not None and not c.deleted

    def test_the_tombstone_of_a_user_does_not_name_it(self, index: VectorIndex, users: str) -> None:
        index.upsert(users, Space.USERS, batch(["ann", "bob"]), epoch=1, sequence=1)
        assert sorted(index.ids(users)) == ["ann", "bob"]
        index.bury(users, Space.USERS, ["ann"], epoch=1, sequence=2)
        [stored] = index.fetch(users, Space.USERS, ["ann"])
        assert stored is not None and set(stored.payload) == {"epoch", "seq", "deleted"}
        assert list(index.ids(users)) == ["bob"]

    def test_a_point_is_buried_whose_name_is_not_known(
        self, index: VectorIndex, users: str
    ) -> None:
        index.upsert(users, Space.USERS, batch(["ann", "bob"]), epoch=1, sequence=3)
        ann, eve = (point_id(Space.USERS, name) for name in ("ann", "eve"))
        index.bury(users, Space.USERS, [], epoch=1, sequence=2, points=[ann])
        assert index.count(users) == 2
        index.bury(users, Space.USERS, [], epoch=1, sequence=4, points=[ann, eve])
        assert list(index.ids(users)) == ["bob"]
        stored, unknown = index.fetch(users, Space.USERS, ["ann", "eve"])
        assert stored is not None and stored.deleted and unknown is not None and unknown.deleted

    def test_one_tombstone_can_be_swept(self, index: VectorIndex, users: str) -> None:
        index.bury(users, Space.USERS, ["ann", "bob"], epoch=1, sequence=2)
        index.sweep(users, 3, [point_id(Space.USERS, "ann")])
        ann, bob = index.fetch(users, Space.USERS, ["ann", "bob"])
        assert ann is None and bob is not None
