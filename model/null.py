"""What a distance does while nothing drifts, learned from the stream itself.

Rows of a stream resemble their neighbours, and so do windows: distances of windows that are drawn
row by row are far too even. The null is therefore learned from whole stretches of later rows, as
long as a window and starting anywhere (a block bootstrap whose blocks are windows, or
subsampling), against a reference of earlier ones, just as the windows to come will stand to it.
What windows that wander do to their distances is learned from the windows' features
(`model.wandering`), and taken out of the series: detectors of change believe that what they are
given is independent. Of windows with a trend, which no law of wandering describes, only the
resemblance of a distance to the one before is taken out.

References
----------
Künsch: The Jackknife and the Bootstrap for General Stationary Observations, 1989. Politis, Romano,
Wolf: Subsampling, 1999. Kendall: Note on Bias in the Estimation of Autocorrelation, 1954.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.errors import InvalidInput
from model.shift import NAMES, Floats, Reference
from model.wandering import MOST_PERSISTENT, Wandering, fit

STRETCHES = 2_000
LEAST_WINDOWS = 8
_LEAST_SEEN = 0.05
"""Share of the variance that is taken to show in windows that wander more slowly than they last."""


@dataclass(frozen=True, slots=True)
class Null:
    """Distances without drift, one value for each of `model.shift.NAMES`.

    Attributes
    ----------
    centre, deviation : float64[3]
        Of the logarithm of the distance, far from the reference.
    wandering : Wandering
    persistence, share : float64[3]
        The autocorrelation of the distances at lag k > 0 is share·persistence^k.
    windows : float64[w, 3]
        Standardised distances of the windows that this was learned from, in their order.
    """

    centre: Floats
    deviation: Floats
    wandering: Wandering
    persistence: Floats
    share: Floats
    windows: Floats

    def standardised(self, distances: Floats, at: NDArray[np.int64]) -> Floats:
        """How many deviations from what is expected, float64[w, 3].

        Parameters
        ----------
        distances : float64[w, 3]
        at : int[w]
            Numbers of the windows, from the beginning of the reference.
        """
        return (distances - self.centre - self.wandering.rise(at)) / self.deviation

    def innovations(self, standardised: Floats) -> Floats:
        """What is new in each window, given those before, in its own deviations, float64[w, 3].

        By Kalman's filter for AR(1) with noise. Of a lasting shift the first window shows most, the
        later ones what it is worth among windows that resemble each other.
        """
        psi, share = self.persistence, self.share
        fresh = np.empty_like(standardised)
        known, spread = np.zeros(len(NAMES)), share.copy()
        for row, z in enumerate(standardised):
            whole = spread + 1.0 - share
            fresh[row] = (z - known) / np.sqrt(whole)
            gain = spread / whole
            known = psi * (known + gain * (z - known))
            spread = psi**2 * (1.0 - gain) * spread + share * (1.0 - psi**2)
        return fresh


def learn(
    reference: Reference,
    rows: NDArray[np.floating],
    *,
    own: int,
    window: int,
    rng: np.random.Generator,
    stretches: int = STRETCHES,
) -> Null:
    """Learn the null from a reference's rows and those that came after.

    Parameters
    ----------
    rows : float[n, d]
        In order of arrival, the first ``own`` of them the reference's; at least 8 windows after.
    own : int
    window : int
        Rows of a window.

    Raises
    ------
    InvalidInput
        There are fewer.
    """
    first, whole = max(own // window, 1), (len(rows) - own) // window
    if whole < LEAST_WINDOWS:
        raise InvalidInput(f"{whole} windows of {window} rows: at least {LEAST_WINDOWS} are needed")
    known, later = reference.prepare(rows[:own]), reference.prepare(rows[own:])
    ordered = np.arange(whole) * window
    before = reference.features(known, np.arange(own // window) * window, window)
    after = reference.features(later, ordered, window)
    found_so = fit([np.concatenate(pair) for pair in zip(before, after, strict=True)], first)
    trend, wandering = found_so.trend, found_so.steady()
    starts = rng.integers(0, len(later) - window + 1, stretches)
    found = reference.stretches(later, starts, window) - wandering.rise(first + starts / window)
    # Windows that wander are nearer to their own mean than to that of all to come.
    seen = 1.0 - wandering.correlations(whole).mean(axis=(1, 2))
    deviation = found.std(axis=0) / np.sqrt(np.maximum(seen, _LEAST_SEEN))
    psi, share = wandering.distances()
    null = Null(found.mean(axis=0), np.maximum(deviation, 1e-6), wandering, psi, share, np.empty(0))
    distances = reference.stretches(later, ordered, window)
    z = null.standardised(distances, first + np.arange(whole))
    alone = np.array([_persistence(z[:, column]) for column in range(len(NAMES))])
    return replace(
        null,
        windows=z,
        persistence=np.where(trend, alone, psi),
        share=np.where(trend, 1.0, share),
    )


def _persistence(z: Floats) -> float:
    """Correlation with the value before, its bias for short series taken off (Kendall)."""
    n = len(z)
    own = z - z.mean()
    square = float((own**2).sum())
    found = float((own[1:] * own[:-1]).sum()) / square if square else 0.0
    return float(np.clip(found + (1.0 + 3.0 * found) / n, 0.0, MOST_PERSISTENT))
