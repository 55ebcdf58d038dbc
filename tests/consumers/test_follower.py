"""A follower restores, reads on, adopts what is published, and begins again when it must."""

import gc
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from consumers import serving
from consumers.errors import ServerUnavailable
from consumers.follower import Follower
from consumers.lifecycle import Background
from consumers.manifest import Manifest
from consumers.manifest_steps import Collections, Gates, Origin, Published
from consumers.reconnecting import Reconnecting
from consumers.remembered import LastGood, Remembered
from consumers.settings import Settings
from consumers.tally import Tally
from consumers.versions import Versions
from consumers.world import World
from model.state import ModelState
from stream.batch import Partition, RecordBatch
from stream.clock import ManualClock
from stream.deadline import Deadline
from stream.errors import RetentionPassed, SourceError
from stream.snapshot import SnapshotStore
from stream.state import JSON
from tests.consumers.serving_parts import (
    CONFIG,
    ITEMS,
    NOW,
    TOPIC,
    Faulty,
    Messages,
    small_world,
    version,
)


@dataclass
class Tape:
    """A source that gives what it is given, or fails."""

    batches: list[RecordBatch] = field(default_factory=list)
    fault: Exception | None = None
    opened_at: list[Mapping[Partition, int]] = field(default_factory=list)
    closed: int = 0
    exhausted: bool = False

    def open(self, positions: Mapping[Partition, int]) -> "Tape":
        self.opened_at.append(dict(positions))
        return self

    def poll(self, max_records: int, timeout_s: float) -> Sequence[RecordBatch]:
        if self.fault is not None:
            raise self.fault
        found, self.batches = self.batches, []
        return found

    def lag(self) -> Mapping[Partition, int]:
        return {TOPIC: sum(map(len, self.batches))}

    def close(self) -> None:
        self.closed += 1

    def seek(self, positions: Mapping[Partition, int]) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def advise(self, positions: Mapping[Partition, int]) -> None: ...


@dataclass
class Site:
    """A state folder, whoever writes it, and a follower of it."""

    settings: Settings
    clock: ManualClock
    world: World
    messages: Messages
    tape: Tape
    last_good: LastGood
    follower: Follower
    store: SnapshotStore

    def commit(self) -> None:
        extra: dict[str, JSON] = {"tally": Tally().to_json(), "version": self.world.live.version}
        self.world.state.extra = extra
        self.world.state.arrays = self.world.live.to_arrays()
        self.store.commit(self.world.state)

    def learn(self, seed: int) -> int:
        """Write a model version; its number."""
        state = cast(ModelState, version(ITEMS, seed=seed).meta["state"])
        names = tuple(self.world.graph.items.names[:ITEMS])
        return Versions(self.settings.models_dir).write(state, names, 1, {}).number

    def publish(self, number: int) -> Collections:
        pair = Collections(version=number, items=f"x-items-{number}", users=f"x-users-{number}")
        manifest = Manifest(self.settings.state / "manifest.jsonl", self.clock)
        gates = Gates(items=1, users=1, probes=1, k=1, overlap=1.0)
        manifest.append(
            Published(collections=pair, origin=Origin(), aliases={}, sequence=1, gates=gates)
        )
        manifest.close()
        return pair

    def step(self) -> int:
        self.clock.advance(1_000_000)
        return self.follower.step()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    settings = Settings(state=tmp_path, model=CONFIG.model_dump_json())
    clock, tape, last_good = ManualClock(NOW), Tape(), LastGood()
    world, messages = small_world(clock)
    follower = serving.open_follower(settings, clock, last_good)
    follower.read_on = lambda state: tape.open(state.positions)
    store = SnapshotStore(settings.graph_dir, clock)
    made = Site(settings, clock, world, messages, tape, last_good, follower, store)
    made.learn(1)
    return made


@pytest.fixture(autouse=True)
def _closed(site: Site) -> object:
    yield
    site.store.close()
    stop = threading.Event()
    stop.set()
    site.follower.run(stop)  # gives everything back


def test_without_a_snapshot_it_waits_and_says_so(site: Site) -> None:
    assert site.step() == 0
    assert "no snapshot yet" in str(site.follower.trouble)
    with site.follower.reading() as world:
        assert world is None


def test_it_restores_reads_on_and_gives_the_same_vectors(site: Site) -> None:
    site.commit()
    pair = site.publish(1)
    message = site.messages.one("click", user_id="u1", item_id="i20")
    batch = site.messages.batch([message])
    site.tape.batches = [batch]
    assert site.step() == 1
    assert site.tape.opened_at == [site.world.state.positions]
    site.world.take(batch)
    with site.follower.reading() as world:
        assert world is not None
        assert (world.pair, world.live.version) == (pair, 1)
        theirs, ours = site.world.user("u1"), world.user("u1")
        assert theirs is not None and ours is not None
        assert np.array_equal(ours.vector, theirs.vector) and "i20" in ours.seen
        assert world.popular(5) == site.world.popular(5)
    site.step()
    assert (site.follower.lag, site.follower.applied) == (0, 1)


