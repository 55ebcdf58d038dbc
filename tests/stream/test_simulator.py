import json
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from stream.batch import Partition
from stream.clock import ManualClock
from stream.codec import Codec, Limits
from stream.errors import SourceError
from stream.simulated_world import DIMENSION, World
from stream.simulator import EXAMINED, Simulator, SimulatorConfig
from stream.simulator_source import PARTITION, SimulatorSource

SMALL = SimulatorConfig(messages=4_000, users=120, items=150, campaigns=4, drift_at=2_500)
MANY = SimulatorConfig(messages=25_000, users=300, items=300, drift_at=None)
FAR_US = 1_900_000_000_000_000


def simulate(config: SimulatorConfig, seed: int = 5) -> tuple[Simulator, list[dict[str, Any]]]:
    simulator = Simulator(config, np.random.default_rng(seed))
    return simulator, [json.loads(message) for message in simulator]


@pytest.fixture(scope="module")
def small() -> list[dict[str, Any]]:
    return simulate(SMALL)[1]


@pytest.fixture(scope="module")
def many() -> tuple[Simulator, list[dict[str, Any]]]:
    return simulate(MANY)


def test_every_message_is_an_event() -> None:
    source = SimulatorSource(SMALL, 5)
    codec = Codec(Limits(vector_dims={"text": DIMENSION}), ManualClock(FAR_US))
    taken = 0
    while not source.exhausted:
        for batch in source.poll(1_500, 0.0):
            decoded = codec.decode(batch)
            assert not decoded.rejects
            assert np.all(np.diff(decoded.events.time_us) >= 0)
            taken += len(decoded.events)
    assert taken == SMALL.messages


def test_the_seed_decides_everything() -> None:
    first, again, other = (
        list(Simulator(SMALL, np.random.default_rng(seed))) for seed in (5, 5, 6)
    )
    assert first == again
    assert not {json.loads(m)["event_id"] for m in first} & {
        json.loads(m)["event_id"] for m in other
    }


def test_the_length_only_cuts(small: list[dict[str, Any]]) -> None:
    longer = SimulatorConfig(messages=5_000, users=120, items=150, campaigns=4, drift_at=2_500)
    assert simulate(longer)[1][: SMALL.messages] == small


def test_all_types_occur_in_order_with_unique_ids(small: list[dict[str, Any]]) -> None:
    assert {m["type"] for m in small} == {
        "item", "item_removed", "campaign", "impression", "click", "ad_click", "conversion",
    }  # fmt: skip
    assert all(a["occurred_at"] <= b["occurred_at"] for a, b in pairwise(small))
    assert len({m["event_id"] for m in small}) == len(small)


def test_answers_refer_to_what_was_shown_or_clicked(small: list[dict[str, Any]]) -> None:
    earlier: dict[str, dict[str, Any]] = {}
    answered = Counter[str]()
    for message in small:
        refers_to = message.get("impression_id") or message.get("refers_to")
        if refers_to is not None:
            origin = earlier[refers_to]
            assert (origin["user_id"], origin["item_id"]) == (
                message["user_id"],
                message["item_id"],
            )
            answered[origin["type"]] += 1
        earlier[message["event_id"]] = message
    assert answered["impression"] > 100
    assert answered["ad_click"] > 3


def test_only_known_items_are_shown_and_removed_ones_no_more(many: Any) -> None:
    known: dict[str, float] = {}
    gone: dict[str, str] = {}
    for message in many[1]:
        if message["type"] == "item":
            known[message["item_id"]] = message["price"]
        elif message["type"] == "item_removed":
            gone[message["item_id"]] = message["occurred_at"]
        elif message["type"] == "impression":
            assert message["item_id"] in known
            assert message["item_id"] not in gone
    assert len(known) > MANY.items
    assert gone


