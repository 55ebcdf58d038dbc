"""What a distance does while nothing drifts, learned from the stream itself.

Rows of a stream resemble their neighbours, and so do windows: distances of windows that are drawn
row by row are far too even. The null is therefore learned from whole stretches of later rows, as
long as a window and starting anywhere (a block bootstrap whose blocks are windows, or
subsampling), against a reference of earlier ones, just as the windows to come will stand to it.
What is left of the resemblance of a window to the one before is taken out of the series, for
detectors of change believe that what they are given is independent.

References
----------
Künsch: The Jackknife and the Bootstrap for General Stationary Observations, 1989. Politis, Romano,
Wolf: Subsampling, 1999. Kendall: Note on Bias in the Estimation of Autocorrelation, 1954.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.errors import InvalidInput
from model.shift import NAMES, Floats, Reference

STRETCHES = 2_000
MOST_PERSISTENT = 0.98
LEAST_WINDOWS = 8


@dataclass(frozen=True, slots=True)
class Null:
    """Distances without drift, one value for each of `model.shift.NAMES`.

    Attributes
    ----------
    centre, deviation : float64[3]
        Of the logarithm of the distance.
    persistence : float64[3]
        φ, the correlation of a window's with the one's before, in [0, 0.98].
    windows : float64[w, 3]
        Standardised distances of the windows that this was learned from, in their order.
    """

    centre: Floats
    deviation: Floats
    persistence: Floats
    windows: Floats

    def standardised(self, distances: Floats) -> Floats:
        """How many deviations from the centre, float64[..., 3]."""
        return (distances - self.centre) / self.deviation

    def innovations(self, standardised: Floats) -> Floats:
        """What is new in each window: (z_t − φ·z_(t−1)) / √(1 − φ²), float64[w − 1, 3].

        A lasting shift of z by s becomes one of s·√((1 − φ)/(1 + φ)): what it is worth among
        windows that resemble each other.
        """
        phi = self.persistence
        fresh: Floats = (standardised[1:] - phi * standardised[:-1]) / np.sqrt(1.0 - phi**2)
        return fresh


def learn(
    reference: Reference,
    rows: NDArray[np.floating],
    *,
    window: int,
    rng: np.random.Generator,
    stretches: int = STRETCHES,
) -> Null:
    """Learn the null from rows that came after those of the reference.

    Parameters
    ----------
    rows : float[n, d]
        In order of arrival; of at least 8 windows.
    window : int
        Rows of a window.

    Raises
    ------
    InvalidInput
        There are fewer.
    """
    whole = len(rows) // window
    if whole < LEAST_WINDOWS:
        raise InvalidInput(f"{whole} windows of {window} rows: at least {LEAST_WINDOWS} are needed")
    prepared = reference.prepare(rows)
    starts = rng.integers(0, len(rows) - window + 1, stretches)
    found = reference.stretches(prepared, starts, window)
    centre, deviation = found.mean(axis=0), np.maximum(found.std(axis=0), 1e-6)
    ordered = reference.stretches(prepared, np.arange(whole) * window, window)
    z = (ordered - centre) / deviation
    phi = np.array([_persistence(z[:, column]) for column in range(len(NAMES))])
    return Null(centre, deviation, phi, z)


def _persistence(z: Floats) -> float:
    """Correlation with the value before, its bias for short series taken off (Kendall)."""
    n = len(z)
    own = z - z.mean()
    square = float((own**2).sum())
    found = float((own[1:] * own[:-1]).sum()) / square if square else 0.0
    return float(np.clip(found + (1.0 + 3.0 * found) / n, 0.0, MOST_PERSISTENT))
