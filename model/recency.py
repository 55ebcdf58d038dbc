"""How much each of a user's events counts: by how many events ago, and by how long ago.

An event j places back and g back in time (g a bucket of the time between it and the user's newest
event) weighs w_hj·v_hg in group h of the dimensions. Each group has its own timescale: the first
follows the last few events, the next what the user has always liked.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.errors import InvalidInput

GAPS = 12
"""Buckets of time: bucket b holds 4^b - 1 to 4^(b+1) - 1 seconds, the last all above 48 days."""


@dataclass(frozen=True, slots=True)
class Recency:
    """Weights of a user's events.

    Attributes
    ----------
    position : float32[H, L]
        w, by group and by how many events ago, the most recent first.
    gap : float32[H, GAPS]
        v, by group and by bucket of time.

    Raises
    ------
    InvalidInput
        The arrays do not have these shapes.
    """

    position: NDArray[np.float32]
    gap: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.position.ndim != 2 or self.gap.shape != (len(self.position), GAPS):
            raise InvalidInput(
                f"expected position weights [H, L] and gap weights [H, {GAPS}], got"
                f" {self.position.shape} and {self.gap.shape}"
            )

    @property
    def groups(self) -> int:
        """Groups H of the dimensions."""
        return len(self.position)

    @property
    def length(self) -> int:
        """Events L of a user that count."""
        return int(self.position.shape[1])

    def weights(self, known: NDArray[np.bool_], time_us: NDArray[np.int64]) -> NDArray[np.float32]:
        """Weights of the events of users, float32[n, H, L'].

        Parameters
        ----------
        known : bool[n, L']
            Which events there are, L' at most L; the weights of the others are of no meaning.
        time_us : int64[n, L']
            Their times, the newest first.
        """
        by_place = self.position[None, :, : known.shape[1]]
        by_time = self.gap.T[buckets(time_us, known)].transpose(0, 2, 1)
        weights: NDArray[np.float32] = by_place * by_time
        return weights


def plain(position: NDArray[np.float32]) -> Recency:
    """Weights by position alone, the same in all dimensions; position is float32[L]."""
    return Recency(position[None, :], np.ones((1, GAPS), np.float32))


def buckets(time_us: NDArray[np.int64], known: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Bucket of the time between each event and the first of its row, int64[n, L].

    Parameters
    ----------
    time_us : int64[n, L]
        Microseconds, the newest first.
    known : bool[n, L]
        Where there is an event; the bucket of no event is 0.
    """
    first = np.where(known[:, :1], time_us[:, :1], 0)
    # Differences before the clamp could overflow where a row's padding holds the least integer.
    past = np.where(known, time_us, first)
    seconds = np.maximum(first - past, 0) / 1e6
    _, exponent = np.frexp(1.0 + seconds)
    log2: NDArray[np.int64] = exponent.astype(np.int64) - 1
    bucket: NDArray[np.int64] = np.minimum(log2 >> 1, GAPS - 1)
    return bucket
