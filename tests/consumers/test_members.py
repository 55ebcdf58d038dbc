"""What members share, and what is refused; how they behave together: tests/faults/test_group.py."""

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from consumers import programs, wiring
from consumers.edge_index import EdgeIndex
from consumers.errors import SettingsError, Superseded
from consumers.frontier import Frontier
from consumers.gone import Gone
from consumers.homes import FOLDER, FRONTIER, Home, newest_in, partitions_in, refuse_members
from consumers.index import Space
from consumers.inputs import Inputs
from consumers.item_news import FILE, News, NewsReader, NewsWriter
from consumers.joining import joined, open_cell, same_partitions
from consumers.lanes import Lanes
from consumers.lifecycle import Stop
from consumers.live import LiveModel
from consumers.manifest_steps import Begun, Collections
from consumers.publisher import Publisher
from consumers.renumbered import renumbered
from consumers.settings import Settings
from consumers.versions import Versions
from model.state import ModelState
from stream.batch import Partition
from stream.clock import SystemClock
from stream.errors import SnapshotCorrupt
from stream.graph import Graph
from stream.ordering import Orderer, OrderingConfig
from stream.snapshot import SnapshotStore
from stream.state import State
from stream.view import GraphConfig
from tests.consumers.publishing import NAMES, Shared, points, publish, stored
from tests.faults.nursery import MODEL, learned, recency

A, B = Partition("ads", 0), Partition("ads", 1)
PAIR = Collections(version=1, items="t-items-1", users="t-users-1")


class Ticking:
    """A second later at every look."""

    def __init__(self) -> None:
        self._now_us = 0

    def now_us(self) -> int:
        self._now_us += 1_000_000
        return self._now_us


# -- lanes


@pytest.fixture
def lanes(tmp_path: Path) -> "Callable[[], Lanes]":
    index = Shared(EdgeIndex(tmp_path / "index"))

    def open_() -> Lanes:
        return Lanes(index, tmp_path / "manifest", SystemClock())  # type: ignore[arg-type]

    first = Publisher(index, tmp_path / "manifest", NAMES, SystemClock())  # type: ignore[arg-type]
    publish(first, 1)
    return open_


def test_who_was_taken_over_from_writes_nothing(lanes: Callable[[], Lanes]) -> None:
    old, new = lanes(), lanes()
    before = old.claim(A)
    assert before.write(PAIR, points(["u1"], 1))
    other = old.claim(B)
    after = new.claim(A)
    assert after.generation > other.generation > before.generation
    for forbidden in (
        lambda: before.write(PAIR, points(["u1"], 2)),
        lambda: before.bury(PAIR, Gone(users=("u1",))),
        lambda: before.filled(PAIR, 1),
        before.check,
    ):
        with pytest.raises(Superseded, match=r"has taken over the users of ads\[0\] from"):
            forbidden()
    assert other.write(PAIR, points(["u2"], 3))  # another partition is another matter


def test_who_is_taken_over_from_in_the_midst_of_a_commit_lets_go(
    lanes: Callable[[], Lanes], tmp_path: Path
) -> None:
    settings, news = Settings(state=tmp_path), NewsReader(tmp_path)
    cell = open_cell(settings, A, lanes(), news, SystemClock())

    def taken_over(_: object) -> None:
        """It sleeps, and its successor deletes what it has left."""
        cell.pipeline.snapshots.step = lambda _: None
        open_cell(settings, A, lanes(), news, SystemClock()).close()
        shutil.rmtree(tmp_path / FOLDER / "ads-0" / f"{cell.lane.generation:010}")

    cell.pipeline.snapshots.step = taken_over
    with closing(cell), pytest.raises(Superseded):
        cell.commit()


def test_what_is_on_its_way_loses_to_the_successor(lanes: Callable[[], Lanes]) -> None:
    old, new = lanes(), lanes()
    before, after = old.claim(A), new.claim(A)
    assert after.write(PAIR, points(["u1"], 5))
    late = (before.generation << 32) + 9
    old.index.upsert(PAIR.users, Space.USERS, points(["u1"], 6), epoch=1, sequence=late)
    expected = float(points(["u1"], 5).vectors[0, 0])
    assert stored(new.index, PAIR.users, Space.USERS, "u1") == pytest.approx(expected)


