"""From events of campaigns to what a search returns, in one process."""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest

from consumers.campaigns import LOOK_EVERY_US, Campaigns
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
from consumers.local_qdrant import QdrantAddress
from consumers.publisher import Publisher
from consumers.qdrant_index import QdrantIndex
from stream.batch import Kind
from stream.clock import ManualClock
from stream.traffic import BIN_US, BINS
from stream.zones import DAY_US
from tests.consumers.publishing import DIM, Open, points
from tests.stream.test_spend import DAY_S, State, act, campaign, feed, fresh, item

HOUR_S = 3_600
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def publisher(opened: Open) -> Publisher:
    return opened()


def goods(campaigns: Campaigns, **items: str) -> PointBatch:
    told = [campaigns.fields(name or None) for name in items.values()]
    payloads = [
        {
            **item_payload(campaign=name or None),
            **{k: v for k, v in fields.items() if v is not None},
        }
        for name, fields in zip(items.values(), told, strict=True)
    ]
    return PointBatch(list(items), np.ones((len(items), DIM), np.float32), payloads)


def fill(publisher: Publisher, version: int, batch: PointBatch) -> None:
    filling = publisher.begin(version, DIM)
    filling.add(Space.ITEMS, batch)
    filling.add(Space.USERS, points(["u"], 1))
    filling.commit()


def found(publisher: Publisher, **conditions: Any) -> str:
    return "".join(sorted(c.id for c in publisher.candidates("u", 9, Conditions(**conditions))))


def test_a_paused_campaign_s_items_are_not_returned_and_no_upsert_brings_them_back(
    publisher: Publisher,
) -> None:
    state = fresh()
    campaigns = Campaigns(state.graph)
    feed(state, [campaign("c1", 0)])
    campaigns.tell(publisher)
    fill(publisher, 1, goods(campaigns, a="c", b="", c="other"))
    assert found(publisher) == "abc"
    feed(state, [campaign("c2", 1, paused=True)])
    campaigns.tell(publisher)
    assert found(publisher) == "bc"
    publisher.push(points([], 0), goods(campaigns, a="c", d="c"))
    assert found(publisher) == "bc", "what is written whole carries the state as well"
    feed(state, [campaign("c3", 2)])
    campaigns.tell(publisher)
    assert found(publisher) == "abcd"


def test_a_pause_while_a_version_is_filled_holds_in_it_and_after_a_rollback(
    publisher: Publisher,
) -> None:
    state = fresh()
    campaigns = Campaigns(state.graph)
    feed(state, [campaign("c1", 0)])
    campaigns.tell(publisher)
    fill(publisher, 1, goods(campaigns, a="c", b=""))
    filling = publisher.begin(2, DIM)
    filling.add(Space.ITEMS, goods(campaigns, a="c", b=""))
    filling.add(Space.USERS, points(["u"], 1))
    feed(state, [campaign("c2", 1, paused=True)])
    campaigns.tell(publisher)
    assert found(publisher) == "b"
    filling.commit()
    assert publisher.live == 2
    assert found(publisher) == "b"
    publisher.rollback()
    assert found(publisher) == "b"


def test_a_restart_tells_everything_again(
    publisher: Publisher, opened: Open, index: VectorIndex
) -> None:
    state = fresh()
    feed(state, [campaign("c1", 0)])
    before = Campaigns(state.graph)
    before.tell(publisher)
    fill(publisher, 1, goods(before, a="c"))
    feed(state, [campaign("c2", 1, paused=True)])  # and the program dies before it is told
    successor = opened()
    Campaigns(state.graph).tell(successor)
    assert found(successor) == ""


def test_nothing_is_told_twice() -> None:
    state = fresh()
    campaigns = Campaigns(state.graph)
    feed(state, [campaign("c1", 0, bid=1.0, bid_for="click")])
    assert set(campaigns.changed()) == {"c"}
    assert campaigns.changed() == {}
    feed(state, [act(Kind.AD_CLICK, "e1", 9, of="c")])
    assert campaigns.changed() == {}, "it was charged, and stands as before"


@pytest.mark.parametrize(
    ("more", "second", "state"),
    [
        ({}, 0, "running"),
        ({"paused": True}, 0, "paused"),
        ({"pacing": 0.0}, 0, "paused"),
        ({"starts_at": "1970-01-02T00:00:00Z"}, DAY_S - 1, "scheduled"),
        ({"starts_at": "1970-01-02T00:00:00Z"}, DAY_S, "running"),
        ({"ends_at": "1970-01-02T00:00:00Z"}, DAY_S - 1, "running"),
        ({"ends_at": "1970-01-02T00:00:00Z"}, DAY_S, "ended"),
        ({"hours": [9, 10]}, 9 * HOUR_S - 1, "off_hours"),
        ({"hours": [9, 10]}, 11 * HOUR_S - 1, "running"),
        ({"hours": [9, 10], "zone": "Asia/Tokyo"}, 60, "running"),
        ({"hours": [9, 10], "zone": "Asia/Tokyo"}, 2 * HOUR_S, "off_hours"),
        ({"budget_left": 0.0}, 0, "exhausted"),
        ({"daily_budget": 0.0}, 0, "exhausted"),
        ({"total_budget": 0.0}, 0, "exhausted"),
    ],
)
def test_states(more: dict[str, Any], second: int, state: str) -> None:
    stream = fresh()
    feed(stream, [campaign("c1", 0, **more), act(Kind.CLICK, "now", second)])
    assert Campaigns(stream.graph).standing("c").state == state


