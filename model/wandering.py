"""How the windows of a quiet stream wander, and what that does to their distance from a reference.

A window's features are m + c_t + ε_t: c wanders from window to window by AR(1), ε is new in each.
Three numbers describe that: φ, and the variances of c and of ε. One distance after the other says
little about them, but each coordinate of the features is a witness of its own: the autocovariance
is pooled over all of them, and what the taking off of their means does to it is reckoned with.

From them follows what a squared distance ‖f_t − r‖² to the mean r of the first windows does while
nothing drifts. It rises, as windows leave the reference's neighbourhood behind, and with the
features Gaussian its autocovariance at lag k is proportional to 2γ_k² + 4ργ_k, where γ_k is that of
a coordinate and ρ the variance of the reference's.

References
----------
Box, Jenkins, Reinsel: Time Series Analysis, 1994 (AR(1) with noise added; its innovations by
Kalman's filter). Isserlis: On a Formula for the Product-Moment Coefficient, 1918 (the fourth
moments).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

MOST_PERSISTENT = 0.98
SLOWEST = 0.95
"""Above it a stream is not taken to wander: what moves so slowly among some dozens of windows, as
while partitions are caught up with one after another, cannot be told from a trend that ends."""
_LAGS = 6  # autocovariances that are fitted, that at lag 0 among them
_STEP = 0.02

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Wandering:
    """Of one stream, one value for each of s statistics.

    Attributes
    ----------
    persistence : float64[s]
        φ, in [0, 0.98].
    moving, still : float64[s]
        Variances of c and of ε, summed over the coordinates.
    reference : int
        First windows, whose mean is the reference.
    """

    persistence: Floats
    moving: Floats
    still: Floats
    reference: int

    def rise(self, at: Floats | NDArray[np.int64]) -> Floats:
        """Logarithm of the expected squared distance of windows, over that of one far away.

        Parameters
        ----------
        at : float[w]
            Numbers of the windows, from the beginning of the reference; none is before its end.

        Returns
        -------
        float64[w, s], at most 0
        """
        gap = np.asarray(at, np.float64)[:, None] - np.arange(self.reference)
        near = (self.persistence[:, None, None] ** gap).mean(axis=2).T
        far = self.moving + self.still + self._of_reference()
        rise: Floats = np.log1p(-2.0 * self.moving * near / np.maximum(far, 1e-300))
        return rise

    def distances(self) -> tuple[Floats, Floats]:
        """Persistence of the distances, and the share of their variance that it is of.

        Returns
        -------
        float64[s], float64[s]
            ψ and a: their autocorrelation at lag k > 0 is a·ψ^k.
        """
        phi, still = self.persistence, self._of_reference()
        whole = self.moving + self.still
        lags = (whole, self.moving * phi, self.moving * phi**2)
        zero, one, two = (2.0 * g**2 + 4.0 * still * g for g in lags)
        psi = np.clip(two / np.maximum(one, 1e-300), 0.0, MOST_PERSISTENT)
        share = one / np.maximum(zero * psi, 1e-300)
        moves = psi > 0
        return np.where(moves, psi, 0.0), np.where(moves, np.minimum(share, 1.0), 0.0)

    def correlations(self, n: int) -> Floats:
        """Autocorrelation of the distances of ``n`` windows in a row, float64[s, n, n]."""
        psi, share = self.distances()
        lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
        return share[:, None, None] * psi[:, None, None] ** lag + (1 - share)[
            :, None, None
        ] * np.eye(n)

    @property
    def trend(self) -> NDArray[np.bool_]:
        """Which statistics are not of a stream that wanders, bool[s]."""
        return self.persistence > SLOWEST

    def steady(self) -> "Wandering":
        """The same, with those that are not taken not to move at all."""
        whole = self.moving + self.still
        return Wandering(
            np.where(self.trend, 0.0, self.persistence),
            np.where(self.trend, 0.0, self.moving),
            np.where(self.trend, whole, self.still),
            self.reference,
        )

    def _of_reference(self) -> Floats:
        """Variance of the reference."""
        lag = np.abs(np.subtract.outer(np.arange(self.reference), np.arange(self.reference)))
        own = (self.persistence[:, None, None] ** lag).mean(axis=(1, 2))
        variance: Floats = self.moving * own + self.still / self.reference
        return variance


def fit(features: Sequence[NDArray[np.floating]], reference: int) -> Wandering:
    """Fit the three numbers of each statistic to the features of windows in a row.

    Parameters
    ----------
    features : s arrays, float[w, p]
    reference : int
    """
    found = np.array([_fit(np.asarray(one, np.float64)) for one in features])
    return Wandering(found[:, 0], found[:, 1], found[:, 2], reference)


def _fit(features: Floats) -> tuple[float, float, float]:
    from scipy.optimize import nnls  # takes a while, and servers do without

    n = len(features)
    own = features - features.mean(axis=0)
    lags = range(min(_LAGS, n))
    given = np.array([(own[k:] * own[: n - k]).sum() / (n - k) for k in lags])
    best, least = (0.0, 0.0, 0.0), np.inf
    for phi, design in _designs(n):
        (moving, still), left = nnls(design, given)
        if left < least:
            best, least = (phi, float(moving), float(still)), float(left)
    return best


@lru_cache(8)
def _designs(n: int) -> list[tuple[float, Floats]]:
    """For each φ tried: expected autocovariances of n values, their mean taken off.

    float64[lags, 2]: for c and for ε of variance 1.
    """
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    centred = np.eye(n) - 1.0 / n
    out: list[tuple[float, Floats]] = []
    for phi in np.arange(0.0, MOST_PERSISTENT + _STEP / 2, _STEP).tolist():
        moving = centred @ (phi**lag) @ centred
        rows = [[np.trace(m, k) / (n - k) for m in (moving, centred)] for k in range(min(_LAGS, n))]
        out.append((phi, np.array(rows)))
    return out
