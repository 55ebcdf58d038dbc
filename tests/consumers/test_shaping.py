"""What is written of what was touched, and that nothing waits for ever."""

from dataclasses import replace

import numpy as np
import pytest

from consumers.campaigns import Campaigns
from consumers.index import PointBatch
from consumers.live import LiveModel
from consumers.shaping import HELD, HOT, Shaper, ShapingRules
from stream.batch import Kind
from tests.consumers.test_live import CONFIG, Stream, live_on, version

RULES = ShapingRules(loss=0.01, patience_s=100.0, hot_every_s=20.0)


class Reader:
    """What readers see: a live model's points as they are written."""

    def __init__(self, stream: Stream, live: LiveModel, rules: ShapingRules = RULES) -> None:
        self.stream, self.live = stream, live
        self.campaigns = Campaigns(stream.graph)
        self.shaper = Shaper(rules, np.random.default_rng(0))
        self.items: dict[str, list[float]] = {}
        self.users: dict[str, list[float]] = {}

    def click(self, user: str, item: str) -> None:
        self.live.learn(self.stream.click(user, item))

    def show(self, user: str, item: str) -> None:
        self.live.learn(self.stream._apply(Kind.IMPRESSION, user, item, None))

    def refresh(self, **how: bool) -> tuple[list[str], list[str]]:
        users, items, gone = self.shaper.changes(self.live, self.campaigns, **how)
        self._take(self.users, users)
        self._take(self.items, items)
        for name in gone.users:
            if name not in users.ids:
                self.users.pop(name, None)
        return list(users.ids), list(items.ids)

    def exact(self) -> dict[str, list[float]]:
        names = self.stream.graph.items
        vectors = self.live.item_vectors().tolist()
        return {names.name(n): vector for n, vector in enumerate(vectors)}

    @staticmethod
    def _take(into: dict[str, list[float]], batch: PointBatch) -> None:
        into.update(zip(batch.ids, batch.vectors.tolist(), strict=True))


@pytest.fixture
def reader(stream: Stream) -> Reader:
    made = Reader(stream, live_on(stream))
    made.click("u", "north")
    made.click("u", "east")
    made.refresh()
    made.shaper.tolerance.threshold = 0.3
    return made


@pytest.fixture
def stream() -> Stream:
    stream = Stream()
    stream.item("north", (1.0, 0.0, 0.0))
    stream.item("east", (0.0, 1.0, 0.0))
    return stream


def popular(reader: Reader, item: str, clicks: int = 30) -> None:
    """So that a further click moves it little."""
    for n in range(clicks):
        reader.click(f"fan-{n}", item)
    reader.refresh(everything=True)


def test_an_item_that_was_only_shown_is_not_written(reader: Reader) -> None:
    reader.show("v", "north")
    assert reader.refresh() == (["v"], [])
    assert reader.shaper.waiting == 0


def test_one_that_moved_a_little_waits_and_no_longer_than_it_may(reader: Reader) -> None:
    popular(reader, "north")
    reader.click("u", "north")
    assert reader.refresh() == (["u"], [])
    assert reader.shaper.waiting == 1
    for _ in range(98):
        reader.show("v", "east")
    assert reader.refresh()[1] == []
    reader.show("v", "east")
    reader.show("v", "east")
    assert reader.refresh()[1] == ["north"]
    assert reader.items["north"] == reader.exact()["north"]
    assert reader.shaper.waiting == 0


def test_small_moves_add_up(stream: Stream) -> None:
    reader = Reader(stream, live_on(stream), replace(RULES, hot_every_s=0.0))
    popular(reader, "north")
    reader.shaper.tolerance.threshold = 0.02
    written = 0
    for _ in range(40):
        reader.click("u", "north")
        written += reader.refresh()[1] == ["north"]
        ahead = reader.exact()["north"][-1] - reader.items["north"][-1]
        assert ahead <= 0.02
    assert 0 < written < 10


def test_while_the_index_is_behind_a_move_must_be_larger(reader: Reader) -> None:
    popular(reader, "north", clicks=8)
    reader.shaper.tolerance.threshold = 0.02
    before = reader.items["north"][-1]
    for least, written in ((0.025, False), (0.025 * HELD, True)):
        for _ in range(60):
            if reader.exact()["north"][-1] - before < least:
                reader.click("u", "north")
        assert reader.exact()["north"][-1] - before >= least
        assert (reader.refresh(held=True)[1] == ["north"]) == written


def test_one_that_is_told_anew_is_written_at_once(reader: Reader) -> None:
    popular(reader, "north")
    reader.live.learn(reader.stream.item("north", (1.0, 0.0, 0.0)))
    assert reader.refresh()[1] == ["north"]
    reader.live.learn(reader.stream.item("fresh", (1.0, 0.0, 0.0)))
    assert reader.refresh()[1] == ["fresh"]


def test_a_removed_one_is_gone_and_comes_back_whole(reader: Reader) -> None:
    popular(reader, "north")
    reader.click("u", "north")
    reader.live.learn(reader.stream.remove("north"))
    _, items, gone = reader.shaper.changes(reader.live, reader.campaigns)
    assert (list(items.ids), gone.items) == ([], ("north",))
    reader.show("u", "east")
    reader.refresh()
    reader.live.learn(reader.stream.item("north", (1.0, 0.0, 0.0)))
    assert reader.refresh()[1] == ["north"]