@pytest.mark.parametrize("budget", ["budget_left", "daily_budget", "total_budget"])
def test_a_budget_that_is_spent_ends_it(budget: str) -> None:
    state = fresh()
    feed(state, [campaign("c1", 0, bid=2.0, bid_for="click", **{budget: 4.0})])
    campaigns = Campaigns(state.graph)
    feed(state, [act(Kind.AD_CLICK, "e1", 1, of="c")])
    assert campaigns.standing("c").state == "running"
    feed(state, [act(Kind.AD_CLICK, "e2", 2, of="c")])
    assert campaigns.changed()["c"]["campaign_state"] == "exhausted"
    feed(state, [act(Kind.AD_CLICK, "late", 3, of="c")])
    assert campaigns.standing("c").overspent == (2_000_000 if budget == "daily_budget" else 0)
    feed(state, [act(Kind.CLICK, "e3", DAY_S + 1)])
    resumed = "running" if budget == "daily_budget" else "exhausted"
    assert campaigns.standing("c").state == resumed, "a new day has a new budget"


def test_a_total_budget_is_spread_over_the_days_that_are_left() -> None:
    state = fresh()
    told = {"total_budget": 10.0, "bid": 1.0, "bid_for": "click"}
    feed(state, [campaign("c1", 0, **told, ends_at="1970-01-05T00:00:00Z")])
    campaigns = Campaigns(state.graph)
    assert campaigns.standing("c").budget == 2_500_000
    feed(state, [act(Kind.AD_CLICK, "e1", 1, of="c"), act(Kind.CLICK, "e2", DAY_S)])
    assert campaigns.standing("c").budget == 3_000_000
    feed(state, [campaign("c2", DAY_S, **told, daily_budget=20.0)])
    assert campaigns.standing("c").budget == 9_000_000, "never more than is left"


