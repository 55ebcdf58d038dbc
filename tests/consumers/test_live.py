from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from consumers.live import LiveModel
from consumers.points import all_points, changes
from consumers.versions import Version
from model.config import ModelConfig
from model.evidence import Calibration, nothing
from model.recency import plain
from model.state import ModelState
from model.terms import Terms
from stream.batch import EventBatch, Kind, Partition
from stream.events import Event, Item, ItemRemoved
from stream.graph import Applied, Graph

CONFIG = ModelConfig(dim=2, context=2, half_lives=(1,))
RECENCY = plain(np.array([0.75, 0.25], np.float32))


class _Fixed(Version):
    """A version whose arrays are at hand."""

    def load(self) -> ModelState:
        state = self.meta["state"]
        assert isinstance(state, ModelState)
        return state


def version(z: NDArray[np.float32], number: int = 1, terms: Terms | None = None) -> Version:
    parameters = {"embedding": z, "log_weights": RECENCY.position, "log_gaps": RECENCY.gap}
    state = ModelState(z, RECENCY, np.ones(len(z), np.bool_), parameters, trained_upto=0)
    if terms is not None:
        tried = nothing(np.zeros((1, 2)))
        state = replace(state, calibration=Calibration(terms, tried, tried, tried))
    return _Fixed(number, 1, Path(), {"state": state})


class Stream:
    """Applies one event at a time, a second apart."""

    def __init__(self) -> None:
        self.graph = Graph()
        self._n = 0

    def click(self, user: str, item: str) -> Applied:
        return self._apply(Kind.CLICK, user, item, None)

    def item(
        self,
        item: str,
        text: tuple[float, ...] | None = None,
        image: tuple[float, ...] | None = None,
    ) -> Applied:
        given = {"text": text, "image": image}
        vectors = {name: list(vector) for name, vector in given.items() if vector is not None}
        told = {"item_id": item, "vectors": vectors, "title": f"the {item}"}
        event = Item.model_validate({**self._common(), **told})
        return self._apply(Kind.ITEM, "", item, event)

    def remove(self, item: str) -> Applied:
        event = ItemRemoved.model_validate({**self._common(), "item_id": item})
        return self._apply(Kind.ITEM_REMOVED, "", item, event)

    def erase(self, user: str) -> Applied:
        return self._apply(Kind.ERASE_USER, user, "", None)

    def _common(self) -> dict[str, object]:
        moment = f"2026-01-01T00:{self._n // 60:02}:{self._n % 60:02}Z"
        return {"event_id": f"e{self._n}", "occurred_at": moment}

    def _apply(self, kind: Kind, user: str, item: str, event: Event | None) -> Applied:
        self._n += 1
        one = np.zeros(1, np.int64)
        batch = EventBatch(
            Partition("t", 0),
            one,
            one + self._n,
            np.array([kind], np.uint8),
            one + (1_767_225_600 + self._n) * 1_000_000,
            [f"e{self._n}"],
            [user],
            [item],
            [""],
            {} if event is None else {0: event},
        )
        return self.graph.apply(batch, one)


@pytest.fixture
def stream() -> Stream:
    """A graph with two items that point in two directions, and texts that say so."""
    stream = Stream()
    stream.item("north", (1.0, 0.0, 0.0))
    stream.item("east", (0.0, 1.0, 0.0))
    return stream


def live_on(stream: Stream) -> LiveModel:
    return LiveModel(stream.graph, CONFIG).successor(version(np.eye(2, dtype=np.float32)))


def user(live: LiveModel, name: str) -> NDArray[np.float32]:
    return live.user_vectors(live.graph.users.intern([name]))[0]


def test_a_user_is_the_weighted_sum_of_the_last_events(stream: Stream) -> None:
    live = live_on(stream)
    live.learn(stream.click("u", "north"))
    assert user(live, "u").tolist() == [1.0, 0.0, 1.0]
    live.learn(stream.click("u", "east"))
    expected = np.array([0.25, 0.75]) / np.hypot(0.25, 0.75)
    assert user(live, "u")[:2] == pytest.approx(expected)


def test_a_user_of_whom_nothing_is_known_is_served_popularity(stream: Stream) -> None:
    live = live_on(stream)
    live.learn(stream.click("v", "east"))
    scores = live.item_vectors() @ user(live, "nobody")
    assert scores[1] > scores[0]


def test_the_prior_is_the_log_of_the_decayed_count(stream: Stream) -> None:
    live = live_on(stream)
    for _ in range(3):
        live.learn(stream.click("u", "north"))
    step = 2 ** (1 / CONFIG.popularity_half_life)
    mass = step + step**2 + step**3 + CONFIG.popularity_floor
    prior = CONFIG.popularity_weight * np.log(mass)
    assert live.item_vectors()[0, 2] == pytest.approx(prior, rel=1e-5)


def test_a_new_item_lands_beside_the_popular_one_of_its_text(stream: Stream) -> None:
    live = live_on(stream)
    for _ in range(5):
        live.learn(stream.click("u", "north"))
    live.learn(stream.item("northish", (0.9, 0.1, 0.0)))
    placed = live.item_vectors()[2]
    assert placed[:2] == pytest.approx([1.0, 0.0], abs=1e-3)
    # It may expect the count of its like, so popularity does not sink it.
    assert placed[2] == pytest.approx(live.item_vectors()[0, 2], abs=0.01)