def test_an_erasure_lets_nothing_wait(reader: Reader) -> None:
    popular(reader, "north")
    reader.click("ann", "north")
    assert reader.refresh()[1] == []
    reader.live.learn(reader.stream.erase("ann"))
    assert reader.refresh()[1] == ["north"]
    assert reader.items["north"] == reader.exact()["north"] and "ann" not in reader.users


def test_a_landmark_lets_nothing_wait(stream: Stream) -> None:
    half_life = 1.0
    config = CONFIG.model_copy(
        update={"popularity_half_life": half_life, "popularity_half_lives": (half_life,)}
    )
    live = LiveModel(stream.graph, config).successor(version(np.eye(2, dtype=np.float32)))
    reader = Reader(stream, live)
    reader.click("u", "north")
    reader.click("u", "east")
    reader.refresh()
    reader.shaper.tolerance.threshold = 1e9
    for n in range(250):
        reader.click("u", "north")
        _, items = reader.refresh()
        assert (items == ["north", "east"]) == (live.last.age == 1.0), n
    assert reader.exact()["east"] == reader.items["east"]


def test_who_is_touched_all_the_time_is_written_now_and_then(reader: Reader) -> None:
    written = 0
    for n in range(4 * HOT):
        reader.click("bot", "east")
        reader.show("person", "east") if n % 10 == 0 else None
        users, _ = reader.refresh()
        written += "bot" in users
        assert n % 10 or "person" in users
    assert HOT <= written <= HOT + 4 * HOT // 20 + 2
    reader.refresh(everything=True)
    [number] = reader.stream.graph.users.find(["bot"])
    exact = reader.live.user_vectors(np.array([number], np.int32))[0].tolist()
    assert reader.users["bot"] == exact


def test_a_hot_one_that_waits_is_written_without_another_touch(reader: Reader) -> None:
    for _ in range(HOT + 5):
        reader.click("bot", "east")
        users, _ = reader.refresh()
    assert "bot" not in users
    for _ in range(25):
        reader.show("v", "north")
        users, _ = reader.refresh()
        if "bot" in users:
            break
    assert "bot" in users


def test_what_waits_is_written_after_a_restart(reader: Reader) -> None:
    popular(reader, "north")
    for _ in range(2 * HOT + 5):
        reader.click("bot", "north")
        reader.refresh()
    assert reader.shaper.waiting == 2
    arrays = reader.shaper.to_arrays()
    again = Reader(reader.stream, reader.live)
    again.shaper.restore(arrays)
    users, items = again.refresh()
    assert (users, items) == (["bot"], ["north"])
    assert again.items["north"] == reader.exact()["north"]


def test_after_a_fill_only_what_moves_is_written(reader: Reader) -> None:
    popular(reader, "north")
    coming = reader.live.successor(version(np.eye(2, dtype=np.float32), 2))
    applied = reader.stream.click("u", "north")
    for live in (reader.live, coming):
        live.learn(applied)
    users, items, _ = reader.shaper.filled(coming, reader.campaigns)
    assert (list(users.ids), list(items.ids)) == (["u"], ["north"])
    reader.live = coming
    reader.refresh()
    reader.shaper.tolerance.threshold = 0.3
    reader.click("u", "north")
    assert reader.refresh() == (["u"], [])


def test_a_fill_that_fails_leaves_the_one_before_as_it_was(reader: Reader) -> None:
    popular(reader, "north")
    reader.click("u", "north")
    reader.refresh()
    reader.shaper.filled(
        reader.live.successor(version(np.eye(2, dtype=np.float32), 2)), reader.campaigns
    )
    reader.refresh()
    assert reader.shaper.waiting == 1
    assert reader.refresh(everything=True)[1] == ["north"]


def test_after_a_return_everything_touched_is_written(reader: Reader) -> None:
    popular(reader, "north")
    reader.live = reader.live.successor(version(np.eye(2, dtype=np.float32), 1))
    reader.live.touch_all()
    assert reader.refresh()[1] == ["north", "east"]


@pytest.mark.parametrize("seed", range(5))
def test_readers_are_never_further_behind_than_they_may_be(stream: Stream, seed: int) -> None:
    """Random streams with every kind of event; at the end all is as if nothing had waited."""
    rng = np.random.default_rng(seed)
    rules = replace(RULES, patience_s=40.0, hot_every_s=5.0)
    reader = Reader(stream, live_on(stream), rules)
    exact_since: dict[str, list[tuple[int, float]]] = {}
    for second in range(400):
        user, item = f"u{rng.integers(9)}", f"i{rng.integers(12)}"
        match rng.random():
            case x if x < 0.02:
                reader.live.learn(stream.erase(user))
            case x if x < 0.1:
                reader.live.learn(stream.item(item, tuple(rng.normal(size=3).tolist())))
            case x if x < 0.5:
                reader.show(user, item)
            case _:
                reader.click(user, item)
        if rng.random() < 0.7:
            reader.shaper.tolerance.threshold = 0.2
            reader.refresh()
            for name, vector in reader.exact().items():
                past = exact_since.setdefault(name, [])
                past.append((second, vector[-1]))
                lately = [value for at, value in past if at >= second - 45]
                near = min(abs(reader.items.get(name, vector)[-1] - value) for value in lately)
                assert near <= 1e-6, (name, second)
    reader.refresh(everything=True)
    exact = reader.exact()
    assert reader.items == {name: exact[name] for name in reader.items}
    assert reader.shaper.waiting == 0
    shaped = reader.shaper.shaped
    assert 0 < shaped.written < shaped.touched and shaped.saved == shaped.touched - shaped.written