def test_only_a_pair_that_is_coming_can_be_filled(lanes: Callable[[], Lanes]) -> None:
    own = lanes()
    lane = own.claim(A)
    assert not lane.filled(PAIR, 3)  # it is live
    coming = Collections(version=2, items="t-items-2", users="t-users-2")
    assert not lane.write(coming, points(["u1"], 1))  # given up, or never begun
    own.record.append(Begun(collections=coming))
    assert own.record.refresh().missing(["ads[0]", "ads[1]"]) == ["ads[0]", "ads[1]"]
    assert lane.filled(coming, 3)
    assert own.record.refresh().missing(["ads[0]", "ads[1]"]) == ["ads[1]"]
    own.claim(A)  # whoever has it now has said nothing yet
    assert own.record.refresh().missing(["ads[0]"]) == ["ads[0]"]


# -- homes


def saved(folder: Path, user: str) -> None:
    state = State(Graph(GraphConfig()), Orderer(OrderingConfig()))
    state.graph.users.intern([user])
    state.positions[A] = 7
    store = SnapshotStore(folder, SystemClock())
    store.commit(state)
    store.close()


def load(home: Home, before: int) -> list[str]:
    state = home.state(before, SystemClock(), GraphConfig(), OrderingConfig())
    return [] if state is None else list(state.graph.users.names)


def test_the_newest_valid_state_of_those_before_is_gone_on_with(tmp_path: Path) -> None:
    home = Home(tmp_path, A)
    assert load(home, 9) == []
    saved(home.at(3), "three")
    saved(home.at(12), "twelve")
    home.at(14).mkdir()  # opened and killed before it had saved anything
    assert load(home, 20) == ["twelve"]
    assert load(home, 12) == ["three"]
    assert newest_in(home.at(3).parent) == home.at(12)
    for path in (home.at(12) / "snapshots").glob("*.json"):
        path.write_bytes(b"{}")
    assert load(home, 20) == ["three"]
    home.forget(12)
    assert not home.at(3).exists()
    with pytest.raises(SnapshotCorrupt):
        load(home, 20)


def test_readers_have_seen_what_any_writer_before_has_shown_them(tmp_path: Path) -> None:
    home = Home(tmp_path, A)
    for generation, offset in ((3, 40), (12, 30)):
        home.at(generation).mkdir(parents=True)
        frontier = Frontier(home.at(generation) / FRONTIER)
        assert frontier.reached({A: offset})
        frontier.close()
    assert home.frontier(12) == {A: 40}
    own = Frontier(tmp_path / "own")
    own.inherit(home.frontier(20))
    assert not own.reached({A: 39})
    own.close()
    again = Frontier(tmp_path / "own")  # it was on the disk before anything was written
    assert again.ahead == {A: 40}
    assert again.reached({A: 40})
    again.close()


@pytest.mark.parametrize("topic", ["../x", "a/b", ".", "..", "", "x" * 250, "a\0b", "a\n"])
def test_a_topic_is_no_path(tmp_path: Path, topic: str) -> None:
    with pytest.raises(SettingsError, match="not a name that Kafka allows"):
        Home(tmp_path, Partition(topic, 0))


# -- items


def model_of(items: list[str], number: int, root: Path) -> LiveModel:
    """A model under a version that has learned the first two items."""
    graph = Graph()
    graph.items.intern(items)
    live = LiveModel(graph, MODEL)
    vectors, weights = np.stack([learned(name) for name in ("i0", "i1")]), recency()
    parameters = {"embedding": vectors, "log_weights": weights.position, "log_gaps": weights.gap}
    if number not in Versions(root).numbers():
        state = ModelState(vectors, weights, np.ones(2, np.bool_), parameters, 0)
        Versions(root).write(state, ("i0", "i1"), 1, {})
    return live.successor(renumbered(Versions(root).open(number), graph.items))


