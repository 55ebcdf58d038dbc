"""The user encoder in NumPy, for the fast path: microseconds a user, no torch.

user = normalise(Σ_j w_j·z_{i_j}), the definition of `model.encoder.Encoder.users`.
"""

import numpy as np
from numpy.typing import NDArray

from model.data import unit_rows
from model.errors import InvalidInput

_CHUNK = 4096
"""Users at a time: bounds the gathered [n, L, d] block to some tens of MB."""


def fold_in(
    item_vectors: NDArray[np.float32],
    weights: NDArray[np.float32],
    history: NDArray[np.int32],
) -> NDArray[np.float32]:
    """Vectors of users from their last events, float32[n, d], at length 1.

    Parameters
    ----------
    item_vectors : float32[I, d]
    weights : float32[L]
        By how many events ago, the most recent first.
    history : int32[n, L']
        Items, the most recent first, -1 where there is none. Columns beyond L are not read;
        an item that the version does not know yet (index >= I) adds nothing.

    Returns
    -------
    float32[n, d]
        A zero row for a user of whom nothing is known.

    Raises
    ------
    InvalidInput
        The arrays do not have these shapes.
    """
    if item_vectors.ndim != 2 or weights.ndim != 1 or history.ndim != 2:
        raise InvalidInput(
            f"expected items [I, d], weights [L], history [n, L], got {item_vectors.shape},"
            f" {weights.shape}, {history.shape}"
        )
    length = min(history.shape[1], len(weights))
    out = np.zeros((len(history), item_vectors.shape[1]), np.float32)
    if not len(item_vectors):
        return out
    for start in range(0, len(history), _CHUNK):
        part = history[start : start + _CHUNK, :length]
        known = (part >= 0) & (part < len(item_vectors))
        shares = np.where(known, weights[:length], np.float32(0.0))[:, None, :]
        gathered = item_vectors[np.where(known, part, 0)]
        out[start : start + _CHUNK] = (shares @ gathered)[:, 0, :]
    return unit_rows(out)
