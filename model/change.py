"""Where a series has changed, and how sure that is beside all the other series that are watched.

References
----------
Bai: Least Squares Estimation of a Shift in Linear Processes, 1994. Benjamini, Yekutieli: The
Control of the False Discovery Rate in Multiple Testing under Dependency, 2001.
"""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

_LEAST = 2


def split(values: NDArray[np.float64]) -> int:
    """Index of the first value after the change of mean that explains most, in [2, n - 2].

    It maximises n₁·n₂/n·(mean₂ − mean₁)². A series of fewer than four values is cut in the middle.
    """
    n = len(values)
    if n < 2 * _LEAST:
        return n // 2
    at = np.arange(_LEAST, n - _LEAST + 1)
    sums = np.cumsum(values)[at - 1]
    before, after = sums / at, (values.sum() - sums) / (n - at)
    return int(at[np.argmax(at * (n - at) / n * (after - before) ** 2)])


def difference(values: NDArray[np.float64], at: int) -> float:
    """p-value, both sides, of the means before and after ``at`` being the same.

    Parameters
    ----------
    values : float64[w]
        Independent; their deviation is taken from the values, on both sides together.
    """
    n, late = len(values), len(values) - at
    if min(at, late) < _LEAST:
        return 1.0
    gap = values[at:].mean() - values[:at].mean()
    rest = ((values[:at] - values[:at].mean()) ** 2).sum()
    rest += ((values[at:] - values[at:].mean()) ** 2).sum()
    spread = np.sqrt(max(rest / (n - 2), 1e-12) * (1.0 / at + 1.0 / late))
    return 2.0 * NormalDist().cdf(-abs(float(gap / spread)))


def discoveries(chances: Sequence[float], rate: float) -> list[bool]:
    """Which of these p-values, of tests that may depend on each other, are discoveries.

    At most the share ``rate`` of them is false, in expectation (Benjamini and Yekutieli).
    """
    from scipy.stats import false_discovery_control  # takes seconds, and servers do without

    if not chances:
        return []
    return [bool(p <= rate) for p in false_discovery_control(chances, method="by")]
