"""Which events a fine-tune learns from: all that are new, and a replay of older ones."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.data import Interactions

ReplayKind = Literal["uniform", "stratified"]


@dataclass(frozen=True, slots=True)
class Targets:
    """Events to learn from.

    Attributes
    ----------
    fresh : int64[n]
        Events not learned from before, as indices into the `Interactions`.
    old : int64[m]
        Events that may be replayed.
    replayed : int
        How many of them are, each epoch.
    chance : float64[m] or None
        Relative chance of each to be drawn; None where all have the same.
    """

    fresh: NDArray[np.int64]
    old: NDArray[np.int64]
    replayed: int
    chance: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.fresh) + self.replayed

    @property
    def share_new(self) -> float:
        """Part of all that could be learned from that is fresh; 1 where nothing is old."""
        return len(self.fresh) / (len(self.fresh) + len(self.old)) if len(self.old) else 1.0

    def draw(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """What is fresh, and another sample of what is old, no event twice: int64[n + replayed]."""
        if not self.replayed:
            return self.fresh
        if self.chance is None:
            again = rng.choice(self.old, self.replayed, replace=False)
        else:
            # The first arrivals of exponential clocks are a weighted sample without replacement.
            arrival = rng.exponential(size=len(self.old)) / self.chance
            again = self.old[np.argpartition(arrival, self.replayed - 1)[: self.replayed]]
        return np.concatenate([self.fresh, again])


def learnable(data: Interactions, *, order_free: bool = False) -> NDArray[np.bool_]:
    """Events that can be targets, bool[E].

    A target has at least one event of its user before it (``order_free``: beside it), counts for
    something, and is the user's first of its item: what a user has seen is never served again,
    and with tied vectors a repeated item would be found in its own context.
    """
    count = np.diff(data.indptr)
    before = np.arange(len(data)) - data.indptr[:-1].repeat(count)
    if order_free:
        before = count.repeat(count) - 1
    key = data.owners() * max(data.items, 1) + data.item
    order = np.argsort(key, kind="stable")
    first = np.ones(len(data), np.bool_)
    first[order[1:]] = np.diff(key[order]) != 0
    return first & (before > 0) & (data.weight > 0)


def unlearned(
    data: Interactions, trained_upto: int, late: NDArray[np.int64] | None
) -> NDArray[np.bool_]:
    """Events that a version has not learned, or not under the label that they have now, bool[E].

    Parameters
    ----------
    trained_upto : int
        Events with a smaller sequence are old.
    late : int64[*] or None
        Sequences of the late labels learned (`model.state`); None where that is not known, and no
        label counts as corrected.
    """
    new: NDArray[np.bool_] = data.sequence >= trained_upto
    if data.late is None or late is None:
        return new
    return new | (data.late & ~np.isin(data.sequence, late))


def choose(
    data: Interactions,
    new: NDArray[np.bool_],
    replay: float,
    kind: ReplayKind = "uniform",
    *,
    order_free: bool = False,
) -> Targets:
    """All new events, and ``replay`` times as many older ones to be drawn in each epoch.

    Parameters
    ----------
    new : bool[E]
        As `unlearned` tells.
    kind
        Whether old events are drawn alike, or as `by_octave` says.
    """
    usable = learnable(data, order_free=order_free)
    fresh, old = np.flatnonzero(usable & new), np.flatnonzero(usable & ~new)
    wanted = min(len(old), round(replay * len(fresh)))
    chance = by_octave(data.sequence[old], len(fresh)) if kind == "stratified" and wanted else None
    return Targets(fresh, old, wanted, chance)


def by_octave(sequence: NDArray[np.int64], unit: int) -> NDArray[np.float64]:
    """Chances that give each octave of age the same share, float64[m].

    The last ``unit`` events are the first octave, the 2^(k - 1)·unit before the newest
    2^(k - 1)·unit the k-th: the recent past is replayed more densely, the far past is never lost.

    Parameters
    ----------
    sequence : int64[m]
        Order of arrival.
    """
    age = np.empty(len(sequence), np.int64)
    age[np.argsort(-sequence, kind="stable")] = np.arange(len(sequence))
    _, octave = np.frexp(age // max(unit, 1))
    chance: NDArray[np.float64] = 1.0 / np.bincount(octave)[octave]
    return chance
