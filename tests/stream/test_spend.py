"""Charges: each event once, at the price known when it is applied, in whole millionths."""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.batch import Details, EventBatch, Kind, Partition
from stream.catalog import CampaignRecord
from stream.clock import ManualClock
from stream.events import Campaign, Item
from stream.graph import Graph
from stream.ordering import Orderer, OrderingConfig
from stream.snapshot import SnapshotStore, Step
from stream.spend import KEPT_DAYS, Spend, price
from stream.state import State

P = Partition("events", 0)
DAY_S = 86_400
Row = tuple[Kind, str, str, str, int, dict[str, Any]]  # kind, id, user, item, second, more


def campaign(event: str, second: int, **more: Any) -> Row:
    return (Kind.CAMPAIGN, event, "", "", second, {"campaign_id": "c", **more})


def item(event: str, second: int, name: str, of: str | None) -> Row:
    return (Kind.ITEM, event, "", name, second, {"item_id": name, "campaign_id": of})


def act(
    kind: Kind, event: str, second: int, item: str = "i", *, of: str = "", user: str = "u"
) -> Row:
    return (kind, event, user, item, second, {"of": of})


def moment(second: int) -> str:
    return str(np.datetime64(second, "s")) + "Z"


def batch_of(rows: Sequence[Row]) -> EventBatch:
    n = len(rows)
    models: dict[int, Campaign | Item] = {}
    for i, (kind, event, _, _, second, more) in enumerate(rows):
        common = {"event_id": event, "occurred_at": moment(second)}
        if kind is Kind.CAMPAIGN:
            models[i] = Campaign.model_validate({**common, **more})
        if kind is Kind.ITEM:
            models[i] = Item.model_validate({**common, **more})
    none = [""] * n
    return EventBatch(
        partition=P,
        row=np.arange(n),
        offsets=np.arange(n),
        kind=np.array([r[0] for r in rows], np.uint8),
        time_us=np.array([r[4] * 1_000_000 for r in rows], np.int64),
        event_id=[r[1] for r in rows],
        user=[r[2] for r in rows],
        item=[r[3] for r in rows],
        refers_to=none,
        models=models,
        details=Details(
            np.full(n, -1, np.int32),
            np.full(n, np.nan),
            np.full(n, np.nan),
            [r[5].get("of", "") for r in rows],
            none,
            none,
        ),
    )


def fresh() -> State:
    return State(Graph(), Orderer(OrderingConfig(lateness_us=2 * DAY_S * 1_000_000)), {P: 0})


def feed(state: State, rows: Sequence[Row]) -> None:
    batch = batch_of(rows)
    state.graph.apply(batch, state.orderer.admit(batch).keep)
    state.positions[P] += len(rows)


def spent(state: State, campaign: str = "c") -> tuple[int, dict[int, int]]:
    account = state.graph.ledger.spend.account(campaign)
    return account.total, account.days


def books(state: State) -> object:
    """Everything that the ledger holds."""
    ledger = state.graph.ledger
    caps = ledger.caps
    user, names, times = caps.rows(caps.first, caps.next)
    shown = zip([_name(state, u) for u in user.tolist()], names, times.tolist(), strict=True)
    return (
        {name: (a.total, a.since_told, a.days) for name, a in ledger.spend.accounts.items()},
        [one for one, u in zip(shown, user.tolist(), strict=True) if u >= 0],
        caps.forgotten,
        (ledger.traffic.days.tolist(), ledger.traffic.counts.tolist(), ledger.traffic.first),
    )


def _name(state: State, user: int) -> str:
    return state.graph.users.name(user) if user >= 0 else ""


def test_a_thousand_impressions_cost_the_bid_and_other_bids_are_each() -> None:
    known = CampaignRecord(0, "e", bid=2.5, bid_for="impression")
    assert [price(known, kind) for kind in (Kind.IMPRESSION, Kind.AD_CLICK)] == [2_500, 0]
    known = CampaignRecord(0, "e", bid=2.5, bid_for="click")
    kinds = (Kind.IMPRESSION, Kind.AD_CLICK, Kind.CONVERSION, Kind.CLICK)
    assert [price(known, kind) for kind in kinds] == [0, 2_500_000, 0, 0]
    assert price(CampaignRecord(0, "e"), Kind.AD_CLICK) == 0


def test_the_campaign_is_the_event_s_or_else_the_item_s_as_told_before() -> None:
    state = fresh()
    feed(
        state,
        [
            campaign("c1", 0, bid=1.0, bid_for="click"),
            act(Kind.AD_CLICK, "e1", 1),  # the item is of no campaign yet
            item("i1", 2, "i", "c"),
            act(Kind.AD_CLICK, "e2", 3),
            act(Kind.AD_CLICK, "e3", 3, of="unheard of"),
            item("i2", 4, "i", None),
            act(Kind.AD_CLICK, "e4", 5),
            act(Kind.AD_CLICK, "e5", 5, of="c"),
            act(Kind.IMPRESSION, "e6", 6, of="c"),
        ],
    )
    assert spent(state) == (2_000_000, {0: 2_000_000})


def test_a_day_is_the_campaign_s_own_and_a_late_conversion_is_charged_once_where_it_fell() -> None:
    state = fresh()
    feed(state, [campaign("c1", 0, bid=5.0, bid_for="conversion", zone="Asia/Tokyo")])
    evening = 15 * 3_600  # midnight in Tokyo
    feed(state, [act(Kind.CONVERSION, "e1", evening, of="c")])
    late = act(Kind.CONVERSION, "e2", evening - 1, of="c")
    feed(state, [late])
    feed(state, [late])
    assert spent(state) == (10_000_000, {0: 5_000_000, 1: 5_000_000})


