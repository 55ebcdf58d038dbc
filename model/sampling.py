"""Which events a fine-tune learns from, and what stood before each of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.data import Interactions


@dataclass(frozen=True, slots=True)
class Targets:
    """Events to learn from.

    Attributes
    ----------
    row : int64[n]
        Event, as an index into the `Interactions`.
    fresh : int
        How many of them had not been learned from before; the rest is replay.
    """

    row: NDArray[np.int64]
    fresh: int


def learnable(data: Interactions) -> NDArray[np.bool_]:
    """Events that can be targets, bool[E].

    A target has at least one event of its user before it, counts for something, and is the
    user's first of its item: what a user has seen is never served again, and with tied
    vectors a repeated item would be found in its own context.
    """
    before = np.arange(len(data)) - data.indptr[:-1].repeat(np.diff(data.indptr))
    key = data.owners() * max(data.items, 1) + data.item
    order = np.argsort(key, kind="stable")
    first = np.ones(len(data), np.bool_)
    first[order[1:]] = np.diff(key[order]) != 0
    return first & (before > 0) & (data.weight > 0)


def choose(
    data: Interactions, trained_upto: int, replay: float, rng: np.random.Generator
) -> Targets:
    """All new events and a uniform sample of ``replay`` times as many older ones.

    Parameters
    ----------
    trained_upto : int
        Events with a smaller sequence are old.
    """
    usable = learnable(data)
    fresh = np.flatnonzero(usable & (data.sequence >= trained_upto))
    old = np.flatnonzero(usable & (data.sequence < trained_upto))
    wanted = min(len(old), round(replay * len(fresh)))
    again = rng.choice(old, wanted, replace=False) if wanted else old[:0]
    return Targets(np.concatenate([fresh, again]), len(fresh))


def contexts(
    data: Interactions,
    starts: NDArray[np.int64],
    row: NDArray[np.int64],
    length: int,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Events of the same user before each row, the last one first.

    Parameters
    ----------
    starts : int64[E]
        Index of the first event of each event's user, ``indptr[owner]``.

    Returns
    -------
    item : int32[n, L]
        -1 where the user had no more events.
    time_us : int64[n, L]
        0 where the user had no more events.
    """
    at = row[:, None] - np.arange(1, length + 1)[None, :]
    inside = at >= starts[row][:, None]
    at = np.where(inside, at, 0)
    return np.where(inside, data.item[at], np.int32(-1)), np.where(inside, data.time_us[at], 0)
