"""What the tests of publishing share: a crash, points, a whole version."""

from collections.abc import Callable, Mapping

import numpy as np

from consumers.index import Names, PointBatch, Space, VectorIndex
from consumers.manifest_steps import Origin
from consumers.publisher import Publisher

DIM = 6
NAMES = Names.of("t")
USERS = [f"u{n}" for n in range(30)]
ITEMS = [f"i{n}" for n in range(60)]


class Crash(BaseException):
    """The process ends here."""


class Shared:
    """An index that outlives the publishers opened on it, as a server does."""

    def __init__(self, index: VectorIndex) -> None:
        self._index = index

    def __getattr__(self, name: str) -> object:
        return getattr(self._index, name)

    def close(self) -> None:
        pass


Open = Callable[..., Publisher]


def points(ids: list[str], seed: int, payload: Mapping[str, object] | None = None) -> PointBatch:
    vectors = np.random.default_rng(seed).normal(size=(len(ids), DIM)).astype(np.float32)
    return PointBatch(ids, vectors, [payload or {}] * len(ids))


NONE = points([], 0)


def publish(publisher: Publisher, version: int) -> None:
    filling = publisher.begin(version, DIM, Origin(model=str(version), offsets={"t[0]": version}))
    filling.add(Space.ITEMS, points(ITEMS[:40], version))
    filling.add(Space.ITEMS, points(ITEMS[40:], version + 100))
    filling.add(Space.USERS, points(USERS, version + 200))
    filling.commit()


def epoch(index: VectorIndex) -> set[object]:
    found = index.candidates("u1", 5, names=NAMES)
    return {candidate.payload["epoch"] for candidate in found}


def stored(index: VectorIndex, collection: str, space: Space, name: str) -> float | None:
    [point] = index.fetch(collection, space, [name])
    return None if point is None or point.vector is None else float(point.vector[0])