def test_a_live_campaign_begins_while_no_event_comes() -> None:
    state, clock = fresh(), ManualClock(DAY_US // 2)
    feed(state, [campaign("c1", 0, starts_at="1970-01-02T00:00:00Z")])
    campaigns = Campaigns(state.graph, clock)
    assert campaigns.changed()["c"]["campaign_state"] == "scheduled"
    clock.advance(DAY_US // 2)
    assert campaigns.changed()["c"]["campaign_state"] == "running"


def test_a_user_s_caps_are_known_by_name() -> None:
    state = fresh()
    feed(state, [campaign("c1", 0, cap=1), act(Kind.IMPRESSION, "e1", 1, of="c")])
    campaigns = Campaigns(state.graph)
    assert campaigns.capped("u") == {"c"}
    assert campaigns.capped("nobody") == frozenset()
    fields = campaigns.changed()["c"]
    assert (fields["campaign_cap"], fields["campaign_cap_window_s"]) == (1, DAY_S)


@pytest.mark.parametrize("keyword", ["mobile", "tv"])
def test_the_documented_filter_is_what_conditions_mean(qdrant: QdrantAddress, keyword: str) -> None:
    index = QdrantIndex(qdrant.url, grpc_port=qdrant.grpc_port, api_key=qdrant.api_key)
    name = f"documented-{uuid.uuid4().hex[:12]}"
    index.create(name, Space.ITEMS, DIM)
    now_us = 1_795_435_200_000_000  # 2026-11-23T12:00:00Z, as documented
    noon, later = to_rfc3339(now_us), to_rfc3339(now_us + 1)
    varied: dict[str, dict[str, object]] = {
        **{state: {"campaign_state": state} for state in (RUNNING, *NOT_RUNNING)},
        **{f"p{p}": {"campaign_pacing": p} for p in (0.0, 0.4173, 0.4174, 1.0)},
        **{f"start{n}": {"campaign_starts_at": at} for n, at in enumerate((noon, later))},
        **{f"end{n}": {"campaign_ends_at": at} for n, at in enumerate((noon, later))},
        **{f"for-{t}": {"campaign_targeting": [t, "rain"]} for t in ("mobile", "tv")},
        "nulls": {"campaign_state": RUNNING, "campaign_targeting": None, "campaign_ends_at": None},
    }
    payloads = [item_payload(campaign=campaign) for campaign in varied]
    batch = PointBatch(list(varied), np.ones((len(varied), DIM), np.float32), payloads)
    index.upsert(name, Space.ITEMS, batch, epoch=1, sequence=1)
    index.set_payload(name, varied, sequence=2)
    wanted = Conditions(now_us=now_us, draw=0.4173, context=(keyword, "shoes"))
    found = {c.id for c in index.search(name, np.ones(DIM, np.float32), 50, wanted)}
    text = (ROOT / "docs" / "campaigns.md").read_text().split("```json\n")[1].split("```")[0]
    body = {"filter": json.loads(text.replace('"mobile"', f'"{keyword}"')), "limit": 50}
    request = Request(
        f"{qdrant.url}/collections/{name}/points/query",
        json.dumps({**body, "with_payload": ["id"]}).encode(),
        {"content-type": "application/json", "api-key": qdrant.api_key or ""},
    )
    with urlopen(request, timeout=10) as answer:
        told = {point["payload"]["id"] for point in json.load(answer)["result"]["points"]}
    index.drop(name)
    index.close()
    assert told == found
    assert found == {RUNNING, "p0.4174", "p1.0", "start0", "end1", f"for-{keyword}", "nulls"}


# -- a day's budget

STEP_S = 60
SHAPE = (
    0.2 + np.exp(-(((np.arange(24) - 10) / 2.5) ** 2)) + 2 * np.exp(-((np.arange(24) - 20) ** 2))
)


class Replay:
    """Simulated traffic of strong shape, whose ads are shown as the payload's pacing says."""

    def __init__(self, state: State, campaigns: Campaigns, seed: int) -> None:
        self.state, self.campaigns = state, campaigns
        self.rng = np.random.default_rng(seed)
        self.pacing, self.number = 0.0, 0
        self.curve: list[float] = []

    def day(self, day: int, per_hour: float, burst: Callable[[int], float] = lambda _: 1.0) -> None:
        for second in range(0, DAY_S, STEP_S):
            rate = SHAPE[second // HOUR_S] * per_hour * STEP_S / HOUR_S * burst(second)
            rows = [self.shown(day * DAY_S + second) for _ in range(self.rng.poisson(rate))]
            feed(self.state, rows)
            for fields in self.campaigns.changed().values():
                running = fields["campaign_state"] == "running"
                self.pacing = float(fields["campaign_pacing"]) if running else 0.0  # type: ignore[arg-type]
            self.curve.append(self.state.graph.ledger.spend.account("c").days.get(day, 0) / 1e6)

    def shown(self, second: int) -> Any:
        self.number += 1
        of = "c" if self.rng.random() < self.pacing else ""
        user = f"u{self.number % 500}"
        return act(Kind.IMPRESSION, f"e{self.number}", second, of=of, user=user)


@pytest.fixture
def replay() -> Iterator[Replay]:
    state = fresh()
    campaigns = Campaigns(state.graph)
    # 10 for a thousand impressions, and 5 a day: 500 of the 11,000 or so that a day has
    feed(state, [campaign("c1", 0, daily_budget=5.0, bid=10.0, bid_for="impression")])
    yield Replay(state, campaigns, seed=4)


def test_a_day_s_budget_is_spent_along_the_traffic_that_was_learned(replay: Replay) -> None:
    for day in range(3):
        replay.day(day, per_hour=800)
    last = np.array(replay.curve[-DAY_S // STEP_S :])
    assert last[-1] == pytest.approx(5.0, rel=0.01)
    forecast = np.cumsum(np.repeat(SHAPE, HOUR_S // STEP_S)) / (SHAPE.sum() * HOUR_S / STEP_S)
    assert np.abs(last / 5.0 - forecast).max() < 0.05
    shares = replay.state.graph.ledger.traffic.shares(3 * DAY_US)
    assert len(shares) == BINS and shares.sum() == pytest.approx(1)
    assert np.argmax(shares) * BIN_US // (HOUR_S * 1_000_000) == 20
    assert LOOK_EVERY_US <= STEP_S * 1_000_000


def test_a_burst_does_not_outrun_the_budget(replay: Replay) -> None:
    def burst(second: int) -> float:
        return 20.0 if 9 * HOUR_S <= second < 9 * HOUR_S + 1_200 else 1.0

    replay.day(0, per_hour=800)
    replay.day(1, per_hour=800, burst=burst)
    last = np.array(replay.curve[-DAY_S // STEP_S :])
    assert last[-1] == pytest.approx(5.0, rel=0.01)
    assert last[10 * HOUR_S // STEP_S] < 0.75 * 5.0, "most of the evening's share is left"


def test_pacing_goes_on_after_a_restart_where_it_was(replay: Replay) -> None:
    replay.day(0, per_hour=200)
    successor = Campaigns(replay.state.graph)
    successor.restore(replay.campaigns.to_arrays())
    before, after = replay.campaigns, successor.changed()["c"]["campaign_pacing"]
    assert after == pytest.approx(before.fields("c")["campaign_pacing"], rel=0.1)
    fresh_one = Campaigns(replay.state.graph)
    fresh_one.restore({})
    assert "c" in fresh_one.changed()


def test_items_name_their_campaign_in_the_ledger_too(replay: Replay) -> None:
    feed(replay.state, [item("i1", 1, "shoe", "c"), act(Kind.IMPRESSION, "e", 2, "shoe")])
    assert replay.state.graph.ledger.spend.account("c").total == 10_000