def test_higher_places_are_clicked_more_and_propensities_are_honest(many: Any) -> None:
    shown, clicked = Counter[int](), Counter[int]()
    inverse = 0.0
    pages = set[str]()
    for message in many[1]:
        if message["type"] == "impression":
            shown[message["position"]] += 1
            if message["position"] == 0:
                inverse += 1 / message["propensity"]
                pages.add(message["request_id"])
        elif "impression_id" in message and message["position"] != 1:
            clicked[message["position"]] += 1
    rates = [clicked[place] / shown[place] for place in (0, 2, 3, 4)]
    assert rates == sorted(rates, reverse=True)
    assert rates[3] / rates[0] == pytest.approx(EXAMINED[4], rel=0.25)
    # Over what is drawn with chance p, 1 / p has the number of live items as its mean.
    assert inverse / len(pages) == pytest.approx(len(many[0].world.live), rel=0.15)


def test_the_planted_tastes_beat_popularity(many: Any) -> None:
    simulator, messages = many
    clicks = [m for m in messages if m["type"] in ("click", "ad_click")]
    popular = {item for item, _ in Counter(m["item_id"] for m in clicks).most_common(20)}
    last = clicks[-1_000:]
    by_popularity = np.mean([m["item_id"] in popular for m in last])
    hits: list[bool] = []
    for message in last:
        chances = simulator.preference(message["user_id"])
        hits.append(message["item_id"] in sorted(chances, key=lambda i: -chances[i])[:20])
    assert np.mean(hits) > 2.5 * by_popularity
    assert sum(simulator.preference("user-0").values()) == pytest.approx(1.0)


def test_texts_speak_of_the_topic(small: list[dict[str, Any]]) -> None:
    items = [m for m in small if m["type"] == "item"]
    vectors = np.array([m["vectors"]["text"] for m in items])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    topics = np.array([m["categories"][0] for m in items])
    cosines = vectors @ vectors.T
    same = topics[:, None] == topics[None, :]
    apart = ~np.eye(len(items), dtype=bool)
    assert cosines[same & apart].mean() > 0.4
    assert abs(cosines[~same].mean()) < 0.1
    assert all(topic in m["description"].lower() for topic, m in zip(topics, items, strict=True))


def test_tastes_turn_at_the_planted_message() -> None:
    simulator = Simulator(SMALL, np.random.default_rng(5))
    messages = iter(simulator)
    for _ in range(2_400):
        next(messages)
    before = simulator.world.tastes.copy()
    assert simulator.drifted_at is None
    for _ in messages:
        pass
    assert simulator.drifted_at is not None
    assert SMALL.drift_at is not None
    assert SMALL.drift_at <= simulator.drifted_at < SMALL.drift_at + 700
    kept = (before * simulator.world.tastes).sum(axis=1)
    turned = np.mean(kept < 0.8)
    assert turned == pytest.approx(SMALL.drift_share, abs=0.12)


def test_a_world_without_adverts_goes_on() -> None:
    quiet = SimulatorConfig(messages=500, users=20, items=30, campaigns=0, drift_at=None)
    types = Counter(m["type"] for m in simulate(quiet)[1])
    assert not types["ad_click"]
    assert types["impression"] > 100


def test_nothing_allowed_has_no_chance() -> None:
    chances = World.softmax(np.zeros((2, 3)), np.zeros(3, dtype=np.bool_))
    assert chances.tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("at", [0, 1, 999, 4_000])
def test_the_source_goes_on_anywhere(at: int) -> None:
    whole = list(Simulator(SMALL, np.random.default_rng(5)))
    source = SimulatorSource(SMALL, 5, resume={PARTITION: at})
    assert source.lag() == {PARTITION: SMALL.messages - at}
    found = [v for b in source.poll(10**6, 0.0) for v in b.values]
    assert found == whole[at:]
    assert source.exhausted
    source.seek({PARTITION: 3, Partition("elsewhere", 0): 7})
    (batch,) = source.poll(2, 0.0)
    assert (batch.offsets.tolist(), batch.next_offset) == ([3, 4], 5)
    assert list(batch.values) == whole[3:5]


def test_the_source_pauses_closes_and_refuses() -> None:
    source = SimulatorSource(SMALL, 5)
    source.pause()
    assert source.poll(5, 0.0) == []
    source.resume()
    source.advise({})
    assert len(source.poll(5, 0.0)[0]) == 5
    assert source.simulator.world.live.all()
    with pytest.raises(SourceError, match="has 4000 messages"):
        source.seek({PARTITION: 4_001})
    source.close()
    assert source.exhausted
    assert source.poll(5, 0.0) == []
