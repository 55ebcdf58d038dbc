"""What a disturbed run must have come to, and what its readers may have seen on the way."""

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from consumers import wiring
from consumers.edge_index import EdgeIndex
from consumers.index import Space, VectorIndex
from consumers.tally import Tally
from stream.batch import Kind
from stream.clock import SystemClock
from stream.snapshot import SnapshotStore
from tests.faults.nursery import NAMES, learned, recency, settings
from tests.faults.topic import Topic, disturbed
from tests.oracle.stream import StreamOracle, parsed

MESSAGES = 1_200
AsOf = Callable[[str, int], int]

COUNTS = ("events_in", "applied", "duplicates", "dead_letters", "late", "capped")


@cache
def topic(seed: int) -> list[list[bytes]]:
    return disturbed(seed, MESSAGES)


@cache
def judge(seed: int) -> StreamOracle:
    """The oracle after all messages, in the order in which the topic gives them."""
    own = settings(Path())
    oracle = StreamOracle(wiring.graph_of(own), wiring.ordering_of(own))
    source = Topic(topic(seed), {})
    while batches := source.poll(30, 0.0):
        for batch in batches:
            for message in batch.values:
                oracle.feed(batch.partition.number, message)
    return oracle


@dataclass
class Found:
    """What is wrong, by kind; empty after a run without fault."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    regressed: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lost or self.doubled or self.regressed)


def verdict(state: Path, seed: int, as_of: AsOf = lambda _, at: at) -> Found:
    """Compare graph, counts, letters and vectors with the oracle's, one by one."""
    oracle, found = judge(seed), Found()
    stored = SnapshotStore(state / "graph", SystemClock()).load()
    assert stored is not None
    edges = Counter(stored.graph.edges_by_name())
    expected = Counter(oracle.edges())
    found.lost += [f"edge {edge}" for edge in expected - edges]
    found.doubled += [f"edge {edge}" for edge in edges - expected]
    tally = Tally.from_json(stored.extra["tally"])  # type: ignore[arg-type]
    said = {name: getattr(tally, name) for name in COUNTS} | tally.kinds | tally.transitions
    for name in said.keys() | oracle.counts.keys():
        got, wanted = said.get(name, 0), oracle.counts.get(name, 0)
        if got != wanted:
            (found.lost if got < wanted else found.doubled).append(f"{name} {got} of {wanted}")
    letters = set((state / "dead").read_bytes().splitlines())
    refused = oracle.counts["dead_letters"] + oracle.counts["late"]
    if len(letters) < refused:
        found.lost.append(f"letters {len(letters)} of {refused}")
    with closing(EdgeIndex(state / "index")) as index:
        points(index, oracle, found)
    found.regressed += regressions((state / "notes").read_text().splitlines(), as_of)
    return found


def points(index: VectorIndex, oracle: StreamOracle, found: Found) -> None:
    """Every user and item of the oracle is in the index as it says, and nobody else is."""
    names = sorted({edge.item for part in oracle.parts.values() for edge in part.edges})
    weights = recency()
    vectors = oracle.vectors(
        {name: learned(name).tolist() for name in names},
        weights.position.tolist(),
        weights.gap.tolist(),
    )
    # Who knew an item that was removed follows with the next event of his own.
    behind = {e.user for p in oracle.parts.values() for e in p.edges if e.item in oracle.removed}
    aliases = index.aliases()
    users = sorted(vectors)
    for user, point in zip(
        users, index.fetch(aliases[NAMES.users], Space.USERS, users), strict=True
    ):
        if point is None or point.vector is None:
            found.lost.append(f"user {user}")
        elif user not in behind and not np.allclose(point.vector, vectors[user], atol=1e-5):
            found.regressed.append(f"user {user}")
    if (count := index.count(aliases[NAMES.users])) > len(users):
        found.doubled.append(f"{count} users, {len(users)} expected")
    there = len(oracle.items - oracle.removed)
    if (count := index.count(aliases[NAMES.items])) > there:
        found.doubled.append(f"{count} items, {there} expected")
    shown = sorted(set(names) - oracle.removed)
    for item, point in zip(
        shown, index.fetch(aliases[NAMES.items], Space.ITEMS, shown), strict=True
    ):
        if point is None or point.vector is None:
            found.lost.append(f"item {item}")
        elif not np.allclose(point.vector[:-1], learned(item), atol=1e-5):
            found.regressed.append(f"item {item}")


def events_before(seed: int) -> AsOf:
    """How many events of a user that count for his vector lie before an offset of his partition."""
    own: dict[str, list[int]] = {}
    for number, part in enumerate(topic(seed)):
        options = settings(Path())
        oracle = StreamOracle(wiring.graph_of(options), wiring.ordering_of(options))
        for offset, message in enumerate(part):
            before, event = oracle.counts["applied"], parsed(message)
            oracle.feed(number, message)
            if event is None or event.kind in (Kind.IMPRESSION, Kind.CONVERSION):
                continue
            if event.kind < Kind.ITEM and oracle.counts["applied"] > before:
                own.setdefault(event.user, []).append(offset)
    return lambda user, at: bisect_left(own.get(user, []), at)


def regressions(notes: Sequence[str], as_of: AsOf = lambda _, at: at) -> list[str]:
    """Users whom readers saw as of an earlier offset than before.

    Parameters
    ----------
    as_of : user, offset -> what must not go back
    """
    seen: dict[str, dict[str, int]] = {}
    live: dict[str, int] = {}
    name, found = None, list[str]()
    for line in notes:
        note = json.loads(line)
        if "flip" in note:
            name = note["flip"]
            news = seen.setdefault(name, {})
            live = {u: at for u, at in live.items() if u in news}
        elif "gone" in note:
            for user in note["gone"]:
                seen.get(note["collection"], {}).pop(user, None)
            continue
        else:
            news = {user: as_of(user, at) for user, at in note["seen"].items()}
            seen.setdefault(note["collection"], {}).update(news)
            if note["collection"] != name:
                continue
        found += [f"{u}: {live[u]} to {at}" for u, at in news.items() if at < live.get(u, 0)]
        live = {**live, **news}
    return found
