"""What a model makes of its items, by name, to be held beside what another makes of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from consumers.live import LiveModel
from model.data import unit_rows
from stream.state import JSON

ITEMS = 2_000
"""Items looked at, those with most events."""
NEAR = 10
"""Neighbours of an item that are compared."""
SHOWN = 10


@dataclass(frozen=True, slots=True)
class Picture:
    """Items at one moment.

    Attributes
    ----------
    number : name -> row
    counts : float64[I]
        Decayed counts of events.
    vectors : float32[I, d]
        At length 1; zero rows for items of which nothing is known.
    """

    number: Mapping[str, int]
    counts: NDArray[np.float64]
    vectors: NDArray[np.float32]

    @classmethod
    def of(cls, live: LiveModel) -> "Picture":
        """Items as they are now."""
        names = live.graph.items.names
        counts = np.zeros(len(names))
        own = live.last.counts()[: len(names)]
        counts[: len(own)] = own
        number = {name: i for i, name in enumerate(names)}
        return cls(number, counts, unit_rows(live.item_vectors()[:, :-1]))


@dataclass(frozen=True, slots=True)
class Changes:
    """What has become of items.

    Attributes
    ----------
    popularity : name -> decayed count before and after, those first that changed most
    neighbours : name -> share of the nearest that stayed, those first that changed most
    stayed : float
        That share over all items compared, 0 to 1.
    """

    popularity: Mapping[str, tuple[float, float]]
    neighbours: Mapping[str, float]
    stayed: float

    def to_json(self) -> dict[str, JSON]:
        """As plain JSON."""
        return {
            "popularity": {
                name: [round(was, 3), round(now, 3)] for name, (was, now) in self.popularity.items()
            },
            "neighbours": {name: round(share, 3) for name, share in self.neighbours.items()},
            "neighbours_stayed": round(self.stayed, 4),
        }


def changes(before: Picture, after: Picture) -> Changes:
    """What has changed most, of the items that had most events before."""
    most = np.argsort(-before.counts, kind="stable")[:ITEMS].tolist()
    names = list(before.number)
    shared = [names[i] for i in most if names[i] in after.number]
    old = np.array([before.number[name] for name in shared], np.int64)
    new = np.array([after.number[name] for name in shared], np.int64)
    moved = {
        name: (float(before.counts[before.number[name]]), _count(after, name))
        for name in (names[i] for i in most)
    }
    by_count = sorted(moved.items(), key=_distance, reverse=True)
    share = _stayed(before.vectors[old], after.vectors[new])
    known = share >= 0
    order = np.argsort(share[known], kind="stable")[:SHOWN]
    found = [(shared[i], float(share[i])) for i in np.flatnonzero(known)[order].tolist()]
    mean = float(share[known].mean()) if known.any() else 1.0
    return Changes(dict(by_count[:SHOWN]), dict(found), mean)


def _distance(moved: tuple[str, tuple[float, float]]) -> float:
    was, now = moved[1]
    return abs(was - now)


def _count(picture: Picture, name: str) -> float:
    at = picture.number.get(name)
    return 0.0 if at is None else float(picture.counts[at])


def _stayed(before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float64]:
    """Share of each item's nearest among these that are its nearest still; -1 where unknown."""
    near = min(NEAR, len(before) - 1)
    if near < 1:
        return np.full(len(before), -1.0)
    both = [_nearest(vectors, near) for vectors in (before, after)]
    shares = [
        len(np.intersect1d(a, b, assume_unique=True)) / near for a, b in zip(*both, strict=True)
    ]
    known = before.any(axis=1) & after.any(axis=1)
    return np.where(known, shares, -1.0)


def _nearest(vectors: NDArray[np.float32], near: int) -> NDArray[np.intp]:
    cosine = vectors @ vectors.T  # [n, n]
    np.fill_diagonal(cosine, -np.inf)
    return np.argpartition(-cosine, near - 1, axis=1)[:, :near]
