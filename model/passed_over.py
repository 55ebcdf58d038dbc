"""What a user was shown just before an event and passed over: negatives of its very own."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.data import Interactions


@dataclass(frozen=True, slots=True)
class PassedOver:
    """Impressions without an answer, by the positive events that they came before.

    Attributes
    ----------
    item : int32[S]
        Grouped by user, oldest first.
    weight : float32[S]
    first, end : int64[E]
        Those of the user before positive event e are ``first[e]:end[e]``.
    """

    item: NDArray[np.int32]
    weight: NDArray[np.float32]
    first: NDArray[np.int64]
    end: NDArray[np.int64]

    def before(
        self, row: NDArray[np.int64], count: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The last ones before each event, the newest first.

        Parameters
        ----------
        row : int64[n]
            Positive events.

        Returns
        -------
        item : int32[n, count]
            0 where there were no more.
        weight : float32[n, count]
            0 where there were no more.
        """
        at = self.end[row][:, None] - np.arange(1, count + 1)
        inside = at >= self.first[row][:, None]
        at = np.where(inside, at, 0)
        return np.where(inside, self.item[at], 0), np.where(inside, self.weight[at], 0)


def passed_over(data: Interactions) -> PassedOver | None:
    """Find them; None where nothing was passed over."""
    if data.positive.all():
        return None
    shown = np.concatenate([[0], np.cumsum(~data.positive)])
    before = shown[:-1][data.positive]
    first = shown[data.indptr[:-1]].repeat(np.diff(data.indptr))[data.positive]
    missed = ~data.positive
    return PassedOver(data.item[missed], data.weight[missed], first, before)
