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
    at = row[:, None] - np.arange(1, length + 1)[None, :]
    inside = at >= starts[row][:, None]
    at = np.where(inside, at, 0)
    return np.where(inside, data.item[at], np.int32(-1)), np.where(inside, data.time_us[at], 0)