def test_it_adopts_a_version_when_it_is_published_and_not_before(site: Site) -> None:
    site.commit()
    site.publish(1)
    site.step()
    number = site.learn(2)
    site.step()
    with site.follower.reading() as world:
        assert world is not None and world.live.version == 1
        before = world.user("u1")
    pair = site.publish(number)
    site.step()
    with site.follower.reading() as world:
        assert world is not None
        assert (world.live.version, world.pair) == (2, pair)
        after = world.user("u1")
    assert before is not None and after is not None
    assert not np.allclose(before.vector, after.vector)


def test_a_version_of_a_rebuilt_state_waits_for_that_state(site: Site) -> None:
    """Numbers of users and items mean others then: it must not be laid over the old ones."""
    site.commit()
    first = site.publish(1)
    site.step()
    state = cast(ModelState, version(ITEMS, seed=2).meta["state"])
    names = tuple(site.world.graph.items.names[:ITEMS])
    versions = Versions(site.settings.models_dir)
    second = site.publish(versions.write(state, names, 2, {"numbering": 1}).number)
    site.step()
    with site.follower.reading() as world:
        assert world is not None
        assert (world.pair, world.live.version) == (first, 1)
    site.world.state.numbering = 1
    site.commit()
    site.step()
    with site.follower.reading() as world:
        assert world is not None
        assert (world.pair, world.live.version, world.state.numbering) == (second, 2, 1)


def test_an_erased_user_is_forgotten_in_the_last_lists_too(site: Site) -> None:
    site.commit()
    site.last_good.keep(("u1", "x"), Remembered([], 1, 0))
    site.last_good.keep(("u2", "x"), Remembered([], 1, 0))
    site.tape.batches = [site.messages.batch([site.messages.one("erase_user", user_id="u1")])]
    site.step()
    assert site.last_good.get(("u1", "x")) is None and site.last_good.get(("u2", "x"))


def run_until(site: Site, done: Callable[[], bool]) -> None:
    """Let it follow in its thread until something is so."""
    loop = Background("follower", site.follower.run)
    loop.start()
    until = Deadline.after(20.0)
    while not done():
        assert not until.passed, site.follower.trouble
    loop.close()
    assert loop.fault is None


def test_a_topic_that_fails_is_opened_again_and_meanwhile_named(site: Site) -> None:
    site.commit()
    site.tape.fault = SourceError("the broker is gone")
    run_until(site, lambda: "broker is gone" in str(site.follower.trouble))
    assert site.tape.closed == 1
    with site.follower.reading() as world:
        assert world is not None  # it serves on
    site.tape.fault = None
    run_until(site, lambda: site.follower.trouble is None)


def test_what_was_deleted_is_made_up_by_a_newer_snapshot(site: Site) -> None:
    site.commit()
    site.step()
    site.tape.fault = RetentionPassed("deleted")
    site.world.take(site.messages.batch([site.messages.one("click", user_id="n", item_id="i1")]))
    site.commit()

    def again() -> bool:
        with site.follower.reading() as world:
            return world is not None and world.snapshot == 2

    run_until(site, again)
    with site.follower.reading() as world:
        assert world is not None and world.user("n") is not None


def test_without_a_topic_newer_snapshots_are_served(site: Site) -> None:
    site.follower.read_on, settled = None, list[int]()
    site.follower.settle = lambda: settled.append(site.store.latest())
    site.commit()
    site.step()
    site.step()
    site.world.take(site.messages.batch([site.messages.one("click", user_id="n", item_id="i1")]))
    site.commit()
    site.step()
    with site.follower.reading() as world:
        assert world is not None and world.user("n") is not None
    assert settled == [1, 2], "once for each state that was restored"


def test_what_has_settled_is_looked_at_by_the_collector_no_more() -> None:
    before = gc.get_freeze_count()
    try:
        held = [[n] for n in range(1_000)]
        serving.settle()
        assert gc.get_freeze_count() >= before + len(held)
        more = [[n] for n in range(1_000)]
        serving.settle()
        assert gc.get_freeze_count() >= before + len(held) + len(more)
    finally:
        gc.unfreeze()


def test_a_loop_that_ends_by_a_fault_is_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    def loop(_: threading.Event) -> None:
        raise ZeroDivisionError("oh")

    background = Background("a loop", loop)
    background.start()
    background.close()
    assert background.fault == "a loop has ended: ZeroDivisionError: oh"
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_an_index_that_cannot_be_opened_yet_is_unavailable_until_it_is() -> None:
    there: list[Faulty] = []

    def open_() -> Faulty:
        if not there:
            raise ServerUnavailable("not yet")
        return there[0]

    finder = Reconnecting(open_)
    assert not finder.try_open()
    with pytest.raises(ServerUnavailable, match="not yet"):
        finder.find("c", [], Deadline.after(1.0))
    there.append(Faulty(finder, instead=[[]]))
    assert finder.try_open()
    assert finder.find("c", [], Deadline.after(1.0)) == [[]]
