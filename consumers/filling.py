"""A version on its way in: filled beside the live one, and checked before anyone reads it."""

import heapq
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from consumers.errors import PublishError, UnknownPoint
from consumers.gone import NOBODY, Departed, Gone
from consumers.index import ALL, Candidate, PointBatch, Space, VectorIndex
from consumers.joint import Joint
from consumers.manifest_steps import Collections, Gates, Origin

NO_POINTS = PointBatch((), np.zeros((0, 0), np.float32), ())
_Row = tuple[NDArray[np.float32], Mapping[str, object]]


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
        check_current: Callable[[], object],
        publish: Callable[["Filling"], Gates],
        joint: Joint | None = None,
    ) -> None:
        self.collections = collections
        self.origin = origin
        self.sequence = sequence
        self.removed = Departed()
        self.campaigns: dict[str, Mapping[str, object]] = {}
        self._index = index
        self._thresholds = thresholds
        self._check_current = check_current
        self._publish = publish
        self._joint = joint
        self._open = True
        self._filled = dict.fromkeys(Space, 0)
        self._changed: dict[Space, dict[str, _Row]] = {space: {} for space in Space}
        self._items: list[PointBatch] = []
        # Max-heap by hash of the smallest so far: a sample that depends on the ids alone.
        self._probes: list[tuple[int, str, NDArray[np.float32]]] = []

    @property
    def spaces(self) -> Collection[Space]:
        """What is filled here; users are not where members write them."""
        return tuple(Space) if self._joint is None else (Space.ITEMS,)

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
        gone: Gone = NOBODY,
    ) -> Gates | None:
        """Check what was filled, flip both aliases to it, and record it in the manifest.

        Where members write its users, nothing is flipped before all of them are there: None then,
        and it is to be called again with what has changed since.

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
        for space, batch, names in (
            (Space.USERS, users, gone.users),
            (Space.ITEMS, items, gone.items),
        ):
            rows = zip(batch.ids, batch.vectors, batch.payloads, strict=True)
            for name in names:
                self._changed[space].pop(name, None)
            self._changed[space].update({name: (vector, said) for name, vector, said in rows})
        self.removed.note(gone)
        if self._joint is not None:
            self._joint.erased += len(gone.users)
            self._check_current()
            if self._joint.waits_for():
                return None
        return self._publish(self)

    def go_live(
        self, changed: Callable[[Collection[Space]], tuple[PointBatch, PointBatch, Gone]]
    ) -> Iterator[None]:
        """Commit with what has changed in the spaces filled here, as often as it takes."""
        while self.commit(*changed(self.spaces)) is None:
            yield

    def catch_up(self, sequence: int) -> None:
        """Write what has changed since it was filled."""
        for space, rows in self._changed.items():
            if rows:
                vectors, payloads = zip(*rows.values(), strict=True)
                self._write(space, PointBatch(list(rows), np.stack(vectors), payloads), sequence)

    def close(self) -> None:
        """Accept no more points."""
        self._open = False
        self._items.clear()

    def collection(self, space: Space) -> str:
        """Name the collection of a space."""
        return self.collections.of(space)

    def check(self) -> Gates:
        """Count every point and compare searches with brute force.

        Raises
        ------
        PublishError
            With what was found against what was expected.
        """
        if self._joint is not None:
            told = self._joint.probes(self._thresholds.probes)
            self._probes = [(0, name, vector) for name, vector in told]
        for space in self.spaces:
            filled = self._filled[space]
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
            users=self._filled[Space.USERS] if self._joint is None else self._joint.users,
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
