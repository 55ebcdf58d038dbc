"""A mean that may be looked at after every observation: a confidence sequence by betting.

A t-interval holds for one sample size that was fixed before. Looked at after every event it is
wrong sooner or later, whatever the truth: that is no way to watch a version. A confidence sequence
holds at all times at once, so one may stop when it says enough and go on when it does not.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import InvalidInput

CELLS = 400
"""Of the grid of means that are held against the data; a bound is rounded outwards to it."""
_GRID = np.arange(CELLS + 1) / CELLS
_CAP = 0.75
"""Part of a bettor's wealth that one observation can cost at most."""
_ROWS = 512


class ConfidenceSequence:
    """Bounds of the conditional mean of variables in [-1, 1], at all times.

    With y = (x + 1)/2, two bettors play against each mean m of a grid on [0, 1]: one stakes on
    larger values, one on smaller ones,

        K⁺_t(m) = Π_i (1 + min(λ_i, c/m)·(y_i - m)),
        K⁻_t(m) = Π_i (1 - min(λ_i, c/(1 - m))·(y_i - m)).

    If m is the mean, each is a martingale that is never negative, so the chance that it ever
    reaches 2/α is at most α/2 (Ville). Means against which that has happened are excluded for ever.
    K⁺ falls in m and K⁻ rises, so what is left is an interval. Where the mean moves, the chance
    that the upper bound comes below m while every conditional mean is at least m is still α/2.
    λ_i is set from what came before i:

        λ_i = sqrt(2·log(2/α) / (σ²_{i-1}·i·log(1 + i))),  σ²_i = (1/4 + Σ_j (y_j - μ_j)²)/(i + 1),
        μ_i = (1/2 + Σ_j y_j)/(i + 1).

    However the values are cut into batches, the state is the same to the last bit.

    Parameters
    ----------
    chance : float
        α, that the mean is ever outside; α/2 for each bound.

    References
    ----------
    Waudby-Smith, Ramdas: Estimating means of bounded random variables by betting, JRSS B 2024:
    Theorem 3 (without the running mean of the two capitals), λ of its equation 26.
    """

    def __init__(self, chance: float) -> None:
        if not 0 < chance < 1:
            raise InvalidInput(f"chance is {chance}: expected above 0, below 1")
        self.chance = chance
        self.events = 0
        self._sum = self._squares = 0.0
        self._low, self._high = 0, CELLS
        self._wealth = np.zeros((2, CELLS + 1))  # log K⁺ and log K⁻

    @property
    def mean(self) -> float | None:
        """Of what was observed; None before the first."""
        return 2 * self._sum / self.events - 1 if self.events else None

    @property
    def low(self) -> float:
        """Lower bound, -1 while there is none."""
        return 2 * float(_GRID[self._low]) - 1

    @property
    def high(self) -> float:
        """Upper bound, 1 while there is none."""
        return 2 * float(_GRID[self._high]) - 1

    def update(self, values: NDArray[np.float64]) -> None:
        """Take in observations in order, float64[n] in [-1, 1].

        Raises
        ------
        InvalidInput
            One is outside, or NaN.
        """
        if len(values) and not (np.abs(values) <= 1).all():
            raise InvalidInput(f"expected values in [-1, 1], got {values.min()} to {values.max()}")
        for start in range(0, len(values), _ROWS):
            self._play((values[start : start + _ROWS] + 1) / 2)

    def _play(self, y: NDArray[np.float64]) -> None:
        stake = self._stakes(y)[:, None]  # [n, 1]
        apart = y[:, None] - _GRID  # [n, G]
        with np.errstate(divide="ignore"):
            up = np.log1p(np.minimum(stake, _CAP / _GRID) * apart)
            down = np.log1p(-np.minimum(stake, _CAP / (1 - _GRID)) * apart)
        goal = np.log(2 / self.chance)
        # One sum from the first on, so that no cut between batches shows in it.
        ups, downs = (
            np.cumsum(np.concatenate([had[None], new]), axis=0)
            for had, new in zip(self._wealth, (up, down), strict=True)
        )
        self._wealth = np.stack([ups[-1], downs[-1]])
        below = np.flatnonzero((ups >= goal).any(axis=0))
        above = np.flatnonzero((downs >= goal).any(axis=0))
        self._low = max(self._low, int(below.max(initial=0)))
        self._high = min(self._high, int(above.min(initial=CELLS)))

    def _stakes(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Stakes λ of these observations, each from those before it, float64[n]."""
        i = self.events + np.arange(1, len(y) + 1)
        sums = np.cumsum(np.append(self._sum, y))
        off = (y - (0.5 + sums[1:]) / (i + 1)) ** 2
        squares = np.cumsum(np.append(self._squares, off))
        variance = (0.25 + squares[:-1]) / i
        self.events += len(y)
        self._sum, self._squares = float(sums[-1]), float(squares[-1])
        stakes: NDArray[np.float64] = np.sqrt(
            2 * np.log(2 / self.chance) / (variance * i * np.log1p(i))
        )
        return stakes

    # -- state

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Arrays from which `restore` makes an equal object."""
        head = [self.chance, self.events, self._sum, self._squares, self._low, self._high]
        return {"head": np.array(head, np.float64), "wealth": self._wealth.copy()}

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]]) -> "ConfidenceSequence":
        """Make the object again of which `state` gave these.

        Raises
        ------
        InvalidInput
            They are of another grid.
        """
        if arrays["wealth"].shape != (2, CELLS + 1):
            got = arrays["wealth"].shape
            raise InvalidInput(f"capitals of shape {got}, expected {(2, CELLS + 1)}")
        chance, events, total, squares, low, high = arrays["head"].tolist()
        made = cls(chance)
        made.events, made._sum, made._squares = int(events), total, squares
        made._low, made._high = int(low), int(high)
        made._wealth = arrays["wealth"].astype(np.float64)
        return made
