"""What the tests of serving share: a small world, a follower that stands still, a faulty index."""

import json
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from consumers.breaker import Breaker
from consumers.campaigns import Campaigns
from consumers.finder import Finder, Found, IndexFinder, Query
from consumers.follower import Follower
from consumers.index import Space, VectorIndex
from consumers.ladder import Ladder
from consumers.live import LiveModel
from consumers.manifest_steps import Collections
from consumers.points import item_points
from consumers.remembered import LastGood
from consumers.texts import Texts
from consumers.versions import Version, Versions
from consumers.world import World
from model.config import ModelConfig
from model.recency import plain
from model.state import ModelState
from stream.batch import Partition, RecordBatch
from stream.clock import ManualClock
from stream.codec import Codec, Limits
from stream.deadline import Deadline
from stream.graph import Graph
from stream.ordering import Orderer
from stream.state import State

CONFIG = ModelConfig(dim=4, context=4, half_lives=(1,))
NOW = 1_767_312_000_000_000  # 2026-01-02T00:00:00Z
TOPIC = Partition("t", 0)
ITEMS = 24
PAIR = Collections(version=1, items="s-items-1", users="s-users-1")
DEADLINE_S = 5.0


class FixedVersion(Version):
    """A version whose arrays are at hand."""

    def load(self) -> ModelState:
        state = self.meta["state"]
        assert isinstance(state, ModelState)
        return state


def version(items: int, number: int = 1, seed: int = 1) -> Version:
    """A version of random unit vectors."""
    z = np.random.default_rng(seed).normal(size=(items, CONFIG.dim)).astype(np.float32)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    recency = plain(np.full(CONFIG.context, 0.25, np.float32))
    parameters = {"embedding": z, "log_weights": recency.position, "log_gaps": recency.gap}
    state = ModelState(z, recency, np.ones(items, np.bool_), parameters, trained_upto=0)
    return FixedVersion(number, 1, Path(), {"state": state})


class Messages:
    """Makes messages a second apart, and batches of them."""

    def __init__(self) -> None:
        self._n = 0

    def one(self, type_: str, **more: object) -> bytes:
        self._n += 1
        at = f"2026-01-01T{self._n // 3600:02}:{self._n // 60 % 60:02}:{self._n % 60:02}Z"
        event = {"type": type_, "event_id": f"e{self._n}", "occurred_at": at, **more}
        return json.dumps(event).encode()

    def batch(self, values: Sequence[bytes]) -> RecordBatch:
        offsets = np.arange(self._n, self._n + len(values))
        return RecordBatch(TOPIC, offsets, values, int(offsets[-1]) + 1)


def items(messages: Messages) -> list[bytes]:
    """Items i0 .. i23: of category c0 .. c2 in turn; every fourth of a campaign; i5 expires."""
    return [
        messages.one(
            "item",
            item_id=f"i{n}",
            title=f"item {n}",
            categories=[f"c{n % 3}"],
            price=float(n),
            **({"campaign_id": f"k{n % 8 // 4}"} if n % 4 == 0 else {}),
            **({"expires_at": "2026-01-02T00:00:00Z"} if n == 5 else {}),
        )
        for n in range(ITEMS)
    ]


def small_world(clock: ManualClock) -> tuple[World, Messages]:
    """Users u0 .. u5 who clicked two items each, u0 first."""
    graph, messages = Graph(), Messages()
    live = LiveModel(graph, CONFIG)
    codec = Codec(Limits(), clock)
    campaigns = Campaigns(graph, clock)
    texts = Texts(graph.catalog, None)
    world = World(State(graph, Orderer()), live, codec, texts, campaigns, snapshot=1)
    told = items(messages)
    for user in range(6):
        clicked = (2 * user, 2 * user + 1)
        told += [messages.one("click", user_id=f"u{user}", item_id=f"i{n}") for n in clicked]
    world.take(messages.batch(told))
    live.use(version(ITEMS))
    world.adopt(live, PAIR)
    return world, messages


@dataclass
class Faulty:
    """A finder that does as told: answers, fails, or gives what it is given."""

    within: Finder
    fault: Exception | None = None
    instead: list[Found] | None = None
    asked: list[tuple[str, Sequence[Query]]] = field(default_factory=list)

    def find(self, collection: str, queries: Sequence[Query], deadline: Deadline) -> list[Found]:
        self.asked.append((collection, queries))
        if self.fault is not None:
            raise self.fault
        if self.instead is not None:
            return self.instead
        return self.within.find(collection, queries, deadline)

    def holds(self, collection: str, deadline: Deadline) -> bool:
        if self.fault is not None:
            raise self.fault
        return self.within.holds(collection, deadline)

    def close(self) -> None:
        self.within.close()


class Still(Follower):
    """A follower of a world that only a test changes."""

    def __init__(self, world: World | None, clock: ManualClock) -> None:
        super().__init__(
            latest=lambda: 1,
            restore=lambda: world,
            versions=Versions(Path("nowhere")),
            manifest=Path("nowhere"),
            clock=clock,
        )
        self._still = world
        self._guard = threading.Lock()
        self.trouble = None if world is not None else "there is no snapshot yet"

    @contextmanager
    def reading(self) -> Generator[World | None]:
        with self._guard:
            yield self._still

    @property
    def published(self) -> Collections | None:
        return None if self._still is None else self._still.pair


@dataclass
class Parts:
    """A ladder and all it stands on."""

    world: World
    messages: Messages
    finder: Faulty
    clock: ManualClock
    ladder: Ladder
    follower: Still
    index: VectorIndex

    def index_campaigns(self) -> None:
        """Have the index know of campaigns what the world does."""
        told = self.world.campaigns.fields
        names = self.world.graph.catalog.campaigns
        after = self.index.last_sequence(PAIR.items) + 1
        self.index.set_payload(PAIR.items, {name: told(name) for name in names}, sequence=after)

    def tell(self, type_: str, **fields: object) -> None:
        """Have the world take up one more event."""
        self.world.take(self.messages.batch([self.messages.one(type_, **fields)]))
        self.world.campaigns.changed()
        self.world.freshen()

    def answer(self, *wishes: Any) -> Any:
        """The answer to a wish, or those to several."""
        found = self.ladder.answer(wishes, Deadline.after(DEADLINE_S))
        return found[0] if len(wishes) == 1 else found


def make_parts(index: VectorIndex) -> Parts:
    """A small world whose items are in an index, and a ladder over both."""
    clock = ManualClock(NOW)
    world, messages = small_world(clock)
    points = item_points(world.live, np.arange(ITEMS, dtype=np.int32))
    index.create(PAIR.items, Space.ITEMS, CONFIG.dim + 1)
    index.upsert(PAIR.items, Space.ITEMS, points, epoch=1, sequence=1)
    finder = Faulty(IndexFinder(index))
    follower = Still(world, clock)
    ladder = Ladder(follower, finder, Breaker(clock), LastGood(), clock, np.random.default_rng(1))
    return Parts(world, messages, finder, clock, ladder, follower, index)
