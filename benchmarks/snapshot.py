"""Whether a snapshot costs what has changed, or what there is.

Run: ``python benchmarks/snapshot.py``. The same 10,000 changes (9,000 new edges, 1,000 clicked
impressions) are saved to a store of 0.1M edges and to one of 10M. Progress goes to stderr; the
last line of stdout is JSON: ``cost_ratio`` of the median CPU time of a commit, large over small,
``wall_ratio`` with the waiting for the disk, ``bytes_ratio`` of what was written.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream.batch import EventBatch, Kind, Partition
from stream.clock import SystemClock
from stream.graph import Graph
from stream.ordering import Orderer
from stream.snapshot import SnapshotStore
from stream.state import State

SMALL, LARGE, CHANGED, ROUNDS = 100_000, 10_000_000, 10_000, 15
RETIRED = 1_000  # of the changed edges
USERS, ITEMS = 50_000, 20_000
PARTITION = Partition("events", 0)


class Traffic:
    """Clicks and impressions of a fixed population; some clicks answer older impressions."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._users = [f"user-{i:08}" for i in range(USERS)]
        self._items = [f"item-{i:08}" for i in range(ITEMS)]
        self._open: list[str] = []
        self._made = 0

    def batch(self, n: int, answers: int = 0) -> EventBatch:
        """``n`` events, the first ``answers`` of them clicks on impressions of before."""
        ids = [f"0190a2b4-{self._made + i:012x}-7c3e" for i in range(n)]
        kind = np.where(self._rng.random(n) < 0.3, Kind.IMPRESSION, Kind.CLICK).astype(np.uint8)
        kind[:answers] = Kind.CLICK
        refers = [""] * n
        if answers:
            picked = self._rng.choice(len(self._open), answers, replace=False)
            refers[:answers] = [self._open[i] for i in picked.tolist()]
        self._open += [ids[i] for i in np.flatnonzero(kind == Kind.IMPRESSION).tolist()]
        del self._open[:-100_000]
        self._made += n
        return EventBatch(
            partition=PARTITION,
            row=np.arange(n),
            offsets=np.arange(self._made - n, self._made),
            kind=kind,
            time_us=np.arange(self._made - n, self._made) * 1_000,
            event_id=ids,
            user=self._names(self._users, n),
            item=self._names(self._items, n),
            refers_to=refers,
        )

    def _names(self, names: list[str], n: int) -> list[str]:
        at: NDArray[np.int64] = self._rng.integers(len(names), size=n)
        return [names[i] for i in at.tolist()]


def feed(state: State, batch: EventBatch) -> None:
    """Apply a batch."""
    state.graph.apply(batch, state.orderer.admit(batch).keep)


def measure(edges: int, root: Path, rng: np.random.Generator) -> dict[str, float]:
    """Medians over commits of the same change."""
    traffic, state = Traffic(rng), State(Graph(), Orderer())
    while state.graph.edges.next < edges:
        feed(state, traffic.batch(min(50_000, edges - state.graph.edges.next)))
    store = SnapshotStore(root, SystemClock())
    first = store.commit(state)
    print(f"{edges:,} edges: first commit wrote {first.bytes_written:,} B", file=sys.stderr)
    cpu: list[float] = []
    wall: list[float] = []
    size: list[int] = []
    for _ in range(ROUNDS):
        feed(state, traffic.batch(CHANGED - RETIRED, answers=RETIRED))
        start, began = time.process_time(), time.perf_counter()
        info = store.commit(state)
        cpu.append(time.process_time() - start)
        wall.append(time.perf_counter() - began)
        size.append(info.bytes_written)
    store.close()
    start = time.perf_counter()
    SnapshotStore(root, SystemClock()).load()
    return {
        "cpu_ms": float(np.median(cpu)) * 1e3,
        "wall_ms": float(np.median(wall)) * 1e3,
        "bytes": float(np.median(size)),
        "load_s": time.perf_counter() - start,
    }


def main() -> None:
    rng = np.random.default_rng(11)
    with tempfile.TemporaryDirectory() as folder:
        small = measure(SMALL, Path(folder) / "small", rng)
        print(f"small: {small}", file=sys.stderr)
        large = measure(LARGE, Path(folder) / "large", rng)
        print(f"large: {large}", file=sys.stderr)
    result = {
        "cost_ratio": round(large["cpu_ms"] / small["cpu_ms"], 3),
        "wall_ratio": round(large["wall_ms"] / small["wall_ms"], 3),
        "bytes_ratio": round(large["bytes"] / small["bytes"], 3),
        "commit_cpu_ms": round(large["cpu_ms"], 2),
        "commit_wall_ms": round(large["wall_ms"], 2),
        "load_s": round(large["load_s"], 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
