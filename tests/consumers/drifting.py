"""A state folder whose events can be made to drift, and versions that need no learning."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from consumers.finetuner import newest_graph
from consumers.scene import Scene
from consumers.series import Cut
from consumers.versions import Version, Versions
from model.recency import plain
from model.state import ModelState
from stream.batch import EventBatch, Kind, Partition
from stream.clock import SystemClock
from stream.graph import Graph
from stream.ordering import Orderer
from stream.snapshot import SnapshotStore
from stream.state import State

ITEMS, USERS, GROUPS, DIM, TOLD = 60, 40, 4, 8, 16
CUT = Cut(window=40, reference=10, null=10)
PARTITION = Partition("events", 0)


@dataclass
class World:
    """A state folder that events are added to."""

    root: Path
    graph: Graph
    rng: np.random.Generator
    done: int = 0

    def events(self, n: int, *, group: float = 0.25, shown: float = 0.0) -> None:
        """Clicks, of which ``group`` are on the first quarter of the items, and impressions."""
        quarter = ITEMS // GROUPS
        first = self.rng.random(n) < group
        rest = self.rng.integers(quarter, ITEMS, n)
        item = np.where(first, self.rng.integers(0, quarter, n), rest)
        passed = self.rng.random(n) < shown
        self.apply(self.rng.integers(0, USERS, n), item, passed)

    def apply(
        self, user: NDArray[np.int64], item: NDArray[np.int64], passed: NDArray[np.bool_]
    ) -> None:
        n, at = len(user), self.done
        batch = EventBatch(
            partition=PARTITION,
            row=np.arange(n),
            offsets=np.arange(at, at + n),
            kind=np.where(passed, Kind.IMPRESSION, Kind.CLICK).astype(np.uint8),
            time_us=np.arange(at, at + n) * 60_000_000,
            event_id=[f"e{i}" for i in range(at, at + n)],
            user=[f"u{i}" for i in user],
            item=[f"i{i}" for i in item],
            refers_to=[""] * n,
        )
        self.graph.apply(batch, np.arange(n))
        self.done += n

    def commit(self) -> None:
        store = SnapshotStore(self.root / "graph", SystemClock())
        store.commit(State(self.graph, Orderer(), positions={PARTITION: self.done}))
        store.close()

    def scene(self, version: Version) -> Scene:
        self.commit()
        return Scene(newest_graph(self.root / "graph", 10**15), version)

    def version(self, seed: int = 0, trained_upto: int = 0) -> Version:
        """A version whose items lie about the centre of their quarter, in a space of its own."""
        rng = np.random.default_rng(seed)
        centres = rng.standard_normal((GROUPS, DIM))
        numbers = [int(name[1:]) for name in self.graph.items.names]
        items = np.stack([centres[n * GROUPS // ITEMS] for n in numbers])
        items += 0.3 * np.random.default_rng(1).standard_normal(items.shape)
        items /= np.linalg.norm(items, axis=1, keepdims=True)
        recency = plain(np.ones(6, np.float32) / 6)
        parameters = {
            "embedding": items.astype(np.float32),
            "log_weights": np.zeros_like(recency.position),
            "log_gaps": np.zeros_like(recency.gap),
        }
        state = ModelState(
            items=items.astype(np.float32),
            recency=recency,
            learned=np.ones(len(items), np.bool_),
            parameters=parameters,
            moments={},
            steps=0,
            trained_upto=trained_upto,
        )
        names = tuple(self.graph.items.names)
        return Versions(self.root / "models").write(state, names, 1, {"edges": self.done})


def begun(root: Path) -> World:
    """A world in which every item has had a click."""
    found = World(root, Graph(), np.random.default_rng(0))
    found.apply(np.arange(ITEMS) % USERS, np.arange(ITEMS), np.zeros(ITEMS, np.bool_))
    return found
