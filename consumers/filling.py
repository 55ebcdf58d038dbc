"""A version on its way in: filled beside the live one, and checked before anyone reads it."""

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from consumers.errors import PublishError, UnknownPoint
from consumers.index import ALL, Candidate, Gone, PointBatch, Space, VectorIndex
from consumers.manifest import Collections, Gates, Origin

NO_POINTS = PointBatch((), np.zeros((0, 0), np.float32), ())
_NOBODY = Gone()


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a fill must show before it goes live.

    Attributes
    ----------
    probes, k : int
        For so many users, so many candidates each are compared with brute force.
    overlap : float
        At least this share of them must be the same, 0 to 1; ties count as the same.
    """

    probes: int = 50
    k: int = 20
    overlap: float = 0.99


class Filling:
    """Two collections being filled; made by `Publisher.begin`.

    Vectors are kept by reference until the commit, for its probes: do not change them.
    """

    def __init__(
        self,
        index: VectorIndex,
        collections: Collections,
        *,
        sequence: int,
        origin: Origin,
        thresholds: Thresholds,
        check_current: Callable[[], None],
        publish: Callable[["Filling"], Gates],
    ) -> None:
        self.collections = collections
        self.origin = origin
        self.sequence = sequence
        self.removed: dict[Space, set[str]] = {space: set() for space in Space}
        self.campaigns: dict[str, Mapping[str, object]] = {}
        self._index = index
        self._thresholds = thresholds
        self._check_current = check_current
        self._publish = publish
        self._open = True
        self._filled = dict.fromkeys(Space, 0)
        self._changed: Mapping[Space, PointBatch] = {}
        self._items: list[PointBatch] = []
        # Max-heap by hash of the smallest so far: a sample that depends on the ids alone.
        self._probes: list[tuple[int, str, NDArray[np.float32]]] = []

    @property
    def open(self) -> bool:
        """Whether points can still be added."""
        return self._open

    def add(self, space: Space, batch: PointBatch) -> None:
        """Write points of this version; each id once.

        Raises
        ------
        PublishError
            If the batch is malformed, or the filling is over.
        Superseded
            If a newer publisher has taken over.
        """
        if not self._open:
            raise PublishError(f"the filling of version {self.collections.version} is over")
        self._check_current()
        self._write(space, batch, self.sequence)
        self._filled[space] += len(batch)
        if space is Space.ITEMS:
            self._items.append(batch)
        else:
            self._sample(batch)

    def commit(
        self,
        users: PointBatch = NO_POINTS,
        items: PointBatch = NO_POINTS,
        gone: Gone = _NOBODY,
    ) -> Gates:
        """Check what was filled, flip both aliases to it, and record it in the manifest.

        Parameters
        ----------
        users, items : PointBatch
            What has changed since it was filled: written before readers see any of it.
        gone : Gone
            What was removed since; those of them that came back are among the others.

        Raises
        ------
        PublishError
            If a check fails: the collections are dropped, the version before stays live.
        Superseded
            If a newer publisher has taken over.
        """
        if not self._open:
            raise PublishError(f"the filling of version {self.collections.version} is over")
        self._changed = {Space.USERS: users, Space.ITEMS: items}
        self.removed[Space.USERS].update(gone.users)
        self.removed[Space.ITEMS].update(gone.items)
        return self._publish(self)

    def catch_up(self, sequence: int) -> None:
        """Write what has changed since it was filled."""
        for space, batch in self._changed.items():
            if len(batch):
                self._write(space, batch, sequence)

    def close(self) -> None:
        """Accept no more points."""
        self._open = False
        self._items.clear()

    def collection(self, space: Space) -> str:
        """Name the collection of a space."""
        return self.collections.items if space is Space.ITEMS else self.collections.users

    def check(self) -> Gates:
        """Count every point and compare searches with brute force.

        Raises
        ------
        PublishError
            With what was found against what was expected.
        """
        for space, filled in self._filled.items():
            if (found := self._index.count(self.collection(space))) != filled:
                raise PublishError(
                    f"{self.collection(space)} holds {found:,} points, {filled:,} were filled: "
                    "an id twice, or lost writes"
                )
        if not self._filled[Space.ITEMS]:
            raise PublishError(
                f"version {self.collections.version} has no items: not published, since every "
                "query would come back empty"
            )
        for space in Space:
            self._index.settle(self.collection(space))
        k = min(self._thresholds.k, self._filled[Space.ITEMS])
        overlap = self._overlap(k)
        if overlap < self._thresholds.overlap:
            raise PublishError(
                f"{self.collections.items}: {overlap:.4f} of the candidates of "
                f"{len(self._probes)} users are those of brute force, expected at least "
                f"{self._thresholds.overlap}: build its index with more links, or search wider"
            )
        return Gates(
            items=self._filled[Space.ITEMS],
            users=self._filled[Space.USERS],
            probes=len(self._probes),
            k=k,
            overlap=round(overlap, 6),
        )

    def _write(self, space: Space, batch: PointBatch, sequence: int) -> None:
        version, name = self.collections.version, self.collection(space)
        self._index.upsert(name, space, batch, epoch=version, sequence=sequence)

    def _sample(self, batch: PointBatch) -> None:
        for external_id, vector in zip(batch.ids, batch.vectors, strict=True):
            entry = (-crc32(external_id.encode()), external_id, vector)
            if len(self._probes) < self._thresholds.probes:
                heapq.heappush(self._probes, entry)
            elif entry[:2] > self._probes[0][:2]:
                heapq.heapreplace(self._probes, entry)

    def _overlap(self, k: int) -> float:
        names = self.collections.names
        probes = sorted(self._probes, key=lambda entry: entry[1])
        if not probes:
            return 1.0
        try:
            found = [self._index.candidates(user, k, ALL, names=names) for _, user, _ in probes]
        except UnknownPoint as error:
            raise PublishError(f"a user that was filled is not found: {error}") from error
        vectors = np.stack([vector for _, _, vector in probes])
        return overlap(vectors, self._items, found, k)


def overlap(
    users: NDArray[np.float32],
    items: Sequence[PointBatch],
    found: Sequence[Sequence[Candidate]],
    k: int,
) -> float:
    """Share of the ``k`` best items of each user, by brute force, that were found: 0 to 1.

    An item counts when its true score reaches the k-th best up to rounding, so that ties do not.

    Parameters
    ----------
    users : float32[p, d]
    items : batches of float32[*, d] in all
    found : p lists of candidates
    k : int
        At most the number of items.
    """
    wanted = [{c.id for c in candidates} for candidates in found]
    anyone = set().union(*wanted)
    best = np.full((len(users), k), -np.inf, np.float32)
    hit_scores: list[list[float]] = [[] for _ in found]
    for batch in items:
        scores = users @ batch.vectors.T  # [p, n]
        both = np.concatenate([best, scores], axis=1)
        best = np.partition(both, both.shape[1] - k, axis=1)[:, -k:]
        for column in (n for n, i in enumerate(batch.ids) if i in anyone):
            for row, ids in enumerate(wanted):
                if batch.ids[column] in ids:
                    hit_scores[row].append(float(scores[row, column]))
    hits = 0
    for row, mine in enumerate(hit_scores):
        kth = float(best[row].min())
        hits += sum(score >= kth - 1e-5 * (1 + abs(kth)) for score in mine)
    return hits / (k * len(users))
