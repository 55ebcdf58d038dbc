"""What an edge costs in memory, and whether a batch costs more in a large graph than in a small.

Run: ``python benchmarks/graph.py``. Progress goes to stderr; the last line of stdout is JSON:
``bytes_per_edge`` (touched memory of a 10M-edge graph's edges and links, by the operating system's
account), ``batch_cost_ratio`` (the median batch into 10M edges over the one into 0.1M; events of
the same users and items), and microseconds an event of each part of the way.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream.batch import EventBatch, Kind, Partition
from stream.graph import Graph
from stream.ordering import Orderer

SMALL, LARGE, BATCH, ROUNDS = 100_000, 10_000_000, 5_000, 41
USERS, ITEMS = 50_000, 20_000
PARTITION = Partition("events", 0)
KINDS = np.array([Kind.CLICK] * 6 + [Kind.LIKE] + [Kind.IMPRESSION] * 3, np.uint8)


class Traffic:
    """Batches of events of a fixed population, Zipf-like, in time order."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._users = [f"user-{i:08}" for i in range(USERS)]
        self._items = [f"item-{i:08}" for i in range(ITEMS)]
        self._made = 0

    def batch(self, n: int) -> EventBatch:
        """The next ``n`` events."""
        user = _skewed(self._rng, USERS, n)
        item = _skewed(self._rng, ITEMS, n)
        first = self._made
        self._made += n
        return EventBatch(
            partition=PARTITION,
            row=np.arange(n),
            offsets=np.arange(first, first + n),
            kind=KINDS[self._rng.integers(len(KINDS), size=n)],
            time_us=np.arange(first, first + n) * 1_000,
            event_id=[f"0190a2b4-{i:012x}-7c3e" for i in range(first, first + n)],
            user=[self._users[u] for u in user.tolist()],
            item=[self._items[i] for i in item.tolist()],
            refers_to=[""] * n,
        )


def _skewed(rng: np.random.Generator, n: int, size: int) -> NDArray[np.int64]:
    return (n * rng.random(size) ** 2).astype(np.int64)


def grow(graph: Graph, orderer: Orderer, traffic: Traffic, edges: int) -> None:
    """Apply events until the graph has this many edges."""
    while graph.edges.next < edges:
        batch = traffic.batch(min(100_000, edges - graph.edges.next))
        graph.apply(batch, orderer.admit(batch).keep)
        if graph.edges.next % 1_000_000 < 100_000:
            print(f"{graph.edges.next:,} edges", file=sys.stderr)


def measure(graph: Graph, orderer: Orderer, traffic: Traffic) -> dict[str, float]:
    """Median microseconds an event, by part."""
    spent: dict[str, list[float]] = {"admit": [], "apply": [], "recent": []}
    for _ in range(ROUNDS):
        batch = traffic.batch(BATCH)
        start = time.process_time()
        keep = orderer.admit(batch).keep
        admitted = time.process_time()
        applied = graph.apply(batch, keep)
        done = time.process_time()
        graph.recent(applied.touched_users, 50)
        read = time.process_time()
        spent["admit"].append(admitted - start)
        spent["apply"].append(done - admitted)
        spent["recent"].append(read - done)
    return {part: float(np.median(s)) / BATCH * 1e6 for part, s in spent.items()}


def resident() -> int:
    """Bytes of memory that this process has touched and holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4_096


def bytes_per_edge(rng: np.random.Generator) -> float:
    """Touched memory of an edge log of ``LARGE`` edges."""
    from stream.edges import EdgeLog, EdgeRows

    log = EdgeLog()
    rows = EdgeRows(
        rng.integers(USERS, size=BATCH, dtype=np.int32),
        rng.integers(ITEMS, size=BATCH, dtype=np.int32),
        np.arange(BATCH, dtype=np.int64),
        np.zeros(BATCH, np.uint8),
        np.ones(BATCH, np.uint32),
    )
    before = resident()
    while log.next < LARGE:
        log.append(rows)
    return (resident() - before) / LARGE


def main() -> None:
    rng = np.random.default_rng(7)
    per_edge = bytes_per_edge(rng)
    traffic, graph, orderer = Traffic(rng), Graph(), Orderer()
    grow(graph, orderer, traffic, SMALL)
    small = measure(graph, orderer, traffic)
    print(f"at {SMALL:,} edges: {small}", file=sys.stderr)
    grow(graph, orderer, traffic, LARGE)
    large = measure(graph, orderer, traffic)
    print(f"at {LARGE:,} edges: {large}", file=sys.stderr)
    start = time.process_time()
    view = graph.view()
    viewed = time.process_time() - start
    result = {
        "bytes_per_edge": round(per_edge, 2),
        "batch_cost_ratio": round(large["apply"] / small["apply"], 3),
        "admit_cost_ratio": round(large["admit"] / small["admit"], 3),
        "us_per_event": {k: round(v, 3) for k, v in large.items()},
        "us_per_event_small": {k: round(v, 3) for k, v in small.items()},
        "view_ms": round(viewed * 1e3, 3),
        "edges": view.next_sequence,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
