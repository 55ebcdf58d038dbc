"""How the day's traffic is spread over it, learned from the stream itself."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.zones import DAY_US

BINS: Final = 288  # of five minutes
DAYS: Final = 9  # the running one and the eight before it
BIN_US: Final = DAY_US // BINS
_HALF_DAYS: Final = 2.0
_PRIOR: Final = 1.0  # events of a flat day in each bin


class Traffic:
    """Interactions by day and five minutes, UTC, of the last days.

    Attributes
    ----------
    days : int64[DAYS]
        Which day each row counts; -1 for none.
    counts : int64[DAYS, BINS]
    first : int
        The first day seen: it may have begun before the stream did, so nothing is learned from it.
    """

    def __init__(self) -> None:
        self.days: NDArray[np.int64] = np.full(DAYS, -1, np.int64)
        self.counts: NDArray[np.int64] = np.zeros((DAYS, BINS), np.int64)
        self.first = -1

    def count(self, time_us: NDArray[np.int64]) -> None:
        """Count interactions at these times, int64[n]; those of days gone by long ago are not."""
        day = time_us // DAY_US
        for one in np.unique(day).tolist():
            row = one % DAYS
            if one < self.days[row]:
                continue
            if one > self.days[row]:
                self.days[row], self.counts[row] = one, 0
            self.first = one if self.first < 0 else min(self.first, one)
            bins = (time_us[day == one] % DAY_US) // BIN_US
            self.counts[row] += np.bincount(bins, minlength=BINS)

    def shares(self, now_us: int) -> NDArray[np.float64]:
        """Share of a day's traffic to be expected in each five minutes of UTC: float64[BINS].

        Of the whole days before now, each counting half as much as the one two days after it. All
        are equal until one whole day has been seen.
        """
        age = now_us // DAY_US - self.days
        whole = (self.days > self.first) & (age > 0) & (age < DAYS)
        weight = np.where(whole, np.exp2(-age / _HALF_DAYS), 0.0)
        expected = weight @ self.counts + (_PRIOR if not whole.any() else _PRIOR * weight.sum())
        return np.asarray(expected / expected.sum(), np.float64)
