"""What stood before each event that is learned from."""

import numpy as np
from numpy.typing import NDArray

from model.data import Interactions


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
    return before(data, starts[row], row, length)


def before(
    data: Interactions, start: NDArray[np.int64], row: NDArray[np.int64], length: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Likewise, of users whose first events these are, before places that need hold no event.

    Parameters
    ----------
    start, row : int64[n]
        Index of the user's first event, and of the place, at most that after its last one.
    """
    at = row[:, None] - np.arange(1, length + 1)[None, :]
    inside = at >= start[:, None]
    at = np.where(inside, at, 0)
    if not len(data):
        return np.full(at.shape, -1, np.int32), np.zeros(at.shape, np.int64)
    return np.where(inside, data.item[at], np.int32(-1)), np.where(inside, data.time_us[at], 0)


def others(data: Interactions, row: NDArray[np.int64], length: int) -> NDArray[np.int32]:
    """Other events of each row's user, those behind it first and then from the user's first on.

    Parameters
    ----------
    row : int64[n]
    length : int
        L, events at most.

    Returns
    -------
    item : int32[n, L']
        -1 where the user has no more, or the event is of the row's own item; L' is at most L, and
        no longer than the longest of these rows.
    """
    owner = np.searchsorted(data.indptr, row, side="right") - 1
    start, count = data.indptr[owner], np.diff(data.indptr)[owner]
    step = np.arange(1, min(length, int(count.max(initial=1)) - 1) + 1)
    at = start[:, None] + (row - start)[:, None] + step
    at = np.where(at < (start + count)[:, None], at, at - count[:, None])
    inside = step < count[:, None]
    item = data.item[np.where(inside, at, 0)]
    return np.where(inside & (item != data.item[row][:, None]), item, np.int32(-1))