def test_an_item_is_placed_by_its_image_where_it_has_no_text(stream: Stream) -> None:
    stream.item("south", (-1.0, 0.0, 0.0), image=(1.0, 0.0))
    stream.item("west", image=(0.0, 1.0))
    z = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)
    by_plan = CONFIG.model_copy(update={"cold_map": False})
    live = LiveModel(stream.graph, by_plan).successor(version(z))
    live.learn(stream.item("both", (0.0, 1.0, 0.0), image=(1.0, 0.0)))
    live.learn(stream.item("pictured", image=(0.1, 0.9)))
    np.testing.assert_allclose(live.item_vectors()[4:, :2], z[[1, 3]], atol=1e-3)


def test_the_terms_served_are_the_versions(stream: Stream) -> None:
    live = live_on(stream)
    for _ in range(5):
        live.learn(stream.click("u", "north"))
    terms = Terms(0.2, 1000.0, 0.4)
    coming = live.successor(version(np.eye(2, dtype=np.float32), 2, terms))
    mass = sum(2.0 ** (-age / 1000) for age in range(5)) + CONFIG.popularity_floor
    assert coming.item_vectors()[0, 2] == pytest.approx(0.2 * np.log(mass), rel=1e-5)
    coming.learn(stream.item("northish", (0.9, 0.1, 0.0)))
    assert coming.item_vectors()[2, 2] == pytest.approx(0.2 * np.log(mass) + 0.4, abs=0.01)
    again = LiveModel(stream.graph, CONFIG)
    again.use(version(np.eye(2, dtype=np.float32), 2, terms))
    again.restore(coming.to_arrays())
    assert np.array_equal(again.item_vectors(), coming.item_vectors())


def test_an_item_without_text_has_no_direction_until_it_is_learned(stream: Stream) -> None:
    live = live_on(stream)
    live.learn(stream.item("mystery"))
    assert live.item_vectors()[2, :2].tolist() == [0.0, 0.0]


def test_what_was_touched_is_told_once(stream: Stream) -> None:
    live = live_on(stream)
    live.learn(stream.click("u", "north"))
    live.learn(stream.click("v", "north"))
    touched, gone = live.take_touched()
    assert (touched.users.tolist(), touched.items.tolist()) == ([0, 1], [0])
    assert (gone.users, gone.items) == ((), ())
    again, _ = live.take_touched()
    assert len(again.users) == len(again.items) == 0


def test_removed_items_and_erased_users_are_gone_and_not_points(stream: Stream) -> None:
    live = live_on(stream)
    live.learn(stream.click("u", "north"))
    live.learn(stream.remove("north"))
    live.learn(stream.erase("u"))
    users, items, gone = changes(live)
    assert (gone.users, gone.items) == (("u",), ("north",))
    assert (list(users.ids), list(items.ids)) == ([], [])
    assert [list(points.ids) for _, points in all_points(live)] == [[], ["east"]]


def test_points_carry_what_can_be_filtered_by(stream: Stream) -> None:
    live = live_on(stream)
    *_, (_, items) = all_points(live)
    assert [payload["title"] for payload in items.payloads] == ["the north", "the east"]


def test_before_a_version_nothing_is_to_be_published(stream: Stream) -> None:
    live = LiveModel(stream.graph, CONFIG)
    live.learn(stream.click("u", "north"))
    touched, _ = live.take_touched()
    assert not live.ready
    assert len(touched.users) == 0


def test_a_successor_learns_beside_its_predecessor(stream: Stream) -> None:
    live = live_on(stream)
    live.learn(stream.click("u", "north"))
    coming = live.successor(version(np.eye(2, dtype=np.float32)[::-1].copy(), number=2))
    applied = stream.click("u", "east")
    for each in (live, coming):
        each.learn(applied)
    assert (live.version, coming.version) == (1, 2)
    # The new version has turned the map by a right angle, and the user with it.
    assert user(live, "u")[:2].tolist() == pytest.approx(user(coming, "u")[1::-1].tolist())
    assert live.last.counts() == pytest.approx(coming.last.counts())


def test_state_and_back(stream: Stream) -> None:
    live = live_on(stream)
    live.learn(stream.click("u", "north"))
    live.learn(stream.item("northish", (0.9, 0.1, 0.0)))
    again = LiveModel(stream.graph, CONFIG)
    again.use(version(np.eye(2, dtype=np.float32)))
    again.restore(live.to_arrays())
    assert np.array_equal(again.item_vectors(), live.item_vectors())
    assert np.array_equal(user(again, "u"), user(live, "u"))


def test_who_was_erased_and_came_back_is_written_after_the_tombstone(stream: Stream) -> None:
    live = live_on(stream)
    live.learn(stream.click("u", "north"))
    live.learn(stream.erase("u"))
    live.learn(stream.click("u", "east"))
    live.learn(stream.click("v", "east"))
    assert next(list(points.ids) for _, points in all_points(live)) == ["u", "v"]
    users, _, gone = changes(live)
    assert (list(users.ids), gone.users) == (["u"], ("u",))


def test_what_an_erased_user_did_counts_no_more(stream: Stream) -> None:
    live = live_on(stream)
    for name in ("ann", "bob", "ann"):
        live.learn(stream.click(name, "north"))
    live.learn(stream.click("bob", "east"))
    live.take_touched()
    alone = live.last.counts().copy()
    live.learn(stream.erase("ann"))
    touched, gone = live.take_touched()
    assert gone.users == ("ann",)
    assert [stream.graph.items.name(n) for n in touched.items.tolist()] == ["north"]
    north, east = live.last.counts().tolist()
    decay = 0.5 ** (1 / live.last.terms.half_life)
    assert east == pytest.approx(alone[1])
    assert north == pytest.approx(decay**2)
    live.learn(stream.erase("ann"))
    assert not len(live.take_touched()[0].items)
