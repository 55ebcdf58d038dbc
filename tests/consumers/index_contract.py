"""What every vector index promises: one suite, inherited by each implementation."""

import uuid
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from consumers.errors import PublishError, UnknownPoint
from consumers.index import (
    MAX_EXCLUDED,
    MAX_SEQUENCE,
    Conditions,
    Names,
    PointBatch,
    Space,
    VectorIndex,
    item_payload,
    point_id,
)

DIM = 8
DAY_US = 86_400_000_000


def batch(
    ids: list[str], vectors: NDArray[np.float32] | None = None, **payload: object
) -> PointBatch:
    if vectors is None:
        vectors = np.stack([np.full(DIM, 1 + len(i), np.float32) for i in ids])
    return PointBatch(ids, vectors, [dict(payload) for _ in ids])


def with_last(value: float) -> NDArray[np.float32]:
    vectors = np.ones((2, DIM), np.float32)
    vectors[-1, -1] = value
    return vectors


class IndexContract:
    """Subclasses give `index`. It is shared, as making collections is what takes time."""

    @pytest.fixture
    def prefix(self) -> str:
        return f"t{uuid.uuid4().hex[:12]}"

    @pytest.fixture(scope="class")
    @classmethod
    def index(cls) -> Iterator[VectorIndex]:
        raise NotImplementedError

    @pytest.fixture
    def items(self, index: VectorIndex, prefix: str) -> str:
        index.create(f"{prefix}-items-1", Space.ITEMS, DIM)
        return f"{prefix}-items-1"

    @pytest.fixture
    def users(self, index: VectorIndex, prefix: str) -> str:
        index.create(f"{prefix}-users-1", Space.USERS, DIM)
        return f"{prefix}-users-1"

    # -- collections

    def test_a_new_collection_is_empty(self, index: VectorIndex, items: str) -> None:
        assert items in index.collections()
        assert index.count(items) == 0
        assert index.last_sequence(items) == 0
        assert index.search(items, np.ones(DIM, np.float32), 5) == []

    def test_a_collection_is_not_made_twice(self, index: VectorIndex, items: str) -> None:
        with pytest.raises(PublishError, match=items):
            index.create(items, Space.ITEMS, DIM)

    @pytest.mark.parametrize("name", ["", "..", "a/b", "../a", ".a", "a\n", "a" * 200, "é"])
    def test_names_are_plain(self, index: VectorIndex, items: str, name: str) -> None:
        with pytest.raises(PublishError, match="cannot name"):
            index.create(name, Space.ITEMS, DIM)
        with pytest.raises(PublishError, match="cannot name"):
            index.point({name: items})

    def test_a_collection_has_dimensions(self, index: VectorIndex, prefix: str) -> None:
        with pytest.raises(PublishError, match="dimensions"):
            index.create(f"{prefix}-flat", Space.ITEMS, 0)
        assert f"{prefix}-flat" not in index.collections()

    def test_dropping_is_idempotent(self, index: VectorIndex, items: str) -> None:
        index.drop(items)
        index.drop(items)
        assert items not in index.collections()
        with pytest.raises(PublishError, match=items):
            index.count(items)
        index.create(items, Space.ITEMS, DIM + 1)
        assert index.count(items) == 0

    def test_what_an_alias_points_at_is_not_dropped(
        self, index: VectorIndex, items: str, prefix: str
    ) -> None:
        index.point({prefix: items})
        with pytest.raises(PublishError, match=prefix):
            index.drop(items)
        assert items in index.collections()

    # -- writes and the fence

    def test_a_point_is_stored_as_given(self, index: VectorIndex, items: str) -> None:
        vector = np.linspace(-1, 1, DIM, dtype=np.float32)[None]
        payload = item_payload(title="Ω tea", campaign="c1", categories=["a", "b"], price=1.25)
        index.upsert(items, Space.ITEMS, PointBatch(["x"], vector, [payload]), epoch=3, sequence=9)
        [stored] = index.fetch(items, Space.ITEMS, ["x"])
        assert stored is not None and stored.vector is not None
        np.testing.assert_array_equal(stored.vector, vector[0])
        assert dict(stored.payload) == {**payload, "id": "x", "epoch": 3, "seq": 9}
        assert not stored.deleted
        assert index.last_sequence(items) == 9

    def test_fetch_keeps_order_and_says_what_is_missing(
        self, index: VectorIndex, items: str
    ) -> None:
        index.upsert(items, Space.ITEMS, batch(["a", "bb"]), epoch=1, sequence=1)
        found = index.fetch(items, Space.ITEMS, ["bb", "zz", "a"])
        assert [f and f.payload["id"] for f in found] == ["bb", None, "a"]

    @pytest.mark.parametrize(("second", "wins"), [(4, False), (5, False), (6, True)])
    def test_only_a_higher_sequence_replaces(
        self, index: VectorIndex, items: str, second: int, wins: bool
    ) -> None:
        old, new = np.full((1, DIM), 1, np.float32), np.full((1, DIM), 2, np.float32)
        index.upsert(items, Space.ITEMS, batch(["x"], old), epoch=1, sequence=5)
        index.upsert(
            items,
            Space.ITEMS,
            batch(["x", "new"], np.concatenate([new, new])),
            epoch=1,
            sequence=second,
        )
        kept, fresh = index.fetch(items, Space.ITEMS, ["x", "new"])
        assert kept is not None and kept.vector is not None
        assert kept.vector[0] == (2 if wins else 1)
        assert fresh is not None, "the fence is by point: a new point of an old write is written"

    def test_sequences_are_compared_exactly(self, index: VectorIndex, items: str) -> None:
        for sequence in (MAX_SEQUENCE - 1, MAX_SEQUENCE, MAX_SEQUENCE - 1):
            vector = np.full((1, DIM), sequence - MAX_SEQUENCE, np.float32)
            index.upsert(items, Space.ITEMS, batch(["x"], vector), epoch=1, sequence=sequence)
        [stored] = index.fetch(items, Space.ITEMS, ["x"])
        assert stored is not None and stored.vector is not None
        assert stored.vector[0] == 0
        assert index.last_sequence(items) == MAX_SEQUENCE

    @pytest.mark.parametrize("sequence", [0, -1, MAX_SEQUENCE + 1])
    def test_other_sequences_are_refused(
        self, index: VectorIndex, items: str, sequence: int
    ) -> None:
        with pytest.raises(PublishError, match="sequence"):
            index.upsert(items, Space.ITEMS, batch(["x"]), epoch=1, sequence=sequence)
        with pytest.raises(PublishError, match="sequence"):
            index.bury(items, Space.ITEMS, ["x"], epoch=1, sequence=sequence)

    def test_a_replacement_is_whole(self, index: VectorIndex, items: str) -> None:
        index.upsert(items, Space.ITEMS, batch(["x"], price=1.0), epoch=1, sequence=1)
        index.upsert(items, Space.ITEMS, batch(["x"], title="t"), epoch=2, sequence=2)
        [stored] = index.fetch(items, Space.ITEMS, ["x"])
        assert stored is not None
        assert dict(stored.payload) == {"id": "x", "epoch": 2, "seq": 2, "title": "t"}

    def test_nothing_to_write_writes_nothing(self, index: VectorIndex, items: str) -> None:
        index.upsert(
            items, Space.ITEMS, batch([], np.zeros((0, DIM), np.float32)), epoch=1, sequence=1
        )
        index.bury(items, Space.ITEMS, [], epoch=1, sequence=1)
        assert index.last_sequence(items) == 0

    def test_more_than_one_request_is_taken(self, index: VectorIndex, items: str) -> None:
        rng = np.random.default_rng(0)
        ids = [f"i{n}" for n in range(2_500)]
        vectors = rng.normal(size=(len(ids), DIM)).astype(np.float32)
        index.upsert(items, Space.ITEMS, batch(ids, vectors), epoch=1, sequence=1)
        assert index.count(items) == len(ids)
        index.settle(items)
        index.flush()
        query = rng.normal(size=DIM).astype(np.float32)
        best = np.argsort(-vectors @ query)[:10]
        found = index.search(items, query, 10)
        assert [c.id for c in found] == [ids[b] for b in best]
        np.testing.assert_allclose([c.score for c in found], vectors[best] @ query, rtol=1e-4)

    @pytest.mark.parametrize(
        ("bad", "match"),
        [
            (batch(["good", "x"], np.ones((2, DIM + 1), np.float32)), "9"),
            (batch(["good", "x"], np.ones((1, DIM), np.float32)), "shape"),
            (batch(["good", "x"], np.ones(DIM, np.float32)), "shape"),
            (batch(["good", "x"], with_last(np.nan)), "NaN"),
            (batch(["good", "x"], with_last(-np.inf)), "infinity"),
            (batch(["x", "x"]), "twice"),
            (batch(["good", ""]), "1 to 256"),
            (batch(["good", "x" * 65_536]), "65,536 characters"),
            (PointBatch(["x"], np.ones((1, DIM), np.float32), []), "0 payloads"),
            (batch(["good", "x"], seq=3), "our own"),
            (batch(["good", "x"], price=float("nan")), "price"),
        ],
    )
    def test_a_bad_batch_writes_nothing(
        self, index: VectorIndex, items: str, bad: PointBatch, match: str
    ) -> None:
        with pytest.raises(PublishError, match=match):
            index.upsert(items, Space.ITEMS, bad, epoch=1, sequence=1)
        assert index.count(items) == 0

    def test_a_write_needs_its_collection(self, index: VectorIndex, prefix: str) -> None:
        name = f"{prefix}-none"
        with pytest.raises(PublishError, match=name):
            index.upsert(name, Space.ITEMS, batch(["x"]), epoch=1, sequence=1)
        with pytest.raises(PublishError, match=name):
            index.bury(name, Space.ITEMS, ["x"], epoch=1, sequence=1)
        with pytest.raises(PublishError, match=name):
            index.search(name, np.ones(DIM, np.float32), 1)

    # -- removal

    def test_what_is_written_anew_is_the_same(self, index: VectorIndex, items: str) -> None:
        index.upsert(items, Space.ITEMS, batch(["x", "yy", "z"]), epoch=1, sequence=1)
        index.bury(items, Space.ITEMS, ["x"], epoch=1, sequence=3)
        one, before = np.ones(DIM, np.float32), index.search(items, np.ones(DIM, np.float32), 10)
        index.rewrite(items, Space.ITEMS)
        assert index.search(items, one, 10) == before
        assert (index.count(items), index.last_sequence(items)) == (2, 3)
        index.upsert(items, Space.ITEMS, batch(["x"]), epoch=1, sequence=2)
        assert index.count(items) == 2

    # -- aliases

    def test_aliases_flip_together_and_are_read_back(
        self, index: VectorIndex, items: str, users: str, prefix: str
    ) -> None:
        index.create(f"{prefix}-items-2", Space.ITEMS, DIM)
        both = Names.of(prefix)
        index.point({both.items: items, both.users: users})
        assert {a: c for a, c in index.aliases().items() if a.startswith(prefix)} == {
            both.items: items,
            both.users: users,
        }
        index.point({both.items: f"{prefix}-items-2"})
        assert index.aliases()[both.items] == f"{prefix}-items-2"
        assert index.aliases()[both.users] == users
        index.point({both.items: None, "never-was": None})
        assert both.items not in index.aliases()
        index.drop(items)

    def test_a_flip_to_what_is_not_there_changes_no_alias(
        self, index: VectorIndex, items: str, users: str, prefix: str
    ) -> None:
        index.create(f"{prefix}-items-2", Space.ITEMS, DIM)
        both = Names.of(prefix)
        index.point({both.items: items, both.users: users})
        with pytest.raises(PublishError, match=f"{prefix}-users-2"):
            index.point({both.items: f"{prefix}-items-2", both.users: f"{prefix}-users-2"})
        assert index.aliases()[both.items] == items, "the first of the two must not have moved"

    def test_an_alias_is_not_named_like_a_collection(
        self, index: VectorIndex, items: str, users: str
    ) -> None:
        with pytest.raises(PublishError, match=items):
            index.point({items: users})

    # -- candidates

    @pytest.fixture(scope="class")
    @classmethod
    def shop(cls, index: VectorIndex) -> Names:
        """Five items ranked a > b > c > d > e for every user, behind aliases; for reading only."""
        payloads = [
            item_payload(title="A", campaign="c1", categories=["x"], price=1.0),
            item_payload(title="B", campaign="c2", categories=["x", "y"], price=2.0),
            item_payload(title="C", campaign="c1", categories=["y"], expires_us=10 * DAY_US),
            item_payload(title="D", price=4.0, expires_us=20 * DAY_US),
            item_payload(),
        ]
        vectors = np.outer([5, 4, 3, 2, 1], np.ones(DIM)).astype(np.float32)
        names = Names.of(f"t{uuid.uuid4().hex[:12]}")
        made = names.at(1)
        index.create(made.items, Space.ITEMS, DIM)
        index.create(made.users, Space.USERS, DIM)
        goods = PointBatch(list("abcde"), vectors, payloads)
        index.upsert(made.items, Space.ITEMS, goods, epoch=1, sequence=1)
        index.upsert(made.users, Space.USERS, batch(["u", "a", "gone"]), epoch=1, sequence=1)
        index.bury(made.users, Space.USERS, ["gone"], epoch=1, sequence=2)
        index.point({names.items: made.items, names.users: made.users})
        return names

    @pytest.mark.parametrize(
        ("conditions", "expected"),
        [
            (Conditions(), "abcde"),
            (Conditions(campaigns=("c1",)), "ac"),
            (Conditions(campaigns=("c1", "c2")), "abc"),
            (Conditions(categories=("y", "nothing")), "bc"),
            (Conditions(campaigns=("c1",), categories=("y",)), "c"),
            (Conditions(not_campaigns=("c1",)), "bde"),
            (Conditions(not_items=("a", "d", "unheard of")), "bce"),
            (Conditions(price_from=2.0), "bd"),
            (Conditions(price_to=2.0), "ab"),
            (Conditions(price_from=1.5, price_to=4.0), "bd"),
            (Conditions(price_from=9.0), ""),
            (Conditions(now_us=10 * DAY_US - 1), "abcde"),
            (Conditions(now_us=10 * DAY_US), "abde"),
            (Conditions(now_us=30 * DAY_US, not_items=("e",)), "ab"),
            (Conditions(not_items=tuple(f"n{i}" for i in range(MAX_EXCLUDED))), "abcde"),
        ],
    )
    def test_candidates_fulfil_the_conditions(
        self, index: VectorIndex, shop: Names, conditions: Conditions, expected: str
    ) -> None:
        found = index.candidates("u", 10, conditions, names=shop)
        assert "".join(c.id for c in found) == expected

    def test_candidates_carry_score_and_payload(self, index: VectorIndex, shop: Names) -> None:
        first, second = index.candidates("u", 2, names=shop)
        assert first.payload["title"] == "A" and first.payload["price"] == 1.0
        assert first.score == pytest.approx(5 * 2 * DIM)
        assert second.id == "b"

    def test_collections_can_be_asked_like_aliases(self, index: VectorIndex, shop: Names) -> None:
        found = index.candidates("u", 3, names=shop.at(1))
        assert found == index.candidates("u", 3, names=shop)
        assert index.search(shop.items, np.ones(DIM, np.float32), 1)[0].id == "a"

    def test_a_user_may_have_the_id_of_an_item(self, index: VectorIndex, shop: Names) -> None:
        assert [c.id for c in index.candidates("a", 1, names=shop)] == ["a"]
        assert point_id(Space.USERS, "a") != point_id(Space.ITEMS, "a")

    @pytest.mark.parametrize("user", ["nobody", "gone"])
    def test_an_unknown_or_removed_user_is_named(
        self, index: VectorIndex, shop: Names, user: str
    ) -> None:
        with pytest.raises(UnknownPoint, match=f"'{user}'"):
            index.candidates(user, 3, names=shop)

    def test_collections_that_are_not_there_are_no_unknown_users(
        self, index: VectorIndex, shop: Names
    ) -> None:
        for names in (Names(shop.items, "nowhere"), Names("nowhere", shop.users)):
            with pytest.raises(PublishError, match="nowhere"):
                index.candidates("u", 3, names=names)

    @pytest.mark.parametrize("k", [0, -1, 10_001])
    def test_k_has_bounds(self, index: VectorIndex, shop: Names, k: int) -> None:
        with pytest.raises(ValueError, match="k ="):
            index.candidates("u", k, names=shop)

    @pytest.mark.parametrize("query", [np.ones(DIM - 1), np.full(DIM, np.nan), np.ones((1, DIM))])
    def test_a_query_is_checked(
        self, index: VectorIndex, shop: Names, query: NDArray[np.float64]
    ) -> None:
        with pytest.raises(ValueError, match="finite"):
            index.search(shop.items, query.astype(np.float32), 1)
