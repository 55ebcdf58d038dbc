"""The user encoder in NumPy, for the fast path: microseconds a user, no torch.

The definition of `model.encoder.Encoder.users`; a test holds the two together.
"""

import numpy as np
from numpy.typing import NDArray

from model.data import unit_rows
from model.errors import InvalidInput
from model.recency import Recency

_CHUNK = 1024
"""Users at a time: bounds the gathered [n, L, d] block to some tens of MB."""


def fold_in(
    item_vectors: NDArray[np.float32],
    recency: Recency,
    history: NDArray[np.int32],
    time_us: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Vectors of users from their last events, float32[n, d], at length 1.

    Parameters
    ----------
    item_vectors : float32[I, d]
        d a multiple of the groups of ``recency``.
    recency : Recency
    history : int32[n, L']
        Items, the most recent first, -1 where there is none. Columns beyond L are not read;
        an item that the version does not know yet (index >= I) adds nothing.
    time_us : int64[n, L']
        When: microseconds on any clock.

    Returns
    -------
    float32[n, d]
        A zero row for a user of whom nothing is known.

    Raises
    ------
    InvalidInput
        The arrays do not have these shapes.
    """
    if item_vectors.ndim != 2 or history.ndim != 2 or history.shape != time_us.shape:
        raise InvalidInput(
            f"expected items [I, d], history and times [n, L], got {item_vectors.shape},"
            f" {history.shape}, {time_us.shape}"
        )
    size, dim = item_vectors.shape
    if dim % recency.groups:
        raise InvalidInput(f"{dim} dimensions do not divide into {recency.groups} groups")
    length = min(history.shape[1], recency.length)
    out = np.zeros((len(history), dim), np.float32)
    if not size or not length:
        return out
    split = item_vectors.reshape(size, recency.groups, -1)
    for start in range(0, len(history), _CHUNK):
        part = history[start : start + _CHUNK, :length]
        # Places behind everybody's oldest event hold nothing.
        part = part[:, : 1 + int(np.flatnonzero((part >= 0).any(0)).max(initial=-1))]
        happened = part >= 0
        known = happened & (part < size)
        weights = recency.weights(happened, time_us[start : start + _CHUNK, : part.shape[1]])
        weights *= known[:, None, :]
        gathered = split[np.where(known, part, 0)].transpose(0, 2, 1, 3)
        summed = (weights[:, :, None, :] @ gathered)[:, :, 0, :]
        out[start : start + _CHUNK] = summed.reshape(len(part), dim)
    return unit_rows(out)