def test_days_long_gone_are_kept_in_the_total_only() -> None:
    spend = Spend()
    for day in range(KEPT_DAYS + 10):
        spend.charge("c", day, 7)
    assert spend.account("c").total == 7 * (KEPT_DAYS + 10)
    assert min(spend.account("c").days) == 10 and len(spend.account("c").days) == KEPT_DAYS


def test_what_comes_off_budget_left_begins_anew_when_it_is_told() -> None:
    state = fresh()
    bid: dict[str, Any] = {"bid": 1.0, "bid_for": "click", "budget_left": 9.0}
    feed(state, [campaign("c1", 0, **bid), act(Kind.AD_CLICK, "e1", 1, of="c")])
    feed(state, [campaign("c0", 0, **bid)])  # older: nothing
    assert state.graph.ledger.spend.account("c").since_told == 1_000_000
    feed(state, [campaign("c2", 2, **bid)])
    account = state.graph.ledger.spend.account("c")
    assert (account.since_told, account.total) == (0, 1_000_000)


@st.composite
def streams(draw: st.DrawFn) -> list[Row]:
    rows: list[Row] = []
    second = 0
    for _ in range(draw(st.integers(0, 40))):
        second += draw(st.integers(0, 20_000))
        name = f"e{draw(st.integers(0, 30))}"
        what = draw(st.sampled_from("aaaaacix"))
        if what == "c":
            told: dict[str, Any] = {"bid": draw(st.sampled_from([0.1, 3.0]))}
            told["bid_for"] = draw(st.sampled_from(["impression", "click", "conversion"]))
            told["cap"] = draw(st.none() | st.integers(1, 3))
            told["campaign_id"] = draw(st.sampled_from("cd"))
            rows.append(campaign(name, second - draw(st.sampled_from([0, 5_000])), **told))
        elif what == "i":
            rows.append(
                item(name, second, draw(st.sampled_from("ij")), draw(st.sampled_from("cd")))
            )
        elif what == "x":
            rows.append((Kind.ERASE_USER, name, draw(st.sampled_from("uv")), "", second, {}))
        else:
            kind = draw(st.sampled_from([Kind.IMPRESSION, Kind.AD_CLICK, Kind.CONVERSION]))
            of, thing = draw(st.sampled_from(["", "c", "d"])), draw(st.sampled_from("ij"))
            user = draw(st.sampled_from("uv"))
            rows.append(act(kind, name, second, thing, of=of, user=user))
    return [r for r in rows if r[4] >= 0]


@given(streams(), st.lists(st.integers(1, 7), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_charges_do_not_depend_on_how_the_stream_is_cut(rows: list[Row], sizes: list[int]) -> None:
    whole, cut = fresh(), fresh()
    feed(whole, rows)
    at = turn = 0
    while at < len(rows):
        size = sizes[turn % len(sizes)]
        feed(cut, rows[at : at + size])
        at, turn = at + size, turn + 1
    accounts = [s.graph.ledger.spend.accounts for s in (whole, cut)]
    assert accounts[0] == accounts[1]


class Killed(BaseException):
    """The process is gone."""


@given(streams(), st.lists(st.tuples(st.integers(1, 9), st.integers(0, 30)), max_size=6))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_crash_anywhere_and_a_replay_charge_each_event_once(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], plan: list[tuple[int, int]]
) -> None:
    """Commits that die after so many files; what is read next starts at the offset restored."""
    root = tmp_path_factory.mktemp("state")
    state, expected = fresh(), fresh()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        patch.setattr("stream.ledger_table.CHUNK", 4)
        for size, dies_after in plan:
            at = state.positions[P]
            feed(state, rows[at : at + size])
            store = SnapshotStore(root, ManualClock(5), step=_dying(dies_after))
            with suppress(Killed):
                store.commit(state)
            store.close()
            state = (
                SnapshotStore(root, ManualClock(5)).load(ordering=state.orderer.config) or fresh()
            )
        at = state.positions[P]
        feed(state, rows[at:])
    for row in rows:
        feed(expected, [row])
    assert books(state) == books(expected)


def _dying(after: int) -> Callable[[Step], None]:
    left = [after]

    def step(_: Step) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    return step


def test_a_snapshot_of_before_the_ledger_is_read_and_spend_begins_there(tmp_path: Path) -> None:
    state, store = fresh(), SnapshotStore(tmp_path, ManualClock())
    bid: dict[str, Any] = {"bid": 1.0, "bid_for": "impression", "cap": 1}
    feed(state, [campaign("c1", 0, **bid), act(Kind.IMPRESSION, "e1", 1, of="c")])
    path = store.commit(state).path
    store.close()
    body = json.loads(path.read_text())["body"]
    del body["state"]["ledger"]
    for log in ("spend", "traffic", "caps"):
        del body["logs"][log]
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(f'{{"format":1,"sha256":"{digest}","body":{text}}}\n')
    loaded = SnapshotStore(tmp_path, ManualClock()).load(ordering=state.orderer.config)
    assert loaded is not None
    assert spent(loaded) == (0, {})
    feed(loaded, [act(Kind.IMPRESSION, "e2", 2, of="c")])
    assert spent(loaded) == (1_000, {0: 1_000})
    graph = loaded.graph
    assert graph.ledger.caps.capped(0, 2_000_000, graph.catalog.campaigns) == {"c"}
