"""What may be shown, at the boundary of each rule; and what boosts do."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.edge_index import EdgeIndex
from consumers.index import NOT_RUNNING, RUNNING, Conditions, PointBatch, Space, to_rfc3339
from consumers.serving_rules import Boost, Entry, Facts, allowed, boosted, kept, takes_part

NOW = 1_000_000
FACTS = Facts("a boot", "spring", ("shoes", "boots"), 20.0, NOW + 1)
ENTRY = Entry("i1", 1.0, 1.0, FACTS)

names = st.sampled_from(["a", "b", "c"])
facts = st.builds(
    Facts,
    title=st.none(),
    campaign=st.none() | names,
    categories=st.lists(names, max_size=3).map(tuple),
    price=st.none() | st.floats(0, 100),
    expires_us=st.none() | st.integers(0, 10),
    removed=st.booleans(),
)
scores = st.floats(-100, 100)
entries = st.builds(
    lambda name, score, about: Entry(f"i{name}", score, score, about),
    st.integers(0, 9),
    scores,
    facts,
)
pools = st.lists(entries, max_size=20).map(
    lambda pool: sorted(pool, key=lambda entry: -entry.score)
)
some = st.none() | st.lists(names, min_size=1, max_size=2).map(tuple)
conditions = st.builds(
    Conditions,
    campaigns=some,
    categories=some,
    not_campaigns=st.lists(names, max_size=2).map(tuple),
    not_items=st.lists(st.sampled_from([f"i{n}" for n in range(10)]), max_size=4).map(tuple),
    price_from=st.none() | st.floats(0, 100),
    price_to=st.none() | st.floats(0, 100),
    now_us=st.none() | st.integers(0, 10),
    any_state=st.booleans(),
    draw=st.none() | st.sampled_from([0.0, 0.25]),
    context=st.none() | st.lists(names, max_size=2).map(tuple),
)


@pytest.mark.parametrize(
    ("change", "condition", "expected"),
    [
        ({}, Conditions(), True),
        ({}, Conditions(now_us=NOW), True),
        ({"expires_us": NOW}, Conditions(now_us=NOW), False),  # not to be shown from then on
        ({"expires_us": None}, Conditions(now_us=NOW), True),
        ({"removed": True}, Conditions(), False),
        ({}, Conditions(not_items=("i1",)), False),
        ({}, Conditions(not_campaigns=("spring",)), False),
        ({"campaign": None}, Conditions(not_campaigns=("spring",)), True),
        ({}, Conditions(campaigns=("spring", "x")), True),
        ({"campaign": None}, Conditions(campaigns=("spring",)), False),
        ({}, Conditions(categories=("boots",)), True),
        ({}, Conditions(categories=("bags",)), False),
        ({}, Conditions(price_from=20.0, price_to=20.0), True),
        ({}, Conditions(price_from=20.01), False),
        ({}, Conditions(price_to=19.99), False),
        ({"price": None}, Conditions(price_to=1e9), False),
    ],
)
def test_the_boundary_of_each_rule(
    change: dict[str, object], condition: Conditions, expected: bool
) -> None:
    entry = replace(ENTRY, facts=replace(FACTS, **change))  # type: ignore[arg-type]
    assert allowed(entry, condition, seen=(), barred=()) is expected


def test_what_was_seen_and_whose_campaign_is_stopped_is_not_shown() -> None:
    assert allowed(ENTRY, Conditions(), seen={"i2"}, barred={"summer"})
    assert not allowed(ENTRY, Conditions(), seen={"i1"}, barred=())
    assert not allowed(ENTRY, Conditions(), seen=(), barred={"spring"})


@given(pools, conditions)
def test_a_rule_only_takes_away_and_each_item_comes_once(
    pool: list[Entry], condition: Conditions
) -> None:
    left = kept(pool, condition)
    ids = [entry.id for entry in left]
    assert len(set(ids)) == len(ids)
    assert all(allowed(entry, condition, seen=(), barred=()) for entry in left)
    assert kept(left, condition) == left
    places = [pool.index(entry) for entry in left]
    assert places == sorted(places)


@given(pools, st.floats(1, 10), st.floats(0, 10))
def test_a_boost_makes_nothing_worse(pool: list[Entry], multiply: float, add: float) -> None:
    before = {id(entry): entry.score for entry in pool}
    after = boosted(pool, [Boost(category="a", multiply=multiply, add=add)])
    assert sorted(e.id for e in after) == sorted(e.id for e in pool)
    assert [e.score for e in after] == sorted((e.score for e in after), reverse=True)
    for entry in pool:
        raised = max(e.score for e in after if e.id == entry.id)
        assert raised >= before[id(entry)] - 1e-9


def test_boosts_are_measured_from_the_worst_score() -> None:
    pool = [Entry(n, s, s, Facts(categories=(n,))) for n, s in [("a", 1.0), ("b", 0.5), ("c", 0)]]
    after = boosted(pool, [Boost(category="b", multiply=3.0), Boost(category="c", add=1.25)])
    assert [(e.id, e.score) for e in after] == [("b", 1.5), ("c", 1.25), ("a", 1.0)]
    assert boosted(pool, []) == pool
    both = Boost(category="a", campaign="x")
    assert not both.meets(pool[0].facts)
    assert both.meets(Facts(categories=("a",), campaign="x"))


keywords = st.lists(st.sampled_from(["mobile", "desktop", "berlin"]), max_size=2, unique=True)
moments = st.none() | st.integers(NOW - 2, NOW + 2)
campaigns = st.fixed_dictionaries(
    {},
    optional={
        "campaign_state": st.sampled_from([RUNNING, *NOT_RUNNING]),
        "campaign_pacing": st.sampled_from([0.0, 0.25, 0.5, 1.0]),
        "campaign_starts_at": moments.map(lambda at: at and to_rfc3339(at)),
        "campaign_ends_at": moments.map(lambda at: at and to_rfc3339(at)),
        "campaign_targeting": st.none() | keywords.map(lambda words: words or None),
    },
)
requests = st.builds(
    Conditions,
    any_state=st.booleans(),
    draw=st.none() | st.sampled_from([0.0, 0.25, 0.4]),
    context=st.none() | keywords.map(tuple),
    now_us=moments,
)


@given(st.lists(campaigns, min_size=1, max_size=8), st.lists(requests, min_size=1, max_size=8))
@settings(max_examples=40)
def test_a_campaign_takes_part_exactly_where_the_index_returns_its_items(
    offered: EdgeIndex, told: list[dict[str, object]], asked: list[Conditions]
) -> None:
    after = offered.last_sequence("o-items-1") + 1
    names = [f"k{n}" for n in range(len(told))]
    batch = PointBatch(names, np.ones((len(told), 2), np.float32), told)
    offered.upsert("o-items-1", Space.ITEMS, batch, epoch=1, sequence=after)
    for conditions in asked:
        found = offered.search("o-items-1", np.ones(2, np.float32), 100, conditions)
        expected = {
            name for name, fields in zip(names, told, strict=True) if takes_part(fields, conditions)
        }
        assert {c.id for c in found} & set(names) == expected


@pytest.fixture(scope="module")
def offered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeIndex]:
    index = EdgeIndex(tmp_path_factory.mktemp("offered"))
    index.create("o-items-1", Space.ITEMS, 2)
    yield index
    index.close()
