"""A storm between two publishers and the real server: nothing goes back, nobody rises again.

Writes arrive late, in another order, more than once, and after their sender was told that they
failed; a publisher that was taken over from hangs in the midst of its writes and wakes up later.
Every point is then compared with the newest write of it, one by one.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consumers.errors import PublishError, ServerUnavailable, Superseded
from consumers.gone import Gone
from consumers.index import Names, PointBatch, Space, VectorIndex
from consumers.local_qdrant import QdrantAddress
from consumers.publisher import Publisher
from consumers.qdrant_index import QdrantIndex
from stream.clock import ManualClock

DIM = 4
NAMES = Names.of("storm")
IDS = {Space.USERS: [f"u{n}" for n in range(200)], Space.ITEMS: [f"i{n}" for n in range(200)]}
ROUNDS = 120

Write = Callable[[], None]


@dataclass
class Newest:
    """Of each point the newest write: its sequence, and its number or None for a tombstone."""

    writes: dict[tuple[str, str], tuple[int, float | None]] = field(default_factory=dict)

    def note(self, collection: str, ids: Sequence[str], sequence: int, marks: Any) -> None:
        for name, mark in zip(ids, marks, strict=True):
            before = self.writes.get((collection, name), (0, None))
            self.writes[collection, name] = max(before, (sequence, mark), key=lambda w: w[0])


class Storm:
    """An index that can be reached badly. What is late lies in `late` until somebody takes it."""

    def __init__(self, index: VectorIndex, newest: Newest, late: list[Write], seed: int) -> None:
        self._index, self._newest, self._late = index, newest, late
        self._rng = np.random.default_rng(seed)
        self.hangs = False
        self.faults: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    def upsert(
        self, collection: str, space: Space, batch: PointBatch, *, epoch: int, sequence: int
    ) -> None:
        self._newest.note(collection, batch.ids, sequence, batch.vectors[:, 0].tolist())
        own = {"epoch": epoch, "sequence": sequence}
        self._send(lambda: self._index.upsert(collection, space, batch, **own))

    def bury(
        self, collection: str, space: Space, ids: Sequence[str], *, sequence: int, **more: Any
    ) -> None:
        self._newest.note(collection, ids, sequence, [None] * len(ids))
        self._send(lambda: self._index.bury(collection, space, ids, sequence=sequence, **more))

    def _send(self, write: Write) -> None:
        if self.hangs:
            self.faults["hung"] += 1
            self._late.append(write)
            return
        fate = self._rng.choice(["well", "twice", "thrice", "late"], p=[0.4, 0.25, 0.15, 0.2])
        if fate == "late":
            self.faults["told that it failed"] += 1
            self._late.append(write)
            raise ServerUnavailable("no answer within 10 s")
        write()
        again = {"well": 0, "twice": 1, "thrice": 2}[fate]
        self.faults["repeated"] += again
        self._late.extend([write] * again)


class Watcher:
    """Reads all points over and over, as ad systems do, and notes what went back."""

    def __init__(self, index: VectorIndex) -> None:
        self._index = index
        self._seen: dict[tuple[Space, str], tuple[int, bool]] = {}
        self.regressed: list[str] = []
        self.resurrected: list[str] = []
        self.looks = 0

    def look(self) -> None:
        aliases = self._index.aliases()
        for space, alias in ((Space.USERS, NAMES.users), (Space.ITEMS, NAMES.items)):
            found = self._index.fetch(aliases[alias], space, IDS[space])
            for name, point in zip(IDS[space], found, strict=True):
                if point is None:
                    continue
                now = int(str(point.payload["seq"])), point.deleted
                before = self._seen.get((space, name), (0, False))
                if now[0] < before[0]:
                    kind = self.resurrected if before[1] and not now[1] else self.regressed
                    kind.append(f"{space} {name}: {before} to {now}")
                self._seen[space, name] = now
        self.looks += 1


def pushed(publisher: Publisher, rng: np.random.Generator, numbers: Iterator[float]) -> None:
    """Write some points and remove some, again and again until the publisher is told it is done."""
    some = {space: rng.choice(ids, 12, replace=False).tolist() for space, ids in IDS.items()}
    dead = {space: rng.choice(ids, 2, replace=False).tolist() for space, ids in IDS.items()}
    acts: list[Callable[[], object]] = [
        lambda: publisher.push(*(points(some[s], numbers) for s in (Space.USERS, Space.ITEMS))),
        lambda: publisher.remove(
            Gone(users=tuple(dead[Space.USERS]), items=tuple(dead[Space.ITEMS]))
        ),
    ]
    for act in acts:
        while True:
            with suppress(ServerUnavailable):
                act()
                break


def points(ids: list[str], numbers: Iterator[float]) -> PointBatch:
    """Points of which each can be told from all others."""
    vectors = np.ones((len(ids), DIM), np.float32)
    vectors[:, 0] = [next(numbers) for _ in ids]
    return PointBatch(ids, vectors, [{}] * len(ids))


@pytest.fixture
def servers(qdrant: QdrantAddress) -> Iterator[Callable[[], QdrantIndex]]:
    """Connections to the server; what was made there is dropped in the end."""
    opened: list[QdrantIndex] = []

    def connect() -> QdrantIndex:
        index = QdrantIndex(qdrant.url, grpc_port=qdrant.grpc_port, api_key=qdrant.api_key)
        opened.append(index)
        return index

    yield connect
    last = connect()
    last.point({alias: None for alias in (NAMES.users, NAMES.items) if alias in last.aliases()})
    for name in [n for n in last.collections() if n.startswith("storm-")]:
        last.drop(name)
    for index in opened:
        index.close()


@pytest.mark.slow
def test_nothing_goes_back_and_nobody_rises_from_the_dead(
    servers: Callable[[], QdrantIndex],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    newest, late, numbers = Newest(), list[Write](), iter(map(float, range(1, 10**7)))
    rng = np.random.default_rng(7)

    def opened(seed: int) -> tuple[Publisher, Storm]:
        storm = Storm(servers(), newest, late, seed)
        made = Publisher(storm, tmp_path / "manifest.jsonl", NAMES, ManualClock())  # type: ignore[arg-type]
        return made, storm

    first, calm = opened(1)
    calm.hangs = True  # a version is filled in calm weather
    filling = first.begin(1, DIM)
    for space, ids in IDS.items():
        filling.add(space, points(ids, numbers))
    for write in late:
        write()
    late.clear()
    calm.hangs = False
    filling.commit()

    index, over = servers(), threading.Event()
    watcher = Watcher(index)

    def watch() -> None:
        while not over.is_set():
            watcher.look()

    def deliver(seed: int) -> None:
        """Hand over what is late, in any order, while others write."""
        own = np.random.default_rng(seed)
        while not (over.is_set() and not late):
            if len(late) < (1 if over.is_set() else 60):
                over.wait(0.001)
                continue
            with suppress(IndexError):  # two reach for the last one
                late.pop(int(own.integers(len(late))))()

    failed: list[BaseException] = []

    def guarded(work: Callable[..., None], *args: int) -> threading.Thread:
        def run() -> None:
            try:
                work(*args)
            except (PublishError, ServerUnavailable, AssertionError) as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    threads = [guarded(watch), guarded(deliver, 11), guarded(deliver, 12)]
    for _ in range(ROUNDS):
        pushed(first, rng, numbers)
    calm.hangs = True  # it is frozen between its checks and its writes
    for _ in range(20):
        pushed(first, rng, numbers)
    second, storm = opened(2)
    for n in range(ROUNDS):
        pushed(second, rng, numbers)
        if n % 40 == 25:
            with pytest.raises(Superseded):
                pushed(first, rng, numbers)
    over.set()
    for thread in threads:
        thread.join()
    assert not failed and not late

    watcher.look()
    wrong, living = list[str](), Counter[str]()
    for space, collection in ((Space.USERS, "storm-users-1"), (Space.ITEMS, "storm-items-1")):
        for name, point in zip(IDS[space], index.fetch(collection, space, IDS[space]), strict=True):
            sequence, mark = newest.writes[collection, name]
            assert point is not None
            got = None if point.vector is None else float(point.vector[0])
            if (point.payload["seq"], got) != (sequence, mark):
                wrong.append(f"{name}: {(point.payload['seq'], got)}, not {(sequence, mark)}")
            living[collection] += mark is not None
    faults = calm.faults + storm.faults
    record_property("faults", {f"a write {kind}": n for kind, n in faults.items()})
    assert (wrong, watcher.regressed, watcher.resurrected) == ([], [], [])

    # Swept once nothing is on its way any more, the dead are gone and the rest is as it was.
    second.sweep(second.mandate.next_sequence())
    for collection, space in (("storm-users-1", Space.USERS), ("storm-items-1", Space.ITEMS)):
        found = index.fetch(collection, space, IDS[space])
        assert index.count(collection) == living[collection] == sum(p is not None for p in found)
        assert 0 < living[collection] < len(IDS[space])
    watcher.look()
    assert (watcher.regressed, watcher.resurrected) == ([], [])
    assert min(faults.values()) >= 40 and watcher.looks > 20