def test_a_version_is_taken_by_the_names_of_its_items(tmp_path: Path) -> None:
    live = model_of(["i9", "i1"], 1, tmp_path)
    names = live.graph.items.names
    assert names == ["i9", "i1", "i0"]
    np.testing.assert_array_equal(
        live.learned_vectors(np.arange(3, dtype=np.int32)),
        [np.zeros(MODEL.dim), learned("i1"), learned("i0")],
    )
    assert live.known_by(0) == "nothing"
    assert live.known_by(1) == "events"


def test_what_is_said_of_items_arrives_under_other_numbers(tmp_path: Path) -> None:
    whole = model_of(["i0", "i1", "new", "gone", "back"], 1, tmp_path / "models")
    whole.given(np.array([2], np.int32), learned("new")[None])
    whole.graph.catalog.follow(3, announced_us=4, removed_us=9)
    whole.graph.catalog.follow(4, announced_us=4, removed_us=3)
    writer, reader = NewsWriter(tmp_path, Ticking()), NewsReader(tmp_path)
    assert not reader.look()
    writer.note((whole,))
    assert reader.look() and not reader.look()
    member = model_of(["gone", "new"], 1, tmp_path / "models")
    reader.last.told(member)
    items = member.graph.items
    new, gone, back = (int(items.find([name])[0]) for name in ("new", "gone", "back"))
    np.testing.assert_array_equal(
        member.learned_vectors(np.array([new], np.int32))[0], learned("new")
    )
    assert member.graph.catalog.removed(len(items))[[new, gone, back]].tolist() == [
        False,
        True,
        False,
    ]
    writer.note((whole,))
    assert not reader.look()  # nothing new: nothing written
    whole.graph.catalog.follow(3, announced_us=10, removed_us=9)
    writer.note((whole,))
    assert reader.look()
    reader.last.told(member)
    assert not member.graph.catalog.removed(len(items))[gone]


@pytest.mark.parametrize("place", [0, 70, -1])
def test_news_that_were_damaged_are_not_believed(tmp_path: Path, place: int) -> None:
    NewsWriter(tmp_path, Ticking()).note((model_of(["i0"], 1, tmp_path / "models"),))
    content = bytearray((tmp_path / FILE).read_bytes())
    content[place] ^= 1
    (tmp_path / FILE).write_bytes(content)
    reader = NewsReader(tmp_path)
    assert not reader.look()
    assert reader.last == News()


# -- what is refused


def test_nobody_else_writes_the_users_of_members(tmp_path: Path) -> None:
    refuse_members(tmp_path, "anybody")
    Home(tmp_path / FOLDER, A).at(1).mkdir(parents=True)
    assert [path.name for path in partitions_in(tmp_path / FOLDER)] == ["ads-0"]
    settings = Settings(state=tmp_path)
    with pytest.raises(SettingsError, match="members keep users there"):
        programs.publish(settings)
    with (
        pytest.raises(SettingsError, match="members keep users there"),
        wiring.opened(settings, Inputs(), publish=True),
    ):
        pass


def test_members_need_servers(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no Kafka"), joined(Settings(state=tmp_path), Stop()):
        pass
    settings = Settings(state=tmp_path, kafka="127.0.0.1:1")
    with pytest.raises(SettingsError, match="give --qdrant"), joined(settings, Stop()):
        pass


def test_users_that_were_divided_otherwise_are_not_divided_again(tmp_path: Path) -> None:
    same_partitions(tmp_path, "ads", 4)
    same_partitions(tmp_path, "ads", 4)
    same_partitions(tmp_path, "ads", 2, grown=True)  # partition 1 is one of them
    for count in (3, 5):
        with pytest.raises(SettingsError, match=f"ads has {count} partitions, 4 when members"):
            same_partitions(tmp_path, "ads", count)
    with pytest.raises(SettingsError, match="ads has 5 partitions, 4 when members"):
        same_partitions(tmp_path, "ads", 5, grown=True)
