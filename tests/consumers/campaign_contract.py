"""What every vector index promises of campaigns: one suite, inherited by each implementation."""

import uuid
from collections.abc import Iterator

import numpy as np
import pytest

from consumers.errors import PublishError
from consumers.index import (
    NOT_RUNNING,
    RUNNING,
    Conditions,
    PointBatch,
    Space,
    VectorIndex,
    item_payload,
    to_rfc3339,
)

DIM = 4
DAY_US = 86_400_000_000
QUERY = np.ones(DIM, np.float32)


def goods(**campaigns: str | None) -> PointBatch:
    """Items in falling order of score, each of a campaign or of none."""
    scores = np.arange(len(campaigns), 0, -1, dtype=np.float32)
    payloads = [item_payload(campaign=campaign) for campaign in campaigns.values()]
    return PointBatch(list(campaigns), np.outer(scores, QUERY).astype(np.float32), payloads)


class CampaignContract:
    """Subclasses give `index`."""

    @pytest.fixture(scope="class")
    @classmethod
    def index(cls) -> Iterator[VectorIndex]:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def offers(cls, index: VectorIndex) -> str:
        """One collection for all tests: making one is what takes time."""
        name = f"t{uuid.uuid4().hex[:12]}-items-1"
        index.create(name, Space.ITEMS, DIM)
        return name

    @pytest.fixture
    def base(self, index: VectorIndex, offers: str) -> int:
        """The items as they were, at a sequence of 5 more than this."""
        base = index.last_sequence(offers) + 100
        batch = goods(a="c1", b="c2", c="c1", d=None)
        index.upsert(offers, Space.ITEMS, batch, epoch=1, sequence=base + 5)
        return base

    def found(self, index: VectorIndex, offers: str, **conditions: object) -> str:
        wanted = Conditions(**conditions)  # type: ignore[arg-type]
        return "".join(c.id for c in index.search(offers, QUERY, 10, wanted))

    def test_a_change_reaches_all_items_of_its_campaign_and_no_vector(
        self, index: VectorIndex, offers: str, base: int
    ) -> None:
        index.set_payload(offers, {"c1": {"campaign_pacing": 0.5, "note": "é"}}, sequence=base + 6)
        a, b, d = index.fetch(offers, Space.ITEMS, ["a", "b", "d"])
        assert a is not None and b is not None and d is not None and a.vector is not None
        assert a.payload["campaign_pacing"] == 0.5 and a.payload["note"] == "é"
        assert (a.payload["seq"], a.payload["epoch"], a.payload["campaign"]) == (base + 6, 1, "c1")
        np.testing.assert_array_equal(a.vector, np.full(DIM, 4, np.float32))
        assert "note" not in b.payload and "note" not in d.payload
        assert b.payload["seq"] == base + 5
        assert index.last_sequence(offers) == base + 6

    @pytest.mark.parametrize("state", NOT_RUNNING)
    def test_items_of_campaigns_that_do_not_run_are_not_found(
        self, index: VectorIndex, offers: str, base: int, state: str
    ) -> None:
        index.set_payload(offers, {"c1": {"campaign_state": state}}, sequence=base + 6)
        assert self.found(index, offers) == "bd"
        assert self.found(index, offers, any_state=True) == "abcd"
        index.set_payload(offers, {"c1": {"campaign_state": RUNNING}}, sequence=base + 7)
        assert self.found(index, offers) == "abcd"

    @pytest.mark.parametrize(("second", "wins"), [(5, False), (6, False), (7, True)])
    def test_a_stale_change_does_not_win(
        self, index: VectorIndex, offers: str, base: int, second: int, wins: bool
    ) -> None:
        index.set_payload(offers, {"c1": {"campaign_state": "paused"}}, sequence=base + 6)
        index.set_payload(offers, {"c1": {"campaign_state": RUNNING}}, sequence=base + second)
        assert self.found(index, offers) == ("abcd" if wins else "bd")

    def test_a_stale_upsert_does_not_resurrect_what_was_paused(
        self, index: VectorIndex, offers: str, base: int
    ) -> None:
        index.set_payload(offers, {"c1": {"campaign_state": "paused"}}, sequence=base + 8)
        index.upsert(offers, Space.ITEMS, goods(a="c1"), epoch=1, sequence=base + 7)
        assert self.found(index, offers) == "bd"

    def test_a_change_that_is_older_than_an_upsert_does_not_touch_it(
        self, index: VectorIndex, offers: str, base: int
    ) -> None:
        index.upsert(offers, Space.ITEMS, goods(a="c1"), epoch=1, sequence=base + 9)
        index.set_payload(offers, {"c1": {"campaign_state": "paused"}}, sequence=base + 8)
        assert "a" in self.found(index, offers)

    def test_a_change_raises_no_tombstone(self, index: VectorIndex, offers: str, base: int) -> None:
        index.bury(offers, Space.ITEMS, ["a"], epoch=1, sequence=base + 6)
        index.set_payload(offers, {"c1": {"campaign_state": RUNNING}}, sequence=base + 7)
        assert self.found(index, offers) == "bcd"
        [a] = index.fetch(offers, Space.ITEMS, ["a"])
        assert a is not None and a.deleted

    def test_none_takes_a_field_away(self, index: VectorIndex, offers: str, base: int) -> None:
        past, later = to_rfc3339(DAY_US), {"now_us": 2 * DAY_US}
        index.set_payload(offers, {"c1": {"campaign_ends_at": past}}, sequence=base + 6)
        assert self.found(index, offers, **later) == "bd"
        index.set_payload(offers, {"c1": {"campaign_ends_at": None}}, sequence=base + 7)
        assert self.found(index, offers, **later) == "abcd"
        index.set_payload(offers, {"c1": {"campaign_targeting": None}}, sequence=base + 8)
        assert self.found(index, offers, context=()) == "abcd"

    def test_a_schedule_is_exact_to_the_moment(
        self, index: VectorIndex, offers: str, base: int
    ) -> None:
        start, end = to_rfc3339(DAY_US), to_rfc3339(2 * DAY_US)
        times = {"campaign_starts_at": start, "campaign_ends_at": end}
        index.set_payload(offers, {"c1": times}, sequence=base + 6)
        shown = [self.found(index, offers, now_us=now) for now in _around(DAY_US, 2 * DAY_US)]
        assert shown == ["bd", "abcd", "abcd", "bd"]

    @pytest.mark.parametrize(
        ("draw", "expected"), [(0.0, "abd"), (0.24, "abd"), (0.25, "bd"), (0.99, "bd")]
    )
    def test_a_campaign_takes_part_in_the_share_of_requests_that_its_pacing_says(
        self, index: VectorIndex, offers: str, base: int, draw: float, expected: str
    ) -> None:
        index.upsert(offers, Space.ITEMS, goods(c="c3"), epoch=1, sequence=base + 6)
        paced = {"c1": 0.25, "c2": 1.0, "c3": 0.0}
        fields = {name: {"campaign_pacing": pacing} for name, pacing in paced.items()}
        index.set_payload(offers, fields, sequence=base + 7)
        assert "".join(sorted(self.found(index, offers, draw=draw))) == expected

    @pytest.mark.parametrize(
        ("context", "expected"),
        [(None, "abcd"), ((), "bd"), (("mobile",), "abcd"), (("tv", "x"), "bd")],
    )
    def test_targeting_needs_one_keyword_of_the_request(
        self,
        index: VectorIndex,
        offers: str,
        base: int,
        context: tuple[str, ...] | None,
        expected: str,
    ) -> None:
        index.set_payload(
            offers, {"c1": {"campaign_targeting": ["mobile", "rain"]}}, sequence=base + 6
        )
        assert self.found(index, offers, context=context) == expected

    def test_many_campaigns_are_told_at_once(
        self, index: VectorIndex, offers: str, base: int
    ) -> None:
        many: dict[str, dict[str, object]] = {
            f"x{n}": {"campaign_state": "paused"} for n in range(250)
        }
        index.set_payload(offers, {**many, "c2": {"campaign_state": "paused"}}, sequence=base + 6)
        assert self.found(index, offers) == "acd"
        index.set_payload(offers, {}, sequence=base + 7)

    def test_what_is_the_index_s_own_is_not_set(
        self, index: VectorIndex, offers: str, base: int
    ) -> None:
        for field in ("seq", "id", "epoch", "deleted", "campaign"):
            with pytest.raises(PublishError, match=field):
                index.set_payload(offers, {"c1": {field: 1}}, sequence=base + 6)
        with pytest.raises(PublishError, match="sequence"):
            index.set_payload(offers, {"c1": {}}, sequence=0)
        with pytest.raises(PublishError, match="nowhere"):
            index.set_payload("nowhere", {"c1": {"note": 1}}, sequence=base + 6)
        assert index.last_sequence(offers) == base + 5


def _around(start_us: int, end_us: int) -> list[int]:
    return [start_us - 1, start_us, end_us - 1, end_us]
